/*
 * log.h - the log: each event once, to stderr.
 *
 * The sink is the only global of the libraries; main() sets it before threads
 * start. Until then lines go to stderr as text at HSM_LOG_INFO. Each line is one
 * write(), so lines of several threads and processes do not mix. Control
 * characters are escaped. Never pass a PIN, password, token or key to it; the value of a
 * pin-value in a PKCS#11 URI is left out all the same.
 */
#ifndef HSM_LOG_H
#define HSM_LOG_H

#include <stdbool.h>
#include <stddef.h>

#include <hsm/status.h>

enum hsm_log_level {
    HSM_LOG_ERROR,
    HSM_LOG_WARNING,
    HSM_LOG_INFO,
    HSM_LOG_DEBUG
};
enum hsm_log_format {
    HSM_LOG_TEXT,
    HSM_LOG_JSON
};

struct hsm_log_config {
    const char *program; /* borrowed for the life of the process */
    enum hsm_log_format format;
    enum hsm_log_level level; /* less important lines are dropped */
};

void hsm_log_open(const struct hsm_log_config *config);

void hsm_log(enum hsm_log_level level, const char *format, ...) HSM_PRINTF(2, 3);

/** A value logged beside the message, for programs that read the log. */
struct hsm_log_field {
    const char *name; /* [a-z_]+ */
    const char *value; /* NULL: left out */
    bool is_number; /* the value is a JSON number */
};

/** hsm_log() with fields: each is a member of the JSON object; in text format only the message is
 *  written. */
void hsm_log_event(enum hsm_log_level level, const struct hsm_log_field *fields, size_t count,
                   const char *format, ...) HSM_PRINTF(4, 5);

/** While true, everything this thread logs is demoted to HSM_LOG_DEBUG: for retries of a failure
 *  that was already logged. */
void hsm_log_repeats(bool repeats);

/** Whether a line of this level would be written. */
bool hsm_log_is_on(enum hsm_log_level level);

/** "error", "warning", "info", "debug"; HSM_ERR_MALFORMED for another word. */
HSM_MUST_CHECK enum hsm_status hsm_log_level_parse(const char *word, enum hsm_log_level *out);

/** "text", "json". */
HSM_MUST_CHECK enum hsm_status hsm_log_format_parse(const char *word, enum hsm_log_format *out);

#endif
