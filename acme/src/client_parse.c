/* client_parse.c - parse the answers of a CA (RFC 8555 section 7.1). */
#include "client_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <acme/json.h>
#include <hsm/time.h>

/* Characters of a problem's detail; a reason has little more room. */
#define DETAIL_SHOWN 120

#define SUBDETAIL_SHOWN 60 /* when there are several problems */
#define SUBPROBLEM_ROOM 100 /* octets that one takes, approximately */

/* ---- problem documents (RFC 7807, RFC 8555 section 6.7) ---- */

/* What a type means for the operator of the client. */
static const struct {
    enum acme_error error;
    const char *advice;
} advices[] = {
    {ACME_ACCOUNT_DOES_NOT_EXIST, "the CA has no account of this key"},
    {ACME_BAD_CSR, "the CA does not take this certificate request"},
    {ACME_BAD_NONCE, "the CA takes none of its own nonces: a fault of the CA"},
    {ACME_BAD_PUBLIC_KEY, "the CA does not take this key: has it seen it before?"},
    {ACME_BAD_REVOCATION_REASON, "the CA does not revoke for this reason"},
    {ACME_BAD_SIGNATURE_ALGORITHM, "the CA does not take ES256"},
    {ACME_CONNECTION, "the CA could not fetch what it wanted to check"},
    {ACME_EXTERNAL_ACCOUNT_REQUIRED, "configure the key id and MAC key that the CA gives out"},
    {ACME_INCORRECT_RESPONSE, "check tkauth-member, identifier and fingerprint of the settings"},
    {ACME_INVALID_CONTACT, "change the contact in the configuration"},
    {ACME_RATE_LIMITED, "too much was asked; it is tried again later"},
    {ACME_REJECTED_IDENTIFIER, "the CA does not certify this"},
    {ACME_SERVER_INTERNAL, "a fault of the CA; it is tried again later"},
    {ACME_TLS, "the CA could not fetch what it wanted to check"},
    {ACME_UNAUTHORIZED, "the SPC token or the account is not good for this"},
    {ACME_UNSUPPORTED_CONTACT, "change the contact in the configuration"},
    {ACME_UNSUPPORTED_IDENTIFIER, "the CA does not certify identifiers of this type"},
    {ACME_USER_ACTION_REQUIRED, "a person must act at the CA's web site"},
};

static const char *
advice_for(const char *type)
{
    for (size_t i = 0; i < sizeof(advices) / sizeof(advices[0]); i++)
        if (strcmp(acme_problem_type(advices[i].error), type) == 0)
            return advices[i].advice;
    return NULL;
}

/** A text that is composed piece by piece; truncated when it is too long. */
struct description {
    char *text;
    size_t len;
};

HSM_PRINTF(2, 3)
static void
say(struct description *to, const char *format, ...)
{
    va_list args;
    int len;

    va_start(args, format);
    len = vsnprintf(to->text + to->len, HSM_REASON_MAX - to->len, format, args);
    va_end(args);
    if (len > 0)
        to->len += (size_t)len;
    if (to->len >= HSM_REASON_MAX)
        to->len = HSM_REASON_MAX - 1;
}

static const char *
text_of(const json_t *object, const char *name, const char *fallback)
{
    const char *text = json_string_value(json_object_get(object, name));

    return text != NULL ? text : fallback;
}

/* Strip the prefix of RFC 8555's types; a problem document may have other types. */
static const char *
short_type(const char *type, bool *is_ours)
{
    size_t prefix = strlen(ACME_ERROR_PREFIX);

    *is_ours = strncmp(type, ACME_ERROR_PREFIX, prefix) == 0;
    return *is_ours ? type + prefix : type;
}

/* "dns example.com: ", if the subproblem names an identifier, then type and detail. */
static void
say_subproblem(struct description *to, const json_t *problem)
{
    const json_t *identifier = json_object_get(problem, "identifier");
    bool is_ours;

    if (identifier != NULL)
        say(to, "%.20s %.40s: ", text_of(identifier, "type", "?"),
            text_of(identifier, "value", "?"));
    say(to, "%.40s: %.*s", short_type(text_of(problem, "type", "?"), &is_ours), SUBDETAIL_SHOWN,
        text_of(problem, "detail", "no detail"));
}

/* Several problems in one (section 6.7.1): as many as fit. */
static void
say_subproblems(struct description *to, const json_t *subproblems)
{
    size_t count = json_array_size(subproblems);

    for (size_t i = 0; i < count; i++) {
        if (to->len > HSM_REASON_MAX - SUBPROBLEM_ROOM) {
            say(to, "; and %zu more", count - i);
            return;
        }
        say(to, "; ");
        say_subproblem(to, json_array_get(subproblems, i));
    }
}

/* The instance is a URL with information for a person. */
void
acme_problem_describe(const json_t *problem, int http_status, char out[HSM_REASON_MAX])
{
    struct description to = {.text = out};
    const char *type = text_of(problem, "type", NULL);
    const char *instance = text_of(problem, "instance", NULL);
    const json_t *subproblems = json_object_get(problem, "subproblems");
    const char *advice;
    bool is_ours;

    if (type == NULL) {
        say(&to, "HTTP status %d", http_status);
        return;
    }
    type = short_type(type, &is_ours);
    advice = is_ours ? advice_for(type) : NULL;
    say(&to, "%.60s: %.*s", type, json_array_size(subproblems) > 0 ? SUBDETAIL_SHOWN : DETAIL_SHOWN,
        text_of(problem, "detail", "no detail"));
    if (instance != NULL)
        say(&to, ", see %s", instance);
    if (advice != NULL)
        say(&to, " (%s)", advice);
    say_subproblems(&to, subproblems);
}

static enum hsm_status
refuse_with_error(const json_t *object, const char *what, const char *status,
                  struct hsm_reason *why)
{
    const json_t *error = json_object_get(object, "error");
    char text[HSM_REASON_MAX];

    if (error == NULL)
        return hsm_refuse(why, HSM_ERR_DENIED, "%s is %s", what, status);
    acme_problem_describe(error, 0, text);
    return hsm_refuse(why, HSM_ERR_DENIED, "%s is %s: %s", what, status, text);
}

/* ---- the directory ---- */

/* RFC 3986 allows no others. A URL that is printed thus has no control characters. */
bool
acme_client_is_url(const char *text)
{
    size_t i = 0;

    while (text[i] > ' ' && text[i] < 0x7f)
        i++;
    return i > 0 && text[i] == '\0';
}

static enum hsm_status
check_url(const char *url, const char *name, struct hsm_reason *why)
{
    if (strlen(url) > ACME_CLIENT_URL_MAX)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "%s: too long", name);
    if (!acme_client_is_url(url))
        return hsm_refuse(why, HSM_ERR_MALFORMED, "%s: not a URL", name);
    return HSM_OK;
}

static enum hsm_status
take_text(const json_t *object, const char *name, bool required, char **out, struct hsm_reason *why)
{
    const char *text = NULL;
    enum hsm_status st = required ? acme_json_string(object, name, &text, why)
                                  : acme_json_string_optional(object, name, &text, why);

    if (st != HSM_OK || text == NULL)
        return st;
    st = check_url(text, name, why);
    return st == HSM_OK ? acme_client_replace_text(out, text) : st;
}

static enum hsm_status
take_meta(const json_t *object, struct acme_directory *out, struct hsm_reason *why)
{
    json_t *meta = NULL;
    enum hsm_status st;

    if (json_object_get(object, "meta") == NULL)
        return HSM_OK;
    st = acme_json_object(object, "meta", &meta, why);
    if (st == HSM_OK)
        st = take_text(meta, "termsOfService", false, &out->terms_of_service, why);
    if (st == HSM_OK)
        st = take_text(meta, "website", false, &out->website, why);
    if (st == HSM_OK)
        st = acme_json_bool_optional(meta, "externalAccountRequired", false,
                                     &out->external_account_required, why);
    return st;
}

enum hsm_status
acme_directory_parse(const json_t *object, struct acme_directory *out, struct hsm_reason *why)
{
    struct acme_directory found = {.new_nonce = NULL};
    const struct {
        const char *name;
        bool required;
        char **place;
    } members[] = {
        {"newNonce", true, &found.new_nonce},    {"newAccount", true, &found.new_account},
        {"newOrder", true, &found.new_order},    {"revokeCert", false, &found.revoke_cert},
        {"keyChange", false, &found.key_change}, {"renewalInfo", false, &found.renewal_info},
    };
    enum hsm_status st = HSM_OK;

    for (size_t i = 0; st == HSM_OK && i < sizeof(members) / sizeof(members[0]); i++)
        st = take_text(object, members[i].name, members[i].required, members[i].place, why);
    if (st == HSM_OK)
        st = take_meta(object, &found, why);
    if (st == HSM_OK)
        *out = found;
    else
        acme_directory_clear(&found);
    return st;
}

void
acme_directory_clear(struct acme_directory *directory)
{
    char *const texts[] = {directory->new_nonce,  directory->new_account,
                           directory->new_order,  directory->revoke_cert,
                           directory->key_change, directory->renewal_info,
                           directory->website,    directory->terms_of_service};

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        free(texts[i]);
    memset(directory, 0, sizeof(*directory));
}

/* ---- orders ---- */

static enum hsm_status
order_status(const json_t *object, enum acme_order_status *out, struct hsm_reason *why)
{
    static const char *const texts[] = {"pending", "ready", "processing", "valid", "invalid"};
    const char *text = NULL;
    enum hsm_status st = acme_json_string(object, "status", &text, why);

    if (st != HSM_OK)
        return st;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        if (strcmp(text, texts[i]) == 0) {
            *out = (enum acme_order_status)i;
            return *out == ACME_ORDER_INVALID ? refuse_with_error(object, "order", text, why)
                                              : HSM_OK;
        }
    return refuse_with_error(object, "order", text, why);
}

static enum hsm_status
take_authorizations(const json_t *object, struct acme_order_view *out, struct hsm_reason *why)
{
    json_t *urls = NULL;
    enum hsm_status st = acme_json_array(object, "authorizations", &urls, why);

    if (st == HSM_OK && json_array_size(urls) > ACME_AUTHZS_MAX)
        st = hsm_refuse(why, HSM_ERR_MALFORMED, "order: too many authorizations");
    for (size_t i = 0; st == HSM_OK && i < json_array_size(urls); i++) {
        const char *url = json_string_value(json_array_get(urls, i));

        st = url != NULL ? check_url(url, "authorizations", why)
                         : hsm_refuse(why, HSM_ERR_MALFORMED, "order: authorizations");
        out->authorizations[out->authorization_count++] = url;
    }
    return st;
}

enum hsm_status
acme_order_parse(const json_t *object, struct acme_order_view *out, struct hsm_reason *why)
{
    struct acme_order_view view = {.finalize = NULL};
    enum hsm_status st = order_status(object, &view.status, why);

    if (st == HSM_OK && view.status == ACME_ORDER_PENDING)
        st = take_authorizations(object, &view, why);
    if (st == HSM_OK && view.status == ACME_ORDER_READY) {
        st = acme_json_string(object, "finalize", &view.finalize, why);
        if (st == HSM_OK)
            st = check_url(view.finalize, "finalize", why);
    }
    if (st == HSM_OK && view.status == ACME_ORDER_VALID) {
        st = acme_json_string(object, "certificate", &view.certificate, why);
        if (st == HSM_OK)
            st = check_url(view.certificate, "certificate", why);
        view.x5u = json_string_value(json_object_get(object, "x5u"));
    }
    if (st == HSM_OK)
        *out = view;
    return st;
}

static bool
has_identifier(const json_t *list, const struct acme_client_identifier *wanted)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *one = json_array_get(list, i);
        const char *type = json_string_value(json_object_get(one, "type"));
        const char *value = json_string_value(json_object_get(one, "value"));

        if (type != NULL && value != NULL && strcmp(type, wanted->type) == 0 &&
            strcmp(value, wanted->value) == 0)
            return true;
    }
    return false;
}

bool
acme_order_is_for(const json_t *object, const struct acme_client_identifier *identifiers,
                  size_t count)
{
    const json_t *list = json_object_get(object, "identifiers");

    if (json_array_size(list) != count)
        return false;
    for (size_t i = 0; i < count; i++)
        if (!has_identifier(list, &identifiers[i]))
            return false;
    return true;
}

/* ---- authorizations ---- */

static void
take_challenge(const json_t *authz, const json_t *object, struct acme_authz_view *out)
{
    const json_t *identifier = json_object_get(authz, "identifier");
    const char *type = json_string_value(json_object_get(object, "type"));
    const char *url = json_string_value(json_object_get(object, "url"));
    const char *status = json_string_value(json_object_get(object, "status"));

    if (type == NULL || url == NULL || strlen(url) > ACME_CLIENT_URL_MAX)
        return; /* it cannot be responded to */
    out->offered[out->count].challenge = (struct acme_client_challenge){
        .identifier_type = json_string_value(json_object_get(identifier, "type")),
        .identifier_value = json_string_value(json_object_get(identifier, "value")),
        .type = type,
        .token = json_string_value(json_object_get(object, "token")),
        .tkauth_type = json_string_value(json_object_get(object, "tkauth-type")),
    };
    out->offered[out->count].url = url;
    out->offered[out->count++].is_pending = status == NULL || strcmp(status, "pending") == 0;
}

/* The first challenge with an error; NULL: none has one. */
static const json_t *
failed_challenge(const json_t *challenges)
{
    for (size_t i = 0; i < json_array_size(challenges); i++)
        if (json_object_get(json_array_get(challenges, i), "error") != NULL)
            return json_array_get(challenges, i);
    return NULL;
}

enum hsm_status
acme_authz_parse(const json_t *object, struct acme_authz_view *out, struct hsm_reason *why)
{
    const json_t *challenges = json_object_get(object, "challenges");
    struct acme_authz_view view = {.count = 0};
    const char *status = NULL;
    enum hsm_status st = acme_json_string(object, "status", &status, why);

    if (st != HSM_OK)
        return st;
    view.is_valid = strcmp(status, "valid") == 0;
    if (!view.is_valid && strcmp(status, "pending") != 0)
        return refuse_with_error(failed_challenge(challenges), "authorization", status, why);
    if (json_array_size(challenges) > ACME_CHALLENGES_MAX)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "authorization: too many challenges");
    for (size_t i = 0; i < json_array_size(challenges); i++)
        take_challenge(object, json_array_get(challenges, i), &view);
    *out = view;
    return HSM_OK;
}

/* ---- RenewalInfo (RFC 9773 section 4.2) ---- */

static enum hsm_status
take_time(const json_t *window, const char *name, time_t *out, struct hsm_reason *why)
{
    const char *text = NULL;
    enum hsm_status st = acme_json_string(window, name, &text, why);

    if (st == HSM_OK && hsm_time_parse(text, out) != HSM_OK)
        st = hsm_refuse(why, HSM_ERR_MALFORMED, "suggestedWindow: %s is not a time", name);
    return st;
}

enum hsm_status
acme_renewal_parse(const json_t *object, struct acme_client_renewal *out, struct hsm_reason *why)
{
    struct acme_client_renewal found = {.start = 0};
    const char *url = NULL;
    json_t *window = NULL;
    enum hsm_status st = acme_json_object(object, "suggestedWindow", &window, why);

    if (st == HSM_OK)
        st = take_time(window, "start", &found.start, why);
    if (st == HSM_OK)
        st = take_time(window, "end", &found.end, why);
    if (st == HSM_OK)
        st = acme_json_string_optional(object, "explanationURL", &url, why);
    if (st != HSM_OK)
        return st;
    if (found.end <= found.start)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "suggestedWindow: ends before it begins");
    if (url != NULL && strlen(url) <= ACME_CLIENT_EXPLANATION_MAX && acme_client_is_url(url))
        memcpy(found.explanation_url, url, strlen(url) + 1);
    *out = found;
    return HSM_OK;
}
