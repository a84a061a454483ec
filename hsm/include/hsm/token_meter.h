/*
 * token_meter.h - the state of a token as metrics (metrics.h).
 *
 *   sti_token_ready                  1 when all processes are served by it
 *   sti_token_sessions               usable, in_flight, waiting
 *   sti_token_events_total           the counts of hsm_token_stats(): failures, losses, ...
 *   sti_token_signatures_total       signatures given out
 *   sti_token_session_waits_total, sti_token_session_wait_seconds_total
 */
#ifndef HSM_TOKEN_METER_H
#define HSM_TOKEN_METER_H

#include <hsm/defer.h>
#include <hsm/metrics.h>
#include <hsm/token.h>

struct hsm_token_meter;

/**
 * @param metrics  borrowed; NULL: nothing is counted
 * @param token    borrowed, outlives the meter; its label is the series' label
 */
HSM_MUST_CHECK enum hsm_status hsm_token_meter_new(struct hsm_metrics *metrics,
                                                   const struct hsm_token *token,
                                                   struct hsm_token_meter **out);

/**
 * Set sti_token_ready to 0 for a token that could not be opened, until a meter of it sets it.
 *
 * @param uri  from the configuration; its token attribute, or all of it, is the label
 */
void hsm_token_meter_absent(struct hsm_metrics *metrics, const char *uri);

/** Update the metrics; call it every second or so, in one thread at a time. */
void hsm_token_meter_read(struct hsm_token_meter *meter);

void hsm_token_meter_free(struct hsm_token_meter *meter);
DEFINE_DEFER(struct hsm_token_meter, hsm_token_meter_free)

#endif
