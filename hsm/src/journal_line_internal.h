/*
 * journal_line_internal.h - the lines of a journal file, and their chain.
 *
 *   NUMBER TIME KIND KEY DIGEST WHO OUTCOME DETAIL HASH
 *
 * HASH is the hash of a leaf in RFC 9162's tree: SHA-256 of 0x00, the HASH of the previous line
 * (for the first line: 64 zeros), a blank, and the line up to its own HASH. So it is both a link of
 * the chain and a leaf of the tree.
 */
#ifndef HSM_JOURNAL_LINE_INTERNAL_H
#define HSM_JOURNAL_LINE_INTERNAL_H

#include <hsm/hex.h>
#include <hsm/journal.h>

#define HSM_JOURNAL_HASH_HEX    HSM_HEX_LEN(HSM_SHA256_LEN)
#define HSM_JOURNAL_TIME_LEN    27
#define HSM_JOURNAL_DETAIL_MAX  512 /* octets */
#define HSM_JOURNAL_WITHOUT_KEY "-"

/** Where the next line goes. */
struct hsm_chain {
    struct hsm_merkle_frontier tree; /* its size is the number of the next line */
    uint8_t last[HSM_SHA256_LEN]; /* hash of the previous line */
    uint64_t octets; /* of all preceding lines */
};

/** The content of a line, before it has a place in the chain. */
struct hsm_line {
    int64_t time_us; /* since 1970 */
    const char *kind; /* [a-z-] */
    const char *key; /* hex, or HSM_JOURNAL_WITHOUT_KEY */
    const uint8_t *digest; /* HSM_SHA256_LEN octets, or NULL */
    const char *who; /* any octets; written percent-encoded */
    enum hsm_status outcome;
    const char *detail; /* from hsm_detail_put(), or NULL */
};

/** Format a line, with its line end, into HSM_JOURNAL_LINE_MAX octets, and take it into the chain.
 */
HSM_MUST_CHECK enum hsm_status hsm_line_put(struct hsm_chain *chain, const struct hsm_line *line,
                                            char *out, size_t *len);

/** Append ",NAME=VALUE" (the first without comma); a value without room is left out whole. */
void hsm_detail_put(char *detail, size_t size, const char *name, const char *value);
void hsm_detail_put_number(char *detail, size_t size, const char *name, uint64_t value);

void hsm_time_put(int64_t time_us, char out[HSM_JOURNAL_TIME_LEN + 1]);
int64_t hsm_time_now_us(void);

/** The inverse of hsm_time_put(); -1: malformed. */
int64_t hsm_time_get(const char *text);

/** As written in `who`: `out` has 3 * HSM_WHO_MAX + 1 octets. */
void hsm_who_put(const char *who, char *out);

/**
 * Split a line into its fields and check everything but its place in the chain: `text` (without
 * line end) is cut into the record's fields. NULL, or what is wrong with it.
 */
const char *hsm_line_parse(char *text, size_t len, struct hsm_journal_record *out,
                           uint8_t hash[HSM_SHA256_LEN]);

/** The hash of a line of `len` octets (without its own " HASH") that follows `last`. */
HSM_MUST_CHECK enum hsm_status hsm_line_hash(const uint8_t last[HSM_SHA256_LEN], const char *body,
                                             size_t len, uint8_t hash[HSM_SHA256_LEN]);

/* ---- files of lines ---- */

enum hsm_walk_result {
    HSM_WALK_RECORD,
    HSM_WALK_END,
    HSM_WALK_TORN, /* the last line has no line end */
    HSM_WALK_WRONG,
    HSM_WALK_FAILED /* it cannot be read: logged */
};

/** Reads line after line and follows the chain. */
struct hsm_walk {
    int fd; /* borrowed */
    struct hsm_chain chain;
    struct hsm_journal_record record;
    uint8_t hash[HSM_SHA256_LEN]; /* the record's */
    const char *wrong; /* what is wrong */
    uint64_t torn; /* octets */
    char line[HSM_JOURNAL_LINE_MAX + 1];
    char *buffer; /* owned */
    size_t begin, end; /* the part of it that is still to be read */
};

/** Start where `chain` ends; NULL: at the beginning. Released by hsm_walk_end(). */
HSM_MUST_CHECK enum hsm_status hsm_walk_begin(struct hsm_walk *walk, int fd,
                                              const struct hsm_chain *chain);
enum hsm_walk_result hsm_walk_next(struct hsm_walk *walk);
void hsm_walk_end(struct hsm_walk *walk);

#endif
