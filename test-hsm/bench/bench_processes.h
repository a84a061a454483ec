/*
 * bench_processes.h - the rows of bench_hsm about worker processes.
 *
 * Both are called on SoftHSM, in a process that has no token open.
 */
#ifndef BENCH_PROCESSES_H
#define BENCH_PROCESSES_H

void bench_processes(void);

/** Behind `p11-kit server`. */
void bench_remote_processes(void);

#endif
