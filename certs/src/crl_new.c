/* crl_new.c - make the STI-PA's CRL, sign it, and read it back. */
#include <stdlib.h>

#include <openssl/err.h>

#include <hsm/log.h>
#include <hsm/use.h>

#include "crl_internal.h"
#include "der_internal.h"
#include "x509_internal.h"

/* PEM has 64 characters per line, so CERTS_CRL_MAX octets hold this much DER; what certs_sign()
 * adds has less than 256 octets. */
#define TBS_MAX ((CERTS_CRL_MAX - 64) / 65 * 48 - 256)

DEFINE_DEFER(ASN1_TIME, ASN1_TIME_free)
DEFINE_DEFER(ISSUING_DIST_POINT, ISSUING_DIST_POINT_free)
DEFINE_DEFER(X509_REVOKED, X509_REVOKED_free)

static enum hsm_status
add_number(X509_EXTENSIONS **exts, uint64_t number)
{
    DEFER(ASN1_INTEGER_free) ASN1_INTEGER *integer = ASN1_INTEGER_new();

    if (integer == NULL || ASN1_INTEGER_set_uint64(integer, number) != 1)
        return HSM_ERR_NOMEM;
    return certs_exts_add(exts, NID_crl_number, false, integer);
}

/* RFC 5280 section 5.2.5: critical; the URL in the certificates' distribution points. */
static enum hsm_status
add_issuing_distribution_point(X509_EXTENSIONS **exts, const char *url)
{
    DEFER(ISSUING_DIST_POINT_free) ISSUING_DIST_POINT *point = ISSUING_DIST_POINT_new();

    if (point == NULL)
        return HSM_ERR_NOMEM;
    point->indirectCRL = 0xff;
    point->distpoint = DIST_POINT_NAME_new();
    if (point->distpoint == NULL)
        return HSM_ERR_NOMEM;
    point->distpoint->type = 0; /* fullName */
    point->distpoint->name.fullname = certs_uri_names(url);
    if (point->distpoint->name.fullname == NULL)
        return HSM_ERR_NOMEM;
    return certs_exts_add(exts, NID_issuing_distribution_point, true, point);
}

/* Writes and releases the output of an i2d function. */
static enum hsm_status
put_encoded(struct der_writer *to, uint8_t *der, int len)
{
    if (len <= 0)
        return certs_openssl_failed("CRL");
    certs_der_put(to, der, (size_t)len);
    OPENSSL_free(der);
    return HSM_OK;
}

static enum hsm_status
put_extensions(struct der_writer *to, const struct certs_crl_request *request, const X509 *signer)
{
    DEFER(certs_exts_free) X509_EXTENSIONS *exts = NULL;
    uint8_t *der = NULL;
    size_t start = to->len;
    enum hsm_status st = certs_exts_add_authority_key_id(&exts, signer);

    if (st == HSM_OK)
        st = add_number(&exts, request->number);
    if (st == HSM_OK)
        st = add_issuing_distribution_point(&exts, request->url);
    if (st == HSM_OK && request->signer_cert_url != NULL)
        st = certs_exts_add_info_access(&exts, CERTS_AD_CA_ISSUERS, request->signer_cert_url);
    if (st == HSM_OK) {
        int len = i2d_X509_EXTENSIONS(exts, &der);

        st = put_encoded(to, der, len);
    }
    certs_der_wrap(to, start, DER_CONTEXT(0));
    return st;
}

static enum hsm_status
set_revoked_serial(X509_REVOKED *revoked, const struct certs_crl_entry *entry)
{
    DEFER(ASN1_INTEGER_free) ASN1_INTEGER *serial = ASN1_INTEGER_new();
    size_t skip = entry->serial_len > 1 && entry->serial[0] == 0 ? 1 : 0;

    if (serial == NULL ||
        ASN1_STRING_set(serial, entry->serial + skip, (int)(entry->serial_len - skip)) != 1 ||
        X509_REVOKED_set_serialNumber(revoked, serial) != 1)
        return HSM_ERR_NOMEM;
    return HSM_OK;
}

static enum hsm_status
add_entry_ext(X509_REVOKED *revoked, int nid, bool critical, void *value)
{
    if (value == NULL || X509_REVOKED_add1_ext_i2d(revoked, nid, value, critical, 0) != 1)
        return certs_openssl_failed(OBJ_nid2sn(nid));
    return HSM_OK;
}

/* RFC 5280 section 5.3; certificateIssuer only where it changes, as later entries inherit it. */
static enum hsm_status
add_entry_exts(X509_REVOKED *revoked, const struct certs_crl_entry *entry, bool new_issuer)
{
    enum hsm_status st = HSM_OK;

    if (entry->reason != 0) {
        ASN1_ENUMERATED *reason = ASN1_ENUMERATED_new();

        if (reason == NULL || ASN1_ENUMERATED_set(reason, entry->reason) != 1)
            st = HSM_ERR_NOMEM;
        else
            st = add_entry_ext(revoked, NID_crl_reason, false, reason);
        ASN1_ENUMERATED_free(reason);
    }
    if (st == HSM_OK && new_issuer) {
        DEFER(GENERAL_NAMES_free) GENERAL_NAMES *names = certs_directory_names(entry->issuer);

        st = add_entry_ext(revoked, NID_certificate_issuer, true, names);
    }
    return st;
}

static enum hsm_status
put_entry(struct der_writer *to, const struct certs_crl_entry *entry, bool new_issuer)
{
    DEFER(X509_REVOKED_free) X509_REVOKED *revoked = X509_REVOKED_new();
    DEFER(ASN1_TIME_free) ASN1_TIME *time = ASN1_TIME_set(NULL, entry->revoked_at);
    uint8_t *der = NULL;
    int len;
    enum hsm_status st;

    if (revoked == NULL || time == NULL)
        return HSM_ERR_NOMEM;
    if (X509_REVOKED_set_revocationDate(revoked, time) != 1)
        return HSM_ERR_NOMEM;
    st = set_revoked_serial(revoked, entry);
    if (st == HSM_OK)
        st = add_entry_exts(revoked, entry, new_issuer);
    if (st != HSM_OK)
        return st;
    len = i2d_X509_REVOKED(revoked, &der);
    return put_encoded(to, der, len);
}

/* RFC 5280 section 5.1.2.6: absent if there are no entries. */
static enum hsm_status
put_entries(struct der_writer *to, const struct certs_crl_request *request, const X509_NAME *signer)
{
    const X509_NAME *issuer = signer;
    size_t start = to->len;
    enum hsm_status st = HSM_OK;

    for (size_t i = 0; st == HSM_OK && i < request->count; i++) {
        const struct certs_crl_entry *entry = &request->entries[i];
        bool new_issuer = X509_NAME_cmp(issuer, entry->issuer) != 0;

        st = put_entry(to, entry, new_issuer);
        issuer = entry->issuer;
    }
    if (request->count > 0)
        certs_der_wrap(to, start, DER_SEQUENCE);
    return st;
}

static enum hsm_status
check_request(const struct certs_crl_request *request, const X509 *signer,
              const struct hsm_key *signer_key, struct hsm_reason *why)
{
    if (!hsm_key_matches(signer_key, certs_cert_public(signer)))
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "CRL: the key is not that of the certificate");
    if ((X509_get_key_usage((X509 *)signer) & KU_CRL_SIGN) == 0 ||
        X509_get0_subject_key_id((X509 *)signer) == NULL)
        return hsm_refuse(why, HSM_ERR_UNTRUSTED,
                          "CRL: the certificate lacks cRLSign or a subject key identifier");
    if (request->this_update >= request->next_update)
        return hsm_refuse(why, HSM_ERR_USAGE, "CRL: thisUpdate must come before nextUpdate");
    for (size_t i = 0; i < request->count; i++) {
        const struct certs_crl_entry *entry = &request->entries[i];

        if (entry->issuer == NULL || entry->serial_len < 1 ||
            entry->serial_len > CERTS_SERIAL_MAX || (entry->serial[0] & 0x80) != 0 ||
            !certs_crl_is_reason(entry->reason))
            return hsm_refuse(why, HSM_ERR_USAGE, "CRL: entry %zu is not one", i);
    }
    return HSM_OK;
}

/* UTCTime until 2049, then GeneralizedTime: RFC 5280 section 5.1.2.4 */
static enum hsm_status
put_time(struct der_writer *to, time_t time)
{
    DEFER(ASN1_TIME_free) ASN1_TIME *encoded = ASN1_TIME_set(NULL, time);
    uint8_t *der = NULL;
    int len = encoded == NULL ? -1 : i2d_ASN1_TIME(encoded, &der);

    return put_encoded(to, der, len);
}

/* TBSCertList, RFC 5280 section 5.1: by hand, because OpenSSL sets its signature field only when it
 * signs. */
static enum hsm_status
put_tbs(struct der_writer *to, const struct certs_crl_request *request, const X509 *signer)
{
    const X509_NAME *issuer = X509_get_subject_name(signer);
    uint8_t *der = NULL;
    int len = i2d_X509_NAME(issuer, &der);
    enum hsm_status st;

    certs_der_put_unsigned(to, X509_CRL_VERSION_2);
    certs_put_algorithm(to);
    st = put_encoded(to, der, len);
    if (st == HSM_OK)
        st = put_time(to, request->this_update);
    if (st == HSM_OK)
        st = put_time(to, request->next_update);
    if (st == HSM_OK)
        st = put_entries(to, request, issuer);
    if (st == HSM_OK)
        st = put_extensions(to, request, signer);
    certs_der_wrap(to, 0, DER_SEQUENCE);
    if (st == HSM_OK && to->failed)
        st = HSM_ERR_NOMEM;
    return st;
}

/* The CRL is handed out only if it reads back as requested. */
static enum hsm_status
check_made(const uint8_t *der, size_t len, const X509 *signer, struct hsm_reason *why)
{
    DEFER(certs_crl_free) struct certs_crl *crl = NULL;
    enum hsm_status st = certs_crl_parse(der, len, &crl, why);

    return st == HSM_OK ? certs_crl_check_signature(crl, signer, why) : st;
}

enum hsm_status
certs_crl_new(const struct certs_crl_request *request, const X509 *signer,
              struct hsm_key *signer_key, uint8_t **der, size_t *len)
{
    struct der_writer tbs = {0};
    struct hsm_reason why = {0};
    uint8_t *made = NULL;
    size_t made_len = 0;
    enum hsm_status st = check_request(request, signer, signer_key, &why);
    HSM_USE_FOR(HSM_USE_CRL);

    if (st == HSM_OK)
        st = put_tbs(&tbs, request, signer);
    if (st == HSM_OK && tbs.len > TBS_MAX)
        st = hsm_refuse(&why, HSM_ERR_UNSUPPORTED, "CRL: %zu entries, more than verifiers accept",
                        request->count);
    if (st == HSM_OK)
        st = certs_sign(signer_key, tbs.octets, tbs.len, &made, &made_len);
    certs_der_writer_free(&tbs);
    if (st == HSM_OK)
        st = check_made(made, made_len, signer, &why);
    if (st != HSM_OK) {
        if (why.text[0] != '\0')
            hsm_log(HSM_LOG_ERROR, "%s", why.text);
        free(made);
        return st;
    }
    *der = made;
    *len = made_len;
    return HSM_OK;
}

enum hsm_status
certs_crl_pem(const uint8_t *der, size_t len, char **out)
{
    return certs_pem_write(CRL_LABEL, der, len, out);
}
