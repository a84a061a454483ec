/* measure.c - how fast a token signs. */
#include <hsm/measure.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <hsm/use.h>

#include "ckr_internal.h"
#include "clock_internal.h"
#include "journal_internal.h"
#include "key_internal.h"
#include "signer_internal.h"

#define SAMPLES_MAX 200000 /* latencies kept per caller */

static const uint8_t digest[HSM_SHA256_LEN] = "what a measurement signs";

struct run;

struct caller {
    struct run *run;
    pthread_t thread;
    CK_SESSION_HANDLE session; /* of a raw caller */
    float *latencies_us;
    unsigned long count;
    unsigned long failures;
};

struct run {
    struct hsm_key *key;
    struct hsm_signer *signer;
    bool raw;
    unsigned count;
    struct caller callers[HSM_MEASURE_CALLERS_MAX];
    pthread_mutex_t lock;
    pthread_cond_t begun;
    int64_t until; /* 0: not started */
};

static bool
sign_once(const struct caller *caller)
{
    const struct run *run = caller->run;
    const struct hsm_signer *signer = run->signer;
    uint8_t sig[HSM_P256_SIG_LEN];
    enum hsm_form form;
    bool good;

    if (!run->raw)
        return hsm_key_sign_digest(run->key, digest, sig) == HSM_OK;
    good = hsm_signer_call(signer, caller->session, digest, sig, &form) == CKR_OK &&
           form == HSM_FORM_GOOD;
    return hsm_journal_use(signer->slot->journal, signer->journal_key, digest, HSM_JOURNAL_ANY_TIME,
                           good ? HSM_OK : HSM_ERR_CRYPTO) == HSM_OK;
}

static int64_t
wait_for_begin(struct run *run)
{
    int64_t until;

    pthread_mutex_lock(&run->lock);
    while (run->until == 0)
        pthread_cond_wait(&run->begun, &run->lock);
    until = run->until;
    pthread_mutex_unlock(&run->lock);
    return until;
}

static void *
call(void *argument)
{
    struct caller *caller = argument;
    int64_t until = wait_for_begin(caller->run);
    int64_t begin = hsm_clock_ns();
    HSM_USE_FOR(HSM_USE_BENCHMARK);

    while (begin < until && caller->count < SAMPLES_MAX) {
        bool good = sign_once(caller);
        int64_t end = hsm_clock_ns();

        if (good)
            caller->latencies_us[caller->count++] = (float)(end - begin) / 1000;
        else
            caller->failures++;
        begin = end;
    }
    return NULL;
}

static void
close_sessions(struct run *run)
{
    const CK_FUNCTION_LIST *functions = hsm_module_functions(run->signer->slot->module);

    for (unsigned i = 0; i < run->count; i++) {
        if (run->callers[i].session != CK_INVALID_HANDLE)
            (void)functions->C_CloseSession(run->callers[i].session);
        free(run->callers[i].latencies_us);
    }
}

static enum hsm_status
prepare(struct run *run)
{
    struct hsm_slot *slot = run->signer->slot;
    CK_RV rv = CKR_OK;

    for (unsigned i = 0; i < run->count && rv == CKR_OK; i++) {
        struct caller *caller = &run->callers[i];

        caller->run = run;
        caller->latencies_us = calloc(SAMPLES_MAX, sizeof(*caller->latencies_us));
        if (caller->latencies_us == NULL)
            return HSM_ERR_NOMEM;
        if (run->raw)
            rv = hsm_module_functions(slot->module)
                     ->C_OpenSession(slot->id, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL,
                                     &caller->session);
    }
    return rv == CKR_OK ? HSM_OK : hsm_ckr_status(rv);
}

/* Time is measured from when all callers are ready. */
static enum hsm_status
execute(struct run *run, unsigned duration_ms, double *seconds)
{
    unsigned started = 0;
    int64_t begin;

    while (started < run->count &&
           pthread_create(&run->callers[started].thread, NULL, call, &run->callers[started]) == 0)
        started++;
    begin = hsm_clock_ns();
    pthread_mutex_lock(&run->lock);
    run->until = started == run->count ? begin + (int64_t)duration_ms * HSM_NS_PER_MS : begin;
    pthread_cond_broadcast(&run->begun);
    pthread_mutex_unlock(&run->lock);
    for (unsigned i = 0; i < started; i++)
        (void)pthread_join(run->callers[i].thread, NULL);
    *seconds = (double)(hsm_clock_ns() - begin) / 1e9;
    return started == run->count ? HSM_OK : HSM_ERR_NOMEM;
}

static int
by_value(const void *a, const void *b)
{
    float x = *(const float *)a;
    float y = *(const float *)b;

    return (x > y) - (x < y);
}

static enum hsm_status
evaluate(const struct run *run, double seconds, struct hsm_measure *out)
{
    struct hsm_measure measure = {.rate = 0};
    float *all;
    size_t n = 0;

    for (unsigned i = 0; i < run->count; i++) {
        measure.signatures += run->callers[i].count;
        measure.failures += run->callers[i].failures;
    }
    all = calloc(measure.signatures + 1, sizeof(*all));
    if (all == NULL)
        return HSM_ERR_NOMEM;
    for (unsigned i = 0; i < run->count; i++) {
        memcpy(all + n, run->callers[i].latencies_us, run->callers[i].count * sizeof(*all));
        n += run->callers[i].count;
    }
    qsort(all, n, sizeof(*all), by_value);
    if (n > 0) {
        measure.rate = (double)n / seconds;
        measure.p50_us = (double)all[n / 2];
        measure.p95_us = (double)all[n * 95 / 100];
        measure.p99_us = (double)all[n * 99 / 100];
    }
    free(all);
    *out = measure;
    return n > 0 ? HSM_OK : HSM_ERR_BUSY;
}

enum hsm_status
hsm_measure_signing(struct hsm_key *key, unsigned callers, unsigned duration_ms, bool raw,
                    struct hsm_measure *out)
{
    struct run *run;
    double seconds = 0;
    enum hsm_status st;

    if (callers == 0 || callers > HSM_MEASURE_CALLERS_MAX)
        return HSM_ERR_USAGE;
    run = calloc(1, sizeof(*run));
    if (run == NULL)
        return HSM_ERR_NOMEM;
    run->key = key;
    run->signer = hsm_key_signer(key);
    run->raw = raw;
    run->count = callers;
    pthread_mutex_init(&run->lock, NULL);
    pthread_cond_init(&run->begun, NULL);
    st = prepare(run);
    if (st == HSM_OK)
        st = execute(run, duration_ms, &seconds);
    if (st == HSM_OK)
        st = evaluate(run, seconds, out);
    close_sessions(run);
    pthread_cond_destroy(&run->begun);
    pthread_mutex_destroy(&run->lock);
    free(run);
    return st;
}
