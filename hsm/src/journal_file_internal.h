/*
 * journal_file_internal.h - a journal file that is being written, by one thread.
 */
#ifndef HSM_JOURNAL_FILE_INTERNAL_H
#define HSM_JOURNAL_FILE_INTERNAL_H

#include "journal_index_internal.h"

#define HSM_FILE_BUFFER 262144 /* octets of lines not yet written */

/** State of a file, for its checkpoint. */
struct hsm_file_state {
    char name[HSM_JOURNAL_NAME_MAX + 1];
    uint64_t size, octets;
    uint8_t root[HSM_SHA256_LEN];
    uint64_t calls; /* calls of C_Sign until then */
};

struct hsm_file {
    int fd;
    char name[HSM_JOURNAL_NAME_MAX + 1];
    struct hsm_chain chain; /* includes the lines in the buffer */
    char *buffer;
    size_t begin, end; /* the part of the buffer that is to be written */
    uint64_t calls_before; /* calls of C_Sign by the process before the file was begun */
};

/** Create and lock the file, enter it in the index, and put its first line into the buffer. Takes
 * the index's lock; BUSY when other processes keep that until the deadline. */
HSM_MUST_CHECK enum hsm_status hsm_file_begin(struct hsm_index *index, uint64_t calls,
                                              int64_t deadline, struct hsm_file *out);

/** There is room for a use of a key and the lines that belong to it. */
bool hsm_file_has_room(const struct hsm_file *file);

/** Append a line to the buffer, which must have room for it. */
HSM_MUST_CHECK enum hsm_status hsm_file_line(struct hsm_file *file, const struct hsm_line *line);

/** Write the buffer; what could not be written stays in it, and is tried again. Not logged. */
HSM_MUST_CHECK enum hsm_status hsm_file_flush(struct hsm_file *file);

/** HSM_ERR_IO: it is no longer known what is durable. Not logged. */
HSM_MUST_CHECK enum hsm_status hsm_file_sync(struct hsm_file *file);

HSM_MUST_CHECK enum hsm_status hsm_file_state(const struct hsm_file *file, uint64_t calls,
                                              struct hsm_file_state *out);

/** Release file and lock, without writing. */
void hsm_file_end(struct hsm_file *file);

#endif
