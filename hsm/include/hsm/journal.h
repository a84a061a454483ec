/*
 * journal.h - the signing journal: what every private key was used for.
 *
 * A directory of text files, each written by one process for one token. Each use
 * of a key is a line; lines are hash-chained and are the leaves of a Merkle tree
 * (RFC 9162). The file "index" accounts for all files and holds their
 * checkpoints, signed by a key of the token. docs/JOURNAL.md describes the format
 * and what it guarantees.
 *
 * The journal is written by the token, as struct hsm_token_config says. The
 * functions of this header read it; they need no token.
 */
#ifndef HSM_JOURNAL_H
#define HSM_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/types.h>

#include <hsm/defer.h>
#include <hsm/merkle.h>
#include <hsm/status.h>

#define HSM_JOURNAL_KEY        "journal" /* label of the key that signs checkpoints */
#define HSM_JOURNAL_INDEX      "index"
#define HSM_JOURNAL_SUFFIX     ".log" /* of the other files */
#define HSM_JOURNAL_LINE_MAX   1024 /* octets of a line with its line end */
#define HSM_JOURNAL_NAME_MAX   95 /* octets of a file's name */
#define HSM_JOURNAL_ORIGIN_MAX 191 /* octets of a checkpoint's origin line */
#define HSM_JOURNAL_NOTE_MAX   1024 /* octets of a checkpoint */
#define HSM_JOURNAL_KEY_LEN    16 /* octets of SHA-256 of a public key by which lines name it */

enum hsm_journal_failure {
    HSM_JOURNAL_BY_KIND, /* go on where hsm_use_is_durable() is false, else refuse */
    HSM_JOURNAL_REFUSE,
    HSM_JOURNAL_GO_ON /* sign, and count what is missing; reported in log and journal */
};

/** "by-kind", "refuse", "go-on". */
HSM_MUST_CHECK enum hsm_status hsm_journal_failure_parse(const char *word,
                                                         enum hsm_journal_failure *out);

/** For a member that is 0 or NULL the default given beside it is used. Texts are copied. */
struct hsm_journal_config {
    const char *dir; /* created (mode 0700) unless it exists */
    const char *program; /* recorded where no caller is named; [a-z0-9-], at most 32 octets;
                            default: the process's name */
    const char *key_label; /* of the checkpoint key, generated if absent; default: HSM_JOURNAL_KEY
                            */
    unsigned checkpoint_records; /* records between two checkpoints; default: 65536 */
    unsigned checkpoint_s; /* seconds between two checkpoints; default: 300 */
    unsigned flush_ms; /* records that need not be durable are written within; default: 50 */
    unsigned rotate_mb; /* MiB after which another file is begun; default: 256 */
    unsigned retain_days; /* days after its end that a file is removed; 0: never */
    enum hsm_journal_failure on_failure; /* when it cannot be written */
};

/** Counts of a token's journal since the token was opened. */
struct hsm_journal_stats {
    uint64_t records; /* uses that were recorded */
    uint64_t lost; /* uses that could not be recorded or written */
    uint64_t refused; /* signatures not made, or not given out, for that reason */
    uint64_t calls; /* calls of C_Sign, as journaled beside the checkpoints */
    uint64_t checkpoints;
    bool failing; /* now */
};

struct hsm_token;

/** All 0 for a token without a journal. */
void hsm_journal_stats(const struct hsm_token *token, struct hsm_journal_stats *out);

/* ---- reading ---- */

/** One line; texts are borrowed from the reader. "-" stands where a field does not apply. */
struct hsm_journal_record {
    uint64_t number; /* from 0 */
    const char *time; /* RFC 3339, UTC, microseconds */
    const char *kind; /* hsm_use_word(), or a kind of the journal's own */
    const char *key; /* hex of HSM_JOURNAL_KEY_LEN octets */
    const char *digest; /* hex */
    const char *who;
    const char *outcome; /* "ok", or why not */
    const char *detail; /* NAME=VALUE,... */
    const uint8_t *leaf; /* hash: HSM_SHA256_LEN octets */
};

/** The value of a name in a detail, decoded. False: it is absent, or longer than `size` - 1. */
bool hsm_journal_detail(const char *detail, const char *name, char *out, size_t size);

/** Return false to stop reading. */
typedef bool hsm_journal_take_fn(void *context, const char *file,
                                 const struct hsm_journal_record *record);

/**
 * Read the lines of a file for as long as they are well-formed and in the chain.
 *
 * @param why  receives which line is wrong: record number and octet
 * @retval HSM_ERR_UNTRUSTED  a line is wrong; the lines before it were passed to `take`
 */
HSM_MUST_CHECK enum hsm_status hsm_journal_read(const char *dir, const char *file,
                                                hsm_journal_take_fn *take, void *context,
                                                struct hsm_reason *why);

/** hsm_journal_read() of the index, then of every file that it names and that exists. */
HSM_MUST_CHECK enum hsm_status hsm_journal_read_all(const char *dir, hsm_journal_take_fn *take,
                                                    void *context, struct hsm_reason *why);

/* ---- verifying ---- */

enum hsm_journal_weight {
    HSM_JOURNAL_FAULT, /* it was tampered with or damaged */
    HSM_JOURNAL_NOTICE /* no fault, but worth knowing: a crash, a file in use, a removal */
};

struct hsm_journal_finding {
    enum hsm_journal_weight weight;
    const char *file;
    bool has_place;
    uint64_t record; /* with has_place: number of the first wrong record, from 0 */
    uint64_t octet; /* with has_place: where its line begins in the file */
    const char *text;
};

struct hsm_journal_verify_config {
    const char *dir;
    EVP_PKEY *key; /* checkpoint key; NULL: DIR/ID.pem, which proves nothing against root */
    const char *const *notes; /* checkpoints that were kept elsewhere; NULL-terminated, or NULL */
    void (*tell)(void *context, const struct hsm_journal_finding *finding);
    void *context;
};

struct hsm_journal_summary {
    uint64_t files; /* including the index; without removed files */
    uint64_t records;
    uint64_t uses; /* records of uses of keys */
    uint64_t unspecified; /* uses whose kind was not set */
    uint64_t lost; /* uses that the journal itself reports as missing */
    uint64_t checkpoints; /* verified */
    uint64_t unsecured; /* records after the last checkpoint of their file */
    uint64_t removed; /* files removed after their retention time */
    uint64_t ended_early; /* files whose process did not end properly */
    uint64_t calls; /* of C_Sign by the writing processes; a lower bound if any ended early */
    uint64_t faults; /* findings of weight HSM_JOURNAL_FAULT */
};

/**
 * Verify a directory as a whole: chains, trees, checkpoints, and that every file is accounted for.
 * It may be in use.
 *
 * @retval HSM_OK             no fault
 * @retval HSM_ERR_UNTRUSTED  the findings describe the faults
 * @return any other: the directory could not be read; logged
 */
HSM_MUST_CHECK enum hsm_status hsm_journal_verify(const struct hsm_journal_verify_config *config,
                                                  struct hsm_journal_summary *out);

/* ---- checkpoints and proofs ---- */

/** A checkpoint: a C2SP tlog-checkpoint in a signed note. */
struct hsm_journal_note {
    char origin[HSM_JOURNAL_ORIGIN_MAX + 1];
    uint64_t size;
    uint8_t root[HSM_SHA256_LEN];
    char time[28];
    uint8_t key_hint[4];
    uint8_t sig[HSM_P256_SIG_LEN]; /* R || S */
};

/**
 * Parse a checkpoint; nothing in it is verified before hsm_journal_note_verify().
 *
 * @retval HSM_ERR_MALFORMED  not a checkpoint of a signing journal: one extension line (the time)
 *                            and one signature
 */
HSM_MUST_CHECK enum hsm_status
hsm_journal_note_parse(const char *text, struct hsm_journal_note *out, struct hsm_reason *why);

/** @retval HSM_ERR_UNTRUSTED  not signed by that key */
HSM_MUST_CHECK enum hsm_status hsm_journal_note_verify(const struct hsm_journal_note *note,
                                                       EVP_PKEY *key);

/** Write a checkpoint as text; `out` has room for HSM_JOURNAL_NOTE_MAX octets. */
HSM_MUST_CHECK enum hsm_status hsm_journal_note_format(const struct hsm_journal_note *note,
                                                       char *out);

/**
 * Read the checkpoints in the index, oldest first.
 *
 * @param file  the file whose checkpoints are wanted ("index" for the index's own); NULL: all files
 */
HSM_MUST_CHECK enum hsm_status
hsm_journal_notes(const char *dir, const char *file,
                  bool (*take)(void *context, const struct hsm_journal_note *note), void *context,
                  struct hsm_reason *why);

/** A file's lines and their Merkle tree, in memory: for proofs. */
struct hsm_journal_log;

/**
 * Read a whole file of the journal. It owns what it has read; hsm_journal_log_close() it.
 *
 * @retval HSM_ERR_UNTRUSTED  a line is malformed or not in the chain; the reason says which
 */
HSM_MUST_CHECK enum hsm_status hsm_journal_log_open(const char *dir, const char *file,
                                                    struct hsm_journal_log **out,
                                                    struct hsm_reason *why);
void hsm_journal_log_close(struct hsm_journal_log *log);
DEFINE_DEFER(struct hsm_journal_log, hsm_journal_log_close)

/** Borrowed, valid until hsm_journal_log_close(). */
const struct hsm_merkle_tree *hsm_journal_log_tree(const struct hsm_journal_log *log);

/**
 * The proof that a record is in the tree of a checkpoint, as text (docs/JOURNAL.md); free() it.
 *
 * @param note  a checkpoint of this file: its root is compared with the file's
 * @retval HSM_ERR_NOT_FOUND  the checkpoint is older than the record
 * @retval HSM_ERR_UNTRUSTED  the file does not have the root of the checkpoint
 */
HSM_MUST_CHECK enum hsm_status hsm_journal_prove(const struct hsm_journal_log *log, uint64_t number,
                                                 const struct hsm_journal_note *note, char **out,
                                                 struct hsm_reason *why);

/**
 * Check a proof made by hsm_journal_prove(). Nothing but the text and the key is needed.
 *
 * @param key     the trusted checkpoint key
 * @param record  receives the proved line: at most HSM_JOURNAL_LINE_MAX octets, NUL included
 */
HSM_MUST_CHECK enum hsm_status hsm_journal_proof_check(const char *text, EVP_PKEY *key,
                                                       char *record, struct hsm_journal_note *note,
                                                       struct hsm_reason *why);

#endif
