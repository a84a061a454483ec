/* csr.c - PKCS#10 requests: made with a token key, checked before anything is issued. */

#include <certs/csr.h>

#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>

#include <hsm/log.h>
#include <hsm/process.h>
#include <hsm/use.h>

#include "der_internal.h"
#include "x509_internal.h"

struct certs_csr {
    X509_REQ *req;
    EVP_PKEY *public_key; /* borrowed from req */
    struct certs_tnauthlist *tnauthlist; /* NULL: none */
    struct certs_constraints *constraints; /* NULL: none */
    bool ca;
};

DEFINE_DEFER(BASIC_CONSTRAINTS, BASIC_CONSTRAINTS_free)
DEFINE_DEFER(X509_REQ, X509_REQ_free)
DEFINE_DEFER(struct certs_csr, certs_csr_free)

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

/* RFC 2986 section 4.1, RFC 2985 section 5.4.2: at most one extensionRequest, of one value. */
static enum hsm_status
get_extensions(const X509_REQ *req, X509_EXTENSIONS **out, struct hsm_reason *why)
{
    int at = X509_REQ_get_attr_by_NID(req, NID_ext_req, -1);
    X509_ATTRIBUTE *attribute;
    const ASN1_STRING *value;
    const uint8_t *der;
    const uint8_t *end;

    if (at < 0)
        return HSM_OK;
    attribute = X509_REQ_get_attr(req, at);
    if (X509_REQ_get_attr_by_NID(req, NID_ext_req, at) >= 0 || X509_ATTRIBUTE_count(attribute) != 1)
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
read_extensions(struct certs_csr *csr, struct hsm_reason *why)
{
    DEFER(certs_exts_free) X509_EXTENSIONS *exts = NULL;
    enum hsm_status st = get_extensions(csr->req, &exts, why);

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

/* RFC 2986 section 4.2; the signature shows that the requester holds the key. */
static enum hsm_status
check_signature(struct certs_csr *csr, struct hsm_reason *why)
{
    csr->public_key = X509_REQ_get0_pubkey(csr->req);
    if (!certs_is_p256(csr->public_key)) {
        ERR_clear_error();
        return hsm_refuse(why, HSM_ERR_UNSUPPORTED, "CSR: its key is not on P-256");
    }
    if (X509_REQ_get_signature_nid(csr->req) != NID_ecdsa_with_SHA256)
        return hsm_refuse(why, HSM_ERR_UNSUPPORTED, "CSR: not signed with ecdsa-with-SHA256");
    if (X509_REQ_verify(csr->req, csr->public_key) != 1) {
        ERR_clear_error();
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "CSR: its signature does not verify");
    }
    return HSM_OK;
}

enum hsm_status
certs_csr_parse(const uint8_t *der, size_t len, struct certs_csr **out, struct hsm_reason *why)
{
    DEFER(certs_csr_free) struct certs_csr *csr = calloc(1, sizeof(*csr));
    const uint8_t *at = der;
    enum hsm_status st;

    if (csr == NULL)
        return HSM_ERR_NOMEM;
    if (len > CERTS_CSR_MAX)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "CSR: more than %d octets", CERTS_CSR_MAX);
    if (!der_is_one_sequence(der, len))
        return hsm_refuse(why, HSM_ERR_MALFORMED, "CSR: not exactly one DER SEQUENCE");
    csr->req = d2i_X509_REQ(NULL, &at, (long)len);
    if (csr->req == NULL || at != der + len) {
        ERR_clear_error();
        return hsm_refuse(why, HSM_ERR_MALFORMED, "CSR: not a CertificationRequest of RFC 2986");
    }
    st = check_signature(csr, why);
    if (st == HSM_OK)
        st = read_extensions(csr, why);
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
    X509_REQ_free(csr->req);
    certs_tnauthlist_free(csr->tnauthlist);
    certs_constraints_free(csr->constraints);
    free(csr);
}
