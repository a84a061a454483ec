/*
 * json.h - JSON: bounded and without duplicates when read, canonical when written.
 */
#ifndef ACME_JSON_H
#define ACME_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include <hsm/json.h>
#include <hsm/status.h>

#define ACME_JSON_DEPTH_MAX HSM_JSON_DEPTH_MAX

/**
 * Parse one JSON object and nothing after it. Duplicate members, invalid
 * UTF-8, embedded NULs and deeper nesting than ACME_JSON_DEPTH_MAX are malformed; the reason
 * names line and column. The caller decrefs *out.
 */
HSM_MUST_CHECK enum hsm_status acme_json_parse(const char *text, size_t len, json_t **out,
                                               struct hsm_reason *why);

/*
 * Members of an object, borrowed. Required ones refuse with
 * "NAME: missing" or "NAME: not a string"; optional ones give NULL / the
 * default when absent and refuse when present with another type.
 */
HSM_MUST_CHECK enum hsm_status acme_json_string(const json_t *object, const char *name,
                                                const char **out, struct hsm_reason *why);
HSM_MUST_CHECK enum hsm_status acme_json_string_optional(const json_t *object, const char *name,
                                                         const char **out, struct hsm_reason *why);
/** An integer without fraction or exponent, in 0 .. INT64_MAX. */
HSM_MUST_CHECK enum hsm_status acme_json_integer(const json_t *object, const char *name,
                                                 int64_t *out, struct hsm_reason *why);
HSM_MUST_CHECK enum hsm_status acme_json_bool_optional(const json_t *object, const char *name,
                                                       bool fallback, bool *out,
                                                       struct hsm_reason *why);
HSM_MUST_CHECK enum hsm_status acme_json_object(const json_t *object, const char *name,
                                                json_t **out, struct hsm_reason *why);
HSM_MUST_CHECK enum hsm_status acme_json_array(const json_t *object, const char *name, json_t **out,
                                               struct hsm_reason *why);

/** RFC 8225 section 9: no white space, members sorted at every level; free() it. NULL: no memory.
 */
char *acme_json_canonical(const json_t *value);

/** Compact text, members in their order; free() it. NULL: `value` is NULL, or no memory. */
char *acme_json_text(const json_t *value);

/** True if a text is UTF-8 (RFC 3629); any other text cannot be put into an answer or a store. */
bool acme_json_can_carry(const char *text);

#endif
