/* ms_api_verification.c - the verificationRequest. */
#include "ms_api_verification_internal.h"

#include <string.h>
#include <strings.h>

#include <sks/identity.h>

#include "mky_internal.h"

#define HEADERS_MAX 64 /* protectedHeaders of one request */

/* ---- which form ---- */

struct form {
    const char *from, *to, *time;
    const char *identity; /* the shaken PASSporT */
    bool has_target; /* dest is the Request-URI, not `to` */
};

static struct form
form_of(const json_t *request, enum ms_dialect dialect)
{
    const char *identity = dialect == MS_3GPP ? "identityHeader" : "identity";

    if (json_object_get(request, "from") == NULL && json_object_get(request, "orig") != NULL)
        return (struct form){"orig", "dest", "iat", identity, false};
    return (struct form){"from", "to", "time", identity, true};
}

/* In alphabetical order, as ATIS-1000082 lists them. */
static bool
has_mandatory(const json_t *request, const struct form *form, enum ms_dialect dialect,
              struct ms_fault *fault)
{
    bool is_plain = form->has_target;
    bool has_list = dialect == MS_3GPP && json_object_get(request, "identityHeaders") != NULL;
    const char *const identity = has_list ? "identityHeaders" : form->identity;
    const char *const names[] = {is_plain ? form->from : form->to, is_plain ? identity : form->time,
                                 is_plain ? form->time : identity, is_plain ? form->to : form->from,
                                 NULL};

    return sks_ms_request_has_all(request, names, fault);
}

/* ---- Identity headers ---- */

static bool
take_list(struct ms_verification *out, const json_t *list, const char *name, struct ms_fault *fault)
{
    size_t count = json_array_size(list);
    size_t room = SKS_IDENTITIES_MAX - (out->call.identity != NULL ? 1 : 0);

    if (!json_is_array(list))
        return sks_ms_refuse(fault, MS_INVALID_PARAMETER, name, "not an array");
    if (count > room || count + (out->call.identity != NULL ? 1 : 0) == 0)
        return sks_ms_refuse(fault, MS_INVALID_PARAMETER, name, "empty, or too many");
    for (size_t i = 0; i < count; i++) {
        const char *text = json_string_value(json_array_get(list, i));

        if (text == NULL)
            return sks_ms_refuse(fault, MS_INVALID_PARAMETER, name, "not strings");
        if (text[0] == '\0' || strlen(text) > SKS_IDENTITY_MAX)
            return sks_ms_refuse(fault, MS_INVALID_PARAMETER, name, "empty or too long");
        out->identities[i] = text;
    }
    out->has_list = true;
    out->call.identities = out->identities;
    out->call.identity_count = count;
    return true;
}

static bool
take_identities(struct ms_verification *out, const json_t *request, const char *name,
                struct ms_fault *fault)
{
    const json_t *identity = json_object_get(request, name);
    const json_t *list = json_object_get(request, "identityHeaders");

    if (out->dialect == MS_ATIS && json_is_array(identity))
        return take_list(out, identity, name, fault);
    if (identity != NULL &&
        !sks_ms_take_string(identity, name, SKS_IDENTITY_MAX, &out->call.identity, fault))
        return false;
    if (out->dialect == MS_ATIS || list == NULL)
        return true;
    return take_list(out, list, "identityHeaders", fault);
}

/* ---- protectedHeaders: "NAME: VALUE" ---- */

/* The value of a header with this name; NULL: another header. */
static const char *
value_of(const char *header, const char *name)
{
    size_t len = strlen(name);

    if (strncasecmp(header, name, len) != 0)
        return NULL;
    header += len + strspn(header + len, " \t");
    return *header == ':' ? header + 1 + strspn(header + 1, " \t") : NULL;
}

/* One value up to a comma, without the blanks around it. */
static bool
take_text(const char **at, char out[SKS_R_VALUE_MAX + 1])
{
    size_t len;
    size_t end;

    *at += strspn(*at, " \t,");
    end = strcspn(*at, ",");
    for (len = end; len > 0 && strchr(" \t\r\n", (*at)[len - 1]) != NULL; len--)
        ;
    if (len > SKS_R_VALUE_MAX)
        return false;
    memcpy(out, *at, len);
    out[len] = '\0';
    *at += end;
    return true;
}

/* NULL, or what is wrong with it. */
static const char *
take_resource_priority(struct ms_verification *out, const char *values)
{
    struct sks_call *call = &out->call;

    while (values[strspn(values, " \t,\r\n")] != '\0') {
        char *text;

        if (call->resource_priority_count == SKS_PRIORITIES_MAX)
            return "too many values of Resource-Priority";
        text = out->r_value_text[call->resource_priority_count];
        if (!take_text(&values, text))
            return "a value of Resource-Priority is too long";
        out->r_values[call->resource_priority_count++] = text;
    }
    call->resource_priority = out->r_values;
    return NULL;
}

/* Other headers, such as Diversion, have no counterpart in the claims of a PASSporT. */
static const char *
take_header(struct ms_verification *out, const char *header)
{
    const char *value;

    if (header == NULL)
        return "not strings";
    value = value_of(header, "Resource-Priority");
    if (value != NULL)
        return take_resource_priority(out, value);
    value = value_of(header, "Priority");
    if (value == NULL)
        return NULL;
    out->call.priority = out->priority;
    return take_text(&value, out->priority) ? NULL : "Priority is too long";
}

static bool
take_headers(struct ms_verification *out, const json_t *request, struct ms_fault *fault)
{
    static const char name[] = "protectedHeaders";
    const json_t *headers = json_object_get(request, name);
    const char *wrong = NULL;

    if (headers != NULL && (!json_is_array(headers) || json_array_size(headers) > HEADERS_MAX))
        wrong = "not an array, or too many";
    for (size_t i = 0; wrong == NULL && i < json_array_size(headers); i++)
        wrong = take_header(out, json_string_value(json_array_get(headers, i)));
    return wrong == NULL || sks_ms_refuse(fault, MS_INVALID_PARAMETER, name, wrong);
}

/* ---- the request ---- */

static bool
take_mky(struct ms_verification *out, const json_t *request, struct ms_fault *fault)
{
    struct sks_mky_set set;
    const char *wrong = NULL;

    out->call.mky = json_object_get(request, "mky");
    if (out->call.mky != NULL)
        wrong = sks_mky_take(out->call.mky, &set);
    return wrong == NULL || sks_ms_refuse(fault, MS_INVALID_PARAMETER, "mky", wrong);
}

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
    call->target_tn = verification->target.tn;
    call->target_tn_count = verification->target.tn_count;
    call->target_uri = verification->target.uri;
    call->target_uri_count = verification->target.uri_count;
}

static bool
take_request(struct ms_verification *out, const json_t *request, const struct form *form,
             struct ms_fault *fault)
{
    const json_t *target = form->has_target ? json_object_get(request, "dest") : NULL;

    if (!sks_ms_take_one(&out->from, json_object_get(request, form->from), form->from, fault) ||
        !take_identities(out, request, form->identity, fault) ||
        !sks_ms_take_time(json_object_get(request, form->time), form->time, &out->call.time,
                          fault) ||
        !sks_ms_take_many(&out->to, json_object_get(request, form->to), form->to, true, fault))
        return false;
    if (target != NULL && !sks_ms_take_many(&out->target, target, "dest", true, fault))
        return false;
    return take_headers(out, request, fault) && take_mky(out, request, fault);
}

bool
sks_ms_verification_parse(const char *body, size_t len, const struct sks_dial_plan *plan,
                          struct ms_verification *out, struct ms_fault *fault)
{
    static const char *const threegpp[] = {"identityHeader", "identityHeaders", NULL};
    const json_t *request;
    struct form form;

    memset(out, 0, offsetof(struct ms_verification, from));
    sks_ms_identities_begin(&out->from, plan);
    sks_ms_identities_begin(&out->to, plan);
    sks_ms_identities_begin(&out->target, plan);
    out->call.plan = plan;
    if (sks_ms_request_open(body, len, "verificationRequest", &out->json, &request, fault)) {
        out->dialect = sks_ms_request_count(request, threegpp) > 0 ? MS_3GPP : MS_ATIS;
        fault->dialect = out->dialect;
        form = form_of(request, out->dialect);
        if (has_mandatory(request, &form, out->dialect, fault) &&
            take_request(out, request, &form, fault)) {
            point_call(out);
            return true;
        }
    }
    sks_ms_verification_clear(out);
    return false;
}

void
sks_ms_verification_clear(struct ms_verification *verification)
{
    json_decref(verification->json);
    verification->json = NULL;
}
