/*
 * softhsm.h - a throw-away SoftHSM in its own directory, for tests.
 *
 * The directory, softhsm2.conf (with reset_on_fork = true, which is how real
 * modules behave) and $SOFTHSM2_CONF are made by softhsm_start() and removed
 * by softhsm_stop(). A process has one at a time.
 *
 * The environment may name another module to use instead (see test-hsm/tokens):
 *   STI_TEST_MODULE         its path
 *   STI_TEST_TOKEN_COMMAND  a program that makes a token with the label in its
 *                           argument and the PINs in STI_TEST_USER_PIN and
 *                           STI_TEST_SO_PIN; not set: C_InitToken is used
 *   STI_TEST_TIMEOUT_MS     of a signature on it; not set: the default of token.h
 *   STI_TEST_SKIPS          a list of tests that it cannot pass, see skips.h
 */
#ifndef TEST_SOFTHSM_H
#define TEST_SOFTHSM_H

#include <stdbool.h>

#include <hsm/token.h>

#define SOFTHSM_USER_PIN "2468"
#define SOFTHSM_SO_PIN   "13579"

/** The module's path: $STI_TEST_MODULE, or libsofthsm2.so as Debian installs it. */
const char *softhsm_module(void);

/** True if the module is SoftHSM itself: then return values are known exactly. */
bool softhsm_is_softhsm(void);

/** Make the directory and its configuration; aborts the test program if it cannot. */
void softhsm_start(void);

/** The directory, also for other files of a test; removed by softhsm_stop(). */
const char *softhsm_dir(void);

/** Make a token with this label and open it as user. */
struct hsm_token *softhsm_token(const char *label);

/** Open a token that softhsm_token() made before. */
struct hsm_token *softhsm_reopen(const char *label);

void softhsm_stop(void);

#endif
