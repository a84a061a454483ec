/* supervise_reload.c - workers of a new configuration take the place of the old ones, one by one.
 *
 * The first of them is a candidate: it opens all that the new configuration names while the old
 * workers serve. Only when it is ready is the configuration taken; if it ends before, nothing has
 * changed. Sockets are shared, so that there is always somebody who accepts, and an old worker
 * leaves when its connections have: no request is lost.
 */
#include "supervise_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include <hsm/log.h>

#include "notify_internal.h"

/* sd_notify(3): with the time, for Type=notify-reload. */
static void
notify_reloading(void)
{
    struct timespec now;
    char text[64];

    clock_gettime(CLOCK_MONOTONIC, &now);
    snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%" PRId64,
             (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000);
    hsm_notify(text);
}

static struct slot *
other_half(struct supervisor *supervisor)
{
    return &supervisor->slots[(1 - supervisor->half) * HSM_WORKERS_MAX];
}

/* Workers that the last reload replaced may still have connections. */
static bool
is_the_time(struct supervisor *supervisor)
{
    const struct slot *others = other_half(supervisor);

    for (unsigned i = 0; i < HSM_WORKERS_MAX; i++) {
        if (others[i].state != UNUSED)
            return false;
    }
    return supervisor->wants_reload && supervisor->was_complete && !supervisor->is_stopping &&
           !supervisor->is_replacing && supervisor->candidate == NULL &&
           supervisor_count(supervisor, STARTING) == 0;
}

void
supervisor_begin_reload(struct supervisor *supervisor, int64_t now)
{
    const struct hsm_supervise_config *config = &supervisor->config;
    unsigned workers = config->workers;
    enum hsm_status st;

    if (!is_the_time(supervisor))
        return;
    supervisor->wants_reload = false;
    notify_reloading();
    st = config->reload(config->context, HSM_RELOAD_PREPARE, &workers);
    if (st == HSM_OK && (workers == 0 || workers > HSM_WORKERS_MAX)) {
        (void)config->reload(config->context, HSM_RELOAD_ABANDON, &workers);
        st = HSM_ERR_USAGE;
    }
    if (st != HSM_OK) {
        hsm_log(HSM_LOG_ERROR, "the new configuration is refused: the old one stays in use");
        hsm_notify("READY=1");
        return;
    }
    hsm_log(HSM_LOG_INFO, "a worker tries the new configuration");
    supervisor->candidates = workers;
    supervisor->candidate = other_half(supervisor);
    supervisor->candidate->state = RESTING;
    supervisor->candidate->until = now;
    supervisor->candidate->failures = 0;
}

bool
supervisor_reload_failed(struct supervisor *supervisor, const struct slot *slot, const char *why)
{
    const struct hsm_supervise_config *config = &supervisor->config;
    unsigned workers = config->workers;

    if (slot != supervisor->candidate)
        return false;
    hsm_log(HSM_LOG_ERROR,
            "worker (pid %d) of the new configuration ended with %s: the old one stays in use",
            (int)slot->pid, why);
    supervisor->candidate = NULL;
    (void)config->reload(config->context, HSM_RELOAD_ABANDON, &workers);
    hsm_notify("READY=1");
    return true;
}

/* It is asked to take no more connections; what is not there any more is not started again. */
static bool
retire(struct supervisor *supervisor, struct slot *slot, int64_t now)
{
    if (slot->state == RESTING)
        slot->state = UNUSED;
    if (slot->state != SERVING)
        return false;
    slot->state = RETIRING;
    slot->is_retired = true;
    slot->retired_until = now + supervisor->config.retire_ms;
    (void)kill(slot->pid, SIGHUP);
    return true;
}

/* The candidate is good: its configuration is the one in use. */
static void
take_over(struct supervisor *supervisor, int64_t now)
{
    struct slot *old = slots_in_use(supervisor);
    struct slot *slots;
    unsigned workers = supervisor->candidates;

    supervisor->candidate = NULL;
    (void)supervisor->config.reload(supervisor->config.context, HSM_RELOAD_COMMIT, &workers);
    supervisor->config.workers = supervisor->candidates;
    supervisor->half = 1 - supervisor->half;
    supervisor->is_replacing = true;
    slots = slots_in_use(supervisor);
    for (unsigned i = 1; i < supervisor->config.workers; i++) {
        slots[i].state = RESTING;
        slots[i].until = now;
        slots[i].failures = 0;
    }
    for (unsigned i = 0; i < HSM_WORKERS_MAX; i++) {
        if (old[i].state == RESTING)
            old[i].state = UNUSED;
        old[i].is_retired = true; /* if it ends now it is not replaced by one of its kind */
    }
}

void
supervisor_go_on_reloading(struct supervisor *supervisor, struct slot *slot, int64_t now)
{
    struct slot *others;
    bool complete;

    if (slot == supervisor->candidate)
        take_over(supervisor, now);
    if (!supervisor->is_replacing)
        return;
    others = other_half(supervisor);
    complete = supervisor_count_serving(supervisor) == supervisor->config.workers;
    for (unsigned i = 0; i < HSM_WORKERS_MAX; i++) { /* one for one, and at last all */
        if (retire(supervisor, &others[i], now) && !complete)
            break;
    }
    if (!complete)
        return;
    supervisor->is_replacing = false;
    hsm_log(HSM_LOG_INFO, "the new configuration is in use");
    hsm_notify("READY=1");
}
