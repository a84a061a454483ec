/*
 * worker_internal.h - threads that call the module for the callers.
 *
 * A caller waits for its deadline and no longer, whatever the module does. A call that outlives it
 * is left behind: its session and its thread are replaced, and both end if the module ever returns
 * from the call.
 */
#ifndef HSM_WORKER_INTERNAL_H
#define HSM_WORKER_INTERNAL_H

#include "signer_internal.h"

struct hsm_workers;
struct hsm_job;

HSM_MUST_CHECK enum hsm_status hsm_workers_start(struct hsm_slot *slot, struct hsm_workers **out);

/** End the threads that are not stuck; NULL is fine. No call may be signing. */
void hsm_workers_stop(struct hsm_workers *workers);

/** As hsm_signer_sign_here(), in another thread. */
HSM_MUST_CHECK enum hsm_status hsm_workers_sign(struct hsm_workers *workers,
                                                struct hsm_signer *signer,
                                                const struct hsm_request *request, uint8_t *sig);

/** Record the session that a job uses now; NULL: it gives its session back. */
void hsm_job_holds(struct hsm_job *job, struct hsm_session *session);

#endif
