/* slot.c - a token that is open: its settings, sessions and control session. */
#include "slot_internal.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hsm/log.h>

#include "ckr_internal.h"
#include "clock_internal.h"
#include "connection_internal.h"
#include "journal_internal.h"
#include "padded_internal.h"
#include "supervise_internal.h"
#include "worker_internal.h"

#define SESSIONS_DEFAULT   32
#define WORKERS_MAX        256
#define QUEUE_DEFAULT      4096
#define QUEUE_MAX          1048576
#define TIMEOUT_DEFAULT_MS 3000
#define TIMEOUT_MAX_MS     600000
#define RECONNECT_MIN_MS   10
#define RECONNECT_MAX_MS   500
#define RECONNECT_LIMIT_MS 5000
#define VERIFY_EVERY       64
#define PROBE_DEFAULT_MS   10000
#define CLOSE_WAIT_MS      5000 /* for calls that are still in the token */
#define DROP_WAIT_MS       1000 /* for other calls, before a session is left open */

static unsigned
or_else(unsigned value, unsigned otherwise)
{
    return value != 0 ? value : otherwise;
}

/* This process's share of what the token allows; CK_UNAVAILABLE_INFORMATION and 0 (no limit) mean
 * nothing. PKCS#11 says "by a single application", but tokens count all processes of it. The number
 * open now (ulSessionCount) does not matter: sessions are opened as they are needed. */
static CK_ULONG
share_of(CK_ULONG limit)
{
    CK_ULONG share = limit / hsm_supervisor_processes();

    if (limit == CK_UNAVAILABLE_INFORMATION || limit == CK_EFFECTIVELY_INFINITE)
        return HSM_SESSIONS_MAX;
    return share > 1 ? share - 1 : 1; /* one is the control session */
}

static unsigned
sessions_allowed(const CK_TOKEN_INFO *token, const struct hsm_quirks *quirks)
{
    CK_ULONG limits[] = {
        share_of(token->ulMaxRwSessionCount),
        share_of(token->ulMaxSessionCount),
        share_of(quirks->sessions_max != 0 ? quirks->sessions_max : CK_UNAVAILABLE_INFORMATION),
    };
    CK_ULONG allowed = HSM_SESSIONS_MAX;

    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++)
        allowed = limits[i] < allowed ? limits[i] : allowed;
    return (unsigned)allowed;
}

static enum hsm_status
choose_quirks(const struct hsm_token_config *config, const CK_INFO *module,
              const CK_TOKEN_INFO *token, struct hsm_quirks *out)
{
    struct hsm_quirks known;
    enum hsm_status st = HSM_OK;

    hsm_quirks_of(module, token->manufacturerID, &known);
    if (config->quirks == NULL)
        *out = known;
    else
        st = hsm_quirks_parse(config->quirks, &known, out);
    if (st == HSM_OK && out->origin_waived)
        hsm_log(HSM_LOG_WARNING, "token: keys are taken without CKA_LOCAL, as configured");
    return st;
}

static const char *
setting_at_fault(const struct hsm_settings *s)
{
    if (s->route != HSM_ROUTE_LIBP11 && s->route != HSM_ROUTE_DIRECT)
        return "route";
    if (s->sessions > HSM_SESSIONS_MAX)
        return "sessions";
    if (s->workers > WORKERS_MAX)
        return "workers";
    if (s->queue_max > QUEUE_MAX)
        return "queue_max";
    if (s->op_timeout_ms > TIMEOUT_MAX_MS)
        return "op_timeout_ms";
    if (s->reconnect_max_ms > RECONNECT_LIMIT_MS || s->reconnect_min_ms > s->reconnect_max_ms)
        return "reconnect_min_ms, reconnect_max_ms";
    return NULL;
}

enum hsm_status
hsm_settings_from(const struct hsm_token_config *config, const CK_INFO *module,
                  const CK_TOKEN_INFO *token, struct hsm_settings *out)
{
    struct hsm_settings s = {
        .route = config->route,
        .sessions = or_else(config->sessions, SESSIONS_DEFAULT),
        .workers = config->workers,
        .queue_max = or_else(config->queue_max, QUEUE_DEFAULT),
        .op_timeout_ms = or_else(config->op_timeout_ms, TIMEOUT_DEFAULT_MS),
        .reconnect_min_ms = or_else(config->reconnect_min_ms, RECONNECT_MIN_MS),
        .reconnect_max_ms = or_else(config->reconnect_max_ms, RECONNECT_MAX_MS),
        .verify_every = or_else(config->verify_every, VERIFY_EVERY),
        .probe_ms = or_else(config->probe_ms, PROBE_DEFAULT_MS),
        .event = config->event,
        .event_context = config->event_context,
    };
    enum hsm_status st = choose_quirks(config, module, token, &s.quirks);
    const char *fault = setting_at_fault(&s);

    if (st != HSM_OK)
        return st;
    if (fault != NULL) {
        hsm_log(HSM_LOG_ERROR, "settings of a token: %s is out of its range", fault);
        return HSM_ERR_USAGE;
    }
    if (s.sessions > sessions_allowed(token, &s.quirks))
        s.sessions = sessions_allowed(token, &s.quirks);
    *out = s;
    return HSM_OK;
}

enum hsm_status
hsm_route_parse(const char *text, enum hsm_route *out)
{
    if (strcmp(text, "libp11") == 0)
        *out = HSM_ROUTE_LIBP11;
    else if (strcmp(text, "direct") == 0)
        *out = HSM_ROUTE_DIRECT;
    else
        return HSM_ERR_USAGE;
    return HSM_OK;
}

void
hsm_slot_report(const struct hsm_slot *slot, enum hsm_event_kind kind, const char *detail)
{
    const struct hsm_event event = {kind, slot->label, detail};

    if (slot->settings.event != NULL)
        slot->settings.event(slot->settings.event_context, &event);
}

void
hsm_slot_ref(struct hsm_slot *slot)
{
    atomic_fetch_add(&slot->refs, 1);
}

void
hsm_slot_unref(struct hsm_slot *slot)
{
    if (atomic_fetch_sub(&slot->refs, 1) != 1)
        return;
    hsm_pool_destroy(&slot->pool);
    hsm_gate_destroy(&slot->admin);
    hsm_gate_destroy(&slot->login);
    pthread_mutex_destroy(&slot->signers_lock);
    pthread_mutex_destroy(&slot->care_lock);
    pthread_cond_destroy(&slot->care_changed);
    hsm_secret_free(slot->pin);
    hsm_secret_free(slot->next_pin);
    if (slot->first != NULL)
        hsm_slot_unref(slot->first);
    else
        hsm_journal_free(slot->journal);
    free(slot);
}

enum hsm_status
hsm_slot_new(struct hsm_module *module, CK_SLOT_ID id, const CK_TOKEN_INFO *token,
             const struct hsm_settings *settings, const struct hsm_secret *pin,
             struct hsm_slot **out)
{
    struct hsm_slot *slot = calloc(1, sizeof(*slot));

    if (slot == NULL)
        return HSM_ERR_NOMEM;
    if (hsm_secret_new(hsm_secret_octets(pin), hsm_secret_len(pin), &slot->pin) != HSM_OK ||
        !hsm_pool_init(&slot->pool, settings->sessions)) {
        hsm_secret_free(slot->pin);
        free(slot);
        return HSM_ERR_NOMEM;
    }
    if (!hsm_gate_init(&slot->admin, 1) || !hsm_gate_init(&slot->login, 1) ||
        pthread_mutex_init(&slot->signers_lock, NULL) != 0 ||
        pthread_mutex_init(&slot->care_lock, NULL) != 0 ||
        pthread_cond_init(&slot->care_changed, NULL) != 0) {
        hsm_pool_destroy(&slot->pool);
        hsm_secret_free(slot->pin);
        free(slot);
        return HSM_ERR_NOMEM;
    }
    slot->module = module;
    slot->id = id;
    slot->token = *token;
    slot->settings = *settings;
    slot->generation = hsm_fork_generation();
    slot->refs = 1;
    hsm_unpad(token->label, sizeof(token->label), slot->label);
    snprintf(slot->name, sizeof(slot->name), "%s", slot->label);
    *out = slot;
    return HSM_OK;
}

static void
close_session(const struct hsm_slot *slot, struct hsm_session *session)
{
    if (session->epoch != 0 && session->module_epoch == hsm_module_epoch(slot->module))
        (void)hsm_module_functions(slot->module)->C_CloseSession(session->handle);
    session->epoch = 0;
}

CK_RV
hsm_slot_session_ready(struct hsm_slot *slot, struct hsm_session *session, unsigned epoch)
{
    CK_RV rv;

    if (session->epoch == epoch)
        return CKR_OK;
    close_session(slot, session);
    /* Read-write: some modules know no other kind, and it does no harm. */
    rv = hsm_module_functions(slot->module)
             ->C_OpenSession(slot->id, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL,
                             &session->handle);
    if (rv == CKR_OK) {
        session->epoch = epoch;
        session->module_epoch = hsm_module_epoch(slot->module);
    }
    return rv;
}

void
hsm_slot_session_drop(struct hsm_slot *slot, struct hsm_session *session, int64_t deadline)
{
    int64_t patience = hsm_deadline_after(DROP_WAIT_MS);

    if (!hsm_module_call_begin(slot->module, deadline < patience ? deadline : patience)) {
        if (session->epoch != 0)
            session->epoch = HSM_EPOCH_STALE;
        return;
    }
    close_session(slot, session);
    hsm_module_call_end(slot->module);
}

/* Open one session beside the control session, so that a token without room is noticed at once. */
static enum hsm_status
first_session(struct hsm_slot *slot)
{
    const struct hsm_patience patience = {hsm_clock_ns(), false};
    struct hsm_session *session = NULL;
    unsigned epoch = 0;
    enum hsm_status st;
    CK_RV rv;

    hsm_pool_resume(&slot->pool);
    st = hsm_pool_take(&slot->pool, &patience, &session, &epoch);
    if (st != HSM_OK)
        return st;
    rv = hsm_slot_session_ready(slot, session, epoch);
    (void)hsm_pool_give(&slot->pool, session);
    return rv == CKR_OK ? HSM_OK : hsm_ckr_log(rv, "C_OpenSession, the second");
}

static void
close_control(struct hsm_slot *slot)
{
    const CK_FUNCTION_LIST *functions = hsm_module_functions(slot->module);

    if (slot->control_epoch == 0 || slot->control_epoch != hsm_module_epoch(slot->module))
        return;
    (void)functions->C_Logout(slot->control);
    (void)functions->C_CloseSession(slot->control);
    slot->control_epoch = 0;
}

/* Called inside the module: another token may restart it as soon as this slot is not listed.
 * Sessions in use are stuck, and end with their threads. */
static void
log_out(struct hsm_slot *slot)
{
    for (struct hsm_session *s = slot->pool.idle; s != NULL; s = s->next)
        close_session(slot, s);
    close_control(slot);
    hsm_module_remove_slot(slot->module, slot);
}

static enum hsm_status
start_inside(struct hsm_slot *slot)
{
    enum hsm_status st = hsm_slot_login(slot);

    if (st == HSM_OK)
        st = first_session(slot);
    if (st == HSM_OK && slot->settings.workers > 0)
        st = hsm_workers_start(slot, &slot->workers);
    slot->opened = st == HSM_OK;
    return st == HSM_OK ? hsm_care_start(slot) : st;
}

/* The slot is listed before it logs in: while it is inside the module, another token does not
 * restart it, and afterwards they know of each other. Inside the admin gate. */
static enum hsm_status
start_in_turn(struct hsm_slot *slot)
{
    enum hsm_status st;

    if (!hsm_slot_enter_to_log_in(slot, slot->settings.op_timeout_ms))
        return HSM_ERR_BUSY;
    hsm_module_add_slot(slot->module, slot);
    st = start_inside(slot);
    if (st != HSM_OK) {
        hsm_pool_refuse(&slot->pool, HSM_ERR_USAGE);
        hsm_workers_stop(slot->workers);
        log_out(slot);
    }
    hsm_slot_leave(slot);
    return st;
}

/* Its thread is started before this leaves the module. */
static enum hsm_status
slot_start(struct hsm_slot *slot)
{
    enum hsm_status st;

    if (!hsm_gate_enter(&slot->admin, 0))
        return HSM_ERR_BUSY;
    st = start_in_turn(slot);
    hsm_gate_leave(&slot->admin);
    return st;
}

static enum hsm_status
slot_add_first(struct hsm_module *module, CK_SLOT_ID id, const CK_TOKEN_INFO *token,
               const struct hsm_settings *settings, const struct hsm_journal_config *journal,
               const struct hsm_secret *pin, struct hsm_slot **out)
{
    struct hsm_slot *slot = NULL;
    enum hsm_status st = hsm_slot_new(module, id, token, settings, pin, &slot);

    if (st != HSM_OK)
        return st;
    if (settings->quirks.serial)
        hsm_module_serialise(module);
    if (journal != NULL)
        st = hsm_journal_open(journal, &slot->journal);
    if (st == HSM_OK)
        st = slot_start(slot);
    if (st != HSM_OK) {
        hsm_journal_close(slot->journal);
        hsm_slot_unref(slot);
        return st;
    }
    *out = slot;
    return HSM_OK;
}

/* Under the module's lock. */
static enum hsm_status
slot_add(struct hsm_module *module, CK_SLOT_ID id, const CK_TOKEN_INFO *token,
         const struct hsm_token_config *config, const struct hsm_secret *pin, struct hsm_slot **out)
{
    struct hsm_settings asked;
    struct hsm_settings settings;
    struct hsm_connections further;
    enum hsm_status st = hsm_settings_from(config, hsm_module_info(module), token, &asked);

    if (st != HSM_OK)
        return st;
    settings = asked;
    hsm_connections_make(module, &settings, &further);
    st = slot_add_first(module, id, token, &settings, config->journal, pin, out);
    if (st != HSM_OK) {
        hsm_connections_drop(&further);
        return st;
    }
    (*out)->asked = asked;
    hsm_connections_start(*out, &further);
    return HSM_OK;
}

/* For its next login, which is attempted at once if the present PIN was refused. */
static enum hsm_status
take_pin(struct hsm_slot *slot, const struct hsm_secret *pin)
{
    struct hsm_secret *copy = NULL;

    if (hsm_secret_new(hsm_secret_octets(pin), hsm_secret_len(pin), &copy) != HSM_OK)
        return HSM_ERR_NOMEM;
    hsm_care_take_pin(slot, copy);
    if (hsm_pool_service(&slot->pool) == HSM_ERR_DENIED) {
        hsm_pool_refuse(&slot->pool, HSM_ERR_BUSY); /* callers may wait */
        hsm_care_open(slot);
    }
    return HSM_OK;
}

/* The name of a setting that differs from the first opener's; NULL: all are equal. */
static const char *
setting_that_stays(const struct hsm_settings *first, const struct hsm_settings *now)
{
    static const struct {
        const char *name;
        size_t at;
    } settings[] = {
        {"sessions", offsetof(struct hsm_settings, sessions)},
        {"workers", offsetof(struct hsm_settings, workers)},
        {"queue_max", offsetof(struct hsm_settings, queue_max)},
        {"op_timeout_ms", offsetof(struct hsm_settings, op_timeout_ms)},
        {"reconnect_min_ms", offsetof(struct hsm_settings, reconnect_min_ms)},
        {"reconnect_max_ms", offsetof(struct hsm_settings, reconnect_max_ms)},
        {"verify_every", offsetof(struct hsm_settings, verify_every)},
        {"probe_ms", offsetof(struct hsm_settings, probe_ms)},
    };

    if (first->route != now->route)
        return "route";
    for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
        if (memcmp((const char *)first + settings[i].at, (const char *)now + settings[i].at,
                   sizeof(unsigned)) != 0)
            return settings[i].name;
    return NULL;
}

/* Under the module's lock. The PIN may be a new one; it is used at the next login, or at once if
 * the present PIN was refused. */
static enum hsm_status
slot_share(struct hsm_slot *slot, const struct hsm_token_config *config,
           const struct hsm_secret *pin)
{
    bool was_refused = hsm_pool_service(&slot->pool) == HSM_ERR_DENIED;
    struct hsm_settings settings;
    const char *stays;
    enum hsm_status st =
        hsm_settings_from(config, hsm_module_info(slot->module), &slot->token, &settings);

    if (st == HSM_OK)
        st = take_pin(slot, pin);
    for (unsigned i = 0; i < slot->further_count && st == HSM_OK; i++)
        st = take_pin(slot->further[i], pin);
    if (st != HSM_OK)
        return st;
    stays = setting_that_stays(&slot->asked, &settings);
    if (stays != NULL)
        hsm_log(HSM_LOG_INFO, "token %s: it is open in this process: its %s stays as it was",
                slot->label, stays);
    return was_refused
               ? hsm_pool_await(&slot->pool, hsm_deadline_after(slot->settings.op_timeout_ms))
               : HSM_OK;
}

enum hsm_status
hsm_slot_open(struct hsm_module *module, CK_SLOT_ID id, const CK_TOKEN_INFO *token,
              const struct hsm_token_config *config, const struct hsm_secret *pin,
              struct hsm_slot **out)
{
    struct hsm_slot *slot;
    enum hsm_status st = HSM_OK;

    slot = hsm_module_slot_of(module, token);
    if (slot == NULL)
        st = slot_add(module, id, token, config, pin, &slot);
    else
        st = slot_share(slot, config, pin);
    if (st == HSM_OK) {
        slot->users++;
        *out = slot;
    }
    return st;
}

bool
hsm_slot_stop(struct hsm_slot *slot, int64_t deadline)
{
    bool quiet = hsm_care_stop(slot, deadline);

    hsm_watch_remove(slot);
    hsm_pool_refuse(&slot->pool, HSM_ERR_USAGE);
    hsm_workers_stop(slot->workers);
    slot->workers = NULL;
    if (!hsm_pool_drain(&slot->pool, deadline) || atomic_load(&slot->stuck_now) > 0)
        quiet = false;
    if (!quiet) { /* it stays listed, so the module is not restarted under the calls */
        hsm_log(HSM_LOG_WARNING, "token %s: closed with calls stuck in the module", slot->name);
        return false;
    }
    if (hsm_module_enter(slot->module, hsm_deadline_after(CLOSE_WAIT_MS))) {
        log_out(slot);
        hsm_module_leave(slot->module);
    } else { /* a call of another token is stuck in a module that takes one at a time */
        hsm_log(HSM_LOG_WARNING, "token %s: closed without a logout", slot->name);
        hsm_module_remove_slot(slot->module, slot);
    }
    hsm_slot_unref(slot);
    return true;
}

bool
hsm_slot_close(struct hsm_slot *slot)
{
    bool left = true;

    if (--slot->users == 0) { /* no other user: no calls to the module from now on */
        int64_t deadline;

        hsm_journal_close(slot->journal); /* its last checkpoint is signed by the token */
        deadline = hsm_deadline_after(CLOSE_WAIT_MS);
        hsm_connections_stop(slot, deadline);
        left = hsm_slot_stop(slot, deadline);
    }
    return left;
}
