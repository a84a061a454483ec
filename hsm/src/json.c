/* json.c - JSON from outside, bounded and without duplicates. */
#include <hsm/json.h>

#include <stdbool.h>
#include <stdlib.h>

#include <hsm/secret.h>

/* Passwords and tokens come and go as JSON: neither its texts nor the parser's own copies of them
 * may stay behind in freed memory. All of it is from malloc(), whenever it was allocated. */
__attribute__((constructor)) static void
wipe_what_jansson_frees(void)
{
    json_set_alloc_funcs(malloc, hsm_wipe_free);
}

/* The character after a backslash cannot end the string; the parser judges the escape. */
static size_t
skip_string(const char *text, size_t len, size_t i)
{
    for (i++; i < len && text[i] != '"'; i++) {
        if (text[i] == '\\')
            i++;
    }
    return i;
}

/* Without branches, so that compilers vectorise the loop. */
static size_t
count_openings(const char *text, size_t len)
{
    size_t count = 0;

    for (size_t i = 0; i < len; i++)
        count += text[i] == '{' || text[i] == '[';
    return count;
}

/* The parser recurses, so depth is bounded before it runs. Most texts open too few brackets to be
 * deep. */
static bool
is_too_deep(const char *text, size_t len)
{
    size_t depth = 0;

    if (count_openings(text, len) <= HSM_JSON_DEPTH_MAX)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '"')
            i = skip_string(text, len, i);
        else if ((text[i] == '{' || text[i] == '[') && ++depth > HSM_JSON_DEPTH_MAX)
            return true;
        else if ((text[i] == '}' || text[i] == ']') && depth > 0)
            depth--;
    }
    return false;
}

/* Jansson's own texts quote the input, which may be a password: these do not. */
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

enum hsm_status
hsm_json_parse(const char *text, size_t len, json_t **out, struct hsm_reason *why)
{
    json_error_t error;
    json_t *json;

    if (is_too_deep(text, len))
        return hsm_refuse(why, HSM_ERR_MALFORMED, "JSON: nested deeper than %d levels",
                          HSM_JSON_DEPTH_MAX);
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
