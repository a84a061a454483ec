/*
 * sks_commands.h - what the files of sti-sks share.
 */
#ifndef STI_SKS_COMMANDS_H
#define STI_SKS_COMMANDS_H

#include <stdbool.h>

#include <acme/http_server.h>
#include <hsm/secret.h>
#include <hsm/status.h>
#include <sks/claims.h>
#include <sks/rates.h>
#include <sks/serving.h>
#include <sks/sp_config.h>
#include <sks/sp_verification.h>

#include "options.h"

#define PROGRAM         "sti-sks"
#define BEARER_QUESTION "Bearer token of callers: "

/** The options of the command line; texts are borrowed from argv. */
struct arguments {
    const char *config;
    const char *orig, *attest, *origid, *iat, *spc;
    const char *dests[SKS_DEST_MAX + 1];
    const char *identity, *from, *time;
    const char *tos[SKS_DEST_MAX + 1];
    bool check;
};

/* sks_worker.c */

/** What the supervisor opens for its workers, besides what all daemons share. A member is NULL if
 * it is not configured, or not shared. */
struct shared {
    struct hsm_secret *bearer; /* from a source that can be read only once */
    struct acme_http_listener *api, *socket, *cr;
    const char *api_address, *cr_address; /* from the configuration at the start */
    char *socket_address; /* "unix:PATH" */
    struct sks_rates *rates; /* of callers and customers */
    struct sks_serving *serving;
};

/** A worker process. @param shared  a struct shared */
enum hsm_status sks_work(const void *config, void *shared);

/** Open all that a worker opens. Unlike a worker, which starts without some tokens and credentials,
 *  this fails if one is unusable. */
enum hsm_status sks_check(const struct sks_sp_config *config);

/* sks_serve.c, sks_call.c: the commands */

enum hsm_status sks_run_serve(const struct arguments *arguments);
enum hsm_status sks_run_sign(const struct arguments *arguments);
enum hsm_status sks_run_verify(const struct arguments *arguments);

#endif
