/*
 * test_crash.c - sti-ca as several processes on one store: what they must agree on, and what must
 * not be lost or doubled when they are killed at any moment.
 *
 * STI_CRASH_KILLS: how many times (default 20).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include <openssl/evp.h>
#include <pthread.h>
#include <stdatomic.h>

#include "ca_program.h"

#include <certs/cert.h>
#include <hsm/defer.h>

#include "peer.h"

#define CLIENTS    4
#define KILLS      20
#define ORDERS_MAX 4000 /* per client */
#define LIMIT      20 /* orders per hour and account */
#define SETTLE_S   30 /* until no order is "processing" */

static struct ca_program program;

static long
random_below(unsigned *seed, long limit)
{
    *seed = *seed * 1103515245u + 12345u;
    return (long)(*seed >> 8) % limit;
}

static void
pause_ms(long ms)
{
    const struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

    nanosleep(&pause, NULL);
}

/* ---- rate limits of several processes ---- */

static struct peer limited;
static atomic_int placed, refused, other;

static void *
place_orders(void *context)
{
    struct enroller enroller = {.ca = &program.ca, .peer = limited};
    char *payload = peer_order_payload("1234");

    (void)context;
    for (int i = 0; i < LIMIT / 2; i++) {
        CLEAR_AFTER(got_clear) struct got got = {.status = 0};

        enroller_post(&enroller, "/acme/new-order", payload, &got);
        atomic_fetch_add(got.status == 201 ? &placed : got.status == 429 ? &refused : &other, 1);
    }
    free(payload);
    return NULL;
}

static void
four_processes_agree_on_a_rate_limit(void **state)
{
    struct enroller enroller;
    pthread_t threads[CLIENTS];

    (void)state;
    enroller_join(&enroller, &program.ca);
    limited = enroller.peer;
    for (size_t i = 0; i < CLIENTS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, place_orders, NULL), 0);
    for (size_t i = 0; i < CLIENTS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&placed), LIMIT);
    assert_int_equal(atomic_load(&refused), CLIENTS * (LIMIT / 2) - LIMIT);
    assert_int_equal(atomic_load(&other), 0);
    enroller_leave(&enroller);
}

/* ---- crashes ---- */

/* The certificates that one client received. */
struct harvest {
    unsigned number;
    size_t count;
    struct {
        char order[CA_URL_SIZE];
        char *pem;
    } got[ORDERS_MAX];
};

static struct harvest harvests[CLIENTS];
static atomic_bool enough;

/* Each order uses a new account, because the limit per account is small. */
static void *
enrol_on_and_on(void *context)
{
    struct harvest *harvest = context;
    char spc[8];

    snprintf(spc, sizeof(spc), "70%uJ", harvest->number);
    while (!atomic_load(&enough) && harvest->count < ORDERS_MAX) {
        struct enroller enroller;

        enroller_join(&enroller, &program.ca);
        for (int i = 0; i < LIMIT / 4 && !atomic_load(&enough); i++) {
            EVP_PKEY *key = peer_key_new("P-256");

            enroller_enrol(&enroller, spc, key, harvest->got[harvest->count].order,
                           &harvest->got[harvest->count].pem);
            harvest->count++;
            EVP_PKEY_free(key);
        }
        enroller_leave(&enroller);
    }
    return NULL;
}

static long
kills_wanted(void)
{
    const char *text = getenv("STI_CRASH_KILLS");

    return text != NULL ? strtol(text, NULL, 10) : KILLS;
}

static void
kill_again_and_again(long kills, unsigned seed)
{
    printf("seed %u\n", seed);
    for (long i = 0; i < kills; i++) {
        pause_ms(random_below(&seed, 250));
        if (random_below(&seed, 4) == 0) {
            ca_program_kill_worker(&program, (unsigned)random_below(&seed, 100));
        } else {
            ca_program_kill(&program);
            ca_program_spawn(&program);
        }
        ca_program_wait_ready(&program);
    }
}

static int64_t
count(const char *sql)
{
    return ca_fixture_count(&program.ca, sql);
}

/* The client's certificate is the only one issued for its order, octet for octet. */
static void
assert_is_of_order(const char *order, const char *pem)
{
    struct acme_rows *rows = NULL;
    struct certs_chain *chain = NULL;
    const uint8_t *stored;
    uint8_t *der = NULL;
    size_t len, stored_len;

    assert_int_equal(certs_chain_parse_pem(pem, strlen(pem), CERTS_CHAIN_LEN_MAX, &chain, NULL),
                     HSM_OK);
    assert_int_equal(certs_cert_der(certs_chain_get(chain, 0), &der, &len), HSM_OK);
    assert_int_equal(acme_store_query(program.ca.store, &rows,
                                      "SELECT der FROM issuance JOIN acme_order ON acme_order.id ="
                                      " order_id WHERE order_id = ? AND status = 'valid' AND voided"
                                      " = 0",
                                      "s", strrchr(order, '/') + 1),
                     HSM_OK);
    assert_int_equal(acme_rows_count(rows), 1);
    assert_true(acme_rows_next(rows));
    stored = acme_rows_blob(rows, 0, &stored_len);
    assert_int_equal(stored_len, len);
    assert_memory_equal(stored, der, len);
    acme_rows_free(rows);
    certs_chain_free(chain);
    free(der);
}

static void
wait_until_settled(void)
{
    for (int i = 0; i < SETTLE_S * 10; i++) {
        if (count("SELECT count(*) FROM acme_order WHERE status = 'processing'") == 0)
            return;
        pause_ms(100);
    }
    fail_msg("orders are still processing");
}

static void
assert_store_and_clients_agree(int64_t certificates)
{
    assert_int_equal(count("SELECT count(*) FROM issuance WHERE der IS NOT NULL"), certificates);
    assert_int_equal(count("SELECT count(*) FROM acme_order WHERE status = 'valid'"), certificates);
    assert_int_equal(count("SELECT count(*) FROM issuance WHERE der IS NULL AND voided = 0"), 0);
    assert_int_equal(count("SELECT count(*) - count(DISTINCT serial) FROM issuance"), 0);
    assert_int_equal(count("SELECT count(*) FROM acme_order WHERE status NOT IN"
                           " ('pending', 'ready', 'valid', 'invalid')"),
                     0);
    assert_int_equal(count("SELECT count(*) FROM acme_order JOIN authz ON authz.id = authz WHERE"
                           " (acme_order.status = 'pending') <> (authz.status = 'pending')"),
                     0);
    assert_int_equal(count("SELECT count(*) FROM pragma_integrity_check WHERE integrity_check <>"
                           " 'ok'"),
                     0);
}

static void
no_kill_loses_or_doubles_a_certificate(void **state)
{
    long kills = kills_wanted();
    pthread_t threads[CLIENTS];
    int64_t certificates = 0;

    (void)state;
    for (unsigned i = 0; i < CLIENTS; i++) {
        harvests[i].number = i;
        assert_int_equal(pthread_create(&threads[i], NULL, enrol_on_and_on, &harvests[i]), 0);
    }
    kill_again_and_again(kills, (unsigned)time(NULL));
    atomic_store(&enough, true);
    for (size_t i = 0; i < CLIENTS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(
        acme_store_open(program.ca.store_path, acme_server_migrations, &program.ca.store), HSM_OK);
    wait_until_settled();
    for (size_t i = 0; i < CLIENTS; i++) {
        for (size_t n = 0; n < harvests[i].count; n++) {
            assert_is_of_order(harvests[i].got[n].order, harvests[i].got[n].pem);
            free(harvests[i].got[n].pem);
        }
        certificates += (int64_t)harvests[i].count;
    }
    assert_true(certificates >= CLIENTS);
    assert_store_and_clients_agree(certificates);
    acme_store_close(program.ca.store);
    printf("%ld kills, %lld certificates\n", kills, (long long)certificates);
    assert_int_equal(ca_program_end(&program), 0);
}

static int
start(void **state)
{
    char limit[64];

    (void)state;
    snprintf(limit, sizeof(limit), "orders-per-account = %d\n", LIMIT);
    ca_program_start(&program, 4, limit);
    return 0;
}

static int
stop(void **state)
{
    (void)state;
    ca_program_stop(&program);
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(four_processes_agree_on_a_rate_limit),
        cmocka_unit_test(no_kill_loses_or_doubles_a_certificate),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
