/* test_x5u_kept.c - mirrors sks/src/x5u_kept.c: chains on disk. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <hsm/process.h>
#include <sks/x5u.h>

#include "x5u_group.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* A separate directory for each test. */
static char kept_dir[4096];

static void
new_kept_dir(void)
{
    static unsigned number;

    snprintf(kept_dir, sizeof(kept_dir), "%s/chains-%u", softhsm_dir(), number++);
}

/* While true, writing to the directory of the chains fails with ENOSPC. */
static atomic_bool is_disk_full;
static atomic_uint refused; /* attempts to write a chain */

int
mkdir(const char *path, mode_t mode)
{
    if (is_disk_full && strcmp(path, kept_dir) == 0) {
        refused++;
        errno = ENOSPC;
        return -1;
    }
    return (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
}

static struct sks_x5u_cache *
cache_on_disk(size_t chains_max, unsigned queue_ms)
{
    const unsigned ports[] = {repository.port, 0};
    struct sks_x5u_cache *cache = NULL;

    eco_must(sks_x5u_cache_new(&(struct sks_x5u_config){.http = eco.http,
                                                        .ports = ports,
                                                        .private_addresses = true,
                                                        .chains_max = chains_max,
                                                        .queue_ms = queue_ms,
                                                        .dir = kept_dir},
                               &cache),
             "cache");
    return cache;
}

/* Returns the number of kept chains and writes the path of one of them to `path`. */
static size_t
kept_files(char path[8192])
{
    DIR *dir = opendir(kept_dir);
    const struct dirent *entry;
    size_t count = 0;

    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] == '.' || strchr(entry->d_name, '.') != NULL)
            continue; /* not a chain, or still being written */
        snprintf(path, 8192, "%s/%s", kept_dir, entry->d_name);
        count++;
    }
    if (dir != NULL)
        closedir(dir);
    return count;
}

static void
wait_for_files(size_t count)
{
    char path[8192];

    for (unsigned i = 0; i < 5000 && kept_files(path) != count; i++)
        usleep(1000);
    assert_int_equal(kept_files(path), count);
}

/* Vouch for one chain in a cache and free that cache; from then on the repository is down. */
static void
leave_one_chain(const char *path)
{
    struct sks_x5u_cache *cache;

    new_kept_dir();
    cache = cache_on_disk(0, 0);
    fetches = 0;
    is_down = false;
    assert_int_equal(get(cache, path, eco.now), HSM_OK);
    assert_int_equal(get(cache, "/stranger.pem", eco.now), HSM_OK);
    vouch(cache, path);
    wait_for_files(1);
    sks_x5u_cache_free(cache);
    assert_int_equal(fetches, 2);
    is_down = true;
}

static void
who_comes_after_has_what_was_vouched_for(void **state)
{
    static const struct {
        time_t after;
        enum hsm_status wanted;
        unsigned fetches; /* a stale chain is fetched again */
    } times[] = {
        {0, HSM_OK, 0},
        {SKS_X5U_CACHE_S - 1, HSM_OK, 0},
        {SKS_X5U_CACHE_S, HSM_OK, 1},
        {SKS_X5U_CACHE_S + SKS_X5U_STALE_S - 1, HSM_OK, 1},
        {SKS_X5U_CACHE_S + SKS_X5U_STALE_S, HSM_ERR_BUSY, 1},
    };

    (void)state;
    leave_one_chain("/known.pem");
    for (size_t i = 0; i < COUNT(times); i++) {
        struct sks_x5u_cache *cache = cache_on_disk(0, 0);

        fetches = 0;
        assert_int_equal(get(cache, "/known.pem", eco.now + times[i].after), times[i].wanted);
        assert_int_equal(get(cache, "/known.pem", eco.now + times[i].after), times[i].wanted);
        wait_for_fetches(cache, times[i].fetches);
        assert_int_equal(get(cache, "/stranger.pem", eco.now), HSM_ERR_BUSY);
        sks_x5u_cache_free(cache);
    }
}

static void
a_kept_chain_ends_with_its_leaf(void **state)
{
    struct sks_x5u_cache *cache;

    (void)state;
    leave_one_chain("/short.pem");
    cache = cache_on_disk(0, 0);
    assert_int_equal(get(cache, "/short.pem", eco.now + 3601), HSM_ERR_BUSY);
    sks_x5u_cache_free(cache);
    cache = cache_on_disk(0, 0);
    assert_int_equal(get(cache, "/short.pem", eco.now + 3600), HSM_OK);
    sks_x5u_cache_free(cache);
}

/* Sweep repeatedly until `count` writes were refused or `files` files exist. */
static void
sweep_until(struct sks_x5u_cache *cache, time_t *now, unsigned count, size_t files)
{
    char path[8192];

    for (unsigned i = 0; i < 100 && refused < count && kept_files(path) < files; i++) {
        sks_x5u_refresh(cache, *now += 600);
        usleep(10000);
    }
}

/* Writing it later does not fetch it again. */
static void
a_chain_that_could_not_be_written_is_written_after_the_next_sweep(void **state)
{
    struct sks_x5u_cache *cache;
    time_t now = eco.now;

    (void)state;
    new_kept_dir();
    cache = cache_on_disk(0, 0);
    fetches = 0;
    refused = 0;
    is_down = false;
    is_disk_full = true;
    sks_x5u_refresh(cache, now);
    assert_int_equal(get(cache, "/known.pem", now), HSM_OK);
    vouch(cache, "/known.pem");
    for (unsigned i = 0; i < 5000 && refused == 0; i++)
        usleep(1000);
    assert_int_equal(refused, 1);
    sks_x5u_refresh(cache, now + 599);
    vouch(cache, "/known.pem");
    assert_int_equal(refused, 1);
    sweep_until(cache, &now, 2, 1);
    assert_true(refused >= 2);
    is_disk_full = false;
    sweep_until(cache, &now, 1000, 1);
    wait_for_files(1);
    assert_int_equal(fetches, 1);
    sks_x5u_cache_free(cache);
}

/* Whether the chain is served and fetched again because it is stale. */
static bool
is_stale(struct sks_x5u_cache *cache, const char *path, time_t now)
{
    struct sks_x5u_count before, after;

    sks_x5u_count(cache, &before);
    assert_int_equal(get(cache, path, now), HSM_OK);
    sks_x5u_count(cache, &after);
    return after.stale > before.stale;
}

static void
processes_beside_one_another_fetch_once(void **state)
{
    const time_t stale = eco.now + SKS_X5U_CACHE_S;
    struct sks_x5u_cache *one;
    struct sks_x5u_cache *other;
    struct stat before, now;
    char path[8192];

    (void)state;
    new_kept_dir();
    one = cache_on_disk(0, 0);
    other = cache_on_disk(0, 0);
    fetches = 0;
    is_down = false;
    assert_int_equal(get(one, "/known.pem", eco.now), HSM_OK);
    vouch(one, "/known.pem");
    wait_for_files(1);
    assert_int_equal(get(other, "/known.pem", eco.now), HSM_OK);
    assert_int_equal(fetches, 1);
    vouch(other, "/known.pem"); /* it was already vouched for */
    assert_int_equal(kept_files(path), 1);
    assert_int_equal(stat(path, &before), 0);
    now = before;
    assert_int_equal(get(one, "/known.pem", stale), HSM_OK);
    wait_for_fetches(one, 2);
    for (unsigned i = 0; i < 5000 && now.st_ino == before.st_ino; i++) { /* until it is on disk */
        usleep(1000);
        assert_int_equal(stat(path, &now), 0);
    }
    assert_true(now.st_ino != before.st_ino);
    fetches = 0;
    while (is_stale(other, "/known.pem", stale)) /* until it has read the new file */
        usleep(1000);
    assert_int_equal(fetches, 0);
    sks_x5u_cache_free(other);
    sks_x5u_cache_free(one);
}

static const struct {
    const char *from, *to; /* replaced in the file */
} forgeries[] = {
    {"{", ""},
    {"\"x5u\":\"https://", "\"x5u\":\"https://other."},
    {"\"x5u\"", "\"x5v\""},
    {"\"pem\"", "\"pen\""},
    {"BEGIN", "BEGUN"},
    {"\"freshUntil\":", "\"freshUntil\":9"},
    {"\"freshUntil\":", "\"freshUntil\":-"},
    {"\"freshUntil\":1", "\"freshUntil\":0"},
};

static void
overwrite(const char *path, const char *text, const char *from, const char *to)
{
    const char *at = strstr(text, from);
    char *forged = malloc(strlen(text) + strlen(to) + 1);

    assert_non_null(at);
    snprintf(forged, strlen(text) + strlen(to) + 1, "%.*s%s%s", (int)(at - text), text, to,
             at + strlen(from));
    assert_int_equal(hsm_file_write(path, forged, strlen(forged), 0644), HSM_OK);
    free(forged);
}

static void
what_is_no_kept_chain_is_not_used(void **state)
{
    struct sks_x5u_cache *cache;
    char path[8192];
    uint8_t *text = NULL;
    size_t len;

    (void)state;
    leave_one_chain("/known.pem");
    assert_int_equal(kept_files(path), 1);
    assert_int_equal(hsm_file_read(path, 1048576, &text, &len), HSM_OK);
    for (size_t i = 0; i < COUNT(forgeries); i++) {
        print_message("%s\n", forgeries[i].to);
        overwrite(path, (const char *)text, forgeries[i].from, forgeries[i].to);
        cache = cache_on_disk(0, 0);
        assert_int_equal(get(cache, "/known.pem", eco.now), HSM_ERR_BUSY);
        sks_x5u_cache_free(cache);
    }
    overwrite(path, (const char *)text, "{", "{");
    cache = cache_on_disk(0, 0);
    assert_int_equal(get(cache, "/known.pem", eco.now), HSM_OK);
    sks_x5u_cache_free(cache);
    free(text);
}

/* The newest chains stay. An old partly written file is removed, and an unrelated directory
 * stays. */
static void
what_is_kept_has_the_bound_of_the_cache(void **state)
{
    const struct timespec long_ago[] = {{eco.now - 7200, 0}, {eco.now - 7200, 0}};
    struct sks_x5u_cache *cache;
    char remnant[8192], other[8192], kept[8192], path[32];

    (void)state;
    leave_one_chain("/known.pem");
    is_down = false;
    snprintf(remnant, sizeof(remnant), "%s/0123.ABCDEF", kept_dir);
    snprintf(other, sizeof(other), "%s/sub.dir", kept_dir);
    assert_int_equal(hsm_file_write(remnant, "{", 1, 0644), HSM_OK);
    assert_int_equal(utimensat(AT_FDCWD, remnant, long_ago, 0), 0);
    assert_int_equal(mkdir(other, 0755), 0);
    cache = cache_on_disk(0, 0);
    for (unsigned i = 0; i < 8; i++) {
        snprintf(path, sizeof(path), "/%u.pem", i);
        assert_int_equal(get(cache, path, eco.now), HSM_OK);
        vouch(cache, path);
    }
    wait_for_files(9);
    sks_x5u_cache_free(cache);
    cache = cache_on_disk(3, 0);
    for (time_t now = eco.now; access(remnant, F_OK) == 0 || kept_files(kept) > 3; now += ECO_DAY) {
        sks_x5u_refresh(cache, now); /* a sweep looks at twice as many as it keeps */
        usleep(1000);
    }
    assert_int_equal(kept_files(kept), 3);
    assert_int_equal(access(other, F_OK), 0);
    sks_x5u_cache_free(cache);
}

/* The host of a kept chain counts as known: room is left for it when strangers fill the queue. */
static void
who_comes_after_knows_hosts(void **state)
{
    struct sks_x5u_cache *cache;
    enum hsm_status st = HSM_ERR_BUSY;
    int sockets[24];
    char path[32];

    (void)state;
    leave_one_chain("/known.pem");
    is_down = false;
    cache = cache_on_disk(0, 100);
    sks_x5u_refresh(cache, eco.now);
    open_tarpits(sockets, COUNT(sockets));
    ask_tarpits(cache, COUNT(sockets));
    for (unsigned i = 0; i < 20 && st != HSM_OK; i++) { /* until the known host is loaded */
        snprintf(path, sizeof(path), "/new-%u.pem", i);
        st = get(cache, path, eco.now);
    }
    assert_int_equal(st, HSM_OK);
    for (size_t i = 0; i < COUNT(sockets); i++)
        close(sockets[i]);
    sks_x5u_cache_free(cache);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_comes_after_has_what_was_vouched_for),
        cmocka_unit_test(a_kept_chain_ends_with_its_leaf),
        cmocka_unit_test(a_chain_that_could_not_be_written_is_written_after_the_next_sweep),
        cmocka_unit_test(processes_beside_one_another_fetch_once),
        cmocka_unit_test(what_is_no_kept_chain_is_not_used),
        cmocka_unit_test(what_is_kept_has_the_bound_of_the_cache),
        cmocka_unit_test(who_comes_after_knows_hosts),
    };

    return cmocka_run_group_tests(tests, x5u_group_start, x5u_group_stop);
}
