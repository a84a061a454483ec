/*
 * bench_load.h - callers of an HTTP server: requests on connections that are kept.
 *
 * One thread plays all callers, and polls: it never sleeps while the load runs. The server's
 * write() would have to wake a sleeping caller, and waking a halted virtual core costs the writer
 * 15 to 20 us, which is more than anything else in a call except the signature. Callers on other
 * machines do not cost a server that. A timer would be late by as much, too. So this needs a
 * dedicated core.
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
    pid_t server; /* process whose processor time is measured; 0: not measured */
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

/** Run the load. Aborts the program if an answer is not 200. */
void bench_load(const struct bench_load *load, struct bench_loaded *out);

/** Poll until there is something to read, like the thread that plays callers, so that what is
 *  compared with a load runs under the same conditions. */
void bench_load_wait(int fd);

#endif
