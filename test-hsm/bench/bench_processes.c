/* bench_processes.c - worker processes, each with its own token, compared with threads in one
 * process. */
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
#include "bench_process.h"
#include "softhsm.h"

#define ROUNDS    7
#define TURNS     5 /* of a round; a shared host takes cores away now and then */
#define TURN_MS   200
#define WARM_MS   250 /* a service's connections are opened on demand */
#define PROCESSES 4
#define THREADS   4

#define BATCH 100 /* of each caller; after a batch, all wait for the last one */

#define REMOTE_PATH_SIZE 128 /* octets, of a server's socket */

/* Signatures per second. */
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

/* Identical worker processes. */
struct workers {
    const char *module;
    unsigned callers; /* of each */
    void (*prepare)(unsigned index); /* called in each, first; NULL: nothing to do */
};

/* Sign for a turn on each command, and report the number of signatures. */
static void
obey(struct bench_callers *callers, int to)
{
    double rate = rate_of_callers(callers, WARM_MS);

    bench_say(to, &rate, sizeof(rate));
    for (char octet; read(to, &octet, 1) == 1;) {
        rate = rate_of_callers(callers, TURN_MS);
        bench_say(to, &rate, sizeof(rate));
    }
    _exit(0);
}

static void
begin_worker(const struct workers *workers, unsigned index, struct bench_process *out)
{
    int to;

    if (bench_begin(out, &to)) {
        struct bench_callers callers = {.count = workers->callers};

        sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){0});
        if (workers->prepare != NULL)
            workers->prepare(index);
        (void)bench_open(workers->module, HSM_ROUTE_LIBP11, 4, &callers.key);
        obey(&callers, to);
    }
    close(to);
}

/* Also in a separate process: no process forks with a token open. */
static void
begin_raw(struct bench_process *out)
{
    int to;

    if (bench_begin(out, &to)) {
        struct bench_raw raw = {0};
        struct bench_callers callers = {.count = THREADS, .raw = &raw};
        struct hsm_key *key = NULL;

        (void)bench_open(softhsm_module(), HSM_ROUTE_DIRECT, 1, &key);
        bench_raw_open(&raw, BENCH_TOKEN, THREADS);
        obey(&callers, to);
    }
    close(to);
}

/* Signatures per second of all processes, in their last turn or warm-up. */
static double
rate_of(const struct bench_process *processes, unsigned count)
{
    double sum = 0, one;

    for (unsigned i = 0; i < count; i++) {
        bench_hear(&processes[i], &one, sizeof(one));
        sum += one;
    }
    return sum;
}

static double
turn_of(const struct bench_process *processes, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        bench_say(processes[i].from, "", 1);
    return rate_of(processes, count);
}

static void
processes_row(const char *name, const struct workers *workers, double goal)
{
    struct bench_process ours[PROCESSES], raw;
    double ratios[ROUNDS];

    begin_raw(&raw);
    (void)rate_of(&raw, 1);
    for (unsigned i = 0; i < PROCESSES; i++)
        begin_worker(workers, i, &ours[i]);
    (void)rate_of(ours, PROCESSES);
    for (size_t i = 0; i < ROUNDS; i++) {
        double our_sum = 0, raw_sum = 0;

        for (int turn = 0; turn < TURNS; turn++) {
            our_sum += turn_of(ours, PROCESSES);
            raw_sum += turn_of(&raw, 1);
        }
        fprintf(stderr, "%.0f %.0f %.3f\n", our_sum / TURNS, raw_sum / TURNS, our_sum / raw_sum);
        ratios[i] = our_sum / raw_sum;
    }
    for (unsigned i = 0; i < PROCESSES; i++)
        bench_end(&ours[i]);
    bench_end(&raw);
    bench_at_least("hsm", name, "ratio", goal, ratios, ROUNDS);
}

void
bench_processes(void)
{
    const struct workers workers = {.module = softhsm_module(), .callers = 1};

    processes_row("4 worker processes / raw C_Sign of 4 threads in one", &workers, 2.0);
}

/* Bind to one processor: `index`, modulo their number, of those that this process may use. */
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

/* The server runs in a separate process group, because it forks for every connection. It closes
 * every descriptor up to the limit, so the limit is set low. */
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
        sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){0});
        (void)setpgid(0, 0);
        (void)dup2(STDERR_FILENO, STDOUT_FILENO); /* standard output is for rows */
        (void)setrlimit(RLIMIT_NOFILE, &few);
        execlp("p11-kit", "p11-kit", "server", "-f", "-n", path, "--provider", softhsm_module(),
               "pkcs11:token=" BENCH_TOKEN, (char *)NULL);
        _exit(127);
    }
    (void)setpgid(child, child); /* in parent and child, as either may be first */
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

/* Each worker has several connections, each to a separate process with SoftHSM. */
static void
one_server(void)
{
    const struct workers workers = {.module = P11_KIT_CLIENT, .callers = 4};
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
