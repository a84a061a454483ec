/*
 * diversion_internal.h - whether a div PASSporT continues those of the call (RFC 8946).
 */
#ifndef SKS_DIVERSION_INTERNAL_H
#define SKS_DIVERSION_INTERNAL_H

#include <stddef.h>

#include <hsm/status.h>
#include <sks/claims.h>

/**
 * Section 4.1: the diverting party was a destination of an earlier PASSporT; that one leads back,
 * from div to div, to a PASSporT that is not a div; and all have the same originator. Only claims
 * are compared; signatures are checked by the verifier of the call. The work is bounded whatever
 * the headers contain, but costs as much as a call, so the caller's rate must limit it.
 *
 * @param identities  Identity header field values of the call, in any order
 * @param div         the claims to be signed
 * @retval HSM_ERR_MALFORMED  a header is not a PASSporT in full form
 * @retval HSM_ERR_UNTRUSTED  the div does not continue any of them
 */
HSM_MUST_CHECK enum hsm_status sks_diversion_check(const char *const *identities, size_t count,
                                                   const struct sks_claims *div,
                                                   struct sks_refusal *refusal);

#endif
