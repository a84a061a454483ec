/*
 * journal_file_internal.h - a file of a journal that is being written, by one thread.
 */
#ifndef HSM_JOURNAL_FILE_INTERNAL_H
#define HSM_JOURNAL_FILE_INTERNAL_H

#include "journal_index_internal.h"

#define HSM_FILE_BUFFER 262144 /* octets of lines that are not written yet */

/** How a file stands: for its checkpoint. */
struct hsm_file_state {
    char name[HSM_JOURNAL_NAME_MAX + 1];
    uint64_t size, octets;
    uint8_t root[HSM_SHA256_LEN];
    uint64_t calls; /* of C_Sign while it was written */
};

struct hsm_file {
    int fd;
    char name[HSM_JOURNAL_NAME_MAX + 1];
    struct hsm_chain chain; /* with what is still in the buffer */
    char *buffer;
    size_t begin, end; /* what of the buffer is to be written */
    uint64_t calls_before; /* of the process, when it was begun */
};

/** Make it, lock it, tell the index, and put its first line into the buffer. Takes the index's
 * lock, and is BUSY when others keep that until the deadline. */
HSM_MUST_CHECK enum hsm_status hsm_file_begin(struct hsm_index *index, uint64_t calls,
                                              int64_t deadline, struct hsm_file *out);

/** For a use of a key and what goes with it. */
bool hsm_file_has_room(const struct hsm_file *file);

/** With room for it. */
HSM_MUST_CHECK enum hsm_status hsm_file_line(struct hsm_file *file, const struct hsm_line *line);

/** Write the buffer; what could not be written stays in it, and is tried again. Not logged. */
HSM_MUST_CHECK enum hsm_status hsm_file_flush(struct hsm_file *file);

/** HSM_ERR_IO: what is durable is not known any more. Not logged. */
HSM_MUST_CHECK enum hsm_status hsm_file_sync(struct hsm_file *file);

HSM_MUST_CHECK enum hsm_status hsm_file_state(const struct hsm_file *file, uint64_t calls,
                                              struct hsm_file_state *out);

/** Give up file and lock, as it is. */
void hsm_file_end(struct hsm_file *file);

#endif
