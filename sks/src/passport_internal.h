/*
 * passport_internal.h - a PASSporT, made of its parts or taken apart step by step.
 *
 * What is received: header, payload and signature are decoded when they are asked for, because a
 * fault in each of them is another case of ATIS-1000082.
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
 * What all PASSporTs of one kind and certificate begin with: the header, encoded, and its dot;
 * free() it.
 *
 * @retval HSM_ERR_MALFORMED  x5u is longer than SKS_PASSPORT_X5U_MAX, or no URL
 */
HSM_MUST_CHECK enum hsm_status sks_passport_begin(enum sks_ppt ppt, const char *x5u, char **out);

/**
 * Make and sign one, with a text after it; free() it.
 *
 * @param begin   of sks_passport_begin() with the claims' kind
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

/** The parts of a full form (RFC 8225 section 4) as received; borrowed, not NUL-terminated. */
struct sks_passport {
    const char *header, *payload, *signature;
    size_t header_len, payload_len, signature_len;
};

/** @retval HSM_ERR_MALFORMED  not three parts, or one of them empty (the compact form) */
HSM_MUST_CHECK enum hsm_status sks_passport_split(const char *text, struct sks_passport *out,
                                                  struct hsm_reason *why);

/**
 * Whether its header is, octet for octet, the one that all PASSporTs of that type and certificate
 * have (RFC 8225 section 9): then it needs not be decoded to know what is in it.
 */
bool sks_passport_has_header(const struct sks_passport *passport, enum sks_ppt ppt,
                             const char *x5u);

/** Decoded; the caller decrefs. */
HSM_MUST_CHECK enum hsm_status sks_passport_header(const struct sks_passport *passport,
                                                   json_t **out, struct hsm_reason *why);
HSM_MUST_CHECK enum hsm_status sks_passport_payload(const struct sks_passport *passport,
                                                    json_t **out, struct hsm_reason *why);

/**
 * ES256 over the octets received (RFC 7515 section 5.2).
 *
 * @retval HSM_ERR_UNTRUSTED  the signature is not the key's, or no ES256 signature at all
 */
HSM_MUST_CHECK enum hsm_status sks_passport_verify(const struct sks_passport *passport,
                                                   const struct hsm_es256_verifier *verifier,
                                                   struct hsm_reason *why);

#endif
