/* daemon_supervise.c - a daemon's supervisor: resources that workers share, and reloads. */
#include <acme/daemon.h>

#include <stdlib.h>
#include <string.h>

#include <hsm/defer.h>
#include <hsm/log.h>

#include "daemon_internal.h"

static const struct hsm_metric worker_events = {
    "sti_worker_events_total", "Worker processes that were started, were ready, stuck, ended.",
    HSM_COUNTER, "event", NULL};
static const struct hsm_metric reloads = {"sti_reloads_total",
                                          "New configurations that were taken or refused.",
                                          HSM_COUNTER, "outcome", NULL};
static const struct hsm_metric build = {"sti_build_info", "1, with the version.", HSM_GAUGE_MAX,
                                        "program version", NULL};

struct supervised {
    const struct acme_daemon_program *program;
    const char *path;
    void *config; /* of workers that start now */
    void *previous; /* while a new one is tried; else NULL */
    void *given; /* borrowed from the caller */
    void *context;
    struct hsm_metrics *metrics; /* in the supervisor's own place */
};

static struct acme_daemon_config *
common(void *config)
{
    return config;
}

static enum hsm_status
run_worker(struct hsm_worker *worker, void *context)
{
    const struct supervised *supervised = context;
    struct acme_daemon_config *config = common(supervised->config);
    enum hsm_status st = acme_daemon_log(supervised->program->name, config);

    if (st != HSM_OK)
        return st;
    config->shared.worker = worker;
    hsm_metrics_join(config->shared.metrics, hsm_worker_place(worker));
    return supervised->program->run(supervised->config, supervised->context);
}

static void
count(const struct supervised *supervised, const struct hsm_metric *metric, const char *label)
{
    hsm_series_add(hsm_series(supervised->metrics, metric, &label), 1);
}

static void
on_event(void *context, const struct hsm_worker_event *event)
{
    static const char *const texts[] = {
        [HSM_WORKER_STARTED] = "started",
        [HSM_WORKER_READY] = "ready",
        [HSM_WORKER_STUCK] = "stuck",
        [HSM_WORKER_ENDED] = "ended",
    };
    const struct supervised *supervised = context;

    count(supervised, &worker_events, texts[event->change]);
    if (event->change == HSM_WORKER_ENDED)
        hsm_metrics_leave(supervised->metrics, event->place);
}

/* ---- reload ---- */

static void
release(const struct supervised *supervised, void *config)
{
    if (config == NULL || config == supervised->given)
        return;
    supervised->program->clear(config);
    free(config);
}

static bool
is_same(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

void
acme_daemon_tell_kept(const char *key, const char *old, const char *fresh)
{
    if (!is_same(old, fresh))
        hsm_log(HSM_LOG_WARNING, "%s has changed: that wants a restart; until then it is %s", key,
                old != NULL ? old : "as if not given");
}

/* The listening socket is kept on a reload, so its configured address is kept, too. */
static enum hsm_status
keep_address(const char *key, const char *old, char **fresh)
{
    char *kept = old != NULL ? strdup(old) : NULL;

    if (old != NULL && kept == NULL)
        return HSM_ERR_NOMEM;
    acme_daemon_tell_kept(key, old, *fresh);
    free(*fresh);
    *fresh = kept;
    return HSM_OK;
}

/* A PIN from a source that can be read only once cannot be read again. */
static enum hsm_status
keep_shared(const struct acme_daemon_config *old, struct acme_daemon_config *fresh)
{
    bool is_once = fresh->pin_source != NULL && hsm_secret_is_read_once(fresh->pin_source);
    enum hsm_status st;

    if (is_once && !is_same(old->pin_source, fresh->pin_source)) {
        hsm_log(HSM_LOG_ERROR, "[token] pin-source: %s can be read at the start only",
                fresh->pin_source);
        return HSM_ERR_USAGE;
    }
    fresh->shared = old->shared;
    if (!is_once)
        fresh->shared.pin = NULL;
    st = keep_address("[server] address", old->address, &fresh->address);
    return st == HSM_OK
               ? keep_address("[metrics] address", old->metrics_address, &fresh->metrics_address)
               : st;
}

static enum hsm_status
read_fresh(const struct supervised *supervised, void *fresh)
{
    const struct acme_daemon_program *program = supervised->program;
    enum hsm_status st = program->read(supervised->path, fresh);

    if (st == HSM_OK)
        st = keep_shared(common(supervised->config), fresh);
    if (st == HSM_OK && program->compare != NULL)
        st = program->compare(supervised->config, fresh);
    return st;
}

static enum hsm_status
prepare(struct supervised *supervised, unsigned *workers)
{
    void *fresh = calloc(1, supervised->program->config_size);
    enum hsm_status st = fresh != NULL ? read_fresh(supervised, fresh) : HSM_ERR_NOMEM;

    if (st != HSM_OK) {
        release(supervised, fresh);
        count(supervised, &reloads, "refused");
        return st;
    }
    *workers = (unsigned)common(fresh)->workers;
    supervised->previous = supervised->config;
    supervised->config = fresh;
    return HSM_OK;
}

static enum hsm_status
reload(void *context, enum hsm_reload_step step, unsigned *workers)
{
    struct supervised *supervised = context;

    if (step == HSM_RELOAD_PREPARE)
        return prepare(supervised, workers);
    if (step == HSM_RELOAD_COMMIT) {
        release(supervised, supervised->previous);
        count(supervised, &reloads, "taken");
    } else {
        release(supervised, supervised->config);
        supervised->config = supervised->previous;
        count(supervised, &reloads, "refused");
    }
    supervised->previous = NULL;
    return step == HSM_RELOAD_COMMIT
               ? acme_daemon_log(supervised->program->name, common(supervised->config))
               : HSM_OK;
}

/* ---- the supervisor ---- */

static enum hsm_status
supervise(struct supervised *supervised)
{
    hsm_metrics_join(supervised->metrics, HSM_PLACES - 1);
    hsm_series_set(hsm_series(supervised->metrics, &build,
                              (const char *const[]){supervised->program->name, STI_VERSION}),
                   1);
    return hsm_supervise(&(struct hsm_supervise_config){
        .workers = (unsigned)common(supervised->config)->workers,
        .run = run_worker,
        .context = supervised,
        .reload = reload,
        .on_event = on_event,
    });
}

enum hsm_status
acme_daemon_supervise(const struct acme_daemon_program *program, const char *path, void *config,
                      void *context)
{
    DEFER(acme_http_listener_close) struct acme_http_listener *listener = NULL;
    DEFER(acme_http_listener_close) struct acme_http_listener *metrics_listener = NULL;
    DEFER(hsm_secret_free) struct hsm_secret *pin = NULL;
    DEFER(hsm_metrics_free) struct hsm_metrics *metrics = NULL;
    struct acme_daemon_config *given = config;
    struct supervised supervised = {
        .program = program, .path = path, .config = config, .given = config, .context = context};
    enum hsm_status st = acme_daemon_read_once(given->pin_source, ACME_DAEMON_PIN_QUESTION, &pin);

    if (st == HSM_OK && given->address != NULL)
        st = acme_http_listener_open(given->address, &listener);
    if (st == HSM_OK && given->metrics_address != NULL)
        st = acme_http_listener_open(given->metrics_address, &metrics_listener);
    if (st == HSM_OK)
        st = hsm_metrics_new(HSM_PLACES, &metrics);
    if (st != HSM_OK)
        return st;
    supervised.metrics = metrics;
    given->shared = (struct acme_daemon_shared){
        .pin = pin, .listener = listener, .metrics_listener = metrics_listener, .metrics = metrics};
    st = supervise(&supervised);
    release(&supervised, supervised.previous);
    release(&supervised, supervised.config);
    memset(&given->shared, 0, sizeof(given->shared));
    return st;
}
