/*
 * audit_report_internal.h - the schema of a report, for code that reads one.
 */
#ifndef HSM_AUDIT_REPORT_INTERNAL_H
#define HSM_AUDIT_REPORT_INTERNAL_H

#include <jansson.h>

#include <hsm/status.h>

enum hsm_json_kind {
    HSM_JSON_STRING,
    HSM_JSON_STRING_NULL,
    HSM_JSON_OPTIONAL_STRING,
    HSM_JSON_INTEGER,
    HSM_JSON_BOOL,
    HSM_JSON_BOOL_NULL,
    HSM_JSON_ARRAY,
    HSM_JSON_OBJECT,
    HSM_JSON_OBJECT_NULL,
    HSM_JSON_SHA256 /* 64 digits of lower-case hex */
};

/** Check the members, their types and that there are no others, at every level of the schema. */
HSM_MUST_CHECK enum hsm_status hsm_audit_check_schema(json_t *report, struct hsm_reason *why);

/** A string member of an object whose schema was checked; "" for null. */
const char *hsm_audit_member(const json_t *object, const char *name);

#endif
