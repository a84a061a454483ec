/*
 * metrics.h - counters, gauges and histograms of a daemon and all its worker
 * processes, and their text for Prometheus (exposition format 0.0.4).
 *
 * The memory is mapped before workers are forked, and each process counts in its
 * own part: one atomic addition, for which no other process contends. Any worker
 * can report for all of them. A counter outlives the worker that counted; a gauge
 * ends with its process.
 *
 * A NULL hsm_metrics or hsm_series is accepted everywhere: nothing is counted.
 */
#ifndef HSM_METRICS_H
#define HSM_METRICS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <hsm/defer.h>
#include <hsm/status.h>

#define HSM_METRICS_SERIES_MAX 2048 /* per process; further series are not counted */
#define HSM_METRICS_LABELS_MAX 255 /* characters of the labels of one series */
#define HSM_METRICS_BOUNDS_MAX 16 /* of a histogram */

struct hsm_metrics;
struct hsm_series; /* one metric with certain label values, in this process */

enum hsm_metric_kind {
    HSM_COUNTER,
    HSM_COUNTER_NS, /* counts nanoseconds, exposed as seconds */
    HSM_GAUGE_SUM, /* the sum over the processes, e.g. of calls in flight */
    HSM_GAUGE_MIN, /* the least value of any process, e.g. of readiness */
    HSM_GAUGE_MAX,
    HSM_HISTOGRAM, /* of seconds */
    /* As HSM_COUNTER and HSM_GAUGE_MIN, for labels that come and go, such as keys: unused series
     * are dropped by hsm_metrics_forget(). */
    HSM_COUNTER_PASSING,
    HSM_GAUGE_MIN_PASSING,
};

/** The description of a metric; static, so that it is the same in all processes. */
struct hsm_metric {
    const char *name; /* "sti_sks_signatures_total" */
    const char *help; /* one line */
    enum hsm_metric_kind kind;
    const char *labels; /* their names, separated by blanks; NULL: none */
    const double *bounds; /* of a histogram: ascending seconds that end with 0 */
};

/** Bounds from 0.1 ms to 10 s, for the time that requests take. */
extern const double hsm_metric_seconds[];

/** @param processes  1 to 1024 parts */
HSM_MUST_CHECK enum hsm_status hsm_metrics_new(unsigned processes, struct hsm_metrics **out);

/** Count in that part from now on. Called in a process that was just forked and has one thread. */
void hsm_metrics_join(struct hsm_metrics *metrics, unsigned part);

/** The process of that part has ended: drop its gauges. */
void hsm_metrics_leave(struct hsm_metrics *metrics, unsigned part);

/**
 * The series with these label values. A new one starts at 0 (a gauge is exposed
 * once it is set). Octets that are not printable ASCII become '?', and values are
 * cut to fit. Keep the result where calls are counted: the lookup takes some tens
 * of nanoseconds. May be called in any thread.
 *
 * @param values  one for each label of the metric; NULL when it has none
 * @return NULL: too many series
 */
struct hsm_series *hsm_series(struct hsm_metrics *metrics, const struct hsm_metric *metric,
                              const char *const *values);

/** Drop the series of the _PASSING kinds that this process has not looked up for `unused_s`
 *  seconds, and free their places. Code that keeps such a series must look it up more often than
 *  that. Call it every minute. */
void hsm_metrics_forget(struct hsm_metrics *metrics, unsigned unused_s);

/** Add to a counter. */
void hsm_series_add(struct hsm_series *series, uint64_t n);

/** Set a gauge. */
void hsm_series_set(struct hsm_series *series, double value);

/** Stop exposing a gauge: what it described is gone. */
void hsm_series_unset(struct hsm_series *series);

/** Add a value to a histogram. */
void hsm_series_observe(struct hsm_series *series, double seconds);

/** Write the series of all processes, those with equal labels combined. */
HSM_MUST_CHECK enum hsm_status hsm_metrics_write(struct hsm_metrics *metrics, FILE *to);

/** Call it in the process that made it. */
void hsm_metrics_free(struct hsm_metrics *metrics);
DEFINE_DEFER(struct hsm_metrics, hsm_metrics_free)

#endif
