/* journal_verify.c - verify a journal as a whole. */
#include "journal_verify_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <hsm/log.h>
#include <hsm/use.h>

#define FINDING_MAX 512 /* octets */

/* ---- findings ---- */

HSM_PRINTF(5, 0)
static void
tell_at(struct hsm_verification *v, enum hsm_journal_weight weight, const char *file,
        const uint64_t place[2], const char *format, va_list args)
{
    char text[FINDING_MAX];
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

void
hsm_verify_tell(struct hsm_verification *v, enum hsm_journal_weight weight, const char *file,
                const char *format, ...)
{
    va_list args;

    va_start(args, format);
    tell_at(v, weight, file, NULL, format, args);
    va_end(args);
}

void
hsm_verify_fault(struct hsm_verification *v, const char *file, uint64_t record, uint64_t octet,
                 const char *format, ...)
{
    const uint64_t place[2] = {record, octet};
    va_list args;

    va_start(args, format);
    tell_at(v, HSM_JOURNAL_FAULT, file, place, format, args);
    va_end(args);
}

/* ---- roots stated for files ---- */

static int
by_file_and_size(const void *a, const void *b)
{
    const struct hsm_point *x = a;
    const struct hsm_point *y = b;

    if (x->entry != y->entry)
        return x->entry < y->entry ? -1 : 1;
    if (x->size != y->size)
        return x->size < y->size ? -1 : 1;
    return (x->record > y->record) - (x->record < y->record);
}

/* The points of a file are adjacent; returns the first and their count. */
static const struct hsm_point *
points_of(const struct hsm_verification *v, size_t entry, size_t *count)
{
    const struct hsm_point *first = NULL;

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

void
hsm_verify_point(struct hsm_verification *v, const char *file, const struct hsm_chain *chain,
                 const struct hsm_point *point)
{
    uint8_t root[HSM_SHA256_LEN];

    if (hsm_merkle_root(&chain->tree, root) != HSM_OK ||
        memcmp(root, point->root, sizeof(root)) == 0)
        return;
    if (point->kept)
        hsm_verify_fault(
            v, file, chain->tree.size, chain->octets,
            "the records before this one are not those of the checkpoint that was kept");
    else
        hsm_verify_fault(v, file, chain->tree.size, chain->octets,
                         "the records before this one are not those of record %llu of the index",
                         (unsigned long long)point->record);
}

/* Check the points that the chain has reached. */
static void
check_points(struct hsm_verification *v, const char *file, const struct hsm_chain *chain,
             const struct hsm_point **at, size_t *left)
{
    while (*left > 0 && (*at)->size <= chain->tree.size) {
        if ((*at)->size == chain->tree.size)
            hsm_verify_point(v, file, chain, *at);
        ++*at;
        --*left;
    }
}

/* ---- files other than the index ---- */

static void
count_record(struct hsm_verification *v, const struct hsm_journal_record *record)
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

/* A file's first line names the journal and the file. */
static bool
is_of_this_journal(const struct hsm_verification *v, const char *file,
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
check_end_of_closed(struct hsm_verification *v, const struct hsm_entry *entry,
                    const struct hsm_walk *walk, uint64_t behind)
{
    const struct hsm_chain *chain = &walk->chain;

    if (chain->tree.size < entry->size)
        return; /* a point was not reached, which was reported */
    if (chain->tree.size > entry->size || behind != entry->torn)
        hsm_verify_fault(
            v, entry->name, entry->size, entry->octets,
            "the file ended here, as the index says, and has %llu octets more",
            (unsigned long long)(chain->octets - entry->octets + behind - entry->torn));
}

/* Report the end of a file that is open according to the index. */
static void
check_end_of_open(struct hsm_verification *v, const struct hsm_entry *entry, int fd,
                  uint64_t behind)
{
    bool in_use = flock(fd, LOCK_SH | LOCK_NB) != 0;

    if (in_use) {
        hsm_verify_tell(v, HSM_JOURNAL_NOTICE, entry->name, "is being written");
        return;
    }
    v->summary.ended_early++;
    hsm_verify_tell(v, HSM_JOURNAL_NOTICE, entry->name,
                    "its process did not close it: what was not written is lost%s",
                    behind > 0 ? ", and the last line is cut short" : "");
}

static void
check_end(struct hsm_verification *v, const struct hsm_entry *entry, const struct hsm_walk *walk,
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
    hsm_verify_tell(v, HSM_JOURNAL_NOTICE, entry->name,
                    "its process did not close it: what was not written is lost%s",
                    entry->torn > 0 ? ", and the last line is cut short" : "");
}

static enum hsm_status
walk_file(struct hsm_verification *v, const struct hsm_entry *entry, struct hsm_walk *walk, int fd)
{
    size_t left = 0;
    size_t total = 0;
    size_t index = (size_t)(entry - v->entries.entry);
    const struct hsm_point *at = points_of(v, index, &left);
    const struct hsm_point *first = at;
    enum hsm_walk_result result;
    uint64_t secured = 0;

    total = left;
    while ((result = hsm_walk_next(walk)) == HSM_WALK_RECORD) {
        if (walk->record.number == 0 && !is_of_this_journal(v, entry->name, &walk->record))
            hsm_verify_fault(v, entry->name, 0, 0, "its first line is not that of this file");
        count_record(v, &walk->record);
        check_points(v, entry->name, &walk->chain, &at, &left);
    }
    if (result == HSM_WALK_FAILED)
        return HSM_ERR_IO;
    if (result == HSM_WALK_WRONG)
        hsm_verify_fault(v, entry->name, walk->chain.tree.size, walk->chain.octets, "%s",
                         walk->wrong);
    else if (left > 0)
        hsm_verify_fault(v, entry->name, walk->chain.tree.size, walk->chain.octets,
                         "the file ends here, but has had %llu records",
                         (unsigned long long)first[total - 1].size);
    if (result != HSM_WALK_WRONG)
        check_end(v, entry, walk, fd);
    for (size_t i = 0; i < total - left; i++)
        secured = first[i].kept || first[i].record < v->sealed ? first[i].size : secured;
    v->summary.unsecured += walk->chain.tree.size - secured;
    return HSM_OK;
}

/* Its retention time may have ended after the index was read and before the file was opened. */
static bool was_removed_meanwhile(const struct hsm_verification *v, const char *name);

static enum hsm_status
verify_file(struct hsm_verification *v, const struct hsm_entry *entry)
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
            hsm_verify_tell(v, HSM_JOURNAL_FAULT, entry->name,
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
was_removed_meanwhile(const struct hsm_verification *v, const char *name)
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
account_for(struct hsm_verification *v, const char *name)
{
    const struct hsm_entry *entry = hsm_entries_find(&v->entries, name);
    struct stat about;
    char path[4096];

    if (is_ours_besides(name) || (entry != NULL && entry->state != HSM_ENTRY_REMOVED))
        return;
    if (entry != NULL) {
        hsm_verify_tell(v, HSM_JOURNAL_NOTICE, name,
                        "was removed, as the index says, but is there");
        return;
    }
    snprintf(path, sizeof(path), "%s/%s", v->config->dir, name);
    if (lstat(path, &about) == 0 && S_ISREG(about.st_mode) && about.st_size == 0)
        hsm_verify_tell(v, HSM_JOURNAL_NOTICE, name,
                        "is empty and not in the index: a process ended early");
    else
        hsm_verify_tell(v, HSM_JOURNAL_FAULT, name, "is not in the index");
}

/* Of a removed file only the statements of the index are left to check. */
static void
check_removed(struct hsm_verification *v, size_t index)
{
    size_t count = 0;
    const struct hsm_point *first = points_of(v, index, &count);
    const char *file = v->entries.entry[index].name;

    v->summary.removed++;
    v->summary.calls += v->entries.entry[index].calls;
    hsm_verify_tell(v, HSM_JOURNAL_NOTICE, file, "was removed after its time");
    for (size_t i = 1; i < count; i++) {
        if (first[i].size == first[i - 1].size &&
            memcmp(first[i].root, first[i - 1].root, HSM_SHA256_LEN) != 0)
            hsm_verify_tell(v, HSM_JOURNAL_FAULT, file,
                            "its checkpoints of %llu records contradict each other",
                            (unsigned long long)first[i].size);
    }
}

static enum hsm_status
verify_files(struct hsm_verification *v)
{
    enum hsm_status st = hsm_verify_place_kept(v);

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
release(struct hsm_verification *v)
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
    struct hsm_verification v = {.config = config};
    enum hsm_status st = hsm_verify_take_kept(&v);

    if (st == HSM_OK)
        st = hsm_verify_index(&v);
    if (st == HSM_OK)
        st = verify_files(&v);
    release(&v);
    if (st != HSM_OK)
        return st;
    *out = v.summary;
    return v.summary.faults == 0 ? HSM_OK : HSM_ERR_UNTRUSTED;
}
