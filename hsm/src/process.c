/* process.c - hardening of a process, and whole files in and out of it. */
#define _GNU_SOURCE /* renameat2, mkostemp */
#include <hsm/process.h>

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <hsm/defer.h>
#include <hsm/log.h>

#include "file_internal.h"

#define READ_CHUNK 4096 /* initial size of a buffer, octets */

static inline void
close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

/* libcurl, and TLS libraries that modules load, append the secrets of each connection to that file,
 * which decrypt the passwords and tokens sent over it. */
static int
forget_key_log(void)
{
    static const char name[] = "SSLKEYLOGFILE";

    if (getenv(name) != NULL)
        hsm_log(HSM_LOG_WARNING,
                "%s is set and ignored: it would write the secrets of connections to a file", name);
    return unsetenv(name);
}

enum hsm_status
hsm_process_harden(void)
{
    const struct rlimit no_core = {0, 0};
    struct sigaction ignore;

    memset(&ignore, 0, sizeof(ignore));
    ignore.sa_handler = SIG_IGN;
    umask(077);
    if (prctl(PR_SET_DUMPABLE, 0) != 0 || setrlimit(RLIMIT_CORE, &no_core) != 0 ||
        sigaction(SIGPIPE, &ignore, NULL) != 0 || sigaction(SIGXFSZ, &ignore, NULL) != 0 ||
        forget_key_log() != 0) {
        hsm_log(HSM_LOG_ERROR, "cannot harden the process: %s", strerror(errno));
        return HSM_ERR_IO;
    }
    return HSM_OK;
}

static enum hsm_status
open_for_reading(const char *path, int *out)
{
    struct stat about;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

    if (fd < 0) {
        hsm_log(HSM_LOG_ERROR, "%s: %s", path, strerror(errno));
        return errno == ENOENT ? HSM_ERR_NOT_FOUND : HSM_ERR_IO;
    }
    if (fstat(fd, &about) != 0 || S_ISDIR(about.st_mode)) {
        hsm_log(HSM_LOG_ERROR, "%s: not a file", path);
        close(fd);
        return HSM_ERR_IO;
    }
    *out = fd;
    return HSM_OK;
}

/* Grow so that one more octet and the NUL fit; never beyond `max` octets, one extra octet that
 * shows the excess, and the NUL. */
static bool
grow(uint8_t **octets, size_t *size, size_t max)
{
    size_t wanted = *size == 0 ? READ_CHUNK : *size * 2;
    uint8_t *larger;

    if (wanted > max + 2)
        wanted = max + 2;
    larger = realloc(*octets, wanted);
    if (larger == NULL)
        return false;
    *octets = larger;
    *size = wanted;
    return true;
}

/* `from` names the descriptor in the log. */
static enum hsm_status
read_bounded(int fd, const char *from, size_t max, uint8_t **out, size_t *len)
{
    DEFER(free) uint8_t *octets = NULL;
    size_t size = 0;
    size_t used = 0;
    ssize_t n;

    do {
        if (used + 1 >= size && !grow(&octets, &size, max))
            return HSM_ERR_NOMEM;
        n = read(fd, octets + used, size - used - 1);
        if (n > 0)
            used += (size_t)n;
    } while ((n > 0 && used <= max) || (n < 0 && errno == EINTR));
    if (n < 0) {
        hsm_log(HSM_LOG_ERROR, "%s: %s", from, strerror(errno));
        return HSM_ERR_IO;
    }
    if (used > max) {
        hsm_log(HSM_LOG_ERROR, "%s: larger than %zu octets", from, max);
        return HSM_ERR_MALFORMED;
    }
    octets[used] = '\0';
    *out = octets;
    *len = used;
    octets = NULL;
    return HSM_OK;
}

enum hsm_status
hsm_file_read(const char *path, size_t max, uint8_t **out, size_t *len)
{
    CLEAR_AFTER(close_fd) int fd = -1;
    enum hsm_status st = open_for_reading(path, &fd);

    return st == HSM_OK ? read_bounded(fd, path, max, out, len) : st;
}

enum hsm_status
hsm_file_read_fd(int fd, size_t max, uint8_t **out, size_t *len)
{
    char from[32];

    snprintf(from, sizeof(from), "descriptor %d", fd);
    return read_bounded(fd, from, max, out, len);
}

static bool
write_all(int fd, const void *octets, size_t len)
{
    const uint8_t *from = octets;

    while (len > 0) {
        ssize_t n = write(fd, from, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        from += n;
        len -= (size_t)n;
    }
    return true;
}

/* A rename is durable once its directory is. */
static bool
sync_directory(const char *path)
{
    DEFER(free) char *copy = strdup(path);
    CLEAR_AFTER(close_fd) int fd = -1;

    if (copy == NULL)
        return false;
    fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd >= 0 && fsync(fd) == 0;
}

/* Write the temporary file and give it its name. On failure errno says why. */
static bool
fill_and_rename(int fd, const char *temporary, const char *path, const void *octets, size_t len,
                mode_t mode, bool replace)
{
    if (fchmod(fd, mode) != 0 || !write_all(fd, octets, len) || fsync(fd) != 0)
        return false;
    return renameat2(AT_FDCWD, temporary, AT_FDCWD, path, replace ? 0 : RENAME_NOREPLACE) == 0;
}

enum hsm_status
hsm_file_put(const char *path, const void *octets, size_t len, mode_t mode, bool replace)
{
    DEFER(free) char *temporary = NULL;
    CLEAR_AFTER(close_fd) int fd = -1;
    int failed;

    if (asprintf(&temporary, "%s.XXXXXX", path) < 0) {
        temporary = NULL;
        return HSM_ERR_NOMEM;
    }
    fd = mkostemp(temporary, O_CLOEXEC);
    if (fd < 0) {
        hsm_log(HSM_LOG_ERROR, "%s: cannot write: %s", path, strerror(errno));
        return HSM_ERR_IO;
    }
    if (!fill_and_rename(fd, temporary, path, octets, len, mode, replace)) {
        failed = errno;
        unlink(temporary);
        hsm_log(HSM_LOG_ERROR, "%s: cannot write: %s", path, strerror(failed));
        return failed == EEXIST ? HSM_ERR_EXISTS : HSM_ERR_IO;
    }
    if (!sync_directory(path)) {
        hsm_log(HSM_LOG_ERROR, "%s: cannot sync its directory: %s", path, strerror(errno));
        return HSM_ERR_IO;
    }
    return HSM_OK;
}

enum hsm_status
hsm_file_write(const char *path, const void *octets, size_t len, unsigned mode)
{
    return hsm_file_put(path, octets, len, (mode_t)mode, true);
}

enum hsm_status
hsm_file_create(const char *path, const void *octets, size_t len, unsigned mode)
{
    return hsm_file_put(path, octets, len, (mode_t)mode, false);
}
