/* journal_verify.c - is a journal, as a whole, as it was written? */
#include "journal_read_internal.h"

#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <hsm/defer.h>
#include <hsm/log.h>
#include <hsm/process.h>
#include <hsm/use.h>

#include "es256_internal.h"
#include "journal_note_internal.h"

#define NOTE_TEXT_MAX 512 /* octets of a finding */
#define PEM_MAX       4096 /* octets of a public key's file */
#define OF_THE_INDEX  SIZE_MAX

/* What is said of a file from elsewhere: a tree of that size had that root. */
struct point {
    size_t entry; /* which file; OF_THE_INDEX: the index */
    uint64_t size;
    uint8_t root[HSM_SHA256_LEN];
    bool kept; /* said by a checkpoint that was kept elsewhere */
    uint64_t record; /* else by this record of the index */
};

struct verification {
    const struct hsm_journal_verify_config *config;
    struct hsm_journal_summary summary;
    struct hsm_entries entries;
    char id[HSM_HEX_LEN(HSM_INDEX_ID_LEN) + 1];
    struct point *points;
    size_t point_count, point_room;
    struct hsm_journal_note *kept;
    size_t kept_count;
    uint64_t sealed; /* lines of the index under its last checkpoint */
    EVP_PKEY *key; /* of the directory: of `key_id` */
    char key_id[HSM_HEX_LEN(HSM_JOURNAL_KEY_LEN) + 1];
    char **names; /* of the files in the directory */
    size_t name_count;
};

DEFINE_DEFER(uint8_t, free)

/* ---- findings ---- */

HSM_PRINTF(5, 0)
static void
tell_at(struct verification *v, enum hsm_journal_weight weight, const char *file,
        const uint64_t place[2], const char *format, va_list args)
{
    char text[NOTE_TEXT_MAX];
    struct hsm_journal_finding finding = {.weight = weight, .file = file, .text = text};

    if (vsnprintf(text, sizeof(text), format, args) < 0)
        text[0] = '\0';
    if (place != NULL) {
        finding.has_place = true;
        finding.record = place[0];
        finding.octet = place[1];
    }
    v->summary.faults += weight == HSM_JOURNAL_FAULT ? 1 : 0;
    if (v->config->tell != NULL)
        v->config->tell(v->config->context, &finding);
}

HSM_PRINTF(4, 5)
static void
tell(struct verification *v, enum hsm_journal_weight weight, const char *file, const char *format,
     ...)
{
    va_list args;

    va_start(args, format);
    tell_at(v, weight, file, NULL, format, args);
    va_end(args);
}

HSM_PRINTF(5, 6)
static void
fault_at(struct verification *v, const char *file, uint64_t record, uint64_t octet,
         const char *format, ...)
{
    const uint64_t place[2] = {record, octet};
    va_list args;

    va_start(args, format);
    tell_at(v, HSM_JOURNAL_FAULT, file, place, format, args);
    va_end(args);
}

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

/* The key that an auditor gave, or else what lies in the directory under that name. */
static EVP_PKEY *
key_for(struct verification *v, const char *id)
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

/* What a line's fields say of the signature in it must be so, too. */
static const char *
fault_of_note(struct verification *v, const struct hsm_journal_record *record,
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

/* ---- what is said of files ---- */

static enum hsm_status
add_point(struct verification *v, const struct point *point)
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

static int
by_file_and_size(const void *a, const void *b)
{
    const struct point *x = a;
    const struct point *y = b;

    if (x->entry != y->entry)
        return x->entry < y->entry ? -1 : 1;
    if (x->size != y->size)
        return x->size < y->size ? -1 : 1;
    return (x->record > y->record) - (x->record < y->record);
}

/* The points of a file are neighbours; returns the first and their count. */
static const struct point *
points_of(const struct verification *v, size_t entry, size_t *count)
{
    const struct point *first = NULL;

    *count = 0;
    for (size_t i = 0; i < v->point_count; i++) {
        if (v->points[i].entry != entry)
            continue;
        if (first == NULL)
            first = &v->points[i];
        ++*count;
    }
    return first;
}

static void
check_point(struct verification *v, const char *file, const struct hsm_chain *chain,
            const struct point *point)
{
    uint8_t root[HSM_SHA256_LEN];

    if (hsm_merkle_root(&chain->tree, root) != HSM_OK ||
        memcmp(root, point->root, sizeof(root)) == 0)
        return;
    if (point->kept)
        fault_at(v, file, chain->tree.size, chain->octets,
                 "the records before this one are not those of the checkpoint that was kept");
    else
        fault_at(v, file, chain->tree.size, chain->octets,
                 "the records before this one are not those of record %llu of the index",
                 (unsigned long long)point->record);
}

/* Points that a file has reached. */
static void
check_points(struct verification *v, const char *file, const struct hsm_chain *chain,
             const struct point **at, size_t *left)
{
    while (*left > 0 && (*at)->size <= chain->tree.size) {
        if ((*at)->size == chain->tree.size)
            check_point(v, file, chain, *at);
        ++*at;
        --*left;
    }
}

/* ---- the index ---- */

static enum hsm_status
take_kept_notes(struct verification *v)
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
            tell(v, HSM_JOURNAL_FAULT, "(kept)", "checkpoint %zu: %s", i + 1, why.text);
        else
            v->kept_count++;
    }
    return HSM_OK;
}

/* With a key that was given: without one, any key of the directory that has its hint. */
static bool
kept_note_is_signed(struct verification *v, const struct hsm_journal_note *note)
{
    EVP_PKEY *key = v->config->key != NULL ? v->config->key : v->key;

    return key != NULL && hsm_journal_note_verify(note, key) == HSM_OK;
}

static enum hsm_status
place_kept_note(struct verification *v, const struct hsm_journal_note *note)
{
    struct point point = {.entry = OF_THE_INDEX, .size = note->size, .kept = true};
    char origin[HSM_JOURNAL_ORIGIN_MAX + 1];
    bool known;

    memcpy(point.root, note->root, sizeof(point.root));
    if (!kept_note_is_signed(v, note)) {
        tell(v, HSM_JOURNAL_FAULT, "(kept)", "%s, size %llu: its signature does not verify",
             note->origin, (unsigned long long)note->size);
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
        tell(v, HSM_JOURNAL_FAULT, "(kept)", "%s: no such file in this journal", note->origin);
        return HSM_OK;
    }
    return add_point(v, &point);
}

/* What the line says of a file's tree, signed or not: it is in the index's tree. */
static enum hsm_status
take_point(struct verification *v, const struct hsm_journal_record *record)
{
    char name[HSM_JOURNAL_NAME_MAX + 1];
    char text[HSM_JOURNAL_HASH_HEX + 1];
    char size[24];
    struct point point = {.record = record->number};
    const struct hsm_entry *entry;

    if (strcmp(record->kind, "checkpoint") == 0 ||
        !hsm_journal_detail(record->detail, "file", name, sizeof(name)) ||
        !hsm_journal_detail(record->detail, "size", size, sizeof(size)) ||
        !hsm_journal_detail(record->detail, "root", text, sizeof(text)) ||
        !hsm_hex_get(text, point.root, HSM_SHA256_LEN))
        return HSM_OK;
    entry = hsm_entries_find(&v->entries, name);
    if (entry == NULL)
        return HSM_OK;
    point.entry = (size_t)(entry - v->entries.entry);
    point.size = strtoull(size, NULL, 10);
    return add_point(v, &point);
}

/* A checkpoint of the index is of all lines before its own. */
static const char *
fault_of_seal(struct verification *v, const struct hsm_merkle_frontier *before,
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
take_index_record(struct verification *v, const struct hsm_walk *walk,
                  const struct hsm_chain *before)
{
    const struct hsm_journal_record *record = &walk->record;
    struct hsm_journal_note note;
    const char *fault = NULL;
    enum hsm_status st = hsm_entries_take(&v->entries, record);

    if (record->number == 0 && !hsm_journal_detail(record->detail, "id", v->id, sizeof(v->id)))
        st = HSM_ERR_MALFORMED;
    if (st == HSM_ERR_MALFORMED)
        fault = "it says what cannot be";
    else if (st == HSM_OK && hsm_index_note(record, v->id, &note)) {
        fault = fault_of_note(v, record, &note);
        if (fault == NULL && strcmp(record->kind, "checkpoint") == 0)
            fault = fault_of_seal(v, &before->tree, &note);
        v->summary.checkpoints += fault == NULL ? 1 : 0;
    } else if (st == HSM_OK && strcmp(record->key, HSM_JOURNAL_WITHOUT_KEY) != 0)
        fault = "it has no checkpoint where it should";
    if (fault != NULL)
        fault_at(v, HSM_JOURNAL_INDEX, before->tree.size, before->octets, "%s", fault);
    if (st == HSM_OK)
        st = take_point(v, record);
    return st == HSM_ERR_MALFORMED ? HSM_ERR_UNTRUSTED : st;
}

static void
check_kept_of_index(struct verification *v, const struct hsm_chain *chain)
{
    char origin[HSM_JOURNAL_ORIGIN_MAX + 1];
    struct point point = {.kept = true};

    for (size_t i = 0; i < v->kept_count; i++) {
        hsm_index_origin(v->id, HSM_JOURNAL_INDEX, origin);
        if (v->kept[i].size != chain->tree.size || strcmp(v->kept[i].origin, origin) != 0)
            continue;
        memcpy(point.root, v->kept[i].root, sizeof(point.root));
        check_point(v, HSM_JOURNAL_INDEX, chain, &point);
    }
}

/* To its end, or to the first line that is wrong: behind it nothing is worth anything. */
static enum hsm_status
walk_index(struct verification *v, struct hsm_walk *walk)
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
        fault_at(v, HSM_JOURNAL_INDEX, walk->chain.tree.size, walk->chain.octets, "%s",
                 walk->wrong);
    if (result == HSM_WALK_TORN)
        fault_at(v, HSM_JOURNAL_INDEX, walk->chain.tree.size, walk->chain.octets,
                 "a line without its end");
    if (result == HSM_WALK_FAILED)
        st = HSM_ERR_IO;
    v->summary.records += walk->chain.tree.size;
    return st == HSM_ERR_UNTRUSTED ? HSM_OK : st;
}

/* The checkpoint's own line is behind what it seals. */
static void
count_index(struct verification *v, const struct hsm_chain *chain)
{
    uint64_t sealed = v->sealed > 0 ? v->sealed + 1 : 0;

    v->summary.files++;
    if (chain->tree.size == 0)
        fault_at(v, HSM_JOURNAL_INDEX, 0, 0, "it is empty");
    if (chain->tree.size > sealed)
        v->summary.unsecured += chain->tree.size - sealed;
    for (size_t i = 0; i < v->kept_count; i++) {
        char origin[HSM_JOURNAL_ORIGIN_MAX + 1];

        hsm_index_origin(v->id, HSM_JOURNAL_INDEX, origin);
        if (strcmp(v->kept[i].origin, origin) == 0 && v->kept[i].size > chain->tree.size)
            fault_at(v, HSM_JOURNAL_INDEX, chain->tree.size, chain->octets,
                     "it ends here, but a checkpoint that was kept is of %llu records",
                     (unsigned long long)v->kept[i].size);
    }
}

static enum hsm_status
list_directory(struct verification *v)
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

/* Nobody begins a file while the index and the directory are looked at. */
static enum hsm_status
verify_index(struct verification *v)
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

/* ---- the other files ---- */

static void
count_record(struct verification *v, const struct hsm_journal_record *record)
{
    char lost[24];

    v->summary.records++;
    for (unsigned kind = 0; kind < HSM_USE_KINDS; kind++) {
        if (strcmp(record->kind, hsm_use_word((enum hsm_use_kind)kind)) != 0)
            continue;
        v->summary.uses++;
        v->summary.unspecified += kind == HSM_USE_UNSPECIFIED ? 1 : 0;
        return;
    }
    if (strcmp(record->kind, "lost") == 0 &&
        hsm_journal_detail(record->detail, "records", lost, sizeof(lost)))
        v->summary.lost += strtoull(lost, NULL, 10);
}

/* A file's first line says which file of which journal it is. */
static bool
is_of_this_journal(const struct verification *v, const char *file,
                   const struct hsm_journal_record *record)
{
    char origin[HSM_JOURNAL_ORIGIN_MAX + 1];
    char said[HSM_JOURNAL_ORIGIN_MAX + 1];

    hsm_index_origin(v->id, file, origin);
    return strcmp(record->kind, "open") == 0 &&
           hsm_journal_detail(record->detail, "origin", said, sizeof(said)) &&
           strcmp(origin, said) == 0;
}

static void
check_end_of_closed(struct verification *v, const struct hsm_entry *entry,
                    const struct hsm_walk *walk, uint64_t behind)
{
    const struct hsm_chain *chain = &walk->chain;

    if (chain->tree.size < entry->size)
        return; /* a point was not reached: told */
    if (chain->tree.size > entry->size || behind != entry->torn)
        fault_at(v, entry->name, entry->size, entry->octets,
                 "the file ended here, as the index says, and has %llu octets more",
                 (unsigned long long)(chain->octets - entry->octets + behind - entry->torn));
}

/* How a file ended that the index does not know as ended. */
static void
check_end_of_open(struct verification *v, const struct hsm_entry *entry, int fd, uint64_t behind)
{
    bool in_use = flock(fd, LOCK_SH | LOCK_NB) != 0;

    if (in_use) {
        tell(v, HSM_JOURNAL_NOTICE, entry->name, "is being written");
        return;
    }
    v->summary.ended_early++;
    tell(v, HSM_JOURNAL_NOTICE, entry->name,
         "its process did not close it: what was not written is lost%s",
         behind > 0 ? ", and the last line is cut short" : "");
}

static void
check_end(struct verification *v, const struct hsm_entry *entry, const struct hsm_walk *walk,
          int fd)
{
    struct stat about;
    uint64_t behind = 0;

    if (fstat(fd, &about) == 0 && (uint64_t)about.st_size > walk->chain.octets)
        behind = (uint64_t)about.st_size - walk->chain.octets;
    if (entry->state == HSM_ENTRY_OPEN) {
        check_end_of_open(v, entry, fd, behind);
        return;
    }
    check_end_of_closed(v, entry, walk, behind);
    if (entry->state != HSM_ENTRY_RECOVERED)
        return;
    v->summary.ended_early++;
    tell(v, HSM_JOURNAL_NOTICE, entry->name,
         "its process did not close it: what was not written is lost%s",
         entry->torn > 0 ? ", and the last line is cut short" : "");
}

static enum hsm_status
walk_file(struct verification *v, const struct hsm_entry *entry, struct hsm_walk *walk, int fd)
{
    size_t left = 0;
    size_t total = 0;
    size_t index = (size_t)(entry - v->entries.entry);
    const struct point *at = points_of(v, index, &left);
    const struct point *first = at;
    enum hsm_walk_result result;
    uint64_t secured = 0;

    total = left;
    while ((result = hsm_walk_next(walk)) == HSM_WALK_RECORD) {
        if (walk->record.number == 0 && !is_of_this_journal(v, entry->name, &walk->record))
            fault_at(v, entry->name, 0, 0, "its first line is not that of this file");
        count_record(v, &walk->record);
        check_points(v, entry->name, &walk->chain, &at, &left);
    }
    if (result == HSM_WALK_FAILED)
        return HSM_ERR_IO;
    if (result == HSM_WALK_WRONG)
        fault_at(v, entry->name, walk->chain.tree.size, walk->chain.octets, "%s", walk->wrong);
    else if (left > 0)
        fault_at(v, entry->name, walk->chain.tree.size, walk->chain.octets,
                 "the file ends here, but has had %llu records",
                 (unsigned long long)first[total - 1].size);
    if (result != HSM_WALK_WRONG)
        check_end(v, entry, walk, fd);
    for (size_t i = 0; i < total - left; i++)
        secured = first[i].kept || first[i].record < v->sealed ? first[i].size : secured;
    v->summary.unsecured += walk->chain.tree.size - secured;
    return HSM_OK;
}

/* Between looking at the index and at the file its time may have been over. */
static bool was_removed_meanwhile(const struct verification *v, const char *name);

static enum hsm_status
verify_file(struct verification *v, const struct hsm_entry *entry)
{
    struct hsm_walk walk;
    struct hsm_reason why;
    int fd = -1;
    enum hsm_status st = hsm_journal_open_file(v->config->dir, entry->name, &fd, &why);

    v->summary.calls += entry->calls;
    if (st == HSM_ERR_NOT_FOUND) {
        if (was_removed_meanwhile(v, entry->name))
            v->summary.removed++;
        else
            tell(v, HSM_JOURNAL_FAULT, entry->name,
                 "is missing, and the index does not say that it was removed");
        return HSM_OK;
    }
    if (st != HSM_OK) {
        hsm_log(HSM_LOG_ERROR, "%s", why.text);
        return st;
    }
    v->summary.files++;
    st = hsm_walk_begin(&walk, fd, NULL);
    if (st == HSM_OK)
        st = walk_file(v, entry, &walk, fd);
    hsm_walk_end(&walk);
    close(fd);
    return st;
}

static bool
take_entry(void *context, const char *file, const struct hsm_journal_record *record)
{
    (void)file;
    return hsm_entries_take(context, record) == HSM_OK;
}

static bool
was_removed_meanwhile(const struct verification *v, const char *name)
{
    struct hsm_entries entries = {NULL, 0, 0};
    const struct hsm_entry *entry = NULL;
    bool removed;

    if (hsm_journal_read(v->config->dir, HSM_JOURNAL_INDEX, take_entry, &entries, NULL) == HSM_OK)
        entry = hsm_entries_find(&entries, name);
    removed = entry != NULL && entry->state == HSM_ENTRY_REMOVED;
    hsm_entries_free(&entries);
    return removed;
}

/* ---- the directory ---- */

static bool
is_ours_besides(const char *name)
{
    size_t len = strlen(name);

    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ||
           strcmp(name, HSM_JOURNAL_INDEX) == 0 ||
           (len == HSM_HEX_LEN(HSM_JOURNAL_KEY_LEN) + 4 && strcmp(name + len - 4, ".pem") == 0);
}

static void
account_for(struct verification *v, const char *name)
{
    const struct hsm_entry *entry = hsm_entries_find(&v->entries, name);
    struct stat about;
    char path[4096];

    if (is_ours_besides(name) || (entry != NULL && entry->state != HSM_ENTRY_REMOVED))
        return;
    if (entry != NULL) {
        tell(v, HSM_JOURNAL_NOTICE, name, "was removed, as the index says, but is there");
        return;
    }
    snprintf(path, sizeof(path), "%s/%s", v->config->dir, name);
    if (lstat(path, &about) == 0 && S_ISREG(about.st_mode) && about.st_size == 0)
        tell(v, HSM_JOURNAL_NOTICE, name, "is empty and not in the index: a process ended early");
    else
        tell(v, HSM_JOURNAL_FAULT, name, "is not in the index");
}

/* What is left of a file that was removed is what the index said of it. */
static void
check_removed(struct verification *v, size_t index)
{
    size_t count = 0;
    const struct point *first = points_of(v, index, &count);
    const char *file = v->entries.entry[index].name;

    v->summary.removed++;
    v->summary.calls += v->entries.entry[index].calls;
    tell(v, HSM_JOURNAL_NOTICE, file, "was removed after its time");
    for (size_t i = 1; i < count; i++) {
        if (first[i].size == first[i - 1].size &&
            memcmp(first[i].root, first[i - 1].root, HSM_SHA256_LEN) != 0)
            tell(v, HSM_JOURNAL_FAULT, file,
                 "its checkpoints of %llu records contradict each other",
                 (unsigned long long)first[i].size);
    }
}

static enum hsm_status
verify_files(struct verification *v)
{
    enum hsm_status st = HSM_OK;

    for (size_t i = 0; i < v->kept_count && st == HSM_OK; i++)
        st = place_kept_note(v, &v->kept[i]);
    if (v->point_count > 0)
        qsort(v->points, v->point_count, sizeof(*v->points), by_file_and_size);
    for (size_t i = 0; i < v->entries.count && st == HSM_OK; i++) {
        const struct hsm_entry *entry = &v->entries.entry[i];

        if (entry->state == HSM_ENTRY_REMOVED) {
            check_removed(v, i);
            continue;
        }
        st = verify_file(v, entry);
    }
    for (size_t i = 0; i < v->name_count && st == HSM_OK; i++)
        account_for(v, v->names[i]);
    return st;
}

static void
release(struct verification *v)
{
    for (size_t i = 0; i < v->name_count; i++)
        free(v->names[i]);
    free(v->names);
    free(v->points);
    free(v->kept);
    EVP_PKEY_free(v->key);
    hsm_entries_free(&v->entries);
}

enum hsm_status
hsm_journal_verify(const struct hsm_journal_verify_config *config, struct hsm_journal_summary *out)
{
    struct verification v = {.config = config};
    enum hsm_status st = take_kept_notes(&v);

    if (st == HSM_OK)
        st = verify_index(&v);
    if (st == HSM_OK)
        st = verify_files(&v);
    release(&v);
    if (st != HSM_OK)
        return st;
    *out = v.summary;
    return v.summary.faults == 0 ? HSM_OK : HSM_ERR_UNTRUSTED;
}
