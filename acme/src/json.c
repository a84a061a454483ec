/* json.c - JSON from outside: bounded, without duplicates, canonical when written. */
#include <acme/json.h>

#include <string.h>

/* What follows a backslash cannot end the string; the parser judges what it is. */
static size_t
skip_string(const char *text, size_t len, size_t i)
{
    for (i++; i < len && text[i] != '"'; i++) {
        if (text[i] == '\\')
            i++;
    }
    return i;
}

/* The parser recurses, so depth is bounded before it runs. */
static bool
is_too_deep(const char *text, size_t len)
{
    size_t depth = 0;

    for (size_t i = 0; i < len; i++) {
        if (text[i] == '"')
            i = skip_string(text, len, i);
        else if ((text[i] == '{' || text[i] == '[') && ++depth > ACME_JSON_DEPTH_MAX)
            return true;
        else if ((text[i] == '}' || text[i] == ']') && depth > 0)
            depth--;
    }
    return false;
}

/* Jansson's own texts quote the input, which may be a password: say it without. */
static const char *
fault_text(const json_error_t *error)
{
    switch (json_error_code(error)) {
    case json_error_duplicate_key:
        return "a member is there twice";
    case json_error_premature_end_of_input:
        return "ends too early";
    case json_error_end_of_input_expected:
        return "something follows the value";
    case json_error_invalid_utf8:
        return "not UTF-8";
    case json_error_null_character:
    case json_error_null_byte_in_key:
        return "a NUL in a string";
    case json_error_numeric_overflow:
        return "number out of range";
    default:
        return "syntax error";
    }
}

static enum hsm_status
refuse_type(const json_t *value, const char *name, const char *type, struct hsm_reason *why)
{
    if (value == NULL)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "%s: missing", name);
    return hsm_refuse(why, HSM_ERR_MALFORMED, "%s: not %s", name, type);
}

enum hsm_status
acme_json_parse(const char *text, size_t len, json_t **out, struct hsm_reason *why)
{
    json_error_t error;
    json_t *json;

    if (is_too_deep(text, len))
        return hsm_refuse(why, HSM_ERR_MALFORMED, "JSON: nested deeper than %d levels",
                          ACME_JSON_DEPTH_MAX);
    json = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
    if (json == NULL && json_error_code(&error) == json_error_out_of_memory)
        return HSM_ERR_NOMEM;
    if (json == NULL)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "JSON: line %d column %d: %s", error.line,
                          error.column, fault_text(&error));
    if (!json_is_object(json)) {
        json_decref(json);
        return hsm_refuse(why, HSM_ERR_MALFORMED, "JSON: not an object");
    }
    *out = json;
    return HSM_OK;
}

enum hsm_status
acme_json_string(const json_t *object, const char *name, const char **out, struct hsm_reason *why)
{
    const json_t *value = json_object_get(object, name);

    if (!json_is_string(value))
        return refuse_type(value, name, "a string", why);
    *out = json_string_value(value);
    return HSM_OK;
}

enum hsm_status
acme_json_string_optional(const json_t *object, const char *name, const char **out,
                          struct hsm_reason *why)
{
    if (json_object_get(object, name) == NULL) {
        *out = NULL;
        return HSM_OK;
    }
    return acme_json_string(object, name, out, why);
}

enum hsm_status
acme_json_integer(const json_t *object, const char *name, int64_t *out, struct hsm_reason *why)
{
    const json_t *value = json_object_get(object, name);

    if (!json_is_integer(value))
        return refuse_type(value, name, "an integer", why);
    if (json_integer_value(value) < 0)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "%s: negative", name);
    *out = json_integer_value(value);
    return HSM_OK;
}

enum hsm_status
acme_json_bool_optional(const json_t *object, const char *name, bool fallback, bool *out,
                        struct hsm_reason *why)
{
    const json_t *value = json_object_get(object, name);

    if (value != NULL && !json_is_boolean(value))
        return refuse_type(value, name, "a boolean", why);
    *out = value == NULL ? fallback : json_is_true(value);
    return HSM_OK;
}

enum hsm_status
acme_json_object(const json_t *object, const char *name, json_t **out, struct hsm_reason *why)
{
    json_t *value = json_object_get(object, name);

    if (!json_is_object(value))
        return refuse_type(value, name, "an object", why);
    *out = value;
    return HSM_OK;
}

enum hsm_status
acme_json_array(const json_t *object, const char *name, json_t **out, struct hsm_reason *why)
{
    json_t *value = json_object_get(object, name);

    if (!json_is_array(value))
        return refuse_type(value, name, "an array", why);
    *out = value;
    return HSM_OK;
}

/* Jansson sorts names by octet, which for UTF-8 is by code point, and leaves '/' and UTF-8 as is.
 */
char *
acme_json_canonical(const json_t *value)
{
    return json_dumps(value, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
}
