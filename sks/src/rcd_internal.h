/*
 * rcd_internal.h - rich call data (RFC 9795): what may be signed of it.
 */
#ifndef SKS_RCD_INTERNAL_H
#define SKS_RCD_INTERNAL_H

#include <stdbool.h>

#include <jansson.h>

#include <hsm/status.h>
#include <sks/refusal.h>

/**
 * The claims rcd (section 5.1): nam, and apn, icn, jcd or jcl; and rcdi (section 6.1): digests of
 * what the JSON pointers name in rcd. Those of values that are in the claim are recomputed; those
 * of what a URI refers to are taken from the caller, but each such URI must have one.
 *
 * @param rcd, rcdi  NULL: it is not there
 */
HSM_MUST_CHECK enum hsm_status sks_rcd_check(const json_t *rcd, const json_t *rcdi,
                                             struct sks_refusal *refusal);

/** One of the digests is of what a URI refers to: who fetches it compares. Both passed the checks.
 */
bool sks_rcdi_has_content(const json_t *rcdi, const json_t *rcd);

#endif
