/*
 * refusal.h - why something is refused, and which part of it.
 */
#ifndef SKS_REFUSAL_H
#define SKS_REFUSAL_H

#include <hsm/status.h>

/** Of a request the member, of a PASSporT the claim, of a configuration the key. Begins as
 *  {.member = NULL}, and stays so where the fault is our own system's. */
struct sks_refusal {
    const char *member; /* static */
    struct hsm_reason why;
};

/**
 * Name the member, so that a refusal is one statement:
 * `return hsm_refuse(sks_refusal_of(refusal, "dest"), HSM_ERR_MALFORMED, "empty");`
 *
 * @param refusal  NULL: nobody wants to know
 * @return where its reason is written
 */
struct hsm_reason *sks_refusal_of(struct sks_refusal *refusal, const char *member);

/** Both in one text, "MEMBER: why"; returns `st`. `why` may be NULL. */
enum hsm_status sks_refusal_tell(const struct sks_refusal *refusal, enum hsm_status st,
                                 struct hsm_reason *why);

#endif
