/* trail.c - the record of who was responsible for each signature and refusal. */
#define _GNU_SOURCE /* dup3 */
#include <sks/trail.h>

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/stat.h>

#include <hsm/defer.h>
#include <hsm/log.h>
#include <hsm/time.h>

#define TEXT_MAX  512 /* octets of a member other than the claims; longer ones are cut */
#define LINE_SIZE (SKS_PASSPORT_PAYLOAD_MAX + 10 * (TEXT_MAX + 16))

struct sks_trail {
    char *path;
    int fd;
    atomic_bool is_broken; /* the last line may lack its end */
    atomic_bool is_written; /* since the last sync to disk */
};

static int
open_file(const char *path)
{
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0)
        hsm_log(HSM_LOG_ERROR, "trail %s: %s", path, strerror(errno));
    return fd;
}

enum hsm_status
sks_trail_open(const char *path, struct sks_trail **out)
{
    DEFER(sks_trail_close) struct sks_trail *trail = calloc(1, sizeof(*trail));

    if (trail == NULL)
        return HSM_ERR_NOMEM;
    trail->fd = -1;
    trail->path = strdup(path);
    if (trail->path == NULL)
        return HSM_ERR_NOMEM;
    trail->fd = open_file(path);
    if (trail->fd < 0)
        return HSM_ERR_IO;
    *out = trail;
    trail = NULL;
    return HSM_OK;
}

void
sks_trail_close(struct sks_trail *trail)
{
    if (trail == NULL)
        return;
    if (trail->fd >= 0)
        close(trail->fd);
    free(trail->path);
    free(trail);
}

/* ---- a line ---- */

/** There is room for all members: each is bounded. */
struct line {
    char text[LINE_SIZE];
    size_t len;
};

static void
add(struct line *line, const char *text, size_t len)
{
    memcpy(line->text + line->len, text, len);
    line->len += len;
}

/* Only texts chosen by a caller can have characters to escape: each of those becomes '?'. */
static void
add_member(struct line *line, const char *name, const char *value)
{
    size_t len = value == NULL ? 0 : strnlen(value, TEXT_MAX);

    if (value == NULL)
        return;
    add(line, ",\"", 2);
    add(line, name, strlen(name));
    add(line, "\":\"", 3);
    for (size_t i = 0; i < len; i++) {
        char c = value[i];

        if (c < ' ' || c > '~' || c == '"' || c == '\\')
            c = '?';
        line->text[line->len++] = c;
    }
    add(line, "\"", 1);
}

static void
add_time(struct line *line, time_t now)
{
    char text[HSM_TIME_LEN + 1];

    hsm_time_format(now, text);
    add(line, "{\"time\":\"", 9);
    add(line, text, strlen(text));
    add(line, "\"", 1);
}

static enum hsm_status
write_line(struct sks_trail *trail, const struct line *line)
{
    size_t skip = atomic_load(&trail->is_broken) ? 0 : 1; /* '\n' that ends a broken line */
    ssize_t n;

    do {
        n = write(trail->fd, line->text + skip, line->len - skip);
    } while (n < 0 && errno == EINTR);
    atomic_store(&trail->is_written, true);
    if (n == (ssize_t)(line->len - skip)) {
        if (skip == 0)
            atomic_store(&trail->is_broken, false);
        return HSM_OK;
    }
    hsm_log(HSM_LOG_ERROR, "trail %s: %s", trail->path, n < 0 ? strerror(errno) : "disk full");
    if (n > 0)
        atomic_store(&trail->is_broken, true);
    return HSM_ERR_IO;
}

/* Claims that did not pass the check have no payload. */
static void
add_claims(struct line *line, const struct sks_claims *claims, bool is_signed)
{
    const char attest[] = {claims->attest, '\0'};
    char payload[SKS_PASSPORT_PAYLOAD_MAX + 1];
    size_t payload_len;

    if ((is_signed || sks_claims_check(claims, NULL) == HSM_OK) &&
        sks_claims_payload(claims, payload, &payload_len) == HSM_OK) {
        add_member(line, "ppt", sks_ppt_text(claims->ppt));
        add(line, ",\"claims\":", 10);
        add(line, payload, payload_len);
        return;
    }
    add_member(line, "attest", claims->attest != '\0' ? attest : NULL);
    add_member(line, "orig", claims->orig_tn);
}

enum hsm_status
sks_trail_write(struct sks_trail *trail, const struct sks_trail_entry *entry)
{
    struct line line;

    line.text[0] = '\n';
    line.len = 1;
    add_time(&line, entry->now);
    add_member(&line, "caller", entry->caller);
    add_member(&line, "customer", entry->customer);
    add_member(&line, "rule", entry->rule);
    add_member(&line, "spc", entry->spc);
    add_member(&line, "x5u", entry->x5u);
    add_member(&line, "requestId", entry->request_id);
    add_member(&line, "refused", entry->refused);
    add_claims(&line, entry->claims, entry->refused == NULL);
    add(&line, "}\n", 2);
    return write_line(trail, &line);
}

/* The descriptor keeps its number, so that a concurrent writer uses one file or the other. */
void
sks_trail_follow(struct sks_trail *trail)
{
    struct stat named;
    struct stat open_now;
    int fd;

    if (atomic_exchange(&trail->is_written, false) && fdatasync(trail->fd) != 0 &&
        errno != EINVAL) /* a pipe or a device has no disk */
        hsm_log(HSM_LOG_ERROR, "trail %s: cannot sync: %s", trail->path, strerror(errno));
    if (fstat(trail->fd, &open_now) == 0 && stat(trail->path, &named) == 0 &&
        named.st_dev == open_now.st_dev && named.st_ino == open_now.st_ino)
        return;
    fd = open_file(trail->path);
    if (fd < 0)
        return; /* logged; the old file stays in use */
    if (dup3(fd, trail->fd, O_CLOEXEC) < 0)
        hsm_log(HSM_LOG_ERROR, "trail %s: %s", trail->path, strerror(errno));
    else
        hsm_log(HSM_LOG_INFO, "trail %s: begun anew", trail->path);
    close(fd);
}
