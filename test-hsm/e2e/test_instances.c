/*
 * test_instances.c - two instances of sti-ca on one PostgreSQL behind a load balancer, which are
 * killed while clients enrol: they act as one CA, and nothing is lost or doubled.
 *
 * STI_INSTANCE_KILLS: how many times (default 4); the clients' orders increase in proportion.
 */
#define _GNU_SOURCE /* accept4 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ca_program.h"

#include "peer.h"
#include "postgres.h"
#include "softhsm.h"

#define CLIENTS   4
#define KILLS     4
#define ORDERS    3 /* per client and kill; within the limit of an account */
#define KILLS_MAX 1000
#define LIMIT     12 /* orders per hour and account */
#define FIRST_S   90 /* limit for one certificate per client */

static struct ca_program programs[2];
static char uri[POSTGRES_URI_SIZE];
static unsigned ports[2]; /* of the instances */

static void
pause_ms(long ms)
{
    const struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

    nanosleep(&pause, NULL);
}

/* ---- the balancer ---- */

static int
listen_at(unsigned port)
{
    struct sockaddr_in name = {.sin_family = AF_INET,
                               .sin_port = htons((uint16_t)port),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;

    assert_true(fd >= 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)), 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&name, sizeof(name)), 0);
    assert_int_equal(listen(fd, 64), 0);
    return fd;
}

static unsigned
port_of(int fd)
{
    struct sockaddr_in name;
    socklen_t len = sizeof(name);

    assert_int_equal(getsockname(fd, (struct sockaddr *)&name, &len), 0);
    return ntohs(name.sin_port);
}

/* -1: no server there. */
static int
dial(unsigned port)
{
    struct sockaddr_in name = {.sin_family = AF_INET,
                               .sin_port = htons((uint16_t)port),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd >= 0 && connect(fd, (struct sockaddr *)&name, sizeof(name)) == 0)
        return fd;
    close(fd);
    return -1;
}

/* The instances in turn; if one is away, the other. -1: both are away. */
static int
dial_instance(void)
{
    static atomic_uint turn;
    unsigned first = atomic_fetch_add(&turn, 1);

    for (unsigned i = 0; i < 2; i++) {
        int fd = dial(ports[(first + i) % 2]);

        if (fd >= 0)
            return fd;
    }
    return -1;
}

static bool
pass_on(int from, int to)
{
    char octets[16384];
    ssize_t len = recv(from, octets, sizeof(octets), 0);

    return len > 0 && send(to, octets, (size_t)len, MSG_NOSIGNAL) == len;
}

static void *
carry(void *context)
{
    int client = (int)(intptr_t)context, instance = dial_instance();
    struct pollfd both[] = {{client, POLLIN, 0}, {instance, POLLIN, 0}};
    bool goes_on = instance >= 0;

    while (goes_on && poll(both, 2, -1) > 0) {
        if (both[0].revents != 0)
            goes_on = pass_on(client, instance);
        if (goes_on && both[1].revents != 0)
            goes_on = pass_on(instance, client);
    }
    close(client);
    if (instance >= 0)
        close(instance);
    return NULL;
}

/* Runs until the process ends. */
static void *
balance(void *context)
{
    int listener = (int)(intptr_t)context, client;

    while ((client = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
        pthread_t thread;

        if (pthread_create(&thread, NULL, carry, (void *)(intptr_t)client) == 0)
            pthread_detach(thread);
        else
            close(client);
    }
    return NULL;
}

/* ---- one CA ---- */

static void
a_nonce_of_one_is_good_at_the_other_and_once(void **state)
{
    struct enroller client;
    char *payload = peer_order_payload("1234"), nonce[64], *body;
    unsigned good = 0;

    (void)state;
    enroller_join(&client, &programs[0].ca);
    snprintf(nonce, sizeof(nonce), "%s", client.nonce);
    body = peer_body(client.ca, &client.peer,
                     &(struct post){.path = "/acme/new-order", .payload = payload, .nonce = nonce});
    for (int i = 0; i < 4; i++) {
        CLEAR_AFTER(got_clear) struct got got = {.status = 0};

        assert_true(ca_try_fetch(client.ca, "POST", "/acme/new-order", "application/jose+json",
                                 body, &got));
        if (got.status == 201)
            good++;
        else
            assert_string_equal(got_problem(&got), "badNonce");
    }
    assert_int_equal(good, 1);
    free(body);
    free(payload);
    enroller_leave(&client);
}

static void
a_rate_limit_is_one_of_both(void **state)
{
    struct enroller client;
    char *payload = peer_order_payload("1234");
    unsigned placed = 0;

    (void)state;
    enroller_join(&client, &programs[0].ca);
    for (int i = 0; i < LIMIT + 4; i++) {
        CLEAR_AFTER(got_clear) struct got got = {.status = 0};

        enroller_post(&client, "/acme/new-order", payload, &got);
        placed += got.status == 201;
    }
    assert_int_equal(placed, LIMIT);
    free(payload);
    enroller_leave(&client);
}

/* ---- a kill ---- */

static char orders[CLIENTS][KILLS_MAX * ORDERS][CA_URL_SIZE];

static long
kills_wanted(void)
{
    const char *text = getenv("STI_INSTANCE_KILLS");
    long kills = text != NULL ? strtol(text, NULL, 10) : KILLS;

    assert_true(kills > 0 && kills <= KILLS_MAX);
    return kills;
}

/* The orders of each kill use a new account. */
static void *
enrol(void *context)
{
    unsigned number = (unsigned)(uintptr_t)context;
    long wanted = kills_wanted() * ORDERS;
    struct enroller client;
    char spc[8];

    snprintf(spc, sizeof(spc), "70%uJ", number);
    for (long i = 0; i < wanted; i++) {
        EVP_PKEY *key = peer_key_new("P-256");
        char *pem = NULL;

        if (i % ORDERS == 0)
            enroller_join(&client, &programs[0].ca);
        enroller_enrol(&client, spc, key, orders[number][i], &pem);
        if (i % ORDERS == ORDERS - 1)
            enroller_leave(&client);
        free(pem);
        EVP_PKEY_free(key);
    }
    return NULL;
}

static int64_t
count(const char *sql)
{
    return ca_fixture_count(&programs[0].ca, sql);
}

static void
wait_for_certificates(int64_t wanted)
{
    for (int i = 0; i < FIRST_S * 20; i++) {
        if (count("SELECT count(*) FROM issuance WHERE der IS NOT NULL") >= wanted)
            return;
        pause_ms(50);
    }
    fail_msg("no certificates are issued");
}

static bool
is_served(unsigned port)
{
    int fd = dial(port);

    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

/* Kill the supervisor, with which its workers end, and start the instance again. */
static void
kill_instance(size_t i)
{
    assert_int_equal(kill(programs[i].pid, SIGKILL), 0);
    assert_int_equal(waitpid(programs[i].pid, NULL, 0), programs[i].pid);
    programs[i].pid = 0;
    for (int tries = 0; tries < FIRST_S * 100 && is_served(ports[i]); tries++)
        pause_ms(10);
    ca_program_spawn(&programs[i]);
}

static void
assert_is_valid(const char *order)
{
    struct acme_rows *rows = NULL;

    assert_int_equal(acme_store_query(programs[0].ca.store, &rows,
                                      "SELECT 1 FROM issuance JOIN acme_order ON acme_order.id ="
                                      " order_id WHERE order_id = ? AND status = 'valid' AND voided"
                                      " = 0 AND der IS NOT NULL",
                                      "s", strrchr(order, '/') + 1),
                     HSM_OK);
    assert_int_equal(acme_rows_count(rows), 1);
    acme_rows_free(rows);
}

static void
killed_instances_lose_and_double_nothing(void **state)
{
    long kills = kills_wanted();
    unsigned seed = (unsigned)time(NULL);
    pthread_t threads[CLIENTS];

    (void)state;
    printf("seed %u\n", seed);
    for (uintptr_t i = 0; i < CLIENTS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, enrol, (void *)i), 0);
    wait_for_certificates(CLIENTS);
    for (long i = 0; i < kills; i++) {
        pause_ms(rand_r(&seed) % 250);
        kill_instance((size_t)rand_r(&seed) % 2);
    }
    for (size_t i = 0; i < CLIENTS; i++)
        pthread_join(threads[i], NULL);
    for (size_t i = 0; i < CLIENTS; i++) {
        for (long n = 0; n < kills * ORDERS; n++)
            assert_is_valid(orders[i][n]);
    }
    assert_int_equal(count("SELECT count(*) FROM acme_order WHERE status = 'valid'"),
                     CLIENTS * ORDERS * kills);
    assert_int_equal(count("SELECT count(*) FROM issuance WHERE der IS NULL AND voided = 0"), 0);
    assert_int_equal(count("SELECT count(*) - count(DISTINCT serial) FROM issuance"), 0);
    assert_int_equal(ca_program_end(&programs[1]), 0);
    assert_int_equal(ca_program_end(&programs[0]), 0);
}

/* ---- the group ---- */

/* The port known to clients becomes the balancer's. */
static void
put_balancer_in_front(void)
{
    unsigned port = (unsigned)strtoul(strrchr(programs[0].ca.url, ':') + 1, NULL, 10);
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, balance, (void *)(intptr_t)listen_at(port)), 0);
    pthread_detach(thread);
}

static void
start_instance(size_t i)
{
    static const char *const files[] = {"first.conf", "second.conf"};
    int held = listen_at(0);
    char address[32];

    ports[i] = port_of(held);
    close(held);
    snprintf(address, sizeof(address), "127.0.0.1:%u", ports[i]);
    programs[i].config = files[i];
    ca_program_configure(&programs[i], files[i], address, uri);
    ca_program_spawn(&programs[i]);
}

static int
start(void **state)
{
    char limit[64];

    (void)state;
    snprintf(limit, sizeof(limit), "orders-per-account = %d\n", LIMIT);
    ca_program_start(&programs[0], 2, limit);
    assert_int_equal(ca_program_end(&programs[0]), 0);
    postgres_uri("sti_ca", "", uri);
    programs[1] = programs[0];
    start_instance(0);
    start_instance(1);
    put_balancer_in_front();
    return acme_store_open(uri, acme_server_migrations, &programs[0].ca.store) == HSM_OK ? 0 : -1;
}

static int
stop(void **state)
{
    (void)state;
    acme_store_close(programs[0].ca.store);
    if (programs[1].pid != 0)
        (void)ca_program_end(&programs[1]);
    ca_program_stop(&programs[0]);
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_nonce_of_one_is_good_at_the_other_and_once),
        cmocka_unit_test(a_rate_limit_is_one_of_both),
        cmocka_unit_test(killed_instances_lose_and_double_nothing),
    };

    if (!postgres_start()) {
        printf("skipped: PostgreSQL is not installed\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, start, stop);
}
