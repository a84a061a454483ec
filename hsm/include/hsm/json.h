/*
 * json.h - JSON from outside: bounded, duplicate members refused.
 */
#ifndef HSM_JSON_H
#define HSM_JSON_H

#include <stddef.h>

#include <jansson.h>

#include <hsm/defer.h>
#include <hsm/status.h>

#define HSM_JSON_DEPTH_MAX 8 /* levels of arrays and objects */

DEFINE_DEFER(json_t, json_decref)

/**
 * Parse one JSON object and nothing after it. Duplicate members, invalid
 * UTF-8, embedded NULs and deeper nesting than HSM_JSON_DEPTH_MAX are malformed; the reason
 * names line and column. The caller decrefs *out.
 */
HSM_MUST_CHECK enum hsm_status hsm_json_parse(const char *text, size_t len, json_t **out,
                                              struct hsm_reason *why);

#endif
