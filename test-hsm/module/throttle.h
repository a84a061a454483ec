/* throttle.h - a token that refuses calls above a rate, as network HSMs do. */
#ifndef FAULT_THROTTLE_H
#define FAULT_THROTTLE_H

#include <p11-kit/pkcs11.h>

#include "functions.h"

/**
 * @param rate   calls a second, 0: any number
 * @param burst  calls that may come at once, at least 1
 * @param rv     the answer to the others
 */
void fault_throttle_set(enum fault_fn fn, double rate, double burst, CK_RV rv);

/** CKR_OK: this call may go on. */
CK_RV fault_throttle_take(enum fault_fn fn);

void fault_throttle_reset(void);
void fault_throttle_child(void);

#endif
