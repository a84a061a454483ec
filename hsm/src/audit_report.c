/* audit_report.c - check a report against its schema, docs/schema/audit-report.json. */
#include "audit_internal.h"
#include "audit_report_internal.h"

#include <stdio.h>
#include <string.h>

struct member {
    const char *name;
    enum hsm_json_kind kind;
};

#define MEMBERS(table) (table), sizeof(table) / sizeof((table)[0])

static const struct member report_members[] = {
    {"format", HSM_JSON_STRING},  {"made", HSM_JSON_STRING},       {"program", HSM_JSON_STRING},
    {"host", HSM_JSON_STRING},    {"nonce", HSM_JSON_STRING_NULL}, {"attempts", HSM_JSON_BOOL},
    {"tokens", HSM_JSON_ARRAY},   {"statements", HSM_JSON_ARRAY},  {"signer", HSM_JSON_OBJECT_NULL},
    {"summary", HSM_JSON_OBJECT},
};

static const struct member token_members[] = {
    {"uri", HSM_JSON_STRING},    {"module", HSM_JSON_OBJECT},  {"slot", HSM_JSON_OBJECT},
    {"token", HSM_JSON_OBJECT},  {"session", HSM_JSON_STRING}, {"mechanisms", HSM_JSON_ARRAY},
    {"objects", HSM_JSON_ARRAY},
};

static const struct member module_members[] = {
    {"path", HSM_JSON_STRING},        {"size", HSM_JSON_INTEGER},
    {"sha256", HSM_JSON_SHA256},      {"manufacturer", HSM_JSON_STRING},
    {"description", HSM_JSON_STRING}, {"version", HSM_JSON_STRING},
    {"cryptoki", HSM_JSON_STRING},
};

static const struct member slot_members[] = {
    {"id", HSM_JSON_INTEGER},          {"description", HSM_JSON_STRING},
    {"manufacturer", HSM_JSON_STRING}, {"hardware", HSM_JSON_STRING},
    {"firmware", HSM_JSON_STRING},     {"hardware_slot", HSM_JSON_BOOL},
    {"removable", HSM_JSON_BOOL},
};

static const struct member token_info_members[] = {
    {"label", HSM_JSON_STRING},  {"manufacturer", HSM_JSON_STRING}, {"model", HSM_JSON_STRING},
    {"serial", HSM_JSON_STRING}, {"hardware", HSM_JSON_STRING},     {"firmware", HSM_JSON_STRING},
    {"flags", HSM_JSON_ARRAY},
};

static const struct member mechanism_members[] = {
    {"mechanism", HSM_JSON_STRING}, {"rv", HSM_JSON_STRING},   {"min", HSM_JSON_INTEGER},
    {"max", HSM_JSON_INTEGER},      {"flags", HSM_JSON_ARRAY},
};

static const struct member object_members[] = {
    {"class", HSM_JSON_STRING},
    {"uri", HSM_JSON_STRING},
    {"label", HSM_JSON_STRING},
    {"id", HSM_JSON_STRING},
};

static const struct member statement_members[] = {
    {"id", HSM_JSON_STRING},          {"subject", HSM_JSON_STRING},
    {"requirement", HSM_JSON_STRING}, {"expected", HSM_JSON_STRING},
    {"found", HSM_JSON_STRING},       {"evidence", HSM_JSON_OBJECT},
    {"verdict", HSM_JSON_STRING},     {"cause", HSM_JSON_OPTIONAL_STRING},
};

static const struct member signer_members[] = {
    {"uri", HSM_JSON_STRING},
    {"public_key", HSM_JSON_STRING},
    {"spki_sha256", HSM_JSON_SHA256},
    {"attributes", HSM_JSON_OBJECT},
};

static const struct member signer_attributes[] = {
    {"CKA_SENSITIVE", HSM_JSON_BOOL_NULL},   {"CKA_ALWAYS_SENSITIVE", HSM_JSON_BOOL_NULL},
    {"CKA_EXTRACTABLE", HSM_JSON_BOOL_NULL}, {"CKA_NEVER_EXTRACTABLE", HSM_JSON_BOOL_NULL},
    {"CKA_LOCAL", HSM_JSON_BOOL_NULL},       {"CKA_KEY_GEN_MECHANISM", HSM_JSON_STRING},
};

static bool
is_hash(const json_t *value)
{
    const char *text = json_string_value(value);

    return text != NULL && strlen(text) == 64 && strspn(text, "0123456789abcdef") == 64;
}

static bool
is_kind(const json_t *value, enum hsm_json_kind kind)
{
    switch (kind) {
    case HSM_JSON_STRING:
        return json_is_string(value);
    case HSM_JSON_STRING_NULL:
        return json_is_string(value) || json_is_null(value);
    case HSM_JSON_OPTIONAL_STRING:
        return value == NULL || json_is_string(value);
    case HSM_JSON_INTEGER:
        return json_is_integer(value);
    case HSM_JSON_BOOL:
        return json_is_boolean(value);
    case HSM_JSON_BOOL_NULL:
        return json_is_boolean(value) || json_is_null(value);
    case HSM_JSON_ARRAY:
        return json_is_array(value);
    case HSM_JSON_OBJECT:
        return json_is_object(value);
    case HSM_JSON_OBJECT_NULL:
        return json_is_object(value) || json_is_null(value);
    case HSM_JSON_SHA256:
        return is_hash(value);
    }
    return false;
}

static bool
is_member(const char *name, const struct member *members, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(members[i].name, name) == 0)
            return true;
    }
    return false;
}

/* All required members, each of its type, and no others. */
static enum hsm_status
check_members(json_t *object, const char *what, const struct member *members, size_t count,
              struct hsm_reason *why)
{
    const char *name;
    json_t *value;

    if (!json_is_object(object))
        return hsm_refuse(why, HSM_ERR_MALFORMED, "%s: not an object", what);
    for (size_t i = 0; i < count; i++) {
        if (!is_kind(json_object_get(object, members[i].name), members[i].kind))
            return hsm_refuse(why, HSM_ERR_MALFORMED, "%s: %s is missing or of another type", what,
                              members[i].name);
    }
    json_object_foreach(object, name, value)
    {
        if (!is_member(name, members, count))
            return hsm_refuse(why, HSM_ERR_MALFORMED, "%s: unknown member %s", what, name);
    }
    return HSM_OK;
}

static enum hsm_status
check_each(const json_t *array, const char *what, const struct member *members, size_t count,
           struct hsm_reason *why)
{
    enum hsm_status st = HSM_OK;

    for (size_t i = 0; st == HSM_OK && i < json_array_size(array); i++) {
        char which[64];

        snprintf(which, sizeof(which), "%s %zu", what, i);
        st = check_members(json_array_get(array, i), which, members, count, why);
    }
    return st;
}

static enum hsm_status
check_token(json_t *token, const char *what, struct hsm_reason *why)
{
    enum hsm_status st = check_members(token, what, MEMBERS(token_members), why);

    if (st == HSM_OK)
        st =
            check_members(json_object_get(token, "module"), "module", MEMBERS(module_members), why);
    if (st == HSM_OK)
        st = check_members(json_object_get(token, "slot"), "slot", MEMBERS(slot_members), why);
    if (st == HSM_OK)
        st = check_members(json_object_get(token, "token"), "token", MEMBERS(token_info_members),
                           why);
    if (st == HSM_OK)
        st = check_each(json_object_get(token, "mechanisms"), "mechanism",
                        MEMBERS(mechanism_members), why);
    if (st == HSM_OK)
        st = check_each(json_object_get(token, "objects"), "object", MEMBERS(object_members), why);
    return st;
}

static enum hsm_status
check_tokens(const json_t *tokens, struct hsm_reason *why)
{
    enum hsm_status st = HSM_OK;

    for (size_t i = 0; st == HSM_OK && i < json_array_size(tokens); i++) {
        char which[32];

        snprintf(which, sizeof(which), "token %zu", i);
        st = check_token(json_array_get(tokens, i), which, why);
    }
    return st;
}

static enum hsm_status
check_summary(json_t *summary, struct hsm_reason *why)
{
    struct member members[HSM_AUDIT_VERDICTS];

    for (unsigned i = 0; i < HSM_AUDIT_VERDICTS; i++)
        members[i] =
            (struct member){hsm_audit_verdict_name((enum hsm_audit_verdict)i), HSM_JSON_INTEGER};
    return check_members(summary, "summary", MEMBERS(members), why);
}

static enum hsm_status
check_signer(json_t *signer, struct hsm_reason *why)
{
    enum hsm_status st = check_members(signer, "signer", MEMBERS(signer_members), why);

    return st == HSM_OK ? check_members(json_object_get(signer, "attributes"),
                                        "signer's attributes", MEMBERS(signer_attributes), why)
                        : st;
}

/* A report is ASCII, as it is printed on terminals; its only control characters are the line ends
 * of the signer's PEM. */
static bool
is_printable(const char *text)
{
    for (; *text != '\0'; text++) {
        if ((*text < 0x20 && *text != '\n') || *text > 0x7e)
            return false;
    }
    return true;
}

/* Every string and member name, at every level; the parser bounds the levels. */
static bool
is_all_printable(const json_t *value)
{
    const json_t *below;
    json_t *member;
    const char *name;
    size_t i;

    if (json_is_string(value))
        return is_printable(json_string_value(value));
    json_array_foreach(value, i, below)
    {
        if (!is_all_printable(below))
            return false;
    }
    json_object_foreach((json_t *)value, name, member)
    {
        if (!is_printable(name) || !is_all_printable(member))
            return false;
    }
    return true;
}

enum hsm_status
hsm_audit_check_schema(json_t *report, struct hsm_reason *why)
{
    enum hsm_status st = check_members(report, "report", MEMBERS(report_members), why);

    if (st == HSM_OK && !is_all_printable(report))
        return hsm_refuse(why, HSM_ERR_MALFORMED, "report: a text is not printable ASCII");

    if (st == HSM_OK &&
        strcmp(json_string_value(json_object_get(report, "format")), HSM_AUDIT_FORMAT) != 0)
        return hsm_refuse(why, HSM_ERR_UNSUPPORTED, "report: not of format " HSM_AUDIT_FORMAT);
    if (st == HSM_OK)
        st = check_tokens(json_object_get(report, "tokens"), why);
    if (st == HSM_OK)
        st = check_each(json_object_get(report, "statements"), "statement",
                        MEMBERS(statement_members), why);
    if (st == HSM_OK)
        st = check_summary(json_object_get(report, "summary"), why);
    if (st == HSM_OK && json_is_object(json_object_get(report, "signer")))
        st = check_signer(json_object_get(report, "signer"), why);
    return st;
}
