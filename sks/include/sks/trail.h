/*
 * trail.h - the record of whose decision each signature was, and each refusal.
 *
 * One line of JSON for each call, appended to a file that several processes may
 * share: who asked, on whose behalf, what allowed it, and the claims. That of a
 * signed call is there before the signature is given out. No secrets. Threads
 * may share a trail.
 *
 * A line that was written outlives the process. It is on the disk, and outlives
 * the machine's losing power, when sks_trail_follow() has been called since.
 */
#ifndef SKS_TRAIL_H
#define SKS_TRAIL_H

#include <time.h>

#include <hsm/status.h>
#include <sks/claims.h>

struct sks_trail;

/** One signature or refusal; texts are borrowed, NULL for what is not known. */
struct sks_trail_entry {
    time_t now;
    const char *caller; /* who asked for it */
    const char *customer; /* who decided on the attestation */
    const char *rule; /* "FILE:LINE" that lets him */
    const char *spc, *x5u; /* whose certificate it is, and which */
    const char *request_id; /* X-RequestID or requestId */
    const char *refused; /* why policy did not allow it; NULL: it was signed */
    /* What was signed passed sks_claims_check(); of what was refused and did not, attestation and
     * originator alone are told. */
    const struct sks_claims *claims;
};

/** Open or make the file (mode 0600) and append to it. @retval HSM_ERR_IO  logged */
HSM_MUST_CHECK enum hsm_status sks_trail_open(const char *path, struct sks_trail **out);

/** Append a line at once; it is with the operating system when this returns HSM_OK. Disks are not
 *  waited for: a call does not have the time. @retval HSM_ERR_IO  logged: no signature may be given
 *  out */
HSM_MUST_CHECK enum hsm_status sks_trail_write(struct sks_trail *trail,
                                               const struct sks_trail_entry *entry);

/** Bring to the disk what was written since the last time, and go on in a new file when the path
 *  names another one than is open, or none: somebody moved it away (logrotate). Call every second,
 *  on a thread that may wait. */
void sks_trail_follow(struct sks_trail *trail);

void sks_trail_close(struct sks_trail *trail);

#endif
