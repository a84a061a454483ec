/* worker.c - threads that call the module for the callers. */
#define _GNU_SOURCE /* pthread_cond_clockwait */
#include "worker_internal.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#include <hsm/log.h>

#include "clock_internal.h"
#include "thread_internal.h"

#define GRACE_MS     10 /* after a deadline, for the answer of a worker that is not stuck */
#define STOP_WAIT_MS 2000

enum job_state {
    JOB_QUEUED,
    JOB_RUNNING,
    JOB_DONE
};

/* Owns all that the worker reads and writes, because the caller may have returned. */
struct hsm_job {
    struct hsm_signer *signer; /* with a reference */
    struct hsm_request request; /* its digest is the one below */
    uint8_t digest[HSM_SHA256_LEN];
    uint8_t sig[HSM_P256_SIG_LEN];
    pthread_cond_t done;
    enum hsm_status status;
    enum job_state state;
    bool abandoned; /* its caller has returned */
    bool stuck; /* it is counted as stuck */
    bool replaced; /* its thread has a replacement */
    unsigned refs; /* held by the caller and by the queue or the worker */
    struct hsm_session *session; /* the session in use; under held_lock, as is the serial */
    uint64_t serial;
    pthread_mutex_t held_lock;
    struct hsm_job *next;
};

struct hsm_workers {
    pthread_mutex_t lock; /* protects all members below, and the jobs */
    pthread_cond_t work;
    pthread_cond_t ended;
    struct hsm_slot *slot; /* with a reference */
    struct hsm_job *first;
    struct hsm_job *last;
    unsigned queued;
    unsigned threads; /* living threads that are not stuck */
    unsigned refs; /* held by threads and the slot */
    bool closing;
};

void
hsm_job_holds(struct hsm_job *job, struct hsm_session *session)
{
    pthread_mutex_lock(&job->held_lock);
    job->session = session;
    job->serial = session != NULL ? session->serial : 0;
    pthread_mutex_unlock(&job->held_lock);
}

/* Under the lock; true: it was the last reference, and the job is to be freed outside the lock. */
static bool
job_put(struct hsm_job *job)
{
    return --job->refs == 0;
}

static void
job_free(struct hsm_job *job)
{
    hsm_signer_unref(job->signer);
    pthread_cond_destroy(&job->done);
    pthread_mutex_destroy(&job->held_lock);
    free(job);
}

static struct hsm_job *
job_new(struct hsm_signer *signer, const struct hsm_request *request)
{
    struct hsm_job *job = calloc(1, sizeof(*job));

    if (job == NULL)
        return NULL;
    if (pthread_cond_init(&job->done, NULL) != 0 ||
        pthread_mutex_init(&job->held_lock, NULL) != 0) {
        free(job);
        return NULL;
    }
    hsm_signer_ref(signer);
    job->signer = signer;
    memcpy(job->digest, request->digest, sizeof(job->digest));
    job->request = *request;
    job->request.digest = job->digest;
    job->refs = 2;
    return job;
}

static void
enqueue(struct hsm_workers *workers, struct hsm_job *job)
{
    if (workers->last != NULL)
        workers->last->next = job;
    else
        workers->first = job;
    workers->last = job;
    workers->queued++;
    pthread_cond_signal(&workers->work);
}

static struct hsm_job *
dequeue(struct hsm_workers *workers)
{
    struct hsm_job *job = workers->first;

    workers->first = job->next;
    if (workers->first == NULL)
        workers->last = NULL;
    workers->queued--;
    job->next = NULL;
    return job;
}

/* Under the lock, released meanwhile; true: this thread has a replacement. */
static bool
run(struct hsm_workers *workers, struct hsm_job *job)
{
    bool abandoned = job->abandoned;
    bool replaced;
    bool last;

    job->state = JOB_RUNNING;
    if (!abandoned) {
        pthread_mutex_unlock(&workers->lock);
        job->status = hsm_signer_sign_here(job->signer, &job->request, job, job->sig);
        pthread_mutex_lock(&workers->lock);
    }
    job->state = JOB_DONE;
    pthread_cond_signal(&job->done);
    replaced = job->replaced;
    if (job->stuck)
        atomic_fetch_sub(&workers->slot->stuck_now, 1);
    last = job_put(job);
    if (last) {
        pthread_mutex_unlock(&workers->lock);
        job_free(job);
        pthread_mutex_lock(&workers->lock);
    }
    return replaced;
}

/* Called under the lock, which it releases. */
static void
workers_put(struct hsm_workers *workers)
{
    bool last = --workers->refs == 0;

    pthread_mutex_unlock(&workers->lock);
    if (!last)
        return;
    while (workers->first != NULL)
        job_free(dequeue(workers)); /* their callers have left */
    pthread_mutex_destroy(&workers->lock);
    pthread_cond_destroy(&workers->work);
    pthread_cond_destroy(&workers->ended);
    hsm_slot_unref(workers->slot);
    free(workers);
}

static void *
work(void *argument)
{
    struct hsm_workers *workers = argument;
    bool replaced = false;

    pthread_mutex_lock(&workers->lock);
    while (!replaced && !workers->closing) {
        if (workers->first != NULL)
            replaced = run(workers, dequeue(workers));
        else
            pthread_cond_wait(&workers->work, &workers->lock);
    }
    pthread_mutex_unlock(&workers->lock);
    OPENSSL_thread_stop(); /* the thread that waits for this end may end the process */
    pthread_mutex_lock(&workers->lock);
    if (!replaced)
        workers->threads--;
    pthread_cond_signal(&workers->ended);
    workers_put(workers);
    return NULL;
}

/* Under the lock. */
static bool
add_thread(struct hsm_workers *workers)
{
    workers->refs++;
    if (hsm_thread_start(work, workers)) {
        workers->threads++;
        return true;
    }
    workers->refs--;
    return false;
}

enum hsm_status
hsm_workers_start(struct hsm_slot *slot, struct hsm_workers **out)
{
    struct hsm_workers *workers = calloc(1, sizeof(*workers));
    bool good = workers != NULL;

    if (!good)
        return HSM_ERR_NOMEM;
    if (pthread_mutex_init(&workers->lock, NULL) != 0 ||
        pthread_cond_init(&workers->work, NULL) != 0 ||
        pthread_cond_init(&workers->ended, NULL) != 0) {
        free(workers);
        return HSM_ERR_NOMEM;
    }
    hsm_slot_ref(slot);
    workers->slot = slot;
    workers->refs = 1;
    pthread_mutex_lock(&workers->lock);
    for (unsigned i = 0; i < slot->settings.workers && good; i++)
        good = add_thread(workers);
    pthread_mutex_unlock(&workers->lock);
    if (!good) {
        hsm_workers_stop(workers);
        return HSM_ERR_NOMEM;
    }
    *out = workers;
    return HSM_OK;
}

void
hsm_workers_stop(struct hsm_workers *workers)
{
    struct timespec until = hsm_clock_timespec(hsm_deadline_after(STOP_WAIT_MS));
    int rc = 0;

    if (workers == NULL)
        return;
    pthread_mutex_lock(&workers->lock);
    workers->closing = true;
    pthread_cond_broadcast(&workers->work);
    while (workers->threads > 0 && rc == 0)
        rc = pthread_cond_clockwait(&workers->ended, &workers->lock, CLOCK_MONOTONIC, &until);
    workers_put(workers);
}

/* Only a job that holds a session can be stuck in the module. It is counted as stuck before its
 * session is given up, so that the module is not restarted under it. */
static bool
is_stuck(struct hsm_slot *slot, struct hsm_job *job)
{
    bool stuck = false;

    atomic_fetch_add(&slot->stuck_now, 1);
    pthread_mutex_lock(&job->held_lock);
    if (job->session != NULL)
        stuck = hsm_pool_leave_behind(&slot->pool, job->session, job->serial);
    pthread_mutex_unlock(&job->held_lock);
    if (!stuck)
        atomic_fetch_sub(&slot->stuck_now, 1);
    return stuck;
}

/* Under the lock: the caller is about to return. If its thread cannot be replaced, there is one
 * thread less until the job returns. */
static void
leave_behind(struct hsm_workers *workers, struct hsm_job *job)
{
    struct hsm_slot *slot = workers->slot;

    job->abandoned = true;
    if (job->state != JOB_RUNNING || !is_stuck(slot, job))
        return;
    job->stuck = true;
    atomic_fetch_add(&slot->counters.stuck, 1);
    job->replaced = add_thread(workers);
    if (job->replaced)
        workers->threads--; /* the stuck thread is not counted any more */
    hsm_log(HSM_LOG_WARNING, "token %s: a call is stuck in the module", slot->name);
    if (hsm_pool_is_used_up(&slot->pool))
        hsm_log(HSM_LOG_ERROR, "token %s: calls are stuck in all its sessions", slot->name);
    hsm_slot_report(slot, HSM_EVENT_STUCK, job->signer->info.label);
}

/* Under the lock. */
static enum hsm_status
wait_for(struct hsm_workers *workers, struct hsm_job *job, uint8_t *sig)
{
    struct timespec until =
        hsm_clock_timespec(job->request.patience.deadline + GRACE_MS * HSM_NS_PER_MS);
    int rc = 0;

    while (job->state != JOB_DONE && rc == 0)
        rc = pthread_cond_clockwait(&job->done, &workers->lock, CLOCK_MONOTONIC, &until);
    if (job->state != JOB_DONE) {
        leave_behind(workers, job);
        return HSM_ERR_BUSY;
    }
    if (job->status == HSM_OK)
        memcpy(sig, job->sig, sizeof(job->sig));
    return job->status;
}

enum hsm_status
hsm_workers_sign(struct hsm_workers *workers, struct hsm_signer *signer,
                 const struct hsm_request *request, uint8_t *sig)
{
    struct hsm_job *job = job_new(signer, request);
    enum hsm_status st = HSM_ERR_BUSY;
    bool last = true;

    if (job == NULL)
        return HSM_ERR_NOMEM;
    pthread_mutex_lock(&workers->lock);
    if (workers->queued < workers->slot->settings.queue_max) {
        enqueue(workers, job);
        st = wait_for(workers, job, sig);
        last = job_put(job);
    }
    pthread_mutex_unlock(&workers->lock);
    if (last)
        job_free(job);
    return st;
}
