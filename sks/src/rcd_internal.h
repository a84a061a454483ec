/*
 * rcd_internal.h - checks of rich call data (RFC 9795).
 */
#ifndef SKS_RCD_INTERNAL_H
#define SKS_RCD_INTERNAL_H

#include <stdbool.h>

#include <jansson.h>

#include <hsm/status.h>
#include <sks/refusal.h>

/**
 * Check the claim rcd (section 5.1): nam, and apn, icn, jcd or jcl; and the claim rcdi (section
 * 6.1): digests of the values that its JSON pointers name in rcd. The digests of values in the
 * claim are recomputed; those of what a URI refers to are not, but each such URI must have one.
 *
 * @param rcd, rcdi  NULL: absent
 */
HSM_MUST_CHECK enum hsm_status sks_rcd_check(const json_t *rcd, const json_t *rcdi,
                                             struct sks_refusal *refusal);

/** True if a digest covers what a URI refers to: the code that fetches it has to compare them. Both
 *  claims passed sks_rcd_check(). */
bool sks_rcdi_has_content(const json_t *rcdi, const json_t *rcd);

#endif
