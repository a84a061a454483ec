/* bench.c - sti-hsm bench: measure how fast a token signs. */
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

#include <hsm/defer.h>
#include <hsm/measure.h>

#include "commands.h"
#include "open.h"

#define STEPS_MAX       9 /* 1, 2, 4 ... 256 sessions */
#define SECONDS_DEFAULT 1
#define SECONDS_MAX     60
#define ENOUGH          0.95 /* share of the best rate at which more sessions are not worthwhile */
#define SLOW_US         500 /* above this the token is taken to be a device or server */
#define BAR_WIDTH       40
#define NEVER           1000000000 /* so that no verification is measured along with the token */

struct step {
    unsigned sessions;
    struct hsm_measure ours;
    struct hsm_measure raw;
};

struct bench {
    const struct arguments *arguments;
    enum hsm_route route;
    unsigned most; /* sessions */
    unsigned seconds; /* of one measurement */
    struct step steps[STEPS_MAX];
    size_t count;
};

static enum hsm_status
number_from(const char *option, const char *text, unsigned most, unsigned otherwise, unsigned *out)
{
    long long number = otherwise;
    enum hsm_status st = HSM_OK;

    if (text != NULL)
        st = options_number(option, text, 1, most, &number);
    if (st == HSM_OK)
        *out = (unsigned)number;
    return st;
}

static enum hsm_status
read_arguments(const struct arguments *arguments, struct bench *bench)
{
    const char *route = arguments->route != NULL ? arguments->route : "libp11";
    enum hsm_status st;

    bench->arguments = arguments;
    if (hsm_route_parse(route, &bench->route) != HSM_OK)
        return options_refuse("--route is libp11 or direct");
    st = number_from("sessions", arguments->sessions, HSM_MEASURE_CALLERS_MAX, 32, &bench->most);
    if (st == HSM_OK)
        st = number_from("seconds", arguments->seconds, SECONDS_MAX, SECONDS_DEFAULT,
                         &bench->seconds);
    return st;
}

static void
progress(unsigned sessions, const char *what)
{
    if (isatty(STDERR_FILENO) == 1)
        fprintf(stderr, "\r%-60s\r%u sessions: %s", "", sessions, what);
}

static void
progress_end(void)
{
    if (isatty(STDERR_FILENO) == 1)
        fprintf(stderr, "\r%-60s\r", "");
}

/* *enough: the token has no more sessions than in the preceding step. */
static enum hsm_status
measure_step(struct bench *bench, unsigned sessions, bool *enough)
{
    const struct hsm_token_config config = {
        .route = bench->route, .sessions = sessions, .verify_every = NEVER};
    DEFER(hsm_token_close) struct hsm_token *token = NULL;
    DEFER(hsm_key_free) struct hsm_key *key = NULL;
    struct step *step = &bench->steps[bench->count];
    struct hsm_token_stats stats;
    enum hsm_status st = open_key(bench->arguments, &config, &token, &key);

    if (st != HSM_OK)
        return st;
    hsm_token_stats(token, &stats);
    *enough = stats.sessions < sessions;
    if (*enough)
        return HSM_OK;
    step->sessions = sessions;
    progress(sessions, "sti-hsm");
    st = hsm_measure_signing(key, sessions, bench->seconds * 1000, false, &step->ours);
    progress(sessions, "C_Sign alone");
    if (st == HSM_OK)
        st = hsm_measure_signing(key, sessions, bench->seconds * 1000, true, &step->raw);
    if (st == HSM_ERR_BUSY && bench->count > 0) { /* no room for ours and raw together */
        *enough = true;
        return HSM_OK;
    }
    if (st == HSM_OK)
        bench->count++;
    return st;
}

static enum hsm_status
measure_all(struct bench *bench)
{
    enum hsm_status st = HSM_OK;
    bool enough = false;

    for (unsigned n = 1; n <= bench->most && st == HSM_OK && !enough; n *= 2)
        st = measure_step(bench, n, &enough);
    progress_end();
    return st;
}

static double
best_rate(const struct bench *bench)
{
    double best = 0;

    for (size_t i = 0; i < bench->count; i++)
        best = bench->steps[i].ours.rate > best ? bench->steps[i].ours.rate : best;
    return best;
}

/* The fewest sessions that reach nearly the best rate. */
static const struct step *
recommended(const struct bench *bench)
{
    double enough = best_rate(bench) * ENOUGH;
    size_t i = 0;

    while (i + 1 < bench->count && bench->steps[i].ours.rate < enough)
        i++;
    return &bench->steps[i];
}

/* Workers are for tokens that answer from outside the process: a call there may get stuck. */
static unsigned
recommended_workers(const struct step *step)
{
    return step->raw.p50_us > SLOW_US ? step->sessions + 2 : 0;
}

static void
print_bar(double share)
{
    int width = (int)(share * BAR_WIDTH + 0.5);

    for (int i = 0; i < width; i++)
        putchar('#');
    putchar('\n');
}

static void
print_table(const struct bench *bench)
{
    double best = best_rate(bench);
    const struct step *choice = recommended(bench);

    printf("SESSIONS    SIGN/S  P50 us  P95 us  P99 us   RAW/S  RAW P50  OURS/RAW  FAILED\n");
    for (size_t i = 0; i < bench->count; i++) {
        const struct step *s = &bench->steps[i];

        printf("%8u  %8.0f  %6.0f  %6.0f  %6.0f  %6.0f  %7.0f  %8.2f  %6lu\n", s->sessions,
               s->ours.rate, s->ours.p50_us, s->ours.p95_us, s->ours.p99_us, s->raw.rate,
               s->raw.p50_us, s->ours.rate / s->raw.rate, s->ours.failures);
    }
    putchar('\n');
    for (size_t i = 0; i < bench->count; i++) {
        printf("%8u  ", bench->steps[i].sessions);
        print_bar(bench->steps[i].ours.rate / best);
    }
    printf("\nsessions = %u\nworkers = %u\n", choice->sessions, recommended_workers(choice));
}

static void
print_measure(const char *name, const struct hsm_measure *m)
{
    printf("\"%s\":{\"rate\":%.1f,\"p50_us\":%.1f,\"p95_us\":%.1f,\"p99_us\":%.1f,"
           "\"signatures\":%lu,\"failures\":%lu}",
           name, m->rate, m->p50_us, m->p95_us, m->p99_us, m->signatures, m->failures);
}

static void
print_json(const struct bench *bench)
{
    const struct step *choice = recommended(bench);

    printf("{\"route\":\"%s\",\"steps\":[", bench->route == HSM_ROUTE_DIRECT ? "direct" : "libp11");
    for (size_t i = 0; i < bench->count; i++) {
        printf("%s{\"sessions\":%u,", i > 0 ? "," : "", bench->steps[i].sessions);
        print_measure("ours", &bench->steps[i].ours);
        putchar(',');
        print_measure("raw", &bench->steps[i].raw);
        putchar('}');
    }
    printf("],\"recommended\":{\"sessions\":%u,\"workers\":%u}}\n", choice->sessions,
           recommended_workers(choice));
}

enum hsm_status
bench_run(const struct arguments *arguments)
{
    struct bench bench = {.count = 0};
    enum hsm_status st = read_arguments(arguments, &bench);

    if (st == HSM_OK)
        st = measure_all(&bench);
    if (st != HSM_OK)
        return st;
    if (arguments->json)
        print_json(&bench);
    else
        print_table(&bench);
    return HSM_OK;
}
