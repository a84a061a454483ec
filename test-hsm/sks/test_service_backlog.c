/* test_service_backlog.c - mirrors sks/src/service_signing.c: calls that arrive at once. */
#define _GNU_SOURCE /* asprintf, strcasestr */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/socket.h>
#include <sys/un.h>

#include <cmocka.h>

#include <acme/base64url.h>
#include <hsm/es256.h>
#include <sks/passport.h>
#include <sks/service.h>

#include "caller.h"
#include "ecosystem.h"
#include "fault_client.h"
#include "one_token.h"

#define X5U         "https://cr.sp.example/certs/sp-1234.pem"
#define CALLS       24
#define ROUNDS      5
#define AWAY_CALLS  8 /* while the token is away */
#define ANSWER_MAX  8192 /* octets */
#define PATIENCE_MS 30000

static struct {
    struct ecosystem eco;
    struct sks_trust *trust;
    struct sks_tokens *tokens;
    struct sks_catalogue *catalogue;
    char trail_path[192];
    struct sks_trail *trail;
    struct sks_service *service;
    struct unix_server server;
    unsigned long signatures; /* those that the token had made before */
} world;

static void
activate(struct ecosystem *eco)
{
    char *pem = NULL;
    struct sks_credential credential = {
        .state = SKS_PUBLISHED,
        .spc = (char[]){ECO_SPC},
        .token_uri = (char[]){"pkcs11:token=all"},
        .key_uri = (char[]){"pkcs11:object=sp"},
        .x5u = (char[]){X5U},
        .not_after = certs_chain_not_after(eco->sp),
    };

    eco_must(certs_chain_pem(eco->sp, &pem), "chain");
    credential.chain_pem = pem;
    eco_must(sks_catalogue_put(world.catalogue, &credential), "credential");
    eco_must(sks_catalogue_activate(world.catalogue, credential.id), "credential");
    free(pem);
}

static int
make_world(void **state)
{
    struct ecosystem *eco = &world.eco;
    char path[192];

    (void)state;
    fault_open();
    if (setenv("STI_TEST_TIMEOUT_MS", "1500", 1) != 0)
        return -1;
    eco_start(eco);
    eco_must(sks_trust_fixed(eco->roots, NULL, 0, NULL, NULL, &world.trust), "trust");
    snprintf(path, sizeof(path), "%s/catalogue.db", softhsm_dir());
    snprintf(world.trail_path, sizeof(world.trail_path), "%s/trail", softhsm_dir());
    eco_must(sks_catalogue_open(path, &world.catalogue), "catalogue");
    activate(eco);
    world.tokens = one_token("pkcs11:token=all", NULL);
    return 0;
}

static int
end_world(void **state)
{
    (void)state;
    sks_tokens_close(world.tokens);
    sks_catalogue_close(world.catalogue);
    sks_trust_free(world.trust);
    eco_stop(&world.eco);
    return 0;
}

static int
begin(void **state)
{
    struct sks_service_config config = {
        .catalogue = world.catalogue, .tokens = world.tokens, .spc = ECO_SPC, .trust = world.trust};

    (void)state;
    eco_must(sks_trail_open(world.trail_path, &world.trail), "trail");
    config.trail = world.trail;
    eco_must(sks_service_new(&config, &world.service), "service");
    unix_server_start(&world.server, softhsm_dir(), sks_service_handler(world.service));
    world.signatures = fault_number("count C_Sign");
    return 0;
}

static void
end_server(void)
{
    unix_server_stop(&world.server);
    world.server.loop = NULL;
}

static int
end(void **state)
{
    (void)state;
    fault("reset");
    if (world.server.loop != NULL)
        end_server();
    sks_service_free(world.service);
    sks_trail_close(world.trail);
    unlink(world.trail_path);
    return 0;
}

/* ---- callers ---- */

static int
connect_caller(void)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(name.sun_path, sizeof(name.sun_path), "%.107s", world.server.path);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&name, sizeof(name)), 0);
    return fd;
}

/* The number of the caller is part of the PASSporT. */
static void
ask(int fd, unsigned number)
{
    char *body = NULL;
    char *request = NULL;
    int len;

    assert_true(asprintf(&body,
                         "{\"signingRequest\":{\"attest\":\"A\",\"dest\":{\"tn\":[\"12155551213\"]}"
                         ",\"iat\":%lld,\"orig\":{\"tn\":\"1215555%04u\"},"
                         "\"origid\":\"de305d54-75b4-431b-adb2-eb6b9e546014\"}}",
                         (long long)time(NULL), number) > 0);
    len = asprintf(&request,
                   "POST /stir/v1/signing HTTP/1.1\r\nHost: localhost\r\n"
                   "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
                   strlen(body), body);
    assert_true(len > 0);
    assert_int_equal(send(fd, request, (size_t)len, MSG_NOSIGNAL), len);
    free(request);
    free(body);
}

static bool
is_whole(const char *answer)
{
    const char *body = strstr(answer, "\r\n\r\n");
    const char *length = strcasestr(answer, "content-length:");

    return body != NULL && length != NULL && strlen(body + 4) == strtoul(length + 15, NULL, 10);
}

/* Read one head and body, and nothing of the next answer. */
static void
hear(int fd, char answer[ANSWER_MAX])
{
    size_t len = 0;

    answer[0] = '\0';
    while (!is_whole(answer)) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};

        assert_true(len < ANSWER_MAX - 1);
        assert_int_equal(poll(&wait, 1, PATIENCE_MS), 1);
        assert_int_equal(recv(fd, answer + len, 1, 0), 1);
        answer[++len] = '\0';
    }
}

/* Verify header.payload.signature with the certificate's key. */
static void
assert_verifies(const char *passport)
{
    EVP_PKEY *key = certs_cert_public(certs_chain_get(world.eco.sp, 0));
    const char *signature = strrchr(passport, '.');
    uint8_t *sig = NULL;
    size_t len = 0;

    assert_non_null(signature);
    assert_int_equal(acme_base64url_decode(signature + 1, strlen(signature + 1), &sig, &len),
                     HSM_OK);
    assert_int_equal(hsm_es256_verify(key, passport, (size_t)(signature - passport), sig, len),
                     HSM_OK);
    free(sig);
}

/* The answer carries a PASSporT of that caller. */
static void
assert_signed(char *answer, unsigned number)
{
    char *identity = strstr(answer, "\"identity\":\"");
    char wanted[32];
    json_t *header = NULL;
    json_t *payload = NULL;

    if (strncmp(answer, "HTTP/1.1 200", 12) != 0 || identity == NULL)
        fail_msg("%s", answer);
    identity += strlen("\"identity\":\"");
    identity[strcspn(identity, ";")] = '\0';
    assert_verifies(identity);
    assert_int_equal(sks_passport_decode(identity, &header, &payload, NULL), HSM_OK);
    snprintf(wanted, sizeof(wanted), "1215555%04u", number);
    assert_string_equal(json_string_value(json_object_get(json_object_get(payload, "orig"), "tn")),
                        wanted);
    json_decref(payload);
    json_decref(header);
}

static void
hear_signed(int fd, unsigned number)
{
    char answer[ANSWER_MAX];

    hear(fd, answer);
    assert_signed(answer, number);
}

static size_t
lines_of_trail(void)
{
    FILE *from = fopen(world.trail_path, "r");
    size_t count = 0;
    int c;

    assert_non_null(from);
    while ((c = fgetc(from)) != EOF)
        count += c == '\n';
    fclose(from);
    return count;
}

/* Callers that have received one answer each, so that the token is known to be fast. */
static void
connect_all(int fds[CALLS])
{

    for (unsigned i = 0; i < CALLS; i++) {
        fds[i] = connect_caller();
        ask(fds[i], i);
        hear_signed(fds[i], i);
    }
}

static void
close_all(const int fds[CALLS])
{
    for (unsigned i = 0; i < CALLS; i++)
        close(fds[i]);
}

static void
calls_that_come_at_once_are_all_signed_and_on_record(void **state)
{
    int fds[CALLS];

    (void)state;
    connect_all(fds);
    for (int round = 0; round < ROUNDS; round++) {
        for (unsigned i = 0; i < CALLS; i++)
            ask(fds[i], i);
        for (unsigned i = 0; i < CALLS; i++) {
            hear_signed(fds[i], i);
        }
    }
    assert_int_equal(lines_of_trail(), (ROUNDS + 1) * CALLS);
    close_all(fds);
}

static void
pipelined_calls_are_answered_in_their_order(void **state)
{
    int fds[CALLS];

    (void)state;
    connect_all(fds);
    for (unsigned i = 1; i < CALLS; i++)
        ask(fds[i], i);
    for (unsigned i = 0; i < ROUNDS; i++)
        ask(fds[0], 100 + i);
    for (unsigned i = 0; i < ROUNDS; i++) {
        hear_signed(fds[0], 100 + i);
    }
    for (unsigned i = 1; i < CALLS; i++) {
        hear_signed(fds[i], i);
    }
    close_all(fds);
}

static void
no_signature_is_without_its_record_when_callers_are_gone(void **state)
{
    int fds[CALLS];

    (void)state;
    connect_all(fds);
    for (unsigned i = 0; i < CALLS; i++)
        ask(fds[i], i);
    for (unsigned i = 0; i < CALLS / 2; i++)
        close(fds[i]);
    for (unsigned i = CALLS / 2; i < CALLS; i++) {
        hear_signed(fds[i], i);
        close(fds[i]);
    }
    end_server();
    assert_true(lines_of_trail() >= CALLS + CALLS / 2);
    assert_int_equal(lines_of_trail(), fault_number("count C_Sign") - world.signatures);
}

static void
a_server_that_stops_finishes_its_calls(void **state)
{
    char answer[ANSWER_MAX];
    int fds[CALLS];

    (void)state;
    connect_all(fds);
    for (unsigned i = 0; i < CALLS; i++)
        ask(fds[i], i);
    hear_signed(fds[0], 0); /* the others are under way or unread */
    end_server();
    for (unsigned i = 1; i < CALLS; i++) {
        if (recv(fds[i], answer, 1, MSG_PEEK) <= 0)
            continue;
        hear_signed(fds[i], i);
    }
    assert_int_equal(lines_of_trail(), fault_number("count C_Sign") - world.signatures);
    close_all(fds);
}

/* Each attempt takes a second and a half, on a few threads. */
static void
a_token_that_is_away_keeps_calls_to_their_deadline_and_signs_again(void **state)
{
    char answer[ANSWER_MAX];
    int fds[CALLS];

    (void)state;
    connect_all(fds);
    fault("remove");
    for (unsigned i = 0; i < AWAY_CALLS; i++)
        ask(fds[i], i);
    for (unsigned i = 0; i < AWAY_CALLS; i++) {
        hear(fds[i], answer);
        assert_int_equal(strncmp(answer, "HTTP/1.1 503", 12), 0);
    }
    assert_int_equal(lines_of_trail(), CALLS);
    fault("return");
    do {
        ask(fds[0], 0);
        hear(fds[0], answer);
    } while (strncmp(answer, "HTTP/1.1 503", 12) == 0);
    assert_signed(answer, 0);
    close_all(fds);
}

#define WITH_SERVICE(test) cmocka_unit_test_setup_teardown(test, begin, end)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SERVICE(calls_that_come_at_once_are_all_signed_and_on_record),
        WITH_SERVICE(pipelined_calls_are_answered_in_their_order),
        WITH_SERVICE(no_signature_is_without_its_record_when_callers_are_gone),
        WITH_SERVICE(a_server_that_stops_finishes_its_calls),
        WITH_SERVICE(a_token_that_is_away_keeps_calls_to_their_deadline_and_signs_again),
    };

    return cmocka_run_group_tests(tests, make_world, end_world);
}
