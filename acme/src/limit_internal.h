/*
 * limit_internal.h - rate limits, counted in a store that processes share, in the table
 * rate (subject TEXT PRIMARY KEY, used_until {int}); or separately in each process.
 */
#ifndef ACME_LIMIT_INTERNAL_H
#define ACME_LIMIT_INTERNAL_H

#include <stdbool.h>
#include <time.h>

#include <acme/store.h>
#include <hsm/status.h>

#define ACME_HOUR_S 3600

/** A token bucket (GCRA) of `times` events that refills completely in `in_s` seconds. */
struct acme_limit {
    const char *what; /* a word; together with `whom` it is the subject of the row */
    unsigned times; /* 0: no limit */
    unsigned in_s; /* seconds */
};

/**
 * Count one event.
 *
 * @param whom    the first ACME_LIMIT_WHOM_MAX octets are significant
 * @param wait_s  receives 0; or, if the limit is reached and nothing was counted, the
 * seconds to wait
 */
#define ACME_LIMIT_WHOM_MAX 255
HSM_MUST_CHECK enum hsm_status acme_limit_take_one(struct acme_store *store,
                                                   const struct acme_limit *limit, const char *whom,
                                                   time_t now, time_t *wait_s);

/** Whether one more event would be refused now; nothing is counted. */
HSM_MUST_CHECK enum hsm_status acme_limit_is_used_up(struct acme_store *store,
                                                     const struct acme_limit *limit,
                                                     const char *whom, time_t now, bool *out);

/** Undo one acme_limit_take_one(). */
HSM_MUST_CHECK enum hsm_status
acme_limit_give_back(struct acme_store *store, const struct acme_limit *limit, const char *whom);

/** Delete up to `limit` rows whose allowance is full again; *count receives their number. */
HSM_MUST_CHECK enum hsm_status acme_limit_expire(struct acme_store *store, time_t now,
                                                 int64_t limit, int64_t *count);

/* ---- limit_here.c: within one process, not in the store ---- */

struct acme_limit_here;
HSM_MUST_CHECK enum hsm_status acme_limit_here_new(const struct acme_limit *limit,
                                                   struct acme_limit_here **out);
void acme_limit_here_free(struct acme_limit_here *here);

/** Count one event, from any thread.
 * @return 0, or the seconds to wait: then nothing was counted */
time_t acme_limit_here_take(struct acme_limit_here *here, const char *whom, time_t now);

#endif
