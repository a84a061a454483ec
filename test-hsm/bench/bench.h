/*
 * bench.h - ratios that hold on a noisy machine.
 *
 * Ours and the raw operation it is built on run in turn, in one process, over
 * several rounds; a row is the median of the rounds' ratios. Rows go to stdout
 * as JSON lines, progress to stderr.
 */
#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <stddef.h>

#define BENCH_ROUNDS 9

struct bench_side {
    void (*run)(void *context, size_t times); /* aborts when an operation fails */
    void *context;
};

/**
 * Rate of ours divided by rate of raw.
 *
 * @param at_least  the goal for the median
 */
void bench_ratio(const char *group, const char *name, double at_least, struct bench_side ours,
                 struct bench_side raw);

/**
 * Time of one of ours divided by the time of one of raw.
 *
 * @param at_most  the goal for the median
 */
void bench_share(const char *group, const char *name, double at_most, struct bench_side ours,
                 struct bench_side raw);

/** A number of its own unit, from rounds of the caller's: the median of `count` values. */
void bench_at_most(const char *group, const char *name, const char *unit, double at_most,
                   double *values, size_t count);
void bench_at_least(const char *group, const char *name, const char *unit, double at_least,
                    double *values, size_t count);

/** Whether main() was given the name of that part, or none at all. */
bool bench_is_wanted(const char *part, int argc, char **argv);

/** End the program with a message when a bench cannot go on. */
void bench_check(int good, const char *what);

/** Sorts the values. */
double bench_median(double *values, size_t count);

/** The 99th percentile by the median; sorts the values. */
double bench_tail(double *values, size_t count);

#endif
