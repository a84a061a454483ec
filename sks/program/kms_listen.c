/* kms_listen.c - /metrics, /readyz and /healthz of sti-kms run, on a thread of their own. */
#include "kms_listen.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include <acme/daemon.h>
#include <acme/http_server.h>
#include <acme/operations.h>
#include <hsm/defer.h>
#include <hsm/log.h>

#define HANDLER_THREADS 1 /* requests are local and infrequent */

struct kms_listening {
    struct acme_daemon_config config; /* only the metrics listener; texts borrowed */
    struct acme_operations operations;
    struct acme_http_loop *loop;
    pthread_t thread;
    atomic_bool *is_tended; /* borrowed */
    bool is_running;
};

static void
not_ready(void *context, json_t *reasons)
{
    const struct kms_listening *listening = context;

    if (!*listening->is_tended)
        (void)json_array_append_new(
            reasons, json_string("the trusted-CA list and the CRL were not asked for yet"));
}

static void *
run(void *context)
{
    if (acme_http_loop_run(context) != HSM_OK)
        hsm_log(HSM_LOG_ERROR, "metrics are not told any more");
    return NULL;
}

/* With all signals blocked: the main thread handles them. */
static enum hsm_status
start_thread(struct kms_listening *listening)
{
    sigset_t all, before;

    acme_http_loop_leave_signals(listening->loop);
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    listening->is_running = pthread_create(&listening->thread, NULL, run, listening->loop) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (listening->is_running)
        return HSM_OK;
    hsm_log(HSM_LOG_ERROR, "cannot start a thread");
    return HSM_ERR_IO;
}

enum hsm_status
kms_listen(const struct acme_http_listener *listener, const char *address,
           struct hsm_metrics *metrics, atomic_bool *is_tended, struct kms_listening **out)
{
    DEFER(kms_listen_end) struct kms_listening *listening = calloc(1, sizeof(*listening));
    enum hsm_status st;

    if (listening == NULL)
        return HSM_ERR_NOMEM;
    listening->is_tended = is_tended;
    listening->config.metrics_address = (char *)(uintptr_t)address; /* not changed */
    listening->config.shared.metrics_listener = listener;
    listening->config.shared.metrics = metrics;
    listening->operations =
        (struct acme_operations){.metrics = metrics, .not_ready = not_ready, .context = listening};
    st = acme_http_loop_new(HANDLER_THREADS, &listening->loop);
    if (st == HSM_OK)
        st =
            acme_daemon_listen_metrics(&listening->config, listening->loop, &listening->operations);
    if (st == HSM_OK)
        st = start_thread(listening);
    if (st != HSM_OK)
        return st;
    *out = listening;
    listening = NULL;
    return HSM_OK;
}

void
kms_listen_end(struct kms_listening *listening)
{
    if (listening == NULL)
        return;
    if (listening->is_running) {
        acme_http_loop_stop(listening->loop);
        pthread_join(listening->thread, NULL);
    }
    acme_http_loop_free(listening->loop);
    free(listening);
}
