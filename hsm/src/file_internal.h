/*
 * file_internal.h - durable writes, shared by process.c and secret.c.
 */
#ifndef HSM_FILE_INTERNAL_H
#define HSM_FILE_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>

#include <sys/types.h>

#include <hsm/status.h>

/**
 * Write beside the file, sync, then rename over it, or with `replace` false only if no such file
 * exists (HSM_ERR_EXISTS).
 */
HSM_MUST_CHECK enum hsm_status hsm_file_put(const char *path, const void *octets, size_t len,
                                            mode_t mode, bool replace);

#endif
