/* journal_verify_index.c - verify the index of a journal, and collect what it states of the files.
 */
#include "journal_verify_internal.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <sys/file.h>

#include <hsm/defer.h>
#include <hsm/log.h>
#include <hsm/process.h>

#include "es256_internal.h"
#include "journal_note_internal.h"

#define PEM_MAX 4096 /* octets of a public key's file */

/* ---- keys and checkpoints ---- */

static EVP_PKEY *
read_key(const char *dir, const char *id)
{
    DEFER(free) uint8_t *text = NULL;
    char path[4096];
    size_t len = 0;
    EVP_PKEY *key = NULL;
    BIO *bio;

    snprintf(path, sizeof(path), "%s/%s.pem", dir, id);
    if (hsm_file_read(path, PEM_MAX, &text, &len) != HSM_OK)
        return NULL;
    bio = BIO_new_mem_buf(text, (int)len);
    if (bio != NULL)
        key = PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL);
    BIO_free(bio);
    return key;
}

/* The auditor's key, or else the file of that name in the directory. */
static EVP_PKEY *
key_for(struct hsm_verification *v, const char *id)
{
    if (v->config->key != NULL)
        return v->config->key;
    if (v->key == NULL || strcmp(v->key_id, id) != 0) {
        EVP_PKEY_free(v->key);
        v->key = strlen(id) == sizeof(v->key_id) - 1 ? read_key(v->config->dir, id) : NULL;
        if (v->key != NULL)
            memcpy(v->key_id, id, sizeof(v->key_id));
    }
    return v->key;
}

/* The fields of a line must agree with the signature in it. */
static const char *
fault_of_note(struct hsm_verification *v, const struct hsm_journal_record *record,
              const struct hsm_journal_note *note)
{
    EVP_PKEY *key = key_for(v, record->key);
    char text[HSM_JOURNAL_NOTE_MAX];
    char hex[HSM_JOURNAL_HASH_HEX + 1];
    uint8_t hash[HSM_SHA256_LEN];

    if (key == NULL)
        return "the key of its checkpoint is not there";
    if (hsm_note_key_hash(key, hash) != HSM_OK)
        return "the key of its checkpoint is none";
    hsm_hex_put(hash, HSM_JOURNAL_KEY_LEN, hex);
    if (strcmp(hex, record->key) != 0)
        return "its checkpoint is by another key";
    if (hsm_note_text(note, text) != HSM_OK || hsm_sha256(text, strlen(text), hash) != HSM_OK)
        return "its checkpoint cannot be";
    hsm_hex_put(hash, sizeof(hash), hex);
    if (strcmp(hex, record->digest) != 0)
        return "its checkpoint is of something else";
    return hsm_journal_note_verify(note, key) == HSM_OK
               ? NULL
               : "the signature of its checkpoint does not verify";
}

/* ---- roots stated for files ---- */

static enum hsm_status
add_point(struct hsm_verification *v, const struct hsm_point *point)
{
    if (v->point_count == v->point_room) {
        size_t room = v->point_room == 0 ? 64 : 2 * v->point_room;
        void *larger = realloc(v->points, room * sizeof(*v->points));

        if (larger == NULL)
            return HSM_ERR_NOMEM;
        v->points = larger;
        v->point_room = room;
    }
    v->points[v->point_count++] = *point;
    return HSM_OK;
}

/* ---- the index ---- */

enum hsm_status
hsm_verify_take_kept(struct hsm_verification *v)
{
    const char *const *texts = v->config->notes;
    struct hsm_reason why;
    size_t count = 0;

    while (texts != NULL && texts[count] != NULL)
        count++;
    v->kept = calloc(count + 1, sizeof(*v->kept));
    if (v->kept == NULL)
        return HSM_ERR_NOMEM;
    for (size_t i = 0; i < count; i++) {
        struct hsm_journal_note *note = &v->kept[v->kept_count];

        if (hsm_journal_note_parse(texts[i], note, &why) != HSM_OK)
            hsm_verify_tell(v, HSM_JOURNAL_FAULT, "(kept)", "checkpoint %zu: %s", i + 1, why.text);
        else
            v->kept_count++;
    }
    return HSM_OK;
}

/* Checked with the auditor's key; without one, with a key of the directory that has its hint. */
static bool
kept_note_is_signed(struct hsm_verification *v, const struct hsm_journal_note *note)
{
    EVP_PKEY *key = v->config->key != NULL ? v->config->key : v->key;

    return key != NULL && hsm_journal_note_verify(note, key) == HSM_OK;
}

static enum hsm_status
place_kept_note(struct hsm_verification *v, const struct hsm_journal_note *note)
{
    struct hsm_point point = {.entry = HSM_OF_THE_INDEX, .size = note->size, .kept = true};
    char origin[HSM_JOURNAL_ORIGIN_MAX + 1];
    bool known;

    memcpy(point.root, note->root, sizeof(point.root));
    if (!kept_note_is_signed(v, note)) {
        hsm_verify_tell(v, HSM_JOURNAL_FAULT, "(kept)",
                        "%s, size %llu: its signature does not verify", note->origin,
                        (unsigned long long)note->size);
        return HSM_OK;
    }
    hsm_index_origin(v->id, HSM_JOURNAL_INDEX, origin);
    known = strcmp(origin, note->origin) == 0;
    for (size_t i = 0; i < v->entries.count && !known; i++) {
        hsm_index_origin(v->id, v->entries.entry[i].name, origin);
        known = strcmp(origin, note->origin) == 0;
        point.entry = i;
    }
    if (!known) {
        hsm_verify_tell(v, HSM_JOURNAL_FAULT, "(kept)", "%s: no such file in this journal",
                        note->origin);
        return HSM_OK;
    }
    return add_point(v, &point);
}

/* The size and root that a line states for a file, signed or not: the line is in the index's
 * tree. */
static enum hsm_status
take_point(struct hsm_verification *v, const struct hsm_journal_record *record)
{
    char name[HSM_JOURNAL_NAME_MAX + 1];
    char text[HSM_JOURNAL_HASH_HEX + 1];
    char size[24];
    struct hsm_point point = {.record = record->number};
    const struct hsm_entry *entry;

    if (strcmp(record->kind, "checkpoint") == 0 ||
        !hsm_journal_detail(record->detail, "file", name, sizeof(name)) ||
        !hsm_journal_detail(record->detail, "size", size, sizeof(size)) ||
        !hsm_journal_detail(record->detail, "root", text, sizeof(text)) ||
        !hsm_hex_get(text, strlen(text), point.root, HSM_SHA256_LEN))
        return HSM_OK;
    entry = hsm_entries_find(&v->entries, name);
    if (entry == NULL)
        return HSM_OK;
    point.entry = (size_t)(entry - v->entries.entry);
    point.size = strtoull(size, NULL, 10);
    return add_point(v, &point);
}

/* A checkpoint of the index covers all lines before its own. */
static const char *
fault_of_seal(struct hsm_verification *v, const struct hsm_merkle_frontier *before,
              const struct hsm_journal_note *note)
{
    uint8_t root[HSM_SHA256_LEN];

    if (note->size != before->size || hsm_merkle_root(before, root) != HSM_OK ||
        memcmp(root, note->root, sizeof(root)) != 0)
        return "its checkpoint is not of the records before it";
    v->sealed = note->size;
    return NULL;
}

static enum hsm_status
take_index_record(struct hsm_verification *v, const struct hsm_walk *walk,
                  const struct hsm_chain *before)
{
    const struct hsm_journal_record *record = &walk->record;
    struct hsm_journal_note note;
    const char *fault = NULL;
    enum hsm_status st = hsm_entries_take(&v->entries, record);

    if (record->number == 0 && !hsm_journal_detail(record->detail, "id", v->id, sizeof(v->id)))
        st = HSM_ERR_MALFORMED;
    if (st == HSM_ERR_MALFORMED)
        fault = "inconsistent entry";
    else if (st == HSM_OK && hsm_index_note(record, v->id, &note)) {
        fault = fault_of_note(v, record, &note);
        if (fault == NULL && strcmp(record->kind, "checkpoint") == 0)
            fault = fault_of_seal(v, &before->tree, &note);
        v->summary.checkpoints += fault == NULL ? 1 : 0;
    } else if (st == HSM_OK && strcmp(record->key, HSM_JOURNAL_WITHOUT_KEY) != 0)
        fault = "it has no checkpoint where it should";
    if (fault != NULL)
        hsm_verify_fault(v, HSM_JOURNAL_INDEX, before->tree.size, before->octets, "%s", fault);
    if (st == HSM_OK)
        st = take_point(v, record);
    return st == HSM_ERR_MALFORMED ? HSM_ERR_UNTRUSTED : st;
}

static void
check_kept_of_index(struct hsm_verification *v, const struct hsm_chain *chain)
{
    char origin[HSM_JOURNAL_ORIGIN_MAX + 1];
    struct hsm_point point = {.kept = true};

    for (size_t i = 0; i < v->kept_count; i++) {
        hsm_index_origin(v->id, HSM_JOURNAL_INDEX, origin);
        if (v->kept[i].size != chain->tree.size || strcmp(v->kept[i].origin, origin) != 0)
            continue;
        memcpy(point.root, v->kept[i].root, sizeof(point.root));
        hsm_verify_point(v, HSM_JOURNAL_INDEX, chain, &point);
    }
}

/* Walk to the end, or to the first invalid line: nothing after that can be trusted. */
static enum hsm_status
walk_index(struct hsm_verification *v, struct hsm_walk *walk)
{
    enum hsm_walk_result result = HSM_WALK_END;
    enum hsm_status st = HSM_OK;

    while (st == HSM_OK) {
        struct hsm_chain before = walk->chain;

        result = hsm_walk_next(walk);
        if (result != HSM_WALK_RECORD)
            break;
        st = take_index_record(v, walk, &before);
        check_kept_of_index(v, &walk->chain);
    }
    if (result == HSM_WALK_WRONG)
        hsm_verify_fault(v, HSM_JOURNAL_INDEX, walk->chain.tree.size, walk->chain.octets, "%s",
                         walk->wrong);
    if (result == HSM_WALK_TORN)
        hsm_verify_fault(v, HSM_JOURNAL_INDEX, walk->chain.tree.size, walk->chain.octets,
                         "a line without its end");
    if (result == HSM_WALK_FAILED)
        st = HSM_ERR_IO;
    v->summary.records += walk->chain.tree.size;
    return st == HSM_ERR_UNTRUSTED ? HSM_OK : st;
}

/* The checkpoint's own line follows the lines that it seals. */
static void
count_index(struct hsm_verification *v, const struct hsm_chain *chain)
{
    uint64_t sealed = v->sealed > 0 ? v->sealed + 1 : 0;

    v->summary.files++;
    if (chain->tree.size == 0)
        hsm_verify_fault(v, HSM_JOURNAL_INDEX, 0, 0, "it is empty");
    if (chain->tree.size > sealed)
        v->summary.unsecured += chain->tree.size - sealed;
    for (size_t i = 0; i < v->kept_count; i++) {
        char origin[HSM_JOURNAL_ORIGIN_MAX + 1];

        hsm_index_origin(v->id, HSM_JOURNAL_INDEX, origin);
        if (strcmp(v->kept[i].origin, origin) == 0 && v->kept[i].size > chain->tree.size)
            hsm_verify_fault(v, HSM_JOURNAL_INDEX, chain->tree.size, chain->octets,
                             "it ends here, but a checkpoint that was kept is of %llu records",
                             (unsigned long long)v->kept[i].size);
    }
}

static enum hsm_status
list_directory(struct hsm_verification *v)
{
    DIR *dir = opendir(v->config->dir);
    const struct dirent *found;
    enum hsm_status st = HSM_OK;

    if (dir == NULL) {
        hsm_log(HSM_LOG_ERROR, "%s: %s", v->config->dir, strerror(errno));
        return HSM_ERR_IO;
    }
    while (st == HSM_OK && (found = readdir(dir)) != NULL) {
        char **larger = realloc(v->names, (v->name_count + 1) * sizeof(*v->names));

        if (larger == NULL || (larger[v->name_count] = strdup(found->d_name)) == NULL)
            st = HSM_ERR_NOMEM;
        v->names = larger != NULL ? larger : v->names;
        v->name_count += st == HSM_OK ? 1 : 0;
    }
    closedir(dir);
    return st;
}

/* The lock keeps files from being begun while index and directory are read. */
enum hsm_status
hsm_verify_index(struct hsm_verification *v)
{
    struct hsm_walk walk;
    struct hsm_reason why;
    int fd = -1;
    enum hsm_status st = hsm_journal_open_file(v->config->dir, HSM_JOURNAL_INDEX, &fd, &why);

    if (st != HSM_OK) {
        hsm_log(HSM_LOG_ERROR, "%s", why.text);
        return st;
    }
    (void)flock(fd, LOCK_SH);
    st = hsm_walk_begin(&walk, fd, NULL);
    if (st == HSM_OK)
        st = walk_index(v, &walk);
    if (st == HSM_OK)
        st = list_directory(v);
    (void)flock(fd, LOCK_UN);
    if (st == HSM_OK)
        count_index(v, &walk.chain);
    hsm_walk_end(&walk);
    close(fd);
    return st;
}

enum hsm_status
hsm_verify_place_kept(struct hsm_verification *v)
{
    enum hsm_status st = HSM_OK;

    for (size_t i = 0; i < v->kept_count && st == HSM_OK; i++)
        st = place_kept_note(v, &v->kept[i]);
    return st;
}
