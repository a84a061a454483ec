/*
 * password_internal.h - salted scrypt hashes (RFC 7914) of passwords for a store, each with its
 * cost parameters.
 */
#ifndef ACME_PASSWORD_INTERNAL_H
#define ACME_PASSWORD_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <acme/store.h>
#include <hsm/secret.h>
#include <hsm/status.h>

#define ACME_PASSWORD_SALT_LEN 16 /* octets */
#define ACME_PASSWORD_HASH_LEN 32 /* octets */

struct acme_password_hash {
    uint8_t salt[ACME_PASSWORD_SALT_LEN];
    uint8_t hash[ACME_PASSWORD_HASH_LEN];
    uint64_t n;
    uint32_t r, p;
};

/** Hash with a fresh salt and the current cost parameters. */
HSM_MUST_CHECK enum hsm_status acme_password_hash_new(const struct hsm_secret *password,
                                                      struct acme_password_hash *out);

/** A hash with the current cost parameters that no password matches, so that checking an unknown
 *  user takes as long as a known one. */
struct acme_password_hash acme_password_hash_of_nobody(void);

/** Read five columns that begin at `first`: salt, hash, n, r, p. HSM_ERR_IO: they are invalid. */
HSM_MUST_CHECK enum hsm_status acme_password_hash_read(const struct acme_rows *rows, size_t first,
                                                       struct acme_password_hash *out);

/** Takes equally long for wrong and right passwords. */
HSM_MUST_CHECK enum hsm_status acme_password_matches(const char *password, size_t len,
                                                     const struct acme_password_hash *stored,
                                                     bool *out);

/** The part after a scheme and its blanks (RFC 9110 section 11.4); NULL: another scheme, or
 *  none. */
const char *acme_after_scheme(const char *authorization, const char *scheme);

/* User and password (RFC 7617 section 2); the user ends at the first colon. */
struct acme_basic {
    char *user; /* owned: acme_basic_clear() */
    char *password; /* points into `user` */
    size_t len; /* octets of both texts */
};

/** @param credentials  base64, after the scheme */
HSM_MUST_CHECK enum hsm_status acme_basic_parse(const char *credentials, struct acme_basic *out);
/** Wipe and free. */
void acme_basic_clear(struct acme_basic *basic);

#endif
