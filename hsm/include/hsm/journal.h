/*
 * journal.h - the signing journal: what every private key was used for.
 *
 * A directory of text files, each written by one process for one token: a line
 * for each use of a key, hash-chained, and leaves of a Merkle tree
 * (RFC 9162). A file "index" accounts for all of them and has their
 * checkpoints, signed by a key of the token. The format, and what it
 * guarantees, is in docs/JOURNAL.md.
 *
 * Writing is part of a token: struct hsm_token_config says where. The rest of
 * this header reads; it needs no token.
 */
#ifndef HSM_JOURNAL_H
#define HSM_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/types.h>

#include <hsm/merkle.h>
#include <hsm/status.h>

#define HSM_JOURNAL_KEY        "journal" /* label of the key that signs checkpoints */
#define HSM_JOURNAL_INDEX      "index"
#define HSM_JOURNAL_SUFFIX     ".log" /* of the other files */
#define HSM_JOURNAL_LINE_MAX   1024 /* octets of a line with its line end */
#define HSM_JOURNAL_NAME_MAX   95 /* octets of a file's name */
#define HSM_JOURNAL_ORIGIN_MAX 191 /* octets of what a checkpoint is of */
#define HSM_JOURNAL_NOTE_MAX   1024 /* octets of a checkpoint */
#define HSM_JOURNAL_KEY_LEN    16 /* octets of SHA-256 of a public key by which lines name it */

enum hsm_journal_failure {
    HSM_JOURNAL_BY_KIND, /* go on where hsm_use_is_durable() is false, else refuse */
    HSM_JOURNAL_REFUSE,
    HSM_JOURNAL_GO_ON /* sign, and count what is missing; said in log and journal */
};

/** "by-kind", "refuse", "go-on". */
HSM_MUST_CHECK enum hsm_status hsm_journal_failure_parse(const char *word,
                                                         enum hsm_journal_failure *out);

/** A member that is 0 or NULL has the default that is said beside it. Texts are copied. */
struct hsm_journal_config {
    const char *dir; /* made (mode 0700) unless it is there */
    const char *program; /* who asks when nobody is named; [a-z0-9-], at most 32 octets; the
                            process's name */
    const char *key_label; /* of the checkpoints' key, generated if absent; HSM_JOURNAL_KEY */
    unsigned checkpoint_records; /* a checkpoint after so many; 65536 */
    unsigned checkpoint_s; /* or after so many seconds; 300 */
    unsigned flush_ms; /* what need not be durable is written within; 50 */
    unsigned rotate_mb; /* another file is begun when one has so many MiB; 256 */
    unsigned retain_days; /* a file is removed so long after its end; 0: never */
    enum hsm_journal_failure on_failure; /* when it cannot be written */
};

/** Of a token's journal, since it was opened. */
struct hsm_journal_stats {
    uint64_t records; /* of uses, taken */
    uint64_t lost; /* of uses, that could not be taken or written */
    uint64_t refused; /* signatures that were not made or not given out for that */
    uint64_t calls; /* of C_Sign, as journaled beside the checkpoints */
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
    const char *kind; /* hsm_use_word(), or of the journal itself */
    const char *key; /* hex of HSM_JOURNAL_KEY_LEN octets */
    const char *digest; /* hex */
    const char *who;
    const char *outcome; /* "ok", or why not */
    const char *detail; /* NAME=VALUE,... */
    const uint8_t *leaf; /* hash: HSM_SHA256_LEN octets */
};

/** The value of a name in a detail, decoded; false: it is not there, or longer than `size` - 1. */
bool hsm_journal_detail(const char *detail, const char *name, char *out, size_t size);

/** False: end the reading. */
typedef bool hsm_journal_take_fn(void *context, const char *file,
                                 const struct hsm_journal_record *record);

/**
 * Every line of a file, as long as it is well-formed and in the chain.
 *
 * @param why  receives which line is wrong: record number and octet
 * @retval HSM_ERR_UNTRUSTED  a line is wrong; those before were given
 */
HSM_MUST_CHECK enum hsm_status hsm_journal_read(const char *dir, const char *file,
                                                hsm_journal_take_fn *take, void *context,
                                                struct hsm_reason *why);

/** Every file that the index names and that is there, the index first; as above. */
HSM_MUST_CHECK enum hsm_status hsm_journal_read_all(const char *dir, hsm_journal_take_fn *take,
                                                    void *context, struct hsm_reason *why);

/* ---- verifying ---- */

enum hsm_journal_weight {
    HSM_JOURNAL_FAULT, /* it was tampered with or damaged */
    HSM_JOURNAL_NOTICE /* what a reader must know: a crash, a file in use, a removal */
};

struct hsm_journal_finding {
    enum hsm_journal_weight weight;
    const char *file;
    bool has_place;
    uint64_t record; /* with has_place: number of the first wrong one, counted from 0 */
    uint64_t octet; /* with has_place: where its line begins in the file */
    const char *text;
};

struct hsm_journal_verify_config {
    const char *dir;
    EVP_PKEY *key; /* of the checkpoints; NULL: DIR/ID.pem, which proves nothing against root */
    const char *const *notes; /* checkpoints that were kept elsewhere; NULL-terminated, or NULL */
    void (*tell)(void *context, const struct hsm_journal_finding *finding);
    void *context;
};

struct hsm_journal_summary {
    uint64_t files; /* with the index; not those that were removed */
    uint64_t records;
    uint64_t uses; /* records of uses of keys */
    uint64_t unspecified; /* uses of which nobody said the kind */
    uint64_t lost; /* uses that the journal itself says are missing */
    uint64_t checkpoints; /* verified */
    uint64_t unsecured; /* records behind the last checkpoint of their file */
    uint64_t removed; /* files, after their time */
    uint64_t ended_early; /* files whose process did not end in order */
    uint64_t calls; /* of C_Sign, by those who wrote; a lower bound if any ended early */
    uint64_t faults; /* findings of that weight */
};

/**
 * Verify a directory as a whole: chains, trees, checkpoints, and that every
 * file is accounted for. It may be in use.
 *
 * @retval HSM_OK             no fault
 * @retval HSM_ERR_UNTRUSTED  the findings say what is wrong
 * @return else it could not be read: logged
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

HSM_MUST_CHECK enum hsm_status
hsm_journal_note_parse(const char *text, struct hsm_journal_note *out, struct hsm_reason *why);

/** HSM_ERR_UNTRUSTED: not signed by that key. */
HSM_MUST_CHECK enum hsm_status hsm_journal_note_verify(const struct hsm_journal_note *note,
                                                       EVP_PKEY *key);

/** As text: `out` has HSM_JOURNAL_NOTE_MAX octets. */
HSM_MUST_CHECK enum hsm_status hsm_journal_note_format(const struct hsm_journal_note *note,
                                                       char *out);

/**
 * Every checkpoint in the index, the oldest first.
 *
 * @param file  "index" or another one, whose checkpoints are wanted; NULL: of all
 */
HSM_MUST_CHECK enum hsm_status
hsm_journal_notes(const char *dir, const char *file,
                  bool (*take)(void *context, const struct hsm_journal_note *note), void *context,
                  struct hsm_reason *why);

/** A file's lines and its tree, in memory: for proofs. */
struct hsm_journal_log;

HSM_MUST_CHECK enum hsm_status hsm_journal_log_open(const char *dir, const char *file,
                                                    struct hsm_journal_log **out,
                                                    struct hsm_reason *why);
void hsm_journal_log_close(struct hsm_journal_log *log);
const struct hsm_merkle_tree *hsm_journal_log_tree(const struct hsm_journal_log *log);

/**
 * The proof that a record is in the tree of a checkpoint, as text: see
 * docs/JOURNAL.md; free() it.
 *
 * @param note  of this file, and not signed by chance: its root is compared
 * @retval HSM_ERR_NOT_FOUND  the checkpoint is older than the record
 * @retval HSM_ERR_UNTRUSTED  the file does not have the root of the checkpoint
 */
HSM_MUST_CHECK enum hsm_status hsm_journal_prove(const struct hsm_journal_log *log, uint64_t number,
                                                 const struct hsm_journal_note *note, char **out,
                                                 struct hsm_reason *why);

/**
 * Check such a text with nothing else at hand.
 *
 * @param key     of checkpoints: trusted
 * @param record  receives the line that is proved, at most HSM_JOURNAL_LINE_MAX octets with NUL
 */
HSM_MUST_CHECK enum hsm_status hsm_journal_proof_check(const char *text, EVP_PKEY *key,
                                                       char *record, struct hsm_journal_note *note,
                                                       struct hsm_reason *why);

#endif
