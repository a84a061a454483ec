/* bench_hsm.c - the cost of the layer compared with the token's own C_Sign. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/wait.h>

#include <openssl/evp.h>

#include <hsm/es256.h>
#include <hsm/key.h>

#include "bench.h"
#include "bench_callers.h"
#include "bench_journal.h"
#include "bench_processes.h"
#include "bench_raw.h"
#include "fault_client.h"
#include "softhsm.h"

#define ROUNDS 7
#define TURNS  20 /* of ours and raw in one round, so that both run under the same conditions */

static const uint8_t message[300];

/* ---- tokens ---- */

static struct hsm_token *
open_token(enum hsm_route route, unsigned sessions, struct hsm_key **key)
{
    return bench_open(softhsm_module(), route, sessions, key);
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

static int
by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Time of raw divided by time of ours: the median over short turns, in which other programs affect
 * both sides alike or cause outliers. The sides alternate in going first. */
static double
one_round(struct bench_callers *ours, struct bench_callers *theirs, size_t times_each)
{
    double ratios[TURNS];

    for (size_t turn = 0; turn < TURNS; turn++) {
        bool ours_first = turn % 2 == 0;
        double first = bench_callers_run(ours_first ? ours : theirs, times_each / TURNS);
        double second = bench_callers_run(ours_first ? theirs : ours, times_each / TURNS);

        ratios[turn] = ours_first ? second / first : first / second;
    }
    qsort(ratios, TURNS, sizeof(ratios[0]), by_value);
    return (ratios[TURNS / 2 - 1] + ratios[TURNS / 2]) / 2;
}

static void
ratio_to_raw(const char *what, enum hsm_route route, unsigned threads, size_t times_each,
             bool digest_only, double at_least)
{
    struct hsm_key *key = NULL;
    struct hsm_token *token = open_token(route, threads, &key);
    struct bench_raw raw = {0};
    struct bench_callers ours = {.count = threads, .key = key, .digest_only = digest_only};
    struct bench_callers theirs = {.count = threads, .raw = &raw};
    double ratios[ROUNDS];
    char name[96];

    bench_raw_open(&raw, BENCH_TOKEN, threads);
    snprintf(name, sizeof(name), "%s, %s, %u in flight / raw", what, route_name(route), threads);
    (void)bench_callers_run(&ours, times_each / 4 + 1);
    (void)bench_callers_run(&theirs, times_each / 4 + 1);
    for (size_t i = 0; i < ROUNDS; i++) {
        ratios[i] = one_round(&ours, &theirs, times_each);
        progress(name, i);
    }
    bench_at_least("hsm", name, "ratio", at_least, ratios, ROUNDS);
    bench_raw_close(&raw, threads);
    hsm_key_free(key);
    hsm_token_close(token);
}

/* 64 callers share 16 sessions. If that is fair, each caller waits four times as long as a call
 * takes without waiting, which is measured raw at the same time. */
static void
fairness(enum hsm_route route)
{
    enum {
        EACH = 100,
        SESSIONS = 16,
        CALLS = 64 * EACH
    };
    struct hsm_key *key = NULL;
    struct hsm_token *token = open_token(route, SESSIONS, &key);
    static double latencies[CALLS];
    struct bench_raw raw = {0};
    struct bench_callers callers = {
        .count = 64, .key = key, .digest_only = true, .latencies_us = latencies};
    struct bench_callers theirs = {.count = SESSIONS, .raw = &raw, .latencies_us = latencies};
    double p99[ROUNDS];
    char name[96];

    bench_raw_open(&raw, BENCH_TOKEN, SESSIONS);
    for (size_t i = 0; i < ROUNDS; i++) {
        (void)bench_callers_run(&callers, EACH);
        qsort(latencies, CALLS, sizeof(latencies[0]), by_value);
        p99[i] = latencies[CALLS * 99 / 100];
        (void)bench_callers_run(&theirs, EACH * 4);
        qsort(latencies, CALLS, sizeof(latencies[0]), by_value);
        p99[i] /= 4 * latencies[CALLS / 2];
    }
    snprintf(name, sizeof(name), "64 callers on 16 sessions, %s, p99 / (4 x latency)",
             route_name(route));
    bench_at_most("hsm", name, "ratio", 1.3, p99, ROUNDS);
    bench_raw_close(&raw, SESSIONS);
    hsm_key_free(key);
    hsm_token_close(token);
}

/* Processor time per call of one caller in this thread; wall-clock time would include other
 * programs. */
static double
processor_us(const struct bench_callers *callers, size_t times)
{
    struct timespec begin, end;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &begin);
    for (size_t i = 0; i < times; i++)
        bench_callers_call(callers, 0);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
    return (double)(end.tv_sec - begin.tv_sec) * 1e6 + (double)(end.tv_nsec - begin.tv_nsec) / 1e3;
}

/* The token answers at once, so the excess over raw is the layer's cost. */
static void
own_cost(enum hsm_route route, double at_most_us)
{
    enum {
        CALLS = 2500
    };
    struct hsm_key *key = NULL;
    struct hsm_token *token = open_token(route, 4, &key);
    struct bench_raw raw = {0};
    struct bench_callers ours = {.key = key, .digest_only = true};
    struct bench_callers theirs = {.raw = &raw};
    double costs[ROUNDS];
    char name[96];

    bench_raw_open(&raw, BENCH_TOKEN, 1);
    (void)processor_us(&ours, CALLS);
    for (size_t i = 0; i < ROUNDS; i++) {
        double turns[TURNS];

        for (size_t turn = 0; turn < TURNS; turn++) {
            double our_us = processor_us(&ours, CALLS);

            turns[turn] = (our_us - processor_us(&theirs, CALLS)) / CALLS;
        }
        qsort(turns, TURNS, sizeof(turns[0]), by_value);
        costs[i] = turns[TURNS / 2];
    }
    snprintf(name, sizeof(name), "own cost of a signature, %s", route_name(route));
    bench_at_most("hsm", name, "us", at_most_us, costs, ROUNDS);
    bench_raw_close(&raw, 1);
    hsm_key_free(key);
    hsm_token_close(token);
}

/* Allocations of this thread, counted by our own malloc() etc., which call the C library's
 * functions. */
static _Thread_local unsigned long allocated;

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);

void *
malloc(size_t size)
{
    allocated++;
    return __libc_malloc(size);
}

void *
calloc(size_t count, size_t size)
{
    allocated++;
    return __libc_calloc(count, size);
}

void *
realloc(void *old, size_t size)
{
    allocated++;
    return __libc_realloc(old, size);
}

/* The token answers at once and allocates nothing, so all allocations are the layer's. */
static void
allocations(void)
{
    enum {
        CALLS = 10000
    };
    struct hsm_key *key = NULL;
    struct hsm_token *token = open_token(HSM_ROUTE_DIRECT, 4, &key);
    struct bench_callers ours = {.key = key, .digest_only = true};
    double counts[ROUNDS];

    bench_callers_call(&ours, 0); /* the first call opens the session */
    for (size_t i = 0; i < ROUNDS; i++) {
        unsigned long before = allocated;

        for (size_t n = 0; n < CALLS; n++)
            bench_callers_call(&ours, 0);
        counts[i] = (double)(allocated - before) / CALLS;
    }
    bench_at_most("hsm", "allocations of a signature, direct", "calls of malloc", 0, counts,
                  ROUNDS);
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

/* ---- many keys ---- */

#define FEW  10
#define MANY 10000

/* Key pairs as another program makes them, at the token's full speed. */
static void
fill(const struct bench_raw *raw, unsigned from, unsigned until)
{
    static CK_BYTE p256[] = {0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07};
    CK_MECHANISM mechanism = {CKM_EC_KEY_PAIR_GEN, NULL, 0};
    CK_BBOOL yes = CK_TRUE;

    for (unsigned i = from; i < until; i++) {
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
fill_token(unsigned from, unsigned until)
{
    struct hsm_key *key = NULL;
    struct hsm_token *token = open_token(HSM_ROUTE_DIRECT, 1, &key);
    struct bench_raw raw = {0};

    bench_raw_open(&raw, BENCH_TOKEN, 1);
    fill(&raw, from, until);
    bench_raw_close(&raw, 1);
    hsm_key_free(key);
    hsm_token_close(token);
}

static void
find_by_id(const char *uri)
{
    struct hsm_token_config config = {.uri = "pkcs11:token=" BENCH_TOKEN,
                                      .module = softhsm_module()};
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
    CK_FUNCTION_LIST *list = bench_raw_functions();
    CK_C_INITIALIZE_ARGS args = {.flags = CKF_OS_LOCKING_OK};
    CK_ATTRIBUTE wanted = {CKA_ID, id, id_len};
    CK_UTF8CHAR pin[] = SOFTHSM_USER_PIN;
    CK_SESSION_HANDLE session;
    CK_OBJECT_HANDLE objects[4];
    CK_ULONG found = 0;

    bench_check(list->C_Initialize(&args) == CKR_OK &&
                    list->C_OpenSession(bench_raw_slot(list, BENCH_TOKEN),
                                        CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL,
                                        &session) == CKR_OK &&
                    list->C_Login(session, CKU_USER, pin, sizeof(pin) - 1) == CKR_OK &&
                    list->C_FindObjectsInit(session, &wanted, 1) == CKR_OK &&
                    list->C_FindObjects(session, objects, 4, &found) == CKR_OK && found == 2 &&
                    list->C_FindObjectsFinal(session) == CKR_OK && list->C_Finalize(NULL) == CKR_OK,
                "a raw search");
}

/* Microseconds. In a separate process, as a module loads its objects only once. */
static double
time_of_finding(const char *uri, CK_BYTE *id, size_t id_len)
{
    double begin = bench_now_us();
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
    return bench_now_us() - begin;
}

/* The module itself is slower with more keys, so the criterion is what the layer adds. */
static void
many_keys(void)
{
    char uri[3 * HSM_ID_MAX + 16] = "pkcs11:id=";
    CK_BYTE id[HSM_ID_MAX];
    size_t id_len = 0;
    double ratios[ROUNDS], growths[ROUNDS], few_ours[ROUNDS], few_raw[ROUNDS];
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
    fill_token(0, FEW);
    for (size_t i = 0; i < ROUNDS; i++) {
        few_ours[i] = time_of_finding(uri, NULL, 0);
        few_raw[i] = time_of_finding(NULL, id, id_len);
    }
    fill_token(FEW, MANY);
    for (size_t i = 0; i < ROUNDS; i++) {
        double ours = time_of_finding(uri, NULL, 0), theirs = time_of_finding(NULL, id, id_len);

        ratios[i] = ours / theirs;
        growths[i] = (ours / few_ours[i]) / (theirs / few_raw[i]);
        progress("10,000 keys: open and find one by id", i);
    }
    bench_at_most("hsm", "10,000 keys: open and find one by id, time / raw", "ratio", 2.0, ratios,
                  ROUNDS);
    bench_at_most("hsm", "the same, how much longer than with 10 keys / raw", "ratio", 2.0, growths,
                  ROUNDS);
    for (size_t r = 0; r < 2; r++)
        ratio_to_raw("10,000 keys on the token", (enum hsm_route)r, 1, 1000, false, 0.90);
}

/* ---- main ---- */

static void
in_process(void)
{
    for (size_t r = 0; r < 2; r++) {
        ratio_to_raw("hsm_key_sign of 300 octets", (enum hsm_route)r, 1, 4000, false, 0.95);
        ratio_to_raw("hsm_key_sign of 300 octets", (enum hsm_route)r, 4, 2000, false, 0.95);
    }
    verification();
}

static void
at_once(void)
{
    fault("fake replay");
    own_cost(HSM_ROUTE_LIBP11, 2.5);
    own_cost(HSM_ROUTE_DIRECT, 1.0);
    allocations();
    fault("reset");
}

/* calls per caller: a turn is long compared with its start, when all calls arrive at once */
#define AT_A_DISTANCE 1200

static void
at_a_distance(void)
{
    static const unsigned in_flight[] = {16, 64, 128};

    fault("fake replay\nlatency C_Sign 1ms");
    for (size_t r = 0; r < 2; r++) {
        for (size_t i = 0; i < 3; i++)
            ratio_to_raw("a token of 1 ms", (enum hsm_route)r, in_flight[i], AT_A_DISTANCE, true,
                         0.97);
        fairness((enum hsm_route)r);
    }
    fault("reset");
}

/* Parts with the fault module run after those without it. */
static const struct part {
    const char *name;
    void (*run)(void);
    bool with_faults;
} parts[] = {
    {"processes", bench_processes, false},
    {"remote", bench_remote_processes, false},
    {"in-process", in_process, false},
    {"journal", bench_journal, false},
    {"at-once", at_once, true},
    {"distance", at_a_distance, true},
    {"many", many_keys, true},
};

/* bench_hsm [PART ...] */
int
main(int argc, char **argv)
{
    bool with_faults = false;

    if (getenv("TMPDIR") == NULL && access("/dev/shm", W_OK) == 0)
        (void)setenv("TMPDIR", "/dev/shm", 1); /* no row measures a disk */
    softhsm_start();
    hsm_token_close(softhsm_token(BENCH_TOKEN));
    make_key();
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        if (!bench_is_wanted(parts[i].name, argc, argv))
            continue;
        if (parts[i].with_faults && !with_faults)
            fault_open();
        with_faults |= parts[i].with_faults;
        parts[i].run();
    }
    softhsm_stop();
    return bench_status(argc, argv);
}
