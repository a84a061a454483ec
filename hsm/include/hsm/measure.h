/*
 * measure.h - how fast a token signs.
 */
#ifndef HSM_MEASURE_H
#define HSM_MEASURE_H

#include <stdbool.h>

#include <hsm/key.h>
#include <hsm/status.h>

#define HSM_MEASURE_CALLERS_MAX 256

struct hsm_measure {
    double rate; /* signatures a second */
    double p50_us, p95_us, p99_us; /* of one signature */
    unsigned long signatures;
    unsigned long failures;
};

/**
 * Sign with several concurrent callers for `duration_ms`.
 *
 * @param callers  1 to HSM_MEASURE_CALLERS_MAX
 * @param raw      true: only C_SignInit and C_Sign, each caller with its own session opened for
 *                 this; false: hsm_key_sign_digest()
 * @retval HSM_ERR_BUSY  the token does not have that many sessions, or does not sign
 */
HSM_MUST_CHECK enum hsm_status hsm_measure_signing(struct hsm_key *key, unsigned callers,
                                                   unsigned duration_ms, bool raw,
                                                   struct hsm_measure *out);

#endif
