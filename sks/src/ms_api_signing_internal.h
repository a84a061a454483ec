/*
 * ms_api_signing_internal.h - the signingRequest.
 */
#ifndef SKS_MS_API_SIGNING_INTERNAL_H
#define SKS_MS_API_SIGNING_INTERNAL_H

#include "ms_api_internal.h"

struct ms_signing {
    json_t *json; /* owned; the texts are in it */
    struct ms_identities orig, dest;
    struct sks_claims claims;
};

/** Parse and check a signingRequest; false: *fault says why, and *out needs no clearing. */
bool ms_signing_parse(const char *body, size_t len, struct ms_signing *out, struct ms_fault *fault);
void ms_signing_clear(struct ms_signing *signing);

#endif
