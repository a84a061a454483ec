/* machine.c - how late the machine runs a thread that could go on. */
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
#define NAPS_MAX 16384 /* more than 30 s of them are known */

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
static struct machine_use
read_schedstat(int directory, const char *path)
{
    struct machine_use use = {0};
    unsigned long long ran, waited;
    char text[96] = "";
    int fd = openat(directory, path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return use;
    if (read(fd, text, sizeof(text) - 1) > 0 && sscanf(text, "%llu %llu", &ran, &waited) == 2)
        use = (struct machine_use){(double)ran / 1e6, (double)waited / 1e6};
    close(fd);
    return use;
}

struct machine_use
machine_of_thread(void)
{
    return read_schedstat(AT_FDCWD, "/proc/thread-self/schedstat");
}

struct machine_use
machine_of_process(void)
{
    struct machine_use sum = {0};
    DIR *threads = opendir("/proc/self/task");
    const struct dirent *entry;

    while (threads != NULL && (entry = readdir(threads)) != NULL) {
        char path[sizeof(entry->d_name) + 16];
        struct machine_use one;

        snprintf(path, sizeof(path), "%s/schedstat", entry->d_name);
        one = read_schedstat(dirfd(threads), path);
        sum.ran_ms += one.ran_ms;
        sum.waited_ms += one.waited_ms;
    }
    if (threads != NULL)
        closedir(threads);
    return sum;
}
