/*
 * key_label_internal.h - the labels of keys that the SP-KMS generates.
 */
#ifndef SKS_KEY_LABEL_INTERNAL_H
#define SKS_KEY_LABEL_INTERNAL_H

#include <certs/tnauthlist.h>
#include <hsm/status.h>
#include <hsm/token.h>
#include <sks/catalogue.h>

#define KEY_LABEL_MAX SKS_ACCOUNT_LABEL_MAX /* characters */

/**
 * "PREFIX-20260115T120000Z-9f3a10c4", with the time and with octets of the token's: a CKA_LABEL
 * that no key of the token has. A longer prefix is cut.
 */
HSM_MUST_CHECK enum hsm_status sks_key_label_new(struct hsm_token *token, const char *prefix,
                                                 char out[KEY_LABEL_MAX + 1],
                                                 struct hsm_reason *why);

#endif
