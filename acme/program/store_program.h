/*
 * store_program.h - what sti-ca and sti-pa share: programs with a daemon and a store.
 */
#ifndef STI_ACME_STORE_PROGRAM_H
#define STI_ACME_STORE_PROGRAM_H

#include <stdbool.h>

#include <acme/config.h>
#include <acme/daemon.h>
#include <hsm/status.h>

/** Rows for options of both programs, whose struct arguments has the members. */
#define COMMON_OPTIONS                                                                             \
    {"config", "FILE", AT(config), "the configuration file"},                                      \
        {"check", NULL, SWITCH(check), "open everything and end"},                                 \
        {"last", "N", AT(last), "so many of the latest (default 100)"},                            \
    {                                                                                              \
        "json", NULL, SWITCH(json), "print JSON"                                                   \
    }
#define TOKEN_OPTIONS                                                                              \
    {"module", "PATH", AT(module), "PKCS#11 module; else the URI's module-path"},                  \
    {                                                                                              \
        "pin-source", "SOURCE", AT(pin_source),                                                    \
            "where the PIN is: file:PATH, fd:N, credential:NAME or prompt"                         \
    }
#define LISTEN_OPTIONS                                                                             \
    {"address", "ADDRESS:PORT", AT(address), "where to listen"},                                   \
    {                                                                                              \
        "base-url", "URL", AT(base_url), "the https URL under which clients reach it"              \
    }
#define PASSWORD_OPTION                                                                            \
    {                                                                                              \
        "password-source", "SOURCE", AT(password_source),                                          \
            "where the password is: file:PATH, fd:N, credential:NAME or prompt"                    \
    }

/** For --help: print what a SOURCE is and a line for each key of the configuration. */
void print_keys(const struct acme_config_key *keys);

/** The value of --last; `last` may be NULL. HSM_ERR_USAGE: it was refused on standard error. */
HSM_MUST_CHECK enum hsm_status events_count(const char *last, long long *count);

/**
 * Read the configuration and serve until SIGTERM.
 *
 * @param daemon        its `run` receives a pointer to `only_checked` as its context
 * @param only_checked  call `run` in this process; it opens everything and returns
 * @param config        a zeroed struct of the daemon's config_size, to be cleared by the caller
 */
HSM_MUST_CHECK enum hsm_status serve(const struct acme_daemon_program *daemon, const char *path,
                                     bool only_checked, void *config);

#endif
