/* sks_serve.c - sti-sks serve: the supervisor of its workers. */
#define _GNU_SOURCE /* asprintf */
#include "sks_commands.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sys/stat.h>

#include <acme/provision.h>
#include <hsm/defer.h>
#include <hsm/log.h>

static enum hsm_status
read_config_file(const char *path, void *config)
{
    return sks_sp_config_read(path, config);
}

static void
clear_config(void *config)
{
    sks_sp_config_clear(config);
}

/* A reload does not reopen sockets, and a source that can be read only once cannot be added. */
static enum hsm_status
compare(const void *old_config, const void *fresh_config)
{
    const struct sks_sp_config *old = old_config;
    const struct sks_sp_config *fresh = fresh_config;

    acme_daemon_tell_kept("[api] address", old->api_address, fresh->api_address);
    acme_daemon_tell_kept("[api] socket", old->api_socket, fresh->api_socket);
    acme_daemon_tell_kept("[api] socket-mode", old->socket_mode, fresh->socket_mode);
    acme_daemon_tell_kept("[cr] address", old->cr_address, fresh->cr_address);
    if (fresh->bearer_source == NULL || !hsm_secret_is_read_once(fresh->bearer_source) ||
        (old->bearer_source != NULL && strcmp(old->bearer_source, fresh->bearer_source) == 0))
        return HSM_OK;
    hsm_log(HSM_LOG_ERROR, "[api] bearer-source: %s can be read at the start only",
            fresh->bearer_source);
    return HSM_ERR_USAGE;
}

static const struct acme_daemon_program program = {
    .name = PROGRAM,
    .config_size = sizeof(struct sks_sp_config),
    .read = read_config_file,
    .clear = clear_config,
    .run = sks_work,
    .compare = compare,
};

static void
shared_close(struct shared *shared)
{
    acme_http_listener_close(shared->cr);
    acme_http_listener_close(shared->socket);
    free(shared->socket_address);
    acme_http_listener_close(shared->api);
    sks_serving_free(shared->serving);
    sks_rates_free(shared->rates);
    hsm_secret_free(shared->bearer);
}

/* The socket is created for its owner only; then it gets the configured permissions. */
static enum hsm_status
open_socket(const char *path, unsigned permissions, struct shared *shared)
{
    enum hsm_status st;

    if (asprintf(&shared->socket_address, "unix:%s", path) < 0) {
        shared->socket_address = NULL;
        return HSM_ERR_NOMEM;
    }
    st = acme_http_listener_open(shared->socket_address, &shared->socket);
    if (st != HSM_OK || chmod(path, permissions) == 0)
        return st;
    hsm_log(HSM_LOG_ERROR, "%s: %s", path, strerror(errno));
    return HSM_ERR_IO;
}

static enum hsm_status
shared_open(const struct sks_sp_config *config, struct shared *shared)
{
    enum hsm_status st =
        acme_daemon_read_once(config->bearer_source, BEARER_QUESTION, &shared->bearer);

    if (st == HSM_OK)
        st = sks_rates_new(&shared->rates);
    if (st == HSM_OK)
        st = sks_serving_new(&shared->serving);
    if (st == HSM_OK && config->api_address != NULL)
        st = acme_http_listener_open(config->api_address, &shared->api);
    if (st == HSM_OK && config->api_socket != NULL)
        st = open_socket(config->api_socket, config->socket_permissions, shared);
    if (st == HSM_OK && config->cr_address != NULL)
        st = acme_http_listener_open(config->cr_address, &shared->cr);
    return st;
}

static enum hsm_status
supervise(const char *path, struct sks_sp_config *config)
{
    struct shared shared = {.api_address = config->api_address, .cr_address = config->cr_address};
    enum hsm_status st = shared_open(config, &shared);

    if (st == HSM_OK)
        st = acme_daemon_supervise(&program, path, config, &shared);
    shared_close(&shared);
    return st;
}

enum hsm_status
sks_run_serve(const struct arguments *arguments)
{
    CLEAR_AFTER(sks_sp_config_clear) struct sks_sp_config config = {.spc = NULL};
    enum hsm_status st = sks_sp_config_open(PROGRAM, arguments->config, &config);

    if (st != HSM_OK)
        return st;
    if (config.api_address == NULL && config.api_socket == NULL && config.cr_address == NULL)
        return acme_config_refuse(arguments->config, "api", "address",
                                  "missing, and so are [api] socket and [cr] address: nothing "
                                  "would be served");
    if (!arguments->check)
        return supervise(arguments->config, &config);
    st = sks_check(&config);
    if (st == HSM_OK)
        printf("%s: good\n", arguments->config);
    return st;
}
