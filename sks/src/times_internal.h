/*
 * times_internal.h - a time for each of many names, in memory that worker processes share.
 *
 * Made before fork(). Names come from the operator's configuration and are never removed. There are
 * no locks, so a process that is killed leaves nothing half done.
 */
#ifndef SKS_TIMES_INTERNAL_H
#define SKS_TIMES_INTERNAL_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <hsm/status.h>

#define TIMES_MAX 4096 /* names */

struct times;

HSM_MUST_CHECK enum hsm_status sks_times_new(struct times **out);
void sks_times_free(struct times *times);

/**
 * The place of a name's time, which is 0 at first. It is the same in all processes and after a
 * reload.
 *
 * @retval HSM_ERR_NOMEM  TIMES_MAX other names have one; logged
 */
HSM_MUST_CHECK enum hsm_status sks_times_of(struct times *times, const char *name, size_t *at);

_Atomic int64_t *sks_times_at(struct times *times, size_t at);

#endif
