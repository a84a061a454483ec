/*
 * form_internal.h - a form as a browser sends it: application/x-www-form-urlencoded.
 */
#ifndef ACME_FORM_INTERNAL_H
#define ACME_FORM_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>

#include <hsm/status.h>

/** A field of the form. */
struct acme_form_field {
    const char *name; /* letters, digits, '-' */
    size_t max; /* octets of its value, decoded */
    char *value; /* owned: acme_form_clear(); NULL: not sent */
};

/**
 * Parse a body. Each field must be one of `fields` and occur at most once; a value has no NUL.
 *
 * @retval HSM_ERR_MALFORMED  an unknown field, a field twice or too long, or an invalid
 *                            encoding; no value is set
 */
HSM_MUST_CHECK enum hsm_status acme_form_parse(const char *body, size_t len,
                                               struct acme_form_field *fields, size_t count,
                                               struct hsm_reason *why);

/** Release the values. */
void acme_form_clear(struct acme_form_field *fields, size_t count);

#endif
