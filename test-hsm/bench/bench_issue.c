/*
 * bench_issue.c - certificates per second of sti-ca and SPC tokens per second of an STI-PA, over
 * HTTPS with the keys in SoftHSM.
 *
 * The requests of bench_enrol.h obtain a certificate, from newOrder to its download. Before the
 * measurement starts, each client has its account and its connection and has made keys, CSRs and
 * SPC tokens; during the measurement it signs its requests and reads the answers, on the same
 * processors. The raw side runs in turn with it. It makes the same number of signatures (one for
 * each certificate, each with a line that is flushed to disk, as in the signing journal) and, one
 * after the other, as many durable transactions of one row as SQLite has counted in the STI-CA's
 * store meanwhile. For a single client, a second ratio excludes the client: it uses the processor
 * time of the STI-CA's workers and the time for which the raw side has waited for the disk.
 *
 * The part "disk" is the same on a disk that takes longer to flush, on both sides.
 */
#define _GNU_SOURCE /* asprintf */
#include "bench_issue.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <pthread.h>

#include <acme/authority.h>
#include <acme/authority_token.h>
#include <acme/jwk.h>

#include "bench.h"
#include "bench_enrol.h"
#include "ca_program.h"
#include "peer.h"
#include "slow_disk.h"
#include "softhsm.h"

#define CLIENTS_MAX  16
#define ROUNDS       5
#define CERTIFICATES 64 /* per round */
#define TURNS_ALONE  8 /* per round, with one client */
#define TOKENS       400 /* per round */
#define WARM_UP      8000 /* transactions, see warm_up() */
#define FLUSH_US     1000 /* more for a flush, in the part "disk" */

#define RECORD_LEN 235 /* octets of a line of the signing journal */
#define ROW_LEN    300 /* octets of a row of most transactions */
#define CHAIN_LEN  3000 /* octets of the row with the certificate */

static const char *const raw_migrations[] = {
    "CREATE TABLE raw (id INTEGER PRIMARY KEY, octets BLOB NOT NULL)", NULL};

static struct ca_program program;
static struct acme_store *raw_store;
static int raw_journal;

static double
now_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* ---- the raw side ---- */

static void
write_raw(size_t len)
{
    static const uint8_t octets[CHAIN_LEN];

    bench_check(acme_store_begin(raw_store) == HSM_OK &&
                    acme_store_run(raw_store, NULL, "INSERT INTO raw (octets) VALUES (?)", "b",
                                   octets, len) == HSM_OK &&
                    acme_store_commit(raw_store) == HSM_OK,
                "a raw transaction");
}

static void
sign_raw(void)
{
    uint8_t sig[HSM_P256_SIG_LEN];

    bench_check(hsm_key_sign(program.ca.pa.signer_key, "raw", 3, sig) == HSM_OK, "C_Sign");
}

/* Sign, and do what the journal does for each certificate. */
static void
sign_and_record(void)
{
    static const uint8_t record[RECORD_LEN];

    sign_raw();
    bench_check(write(raw_journal, record, sizeof(record)) == (ssize_t)sizeof(record) &&
                    fdatasync(raw_journal) == 0,
                "a raw record");
}

/* Elapsed and processor time. */
struct cost {
    double seconds, cpu_s;
};

static double
cpu_s(void)
{
    struct timespec used;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    return (double)used.tv_sec + (double)used.tv_nsec / 1e9;
}

/* Make `signatures` signatures, with the transactions spread evenly between them; the one before
 * each signature is large. */
static struct cost
raw_cost(void (*sign)(void), size_t signatures, size_t commits, size_t large_len)
{
    size_t done = 0;
    struct cost begin = {now_s(), cpu_s()};

    for (size_t i = 1; i <= signatures; i++) {
        for (; done < commits * i / signatures; done++)
            write_raw(done + 1 < commits * i / signatures ? ROW_LEN : large_len);
        sign();
    }
    return (struct cost){now_s() - begin.seconds, cpu_s() - begin.cpu_s};
}

/* ---- certificates ---- */

/* A client and its prepared orders. */
struct turn {
    struct bench_client *client;
    struct bench_order orders[CERTIFICATES];
    size_t count;
    pthread_barrier_t *start;
};

static struct bench_client *clients[CLIENTS_MAX];

static void *
enrol(void *context)
{
    struct turn *turn = context;

    pthread_barrier_wait(turn->start);
    for (size_t i = 0; i < turn->count; i++)
        bench_enrol(turn->client, &turn->orders[i]);
    return NULL;
}

static void
prepare_turn(struct turn *turn, size_t number, size_t count, pthread_barrier_t *start)
{
    *turn = (struct turn){.client = clients[number], .count = count, .start = start};
    bench_client_connect(turn->client);
    for (size_t i = 0; i < turn->count; i++)
        bench_order_prepare(turn->client, &turn->orders[i]);
}

static void
clear_turn(struct turn *turn)
{
    for (size_t i = 0; i < turn->count; i++)
        bench_order_clear(&turn->orders[i]);
}

/* The number of transactions of the store so far: iChange of the wal-index header (section 2.1 of
 * SQLite's walformat.html), which each commit of any process increments. */
static uint32_t
transactions(void)
{
    char path[4300];
    uint32_t count = 0;
    FILE *file;

    snprintf(path, sizeof(path), "%s-shm", program.ca.store_path);
    file = fopen(path, "rb");
    bench_check(file != NULL && fseek(file, 8, SEEK_SET) == 0 &&
                    fread(&count, sizeof(count), 1, file) == 1,
                path);
    fclose(file);
    return count;
}

/* The cost of `certificates` certificates for `count` simultaneous clients; *commits receives the
 * number of transactions. */
static struct cost
certificates_cost(size_t certificates, size_t count, size_t *commits)
{
    static struct turn turns[CLIENTS_MAX];
    pthread_t threads[CLIENTS_MAX];
    pthread_barrier_t start;
    struct cost begin, end;
    uint32_t before;

    pthread_barrier_init(&start, NULL, (unsigned)count + 1);
    for (size_t i = 0; i < count; i++) {
        prepare_turn(&turns[i], i, certificates / count, &start);
        bench_check(pthread_create(&threads[i], NULL, enrol, &turns[i]) == 0, "a thread");
    }
    before = transactions();
    begin = (struct cost){now_s(), ca_program_cpu_s(&program)};
    pthread_barrier_wait(&start);
    for (size_t i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    end = (struct cost){now_s(), ca_program_cpu_s(&program)};
    *commits = transactions() - before;
    pthread_barrier_destroy(&start);
    for (size_t i = 0; i < count; i++)
        clear_turn(&turns[i]);
    return (struct cost){end.seconds - begin.seconds, end.cpu_s - begin.cpu_s};
}

/* The results for one number of clients. */
struct certificate_rows {
    double shares[ROUNDS], own_shares[ROUNDS], strict_shares[ROUNDS], rates[ROUNDS],
        commits[ROUNDS];
};

static size_t commits_alone; /* per round with a single client */

static void
add_cost(struct cost *sum, struct cost more)
{
    sum->seconds += more.seconds;
    sum->cpu_s += more.cpu_s;
}

/* Ours and raw take turns; with one client the turns are short. */
static void
measure_round(size_t count, struct certificate_rows *rows, size_t round)
{
    size_t turns = count == 1 ? TURNS_ALONE : 1, certificates = CERTIFICATES / turns;
    struct cost ours = {0, 0}, strict = {0, 0}, raw;
    size_t commits = 0;

    for (size_t i = 0; i < turns; i++) {
        size_t more = 0;

        add_cost(&ours, certificates_cost(certificates, count, &more));
        add_cost(&strict, raw_cost(sign_and_record, certificates, more, CHAIN_LEN));
        commits += more;
    }
    raw = strict;
    if (count == 1)
        commits_alone = commits;
    else
        raw = raw_cost(sign_and_record, CERTIFICATES, commits_alone, CHAIN_LEN);
    rows->shares[round] = ours.seconds / raw.seconds;
    rows->strict_shares[round] = ours.seconds / strict.seconds;
    rows->own_shares[round] = (ours.cpu_s + raw.seconds - raw.cpu_s) / raw.seconds;
    rows->rates[round] = CERTIFICATES / ours.seconds;
    rows->commits[round] = (double)commits / CERTIFICATES;
    fprintf(stderr, "\racme     certificates, %u workers, %zu clients %zu/%d", program.workers,
            count, round + 1, ROUNDS);
}

/* A transaction takes half as long once SQLite's log has reached its full size and is written over.
 * Both sides are measured from then on. */
static void
warm_up(void)
{
    for (size_t done = 0, more = 0; done < WARM_UP; done += more)
        certificates_cost(CERTIFICATES, CLIENTS_MAX / 4, &more);
    raw_cost(sign_and_record, 1, WARM_UP, CHAIN_LEN);
}

/* @param disk  "", or a text that says what disk it is */
static void
measure_certificates(size_t count, const char *disk)
{
    struct certificate_rows rows;
    char whose[60], name[140];

    for (size_t i = 0; i < ROUNDS; i++)
        measure_round(count, &rows, i);
    fputc('\n', stderr);
    snprintf(whose, sizeof(whose), "%u worker%s, %zu client%s%s", program.workers,
             program.workers == 1 ? "" : "s", count, count == 1 ? "" : "s", disk);
    snprintf(name, sizeof(name), "certificate, %s / its signature and durable writes", whose);
    bench_at_most("acme", name, "ratio", 2.0, rows.shares, ROUNDS);
    if (count > 1)
        bench_at_most("acme", "the same, only the durable writes that were made, raw", "ratio", 2.0,
                      rows.strict_shares, ROUNDS);
    /* Several clients compete for the processors, so each takes longer for the same work. */
    if (count == 1)
        bench_at_most("acme", "the same, processor time and waits for the disk of sti-ca alone",
                      "ratio", 2.0, rows.own_shares, ROUNDS);
    snprintf(name, sizeof(name), "durable transactions of a certificate, %s", whose);
    bench_at_most("acme", name, "transactions", BENCH_ENROL_REQUESTS + 5, rows.commits, ROUNDS);
    snprintf(name, sizeof(name), "certificates, %s", whose);
    bench_at_least("acme", name, "1/s", 1.0, rows.rates, ROUNDS);
}

/* Start sti-ca and the raw side, and warm them up. */
static void
open_both(unsigned workers)
{
    char path[4300];

    ca_program_start(&program, workers, "orders-per-account = 0\n");
    snprintf(path, sizeof(path), "%s/raw.db", softhsm_dir());
    bench_check(acme_store_open(path, raw_migrations, &raw_store) == HSM_OK, path);
    snprintf(path, sizeof(path), "%s/raw.journal", softhsm_dir());
    raw_journal = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    bench_check(raw_journal >= 0, path);
    for (size_t i = 0; i < CLIENTS_MAX; i++)
        clients[i] = bench_client_new(&program.ca);
    warm_up();
}

static void
measure_all(const char *disk)
{
    static const size_t counts[] = {1, 4, 16};

    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
        measure_certificates(counts[i], disk);
    for (size_t i = 0; i < CLIENTS_MAX; i++)
        bench_client_free(clients[i]);
}

static void
close_both(void)
{
    acme_store_close(raw_store);
    close(raw_journal);
    ca_program_stop(&program);
}

/* ---- SPC tokens ---- */

static struct acme_authority *authority;
static char token_body[512], authorization[512];

static bool
ask_authority(struct ca_fixture *ca, const struct acme_http_request *request,
              struct acme_http_response *response)
{
    struct acme_http_handler handler = acme_authority_handler(authority);

    (void)ca;
    handler.handle(handler.context, request, response);
    return true;
}

/* The answer's member with that name; free() it. */
static char *
post(const char *path, const char *credentials, const char *body, const char *member)
{
    struct acme_http_reply reply = {.status = 0};
    struct hsm_reason why = {""};
    char url[256], *text;
    json_t *answer;

    snprintf(url, sizeof(url), "%s%s", program.ca.pa.base_url, path);
    bench_check(acme_http_fetch(program.ca.pa.http,
                                &(struct acme_http_fetch){.method = "POST",
                                                          .url = url,
                                                          .content_type = "application/json",
                                                          .authorization = credentials,
                                                          .body = body,
                                                          .body_len = strlen(body),
                                                          .reply_max = 65536,
                                                          .timeout_ms = 30000},
                                &reply, &why) == HSM_OK,
                why.text);
    answer = json_loadb(reply.body, reply.body_len, 0, NULL);
    text = json_is_string(json_object_get(answer, member))
               ? strdup(json_string_value(json_object_get(answer, member)))
               : NULL;
    bench_check(text != NULL, reply.body);
    json_decref(answer);
    acme_http_reply_clear(&reply);
    return text;
}

static void *
fetch_tokens(void *context)
{
    atomic_long *left = context;

    while (atomic_fetch_sub(left, 1) > 0)
        free(post("/at/account/one/token", authorization, token_body, "token"));
    return NULL;
}

static double
token_cost(size_t count)
{
    atomic_long left = TOKENS;
    pthread_t threads[CLIENTS_MAX];
    double begin = now_s();

    for (size_t i = 0; i < count; i++)
        bench_check(pthread_create(&threads[i], NULL, fetch_tokens, &left) == 0, "a thread");
    for (size_t i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    return (now_s() - begin) / TOKENS;
}

static struct acme_store *
open_authority(void)
{
    struct pa_fixture *pa = &program.ca.pa;
    struct acme_store *store = NULL;
    struct hsm_secret *password = NULL;
    char path[4300];

    snprintf(path, sizeof(path), "%s/sti-pa.db", softhsm_dir());
    bench_check(
        acme_store_open(path, acme_authority_migrations, &store) == HSM_OK &&
            acme_authority_new(&(struct acme_authority_config){.base_url = pa->base_url,
                                                               .store = store,
                                                               .signer_key = pa->signer_key,
                                                               .signer_chain = pa->signer_chain,
                                                               .crl_key = pa->crl_key,
                                                               .crl_chain = pa->crl_chain,
                                                               .token_lifetime_s = 600,
                                                               .session_lifetime_s = 3600,
                                                               .list_lifetime_s = 86400,
                                                               .crl_lifetime_s = 86400},
                               &authority) == HSM_OK &&
            hsm_secret_new("pass word", 9, &password) == HSM_OK &&
            acme_authority_account_add(store, "one", "user", password,
                                       (const char *[]){"1234", NULL}, false) == HSM_OK,
        "the STI-PA");
    hsm_secret_free(password);
    return store;
}

static void
prepare_requests(void)
{
    char *token, fingerprint[ACME_FINGERPRINT_LEN + 1];
    EVP_PKEY *key = peer_key_new("P-256");

    bench_check(acme_fingerprint_format(key, ACME_FINGERPRINT_THUMBPRINT, fingerprint) == HSM_OK,
                "a fingerprint");
    snprintf(token_body, sizeof(token_body),
             "{\"atc\":{\"tktype\":\"TNAuthList\",\"tkvalue\":\"MAigBhYEMTIzNA\",\"ca\":false,"
             "\"fingerprint\":\"%s\"}}",
             fingerprint);
    token = post("/api/v1/auth/login", NULL, "{\"userId\":\"user\",\"password\":\"pass word\"}",
                 "accessToken");
    snprintf(authorization, sizeof(authorization), "Bearer %s", token);
    free(token);
    EVP_PKEY_free(key);
}

/* For each token, one signature is made and one jti is written. */
static void
bench_tokens(void)
{
    double shares[ROUNDS], rates[ROUNDS];
    struct acme_store *store = open_authority();

    program.ca.intercept = ask_authority;
    prepare_requests();
    for (size_t i = 0; i < ROUNDS; i++) {
        double ours = token_cost(4);

        shares[i] = ours / (raw_cost(sign_raw, TOKENS, TOKENS, ROW_LEN).seconds / TOKENS);
        rates[i] = 1 / ours;
        fprintf(stderr, "\racme     SPC tokens %zu/%d", i + 1, ROUNDS);
    }
    fputc('\n', stderr);
    bench_at_most("acme", "SPC token, 4 clients / its signature and commit", "ratio", 2.0, shares,
                  ROUNDS);
    bench_at_least("acme", "SPC tokens, 4 clients", "1/s", 1.0, rates, ROUNDS);
    program.ca.intercept = NULL;
    acme_authority_free(authority);
    acme_store_close(store);
}

void
bench_issue(void)
{
    static const unsigned workers[] = {1, 4};

    for (size_t i = 0; i < sizeof(workers) / sizeof(workers[0]); i++) {
        open_both(workers[i]);
        measure_all("");
        if (i == 0)
            bench_tokens();
        close_both();
    }
}

void
bench_disk(void)
{
    slow_disk_start(getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp");
    open_both(1);
    slow_disk_set(FLUSH_US);
    measure_all(", 1 ms to flush");
    slow_disk_stop();
    close_both();
}
