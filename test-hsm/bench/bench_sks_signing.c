/* bench_sks_signing.c - POST /stir/v1/signing compared with the token's own C_Sign. */
#define _GNU_SOURCE /* asprintf */
#include "bench_sks_signing.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <openssl/ssl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <netinet/in.h>

#include <hsm/log.h>
#include <sks/service.h>
#include <sks/signers.h>

#include "bench.h"
#include "bench_load.h"
#include "bench_process.h"
#include "bench_raw.h"
#include "bench_signer.h"
#include "ecosystem.h"
#include "fault_client.h"
#include "one_token.h"

#define TOKEN       "all"
#define TOKEN_URI   "pkcs11:token=" TOKEN
#define X5U         "https://cr.example/0123456789abcdef0123456789abcdef.pem"
#define ROUNDS      5
#define WORKERS_MAX 2
#define THREADS     4
#define IN_FLIGHT   64
#define IDLE        1000 /* connections */
#define LATENCIES   50000 /* of a turn */
#define SECONDS     1.0 /* of one side of a round */
#define TURNS       10 /* of each side in a round, alternating, as the speed of the host varies */
#define TURN_S      (SECONDS / TURNS)

static char *path_of_catalogue, *path_of_tls, *path_of_roots;

/* ---- the environment, made once by a separate process ---- */

static void
activate(struct ecosystem *eco)
{
    struct sks_catalogue *catalogue = NULL;
    char *pem = NULL;
    struct sks_credential credential = {
        .state = SKS_PUBLISHED,
        .spc = (char[]){ECO_SPC},
        .token_uri = (char[]){TOKEN_URI},
        .key_uri = (char[]){"pkcs11:object=signer"},
        .x5u = (char[]){X5U},
        .not_after = certs_chain_not_after(eco->sp),
    };

    eco_must(sks_catalogue_open(path_of_catalogue, &catalogue), "catalogue");
    eco_must(certs_chain_pem(eco->sp, &pem), "chain");
    credential.chain_pem = pem;
    eco_must(sks_catalogue_put(catalogue, &credential), "credential");
    eco_must(sks_catalogue_activate(catalogue, credential.id), "credential");
    free(pem);
    sks_catalogue_close(catalogue);
}

static void
make_world(void)
{
    struct ecosystem eco = {.now = time(NULL)};
    pid_t child = fork();

    bench_check(child >= 0, "fork");
    if (child == 0) {
        eco.token = softhsm_token(TOKEN);
        eco_pa_new(&eco);
        eco_ca_new(&eco);
        eco.sp_key = eco_key(&eco, "signer");
        eco.sp = eco_sp_chain(&eco, ECO_SPC, hsm_key_public(eco.sp_key), 0, 0);
        eco_tls_new(&eco);
        eco_must(certs_chain_write(eco.tls, path_of_tls), "TLS chain");
        eco_must(certs_chain_write(eco.roots, path_of_roots), "roots");
        activate(&eco);
        _exit(0);
    }
    bench_check(wait(NULL) == child, "the world");
}

/* ---- servers ---- */

struct served {
    const struct acme_http_listener *listener;
    const char *address;
    bool is_tls;
    unsigned threads; /* 0: sessions and threads as shipped */
    const char *fault; /* of the token; NULL: none */
};

static struct acme_http_listener *local_listener, *remote_listener; /* shared by all servers */
static struct served local;
static const char *path_of_socket;

/* Set up as a worker of sti-sks; never released, because the process ends. */
static struct sks_service *
make_service(struct sks_tokens *tokens)
{
    struct sks_service_config config = {.tokens = tokens, .spc = ECO_SPC};
    struct certs_chain *roots = NULL;
    struct sks_service *service = NULL;

    eco_must(certs_chain_read(path_of_roots, &roots), "roots");
    eco_must(sks_catalogue_open(path_of_catalogue, &config.catalogue), "catalogue");
    eco_must(sks_trust_fixed(roots, NULL, 0, NULL, NULL, &config.trust), "trust");
    eco_must(sks_service_new(&config, &service), "service");
    return service;
}

/* @param sessions  0: as shipped */
static struct sks_tokens *
open_tokens(unsigned sessions)
{
    const struct acme_token_settings direct = {.route = (char[]){"direct"},
                                               .sessions = (long)sessions};
    const struct acme_token_settings shipped = {.route = NULL};

    return one_token(TOKEN_URI, sessions > 0 ? &direct : &shipped);
}

static struct hsm_token *
open_token(unsigned sessions)
{
    return sks_tokens_get(open_tokens(sessions), TOKEN_URI);
}

static void
serve(const struct served *served, int to)
{
    struct acme_http_server_config server = {.address = served->address,
                                             .listener = served->listener};
    struct acme_http_loop *loop = NULL;
    struct certs_chain *chain = NULL;
    struct sks_tokens *tokens;

    if (served->fault != NULL)
        fault_open();
    tokens = open_tokens(served->threads);
    server.handler = sks_service_handler(make_service(tokens));
    if (served->is_tls) {
        eco_must(hsm_key_find(sks_tokens_get(tokens, TOKEN_URI), "pkcs11:object=tls-server",
                              &server.tls_key),
                 "TLS key");
        eco_must(certs_chain_read(path_of_tls, &chain), "TLS chain");
        server.tls_chain = chain;
    }
    eco_must(acme_http_loop_new(served->threads > 0 ? served->threads : sks_tokens_threads(tokens),
                                &loop),
             "loop");
    eco_must(acme_http_loop_listen(loop, &server), "listening");
    if (served->fault != NULL)
        fault("%s", served->fault);
    bench_say(to, "", 1);
    eco_must(acme_http_loop_run(loop), "serving");
    _exit(0);
}

static void
begin_serving(const struct served *served, struct bench_process *out)
{
    char octet;
    int to;

    if (bench_begin(out, &to))
        serve(served, to);
    close(to);
    bench_hear(out, &octet, 1);
}

/* ---- threads ---- */

/** Threads that sign, as raw sessions or as the STI-AS does. */
struct signing_thread {
    const struct bench_raw *raw;
    unsigned session;
    struct sks_signer *signer; /* NULL: raw */
    double count;
};

static void make_passports(void *context, size_t times);

static void *
sign_for_a_while(void *argument)
{
    struct signing_thread *thread = argument;
    double end_us = bench_now_us() + SECONDS * 1e6;

    for (; bench_now_us() < end_us; thread->count++) {
        if (thread->signer == NULL)
            bench_raw_sign(thread->raw, thread->session);
        else
            make_passports(thread->signer, 1);
    }
    return NULL;
}

/* The number of signatures by all threads. */
static double
run_threads(const struct bench_raw *raw, unsigned count, struct sks_signer *signer)
{
    struct signing_thread threads[IN_FLIGHT];
    pthread_t handles[IN_FLIGHT];
    double sum = 0;

    for (unsigned i = 0; i < count; i++) {
        threads[i] = (struct signing_thread){raw, i, signer, 0};
        bench_check(pthread_create(&handles[i], NULL, sign_for_a_while, &threads[i]) == 0,
                    "a thread");
    }
    for (unsigned i = 0; i < count; i++) {
        bench_check(pthread_join(handles[i], NULL) == 0, "a thread");
        sum += threads[i].count;
    }
    return sum;
}

/* ---- the token's own signatures, also in a separate process ---- */

static void
open_for_raw(void)
{
    (void)open_token(1);
}

static void
begin_raw(struct bench_process *out)
{
    bench_signer_begin(open_for_raw, TOKEN, out);
}

/* ---- rows ---- */

static void
make_passports(void *context, size_t times)
{
    static const char *const dest[] = {"12155551213"};
    time_t now = time(NULL);
    struct sks_claims claims = {
        .attest = 'A',
        .orig_tn = "12155551212",
        .dest_tn = dest,
        .dest_tn_count = 1,
        .iat = now,
        .origid = "de305d54-75b4-431b-adb2-eb6b9e546014",
    };

    while (times-- > 0) {
        char *identity = NULL;

        bench_check(sks_signer_sign(context, &claims, now, &identity, NULL) == HSM_OK,
                    "sks_signer_sign");
        free(identity);
    }
}

static void
sign_messages(void *context, size_t times)
{
    static const uint8_t message[360]; /* as long as the PASSporT's signing input */
    uint8_t sig[HSM_P256_SIG_LEN];

    while (times-- > 0)
        bench_check(hsm_key_sign(context, message, sizeof(message), sig) == HSM_OK, "hsm_key_sign");
}

static void
passports(void)
{
    pid_t child = fork();

    bench_check(child >= 0, "fork");
    if (child == 0) {
        struct sks_tokens *tokens = open_tokens(1);
        struct sks_catalogue *catalogue = NULL;
        struct sks_signers *signers = NULL;
        struct hsm_key *key = NULL;

        eco_must(sks_catalogue_open(path_of_catalogue, &catalogue), "catalogue");
        eco_must(sks_signers_load(catalogue, tokens, ECO_SPC, &signers), "credential");
        eco_must(hsm_key_find(sks_tokens_get(tokens, TOKEN_URI), "pkcs11:object=signer", &key),
                 "key");
        bench_share("sks", "a PASSporT made / the token's signature in it", 1.05,
                    (struct bench_side){make_passports, sks_signers_at(signers, time(NULL))},
                    (struct bench_side){sign_messages, key});
        _exit(0);
    }
    bench_check(waitpid(child, NULL, 0) == child, "a process");
}

static void
progress(const char *name, size_t round)
{
    fprintf(stderr, "\r%-8s %-60s %zu/%d%s", "sks", name, round + 1, ROUNDS,
            round + 1 == ROUNDS ? "\n" : "");
}

/* With the current iat, which is fresh for one minute. free() it. */
static char *
signing_request(void)
{
    char *body = NULL;
    char *request = NULL;

    bench_check(asprintf(&body,
                         "{\"signingRequest\":{\"attest\":\"A\",\"dest\":{\"tn\":[\"12155551213\"]}"
                         ",\"iat\":%lld,\"orig\":{\"tn\":\"12155551212\"},"
                         "\"origid\":\"de305d54-75b4-431b-adb2-eb6b9e546014\"}}",
                         (long long)time(NULL)) > 0 &&
                    asprintf(&request,
                             "POST /stir/v1/signing HTTP/1.1\r\nHost: localhost\r\nAccept: "
                             "application/json\r\nContent-Type: application/json\r\n"
                             "Content-Length: %zu\r\n\r\n%s",
                             strlen(body), body) > 0,
                "a request");
    free(body);
    return request;
}

static struct bench_loaded
load(struct bench_load load)
{
    struct bench_loaded loaded;
    char *request = signing_request();

    load.request = request;
    bench_load(&load, &loaded);
    free(request);
    return loaded;
}

static void
processor_time(void)
{
    static const char name[] = "server CPU of a signed call / C_Sign";
    struct bench_process server, raw;
    double ratios[ROUNDS];

    begin_serving(&local, &server);
    begin_raw(&raw);
    for (size_t i = 0; i < ROUNDS; i++) {
        struct bench_signed signatures = {0, 0, 0};
        double calls = 0, cpu = 0;

        for (int turn = 0; turn < TURNS; turn++) {
            struct bench_loaded loaded = load((struct bench_load){.socket = path_of_socket,
                                                                  .connections = 8,
                                                                  .seconds = TURN_S,
                                                                  .server = server.pid});

            calls += (double)loaded.answers;
            cpu += loaded.server_cpu_us;
            bench_signer_turn(&raw, 1, TURN_S, &signatures);
        }
        ratios[i] = (cpu / calls) / (signatures.cpu_us / signatures.count);
        progress(name, i);
    }
    bench_end(&raw);
    bench_end(&server);
    bench_at_most("sks", name, "ratio", 1.25, ratios, ROUNDS);
}

static void
throughput_of(const char *name, unsigned workers)
{
    struct bench_process servers[WORKERS_MAX], raw[WORKERS_MAX];
    double ratios[ROUNDS];

    for (size_t i = 0; i < workers; i++) {
        begin_serving(&local, &servers[i]);
        begin_raw(&raw[i]);
    }
    for (size_t i = 0; i < ROUNDS; i++) {
        struct bench_signed signatures = {0, 0, 0};
        double calls = 0, seconds = 0;

        for (int turn = 0; turn < TURNS; turn++) {
            struct bench_loaded loaded = load((struct bench_load){
                .socket = path_of_socket, .connections = IN_FLIGHT, .seconds = TURN_S});

            calls += (double)loaded.answers;
            seconds += loaded.seconds;
            bench_signer_turn(raw, workers, TURN_S, &signatures);
        }
        ratios[i] = (calls / seconds) / (signatures.count / signatures.seconds);
        progress(name, i);
    }
    for (size_t i = 0; i < workers; i++) {
        bench_end(&raw[i]);
        bench_end(&servers[i]);
    }
    bench_at_least("sks", name, "ratio", 0.9, ratios, ROUNDS);
}

/* A worker has two busy threads, and the callers need one more. The row says so if there are fewer
 * processors than that: they are the limit then. */
static void
throughput(void)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);

    for (unsigned workers = 1; workers <= WORKERS_MAX; workers++) {
        unsigned threads = 2 * workers + 1;
        char name[100];
        int len = snprintf(name, sizeof(name), "calls/s of %u worker%s / C_Sign of %u process%s",
                           workers, workers == 1 ? "" : "s", workers, workers == 1 ? "" : "es");

        if (threads > processors)
            snprintf(name + len, sizeof(name) - (size_t)len, ", %u threads on %ld processors",
                     threads, processors);
        throughput_of(name, workers);
    }
}

/* At 70 % of the rate that the server has just reached. */
static double
tail_of_turn(void)
{
    static double latencies[LATENCIES];
    struct bench_loaded full =
        load((struct bench_load){.socket = path_of_socket, .connections = 8, .seconds = TURN_S});
    struct bench_loaded loaded = load((struct bench_load){
        .socket = path_of_socket,
        .connections = 8,
        .per_s = 0.7 * (double)full.answers / full.seconds,
        .seconds = 2 * TURN_S,
        .latencies_us = latencies,
        .latencies_max = LATENCIES,
    });

    return bench_tail(latencies, loaded.latencies);
}

/* The row for signatures alone shows the machine's own delays, as nothing else can delay them. */
static void
tail(void)
{
    static const char name[] = "p99 / median of calls at 70 % load";
    static const char raw_name[] = "the same of C_Sign alone, by a process that never sleeps";
    struct bench_process server, raw;
    double ratios[ROUNDS], raw_ratios[ROUNDS];

    begin_serving(&local, &server);
    begin_raw(&raw);
    for (size_t i = 0; i < ROUNDS; i++) {
        double tails[TURNS], raw_tails[TURNS];

        for (int turn = 0; turn < TURNS; turn++) {
            tails[turn] = tail_of_turn();
            raw_tails[turn] = bench_signer_tail(&raw, 0.7, 2 * TURN_S);
        }
        ratios[i] = bench_median(tails, TURNS);
        raw_ratios[i] = bench_median(raw_tails, TURNS);
        progress(name, i);
    }
    bench_end(&raw);
    bench_end(&server);
    bench_at_most("sks", name, "ratio", 3, ratios, ROUNDS);
    bench_at_least("sks", raw_name, "ratio", 1, raw_ratios, ROUNDS);
}

/* The process's private memory in KiB. */
static double
memory_kib(pid_t pid)
{
    char path[64];
    char line[256];
    double sum = 0;
    FILE *from;

    snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid);
    from = fopen(path, "r");
    bench_check(from != NULL, "smaps_rollup");
    while (fgets(line, sizeof(line), from) != NULL)
        if (strncmp(line, "Private_", 8) == 0)
            sum += strtod(strchr(line, ':') + 1, NULL);
    fclose(from);
    return sum;
}

static SSL *
connect_tls(SSL_CTX *ctx, unsigned port)
{
    struct sockaddr_in name = {.sin_family = AF_INET,
                               .sin_port = htons((uint16_t)port),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    SSL *ssl = SSL_new(ctx);

    bench_check(fd >= 0 && connect(fd, (struct sockaddr *)&name, sizeof(name)) == 0 &&
                    ssl != NULL && SSL_set_fd(ssl, fd) == 1 && SSL_connect(ssl) == 1,
                "a TLS connection");
    return ssl;
}

/* A connection is idle after a call, with the memory that the call may have left allocated. */
static void
call_over_tls(SSL *ssl)
{
    static const char request[] = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    char answer[8192];
    int len = (int)strlen(request);

    bench_check(SSL_write(ssl, request, len) == len && SSL_read(ssl, answer, sizeof(answer)) > 12 &&
                    memcmp(answer, "HTTP/1.1 200", 12) == 0,
                "a call over TLS");
}

static void
disconnect_tls(SSL *ssl)
{
    close(SSL_get_fd(ssl));
    SSL_free(ssl);
}

static void
idle_connections(void)
{
    static const char name[] = "memory of an idle TLS connection, of 1000";
    static SSL *connections[IDLE];
    const struct served served = {
        .listener = remote_listener, .address = "127.0.0.1:0", .is_tls = true, .threads = THREADS};
    unsigned port = acme_http_listener_port(remote_listener);
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    struct bench_process server;
    double sizes[ROUNDS];

    for (size_t i = 0; i < ROUNDS; i++) {
        SSL *warm;
        double before;

        begin_serving(&served, &server);
        warm = connect_tls(ctx, port);
        call_over_tls(warm);
        before = memory_kib(server.pid);
        for (size_t k = 0; k < IDLE; k++) {
            connections[k] = connect_tls(ctx, port);
            call_over_tls(connections[k]);
        }
        sizes[i] = (memory_kib(server.pid) - before) / IDLE;
        for (size_t k = 0; k < IDLE; k++)
            disconnect_tls(connections[k]);
        disconnect_tls(warm);
        bench_end(&server);
        progress(name, i);
    }
    SSL_CTX_free(ctx);
    bench_at_most("sks", name, "KiB", 64, sizes, ROUNDS);
}

/* The fault module makes each C_Sign 1 ms longer without using the processor. */
static const char slow[] = "fake replay\nlatency C_Sign 1ms";

static void
slow_token(void)
{
    static const char name[] = "64 PASSporTs in flight, token of 1 ms / 64 raw sessions";
    pid_t child = fork();

    bench_check(child >= 0, "fork");
    if (child == 0) {
        struct sks_catalogue *catalogue = NULL;
        struct sks_signers *signers = NULL;
        struct bench_raw raw = {.list = NULL};
        struct sks_tokens *tokens;
        double ratios[ROUNDS];

        fault_open();
        tokens = open_tokens(IN_FLIGHT);
        eco_must(sks_catalogue_open(path_of_catalogue, &catalogue), "catalogue");
        eco_must(sks_signers_load(catalogue, tokens, ECO_SPC, &signers), "credential");
        bench_raw_open(&raw, TOKEN, IN_FLIGHT);
        fault("%s", slow);
        for (size_t i = 0; i < ROUNDS; i++) {
            double ours = run_threads(NULL, IN_FLIGHT, sks_signers_at(signers, time(NULL)));

            ratios[i] = ours / run_threads(&raw, IN_FLIGHT, NULL);
            progress(name, i);
        }
        bench_at_least("sks", name, "ratio", 0.95, ratios, ROUNDS);
        _exit(0);
    }
    bench_check(waitpid(child, NULL, 0) == child, "a process");
}

/* Like a network HSM. With 1 ms, the row would measure HTTP. */
static const char network[] = "fake replay\nlatency C_Sign 5ms";

/* Signatures per second with as many raw sessions as the default has. */
static double
run_raw_as_shipped(void)
{
    static struct bench_raw raw = {.list = NULL};
    static unsigned sessions;

    if (sessions == 0) {
        struct hsm_token_stats stats;
        struct hsm_token *token;

        fault_open();
        token = open_token(0);
        hsm_token_stats(token, &stats);
        sessions = stats.sessions;
        bench_check(sessions > 0 && sessions <= IN_FLIGHT, "sessions");
        bench_raw_open(&raw, TOKEN, sessions);
        fault("%s", network);
    }
    return run_threads(&raw, sessions, NULL) / SECONDS;
}

static void
shipped_defaults(void)
{
    static const char name[] = "64 calls in flight, as shipped, token of 5 ms / its raw sessions";
    const struct served served = {
        .listener = local_listener, .address = local.address, .fault = network};
    pid_t child = fork();

    bench_check(child >= 0, "fork");
    if (child == 0) {
        struct bench_process server;
        double ratios[ROUNDS];

        begin_serving(&served, &server);
        for (size_t i = 0; i < ROUNDS; i++) {
            struct bench_loaded loaded = load((struct bench_load){
                .socket = path_of_socket, .connections = IN_FLIGHT, .seconds = SECONDS});

            ratios[i] = (double)loaded.answers / loaded.seconds / run_raw_as_shipped();
            progress(name, i);
        }
        bench_end(&server);
        bench_at_least("sks", name, "ratio", 0.95, ratios, ROUNDS);
        _exit(0);
    }
    bench_check(waitpid(child, NULL, 0) == child, "a process");
}

static void
fairness(void)
{
    static const char name[] = "64 callers, token of 1 ms: calls of the first / of the last";
    struct bench_process server;
    double ratios[ROUNDS];

    const struct served served = {
        .listener = local_listener, .address = local.address, .threads = IN_FLIGHT, .fault = slow};

    begin_serving(&served, &server);
    for (size_t i = 0; i < ROUNDS; i++) {
        struct bench_loaded loaded = load((struct bench_load){
            .socket = path_of_socket, .connections = IN_FLIGHT, .seconds = SECONDS});

        ratios[i] = (double)loaded.most / (double)loaded.fewest;
        progress(name, i);
    }
    bench_end(&server);
    bench_at_most("sks", name, "ratio", 2, ratios, ROUNDS);
}

/* bench_sks [PART ...]; a part that adds the fault module is a separate process. */
static const struct part {
    const char *name;
    void (*run)(void);
} parts[] = {
    {"passports", passports},      {"processor", processor_time},
    {"throughput", throughput},    {"tail", tail},
    {"idle", idle_connections},    {"slow", slow_token},
    {"shipped", shipped_defaults}, {"fairness", fairness},
};

static void
listen_to_all(void)
{
    char *address = NULL;

    bench_check(asprintf(&address, "unix:%s/socket", softhsm_dir()) > 0, "paths");
    eco_must(acme_http_listener_open(address, &local_listener), "a socket");
    eco_must(acme_http_listener_open("127.0.0.1:0", &remote_listener), "a port");
    local = (struct served){.listener = local_listener, .address = address, .threads = THREADS};
    path_of_socket = address + strlen("unix:");
}

void
bench_signing(int argc, char **argv)
{
    bench_check(asprintf(&path_of_catalogue, "%s/catalogue.db", softhsm_dir()) > 0 &&
                    asprintf(&path_of_tls, "%s/tls.pem", softhsm_dir()) > 0 &&
                    asprintf(&path_of_roots, "%s/roots.pem", softhsm_dir()) > 0,
                "paths");
    hsm_log_open(&(struct hsm_log_config){.program = "bench", .level = HSM_LOG_WARNING});
    make_world();
    listen_to_all();
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
        if (bench_is_wanted(parts[i].name, argc, argv))
            parts[i].run();
    acme_http_listener_close(remote_listener);
    acme_http_listener_close(local_listener);
    free((char *)local.address);
    free(path_of_roots);
    free(path_of_tls);
    free(path_of_catalogue);
}
