/*
 * bench.h - ratios that hold on a noisy machine.
 *
 * Our operation and the raw one it is built on run in turn, in one process, over
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
 * Rate of our operation divided by the rate of the raw one.
 *
 * @param at_least  the goal for the median
 */
void bench_ratio(const char *group, const char *name, double at_least, struct bench_side ours,
                 struct bench_side raw);

/**
 * Time of one of our operations divided by the time of a raw one.
 *
 * @param at_most  the goal for the median
 */
void bench_share(const char *group, const char *name, double at_most, struct bench_side ours,
                 struct bench_side raw);

/** A row in another unit: the median of `count` values, each from a round of the caller. */
void bench_at_most(const char *group, const char *name, const char *unit, double at_most,
                   double *values, size_t count);
void bench_at_least(const char *group, const char *name, const char *unit, double at_least,
                    double *values, size_t count);

/** True if the command line names this part, or no part. */
bool bench_is_wanted(const char *part, int argc, char **argv);

/** The exit status, after all parts have been asked for: 2, with a message, if the command line
 *  names something that is not a part. */
int bench_status(int argc, char **argv);

/** Unless `good`, end the program with a message. */
void bench_check(int good, const char *what);

/** Sorts the values. */
double bench_median(double *values, size_t count);

/** The 99th percentile by the median; sorts the values. */
double bench_tail(double *values, size_t count);

#endif
