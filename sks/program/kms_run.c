/*
 * kms_run.c - sti-kms run: the SP-KMS as a daemon.
 *
 * Each provider has its own thread, so that a slow STI-PA, STI-CA, STI-CR or token of one does not
 * delay the others. One more thread does what all providers share. The main thread handles signals.
 */
#define _GNU_SOURCE /* pthread_tryjoin_np */
#include "kms_commands.h"
#include "kms_listen.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <acme/backoff.h>
#include <acme/daemon.h>
#include <acme/http_server.h>
#include <acme/provision.h>
#include <hsm/clock.h>
#include <hsm/defer.h>
#include <hsm/log.h>
#include <hsm/metrics.h>
#include <hsm/secret.h>
#include <hsm/supervise.h>
#include <hsm/token.h>

/* A signature, a fetch or an operator's program may take long. */
#define HEARTBEAT_MS    600000
#define STUCK_S         500 /* a thread silent for longer stops the worker's heartbeat */
#define SLICE_MS        200 /* between checks for signals while idle */
#define BUSY_S          2 /* until the next attempt when another sti-kms holds the lock */
#define STOP_LIMIT_MS   10000 /* for the threads to end when the daemon stops */
#define STARTS_A_SECOND 8 /* first looks at providers are spread at this rate */
#define LOCK_TROUBLE_S  600 /* a lock held elsewhere for longer is recorded as a trouble */

enum {
    WORKER_PART,
    SUPERVISOR_PART,
    PARTS
}; /* of the metrics */

static volatile sig_atomic_t stop_asked, reload_asked;

static void
take_signal(int number)
{
    if (number == SIGHUP)
        reload_asked = 1;
    else
        stop_asked = 1;
}

static void
take_signals(void)
{
    struct sigaction action = {.sa_handler = take_signal};

    sigemptyset(&action.sa_mask);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
}

static void
log_line(void *context, const char *line)
{
    (void)context;
    hsm_log(HSM_LOG_INFO, "%s", line);
}

static void
sleep_slice(void)
{
    const struct timespec slice = {.tv_nsec = SLICE_MS * 1000000L};

    (void)nanosleep(&slice, NULL);
}

/* ---- the threads ---- */

struct opened;

struct looker {
    struct opened *opened;
    size_t provider; /* index; provider_count: the thread that serves all providers */
    pthread_t thread;
    bool is_running; /* started and not joined yet */
    _Atomic time_t seen_at; /* its last sign of life */
};

/** What a worker has open; a reload makes another one. Its address does not change. */
struct opened {
    struct sks_sp_config config;
    struct sks_kms *kms; /* borrows the configuration */
    struct looker *lookers; /* one for each provider, and one for all of them */
    size_t looker_count;
    atomic_bool is_tended; /* trusted-CA list and CRL have been requested */
    atomic_bool *is_ready; /* the daemon's, set with is_tended and never cleared; borrowed */
    atomic_bool is_ending;
    struct opened *leaving; /* the previous one, whose threads are ending; or NULL */
};

static _Thread_local struct looker *self; /* NULL in the main thread */

/* Every wait calls this, which also records that the thread is not stuck. */
static bool
is_stopped(void *context)
{
    const struct opened *opened = context;

    if (self != NULL)
        self->seen_at = time(NULL);
    return opened->is_ending;
}

static void
rest(struct opened *opened, unsigned seconds)
{
    for (unsigned slices = seconds * 1000 / SLICE_MS; slices > 0 && !is_stopped(opened); slices--)
        sleep_slice();
}

/* Record a trouble, so that `status` shows that no look is possible: at once if the lock file
 * cannot be opened, after LOCK_TROUBLE_S if another process holds the lock. Returns seconds to
 * wait. */
static unsigned
not_locked(struct opened *opened, size_t provider, enum hsm_status st, int64_t *waiting_since)
{
    const char *spc = opened->config.providers[provider].spc;
    int64_t now = hsm_clock_s();

    if (*waiting_since == 0)
        *waiting_since = now;
    if ((st != HSM_ERR_BUSY || now - *waiting_since >= LOCK_TROUBLE_S) &&
        sks_catalogue_trouble_put(sks_kms_catalogue(opened->kms), spc, SKS_KMS_LOCK_MATTER,
                                  st == HSM_ERR_BUSY ? "another sti-kms is at work for long"
                                                     : "the lock file cannot be opened",
                                  time(NULL)) != HSM_OK)
        hsm_log(HSM_LOG_WARNING, "SPC %s: the catalogue did not take that it is locked", spc);
    return st == HSM_ERR_BUSY ? BUSY_S : (unsigned)opened->config.look_every_s;
}

static unsigned
one_look(struct opened *opened, size_t provider, int64_t *waiting_since)
{
    const char *spc = opened->config.providers[provider].spc;
    unsigned again_s = BUSY_S;
    int lock;
    enum hsm_status st = kms_lock(&opened->config, spc, 0, &lock);

    if (st != HSM_OK)
        return not_locked(opened, provider, st, waiting_since);
    *waiting_since = 0;
    if (sks_kms_look(opened->kms, provider, time(NULL), &again_s) != HSM_OK)
        hsm_log(HSM_LOG_ERROR, "SPC %s: the catalogue could not be used; tried again in %u s", spc,
                again_s);
    close(lock);
    return again_s;
}

/* The random delay keeps many providers from sending their first requests at the same moment. */
static void
look_again_and_again(struct opened *opened, size_t provider)
{
    int64_t waiting_since = 0; /* for the lock, hsm_clock_s(); 0: not waiting */

    while (!opened->is_tended && !is_stopped(opened))
        sleep_slice();
    rest(opened,
         acme_backoff_random((unsigned)(opened->config.provider_count / STARTS_A_SECOND) + 1));
    while (!is_stopped(opened))
        rest(opened, one_look(opened, provider, &waiting_since));
}

static void
tend_again_and_again(struct opened *opened)
{
    sks_kms_tend(opened->kms, time(NULL));
    opened->is_tended = true;
    *opened->is_ready = true;
    sks_kms_meter(opened->kms, time(NULL));
    rest(opened, (unsigned)opened->config.look_every_s);
    while (!is_stopped(opened)) {
        sks_kms_tend(opened->kms, time(NULL));
        sks_kms_warn(opened->kms, time(NULL));
        sks_kms_meter(opened->kms, time(NULL));
        rest(opened, (unsigned)opened->config.look_every_s);
    }
}

static void *
run_looker(void *context)
{
    struct looker *looker = context;

    self = looker;
    if (looker->provider < looker->opened->config.provider_count)
        look_again_and_again(looker->opened, looker->provider);
    else
        tend_again_and_again(looker->opened);
    return NULL;
}

/* With all signals blocked: the main thread handles them. */
static enum hsm_status
start_lookers(struct opened *opened)
{
    sigset_t all, before;
    bool all_run = true;

    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    for (size_t i = 0; i < opened->looker_count; i++) {
        struct looker *looker = &opened->lookers[i];

        looker->opened = opened;
        looker->provider = i;
        looker->seen_at = time(NULL);
        looker->is_running = pthread_create(&looker->thread, NULL, run_looker, looker) == 0;
        all_run = all_run && looker->is_running;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (all_run)
        return HSM_OK;
    hsm_log(HSM_LOG_ERROR, "cannot start a thread for each provider");
    return HSM_ERR_IO;
}

/* True if all its threads have ended and no token is being opened: closing would wait for that. */
static bool
have_ended(struct opened *opened)
{
    bool all = true;

    for (size_t i = 0; i < opened->looker_count; i++) {
        struct looker *looker = &opened->lookers[i];

        if (looker->is_running && pthread_tryjoin_np(looker->thread, NULL) == 0)
            looker->is_running = false;
        all = all && !looker->is_running;
    }
    return all && !sks_kms_is_opening(opened->kms);
}

static bool
is_any_stuck(const struct opened *opened, time_t now)
{
    for (; opened != NULL; opened = opened->leaving)
        for (size_t i = 0; i < opened->looker_count; i++)
            if (opened->lookers[i].is_running && now - opened->lookers[i].seen_at > STUCK_S)
                return true;
    return false;
}

/* ---- what is open ---- */

/* Only after its threads have ended, or if they never ran. */
static void
opened_free(struct opened *opened)
{
    if (opened == NULL)
        return;
    sks_kms_close(opened->kms);
    free(opened->lookers);
    sks_sp_config_clear(&opened->config);
    free(opened);
}

DEFINE_DEFER(struct opened, opened_free)

struct daemon {
    const struct arguments *arguments;
    struct hsm_secret *pin; /* from a source that can be read only once */
    const char *metrics_address; /* from the configuration at the start; NULL: not configured */
    struct acme_http_listener *listener; /* at that address; or NULL */
    struct hsm_metrics *metrics; /* NULL without a listener */
    atomic_bool is_ready;
};

static enum hsm_status
open_all(struct daemon *daemon, struct opened **out)
{
    DEFER(opened_free) struct opened *opened = calloc(1, sizeof(*opened));
    const struct sks_kms_hooks hooks = {
        .progress = log_line, .stopped = is_stopped, .context = opened};
    enum hsm_status st = HSM_ERR_NOMEM;

    if (opened != NULL)
        st = sks_sp_config_open(PROGRAM, daemon->arguments->config, &opened->config);
    if (st == HSM_OK)
        st = kms_check_config(&opened->config);
    if (st != HSM_OK)
        return st;
    opened->is_ready = &daemon->is_ready;
    opened->config.common.shared.pin = daemon->pin;
    opened->config.common.shared.metrics = daemon->metrics;
    opened->looker_count = opened->config.provider_count + 1;
    opened->lookers = calloc(opened->looker_count, sizeof(*opened->lookers));
    if (opened->lookers == NULL)
        return HSM_ERR_NOMEM;
    st = sks_kms_open(&opened->config, &hooks, &opened->kms);
    if (st != HSM_OK)
        return st;
    *out = opened;
    opened = NULL;
    return HSM_OK;
}

/* Opens the next `struct opened` on a separate thread. */
struct reload {
    struct daemon *daemon;
    pthread_t thread;
    bool is_running; /* started and not joined yet */
    enum hsm_status status;
    struct opened *next;
};

/* Release the previous ones whose threads have ended. */
static void
let_leave(struct opened *opened)
{
    while (opened->leaving != NULL) {
        struct opened *before = opened->leaving;

        if (!have_ended(before)) {
            opened = before;
            continue;
        }
        opened->leaving = before->leaving;
        opened_free(before);
    }
}

static bool
has_reloaded(struct reload *reload)
{
    if (!reload->is_running || pthread_tryjoin_np(reload->thread, NULL) != 0)
        return false;
    reload->is_running = false;
    return true;
}

/* True if everything ended and was released in time. This waits for a login in progress: cutting it
 * short may destroy the files of a software token. */
static bool
end_all(struct opened *opened, struct reload *reload)
{
    opened->is_ending = true;
    for (int ms = 0; ms < STOP_LIMIT_MS; ms += SLICE_MS) {
        let_leave(opened);
        if (has_reloaded(reload))
            opened_free(reload->next);
        if (opened->leaving == NULL && have_ended(opened) && !reload->is_running) {
            opened_free(opened);
            return true;
        }
        sleep_slice();
    }
    return false;
}

/* ---- the main thread ---- */

static void *
run_reload(void *context)
{
    struct reload *reload = context;

    reload->status = open_all(reload->daemon, &reload->next);
    return NULL;
}

/* On a separate thread: opening a token may take a minute, and signals must be handled meanwhile.
 */
static void
begin_reload(struct reload *reload)
{
    sigset_t all, before;

    reload_asked = 0;
    hsm_token_forget_refusals(); /* there may be another PIN now */
    reload->next = NULL;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    reload->is_running = pthread_create(&reload->thread, NULL, run_reload, reload) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!reload->is_running)
        hsm_log(HSM_LOG_ERROR, "reload failed: no thread for it");
}

/* A faulty configuration leaves everything as it is. Work in progress with the old configuration is
 * interrupted where it waits, and continued with the new one. */
static enum hsm_status
end_reload(struct daemon *daemon, const struct reload *reload, struct opened **opened)
{
    struct opened *next = reload->next;

    if (reload->status != HSM_OK) {
        hsm_log(HSM_LOG_ERROR, "reload failed: still using the previous configuration");
        return HSM_OK;
    }
    acme_daemon_tell_kept("[kms] metrics-address", daemon->metrics_address,
                          next->config.kms_metrics_address);
    (*opened)->is_ending = true;
    next->leaving = *opened;
    *opened = next;
    hsm_log(HSM_LOG_INFO, "the configuration was read again");
    return start_lookers(next);
}

/* Runs until a signal to stop. Then its threads have ended, or are abandoned with the process. */
static enum hsm_status
serve(struct hsm_worker *worker, struct daemon *daemon, struct opened *opened)
{
    struct reload reload = {.daemon = daemon};
    enum hsm_status st;

    take_signals();
    hsm_worker_ready(worker);
    st = start_lookers(opened);
    while (st == HSM_OK && stop_asked == 0) {
        if (reload_asked != 0 && !reload.is_running)
            begin_reload(&reload);
        if (has_reloaded(&reload))
            st = end_reload(daemon, &reload, &opened);
        if (!is_any_stuck(opened, time(NULL)))
            hsm_worker_beat(worker);
        let_leave(opened);
        sleep_slice();
    }
    if (!end_all(opened, &reload))
        hsm_worker_abandon(st);
    return st;
}

static enum hsm_status
work(struct hsm_worker *worker, void *context)
{
    struct daemon *daemon = context;
    DEFER(kms_listen_end) struct kms_listening *listening = NULL;
    struct opened *opened = NULL;
    enum hsm_status st;

    hsm_metrics_join(daemon->metrics, WORKER_PART);
    st = open_all(daemon, &opened);
    if (st == HSM_OK && daemon->listener != NULL)
        st = kms_listen(daemon->listener, daemon->metrics_address, daemon->metrics,
                        &daemon->is_ready, &listening);
    if (st != HSM_OK) {
        opened_free(opened);
        return st;
    }
    return serve(worker, daemon, opened);
}

/* ---- start ---- */

/* A restarted worker must be able to read its secrets again. */
static enum hsm_status
check_source(const char *source)
{
    if (source == NULL || !hsm_secret_is_read_once(source))
        return HSM_OK;
    hsm_log(HSM_LOG_ERROR, "run wants secrets from sources that can be read again: "
                           "file:PATH or credential:NAME");
    return HSM_ERR_MALFORMED;
}

static enum hsm_status
check_sources(const struct sks_sp_config *config)
{
    enum hsm_status st = check_source(config->upload_bearer_source);

    for (size_t i = 0; st == HSM_OK && i < sks_sp_ca_count(config); i++)
        st = check_source(config->cas[i].eab_key_source);
    for (size_t i = 0; st == HSM_OK && i < config->provider_count; i++) {
        const struct sks_sp_provider *one = &config->providers[i];

        st = check_source(one->pa_password_source);
        if (st == HSM_OK)
            st = check_source(one->pa_api_key_source);
        if (st == HSM_OK)
            st = check_source(one->eab_key_source);
        if (st == HSM_OK)
            st = check_source(one->upload_bearer_source);
    }
    return st;
}

/* Open everything once, and log the fault of each provider. */
static enum hsm_status
check_all(struct daemon *daemon)
{
    DEFER(opened_free) struct opened *opened = NULL;
    enum hsm_status st = open_all(daemon, &opened);

    for (size_t i = 0; opened != NULL && i < opened->config.provider_count; i++) {
        struct hsm_reason why = {""};
        enum hsm_status one = sks_kms_check(opened->kms, i, &why);

        if (one != HSM_OK)
            hsm_log(HSM_LOG_ERROR, "%s: %s", opened->config.providers[i].where, why.text);
        st = st == HSM_OK ? one : st;
    }
    if (st == HSM_OK)
        printf("%s: good\n", daemon->arguments->config);
    return st;
}

/* The gauges of a worker end with it. */
static void
on_event(void *context, const struct hsm_worker_event *event)
{
    const struct daemon *daemon = context;

    if (event->change == HSM_WORKER_ENDED)
        hsm_metrics_leave(daemon->metrics, WORKER_PART);
}

static enum hsm_status
supervise(struct daemon *daemon)
{
    enum hsm_status st = HSM_OK;

    if (daemon->metrics_address != NULL)
        st = acme_http_listener_open(daemon->metrics_address, &daemon->listener);
    if (st == HSM_OK && daemon->listener != NULL)
        st = hsm_metrics_new(PARTS, &daemon->metrics);
    if (st != HSM_OK)
        return st;
    hsm_metrics_join(daemon->metrics, SUPERVISOR_PART);
    return hsm_supervise(&(struct hsm_supervise_config){.workers = 1,
                                                        .run = work,
                                                        .context = daemon,
                                                        .heartbeat_ms = HEARTBEAT_MS,
                                                        .on_event = on_event});
}

enum hsm_status
kms_run(const struct arguments *arguments)
{
    struct daemon daemon = {.arguments = arguments};
    CLEAR_AFTER(sks_sp_config_clear) struct sks_sp_config config = {.spc = NULL};
    enum hsm_status st = sks_sp_config_open(PROGRAM, arguments->config, &config);

    if (st == HSM_OK)
        st = kms_check_config(&config);
    if (st == HSM_OK)
        st = check_sources(&config);
    if (st == HSM_OK)
        st = acme_daemon_read_once(config.common.pin_source, "PIN of the token", &daemon.pin);
    daemon.metrics_address = config.kms_metrics_address;
    if (st == HSM_OK && daemon.arguments->check)
        st = check_all(&daemon);
    else if (st == HSM_OK)
        st = supervise(&daemon);
    acme_http_listener_close(daemon.listener);
    hsm_metrics_free(daemon.metrics);
    hsm_secret_free(daemon.pin);
    return st;
}
