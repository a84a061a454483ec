/*
 * sign_internal.h - sks_signer_sign() in two steps, for code that chooses among signers.
 */
#ifndef SKS_SIGN_INTERNAL_H
#define SKS_SIGN_INTERNAL_H

#include <sks/sign.h>

#include <stdbool.h>

#include <hsm/metrics.h>

/**
 * The status of a signature that the token did not give. UNTRUSTED and UNSUPPORTED of a key
 * (hsm/key.h) are HSM_ERR_CRYPTO: from a signer they are refusals of the call by its certificate.
 */
enum hsm_status sks_signer_token_fault(enum hsm_status st);

/** True if the certificate covers that time. */
bool sks_signer_covers(const struct sks_signer *signer, int64_t when);

/** The metric series of a signer's signatures; NULL: not set yet. */
struct sks_signer_series {
    struct hsm_series *count, *seconds;
};

/** Get and set them; from any thread. */
struct sks_signer_series sks_signer_series(const struct sks_signer *signer);
void sks_signer_count_in(const struct sks_signer *signer, struct sks_signer_series series);

/**
 * Check as sks_signer_sign() does, and make the text to be signed; free() it.
 *
 * @param digest  receives the SHA-256 of the text, HSM_SHA256_LEN octets
 */
HSM_MUST_CHECK enum hsm_status
sks_signer_prepare(const struct sks_signer *signer, const struct sks_claims *claims, time_t now,
                   char **text, size_t *len, uint8_t *digest, struct hsm_reason *why);

/** Complete the text in place with its signature; it is then the Identity header field value. */
void sks_signer_complete(const struct sks_signer *signer, const struct sks_claims *claims,
                         char *text, size_t len, const uint8_t *sig);

#endif
