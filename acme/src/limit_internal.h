/*
 * limit_internal.h - how often something may be done, counted in a store: server_limit.c. The store
 * has a table rate(subject TEXT PRIMARY KEY, used_until {int} NOT NULL), in microseconds since
 * 1970.
 */
#ifndef ACME_LIMIT_INTERNAL_H
#define ACME_LIMIT_INTERNAL_H

#include <time.h>

#include <acme/store.h>
#include <hsm/status.h>

/**
 * Count one more `what` of `whom`, of which so many may be in an hour (0: any number).
 *
 * @param wait_s  receives 0, or after how many seconds there is room: then nothing was counted
 */
HSM_MUST_CHECK enum hsm_status acme_limit_take(struct acme_store *store, const char *what,
                                               const char *whom, unsigned per_hour, time_t now,
                                               time_t *wait_s);
HSM_MUST_CHECK enum hsm_status acme_limit_expire(struct acme_store *store, time_t now);

#endif
