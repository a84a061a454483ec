/*
 * metrics.h - counters, gauges and histograms of a daemon and all its worker
 * processes, and their text for Prometheus (exposition format 0.0.4).
 *
 * The memory is mapped before workers are forked, and each process adds in a
 * part of its own: one atomic addition, for which no other process contends.
 * Whichever worker is asked tells for all. A counter outlives the worker that
 * counted; what a gauge said goes with its process.
 *
 * A NULL hsm_metrics or hsm_series is fine everywhere: nothing is counted.
 */
#ifndef HSM_METRICS_H
#define HSM_METRICS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <hsm/status.h>

#define HSM_METRICS_SERIES_MAX 2048 /* of one process; further ones are not counted */
#define HSM_METRICS_LABELS_MAX 255 /* characters of the labels of one series */
#define HSM_METRICS_BOUNDS_MAX 16 /* of a histogram */

struct hsm_metrics;
struct hsm_series; /* one metric with certain label values, in this process */

enum hsm_metric_kind {
    HSM_COUNTER,
    HSM_COUNTER_NS, /* of nanoseconds, told in seconds */
    HSM_GAUGE_SUM, /* over the processes, as of calls in flight */
    HSM_GAUGE_MIN, /* the least that one of them says, as of being ready */
    HSM_GAUGE_MAX,
    HSM_HISTOGRAM, /* of seconds */
    /* The same, whose labels name what comes and goes, as keys do: hsm_metrics_forget(). */
    HSM_COUNTER_PASSING,
    HSM_GAUGE_MIN_PASSING,
};

/** What a metric is; static, so that it is the same in all processes. */
struct hsm_metric {
    const char *name; /* "sti_sks_signatures_total" */
    const char *help; /* one line */
    enum hsm_metric_kind kind;
    const char *labels; /* their names, separated by blanks; NULL: none */
    const double *bounds; /* of a histogram: ascending seconds that end with 0 */
};

/** 0.1 ms to 10 s, for what answers calls. */
extern const double hsm_metric_seconds[];

/** @param processes  1 to 1024 parts */
HSM_MUST_CHECK enum hsm_status hsm_metrics_new(unsigned processes, struct hsm_metrics **out);

/** In a process that was just forked, and has one thread: count in that part from now on. */
void hsm_metrics_join(struct hsm_metrics *metrics, unsigned part);

/** Of a process that ended: its gauges say nothing any more. */
void hsm_metrics_leave(struct hsm_metrics *metrics, unsigned part);

/**
 * The series of these label values, made at 0 when it is new (a gauge: told
 * when it is first set). Octets that are not printable ASCII become '?', and
 * values are cut to fit. Keep it where calls are counted; looking it up costs
 * some tens of nanoseconds. Any thread.
 *
 * @param values  one for each label of the metric; NULL when it has none
 * @return NULL: too many series
 */
struct hsm_series *hsm_series(struct hsm_metrics *metrics, const struct hsm_metric *metric,
                              const char *const *values);

/** Tell no more of what passes and has not been looked up by this process in so many seconds; its
 *  places are free then. Whoever keeps such a series looks it up more often. Call it every minute.
 */
void hsm_metrics_forget(struct hsm_metrics *metrics, unsigned unused_s);

/** A counter. */
void hsm_series_add(struct hsm_series *series, uint64_t n);

/** A gauge. */
void hsm_series_set(struct hsm_series *series, double value);

/** A gauge says nothing any more: what it told of is gone. */
void hsm_series_unset(struct hsm_series *series);

/** A histogram. */
void hsm_series_observe(struct hsm_series *series, double seconds);

/** Nanoseconds of a clock that nobody sets. */
int64_t hsm_metric_clock_ns(void);

/** All series of all processes, equal ones made one. */
HSM_MUST_CHECK enum hsm_status hsm_metrics_write(struct hsm_metrics *metrics, FILE *to);

/** In the process that made it. */
void hsm_metrics_free(struct hsm_metrics *metrics);

#endif
