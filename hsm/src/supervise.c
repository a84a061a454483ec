/* supervise.c - fork workers, listen to their hearts, replace those that ended or are stuck. */
#define _GNU_SOURCE /* sigabbrev_np */
#include <hsm/supervise.h>

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <hsm/log.h>

#include "notify_internal.h"

#define NEVER     INT64_MAX
#define BEAT      '.' /* what a worker writes on its line */
#define READY     'R'
#define BEATS_MAX 64 /* octets taken from a line at once */
#define LATE_MS   500 /* by which a timer of ours is late only if the machine stood still */

struct hsm_worker {
    unsigned index;
    bool is_alone;
    int line; /* to the supervisor */
    pid_t supervisor;
    sigset_t mask; /* of a worker that serves */
};

enum slot_state {
    RESTING, /* there is no process */
    STARTING,
    SERVING,
    KILLED, /* and not reaped yet */
};

/* The place of one worker. Times are monotonic milliseconds. */
struct slot {
    enum slot_state state;
    pid_t pid;
    int line; /* from the worker; -1: it closed it, or there is none */
    int64_t until; /* RESTING: then it is started; STARTING, SERVING: then it is killed */
    int64_t ready_at;
    bool was_ready;
    unsigned failures; /* in a row */
};

struct supervisor {
    struct hsm_supervise_config config; /* without zeros */
    struct slot slots[HSM_WORKERS_MAX];
    pid_t pid;
    int signals; /* signalfd */
    sigset_t mask_before;
    struct sigaction chld_before;
    bool was_ready; /* a worker was, once */
    bool was_complete; /* all were, at once */
    bool is_stopping;
    int64_t stop_until;
    int64_t watchdog_ms, watchdog_at;
    struct hsm_supervise_counts counts;
    enum hsm_status result;
};

static int64_t
now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- in the worker ----------------------------------------------------- */

unsigned
hsm_worker_index(const struct hsm_worker *worker)
{
    return worker->index;
}

bool
hsm_worker_is_alone(const struct hsm_worker *worker)
{
    return worker->is_alone;
}

/* A line that is full has beats enough in it; one that is closed ends with this process. */
static void
say(struct hsm_worker *worker, char what)
{
    ssize_t n;

    do
        n = send(worker->line, &what, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
}

static int
exit_status(enum hsm_status st)
{
    return st == HSM_OK ? 0 : HSM_WORKER_EXIT_BASE + (int)st;
}

void
hsm_worker_abandon(enum hsm_status status)
{
    fflush(NULL);
    _exit(exit_status(status));
}

/*
 * While a worker starts it is in the middle of a login or a search, and a
 * software token is in the middle of its files: SoftHSM 2.6.1 empties and
 * rewrites token.object at each C_Login, and whoever is killed in between
 * leaves a token that nobody finds again. So SIGTERM and the end of the
 * supervisor wait until it is ready; if it never is, the alarm ends it.
 */
static bool
begin_start(struct hsm_worker *worker, unsigned start_ms)
{
    sigset_t later;

    if (prctl(PR_SET_PDEATHSIG, SIGTERM) != 0 || getppid() != worker->supervisor)
        return false;
    sigemptyset(&later);
    sigaddset(&later, SIGTERM);
    sigaddset(&later, SIGINT);
    (void)sigprocmask(SIG_SETMASK, &worker->mask, NULL);
    (void)sigprocmask(SIG_BLOCK, &later, NULL);
    alarm(start_ms / 1000 + 1);
    return true;
}

/* Now SIGKILL: a worker that is stuck would not notice another signal. */
static void
end_start(const struct hsm_worker *worker)
{
    alarm(0);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != worker->supervisor)
        hsm_worker_abandon(HSM_ERR_IO);
    (void)pthread_sigmask(SIG_SETMASK, &worker->mask, NULL);
}

void
hsm_worker_ready(struct hsm_worker *worker)
{
    end_start(worker);
    say(worker, READY);
}

void
hsm_worker_beat(struct hsm_worker *worker)
{
    say(worker, BEAT);
}

/* Leave what is the supervisor's. */
static void
become_worker(const struct supervisor *supervisor, struct hsm_worker *worker)
{
    const struct sigaction ignore = {.sa_handler = SIG_IGN};

    for (unsigned i = 0; i < supervisor->config.workers; i++) {
        if (supervisor->slots[i].line >= 0)
            close(supervisor->slots[i].line);
    }
    close(supervisor->signals);
    (void)sigaction(SIGHUP, &ignore, NULL);
    (void)sigaction(SIGCHLD, &supervisor->chld_before, NULL);
    worker->supervisor = supervisor->pid;
    worker->mask = supervisor->mask_before;
    if (!begin_start(worker, supervisor->config.start_ms))
        hsm_worker_abandon(HSM_ERR_IO);
}

static _Noreturn void
work(const struct supervisor *supervisor, struct hsm_worker *worker)
{
    become_worker(supervisor, worker);
    exit(exit_status(supervisor->config.run(worker, supervisor->config.context)));
}

/* ---- starting ---------------------------------------------------------- */

static void
tell(const struct supervisor *supervisor, const struct slot *slot, enum hsm_worker_change change,
     unsigned rest_ms)
{
    const struct hsm_worker_event event = {
        .change = change,
        .index = (unsigned)(slot - supervisor->slots),
        .pid = slot->pid,
        .rest_ms = rest_ms,
        .counts = supervisor->counts,
    };

    if (supervisor->config.on_event != NULL)
        supervisor->config.on_event(supervisor->config.context, &event);
}

static unsigned
count_in(const struct supervisor *supervisor, enum slot_state state)
{
    unsigned count = 0;

    for (unsigned i = 0; i < supervisor->config.workers; i++)
        count += supervisor->slots[i].state == state;
    return count;
}

static unsigned
count_alive(const struct supervisor *supervisor)
{
    return supervisor->config.workers - count_in(supervisor, RESTING);
}

/* Cannot be forked now: more processes or descriptors than are allowed, which may pass. */
static void
could_not_start(struct supervisor *supervisor, struct slot *slot, int64_t now)
{
    hsm_log(HSM_LOG_ERROR, "worker %u: cannot be started: %s", (unsigned)(slot - supervisor->slots),
            strerror(errno));
    slot->until = now + supervisor->config.restart_max_ms;
}

static void
start(struct supervisor *supervisor, struct slot *slot, int64_t now)
{
    struct hsm_worker worker = {.index = (unsigned)(slot - supervisor->slots),
                                .is_alone = count_alive(supervisor) == 0};
    int line[2];
    pid_t pid;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, line) != 0) {
        could_not_start(supervisor, slot, now);
        return;
    }
    fflush(NULL); /* or the worker would write it once more */
    worker.line = line[1];
    pid = fork();
    if (pid == 0) {
        close(line[0]);
        work(supervisor, &worker);
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
    supervisor->counts.started++;
    hsm_log(HSM_LOG_DEBUG, "worker %u (pid %d): started", worker.index, (int)pid);
    tell(supervisor, slot, HSM_WORKER_STARTED, 0);
}

/* The one that has waited longest, when none is starting: of a PIN that is refused the others learn
 * without trying it. */
static void
start_next(struct supervisor *supervisor, int64_t now)
{
    struct slot *next = NULL;

    if (supervisor->is_stopping || count_in(supervisor, STARTING) > 0)
        return;
    for (unsigned i = 0; i < supervisor->config.workers; i++) {
        struct slot *slot = &supervisor->slots[i];

        if (slot->state == RESTING && slot->until <= now &&
            (next == NULL || slot->until < next->until))
            next = slot;
    }
    if (next != NULL)
        start(supervisor, next, now);
}

/* ---- hearts ------------------------------------------------------------ */

static void
became_ready(struct supervisor *supervisor, struct slot *slot, int64_t now)
{
    slot->state = SERVING;
    slot->ready_at = now;
    slot->was_ready = true;
    supervisor->was_ready = true;
    hsm_log(HSM_LOG_INFO, "worker %u (pid %d): ready", (unsigned)(slot - supervisor->slots),
            (int)slot->pid);
    tell(supervisor, slot, HSM_WORKER_READY, 0);
    if (!supervisor->was_complete && !supervisor->is_stopping &&
        count_in(supervisor, SERVING) == supervisor->config.workers) {
        supervisor->was_complete = true;
        hsm_notify("READY=1");
    }
}

static void
hear(struct supervisor *supervisor, struct slot *slot, int64_t now)
{
    char beats[BEATS_MAX];
    ssize_t n = recv(slot->line, beats, sizeof(beats), MSG_DONTWAIT);

    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
        close(slot->line); /* it ends; or it will be missed */
        slot->line = -1;
    }
    if (n <= 0)
        return;
    if (slot->state == STARTING && memchr(beats, READY, (size_t)n) != NULL)
        became_ready(supervisor, slot, now);
    if (slot->state == SERVING)
        slot->until = now + supervisor->config.heartbeat_ms;
}

static void
kill_stuck(struct supervisor *supervisor, struct slot *slot)
{
    const char *what = slot->state == STARTING ? "not ready" : "no heartbeat";

    if (supervisor->is_stopping)
        what = "did not end";
    hsm_log(HSM_LOG_ERROR, "worker %u (pid %d): %s in time: killed",
            (unsigned)(slot - supervisor->slots), (int)slot->pid, what);
    supervisor->counts.stuck++;
    (void)kill(slot->pid, SIGKILL);
    slot->state = KILLED;
    slot->until = NEVER;
    tell(supervisor, slot, HSM_WORKER_STUCK, 0);
}

static void
kill_overdue(struct supervisor *supervisor, int64_t now)
{
    for (unsigned i = 0; i < supervisor->config.workers; i++) {
        struct slot *slot = &supervisor->slots[i];
        int64_t until = supervisor->is_stopping ? supervisor->stop_until : slot->until;

        if ((slot->state == STARTING || slot->state == SERVING) && until <= now)
            kill_stuck(supervisor, slot);
    }
}

/* ---- ends -------------------------------------------------------------- */

static void
signal_all(const struct supervisor *supervisor, int number)
{
    for (unsigned i = 0; i < supervisor->config.workers; i++) {
        if (supervisor->slots[i].state == STARTING || supervisor->slots[i].state == SERVING)
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

/* What a wait status says, for the log, and as a kind. */
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

/* Kinds that come from what an operator wrote or forgot, not from the moment. */
static bool
is_lasting(enum hsm_status st)
{
    return st != HSM_OK && st != HSM_ERR_BUSY && st != HSM_ERR_NOMEM && st != HSM_ERR_IO &&
           st != HSM_ERR_CRYPTO;
}

/* A signal, or an exit status that is none of ours: nobody had the time to say what it was. */
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

/* While stopping: what becomes of hsm_supervise(). */
static void
ended_when_asked(struct supervisor *supervisor, const struct slot *slot, int status,
                 enum hsm_status st, const char *text)
{
    bool by_signal =
        WIFSIGNALED(status) && (WTERMSIG(status) == SIGTERM || WTERMSIG(status) == SIGINT);

    if (slot->state == KILLED)
        st = HSM_ERR_BUSY;
    else if (st == HSM_OK || by_signal)
        return; /* it may not have taken the signal yet */
    else
        hsm_log(HSM_LOG_ERROR, "worker %u (pid %d): ended with %s while stopping",
                (unsigned)(slot - supervisor->slots), (int)slot->pid, text);
    if (supervisor->result == HSM_OK)
        supervisor->result = st;
}

static unsigned
ended_by_itself(struct supervisor *supervisor, struct slot *slot, int status, enum hsm_status st,
                const char *text, int64_t now)
{
    unsigned index = (unsigned)(slot - supervisor->slots);
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

static void
reap(struct supervisor *supervisor, struct slot *slot, int64_t now)
{
    int status;
    char text[64];
    enum hsm_status st;
    unsigned rest = 0;
    bool was_asked;

    if (waitpid(slot->pid, &status, WNOHANG) != slot->pid)
        return;
    if (slot->line >= 0)
        hear(supervisor, slot, now); /* it may have been ready for a moment */
    if (slot->line >= 0)
        close(slot->line);
    slot->line = -1;
    st = judge(status, text, sizeof(text));
    if (supervisor->is_stopping)
        ended_when_asked(supervisor, slot, status, st, text);
    was_asked = supervisor->is_stopping;
    slot->state = RESTING;
    if (!was_asked) /* it may stop the others */
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

        if (number == SIGHUP)
            signal_all(supervisor, SIGHUP);
        if (number != SIGTERM && number != SIGINT)
            continue; /* SIGCHLD: all are asked below */
        hsm_log(HSM_LOG_INFO, "stopping: signal %d", number);
        stop(supervisor, number, now);
    }
    for (unsigned i = 0; i < supervisor->config.workers; i++) {
        if (supervisor->slots[i].state != RESTING)
            reap(supervisor, &supervisor->slots[i], now);
    }
}

static int64_t
earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* When something is due that no descriptor tells of. */
static int64_t
next_due(const struct supervisor *supervisor)
{
    bool may_start = !supervisor->is_stopping && count_in(supervisor, STARTING) == 0;
    int64_t due = supervisor->watchdog_ms > 0 ? supervisor->watchdog_at : NEVER;

    for (unsigned i = 0; i < supervisor->config.workers; i++) {
        const struct slot *slot = &supervisor->slots[i];

        if (slot->state == RESTING ? may_start : slot->state != KILLED)
            due = earlier(due, supervisor->is_stopping ? supervisor->stop_until : slot->until);
    }
    return due;
}

static int
poll_timeout(int64_t due)
{
    int64_t left = due == NEVER ? -1 : due - now_ms();

    if (due == NEVER)
        return -1;
    if (left < 0)
        return 0;
    return left > INT32_MAX ? INT32_MAX : (int)left;
}

/* A machine that was paused, or all of us stopped: then no worker could beat either. */
static void
forgive(struct supervisor *supervisor, int64_t late)
{
    for (unsigned i = 0; i < supervisor->config.workers; i++) {
        struct slot *slot = &supervisor->slots[i];

        if (slot->state == STARTING || slot->state == SERVING)
            slot->until += late;
    }
    if (supervisor->is_stopping)
        supervisor->stop_until += late;
}

static void
wait_and_hear(struct supervisor *supervisor)
{
    int64_t due = next_due(supervisor);
    struct pollfd fds[1 + HSM_WORKERS_MAX] = {{.fd = supervisor->signals, .events = POLLIN}};
    unsigned workers = supervisor->config.workers;
    int64_t now;

    for (unsigned i = 0; i < workers; i++)
        fds[1 + i] = (struct pollfd){.fd = supervisor->slots[i].line, .events = POLLIN};
    if (poll(fds, 1 + workers, poll_timeout(due)) < 0)
        return; /* EINTR: stopped and continued; otherwise memory is short, and it is tried again */
    now = now_ms();
    if (due != NEVER && now - due > LATE_MS)
        forgive(supervisor, now - due);
    for (unsigned i = 0; i < workers; i++) {
        if (fds[1 + i].revents != 0)
            hear(supervisor, &supervisor->slots[i], now);
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
        int64_t now = now_ms();

        feed_watchdog(supervisor, now);
        start_next(supervisor, now);
        wait_and_hear(supervisor);
        kill_overdue(supervisor, now_ms()); /* those that were not heard just now */
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
    if (config->restart_min_ms == 0)
        config->restart_min_ms = HSM_RESTART_MIN_MS;
    if (config->restart_max_ms == 0)
        config->restart_max_ms = HSM_RESTART_MAX_MS;
}

/* Signals come as reads from a descriptor, between which nothing is interrupted. */
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

/* Those that came while the last worker ended ask for what has happened. */
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
    supervisor = calloc(1, sizeof(*supervisor));
    if (supervisor == NULL)
        return HSM_ERR_NOMEM;
    supervisor->config = *config;
    set_defaults(&supervisor->config);
    supervisor->pid = getpid();
    supervisor->watchdog_ms = hsm_notify_watchdog_ms();
    for (unsigned i = 0; i < config->workers; i++)
        supervisor->slots[i].line = -1;
    st = take_over_signals(supervisor);
    if (st == HSM_OK) {
        loop(supervisor);
        give_back_signals(supervisor);
        st = supervisor->result;
    }
    free(supervisor);
    return st;
}
