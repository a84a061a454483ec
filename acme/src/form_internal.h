/*
 * form_internal.h - a form as a browser sends it: application/x-www-form-urlencoded.
 */
#ifndef ACME_FORM_INTERNAL_H
#define ACME_FORM_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>

#include <hsm/status.h>

#define ACME_FORM_TYPE "application/x-www-form-urlencoded"

/** True of this media type, with or without parameters. @param content_type  NULL: none */
bool acme_form_is_type(const char *content_type);

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

/** The same for a protocol in which unknown fields are ignored (RFC 6749 section 3.2). */
HSM_MUST_CHECK enum hsm_status acme_form_pick(const char *body, size_t len,
                                              struct acme_form_field *fields, size_t count,
                                              struct hsm_reason *why);

/** Decode one value in place; false: it is not form-encoded, or has a NUL. */
bool acme_form_decode(char *value);

/** Release the values. */
void acme_form_clear(struct acme_form_field *fields, size_t count);

#endif
