/* thread.c - threads of the library. */
#define _GNU_SOURCE /* SCHED_BATCH */
#include "thread_internal.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>

#include <hsm/log.h>

/* Signals are handled by the daemon's own threads: a handler here could run inside a vendor's
 * library. */
bool
hsm_thread_start(void *(*run)(void *), void *argument)
{
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all;
    sigset_t before;
    int rc = pthread_attr_init(&attributes);

    if (rc == 0) {
        (void)pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        rc = pthread_create(&thread, &attributes, run, argument);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        (void)pthread_attr_destroy(&attributes);
    }
    if (rc != 0)
        hsm_log(HSM_LOG_ERROR, "no thread for the token: %s", strerror(rc));
    return rc == 0;
}

void
hsm_thread_batch(void)
{
    static _Thread_local bool is_done;
    const struct sched_param none = {0};

    if (is_done)
        return;
    is_done = true;
    if (sched_getscheduler(0) == SCHED_OTHER)
        (void)sched_setscheduler(0, SCHED_BATCH, &none); /* else calls only take longer */
}
