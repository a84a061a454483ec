/* store_program.c - what sti-ca and sti-pa share: programs with a daemon and a store. */
#include "store_program.h"

#include <stdio.h>

#include <acme/events.h>

#include "options.h"

#define EVENTS_SHOWN 100 /* without --last */

void
print_keys(const struct acme_config_key *keys)
{
    printf("\nSOURCE is file:PATH, fd:N, credential:NAME (systemd) or prompt.\n"
           "\nKeys of the configuration file:\n");
    for (const struct acme_config_key *key = keys; key->section != NULL; key++)
        printf("  [%s] %s%s%s: %s\n", key->section, key->name, key->fallback != NULL ? " = " : "",
               key->fallback != NULL ? key->fallback : "", key->help);
}

enum hsm_status
events_count(const char *last, long long *count)
{
    if (last != NULL)
        return options_number("last", last, 1, ACME_EVENTS_SHOWN_MAX, count);
    *count = EVENTS_SHOWN;
    return HSM_OK;
}

enum hsm_status
serve(const struct acme_daemon_program *daemon, const char *path, bool only_checked, void *config)
{
    enum hsm_status st = daemon->read(path, config);

    if (st == HSM_OK)
        st = acme_daemon_log(daemon->name, config);
    if (st != HSM_OK)
        return st;
    if (!only_checked)
        return acme_daemon_supervise(daemon, path, config, &only_checked);
    st = daemon->run(config, &only_checked);
    if (st == HSM_OK)
        printf("%s: good\n", path);
    return st;
}
