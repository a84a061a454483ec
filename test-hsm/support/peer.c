/* peer.c - keys of other parties. */
#include "peer.h"

#include <stdio.h>
#include <stdlib.h>

#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include "data.h"

static void
must(int good, const char *what)
{
    if (good)
        return;
    fprintf(stderr, "peer: %s\n", what);
    ERR_print_errors_fp(stderr);
    abort();
}

EVP_PKEY *
peer_key_from_pem(const char *data_name)
{
    FILE *file = fopen(data_path(data_name), "r");
    EVP_PKEY *key = NULL;

    must(file != NULL, data_name);
    key = PEM_read_PrivateKey(file, NULL, NULL, NULL);
    fclose(file);
    must(key != NULL, data_name);
    return key;
}

EVP_PKEY *
peer_key_new(const char *curve)
{
    EVP_PKEY *key = EVP_EC_gen(curve);

    must(key != NULL, curve);
    return key;
}

/* OpenSSL's conversion, so that tests do not check our code with itself. */
static void
der_to_raw(const uint8_t *der, size_t len, uint8_t *sig)
{
    ECDSA_SIG *rs = d2i_ECDSA_SIG(NULL, &der, (long)len);

    must(rs != NULL, "signature");
    must(BN_bn2binpad(ECDSA_SIG_get0_r(rs), sig, 32) == 32, "R");
    must(BN_bn2binpad(ECDSA_SIG_get0_s(rs), sig + 32, 32) == 32, "S");
    ECDSA_SIG_free(rs);
}

void
peer_sign_es256(EVP_PKEY *key, const void *message, size_t len, uint8_t *sig)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    uint8_t der[160];
    size_t der_len = sizeof(der);

    must(ctx != NULL && EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, key) == 1, "sign");
    must(EVP_DigestSign(ctx, der, &der_len, message, len) == 1, "sign");
    EVP_MD_CTX_free(ctx);
    der_to_raw(der, der_len, sig);
}
