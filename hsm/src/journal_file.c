/* journal_file.c - a journal file that is being written. */
#include "journal_file_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sys/file.h>

#include <hsm/log.h>
#include <hsm/time.h>

#define NAMES_MAX     1000 /* files that one process begins in one second */
#define LINES_AT_ONCE 4 /* lines that belong to one use of a key, at most */

static enum hsm_status
failed(const struct hsm_index *index, const char *name)
{
    hsm_log(HSM_LOG_ERROR, "journal %s: %s: %s", index->dir, name, strerror(errno));
    return HSM_ERR_IO;
}

/* PROGRAM-TIME-PID-N.log: a directory listing is in order of time. */
static enum hsm_status
create(struct hsm_index *index, struct hsm_file *file)
{
    char stamp[HSM_TIME_STAMP_LEN + 1];

    hsm_time_stamp(time(NULL), stamp);
    for (int n = 0; n < NAMES_MAX && file->fd < 0; n++) {
        snprintf(file->name, sizeof(file->name), "%s-%s-%ld-%d" HSM_JOURNAL_SUFFIX, index->program,
                 stamp, (long)getpid(), n);
        file->fd = openat(index->dir_fd, file->name,
                          O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0640);
        if (file->fd < 0 && errno != EEXIST)
            break;
    }
    if (file->fd < 0 || flock(file->fd, LOCK_EX | LOCK_NB) != 0 || fsync(index->dir_fd) != 0)
        return failed(index, file->name);
    return HSM_OK;
}

static enum hsm_status
tell_index(struct hsm_index *index, const struct hsm_file *file)
{
    char detail[HSM_JOURNAL_DETAIL_MAX] = "";
    const struct hsm_line line = {.time_us = hsm_time_now_us(),
                                  .kind = "file-open",
                                  .key = HSM_JOURNAL_WITHOUT_KEY,
                                  .who = index->program,
                                  .detail = detail};
    enum hsm_status st;

    hsm_detail_put(detail, sizeof(detail), "file", file->name);
    st = hsm_index_append(index, &line);
    if (st == HSM_OK)
        return hsm_index_sync(index);
    (void)unlinkat(index->dir_fd, file->name, 0); /* empty, and not in the index */
    return st;
}

static enum hsm_status
first_line(const struct hsm_index *index, struct hsm_file *file)
{
    char detail[HSM_JOURNAL_DETAIL_MAX] = "";
    char origin[HSM_JOURNAL_ORIGIN_MAX + 1];
    const struct hsm_line line = {.time_us = hsm_time_now_us(),
                                  .kind = "open",
                                  .key = HSM_JOURNAL_WITHOUT_KEY,
                                  .who = index->program,
                                  .detail = detail};

    hsm_index_origin(index->id, file->name, origin);
    hsm_detail_put(detail, sizeof(detail), "version", "1");
    hsm_detail_put(detail, sizeof(detail), "origin", origin);
    return hsm_file_line(file, &line);
}

enum hsm_status
hsm_file_begin(struct hsm_index *index, uint64_t calls, int64_t deadline, struct hsm_file *out)
{
    struct hsm_file file = {.fd = -1, .buffer = malloc(HSM_FILE_BUFFER), .calls_before = calls};
    enum hsm_status st;

    if (file.buffer == NULL)
        return HSM_ERR_NOMEM;
    st = hsm_index_lock_until(index, deadline);
    if (st == HSM_OK)
        st = create(index, &file);
    if (st == HSM_OK)
        st = tell_index(index, &file);
    hsm_index_unlock(index);
    if (st == HSM_OK)
        st = first_line(index, &file);
    if (st != HSM_OK) {
        hsm_file_end(&file);
        return st;
    }
    *out = file;
    return HSM_OK;
}

bool
hsm_file_has_room(const struct hsm_file *file)
{
    return HSM_FILE_BUFFER - file->end >= LINES_AT_ONCE * HSM_JOURNAL_LINE_MAX;
}

enum hsm_status
hsm_file_line(struct hsm_file *file, const struct hsm_line *line)
{
    size_t len = 0;
    enum hsm_status st = hsm_line_put(&file->chain, line, file->buffer + file->end, &len);

    if (st == HSM_OK)
        file->end += len;
    return st;
}

enum hsm_status
hsm_file_flush(struct hsm_file *file)
{
    while (file->begin < file->end) {
        ssize_t n = write(file->fd, file->buffer + file->begin, file->end - file->begin);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return HSM_ERR_IO;
        file->begin += (size_t)n;
    }
    file->begin = file->end = 0;
    return HSM_OK;
}

enum hsm_status
hsm_file_sync(struct hsm_file *file)
{
    return fdatasync(file->fd) == 0 ? HSM_OK : HSM_ERR_IO;
}

enum hsm_status
hsm_file_state(const struct hsm_file *file, uint64_t calls, struct hsm_file_state *out)
{
    out->size = file->chain.tree.size;
    out->octets = file->chain.octets;
    out->calls = calls - file->calls_before;
    memcpy(out->name, file->name, sizeof(out->name));
    return hsm_merkle_root(&file->chain.tree, out->root);
}

void
hsm_file_end(struct hsm_file *file)
{
    if (file->fd >= 0)
        close(file->fd);
    free(file->buffer);
    file->fd = -1;
    file->buffer = NULL;
}
