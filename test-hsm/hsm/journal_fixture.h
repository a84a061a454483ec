/*
 * journal_fixture.h - write, copy, change and verify a signing journal on a throw-away token.
 */
#ifndef TEST_JOURNAL_FIXTURE_H
#define TEST_JOURNAL_FIXTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <hsm/journal.h>
#include <hsm/key.h>
#include <hsm/token.h>
#include <hsm/use.h>

#define JOURNAL_TOKEN  "journaled"
#define JOURNAL_SIGNER "signer"
#define PATH_ROOM      4096 /* octets */

/** DIR of a journal below softhsm_dir(): static storage, until the next call. */
const char *journal_dir(const char *name);

/** Open JOURNAL_TOKEN; unset members of `with` get defaults. */
struct hsm_token *journal_token(const struct hsm_token_config *with,
                                const struct hsm_journal_config *journal);

/** Open the token with a journal in `dir`, and its key JOURNAL_SIGNER, made if absent. */
struct hsm_token *journal_open(const char *dir, struct hsm_key **key);

/** Sign a message for this kind of use and requester. */
enum hsm_status journal_sign(struct hsm_key *key, enum hsm_use_kind kind, const char *who,
                             const char *message);

/** SHA-256 of a message, in hex. */
void journal_digest(const char *message, char hex[2 * HSM_SHA256_LEN + 1]);

/** The result of verifying a journal. */
struct verdict {
    enum hsm_status status;
    struct hsm_journal_summary summary;
    unsigned faults, notices;
    /* the first fault that has a place, else the first fault */
    bool placed;
    char file[HSM_JOURNAL_NAME_MAX + 1];
    uint64_t record, octet;
    char text[512];
    char notice[512]; /* the first notice */
};

void journal_verify(const char *dir, EVP_PKEY *key, const char *const *notes, struct verdict *out);

/** Verify a journal; a fault is printed and fails the test. */
void journal_assert_good(const char *dir, struct verdict *out);

/** The one file of the directory besides the index. */
const char *journal_only_file(const char *dir);

/** A whole file, with a NUL; free() it. */
char *journal_get(const char *dir, const char *file, size_t *len);
void journal_put(const char *dir, const char *file, const char *octets, size_t len);

/** A copy of a directory, at journal_dir(name). */
void journal_copy(const char *dir, const char *name);

/** Count records of a kind in all files, and keep the last one's fields. */
struct seen {
    const char *kind; /* the kind to count */
    unsigned count;
    char file[HSM_JOURNAL_NAME_MAX + 1];
    uint64_t number;
    char key[33], digest[65], who[256], outcome[32], detail[600];
};

void journal_look(const char *dir, const char *kind, struct seen *out);

#endif
