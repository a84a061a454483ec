/* sp_verification.c - open the parts that verify calls and certificates, as configured. */
#define _GNU_SOURCE /* asprintf */
#include <sks/sp_verification.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <certs/path.h>
#include <hsm/defer.h>
#include <hsm/log.h>
#include <hsm/process.h>

#define PRELOAD_MAX 1048576 /* octets of a list of URLs */

/* The system's TLS CAs are trusted for repositories, which strangers run, but not for the STI-PA
 * and the STI-CA. */
static enum hsm_status
open_http(const struct sks_sp_config *config, struct sks_sp_verification *parts)
{
    const struct acme_http_client_config peers = {.tls_ca = config->tls_ca};
    const struct acme_http_client_config repositories = {.tls_ca = config->x5u_tls_ca,
                                                         .system_too = true};
    enum hsm_status st = acme_http_client_new(&peers, &parts->http);

    return st == HSM_OK ? acme_http_client_new(&repositories, &parts->repositories) : st;
}

static enum hsm_status
open_trust(const struct sks_sp_config *config, struct sks_sp_verification *parts)
{
    struct certs_path_policy policy = {
        .ca_keys = config->ca_key_kinds,
        .numbers_under_spc = config->numbers_under_spc,
        .any_tnauthlist = config->any_tnauthlist,
        .any_distribution_point = config->any_crl,
    };
    struct sks_trust_config trust = {
        .http = parts->http,
        .ca_list_url = config->ca_list_url,
        .crl_url = config->crl_url,
        .dir = config->trust_dir,
        .list_every_s = (unsigned)config->list_every_s,
        .crl_every_s = (unsigned)config->crl_every_s,
        .unused_s = (unsigned)config->cache_unused_s,
        .policy = &policy,
    };
    enum hsm_status st = certs_chain_read(config->pa_anchors, &parts->pa_anchors);

    if (st == HSM_OK && config->intermediates != NULL)
        st = certs_chain_read(config->intermediates, &parts->intermediates);
    if (st != HSM_OK)
        return st;
    policy.intermediates = parts->intermediates;
    trust.pa_anchors = parts->pa_anchors;
    return sks_trust_new(&trust, &parts->trust);
}

/* One URL per line; blank lines and text after '#' are ignored. */
static enum hsm_status
preload(const char *path, struct sks_x5u_cache *cache)
{
    DEFER(free) char *text = NULL;
    char *rest;
    char *line;
    size_t len;
    enum hsm_status st = hsm_file_read(path, PRELOAD_MAX, (uint8_t **)&text, &len);

    for (rest = text; st == HSM_OK && (line = strsep(&rest, "\n")) != NULL;) {
        struct hsm_reason why = {""};

        line[strcspn(line, "# \t\r")] = '\0';
        if (*line == '\0')
            continue;
        st = sks_x5u_preload(cache, line, &why);
        if (st != HSM_OK)
            hsm_log(HSM_LOG_ERROR, "%s: %s: %s", path, line, why.text);
    }
    return st;
}

static enum hsm_status
open_x5u(const struct sks_sp_config *config, struct sks_sp_verification *parts)
{
    DEFER(free) char *dir = NULL;
    struct sks_x5u_config x5u = {
        .http = parts->repositories,
        .ports = config->port_list,
        .private_addresses = config->private_addresses,
        .chains_max = (size_t)config->cache_chains,
        .octets_max = (size_t)config->cache_octets,
        .unused_s = (unsigned)config->cache_unused_s,
        .metrics = config->common.shared.metrics,
    };
    enum hsm_status st;

    if (config->trust_dir != NULL && asprintf(&dir, "%s/chains", config->trust_dir) < 0) {
        dir = NULL;
        return HSM_ERR_NOMEM;
    }
    x5u.dir = dir;
    st = sks_x5u_cache_new(&x5u, &parts->x5u);
    if (st == HSM_OK && config->preload != NULL)
        st = preload(config->preload, parts->x5u);
    return st;
}

static enum hsm_status
fetch_chain(void *context, const char *x5u, time_t now, struct certs_chain **out,
            struct hsm_reason *why)
{
    return sks_x5u_get(context, x5u, now, out, why);
}

static enum hsm_status
ask_for_chain(void *context, const char *x5u, time_t now, const struct sks_call *call,
              struct certs_chain **out, struct hsm_reason *why)
{
    return sks_x5u_ask(context, x5u, now, call->wait, out, why);
}

static void
vouch_for(void *context, const char *x5u)
{
    sks_x5u_vouch(context, x5u);
}

static enum hsm_status
open_verifier(struct sks_sp_verification *parts)
{
    const struct sks_verifier_config verifier = {
        .trust = parts->trust,
        .chain = fetch_chain,
        .ask = ask_for_chain,
        .vouch = vouch_for,
        .context = parts->x5u,
    };

    return sks_verifier_new(&verifier, &parts->verifier);
}

enum hsm_status
sks_sp_verification_open(const struct sks_sp_config *config, struct sks_sp_verification *out)
{
    struct sks_sp_verification parts = {.http = NULL};
    enum hsm_status st = open_http(config, &parts);

    if (st == HSM_OK)
        st = open_trust(config, &parts);
    if (st == HSM_OK)
        st = open_x5u(config, &parts);
    if (st == HSM_OK)
        st = open_verifier(&parts);
    if (st == HSM_OK)
        *out = parts;
    else
        sks_sp_verification_close(&parts);
    return st;
}

unsigned
sks_sp_verification_refresh(struct sks_sp_verification *verification, time_t now)
{
    if (sks_trust_refresh(verification->trust, now) != HSM_OK)
        hsm_log(HSM_LOG_WARNING, "trusted-CA list or CRL could not be refreshed");
    sks_x5u_refresh(verification->x5u, now);
    return sks_trust_next_s(verification->trust, now);
}

void
sks_sp_verification_close(struct sks_sp_verification *verification)
{
    sks_verifier_free(verification->verifier);
    sks_x5u_cache_free(verification->x5u);
    sks_trust_free(verification->trust);
    certs_chain_free(verification->intermediates);
    certs_chain_free(verification->pa_anchors);
    acme_http_client_free(verification->repositories);
    acme_http_client_free(verification->http);
    memset(verification, 0, sizeof(*verification));
}
