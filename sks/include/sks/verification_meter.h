/*
 * verification_meter.h - the state of the chain cache and the trusted list as metrics.
 *
 *   sti_sks_x5u_total              requests for chains: hit, stale_hit, miss
 *   sti_sks_x5u_fetches_total      fetches: good, failed
 *   sti_sks_x5u_chains, sti_sks_x5u_octets
 *   sti_sks_trust_expires_seconds  when the present trusted-CA list or CRL expires
 *
 * sti_sks_x5u_fetch_seconds is counted where chains are fetched (struct sks_x5u_config).
 */
#ifndef SKS_VERIFICATION_METER_H
#define SKS_VERIFICATION_METER_H

#include <hsm/defer.h>
#include <hsm/metrics.h>
#include <sks/trust.h>
#include <sks/x5u.h>

struct sks_verification_meter;

/**
 * All pointers are borrowed.
 *
 * @param metrics  NULL: nothing is counted
 */
HSM_MUST_CHECK enum hsm_status
sks_verification_meter_new(struct hsm_metrics *metrics, struct sks_x5u_cache *x5u,
                           struct sks_trust *trust, struct sks_verification_meter **out);

/** Update the metrics; every second or so, in one thread at a time. */
void sks_verification_meter_read(struct sks_verification_meter *meter);

void sks_verification_meter_free(struct sks_verification_meter *meter);
DEFINE_DEFER(struct sks_verification_meter, sks_verification_meter_free)

#endif
