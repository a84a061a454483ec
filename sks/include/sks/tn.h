/*
 * tn.h - telephone numbers and SIP URIs in canonical form (RFC 8224 sections 8.3 and 8.5).
 */
#ifndef SKS_TN_H
#define SKS_TN_H

#include <stdbool.h>

#include <hsm/status.h>
#include <sks/dial_plan.h>

#define SKS_TN_MAX     32 /* characters of a canonical number */
#define SKS_TN_URI_MAX 512 /* characters of the URI it is taken from */

/**
 * The canonical number of a tel URI, a SIP URI whose user part is a number, or
 * a bare number: digits, '#' and '*'.
 *
 * A number without "+" is read as it is dialled under the plan: its prefix is replaced by the
 * country code. A number that the plan does not describe, such as a service code, is not changed.
 *
 * @param plan  NULL: numbers include their country codes
 * @retval HSM_ERR_NOT_FOUND  not a number: use the URI form
 * @retval HSM_ERR_MALFORMED  longer than the bounds above
 */
HSM_MUST_CHECK enum hsm_status sks_tn_canonical(const char *text, const struct sks_dial_plan *plan,
                                                char out[SKS_TN_MAX + 1]);

/** True if the text is already canonical: 1 to SKS_TN_MAX of [0-9#*] (RFC 8225 section 5.2.1). */
bool sks_tn_is_canonical(const char *text);

/**
 * The canonical form of a SIP or SIPS URI: scheme ":" user "@" host, lower
 * case, without password, port, parameters and headers.
 *
 * @retval HSM_ERR_NOT_FOUND  another scheme, or no user part: compare such URIs as they are
 * @retval HSM_ERR_MALFORMED  longer than SKS_TN_URI_MAX, or user or host is empty
 */
HSM_MUST_CHECK enum hsm_status sks_uri_canonical(const char *uri, char out[SKS_TN_URI_MAX + 1]);

#endif
