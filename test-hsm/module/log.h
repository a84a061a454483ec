/*
 * log.h - the call log: a line for each call, without its data.
 *
 *   1234.567890 4711 4712 C_Sign session=0x10001 rv=CKR_OK us=83
 *
 * Seconds of CLOCK_MONOTONIC when the call came, process, thread, function, the session or slot
 * that the caller named, the answer, how long it took. No PIN, no label, no data.
 */
#ifndef FAULT_LOG_H
#define FAULT_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include <p11-kit/pkcs11.h>

#include "functions.h"

struct fault_log_line {
    enum fault_fn fn;
    const char *subject; /* "session", "slot" or NULL */
    unsigned long number; /* of the subject */
    CK_RV rv;
    int64_t begun_ns;
};

/** Append lines to the file; NULL closes it. */
bool fault_log_open(const char *path);

bool fault_log_is_on(void);

void fault_log_write(const struct fault_log_line *line);

#endif
