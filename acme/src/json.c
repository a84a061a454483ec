/* json.c - JSON from outside: bounded, without duplicate names; canonical output. */
#include <acme/json.h>

#include <hsm/json.h>

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
    return hsm_json_parse(text, len, out, why);
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

char *
acme_json_text(const json_t *value)
{
    return value != NULL ? json_dumps(value, JSON_COMPACT) : NULL;
}

bool
acme_json_can_carry(const char *text)
{
    json_t *string = json_string(text); /* NULL: it is not UTF-8 */

    json_decref(string);
    return string != NULL;
}
