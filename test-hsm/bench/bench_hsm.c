/* bench_hsm.c - what the layer costs beside the token's own C_Sign. */
#define _GNU_SOURCE /* sched_setaffinity */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/resource.h>
#include <sys/wait.h>

#include <openssl/evp.h>

#include <hsm/es256.h>
#include <hsm/key.h>

#include "bench.h"
#include "bench_journal.h"
#include "bench_raw.h"
#include "fault_client.h"
#include "softhsm.h"

#define THREADS_MAX BENCH_RAW_SESSIONS_MAX
#define TOKEN       "bench"
#define ROUNDS      7
#define NEVER       1000000000 /* verify_every: the cost of a verification is no cost of the layer */
#define TURNS       20 /* of ours and raw in one round, so that both meet the same machine */

static const uint8_t message[300] = "a PASSporT's signing input has about this many octets";
static uint8_t digest[HSM_SHA256_LEN];

/* Callers on threads of their own, ours or raw. */
struct callers {
    unsigned count;
    struct hsm_key *key; /* NULL: raw */
    const struct bench_raw *raw;
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

static void
one_call(const struct caller *caller)
{
    const struct callers *all = caller->all;
    uint8_t sig[HSM_P256_SIG_LEN];

    if (all->key == NULL)
        bench_raw_sign(all->raw, caller->index);
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

    one_call(caller); /* a service's threads are not new: what the first call makes is there */
    pthread_barrier_wait(&caller->all->ready);
    for (size_t i = 0; i < caller->times; i++) {
        double begin = caller->latencies_us != NULL ? bench_now_us() : 0;

        one_call(caller);
        if (caller->latencies_us != NULL)
            caller->latencies_us[i] = bench_now_us() - begin;
    }
    pthread_barrier_wait(&caller->all->ready);
    return NULL;
}

/* Microseconds from when all are ready until the last one is; to start them does not count. */
static double
run_callers(struct callers *all, size_t times_each)
{
    struct caller callers[THREADS_MAX];
    pthread_t threads[THREADS_MAX];
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

static struct hsm_token *
open_token_of(const char *module, enum hsm_route route, unsigned sessions, struct hsm_key **key)
{
    struct hsm_token_config config = {.uri = "pkcs11:token=" TOKEN,
                                      .module = module,
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

static struct hsm_token *
open_token(enum hsm_route route, unsigned sessions, struct hsm_key **key)
{
    return open_token_of(softhsm_module(), route, sessions, key);
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

/* Time of raw by time of ours: the median of short turns, in which other programs of the machine
 * hinder both alike or are seen; whose turn is first changes. */
static double
one_round(struct callers *ours, struct callers *theirs, size_t times_each)
{
    double ratios[TURNS];

    for (size_t turn = 0; turn < TURNS; turn++) {
        bool ours_first = turn % 2 == 0;
        double first = run_callers(ours_first ? ours : theirs, times_each / TURNS);
        double second = run_callers(ours_first ? theirs : ours, times_each / TURNS);

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
    struct callers ours = {.count = threads, .key = key, .digest_only = digest_only};
    struct callers theirs = {.count = threads, .raw = &raw};
    double ratios[ROUNDS];
    char name[96];

    bench_raw_open(&raw, TOKEN, threads);
    snprintf(name, sizeof(name), "%s, %s, %u in flight / raw", what, route_name(route), threads);
    (void)run_callers(&ours, times_each / 4 + 1);
    (void)run_callers(&theirs, times_each / 4 + 1);
    for (size_t i = 0; i < ROUNDS; i++) {
        ratios[i] = one_round(&ours, &theirs, times_each);
        progress(name, i);
    }
    bench_at_least("hsm", name, "ratio", at_least, ratios, ROUNDS);
    bench_raw_close(&raw, threads);
    hsm_key_free(key);
    hsm_token_close(token);
}

/* 64 callers wait for 16 sessions: fair is four times as long for everybody as a call takes whose
 * caller does not wait, which is measured beside it, raw. */
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
    struct callers callers = {
        .count = 64, .key = key, .digest_only = true, .latencies_us = latencies};
    struct callers theirs = {.count = SESSIONS, .raw = &raw, .latencies_us = latencies};
    double p99[ROUNDS];
    char name[96];

    bench_raw_open(&raw, TOKEN, SESSIONS);
    for (size_t i = 0; i < ROUNDS; i++) {
        (void)run_callers(&callers, EACH);
        qsort(latencies, CALLS, sizeof(latencies[0]), by_value);
        p99[i] = latencies[CALLS * 99 / 100];
        (void)run_callers(&theirs, EACH * 4);
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

/* Of one caller in this thread; the processor's time, because others want the processor, too. */
static double
processor_us(const struct caller *caller, size_t times)
{
    struct timespec begin, end;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &begin);
    for (size_t i = 0; i < times; i++)
        one_call(caller);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
    return (double)(end.tv_sec - begin.tv_sec) * 1e6 + (double)(end.tv_nsec - begin.tv_nsec) / 1e3;
}

/* The token answers at once, so what is more than raw is the layer's. */
static void
own_cost(enum hsm_route route, double at_most_us)
{
    enum {
        CALLS = 2500
    };
    struct hsm_key *key = NULL;
    struct hsm_token *token = open_token(route, 4, &key);
    struct bench_raw raw = {0};
    struct callers ours = {.key = key, .digest_only = true};
    struct callers theirs = {.raw = &raw};
    const struct caller our_caller = {.all = &ours}, raw_caller = {.all = &theirs};
    double costs[ROUNDS];
    char name[96];

    bench_raw_open(&raw, TOKEN, 1);
    (void)processor_us(&our_caller, CALLS);
    for (size_t i = 0; i < ROUNDS; i++) {
        double turns[TURNS];

        for (size_t turn = 0; turn < TURNS; turn++) {
            double our_us = processor_us(&our_caller, CALLS);

            turns[turn] = (our_us - processor_us(&raw_caller, CALLS)) / CALLS;
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

/* Of this thread; malloc() and its like are ours, in front of the C library's. */
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

/* The token answers at once and allocates nothing, so what is allocated is the layer's. */
static void
allocations(void)
{
    enum {
        CALLS = 10000
    };
    struct hsm_key *key = NULL;
    struct hsm_token *token = open_token(HSM_ROUTE_DIRECT, 4, &key);
    struct callers ours = {.key = key, .digest_only = true};
    const struct caller caller = {.all = &ours};
    double counts[ROUNDS];

    one_call(&caller); /* the first opens its session */
    for (size_t i = 0; i < ROUNDS; i++) {
        unsigned long before = allocated;

        for (size_t n = 0; n < CALLS; n++)
            one_call(&caller);
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

/* ---- processes ---- */

#define PROCESSES  4
#define PROCESS_MS 500
/* A service's connections are not new: they are opened when calls need them. */
#define WARM_MS 250

#define BATCH 400 /* of each caller, between which all wait for the last */

#define REMOTE_PATH_SIZE 128 /* octets, of a server's socket */

/* Signatures a second. */
static double
rate_of_callers(struct callers *callers, unsigned ms)
{
    double calls = 0, begin = bench_now_us();

    while (bench_now_us() - begin < ms * 1e3) {
        (void)run_callers(callers, BATCH);
        calls += BATCH * callers->count;
    }
    return calls / (bench_now_us() - begin) * 1e6;
}

/** Worker processes, all alike. */
struct workers {
    const char *module;
    unsigned callers; /* of each */
    void (*prepare)(unsigned index); /* called in each, first; NULL: nothing to do */
};

/* A worker process: opens, says so, signs while it may, says how often. */
static void
worker_process(const struct workers *workers, int go, int out)
{
    struct hsm_key *key = NULL;
    struct hsm_token *token = open_token_of(workers->module, HSM_ROUTE_LIBP11, 4, &key);
    struct callers one = {.count = workers->callers, .key = key};
    double rate;
    char octet = 1;

    (void)rate_of_callers(&one, WARM_MS);
    bench_check(write(out, &octet, 1) == 1 && read(go, &octet, 1) == 1, "a pipe");
    rate = rate_of_callers(&one, PROCESS_MS);
    bench_check(write(out, &rate, sizeof(rate)) == sizeof(rate), "a pipe");
    hsm_key_free(key);
    hsm_token_close(token);
    _exit(0);
}

/* Signatures a second of all of them. */
static double
rate_of_processes(const struct workers *workers)
{
    int go[2], out[2];
    double sum = 0, one;
    char octets[PROCESSES] = {0};

    bench_check(pipe(go) == 0 && pipe(out) == 0, "a pipe");
    for (unsigned i = 0; i < PROCESSES; i++) {
        pid_t child = fork();

        bench_check(child >= 0, "fork");
        if (child == 0) {
            if (workers->prepare != NULL)
                workers->prepare(i);
            worker_process(workers, go[0], out[1]);
        }
    }
    close(out[1]); /* so that the end of all of them is seen */
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
        struct bench_raw raw = {0};
        struct callers four = {.count = 4, .raw = &raw};

        (void)open_token(HSM_ROUTE_DIRECT, 1, &key);
        bench_raw_open(&raw, TOKEN, 4);
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
processes_row(const char *name, const struct workers *workers, double goal)
{
    double ratios[ROUNDS];

    for (size_t i = 0; i < ROUNDS; i++)
        ratios[i] = rate_of_processes(workers) / rate_of_raw_threads();
    bench_at_least("hsm", name, "ratio", goal, ratios, ROUNDS);
}

static void
processes(void)
{
    const struct workers workers = {.module = softhsm_module(), .callers = 1};

    processes_row("4 worker processes / raw C_Sign of 4 threads in one", &workers, 2.0);
}

/* The one of `index`, counted round, of those that this process may use. */
static void
keep_to_processor(unsigned index)
{
    cpu_set_t all, one;
    int cpu = -1;

    bench_check(sched_getaffinity(0, sizeof(all), &all) == 0, "sched_getaffinity");
    for (unsigned left = index % (unsigned)CPU_COUNT(&all) + 1; left > 0; left--)
        for (cpu++; !CPU_ISSET(cpu, &all);)
            cpu++;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    bench_check(sched_setaffinity(0, sizeof(one), &one) == 0, "sched_setaffinity");
}

static void
path_of_server(char path[REMOTE_PATH_SIZE], unsigned index)
{
    snprintf(path, REMOTE_PATH_SIZE, "%s/p11-kit-%u", softhsm_dir(), index);
}

static void
use_server(unsigned index)
{
    char path[REMOTE_PATH_SIZE], address[REMOTE_PATH_SIZE + 16];

    path_of_server(path, index);
    snprintf(address, sizeof(address), "unix:path=%s", path);
    bench_check(setenv("P11_KIT_SERVER_ADDRESS", address, 1) == 0, "setenv");
}

static void
use_own_server(unsigned index)
{
    keep_to_processor(index);
    use_server(index);
}

/* In a process group of its own, because it forks for every connection. It closes every
 * descriptor that there could be, so the limit is set low. */
static pid_t
server_start(unsigned index, bool is_kept)
{
    char path[REMOTE_PATH_SIZE];
    pid_t child = fork();

    bench_check(child >= 0, "fork");
    path_of_server(path, index);
    if (child == 0) {
        const struct rlimit few = {1024, 1024};

        if (is_kept)
            keep_to_processor(index);
        (void)setpgid(0, 0);
        (void)dup2(STDERR_FILENO, STDOUT_FILENO); /* rows are on that one */
        (void)setrlimit(RLIMIT_NOFILE, &few);
        execlp("p11-kit", "p11-kit", "server", "-f", "-n", path, "--provider", softhsm_module(),
               "pkcs11:token=" TOKEN, (char *)NULL);
        _exit(127);
    }
    (void)setpgid(child, child); /* whoever is first */
    for (int i = 0; i < 500 && access(path, F_OK) != 0; i++)
        usleep(10000);
    bench_check(access(path, F_OK) == 0, "p11-kit server");
    return child;
}

static void
server_end(pid_t server, unsigned index)
{
    char path[REMOTE_PATH_SIZE];

    (void)kill(-server, SIGTERM);
    (void)waitpid(server, NULL, 0);
    path_of_server(path, index);
    (void)unlink(path);
}

/* Each with several connections, and a process of SoftHSM at the other end of each. */
static void
one_server(void)
{
    const struct workers workers = {.module = P11_KIT_CLIENT, .callers = 2};
    pid_t server = server_start(0, false);

    use_server(0);
    processes_row("4 worker processes behind p11-kit server / raw, 4 threads in one", &workers,
                  1.0);
    server_end(server, 0);
}

static void
own_servers(void)
{
    const struct workers workers = {P11_KIT_CLIENT, 1, use_own_server};
    pid_t servers[PROCESSES];

    for (unsigned i = 0; i < PROCESSES; i++)
        servers[i] = server_start(i, true);
    processes_row("the same, each with a server of its own, both on one processor", &workers, 1.0);
    for (unsigned i = 0; i < PROCESSES; i++)
        server_end(servers[i], i);
}

static void
remote_processes(void)
{
    one_server();
    own_servers();
}

/* ---- many keys ---- */

#define FEW  10
#define MANY 10000

/* Key pairs of another program, as fast as the token makes them. */
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

    bench_raw_open(&raw, TOKEN, 1);
    fill(&raw, from, until);
    bench_raw_close(&raw, 1);
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
    CK_FUNCTION_LIST *list = bench_raw_functions();
    CK_C_INITIALIZE_ARGS args = {.flags = CKF_OS_LOCKING_OK};
    CK_ATTRIBUTE wanted = {CKA_ID, id, id_len};
    CK_UTF8CHAR pin[] = SOFTHSM_USER_PIN;
    CK_SESSION_HANDLE session;
    CK_OBJECT_HANDLE objects[4];
    CK_ULONG found = 0;

    bench_check(list->C_Initialize(&args) == CKR_OK &&
                    list->C_OpenSession(bench_raw_slot(list, TOKEN),
                                        CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL,
                                        &session) == CKR_OK &&
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

/* The module itself takes longer with more keys: what the layer adds is what it is judged by. */
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

/* ---- all of it ---- */

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

/* Of each caller: a turn is long beside its beginning, where all calls come at the same time. */
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

/* Those with the fault module in front come after those without. */
static const struct part {
    const char *name;
    void (*run)(void);
    bool with_faults;
} parts[] = {
    {"processes", processes, false},   {"remote", remote_processes, false},
    {"in-process", in_process, false}, {"journal", bench_journal, false},
    {"at-once", at_once, true},        {"distance", at_a_distance, true},
    {"many", many_keys, true},
};

/* bench_hsm [PART ...] */
int
main(int argc, char **argv)
{
    bool with_faults = false;

    bench_check(EVP_Digest(message, sizeof(message), digest, NULL, EVP_sha256(), NULL) == 1,
                "SHA-256");
    if (getenv("TMPDIR") == NULL && access("/dev/shm", W_OK) == 0)
        (void)setenv("TMPDIR", "/dev/shm", 1); /* no row is about a disk */
    softhsm_start();
    hsm_token_close(softhsm_token(TOKEN));
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
    return 0;
}
