/* form.c - application/x-www-form-urlencoded, as browsers write it (WHATWG URL section 5). */
#include "form_internal.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#include <hsm/defer.h>

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
read_pair(const char *at, const char *end, struct acme_form_field *fields, size_t count,
          struct hsm_reason *why)
{
    const char *equals = memchr(at, '=', (size_t)(end - at));
    struct acme_form_field *field =
        equals != NULL ? find_field(at, (size_t)(equals - at), fields, count) : NULL;

    if (field == NULL)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "a field that the form does not have");
    if (field->value != NULL)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "%s: sent twice", field->name);
    return read_value(equals + 1, end, field, why);
}

enum hsm_status
acme_form_parse(const char *body, size_t len, struct acme_form_field *fields, size_t count,
                struct hsm_reason *why)
{
    const char *at = body, *end = body + len;
    enum hsm_status st = HSM_OK;

    while (st == HSM_OK && at < end) {
        const char *next = memchr(at, '&', (size_t)(end - at));

        if (next == NULL)
            next = end;
        st = read_pair(at, next, fields, count, why);
        at = next < end ? next + 1 : end;
    }
    if (st != HSM_OK)
        acme_form_clear(fields, count);
    return st;
}

void
acme_form_clear(struct acme_form_field *fields, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(fields[i].value);
        fields[i].value = NULL;
    }
}
