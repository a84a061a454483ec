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
 * Sign with so many callers at once for a while.
 *
 * @param callers  1 to HSM_MEASURE_CALLERS_MAX
 * @param raw      true: C_SignInit and C_Sign alone, each caller with a session of its own that is
 *                 opened for it; false: hsm_key_sign_digest()
 * @retval HSM_ERR_BUSY  the token has not so many sessions, or does not sign
 */
HSM_MUST_CHECK enum hsm_status hsm_measure_signing(struct hsm_key *key, unsigned callers,
                                                   unsigned duration_ms, bool raw,
                                                   struct hsm_measure *out);

#endif
