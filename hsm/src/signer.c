/* signer.c - sign with a key of a token that may fail: sessions, faults, deadlines, proof. */
#include "signer_internal.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include <hsm/defer.h>
#include <hsm/es256.h>
#include <hsm/log.h>

#include "ckr_internal.h"
#include "clock_internal.h"
#include "connection_internal.h"
#include "es256_internal.h"
#include "journal_internal.h"
#include "lane_internal.h"
#include "padded_internal.h"
#include "thread_internal.h"
#include "worker_internal.h"

#define REPEATS_MAX   1 /* retries per call of a function that was cancelled */
#define DROPS_MAX     2 /* sessions that may fail in one call before the token counts as failed */
#define THROTTLES_MAX 3 /* "try later" answers in one call before the token counts as failed */
#define PATIENCE_MS   4 /* after the first of these answers; doubled each time */
#define MISSING_MS    20 /* between checks on a key that is being looked for */

/* One call in progress; its past faults bound what is still tried. */
struct call {
    struct hsm_signer *signer;
    const struct hsm_request *request;
    struct hsm_job *job;
    unsigned attempts, repeats, drops, throttles, losses, wrong;
    bool again;
};

/* ---- a key of a slot ---- */

void
hsm_signer_ref(struct hsm_signer *signer)
{
    atomic_fetch_add(&signer->refs, 1);
}

static void
forget(struct hsm_signer *signer)
{
    struct hsm_signer **link = &signer->slot->signers;

    while (*link != NULL && *link != signer)
        link = &(*link)->next;
    if (*link == signer)
        *link = signer->next;
}

/* The list holds no reference: the last reference is dropped under its lock, under which the slot's
 * thread takes its own references. */
void
hsm_signer_unref(struct hsm_signer *signer)
{
    struct hsm_slot *slot = signer->slot;
    bool last;

    if (slot->generation != hsm_fork_generation())
        return; /* in the child of a fork() the parent may hold the locks for ever */
    pthread_mutex_lock(&slot->signers_lock);
    last = atomic_fetch_sub(&signer->refs, 1) == 1;
    if (last)
        forget(signer);
    pthread_mutex_unlock(&slot->signers_lock);
    if (!last)
        return;
    for (unsigned i = 0; i < signer->lane_count; i++)
        hsm_lane_free(signer->lanes[i]);
    for (unsigned i = 0; i < signer->further_count; i++)
        hsm_signer_unref(signer->further[i]);
    free(signer->lanes);
    free(signer->proven);
    hsm_es256_verifier_free(signer->verifier);
    hsm_journal_key_done(slot->journal, signer->journal_key);
    EVP_PKEY_free(signer->public_key);
    free(signer);
    hsm_slot_unref(slot);
}

void
hsm_signer_retire(struct hsm_signer *signer)
{
    pthread_mutex_lock(&signer->slot->signers_lock);
    forget(signer);
    pthread_mutex_unlock(&signer->slot->signers_lock);
    signer->retired = true;
    signer->status = HSM_ERR_NOT_FOUND;
    for (unsigned i = 0; i < signer->further_count; i++)
        hsm_signer_retire(signer->further[i]);
}

/* With workers, a stuck session is replaced once: up to twice as many sessions may exist. */
static enum hsm_status
make_lanes(struct hsm_signer *signer)
{
    const struct hsm_settings *settings = &signer->slot->settings;
    unsigned of_each = settings->workers > 0 ? HSM_LANE_SESSIONS / 2 : HSM_LANE_SESSIONS;
    unsigned count = (settings->sessions + of_each - 1) / of_each;
    enum hsm_status st = HSM_OK;

    if (signer->slot->settings.route != HSM_ROUTE_LIBP11)
        return HSM_OK;
    signer->lanes = calloc(count, sizeof(*signer->lanes));
    if (signer->lanes == NULL)
        return HSM_ERR_NOMEM;
    while (st == HSM_OK && signer->lane_count < count) {
        st = hsm_lane_new(signer, &signer->lanes[signer->lane_count]);
        if (st == HSM_OK)
            signer->lane_count++;
    }
    return st;
}

/* A key that is loaded again is the same key, so the new signer inherits the doubt about it:
 * otherwise each loading would have to detect the fault again, at the cost of a recovery of the
 * whole token. Under signers_lock. */
static void
inherit_doubt(struct hsm_signer *signer)
{
    const struct hsm_key_info *info = &signer->info;
    const struct hsm_signer *other = signer->slot->signers;

    while (other != NULL && !(other->doubted && other->info.id_len == info->id_len &&
                              memcmp(other->info.id, info->id, info->id_len) == 0 &&
                              memcmp(other->info.point, info->point, sizeof(info->point)) == 0))
        other = other->next;
    if (other == NULL)
        return;
    signer->doubted = true;
    if (other->status != HSM_ERR_CRYPTO)
        return;
    signer->tried_again = other->tried_again;
    signer->refused_with = HSM_ERR_CRYPTO; /* already logged */
    signer->status = HSM_ERR_CRYPTO;
}

enum hsm_status
hsm_signer_new(struct hsm_slot *slot, const struct hsm_key_info *info,
               CK_OBJECT_HANDLE private_object, CK_OBJECT_HANDLE public_object,
               EVP_PKEY *public_key, struct hsm_signer **out)
{
    DEFER(hsm_signer_unref) struct hsm_signer *signer = calloc(1, sizeof(*signer));
    char serial[sizeof(slot->token.serialNumber) + 1];
    enum hsm_status st;

    if (signer == NULL)
        return HSM_ERR_NOMEM;
    hsm_slot_ref(slot);
    signer->slot = slot;
    signer->info = *info;
    signer->refs = 1;
    signer->private_object = private_object;
    signer->public_object = public_object;
    signer->status = private_object != CK_INVALID_HANDLE ? HSM_OK : HSM_ERR_BUSY;
    if (slot->journal != NULL) {
        signer->journal_key = hsm_journal_key(
            slot->journal, info, public_key, slot->label,
            hsm_unpad(slot->token.serialNumber, sizeof(slot->token.serialNumber), serial));
        if (signer->journal_key == NULL)
            return HSM_ERR_NOMEM;
    }
    signer->proven = calloc(slot->settings.sessions, sizeof(*signer->proven));
    st = signer->proven != NULL ? make_lanes(signer) : HSM_ERR_NOMEM;
    if (st == HSM_OK)
        st = hsm_es256_verifier_new(public_key, &signer->verifier);
    if (st != HSM_OK)
        return st;
    st = hsm_connections_add_key(signer, public_key);
    if (st != HSM_OK)
        return st;
    signer->public_key = public_key;
    pthread_mutex_lock(&slot->signers_lock);
    inherit_doubt(signer);
    signer->next = slot->signers;
    slot->signers = signer;
    pthread_mutex_unlock(&slot->signers_lock);
    *out = signer;
    signer = NULL;
    return HSM_OK;
}

/* ---- one signature ---- */

/* Modules should return R || S; some return the DER form. */
static enum hsm_form
take_form(const uint8_t *given, CK_ULONG len, uint8_t *sig)
{
    uint8_t raw[HSM_P256_SIG_LEN];

    if (len == HSM_P256_SIG_LEN && hsm_es256_in_range(given)) {
        memcpy(sig, given, HSM_P256_SIG_LEN);
        return HSM_FORM_GOOD;
    }
    if (len == HSM_P256_SIG_LEN || hsm_es256_from_der(given, len, raw) != HSM_OK)
        return HSM_FORM_BAD;
    memcpy(sig, raw, sizeof(raw));
    return HSM_FORM_GOOD;
}

CK_RV
hsm_signer_call(const struct hsm_signer *signer, CK_SESSION_HANDLE session, const uint8_t *digest,
                uint8_t *sig, enum hsm_form *form)
{
    const CK_FUNCTION_LIST *functions = hsm_module_functions(signer->slot->module);
    CK_MECHANISM mechanism = {CKM_ECDSA, NULL, 0};
    CK_BYTE given[HSM_P256_DER_SIG_MAX] = {0};
    CK_ULONG len = sizeof(given);
    CK_RV rv;

    if (signer->slot->settings.quirks.batch)
        hsm_thread_batch();
    rv = functions->C_SignInit(session, &mechanism, signer->private_object);
    *form = HSM_FORM_GOOD;
    if (rv == CKR_OK)
        hsm_journal_count_call(signer->slot->journal);
    if (rv == CKR_OK)
        rv = functions->C_Sign(session, (CK_BYTE *)digest, HSM_SHA256_LEN, given, &len);
    if (rv == CKR_OK)
        *form = take_form(given, len, sig);
    return rv;
}

static CK_RV
call_by_route(const struct call *call, const struct hsm_session *session, uint8_t *sig,
              enum hsm_form *form)
{
    const struct hsm_signer *signer = call->signer;

    /* Each lane has one lock: calls that come together use different lanes. */
    if (signer->lanes != NULL)
        return hsm_lane_sign(signer->lanes[session->index % signer->lane_count], session,
                             call->request->digest, sig, form);
    return hsm_signer_call(signer, session->handle, call->request->digest, sig, form);
}

static bool
time_is_up(const struct call *call)
{
    return hsm_clock_ns() >= call->request->patience.deadline;
}

static void
count(atomic_ullong *counter)
{
    atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

static void
pause_for(const struct call *call, unsigned ms)
{
    int64_t until = hsm_deadline_after(ms);

    hsm_clock_sleep_until(
        until < call->request->patience.deadline ? until : call->request->patience.deadline);
}

/* A session that was replaced is not used again: it may hold half an operation. */
static unsigned
give_back(const struct call *call, struct hsm_session *session)
{
    struct hsm_slot *slot = call->signer->slot;

    if (call->job != NULL) {
        hsm_job_holds(call->job, NULL);
        if (hsm_pool_is_left_behind(&slot->pool, session))
            hsm_slot_session_drop(slot, session, INT64_MAX); /* no caller waits for this */
    }
    return hsm_pool_give(&slot->pool, session);
}

static void
drop(const struct call *call, struct hsm_session *session)
{
    hsm_slot_session_drop(call->signer->slot, session, call->request->patience.deadline);
    count(&call->signer->slot->counters.sessions_dropped);
    (void)give_back(call, session);
}

static enum hsm_status
lose(struct call *call, unsigned epoch, bool restart, const char *why)
{
    call->losses++;
    call->drops = 0;
    call->throttles = 0;
    hsm_slot_lost(call->signer->slot, epoch, restart, why);
    return HSM_ERR_BUSY;
}

/* No room for a session: use the open ones, or wait for other processes to free some. */
static enum hsm_status
retire_session(struct call *call, struct hsm_session *session)
{
    struct hsm_slot *slot = call->signer->slot;
    bool left_behind;

    if (call->job != NULL)
        hsm_job_holds(call->job, NULL);
    left_behind = hsm_pool_is_left_behind(&slot->pool, session);
    if (hsm_pool_retire(&slot->pool, session))
        hsm_slot_report(slot, HSM_EVENT_FEWER_SESSIONS, "CKR_SESSION_COUNT");
    else if (!left_behind)
        pause_for(call, MISSING_MS);
    return HSM_ERR_BUSY;
}

static enum hsm_status
throttled(struct call *call, struct hsm_session *session, unsigned epoch, const char *why)
{
    count(&call->signer->slot->counters.throttled);
    if (++call->throttles > THROTTLES_MAX) {
        drop(call, session);
        return lose(call, epoch, false, why);
    }
    (void)give_back(call, session);
    pause_for(call,
              (PATIENCE_MS << call->throttles) + (unsigned)(hsm_clock_ns() / 1000 % PATIENCE_MS));
    return HSM_ERR_BUSY;
}

static enum hsm_status
session_failed(struct call *call, struct hsm_session *session, unsigned epoch, const char *why)
{
    drop(call, session);
    if (++call->drops >= DROPS_MAX)
        return lose(call, epoch, false, why);
    return HSM_ERR_BUSY;
}

/* ckr.c classifies the value; this function acts on it. */
static enum hsm_status
failed(struct call *call, struct hsm_session *session, unsigned epoch, CK_RV rv)
{
    char text[HSM_CKR_TEXT_SIZE];
    const char *why = hsm_ckr_text(rv, text);

    call->again = true;
    switch (hsm_ckr_action(rv)) {
    case HSM_CKR_FEWER:
        return retire_session(call, session);
    case HSM_CKR_THROTTLE:
        return throttled(call, session, epoch, why);
    case HSM_CKR_LOGIN:
        (void)give_back(call, session);
        return lose(call, epoch, false, why);
    case HSM_CKR_RESTART:
        drop(call, session);
        return lose(call, epoch, true, why);
    case HSM_CKR_PERMANENT:
    case HSM_CKR_PIN:
        call->again = false;
        drop(call, session);
        return hsm_ckr_log(rv, call->signer->info.label);
    case HSM_CKR_RETRY:
        if (++call->repeats > REPEATS_MAX)
            break;
        (void)give_back(call, session);
        return HSM_ERR_BUSY;
    case HSM_CKR_NONE: /* never an answer of C_Sign itself, but the module returned it */
    case HSM_CKR_SESSION:
        break;
    }
    return session_failed(call, session, epoch, why);
}

/* An alarm: the cause may spoil other signatures, too, so the whole token is examined. */
static enum hsm_status
wrong(struct call *call, unsigned epoch)
{
    struct hsm_slot *slot = call->signer->slot;

    count(&slot->counters.wrong_signatures);
    /* The key must prove itself in the recovery that this starts, or in the next one if the token
     * was recovered since the signature was made. */
    call->signer->doubted = true;
    hsm_log(HSM_LOG_ERROR, "key %s: the token returned a wrong signature",
            call->signer->info.label);
    hsm_slot_report(slot, HSM_EVENT_WRONG_SIGNATURE, call->signer->info.label);
    call->again = ++call->wrong < HSM_WRONG_MAX;
    (void)lose(call, epoch, false, "a wrong signature");
    return HSM_ERR_CRYPTO;
}

/* Where a signature was made: another caller may have the session by now. */
struct origin {
    unsigned index; /* the session's */
    uint64_t opened_by;
    unsigned epoch;
};

/* A signature is verified if the caller asks for it, if it is one in verify_every, if it is the
 * first in its session (which may reach another member of a group of HSMs), or if it was made
 * across a recovery, when handles may have changed their meaning. */
static bool
is_to_be_verified(const struct call *call, const struct origin *origin, unsigned epoch_now)
{
    struct hsm_signer *signer = call->signer;
    unsigned n = atomic_fetch_add_explicit(&signer->signatures, 1, memory_order_relaxed);

    return call->request->verify || n % signer->slot->settings.verify_every == 0 ||
           atomic_load_explicit(&signer->proven[origin->index], memory_order_relaxed) !=
               origin->opened_by ||
           origin->epoch != epoch_now;
}

static enum hsm_status
made(struct call *call, const uint8_t *sig, const struct origin *origin, unsigned epoch_now)
{
    struct hsm_signer *signer = call->signer;

    if (!is_to_be_verified(call, origin, epoch_now))
        return HSM_OK;
    count(&signer->slot->counters.verified);
    if (hsm_es256_verifier_verify_digest(signer->verifier, call->request->digest, sig) != HSM_OK)
        return wrong(call, origin->epoch);
    atomic_store_explicit(&signer->proven[origin->index], origin->opened_by, memory_order_relaxed);
    return HSM_OK;
}

/* With a session. */
static enum hsm_status
sign_on(struct call *call, struct hsm_session *session, unsigned epoch, uint8_t *sig)
{
    struct hsm_slot *slot = call->signer->slot;
    enum hsm_form form = HSM_FORM_GOOD;
    struct origin origin;
    CK_RV rv;

    if (session->epoch != epoch || session->opened_by == 0)
        session->opened_by = session->serial; /* it is opened below, or was opened with the token */
    origin = (struct origin){session->index, session->opened_by, epoch};
    if (call->job != NULL)
        hsm_job_holds(call->job, session);
    if (!hsm_module_call_begin(slot->module, call->request->patience.deadline)) {
        (void)give_back(call, session);
        return HSM_ERR_BUSY;
    }
    rv = hsm_slot_session_ready(slot, session, epoch);
    if (rv == CKR_OK)
        rv = call_by_route(call, session, sig, &form);
    hsm_module_call_end(slot->module);
    if (rv != CKR_OK)
        return failed(call, session, epoch, rv);
    if (form == HSM_FORM_BAD) {
        drop(call, session);
        return wrong(call, epoch);
    }
    return made(call, sig, &origin, give_back(call, session));
}

static enum hsm_status
attempt(struct call *call, uint8_t *sig)
{
    struct hsm_signer *signer = call->signer;
    struct hsm_session *session = NULL;
    unsigned epoch = 0;
    enum hsm_status st;

    call->again = false;
    st = hsm_pool_take(&signer->slot->pool, &call->request->patience, &session, &epoch);
    if (st != HSM_OK)
        return st;
    st = signer->status;
    if (st == HSM_OK)
        return sign_on(call, session, epoch, sig);
    (void)hsm_pool_give(&signer->slot->pool, session);
    if (st == HSM_ERR_BUSY && call->request->patience.through_recovery) {
        pause_for(call, MISSING_MS);
        call->again = true;
    }
    return st;
}

enum hsm_status
hsm_signer_sign_here(struct hsm_signer *signer, const struct hsm_request *request,
                     struct hsm_job *job, uint8_t *sig)
{
    struct call call = {.signer = signer, .request = request, .job = job};
    uint8_t made_sig[HSM_P256_SIG_LEN];
    enum hsm_status st;

    do {
        if (call.attempts++ > 0)
            count(&signer->slot->counters.retries);
        st = attempt(&call, made_sig);
    } while (call.again && call.losses <= HSM_LOSSES_MAX && !time_is_up(&call));
    if (st == HSM_OK)
        memcpy(sig, made_sig, sizeof(made_sig));
    else if (call.wrong > 0)
        st = HSM_ERR_CRYPTO;
    return st;
}

enum hsm_status
hsm_signer_sign_alone(struct hsm_signer *signer, const struct hsm_request *request, uint8_t *sig)
{
    struct hsm_workers *workers = signer->slot->workers;

    return workers != NULL ? hsm_workers_sign(workers, signer, request, sig)
                           : hsm_signer_sign_here(signer, request, NULL, sig);
}

static enum hsm_status
sign_counted(struct hsm_signer *signer, const struct hsm_request *request, uint8_t *sig)
{
    struct hsm_slot *slot = signer->slot;
    enum hsm_status st = signer->further_count > 0 ? hsm_connections_sign(signer, request, sig)
                                                   : hsm_signer_sign_alone(signer, request, sig);

    if (st == HSM_OK) {
        count(&slot->counters.signatures);
        return HSM_OK;
    }
    count(&slot->counters.failures);
    if (st == HSM_ERR_BUSY && hsm_clock_ns() >= request->patience.deadline)
        count(&slot->counters.timeouts);
    if (st == HSM_ERR_BUSY && !request->quiet)
        hsm_log(HSM_LOG_ERROR, "key %s: the token did not answer in time", signer->info.label);
    return st;
}

/* Every signature that is given out passes through here. */
enum hsm_status
hsm_signer_sign(struct hsm_signer *signer, const struct hsm_request *request, uint8_t *sig)
{
    struct hsm_journal *journal = request->unrecorded ? NULL : signer->slot->journal;
    uint8_t made_sig[HSM_P256_SIG_LEN];
    enum hsm_status st = hsm_journal_may(journal);

    if (st == HSM_OK) {
        st = sign_counted(signer, request, made_sig);
        st = hsm_journal_use(journal, signer->journal_key, request->digest,
                             request->patience.deadline, st);
    }
    if (st == HSM_OK)
        memcpy(sig, made_sig, sizeof(made_sig));
    return st;
}

static enum hsm_status
try_once(const struct hsm_signer *signer, const uint8_t *digest)
{
    uint8_t sig[HSM_P256_SIG_LEN];
    enum hsm_form form;
    CK_RV rv = hsm_signer_call(signer, signer->slot->control, digest, sig, &form);

    if (rv != CKR_OK)
        return hsm_ckr_log(rv, signer->info.label);
    if (form == HSM_FORM_GOOD &&
        hsm_es256_verifier_verify_digest(signer->verifier, digest, sig) == HSM_OK)
        return HSM_OK;
    hsm_log(HSM_LOG_ERROR, "key %s: the token returned a wrong signature", signer->info.label);
    return HSM_ERR_CRYPTO;
}

enum hsm_status
hsm_signer_try(const struct hsm_signer *signer)
{
    static const uint8_t digest[HSM_SHA256_LEN] = "a digest of nothing";
    HSM_USE_FOR(HSM_USE_SELF_TEST);

    return hsm_journal_use(signer->slot->journal, signer->journal_key, digest, HSM_JOURNAL_ANY_TIME,
                           try_once(signer, digest));
}
