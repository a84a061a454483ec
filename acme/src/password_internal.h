/*
 * password_internal.h - passwords as a store keeps them: salted scrypt hashes (RFC 7914), each with
 * the costs that it was made with.
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

/** With a fresh salt and the costs of today. */
HSM_MUST_CHECK enum hsm_status acme_password_hash_new(const struct hsm_secret *password,
                                                      struct acme_password_hash *out);

/** One of the same costs that no password has: an unknown user takes as long as a known one. */
struct acme_password_hash acme_password_hash_of_nobody(void);

/** From five columns that begin at `first`: salt, hash, n, r, p. HSM_ERR_IO: they are broken. */
HSM_MUST_CHECK enum hsm_status acme_password_hash_read(const struct acme_rows *rows, size_t first,
                                                       struct acme_password_hash *out);

/** Takes as long for a wrong password as for the right one. */
HSM_MUST_CHECK enum hsm_status acme_password_matches(const char *password, size_t len,
                                                     const struct acme_password_hash *stored,
                                                     bool *out);

/** What follows a scheme and its blanks (RFC 9110 section 11.4); NULL: another scheme, or none. */
const char *acme_after_scheme(const char *authorization, const char *scheme);

/* A user and a password (RFC 7617 section 2); the user ends at the first colon. */
struct acme_basic {
    char *user; /* owned: acme_basic_clear() */
    const char *password; /* in it */
    size_t len; /* octets of both */
};

/** @param credentials  base64, after the scheme */
HSM_MUST_CHECK enum hsm_status acme_basic_parse(const char *credentials, struct acme_basic *out);
/** Wipe. */
void acme_basic_clear(struct acme_basic *basic);

#endif
