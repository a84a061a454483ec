/*
 * ms_api_verification_internal.h - the verificationRequest and its answer.
 */
#ifndef SKS_MS_API_VERIFICATION_INTERNAL_H
#define SKS_MS_API_VERIFICATION_INTERNAL_H

#include <sks/verify.h>

#include "ms_api_internal.h"

struct ms_verification {
    json_t *json; /* owned; the texts are in it */
    struct ms_identities from, to;
    struct sks_call call;
};

/** Parse and check a verificationRequest (cases E1 and E2); false: *fault says why, and *out needs
 *  no clearing. */
bool ms_verification_parse(const char *body, size_t len, struct ms_verification *out,
                           struct ms_fault *fault);
void ms_verification_clear(struct ms_verification *verification);

/** {"verificationResponse":{..}}; the reasons are there only when there is one. NULL: no memory. */
json_t *ms_verification_response(const struct sks_verification *verification);

#endif
