/* machine.c - how late the machine runs a thread that is ready. */
#include "machine.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include "load.h"

#define NAP_MS   2
#define NAPS_MAX 16384 /* more than 30 s of naps */

static struct nap {
    double due, woke;
} naps[NAPS_MAX];

static unsigned long nap_count;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_t watcher;
static atomic_bool watching;

static void *
nap(void *unused)
{
    (void)unused;
    while (watching) {
        double due = load_now_ms() + NAP_MS;

        load_sleep_ms(NAP_MS);
        pthread_mutex_lock(&lock);
        naps[nap_count++ % NAPS_MAX] = (struct nap){due, load_now_ms()};
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}

void
machine_watch(void)
{
    watching = true;
    assert_int_equal(pthread_create(&watcher, NULL, nap, NULL), 0);
}

void
machine_watch_end(void)
{
    watching = false;
    assert_int_equal(pthread_join(watcher, NULL), 0);
}

double
machine_pause_ms(double begin, double end)
{
    double worst = 0;

    pthread_mutex_lock(&lock);
    for (unsigned long i = nap_count; i > 0 && nap_count - i < NAPS_MAX; i--) {
        const struct nap *one = &naps[(i - 1) % NAPS_MAX];

        if (one->woke < begin)
            break;
        if (one->due <= end && one->woke - one->due > worst)
            worst = one->woke - one->due;
    }
    pthread_mutex_unlock(&lock);
    return worst;
}

/* "RAN WAITED TIMESLICES", both times in nanoseconds. */
static double
waited_ms(int directory, const char *path)
{
    unsigned long long waited = 0;
    char text[96] = "";
    int fd = openat(directory, path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return 0;
    if (read(fd, text, sizeof(text) - 1) > 0)
        (void)sscanf(text, "%*u %llu", &waited);
    close(fd);
    return (double)waited / 1e6;
}

double
machine_thread_waited_ms(void)
{
    return waited_ms(AT_FDCWD, "/proc/thread-self/schedstat");
}

double
machine_process_waited_ms(void)
{
    double sum = 0;
    DIR *threads = opendir("/proc/self/task");
    const struct dirent *entry;

    while (threads != NULL && (entry = readdir(threads)) != NULL) {
        char path[sizeof(entry->d_name) + 16];

        snprintf(path, sizeof(path), "%s/schedstat", entry->d_name);
        sum += waited_ms(dirfd(threads), path);
    }
    if (threads != NULL)
        closedir(threads);
    return sum;
}
