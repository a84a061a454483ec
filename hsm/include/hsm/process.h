/*
 * process.h - what every program of ours does to itself before it meets a secret.
 */
#ifndef HSM_PROCESS_H
#define HSM_PROCESS_H

#include <stddef.h>
#include <stdint.h>

#include <hsm/status.h>

/** No core dumps, no tracing by other processes of the user, no SSLKEYLOGFILE, umask 077, SIGPIPE
 *  ignored. Before there are threads: it changes the environment. */
HSM_MUST_CHECK enum hsm_status hsm_process_harden(void);

/**
 * A whole file under a bound; *out has a NUL after the octets and is released with free().
 *
 * @retval HSM_ERR_NOT_FOUND  no such file
 * @retval HSM_ERR_MALFORMED  it is larger than `max` octets
 */
HSM_MUST_CHECK enum hsm_status hsm_file_read(const char *path, size_t max, uint8_t **out,
                                             size_t *len);

/** What is left to read of an open descriptor, under a bound; it stays open. */
HSM_MUST_CHECK enum hsm_status hsm_file_read_fd(int fd, size_t max, uint8_t **out, size_t *len);

/** Replace a file: written beside it, synced, renamed; readers see the old or the new, never a
 * part. */
HSM_MUST_CHECK enum hsm_status hsm_file_write(const char *path, const void *octets, size_t len,
                                              unsigned mode);

/** The same for a file that is not there yet; HSM_ERR_EXISTS if it is, and it stays as it is. */
HSM_MUST_CHECK enum hsm_status hsm_file_create(const char *path, const void *octets, size_t len,
                                               unsigned mode);

#endif
