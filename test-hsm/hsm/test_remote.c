/*
 * test_remote.c - a token in another process (p11-kit server), which is killed and restarted; the
 * independence of one process's connections to it (connection.c); and the scheduling of the threads
 * that wait for it.
 *
 * $STI_TEST_KILLS: how often the server is killed under load (default 1).
 */
#define _GNU_SOURCE /* SCHED_BATCH */
#include <dirent.h>
#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <cmocka.h>

#include <p11-kit/pkcs11.h>

#include <hsm/key.h>
#include <hsm/log.h>

#include "fault_client.h"
#include "forking.h"
#include "softhsm.h"

#define SERVER        "/usr/bin/p11-kit"
#define CALLERS       4
#define CONNECTIONS   4 /* as in the table of quirks */
#define PROCESSES_MAX 16 /* of a server */
#define OTHER_PIN     "97531"

static const char *const clients[] = {"/usr/lib/x86_64-linux-gnu/pkcs11/p11-kit-client.so",
                                      "/usr/lib/aarch64-linux-gnu/pkcs11/p11-kit-client.so",
                                      "/usr/lib64/pkcs11/p11-kit-client.so"};

extern char **environ;

/* If its server goes away during the greeting, p11-kit's client sometimes leaks a socket. */
const char *__lsan_default_suppressions(void);

const char *
__lsan_default_suppressions(void)
{
    return "leak:p11-kit-client.so";
}

static char socket_path[sizeof(((struct sockaddr_un *)NULL)->sun_path)];

struct load {
    struct hsm_key *key;
    atomic_bool over;
    atomic_uint good, refused;
    pthread_t callers[CALLERS];
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

/* The socket file exists before the server listens. */
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

/* The server runs in a separate process group, because it forks for every connection. It closes
 * every descriptor up to the limit, so the limit is set low. */
static pid_t
server_start(const char *provider, const char *token)
{
    char script[1024];
    char *const argv[] = {(char *)"sh", (char *)"-c", script, NULL}; /* not modified */
    posix_spawnattr_t attributes;
    pid_t child = -1;

    assert_in_range(snprintf(script, sizeof(script),
                             "ulimit -n 1024; exec " SERVER
                             " server -f -n '%s' --provider '%s' 'pkcs11:token=%s'",
                             socket_path, provider, token),
                    1, sizeof(script) - 1);
    (void)unlink(socket_path);
    assert_int_equal(posix_spawnattr_init(&attributes), 0);
    assert_int_equal(posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP), 0);
    assert_int_equal(posix_spawn(&child, "/bin/sh", NULL, &attributes, argv, environ), 0);
    posix_spawnattr_destroy(&attributes);
    for (int i = 0; i < 500 && !server_answers(); i++)
        sleep_ms(10);
    assert_true(server_answers());
    return child;
}

static pid_t
server_of_softhsm(void)
{
    return server_start(softhsm_module(), "remote");
}

/* A server with the fault module behind it, one instance per connection. Tests that use it are
 * skipped where the module's sanitizer runtime cannot be loaded. */
static pid_t
server_of_faults(const char *rule)
{
    char path[256];
    FILE *script;
    pid_t server;

    snprintf(path, sizeof(path), "%s/script", softhsm_dir());
    script = fopen(path, "w");
    assert_non_null(script);
    fprintf(script, "%s\n", rule);
    assert_int_equal(fclose(script), 0);
    setenv("STI_FAULT_MODULE", softhsm_module(), 1);
    setenv("STI_FAULT_SCRIPT", path, 1);
    server = server_start(fault_module_path(), "remote");
    unsetenv("STI_FAULT_SCRIPT");
    return server;
}

static void
server_kill(pid_t server)
{
    assert_int_equal(kill(-server, SIGKILL), 0);
    assert_int_equal(waitpid(server, NULL, 0), server);
}

/* Parent and start time of a process, from its /proc/PID/stat (proc(5)). */
static bool
parse_stat(const char *line, long *parent, unsigned long long *start)
{
    const char *after_name = strrchr(line, ')');

    return after_name != NULL &&
           sscanf(after_name,
                  ") %*c %ld %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d"
                  " %llu",
                  parent, start) == 2;
}

/* The process of a connection. Ids wrap around, so they are not in order. */
struct process {
    unsigned long long start;
    pid_t pid;
};

static int
compare_start(const void *a, const void *b)
{
    const struct process *one = a, *other = b;

    return (one->start > other->start) - (one->start < other->start);
}

/* The processes of a server, the first connection's first. Returns their number. */
static size_t
processes_of(pid_t server, struct process out[PROCESSES_MAX])
{
    DIR *proc = opendir("/proc");
    struct dirent *entry;
    size_t count = 0;

    assert_non_null(proc);
    while ((entry = readdir(proc)) != NULL) {
        char path[300], line[512] = "";
        long pid = strtol(entry->d_name, NULL, 10), parent = 0;
        unsigned long long start = 0;
        bool is_child;
        FILE *stat;

        snprintf(path, sizeof(path), "/proc/%s/stat", entry->d_name);
        stat = pid > 0 ? fopen(path, "r") : NULL;
        if (stat == NULL)
            continue;
        is_child = fgets(line, sizeof(line), stat) != NULL && parse_stat(line, &parent, &start) &&
                   parent == server;
        fclose(stat);
        if (is_child && count < PROCESSES_MAX)
            out[count++] = (struct process){start, (pid_t)pid};
    }
    closedir(proc);
    qsort(out, count, sizeof(*out), compare_start);
    return count;
}

static pid_t
first_process_of(pid_t server)
{
    struct process processes[PROCESSES_MAX];

    assert_true(processes_of(server, processes) > 0);
    return processes[0].pid;
}

/* Stop the process to which the next call goes, and make that call. */
static pid_t
stop_with_a_call(pid_t server, struct hsm_key *key)
{
    struct process processes[PROCESSES_MAX];
    size_t count = processes_of(server, processes);
    uint8_t sig[HSM_P256_SIG_LEN];

    for (size_t i = 0; i < count; i++) {
        assert_int_equal(kill(processes[i].pid, SIGSTOP), 0);
        if (hsm_key_sign_verified(key, "x", 1, sig) == HSM_ERR_BUSY)
            return processes[i].pid;
        assert_int_equal(kill(processes[i].pid, SIGCONT), 0);
    }
    fail_msg("no process of %zu serves the calls", count);
    return 0;
}

static struct hsm_token *
open_as(struct hsm_token_config config)
{
    struct hsm_token *token = NULL;
    struct hsm_secret *pin = NULL;

    assert_int_equal(hsm_secret_new(SOFTHSM_USER_PIN, strlen(SOFTHSM_USER_PIN), &pin), HSM_OK);
    config.pin = pin;
    assert_int_equal(hsm_token_open(&config, &token), HSM_OK);
    hsm_secret_free(pin);
    return token;
}

static struct hsm_token *
open_remote(enum hsm_route route, const char *uri)
{
    return open_as((struct hsm_token_config){.uri = uri,
                                             .module = client_module(),
                                             .route = route,
                                             .sessions = 8,
                                             .op_timeout_ms = 5000});
}

static struct hsm_key *
key_of(struct hsm_token *token)
{
    struct hsm_key *key = NULL;

    assert_int_equal(hsm_key_find_or_generate(token, "signer", &key), HSM_OK);
    return key;
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
load_start(struct load *load, struct hsm_key *key)
{
    *load = (struct load){.key = key};
    for (size_t i = 0; i < CALLERS; i++)
        assert_int_equal(pthread_create(&load->callers[i], NULL, sign_until_over, load), 0);
}

static void
load_stop(struct load *load)
{
    load->over = true;
    for (size_t i = 0; i < CALLERS; i++)
        assert_int_equal(pthread_join(load->callers[i], NULL), 0);
    assert_int_equal(load->refused, 0);
}

/* Wait for further signatures. */
static void
await_signatures(const struct load *load)
{
    unsigned before = load->good;

    for (int i = 0; i < 1000 && load->good < before + 2 * CALLERS; i++)
        sleep_ms(10);
    assert_true(load->good >= before + 2 * CALLERS);
}

static unsigned
connections_served(const struct hsm_token *token)
{
    struct hsm_token_stats stats;

    hsm_token_stats(token, &stats);
    return stats.connections_served;
}

static void
await_connections(const struct hsm_token *token, unsigned wanted)
{
    for (int i = 0; i < 1000 && connections_served(token) != wanted; i++)
        sleep_ms(10);
    assert_int_equal(connections_served(token), wanted);
}

static unsigned
kills(void)
{
    const char *told = getenv("STI_TEST_KILLS");

    return told != NULL ? (unsigned)strtoul(told, NULL, 10) : 1;
}

static void
survives_kills(enum hsm_route route)
{
    pid_t server = server_of_softhsm();
    struct hsm_token *token = open_remote(route, "pkcs11:token=remote");
    struct hsm_key *key = key_of(token);
    struct load load;

    load_start(&load, key);
    for (unsigned i = 0; i < kills(); i++) {
        await_connections(token, CONNECTIONS);
        await_signatures(&load);
        server_kill(server);
        sleep_ms(300);
        server = server_of_softhsm();
        await_signatures(&load);
    }
    load_stop(&load);
    hsm_key_free(key);
    hsm_token_close(token);
    server_kill(server);
}

static void
a_killed_server_is_not_noticed_through_libp11(void **state)
{
    (void)state;
    survives_kills(HSM_ROUTE_LIBP11);
}

static void
a_killed_server_is_not_noticed_directly(void **state)
{
    (void)state;
    survives_kills(HSM_ROUTE_DIRECT);
}

static void
one_caller_makes_one_connection_and_several_make_more(void **state)
{
    pid_t server = server_of_softhsm();
    struct hsm_token *token = open_remote(HSM_ROUTE_LIBP11, "pkcs11:token=remote");
    struct hsm_key *key = key_of(token);
    struct hsm_token_stats stats;
    uint8_t sig[HSM_P256_SIG_LEN];
    struct load load;

    (void)state;
    for (int i = 0; i < 20; i++)
        assert_int_equal(hsm_key_sign_verified(key, "x", 1, sig), HSM_OK);
    hsm_token_stats(token, &stats);
    assert_int_equal(stats.connections, CONNECTIONS);
    assert_int_equal(stats.connections_served, 1);
    assert_int_equal(stats.logins, 1);
    load_start(&load, key);
    await_connections(token, CONNECTIONS);
    load_stop(&load);
    hsm_token_stats(token, &stats);
    assert_int_equal(stats.logins, CONNECTIONS);
    assert_int_equal(stats.losses, 0);
    hsm_key_free(key);
    hsm_token_close(token);
    server_kill(server);
}

/* The broken connection is also the one used for everything but signing. It cannot be restored
 * until another server runs. */
static void
a_connection_that_breaks_leaves_the_others_signing(void **state)
{
    pid_t server = server_of_softhsm(), other, process;
    struct hsm_token *token = open_remote(HSM_ROUTE_LIBP11, "pkcs11:token=remote");
    struct hsm_key *key = key_of(token);
    struct hsm_token_stats stats;
    struct load load;

    (void)state;
    load_start(&load, key);
    await_connections(token, CONNECTIONS);
    process = first_process_of(server);
    assert_int_equal(kill(server, SIGKILL), 0);
    assert_int_equal(waitpid(server, NULL, 0), server);
    assert_int_equal(kill(process, SIGKILL), 0);
    await_connections(token, CONNECTIONS - 1);
    for (int i = 0; i < 10; i++)
        await_signatures(&load);
    hsm_token_stats(token, &stats);
    assert_int_equal(stats.connections_served, CONNECTIONS - 1);
    assert_int_equal(stats.losses, 1);
    assert_int_equal(stats.service, HSM_OK);
    assert_true(hsm_token_is_ready(token));
    other = server_of_softhsm();
    await_connections(token, CONNECTIONS);
    load_stop(&load);
    assert_int_equal(kill(-server, SIGKILL), 0); /* the processes left by the server */
    hsm_key_free(key);
    hsm_token_close(token);
    server_kill(other);
}

/* The process is stopped, so it neither answers nor closes the connection, and calls in it are
 * stuck. */
static void
a_connection_that_hangs_takes_one_call_and_no_other(void **state)
{
    pid_t server = server_of_softhsm(), process;
    struct hsm_token *token = open_as((struct hsm_token_config){.uri = "pkcs11:token=remote",
                                                                .module = client_module(),
                                                                .workers = CONNECTIONS,
                                                                .op_timeout_ms = 2000});
    struct hsm_key *key = key_of(token);
    struct hsm_token_stats stats;
    uint8_t sig[HSM_P256_SIG_LEN];

    (void)state;
    assert_int_equal(hsm_key_sign_verified(key, "x", 1, sig), HSM_OK);
    process = stop_with_a_call(server, key);
    for (int i = 0; i < 10; i++)
        assert_int_equal(hsm_key_sign_verified(key, "x", 1, sig), HSM_OK);
    hsm_token_stats(token, &stats);
    assert_int_equal(stats.stuck, 1);
    assert_int_equal(stats.stuck_now, 1);
    assert_int_equal(stats.losses, 0);
    assert_int_equal(kill(process, SIGCONT), 0);
    for (int i = 0; i < 1000 && stats.stuck_now > 0; i++) {
        sleep_ms(10);
        hsm_token_stats(token, &stats);
    }
    assert_int_equal(stats.stuck_now, 0);
    assert_int_equal(hsm_key_sign_verified(key, "x", 1, sig), HSM_OK);
    hsm_key_free(key);
    hsm_token_close(token);
    server_kill(server);
}

static void
a_wrong_signature_is_not_noticed(void **state)
{
    struct hsm_token_stats stats;
    struct hsm_token *token;
    struct hsm_key *key;
    pid_t server;
    uint8_t sig[HSM_P256_SIG_LEN];

    (void)state;
    SKIP_WHERE_NO_FORK();
    server = server_of_faults("on C_Sign after 3 times 1 signature flip");
    token = open_remote(HSM_ROUTE_DIRECT, "pkcs11:token=remote");
    key = key_of(token);
    for (int i = 0; i < 20; i++)
        assert_int_equal(hsm_key_sign_verified(key, "x", 1, sig), HSM_OK);
    hsm_token_stats(token, &stats);
    assert_true(stats.wrong_signatures > 0);
    assert_true(stats.losses > 0);
    hsm_key_free(key);
    hsm_token_close(token);
    server_kill(server);
}

/* Recovery makes one signature, which is valid. */
static void
a_key_that_fails_on_every_connection_is_given_up(void **state)
{
    static const struct {
        const char *rule;
        enum hsm_status status;
        unsigned wrong, losses_max;
    } rows[] = {
        {"on C_Sign after 1 signature flip", HSM_ERR_CRYPTO, 4, 4},
        {"on C_Sign after 1 rv CKR_KEY_HANDLE_INVALID", HSM_ERR_BUSY, 0, 2 * 16},
    };

    (void)state;
    SKIP_WHERE_NO_FORK();
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        pid_t server = server_of_faults(rows[i].rule);
        struct hsm_token *token = open_remote(HSM_ROUTE_DIRECT, "pkcs11:token=remote");
        struct hsm_key *key = key_of(token);
        struct hsm_token_stats stats;
        uint8_t sig[HSM_P256_SIG_LEN] = {0xaa};

        assert_int_equal(hsm_key_sign_verified(key, "x", 1, sig), HSM_OK);
        memset(sig, 0xaa, sizeof(sig));
        assert_int_equal(hsm_key_sign_verified(key, "x", 1, sig), rows[i].status);
        assert_int_equal(sig[0], 0xaa);
        hsm_token_stats(token, &stats);
        assert_int_equal(stats.wrong_signatures, rows[i].wrong);
        assert_in_range(stats.losses, 1, rows[i].losses_max);
        hsm_key_free(key);
        hsm_token_close(token);
        server_kill(server);
    }
}

static void
a_key_that_is_new_or_destroyed_is_so_on_every_connection(void **state)
{
    pid_t server = server_of_softhsm();
    struct hsm_token *token = open_remote(HSM_ROUTE_DIRECT, "pkcs11:token=remote");
    struct hsm_key *key = key_of(token), *later = NULL;
    uint8_t sig[HSM_P256_SIG_LEN] = {0xaa};
    struct load load;

    (void)state;
    load_start(&load, key);
    await_connections(token, CONNECTIONS);
    assert_int_equal(hsm_key_generate(token, "later", &later), HSM_OK);
    load_stop(&load);
    load_start(&load, later);
    await_signatures(&load);
    assert_int_equal(kill(first_process_of(server), SIGKILL), 0);
    await_signatures(&load);
    load_stop(&load);
    assert_int_equal(hsm_key_destroy(later), HSM_OK);
    for (int i = 0; i < 2 * CONNECTIONS; i++)
        assert_int_equal(hsm_key_sign(later, "x", 1, sig), HSM_ERR_NOT_FOUND);
    assert_int_equal(sig[0], 0xaa);
    assert_int_equal(hsm_key_sign_verified(key, "x", 1, sig), HSM_OK);
    hsm_key_free(later);
    hsm_key_free(key);
    hsm_token_close(token);
    server_kill(server);
}

static void
a_library_with_one_function_list_has_one_connection(void **state)
{
    struct hsm_token *token = open_as((struct hsm_token_config){
        .uri = "pkcs11:token=remote", .module = softhsm_module(), .quirks = "known,connections=4"});
    struct hsm_token_stats stats;

    (void)state;
    hsm_token_stats(token, &stats);
    assert_int_equal(stats.connections, 1);
    assert_int_equal(stats.connections_served, 1);
    assert_true(stats.sessions > 4);
    hsm_token_close(token);
}

/* ---- how threads that sign are scheduled ---- */

struct scheduled {
    struct hsm_key *key;
    int before; /* set before it signs, as for sched_setscheduler() */
    int after;
};

static void *
sign_scheduled(void *argument)
{
    struct scheduled *scheduled = argument;
    uint8_t sig[HSM_P256_SIG_LEN];

    assert_int_equal(sched_setscheduler(0, scheduled->before, &(struct sched_param){0}), 0);
    assert_int_equal(hsm_key_sign(scheduled->key, "x", 1, sig), HSM_OK);
    scheduled->after = sched_getscheduler(0);
    return NULL;
}

static int
policy_after_signing(struct hsm_key *key, int before)
{
    struct scheduled scheduled = {key, before, -1};
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, sign_scheduled, &scheduled), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    return scheduled.after;
}

static void
a_thread_that_signs_behind_p11_kit_is_not_woken_before_the_answer_is_whole(void **state)
{
    static const enum hsm_route routes[] = {HSM_ROUTE_LIBP11, HSM_ROUTE_DIRECT};
    pid_t server = server_of_softhsm();

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct hsm_token *token = open_remote(routes[i], "pkcs11:token=remote");
        struct hsm_key *key = key_of(token);

        assert_int_equal(policy_after_signing(key, SCHED_OTHER), SCHED_BATCH);
        assert_int_equal(policy_after_signing(key, SCHED_IDLE), SCHED_IDLE);
        hsm_key_free(key);
        hsm_token_close(token);
    }
    server_kill(server);
}

static void
a_thread_that_signs_in_its_own_process_is_scheduled_as_before(void **state)
{
    static const struct {
        const char *quirks;
        int policy;
    } cases[] = {{NULL, SCHED_OTHER}, {"known,batch", SCHED_BATCH}};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct hsm_token *token = open_as((struct hsm_token_config){
            .uri = "pkcs11:token=remote", .module = softhsm_module(), .quirks = cases[i].quirks});
        struct hsm_key *key = key_of(token);

        assert_int_equal(policy_after_signing(key, SCHED_OTHER), cases[i].policy);
        hsm_key_free(key);
        hsm_token_close(token);
    }
}

/* ---- a PIN that was changed ---- */

static void
change_pin(const char *label)
{
    CK_C_INITIALIZE_ARGS args = {.flags = CKF_OS_LOCKING_OK};
    void *library = dlopen(softhsm_module(), RTLD_NOW | RTLD_LOCAL);
    CK_C_GetFunctionList get = NULL;
    CK_FUNCTION_LIST *list = NULL;
    CK_SLOT_ID slots[8];
    CK_ULONG count = 8;
    CK_TOKEN_INFO info;
    CK_SESSION_HANDLE session;
    bool changed = false;

    assert_non_null(library);
    *(void **)&get = dlsym(library, "C_GetFunctionList");
    assert_non_null(get);
    assert_int_equal(get(&list), CKR_OK);
    assert_int_equal(list->C_Initialize(&args), CKR_OK);
    assert_int_equal(list->C_GetSlotList(CK_TRUE, slots, &count), CKR_OK);
    for (CK_ULONG i = 0; i < count && !changed; i++) {
        if (list->C_GetTokenInfo(slots[i], &info) != CKR_OK ||
            memcmp(info.label, label, strlen(label)) != 0)
            continue;
        assert_int_equal(list->C_OpenSession(slots[i], CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL,
                                             NULL, &session),
                         CKR_OK);
        changed = list->C_SetPIN(session, (CK_UTF8CHAR *)SOFTHSM_USER_PIN, strlen(SOFTHSM_USER_PIN),
                                 (CK_UTF8CHAR *)OTHER_PIN, strlen(OTHER_PIN)) == CKR_OK;
    }
    assert_int_equal(list->C_Finalize(NULL), CKR_OK);
    dlclose(library);
    assert_true(changed);
}

static unsigned
logins_in(const char *log)
{
    FILE *file = fopen(log, "r");
    char line[300];
    unsigned count = 0;

    while (file != NULL && fgets(line, sizeof(line), file) != NULL)
        count += strstr(line, " C_Login") != NULL ? 1 : 0;
    if (file != NULL)
        fclose(file);
    return count;
}

/* The fault module counts on the server's side, if its sanitizer runtime can be loaded there. This
 * is the last test, because the refusal is latched. */
static void
a_pin_that_is_refused_is_tried_by_one_connection_alone(void **state)
{
    char log[256];
    const char *provider = MAY_FORK ? fault_module_path() : softhsm_module();
    struct hsm_token_stats stats;
    struct hsm_token *token;
    struct hsm_key *key;
    struct load load;
    pid_t server;
    unsigned before;
    uint8_t sig[HSM_P256_SIG_LEN];

    (void)state;
    snprintf(log, sizeof(log), "%s/calls", softhsm_dir());
    setenv("STI_FAULT_MODULE", softhsm_module(), 1);
    setenv("STI_FAULT_LOG", log, 1);
    server = server_start(provider, "changed");
    token = open_remote(HSM_ROUTE_DIRECT, "pkcs11:token=changed");
    key = key_of(token);
    load_start(&load, key);
    await_connections(token, CONNECTIONS);
    load_stop(&load);
    before = logins_in(log);
    server_kill(server);
    change_pin("changed");
    server = server_start(provider, "changed");
    assert_int_equal(hsm_key_sign(key, "x", 1, sig), HSM_ERR_DENIED);
    await_connections(token, 0);
    for (int i = 0; i < 2 * CONNECTIONS; i++)
        assert_int_equal(hsm_key_sign(key, "x", 1, sig), HSM_ERR_DENIED);
    hsm_token_stats(token, &stats);
    assert_int_equal(stats.logins, CONNECTIONS + 1);
    assert_int_equal(stats.service, HSM_ERR_DENIED);
    if (MAY_FORK) {
        assert_int_equal(before, CONNECTIONS);
        assert_int_equal(logins_in(log), before + 1);
    }
    hsm_key_free(key);
    hsm_token_close(token);
    server_kill(server);
}

static int
start(void **state)
{
    struct hsm_token *token;
    char address[300];

    (void)state;
    signal(SIGPIPE, SIG_IGN); /* as in every program of this project */
    hsm_log_open(&(struct hsm_log_config){"test", HSM_LOG_TEXT, HSM_LOG_ERROR});
    softhsm_start();
    snprintf(socket_path, sizeof(socket_path), "%s/socket", softhsm_dir());
    snprintf(address, sizeof(address), "unix:path=%s", socket_path);
    setenv("P11_KIT_SERVER_ADDRESS", address, 1);
    token = softhsm_token("remote");
    hsm_key_free(key_of(token)); /* the fault module does not count a new key's signatures */
    hsm_token_close(token);
    hsm_token_close(softhsm_token("changed"));
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
        cmocka_unit_test(one_caller_makes_one_connection_and_several_make_more),
        cmocka_unit_test(a_connection_that_breaks_leaves_the_others_signing),
        cmocka_unit_test(a_connection_that_hangs_takes_one_call_and_no_other),
        cmocka_unit_test(a_wrong_signature_is_not_noticed),
        cmocka_unit_test(a_key_that_fails_on_every_connection_is_given_up),
        cmocka_unit_test(a_key_that_is_new_or_destroyed_is_so_on_every_connection),
        cmocka_unit_test(a_library_with_one_function_list_has_one_connection),
        cmocka_unit_test(
            a_thread_that_signs_behind_p11_kit_is_not_woken_before_the_answer_is_whole),
        cmocka_unit_test(a_thread_that_signs_in_its_own_process_is_scheduled_as_before),
        cmocka_unit_test(a_pin_that_is_refused_is_tried_by_one_connection_alone),
    };

    if (client_module() == NULL || access(SERVER, X_OK) != 0) {
        fprintf(stderr, "skipped: no p11-kit server and client\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, start, stop);
}
