/* bench.c - interleaved rounds, medians, rows. */
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

#define PARTS_MAX 16

static const char *parts[PARTS_MAX]; /* all that were asked for */
static size_t part_count;

bool
bench_is_wanted(const char *part, int argc, char **argv)
{
    bench_check(part_count < PARTS_MAX, "the table of parts");
    parts[part_count++] = part;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], part) == 0)
            return true;
    }
    return argc == 1;
}

static bool
is_part(const char *name)
{
    for (size_t i = 0; i < part_count; i++)
        if (strcmp(parts[i], name) == 0)
            return true;
    return false;
}

int
bench_status(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (is_part(argv[i]))
            continue;
        fprintf(stderr, "%s: %s: not a part of this benchmark (", argv[0], argv[i]);
        for (size_t p = 0; p < part_count; p++)
            fprintf(stderr, "%s%s", p > 0 ? ", " : "", parts[p]);
        fputs(")\n", stderr);
        return 2;
    }
    return 0;
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

/* The number of runs that take about ROUND_S; also warms up. */
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

double
bench_median(double *values, size_t count)
{
    qsort(values, count, sizeof(values[0]), by_value);
    return values[count / 2];
}

static void
print_row(const char *group, const char *name, const char *unit, const char *relation, double goal,
          double *values, size_t count)
{
    char text[32];
    double median;
    bool holds;
    json_t *row;

    median = bench_median(values, count);
    holds = relation[0] == '>' ? median >= goal : median <= goal;
    snprintf(text, sizeof(text), "%s %.2f", relation, goal);
    row = json_pack("{s:s, s:s, s:f, s:s, s:s, s:b, s:i, s:f, s:f}", "group", group, "case", name,
                    "value", median, "unit", unit, "goal", text, "holds", holds, "rounds",
                    (int)count, "min", values[0], "max", values[count - 1]);
    bench_check(row != NULL && json_dumpf(row, stdout, JSON_COMPACT | JSON_REAL_PRECISION(4)) == 0,
                "writing a row");
    putchar('\n');
    fflush(stdout);
    json_decref(row);
}

void
bench_at_most(const char *group, const char *name, const char *unit, double at_most, double *values,
              size_t count)
{
    print_row(group, name, unit, "<=", at_most, values, count);
}

void
bench_at_least(const char *group, const char *name, const char *unit, double at_least,
               double *values, size_t count)
{
    print_row(group, name, unit, ">=", at_least, values, count);
}

/* The time of our operation divided by the time of the raw one, for each round. */
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

    measure(group, name, ours, raw, ratios);
    for (size_t i = 0; i < BENCH_ROUNDS; i++)
        ratios[i] = 1 / ratios[i];
    bench_at_least(group, name, "ratio", at_least, ratios, BENCH_ROUNDS);
}

void
bench_share(const char *group, const char *name, double at_most, struct bench_side ours,
            struct bench_side raw)
{
    double shares[BENCH_ROUNDS];

    measure(group, name, ours, raw, shares);
    bench_at_most(group, name, "ratio", at_most, shares, BENCH_ROUNDS);
}

double
bench_tail(double *values, size_t count)
{
    double median = bench_median(values, count);

    return values[count * 99 / 100] / median;
}
