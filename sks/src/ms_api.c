/* ms_api.c - what the two requests of the signing and verification API share, and its errors. */
#include "ms_api_internal.h"

#include <string.h>

#include <acme/json.h>

#define TEXT_MAX     64 /* characters of an error's text */
#define SPAN_OF_A_TN "0123456789#*+-.() " /* a text with other characters is not a number */

static const struct {
    const char *id;
    int status;
    const char *text; /* the variables replace %1 and %2 */
} errors[] = {
    [MS_MISSING_BODY] = {"SVC4000", 400, "Missing request body"},
    [MS_MISSING_PARAMETER] = {"SVC4001", 400, "Missing mandatory parameter '%1'"},
    [MS_NOT_ACCEPTABLE] = {"SVC4002", 406, "Requested response body type '%1' is not supported"},
    [MS_NOT_FOUND] = {"SVC4003", 404, "Requested resource was not found"},
    [MS_UNSUPPORTED_BODY] = {"SVC4004", 415, "Unsupported request body type, expected '%1'"},
    [MS_INVALID_PARAMETER] = {"SVC4005", 400, "Invalid '%1' parameter value: %2"},
    [MS_NOT_PARSED] = {"SVC4006", 400, "Failed to parse received message body: %1"},
    [MS_MISSING_LENGTH] = {"SVC4007", 411, "Missing mandatory Content-Length header"},
    [MS_METHOD_NOT_ALLOWED] = {"POL4050", 405, "Method not allowed"},
    [MS_INTERNAL] = {"POL5000", 500, "Internal server error"},
    [MS_NOT_AUTHENTICATED] = {"POL4010", 401, "Caller is not authenticated"},
    [MS_NOT_ALLOWED] = {"POL4030", 403, "Not allowed to this caller: '%1': %2"},
    [MS_TOO_MANY] = {"POL4290", 429, "Too many calls: %1"},
    [MS_NOT_POSSIBLE_NOW] = {"POL5030", 503, "Not possible now: %1"},
};

/* The error's text with its variables filled in, cut off if too long. */
static void
write_text(const struct ms_fault *fault, char *out, size_t size)
{
    size_t n = 0;

    for (const char *c = errors[fault->error].text; *c != '\0' && n + 1 < size; c++) {
        if (*c == '%' && (c[1] == '1' || c[1] == '2')) {
            const char *text = fault->variables[c[1] - '1'].text;
            size_t len = strnlen(text, size - 1 - n);

            memcpy(out + n, text, len);
            n += len;
            c++;
        } else {
            out[n++] = *c;
        }
    }
    out[n] = '\0';
}

static json_t *
atis_body(const struct ms_fault *fault)
{
    const char *id = errors[fault->error].id;
    json_t *variables = json_array();

    for (size_t i = 0; i < 2 && fault->variables[i].text[0] != '\0'; i++)
        json_array_append_new(variables, json_string(fault->variables[i].text));
    return json_pack("{s:{s:{s:s, s:s, s:o}}}", "requestError",
                     strncmp(id, "POL", 3) == 0 ? "policyException" : "serviceException",
                     "messageId", id, "text", errors[fault->error].text, "variables", variables);
}

static json_t *
threegpp_body(const struct ms_fault *fault)
{
    char text[TEXT_MAX + 2 * sizeof(struct hsm_reason)];

    write_text(fault, text, sizeof(text));
    return json_pack("{s:s}", "error", text);
}

int
sks_ms_fault_status(const struct ms_fault *fault)
{
    return errors[fault->error].status;
}

void
sks_ms_fault_respond(const struct ms_fault *fault, struct acme_http_response *response)
{
    char seconds[16];

    if (fault->error == MS_TOO_MANY) { /* RFC 6585 section 4 */
        snprintf(seconds, sizeof(seconds), "%u", fault->wait_s);
        acme_http_response_header(response, "Retry-After", seconds);
    }
    acme_http_respond_json(response, errors[fault->error].status, "application/json",
                           fault->dialect == MS_3GPP ? threegpp_body(fault) : atis_body(fault));
}

bool
sks_ms_refuse(struct ms_fault *fault, enum ms_error error, const char *first, const char *second)
{
    fault->error = error;
    hsm_refuse(&fault->variables[0], HSM_ERR_MALFORMED, "%s", first);
    hsm_refuse(&fault->variables[1], HSM_ERR_MALFORMED, "%s", second);
    return false;
}

/* ---- requests ---- */

bool
sks_ms_request_open(const char *body, size_t len, const char *name, json_t **json,
                    const json_t **request, struct ms_fault *fault)
{
    struct hsm_reason why = {""};
    enum hsm_status st;

    if (len == 0)
        return sks_ms_refuse(fault, MS_MISSING_BODY, "", "");
    st = acme_json_parse(body, len, json, &why);
    if (st == HSM_ERR_NOMEM)
        return sks_ms_refuse(fault, MS_INTERNAL, "", "");
    if (st != HSM_OK)
        return sks_ms_refuse(fault, MS_NOT_PARSED, why.text, "");
    *request = json_object_get(*json, name);
    if (*request == NULL)
        return sks_ms_refuse(fault, MS_MISSING_PARAMETER, name, "");
    if (!json_is_object(*request))
        return sks_ms_refuse(fault, MS_INVALID_PARAMETER, name, "not an object");
    return true;
}

bool
sks_ms_request_has_all(const json_t *request, const char *const *names, struct ms_fault *fault)
{
    for (; *names != NULL; names++)
        if (json_object_get(request, *names) == NULL)
            return sks_ms_refuse(fault, MS_MISSING_PARAMETER, *names, "");
    return true;
}

size_t
sks_ms_request_count(const json_t *request, const char *const *names)
{
    size_t count = 0;

    for (; *names != NULL; names++)
        count += json_object_get(request, *names) != NULL;
    return count;
}

/* ---- numbers and URIs ---- */

void
sks_ms_identities_begin(struct ms_identities *out, const struct sks_dial_plan *plan)
{
    out->plan = plan;
    out->tn_count = 0;
    out->uri_count = 0;
}

enum hsm_status
sks_ms_canonical_tn(const char *text, const struct sks_dial_plan *plan, char out[SKS_TN_MAX + 1])
{
    if (strspn(text, SPAN_OF_A_TN) != strlen(text))
        return HSM_ERR_NOT_FOUND;
    return sks_tn_canonical(text, plan, out);
}

/* NULL: accepted; otherwise what is wrong. */
static const char *
take_tn(struct ms_identities *out, json_t *value)
{
    const char *text = json_string_value(value);
    enum hsm_status st;

    if (text == NULL)
        return "a tn is not a string";
    if (out->tn_count + out->uri_count == SKS_DEST_MAX)
        return "too many";
    st = sks_ms_canonical_tn(text, out->plan, out->tn_text[out->tn_count]);
    if (st != HSM_OK)
        return st == HSM_ERR_NOT_FOUND ? "a tn is not a telephone number" : "a tn is too long";
    out->tn[out->tn_count] = out->tn_text[out->tn_count];
    out->tn_count++;
    return NULL;
}

/* SIP URIs are made canonical in place (RFC 8224 section 8.5); others stay as they are. */
static const char *
take_uri(struct ms_identities *out, json_t *value)
{
    const char *text = json_string_value(value);
    char canonical[SKS_TN_URI_MAX + 1];
    enum hsm_status st;

    if (text == NULL)
        return "a uri is not a string";
    if (out->tn_count + out->uri_count == SKS_DEST_MAX)
        return "too many";
    if (text[0] == '\0' || strlen(text) > SKS_TN_URI_MAX)
        return "a uri is empty or too long";
    st = sks_uri_canonical(text, canonical);
    if (st == HSM_ERR_MALFORMED || (st == HSM_OK && json_string_set(value, canonical) != 0))
        return "a uri is not a SIP URI";
    out->uri[out->uri_count++] = json_string_value(value);
    return NULL;
}

typedef const char *(*take_fn)(struct ms_identities *out, json_t *value);

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

bool
sks_ms_take_one(struct ms_identities *out, const json_t *member, const char *name,
                struct ms_fault *fault)
{
    json_t *tn = json_object_get(member, "tn");
    json_t *uri = json_object_get(member, "uri");
    const char *wrong;

    if ((tn == NULL) == (uri == NULL))
        wrong = "needs one of tn and uri";
    else
        wrong = tn != NULL ? take_tn(out, tn) : take_uri(out, uri);
    return wrong == NULL || sks_ms_refuse(fault, MS_INVALID_PARAMETER, name, wrong);
}

bool
sks_ms_take_many(struct ms_identities *out, const json_t *member, const char *name, bool single,
                 struct ms_fault *fault)
{
    json_t *tn = json_object_get(member, "tn");
    json_t *uri = json_object_get(member, "uri");
    const char *wrong = NULL;

    if (tn == NULL && uri == NULL)
        wrong = "needs tn or uri";
    if (wrong == NULL && tn != NULL)
        wrong = single && json_is_string(tn) ? take_tn(out, tn) : take_array(out, tn, take_tn);
    if (wrong == NULL && uri != NULL)
        wrong = single && json_is_string(uri) ? take_uri(out, uri) : take_array(out, uri, take_uri);
    return wrong == NULL || sks_ms_refuse(fault, MS_INVALID_PARAMETER, name, wrong);
}

/* ---- single members ---- */

bool
sks_ms_take_string(const json_t *member, const char *name, size_t max, const char **out,
                   struct ms_fault *fault)
{
    const char *text = json_string_value(member);

    if (text == NULL)
        return sks_ms_refuse(fault, MS_INVALID_PARAMETER, name, "not a string");
    if (text[0] == '\0' || strlen(text) > max)
        return sks_ms_refuse(fault, MS_INVALID_PARAMETER, name, "empty or too long");
    *out = text;
    return true;
}

bool
sks_ms_take_time(const json_t *member, const char *name, int64_t *out, struct ms_fault *fault)
{
    if (!json_is_integer(member) || json_integer_value(member) < 0)
        return sks_ms_refuse(fault, MS_INVALID_PARAMETER, name, "not seconds since 1970");
    *out = json_integer_value(member);
    return true;
}
