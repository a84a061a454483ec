/*
 * supervise_reload.c - workers of a new configuration take the place of the old ones, one by one.
 *
 * The first of them is a candidate: it opens all that the new configuration names while the old
 * workers serve. Only when it is ready do others follow; if it ends before, nothing has changed.
 * Sockets are shared, so some worker always accepts, and an old worker ends when its connections
 * have ended: no request is lost. When all are ready the configuration is adopted. If none becomes
 * ready for too long (a token has no session left for one more worker), the same steps lead back to
 * the old configuration.
 */
#include "supervise_internal.h"

#include <inttypes.h>
#include <stdio.h>

#include <hsm/log.h>

#include "clock_internal.h"
#include "module_internal.h"
#include "notify_internal.h"

/* sd_notify(3): with the time, for Type=notify-reload. */
static void
notify_reloading(void)
{
    char text[64];

    snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%" PRId64, hsm_clock_ns() / 1000);
    hsm_notify(text);
}

static struct slot *
other_half(struct supervisor *supervisor)
{
    return &supervisor->slots[(1 - supervisor->half) * HSM_WORKERS_MAX];
}

/* Not while workers that the last reload replaced may still have connections. */
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
           hsm_supervisor_count(supervisor, STARTING) == 0;
}

void
hsm_supervisor_begin_reload(struct supervisor *supervisor, int64_t now)
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
    hsm_latches_begin_configuration(); /* it may have another PIN */
    supervisor->candidates = workers;
    supervisor->candidate = other_half(supervisor);
    supervisor->candidate->state = RESTING;
    supervisor->candidate->until = now;
    supervisor->candidate->failures = 0;
}

/* Workers that start from now on have the old configuration. */
static void
abandon(const struct hsm_supervise_config *config, unsigned workers)
{
    (void)config->reload(config->context, HSM_RELOAD_ABANDON, &workers);
    hsm_latches_abandon_configuration();
}

bool
hsm_supervisor_reload_failed(struct supervisor *supervisor, const struct slot *slot,
                             const char *why)
{
    const struct hsm_supervise_config *config = &supervisor->config;
    unsigned workers = config->workers;

    if (slot != supervisor->candidate)
        return false;
    hsm_log(HSM_LOG_ERROR,
            "worker (pid %d) of the new configuration ended with %s: the old one stays in use",
            (int)slot->pid, why);
    supervisor->candidate = NULL;
    abandon(config, workers);
    hsm_notify("READY=1");
    return true;
}

/* Ask a worker to take no more connections; one without a process is not started again. */
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

/* The workers of the other half take the places of those in use. */
static void
change_sides(struct supervisor *supervisor, unsigned workers, int64_t now)
{
    struct slot *old = slots_in_use(supervisor);
    struct slot *slots = other_half(supervisor);

    for (unsigned i = 0; i < HSM_WORKERS_MAX; i++) {
        if (old[i].state == RESTING)
            old[i].state = UNUSED;
        old[i].is_retired = true; /* if it ends now, its old configuration is not started again */
    }
    for (unsigned i = 0; i < workers; i++) {
        if (slots[i].state == SERVING)
            slots[i].is_retired = false;
        if (slots[i].state != UNUSED)
            continue;
        slots[i].state = RESTING;
        slots[i].until = now;
        slots[i].failures = 0;
    }
    supervisor->config.workers = workers;
    supervisor->half = 1 - supervisor->half;
    supervisor->is_replacing = true;
    supervisor->reload_until = now + supervisor->config.reload_ms;
}

/* The candidate is good: others follow. */
static void
take_over(struct supervisor *supervisor, int64_t now)
{
    supervisor->candidate = NULL;
    supervisor->is_going_back = false;
    supervisor->workers_before = supervisor->config.workers;
    change_sides(supervisor, supervisor->candidates, now);
}

static void
finish(struct supervisor *supervisor)
{
    const struct hsm_supervise_config *config = &supervisor->config;
    unsigned workers = config->workers;

    supervisor->is_replacing = false;
    if (supervisor->is_going_back) {
        hsm_log(HSM_LOG_WARNING, "the old configuration is in use again");
    } else {
        (void)config->reload(config->context, HSM_RELOAD_COMMIT, &workers);
        hsm_log(HSM_LOG_INFO, "the new configuration is in use");
    }
    hsm_notify("READY=1");
}

/* One old worker, or all of them at the end. */
static void
retire_others(struct supervisor *supervisor, bool all, int64_t now)
{
    struct slot *others = other_half(supervisor);

    for (unsigned i = 0; i < HSM_WORKERS_MAX; i++) {
        if (retire(supervisor, &others[i], now) && !all)
            break;
    }
}

void
hsm_supervisor_go_on_reloading(struct supervisor *supervisor, struct slot *slot, int64_t now)
{
    bool complete;

    if (slot == supervisor->candidate)
        take_over(supervisor, now);
    if (!supervisor->is_replacing) {
        retire_others(supervisor, true, now); /* it was starting when its configuration failed */
        return;
    }
    complete = hsm_supervisor_count_serving(supervisor) == supervisor->config.workers;
    supervisor->reload_until = now + supervisor->config.reload_ms;
    retire_others(supervisor, complete, now);
    if (complete)
        finish(supervisor);
}

int64_t
hsm_supervisor_reload_due(const struct supervisor *supervisor)
{
    return supervisor->is_replacing && !supervisor->is_stopping ? supervisor->reload_until : NEVER;
}

void
hsm_supervisor_give_up_reload(struct supervisor *supervisor, int64_t now)
{
    const struct hsm_supervise_config *config = &supervisor->config;
    unsigned workers = supervisor->workers_before;

    if (now < hsm_supervisor_reload_due(supervisor))
        return;
    hsm_log(HSM_LOG_ERROR,
            "of %u workers of the %s configuration %u are ready, and no other was in %u ms: %s",
            config->workers, supervisor->is_going_back ? "old" : "new",
            hsm_supervisor_count_serving(supervisor), config->reload_ms,
            supervisor->is_going_back ? "those with the new one leave" : "back to the old one");
    if (supervisor->is_going_back) {
        retire_others(supervisor, true, now);
        finish(supervisor);
        return;
    }
    abandon(config, workers);
    supervisor->is_going_back = true;
    change_sides(supervisor, supervisor->workers_before, now);
}
