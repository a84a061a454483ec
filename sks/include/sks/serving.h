/*
 * serving.h - the service providers for which the worker processes sign calls now.
 *
 * Kept in shared memory, so that a worker that tries a new configuration knows whose calls would no
 * longer be signed if it replaced the others.
 */
#ifndef SKS_SERVING_H
#define SKS_SERVING_H

#include <stdbool.h>
#include <time.h>

#include <hsm/defer.h>
#include <hsm/status.h>

#define SKS_SERVING_S 60 /* how long a report by sks_serving_tell() counts */

struct sks_serving;

/** Made before fork(): the children share it. */
HSM_MUST_CHECK enum hsm_status sks_serving_new(struct sks_serving **out);
void sks_serving_free(struct sks_serving *serving);
DEFINE_DEFER(struct sks_serving, sks_serving_free)

/**
 * Report that this worker signs for an SPC.
 *
 * @param now  of CLOCK_MONOTONIC
 */
void sks_serving_tell(struct sks_serving *serving, const char *spc, time_t now);

/** True if a worker has reported the SPC in the last SKS_SERVING_S seconds. */
bool sks_serving_is(struct sks_serving *serving, const char *spc, time_t now);

#endif
