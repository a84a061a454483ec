/* bench_callers.c - callers on separate threads that start together. */
#include "bench_callers.h"

#include <string.h>

#include <openssl/evp.h>

#include "bench.h"
#include "softhsm.h"

static const uint8_t message[300] = "a PASSporT's signing input has about this many octets";
static uint8_t digest[HSM_SHA256_LEN];

struct caller {
    struct bench_callers *all;
    unsigned index;
    size_t times;
    double *latencies_us;
};

void
bench_callers_call(const struct bench_callers *all, unsigned index)
{
    uint8_t sig[HSM_P256_SIG_LEN];

    if (all->key == NULL)
        bench_raw_sign(all->raw, index);
    else if (all->digest_only)
        bench_check(hsm_key_sign_digest(all->key, digest, sig) == HSM_OK, "hsm_key_sign_digest");
    else
        bench_check(hsm_key_sign(all->key, message, sizeof(message), sig) == HSM_OK,
                    "hsm_key_sign");
}

static void *
call_times(void *argument)
{
    const struct caller *caller = argument;

    /* Warm up: a service's threads have long made the allocations of their first call. */
    bench_callers_call(caller->all, caller->index);
    pthread_barrier_wait(&caller->all->ready);
    for (size_t i = 0; i < caller->times; i++) {
        double begin = caller->latencies_us != NULL ? bench_now_us() : 0;

        bench_callers_call(caller->all, caller->index);
        if (caller->latencies_us != NULL)
            caller->latencies_us[i] = bench_now_us() - begin;
    }
    pthread_barrier_wait(&caller->all->ready);
    return NULL;
}

double
bench_callers_run(struct bench_callers *all, size_t times_each)
{
    struct caller callers[BENCH_RAW_SESSIONS_MAX];
    pthread_t threads[BENCH_RAW_SESSIONS_MAX];
    double begin, took;

    bench_check(pthread_barrier_init(&all->ready, NULL, all->count + 1) == 0, "a barrier");
    for (unsigned i = 0; i < all->count; i++) {
        callers[i] =
            (struct caller){all, i, times_each,
                            all->latencies_us != NULL ? all->latencies_us + i * times_each : NULL};
        bench_check(pthread_create(&threads[i], NULL, call_times, &callers[i]) == 0, "a thread");
    }
    pthread_barrier_wait(&all->ready);
    begin = bench_now_us();
    pthread_barrier_wait(&all->ready);
    took = bench_now_us() - begin;
    for (unsigned i = 0; i < all->count; i++)
        bench_check(pthread_join(threads[i], NULL) == 0, "a thread");
    pthread_barrier_destroy(&all->ready);
    return took;
}

/* ---- tokens ---- */

struct hsm_token *
bench_open(const char *module, enum hsm_route route, unsigned sessions, struct hsm_key **key)
{
    struct hsm_token_config config = {.uri = "pkcs11:token=" BENCH_TOKEN,
                                      .module = module,
                                      .route = route,
                                      .sessions = sessions,
                                      .verify_every = BENCH_NEVER,
                                      .op_timeout_ms = 30000};
    struct hsm_secret *pin = NULL;
    struct hsm_token *token = NULL;

    bench_check(EVP_Digest(message, sizeof(message), digest, NULL, EVP_sha256(), NULL) == 1,
                "SHA-256");
    bench_check(hsm_secret_new(SOFTHSM_USER_PIN, strlen(SOFTHSM_USER_PIN), &pin) == HSM_OK, "PIN");
    config.pin = pin;
    bench_check(hsm_token_open(&config, &token) == HSM_OK, "hsm_token_open");
    hsm_secret_free(pin);
    bench_check(hsm_key_find_or_generate(token, "signer", key) == HSM_OK, "the key");
    return token;
}
