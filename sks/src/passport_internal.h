/*
 * passport_internal.h - a received PASSporT, taken apart step by step.
 *
 * Header, payload and signature are decoded when they are asked for, because a
 * fault in each of them is another case of ATIS-1000082.
 */
#ifndef SKS_PASSPORT_INTERNAL_H
#define SKS_PASSPORT_INTERNAL_H

#include <stddef.h>

#include <jansson.h>
#include <openssl/types.h>

#include <hsm/status.h>

/** The parts of a full form (RFC 8225 section 4) as received; borrowed, not NUL-terminated. */
struct sks_passport {
    const char *header, *payload, *signature;
    size_t header_len, payload_len, signature_len;
};

/** @retval HSM_ERR_MALFORMED  not three parts, or one of them empty (the compact form) */
HSM_MUST_CHECK enum hsm_status sks_passport_split(const char *text, struct sks_passport *out,
                                                  struct hsm_reason *why);

/** Decoded; the caller decrefs. */
HSM_MUST_CHECK enum hsm_status sks_passport_header(const struct sks_passport *passport,
                                                   json_t **out, struct hsm_reason *why);
HSM_MUST_CHECK enum hsm_status sks_passport_payload(const struct sks_passport *passport,
                                                    json_t **out, struct hsm_reason *why);

/**
 * ES256 over the octets received (RFC 7515 section 5.2).
 *
 * @retval HSM_ERR_UNTRUSTED    the signature is not the key's, or no ES256 signature at all
 * @retval HSM_ERR_UNSUPPORTED  the key is not on P-256
 */
HSM_MUST_CHECK enum hsm_status sks_passport_verify(const struct sks_passport *passport,
                                                   EVP_PKEY *public_key, struct hsm_reason *why);

#endif
