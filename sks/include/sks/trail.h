/*
 * trail.h - the record of whose decision each signature was.
 *
 * One line of JSON for each signed call, appended to a file that several
 * processes may share, before the signature is given out: who asked, on whose
 * behalf, what allowed it, and the claims that were signed. No secrets. Threads
 * may share a trail.
 */
#ifndef SKS_TRAIL_H
#define SKS_TRAIL_H

#include <time.h>

#include <hsm/status.h>
#include <sks/claims.h>

struct sks_trail;

/** One signature; texts are borrowed, NULL for what is not known. */
struct sks_trail_entry {
    time_t now;
    const char *caller; /* who asked for it */
    const char *customer; /* who decided on the attestation */
    const char *rule; /* "FILE:LINE" that lets him */
    const char *spc, *x5u; /* whose certificate it is, and which */
    const char *request_id; /* X-RequestID or requestId */
    const struct sks_claims *claims; /* passed sks_claims_check() */
};

/** Open or make the file (mode 0600) and append to it. @retval HSM_ERR_IO  logged */
HSM_MUST_CHECK enum hsm_status sks_trail_open(const char *path, struct sks_trail **out);

/** Append a line at once; it is with the operating system when this returns HSM_OK.
 *  @retval HSM_ERR_IO  logged: no signature may be given out */
HSM_MUST_CHECK enum hsm_status sks_trail_write(struct sks_trail *trail,
                                               const struct sks_trail_entry *entry);

/** Go on in a new file when the path names another one than is open, or none: somebody moved it
 *  away (logrotate). Call now and then. */
void sks_trail_follow(struct sks_trail *trail);

void sks_trail_close(struct sks_trail *trail);

#endif
