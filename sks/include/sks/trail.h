/*
 * trail.h - the record of who was responsible for each signature and refusal.
 *
 * One line of JSON for each call, appended to a file that several processes may
 * share: who asked, on whose behalf, which rule allowed it, and the claims. The
 * line of a signed call is written before the signature is given out. It holds no
 * secrets. Threads may share a trail.
 *
 * A written line survives the process. It survives a power failure once
 * sks_trail_follow() has been called.
 */
#ifndef SKS_TRAIL_H
#define SKS_TRAIL_H

#include <time.h>

#include <hsm/defer.h>
#include <hsm/status.h>
#include <sks/claims.h>

struct sks_trail;

/** One signature or refusal; texts are borrowed, NULL for what is not known. */
struct sks_trail_entry {
    time_t now;
    const char *caller; /* who asked for it */
    const char *customer; /* who decided on the attestation */
    const char *rule; /* "FILE:LINE" of the section that allows it */
    const char *spc, *x5u; /* whose certificate it is, and which */
    const char *request_id; /* X-RequestID or requestId */
    const char *refused; /* why policy did not allow it; NULL: it was signed */
    /* Signed claims have passed sks_claims_check(); of refused ones that have not, only attestation
     * and originator are recorded. */
    const struct sks_claims *claims;
};

/**
 * Open or create the file (mode 0600) for appending.
 *
 * @retval HSM_ERR_IO  logged
 */
HSM_MUST_CHECK enum hsm_status sks_trail_open(const char *path, struct sks_trail **out);

/**
 * Append a line at once; it is with the operating system when this returns HSM_OK. Does not wait
 * for the disk, for which a call has no time.
 *
 * @retval HSM_ERR_IO  logged: no signature may be given out
 */
HSM_MUST_CHECK enum hsm_status sks_trail_write(struct sks_trail *trail,
                                               const struct sks_trail_entry *entry);

/** Sync to disk what was written since the last call, and reopen the path if the file was moved
 *  away (logrotate). Call every second, on a thread that may wait. */
void sks_trail_follow(struct sks_trail *trail);

void sks_trail_close(struct sks_trail *trail);
DEFINE_DEFER(struct sks_trail, sks_trail_close)

#endif
