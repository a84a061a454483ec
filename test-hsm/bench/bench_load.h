/*
 * bench_load.h - callers of an HTTP server: requests on connections that are kept.
 *
 * One thread plays all callers, and polls: it never sleeps while the load runs. A caller that
 * sleeps would have to be woken by the server's write(), and to wake a virtual core that has halted
 * costs whoever does it 15 to 20 us - more than all else that the server does for a call but sign.
 * Callers on other machines cost a server none of that. A timer that has to wake somebody is late
 * by as much, too. So this wants a core of its own.
 */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include <stddef.h>

#include <sys/types.h>

#define BENCH_LOAD_MAX 128 /* connections */

struct bench_load {
    const char *socket; /* path of the server's */
    const char *request; /* head and body */
    unsigned connections; /* each with one request under way, at most */
    /* Requests a second of all connections, due at even distances; one that is due while every
     * connection waits for its answer has waited since then. 0: as fast as they are answered. */
    double per_s;
    double seconds;
    pid_t server; /* whose processor time is told; 0: nobody's */
    double *latencies_us; /* NULL, or room for `latencies_max` */
    size_t latencies_max;
};

struct bench_loaded {
    size_t answers; /* each with status 200; not those while connections were opened */
    size_t fewest, most; /* of one connection */
    double server_cpu_us; /* for these answers */
    double seconds; /* that it took */
    size_t latencies; /* how many were kept */
};

/** Aborts the program when an answer is no 200. */
void bench_load(const struct bench_load *load, struct bench_loaded *out);

/** Poll until there is something to read, as the thread that plays callers does: so what is
 *  compared with a load has the same neighbour. */
void bench_load_wait(int fd);

#endif
