/*
 * journal.h - the section [journal] of a configuration: where uses of private keys are written.
 */
#ifndef ACME_JOURNAL_H
#define ACME_JOURNAL_H

#include <stddef.h>

#include <acme/config.h>
#include <hsm/journal.h>
#include <hsm/status.h>

#define ACME_JOURNAL_DIR "journal" /* default of `init`, beside the configuration */

/** A member of a program's own struct. */
struct acme_journal_config {
    char *dir; /* NULL: no journal is written */
    char *key_label, *on_failure;
    long checkpoint_records, checkpoint_s, flush_ms, rotate_mb, retain_days;
};

#define ACME_JOURNAL_TEXT(type, member, kind, name, fallback, help)                                \
    {                                                                                              \
        "journal", name, kind, offsetof(type, member), false, 0, 0, fallback, help                 \
    }
#define ACME_JOURNAL_NUMBER(type, member, name, min, max, fallback, help)                          \
    {                                                                                              \
        "journal", name, ACME_CONFIG_NUMBER, offsetof(type, member), false, min, max, fallback,    \
            help                                                                                   \
    }

/** Its rows in the table for acme_config_read(): `type` is the program's struct, `m` the member in
 *  it. */
#define ACME_JOURNAL_KEYS(type, m)                                                                 \
    ACME_JOURNAL_TEXT(type, m.dir, ACME_CONFIG_PATH, "dir", NULL,                                  \
                      "directory of the signing journal; without it none is written"),             \
        ACME_JOURNAL_TEXT(type, m.key_label, ACME_CONFIG_TEXT, "key", HSM_JOURNAL_KEY,             \
                          "label of the key in the token that signs checkpoints"),                 \
        ACME_JOURNAL_TEXT(type, m.on_failure, ACME_CONFIG_TEXT, "on-failure", "by-kind",           \
                          "when it cannot be written: refuse to sign, go-on, or by-kind:\n"        \
                          "      calls and TLS handshakes go on, all else is refused"),            \
        ACME_JOURNAL_NUMBER(type, m.checkpoint_records, "checkpoint-records", 1, 100000000,        \
                            "65536", "a checkpoint after so many records"),                        \
        ACME_JOURNAL_NUMBER(type, m.checkpoint_s, "checkpoint-s", 1, 86400, "300",                 \
                            "or after so many seconds"),                                           \
        ACME_JOURNAL_NUMBER(type, m.flush_ms, "flush-ms", 1, 10000, "50",                          \
                            "calls and TLS handshakes are written within so many milliseconds"),   \
        ACME_JOURNAL_NUMBER(type, m.rotate_mb, "rotate-mb", 1, 65536, "256",                       \
                            "another file is begun when one has so many MiB"),                     \
        ACME_JOURNAL_NUMBER(type, m.retain_days, "retain-days", 0, 36500, "0",                     \
                            "a file is removed so many days after its end; 0: never")

/**
 * Convert it for struct hsm_token_config; a fault is logged.
 *
 * @param out  texts are borrowed from `config`; its `dir` is NULL when no journal is written
 */
HSM_MUST_CHECK enum hsm_status acme_journal_settings(const struct acme_journal_config *config,
                                                     struct hsm_journal_config *out);

#endif
