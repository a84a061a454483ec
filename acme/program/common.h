/*
 * common.h - shared by sti-ca and sti-pa: programs with a daemon and a store.
 */
#ifndef STI_ACME_COMMON_H
#define STI_ACME_COMMON_H

#include <stdbool.h>
#include <stddef.h>

#include <acme/config.h>
#include <acme/daemon.h>
#include <acme/store.h>
#include <hsm/status.h>

#include "options.h"

/** Arguments of commands that both programs have; first member (`common`) of the program's struct
 *  arguments. */
struct common_arguments {
    const char *config;
    const char *last;
    bool check, json;
};

#define COMMON_OPTIONS                                                                             \
    {"config", "FILE", AT(common.config), "the configuration file"},                               \
        {"check", NULL, SWITCH(common.check), "open everything and end"},                          \
        {"last", "N", AT(common.last), "so many of the latest (default 100)"},                     \
    {                                                                                              \
        "json", NULL, SWITCH(common.json), "print JSON"                                            \
    }

/** Rows of options that both programs have with the same text; their members are the program's
 *  own. */
#define TOKEN_OPTIONS                                                                              \
    {"module", "PATH", AT(module), "PKCS#11 module; else the URI's module-path"},                  \
    {                                                                                              \
        "pin-source", "SOURCE", AT(pin_source),                                                    \
            "where the PIN is: file:PATH, fd:N, credential:NAME or prompt"                         \
    }
#define LISTEN_OPTIONS                                                                             \
    {"address", "HOST:PORT", AT(address), "where to listen"},                                      \
    {                                                                                              \
        "base-url", "URL", AT(base_url), "the https URL under which clients reach it"              \
    }
#define PASSWORD_OPTION                                                                            \
    {                                                                                              \
        "password-source", "SOURCE", AT(password_source),                                          \
            "where the password is: file:PATH, fd:N, credential:NAME or prompt"                    \
    }

/** Describes a program to common.c. */
struct store_program {
    const struct acme_daemon_program *daemon;
    enum hsm_status (*check)(const void *config); /* opens everything and closes it */
    const struct acme_config_key *keys; /* of the configuration */
    size_t store_offset; /* of the store's place in the program's struct config */
    const char *const *migrations; /* of the store */
};

extern const struct store_program this_program;

/** For --help: the forms of a SOURCE, a heading, and a line for each key of the configuration. */
void print_keys(const struct acme_config_key *keys);

/** Open the store of the configuration that --config names.
 * @param config  the program's zeroed struct config, receives the configuration; NULL: not
 * needed */
HSM_MUST_CHECK enum hsm_status open_store(const struct arguments *arguments, void *config,
                                          struct acme_store **out);

/** The commands. */
enum hsm_status run_serve(const struct arguments *arguments);
enum hsm_status run_events(const struct arguments *arguments);

#endif
