/*
 * bench_load.h - callers of an HTTP server: requests on connections that are kept.
 */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include <stddef.h>

#define BENCH_LOAD_MAX 128 /* connections */

struct bench_load {
    const char *socket; /* path of the server's */
    const char *request; /* head and body */
    unsigned connections; /* each with a thread that waits for its answer */
    double per_s; /* requests a second of all connections; 0: as fast as they are answered */
    double seconds;
    double *latencies_us; /* NULL, or room for `latencies_max` */
    size_t latencies_max;
};

struct bench_loaded {
    size_t answers; /* each with status 200 */
    size_t fewest, most; /* of one connection */
    double seconds; /* that it took */
    size_t latencies; /* how many were kept */
};

/** Aborts the program when an answer is no 200. */
void bench_load(const struct bench_load *load, struct bench_loaded *out);

#endif
