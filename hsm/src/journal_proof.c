/* journal_proof.c - proofs that a record is in a journal: C2SP tlog-proof. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/evp.h>

#include <hsm/defer.h>

#include "journal_note_internal.h"
#include "journal_read_internal.h"

#define FIRST_LINE "c2sp.org/tlog-proof@v1\n"
#define LEAF_MAX   (HSM_JOURNAL_HASH_HEX + 1 + HSM_JOURNAL_LINE_MAX) /* octets */
#define NODE_B64   44 /* octets of a node as text */
#define PROOF_MAX  8192 /* octets of a text: the leaf, 63 nodes and a checkpoint */

struct hsm_journal_log {
    int fd;
    struct hsm_merkle_tree *tree;
    uint64_t *octets; /* offsets at which the lines begin, and the end of the last */
    uint64_t room;
};

/* ---- a file in memory ---- */

static enum hsm_status
log_append(struct hsm_journal_log *log, const struct hsm_walk *walk)
{
    uint64_t n = hsm_merkle_tree_size(log->tree);

    if (n + 2 > log->room) {
        uint64_t room = log->room == 0 ? 1024 : 2 * log->room;
        uint64_t *larger = realloc(log->octets, room * sizeof(*larger));

        if (larger == NULL)
            return HSM_ERR_NOMEM;
        larger[0] = 0;
        log->octets = larger;
        log->room = room;
    }
    log->octets[n + 1] = walk->chain.octets;
    return hsm_merkle_tree_append(log->tree, walk->hash);
}

static enum hsm_status
log_read(struct hsm_journal_log *log, const char *file, struct hsm_reason *why)
{
    struct hsm_walk walk;
    enum hsm_walk_result result = HSM_WALK_END;
    enum hsm_status st = hsm_walk_begin(&walk, log->fd, NULL);

    while (st == HSM_OK && (result = hsm_walk_next(&walk)) == HSM_WALK_RECORD)
        st = log_append(log, &walk);
    if (st == HSM_OK && result == HSM_WALK_WRONG)
        st = hsm_journal_wrong(file, &walk, why);
    if (st == HSM_OK && result == HSM_WALK_FAILED)
        st = HSM_ERR_IO;
    hsm_walk_end(&walk);
    return st;
}

enum hsm_status
hsm_journal_log_open(const char *dir, const char *file, struct hsm_journal_log **out,
                     struct hsm_reason *why)
{
    DEFER(hsm_journal_log_close) struct hsm_journal_log *log = calloc(1, sizeof(*log));
    enum hsm_status st;

    if (log == NULL)
        return HSM_ERR_NOMEM;
    log->fd = -1;
    st = hsm_merkle_tree_new(&log->tree);
    if (st == HSM_OK)
        st = hsm_journal_open_file(dir, file, &log->fd, why);
    if (st == HSM_OK)
        st = log_read(log, file, why);
    if (st != HSM_OK)
        return st;
    *out = log;
    log = NULL;
    return HSM_OK;
}

void
hsm_journal_log_close(struct hsm_journal_log *log)
{
    if (log == NULL)
        return;
    if (log->fd >= 0)
        close(log->fd);
    hsm_merkle_tree_free(log->tree);
    free(log->octets);
    free(log);
}

const struct hsm_merkle_tree *
hsm_journal_log_tree(const struct hsm_journal_log *log)
{
    return log->tree;
}

/* ---- making ---- */

/* The text that the leaf hashes: the hash of the previous line, and the line without its own. */
static enum hsm_status
leaf_of(const struct hsm_journal_log *log, uint64_t number, char leaf[LEAF_MAX], size_t *len)
{
    static const uint8_t nothing[HSM_SHA256_LEN];
    uint64_t line = log->octets[number + 1] - log->octets[number];
    size_t body = (size_t)line - 1 - HSM_JOURNAL_HASH_HEX - 1;

    hsm_hex_put(number > 0 ? hsm_merkle_tree_leaf(log->tree, number - 1) : nothing, HSM_SHA256_LEN,
                leaf);
    leaf[HSM_JOURNAL_HASH_HEX] = ' ';
    if (pread(log->fd, leaf + HSM_JOURNAL_HASH_HEX + 1, body, (off_t)log->octets[number]) !=
        (ssize_t)body)
        return HSM_ERR_IO;
    *len = HSM_JOURNAL_HASH_HEX + 1 + body;
    return HSM_OK;
}

static enum hsm_status
check_root(const struct hsm_journal_log *log, uint64_t number, const struct hsm_journal_note *note,
           struct hsm_reason *why)
{
    uint8_t root[HSM_SHA256_LEN];

    if (number >= note->size)
        return hsm_refuse(why, HSM_ERR_NOT_FOUND,
                          "the checkpoint is of %llu records: record %llu is younger",
                          (unsigned long long)note->size, (unsigned long long)number);
    if (hsm_merkle_tree_root(log->tree, note->size, root) != HSM_OK ||
        memcmp(root, note->root, sizeof(root)) != 0)
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "the file is not that of the checkpoint");
    return HSM_OK;
}

enum hsm_status
hsm_journal_prove(const struct hsm_journal_log *log, uint64_t number,
                  const struct hsm_journal_note *note, char **out, struct hsm_reason *why)
{
    DEFER(free) char *text = malloc(PROOF_MAX);
    struct hsm_merkle_proof proof;
    char leaf[LEAF_MAX];
    size_t leaf_len = 0;
    size_t len;
    enum hsm_status st = check_root(log, number, note, why);

    if (st == HSM_OK && text == NULL)
        st = HSM_ERR_NOMEM;
    if (st == HSM_OK)
        st = leaf_of(log, number, leaf, &leaf_len);
    if (st == HSM_OK)
        st = hsm_merkle_prove_inclusion(log->tree, number, note->size, &proof);
    if (st != HSM_OK)
        return st;
    len = strlen(FIRST_LINE "extra ");
    memcpy(text, FIRST_LINE "extra ", len);
    len += (size_t)EVP_EncodeBlock((unsigned char *)text + len, (const unsigned char *)leaf,
                                   (int)leaf_len);
    len += (size_t)snprintf(text + len, 32, "\nindex %llu\n", (unsigned long long)number);
    for (size_t i = 0; i < proof.count; i++) {
        len += (size_t)EVP_EncodeBlock((unsigned char *)text + len, proof.node[i], HSM_SHA256_LEN);
        text[len++] = '\n';
    }
    text[len++] = '\n';
    st = hsm_journal_note_format(note, text + len);
    if (st != HSM_OK)
        return st;
    *out = text;
    text = NULL;
    return HSM_OK;
}

/* ---- checking ---- */

/* The octets that follow a word and a blank, up to the line end; false: the line has another
 * word. */
static bool
take_field(const char **at, const char *word, const char **value, size_t *len)
{
    size_t word_len = strlen(word);

    if (strncmp(*at, word, word_len) != 0)
        return false;
    *value = *at + word_len;
    *len = strcspn(*value, "\n");
    if ((*value)[*len] != '\n')
        return false;
    *at = *value + *len + 1;
    return true;
}

static bool
take_index(const char **at, uint64_t *index)
{
    const char *value = NULL;
    char again[24];
    size_t len = 0;

    if (!take_field(at, "index ", &value, &len) || len == 0 || value[0] < '0' || value[0] > '9')
        return false;
    *index = strtoull(value, NULL, 10);
    return snprintf(again, sizeof(again), "%llu", (unsigned long long)*index) == (int)len &&
           strncmp(again, value, len) == 0;
}

static bool
take_nodes(const char **at, struct hsm_merkle_proof *proof)
{
    const char *value = NULL;
    size_t len = 0;

    while (take_field(at, "", &value, &len)) {
        size_t got = 0;

        if (len == 0)
            return true;
        if (proof->count == HSM_MERKLE_DEPTH || len != NODE_B64 ||
            !hsm_note_base64_get(value, len, proof->node[proof->count], HSM_SHA256_LEN, &got) ||
            got != HSM_SHA256_LEN)
            return false;
        proof->count++;
    }
    return false;
}

/* One octet is left free in front, for the hash. */
struct parsed {
    uint8_t leaf[1 + LEAF_MAX + 1];
    size_t leaf_len;
    uint64_t index;
    struct hsm_merkle_proof proof;
    struct hsm_journal_note note;
};

static enum hsm_status
parse(const char *text, struct parsed *out, struct hsm_reason *why)
{
    const char *value = NULL;
    size_t len = 0;

    if (!take_field(&text, FIRST_LINE "extra ", &value, &len) ||
        !hsm_note_base64_get(value, len, out->leaf + 1, LEAF_MAX - 1, &out->leaf_len) ||
        !take_index(&text, &out->index) || !take_nodes(&text, &out->proof))
        return hsm_refuse(why, HSM_ERR_MALFORMED, "not a proof of a signing journal");
    return hsm_journal_note_parse(text, &out->note, why);
}

/* The number in the line must be its index in the tree. */
static bool
line_has_index(const struct parsed *parsed)
{
    const char *line = (const char *)parsed->leaf + 1 + HSM_JOURNAL_HASH_HEX + 1;
    char number[24];
    int len = snprintf(number, sizeof(number), "%llu ", (unsigned long long)parsed->index);

    return parsed->leaf_len > HSM_JOURNAL_HASH_HEX + 1 + (size_t)len &&
           strncmp(line, number, (size_t)len) == 0;
}

enum hsm_status
hsm_journal_proof_check(const char *text, EVP_PKEY *key, char *record,
                        struct hsm_journal_note *note, struct hsm_reason *why)
{
    struct parsed parsed = {.leaf_len = 0};
    uint8_t hash[HSM_SHA256_LEN];
    enum hsm_status st = parse(text, &parsed, why);

    if (st != HSM_OK)
        return st;
    if (hsm_journal_note_verify(&parsed.note, key) != HSM_OK)
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "its checkpoint is not signed by that key");
    st = hsm_merkle_leaf_in_place(parsed.leaf + 1, parsed.leaf_len, hash);
    if (st != HSM_OK)
        return st;
    if (!line_has_index(&parsed) ||
        hsm_merkle_check_inclusion(hash, parsed.index, parsed.note.size, &parsed.proof,
                                   parsed.note.root) != HSM_OK)
        return hsm_refuse(why, HSM_ERR_UNTRUSTED,
                          "the record is not in the tree of its checkpoint");
    memcpy(record, parsed.leaf + 1 + HSM_JOURNAL_HASH_HEX + 1,
           parsed.leaf_len - HSM_JOURNAL_HASH_HEX - 1);
    record[parsed.leaf_len - HSM_JOURNAL_HASH_HEX - 1] = '\0';
    *note = parsed.note;
    return HSM_OK;
}
