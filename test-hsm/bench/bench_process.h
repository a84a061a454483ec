/*
 * bench_process.h - processes of a bench that serve or sign, and what they cost.
 */
#ifndef BENCH_PROCESS_H
#define BENCH_PROCESS_H

#include <stdbool.h>
#include <stddef.h>

#include <sys/types.h>

struct bench_process {
    pid_t pid;
    int from; /* our end of the connection to it */
};

/** fork(): true in the child, with its end of the connection. */
bool bench_begin(struct bench_process *out, int *to);

/** Send or receive all octets, or end the program. */
void bench_say(int to, const void *what, size_t len);
void bench_hear(const struct bench_process *process, void *what, size_t len);

/** End it by SIGTERM. */
void bench_end(struct bench_process *process);

/** Microseconds of processor time of a process; pid 0: of this process. */
double bench_cpu_us(pid_t pid);

#endif
