/*
 * process.h - what every program of ours does to itself before it meets a secret.
 */
#ifndef HSM_PROCESS_H
#define HSM_PROCESS_H

#include <stddef.h>
#include <stdint.h>

#include <hsm/status.h>

/** No core dumps, no tracing by other processes of the user, umask 077, SIGPIPE ignored. */
HSM_MUST_CHECK enum hsm_status hsm_process_harden(void);

/** A whole file under a bound; *out has a NUL after the octets and is released with free(). */
HSM_MUST_CHECK enum hsm_status hsm_file_read(const char *path, size_t max, uint8_t **out,
                                             size_t *len);

/** Replace a file: written beside it, synced, renamed; readers see the old or the new, never a part. */
HSM_MUST_CHECK enum hsm_status hsm_file_write(const char *path, const void *octets, size_t len,
                                              unsigned mode);

#endif
