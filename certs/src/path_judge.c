/* path_judge.c - whether a path is valid: RFC 5280 section 6, and what SHAKEN adds. */
#include "path_internal.h"

#include <stdlib.h>

#include <openssl/err.h>
#include <openssl/x509_vfy.h>

#include <certs/cert.h>

#include "x509_internal.h"

#define AUTH_LEVEL   2 /* OpenSSL's: 112 bits; no SHA-1 signature, no RSA key below 2048 bits */
#define RSA_BITS_MIN 2048
#define RSA_BITS_MAX 4096

DEFINE_DEFER(X509_STORE_CTX, X509_STORE_CTX_free)

static inline void
borrowed_stack_free(STACK_OF(X509) * stack)
{
    sk_X509_free(stack);
}

DEFINE_DEFER(STACK_OF(X509), borrowed_stack_free)

enum hsm_status
certs_path_refuse(struct hsm_reason *why, const X509 *cert, const char *reason)
{
    char *subject;

    if (why == NULL)
        return HSM_ERR_UNTRUSTED;
    subject = certs_cert_subject(cert);
    (void)hsm_refuse(why, HSM_ERR_UNTRUSTED, "certificate \"%.120s\": %s",
                     subject == NULL ? "?" : subject, reason);
    free(subject);
    return HSM_ERR_UNTRUSTED;
}

/* -- keys and signatures ----------------------------------------------------------------------- */

/* RFC 5480 section 2.1.1: the curve if it is named; NID_undef for any other form of parameters. */
static int
curve_of(X509 *cert)
{
    X509_ALGOR *algorithm = NULL;
    const ASN1_OBJECT *object;
    const void *parameter;
    int type;

    if (X509_PUBKEY_get0_param(NULL, NULL, NULL, &algorithm, X509_get_X509_PUBKEY(cert)) != 1)
        return NID_undef;
    X509_ALGOR_get0(&object, &type, &parameter, algorithm);
    if (OBJ_obj2nid(object) != NID_X9_62_id_ecPublicKey || type != V_ASN1_OBJECT)
        return NID_undef;
    return OBJ_obj2nid(parameter);
}

static enum hsm_status
check_rsa_bits(const X509 *cert, EVP_PKEY *key, struct hsm_reason *why)
{
    int bits = EVP_PKEY_get_bits(key);

    if (bits < RSA_BITS_MIN || bits > RSA_BITS_MAX)
        return certs_path_refuse(why, cert, "its RSA key is not of 2048 to 4096 bits");
    return HSM_OK;
}

/* ATIS-1000080 section 6.4.1 allows P-256 only; the policy decides which other keys of CAs are
 * accepted. */
enum hsm_status
certs_path_check_ca_key(X509 *cert, unsigned ca_keys, struct hsm_reason *why)
{
    EVP_PKEY *key = certs_cert_public(cert);
    int curve = curve_of(cert);

    if (key == NULL)
        return certs_path_refuse(why, cert,
                                 "its key is of an unknown kind, or no point of its curve");
    if (curve == NID_X9_62_prime256v1 || (curve == NID_secp384r1 && (ca_keys & CERTS_CA_P384)) ||
        (curve == NID_secp521r1 && (ca_keys & CERTS_CA_P521)))
        return HSM_OK;
    if (EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA && (ca_keys & CERTS_CA_RSA))
        return check_rsa_bits(cert, key, why);
    return certs_path_refuse(why, cert,
                             ca_keys == 0 ? "its key is not on P-256"
                                          : "its key is not of a kind that the policy accepts");
}

static enum hsm_status
check_signature_algorithm(const X509 *cert, unsigned ca_keys, struct hsm_reason *why)
{
    bool good = false;

    switch (X509_get_signature_nid(cert)) {
    case NID_ecdsa_with_SHA256:
        good = true;
        break;
    case NID_ecdsa_with_SHA384:
    case NID_ecdsa_with_SHA512:
        good = (ca_keys & (CERTS_CA_P384 | CERTS_CA_P521)) != 0;
        break;
    case NID_sha256WithRSAEncryption:
    case NID_sha384WithRSAEncryption:
    case NID_sha512WithRSAEncryption:
        good = (ca_keys & CERTS_CA_RSA) != 0;
        break;
    }
    if (!good)
        return certs_path_refuse(why, cert,
                                 "its signature is not of a kind that the policy accepts");
    return HSM_OK;
}

/* -- the end entity ---------------------------------------------------------------------------- */

static bool
is_among(const struct certs_chain *chain, const X509 *cert)
{
    for (size_t i = 0; i < certs_chain_len(chain); i++) {
        if (X509_cmp(certs_chain_get(chain, i), cert) == 0)
            return true;
    }
    return false;
}

/* RFC 5280 section 4.2.1.12: a certificate that lists purposes may be used for these only. */
static bool
is_for_other_purposes(X509 *cert)
{
    return (X509_get_extension_flags(cert) & EXFLAG_XKUSAGE) != 0 &&
           (X509_get_extended_key_usage(cert) & XKU_ANYEKU) == 0;
}

static enum hsm_status
check_key_usage(X509 *leaf, enum certs_purpose purpose, struct hsm_reason *why)
{
    uint32_t usage = X509_get_key_usage(leaf); /* all bits when the extension is absent */

    if ((X509_get_extension_flags(leaf) & EXFLAG_KUSAGE) == 0)
        return certs_path_refuse(why, leaf, "no key usage");
    if (purpose != CERTS_FOR_CRL && (usage & KU_DIGITAL_SIGNATURE) == 0)
        return certs_path_refuse(why, leaf, "key usage lacks digitalSignature");
    if (purpose == CERTS_FOR_CRL && (usage & KU_CRL_SIGN) == 0)
        return certs_path_refuse(why, leaf, "key usage lacks cRLSign");
    if (purpose == CERTS_FOR_STI && is_for_other_purposes(leaf))
        return certs_path_refuse(why, leaf, "extended key usage: for other purposes than calls");
    return HSM_OK;
}

/* In a path to an issuing CA, the CA takes the place of the end entity. */
static enum hsm_status
check_issuing_ca(const struct path_search *search, X509 *ca, struct hsm_reason *why)
{
    if (X509_check_ca(ca) != 1)
        return certs_path_refuse(why, ca, "not a CA by its basicConstraints");
    if ((X509_get_extension_flags(ca) & EXFLAG_KUSAGE) == 0 ||
        (X509_get_key_usage(ca) & KU_KEY_CERT_SIGN) == 0)
        return certs_path_refuse(why, ca, "key usage lacks keyCertSign");
    return certs_path_check_ca_key(ca, search->policy->ca_keys, why);
}

enum hsm_status
certs_path_check_end_entity(const struct path_search *search, X509 *leaf, struct hsm_reason *why)
{
    if (is_among(search->trust->anchors, leaf)) /* an anchor is not issued by another CA */
        return certs_path_refuse(why, leaf, "an anchor, not a certificate issued under one");
    if (search->policy->purpose == CERTS_FOR_ISSUING)
        return check_issuing_ca(search, leaf, why);
    if (!certs_is_end_entity(leaf))
        return certs_path_refuse(why, leaf, "a CA, not an end entity");
    if (certs_cert_public(leaf) == NULL || curve_of(leaf) != NID_X9_62_prime256v1)
        return certs_path_refuse(why, leaf, "its key is not on P-256");
    return check_key_usage(leaf, search->policy->purpose, why);
}

/* -- one path ---------------------------------------------------------------------------------- */

/* RFC 5280 section 4.1.2.5: valid through notAfter, inclusive. OpenSSL ends one second early. */
static int
last_second_is_valid(int ok, X509_STORE_CTX *ctx)
{
    time_t now = X509_VERIFY_PARAM_get_time(X509_STORE_CTX_get0_param(ctx));

    if (ok == 0 && X509_STORE_CTX_get_error(ctx) == X509_V_ERR_CERT_HAS_EXPIRED &&
        certs_cert_not_after(X509_STORE_CTX_get_current_cert(ctx)) == now) {
        X509_STORE_CTX_set_error(ctx, X509_V_OK);
        return 1;
    }
    return ok;
}

static enum hsm_status
stack_of(const struct path_search *search, size_t from, size_t to, STACK_OF(X509) * *out)
{
    STACK_OF(X509) *stack = sk_X509_new_null();

    for (size_t i = from; stack != NULL && i < to; i++) {
        if (sk_X509_push(stack, search->certs[i]) < 1) {
            sk_X509_free(stack);
            stack = NULL;
        }
    }
    if (stack == NULL)
        return HSM_ERR_NOMEM;
    *out = stack;
    return HSM_OK;
}

/*
 * Any policy will do, but if a CA requires an explicit policy there must be one: OpenSSL looks for
 * "any" only if it is set. Untrusted certificates first: a root that renewed its key has two
 * certificates of one name, and OpenSSL would end at the wrong one.
 */
static enum hsm_status
set_param(X509_VERIFY_PARAM *param, time_t now)
{
    X509_VERIFY_PARAM_set_time(param, now);
    X509_VERIFY_PARAM_set_depth(param, CERTS_PATH_LEN_MAX);
    X509_VERIFY_PARAM_set_auth_level(param, AUTH_LEVEL);
    if (X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_POLICY_CHECK) != 1 ||
        X509_VERIFY_PARAM_clear_flags(param, X509_V_FLAG_TRUSTED_FIRST) != 1 ||
        X509_VERIFY_PARAM_add0_policy(param, OBJ_nid2obj(NID_any_policy)) != 1)
        return certs_openssl_failed("path validation");
    return HSM_OK;
}

/* The path judged here must be the path that OpenSSL verified. */
static bool
is_same_path(const struct path_search *search, const STACK_OF(X509) * verified)
{
    if ((size_t)sk_X509_num(verified) != search->len)
        return false;
    for (size_t i = 0; i < search->len; i++) {
        if (sk_X509_value(verified, (int)i) != search->certs[i])
            return false;
    }
    return true;
}

/* Missing memory says nothing about the certificate. Empties OpenSSL's queue of errors. */
static bool
was_out_of_memory(void)
{
    bool was = false;
    unsigned long error;

    while ((error = ERR_get_error()) != 0)
        was = was || ERR_GET_REASON(error) == ERR_R_MALLOC_FAILURE;
    return was;
}

static enum hsm_status
verify_with(X509_STORE_CTX *ctx, const struct path_search *search, struct hsm_reason *why)
{
    const X509 *cert;
    int error;

    X509_STORE_CTX_set_verify_cb(ctx, last_second_is_valid);
    ERR_clear_error(); /* errors from here on are those of the validation */
    if (X509_verify_cert(ctx) == 1) {
        if (is_same_path(search, X509_STORE_CTX_get0_chain(ctx)))
            return HSM_OK;
        return certs_path_refuse(why, search->certs[0], "OpenSSL took another path");
    }
    error = X509_STORE_CTX_get_error(ctx);
    cert = X509_STORE_CTX_get_current_cert(ctx);
    if (was_out_of_memory() || error == X509_V_ERR_OUT_OF_MEM)
        return HSM_ERR_NOMEM;
    return certs_path_refuse(why, cert == NULL ? search->certs[0] : cert,
                             X509_verify_cert_error_string(error));
}

/* RFC 5280 section 6.1 by OpenSSL, which is given only these certificates. */
static enum hsm_status
verify_by_openssl(const struct path_search *search, struct hsm_reason *why)
{
    DEFER(X509_STORE_CTX_free) X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    DEFER(borrowed_stack_free) STACK_OF(X509) *anchor = NULL;
    DEFER(borrowed_stack_free) STACK_OF(X509) *between = NULL;
    enum hsm_status st = ctx == NULL ? HSM_ERR_NOMEM : HSM_OK;

    if (st == HSM_OK)
        st = stack_of(search, 1, search->len - 1, &between);
    if (st == HSM_OK)
        st = stack_of(search, search->len - 1, search->len, &anchor);
    if (st == HSM_OK && X509_STORE_CTX_init(ctx, NULL, search->certs[0], between) != 1)
        st = certs_openssl_failed("path validation");
    if (st != HSM_OK)
        return st;
    X509_STORE_CTX_set0_trusted_stack(ctx, anchor);
    st = set_param(X509_STORE_CTX_get0_param(ctx), search->now);
    return st == HSM_OK ? verify_with(ctx, search, why) : st;
}

/*
 * Requirements of RFC 5280 on every certificate of the path that OpenSSL does not check outside its
 * strict mode (which refuses CAs that are in use): a serial number that a CRL can have, no
 * extension twice or malformed, and basicConstraints with cA in an intermediate.
 */
static enum hsm_status
check_cert(const struct path_search *search, size_t i, struct hsm_reason *why)
{
    X509 *cert = search->certs[i];
    struct hsm_reason broken = {0};

    if (certs_cert_check_serial(cert, &broken) != HSM_OK ||
        certs_exts_unique(X509_get0_extensions(cert), "extensions", &broken) != HSM_OK)
        return certs_path_refuse(why, cert, broken.text);
    if ((X509_get_extension_flags(cert) & EXFLAG_INVALID) != 0)
        return certs_path_refuse(why, cert, "an extension is malformed");
    if (i > 0 && X509_check_ca(cert) != 1)
        return certs_path_refuse(why, cert, "not a CA by its basicConstraints");
    return check_signature_algorithm(cert, search->policy->ca_keys, why);
}

static enum hsm_status
check_certs(const struct path_search *search, struct hsm_reason *why)
{
    enum hsm_status st = HSM_OK;

    for (size_t i = 0; st == HSM_OK && i < search->len - 1; i++)
        st = check_cert(search, i, why); /* the last is the anchor: trusted as it is */
    return st;
}

/* -- scope of the end entity ------------------------------------------------------------------- */

/*
 * RFC 8226 section 10.1, RFC 9060 section 4.1: a CA's list limits those below it even if it is
 * given by URL. The URL is not fetched, so there is nothing to compare with it.
 */
static enum hsm_status
read_tnauthlist(const X509 *cert, bool is_ca, struct certs_tnauthlist **out, struct hsm_reason *why)
{
    struct hsm_reason broken = {0};
    enum hsm_status st;

    if (is_ca && certs_cert_has_tnauthlist_elsewhere(cert))
        return certs_path_refuse(why, cert, "TNAuthList: it is elsewhere, and is not fetched");
    st = certs_cert_tnauthlist(cert, out, &broken);

    if (st == HSM_OK || st == HSM_ERR_NOMEM || st == HSM_ERR_NOT_FOUND)
        return st;
    return certs_path_refuse(why, cert, broken.text);
}

/* RFC 9060 section 4: what a CA certificate lists bounds every list below it. */
static enum hsm_status
check_scope(const X509 *cert, const struct certs_tnauthlist *above,
            const struct certs_tnauthlist *list, bool numbers_under_spc, struct hsm_reason *why)
{
    switch (certs_tnauthlist_scope(above, list)) {
    case CERTS_SCOPE_INSIDE:
        return HSM_OK;
    case CERTS_SCOPE_BY_NUMBERING:
        if (numbers_under_spc)
            return HSM_OK;
        return certs_path_refuse(
            why, cert, "TNAuthList: whether its numbers are of the issuer's SPC is not known");
    case CERTS_SCOPE_OUTSIDE:
        break;
    }
    return certs_path_refuse(why, cert, "TNAuthList: not within that of its issuer");
}

/* From the root down, so that *out is finally the end entity's list. */
static enum hsm_status
read_scope(const struct path_search *search, struct certs_tnauthlist **out, struct hsm_reason *why)
{
    DEFER(certs_tnauthlist_free) struct certs_tnauthlist *above = NULL;
    enum hsm_status st = HSM_ERR_NOT_FOUND;

    for (size_t i = search->len; i-- > 0;) {
        struct certs_tnauthlist *list = NULL;

        st = read_tnauthlist(search->certs[i], i > 0, &list, why);
        if (st == HSM_ERR_NOT_FOUND)
            continue;
        if (st == HSM_ERR_UNTRUSTED && i == 0 && above == NULL && search->policy->any_tnauthlist)
            return HSM_OK; /* *out stays NULL */
        if (st == HSM_OK && above != NULL)
            st = check_scope(search->certs[i], above, list, search->policy->numbers_under_spc, why);
        certs_tnauthlist_free(above);
        above = list;
        if (st != HSM_OK)
            return st;
    }
    if (st == HSM_ERR_NOT_FOUND)
        return certs_path_refuse(why, search->certs[0], "no TNAuthList");
    *out = above;
    above = NULL;
    return HSM_OK;
}

static enum hsm_status
read_constraints(const X509 *leaf, struct certs_constraints **out, struct hsm_reason *why)
{
    struct hsm_reason broken = {0};
    enum hsm_status st = certs_cert_constraints(leaf, out, &broken);

    if (st == HSM_OK || st == HSM_ERR_NOT_FOUND)
        return HSM_OK;
    return st == HSM_ERR_NOMEM ? st : certs_path_refuse(why, leaf, broken.text);
}

static enum hsm_status
read_rights(const struct path_search *search, struct certs_path *path, struct hsm_reason *why)
{
    enum hsm_status st;

    if (search->policy->purpose != CERTS_FOR_STI)
        return HSM_OK;
    st = read_scope(search, &path->tnauthlist, why);
    return st == HSM_OK ? read_constraints(search->certs[0], &path->constraints, why) : st;
}

/* -- revocation -------------------------------------------------------------------------------- */

/*
 * Includes the root: an STI-CA that leaves the list may be on the CRL first. Only for the end
 * entity is it checked that its certificate names this CRL: CAs in use name CRLs of their own,
 * which no other party reads, and are on the STI-PA's all the same.
 */
static enum hsm_status
check_revocation(const struct path_search *search, struct hsm_reason *why)
{
    const struct certs_crl *crl = search->trust->crl;
    enum hsm_status st = HSM_OK;

    if (crl == NULL)
        return HSM_OK;
    if (!search->policy->any_distribution_point && !certs_crl_covers(crl, search->certs[0]))
        return certs_path_refuse(why, search->certs[0],
                                 "its CRL is another than the one that is held");
    for (size_t i = 0; st == HSM_OK && i < search->len; i++) {
        struct hsm_reason revoked = {0};

        st = certs_crl_check(crl, search->certs[i], &revoked);
        if (st == HSM_ERR_UNTRUSTED)
            st = certs_path_refuse(why, search->certs[i], revoked.text);
    }
    return st;
}

/* -- the verdict on one path ------------------------------------------------------------------- */

static void
take_certs(const struct path_search *search, struct certs_path *path)
{
    for (size_t i = 0; i < search->len; i++) {
        X509 *cert = search->certs[i];
        time_t not_before = certs_cert_not_before(cert);
        time_t not_after = certs_cert_not_after(cert);

        (void)X509_up_ref(cert);
        path->certs[i] = cert;
        if (i == 0 || not_before > path->not_before)
            path->not_before = not_before;
        if (i == 0 || not_after < path->not_after)
            path->not_after = not_after;
    }
    path->len = search->len;
    path->from = certs_cert_not_before(path->certs[0]);
    path->to = certs_cert_not_after(path->certs[0]);
    path->has_spc = path->tnauthlist != NULL && certs_tnauthlist_has_spc(path->tnauthlist);
}

/* Signatures are verified as early as possible: signers determine the size of all that is checked
 * after them. */
enum hsm_status
certs_path_judge(const struct path_search *search, struct certs_path **out, struct hsm_reason *why)
{
    DEFER(certs_path_free) struct certs_path *path = calloc(1, sizeof(*path));
    enum hsm_status st;

    if (path == NULL)
        return HSM_ERR_NOMEM;
    atomic_init(&path->references, 1);
    st = check_certs(search, why);
    if (st == HSM_OK)
        st = verify_by_openssl(search, why);
    if (st == HSM_OK)
        st = read_rights(search, path, why);
    if (st == HSM_OK)
        st = check_revocation(search, why);
    if (st != HSM_OK)
        return st;
    take_certs(search, path);
    st = hsm_es256_verifier_new(certs_cert_public(path->certs[0]), &path->verifier);
    if (st != HSM_OK && st != HSM_ERR_UNSUPPORTED)
        return st;
    *out = path;
    path = NULL;
    return HSM_OK;
}
