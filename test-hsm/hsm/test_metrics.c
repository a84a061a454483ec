/* test_metrics.c - mirrors hsm/src/metrics.c: counts of several processes, reported as one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <hsm/metrics.h>

#include "forking.h"

#define THREADS 4
#define ADDS    20000

static const double bounds[] = {0.1, 1, 0};
static const struct hsm_metric calls = {"test_calls_total", "Calls.", HSM_COUNTER, "key outcome",
                                        NULL};
static const struct hsm_metric waited = {"test_waited_seconds_total", "Waited.", HSM_COUNTER_NS,
                                         NULL, NULL};
static const struct hsm_metric flying = {"test_flying", "In flight.", HSM_GAUGE_SUM, NULL, NULL};
static const struct hsm_metric ready = {"test_ready", "Ready.", HSM_GAUGE_MIN, NULL, NULL};
static const struct hsm_metric oldest = {"test_oldest", "Oldest.", HSM_GAUGE_MAX, NULL, NULL};
static const struct hsm_metric took = {"test_took_seconds", "Took.", HSM_HISTOGRAM, "route",
                                       bounds};
static const struct hsm_metric bare = {"test_bare_seconds", "Bare.", HSM_HISTOGRAM, NULL, bounds};

static const struct hsm_metric signatures = {"test_signatures_total", "Of keys.",
                                             HSM_COUNTER_PASSING, "key", NULL};
static const struct hsm_metric ends = {"test_ends_seconds", "Ends.", HSM_GAUGE_MIN_PASSING, "key",
                                       NULL};

static struct hsm_metrics *metrics;
static char *text;

static int
start(void **state)
{
    (void)state;
    return hsm_metrics_new(3, &metrics) == HSM_OK ? 0 : -1;
}

static int
stop(void **state)
{
    (void)state;
    hsm_metrics_free(metrics);
    free(text);
    text = NULL;
    return 0;
}

/* The current report. */
static const char *
told(void)
{
    size_t len;
    FILE *to;

    free(text);
    text = NULL;
    to = open_memstream(&text, &len);
    assert_non_null(to);
    assert_int_equal(hsm_metrics_write(metrics, to), HSM_OK);
    assert_int_equal(fclose(to), 0);
    return text;
}

static void
assert_told(const char *wanted)
{
    if (strstr(told(), wanted) == NULL)
        fail_msg("no %s in:\n%s", wanted, text);
}

static struct hsm_series *
calls_of(const char *key, const char *outcome)
{
    return hsm_series(metrics, &calls, (const char *const[]){key, outcome});
}

static void
counters_are_told_with_help_and_type(void **state)
{
    (void)state;
    hsm_series_add(calls_of("one", "good"), 2);
    hsm_series_add(calls_of("one", "good"), 3);
    hsm_series_add(calls_of("one", "failed"), 1);
    hsm_series_add(hsm_series(metrics, &waited, NULL), 1500000000);
    assert_string_equal(told(), "# HELP test_calls_total Calls.\n"
                                "# TYPE test_calls_total counter\n"
                                "test_calls_total{key=\"one\",outcome=\"failed\"} 1\n"
                                "test_calls_total{key=\"one\",outcome=\"good\"} 5\n"
                                "# HELP test_waited_seconds_total Waited.\n"
                                "# TYPE test_waited_seconds_total counter\n"
                                "test_waited_seconds_total 1.500000000\n");
}

static void
histogram_buckets_are_cumulative(void **state)
{
    const char *const route = "/a";
    struct hsm_series *series = hsm_series(metrics, &took, &route);

    (void)state;
    hsm_series_observe(series, 0.05);
    hsm_series_observe(series, 0.1); /* le: less or equal */
    hsm_series_observe(series, 0.5);
    hsm_series_observe(series, 7);
    hsm_series_observe(series, -1); /* a clock that went back */
    hsm_series_observe(hsm_series(metrics, &bare, NULL), 2);
    assert_string_equal(told(), "# HELP test_bare_seconds Bare.\n"
                                "# TYPE test_bare_seconds histogram\n"
                                "test_bare_seconds_bucket{le=\"0.1\"} 0\n"
                                "test_bare_seconds_bucket{le=\"1\"} 0\n"
                                "test_bare_seconds_bucket{le=\"+Inf\"} 1\n"
                                "test_bare_seconds_sum 2.000000000\n"
                                "test_bare_seconds_count 1\n"
                                "# HELP test_took_seconds Took.\n"
                                "# TYPE test_took_seconds histogram\n"
                                "test_took_seconds_bucket{route=\"/a\",le=\"0.1\"} 3\n"
                                "test_took_seconds_bucket{route=\"/a\",le=\"1\"} 4\n"
                                "test_took_seconds_bucket{route=\"/a\",le=\"+Inf\"} 5\n"
                                "test_took_seconds_sum{route=\"/a\"} 7.650000000\n"
                                "test_took_seconds_count{route=\"/a\"} 5\n");
}

static void
gauges_of_processes_are_told_as_sum_least_and_most(void **state)
{
    const char *const of_one = "one";

    (void)state;
    for (unsigned part = 0; part < 3; part++) {
        hsm_metrics_join(metrics, part);
        hsm_series_set(hsm_series(metrics, &flying, NULL), part + 1);
        hsm_series_set(hsm_series(metrics, &ready, NULL), part != 1);
        hsm_series_set(hsm_series(metrics, &oldest, NULL), 10 * part);
        hsm_series_set(hsm_series(metrics, &ends, &of_one), 100 + 7 * ((part + 1) % 3));
    }
    assert_told("test_flying 6\n");
    assert_told("test_ready 0\n");
    assert_told("test_oldest 20\n");
    assert_told("test_ends_seconds{key=\"one\"} 100\n");
    hsm_metrics_leave(metrics, 1);
    assert_told("test_flying 4\n");
    assert_told("test_ready 1\n");
    hsm_metrics_join(metrics, 2); /* its replacement has not reported yet */
    assert_told("test_oldest 0\n");
    hsm_metrics_leave(metrics, 0);
    assert_null(strstr(told(), "test_"));
}

static void
counters_outlive_who_counted(void **state)
{
    (void)state;
    hsm_metrics_join(metrics, 1);
    hsm_series_add(calls_of("one", "good"), 2);
    hsm_metrics_leave(metrics, 1);
    hsm_metrics_join(metrics, 1);
    hsm_series_add(calls_of("one", "good"), 2);
    hsm_metrics_join(metrics, 2);
    hsm_series_add(calls_of("one", "good"), 5);
    assert_told("test_calls_total{key=\"one\",outcome=\"good\"} 9\n");
}

static void *
add_many(void *unused)
{
    for (int i = 0; i < ADDS; i++) {
        hsm_series_add(calls_of("one", "good"), 1);
        hsm_series_observe(hsm_series(metrics, &bare, NULL), 0.25);
    }
    return unused;
}

static void
add_from_threads(void)
{
    pthread_t threads[THREADS];

    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, add_many, NULL), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
}

static void
threads_lose_no_count(void **state)
{
    (void)state;
    add_from_threads();
    assert_told("test_calls_total{key=\"one\",outcome=\"good\"} 80000\n");
    assert_told("test_bare_seconds_count 80000\n");
    assert_told("test_bare_seconds_sum 20000.000000000\n");
}

static void
processes_count_and_any_of_them_tells(void **state)
{
    int status;

    (void)state;
    SKIP_WHERE_NO_FORK();
    for (unsigned part = 0; part < 2; part++) {
        pid_t pid = fork();

        if (pid == 0) {
            hsm_metrics_join(metrics, part);
            add_from_threads();
            _exit(0);
        }
        assert_true(pid > 0);
    }
    while (wait(&status) > 0)
        assert_int_equal(status, 0);
    hsm_metrics_join(metrics, 2);
    assert_told("test_calls_total{key=\"one\",outcome=\"good\"} 160000\n");
}

static void
values_are_escaped_and_cut(void **state)
{
    char long_one[600];

    (void)state;
    memset(long_one, 'x', sizeof(long_one) - 1);
    long_one[sizeof(long_one) - 1] = '\0';
    hsm_series_add(calls_of("a\"b\\c", "new\nline \xc3\xa9"), 1);
    hsm_series_add(calls_of(NULL, ""), 7);
    assert_told("{key=\"a\\\"b\\\\c\",outcome=\"new?line ??\"} 1\n");
    assert_told("{key=\"\",outcome=\"\"} 7\n");
    hsm_series_add(calls_of(long_one, "good"), 4);
    assert_told("x\",outcome=\"good\"} 4\n");
    memset(long_one, '"', sizeof(long_one) - 1);
    hsm_series_add(calls_of(long_one, "good"), 6);
    assert_told("\\\"\",outcome=\"good\"} 6\n");
}

static void
more_series_than_there_is_room_for_are_not_counted(void **state)
{
    char key[16];

    (void)state;
    for (int i = 0; i < HSM_METRICS_SERIES_MAX; i++) {
        snprintf(key, sizeof(key), "%d", i);
        assert_non_null(calls_of(key, "good"));
    }
    assert_null(calls_of("one more", "good"));
    hsm_series_add(calls_of("one more", "good"), 1);
    hsm_series_add(calls_of("17", "good"), 1); /* existing series continue */
    assert_told("test_calls_total{key=\"17\",outcome=\"good\"} 1\n");
    assert_null(strstr(text, "one more"));
}

static struct hsm_series *
of_key(const struct hsm_metric *metric, unsigned key)
{
    char text_of_key[16];
    const char *label = text_of_key;

    snprintf(text_of_key, sizeof(text_of_key), "%u", key);
    return hsm_series(metrics, metric, &label);
}

static void
what_passes_is_told_until_it_is_forgotten(void **state)
{
    (void)state;
    hsm_series_add(calls_of("one", "good"), 3);
    hsm_series_add(of_key(&signatures, 1), 5);
    hsm_series_set(of_key(&ends, 1), 7);
    hsm_metrics_forget(metrics, 3600);
    assert_told("test_signatures_total{key=\"1\"} 5\n");
    assert_told("test_ends_seconds{key=\"1\"} 7\n");
    hsm_metrics_forget(metrics, 0);
    assert_told("test_calls_total{key=\"one\",outcome=\"good\"} 3\n");
    assert_null(strstr(told(), "key=\"1\""));
    assert_told("# TYPE test_calls_total counter\n");
    hsm_series_add(of_key(&signatures, 2), 1);
    assert_told("test_signatures_total{key=\"2\"} 1\n"); /* starts at zero in a reused place */
    hsm_series_add(calls_of("one", "good"), 1);
    assert_told("test_calls_total{key=\"one\",outcome=\"good\"} 4\n");
}

static void
there_is_always_room_when_what_passed_is_forgotten(void **state)
{
    (void)state;
    hsm_series_add(calls_of("one", "good"), 1);
    for (unsigned key = 0; key < 5 * HSM_METRICS_SERIES_MAX; key++) {
        if (key % 1000 == 0)
            hsm_metrics_forget(metrics, 0);
        assert_non_null(of_key(&signatures, key));
    }
    hsm_series_add(calls_of("one", "good"), 1);
    assert_told("test_calls_total{key=\"one\",outcome=\"good\"} 2\n");
}

/* Set each key's series to the key's number, with two keys present at a time. */
static void
count_and_forget(void)
{
    hsm_metrics_join(metrics, 1);
    for (unsigned key = 1;; key++) {
        hsm_metrics_forget(metrics, 0);
        hsm_series_set(of_key(&ends, key), key);
        hsm_series_set(of_key(&ends, key + 1), key + 1);
    }
}

static void
others_never_see_half_a_change(void **state)
{
    pid_t pid;

    (void)state;
    SKIP_WHERE_NO_FORK();
    pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* do not outlive a failed test */
        count_and_forget();
    }
    assert_true(pid > 0);
    for (int i = 0; i < 3000; i++) {
        const char *at = told();
        unsigned key, value;

        while ((at = strstr(at, "\ntest_ends_seconds{")) != NULL) {
            assert_int_equal(sscanf(at, "\ntest_ends_seconds{key=\"%u\"} %u\n", &key, &value), 2);
            assert_int_equal(key, value);
            at++;
        }
    }
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    hsm_metrics_join(metrics, 1); /* the process may have died at any point */
    assert_null(strstr(told(), "test_ends"));
    for (unsigned key = 0; key < HSM_METRICS_SERIES_MAX; key++)
        assert_non_null(of_key(&ends, key));
}

static void
nothing_is_counted_where_nobody_asks(void **state)
{
    struct hsm_metrics *other = NULL;
    const char *const route = "/a";

    (void)state;
    assert_null(hsm_series(NULL, &took, &route));
    hsm_series_add(NULL, 1);
    hsm_series_set(NULL, 1);
    hsm_series_unset(NULL);
    hsm_series_observe(NULL, 1);
    hsm_metrics_join(NULL, 0);
    hsm_metrics_leave(NULL, 0);
    hsm_metrics_forget(NULL, 0);
    hsm_metrics_leave(metrics, 3); /* no such process */
    assert_int_equal(hsm_metrics_new(0, &other), HSM_ERR_USAGE);
    assert_int_equal(hsm_metrics_new(1025, &other), HSM_ERR_USAGE);
    assert_null(other);
    assert_string_equal(told(), "");
}

#define FRESH(name) cmocka_unit_test_setup_teardown(name, start, stop)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        FRESH(counters_are_told_with_help_and_type),
        FRESH(histogram_buckets_are_cumulative),
        FRESH(gauges_of_processes_are_told_as_sum_least_and_most),
        FRESH(counters_outlive_who_counted),
        FRESH(threads_lose_no_count),
        FRESH(processes_count_and_any_of_them_tells),
        FRESH(values_are_escaped_and_cut),
        FRESH(more_series_than_there_is_room_for_are_not_counted),
        FRESH(what_passes_is_told_until_it_is_forgotten),
        FRESH(there_is_always_room_when_what_passed_is_forgotten),
        FRESH(others_never_see_half_a_change),
        FRESH(nothing_is_counted_where_nobody_asks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
