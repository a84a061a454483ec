/*
 * test_remote.c - a token in another process (p11-kit server), which is killed and comes back.
 */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <cmocka.h>

#include <hsm/key.h>
#include <hsm/log.h>

#include "forking.h"
#include "softhsm.h"

#define SERVER  "/usr/bin/p11-kit"
#define CALLERS 4

static const char *const clients[] = {"/usr/lib/x86_64-linux-gnu/pkcs11/p11-kit-client.so",
                                      "/usr/lib/aarch64-linux-gnu/pkcs11/p11-kit-client.so",
                                      "/usr/lib64/pkcs11/p11-kit-client.so"};

static char socket_path[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
static char provider[256];

struct load {
    struct hsm_key *key;
    atomic_bool over;
    atomic_uint good, refused;
};

static void
sleep_ms(unsigned ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

    nanosleep(&t, NULL);
}

static const char *
client_module(void)
{
    for (size_t i = 0; i < sizeof(clients) / sizeof(clients[0]); i++) {
        if (access(clients[i], R_OK) == 0)
            return clients[i];
    }
    return NULL;
}

/* The file is there before anybody listens. */
static bool
server_answers(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool answers;

    assert_true(fd >= 0);
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", socket_path);
    answers = connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
    close(fd);
    return answers;
}

/* In a process group of its own, because it forks for every connection. It closes every
 * descriptor that there could be, so the limit is set low. */
static pid_t
server_start(void)
{
    pid_t child;

    (void)unlink(socket_path);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        const struct rlimit few = {1024, 1024};

        (void)setpgid(0, 0);
        (void)setrlimit(RLIMIT_NOFILE, &few);
        execl(SERVER, "p11-kit", "server", "-f", "-n", socket_path, "--provider", provider,
              "pkcs11:token=remote", (char *)NULL);
        _exit(127);
    }
    (void)setpgid(child, child);
    for (int i = 0; i < 500 && !server_answers(); i++)
        sleep_ms(10);
    assert_true(server_answers());
    return child;
}

static void
server_kill(pid_t server)
{
    assert_int_equal(kill(-server, SIGKILL), 0);
    assert_int_equal(waitpid(server, NULL, 0), server);
}

static struct hsm_token *
open_remote(enum hsm_route route)
{
    struct hsm_token_config config = {.uri = "pkcs11:token=remote",
                                      .module = client_module(),
                                      .route = route,
                                      .sessions = 4,
                                      .op_timeout_ms = 3000};
    struct hsm_token *token = NULL;
    struct hsm_secret *pin = NULL;

    assert_int_equal(hsm_secret_new(SOFTHSM_USER_PIN, strlen(SOFTHSM_USER_PIN), &pin), HSM_OK);
    config.pin = pin;
    assert_int_equal(hsm_token_open(&config, &token), HSM_OK);
    hsm_secret_free(pin);
    return token;
}

static void *
sign_until_over(void *argument)
{
    struct load *load = argument;
    uint8_t sig[HSM_P256_SIG_LEN];

    while (!load->over) {
        if (hsm_key_sign_verified(load->key, "x", 1, sig) == HSM_OK)
            load->good++;
        else
            load->refused++;
    }
    return NULL;
}

static void
survives_a_kill(enum hsm_route route)
{
    pid_t server = server_start();
    struct hsm_token *token = open_remote(route);
    struct load load = {.key = NULL};
    pthread_t callers[CALLERS];
    unsigned before;

    assert_int_equal(hsm_key_find_or_generate(token, "signer", &load.key), HSM_OK);
    for (size_t i = 0; i < CALLERS; i++)
        assert_int_equal(pthread_create(&callers[i], NULL, sign_until_over, &load), 0);
    sleep_ms(200);
    server_kill(server);
    sleep_ms(500);
    server = server_start();
    sleep_ms(1000);
    before = load.good;
    sleep_ms(200);
    load.over = true;
    for (size_t i = 0; i < CALLERS; i++)
        assert_int_equal(pthread_join(callers[i], NULL), 0);
    assert_true(load.good > before);
    assert_int_equal(load.refused, 0);
    hsm_key_free(load.key);
    hsm_token_close(token);
    server_kill(server);
}

static void
a_killed_server_is_not_noticed_through_libp11(void **state)
{
    (void)state;
    SKIP_WHERE_NO_FORK();
    survives_a_kill(HSM_ROUTE_LIBP11);
}

static void
a_killed_server_is_not_noticed_directly(void **state)
{
    (void)state;
    SKIP_WHERE_NO_FORK();
    survives_a_kill(HSM_ROUTE_DIRECT);
}

static int
start(void **state)
{
    char address[300];

    (void)state;
    signal(SIGPIPE, SIG_IGN); /* as every program of ours does */
    hsm_log_open(&(struct hsm_log_config){"test", HSM_LOG_TEXT, HSM_LOG_ERROR});
    softhsm_start();
    snprintf(provider, sizeof(provider), "%s", softhsm_module());
    snprintf(socket_path, sizeof(socket_path), "%s/socket", softhsm_dir());
    snprintf(address, sizeof(address), "unix:path=%s", socket_path);
    setenv("P11_KIT_SERVER_ADDRESS", address, 1);
    hsm_token_close(softhsm_token("remote"));
    return 0;
}

static int
stop(void **state)
{
    (void)state;
    softhsm_stop();
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_killed_server_is_not_noticed_through_libp11),
        cmocka_unit_test(a_killed_server_is_not_noticed_directly),
    };

    if (client_module() == NULL || access(SERVER, X_OK) != 0) {
        fprintf(stderr, "skipped: no p11-kit server and client\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, start, stop);
}
