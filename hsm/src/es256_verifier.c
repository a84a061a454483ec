/* es256_verifier.c - a public key that is ready to verify. */
#include <hsm/es256.h>

#include <stdlib.h>

#include <openssl/err.h>
#include <openssl/evp.h>

#include <hsm/defer.h>

#include "defer_internal.h"
#include "es256_internal.h"

/* OpenSSL looks for its implementation at the start of each verification; copying a started context
 * costs a twentieth of that. */
struct hsm_es256_verifier {
    EVP_PKEY_CTX *begun; /* read only: threads make copies of it */
};

enum hsm_status
hsm_es256_verifier_new(EVP_PKEY *public_key, struct hsm_es256_verifier **out)
{
    DEFER(hsm_es256_verifier_free) struct hsm_es256_verifier *verifier = NULL;

    if (!hsm_es256_is_p256(public_key))
        return HSM_ERR_UNSUPPORTED;
    verifier = calloc(1, sizeof(*verifier));
    if (verifier == NULL)
        return HSM_ERR_NOMEM;
    verifier->begun = EVP_PKEY_CTX_new(public_key, NULL);
    if (verifier->begun == NULL || EVP_PKEY_verify_init(verifier->begun) != 1) {
        ERR_clear_error();
        return HSM_ERR_CRYPTO;
    }
    *out = verifier;
    verifier = NULL;
    return HSM_OK;
}

enum hsm_status
hsm_es256_verifier_verify_digest(const struct hsm_es256_verifier *verifier, const uint8_t *digest,
                                 const uint8_t *sig)
{
    DEFER(EVP_PKEY_CTX_free) EVP_PKEY_CTX *ctx = NULL;
    uint8_t der[HSM_P256_DER_SIG_MAX];
    size_t der_len;

    if (hsm_es256_to_der(sig, der, &der_len) != HSM_OK)
        return HSM_ERR_UNTRUSTED;
    ctx = EVP_PKEY_CTX_dup(verifier->begun);
    if (ctx == NULL)
        return HSM_ERR_NOMEM;
    if (EVP_PKEY_verify(ctx, der, der_len, digest, HSM_SHA256_LEN) == 1)
        return HSM_OK;
    ERR_clear_error();
    return HSM_ERR_UNTRUSTED;
}

enum hsm_status
hsm_es256_verifier_verify(const struct hsm_es256_verifier *verifier, const void *message,
                          size_t len, const uint8_t *sig, size_t sig_len)
{
    uint8_t digest[HSM_SHA256_LEN];
    enum hsm_status st;

    if (sig_len != HSM_P256_SIG_LEN)
        return HSM_ERR_MALFORMED;
    st = hsm_sha256(message, len, digest);
    return st == HSM_OK ? hsm_es256_verifier_verify_digest(verifier, digest, sig) : st;
}

void
hsm_es256_verifier_free(struct hsm_es256_verifier *verifier)
{
    if (verifier == NULL)
        return;
    EVP_PKEY_CTX_free(verifier->begun);
    free(verifier);
}
