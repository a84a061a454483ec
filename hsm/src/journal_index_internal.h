/*
 * journal_index_internal.h - the file that accounts for all other files of a journal.
 *
 * Its lines record what becomes of the files of the directory, and carry their checkpoints and its
 * own. A process that writes holds its lock, has read what others wrote meanwhile, and has verified
 * it.
 *
 *   open             the directory's id; the first line
 *   file-open        file=NAME
 *   file-checkpoint  file=NAME,size=N,root=HEX,at=TIME,sig=BASE64,calls=N
 *   file-close       the same and octets=N; sig only if it was signed
 *   file-recovered   file=NAME,size=N,root=HEX,octets=N,torn=N: its process did not close it
 *   file-removed     file=NAME,size=N,root=HEX: its retention time was over
 *   checkpoint       size=N,root=HEX,at=TIME,sig=BASE64,file=NAME,calls=N: of the index itself,
 *                    by the process that writes NAME
 *   index-torn       octets=N: a line was cut short by a crash, and was removed
 */
#ifndef HSM_JOURNAL_INDEX_INTERNAL_H
#define HSM_JOURNAL_INDEX_INTERNAL_H

#include "journal_line_internal.h"

#define HSM_INDEX_ID_LEN 16 /* octets of a directory's id */

enum hsm_entry_state {
    HSM_ENTRY_OPEN,
    HSM_ENTRY_CLOSED,
    HSM_ENTRY_RECOVERED,
    HSM_ENTRY_REMOVED
};

/** A file, as the index knows it. */
struct hsm_entry {
    char name[HSM_JOURNAL_NAME_MAX + 1];
    enum hsm_entry_state state;
    int64_t time_us; /* time of the last line about it */
    uint64_t size, octets, torn; /* set when it is closed or recovered */
    uint8_t root[HSM_SHA256_LEN];
    uint64_t calls; /* calls of C_Sign, the highest number recorded */
};

struct hsm_entries {
    struct hsm_entry *entry;
    size_t count, room;
};

/** Take a record of the index into account; HSM_ERR_MALFORMED: it is inconsistent. */
HSM_MUST_CHECK enum hsm_status hsm_entries_take(struct hsm_entries *entries,
                                                const struct hsm_journal_record *record);
struct hsm_entry *hsm_entries_find(const struct hsm_entries *entries, const char *name);
void hsm_entries_free(struct hsm_entries *entries);

/** "sti-hsm/journal/ID/NAME": the origin line of a file's checkpoints. */
void hsm_index_origin(const char *id, const char *file, char out[HSM_JOURNAL_ORIGIN_MAX + 1]);

/** The checkpoint that a line with a signature in its detail records; false: it has no
 * signature. */
HSM_MUST_CHECK bool hsm_index_note(const struct hsm_journal_record *record, const char *id,
                                   struct hsm_journal_note *out);

struct hsm_index {
    int fd;
    int dir_fd;
    char *dir;
    char *program;
    char id[HSM_HEX_LEN(HSM_INDEX_ID_LEN) + 1];
    struct hsm_chain chain;
    struct hsm_entries entries;
    bool stale; /* a line could not be written: write no more until it is locked and read again */
};

/** Open the directory and its index, which are created if absent. Faults are logged. */
HSM_MUST_CHECK enum hsm_status hsm_index_open(const char *dir, const char *program,
                                              struct hsm_index *out);
void hsm_index_close(struct hsm_index *index);

/** Take the lock and read what others wrote; call hsm_index_unlock() whatever it returns. BUSY when
 * others keep it until the deadline: they may wait for a token. */
HSM_MUST_CHECK enum hsm_status hsm_index_lock_until(struct hsm_index *index, int64_t deadline);
void hsm_index_unlock(struct hsm_index *index);

/** Under the lock: append a line. It is durable after the next hsm_index_sync(). On HSM_ERR_IO the
 * line is removed again, and no other is written under this lock. */
HSM_MUST_CHECK enum hsm_status hsm_index_append(struct hsm_index *index,
                                                const struct hsm_line *line);
HSM_MUST_CHECK enum hsm_status hsm_index_sync(struct hsm_index *index);

/** Under the lock: examine files whose process is gone, and record what was found. */
HSM_MUST_CHECK enum hsm_status hsm_index_recover(struct hsm_index *index);

/** Under the lock: remove files that ended before this time. */
HSM_MUST_CHECK enum hsm_status hsm_index_retain(struct hsm_index *index, int64_t since_us);

#endif
