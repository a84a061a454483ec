/* journal_index.c - the file that accounts for all other files of a journal. */
#include "journal_index_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/rand.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <hsm/log.h>

#include "clock_internal.h"
#include "journal_note_internal.h"

#define LOCK_STEP_MS  2 /* between attempts to take a lock that another process holds */
#define VERSION       "1"
#define ORIGIN_PREFIX "sti-hsm/journal/"

/* ---- the content of its lines ---- */

/* Searched from the end, as the newest files are looked up most. */
struct hsm_entry *
hsm_entries_find(const struct hsm_entries *entries, const char *name)
{
    for (size_t i = entries->count; i > 0; i--) {
        if (strcmp(entries->entry[i - 1].name, name) == 0)
            return &entries->entry[i - 1];
    }
    return NULL;
}

void
hsm_entries_free(struct hsm_entries *entries)
{
    free(entries->entry);
    *entries = (struct hsm_entries){NULL, 0, 0};
}

static struct hsm_entry *
add_entry(struct hsm_entries *entries, const char *name)
{
    struct hsm_entry *entry;

    if (entries->count == entries->room) {
        size_t room = entries->room == 0 ? 16 : 2 * entries->room;
        void *larger = realloc(entries->entry, room * sizeof(*entries->entry));

        if (larger == NULL)
            return NULL;
        entries->entry = larger;
        entries->room = room;
    }
    entry = &entries->entry[entries->count++];
    memset(entry, 0, sizeof(*entry));
    memcpy(entry->name, name, strlen(name) + 1);
    return entry;
}

static bool
detail_number(const char *detail, const char *name, uint64_t *out)
{
    char text[24];
    char *end = NULL;

    if (!hsm_journal_detail(detail, name, text, sizeof(text)) || text[0] < '0' || text[0] > '9')
        return false;
    *out = strtoull(text, &end, 10);
    return *end == '\0';
}

static bool
detail_root(const char *detail, uint8_t *root)
{
    char text[HSM_JOURNAL_HASH_HEX + 1];

    return hsm_journal_detail(detail, "root", text, sizeof(text)) &&
           hsm_hex_get(text, strlen(text), root, HSM_SHA256_LEN);
}

/* A name within this directory that a journal may give to a file. */
static bool
is_file_name(const char *name)
{
    size_t len = strlen(name);
    size_t suffix = strlen(HSM_JOURNAL_SUFFIX);

    return len > suffix && strcmp(name + len - suffix, HSM_JOURNAL_SUFFIX) == 0 && name[0] != '.' &&
           strchr(name, '/') == NULL;
}

/* The state of a file after a line of this kind; false: the line does not change a file's state. */
static bool
state_of(const char *kind, enum hsm_entry_state *out)
{
    static const struct {
        const char *kind;
        enum hsm_entry_state state;
    } rows[] = {{"file-open", HSM_ENTRY_OPEN},
                {"file-checkpoint", HSM_ENTRY_OPEN},
                {"file-close", HSM_ENTRY_CLOSED},
                {"file-recovered", HSM_ENTRY_RECOVERED},
                {"file-removed", HSM_ENTRY_REMOVED}};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (strcmp(rows[i].kind, kind) == 0) {
            *out = rows[i].state;
            return true;
        }
    }
    return false;
}

static bool
follows(const struct hsm_entry *entry, enum hsm_entry_state next)
{
    if (next == HSM_ENTRY_REMOVED)
        return entry->state == HSM_ENTRY_CLOSED || entry->state == HSM_ENTRY_RECOVERED;
    return entry->state == HSM_ENTRY_OPEN;
}

static bool
take_end(struct hsm_entry *entry, enum hsm_entry_state state, const char *detail)
{
    if (state == HSM_ENTRY_RECOVERED && !detail_number(detail, "torn", &entry->torn))
        return false;
    return detail_number(detail, "size", &entry->size) &&
           detail_number(detail, "octets", &entry->octets) && detail_root(detail, entry->root);
}

enum hsm_status
hsm_entries_take(struct hsm_entries *entries, const struct hsm_journal_record *record)
{
    char name[HSM_JOURNAL_NAME_MAX + 1];
    enum hsm_entry_state state = HSM_ENTRY_OPEN;
    bool is_state = state_of(record->kind, &state);
    struct hsm_entry *entry;
    uint64_t calls;

    if (!hsm_journal_detail(record->detail, "file", name, sizeof(name)))
        return is_state ? HSM_ERR_MALFORMED : HSM_OK;
    entry = hsm_entries_find(entries, name);
    if (strcmp(record->kind, "file-open") == 0) {
        if (entry != NULL || !is_file_name(name))
            return HSM_ERR_MALFORMED;
        entry = add_entry(entries, name);
        if (entry == NULL)
            return HSM_ERR_NOMEM;
    }
    if (entry == NULL || (is_state && !follows(entry, state)))
        return HSM_ERR_MALFORMED;
    if (detail_number(record->detail, "calls", &calls) && calls > entry->calls)
        entry->calls = calls;
    if (!is_state)
        return HSM_OK;
    entry->time_us = hsm_time_get(record->time);
    entry->state = state;
    if (state == HSM_ENTRY_CLOSED || state == HSM_ENTRY_RECOVERED)
        return take_end(entry, state, record->detail) ? HSM_OK : HSM_ERR_MALFORMED;
    return HSM_OK;
}

void
hsm_index_origin(const char *id, const char *file, char out[HSM_JOURNAL_ORIGIN_MAX + 1])
{
    snprintf(out, HSM_JOURNAL_ORIGIN_MAX + 1, ORIGIN_PREFIX "%s/%s", id, file);
}

bool
hsm_index_note(const struct hsm_journal_record *record, const char *id,
               struct hsm_journal_note *out)
{
    char file[HSM_JOURNAL_NAME_MAX + 1] = HSM_JOURNAL_INDEX;
    char sig[HSM_NOTE_SIG_TEXT];
    struct hsm_journal_note note;

    memset(&note, 0, sizeof(note));
    if (!hsm_journal_detail(record->detail, "sig", sig, sizeof(sig)) ||
        hsm_note_sig_parse(sig, &note) != HSM_OK ||
        !detail_number(record->detail, "size", &note.size) ||
        !detail_root(record->detail, note.root) ||
        !hsm_journal_detail(record->detail, "at", note.time, sizeof(note.time)))
        return false;
    if (strcmp(record->kind, "checkpoint") != 0 &&
        !hsm_journal_detail(record->detail, "file", file, sizeof(file)))
        return false;
    hsm_index_origin(id, file, note.origin);
    *out = note;
    return true;
}

/* ---- writing ---- */

static enum hsm_status
failed(const struct hsm_index *index, const char *what)
{
    hsm_log(HSM_LOG_ERROR, "journal %s: %s: %s", index->dir, what, strerror(errno));
    return HSM_ERR_IO;
}

static bool
write_all(int fd, const char *octets, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, octets, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        octets += n;
        len -= (size_t)n;
    }
    return true;
}

/* Have the index read again from the disk under the next lock. */
static void
forget(struct hsm_index *index)
{
    hsm_entries_free(&index->entries);
    memset(&index->chain, 0, sizeof(index->chain));
    index->stale = true;
}

/* Remove a line that was written in part: it would stop every reader, and what was read of it is
 * invalid. */
static enum hsm_status
take_back(struct hsm_index *index)
{
    enum hsm_status st = failed(index, HSM_JOURNAL_INDEX);

    if (ftruncate(index->fd, (off_t)index->chain.octets) != 0)
        hsm_log(HSM_LOG_ERROR, "journal %s: index: a partial line could not be removed",
                index->dir);
    forget(index);
    return st;
}

enum hsm_status
hsm_index_append(struct hsm_index *index, const struct hsm_line *line)
{
    struct hsm_chain chain = index->chain;
    struct hsm_walk walk = {.wrong = NULL};
    char text[HSM_JOURNAL_LINE_MAX];
    char copy[HSM_JOURNAL_LINE_MAX + 1];
    size_t len = 0;
    enum hsm_status st;

    if (index->stale)
        return HSM_ERR_IO;
    st = hsm_line_put(&chain, line, text, &len);
    if (st != HSM_OK)
        return st;
    memcpy(copy, text, len);
    if (hsm_line_parse(copy, len - 1, &walk.record, walk.hash) != NULL)
        return HSM_ERR_USAGE;
    st = hsm_entries_take(&index->entries, &walk.record);
    if (st != HSM_OK)
        return st;
    if (!write_all(index->fd, text, len))
        return take_back(index);
    index->chain = chain;
    return HSM_OK;
}

enum hsm_status
hsm_index_sync(struct hsm_index *index)
{
    return fdatasync(index->fd) == 0 ? HSM_OK : failed(index, HSM_JOURNAL_INDEX);
}

/* The lock is held, so no process is still writing the rest of that line. */
static enum hsm_status
take_torn_away(struct hsm_index *index, uint64_t torn)
{
    char detail[HSM_JOURNAL_DETAIL_MAX] = "";
    const struct hsm_line line = {.time_us = hsm_time_now_us(),
                                  .kind = "index-torn",
                                  .key = HSM_JOURNAL_WITHOUT_KEY,
                                  .who = index->program,
                                  .detail = detail};

    hsm_log(HSM_LOG_WARNING, "journal %s: the last line of the index was cut short by a crash",
            index->dir);
    if (ftruncate(index->fd, (off_t)index->chain.octets) != 0)
        return failed(index, HSM_JOURNAL_INDEX);
    hsm_detail_put_number(detail, sizeof(detail), "octets", torn);
    return hsm_index_append(index, &line);
}

static enum hsm_status
index_is_wrong(const struct hsm_index *index, const struct hsm_walk *walk, const char *what)
{
    hsm_log(HSM_LOG_ERROR, "journal %s: index: record %llu, octet %llu: %s", index->dir,
            (unsigned long long)walk->chain.tree.size, (unsigned long long)walk->chain.octets,
            what);
    return HSM_ERR_UNTRUSTED;
}

static enum hsm_status
catch_up(struct hsm_index *index)
{
    struct hsm_walk walk;
    enum hsm_status st = hsm_walk_begin(&walk, index->fd, &index->chain);
    enum hsm_walk_result result = HSM_WALK_END;

    while (st == HSM_OK && (result = hsm_walk_next(&walk)) == HSM_WALK_RECORD) {
        st = hsm_entries_take(&index->entries, &walk.record);
        if (st == HSM_OK && walk.record.number == 0 &&
            !hsm_journal_detail(walk.record.detail, "id", index->id, sizeof(index->id)))
            st = HSM_ERR_MALFORMED;
        if (st == HSM_ERR_MALFORMED)
            st = index_is_wrong(index, &walk, "inconsistent entry");
    }
    if (st == HSM_OK && result == HSM_WALK_WRONG)
        st = index_is_wrong(index, &walk, walk.wrong);
    if (st == HSM_OK && result == HSM_WALK_FAILED)
        st = HSM_ERR_IO;
    if (st == HSM_OK) {
        index->chain = walk.chain;
        if (result == HSM_WALK_TORN)
            st = take_torn_away(index, walk.torn);
    } else {
        forget(index); /* the entries are ahead of the chain */
    }
    hsm_walk_end(&walk);
    return st;
}

static enum hsm_status
write_first_line(struct hsm_index *index)
{
    char detail[HSM_JOURNAL_DETAIL_MAX] = "";
    uint8_t id[HSM_INDEX_ID_LEN];
    const struct hsm_line line = {.time_us = hsm_time_now_us(),
                                  .kind = "open",
                                  .key = HSM_JOURNAL_WITHOUT_KEY,
                                  .who = index->program,
                                  .detail = detail};

    if (RAND_bytes(id, sizeof(id)) != 1)
        return HSM_ERR_CRYPTO;
    hsm_hex_put(id, sizeof(id), index->id);
    hsm_detail_put(detail, sizeof(detail), "version", VERSION);
    hsm_detail_put(detail, sizeof(detail), "id", index->id);
    return hsm_index_append(index, &line);
}

static enum hsm_status
read_what_others_wrote(struct hsm_index *index)
{
    enum hsm_status st;

    index->stale = false;
    st = catch_up(index);
    if (st == HSM_OK && index->chain.tree.size == 0)
        st = write_first_line(index);
    return st;
}

enum hsm_status
hsm_index_lock_until(struct hsm_index *index, int64_t deadline)
{
    int rc = flock(index->fd, LOCK_EX | LOCK_NB);

    while (rc != 0 && (errno == EWOULDBLOCK || errno == EINTR)) {
        if (hsm_clock_ns() >= deadline)
            return HSM_ERR_BUSY;
        hsm_clock_sleep_until(hsm_deadline_after(LOCK_STEP_MS));
        rc = flock(index->fd, LOCK_EX | LOCK_NB);
    }
    return rc == 0 ? read_what_others_wrote(index) : failed(index, "lock");
}

void
hsm_index_unlock(struct hsm_index *index)
{
    (void)flock(index->fd, LOCK_UN);
}

void
hsm_index_close(struct hsm_index *index)
{
    if (index->fd >= 0)
        close(index->fd);
    if (index->dir_fd >= 0)
        close(index->dir_fd);
    hsm_entries_free(&index->entries);
    free(index->dir);
    free(index->program);
    index->fd = index->dir_fd = -1;
    index->dir = index->program = NULL;
}

static enum hsm_status
open_dir(struct hsm_index *index)
{
    if (mkdir(index->dir, 0700) != 0 && errno != EEXIST)
        return failed(index, "cannot be made");
    index->dir_fd = open(index->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (index->dir_fd < 0)
        return failed(index, "cannot be opened");
    index->fd =
        openat(index->dir_fd, HSM_JOURNAL_INDEX, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    if (index->fd < 0)
        return failed(index, HSM_JOURNAL_INDEX);
    if (fsync(index->dir_fd) != 0)
        return failed(index, "fsync");
    return HSM_OK;
}

enum hsm_status
hsm_index_open(const char *dir, const char *program, struct hsm_index *out)
{
    struct hsm_index index = {
        .fd = -1, .dir_fd = -1, .dir = strdup(dir), .program = strdup(program)};
    enum hsm_status st = HSM_ERR_NOMEM;

    if (index.dir != NULL && index.program != NULL)
        st = open_dir(&index);
    if (st != HSM_OK) {
        hsm_index_close(&index);
        return st;
    }
    *out = index;
    return HSM_OK;
}

/* ---- files without a process, and expired files ---- */

static enum hsm_status
append_about(struct hsm_index *index, const char *kind, const struct hsm_entry *entry)
{
    char detail[HSM_JOURNAL_DETAIL_MAX] = "";
    char root[HSM_JOURNAL_HASH_HEX + 1];
    const struct hsm_line line = {.time_us = hsm_time_now_us(),
                                  .kind = kind,
                                  .key = HSM_JOURNAL_WITHOUT_KEY,
                                  .who = index->program,
                                  .detail = detail};

    hsm_hex_put(entry->root, sizeof(entry->root), root);
    hsm_detail_put(detail, sizeof(detail), "file", entry->name);
    hsm_detail_put_number(detail, sizeof(detail), "size", entry->size);
    hsm_detail_put(detail, sizeof(detail), "root", root);
    hsm_detail_put_number(detail, sizeof(detail), "octets", entry->octets);
    hsm_detail_put_number(detail, sizeof(detail), "torn", entry->torn);
    return hsm_index_append(index, &line);
}

/* Measure the part of the file that is valid; `verify` reports what follows it. */
static enum hsm_status
measure(const struct hsm_index *index, int fd, struct hsm_entry *entry)
{
    struct hsm_walk walk;
    struct stat about;
    enum hsm_walk_result result;
    enum hsm_status st = hsm_walk_begin(&walk, fd, NULL);

    if (st != HSM_OK)
        return st;
    do
        result = hsm_walk_next(&walk);
    while (result == HSM_WALK_RECORD);
    if (result == HSM_WALK_FAILED || fstat(fd, &about) != 0)
        st = HSM_ERR_IO;
    if (st == HSM_OK)
        st = hsm_merkle_root(&walk.chain.tree, entry->root);
    if (st == HSM_OK) {
        entry->size = walk.chain.tree.size;
        entry->octets = walk.chain.octets;
        entry->torn = (uint64_t)about.st_size - walk.chain.octets;
    }
    if (result == HSM_WALK_WRONG)
        hsm_log(HSM_LOG_ERROR, "journal %s: %s: record %llu, octet %llu: %s", index->dir,
                entry->name, (unsigned long long)walk.chain.tree.size,
                (unsigned long long)walk.chain.octets, walk.wrong);
    hsm_walk_end(&walk);
    return st;
}

static enum hsm_status
recover(struct hsm_index *index, const char *name)
{
    struct hsm_entry found = {.state = HSM_ENTRY_RECOVERED};
    int fd = openat(index->dir_fd, name, O_RDONLY | O_CLOEXEC);
    enum hsm_status st;

    if (fd < 0) {
        hsm_log(HSM_LOG_ERROR, "journal %s: %s: %s", index->dir, name, strerror(errno));
        return HSM_OK; /* `verify` reports that it is missing */
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) { /* its writer is alive */
        close(fd);
        return HSM_OK;
    }
    memcpy(found.name, name, strlen(name) + 1);
    st = measure(index, fd, &found);
    if (st == HSM_OK && fdatasync(fd) != 0) /* like before a checkpoint */
        st = failed(index, name);
    close(fd);
    if (st != HSM_OK)
        return st;
    hsm_log(HSM_LOG_WARNING,
            "journal %s: %s: its process did not close it: %llu records are there, and what was "
            "not written yet is lost",
            index->dir, name, (unsigned long long)found.size);
    return append_about(index, "file-recovered", &found);
}

enum hsm_status
hsm_index_recover(struct hsm_index *index)
{
    enum hsm_status st = HSM_OK;
    char name[HSM_JOURNAL_NAME_MAX + 1];

    for (size_t i = 0; i < index->entries.count && st == HSM_OK; i++) {
        if (index->entries.entry[i].state != HSM_ENTRY_OPEN)
            continue;
        memcpy(name, index->entries.entry[i].name, sizeof(name));
        st = recover(index, name);
    }
    return st;
}

/* The removal is durable in the index before the file is deleted. */
static enum hsm_status
remove_file(struct hsm_index *index, const struct hsm_entry *entry)
{
    const struct hsm_entry copy = *entry;
    enum hsm_status st = append_about(index, "file-removed", &copy);

    if (st == HSM_OK)
        st = hsm_index_sync(index);
    if (st == HSM_OK && unlinkat(index->dir_fd, copy.name, 0) != 0 && errno != ENOENT)
        st = failed(index, copy.name);
    return st;
}

enum hsm_status
hsm_index_retain(struct hsm_index *index, int64_t since_us)
{
    enum hsm_status st = HSM_OK;

    for (size_t i = 0; i < index->entries.count && st == HSM_OK; i++) {
        const struct hsm_entry *entry = &index->entries.entry[i];
        bool ended = entry->state == HSM_ENTRY_CLOSED || entry->state == HSM_ENTRY_RECOVERED;

        if (ended && entry->time_us < since_us)
            st = remove_file(index, entry);
    }
    return st;
}
