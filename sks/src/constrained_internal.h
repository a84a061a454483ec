/*
 * constrained_internal.h - whether a PASSporT keeps its certificate's claim constraints, as it is
 * signed and as it is verified.
 */
#ifndef SKS_CONSTRAINED_INTERNAL_H
#define SKS_CONSTRAINED_INTERNAL_H

#include <jansson.h>

#include <certs/constraints.h>
#include <hsm/status.h>

/**
 * RFC 8226 section 8, RFC 9118 section 3.
 *
 * @param constraints  NULL: there are none
 * @param payload      of the PASSporT, an object
 * @retval HSM_ERR_UNTRUSTED  it does not; the reason names the claim
 */
HSM_MUST_CHECK enum hsm_status sks_constrained_check(const struct certs_constraints *constraints,
                                                     const json_t *payload, struct hsm_reason *why);

#endif
