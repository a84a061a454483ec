/*
 * ms_api_internal.h - the bodies of the signing and verification API (ATIS-1000082): requests in,
 * answers and errors out.
 */
#ifndef SKS_MS_API_INTERNAL_H
#define SKS_MS_API_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

#include <acme/http_server.h>
#include <hsm/status.h>
#include <sks/passport.h>
#include <sks/tn.h>
#include <sks/verify.h>

/* The API's errors; SVC is a fault of the request, POL one of policy or of this server. */
enum ms_error {
    MS_MISSING_BODY, /* SVC4000 */
    MS_MISSING_PARAMETER, /* SVC4001 */
    MS_NOT_ACCEPTABLE, /* SVC4002 */
    MS_NOT_FOUND, /* SVC4003 */
    MS_UNSUPPORTED_BODY, /* SVC4004 */
    MS_INVALID_PARAMETER, /* SVC4005 */
    MS_NOT_PARSED, /* SVC4006 */
    MS_MISSING_LENGTH, /* SVC4007 */
    MS_NOT_AUTHENTICATED, /* POL4010: not in ATIS-1000082, which leaves the callers to policy */
    MS_METHOD_NOT_ALLOWED, /* POL4050 */
    MS_INTERNAL, /* POL5000 */
    MS_NOT_POSSIBLE_NOW, /* POL5030: not in ATIS-1000082 either */
};

/** Why a request was refused; the variables stand for %1 and %2 of the error's text. */
struct ms_fault {
    enum ms_error error;
    struct hsm_reason variables[2]; /* "" when not used */
};

int ms_fault_status(const struct ms_fault *fault);
void ms_fault_respond(const struct ms_fault *fault, struct acme_http_response *response);

/** Identities of one member, canonical; it points into itself and is not copied. */
struct ms_identities {
    char tn_text[SKS_DEST_MAX][SKS_TN_MAX + 1];
    const char *tn[SKS_DEST_MAX];
    size_t tn_count;
    const char *uri[SKS_DEST_MAX]; /* borrowed from the request's JSON */
    size_t uri_count;
};

struct ms_signing {
    json_t *json; /* owned; the texts are in it */
    struct ms_identities orig, dest;
    struct sks_claims claims;
};

/** Parse and check a signingRequest; false: *fault says why, and *out needs no clearing. */
bool ms_signing_parse(const char *body, size_t len, struct ms_signing *out, struct ms_fault *fault);
void ms_signing_clear(struct ms_signing *signing);

struct ms_verification {
    json_t *json; /* owned; the texts are in it */
    struct ms_identities from, to;
    struct sks_call call;
};

/** Parse and check a verificationRequest (cases E1 and E2), as above. */
bool ms_verification_parse(const char *body, size_t len, struct ms_verification *out,
                           struct ms_fault *fault);
void ms_verification_clear(struct ms_verification *verification);

/** {"verificationResponse":{..}}; the reasons are there only when there is one. NULL: no memory. */
json_t *ms_verification_response(const struct sks_verification *verification);

#endif
