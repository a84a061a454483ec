/*
 * tn.h - telephone numbers in canonical form (RFC 8224 section 8.3).
 */
#ifndef SKS_TN_H
#define SKS_TN_H

#include <stdbool.h>

#include <hsm/status.h>

#define SKS_TN_MAX 32      /* characters of a canonical number */
#define SKS_TN_URI_MAX 512 /* characters of the URI it is taken from */

/**
 * The canonical number of a tel URI, a SIP URI whose user part is a number, or
 * a bare number: digits, '#' and '*'.
 *
 * @param country_code  put before a national number of ten digits; NULL: none
 * @retval HSM_ERR_NOT_FOUND  not a number: use the URI form
 * @retval HSM_ERR_MALFORMED  longer than the bounds above
 */
HSM_MUST_CHECK enum hsm_status sks_tn_canonical(const char *text, const char *country_code,
                                                char out[SKS_TN_MAX + 1]);

/** True if the text is already canonical: 1 to SKS_TN_MAX of [0-9#*] (RFC 8225 section 5.2.1). */
bool sks_tn_is_canonical(const char *text);

#endif
