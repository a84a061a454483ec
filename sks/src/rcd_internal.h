/*
 * rcd_internal.h - rich call data (RFC 9795): what may be signed of it.
 */
#ifndef SKS_RCD_INTERNAL_H
#define SKS_RCD_INTERNAL_H

#include <stdbool.h>

#include <jansson.h>

#include <hsm/status.h>

/** The rcd claim (section 5.1): nam, and apn, icn, jcd or jcl. The reason begins with "rcd: ". */
HSM_MUST_CHECK enum hsm_status sks_rcd_check(const json_t *rcd, struct hsm_reason *why);

/**
 * The rcdi claim (section 6.1): digests of what the JSON pointers name in `rcd`, which passed
 * sks_rcd_check(). Those of values that are in the claim are recomputed; those of what a URI
 * refers to are taken from the caller, but each such URI must have one. The reason begins with
 * "rcdi: ".
 */
HSM_MUST_CHECK enum hsm_status sks_rcdi_check(const json_t *rcdi, const json_t *rcd,
                                              struct hsm_reason *why);

/** One of the digests is of what a URI refers to: who fetches it compares. Both passed the checks.
 */
bool sks_rcdi_has_content(const json_t *rcdi, const json_t *rcd);

#endif
