/*
 * passport_internal.h - a PASSporT, made of its parts or taken apart step by step.
 *
 * Header, payload and signature of a received PASSporT are decoded separately, on demand, because
 * ATIS-1000082 has a different error case for a fault in each.
 */
#ifndef SKS_PASSPORT_INTERNAL_H
#define SKS_PASSPORT_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include <hsm/es256.h>
#include <hsm/key.h>
#include <hsm/status.h>
#include <sks/claims.h>

/**
 * The text that all PASSporTs of one type and certificate begin with: the encoded header and its
 * dot; free() it.
 *
 * @retval HSM_ERR_MALFORMED  x5u is longer than SKS_PASSPORT_X5U_MAX, or needs an escape in JSON
 */
HSM_MUST_CHECK enum hsm_status sks_passport_begin(enum sks_ppt ppt, const char *x5u, char **out);

/**
 * Make and sign a PASSporT, followed by the text `after`; free() it.
 *
 * @param begin   from sks_passport_begin() for the type of the claims
 * @param claims  passed sks_claims_check()
 */
HSM_MUST_CHECK enum hsm_status sks_passport_sign(const char *begin, const struct sks_claims *claims,
                                                 struct hsm_key *key, const char *after,
                                                 char **out);

/**
 * sks_passport_sign() in two steps, for callers that pick the key in between. The first makes the
 * text to be signed, with room for the rest; free() it. The second completes it in place with the
 * signature (HSM_P256_SIG_LEN octets).
 */
HSM_MUST_CHECK enum hsm_status sks_passport_unsigned(const char *begin,
                                                     const struct sks_claims *claims,
                                                     const char *after, char **text, size_t *len);
void sks_passport_complete(char *text, size_t len, const uint8_t *sig, const char *after);

/** The payload of claims that passed sks_claims_check(), as a verifier reads it; the caller
 * decrefs.
 */
HSM_MUST_CHECK enum hsm_status sks_claims_read(const struct sks_claims *claims, json_t **out);

/** The parts of a PASSporT in full form (RFC 8225 section 4) as received; borrowed, not
 *  NUL-terminated. */
struct sks_passport {
    const char *header, *payload, *signature;
    size_t header_len, payload_len, signature_len;
};

/** @retval HSM_ERR_MALFORMED  not three parts, or one of them empty (the compact form) */
HSM_MUST_CHECK enum hsm_status sks_passport_split(const char *text, struct sks_passport *out,
                                                  struct hsm_reason *why);

/**
 * True if the header is, octet for octet, the one that all PASSporTs of this type and certificate
 * have (RFC 8225 section 9): its contents are then known without decoding it.
 */
bool sks_passport_has_header(const struct sks_passport *passport, enum sks_ppt ppt,
                             const char *x5u);

/** Decoded; the caller decrefs. */
HSM_MUST_CHECK enum hsm_status sks_passport_header(const struct sks_passport *passport,
                                                   json_t **out, struct hsm_reason *why);
HSM_MUST_CHECK enum hsm_status sks_passport_payload(const struct sks_passport *passport,
                                                    json_t **out, struct hsm_reason *why);

/**
 * Verify the ES256 signature over the octets received (RFC 7515 section 5.2).
 *
 * @retval HSM_ERR_UNTRUSTED  the signature is not an ES256 signature with this key
 */
HSM_MUST_CHECK enum hsm_status sks_passport_verify(const struct sks_passport *passport,
                                                   const struct hsm_es256_verifier *verifier,
                                                   struct hsm_reason *why);

#endif
