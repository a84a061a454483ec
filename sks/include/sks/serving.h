/*
 * serving.h - for which service providers the worker processes sign calls now.
 *
 * In memory that they share: so a worker that tries a new configuration knows whose calls would not
 * be signed any more if it took the place of the others.
 */
#ifndef SKS_SERVING_H
#define SKS_SERVING_H

#include <stdbool.h>
#include <time.h>

#include <hsm/status.h>

#define SKS_SERVING_S 60 /* who signed for a provider so long ago still does */

struct sks_serving;

/** Made before fork(): the children share it. */
HSM_MUST_CHECK enum hsm_status sks_serving_new(struct sks_serving **out);
void sks_serving_free(struct sks_serving *serving);

/** A worker signs for that SPC. @param now  of CLOCK_MONOTONIC */
void sks_serving_tell(struct sks_serving *serving, const char *spc, time_t now);

/** True if one has said so in the last SKS_SERVING_S. */
bool sks_serving_is(struct sks_serving *serving, const char *spc, time_t now);

#endif
