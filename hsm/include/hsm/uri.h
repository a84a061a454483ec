/*
 * uri.h - PKCS#11 URIs (RFC 7512).
 *
 * Parsed strictly: a repeated standard attribute, a bad escape, or both
 * pin-source and pin-value are malformed. A pin-value is in the grammar and
 * parsed, but hsm_token_open() and hsm_key_find() refuse a URI that has one:
 * it would put the PIN into process lists and logs. Never log a URI's query.
 */
#ifndef HSM_URI_H
#define HSM_URI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <hsm/defer.h>
#include <hsm/status.h>

#define HSM_URI_MAX 2048 /* octets; longer: HSM_ERR_MALFORMED */
#define HSM_ID_MAX  64 /* octets of CKA_ID that a URI may name */

struct hsm_uri;

/**
 * Parse a PKCS#11 URI; hsm_uri_free() it.
 *
 * @retval HSM_ERR_MALFORMED  not a PKCS#11 URI by the rules above, or longer than HSM_URI_MAX
 */
HSM_MUST_CHECK enum hsm_status hsm_uri_parse(const char *text, struct hsm_uri **out,
                                             struct hsm_reason *why);

/*
 * Attributes by their RFC 7512 names ("token", "object", "module-path", ...):
 * decoded, borrowed, NULL when absent. The id is binary and has its own accessor.
 */
const char *hsm_uri_get(const struct hsm_uri *uri, const char *attribute);
const uint8_t *hsm_uri_id(const struct hsm_uri *uri, size_t *len);

/** True if a path attribute was not recognised: such a URI matches nothing (RFC 7512 section 2.5).
 */
bool hsm_uri_matches_nothing(const struct hsm_uri *uri);

void hsm_uri_free(struct hsm_uri *uri);
DEFINE_DEFER(struct hsm_uri, hsm_uri_free)

#endif
