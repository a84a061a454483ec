/*
 * softhsm.h - a throw-away SoftHSM in a directory of its own, for tests.
 *
 * The directory, softhsm2.conf (with reset_on_fork = true, which is how real
 * modules behave) and $SOFTHSM2_CONF are made by softhsm_start() and removed
 * by softhsm_stop(). A process has one at a time.
 */
#ifndef TEST_SOFTHSM_H
#define TEST_SOFTHSM_H

#include <hsm/token.h>

#define SOFTHSM_USER_PIN "2468"
#define SOFTHSM_SO_PIN   "13579"

/** The module's path: $STI_TEST_MODULE or where Debian puts libsofthsm2.so. */
const char *softhsm_module(void);

/** Make the directory and its configuration; aborts the test program if it cannot. */
void softhsm_start(void);

/** The directory (for files that a test wants beside the tokens): removed by softhsm_stop(). */
const char *softhsm_dir(void);

/** Initialise a token of that label and open it as user. */
struct hsm_token *softhsm_token(const char *label);

/** Open a token that softhsm_token() made before. */
struct hsm_token *softhsm_reopen(const char *label);

void softhsm_stop(void);

#endif
