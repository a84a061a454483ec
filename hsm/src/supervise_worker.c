/* supervise_worker.c - a worker process: its start, and its messages to the supervisor. */
#include "supervise_internal.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <sys/prctl.h>
#include <sys/socket.h>

#include <hsm/log.h>

#include "module_internal.h"

static unsigned processes = 1;

unsigned
hsm_supervisor_processes(void)
{
    return processes;
}

unsigned
hsm_worker_index(const struct hsm_worker *worker)
{
    return worker->place % HSM_WORKERS_MAX;
}

unsigned
hsm_worker_place(const struct hsm_worker *worker)
{
    return worker->place;
}

bool
hsm_worker_is_alone(const struct hsm_worker *worker)
{
    return worker->is_alone;
}

bool
hsm_worker_is_candidate(const struct hsm_worker *worker)
{
    return worker->is_candidate;
}

/* A full line holds enough heartbeats; if it is closed, this process is about to end. */
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
 * A starting worker is in the middle of a login or a search, and a software token is in the middle
 * of its files: SoftHSM 2.6.1 empties and rewrites token.object at each C_Login, and a process that
 * is killed in between leaves a token that cannot be found again. So SIGTERM and the end of the
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

/* From now on SIGKILL: a stuck worker would not notice another signal. */
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
    bool is_hopeless = hsm_process_is_hopeless();

    if (!is_hopeless)
        say(worker, BEAT);
    else if (!worker->is_hopeless)
        hsm_log(HSM_LOG_ERROR, "calls are stuck in the token: this process is to be replaced");
    worker->is_hopeless = is_hopeless;
}

/* Release what belongs to the supervisor. */
static void
become_worker(const struct supervisor *supervisor, struct hsm_worker *worker)
{
    const struct sigaction ignore = {.sa_handler = SIG_IGN};

    for (unsigned i = 0; i < SLOTS; i++) {
        if (supervisor->slots[i].line >= 0)
            close(supervisor->slots[i].line);
    }
    close(supervisor->signals);
    (void)sigaction(SIGHUP, &ignore, NULL);
    (void)sigaction(SIGCHLD, &supervisor->chld_before, NULL);
    processes = supervisor->config.workers;
    if (supervisor->candidate != NULL && supervisor->candidates > processes)
        processes = supervisor->candidates;
    processes++;
    worker->supervisor = supervisor->pid;
    worker->mask = supervisor->mask_before;
    if (!begin_start(worker, supervisor->config.start_ms))
        hsm_worker_abandon(HSM_ERR_IO);
}

_Noreturn void
hsm_supervisor_work(const struct supervisor *supervisor, struct hsm_worker *worker)
{
    become_worker(supervisor, worker);
    exit(exit_status(supervisor->config.run(worker, supervisor->config.context)));
}
