/*
 * secret.h - PINs, passwords and bearer tokens, in memory that wipes itself.
 *
 * The octets live in their own locked, undumped pages where the system allows
 * it and are wiped by hsm_secret_free(). There is no way to print one.
 */
#ifndef HSM_SECRET_H
#define HSM_SECRET_H

#include <stdbool.h>
#include <stddef.h>

#include <hsm/defer.h>
#include <hsm/status.h>

#define HSM_SECRET_MAX 1024 /* octets; longer: HSM_ERR_MALFORMED */

struct hsm_secret;

/** Copy `len` octets; the caller wipes its own copy. An empty secret is refused: HSM_ERR_MALFORMED.
 */
HSM_MUST_CHECK enum hsm_status hsm_secret_new(const void *octets, size_t len,
                                              struct hsm_secret **out);

/** Read the first line of a file, without its line end. Logs a warning if others may read the
 *  file. */
HSM_MUST_CHECK enum hsm_status hsm_secret_read(const char *path, struct hsm_secret **out);

/**
 * hsm_secret_read() of a file that no other user can have made or read.
 *
 * @retval HSM_ERR_DENIED  it is a link, not a regular file, another user's, or accessible to
 *                         others; logged
 */
HSM_MUST_CHECK enum hsm_status hsm_secret_read_own(const char *path, struct hsm_secret **out);

/** Read the first line from an open descriptor (a pipe, a memfd), which stays open. */
HSM_MUST_CHECK enum hsm_status hsm_secret_read_fd(int fd, struct hsm_secret **out);

/** Ask on the controlling terminal, without echo. */
HSM_MUST_CHECK enum hsm_status hsm_secret_prompt(const char *question, struct hsm_secret **out);

/**
 * Read a secret from the source that an operator named: "file:PATH" or a path with a '/' in it,
 * "fd:N", "credential:NAME" (systemd: $CREDENTIALS_DIRECTORY/NAME), "prompt".
 */
HSM_MUST_CHECK enum hsm_status hsm_secret_from(const char *source, const char *question,
                                               struct hsm_secret **out);

/** True for a source that can be read only once: "fd:N" and "prompt". */
bool hsm_secret_is_read_once(const char *source);

/** `len` random octets, written as 2 * len lower-case hex digits. */
HSM_MUST_CHECK enum hsm_status hsm_secret_random(size_t len, struct hsm_secret **out);

/** The octets: borrowed, followed by a NUL that is not counted. */
const char *hsm_secret_octets(const struct hsm_secret *secret);
size_t hsm_secret_len(const struct hsm_secret *secret);

/** Compare in a time that depends on the lengths alone. */
bool hsm_secret_equals(const struct hsm_secret *secret, const void *octets, size_t len);

/**
 * Write to a new file of mode 0600, complete and durable or not at all.
 *
 * @retval HSM_ERR_EXISTS  the file exists already
 */
HSM_MUST_CHECK enum hsm_status hsm_secret_write(const struct hsm_secret *secret, const char *path);

void hsm_secret_free(struct hsm_secret *secret);
DEFINE_DEFER(struct hsm_secret, hsm_secret_free)

/* ---- for libraries that keep copies of secrets in memory from malloc() ---- */

/** free() that wipes the whole block first. NULL is fine. */
void hsm_wipe_free(void *octets);

/** realloc() that leaves no copy behind: the old block is wiped when a larger one replaces it. */
void *hsm_wipe_realloc(void *octets, size_t size);

#endif
