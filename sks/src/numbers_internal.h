/*
 * numbers_internal.h - sets of telephone numbers as an operator writes them.
 */
#ifndef SKS_NUMBERS_INTERNAL_H
#define SKS_NUMBERS_INTERNAL_H

#include <certs/tnauthlist.h>
#include <hsm/status.h>

/**
 * Words between blanks: "12155551212", "12155551200-12155551299", or "1215555*" for all numbers
 * of at most CERTS_TN_MAX digits that begin so. The set is kept as a TNAuthList, which looks a
 * number up fast.
 *
 * @retval HSM_ERR_MALFORMED  the reason is "numbers: .."
 */
HSM_MUST_CHECK enum hsm_status sks_numbers_parse(const char *words, struct certs_tnauthlist **out,
                                                 struct hsm_reason *why);

#endif
