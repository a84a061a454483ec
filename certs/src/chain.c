/* chain.c - a sequence of certificates. */

#include <certs/chain.h>

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>

#include <certs/cert.h>
#include <hsm/log.h>
#include <hsm/process.h>

#include "x509_internal.h"

#define CHAIN_FILE_MAX 16777216 /* octets of a local configuration file */

struct certs_chain {
    atomic_uint references;
    STACK_OF(X509) * certs; /* owned, each with a reference */
    uint8_t digest[CERTS_CHAIN_DIGEST_LEN];
    time_t latest_start;
};

enum hsm_status
certs_chain_new(struct certs_chain **out)
{
    struct certs_chain *chain = calloc(1, sizeof(*chain));

    if (chain == NULL)
        return HSM_ERR_NOMEM;
    chain->certs = sk_X509_new_null();
    if (chain->certs == NULL) {
        free(chain);
        return HSM_ERR_NOMEM;
    }
    atomic_init(&chain->references, 1);
    *out = chain;
    return HSM_OK;
}

/* SHA-256 of the previous digest and the certificate's own: fixed lengths, so nothing is
 * ambiguous. */
static enum hsm_status
extend_digest(const struct certs_chain *chain, const X509 *cert, uint8_t out[])
{
    uint8_t both[CERTS_CHAIN_DIGEST_LEN + HSM_SHA256_LEN];
    enum hsm_status st = certs_cert_sha256(cert, both + CERTS_CHAIN_DIGEST_LEN);

    if (st != HSM_OK)
        return st;
    memcpy(both, chain->digest, CERTS_CHAIN_DIGEST_LEN);
    if (EVP_Digest(both, sizeof(both), out, NULL, EVP_sha256(), NULL) != 1)
        return certs_openssl_failed("digest of a chain");
    return HSM_OK;
}

enum hsm_status
certs_chain_add(struct certs_chain *chain, X509 *cert)
{
    uint8_t digest[CERTS_CHAIN_DIGEST_LEN];
    time_t start = certs_cert_not_before(cert);
    enum hsm_status st = extend_digest(chain, cert, digest);

    if (st != HSM_OK)
        return st;
    if (X509_add_cert(chain->certs, cert, X509_ADD_FLAG_UP_REF) != 1)
        return HSM_ERR_NOMEM;
    memcpy(chain->digest, digest, sizeof(digest));
    if (start > chain->latest_start)
        chain->latest_start = start;
    /* OpenSSL decodes extensions on first use: do it now, before threads share them. */
    if ((X509_get_extension_flags(cert) & EXFLAG_INVALID) != 0)
        ERR_clear_error(); /* certs_path_verify() reports it */
    return HSM_OK;
}

enum hsm_status
certs_chain_append(struct certs_chain *chain, const struct certs_chain *other)
{
    size_t count = certs_chain_len(other); /* `other` may be the chain itself */
    enum hsm_status st = HSM_OK;

    for (size_t i = 0; st == HSM_OK && i < count; i++)
        st = certs_chain_add(chain, certs_chain_get(other, i));
    return st;
}

enum hsm_status
certs_chain_copy(const struct certs_chain *chain, struct certs_chain **out)
{
    struct certs_chain *copy = calloc(1, sizeof(*copy));

    if (copy == NULL)
        return HSM_ERR_NOMEM;
    *copy = *chain;
    atomic_init(&copy->references, 1);
    copy->certs = X509_chain_up_ref(chain->certs);
    if (copy->certs == NULL) {
        free(copy);
        return HSM_ERR_NOMEM;
    }
    *out = copy;
    return HSM_OK;
}

struct certs_chain *
certs_chain_hold(struct certs_chain *chain)
{
    (void)atomic_fetch_add_explicit(&chain->references, 1, memory_order_relaxed);
    return chain;
}

size_t
certs_chain_len(const struct certs_chain *chain)
{
    return (size_t)sk_X509_num(chain->certs);
}

X509 *
certs_chain_get(const struct certs_chain *chain, size_t i)
{
    return i < certs_chain_len(chain) ? sk_X509_value(chain->certs, (int)i) : NULL;
}

static enum hsm_status
add_der(struct certs_chain *chain, const uint8_t *der, size_t len, struct hsm_reason *why)
{
    DEFER(X509_free) X509 *cert = NULL;
    enum hsm_status st = certs_cert_parse_der(der, len, &cert, why);

    return st == HSM_OK ? certs_chain_add(chain, cert) : st;
}

static enum hsm_status
parse_pem(const char *pem, size_t len, size_t max, bool text_allowed, struct certs_chain **out,
          struct hsm_reason *why)
{
    DEFER(certs_chain_free) struct certs_chain *chain = NULL;
    struct certs_pem_scan scan = {.at = pem, .left = len};
    enum hsm_status st = certs_chain_new(&chain);

    while (st == HSM_OK) {
        uint8_t *der = NULL;
        size_t der_len = 0;

        st = certs_pem_next(&scan, "CERTIFICATE", text_allowed, &der, &der_len, why);
        if (st == HSM_OK && certs_chain_len(chain) == max)
            st = hsm_refuse(why, HSM_ERR_MALFORMED, "more than %zu certificates", max);
        if (st == HSM_OK)
            st = add_der(chain, der, der_len, why);
        free(der);
    }
    if (st != HSM_ERR_NOT_FOUND)
        return st;
    if (certs_chain_len(chain) == 0)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "no certificate");

    *out = chain;
    chain = NULL;
    return HSM_OK;
}

static enum hsm_status
parse_one_der(const uint8_t *der, size_t len, struct certs_chain **out, struct hsm_reason *why)
{
    DEFER(certs_chain_free) struct certs_chain *chain = NULL;
    enum hsm_status st = certs_chain_new(&chain);

    if (st == HSM_OK)
        st = add_der(chain, der, len, why);
    if (st != HSM_OK)
        return st;
    *out = chain;
    chain = NULL;
    return HSM_OK;
}

enum hsm_status
certs_chain_parse_pem(const char *pem, size_t len, size_t max, struct certs_chain **out,
                      struct hsm_reason *why)
{
    if (max <= CERTS_CHAIN_LEN_MAX && len > CERTS_CHAIN_OCTETS_MAX)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "more than %d octets of PEM",
                          CERTS_CHAIN_OCTETS_MAX);
    return parse_pem(pem, len, max, false, out, why);
}

enum hsm_status
certs_chain_read(const char *path, struct certs_chain **out)
{
    struct hsm_reason why = {0};
    uint8_t *octets = NULL;
    size_t len = 0;
    enum hsm_status st = hsm_file_read(path, CHAIN_FILE_MAX, &octets, &len);

    if (st != HSM_OK)
        return st;
    if (certs_der_is_one_sequence(octets, len))
        st = parse_one_der(octets, len, out, &why);
    else
        st = parse_pem((const char *)octets, len, CERTS_ANCHORS_MAX, true, out, &why);
    if (st != HSM_OK)
        hsm_log(HSM_LOG_ERROR, "%s: %s", path,
                why.text[0] != '\0' ? why.text : hsm_status_text(st));
    free(octets);
    return st;
}

enum hsm_status
certs_chain_pem(const struct certs_chain *chain, char **out)
{
    size_t total = 0;
    char *text = strdup("");

    for (size_t i = 0; text != NULL && i < certs_chain_len(chain); i++) {
        char *pem = NULL;
        char *grown = NULL;

        if (certs_cert_pem(certs_chain_get(chain, i), &pem) == HSM_OK)
            grown = realloc(text, total + strlen(pem) + 1);
        if (grown == NULL) {
            free(text);
            free(pem);
            return HSM_ERR_NOMEM;
        }
        text = grown;
        memcpy(text + total, pem, strlen(pem) + 1);
        total += strlen(pem);
        free(pem);
    }
    if (text == NULL)
        return HSM_ERR_NOMEM;
    *out = text;
    return HSM_OK;
}

enum hsm_status
certs_chain_write(const struct certs_chain *chain, const char *path)
{
    char *pem = NULL;
    enum hsm_status st = certs_chain_pem(chain, &pem);

    if (st == HSM_OK)
        st = hsm_file_write(path, pem, strlen(pem), 0644);
    free(pem);
    return st;
}

bool
certs_chain_is_in_order(const struct certs_chain *chain)
{
    for (size_t i = 1; i < certs_chain_len(chain); i++) {
        if (X509_check_issued(certs_chain_get(chain, i), certs_chain_get(chain, i - 1)) !=
            X509_V_OK)
            return false;
    }
    return true;
}

time_t
certs_chain_not_after(const struct certs_chain *chain)
{
    time_t earliest = 0;

    for (size_t i = 0; i < certs_chain_len(chain); i++) {
        time_t not_after = certs_cert_not_after(certs_chain_get(chain, i));

        if (i == 0 || not_after < earliest)
            earliest = not_after;
    }
    return earliest;
}

time_t
certs_chain_latest_start(const struct certs_chain *chain)
{
    return chain->latest_start;
}

time_t
certs_chain_next_start(const struct certs_chain *chain, time_t now)
{
    time_t earliest = 0;

    if (chain->latest_start <= now)
        return 0;
    for (size_t i = 0; i < certs_chain_len(chain); i++) {
        time_t start = certs_cert_not_before(certs_chain_get(chain, i));

        if (start > now && (earliest == 0 || start < earliest))
            earliest = start;
    }
    return earliest;
}

const uint8_t *
certs_chain_digest(const struct certs_chain *chain)
{
    return chain->digest;
}

void
certs_chain_free(struct certs_chain *chain)
{
    if (chain == NULL ||
        atomic_fetch_sub_explicit(&chain->references, 1, memory_order_acq_rel) != 1)
        return;
    sk_X509_pop_free(chain->certs, X509_free);
    free(chain);
}
