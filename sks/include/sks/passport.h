/*
 * passport.h - PASSporTs (RFC 8225) of the SHAKEN type (RFC 8588).
 */
#ifndef SKS_PASSPORT_H
#define SKS_PASSPORT_H

#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include <hsm/key.h>
#include <hsm/status.h>

#define SKS_PASSPORT_HEADER_MAX  2048 /* octets, decoded */
#define SKS_PASSPORT_PAYLOAD_MAX 8192 /* octets, decoded */
#define SKS_PASSPORT_X5U_MAX     512 /* characters */
#define SKS_DEST_MAX             32 /* destinations of one PASSporT */
#define SKS_FRESHNESS_S          60 /* RFC 8224 section 4.1 */

/** The claims of a shaken PASSporT; texts are borrowed. */
struct sks_claims {
    char attest; /* 'A', 'B', 'C' */
    const char *orig_tn; /* canonical; or NULL */
    const char *orig_uri; /* when orig_tn is NULL */
    const char *const *dest_tn;
    size_t dest_tn_count;
    const char *const *dest_uri;
    size_t dest_uri_count;
    int64_t iat; /* seconds since 1970 UTC */
    const char *origid; /* a UUID in text form (RFC 4122 section 3) */
};

/** Attest, numbers, iat, origid are what RFC 8588 and RFC 8225 allow; the reason names the claim.
 */
HSM_MUST_CHECK enum hsm_status sks_claims_check(const struct sks_claims *claims,
                                                struct hsm_reason *why);

/**
 * Make and sign the full form, canonical as RFC 8225 section 9 wants; free() it.
 *
 * @param claims  passed sks_claims_check()
 * @retval HSM_ERR_MALFORMED  x5u is longer than SKS_PASSPORT_X5U_MAX
 * @retval HSM_ERR_BUSY       the token did not answer
 */
HSM_MUST_CHECK enum hsm_status sks_passport_new(const struct sks_claims *claims, const char *x5u,
                                                struct hsm_key *key, char **out);

/** Header and payload of a full form PASSporT, decoded, for a person; the caller decrefs both.
 *  Nothing is checked but that they are JSON objects within the bounds above. */
HSM_MUST_CHECK enum hsm_status sks_passport_decode(const char *passport, json_t **header,
                                                   json_t **payload, struct hsm_reason *why);

#endif
