/*
 * common.h - what sti-ca and sti-pa have in common besides their tables of options.
 */
#ifndef STI_ACME_COMMON_H
#define STI_ACME_COMMON_H

#include <stdbool.h>

#include <acme/config.h>
#include <acme/daemon.h>
#include <acme/store.h>
#include <hsm/status.h>

#include "options.h"

/** For --help: a line for each key of the configuration. */
void print_keys(const struct acme_config_key *keys);

/**
 * The command serve: read the configuration, then serve, or only open what it names.
 *
 * @param config  a zeroed struct of the program's
 * @param check   opens and closes everything; NULL: serve
 */
enum hsm_status serve(const struct acme_daemon_program *program, const char *path, void *config,
                      enum hsm_status (*check)(const void *config));

/** The command events. @param last  of the command line; NULL: 100 */
enum hsm_status show_events(const struct option_table *table, struct acme_store *store,
                            const char *last, bool json);

#endif
