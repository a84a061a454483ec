/* bench.c - interleaved rounds, medians, rows. */
#include "bench.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <jansson.h>

#define ROUND_S 0.08 /* how long one side of a round should take */

void
bench_check(int good, const char *what)
{
    if (good)
        return;
    fprintf(stderr, "bench: %s failed\n", what);
    exit(1);
}

static double
seconds(struct bench_side side, size_t times)
{
    struct timespec begin, end;

    clock_gettime(CLOCK_MONOTONIC, &begin);
    side.run(side.context, times);
    clock_gettime(CLOCK_MONOTONIC, &end);
    return (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9;
}

/* How many runs take about ROUND_S; a warm-up by the way. */
static size_t
calibrate(struct bench_side side)
{
    size_t times = 1;

    for (;;) {
        double took = seconds(side, times);

        if (took >= ROUND_S / 4)
            return (size_t)((double)times * ROUND_S / took) + 1;
        times *= 2;
    }
}

static int
by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void
print_row(const char *group, const char *name, const char *goal, bool holds, const double *sorted)
{
    json_t *row =
        json_pack("{s:s, s:s, s:f, s:s, s:s, s:b, s:i, s:f, s:f}", "group", group, "case", name,
                  "value", sorted[BENCH_ROUNDS / 2], "unit", "ratio", "goal", goal, "holds", holds,
                  "rounds", BENCH_ROUNDS, "min", sorted[0], "max", sorted[BENCH_ROUNDS - 1]);

    bench_check(row != NULL && json_dumpf(row, stdout, JSON_COMPACT | JSON_REAL_PRECISION(4)) == 0,
                "writing a row");
    putchar('\n');
    fflush(stdout);
    json_decref(row);
}

/* Time of one of ours by time of one of raw, for each round. */
static void
measure(const char *group, const char *name, struct bench_side ours, struct bench_side raw,
        double shares[BENCH_ROUNDS])
{
    size_t our_times = calibrate(ours), raw_times = calibrate(raw);

    for (size_t i = 0; i < BENCH_ROUNDS; i++) {
        double our_s = seconds(ours, our_times), raw_s = seconds(raw, raw_times);

        shares[i] = (our_s / (double)our_times) / (raw_s / (double)raw_times);
        fprintf(stderr, "\r%-8s %-52s %zu/%d", group, name, i + 1, BENCH_ROUNDS);
    }
    fputc('\n', stderr);
}

void
bench_ratio(const char *group, const char *name, double at_least, struct bench_side ours,
            struct bench_side raw)
{
    double ratios[BENCH_ROUNDS];
    char goal[32];

    measure(group, name, ours, raw, ratios);
    for (size_t i = 0; i < BENCH_ROUNDS; i++)
        ratios[i] = 1 / ratios[i];
    qsort(ratios, BENCH_ROUNDS, sizeof(ratios[0]), by_value);
    snprintf(goal, sizeof(goal), ">= %.2f", at_least);
    print_row(group, name, goal, ratios[BENCH_ROUNDS / 2] >= at_least, ratios);
}

void
bench_share(const char *group, const char *name, double at_most, struct bench_side ours,
            struct bench_side raw)
{
    double shares[BENCH_ROUNDS];
    char goal[32];

    measure(group, name, ours, raw, shares);
    qsort(shares, BENCH_ROUNDS, sizeof(shares[0]), by_value);
    snprintf(goal, sizeof(goal), "<= %.2f", at_most);
    print_row(group, name, goal, shares[BENCH_ROUNDS / 2] <= at_most, shares);
}
