/*
 * process.h - the hardening that each program does before it handles a secret; files.
 */
#ifndef HSM_PROCESS_H
#define HSM_PROCESS_H

#include <stddef.h>
#include <stdint.h>

#include <hsm/status.h>

/** No core dumps, no tracing by other processes of the user, no SSLKEYLOGFILE, umask 077, SIGPIPE
 *  and SIGXFSZ ignored: such a write fails. Before there are threads: it changes the environment.
 */
HSM_MUST_CHECK enum hsm_status hsm_process_harden(void);

/**
 * Read a whole file of at most `max` octets; *out has a NUL after its octets; free() it.
 *
 * @retval HSM_ERR_NOT_FOUND  no such file
 * @retval HSM_ERR_MALFORMED  it is larger than `max` octets
 */
HSM_MUST_CHECK enum hsm_status hsm_file_read(const char *path, size_t max, uint8_t **out,
                                             size_t *len);

/** hsm_file_read() of the rest of an open descriptor, which stays open. */
HSM_MUST_CHECK enum hsm_status hsm_file_read_fd(int fd, size_t max, uint8_t **out, size_t *len);

/** Replace a file: write beside it, sync, rename. Readers see the old or the new file, never a
 *  part of one. */
HSM_MUST_CHECK enum hsm_status hsm_file_write(const char *path, const void *octets, size_t len,
                                              unsigned mode);

/**
 * Create a file, complete and durable or not at all.
 *
 * @retval HSM_ERR_EXISTS  there is one already; it is not changed
 */
HSM_MUST_CHECK enum hsm_status hsm_file_create(const char *path, const void *octets, size_t len,
                                               unsigned mode);

#endif
