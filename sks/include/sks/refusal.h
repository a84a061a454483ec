/*
 * refusal.h - why something is refused, and because of which member.
 */
#ifndef SKS_REFUSAL_H
#define SKS_REFUSAL_H

#include <hsm/status.h>

/** Names the member of a request, the claim of a PASSporT or the key of a configuration. Initialise
 *  to {.member = NULL}, which remains for faults of our own system. */
struct sks_refusal {
    const char *member; /* static */
    struct hsm_reason why;
};

/**
 * Name the member, so that a refusal is one statement:
 * `return hsm_refuse(sks_refusal_of(refusal, "dest"), HSM_ERR_MALFORMED, "empty");`
 *
 * @param refusal  NULL: the caller does not want to know
 * @return where its reason is written
 */
struct hsm_reason *sks_refusal_of(struct sks_refusal *refusal, const char *member);

/** Write member and reason as one text, "MEMBER: REASON", to `why`, which may be NULL; returns
 * `st`. */
enum hsm_status sks_refusal_tell(const struct sks_refusal *refusal, enum hsm_status st,
                                 struct hsm_reason *why);

#endif
