/*
 * form_internal.h - what a browser sends of a form: application/x-www-form-urlencoded.
 */
#ifndef ACME_FORM_INTERNAL_H
#define ACME_FORM_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>

#include <hsm/status.h>

/** A field that the form has. */
struct acme_form_field {
    const char *name; /* of letters, digits, '-' */
    size_t max; /* octets of its value, decoded */
    char *value; /* owned: acme_form_clear(); NULL: was not sent */
};

/**
 * Take a body apart. Each field is one of `fields`, once at most; a value has no NUL.
 *
 * @retval HSM_ERR_MALFORMED  another field, one twice or too long, or not so encoded; nothing is
 *                            filled in
 */
HSM_MUST_CHECK enum hsm_status acme_form_parse(const char *body, size_t len,
                                               struct acme_form_field *fields, size_t count,
                                               struct hsm_reason *why);

/** Release the values. */
void acme_form_clear(struct acme_form_field *fields, size_t count);

#endif
