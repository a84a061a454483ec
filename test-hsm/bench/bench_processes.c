/* bench_processes.c - worker processes, each with a token of its own, beside threads in one. */
#define _GNU_SOURCE /* sched_setaffinity */
#include "bench_processes.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <sys/resource.h>
#include <sys/wait.h>

#include "bench.h"
#include "bench_callers.h"
#include "softhsm.h"

#define ROUNDS     7
#define PROCESSES  4
#define PROCESS_MS 500
/* A service's connections are not new: they are opened when calls need them. */
#define WARM_MS 250

#define BATCH 400 /* of each caller, between which all wait for the last */

#define REMOTE_PATH_SIZE 128 /* octets, of a server's socket */

/* Signatures a second. */
static double
rate_of_callers(struct bench_callers *callers, unsigned ms)
{
    double calls = 0, begin = bench_now_us();

    while (bench_now_us() - begin < ms * 1e3) {
        (void)bench_callers_run(callers, BATCH);
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
    struct hsm_token *token = bench_open(workers->module, HSM_ROUTE_LIBP11, 4, &key);
    struct bench_callers one = {.count = workers->callers, .key = key};
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
        struct bench_callers four = {.count = 4, .raw = &raw};

        (void)bench_open(softhsm_module(), HSM_ROUTE_DIRECT, 1, &key);
        bench_raw_open(&raw, BENCH_TOKEN, 4);
        (void)bench_callers_run(&four, 100);
        rate = 4 * 2000 / bench_callers_run(&four, 2000) * 1e6;
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

void
bench_processes(void)
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
               "pkcs11:token=" BENCH_TOKEN, (char *)NULL);
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

void
bench_remote_processes(void)
{
    one_server();
    own_servers();
}
