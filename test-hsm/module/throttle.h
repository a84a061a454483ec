/* throttle.h - a token that refuses calls above a rate, as network HSMs do. */
#ifndef FAULT_THROTTLE_H
#define FAULT_THROTTLE_H

#include <p11-kit/pkcs11.h>

#include "functions.h"

/**
 * @param rate   calls per second, 0: no limit
 * @param burst  calls accepted at once, at least 1
 * @param rv     returned for calls above the rate
 */
void fault_throttle_set(enum fault_fn fn, double rate, double burst, CK_RV rv);

/** CKR_OK if this call may proceed, else the rv of its throttle. */
CK_RV fault_throttle_take(enum fault_fn fn);

void fault_throttle_reset(void);
void fault_throttle_child(void);

#endif
