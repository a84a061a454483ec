/*
 * ms_api_verification_internal.h - the verificationRequest and its response.
 *
 *   ATIS-1000082          from, identity, time, to; identity may be an array of header values
 *   3GPP TS 24.229        from, identityHeader and/or identityHeaders, time, to; optionally dest
 *                         (the Request-URI) and protectedHeaders
 *   some callers          orig, dest, iat instead of from, to, time, in either dialect
 *
 * The member mky is an extension of ours: the fingerprints of the call's SDP in the form of RFC
 * 8225 section 5.2.2.
 */
#ifndef SKS_MS_API_VERIFICATION_INTERNAL_H
#define SKS_MS_API_VERIFICATION_INTERNAL_H

#include <hsm/defer.h>
#include <sks/verify.h>

#include "ms_api_internal.h"

struct ms_verification {
    json_t *json; /* owned; the texts below point into it */
    enum ms_dialect dialect;
    bool has_list; /* it may have more than the one shaken PASSporT */
    struct sks_call call; /* points into the members below: do not copy the struct */
    /* Only the counted entries are initialised; clearing all would cost time in each call. */
    struct ms_identities from, to, target;
    const char *identities[SKS_IDENTITIES_MAX];
    const char *r_values[SKS_PRIORITIES_MAX];
    char r_value_text[SKS_PRIORITIES_MAX][SKS_R_VALUE_MAX + 1];
    char priority[SKS_R_VALUE_MAX + 1];
};

/**
 * Parse and check a verificationRequest (cases E1 and E2); false: *fault says why, and *out needs
 * no clearing.
 *
 * @param plan  of numbers without "+", borrowed as long as *out; NULL: none
 */
bool sks_ms_verification_parse(const char *body, size_t len, const struct sks_dial_plan *plan,
                               struct ms_verification *out, struct ms_fault *fault);
void sks_ms_verification_clear(struct ms_verification *verification);
DEFINE_DEFER(struct ms_verification, sks_ms_verification_clear)

/** {"verificationResponse":{..}} in the dialect of the request, with reasons only if there are any.
 *  NULL: out of memory. */
json_t *sks_ms_verification_response(const struct ms_verification *verification,
                                     const struct sks_judgements *judgements);

#endif
