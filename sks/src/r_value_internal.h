/*
 * r_value_internal.h - the claims rph (RFC 8443) and sph (RFC 9027), and values of
 * Resource-Priority (RFC 4412 section 3.1).
 */
#ifndef SKS_R_VALUE_INTERNAL_H
#define SKS_R_VALUE_INTERNAL_H

#include <stddef.h>

#include <hsm/status.h>
#include <sks/refusal.h>

#define SKS_PSAP_CALLBACK "psap-callback" /* value of sph, and of Priority (RFC 7090) */

/**
 * Check that each r-value is namespace.priority (RFC 8443 section 3), and that sph is that of a
 * PSAP callback, with an r-value of the namespace esnet beside it (RFC 9027 section 4).
 *
 * @param auth  r-values; a NULL among them is malformed
 * @param sph   NULL: absent
 */
HSM_MUST_CHECK enum hsm_status sks_rph_check(const char *const *auth, size_t count, const char *sph,
                                             struct sks_refusal *refusal);

#endif
