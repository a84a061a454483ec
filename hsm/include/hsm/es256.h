/*
 * es256.h - ECDSA P-256 with SHA-256 without a token: check and convert.
 */
#ifndef HSM_ES256_H
#define HSM_ES256_H

#include <stddef.h>
#include <stdint.h>

#include <openssl/types.h>

#include <hsm/defer.h>
#include <hsm/key.h>
#include <hsm/status.h>

#define HSM_P256_DER_SIG_MAX 72 /* octets */

/**
 * Verify R || S over SHA-256 of a message.
 *
 * @param sig_len  anything but HSM_P256_SIG_LEN is malformed
 * @retval HSM_ERR_UNTRUSTED    the signature does not verify (R or S of 0 or >= n included)
 * @retval HSM_ERR_UNSUPPORTED  the key is not on P-256
 */
HSM_MUST_CHECK enum hsm_status hsm_es256_verify(EVP_PKEY *public_key, const void *message,
                                                size_t len, const uint8_t *sig, size_t sig_len);

/** A P-256 public key made ready for many verifications. Threads may share one. */
struct hsm_es256_verifier;

/** @retval HSM_ERR_UNSUPPORTED  the key is not on P-256 */
HSM_MUST_CHECK enum hsm_status hsm_es256_verifier_new(EVP_PKEY *public_key,
                                                      struct hsm_es256_verifier **out);

/** hsm_es256_verify() with a prepared key. */
HSM_MUST_CHECK enum hsm_status hsm_es256_verifier_verify(const struct hsm_es256_verifier *verifier,
                                                         const void *message, size_t len,
                                                         const uint8_t *sig, size_t sig_len);
void hsm_es256_verifier_free(struct hsm_es256_verifier *verifier);
DEFINE_DEFER(struct hsm_es256_verifier, hsm_es256_verifier_free)

/** Convert R || S to the DER ECDSA-Sig-Value of RFC 3279 section 2.2.3; `der` has room for
 *  HSM_P256_DER_SIG_MAX octets. */
HSM_MUST_CHECK enum hsm_status hsm_es256_to_der(const uint8_t *sig, uint8_t *der, size_t *der_len);

/** The strict inverse of hsm_es256_to_der(): anything but one minimal DER value with R and S in
 *  1..n-1 is malformed. */
HSM_MUST_CHECK enum hsm_status hsm_es256_from_der(const uint8_t *der, size_t der_len, uint8_t *sig);

/** Make a P-256 public key from 04 || X || Y; a point off the curve is malformed. */
HSM_MUST_CHECK enum hsm_status hsm_p256_from_point(const uint8_t *point, size_t len,
                                                   EVP_PKEY **out);

/**
 * Make a P-256 public key from a DER SubjectPublicKeyInfo (RFC 5480 section 2).
 *
 * @retval HSM_ERR_UNSUPPORTED  not an uncompressed P-256 key with a named curve
 * @retval HSM_ERR_MALFORMED    the point is not on the curve
 */
HSM_MUST_CHECK enum hsm_status hsm_p256_from_spki(const uint8_t *spki, size_t len, EVP_PKEY **out);

/** 04 || X || Y of a P-256 public key; HSM_ERR_UNSUPPORTED for any other. */
HSM_MUST_CHECK enum hsm_status hsm_p256_point(EVP_PKEY *public_key, uint8_t *point);

#endif
