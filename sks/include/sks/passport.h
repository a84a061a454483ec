/*
 * passport.h - PASSporTs (RFC 8225), SHAKEN (RFC 8588) and the others of claims.h.
 */
#ifndef SKS_PASSPORT_H
#define SKS_PASSPORT_H

#include <jansson.h>

#include <hsm/key.h>
#include <hsm/status.h>
#include <sks/claims.h>

#define SKS_PASSPORT_HEADER_MAX 2048 /* octets, decoded */
#define SKS_PASSPORT_X5U_MAX    512 /* characters */
#define SKS_FRESHNESS_S         60 /* RFC 8224 section 4.1 */

/**
 * Make and sign the full form, canonical as RFC 8225 section 9 requires; free() it.
 *
 * @param claims  passed sks_claims_check()
 * @retval HSM_ERR_MALFORMED  x5u is longer than SKS_PASSPORT_X5U_MAX or needs an escape in JSON, or
 *                            the payload is too long
 * @retval HSM_ERR_BUSY       the token did not answer
 */
HSM_MUST_CHECK enum hsm_status sks_passport_new(const struct sks_claims *claims, const char *x5u,
                                                struct hsm_key *key, char **out);

/** Decode header and payload of a full form PASSporT for display; the caller decrefs both. Checks
 *  only that they are JSON objects within the bounds above. */
HSM_MUST_CHECK enum hsm_status sks_passport_decode(const char *passport, json_t **header,
                                                   json_t **payload, struct hsm_reason *why);

#endif
