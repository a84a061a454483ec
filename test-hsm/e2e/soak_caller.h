/*
 * soak_caller.h - a SIP proxy that sends requests to a STI-AS and a STI-VS, retries if a connection
 * breaks, and counts the outcomes.
 */
#ifndef TEST_SOAK_CALLER_H
#define TEST_SOAK_CALLER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

#define SOAK_IDENTITY_MAX 4096 /* octets */

struct soak_tally {
    atomic_uint calls; /* signed and verified */
    atomic_uint broken; /* connections without an answer */
    atomic_uint unavailable; /* answers 503 */
    atomic_uint lost; /* calls without an answer in time, despite retries */
    atomic_uint without_signature; /* successes without a signature */
    atomic_uint wrong; /* verdicts */
};

/** The Identity header field value of a call to 12155551213; false: it was lost. */
bool soak_sign(const char *socket, struct soak_tally *tally, const char *orig, time_t now,
               char identity[SOAK_IDENTITY_MAX]);

/** Have it verified; any other verdict is counted as wrong. */
void soak_verify(const char *socket, struct soak_tally *tally, const char *orig, time_t now,
                 const char *identity, const char *verstat);

#endif
