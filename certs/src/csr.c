/* csr.c - PKCS#10 requests: made with a token key, checked before anything is issued. */

#include <certs/csr.h>

#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>

#include <hsm/es256.h>
#include <hsm/log.h>
#include <hsm/process.h>
#include <hsm/use.h>

#include "der_internal.h"
#include "x509_internal.h"

struct certs_csr {
    EVP_PKEY *public_key;
    struct certs_tnauthlist *tnauthlist; /* NULL: none */
    struct certs_constraints *constraints; /* NULL: none */
    bool ca;
};

/*
 * RFC 2986 section 4: a CertificationRequest and its CertificationRequestInfo, borrowed. They are
 * parsed here because d2i_X509_REQ() searches all of OpenSSL's decoders for one of the key, which
 * takes three times as long as the signature.
 */
struct request {
    struct der_reader signed_part; /* the whole CertificationRequestInfo */
    struct der_reader subject, key; /* with their headers, too */
    struct der_reader attributes; /* the attributes, one after another */
    struct der_reader algorithm; /* content of the AlgorithmIdentifier */
    struct der_reader signature; /* content of the BIT STRING */
};

DEFINE_DEFER(X509_ATTRIBUTE, X509_ATTRIBUTE_free)
DEFINE_DEFER(X509_REQ, X509_REQ_free)

static enum hsm_status
refuse_usage(enum hsm_status st, const struct hsm_reason *why)
{
    if (st == HSM_ERR_USAGE)
        hsm_log(HSM_LOG_ERROR, "CSR: %s", why->text);
    return st;
}

static enum hsm_status
build_extensions(const struct certs_csr_request *request, X509_EXTENSIONS **exts,
                 struct hsm_reason *why)
{
    enum hsm_status st = certs_exts_add_basic_constraints(exts, request->ca, CERTS_NO_PATH_LEN);

    if (st == HSM_OK && request->tnauthlist != NULL)
        st = certs_exts_add_tnauthlist(exts, request->tnauthlist);
    if (st == HSM_OK && request->constraints != NULL && request->ca)
        st = hsm_refuse(why, HSM_ERR_USAGE, "claim constraints are for end entities");
    if (st == HSM_OK && request->constraints != NULL)
        st = certs_exts_add_constraints(exts, request->constraints);
    if (st == HSM_OK)
        st = certs_exts_add_alt_names(exts, request->dns_names, request->ip_addresses, why);
    return st;
}

static enum hsm_status
build_request(const struct certs_csr_request *request, struct hsm_key *key, X509_REQ *req,
              struct hsm_reason *why)
{
    DEFER(X509_NAME_free) X509_NAME *name = NULL;
    DEFER(certs_exts_free) X509_EXTENSIONS *exts = NULL;
    enum hsm_status st = certs_subject_name(&request->subject, &name, why);

    if (st == HSM_OK)
        st = build_extensions(request, &exts, why);
    if (st != HSM_OK)
        return st;
    if (X509_REQ_set_version(req, X509_REQ_VERSION_1) != 1 ||
        X509_REQ_set_subject_name(req, name) != 1 ||
        X509_REQ_set_pubkey(req, hsm_key_public(key)) != 1 ||
        X509_REQ_add_extensions(req, exts) != 1)
        return certs_openssl_failed("CSR");
    return HSM_OK;
}

enum hsm_status
certs_csr_new(const struct certs_csr_request *request, struct hsm_key *key, uint8_t **der,
              size_t *len)
{
    DEFER(X509_REQ_free) X509_REQ *req = X509_REQ_new();
    struct hsm_reason why = {0};
    uint8_t *tbs = NULL;
    int tbs_len;
    enum hsm_status st;
    HSM_USE_FOR(HSM_USE_CSR);

    if (req == NULL)
        return HSM_ERR_NOMEM;
    st = build_request(request, key, req, &why);
    if (st != HSM_OK)
        return refuse_usage(st, &why);
    tbs_len = i2d_re_X509_REQ_tbs(req, &tbs);
    if (tbs_len <= 0)
        return certs_openssl_failed("CSR");
    st = certs_sign(key, tbs, (size_t)tbs_len, der, len);
    OPENSSL_free(tbs);
    return st;
}

/* Read a value with this tag, including its header. */
static bool
read_whole(struct der_reader *from, uint8_t tag, struct der_reader *whole)
{
    struct der_reader content;

    *whole = *from;
    if (!certs_der_read(from, tag, &content))
        return false;
    whole->left -= from->left;
    return true;
}

/* The attributes are mandatory, but requests without them are in use. */
static bool
read_info(struct der_reader info, struct request *out)
{
    struct der_reader version;

    out->attributes.left = 0;
    return certs_der_read(&info, DER_INTEGER, &version) &&
           read_whole(&info, DER_SEQUENCE, &out->subject) &&
           read_whole(&info, DER_SEQUENCE, &out->key) &&
           (info.left == 0 || certs_der_read(&info, DER_CONTEXT(0), &out->attributes)) &&
           info.left == 0;
}

static bool
read_request(const uint8_t *der, size_t len, struct request *out)
{
    struct der_reader from = {.at = der, .left = len}, request, whole, info;

    if (!certs_der_read(&from, DER_SEQUENCE, &request) || from.left != 0 ||
        !read_whole(&request, DER_SEQUENCE, &out->signed_part))
        return false;
    whole = out->signed_part;
    return certs_der_read(&whole, DER_SEQUENCE, &info) && read_info(info, out) &&
           certs_der_read(&request, DER_SEQUENCE, &out->algorithm) &&
           certs_der_read(&request, DER_BIT_STRING, &out->signature) && request.left == 0;
}

static bool
is_name(struct der_reader whole)
{
    const uint8_t *at = whole.at;
    X509_NAME *name = d2i_X509_NAME(NULL, &at, (long)whole.left);
    bool good = name != NULL && at == whole.at + whole.left;

    X509_NAME_free(name);
    ERR_clear_error();
    return good;
}

/* ---- extensions ---- */

static enum hsm_status
take_extensions(X509_ATTRIBUTE *attribute, X509_EXTENSIONS **out, struct hsm_reason *why)
{
    const ASN1_STRING *value;
    const uint8_t *der;
    const uint8_t *end;

    if (*out != NULL || X509_ATTRIBUTE_count(attribute) != 1)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "CSR: more than one extensionRequest");
    value = X509_ATTRIBUTE_get0_data(attribute, 0, V_ASN1_SEQUENCE, NULL);
    if (value == NULL) {
        ERR_clear_error();
        return hsm_refuse(why, HSM_ERR_MALFORMED, "CSR: extensionRequest is not a SEQUENCE");
    }
    der = ASN1_STRING_get0_data(value);
    end = der + ASN1_STRING_length(value);
    *out = d2i_X509_EXTENSIONS(NULL, &der, end - der);
    if (*out == NULL || der != end) {
        ERR_clear_error();
        return hsm_refuse(why, HSM_ERR_MALFORMED, "CSR: extensionRequest does not hold Extensions");
    }
    return HSM_OK;
}

/* RFC 2986 section 4.1, RFC 2985 section 5.4.2: at most one extensionRequest, with one value. */
static enum hsm_status
get_extensions(struct der_reader attributes, X509_EXTENSIONS **out, struct hsm_reason *why)
{
    enum hsm_status st = HSM_OK;

    while (st == HSM_OK && attributes.left > 0) {
        const uint8_t *at = attributes.at;
        DEFER(X509_ATTRIBUTE_free)
        X509_ATTRIBUTE *attribute = d2i_X509_ATTRIBUTE(NULL, &at, (long)attributes.left);

        if (attribute == NULL) {
            ERR_clear_error();
            return hsm_refuse(why, HSM_ERR_MALFORMED, "CSR: a malformed attribute");
        }
        attributes.left -= (size_t)(at - attributes.at);
        attributes.at = at;
        if (OBJ_obj2nid(X509_ATTRIBUTE_get0_object(attribute)) == NID_ext_req)
            st = take_extensions(attribute, out, why);
    }
    return st;
}

static enum hsm_status
read_basic_constraints(const X509_EXTENSIONS *exts, bool *ca, struct hsm_reason *why)
{
    int found;
    DEFER(BASIC_CONSTRAINTS_free)
    BASIC_CONSTRAINTS *constraints = X509V3_get_d2i(exts, NID_basic_constraints, &found, NULL);

    if (constraints == NULL && found != -1) {
        ERR_clear_error();
        return hsm_refuse(why, HSM_ERR_MALFORMED, "CSR: malformed basicConstraints");
    }
    *ca = constraints != NULL && constraints->ca != 0;
    return HSM_OK;
}

static enum hsm_status
read_constraints(struct certs_csr *csr, const X509_EXTENSIONS *exts, struct hsm_reason *why)
{
    enum hsm_status st = certs_exts_constraints(exts, &csr->constraints, why);

    if (st == HSM_OK && csr->ca)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "CSR: claim constraints for a CA certificate");
    return st == HSM_ERR_NOT_FOUND ? HSM_OK : st;
}

static enum hsm_status
read_extensions(struct certs_csr *csr, struct der_reader attributes, struct hsm_reason *why)
{
    DEFER(certs_exts_free) X509_EXTENSIONS *exts = NULL;
    enum hsm_status st = get_extensions(attributes, &exts, why);

    if (st != HSM_OK || exts == NULL)
        return st;
    st = certs_exts_unique(exts, "CSR", why);
    if (st != HSM_OK)
        return st;
    st = read_basic_constraints(exts, &csr->ca, why);
    if (st != HSM_OK)
        return st;
    st = certs_exts_tnauthlist(exts, &csr->tnauthlist, why);
    if (st != HSM_OK && st != HSM_ERR_NOT_FOUND)
        return st;
    return read_constraints(csr, exts, why);
}

/* ---- key and signature ---- */

static enum hsm_status
read_key(struct certs_csr *csr, struct der_reader key, struct hsm_reason *why)
{
    enum hsm_status st = certs_spki_public(key.at, key.left, &csr->public_key);

    if (st == HSM_OK || st == HSM_ERR_NOMEM)
        return st;
    return hsm_refuse(why, HSM_ERR_UNSUPPORTED, "CSR: its key is not on P-256");
}

/* RFC 2986 section 4.2; the signature shows that the requester holds the key. */
static enum hsm_status
check_signature(const struct certs_csr *csr, const struct request *request, struct hsm_reason *why)
{
    const struct der_reader *bits = &request->signature;
    uint8_t sig[HSM_P256_SIG_LEN];
    enum hsm_status st = HSM_ERR_UNTRUSTED;

    if (!certs_is_ecdsa_with_sha256(request->algorithm))
        return hsm_refuse(why, HSM_ERR_UNSUPPORTED, "CSR: not signed with ecdsa-with-SHA256");
    if (bits->left > 0 && bits->at[0] == 0 && /* no unused bits */
        hsm_es256_from_der(bits->at + 1, bits->left - 1, sig) == HSM_OK)
        st = hsm_es256_verify(csr->public_key, request->signed_part.at, request->signed_part.left,
                              sig, sizeof(sig));
    if (st == HSM_ERR_UNTRUSTED)
        return hsm_refuse(why, st, "CSR: its signature does not verify");
    return st;
}

enum hsm_status
certs_csr_parse(const uint8_t *der, size_t len, struct certs_csr **out, struct hsm_reason *why)
{
    DEFER(certs_csr_free) struct certs_csr *csr = calloc(1, sizeof(*csr));
    struct request request;
    enum hsm_status st;

    if (csr == NULL)
        return HSM_ERR_NOMEM;
    if (len > CERTS_CSR_MAX)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "CSR: more than %d octets", CERTS_CSR_MAX);
    if (!certs_der_is_one_sequence(der, len))
        return hsm_refuse(why, HSM_ERR_MALFORMED, "CSR: not exactly one DER SEQUENCE");
    if (!read_request(der, len, &request) || !is_name(request.subject))
        return hsm_refuse(why, HSM_ERR_MALFORMED, "CSR: not a CertificationRequest of RFC 2986");
    st = read_key(csr, request.key, why);
    if (st == HSM_OK)
        st = check_signature(csr, &request, why);
    if (st == HSM_OK)
        st = read_extensions(csr, request.attributes, why);
    if (st != HSM_OK)
        return st;

    *out = csr;
    csr = NULL;
    return HSM_OK;
}

enum hsm_status
certs_csr_parse_any(const void *octets, size_t len, struct certs_csr **out, struct hsm_reason *why)
{
    uint8_t *der = NULL;
    size_t der_len = 0;
    enum hsm_status st = certs_pem_or_der(octets, len, "CERTIFICATE REQUEST", &der, &der_len, why);

    if (st == HSM_OK)
        st = certs_csr_parse(der, der_len, out, why);
    free(der);
    return st;
}

enum hsm_status
certs_csr_read(const char *path, struct certs_csr **out)
{
    struct hsm_reason why = {0};
    uint8_t *octets = NULL;
    size_t len = 0;
    enum hsm_status st = hsm_file_read(path, CERTS_CSR_PEM_MAX, &octets, &len);

    if (st != HSM_OK)
        return st;
    st = certs_csr_parse_any(octets, len, out, &why);
    if (st != HSM_OK)
        hsm_log(HSM_LOG_ERROR, "%s: %s", path,
                why.text[0] != '\0' ? why.text : hsm_status_text(st));
    free(octets);
    return st;
}

enum hsm_status
certs_csr_pem(const uint8_t *der, size_t len, char **out)
{
    return certs_pem_write("CERTIFICATE REQUEST", der, len, out);
}

EVP_PKEY *
certs_csr_public(const struct certs_csr *csr)
{
    return csr->public_key;
}

const struct certs_tnauthlist *
certs_csr_tnauthlist(const struct certs_csr *csr)
{
    return csr->tnauthlist;
}

bool
certs_csr_is_ca(const struct certs_csr *csr)
{
    return csr->ca;
}

const struct certs_constraints *
certs_csr_constraints(const struct certs_csr *csr)
{
    return csr->constraints;
}

void
certs_csr_free(struct certs_csr *csr)
{
    if (csr == NULL)
        return;
    EVP_PKEY_free(csr->public_key);
    certs_tnauthlist_free(csr->tnauthlist);
    certs_constraints_free(csr->constraints);
    free(csr);
}
