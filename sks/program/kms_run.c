/* kms_run.c - sti-kms run: the SP-KMS as a daemon. */
#include "kms_commands.h"

#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <acme/provision.h>
#include <hsm/defer.h>
#include <hsm/log.h>
#include <hsm/secret.h>
#include <hsm/supervise.h>

#define HEARTBEAT_MS                                                                               \
    600000 /* a signature, a fetch or a program of the operator's may take long                    \
            */
#define SLICE_MS 200 /* between looks at signals while nothing is to be done */
#define BUSY_S   2 /* until the next try when another sti-kms is at work */

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

/* Whoever waits asks this: so it is not stuck. */
static bool
is_stopped(void *context)
{
    hsm_worker_beat(context);
    return stop_asked != 0;
}

/* True: until the time is over; false: a signal wants something. */
static bool
rest(struct hsm_worker *worker, unsigned seconds)
{
    for (unsigned slices = seconds * 1000 / SLICE_MS; slices > 0; slices--) {
        const struct timespec slice = {.tv_nsec = SLICE_MS * 1000000L};

        if (is_stopped(worker) || reload_asked != 0)
            return false;
        (void)nanosleep(&slice, NULL);
    }
    return true;
}

static unsigned
one_round(const struct sks_sp_config *config, struct sks_kms *kms)
{
    unsigned again_s = BUSY_S;
    int lock;

    if (kms_lock(config, 0, &lock) != HSM_OK)
        return BUSY_S;
    if (sks_kms_round(kms, time(NULL), &again_s) != HSM_OK)
        hsm_log(HSM_LOG_ERROR, "the catalogue could not be used; tried again in %u s", again_s);
    close(lock);
    return again_s;
}

struct daemon {
    const struct arguments *arguments;
    struct hsm_secret *pin; /* of a source that can be read once only */
};

/* What a worker works with; replaced as a whole by a reload. */
struct opened {
    struct sks_sp_config config;
    struct sks_kms *kms; /* borrows the configuration: this struct does not move */
};

static void
opened_free(struct opened *opened)
{
    if (opened == NULL)
        return;
    sks_kms_close(opened->kms);
    sks_sp_config_clear(&opened->config);
    free(opened);
}

DEFINE_DEFER(struct opened, opened_free)

static enum hsm_status
open_all(const struct daemon *daemon, struct hsm_worker *worker, struct opened **out)
{
    DEFER(opened_free) struct opened *opened = calloc(1, sizeof(*opened));
    const struct sks_kms_hooks hooks = {
        .progress = log_line, .stopped = is_stopped, .context = worker};
    enum hsm_status st = HSM_ERR_NOMEM;

    if (opened != NULL)
        st = kms_read_config(daemon->arguments, &opened->config);
    if (st == HSM_OK)
        st = kms_check_config(&opened->config);
    if (st != HSM_OK)
        return st;
    opened->config.common.shared.pin = daemon->pin;
    st = sks_kms_open(&opened->config, &hooks, &opened->kms);
    if (st != HSM_OK)
        return st;
    *out = opened;
    opened = NULL;
    return HSM_OK;
}

/* A configuration that is not good leaves everything as it is. */
static void
reload(const struct daemon *daemon, struct hsm_worker *worker, struct opened **opened)
{
    struct opened *next = NULL;

    reload_asked = 0;
    if (open_all(daemon, worker, &next) != HSM_OK) {
        hsm_log(HSM_LOG_ERROR, "the configuration was not read again; it stays as it was");
        return;
    }
    opened_free(*opened);
    *opened = next;
    hsm_log(HSM_LOG_INFO, "the configuration was read again");
}

static enum hsm_status
work(struct hsm_worker *worker, void *context)
{
    const struct daemon *daemon = context;
    DEFER(opened_free) struct opened *opened = NULL;
    enum hsm_status st = open_all(daemon, worker, &opened);

    if (st == HSM_OK) {
        take_signals();
        hsm_worker_ready(worker);
    }
    while (st == HSM_OK && stop_asked == 0) {
        if (!rest(worker, one_round(&opened->config, opened->kms)) && reload_asked != 0)
            reload(daemon, worker, &opened);
    }
    return st;
}

/* A worker that is started again must be able to read them again. */
static enum hsm_status
check_sources(const struct sks_sp_config *config)
{
    const char *const sources[] = {config->pa_password_source, config->upload_bearer_source};

    for (size_t i = 0; i < sizeof(sources) / sizeof(sources[0]); i++)
        if (sources[i] != NULL && hsm_secret_is_read_once(sources[i])) {
            hsm_log(HSM_LOG_ERROR, "run wants secrets from sources that can be read again: "
                                   "file:PATH or credential:NAME");
            return HSM_ERR_MALFORMED;
        }
    return HSM_OK;
}

enum hsm_status
kms_run(const void *command_line)
{
    struct daemon daemon = {.arguments = command_line};
    CONFIG config = {.spc = NULL};
    enum hsm_status st = kms_read_config(daemon.arguments, &config);

    if (st == HSM_OK)
        st = kms_check_config(&config);
    if (st == HSM_OK)
        st = check_sources(&config);
    if (st == HSM_OK)
        st = acme_daemon_read_once(config.common.pin_source, "PIN of the token", &daemon.pin);
    if (st == HSM_OK)
        st = hsm_supervise(&(struct hsm_supervise_config){
            .workers = 1, .run = work, .context = &daemon, .heartbeat_ms = HEARTBEAT_MS});
    hsm_secret_free(daemon.pin);
    return st;
}
