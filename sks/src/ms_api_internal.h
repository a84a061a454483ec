/*
 * ms_api_internal.h - what the two requests of the signing and verification API share, and its
 * errors.
 *
 * The API is that of ATIS-1000082 and of the Ms reference point (3GPP TS 24.229 Annex V): two
 * dialects on the same paths, distinguished by the members of a request.
 */
#ifndef SKS_MS_API_INTERNAL_H
#define SKS_MS_API_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include <acme/http_server.h>
#include <hsm/status.h>
#include <sks/passport.h>
#include <sks/tn.h>

enum ms_dialect {
    MS_ATIS, /* also if a request has too few members to decide */
    MS_3GPP,
};

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
    MS_METHOD_NOT_ALLOWED, /* POL4050 */
    MS_INTERNAL, /* POL5000 */
    /* These are not in ATIS-1000082, which leaves the admission of callers to policy. */
    MS_NOT_AUTHENTICATED, /* POL4010 */
    MS_NOT_ALLOWED, /* POL4030 */
    MS_TOO_MANY, /* POL4290 */
    MS_NOT_POSSIBLE_NOW, /* POL5030 */
};

/** A refusal of a request; the variables replace %1 and %2 in the error's text. */
struct ms_fault {
    enum ms_dialect dialect; /* of the request, as soon as it is known */
    enum ms_error error;
    struct hsm_reason variables[2]; /* "" when not used */
    unsigned wait_s; /* with MS_TOO_MANY: seconds until the rates allow another call */
};

/** Set *fault, except its dialect, and return false. */
bool sks_ms_refuse(struct ms_fault *fault, enum ms_error error, const char *first,
                   const char *second);

int sks_ms_fault_status(const struct ms_fault *fault);

/** {"requestError":{..}} of ATIS-1000082, or {"error":".."} with the same text. */
void sks_ms_fault_respond(const struct ms_fault *fault, struct acme_http_response *response);

/* ---- requests ---- */

/**
 * Parse a body and find its only member.
 *
 * @param json     receives the body if it could be parsed, even on failure; the caller decrefs
 * @param request  the member, borrowed from *json
 */
bool sks_ms_request_open(const char *body, size_t len, const char *name, json_t **json,
                         const json_t **request, struct ms_fault *fault);

/** Whether all members are present; `names` ends with NULL. */
bool sks_ms_request_has_all(const json_t *request, const char *const *names,
                            struct ms_fault *fault);

/** How many of the members are present. */
size_t sks_ms_request_count(const json_t *request, const char *const *names);

/** sks_tn_canonical() of a bare number: a tel or SIP URI is HSM_ERR_NOT_FOUND. */
enum hsm_status sks_ms_canonical_tn(const char *text, const struct sks_dial_plan *plan,
                                    char out[SKS_TN_MAX + 1]);

/** The canonical identities in one member. It points into itself: do not copy it. */
struct ms_identities {
    const struct sks_dial_plan *plan; /* for numbers without "+"; NULL: none */
    size_t tn_count, uri_count;
    /* Only the counted elements are set. */
    const char *tn[SKS_DEST_MAX];
    const char *uri[SKS_DEST_MAX]; /* borrowed from the request's JSON */
    char tn_text[SKS_DEST_MAX][SKS_TN_MAX + 1];
};

/** Make it empty. */
void sks_ms_identities_begin(struct ms_identities *out, const struct sks_dial_plan *plan);

/* Members of a request; `name` is only for *fault. */

/** {"tn": ".."} or {"uri": ".."}: an originator (RFC 8225 section 5.2.1). */
bool sks_ms_take_one(struct ms_identities *out, const json_t *member, const char *name,
                     struct ms_fault *fault);

/** {"tn": [..], "uri": [..]}: destinations. If `single`, a string stands for an array of one, as
 *  3GPP TS 24.229 writes the `to` of a verificationRequest. */
bool sks_ms_take_many(struct ms_identities *out, const json_t *member, const char *name,
                      bool single, struct ms_fault *fault);

/** A string of 1 to `max` octets, borrowed. */
bool sks_ms_take_string(const json_t *member, const char *name, size_t max, const char **out,
                        struct ms_fault *fault);

bool sks_ms_take_time(const json_t *member, const char *name, int64_t *out, struct ms_fault *fault);

#endif
