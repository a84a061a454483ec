/*
 * es256_internal.h - ES256 over an existing digest.
 */
#ifndef HSM_ES256_INTERNAL_H
#define HSM_ES256_INTERNAL_H

#include <stdbool.h>

#include <hsm/es256.h>

bool hsm_es256_is_p256(EVP_PKEY *key);

/** R and S of R || S are in 1..n-1. */
bool hsm_es256_in_range(const uint8_t *sig);

/** As hsm_es256_verifier_verify(), over HSM_SHA256_LEN octets of digest. */
HSM_MUST_CHECK enum hsm_status
hsm_es256_verifier_verify_digest(const struct hsm_es256_verifier *verifier, const uint8_t *digest,
                                 const uint8_t *sig);

/** SHA-256, fetched once. */
HSM_MUST_CHECK enum hsm_status hsm_sha256(const void *message, size_t len, uint8_t *digest);

#endif
