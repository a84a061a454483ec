/* common.c - what sti-ca and sti-pa have in common: programs with a daemon and a store. */
#include "common.h"

#include <stdio.h>
#include <stdlib.h>

#include <acme/events.h>
#include <hsm/defer.h>

#define EVENTS_SHOWN 100 /* if nothing is said */

/* It is the first member of the program's struct. */
static const struct common_arguments *
common_of(const struct arguments *arguments)
{
    return (const void *)arguments;
}

void
print_keys(const struct acme_config_key *keys)
{
    printf("\nSOURCE is file:PATH, fd:N, credential:NAME (systemd) or prompt.\n"
           "\nKeys of the configuration file:\n");
    for (const struct acme_config_key *key = keys; key->section != NULL; key++)
        printf("  [%s] %s%s%s: %s\n", key->section, key->name, key->fallback != NULL ? " = " : "",
               key->fallback != NULL ? key->fallback : "", key->help);
}

/* ---- serve ---- */

static enum hsm_status
serve(const struct common_arguments *arguments, void *config)
{
    const struct acme_daemon_program *daemon = this_program.daemon;
    enum hsm_status st = daemon->read(arguments->config, config);

    if (st == HSM_OK)
        st = acme_daemon_log(daemon->name, config); /* its first member */
    if (st != HSM_OK)
        return st;
    if (!arguments->check)
        return acme_daemon_supervise(daemon, arguments->config, config, NULL);
    st = this_program.check(config);
    if (st == HSM_OK)
        printf("%s: good\n", arguments->config);
    return st;
}

enum hsm_status
run_serve(const struct arguments *arguments)
{
    void *config = calloc(1, this_program.daemon->config_size);
    enum hsm_status st = config != NULL ? serve(common_of(arguments), config) : HSM_ERR_NOMEM;

    if (config != NULL)
        this_program.daemon->clear(config);
    free(config);
    return st;
}

/* ---- the store ---- */

static enum hsm_status
open_store_of(const struct common_arguments *arguments, void *config, struct acme_store **out)
{
    enum hsm_status st = acme_config_read(arguments->config, this_program.keys, config);
    char *const *place = (char *const *)((char *)config + this_program.store_offset);

    return st == HSM_OK ? acme_store_open(*place, this_program.migrations, out) : st;
}

enum hsm_status
open_store(const struct arguments *arguments, void *config, struct acme_store **out)
{
    void *own = config == NULL ? calloc(1, this_program.daemon->config_size) : NULL;
    enum hsm_status st = HSM_ERR_NOMEM;

    if (config != NULL || own != NULL)
        st = open_store_of(common_of(arguments), config != NULL ? config : own, out);
    if (own != NULL)
        this_program.daemon->clear(own);
    free(own);
    return st;
}

enum hsm_status
run_events(const struct arguments *arguments)
{
    const struct common_arguments *common = common_of(arguments);
    DEFER(acme_store_close) struct acme_store *store = NULL;
    long long count = EVENTS_SHOWN;
    enum hsm_status st = HSM_OK;

    if (common->last != NULL)
        st = options_number("last", common->last, 1, ACME_EVENTS_SHOWN_MAX, &count);
    if (st == HSM_OK)
        st = open_store(arguments, NULL, &store);
    return st == HSM_OK ? acme_events_show(store, count, common->json, stdout) : st;
}
