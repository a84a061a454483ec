/*
 * diversion_internal.h - whether a div PASSporT continues those of the call (RFC 8946).
 */
#ifndef SKS_DIVERSION_INTERNAL_H
#define SKS_DIVERSION_INTERNAL_H

#include <stddef.h>

#include <hsm/status.h>
#include <sks/claims.h>

/**
 * Section 4.1: who diverts was a destination of an earlier PASSporT; that one goes back, from div
 * to div, to a PASSporT that is none; and all have the same originator. What they say is compared;
 * whether their signatures are good is for who verifies the call. The work is bounded, whatever the
 * headers say; it is still that of a call, for a caller's rate to limit.
 *
 * @param identities  Identity header field values of the call, in any order
 * @param div         the claims to be signed
 * @retval HSM_ERR_MALFORMED  a header is none in full form
 * @retval HSM_ERR_UNTRUSTED  it continues none of them
 */
HSM_MUST_CHECK enum hsm_status sks_diversion_check(const char *const *identities, size_t count,
                                                   const struct sks_claims *div,
                                                   struct sks_refusal *refusal);

#endif
