/* refusal.c - why something is refused, and which part of it. */
#include <sks/refusal.h>

#include <stddef.h>

struct hsm_reason *
sks_refusal_of(struct sks_refusal *refusal, const char *member)
{
    if (refusal == NULL)
        return NULL;
    refusal->member = member;
    return &refusal->why;
}

enum hsm_status
sks_refusal_tell(const struct sks_refusal *refusal, enum hsm_status st, struct hsm_reason *why)
{
    return refusal->member == NULL
               ? st
               : hsm_refuse(why, st, "%s: %s", refusal->member, refusal->why.text);
}
