/*
 * limit_internal.h - how often something may be done, counted in a store that processes share: its
 * table is rate (subject TEXT PRIMARY KEY, used_until {int}); or by each process for itself.
 */
#ifndef ACME_LIMIT_INTERNAL_H
#define ACME_LIMIT_INTERNAL_H

#include <stdbool.h>
#include <time.h>

#include <acme/store.h>
#include <hsm/status.h>

#define ACME_HOUR_S 3600

/** So many events, all at once or one after the other, and as many more in each such time. */
struct acme_limit {
    const char *what; /* a word; it and whom it concerns make the subject */
    unsigned times; /* 0: any number */
    unsigned in_s; /* seconds */
};

/**
 * Count one more.
 *
 * @param whom    up to ACME_LIMIT_WHOM_MAX octets; of a longer one the rest counts for nothing
 * @param wait_s  receives 0, or after how many seconds there is room: then nothing was counted
 */
#define ACME_LIMIT_WHOM_MAX 255
HSM_MUST_CHECK enum hsm_status acme_limit_take_one(struct acme_store *store,
                                                   const struct acme_limit *limit, const char *whom,
                                                   time_t now, time_t *wait_s);

/** Whether one more would be refused now; nothing is counted. */
HSM_MUST_CHECK enum hsm_status acme_limit_is_used_up(struct acme_store *store,
                                                     const struct acme_limit *limit,
                                                     const char *whom, time_t now, bool *out);

/** Of one that was taken and, as it turned out, does not count. */
HSM_MUST_CHECK enum hsm_status
acme_limit_give_back(struct acme_store *store, const struct acme_limit *limit, const char *whom);

/** Forget up to `limit` of those who have everything left; *count receives how many. */
HSM_MUST_CHECK enum hsm_status acme_limit_expire(struct acme_store *store, time_t now,
                                                 int64_t limit, int64_t *count);

/* ---- limit_here.c: within one process, and not in the store ---- */

struct acme_limit_here;
HSM_MUST_CHECK enum hsm_status acme_limit_here_new(const struct acme_limit *limit,
                                                   struct acme_limit_here **out);
void acme_limit_here_free(struct acme_limit_here *here);

/** Count one more, from any thread. @return 0, or after how many seconds there is room: then
 * nothing was counted */
time_t acme_limit_here_take(struct acme_limit_here *here, const char *whom, time_t now);

#endif
