/* metrics.c - series in shared memory, and their text for Prometheus. */
#define _GNU_SOURCE /* MAP_ANONYMOUS */
#include <hsm/metrics.h>

#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <sys/mman.h>

#include <hsm/clock.h>
#include <hsm/defer.h>
#include <hsm/log.h>

#define PROCESSES_MAX 1024
#define INDEX_SIZE    (2 * HSM_METRICS_SERIES_MAX)
#define VALUES        (HSM_METRICS_BOUNDS_MAX + 2) /* buckets, the bucket of +Inf, and the sum */
#define NS            1e9

const double hsm_metric_seconds[] = {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025,
                                     0.05,   0.1,     0.25,   0.5,   1.0,    2.5,   10.0, 0};

struct hsm_series {
    atomic_uint generation; /* odd: it is being changed, or a process died while changing it */
    atomic_uint used_at; /* for series that expire: second of hsm_clock_s() */
    const struct hsm_metric *metric; /* NULL: the place is free */
    char labels[HSM_METRICS_LABELS_MAX + 1]; /* name="value",... */
    /* counter: [0]; gauge: [0], the bits of a double; histogram: buckets, then nanoseconds */
    atomic_ullong values[VALUES];
};

struct part {
    atomic_uint used; /* number of series; some may be free again */
    unsigned short index[INDEX_SIZE]; /* by hash of the labels: 1 + the series' number; 0: none */
    struct hsm_series series[HSM_METRICS_SERIES_MAX];
};

struct hsm_metrics {
    struct part *parts; /* shared; untouched pages take no memory */
    unsigned count;
    unsigned self;
    pthread_mutex_t lock; /* of this process: guards the assignment of series in its part */
};

/** One series, combined over all processes. */
struct total {
    const struct hsm_metric *metric;
    char labels[HSM_METRICS_LABELS_MAX + 1];
    uint64_t values[VALUES];
    double gauge;
};

/* ---- processes ---- */

enum hsm_status
hsm_metrics_new(unsigned processes, struct hsm_metrics **out)
{
    struct hsm_metrics *metrics;

    if (processes == 0 || processes > PROCESSES_MAX)
        return HSM_ERR_USAGE;
    metrics = calloc(1, sizeof(*metrics));
    if (metrics == NULL)
        return HSM_ERR_NOMEM;
    metrics->count = processes;
    metrics->parts = mmap(NULL, processes * sizeof(struct part), PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (metrics->parts == MAP_FAILED) {
        free(metrics);
        hsm_log(HSM_LOG_ERROR, "no memory for metrics of %u processes", processes);
        return HSM_ERR_NOMEM;
    }
    pthread_mutex_init(&metrics->lock, NULL);
    *out = metrics;
    return HSM_OK;
}

void
hsm_metrics_free(struct hsm_metrics *metrics)
{
    if (metrics == NULL)
        return;
    munmap(metrics->parts, metrics->count * sizeof(struct part));
    pthread_mutex_destroy(&metrics->lock);
    free(metrics);
}

static size_t
used_of(const struct part *part)
{
    return atomic_load_explicit(&part->used, memory_order_acquire);
}

static bool
is_gauge(const struct hsm_metric *metric)
{
    return metric->kind == HSM_GAUGE_SUM || metric->kind == HSM_GAUGE_MIN ||
           metric->kind == HSM_GAUGE_MAX || metric->kind == HSM_GAUGE_MIN_PASSING;
}

static bool
is_passing(const struct hsm_metric *metric)
{
    return metric->kind == HSM_COUNTER_PASSING || metric->kind == HSM_GAUGE_MIN_PASSING;
}

static bool
is_changing(unsigned generation)
{
    return generation % 2 != 0;
}

void
hsm_metrics_leave(struct hsm_metrics *metrics, unsigned part)
{
    if (metrics == NULL || part >= metrics->count)
        return;
    for (size_t i = 0; i < used_of(&metrics->parts[part]); i++) {
        struct hsm_series *series = &metrics->parts[part].series[i];

        if (!is_changing(atomic_load(&series->generation)) && series->metric != NULL &&
            is_gauge(series->metric))
            hsm_series_unset(series);
    }
}

/* ---- series ---- */

/* FNV-1a over the identity of a series. */
static size_t
hash(const struct hsm_metric *metric, const char *labels)
{
    uint64_t h = 14695981039346656037u ^ (uintptr_t)metric;

    for (const char *c = labels; *c != '\0'; c++)
        h = (h ^ (unsigned char)*c) * 1099511628211u;
    return (size_t)(h ^ (h >> 32)) % INDEX_SIZE;
}

/* A label's value, escaped for the format; at most `room` characters, and never half an escape. */
static size_t
put_value(char *to, size_t room, const char *value)
{
    size_t len = 0;

    for (; *value != '\0'; value++) {
        bool escaped = *value == '"' || *value == '\\';

        if (len + 1 + escaped > room)
            break;
        if (escaped)
            to[len++] = '\\';
        to[len++] = *value < 0x20 || *value > 0x7e ? '?' : *value;
    }
    return len;
}

/* name="value",name="value"; a value that is too long is cut to its own share. */
static void
put_labels(const struct hsm_metric *metric, const char *const *values, char *out)
{
    const char *name = metric->labels != NULL ? metric->labels : "";
    size_t len = 0;
    size_t left = 0;

    for (const char *c = name; *c != '\0'; c++)
        left += *c == ' ';
    for (size_t i = 0; *name != '\0'; i++, left--) {
        size_t name_len = strcspn(name, " ");
        size_t share = (HSM_METRICS_LABELS_MAX - len) / (left + 1);

        if (share < name_len + 5) /* ="", and the comma */
            break;
        if (i > 0)
            out[len++] = ',';
        memcpy(out + len, name, name_len);
        len += name_len;
        out[len++] = '=';
        out[len++] = '"';
        len += put_value(out + len, share - name_len - 5, values[i] != NULL ? values[i] : "");
        out[len++] = '"';
        name += name_len + strspn(name + name_len, " ");
    }
    out[len] = '\0';
}

/* Marks the series as changing for concurrent readers. NULL: it becomes free. */
static void
change(struct hsm_series *series, const struct hsm_metric *metric, const char *labels)
{
    unsigned generation = atomic_load(&series->generation) | 1;

    atomic_store(&series->generation, generation);
    atomic_thread_fence(memory_order_release);
    series->metric = metric;
    memcpy(series->labels, labels, strlen(labels) + 1);
    for (size_t i = 0; i < VALUES; i++)
        atomic_store_explicit(&series->values[i], 0, memory_order_relaxed);
    if (metric != NULL && is_gauge(metric))
        hsm_series_unset(series);
    atomic_store(&series->generation, generation + 1);
}

/* The entry of these labels in the index, or the free one where they belong. NULL: it is full. */
static unsigned short *
find_place(struct part *part, const struct hsm_metric *metric, const char *labels)
{
    size_t at = hash(metric, labels);

    for (size_t i = 0; i < INDEX_SIZE; i++) {
        unsigned short *place = &part->index[(at + i) % INDEX_SIZE];
        const struct hsm_series *series;

        if (*place == 0)
            return place;
        series = &part->series[*place - 1];
        if (series->metric == metric && strcmp(series->labels, labels) == 0)
            return place;
    }
    return NULL;
}

/* Rebuild the index without the free series; as at most half of it is used, each finds a place. */
static void
index_anew(struct part *part)
{
    size_t used = used_of(part);

    memset(part->index, 0, sizeof(part->index));
    for (size_t i = 0; i < used; i++) {
        const struct hsm_series *series = &part->series[i];

        if (series->metric != NULL)
            *find_place(part, series->metric, series->labels) = (unsigned short)(i + 1);
    }
}

/* A free series; NULL: there is none. */
static struct hsm_series *
take_free(struct part *part)
{
    unsigned used = atomic_load(&part->used);

    for (unsigned i = 0; i < used; i++) {
        if (part->series[i].metric == NULL)
            return &part->series[i];
    }
    if (used == HSM_METRICS_SERIES_MAX)
        return NULL;
    atomic_store_explicit(&part->used, used + 1, memory_order_release);
    return &part->series[used];
}

static struct hsm_series *
find_or_make(struct part *part, const struct hsm_metric *metric, const char *labels)
{
    unsigned short *place = find_place(part, metric, labels);
    struct hsm_series *series;

    if (place == NULL)
        return NULL;
    if (*place != 0)
        return &part->series[*place - 1];
    series = take_free(part);
    if (series == NULL)
        return NULL;
    change(series, metric, labels);
    *place = (unsigned short)(series - part->series + 1);
    return series;
}

static unsigned
seconds_now(void)
{
    return (unsigned)hsm_clock_s();
}

struct hsm_series *
hsm_series(struct hsm_metrics *metrics, const struct hsm_metric *metric, const char *const *values)
{
    char labels[HSM_METRICS_LABELS_MAX + 1];
    struct hsm_series *series;

    if (metrics == NULL)
        return NULL;
    put_labels(metric, values, labels);
    pthread_mutex_lock(&metrics->lock);
    series = find_or_make(&metrics->parts[metrics->self], metric, labels);
    if (series != NULL && is_passing(metric))
        atomic_store_explicit(&series->used_at, seconds_now(), memory_order_relaxed);
    pthread_mutex_unlock(&metrics->lock);
    return series;
}

void
hsm_metrics_join(struct hsm_metrics *metrics, unsigned part)
{
    struct part *own;

    if (metrics == NULL || part >= metrics->count)
        return;
    own = &metrics->parts[part];
    metrics->self = part;
    for (size_t i = 0; i < used_of(own); i++) {
        struct hsm_series *series = &own->series[i];

        if (is_changing(atomic_load(&series->generation)) ||
            (series->metric != NULL && is_gauge(series->metric)))
            change(series, NULL, "");
    }
    index_anew(own);
}

void
hsm_metrics_forget(struct hsm_metrics *metrics, unsigned unused_s)
{
    struct part *own;
    unsigned now;
    bool is_any = false;

    if (metrics == NULL)
        return;
    own = &metrics->parts[metrics->self];
    pthread_mutex_lock(&metrics->lock);
    now = seconds_now(); /* not earlier than any time that hsm_series() has noted */
    for (size_t i = 0; i < used_of(own); i++) {
        struct hsm_series *series = &own->series[i];

        if (series->metric == NULL || !is_passing(series->metric) ||
            now - atomic_load(&series->used_at) < unused_s)
            continue;
        change(series, NULL, "");
        is_any = true;
    }
    if (is_any)
        index_anew(own);
    pthread_mutex_unlock(&metrics->lock);
}

void
hsm_series_add(struct hsm_series *series, uint64_t n)
{
    if (series != NULL)
        atomic_fetch_add_explicit(&series->values[0], n, memory_order_relaxed);
}

void
hsm_series_set(struct hsm_series *series, double value)
{
    unsigned long long bits;

    if (series == NULL)
        return;
    memcpy(&bits, &value, sizeof(bits));
    atomic_store_explicit(&series->values[0], bits, memory_order_relaxed);
}

void
hsm_series_unset(struct hsm_series *series)
{
    hsm_series_set(series, (double)NAN);
}

void
hsm_series_observe(struct hsm_series *series, double seconds)
{
    const double *bounds;
    size_t i = 0;

    if (series == NULL)
        return;
    bounds = series->metric->bounds;
    while (bounds[i] > 0 && seconds > bounds[i])
        i++;
    atomic_fetch_add_explicit(&series->values[i], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&series->values[VALUES - 1],
                              seconds > 0 ? (uint64_t)(seconds * NS) : 0, memory_order_relaxed);
}

/* ---- totals ---- */

/* False: the series is free, or changed meanwhile. */
static bool
read_series(const struct hsm_series *series, struct total *out)
{
    unsigned generation = atomic_load(&series->generation);
    unsigned long long bits;

    if (is_changing(generation) || series->metric == NULL)
        return false;
    out->metric = series->metric;
    memcpy(out->labels, series->labels, sizeof(out->labels));
    for (size_t i = 0; i < VALUES; i++)
        out->values[i] = atomic_load_explicit(&series->values[i], memory_order_relaxed);
    bits = out->values[0];
    memcpy(&out->gauge, &bits, sizeof(bits));
    atomic_thread_fence(memory_order_acquire);
    return atomic_load(&series->generation) == generation;
}

static int
compare(const void *a, const void *b)
{
    const struct total *one = a;
    const struct total *other = b;
    int order = strcmp(one->metric->name, other->metric->name);

    return order != 0 ? order : strcmp(one->labels, other->labels);
}

static void
add_gauge(struct total *total, double value)
{
    enum hsm_metric_kind kind = total->metric->kind;
    bool is_least = kind == HSM_GAUGE_MIN || kind == HSM_GAUGE_MIN_PASSING;
    bool replaces = isnan(total->gauge) || (is_least && value < total->gauge) ||
                    (kind == HSM_GAUGE_MAX && value > total->gauge);

    if (isnan(value))
        return;
    if (replaces)
        total->gauge = value;
    else if (total->metric->kind == HSM_GAUGE_SUM)
        total->gauge += value;
}

/* Combine equal neighbours of sorted totals; returns how many are left. */
static size_t
merge(struct total *totals, size_t count)
{
    size_t kept = 0;

    for (size_t i = 0; i < count; i++) {
        if (kept == 0 || compare(&totals[kept - 1], &totals[i]) != 0) {
            totals[kept++] = totals[i];
            continue;
        }
        add_gauge(&totals[kept - 1], totals[i].gauge);
        for (size_t j = 0; j < VALUES; j++)
            totals[kept - 1].values[j] += totals[i].values[j];
    }
    return kept;
}

static size_t
collect(const struct hsm_metrics *metrics, struct total *out, size_t room)
{
    size_t count = 0;

    for (unsigned p = 0; p < metrics->count; p++)
        for (size_t i = 0; i < used_of(&metrics->parts[p]); i++) {
            const struct hsm_series *series = &metrics->parts[p].series[i];

            if (count < room && read_series(series, &out[count]))
                count++;
        }
    return count;
}

/* ---- text ---- */

static void
write_head(const struct hsm_metric *metric, FILE *to)
{
    const char *type = is_gauge(metric)                ? "gauge"
                       : metric->kind == HSM_HISTOGRAM ? "histogram"
                                                       : "counter";

    fprintf(to, "# HELP %s %s\n# TYPE %s %s\n", metric->name, metric->help, metric->name, type);
}

static void
write_bucket(const struct total *total, const char *bound, uint64_t count, FILE *to)
{
    fprintf(to, "%s_bucket{%s%sle=\"%s\"} %" PRIu64 "\n", total->metric->name, total->labels,
            total->labels[0] != '\0' ? "," : "", bound, count);
}

static void
write_histogram(const struct total *total, const char *open, const char *close, FILE *to)
{
    const double *bounds = total->metric->bounds;
    uint64_t count = 0;
    char bound[32];
    size_t i;

    for (i = 0; bounds[i] > 0; i++) {
        count += total->values[i];
        snprintf(bound, sizeof(bound), "%g", bounds[i]);
        write_bucket(total, bound, count, to);
    }
    count += total->values[i];
    write_bucket(total, "+Inf", count, to);
    fprintf(to, "%s_sum%s%s%s %.9f\n%s_count%s%s%s %" PRIu64 "\n", total->metric->name, open,
            total->labels, close, (double)total->values[VALUES - 1] / NS, total->metric->name, open,
            total->labels, close, count);
}

static void
write_total(const struct total *total, FILE *to)
{
    bool has_labels = total->labels[0] != '\0';
    const char *open = has_labels ? "{" : "";
    const char *close = has_labels ? "}" : "";

    if (total->metric->kind == HSM_HISTOGRAM)
        write_histogram(total, open, close, to);
    else if (is_gauge(total->metric))
        fprintf(to, "%s%s%s%s %.17g\n", total->metric->name, open, total->labels, close,
                total->gauge);
    else if (total->metric->kind == HSM_COUNTER_NS)
        fprintf(to, "%s%s%s%s %.9f\n", total->metric->name, open, total->labels, close,
                (double)total->values[0] / NS);
    else
        fprintf(to, "%s%s%s%s %" PRIu64 "\n", total->metric->name, open, total->labels, close,
                total->values[0]);
}

static size_t
count_series(const struct hsm_metrics *metrics)
{
    size_t count = 0;

    for (unsigned p = 0; p < metrics->count; p++)
        count += used_of(&metrics->parts[p]);
    return count;
}

enum hsm_status
hsm_metrics_write(struct hsm_metrics *metrics, FILE *to)
{
    size_t count = metrics != NULL ? count_series(metrics) : 0;
    DEFER(free) struct total *totals = calloc(count + 1, sizeof(*totals));
    const char *name = "";

    if (totals == NULL)
        return HSM_ERR_NOMEM;
    if (metrics != NULL) {
        pthread_mutex_lock(&metrics->lock);
        count = collect(metrics, totals, count); /* series added meanwhile appear next time */
        pthread_mutex_unlock(&metrics->lock);
    }
    qsort(totals, count, sizeof(*totals), compare);
    count = merge(totals, count);
    for (size_t i = 0; i < count; i++) {
        const struct total *total = &totals[i];

        if (is_gauge(total->metric) && isnan(total->gauge))
            continue;
        if (strcmp(name, total->metric->name) != 0)
            write_head(total->metric, to);
        name = total->metric->name;
        write_total(total, to);
    }
    return ferror(to) ? HSM_ERR_IO : HSM_OK;
}
