/* sks_worker.c - a worker of sti-sks: what it opens, and its event loop. */
#include "sks_commands.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <acme/provision.h>
#include <certs/cert.h>
#include <certs/chain.h>
#include <hsm/defer.h>
#include <hsm/key.h>
#include <hsm/log.h>
#include <hsm/metrics.h>
#include <hsm/supervise.h>
#include <hsm/token.h>
#include <hsm/token_meter.h>
#include <sks/callers.h>
#include <sks/catalogue.h>
#include <sks/repository.h>
#include <sks/service.h>
#include <sks/trail.h>
#include <sks/verification_meter.h>

#include "ticker.h"

#define CREDENTIALS_S 1 /* between checks of the catalogue */

/** What a worker holds, in the order of opening. */
struct sks {
    const struct sks_sp_config *config;
    const struct shared *shared; /* NULL: --check */
    struct sks_tokens *tokens;
    struct hsm_key *tls_key;
    struct certs_chain *tls_chain;
    struct certs_chain *client_anchors;
    struct hsm_secret *bearer;
    struct sks_catalogue *catalogue;
    struct sks_repository *repository;
    struct sks_sp_verification verification;
    struct sks_rates *rates; /* NULL: those of `shared` are used */
    struct sks_callers *callers; /* NULL: no file of callers is configured */
    struct sks_trail *trail; /* NULL: no record is kept */
    struct sks_service *service;
    struct hsm_token_meter *meters[SKS_TOKENS_MAX]; /* NULL: the token has not been opened */
    struct sks_verification_meter *verification_meter;
    struct acme_http_loop *loop;
    struct ticker credentials, trust;
};

static void
sks_close(struct sks *sks)
{
    acme_http_loop_free(sks->loop);
    sks_verification_meter_free(sks->verification_meter);
    for (size_t i = 0; i < SKS_TOKENS_MAX; i++)
        hsm_token_meter_free(sks->meters[i]);
    sks_service_free(sks->service);
    sks_trail_close(sks->trail);
    sks_callers_free(sks->callers);
    sks_rates_free(sks->rates);
    sks_sp_verification_close(&sks->verification);
    sks_repository_close(sks->repository);
    sks_catalogue_close(sks->catalogue);
    hsm_secret_free(sks->bearer);
    certs_chain_free(sks->client_anchors);
    certs_chain_free(sks->tls_chain);
    hsm_key_free(sks->tls_key);
    sks_tokens_close(sks->tokens);
}

/* A token that is opened later has metrics from then on. */
static void
read_token_meters(struct sks *sks)
{
    struct hsm_metrics *metrics = sks->config->common.shared.metrics;

    for (size_t i = 0; i < sks_tokens_count(sks->tokens); i++) {
        struct hsm_token *token = sks_tokens_get(sks->tokens, sks_tokens_uri(sks->tokens, i));

        if (sks->meters[i] != NULL)
            hsm_token_meter_read(sks->meters[i]);
        else if (token == NULL)
            hsm_token_meter_absent(metrics, sks_tokens_uri(sks->tokens, i));
        else
            (void)!hsm_token_meter_new(metrics, token, &sks->meters[i]); /* else at the next tick */
    }
}

static unsigned
refresh_credentials(void *context)
{
    struct sks *sks = context;

    sks_service_refresh(sks->service);
    read_token_meters(sks);
    sks_verification_meter_read(sks->verification_meter);
    return CREDENTIALS_S;
}

/* Fetching may take long; a failure keeps the previous list and CRL. */
static unsigned
refresh_trust(void *context)
{
    struct sks *sks = context;

    return sks_sp_verification_refresh(&sks->verification, time(NULL));
}

static enum hsm_status
open_tls_key(struct sks *sks)
{
    const struct sks_sp_config *config = sks->config;
    struct hsm_token *token = sks_tokens_get(sks->tokens, config->common.token_uri);
    enum hsm_status st;

    if (token != NULL) {
        st = hsm_key_find(token, config->tls_key, &sks->tls_key);
    } else {
        hsm_log(HSM_LOG_ERROR, "%s: the TLS key is in this token", config->common.token_uri);
        st = sks_tokens_check(sks->tokens); /* the first token is this one */
    }
    if (st == HSM_OK)
        st = acme_daemon_chain_read(config->tls_chain, &sks->tls_chain);
    if (st != HSM_OK)
        return st;
    if (hsm_key_matches(sks->tls_key, certs_cert_public(certs_chain_get(sks->tls_chain, 0))))
        return HSM_OK;
    hsm_log(HSM_LOG_ERROR, "%s: not the certificate of %s", config->tls_chain, config->tls_key);
    return HSM_ERR_UNTRUSTED;
}

static const struct hsm_secret *
bearer_of(const struct sks *sks)
{
    if (sks->bearer != NULL || sks->shared == NULL || sks->config->bearer_source == NULL)
        return sks->bearer;
    return sks->shared->bearer; /* read at the start */
}

static enum hsm_status
open_tls(struct sks *sks)
{
    const struct sks_sp_config *config = sks->config;
    enum hsm_status st;

    if (config->api_address == NULL && config->cr_address == NULL &&
        (sks->shared == NULL || (sks->shared->api == NULL && sks->shared->cr == NULL)))
        return HSM_OK;
    st = open_tls_key(sks);
    if (st == HSM_OK && config->client_anchors != NULL)
        st = certs_chain_read(config->client_anchors, &sks->client_anchors);
    if (st == HSM_OK && config->bearer_source != NULL &&
        (sks->shared == NULL || !hsm_secret_is_read_once(config->bearer_source)))
        st = hsm_secret_from(config->bearer_source, BEARER_QUESTION, &sks->bearer);
    if (st != HSM_OK)
        return st;
    if (config->api_address != NULL && bearer_of(sks) == NULL && sks->client_anchors == NULL &&
        config->callers == NULL) {
        hsm_log(HSM_LOG_ERROR, "[api] address wants bearer-source, client-anchors or callers: "
                               "nobody could be authenticated");
        return HSM_ERR_MALFORMED;
    }
    return HSM_OK;
}

static enum hsm_status
open_callers(struct sks *sks)
{
    const struct sks_sp_config *config = sks->config;
    enum hsm_status st = HSM_OK;

    if (config->trail != NULL)
        st = sks_trail_open(config->trail, &sks->trail);
    if (st != HSM_OK || config->callers == NULL)
        return st;
    if (sks->shared == NULL)
        st = sks_rates_new(&sks->rates);
    if (st != HSM_OK)
        return st;
    return sks_callers_read(config->callers, sks->shared == NULL ? sks->rates : sks->shared->rates,
                            &sks->callers);
}

static enum hsm_status
open_service(struct sks *sks)
{
    struct sks_service_config service = {
        .catalogue = sks->catalogue,
        .tokens = sks->tokens,
        .spc = sks->config->spc,
        .bearer = bearer_of(sks),
        .metrics = sks->config->common.shared.metrics,
        .dial_plan = &sks->config->dial_plan,
    };
    enum hsm_status st = sks_sp_verification_open(sks->config, &sks->verification);

    if (st != HSM_OK)
        return st;
    service.verifier = sks->verification.verifier;
    service.trust = sks->verification.trust;
    service.callers = sks->callers;
    service.trail = sks->trail;
    if (sks->shared != NULL) {
        service.serving = sks->shared->serving;
        service.is_candidate = hsm_worker_is_candidate(sks->config->common.shared.worker);
    }
    return sks_service_new(&service, &sks->service);
}

static enum hsm_status
sks_open(const struct sks_sp_config *config, struct sks *sks)
{
    enum hsm_status st = sks_sp_tokens_open(config, config->common.shared.pin, &sks->tokens);

    sks->config = config;
    if (st == HSM_OK)
        st = open_tls(sks);
    if (st == HSM_OK)
        st = sks_catalogue_open(config->catalogue, &sks->catalogue);
    if (st == HSM_OK)
        st = sks_repository_open(config->cr_dir, config->cr_base_url, &sks->repository);
    if (st == HSM_OK)
        st = open_callers(sks);
    if (st == HSM_OK)
        st = open_service(sks);
    return st;
}

static enum hsm_status
listen_on(struct sks *sks, const char *address, const struct acme_http_listener *listener,
          bool callers, struct acme_http_handler handler)
{
    const struct acme_daemon_config *common = &sks->config->common;
    const bool is_socket = strncmp(address, "unix:", 5) == 0;
    const struct acme_http_server_config server = {
        .address = address,
        .listener = listener,
        .tls_key = is_socket ? NULL : sks->tls_key,
        .tls_chain = is_socket ? NULL : sks->tls_chain,
        .client_anchors = callers && !is_socket ? sks->client_anchors : NULL,
        .is_quiet = !common->log_requests,
        .metrics = common->shared.metrics,
        .handler = handler,
    };
    enum hsm_status st = acme_http_loop_listen(sks->loop, &server);

    if (st == HSM_OK)
        hsm_log(HSM_LOG_INFO, "%s on %s", callers ? "signing and verification" : "STI-CR", address);
    return st;
}

static enum hsm_status
listen_to_callers(struct sks *sks)
{
    const struct shared *shared = sks->shared;
    struct acme_http_handler handler = sks_service_handler(sks->service);
    enum hsm_status st = HSM_OK;

    if (shared->api != NULL)
        st = listen_on(sks, shared->api_address, shared->api, true, handler);
    if (st != HSM_OK || shared->socket == NULL)
        return st;
    return listen_on(sks, shared->socket_address, shared->socket, true, handler);
}

/* Their end is a metric because an operator has to replace them. */
static void
tell_anchors(const struct sks *sks)
{
    static const struct hsm_metric ends = {"sti_sks_anchor_not_after_seconds",
                                           "When an STI-PA anchor ends, since 1970.", HSM_GAUGE_MIN,
                                           "subject", NULL};
    const struct certs_chain *anchors = sks->verification.pa_anchors;

    for (size_t i = 0; i < certs_chain_len(anchors); i++) {
        const X509 *anchor = certs_chain_get(anchors, i);
        DEFER(free) char *subject = certs_cert_subject(anchor);
        const char *label = subject != NULL ? subject : "";

        hsm_series_set(hsm_series(sks->config->common.shared.metrics, &ends, &label),
                       (double)certs_cert_not_after(anchor));
    }
}

static enum hsm_status
open_meters(struct sks *sks)
{
    read_token_meters(sks);
    tell_anchors(sks);
    return sks_verification_meter_new(sks->config->common.shared.metrics, sks->verification.x5u,
                                      sks->verification.trust, &sks->verification_meter);
}

static enum hsm_status
start(struct sks *sks)
{
    const struct acme_daemon_config *common = &sks->config->common;
    unsigned threads = sks->config->threads != 0 ? (unsigned)sks->config->threads
                                                 : sks_tokens_threads(sks->tokens);
    enum hsm_status st = acme_http_loop_new(threads, &sks->loop);

    if (st == HSM_OK)
        st = open_meters(sks);
    if (st != HSM_OK)
        return st;
    acme_http_loop_supervise(sks->loop, common->shared.worker);
    st = listen_to_callers(sks);
    if (st == HSM_OK)
        st = acme_daemon_listen_metrics(common, sks->loop, sks_service_operations(sks->service));
    if (st == HSM_OK && sks->shared->cr != NULL)
        st = listen_on(sks, sks->shared->cr_address, sks->shared->cr, false,
                       sks_repository_handler(sks->repository));
    if (st == HSM_OK)
        st = ticker_start(&sks->credentials, refresh_credentials, sks);
    if (st == HSM_OK)
        st = ticker_start(&sks->trust, refresh_trust, sks);
    return st;
}

/* A request, a tick or the opening of a token that is stuck still uses what would be released: then
 * the process ends without releasing anything. Everything durable is on disk already. */
static enum hsm_status
serve(struct sks *sks)
{
    enum hsm_status st = start(sks);
    bool trust_ended;
    bool credentials_ended;

    if (st == HSM_OK)
        st = acme_http_loop_run(sks->loop);
    trust_ended = ticker_stop(&sks->trust);
    credentials_ended = ticker_stop(&sks->credentials);
    if (st == HSM_ERR_BUSY || !trust_ended || !credentials_ended ||
        sks_tokens_are_opening(sks->tokens))
        hsm_worker_abandon(st);
    return st;
}

enum hsm_status
sks_work(const void *config, void *shared)
{
    CLEAR_AFTER(sks_close) struct sks sks = {.shared = shared};
    enum hsm_status st = sks_open(config, &sks);

    return st == HSM_OK ? serve(&sks) : st;
}

enum hsm_status
sks_check(const struct sks_sp_config *config)
{
    CLEAR_AFTER(sks_close) struct sks sks = {.shared = NULL};
    enum hsm_status st = sks_open(config, &sks);

    if (st == HSM_OK) /* a daemon would start with some tokens or credentials unusable */
        st = sks_tokens_check(sks.tokens);
    if (st == HSM_OK)
        st = sks_service_check(sks.service);
    return st;
}
