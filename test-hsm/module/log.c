/* log.c - one line per call, one write() per line. */
#define _GNU_SOURCE /* gettid, dup3 */
#include "log.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "latency.h"
#include "names.h"

#define LINE_SIZE 256 /* octets */

static atomic_int sink = -1; /* keeps its number once open: a line may be being written */
static atomic_bool is_on;

bool
fault_log_open(const char *path)
{
    int fd;

    atomic_store(&is_on, false);
    if (path == NULL)
        return true;
    fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0)
        return false;
    if (atomic_load(&sink) < 0) {
        atomic_store(&sink, fd);
    } else {
        dup3(fd, atomic_load(&sink), O_CLOEXEC);
        close(fd);
    }
    atomic_store(&is_on, true);
    return true;
}

bool
fault_log_is_on(void)
{
    return atomic_load_explicit(&is_on, memory_order_relaxed);
}

static int
format(const struct fault_log_line *line, char text[LINE_SIZE])
{
    int64_t us = (fault_now_ns() - line->begun_ns) / 1000;
    char answer[FAULT_CKR_TEXT_MAX];
    char subject[48] = "";

    if (line->subject != NULL)
        snprintf(subject, sizeof(subject), " %s=0x%lx", line->subject, line->number);
    return snprintf(
        text, LINE_SIZE, "%" PRId64 ".%06" PRId64 " %ld %ld %s%s rv=%s us=%" PRId64 "\n",
        line->begun_ns / 1000000000, line->begun_ns / 1000 % 1000000, (long)getpid(),
        (long)gettid(), fault_fn_name(line->fn), subject, fault_ckr_text(line->rv, answer), us);
}

/* A failure to write the log does not make the call fail. */
void
fault_log_write(const struct fault_log_line *line)
{
    char text[LINE_SIZE];
    int len = format(line, text);
    ssize_t written = write(atomic_load(&sink), text, (size_t)len);

    (void)written;
}
