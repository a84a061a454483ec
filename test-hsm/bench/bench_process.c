/* bench_process.c - processes of a bench that serve or sign, and their cost. */
#include "bench_process.h"

#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <sys/socket.h>
#include <sys/wait.h>

#include "bench.h"

bool
bench_begin(struct bench_process *out, int *to)
{
    int ends[2];

    bench_check(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0, "a pair of sockets");
    out->pid = fork();
    bench_check(out->pid >= 0, "fork");
    close(ends[out->pid == 0 ? 0 : 1]);
    *to = ends[1];
    out->from = ends[0];
    return out->pid == 0;
}

void
bench_say(int to, const void *what, size_t len)
{
    bench_check(write(to, what, len) == (ssize_t)len, "telling a process");
}

void
bench_hear(const struct bench_process *process, void *what, size_t len)
{
    bench_check(read(process->from, what, len) == (ssize_t)len, "a process");
}

void
bench_end(struct bench_process *process)
{
    kill(process->pid, SIGTERM);
    bench_check(waitpid(process->pid, NULL, 0) == process->pid, "a process");
    close(process->from);
}

double
bench_cpu_us(pid_t pid)
{
    clockid_t clock = CLOCK_PROCESS_CPUTIME_ID;
    struct timespec t;

    bench_check((pid == 0 || clock_getcpuclockid(pid, &clock) == 0) &&
                    clock_gettime(clock, &t) == 0,
                "a processor clock");
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}
