/* common.c - what sti-ca and sti-pa have in common besides their tables of options. */
#include "common.h"

#include <stdio.h>

#include <acme/events.h>

#define EVENTS_SHOWN 100 /* if nothing is said */

void
print_keys(const struct acme_config_key *keys)
{
    for (const struct acme_config_key *key = keys; key->section != NULL; key++)
        printf("  [%s] %s%s%s: %s\n", key->section, key->name, key->fallback != NULL ? " = " : "",
               key->fallback != NULL ? key->fallback : "", key->help);
}

enum hsm_status
serve(const struct acme_daemon_program *program, const char *path, void *config,
      enum hsm_status (*check)(const void *config))
{
    enum hsm_status st = program->read(path, config);

    if (st == HSM_OK)
        st = acme_daemon_log(program->name, config); /* its first member */
    if (st != HSM_OK)
        return st;
    if (check == NULL)
        return acme_daemon_supervise(program, path, config, NULL);
    st = check(config);
    if (st == HSM_OK)
        printf("%s: good\n", path);
    return st;
}

enum hsm_status
show_events(const struct option_table *table, struct acme_store *store, const char *last, bool json)
{
    long long count = EVENTS_SHOWN;

    if (last != NULL && !options_count(last, ACME_EVENTS_SHOWN_MAX, &count))
        return options_refuse(table, "--last is not a number from 1 to 100000");
    return acme_events_show(store, count, json, stdout);
}
