/* bench_hsm.c - what the layer costs beside the token's own C_Sign. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sys/wait.h>

#include <openssl/evp.h>
#include <p11-kit/pkcs11.h>

#include <hsm/es256.h>
#include <hsm/key.h>

#include "bench.h"
#include "bench_journal.h"
#include "fault_client.h"
#include "softhsm.h"

#define THREADS_MAX 128
#define TOKEN       "bench"
#define ROUNDS      7
#define NEVER       1000000000 /* verify_every: the cost of a verification is no cost of the layer */

static const uint8_t message[300] = "a PASSporT's signing input has about this many octets";
static uint8_t digest[HSM_SHA256_LEN];

/* The token's function list, as a program would use it that does nothing else. */
struct raw {
    CK_FUNCTION_LIST *list;
    CK_SLOT_ID slot;
    CK_OBJECT_HANDLE key;
    CK_SESSION_HANDLE sessions[THREADS_MAX];
};

/* Callers on threads of their own, ours or raw. */
struct callers {
    unsigned count;
    struct hsm_key *key; /* NULL: raw */
    const struct raw *raw;
    bool digest_only;
    double *latencies_us; /* NULL: not wanted; one for each call */
    pthread_barrier_t ready;
};

struct caller {
    struct callers *all;
    unsigned index;
    size_t times;
    double *latencies_us;
};

static double
now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void
raw_sign(const struct raw *raw, unsigned session)
{
    CK_MECHANISM mechanism = {CKM_ECDSA, NULL, 0};
    CK_BYTE sig[HSM_P256_SIG_LEN];
    CK_ULONG len = sizeof(sig);

    bench_check(raw->list->C_SignInit(raw->sessions[session], &mechanism, raw->key) == CKR_OK &&
                    raw->list->C_Sign(raw->sessions[session], digest, sizeof(digest), sig, &len) ==
                        CKR_OK,
                "C_Sign");
}

static void
one_call(const struct caller *caller)
{
    const struct callers *all = caller->all;
    uint8_t sig[HSM_P256_SIG_LEN];

    if (all->key == NULL)
        raw_sign(all->raw, caller->index);
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

    pthread_barrier_wait(&caller->all->ready);
    for (size_t i = 0; i < caller->times; i++) {
        double begin = caller->latencies_us != NULL ? now_us() : 0;

        one_call(caller);
        if (caller->latencies_us != NULL)
            caller->latencies_us[i] = now_us() - begin;
    }
    return NULL;
}

/* Microseconds from when all are ready until the last one is; to start them does not count. */
static double
run_callers(struct callers *all, size_t times_each)
{
    struct caller callers[THREADS_MAX];
    pthread_t threads[THREADS_MAX];
    double begin;

    bench_check(pthread_barrier_init(&all->ready, NULL, all->count + 1) == 0, "a barrier");
    for (unsigned i = 0; i < all->count; i++) {
        callers[i] =
            (struct caller){all, i, times_each,
                            all->latencies_us != NULL ? all->latencies_us + i * times_each : NULL};
        bench_check(pthread_create(&threads[i], NULL, call_times, &callers[i]) == 0, "a thread");
    }
    pthread_barrier_wait(&all->ready);
    begin = now_us();
    for (unsigned i = 0; i < all->count; i++)
        bench_check(pthread_join(threads[i], NULL) == 0, "a thread");
    pthread_barrier_destroy(&all->ready);
    return now_us() - begin;
}

/* ---- tokens ---- */

static struct hsm_token *
open_token(enum hsm_route route, unsigned sessions, struct hsm_key **key)
{
    struct hsm_token_config config = {.uri = "pkcs11:token=" TOKEN,
                                      .module = softhsm_module(),
                                      .route = route,
                                      .sessions = sessions,
                                      .verify_every = NEVER,
                                      .op_timeout_ms = 30000};
    struct hsm_secret *pin = NULL;
    struct hsm_token *token = NULL;

    bench_check(hsm_secret_new(SOFTHSM_USER_PIN, strlen(SOFTHSM_USER_PIN), &pin) == HSM_OK, "PIN");
    config.pin = pin;
    bench_check(hsm_token_open(&config, &token) == HSM_OK, "hsm_token_open");
    hsm_secret_free(pin);
    bench_check(hsm_key_find_or_generate(token, "signer", key) == HSM_OK, "the key");
    return token;
}

static CK_SLOT_ID
slot_of_token(CK_FUNCTION_LIST *list)
{
    CK_SLOT_ID slots[16];
    CK_ULONG count = 16;
    CK_TOKEN_INFO info;

    bench_check(list->C_GetSlotList(CK_TRUE, slots, &count) == CKR_OK, "C_GetSlotList");
    for (CK_ULONG i = 0; i < count; i++) {
        if (list->C_GetTokenInfo(slots[i], &info) == CKR_OK &&
            memcmp(info.label, TOKEN, strlen(TOKEN)) == 0)
            return slots[i];
    }
    bench_check(0, "finding the token");
    return 0;
}

/* The module is loaded and logged in already: this only asks it for more sessions. */
static void
raw_open(struct raw *raw, unsigned sessions)
{
    void *module = dlopen(softhsm_module(), RTLD_NOW);
    CK_C_GetFunctionList get = NULL;
    CK_OBJECT_CLASS private_key = CKO_PRIVATE_KEY;
    char label[] = "signer";
    CK_ATTRIBUTE template[] = {{CKA_CLASS, &private_key, sizeof(private_key)},
                               {CKA_LABEL, label, strlen(label)}};
    CK_ULONG found = 0;

    if (module != NULL)
        *(void **)&get = dlsym(module, "C_GetFunctionList");
    bench_check(get != NULL && get(&raw->list) == CKR_OK, "C_GetFunctionList");
    raw->slot = slot_of_token(raw->list);
    for (unsigned i = 0; i < sessions; i++)
        bench_check(raw->list->C_OpenSession(raw->slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL,
                                             NULL, &raw->sessions[i]) == CKR_OK,
                    "C_OpenSession");
    bench_check(raw->list->C_FindObjectsInit(raw->sessions[0], template, 2) == CKR_OK &&
                    raw->list->C_FindObjects(raw->sessions[0], &raw->key, 1, &found) == CKR_OK &&
                    raw->list->C_FindObjectsFinal(raw->sessions[0]) == CKR_OK && found == 1,
                "C_FindObjects");
}

static void
raw_close(struct raw *raw, unsigned sessions)
{
    for (unsigned i = 0; i < sessions; i++)
        (void)raw->list->C_CloseSession(raw->sessions[i]);
}

static const char *
route_name(enum hsm_route route)
{
    return route == HSM_ROUTE_DIRECT ? "direct" : "libp11";
}

static void
make_key(void)
{
    struct hsm_key *key = NULL;
    struct hsm_token *token = open_token(HSM_ROUTE_DIRECT, 1, &key);

    hsm_key_free(key);
    hsm_token_close(token);
}

/* ---- rows ---- */

static void
progress(const char *name, size_t round)
{
    fprintf(stderr, "\r%-8s %-60s %zu/%d%s", "hsm", name, round + 1, ROUNDS,
            round + 1 == ROUNDS ? "\n" : "");
}

static void
ratio_to_raw(const char *what, enum hsm_route route, unsigned threads, size_t times_each,
             bool digest_only, double at_least)
{
    struct hsm_key *key = NULL;
    struct hsm_token *token = open_token(route, threads, &key);
    struct raw raw = {0};
    struct callers ours = {.count = threads, .key = key, .digest_only = digest_only};
    struct callers theirs = {.count = threads, .raw = &raw};
    double ratios[ROUNDS];
    char name[96];

    raw_open(&raw, threads);
    snprintf(name, sizeof(name), "%s, %s, %u in flight / raw", what, route_name(route), threads);
    (void)run_callers(&ours, times_each / 4 + 1);
    (void)run_callers(&theirs, times_each / 4 + 1);
    for (size_t i = 0; i < ROUNDS; i++) {
        double our_us = run_callers(&ours, times_each);

        ratios[i] = run_callers(&theirs, times_each) / our_us;
        progress(name, i);
    }
    bench_at_least("hsm", name, "ratio", at_least, ratios, ROUNDS);
    raw_close(&raw, threads);
    hsm_key_free(key);
    hsm_token_close(token);
}

static int
by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* 64 callers wait for 16 sessions of a token that takes 1 ms: fair is 4 ms for everybody. */
static void
fairness(enum hsm_route route)
{
    enum {
        EACH = 100,
        CALLS = 64 * EACH
    };
    struct hsm_key *key = NULL;
    struct hsm_token *token = open_token(route, 16, &key);
    static double latencies[CALLS];
    struct callers callers = {
        .count = 64, .key = key, .digest_only = true, .latencies_us = latencies};
    double p99[ROUNDS];
    char name[96];

    for (size_t i = 0; i < ROUNDS; i++) {
        (void)run_callers(&callers, EACH);
        qsort(latencies, CALLS, sizeof(latencies[0]), by_value);
        p99[i] = latencies[CALLS * 99 / 100] / 4000;
    }
    snprintf(name, sizeof(name), "64 callers on 16 sessions, %s, p99 / (4 x latency)",
             route_name(route));
    bench_at_most("hsm", name, "ratio", 1.3, p99, ROUNDS);
    hsm_key_free(key);
    hsm_token_close(token);
}

/* The token answers at once, so what is more than raw is the layer's. */
static void
own_cost(enum hsm_route route, double at_most_us)
{
    enum {
        CALLS = 50000
    };
    struct hsm_key *key = NULL;
    struct hsm_token *token = open_token(route, 4, &key);
    struct raw raw = {0};
    struct callers ours = {.count = 1, .key = key, .digest_only = true};
    struct callers theirs = {.count = 1, .raw = &raw};
    double costs[ROUNDS];
    char name[96];

    raw_open(&raw, 1);
    (void)run_callers(&ours, CALLS / 10);
    for (size_t i = 0; i < ROUNDS; i++) {
        double our_us = run_callers(&ours, CALLS);

        costs[i] = (our_us - run_callers(&theirs, CALLS)) / CALLS;
    }
    snprintf(name, sizeof(name), "own cost of a signature, %s", route_name(route));
    bench_at_most("hsm", name, "us", at_most_us, costs, ROUNDS);
    raw_close(&raw, 1);
    hsm_key_free(key);
    hsm_token_close(token);
}

struct verification {
    struct hsm_key *key;
    uint8_t sig[HSM_P256_SIG_LEN];
    uint8_t der[HSM_P256_DER_SIG_MAX];
    size_t der_len;
    uint8_t digest[HSM_SHA256_LEN];
};

static void
verify_message(void *context, size_t times)
{
    struct verification *v = context;

    while (times-- > 0)
        bench_check(hsm_es256_verify(hsm_key_public(v->key), message, sizeof(message), v->sig,
                                     sizeof(v->sig)) == HSM_OK,
                    "hsm_es256_verify");
}

static void
raw_verify(void *context, size_t times)
{
    struct verification *v = context;

    while (times-- > 0) {
        EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(hsm_key_public(v->key), NULL);

        bench_check(ctx != NULL && EVP_PKEY_verify_init(ctx) == 1 &&
                        EVP_PKEY_verify(ctx, v->der, v->der_len, v->digest, sizeof(v->digest)) == 1,
                    "EVP_PKEY_verify");
        EVP_PKEY_CTX_free(ctx);
    }
}

static void
verification(void)
{
    struct hsm_key *key = NULL;
    struct hsm_token *token = open_token(HSM_ROUTE_LIBP11, 1, &key);
    struct verification v = {.key = key};

    bench_check(hsm_key_sign(key, message, sizeof(message), v.sig) == HSM_OK &&
                    hsm_es256_to_der(v.sig, v.der, &v.der_len) == HSM_OK &&
                    EVP_Digest(message, sizeof(message), v.digest, NULL, EVP_sha256(), NULL) == 1,
                "a signature to verify");
    bench_ratio("hsm", "hsm_es256_verify of 300 octets / raw P-256 verify", 0.90,
                (struct bench_side){verify_message, &v}, (struct bench_side){raw_verify, &v});
    hsm_key_free(key);
    hsm_token_close(token);
}

/* ---- processes ---- */

#define PROCESSES  4
#define PROCESS_MS 500

/* A worker process: opens, says so, signs while it may, says how often. */
static void
worker_process(int go, int out)
{
    struct hsm_key *key = NULL;
    struct hsm_token *token = open_token(HSM_ROUTE_LIBP11, 2, &key);
    struct callers one = {.count = 1, .key = key};
    double calls = 0, begin;
    char octet = 1;

    (void)run_callers(&one, 10);
    bench_check(write(out, &octet, 1) == 1 && read(go, &octet, 1) == 1, "a pipe");
    begin = now_us();
    while (now_us() - begin < PROCESS_MS * 1e3) {
        (void)run_callers(&one, 100);
        calls += 100;
    }
    calls = calls / (now_us() - begin) * 1e6;
    bench_check(write(out, &calls, sizeof(calls)) == sizeof(calls), "a pipe");
    hsm_key_free(key);
    hsm_token_close(token);
    _exit(0);
}

/* Signatures a second of all of them. */
static double
rate_of_processes(void)
{
    int go[2], out[2];
    double sum = 0, one;
    char octets[PROCESSES] = {0};

    bench_check(pipe(go) == 0 && pipe(out) == 0, "a pipe");
    for (int i = 0; i < PROCESSES; i++) {
        pid_t child = fork();

        bench_check(child >= 0, "fork");
        if (child == 0)
            worker_process(go[0], out[1]);
    }
    for (int i = 0; i < PROCESSES; i++)
        bench_check(read(out[0], octets, 1) == 1, "a worker process");
    bench_check(write(go[1], octets, PROCESSES) == PROCESSES, "a pipe");
    for (int i = 0; i < PROCESSES; i++) {
        bench_check(read(out[0], &one, sizeof(one)) == sizeof(one), "a worker process");
        sum += one;
    }
    for (int i = 0; i < PROCESSES; i++)
        bench_check(wait(NULL) > 0, "wait");
    close(go[0]);
    close(go[1]);
    close(out[0]);
    close(out[1]);
    return sum;
}

/* In a process of its own, too: nobody forks with a token open. */
static double
rate_of_raw_threads(void)
{
    int out[2];
    double rate = 0;
    pid_t child;

    bench_check(pipe(out) == 0, "a pipe");
    child = fork();
    bench_check(child >= 0, "fork");
    if (child == 0) {
        struct hsm_key *key = NULL;
        struct raw raw = {0};
        struct callers four = {.count = 4, .raw = &raw};

        (void)open_token(HSM_ROUTE_DIRECT, 1, &key);
        raw_open(&raw, 4);
        (void)run_callers(&four, 100);
        rate = 4 * 2000 / run_callers(&four, 2000) * 1e6;
        bench_check(write(out[1], &rate, sizeof(rate)) == sizeof(rate), "a pipe");
        _exit(0);
    }
    bench_check(read(out[0], &rate, sizeof(rate)) == sizeof(rate) && wait(NULL) > 0, "raw threads");
    close(out[0]);
    close(out[1]);
    return rate;
}

static void
processes(void)
{
    double ratios[ROUNDS];

    for (size_t i = 0; i < ROUNDS; i++)
        ratios[i] = rate_of_processes() / rate_of_raw_threads();
    bench_at_least("hsm", "4 worker processes / raw C_Sign of 4 threads in one", "ratio", 2.0,
                   ratios, ROUNDS);
}

/* ---- many keys ---- */

#define MANY 10000

/* Key pairs of another program, as fast as the token makes them. */
static void
fill(const struct raw *raw, unsigned count)
{
    static CK_BYTE p256[] = {0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07};
    CK_MECHANISM mechanism = {CKM_EC_KEY_PAIR_GEN, NULL, 0};
    CK_BBOOL yes = CK_TRUE;

    for (unsigned i = 0; i < count; i++) {
        CK_ATTRIBUTE public[] = {{CKA_TOKEN, &yes, sizeof(yes)},
                                 {CKA_EC_PARAMS, p256, sizeof(p256)},
                                 {CKA_ID, &i, sizeof(i)}};
        CK_ATTRIBUTE private[] = {{CKA_TOKEN, &yes, sizeof(yes)},
                                  {CKA_PRIVATE, &yes, sizeof(yes)},
                                  {CKA_ID, &i, sizeof(i)}};
        CK_OBJECT_HANDLE a, b;

        bench_check(raw->list->C_GenerateKeyPair(raw->sessions[0], &mechanism, public, 3, private,
                                                 3, &a, &b) == CKR_OK,
                    "C_GenerateKeyPair");
        if (i % 100 == 99)
            fprintf(stderr, "\r%-8s %u keys", "hsm", i + 1);
    }
    fputc('\n', stderr);
}

static void
fill_token(void)
{
    struct hsm_key *key = NULL;
    struct hsm_token *token = open_token(HSM_ROUTE_DIRECT, 1, &key);
    struct raw raw = {0};

    raw_open(&raw, 1);
    fill(&raw, MANY);
    raw_close(&raw, 1);
    hsm_key_free(key);
    hsm_token_close(token);
}

static void
find_by_id(const char *uri)
{
    struct hsm_token_config config = {.uri = "pkcs11:token=" TOKEN, .module = softhsm_module()};
    struct hsm_token *token = NULL;
    struct hsm_key *key = NULL;
    struct hsm_secret *pin = NULL;

    bench_check(hsm_secret_new(SOFTHSM_USER_PIN, strlen(SOFTHSM_USER_PIN), &pin) == HSM_OK, "PIN");
    config.pin = pin;
    bench_check(hsm_token_open(&config, &token) == HSM_OK &&
                    hsm_key_find(token, uri, &key) == HSM_OK,
                "hsm_key_find");
    hsm_secret_free(pin);
    hsm_key_free(key);
    hsm_token_close(token);
}

static void
raw_find_by_id(CK_BYTE *id, size_t id_len)
{
    void *module = dlopen(softhsm_module(), RTLD_NOW);
    CK_C_GetFunctionList get = NULL;
    CK_FUNCTION_LIST *list = NULL;
    CK_C_INITIALIZE_ARGS args = {.flags = CKF_OS_LOCKING_OK};
    CK_ATTRIBUTE wanted = {CKA_ID, id, id_len};
    CK_UTF8CHAR pin[] = SOFTHSM_USER_PIN;
    CK_SESSION_HANDLE session;
    CK_OBJECT_HANDLE objects[4];
    CK_ULONG found = 0;

    if (module != NULL)
        *(void **)&get = dlsym(module, "C_GetFunctionList");
    bench_check(get != NULL && get(&list) == CKR_OK && list->C_Initialize(&args) == CKR_OK &&
                    list->C_OpenSession(slot_of_token(list), CKF_SERIAL_SESSION | CKF_RW_SESSION,
                                        NULL, NULL, &session) == CKR_OK &&
                    list->C_Login(session, CKU_USER, pin, sizeof(pin) - 1) == CKR_OK &&
                    list->C_FindObjectsInit(session, &wanted, 1) == CKR_OK &&
                    list->C_FindObjects(session, objects, 4, &found) == CKR_OK && found == 2 &&
                    list->C_FindObjectsFinal(session) == CKR_OK && list->C_Finalize(NULL) == CKR_OK,
                "a raw search");
}

/* In a process of its own: a module loads its objects once. Microseconds. */
static double
time_of_finding(const char *uri, CK_BYTE *id, size_t id_len)
{
    double begin = now_us();
    int status = -1;
    pid_t child = fork();

    bench_check(child >= 0, "fork");
    if (child == 0) {
        if (uri != NULL)
            find_by_id(uri);
        else
            raw_find_by_id(id, id_len);
        _exit(0);
    }
    bench_check(waitpid(child, &status, 0) == child && status == 0, "a search");
    return now_us() - begin;
}

/* The module itself takes longer with more keys: what the layer adds is what it is judged by. */
static void
many_keys(void)
{
    char uri[3 * HSM_ID_MAX + 16] = "pkcs11:id=";
    CK_BYTE id[HSM_ID_MAX];
    size_t id_len = 0;
    double ratios[ROUNDS];
    const char *hex;
    struct hsm_key *key = NULL;
    struct hsm_token *token = open_token(HSM_ROUTE_DIRECT, 1, &key);

    for (hex = hsm_key_id(key); hex[0] != '\0'; hex += 2) {
        char digits[3] = {hex[0], hex[1], '\0'};

        id[id_len++] = (CK_BYTE)strtoul(digits, NULL, 16);
        snprintf(uri + strlen(uri), sizeof(uri) - strlen(uri), "%%%s", digits);
    }
    hsm_key_free(key);
    hsm_token_close(token);
    fill_token();
    for (size_t i = 0; i < ROUNDS; i++) {
        double ours = time_of_finding(uri, NULL, 0);

        ratios[i] = ours / time_of_finding(NULL, id, id_len);
        progress("10,000 keys: open and find one by id / raw", i);
    }
    bench_at_most("hsm", "10,000 keys: open and find one by id, time / raw", "ratio", 2.0, ratios,
                  ROUNDS);
    for (size_t r = 0; r < 2; r++)
        ratio_to_raw("10,000 keys on the token", (enum hsm_route)r, 1, 1000, false, 0.90);
}

int
main(void)
{
    static const enum hsm_route routes[] = {HSM_ROUTE_LIBP11, HSM_ROUTE_DIRECT};
    static const unsigned in_flight[] = {16, 64, 128};

    bench_check(EVP_Digest(message, sizeof(message), digest, NULL, EVP_sha256(), NULL) == 1,
                "SHA-256");
    if (getenv("TMPDIR") == NULL && access("/dev/shm", W_OK) == 0)
        (void)setenv("TMPDIR", "/dev/shm", 1); /* no row is about a disk */
    softhsm_start();
    hsm_token_close(softhsm_token(TOKEN));
    make_key();
    processes();
    for (size_t r = 0; r < 2; r++) {
        ratio_to_raw("hsm_key_sign of 300 octets", routes[r], 1, 2000, false, 0.95);
        ratio_to_raw("hsm_key_sign of 300 octets", routes[r], 4, 1000, false, 0.95);
    }
    verification();
    bench_journal();
    fault_open();
    fault("fake replay");
    for (size_t r = 0; r < 2; r++)
        own_cost(routes[r], routes[r] == HSM_ROUTE_DIRECT ? 1.0 : 2.5);
    fault("latency C_Sign 1ms");
    for (size_t r = 0; r < 2; r++) {
        for (size_t i = 0; i < 3; i++)
            ratio_to_raw("a token of 1 ms", routes[r], in_flight[i], 150, true, 0.97);
        fairness(routes[r]);
    }
    fault("reset");
    many_keys();
    softhsm_stop();
    return 0;
}
