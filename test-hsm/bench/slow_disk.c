/* slow_disk.c - a library that comes before libc: a benchmark is linked with it, and the programs
 * that it starts preload it. The delay is in a file that all of them map. */
#define _GNU_SOURCE /* asprintf, dladdr */
#include "slow_disk.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <dlfcn.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define FILE_VARIABLE "STI_SLOW_DISK" /* the path of the file */

static _Atomic(unsigned) *delay_us; /* NULL: no file */

static void
must(int good, const char *what)
{
    if (good)
        return;
    perror(what);
    abort();
}

static void
map(const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);

    must(fd >= 0, path);
    delay_us = mmap(NULL, sizeof(*delay_us), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    must(delay_us != MAP_FAILED, path);
    close(fd);
}

/* In a program that was started by the benchmark. */
__attribute__((constructor)) static void
map_of_parent(void)
{
    const char *path = getenv(FILE_VARIABLE);

    if (path != NULL)
        map(path);
}

void
slow_disk_start(const char *dir)
{
    Dl_info library;
    char *path = NULL;
    int fd;

    must(asprintf(&path, "%s/slow-disk", dir) > 0, "memory");
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    must(fd >= 0 && ftruncate(fd, sizeof(*delay_us)) == 0, path);
    close(fd);
    map(path);
    must(dladdr((void *)(uintptr_t)slow_disk_start, &library) != 0, "dladdr");
    must(setenv(FILE_VARIABLE, path, 1) == 0 && setenv("LD_PRELOAD", library.dli_fname, 1) == 0,
         "environment");
    free(path);
}

void
slow_disk_set(unsigned us)
{
    atomic_store(delay_us, us);
}

void
slow_disk_stop(void)
{
    slow_disk_set(0);
    unlink(getenv(FILE_VARIABLE));
    unsetenv(FILE_VARIABLE);
    unsetenv("LD_PRELOAD");
}

/* ---- in place of libc's ---- */

static int
delayed(int rc)
{
    unsigned us = delay_us == NULL ? 0 : atomic_load(delay_us);
    const struct timespec time = {us / 1000000, us % 1000000 * 1000};

    if (us > 0 && rc == 0)
        nanosleep(&time, NULL);
    return rc;
}

int
fdatasync(int fd)
{
    return delayed((int)syscall(SYS_fdatasync, fd));
}

int
fsync(int fd)
{
    return delayed((int)syscall(SYS_fsync, fd));
}
