/*
 * softhsm.h - a throw-away SoftHSM in a directory of its own, for tests.
 *
 * The directory, softhsm2.conf (with reset_on_fork = true, which is how real
 * modules behave) and $SOFTHSM2_CONF are made by softhsm_start() and removed
 * by softhsm_stop(). A process has one at a time.
 *
 * The environment may name another module (see test-hsm/tokens), whose tokens
 * are then made instead:
 *   STI_TEST_MODULE         its path
 *   STI_TEST_TOKEN_COMMAND  a program that makes a token of the label in its
 *                           argument and with the PINs in STI_TEST_USER_PIN
 *                           and STI_TEST_SO_PIN; not set: C_InitToken does
 *   STI_TEST_TIMEOUT_MS     of a signature on it; not set: the default of token.h
 *   STI_TEST_SKIPS          a file of what it cannot do, see skips.h
 */
#ifndef TEST_SOFTHSM_H
#define TEST_SOFTHSM_H

#include <stdbool.h>

#include <hsm/token.h>

#define SOFTHSM_USER_PIN "2468"
#define SOFTHSM_SO_PIN   "13579"

/** The module's path: $STI_TEST_MODULE or where Debian puts libsofthsm2.so. */
const char *softhsm_module(void);

/** True if that is SoftHSM itself: then return values are known to the letter. */
bool softhsm_is_softhsm(void);

/** Make the directory and its configuration; aborts the test program if it cannot. */
void softhsm_start(void);

/** The directory (for files that a test wants beside the tokens): removed by softhsm_stop(). */
const char *softhsm_dir(void);

/** Make a token of that label and open it as user. */
struct hsm_token *softhsm_token(const char *label);

/** Open a token that softhsm_token() made before. */
struct hsm_token *softhsm_reopen(const char *label);

void softhsm_stop(void);

#endif
