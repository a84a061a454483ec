/* daemon.c - open what a daemon's configuration names, and run its service. */
#include <acme/daemon.h>

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <acme/provision.h>
#include <certs/cert.h>
#include <hsm/defer.h>
#include <hsm/log.h>
#include <hsm/metrics.h>
#include <hsm/time.h>
#include <hsm/token_meter.h>

#include "daemon_internal.h"

#define METER_S 1 /* between updates of the token's metrics and of sti_ready */

static const struct hsm_metric ready = {"sti_ready", "1: /readyz would say so.", HSM_GAUGE_MIN,
                                        NULL, NULL};

struct acme_daemon {
    const struct acme_daemon_config *config; /* borrowed */
    struct hsm_token *token;
    struct hsm_key *tls_key;
    struct certs_chain *tls_chain;
    struct certs_chain *client_anchors;
};

enum hsm_status
acme_daemon_check(const char *path, const struct acme_daemon_config *config)
{
    enum hsm_log_format format;
    enum hsm_log_level level;
    enum hsm_route route;
    enum hsm_journal_failure failure;

    if (config->token.route != NULL && hsm_route_parse(config->token.route, &route) != HSM_OK)
        return acme_config_refuse(path, "token", "route", "neither libp11 nor direct");
    if (hsm_journal_failure_parse(config->journal.on_failure, &failure) != HSM_OK)
        return acme_config_refuse(path, "journal", "on-failure",
                                  "neither by-kind, refuse nor go-on");
    if (hsm_log_format_parse(config->log_format, &format) != HSM_OK)
        return acme_config_refuse(path, "log", "format", "neither text nor json");
    if (hsm_log_level_parse(config->log_level, &level) != HSM_OK)
        return acme_config_refuse(path, "log", "level", "not error, warning, info or debug");
    if (config->address != NULL && !acme_http_address_is_valid(config->address))
        return acme_config_refuse(path, "server", "address", "not ADDRESS:PORT");
    if (config->metrics_address != NULL && !acme_http_address_is_loopback(config->metrics_address))
        return acme_config_refuse(path, "metrics", "address", "not ADDRESS:PORT of loopback");
    return HSM_OK;
}

enum hsm_status
acme_daemon_log(const char *program, const struct acme_daemon_config *config)
{
    struct hsm_log_config log = {.program = program};
    enum hsm_status st = hsm_log_format_parse(config->log_format, &log.format);

    if (st == HSM_OK)
        st = hsm_log_level_parse(config->log_level, &log.level);
    if (st == HSM_OK)
        hsm_log_open(&log);
    return st;
}

static enum hsm_status
open_token(struct hsm_token_config *token, const char *pin_source, struct hsm_token **out)
{
    DEFER(hsm_secret_free) struct hsm_secret *pin = NULL;
    enum hsm_status st = HSM_OK;

    if (token->pin == NULL && pin_source != NULL) {
        st = hsm_secret_from(pin_source, ACME_DAEMON_PIN_QUESTION, &pin);
        token->pin = pin;
    }
    return st == HSM_OK ? hsm_token_open(token, out) : st;
}

enum hsm_status
acme_daemon_token(const char *uri, const char *module, const char *pin_source, const char *dir,
                  struct hsm_token **out)
{
    DEFER(free) char *journal_dir = acme_provision_path(dir, ACME_JOURNAL_DIR);
    const struct hsm_journal_config journal = {.dir = journal_dir};
    struct hsm_token_config token = {.uri = uri, .module = module, .journal = &journal};

    return journal_dir != NULL ? open_token(&token, pin_source, out) : HSM_ERR_NOMEM;
}

enum hsm_status
acme_daemon_login(const struct acme_daemon_config *config, struct hsm_token **out)
{
    const struct acme_token_settings *s = &config->token;
    struct hsm_journal_config journal;
    struct hsm_token_config token = {
        .uri = config->token_uri,
        .module = config->module,
        .pin = config->shared.pin,
        .sessions = (unsigned)s->sessions,
        .workers = (unsigned)s->workers,
        .queue_max = (unsigned)s->queue_max,
        .op_timeout_ms = (unsigned)s->op_timeout_ms,
        .reconnect_min_ms = (unsigned)s->reconnect_min_ms,
        .reconnect_max_ms = (unsigned)s->reconnect_max_ms,
        .verify_every = (unsigned)s->verify_every,
        .probe_ms = (unsigned)s->probe_ms,
        .quirks = s->quirks,
    };
    enum hsm_status st = acme_journal_settings(&config->journal, &journal);

    if (st == HSM_OK && s->route != NULL)
        st = hsm_route_parse(s->route, &token.route); /* acme_daemon_check() has logged an error */
    if (st != HSM_OK)
        return st;
    if (journal.dir != NULL)
        token.journal = &journal;
    return open_token(&token, config->pin_source, out);
}

enum hsm_status
acme_daemon_read_once(const char *source, const char *question, struct hsm_secret **out)
{
    if (source == NULL || !hsm_secret_is_read_once(source))
        return HSM_OK;
    return hsm_secret_from(source, question, out);
}

static void
warn_unless_valid(const char *path, const X509 *cert, time_t now)
{
    bool is_early = now < certs_cert_not_before(cert);
    DEFER(free) char *subject = NULL;
    char when[HSM_TIME_LEN + 1];

    if (!is_early && now <= certs_cert_not_after(cert))
        return;
    subject = certs_cert_subject(cert);
    hsm_time_format(is_early ? certs_cert_not_before(cert) : certs_cert_not_after(cert), when);
    hsm_log(HSM_LOG_WARNING, "%s: certificate \"%s\" %s %s", path, subject != NULL ? subject : "",
            is_early ? "is not valid before" : "has expired:", when);
}

enum hsm_status
acme_daemon_chain_read(const char *path, struct certs_chain **out)
{
    time_t now = time(NULL);
    enum hsm_status st = certs_chain_read(path, out);

    for (size_t i = 0; st == HSM_OK && i < certs_chain_len(*out); i++)
        warn_unless_valid(path, certs_chain_get(*out, i), now);
    return st;
}

enum hsm_status
acme_daemon_open(const struct acme_daemon_config *config, struct acme_daemon **out)
{
    DEFER(acme_daemon_close) struct acme_daemon *daemon = calloc(1, sizeof(*daemon));
    enum hsm_status st;

    if (daemon == NULL)
        return HSM_ERR_NOMEM;
    daemon->config = config;
    st = acme_daemon_login(config, &daemon->token);
    if (st == HSM_OK)
        st = hsm_key_find(daemon->token, config->tls_key, &daemon->tls_key);
    if (st == HSM_OK)
        st = acme_daemon_chain_read(config->tls_chain, &daemon->tls_chain);
    if (st == HSM_OK && config->client_anchors != NULL)
        st = certs_chain_read(config->client_anchors, &daemon->client_anchors);
    if (st != HSM_OK)
        return st;
    if (!hsm_key_matches(daemon->tls_key,
                         certs_cert_public(certs_chain_get(daemon->tls_chain, 0)))) {
        hsm_log(HSM_LOG_ERROR, "%s: not the certificate of %s", config->tls_chain, config->tls_key);
        return HSM_ERR_UNTRUSTED;
    }

    *out = daemon;
    daemon = NULL;
    return HSM_OK;
}

struct hsm_token *
acme_daemon_lend_token(const struct acme_daemon *daemon)
{
    return daemon->token;
}

/* ---- serving ---- */

/* What one worker serves with; lives as long as its loop. */
struct serving {
    const struct acme_daemon *daemon;
    const struct acme_daemon_service *service;
    struct acme_operations operations;
    struct hsm_token_meter *meter;
};

static void
not_ready(void *context, json_t *reasons)
{
    const struct serving *serving = context;

    if (!hsm_token_is_ready(serving->daemon->token))
        (void)json_array_append_new(reasons, json_string("the token is not there"));
    serving->service->not_ready(serving->service->handler.context, reasons);
}

static bool
is_operations(const char *path)
{
    return strcmp(path, ACME_OPERATIONS_HEALTHZ) == 0 || strcmp(path, ACME_OPERATIONS_READYZ) == 0;
}

static void
handle(void *context, const struct acme_http_request *request, struct acme_http_response *response)
{
    const struct serving *serving = context;
    const struct acme_http_handler *handler = &serving->service->handler;

    if (is_operations(acme_http_request_path(request)))
        (void)acme_operations_answer(&serving->operations, request, response);
    else
        handler->handle(handler->context, request, response);
}

static bool
is_quick(void *context, enum acme_http_method method, const char *path)
{
    const struct serving *serving = context;
    const struct acme_http_handler *handler = &serving->service->handler;

    if (is_operations(path))
        return strcmp(path, ACME_OPERATIONS_HEALTHZ) == 0;
    return handler->is_quick != NULL && handler->is_quick(handler->context, method, path);
}

static bool
is_brief(void *context, enum acme_http_method method, const char *path)
{
    const struct serving *serving = context;
    const struct acme_http_handler *handler = &serving->service->handler;

    return handler->is_brief != NULL && handler->is_brief(handler->context, method, path);
}

static bool
is_slow(void *context, enum acme_http_method method, const char *path)
{
    const struct serving *serving = context;
    const struct acme_http_handler *handler = &serving->service->handler;

    return handler->is_slow != NULL && handler->is_slow(handler->context, method, path);
}

static void
observe(void *context)
{
    const struct serving *serving = context;
    json_t *reasons = json_array();

    hsm_token_meter_read(serving->meter);
    if (reasons == NULL)
        return;
    not_ready(context, reasons);
    hsm_series_set(hsm_series(serving->operations.metrics, &ready, NULL),
                   json_array_size(reasons) == 0 ? 1 : 0);
    json_decref(reasons);
}

enum hsm_status
acme_daemon_listen_metrics(const struct acme_daemon_config *config, struct acme_http_loop *loop,
                           const struct acme_operations *operations)
{
    /* requests for metrics come every few seconds and are not logged */
    const struct acme_http_server_config server = {
        .address = config->metrics_address,
        .listener = config->shared.metrics_listener,
        .without_tls = true,
        .is_quiet = true,
        .metrics = config->shared.metrics,
        .handler = acme_operations_handler(operations),
    };

    if (config->shared.metrics_listener == NULL)
        return HSM_OK;
    return acme_http_loop_listen(loop, &server);
}

static enum hsm_status
listen_all(struct serving *serving, struct acme_http_loop *loop)
{
    const struct acme_daemon *daemon = serving->daemon;
    const struct acme_http_server_config server = {
        .address = daemon->config->address,
        .listener = daemon->config->shared.listener,
        .tls_key = daemon->tls_key,
        .tls_chain = daemon->tls_chain,
        .client_anchors = daemon->client_anchors,
        .is_quiet = !daemon->config->log_requests,
        .metrics = daemon->config->shared.metrics,
        .handler = {.handle = handle,
                    .is_quick = is_quick,
                    .is_brief = is_brief,
                    .is_slow = is_slow,
                    .context = serving},
    };
    enum hsm_status st = acme_http_loop_listen(loop, &server);

    return st == HSM_OK ? acme_daemon_listen_metrics(daemon->config, loop, &serving->operations)
                        : st;
}

static enum hsm_status
run_loop(struct serving *serving, struct acme_http_loop *loop)
{
    const struct acme_daemon_config *config = serving->daemon->config;
    const struct acme_daemon_service *service = serving->service;
    enum hsm_status st = listen_all(serving, loop);

    if (st == HSM_OK)
        st = acme_http_loop_every(loop, METER_S, observe, serving);
    if (st == HSM_OK)
        st = acme_http_loop_every(loop, service->tick_s, service->tick, service->handler.context);
    if (st != HSM_OK)
        return st;
    if (config->shared.worker != NULL)
        acme_http_loop_supervise(loop, config->shared.worker);
    hsm_log(HSM_LOG_INFO, "serving %s on %s", config->base_url, config->address);
    st = acme_http_loop_run(loop);
    if (st == HSM_ERR_BUSY) /* a handler still uses what the caller would release now */
        hsm_worker_abandon(st);
    return st;
}

enum hsm_status
acme_daemon_serve(struct acme_daemon *daemon, const struct acme_daemon_service *service)
{
    DEFER(acme_http_loop_free) struct acme_http_loop *loop = NULL;
    DEFER(hsm_token_meter_free) struct hsm_token_meter *meter = NULL;
    struct serving serving = {.daemon = daemon, .service = service};
    struct hsm_metrics *metrics = daemon->config->shared.metrics;
    enum hsm_status st = acme_http_loop_new((unsigned)daemon->config->threads, &loop);

    if (st == HSM_OK)
        st = hsm_token_meter_new(metrics, daemon->token, &meter);
    if (st != HSM_OK)
        return st;
    serving.meter = meter;
    serving.operations =
        (struct acme_operations){.metrics = metrics, .not_ready = not_ready, .context = &serving};
    return run_loop(&serving, loop);
}

void
acme_daemon_close(struct acme_daemon *daemon)
{
    if (daemon == NULL)
        return;
    certs_chain_free(daemon->client_anchors);
    certs_chain_free(daemon->tls_chain);
    hsm_key_free(daemon->tls_key);
    hsm_token_close(daemon->token);
    free(daemon);
}
