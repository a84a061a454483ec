/*
 * peer_cert.h - certificates of other parties: read from test-hsm/data, or made here with OpenSSL
 * and keys in memory, where they may break rules on purpose.
 */
#ifndef TEST_PEER_CERT_H
#define TEST_PEER_CERT_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/x509v3.h>

#include <certs/cert.h>
#include <certs/chain.h>

#include "data.h"
#include "peer.h"

#define DATA_NOW ((time_t)1768478400) /* 2026-01-15T12:00:00Z: the clock of test-hsm/data/self */

static inline void
peer_must(bool good, const char *what)
{
    if (good)
        return;
    fprintf(stderr, "peer certificate: %s\n", what);
    abort();
}

/** test-hsm/data/NAME, with text between allowed; certs_chain_free() it. */
static inline struct certs_chain *
data_chain(const char *name)
{
    struct certs_chain *chain = NULL;

    peer_must(certs_chain_read(data_path(name), &chain) == HSM_OK, name);
    return chain;
}

/** The first certificate of test-hsm/data/NAME; X509_free() it. */
static inline X509 *
data_cert(const char *name)
{
    struct certs_chain *chain = data_chain(name);
    X509 *cert = certs_chain_get(chain, 0);

    peer_must(X509_up_ref(cert) == 1, name);
    certs_chain_free(chain);
    return cert;
}

/** An extension as the OpenSSL command line writes it; a NULL name ends a list. */
struct peer_ext {
    const char *oid;
    const char *value;
};

struct peer_spec {
    const char *cn;
    EVP_PKEY *key; /* the subject's */
    const X509 *issuer; /* NULL: self-signed */
    EVP_PKEY *issuer_key;
    time_t not_before, not_after; /* both 0: an hour around DATA_NOW */
    const struct peer_ext *exts;
    long serial;
    const EVP_MD *md; /* of the signature; NULL: SHA-256 */
};

static inline void
peer_add_ext(X509 *cert, const X509 *issuer, const struct peer_ext *ext)
{
    X509V3_CTX ctx;
    X509_EXTENSION *made;

    X509V3_set_ctx(&ctx, (X509 *)(issuer == NULL ? cert : issuer), cert, NULL, NULL, 0);
    X509V3_set_ctx_nodb(&ctx);
    made = X509V3_EXT_nconf(NULL, &ctx, ext->oid, ext->value);
    peer_must(made != NULL && X509_add_ext(cert, made, -1) == 1, ext->oid);
    X509_EXTENSION_free(made);
}

/** X509_free() it. */
static inline X509 *
peer_cert(const struct peer_spec *spec)
{
    X509 *cert = X509_new();
    X509_NAME *name = X509_NAME_new();
    bool timed = spec->not_before != 0 || spec->not_after != 0;

    peer_must(cert != NULL && name != NULL, "memory");
    peer_must(X509_NAME_add_entry_by_NID(name, NID_commonName, MBSTRING_UTF8,
                                         (const uint8_t *)spec->cn, -1, -1, 0) == 1,
              spec->cn);
    X509_set_version(cert, X509_VERSION_3);
    X509_set_subject_name(cert, name);
    X509_set_issuer_name(cert, spec->issuer == NULL ? name : X509_get_subject_name(spec->issuer));
    ASN1_INTEGER_set(X509_get_serialNumber(cert), spec->serial == 0 ? 4711 : spec->serial);
    ASN1_TIME_set(X509_getm_notBefore(cert), timed ? spec->not_before : DATA_NOW - 1800);
    ASN1_TIME_set(X509_getm_notAfter(cert), timed ? spec->not_after : DATA_NOW + 1800);
    X509_set_pubkey(cert, spec->key);
    for (const struct peer_ext *ext = spec->exts; ext != NULL && ext->oid != NULL; ext++)
        peer_add_ext(cert, spec->issuer, ext);
    peer_must(X509_sign(cert, spec->issuer_key == NULL ? spec->key : spec->issuer_key,
                        spec->md == NULL ? EVP_sha256() : spec->md) > 0,
              "X509_sign");
    X509_NAME_free(name);
    return cert;
}

/** Set the serial number ("-80": a negative one) and sign again. */
static inline void
peer_set_serial(X509 *cert, const char *hex, EVP_PKEY *issuer_key)
{
    BIGNUM *number = NULL;

    peer_must(BN_hex2bn(&number, hex) > 0 &&
                  BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert)) != NULL &&
                  X509_sign(cert, issuer_key, EVP_sha256()) > 0,
              hex);
    BN_free(number);
}

#define PEER_TNAUTHLIST_1234 "1.3.6.1.5.5.7.1.26", "DER:3008A006160431323334"

#endif
