/*
 * claims.h - the claims of a PASSporT: of RFC 8225, of SHAKEN (RFC 8588), and of the extensions
 * div (RFC 8946), rph (RFC 8443, RFC 9027) and rcd (RFC 9795).
 *
 *     claim         shaken    div       rph       rcd       base
 *     dest iat orig yes       yes       yes       yes       yes
 *     attest origid yes       -         -         -         -
 *     div           -         yes       -         -         -
 *     rph           -         -         yes       -         -
 *     sph           -         -         may       -         -
 *     rcd crn       may       -         may       one       may
 *     rcdi          with rcd  -         with rcd  with rcd  with rcd
 *     mky           may       -         may       may       may
 */
#ifndef SKS_CLAIMS_H
#define SKS_CLAIMS_H

#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include <hsm/status.h>
#include <sks/refusal.h>

#define SKS_PASSPORT_PAYLOAD_MAX 8192 /* octets, decoded */
#define SKS_DEST_MAX             32 /* destinations of one PASSporT */
#define SKS_RPH_MAX              16 /* r-values of one PASSporT */
#define SKS_R_VALUE_MAX          64 /* characters of one (RFC 4412 section 3.1) */
#define SKS_MKY_MAX              16 /* media keys of one PASSporT */
#define SKS_MKY_DIG_MAX          128 /* characters of a fingerprint */
#define SKS_HI_MAX               64 /* characters of a History-Info index */
#define SKS_CRN_MAX              256 /* octets of a call reason */

/** The extension of a PASSporT. */
enum sks_ppt {
    SKS_PPT_SHAKEN,
    SKS_PPT_DIV,
    SKS_PPT_RPH,
    SKS_PPT_RCD,
    SKS_PPT_NONE, /* a base PASSporT (RFC 8225) */
    SKS_PPT_DIV_O, /* RFC 8946 section 5: out of band, verified only */
    SKS_PPT_UNKNOWN,
};

#define SKS_PPT_COUNT 5 /* the first five can be signed */

/** "shaken", "div", ...; "" for a base PASSporT, "?" for an unknown extension; static. */
const char *sks_ppt_text(enum sks_ppt ppt);

/**
 * The inverse of sks_ppt_text(), for extensions that can be signed here.
 *
 * @retval HSM_ERR_NOT_FOUND  any other text, "" included
 */
HSM_MUST_CHECK enum hsm_status sks_ppt_parse(const char *text, enum sks_ppt *out);

/** A fingerprint of SDP (RFC 8225 section 5.2.2). */
struct sks_mky {
    const char *alg; /* "sha-224", "sha-256", "sha-384" or "sha-512" */
    const char *dig; /* upper-case hex digits without colons */
};

/** The claims of one PASSporT; texts are borrowed, NULL and 0 stand for what is absent. */
struct sks_claims {
    enum sks_ppt ppt;
    char attest; /* 'A', 'B', 'C' */
    const char *orig_tn; /* canonical; or NULL */
    const char *orig_uri; /* when orig_tn is NULL */
    const char *const *dest_tn;
    size_t dest_tn_count;
    const char *const *dest_uri;
    size_t dest_uri_count;
    int64_t iat; /* seconds since 1970 UTC */
    const char *origid; /* a UUID in text form (RFC 4122 section 3) */
    const char *div_tn, *div_uri; /* who diverted the call: one of them */
    const char *div_hi; /* index of its History-Info header */
    const char *const *rph_auth; /* r-values, "ets.0" */
    size_t rph_count;
    const char *sph; /* "psap-callback" */
    const struct sks_mky *mky; /* sorted by alg, dig */
    size_t mky_count;
    const json_t *rcd, *rcdi; /* borrowed */
    const char *crn;
};

/**
 * Check that each claim is what its standard allows, and belongs to this kind of PASSporT.
 *
 * @retval HSM_ERR_MALFORMED  a claim is refused
 */
HSM_MUST_CHECK enum hsm_status sks_claims_check(const struct sks_claims *claims,
                                                struct sks_refusal *refusal);

/**
 * Write the payload, canonical as RFC 8225 section 9 requires.
 *
 * @param claims  passed sks_claims_check()
 * @param out     receives a text with its NUL
 * @retval HSM_ERR_MALFORMED  longer than SKS_PASSPORT_PAYLOAD_MAX
 */
HSM_MUST_CHECK enum hsm_status sks_claims_payload(const struct sks_claims *claims,
                                                  char out[SKS_PASSPORT_PAYLOAD_MAX + 1],
                                                  size_t *len);

#endif
