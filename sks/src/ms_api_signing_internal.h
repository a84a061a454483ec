/*
 * ms_api_signing_internal.h - the signingRequest and its response, in both dialects.
 *
 * A request is one of 3GPP TS 24.229 Annex V if it has a member that ATIS-1000082 does not define:
 * ppt, div, rph, sph, profileId, requestId or identityHeaders. The claims of RFC 9795 and mky are
 * accepted in both.
 */
#ifndef SKS_MS_API_SIGNING_INTERNAL_H
#define SKS_MS_API_SIGNING_INTERNAL_H

#include "mky_internal.h"
#include "ms_api_internal.h"

#define MS_HEADERS_MAX 8 /* Identity headers that a call already has */
#define MS_NAME_MAX    64 /* characters of profileId and requestId */

struct ms_signing {
    json_t *json; /* owned; the texts point into it */
    enum ms_dialect dialect;
    const char *request_id, *profile_id; /* NULL: not given */
    size_t header_count;
    struct sks_claims claims; /* point into the members below; see sks_ms_signing_check() */
    /* Of the members below only counted elements are set; clearing the rest for each call would
     * cost time. */
    struct ms_identities orig, dest, div;
    const char *headers[MS_HEADERS_MAX]; /* Identity headers of the diverted call */
    const char *rph[SKS_RPH_MAX];
    struct sks_mky_set mky;
};

/**
 * Parse a signingRequest; false: *fault has the reason, and *out needs no clearing.
 *
 * @param plan  for numbers without "+"; NULL: none
 */
bool sks_ms_signing_parse(const char *body, size_t len, const struct sks_dial_plan *plan,
                          struct ms_signing *out, struct ms_fault *fault);

/**
 * Whether the claims may be signed (sks_claims_check()).
 *
 * @param origid  for a shaken PASSporT whose request has none, as 3GPP allows; NULL: none
 */
bool sks_ms_signing_check(struct ms_signing *signing, const char *origid, struct ms_fault *fault);

/** Whether a div PASSporT that passed sks_ms_signing_check() continues the PASSporTs in the
 *  Identity headers of the request; true if there are none. This is more work than all other checks
 *  together. */
bool sks_ms_signing_check_headers(const struct ms_signing *signing, struct ms_fault *fault);

/** The text {"signingResponse":{..}}, of *len octets; free() it. NULL: no memory. */
char *sks_ms_signing_response(const struct ms_signing *signing, const char *identity, size_t *len);

void sks_ms_signing_clear(struct ms_signing *signing);

#endif
