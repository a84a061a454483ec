/*
 * one_token.h - a throw-away token of softhsm.h as the tokens of a service provider.
 */
#ifndef TEST_ONE_TOKEN_H
#define TEST_ONE_TOKEN_H

#include <sks/tokens.h>

#include "softhsm.h"

/** "pkcs11:token=LABEL", as softhsm_token() made it; the test program ends if it cannot be opened.
 *  @param settings  NULL: as softhsm_token() has them */
struct sks_tokens *one_token(const char *uri, const struct acme_token_settings *settings);

#endif
