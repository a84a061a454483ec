/* ms_api.c - the bodies of the signing and verification API (ATIS-1000082). */
#include "ms_api_internal.h"

#include <string.h>

#include <acme/json.h>
#include <sks/identity.h>

#define SPAN_OF_A_TN "0123456789#*+-.() " /* more is a URI, not a number */

static const struct {
    const char *id;
    int status;
    const char *text;
} errors[] = {
    [MS_MISSING_BODY] = {"SVC4000", 400, "Missing request body"},
    [MS_MISSING_PARAMETER] = {"SVC4001", 400, "Missing mandatory parameter '%1'"},
    [MS_NOT_ACCEPTABLE] = {"SVC4002", 406, "Requested response body type '%1' is not supported"},
    [MS_NOT_FOUND] = {"SVC4003", 404, "Requested resource was not found"},
    [MS_UNSUPPORTED_BODY] = {"SVC4004", 415, "Unsupported request body type, expected '%1'"},
    [MS_INVALID_PARAMETER] = {"SVC4005", 400, "Invalid '%1' parameter value: %2"},
    [MS_NOT_PARSED] = {"SVC4006", 400, "Failed to parse received message body: %1"},
    [MS_MISSING_LENGTH] = {"SVC4007", 411, "Missing mandatory Content-Length header"},
    [MS_NOT_AUTHENTICATED] = {"POL4010", 401, "Caller is not authenticated"},
    [MS_METHOD_NOT_ALLOWED] = {"POL4050", 405, "Method not allowed"},
    [MS_INTERNAL] = {"POL5000", 500, "Internal server error"},
    [MS_NOT_POSSIBLE_NOW] = {"POL5030", 503, "Not possible now: %1"},
};

int
ms_fault_status(const struct ms_fault *fault)
{
    return errors[fault->error].status;
}

void
ms_fault_respond(const struct ms_fault *fault, struct acme_http_response *response)
{
    const char *id = errors[fault->error].id;
    json_t *variables = json_array();
    json_t *body;

    for (size_t i = 0; i < 2 && fault->variables[i].text[0] != '\0'; i++)
        json_array_append_new(variables, json_string(fault->variables[i].text));
    body = json_pack("{s:{s:{s:s, s:s, s:o}}}", "requestError",
                     strncmp(id, "POL", 3) == 0 ? "policyException" : "serviceException",
                     "messageId", id, "text", errors[fault->error].text, "variables", variables);
    acme_http_respond_json(response, errors[fault->error].status, "application/json", body);
}

/* A refusal in one statement. */
static bool
refuse(struct ms_fault *fault, enum ms_error error, const char *first, const char *second)
{
    memset(fault, 0, sizeof(*fault));
    fault->error = error;
    hsm_refuse(&fault->variables[0], HSM_ERR_MALFORMED, "%s", first);
    hsm_refuse(&fault->variables[1], HSM_ERR_MALFORMED, "%s", second);
    return false;
}

/* The one member of the body, and its mandatory members in turn. */
static bool
open_request(const char *body, size_t len, const char *name, const char *const *mandatory,
             json_t **json, struct ms_fault *fault)
{
    struct hsm_reason why = {""};
    json_t *request;
    enum hsm_status st;

    if (len == 0)
        return refuse(fault, MS_MISSING_BODY, "", "");
    st = acme_json_parse(body, len, json, &why);
    if (st == HSM_ERR_NOMEM)
        return refuse(fault, MS_INTERNAL, "", "");
    if (st != HSM_OK)
        return refuse(fault, MS_NOT_PARSED, why.text, "");
    request = json_object_get(*json, name);
    if (request == NULL)
        return refuse(fault, MS_MISSING_PARAMETER, name, "");
    if (!json_is_object(request))
        return refuse(fault, MS_INVALID_PARAMETER, name, "not an object");
    for (; *mandatory != NULL; mandatory++)
        if (json_object_get(request, *mandatory) == NULL)
            return refuse(fault, MS_MISSING_PARAMETER, *mandatory, "");
    return true;
}

/* ---- numbers and URIs ---- */

/* NULL: taken; else what is wrong with it. */
static const char *
take_tn(struct ms_identities *out, const json_t *value)
{
    const char *text = json_string_value(value);
    enum hsm_status st;

    if (text == NULL)
        return "a tn is not a string";
    if (out->tn_count + out->uri_count == SKS_DEST_MAX)
        return "too many";
    if (strspn(text, SPAN_OF_A_TN) != strlen(text))
        return "a tn is not a telephone number";
    st = sks_tn_canonical(text, NULL, out->tn_text[out->tn_count]);
    if (st != HSM_OK)
        return st == HSM_ERR_NOT_FOUND ? "a tn is not a telephone number" : "a tn is too long";
    out->tn[out->tn_count] = out->tn_text[out->tn_count];
    out->tn_count++;
    return NULL;
}

static const char *
take_uri(struct ms_identities *out, const json_t *value)
{
    const char *text = json_string_value(value);

    if (text == NULL)
        return "a uri is not a string";
    if (out->tn_count + out->uri_count == SKS_DEST_MAX)
        return "too many";
    if (text[0] == '\0' || strlen(text) > SKS_TN_URI_MAX)
        return "a uri is empty or too long";
    out->uri[out->uri_count++] = text;
    return NULL;
}

typedef const char *(*take_fn)(struct ms_identities *out, const json_t *value);

static const char *
take_array(struct ms_identities *out, const json_t *array, take_fn take)
{
    const char *fault = NULL;

    if (!json_is_array(array))
        return "tn and uri are arrays";
    if (json_array_size(array) == 0)
        return "an array is empty";
    for (size_t i = 0; fault == NULL && i < json_array_size(array); i++)
        fault = take(out, json_array_get(array, i));
    return fault;
}

/* {"tn": ".."} or {"uri": ".."}: an originator (RFC 8225 section 5.2.1). */
static bool
take_one(struct ms_identities *out, const json_t *request, const char *name, struct ms_fault *fault)
{
    const json_t *member = json_object_get(request, name);
    const json_t *tn = json_object_get(member, "tn");
    const json_t *uri = json_object_get(member, "uri");
    const char *wrong;

    if ((tn == NULL) == (uri == NULL))
        wrong = "needs one of tn and uri";
    else
        wrong = tn != NULL ? take_tn(out, tn) : take_uri(out, uri);
    return wrong == NULL || refuse(fault, MS_INVALID_PARAMETER, name, wrong);
}

/* {"tn": [..], "uri": [..]}: destinations. A `single` string stands for an array of one: that is
 * how 3GPP TS 24.229 writes the `to` of a verificationRequest. */
static bool
take_many(struct ms_identities *out, const json_t *request, const char *name, bool single,
          struct ms_fault *fault)
{
    const json_t *member = json_object_get(request, name);
    const json_t *tn = json_object_get(member, "tn");
    const json_t *uri = json_object_get(member, "uri");
    const char *wrong = NULL;

    if (tn == NULL && uri == NULL)
        wrong = "needs tn or uri";
    if (wrong == NULL && tn != NULL)
        wrong = single && json_is_string(tn) ? take_tn(out, tn) : take_array(out, tn, take_tn);
    if (wrong == NULL && uri != NULL)
        wrong = single && json_is_string(uri) ? take_uri(out, uri) : take_array(out, uri, take_uri);
    return wrong == NULL || refuse(fault, MS_INVALID_PARAMETER, name, wrong);
}

/* ---- single members ---- */

static bool
take_string(const json_t *request, const char *name, size_t max, const char **out,
            struct ms_fault *fault)
{
    const char *text = json_string_value(json_object_get(request, name));

    if (text == NULL)
        return refuse(fault, MS_INVALID_PARAMETER, name, "not a string");
    if (text[0] == '\0' || strlen(text) > max)
        return refuse(fault, MS_INVALID_PARAMETER, name, "empty or too long");
    *out = text;
    return true;
}

static bool
take_time(const json_t *request, const char *name, int64_t *out, struct ms_fault *fault)
{
    struct hsm_reason why = {""};

    if (acme_json_integer(request, name, out, &why) != HSM_OK)
        return refuse(fault, MS_INVALID_PARAMETER, name, "not seconds since 1970");
    return true;
}

/* ---- signing ---- */

/* What another kind of PASSporT would have to carry: signing a shaken one without it would leave
 * out what the caller asked for (RFC 8946, RFC 8443, RFC 9027, RFC 9795, RFC 8225 5.2.2). */
static bool
is_plain_shaken(const json_t *request, struct ms_fault *fault)
{
    static const char *const others[] = {"crn", "div", "mky", "rcd", "rcdi", "rph", "sph", NULL};
    const json_t *ppt = json_object_get(request, "ppt");
    const char *text = json_string_value(ppt);

    if (ppt != NULL && (text == NULL || (text[0] != '\0' && strcmp(text, "shaken") != 0)))
        return refuse(fault, MS_INVALID_PARAMETER, "ppt", "only shaken is signed");
    for (size_t i = 0; others[i] != NULL; i++)
        if (json_object_get(request, others[i]) != NULL)
            return refuse(fault, MS_INVALID_PARAMETER, others[i], "only shaken is signed");
    return true;
}

static bool
take_attest(const json_t *request, char *out, struct ms_fault *fault)
{
    const char *text;

    if (!take_string(request, "attest", 1, &text, fault) || strchr("ABC", text[0]) == NULL)
        return refuse(fault, MS_INVALID_PARAMETER, "attest", "not A, B or C");
    *out = text[0];
    return true;
}

static void
point_claims(struct ms_signing *signing)
{
    struct sks_claims *claims = &signing->claims;

    claims->orig_tn = signing->orig.tn_count > 0 ? signing->orig.tn[0] : NULL;
    claims->orig_uri = signing->orig.uri_count > 0 ? signing->orig.uri[0] : NULL;
    claims->dest_tn = signing->dest.tn;
    claims->dest_tn_count = signing->dest.tn_count;
    claims->dest_uri = signing->dest.uri;
    claims->dest_uri_count = signing->dest.uri_count;
}

/* The reason begins with the claim's name. */
static bool
check_claims(const struct sks_claims *claims, struct ms_fault *fault)
{
    struct hsm_reason why = {""};
    enum hsm_status st = sks_claims_check(claims, &why);
    char *colon = strstr(why.text, ": ");

    if (st == HSM_OK)
        return true;
    if (st != HSM_ERR_MALFORMED || colon == NULL)
        return refuse(fault, MS_INTERNAL, "", "");
    *colon = '\0';
    return refuse(fault, MS_INVALID_PARAMETER, why.text, colon + 2);
}

static bool
take_claims(const json_t *request, struct ms_signing *out, struct ms_fault *fault)
{
    if (!is_plain_shaken(request, fault) || !take_attest(request, &out->claims.attest, fault) ||
        !take_many(&out->dest, request, "dest", false, fault) ||
        !take_time(request, "iat", &out->claims.iat, fault) ||
        !take_one(&out->orig, request, "orig", fault) ||
        !take_string(request, "origid", SKS_TN_URI_MAX, &out->claims.origid, fault))
        return false;
    point_claims(out);
    return check_claims(&out->claims, fault);
}

bool
ms_signing_parse(const char *body, size_t len, struct ms_signing *out, struct ms_fault *fault)
{
    static const char *const mandatory[] = {"attest", "dest", "iat", "orig", "origid", NULL};

    memset(out, 0, sizeof(*out));
    if (open_request(body, len, "signingRequest", mandatory, &out->json, fault) &&
        take_claims(json_object_get(out->json, "signingRequest"), out, fault))
        return true;
    ms_signing_clear(out);
    return false;
}

void
ms_signing_clear(struct ms_signing *signing)
{
    json_decref(signing->json);
    signing->json = NULL;
}

/* ---- verification ---- */

static void
point_call(struct ms_verification *verification)
{
    struct sks_call *call = &verification->call;

    call->from_tn = verification->from.tn_count > 0 ? verification->from.tn[0] : NULL;
    call->from_uri = verification->from.uri_count > 0 ? verification->from.uri[0] : NULL;
    call->to_tn = verification->to.tn;
    call->to_tn_count = verification->to.tn_count;
    call->to_uri = verification->to.uri;
    call->to_uri_count = verification->to.uri_count;
}

bool
ms_verification_parse(const char *body, size_t len, struct ms_verification *out,
                      struct ms_fault *fault)
{
    static const char *const mandatory[] = {"from", "identity", "time", "to", NULL};
    const json_t *request;

    memset(out, 0, sizeof(*out));
    if (open_request(body, len, "verificationRequest", mandatory, &out->json, fault)) {
        request = json_object_get(out->json, "verificationRequest");
        if (take_one(&out->from, request, "from", fault) &&
            take_string(request, "identity", SKS_IDENTITY_MAX, &out->call.identity, fault) &&
            take_time(request, "time", &out->call.time, fault) &&
            take_many(&out->to, request, "to", true, fault)) {
            point_call(out);
            return true;
        }
    }
    ms_verification_clear(out);
    return false;
}

void
ms_verification_clear(struct ms_verification *verification)
{
    json_decref(verification->json);
    verification->json = NULL;
}

json_t *
ms_verification_response(const struct sks_verification *verification)
{
    if (verification->verdict == SKS_VALID)
        return json_pack("{s:{s:s}}", "verificationResponse", "verstat", verification->verstat);
    return json_pack("{s:{s:i, s:s, s:s, s:s}}", "verificationResponse", "reasoncode",
                     verification->reason_code, "reasontext", verification->reason_text,
                     "reasondesc", verification->reason_desc.text, "verstat",
                     verification->verstat);
}
