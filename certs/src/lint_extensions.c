/* lint_extensions.c - rules on the extensions (RFC 5280 section 4.2), except the TNAuthList. */
#include "lint_internal.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/x509v3.h>

#include "x509_internal.h"

#define DIGITAL_SIGNATURE (1U << 0) /* KeyUsage, RFC 5280 section 4.2.1.3 */
#define KEY_CERT_SIGN     (1U << 5)
#define CRL_SIGN          (1U << 6)

static enum hsm_status
refuse_absent(struct hsm_reason *why)
{
    return hsm_refuse(why, LINT_BROKEN, "it is not there");
}

static enum hsm_status
refuse_present(struct hsm_reason *why)
{
    return hsm_refuse(why, LINT_BROKEN, "it is there");
}

static bool
is_under(const struct lint_view *view, unsigned policy)
{
    return (view->policies.shaken & 1U << policy) != 0;
}

/* ---- BasicConstraints ---- */

enum hsm_status
certs_lint_basic_constraints(const struct lint_view *view, struct hsm_reason *why)
{
    const struct lint_ext *ext = &view->ext[LINT_EXT_BASIC_CONSTRAINTS];

    if (!ext->is_there)
        return refuse_absent(why);
    if (!ext->is_critical)
        return hsm_refuse(why, LINT_BROKEN, "it is not critical");
    return view->is_basic_constraints ? HSM_OK
                                      : hsm_refuse(why, LINT_BROKEN, "it does not decode as DER");
}

enum hsm_status
certs_lint_basic_constraints_role(const struct lint_view *view, struct hsm_reason *why)
{
    if (view->is_ca == (view->role != CERTS_LINT_END_ENTITY))
        return HSM_OK;
    return hsm_refuse(why, LINT_BROKEN, "cA is %s", view->is_ca ? "TRUE" : "FALSE");
}

/* X.690 section 11.5: a value equal to the default is omitted. */
enum hsm_status
certs_lint_basic_constraints_default(const struct lint_view *view, struct hsm_reason *why)
{
    static const uint8_t is_false[] = {0x01, 0x01, 0x00};
    struct der_reader value = view->ext[LINT_EXT_BASIC_CONSTRAINTS].value;
    struct der_reader fields;

    if (!certs_der_read(&value, DER_SEQUENCE, &fields) || fields.left < sizeof(is_false) ||
        memcmp(fields.at, is_false, sizeof(is_false)) != 0)
        return HSM_OK;
    return hsm_refuse(why, LINT_BROKEN, "cA FALSE is written out");
}

enum hsm_status
certs_lint_no_path_len(const struct lint_view *view, struct hsm_reason *why)
{
    return view->has_path_len ? hsm_refuse(why, LINT_BROKEN, "pathLenConstraint is there") : HSM_OK;
}

/* ---- KeyUsage ---- */

enum hsm_status
certs_lint_key_usage(const struct lint_view *view, struct hsm_reason *why)
{
    const struct lint_ext *ext = &view->ext[LINT_EXT_KEY_USAGE];

    if (!ext->is_there)
        return refuse_absent(why);
    return ext->is_critical ? HSM_OK : hsm_refuse(why, LINT_BROKEN, "it is not critical");
}

static enum hsm_status
refuse_usage(const struct lint_view *view, struct hsm_reason *why)
{
    static const char *const names[] = {
        "digitalSignature", "nonRepudiation", "keyEncipherment", "dataEncipherment", "keyAgreement",
        "keyCertSign",      "cRLSign",        "encipherOnly",    "decipherOnly",
    };
    char text[sizeof(why->text)] = "none";
    size_t len = 0;

    for (size_t n = 0; n < sizeof(names) / sizeof(names[0]); n++) {
        if ((view->key_usage & 1U << n) != 0)
            len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s", len == 0 ? "" : ", ",
                                    names[n]);
    }
    return hsm_refuse(why, LINT_BROKEN, "%s", text);
}

enum hsm_status
certs_lint_key_usage_ca(const struct lint_view *view, struct hsm_reason *why)
{
    unsigned allowed = KEY_CERT_SIGN;

    if (!view->ext[LINT_EXT_KEY_USAGE].is_there)
        return HSM_OK; /* certs_lint_key_usage() reports it */
    if (!is_under(view, LINT_CP_1_4))
        allowed |= DIGITAL_SIGNATURE | CRL_SIGN;
    if ((view->key_usage & KEY_CERT_SIGN) != 0 && (view->key_usage & ~allowed) == 0)
        return HSM_OK;
    return refuse_usage(view, why);
}

enum hsm_status
certs_lint_key_usage_ca_v005(const struct lint_view *view, struct hsm_reason *why)
{
    if (!view->ext[LINT_EXT_KEY_USAGE].is_there || view->key_usage == KEY_CERT_SIGN)
        return HSM_OK;
    return refuse_usage(view, why);
}

enum hsm_status
certs_lint_key_usage_ee(const struct lint_view *view, struct hsm_reason *why)
{
    if (!view->ext[LINT_EXT_KEY_USAGE].is_there || view->key_usage == DIGITAL_SIGNATURE)
        return HSM_OK;
    return refuse_usage(view, why);
}

/* ---- SubjectKeyIdentifier, AuthorityKeyIdentifier ---- */

enum hsm_status
certs_lint_subject_key_id(const struct lint_view *view, struct hsm_reason *why)
{
    return view->ext[LINT_EXT_SUBJECT_KEY_ID].is_there ? HSM_OK : refuse_absent(why);
}

enum hsm_status
certs_lint_subject_key_id_size(const struct lint_view *view, struct hsm_reason *why)
{
    struct der_reader value = view->ext[LINT_EXT_SUBJECT_KEY_ID].value;
    struct der_reader content;
    uint8_t tag;

    if (!view->ext[LINT_EXT_SUBJECT_KEY_ID].is_there)
        return refuse_absent(why);
    if (!certs_lint_read_any(&value, &tag, &content))
        return hsm_refuse(why, LINT_BROKEN, "it does not decode as DER");
    if (content.left == CERTS_SHA1_LEN)
        return HSM_OK;
    return hsm_refuse(why, LINT_BROKEN, "%zu bits", content.left * 8);
}

/* RFC 5280 section 4.2.1.2 method (1): over the content of the subjectPublicKey BIT STRING. */
enum hsm_status
certs_lint_subject_key_id_sha1(const struct lint_view *view, struct hsm_reason *why)
{
    uint8_t sha1[CERTS_SHA1_LEN];

    if (view->subject_key_id.left != sizeof(sha1))
        return HSM_OK; /* certs_lint_subject_key_id_size() reports it */
    if (X509_pubkey_digest(view->cert, EVP_sha1(), sha1, NULL) != 1)
        return certs_openssl_failed("subjectKeyIdentifier");
    if (memcmp(sha1, view->subject_key_id.at, sizeof(sha1)) == 0)
        return HSM_OK;
    return hsm_refuse(why, LINT_BROKEN, "another value");
}

enum hsm_status
certs_lint_authority_key_id(const struct lint_view *view, struct hsm_reason *why)
{
    return view->ext[LINT_EXT_AUTHORITY_KEY_ID].is_there ? HSM_OK : refuse_absent(why);
}

static bool
are_same_octets(const struct der_reader *a, const struct der_reader *b)
{
    return a->left == b->left && (a->left == 0 || memcmp(a->at, b->at, a->left) == 0);
}

enum hsm_status
certs_lint_authority_key_id_root(const struct lint_view *view, struct hsm_reason *why)
{
    if (!view->ext[LINT_EXT_AUTHORITY_KEY_ID].is_there ||
        are_same_octets(&view->authority_key_id, &view->subject_key_id))
        return HSM_OK;
    return hsm_refuse(why, LINT_BROKEN, "it is not the subjectKeyIdentifier");
}

enum hsm_status
certs_lint_authority_key_id_value(const struct lint_view *view, struct hsm_reason *why)
{
    if (!view->ext[LINT_EXT_AUTHORITY_KEY_ID].is_there || view->authority_key_id.left > 0)
        return HSM_OK;
    return hsm_refuse(why, LINT_BROKEN, "there is no keyIdentifier in it");
}

enum hsm_status
certs_lint_authority_key_id_issuer(const struct lint_view *view, struct hsm_reason *why)
{
    const ASN1_OCTET_STRING *id =
        view->issuer == NULL ? NULL : X509_get0_subject_key_id((X509 *)view->issuer);
    struct der_reader wanted;

    if (id == NULL || view->authority_key_id.left == 0)
        return HSM_OK;
    wanted = (struct der_reader){.at = ASN1_STRING_get0_data(id),
                                 .left = (size_t)ASN1_STRING_length(id)};
    if (are_same_octets(&view->authority_key_id, &wanted))
        return HSM_OK;
    return hsm_refuse(why, LINT_BROKEN, "another key's");
}

/* ---- CertificatePolicies ---- */

enum hsm_status
certs_lint_policies(const struct lint_view *view, struct hsm_reason *why)
{
    const struct lint_ext *ext = &view->ext[LINT_EXT_POLICIES];

    if (!ext->is_there)
        return refuse_absent(why);
    if (ext->is_critical)
        return hsm_refuse(why, LINT_BROKEN, "it is critical");
    if (view->policies.count != 1)
        return hsm_refuse(why, LINT_BROKEN, "%zu policies", view->policies.count);
    return HSM_OK;
}

static enum hsm_status
refuse_policy(const struct lint_view *view, struct hsm_reason *why)
{
    const struct der_reader *last = &view->policies.last;
    DEFER(ASN1_OBJECT_free) ASN1_OBJECT *oid = NULL;
    char text[LINT_OID_TEXT_MAX];

    if (view->policies.count != 1)
        return hsm_refuse(why, LINT_BROKEN, "%zu policies", view->policies.count);
    oid = ASN1_OBJECT_create(NID_undef, (uint8_t *)last->at, (int)last->left, NULL, NULL);
    if (oid == NULL)
        return HSM_ERR_NOMEM;
    return hsm_refuse(why, LINT_BROKEN, "%s", certs_lint_oid_text(oid, text));
}

/* There is exactly one policy, and it is one of these (bit n: CP 1.n). */
static bool
is_only_policy(const struct lint_view *view, unsigned policies)
{
    return view->policies.count == 1 && (view->policies.shaken & policies) != 0;
}

enum hsm_status
certs_lint_policies_shaken(const struct lint_view *view, struct hsm_reason *why)
{
    unsigned known = 1U << LINT_CP_1_3 | 1U << LINT_CP_1_4;

    return is_only_policy(view, known) ? HSM_OK : refuse_policy(view, why);
}

enum hsm_status
certs_lint_policies_1_1(const struct lint_view *view, struct hsm_reason *why)
{
    unsigned known = 1U << 1 | 1U << 2 | 1U << LINT_CP_1_3;

    if (view->policies.count != 1)
        return HSM_OK; /* certs_lint_policies() reports it */
    return is_only_policy(view, known) ? HSM_OK : refuse_policy(view, why);
}

enum hsm_status
certs_lint_policies_current(const struct lint_view *view, struct hsm_reason *why)
{
    return is_only_policy(view, 1U << LINT_CP_1_3) ? refuse_policy(view, why) : HSM_OK;
}

enum hsm_status
certs_lint_no_policies(const struct lint_view *view, struct hsm_reason *why)
{
    return view->ext[LINT_EXT_POLICIES].is_there ? refuse_present(why) : HSM_OK;
}

/* ---- CRLDistributionPoints ---- */

enum hsm_status
certs_lint_crl_points(const struct lint_view *view, struct hsm_reason *why)
{
    if (!view->ext[LINT_EXT_CRL_POINTS].is_there)
        return refuse_absent(why);
    if (view->crl_urls != 1)
        return hsm_refuse(why, LINT_BROKEN, "%zu URLs", view->crl_urls);
    if (view->crl_url.left < 4 || memcmp(view->crl_url.at, "http", 4) != 0)
        return hsm_refuse(why, LINT_BROKEN, "\"%.*s\"", (int)view->crl_url.left,
                          (const char *)view->crl_url.at);
    return HSM_OK;
}

/* SEQUENCE { SEQUENCE { distributionPoint [0], cRLIssuer [2], ... }, ... }: only the first point,
 * and without `reasons` between the two. */
static const char *
crl_issuer_fault(const struct lint_view *view)
{
    struct der_reader value = view->ext[LINT_EXT_CRL_POINTS].value;
    struct der_reader points;
    struct der_reader point;
    struct der_reader content;

    if (!certs_der_read(&value, DER_SEQUENCE, &points) ||
        !certs_der_read(&points, DER_SEQUENCE, &point))
        return "there is no DistributionPoint";
    if (!certs_der_read(&point, DER_CONTEXT(0), &content))
        return "the DistributionPoint does not begin with a distributionPoint";
    if (point.left == 0)
        return "there is no cRLIssuer";
    return certs_der_read(&point, DER_CONTEXT(2), &content)
               ? NULL
               : "no cRLIssuer follows on the distributionPoint";
}

enum hsm_status
certs_lint_crl_issuer(const struct lint_view *view, struct hsm_reason *why)
{
    const char *fault;

    if (!view->ext[LINT_EXT_CRL_POINTS].is_there || !is_under(view, LINT_CP_1_4))
        return HSM_OK;
    fault = crl_issuer_fault(view);
    return fault == NULL ? HSM_OK : hsm_refuse(why, LINT_BROKEN, "%s", fault);
}

enum hsm_status
certs_lint_crl_issuer_any(const struct lint_view *view, struct hsm_reason *why)
{
    const char *fault;

    if (!view->ext[LINT_EXT_CRL_POINTS].is_there || is_under(view, LINT_CP_1_4))
        return HSM_OK; /* under CP 1.4 certs_lint_crl_issuer() reports it */
    fault = crl_issuer_fault(view);
    return fault == NULL ? HSM_OK : hsm_refuse(why, LINT_BROKEN, "%s", fault);
}

static CRL_DIST_POINTS *
decode_crl_points(const struct lint_view *view)
{
    const struct lint_ext *ext = &view->ext[LINT_EXT_CRL_POINTS];
    const uint8_t *at = ext->value.at;

    return ext->is_there ? d2i_CRL_DIST_POINTS(NULL, &at, (long)ext->value.left) : NULL;
}

enum hsm_status
certs_lint_crl_issuer_name(const struct lint_view *view, struct hsm_reason *why)
{
    DEFER(CRL_DIST_POINTS_free) CRL_DIST_POINTS *points = decode_crl_points(view);

    for (int i = 0; i < sk_DIST_POINT_num(points); i++) {
        const GENERAL_NAMES *issuer = sk_DIST_POINT_value(points, i)->CRLissuer;
        const GENERAL_NAME *name;

        if (issuer == NULL)
            continue; /* certs_lint_crl_issuer() reports it */
        name = sk_GENERAL_NAME_num(issuer) == 1 ? sk_GENERAL_NAME_value(issuer, 0) : NULL;
        if (name == NULL || name->type != GEN_DIRNAME ||
            X509_NAME_entry_count(name->d.directoryName) == 0)
            return hsm_refuse(why, LINT_BROKEN, "it is not exactly one distinguished name");
    }
    return HSM_OK;
}

enum hsm_status
certs_lint_crl_one_point(const struct lint_view *view, struct hsm_reason *why)
{
    if (!view->ext[LINT_EXT_CRL_POINTS].is_there || view->crl_points == 1)
        return HSM_OK;
    return hsm_refuse(why, LINT_BROKEN, "%zu DistributionPoints", view->crl_points);
}

/* Checks scheme and host only. */
static bool
is_http_url(const struct der_reader *url)
{
    static const char *const schemes[] = {"https://", "http://"};

    for (size_t i = 0; i < url->left; i++) {
        if (url->at[i] <= 0x20 || url->at[i] > 0x7e)
            return false;
    }
    for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
        size_t len = strlen(schemes[i]);

        if (url->left > len && memcmp(url->at, schemes[i], len) == 0 && url->at[len] != '/')
            return true;
    }
    return false;
}

enum hsm_status
certs_lint_crl_url(const struct lint_view *view, struct hsm_reason *why)
{
    if (view->crl_urls == 0 || is_http_url(&view->crl_url))
        return HSM_OK; /* without a point certs_lint_crl_points() reports it */
    return hsm_refuse(why, LINT_BROKEN, "\"%.*s\"", (int)view->crl_url.left,
                      (const char *)view->crl_url.at);
}

enum hsm_status
certs_lint_no_crl_points(const struct lint_view *view, struct hsm_reason *why)
{
    return view->ext[LINT_EXT_CRL_POINTS].is_there ? refuse_present(why) : HSM_OK;
}

/* ---- all extensions ---- */

static enum hsm_status
refuse_ext(const X509_EXTENSION *ext, struct hsm_reason *why)
{
    char text[LINT_OID_TEXT_MAX];

    return hsm_refuse(why, LINT_BROKEN, "%s",
                      certs_lint_oid_text(X509_EXTENSION_get_object((X509_EXTENSION *)ext), text));
}

enum hsm_status
certs_lint_exts_specified(const struct lint_view *view, struct hsm_reason *why)
{
    for (int i = 0; i < X509_get_ext_count(view->cert); i++) {
        const X509_EXTENSION *ext = X509_get_ext(view->cert, i);

        if (certs_lint_ext_id(ext) == LINT_EXTS)
            return refuse_ext(ext, why);
    }
    return HSM_OK;
}

enum hsm_status
certs_lint_exts_once(const struct lint_view *view, struct hsm_reason *why)
{
    for (int i = 0; i < X509_get_ext_count(view->cert); i++) {
        X509_EXTENSION *ext = X509_get_ext(view->cert, i);

        if (X509_get_ext_by_OBJ(view->cert, X509_EXTENSION_get_object(ext), i) >= 0)
            return refuse_ext(ext, why);
    }
    return HSM_OK;
}

enum hsm_status
certs_lint_exts_not_critical(const struct lint_view *view, struct hsm_reason *why)
{
    if (view->ext[LINT_EXT_SUBJECT_KEY_ID].is_critical)
        return hsm_refuse(why, LINT_BROKEN, "the subjectKeyIdentifier is critical");
    if (view->ext[LINT_EXT_AUTHORITY_KEY_ID].is_critical)
        return hsm_refuse(why, LINT_BROKEN, "the authorityKeyIdentifier is critical");
    return HSM_OK;
}

static void
free_decoded(const X509V3_EXT_METHOD *method, void *decoded)
{
    if (method->it != NULL)
        ASN1_item_free(decoded, ASN1_ITEM_ptr(method->it));
    else
        method->ext_free(decoded);
}

/* OpenSSL knows the extension's syntax, and its value breaks it. */
static bool
is_broken(X509_EXTENSION *ext)
{
    const X509V3_EXT_METHOD *method = X509V3_EXT_get(ext);
    void *decoded = method == NULL ? NULL : X509V3_EXT_d2i(ext);

    if (decoded != NULL)
        free_decoded(method, decoded);
    return method != NULL && decoded == NULL;
}

enum hsm_status
certs_lint_exts_syntax(const struct lint_view *view, struct hsm_reason *why)
{
    for (int i = 0; i < X509_get_ext_count(view->cert); i++) {
        X509_EXTENSION *ext = X509_get_ext(view->cert, i);

        if (is_broken(ext))
            return refuse_ext(ext, why);
    }
    return HSM_OK;
}
