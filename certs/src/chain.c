/* chain.c - a sequence of certificates, and the path from a leaf to an anchor. */

#include <certs/chain.h>

#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/x509_vfy.h>

#include <certs/cert.h>
#include <hsm/log.h>
#include <hsm/process.h>

#include "x509_internal.h"

#define CHAIN_FILE_MAX   16777216 /* octets of a file of our own configuration */
#define CHAIN_AUTH_LEVEL 2 /* 112 bits: no SHA-1 signatures, no RSA below 2048 bits */

struct certs_chain {
    STACK_OF(X509) * certs; /* owned, each with a reference */
};

DEFINE_DEFER(X509_STORE, X509_STORE_free)
DEFINE_DEFER(X509_STORE_CTX, X509_STORE_CTX_free)
DEFINE_DEFER(struct certs_chain, certs_chain_free)

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
    *out = chain;
    return HSM_OK;
}

enum hsm_status
certs_chain_add(struct certs_chain *chain, X509 *cert)
{
    if (X509_add_cert(chain->certs, cert, X509_ADD_FLAG_UP_REF) != 1)
        return HSM_ERR_NOMEM;
    /* OpenSSL decodes extensions when it is first asked: now, before threads share them. */
    if ((X509_get_extension_flags(cert) & EXFLAG_INVALID) != 0)
        ERR_clear_error(); /* certs_chain_verify() says so */
    return HSM_OK;
}

enum hsm_status
certs_chain_append(struct certs_chain *chain, const struct certs_chain *other)
{
    if (X509_add_certs(chain->certs, other->certs, X509_ADD_FLAG_UP_REF) != 1)
        return HSM_ERR_NOMEM;
    return HSM_OK;
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
    if (der_is_one_sequence(octets, len))
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

/* "CN=...: certificate has expired": one reason, and which certificate it is about. */
static enum hsm_status
refuse_cert(struct hsm_reason *why, const X509 *cert, const char *reason)
{
    char *subject = cert == NULL ? NULL : certs_cert_subject(cert);

    (void)hsm_refuse(why, HSM_ERR_UNTRUSTED, "certificate \"%.160s\": %s",
                     subject == NULL ? "?" : subject, reason);
    free(subject);
    return HSM_ERR_UNTRUSTED;
}

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
store_new(const struct certs_chain *anchors, X509_STORE **out)
{
    X509_STORE *store = X509_STORE_new();

    if (store == NULL)
        return HSM_ERR_NOMEM;
    for (size_t i = 0; i < certs_chain_len(anchors); i++) {
        if (X509_STORE_add_cert(store, certs_chain_get(anchors, i)) != 1) {
            X509_STORE_free(store);
            return certs_openssl_failed("trust anchors");
        }
    }
    *out = store;
    return HSM_OK;
}

/*
 * What RFC 5280 asks of every certificate of the path and OpenSSL, without its
 * strict mode (which refuses CAs that are in use), does not: no extension twice
 * or broken, and an intermediate says CA in its basicConstraints.
 */
static enum hsm_status
check_path(const STACK_OF(X509) * path, struct hsm_reason *why)
{
    int last = sk_X509_num(path) - 1;

    for (int i = 0; i < last; i++) { /* the last is the anchor: trusted as it is */
        X509 *cert = sk_X509_value(path, i);
        struct hsm_reason twice = {0};

        if (certs_exts_unique(X509_get0_extensions(cert), "extensions", &twice) != HSM_OK)
            return refuse_cert(why, cert, twice.text);
        if ((X509_get_extension_flags(cert) & EXFLAG_INVALID) != 0)
            return refuse_cert(why, cert, "an extension is malformed");
        if (i > 0 && X509_check_ca(cert) != 1)
            return refuse_cert(why, cert, "not a CA by its basicConstraints");
    }
    return HSM_OK;
}

static enum hsm_status
check_tnauthlist(const X509 *leaf, struct hsm_reason *why)
{
    struct certs_tnauthlist *list = NULL;
    struct hsm_reason broken = {0};
    enum hsm_status st = certs_cert_tnauthlist(leaf, &list, &broken);

    certs_tnauthlist_free(list);
    if (st == HSM_ERR_NOMEM)
        return st;
    return st == HSM_OK ? HSM_OK : refuse_cert(why, leaf, broken.text);
}

static enum hsm_status
check_leaf(X509 *leaf, enum certs_purpose purpose, struct hsm_reason *why)
{
    uint32_t usage = X509_get_key_usage(leaf); /* all bits when the extension is absent */
    bool signs_crls = purpose == CERTS_FOR_CRL;

    if (X509_check_ca(leaf) != 0)
        return refuse_cert(why, leaf, "a CA, not an end entity");
    if ((X509_get_extension_flags(leaf) & EXFLAG_KUSAGE) == 0)
        return refuse_cert(why, leaf, "no key usage");
    if (!signs_crls && (usage & KU_DIGITAL_SIGNATURE) == 0)
        return refuse_cert(why, leaf, "key usage lacks digitalSignature");
    if (signs_crls && (usage & KU_CRL_SIGN) == 0)
        return refuse_cert(why, leaf, "key usage lacks cRLSign");
    if (!certs_is_p256(certs_cert_public(leaf)))
        return refuse_cert(why, leaf, "its key is not on P-256");
    return purpose == CERTS_FOR_STI ? check_tnauthlist(leaf, why) : HSM_OK;
}

static enum hsm_status
check_built(X509_STORE_CTX *ctx, X509 *leaf, enum certs_purpose purpose, struct hsm_reason *why)
{
    const STACK_OF(X509) *path = X509_STORE_CTX_get0_chain(ctx);
    enum hsm_status st;

    if (sk_X509_num(path) < 2) /* a leaf that is an anchor was not issued by anyone */
        return refuse_cert(why, leaf, "an anchor, not a certificate issued under one");
    st = check_path(path, why);
    return st == HSM_OK ? check_leaf(leaf, purpose, why) : st;
}

static enum hsm_status
ctx_new(X509_STORE *store, const struct certs_chain *chain, time_t now, X509_STORE_CTX **out)
{
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    X509_VERIFY_PARAM *param;

    if (ctx == NULL)
        return HSM_ERR_NOMEM;
    if (X509_STORE_CTX_init(ctx, store, certs_chain_get(chain, 0), chain->certs) != 1) {
        X509_STORE_CTX_free(ctx);
        return certs_openssl_failed("path validation");
    }
    param = X509_STORE_CTX_get0_param(ctx);
    X509_VERIFY_PARAM_set_time(param, now);
    X509_VERIFY_PARAM_set_depth(param, CERTS_CHAIN_LEN_MAX);
    X509_VERIFY_PARAM_set_auth_level(param, CHAIN_AUTH_LEVEL);
    X509_STORE_CTX_set_verify_cb(ctx, last_second_is_valid);
    *out = ctx;
    return HSM_OK;
}

enum hsm_status
certs_chain_verify(const struct certs_chain *chain, const struct certs_chain *anchors,
                   enum certs_purpose purpose, time_t now, struct hsm_reason *why)
{
    DEFER(X509_STORE_free) X509_STORE *store = NULL;
    DEFER(X509_STORE_CTX_free) X509_STORE_CTX *ctx = NULL;
    X509 *leaf = certs_chain_get(chain, 0);
    enum hsm_status st;

    if (leaf == NULL)
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "no certificate");
    st = store_new(anchors, &store);
    if (st == HSM_OK)
        st = ctx_new(store, chain, now, &ctx);
    if (st != HSM_OK)
        return st;

    if (X509_verify_cert(ctx) == 1) {
        st = check_built(ctx, leaf, purpose, why);
    } else {
        int error = X509_STORE_CTX_get_error(ctx);
        const X509 *cert = X509_STORE_CTX_get_current_cert(ctx);

        st = error == X509_V_ERR_OUT_OF_MEM ? HSM_ERR_NOMEM
                                            : refuse_cert(why, cert == NULL ? leaf : cert,
                                                          X509_verify_cert_error_string(error));
    }
    ERR_clear_error();
    return st;
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

void
certs_chain_free(struct certs_chain *chain)
{
    if (chain == NULL)
        return;
    sk_X509_pop_free(chain->certs, X509_free);
    free(chain);
}
