/* supervise.c - fork workers, receive their heartbeats, replace those that ended or are stuck. */
#define _GNU_SOURCE /* sigabbrev_np */
#include "supervise_internal.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <hsm/log.h>

#include "clock_internal.h"
#include "module_internal.h"
#include "notify_internal.h"

#define BEATS_MAX 64 /* octets read from a line at once */
#define LATE_MS   500 /* a timer is later than this only if the machine stood still */

/* ---- starting ---------------------------------------------------------- */

static void
tell(const struct supervisor *supervisor, const struct slot *slot, enum hsm_worker_change change,
     unsigned rest_ms)
{
    const struct hsm_worker_event event = {
        .change = change,
        .index = slot_index(supervisor, slot),
        .place = (unsigned)(slot - supervisor->slots),
        .pid = slot->pid,
        .rest_ms = rest_ms,
        .counts = supervisor->counts,
    };

    if (supervisor->config.on_event != NULL)
        supervisor->config.on_event(supervisor->config.context, &event);
}

unsigned
hsm_supervisor_count(const struct supervisor *supervisor, enum slot_state state)
{
    unsigned count = 0;

    for (unsigned i = 0; i < SLOTS; i++)
        count += supervisor->slots[i].state == state;
    return count;
}

unsigned
hsm_supervisor_count_serving(struct supervisor *supervisor)
{
    const struct slot *slots = slots_in_use(supervisor);
    unsigned count = 0;

    for (unsigned i = 0; i < supervisor->config.workers; i++)
        count += slots[i].state == SERVING;
    return count;
}

static unsigned
count_alive(const struct supervisor *supervisor)
{
    unsigned count = 0;

    for (unsigned i = 0; i < SLOTS; i++)
        count += has_process(&supervisor->slots[i]);
    return count;
}

/* fork() failed: a limit on processes or descriptors was reached, which may pass. */
static void
could_not_start(struct supervisor *supervisor, struct slot *slot, int64_t now)
{
    hsm_log(HSM_LOG_ERROR, "worker %u: cannot be started: %s", slot_index(supervisor, slot),
            strerror(errno));
    slot->until = now + supervisor->config.restart_max_ms;
}

static void
start(struct supervisor *supervisor, struct slot *slot, int64_t now)
{
    struct hsm_worker worker = {.place = (unsigned)(slot - supervisor->slots),
                                .is_alone = count_alive(supervisor) == 0,
                                .is_candidate = slot == supervisor->candidate};
    int line[2];
    pid_t pid;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, line) != 0) {
        could_not_start(supervisor, slot, now);
        return;
    }
    fflush(NULL); /* or the worker would write it again */
    worker.line = line[1];
    pid = fork();
    if (pid == 0) {
        close(line[0]);
        hsm_supervisor_work(supervisor, &worker);
    }
    if (pid < 0)
        could_not_start(supervisor, slot, now);
    close(line[1]);
    if (pid < 0) {
        close(line[0]);
        return;
    }
    slot->state = STARTING;
    slot->pid = pid;
    slot->line = line[0];
    slot->until = now + supervisor->config.start_ms;
    slot->was_ready = false;
    slot->is_retired = false;
    supervisor->counts.started++;
    hsm_log(HSM_LOG_DEBUG, "worker %u (pid %d): started", slot_index(supervisor, slot), (int)pid);
    tell(supervisor, slot, HSM_WORKER_STARTED, 0);
}

static struct slot *
longest_resting(struct supervisor *supervisor)
{
    struct slot *slots = slots_in_use(supervisor);
    struct slot *next = NULL;

    for (unsigned i = 0; i < supervisor->config.workers; i++) {
        if (slots[i].state == RESTING && (next == NULL || slots[i].until < next->until))
            next = &slots[i];
    }
    return next;
}

/* One worker starts at a time: if its PIN is refused, the others do not try it. While a new
 * configuration is tried only its candidate starts, as it is not known yet which one will be
 * used. */
static struct slot *
next_to_start(struct supervisor *supervisor)
{
    if (supervisor->is_stopping || hsm_supervisor_count(supervisor, STARTING) > 0)
        return NULL;
    if (supervisor->candidate != NULL)
        return supervisor->candidate->state == RESTING ? supervisor->candidate : NULL;
    return longest_resting(supervisor);
}

static void
start_next(struct supervisor *supervisor, int64_t now)
{
    struct slot *next = next_to_start(supervisor);

    if (next != NULL && next->until <= now)
        start(supervisor, next, now);
}

/* ---- heartbeats -------------------------------------------------------- */

static void
became_ready(struct supervisor *supervisor, struct slot *slot, int64_t now)
{
    slot->state = SERVING;
    slot->ready_at = now;
    slot->was_ready = true;
    supervisor->was_ready = true;
    hsm_log(HSM_LOG_INFO, "worker %u (pid %d): ready", slot_index(supervisor, slot),
            (int)slot->pid);
    tell(supervisor, slot, HSM_WORKER_READY, 0);
    if (supervisor->is_stopping)
        return;
    hsm_supervisor_go_on_reloading(supervisor, slot, now);
    if (!supervisor->was_complete &&
        hsm_supervisor_count_serving(supervisor) == supervisor->config.workers) {
        supervisor->was_complete = true;
        hsm_notify("READY=1");
    }
}

static void
read_heartbeats(struct supervisor *supervisor, struct slot *slot, int64_t now)
{
    char beats[BEATS_MAX];
    ssize_t n = recv(slot->line, beats, sizeof(beats), MSG_DONTWAIT);

    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
        close(slot->line); /* its process ends, or its heartbeats will be missed */
        slot->line = -1;
    }
    if (n <= 0)
        return;
    if (slot->state == STARTING && memchr(beats, READY, (size_t)n) != NULL)
        became_ready(supervisor, slot, now);
    if (slot->state == SERVING || slot->state == RETIRING)
        slot->until = now + supervisor->config.heartbeat_ms;
}

static void
kill_stuck(struct supervisor *supervisor, struct slot *slot)
{
    const char *what = slot->state == STARTING ? "not ready" : "no heartbeat";

    if (supervisor->is_stopping || slot->state == RETIRING)
        what = "did not end";
    hsm_log(HSM_LOG_ERROR, "worker %u (pid %d): %s in time: killed", slot_index(supervisor, slot),
            (int)slot->pid, what);
    supervisor->counts.stuck++;
    (void)kill(slot->pid, SIGKILL);
    slot->state = KILLED;
    slot->until = NEVER;
    tell(supervisor, slot, HSM_WORKER_STUCK, 0);
}

static bool
may_be_overdue(const struct slot *slot)
{
    return has_process(slot) && slot->state != KILLED;
}

static int64_t
earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t
overdue_at(const struct supervisor *supervisor, const struct slot *slot)
{
    if (supervisor->is_stopping)
        return supervisor->stop_until;
    return slot->state == RETIRING ? earlier(slot->until, slot->retired_until) : slot->until;
}

static void
kill_overdue(struct supervisor *supervisor, int64_t now)
{
    for (unsigned i = 0; i < SLOTS; i++) {
        struct slot *slot = &supervisor->slots[i];

        if (may_be_overdue(slot) && overdue_at(supervisor, slot) <= now)
            kill_stuck(supervisor, slot);
    }
}

/* ---- ends -------------------------------------------------------------- */

static void
signal_all(const struct supervisor *supervisor, int number)
{
    for (unsigned i = 0; i < SLOTS; i++) {
        if (may_be_overdue(&supervisor->slots[i]))
            (void)kill(supervisor->slots[i].pid, number);
    }
}

static void
stop(struct supervisor *supervisor, int number, int64_t now)
{
    if (!supervisor->is_stopping) {
        supervisor->is_stopping = true;
        supervisor->stop_until = now + supervisor->config.stop_ms;
        hsm_notify("STOPPING=1");
    }
    signal_all(supervisor, number);
}

/* Describe a wait status for the log, and as a status. */
static enum hsm_status
judge(int status, char *text, size_t size)
{
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;

    if (WIFSIGNALED(status)) {
        const char *name = sigabbrev_np(WTERMSIG(status));

        snprintf(text, size, "signal %d (%s%s)", WTERMSIG(status), name != NULL ? "SIG" : "",
                 name != NULL ? name : "unknown");
        return HSM_ERR_IO;
    }
    if (code > HSM_WORKER_EXIT_BASE && code <= HSM_WORKER_EXIT_BASE + HSM_ERR_IO) {
        enum hsm_status st = (enum hsm_status)(code - HSM_WORKER_EXIT_BASE);

        snprintf(text, size, "%s", hsm_status_text(st));
        return st;
    }
    snprintf(text, size, "exit status %d", code);
    return code == 0 ? HSM_OK : HSM_ERR_IO;
}

/* Statuses caused by the operator's configuration, not by a passing condition. */
static bool
is_lasting(enum hsm_status st)
{
    return st != HSM_OK && st != HSM_ERR_BUSY && st != HSM_ERR_NOMEM && st != HSM_ERR_IO &&
           st != HSM_ERR_CRYPTO;
}

/* A signal, or an exit status that workers do not use: the cause was not reported. */
static bool
is_crash(int status)
{
    return WIFSIGNALED(status) ||
           (WEXITSTATUS(status) != 0 && (WEXITSTATUS(status) <= HSM_WORKER_EXIT_BASE ||
                                         WEXITSTATUS(status) > HSM_WORKER_EXIT_BASE + HSM_ERR_IO));
}

static bool
ends_all(const struct supervisor *supervisor, int status, enum hsm_status st)
{
    if (st == HSM_ERR_DENIED)
        return true;
    return !supervisor->was_ready && st != HSM_OK && st != HSM_ERR_BUSY && !is_crash(status);
}

static unsigned
rest_of(const struct supervisor *supervisor, struct slot *slot, enum hsm_status st, int64_t now)
{
    const struct hsm_supervise_config *config = &supervisor->config;
    uint64_t rest = config->restart_min_ms;

    if (slot->was_ready && now - slot->ready_at >= (int64_t)config->restart_max_ms)
        slot->failures = 0;
    for (unsigned i = 0; i < slot->failures && rest < config->restart_max_ms; i++)
        rest *= 2;
    slot->failures++;
    if (is_lasting(st) || rest > config->restart_max_ms)
        rest = config->restart_max_ms;
    return (unsigned)rest;
}

/* While stopping: determines the result of hsm_supervise(). */
static void
ended_when_asked(struct supervisor *supervisor, const struct slot *slot, int status,
                 enum hsm_status st, const char *text)
{
    bool by_signal =
        WIFSIGNALED(status) && (WTERMSIG(status) == SIGTERM || WTERMSIG(status) == SIGINT);

    if (slot->state == KILLED)
        st = HSM_ERR_BUSY;
    else if (st == HSM_OK || by_signal)
        return; /* it may not have had a handler for the signal yet */
    else
        hsm_log(HSM_LOG_ERROR, "worker %u (pid %d): ended with %s while stopping",
                slot_index(supervisor, slot), (int)slot->pid, text);
    if (supervisor->result == HSM_OK)
        supervisor->result = st;
}

static unsigned
ended_by_itself(struct supervisor *supervisor, struct slot *slot, int status, enum hsm_status st,
                const char *text, int64_t now)
{
    unsigned index = slot_index(supervisor, slot);
    unsigned rest;

    supervisor->counts.failed++;
    if (ends_all(supervisor, status, st)) {
        hsm_log(HSM_LOG_ERROR, "worker %u (pid %d): ended with %s: %sall stops", index,
                (int)slot->pid, text,
                st == HSM_ERR_DENIED ? "a PIN that was refused is not tried again, " : "");
        supervisor->result = st;
        stop(supervisor, SIGTERM, now);
        return 0;
    }
    rest = rest_of(supervisor, slot, st, now);
    hsm_log(st == HSM_OK ? HSM_LOG_WARNING : HSM_LOG_ERROR,
            "worker %u (pid %d): ended with %s: started again in %u ms; %lu ended so far, %lu of"
            " them stuck",
            index, (int)slot->pid, text, rest, supervisor->counts.failed, supervisor->counts.stuck);
    return rest;
}

/* A worker of the preceding configuration: another has taken its place. */
static void
ended_retired(struct supervisor *supervisor, struct slot *slot, enum hsm_status st,
              const char *text)
{
    bool is_wanted = slots_in_use(supervisor) <= slot &&
                     slot < slots_in_use(supervisor) + supervisor->config.workers;

    if (st != HSM_OK)
        supervisor->counts.failed++;
    hsm_log(st == HSM_OK ? HSM_LOG_INFO : HSM_LOG_WARNING,
            "worker %u (pid %d): replaced, ended%s%s", slot_index(supervisor, slot), (int)slot->pid,
            st == HSM_OK ? "" : " with ", st == HSM_OK ? "" : text);
    slot->state = is_wanted ? RESTING : UNUSED; /* wanted: the reload that retired it has failed */
}

static void
reap(struct supervisor *supervisor, struct slot *slot, int64_t now)
{
    int status;
    char text[64];
    enum hsm_status st;
    unsigned rest = 0;
    bool was_asked = supervisor->is_stopping;

    if (waitpid(slot->pid, &status, WNOHANG) != slot->pid)
        return;
    if (slot->line >= 0)
        read_heartbeats(supervisor, slot, now); /* it may have become ready just before */
    if (slot->line >= 0)
        close(slot->line);
    slot->line = -1;
    st = judge(status, text, sizeof(text));
    if (was_asked)
        ended_when_asked(supervisor, slot, status, st, text);
    slot->state = RESTING;
    if (slot->is_retired)
        ended_retired(supervisor, slot, st, text);
    else if (!was_asked && hsm_supervisor_reload_failed(supervisor, slot, text))
        slot->state = UNUSED;
    else if (!was_asked) /* its failure may stop the others */
        rest = ended_by_itself(supervisor, slot, status, st, text, now);
    slot->until = now + rest;
    tell(supervisor, slot, HSM_WORKER_ENDED, rest);
    slot->pid = 0;
}

/* ---- the loop ---------------------------------------------------------- */

static void
take_signals(struct supervisor *supervisor, int64_t now)
{
    struct signalfd_siginfo info;

    while (read(supervisor->signals, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        int number = (int)info.ssi_signo;

        if (number == SIGHUP && supervisor->config.reload != NULL)
            supervisor->wants_reload = true;
        else if (number == SIGHUP)
            signal_all(supervisor, SIGHUP);
        if (number != SIGTERM && number != SIGINT)
            continue; /* SIGCHLD: all workers are polled below */
        hsm_log(HSM_LOG_INFO, "stopping: signal %d", number);
        stop(supervisor, number, now);
    }
    for (unsigned i = 0; i < SLOTS; i++) {
        if (has_process(&supervisor->slots[i]))
            reap(supervisor, &supervisor->slots[i], now);
    }
}

/* The earliest deadline that no descriptor signals. */
static int64_t
next_due(struct supervisor *supervisor)
{
    const struct slot *next = next_to_start(supervisor);
    int64_t due = supervisor->watchdog_ms > 0 ? supervisor->watchdog_at : NEVER;

    due = earlier(due, hsm_supervisor_reload_due(supervisor));
    if (next != NULL)
        due = earlier(due, next->until);
    for (unsigned i = 0; i < SLOTS; i++) {
        if (may_be_overdue(&supervisor->slots[i]))
            due = earlier(due, overdue_at(supervisor, &supervisor->slots[i]));
    }
    return due;
}

static int
poll_timeout(int64_t due)
{
    int64_t left = due == NEVER ? -1 : due - hsm_clock_ms();

    if (due == NEVER)
        return -1;
    if (left < 0)
        return 0;
    return left > INT32_MAX ? INT32_MAX : (int)left;
}

/* The machine was paused, or all processes were stopped: no worker could send heartbeats either. */
static void
extend_deadlines(struct supervisor *supervisor, int64_t late)
{
    for (unsigned i = 0; i < SLOTS; i++) {
        struct slot *slot = &supervisor->slots[i];

        if (may_be_overdue(slot)) {
            slot->until += late;
            slot->retired_until += late;
        }
    }
    if (supervisor->is_stopping)
        supervisor->stop_until += late;
    supervisor->reload_until += late;
}

static void
wait_and_hear(struct supervisor *supervisor)
{
    int64_t due = next_due(supervisor);
    struct pollfd fds[1 + SLOTS] = {{.fd = supervisor->signals, .events = POLLIN}};
    int64_t now;

    for (unsigned i = 0; i < SLOTS; i++)
        fds[1 + i] = (struct pollfd){.fd = supervisor->slots[i].line, .events = POLLIN};
    if (poll(fds, 1 + SLOTS, poll_timeout(due)) < 0)
        return; /* EINTR: stopped and continued; otherwise memory is short: try again */
    now = hsm_clock_ms();
    if (due != NEVER && now - due > LATE_MS)
        extend_deadlines(supervisor, now - due);
    for (unsigned i = 0; i < SLOTS; i++) {
        if (fds[1 + i].revents != 0)
            read_heartbeats(supervisor, &supervisor->slots[i], now);
    }
    if (fds[0].revents != 0)
        take_signals(supervisor, now);
}

static void
feed_watchdog(struct supervisor *supervisor, int64_t now)
{
    if (supervisor->watchdog_ms == 0 || now < supervisor->watchdog_at)
        return;
    hsm_notify("WATCHDOG=1");
    supervisor->watchdog_at = now + supervisor->watchdog_ms;
}

static void
loop(struct supervisor *supervisor)
{
    while (!supervisor->is_stopping || count_alive(supervisor) > 0) {
        int64_t now = hsm_clock_ms();

        feed_watchdog(supervisor, now);
        hsm_supervisor_begin_reload(supervisor, now);
        start_next(supervisor, now);
        wait_and_hear(supervisor);
        now = hsm_clock_ms();
        kill_overdue(supervisor, now); /* workers that were not heard above */
        hsm_supervisor_give_up_reload(supervisor, now);
    }
}

/* ---- the supervisor ---------------------------------------------------- */

static void
set_defaults(struct hsm_supervise_config *config)
{
    if (config->heartbeat_ms == 0)
        config->heartbeat_ms = HSM_HEARTBEAT_MS;
    if (config->start_ms == 0)
        config->start_ms = HSM_WORKER_START_MS;
    if (config->stop_ms == 0)
        config->stop_ms = HSM_WORKER_STOP_MS;
    if (config->retire_ms == 0)
        config->retire_ms = HSM_WORKER_RETIRE_MS;
    if (config->reload_ms == 0)
        config->reload_ms = HSM_RELOAD_MS;
    if (config->restart_min_ms == 0)
        config->restart_min_ms = HSM_RESTART_MIN_MS;
    if (config->restart_max_ms == 0)
        config->restart_max_ms = HSM_RESTART_MAX_MS;
}

/* Signals are read from a descriptor, so nothing is interrupted between reads. */
static enum hsm_status
take_over_signals(struct supervisor *supervisor)
{
    const struct sigaction wait_for_children = {.sa_handler = SIG_DFL};
    sigset_t ours;

    sigemptyset(&ours);
    sigaddset(&ours, SIGTERM);
    sigaddset(&ours, SIGINT);
    sigaddset(&ours, SIGHUP);
    sigaddset(&ours, SIGCHLD);
    supervisor->signals = signalfd(-1, &ours, SFD_CLOEXEC | SFD_NONBLOCK);
    if (supervisor->signals < 0) {
        hsm_log(HSM_LOG_ERROR, "cannot supervise: %s", strerror(errno));
        return HSM_ERR_IO;
    }
    (void)sigprocmask(SIG_BLOCK, &ours, &supervisor->mask_before);
    (void)sigaction(SIGCHLD, &wait_for_children, &supervisor->chld_before);
    return HSM_OK;
}

/* Discards signals that arrived while the last worker ended: the end that they ask for is
 * reached. */
static void
give_back_signals(const struct supervisor *supervisor)
{
    struct signalfd_siginfo info;

    while (read(supervisor->signals, &info, sizeof(info)) == (ssize_t)sizeof(info))
        ;
    (void)sigaction(SIGCHLD, &supervisor->chld_before, NULL);
    (void)sigprocmask(SIG_SETMASK, &supervisor->mask_before, NULL);
    close(supervisor->signals);
}

enum hsm_status
hsm_supervise(const struct hsm_supervise_config *config)
{
    struct supervisor *supervisor;
    enum hsm_status st;

    if (config->workers == 0 || config->workers > HSM_WORKERS_MAX || config->run == NULL)
        return HSM_ERR_USAGE;
    st = hsm_latches_share();
    if (st != HSM_OK)
        return st;
    supervisor = calloc(1, sizeof(*supervisor));
    if (supervisor == NULL)
        return HSM_ERR_NOMEM;
    supervisor->config = *config;
    set_defaults(&supervisor->config);
    supervisor->pid = getpid();
    supervisor->watchdog_ms = hsm_notify_watchdog_ms();
    for (unsigned i = 0; i < SLOTS; i++)
        supervisor->slots[i].line = -1;
    for (unsigned i = 0; i < config->workers; i++)
        supervisor->slots[i].state = RESTING;
    st = take_over_signals(supervisor);
    if (st == HSM_OK) {
        loop(supervisor);
        give_back_signals(supervisor);
        st = supervisor->result;
    }
    free(supervisor);
    return st;
}
