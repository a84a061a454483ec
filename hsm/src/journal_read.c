/* journal_read.c - read the lines of a journal. */
#include "journal_read_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATH_SIZE PATH_MAX

enum hsm_status
hsm_journal_open_file(const char *dir, const char *file, int *out, struct hsm_reason *why)
{
    char path[PATH_SIZE];
    int n = snprintf(path, sizeof(path), "%s/%s", dir, file);
    int fd;

    if (n < 0 || (size_t)n >= sizeof(path) || strchr(file, '/') != NULL)
        return hsm_refuse(why, HSM_ERR_USAGE, "%s: not the name of a file", file);
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return hsm_refuse(why, errno == ENOENT ? HSM_ERR_NOT_FOUND : HSM_ERR_IO, "%s: %s", path,
                          strerror(errno));
    *out = fd;
    return HSM_OK;
}

enum hsm_status
hsm_journal_wrong(const char *file, const struct hsm_walk *walk, struct hsm_reason *why)
{
    return hsm_refuse(why, HSM_ERR_UNTRUSTED, "%s: record %llu, octet %llu: %s", file,
                      (unsigned long long)walk->chain.tree.size,
                      (unsigned long long)walk->chain.octets, walk->wrong);
}

/* A partial last line is still being written, or was cut short by a crash: it is not a record. */
enum hsm_status
hsm_journal_read(const char *dir, const char *file, hsm_journal_take_fn *take, void *context,
                 struct hsm_reason *why)
{
    struct hsm_walk walk;
    enum hsm_walk_result result = HSM_WALK_END;
    int fd = -1;
    enum hsm_status st = hsm_journal_open_file(dir, file, &fd, why);

    if (st != HSM_OK)
        return st;
    st = hsm_walk_begin(&walk, fd, NULL);
    while (st == HSM_OK && (result = hsm_walk_next(&walk)) == HSM_WALK_RECORD) {
        if (!take(context, file, &walk.record))
            break;
    }
    if (result == HSM_WALK_WRONG)
        st = hsm_journal_wrong(file, &walk, why);
    if (result == HSM_WALK_FAILED)
        st = HSM_ERR_IO;
    hsm_walk_end(&walk);
    close(fd);
    return st;
}

/* ---- all files ---- */

struct reading {
    struct hsm_entries entries;
    hsm_journal_take_fn *take;
    void *context;
    enum hsm_status status;
    bool stopped;
};

static bool
take_of_index(void *context, const char *file, const struct hsm_journal_record *record)
{
    struct reading *reading = context;

    reading->status = hsm_entries_take(&reading->entries, record);
    reading->stopped = reading->status != HSM_OK || !reading->take(reading->context, file, record);
    return !reading->stopped;
}

static bool
take_of_file(void *context, const char *file, const struct hsm_journal_record *record)
{
    struct reading *reading = context;

    reading->stopped = !reading->take(reading->context, file, record);
    return !reading->stopped;
}

enum hsm_status
hsm_journal_read_all(const char *dir, hsm_journal_take_fn *take, void *context,
                     struct hsm_reason *why)
{
    struct reading reading = {.take = take, .context = context};
    enum hsm_status st = hsm_journal_read(dir, HSM_JOURNAL_INDEX, take_of_index, &reading, why);

    if (st == HSM_OK && reading.status != HSM_OK)
        st = hsm_refuse(why, reading.status, "index: inconsistent entry");
    for (size_t i = 0; st == HSM_OK && !reading.stopped && i < reading.entries.count; i++) {
        if (reading.entries.entry[i].state != HSM_ENTRY_REMOVED)
            st = hsm_journal_read(dir, reading.entries.entry[i].name, take_of_file, &reading, why);
    }
    hsm_entries_free(&reading.entries);
    return st;
}

/* ---- checkpoints ---- */

struct collecting {
    char id[HSM_HEX_LEN(HSM_INDEX_ID_LEN) + 1];
    char origin[HSM_JOURNAL_ORIGIN_MAX + 1]; /* the wanted one; "": all */
    const char *file;
    bool (*take)(void *context, const struct hsm_journal_note *note);
    void *context;
};

static bool
collect(void *context, const char *file, const struct hsm_journal_record *record)
{
    struct collecting *c = context;
    struct hsm_journal_note note;

    (void)file;
    if (record->number == 0 && hsm_journal_detail(record->detail, "id", c->id, sizeof(c->id)) &&
        c->file != NULL)
        hsm_index_origin(c->id, c->file, c->origin);
    if (!hsm_index_note(record, c->id, &note))
        return true;
    return (c->file != NULL && strcmp(note.origin, c->origin) != 0) || c->take(c->context, &note);
}

enum hsm_status
hsm_journal_notes(const char *dir, const char *file,
                  bool (*take)(void *context, const struct hsm_journal_note *note), void *context,
                  struct hsm_reason *why)
{
    struct collecting c = {.file = file, .take = take, .context = context};

    return hsm_journal_read(dir, HSM_JOURNAL_INDEX, collect, &c, why);
}
