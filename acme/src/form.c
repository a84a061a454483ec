/* form.c - application/x-www-form-urlencoded, as browsers write it (WHATWG URL section 5). */
#include "form_internal.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <openssl/crypto.h>

#include <hsm/defer.h>

bool
acme_form_is_type(const char *content_type)
{
    size_t len = strlen(ACME_FORM_TYPE);

    return content_type != NULL && strncasecmp(content_type, ACME_FORM_TYPE, len) == 0 &&
           (content_type[len] == '\0' || content_type[len] == ';' || content_type[len] == ' ');
}

/* Decode one octet of a value; false: it is invalid. */
static bool
read_octet(const char **at, const char *end, char *out)
{
    int high, low;

    if (**at != '%') {
        *out = **at == '+' ? ' ' : **at;
        (*at)++;
        return *out != '\0';
    }
    if (end - *at < 3)
        return false;
    high = OPENSSL_hexchar2int((unsigned char)(*at)[1]);
    low = OPENSSL_hexchar2int((unsigned char)(*at)[2]);
    *at += 3;
    if (high < 0 || low < 0)
        return false;
    *out = (char)(16 * high + low);
    return *out != '\0';
}

bool
acme_form_decode(char *value)
{
    const char *at = value, *end = value + strlen(value);

    while (at < end) {
        if (!read_octet(&at, end, value))
            return false;
        value++;
    }
    *value = '\0';
    return true;
}

static enum hsm_status
read_value(const char *at, const char *end, struct acme_form_field *field, struct hsm_reason *why)
{
    size_t len = 0, size = (size_t)(end - at) < field->max ? (size_t)(end - at) : field->max;
    DEFER(free) char *value = malloc(size + 1);

    if (value == NULL)
        return HSM_ERR_NOMEM;
    while (at < end) {
        char octet;

        if (!read_octet(&at, end, &octet))
            return hsm_refuse(why, HSM_ERR_MALFORMED, "%s: not form-encoded", field->name);
        if (len == field->max)
            return hsm_refuse(why, HSM_ERR_MALFORMED, "%s: more than %zu octets", field->name,
                              field->max);
        value[len++] = octet;
    }
    value[len] = '\0';
    field->value = value;
    value = NULL;
    return HSM_OK;
}

static struct acme_form_field *
find_field(const char *name, size_t len, struct acme_form_field *fields, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strlen(fields[i].name) == len && memcmp(fields[i].name, name, len) == 0)
            return &fields[i];
    }
    return NULL;
}

/* NAME=VALUE */
static enum hsm_status
read_pair(const char *at, const char *end, struct acme_form_field *fields, size_t count, bool only,
          struct hsm_reason *why)
{
    const char *equals = memchr(at, '=', (size_t)(end - at));
    struct acme_form_field *field =
        equals != NULL ? find_field(at, (size_t)(equals - at), fields, count) : NULL;

    if (field == NULL && !only)
        return HSM_OK;
    if (field == NULL)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "a field that the form does not have");
    if (field->value != NULL)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "%s: sent twice", field->name);
    return read_value(equals + 1, end, field, why);
}

static enum hsm_status
parse(const char *body, size_t len, struct acme_form_field *fields, size_t count, bool only,
      struct hsm_reason *why)
{
    const char *at = body, *end = body + len;
    enum hsm_status st = HSM_OK;

    while (st == HSM_OK && at < end) {
        const char *next = memchr(at, '&', (size_t)(end - at));

        if (next == NULL)
            next = end;
        st = read_pair(at, next, fields, count, only, why);
        at = next < end ? next + 1 : end;
    }
    if (st != HSM_OK)
        acme_form_clear(fields, count);
    return st;
}

enum hsm_status
acme_form_parse(const char *body, size_t len, struct acme_form_field *fields, size_t count,
                struct hsm_reason *why)
{
    return parse(body, len, fields, count, true, why);
}

enum hsm_status
acme_form_pick(const char *body, size_t len, struct acme_form_field *fields, size_t count,
               struct hsm_reason *why)
{
    return parse(body, len, fields, count, false, why);
}

void
acme_form_clear(struct acme_form_field *fields, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(fields[i].value);
        fields[i].value = NULL;
    }
}
