/* lint_fields.c - rules on the fields of a TBSCertificate (RFC 5280 section 4.1), except its
 * names. */
#include "lint_internal.h"

#include <pthread.h>
#include <string.h>

#include <openssl/ec.h>

#include "x509_internal.h"

#define SERIAL_BITS_MIN 64

DEFINE_DEFER(EC_POINT, EC_POINT_free)

enum hsm_status
certs_lint_version(const struct lint_view *view, struct hsm_reason *why)
{
    long version = X509_get_version(view->cert) + 1;

    return version == 3 ? HSM_OK : hsm_refuse(why, LINT_BROKEN, "version %ld", version);
}

/* The magnitude, without leading zero octets. */
static struct der_reader
serial_magnitude(const struct lint_view *view)
{
    const ASN1_INTEGER *serial = X509_get0_serialNumber(view->cert);
    struct der_reader magnitude = {.at = ASN1_STRING_get0_data(serial),
                                   .left = (size_t)ASN1_STRING_length(serial)};

    while (magnitude.left > 0 && *magnitude.at == 0) {
        magnitude.at++;
        magnitude.left--;
    }
    return magnitude;
}

static bool
is_serial_negative(const struct lint_view *view)
{
    return (ASN1_STRING_type(X509_get0_serialNumber(view->cert)) & V_ASN1_NEG) != 0;
}

static size_t
serial_bits(const struct lint_view *view)
{
    struct der_reader magnitude = serial_magnitude(view);
    size_t bits = magnitude.left * 8;

    for (unsigned bit = 0x80; magnitude.left > 0 && (*magnitude.at & bit) == 0; bit >>= 1)
        bits--;
    return bits;
}

enum hsm_status
certs_lint_serial_positive(const struct lint_view *view, struct hsm_reason *why)
{
    if (is_serial_negative(view))
        return hsm_refuse(why, LINT_BROKEN, "a negative number");
    return serial_bits(view) > 0 ? HSM_OK : hsm_refuse(why, LINT_BROKEN, "zero");
}

enum hsm_status
certs_lint_serial_64_bits(const struct lint_view *view, struct hsm_reason *why)
{
    size_t bits = serial_bits(view);

    return bits >= SERIAL_BITS_MIN ? HSM_OK : hsm_refuse(why, LINT_BROKEN, "%zu bits", bits);
}

enum hsm_status
certs_lint_serial_20_octets(const struct lint_view *view, struct hsm_reason *why)
{
    size_t octets = serial_bits(view) / 8 + 1; /* with the sign bit */

    return octets <= CERTS_SERIAL_MAX ? HSM_OK : hsm_refuse(why, LINT_BROKEN, "%zu octets", octets);
}

static int
signature_nid(const struct lint_view *view)
{
    const ASN1_OBJECT *oid;

    X509_ALGOR_get0(&oid, NULL, NULL, X509_get0_tbs_sigalg(view->cert));
    return OBJ_obj2nid(oid);
}

/* CP 1.4 section 6.1.5 allows it for a CA, unlike ATIS-1000080. */
static bool
may_be_p384(const struct lint_view *view)
{
    return view->role == CERTS_LINT_ROOT || (view->policies.shaken & 1U << LINT_CP_1_4) != 0;
}

enum hsm_status
certs_lint_signature_algorithm(const struct lint_view *view, struct hsm_reason *why)
{
    char text[LINT_OID_TEXT_MAX];
    int nid = signature_nid(view);
    const ASN1_OBJECT *object;

    if (nid == NID_ecdsa_with_SHA256 || (nid == NID_ecdsa_with_SHA384 && may_be_p384(view)))
        return HSM_OK;
    X509_ALGOR_get0(&object, NULL, NULL, X509_get0_tbs_sigalg(view->cert));
    return hsm_refuse(why, LINT_BROKEN, "%s", certs_lint_oid_text(object, text));
}

enum hsm_status
certs_lint_signature_sha384(const struct lint_view *view, struct hsm_reason *why)
{
    if (signature_nid(view) != NID_ecdsa_with_SHA384 || !may_be_p384(view))
        return HSM_OK;
    return hsm_refuse(why, LINT_BROKEN, "ecdsa-with-SHA384");
}

static int
curve_of(const X509 *cert)
{
    EVP_PKEY *key = X509_get0_pubkey(cert);
    char group[64];
    size_t len;

    if (key == NULL || EVP_PKEY_get_group_name(key, group, sizeof(group), &len) != 1)
        return NID_undef;
    return OBJ_sn2nid(group);
}

/* The hash must be as strong as the signer's curve, if the signer's key is available. */
enum hsm_status
certs_lint_signature_curve(const struct lint_view *view, struct hsm_reason *why)
{
    const X509 *signer = view->is_self_signed ? view->cert : view->issuer;
    int curve = signer == NULL ? NID_undef : curve_of(signer);
    int nid = signature_nid(view);

    if (curve == NID_X9_62_prime256v1 && nid != NID_ecdsa_with_SHA256)
        return hsm_refuse(why, LINT_BROKEN, "a key on P-256, but %s", OBJ_nid2ln(nid));
    if (curve == NID_secp384r1 && nid != NID_ecdsa_with_SHA384)
        return hsm_refuse(why, LINT_BROKEN, "a key on P-384, but %s", OBJ_nid2ln(nid));
    return HSM_OK;
}

enum hsm_status
certs_lint_signature_agreement(const struct lint_view *view, struct hsm_reason *why)
{
    const ASN1_BIT_STRING *signature;
    const X509_ALGOR *outer;

    X509_get0_signature(&signature, &outer, view->cert);
    if (ASN1_STRING_length(signature) == 0) /* not signed yet */
        return HSM_OK;
    if (X509_ALGOR_cmp(outer, X509_get0_tbs_sigalg(view->cert)) == 0)
        return HSM_OK;
    return hsm_refuse(why, LINT_BROKEN, "they differ");
}

static bool
are_same_name(const X509_NAME *a, const X509_NAME *b)
{
    const uint8_t *a_der;
    const uint8_t *b_der;
    size_t a_len;
    size_t b_len;

    return X509_NAME_get0_der(a, &a_der, &a_len) == 1 &&
           X509_NAME_get0_der(b, &b_der, &b_len) == 1 && a_len == b_len &&
           memcmp(a_der, b_der, a_len) == 0;
}

enum hsm_status
certs_lint_issuer_is_subject(const struct lint_view *view, struct hsm_reason *why)
{
    if (are_same_name(X509_get_issuer_name(view->cert), X509_get_subject_name(view->cert)))
        return HSM_OK;
    return hsm_refuse(why, LINT_BROKEN, "another name");
}

enum hsm_status
certs_lint_issuer_is_other(const struct lint_view *view, struct hsm_reason *why)
{
    if (!view->is_self_signed)
        return HSM_OK;
    return hsm_refuse(why, LINT_BROKEN, "its own key has signed it");
}

enum hsm_status
certs_lint_issuer_name(const struct lint_view *view, struct hsm_reason *why)
{
    if (view->issuer == NULL ||
        are_same_name(X509_get_issuer_name(view->cert), X509_get_subject_name(view->issuer)))
        return HSM_OK;
    return hsm_refuse(why, LINT_BROKEN, "another name, or other octets");
}

/* "YYMMDDHHMMSSZ" until 2049, then "YYYYMMDDHHMMSSZ". */
static bool
is_encoded_by_rule(const ASN1_TIME *time)
{
    const char *text = (const char *)ASN1_STRING_get0_data(time);
    int len = ASN1_STRING_length(time);
    bool is_utc = ASN1_STRING_type(time) == V_ASN1_UTCTIME;

    if (len != (is_utc ? 13 : 15) || text[len - 1] != 'Z' || ASN1_TIME_check(time) != 1)
        return false;
    return is_utc || memcmp(text, "2050", 4) >= 0;
}

enum hsm_status
certs_lint_validity_encoding(const struct lint_view *view, struct hsm_reason *why)
{
    if (!is_encoded_by_rule(X509_get0_notBefore(view->cert)))
        return hsm_refuse(why, LINT_BROKEN, "notBefore");
    if (!is_encoded_by_rule(X509_get0_notAfter(view->cert)))
        return hsm_refuse(why, LINT_BROKEN, "notAfter");
    return HSM_OK;
}

enum hsm_status
certs_lint_validity_order(const struct lint_view *view, struct hsm_reason *why)
{
    time_t not_before;
    time_t not_after;

    if (!certs_time_get(X509_get0_notBefore(view->cert), &not_before) ||
        !certs_time_get(X509_get0_notAfter(view->cert), &not_after))
        return HSM_OK; /* certs_lint_validity_encoding() reports it */
    if (not_before <= not_after)
        return HSM_OK;
    return hsm_refuse(why, LINT_BROKEN, "notAfter is %lld seconds before notBefore",
                      (long long)(not_before - not_after));
}

enum hsm_status
certs_lint_no_unique_identifiers(const struct lint_view *view, struct hsm_reason *why)
{
    const ASN1_BIT_STRING *issuer;
    const ASN1_BIT_STRING *subject;

    X509_get0_uids(view->cert, &issuer, &subject);
    if (issuer == NULL && subject == NULL)
        return HSM_OK;
    return hsm_refuse(why, LINT_BROKEN, "%s",
                      issuer != NULL ? "issuerUniqueID" : "subjectUniqueID");
}

/* The named curve of an id-ecPublicKey; NID_undef: another algorithm, or no named curve. */
static int
named_curve(const struct lint_view *view)
{
    ASN1_OBJECT *algorithm;
    X509_ALGOR *identifier;
    const void *parameter;
    int type;

    if (X509_PUBKEY_get0_param(&algorithm, NULL, NULL, &identifier,
                               X509_get_X509_PUBKEY(view->cert)) != 1)
        return NID_undef;
    X509_ALGOR_get0(NULL, &type, &parameter, identifier);
    if (OBJ_obj2nid(algorithm) != NID_X9_62_id_ecPublicKey || type != V_ASN1_OBJECT)
        return NID_undef;
    return OBJ_obj2nid(parameter);
}

/* CP 1.4 section 6.1.5: CAs may use P-384. For a root, only notBefore shows that CP 1.4 applies. */
static bool
is_p384_by_policy(const struct lint_view *view)
{
    if (view->role == CERTS_LINT_END_ENTITY || named_curve(view) != NID_secp384r1)
        return false;
    return view->role == CERTS_LINT_ROOT ? view->date >= CP_1_4_CA : may_be_p384(view);
}

enum hsm_status
certs_lint_key_p256(const struct lint_view *view, struct hsm_reason *why)
{
    int curve = named_curve(view);

    if (curve == NID_X9_62_prime256v1 || is_p384_by_policy(view))
        return HSM_OK;
    return hsm_refuse(why, LINT_BROKEN, "%s",
                      curve == NID_undef ? "not id-ecPublicKey with a named curve"
                                         : OBJ_nid2sn(curve));
}

enum hsm_status
certs_lint_key_p384(const struct lint_view *view, struct hsm_reason *why)
{
    return is_p384_by_policy(view) ? hsm_refuse(why, LINT_BROKEN, "P-384") : HSM_OK;
}

/* Created once: that takes OpenSSL longer than checking a rule. */
static EC_GROUP *p256;

static void
make_p256(void)
{
    p256 = EC_GROUP_new_by_curve_name(NID_X9_62_prime256v1);
}

/* While a certificate is being built OpenSSL has no key for it; searching for a decoder takes
 * longer than all other rules. */
static bool
is_point_of_p256(const struct lint_view *view)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    DEFER(EC_POINT_free) EC_POINT *point = NULL;
    const uint8_t *octets;
    int len;

    if (named_curve(view) != NID_X9_62_prime256v1 ||
        X509_PUBKEY_get0_param(NULL, &octets, &len, NULL, X509_get_X509_PUBKEY(view->cert)) != 1)
        return false;
    pthread_once(&once, make_p256);
    point = p256 != NULL ? EC_POINT_new(p256) : NULL;
    return point != NULL && EC_POINT_oct2point(p256, point, octets, (size_t)len, NULL) == 1 &&
           EC_POINT_is_at_infinity(p256, point) == 0;
}

enum hsm_status
certs_lint_key_valid(const struct lint_view *view, struct hsm_reason *why)
{
    if (is_point_of_p256(view) || X509_get0_pubkey(view->cert) != NULL)
        return HSM_OK;
    return hsm_refuse(why, LINT_BROKEN, "it does not decode, or is no point of its curve");
}
