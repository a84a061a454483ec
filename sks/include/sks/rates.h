/*
 * rates.h - limits on the calls that a name may have signed: token buckets shared by workers.
 *
 * A bucket is one number in shared memory, the time at which it will be full again (GCRA). Taking
 * from it needs no lock, so a process that is killed leaves nothing half done.
 */
#ifndef SKS_RATES_H
#define SKS_RATES_H

#include <stddef.h>
#include <stdint.h>

#include <hsm/defer.h>
#include <hsm/status.h>

#define SKS_RATES_MAX 4096 /* names */

struct sks_rates;

/** Made before fork(): the children share it. */
HSM_MUST_CHECK enum hsm_status sks_rates_new(struct sks_rates **out);
void sks_rates_free(struct sks_rates *rates);
DEFINE_DEFER(struct sks_rates, sks_rates_free)

/**
 * The bucket of a name, the same one in all processes and after a reload.
 *
 * @retval HSM_ERR_NOMEM  SKS_RATES_MAX names have one
 */
HSM_MUST_CHECK enum hsm_status sks_rates_bucket(struct sks_rates *rates, const char *name,
                                                size_t *bucket);

/**
 * Take one call out of a bucket.
 *
 * @param per_s   calls a second at which it refills, at least 1
 * @param burst   calls that it holds, at least 1
 * @param now_ns  of CLOCK_MONOTONIC
 * @param wait_s  with HSM_ERR_BUSY: receives the seconds until a call is available
 * @retval HSM_ERR_BUSY  the bucket is empty
 */
HSM_MUST_CHECK enum hsm_status sks_rates_take(struct sks_rates *rates, size_t bucket,
                                              unsigned per_s, unsigned burst, int64_t now_ns,
                                              unsigned *wait_s);

/** Return a call that was taken but then not signed, for another reason. */
void sks_rates_give_back(struct sks_rates *rates, size_t bucket, unsigned per_s);

#endif
