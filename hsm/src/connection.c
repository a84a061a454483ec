/* connection.c - a token that a process reaches by several connections. */
#include "connection_internal.h"

#include <stdio.h>

#include <openssl/evp.h>

#include <hsm/log.h>

#include "clock_internal.h"
#include "worker_internal.h"

#define SLICE_MS 50 /* for one connection when none is usable, before the others */

/* ---- the connections of a token ---- */

static unsigned
share_of(unsigned value, unsigned connections)
{
    return (value + connections - 1) / connections;
}

/* In a module that takes one call at a time further sessions would only wait. */
static void
divide(struct hsm_settings *settings, unsigned connections)
{
    settings->sessions = settings->quirks.serial ? 1 : share_of(settings->sessions, connections);
    settings->workers = share_of(settings->workers, connections);
    settings->queue_max = share_of(settings->queue_max, connections);
}

void
hsm_connections_make(const struct hsm_module *first, struct hsm_settings *settings,
                     struct hsm_connections *out)
{
    unsigned wanted = settings->quirks.connections;

    if (wanted > settings->sessions)
        wanted = settings->sessions;
    out->count = 0;
    while (out->count + 1 < wanted &&
           hsm_module_connect(first, &out->modules[out->count]) == HSM_OK)
        out->count++;
    if (out->count > 0)
        divide(settings, out->count + 1);
}

void
hsm_connections_drop(const struct hsm_connections *connections)
{
    for (unsigned i = 0; i < connections->count; i++)
        hsm_module_disconnect(connections->modules[i]);
}

static enum hsm_status
start_further(struct hsm_slot *first, struct hsm_module *module, struct hsm_slot **out)
{
    struct hsm_slot *slot = NULL;
    enum hsm_status st =
        hsm_slot_new(module, first->id, &first->token, &first->settings, first->pin, &slot);

    if (st != HSM_OK)
        return st;
    hsm_slot_ref(first);
    slot->first = first;
    slot->journal = first->journal;
    snprintf(slot->name, sizeof(slot->name), "%s, connection %u", first->label,
             first->further_count + 2);
    hsm_pool_refuse(&slot->pool, HSM_ERR_USAGE); /* until it is needed */
    if (slot->settings.quirks.serial)
        hsm_module_serialise(module);
    hsm_module_add_slot(module, slot);
    if (slot->settings.workers > 0)
        st = hsm_workers_start(slot, &slot->workers);
    if (st == HSM_OK)
        st = hsm_care_start(slot);
    if (st != HSM_OK) {
        hsm_workers_stop(slot->workers);
        hsm_module_remove_slot(module, slot);
        hsm_slot_unref(slot);
        return st;
    }
    *out = slot;
    return HSM_OK;
}

void
hsm_connections_start(struct hsm_slot *first, const struct hsm_connections *connections)
{
    for (unsigned i = 0; i < connections->count; i++) {
        struct hsm_module *module = connections->modules[i];

        if (start_further(first, module, &first->further[first->further_count]) == HSM_OK) {
            first->further_count++;
            continue;
        }
        hsm_log(HSM_LOG_ERROR, "token %s: no memory for another connection", first->label);
        hsm_module_disconnect(module);
    }
}

void
hsm_connections_stop(struct hsm_slot *first, int64_t deadline)
{
    for (unsigned i = 0; i < first->further_count; i++) {
        struct hsm_slot *slot = first->further[i];
        struct hsm_module *module = slot->module;

        slot->needed = true; /* so that an EVP_PKEY that is still in use does not open it again */
        if (hsm_slot_stop(slot, deadline))
            hsm_module_disconnect(module);
    }
}

/* One at a time: the need for yet another is judged once this one serves. */
static void
open_another(const struct hsm_slot *first)
{
    for (unsigned i = 0; i < first->further_count; i++) {
        struct hsm_slot *slot = first->further[i];

        if (!atomic_exchange(&slot->needed, true)) {
            hsm_care_open(slot);
            return;
        }
        if (hsm_pool_service(&slot->pool) != HSM_OK)
            return;
    }
}

enum hsm_status
hsm_connections_service(struct hsm_slot *first)
{
    enum hsm_status service = hsm_pool_service(&first->pool);

    for (unsigned i = 0; i < first->further_count && service != HSM_OK; i++) {
        enum hsm_status other = hsm_pool_service(&first->further[i]->pool);

        if (other == HSM_OK || other == HSM_ERR_BUSY)
            service = other;
    }
    return service;
}

/* ---- a key on all connections ---- */

enum hsm_status
hsm_connections_add_key(struct hsm_signer *signer, EVP_PKEY *public_key)
{
    const struct hsm_slot *first = signer->slot;

    for (unsigned i = 0; i < first->further_count; i++) {
        struct hsm_slot *slot = first->further[i];
        enum hsm_status st;

        if (EVP_PKEY_up_ref(public_key) != 1)
            return HSM_ERR_NOMEM;
        st = hsm_signer_new(slot, &signer->info, CK_INVALID_HANDLE, CK_INVALID_HANDLE, public_key,
                            &signer->further[i]);
        if (st != HSM_OK) {
            EVP_PKEY_free(public_key);
            return st;
        }
        signer->further_count++;
        if (slot->needed)
            hsm_care_look(slot);
    }
    return HSM_OK;
}

/* A fault of the key itself holds on every connection, whichever noticed it. */
static enum hsm_status
refusal_of(const struct hsm_signer *signer)
{
    enum hsm_status st = signer->status;

    for (unsigned i = 0; i < signer->further_count; i++) {
        enum hsm_status seen = signer->further[i]->status;

        if (seen == HSM_ERR_UNTRUSTED || seen == HSM_ERR_AMBIGUOUS)
            st = seen;
    }
    return st == HSM_ERR_UNTRUSTED || st == HSM_ERR_AMBIGUOUS ? st : HSM_OK;
}

/* A module that takes one call at a time takes no other while a call is stuck in it. */
static bool
is_blocked(const struct hsm_slot *slot)
{
    return slot->settings.quirks.serial && (slot->stuck_now > 0 || hsm_slot_is_stuck_inside(slot));
}

static bool
is_well(const struct hsm_signer *signer)
{
    return signer->status == HSM_OK && hsm_pool_service(&signer->slot->pool) == HSM_OK &&
           !is_blocked(signer->slot);
}

static bool
may_come_back(const struct hsm_signer *signer)
{
    enum hsm_status st = signer->status;
    enum hsm_status service = hsm_pool_service(&signer->slot->pool);

    return (st == HSM_OK || st == HSM_ERR_BUSY) && (service == HSM_OK || service == HSM_ERR_BUSY);
}

/* The first among equals: it is the most recently used. */
static struct hsm_signer *
least_loaded(struct hsm_signer *signer, bool (*is_fit)(const struct hsm_signer *), unsigned *load)
{
    struct hsm_signer *best = NULL;

    for (unsigned i = 0; i <= signer->further_count; i++) {
        struct hsm_signer *one = i == 0 ? signer : signer->further[i - 1];
        unsigned its_load = one->slot->load;

        if ((best != NULL && its_load >= *load) || !is_fit(one))
            continue;
        best = one;
        *load = its_load;
    }
    return best;
}

/* Choose a usable connection and count a call on it; NULL: none is usable. */
static struct hsm_signer *
claim(struct hsm_signer *signer)
{
    struct hsm_signer *best;
    unsigned load = 0;

    do
        best = least_loaded(signer, is_well, &load);
    while (best != NULL && !atomic_compare_exchange_weak(&best->slot->load, &load, load + 1));
    if (best == NULL || load > 0)
        open_another(signer->slot);
    return best;
}

/* Wait a slice of time for a connection that may come back; HSM_OK: look again. */
static enum hsm_status
await_one(struct hsm_signer *signer, const struct hsm_patience *patience)
{
    int64_t slice = hsm_deadline_after(SLICE_MS);
    unsigned load = 0;
    struct hsm_signer *one = least_loaded(signer, may_come_back, &load);

    if (one == NULL)
        return signer->status != HSM_OK ? signer->status : hsm_pool_service(&signer->slot->pool);
    if (!patience->through_recovery || hsm_clock_ns() >= patience->deadline)
        return HSM_ERR_BUSY;
    slice = slice < patience->deadline ? slice : patience->deadline;
    if (hsm_pool_await(&one->slot->pool, slice) == HSM_OK && !is_well(one))
        hsm_clock_sleep_until(slice); /* the key is being looked for, or a call is stuck */
    return HSM_OK;
}

/* The maximum number of attempts at a call that ends with this status. */
static unsigned
most_losses(enum hsm_status status)
{
    switch (status) {
    case HSM_ERR_BUSY:
        return HSM_LOSSES_MAX;
    case HSM_ERR_CRYPTO: /* a wrong signature */
        return HSM_WRONG_MAX;
    default:
        return 0;
    }
}

/* *again is true if it was lost meanwhile, which is counted, and another one may be usable. */
static enum hsm_status
sign_on(struct hsm_signer *signer, const struct hsm_request *request, unsigned *lost, bool *again,
        uint8_t *sig)
{
    struct hsm_pool *pool = &signer->slot->pool;
    unsigned epoch = hsm_pool_epoch(pool);
    struct hsm_request here = *request;
    enum hsm_status st;

    here.patience.through_recovery = false;
    st = hsm_signer_sign_alone(signer, &here, sig);
    if (hsm_pool_service(pool) != HSM_OK || hsm_pool_epoch(pool) != epoch)
        *again = ++*lost < most_losses(st) && hsm_clock_ns() < request->patience.deadline;
    return st;
}

/* *again is true as for sign_on(), or when none is usable yet. */
static enum hsm_status
sign_on_any(struct hsm_signer *signer, const struct hsm_request *request, unsigned *lost,
            bool *again, uint8_t *sig)
{
    struct hsm_signer *chosen = claim(signer);
    enum hsm_status st;

    if (chosen == NULL) {
        st = await_one(signer, &request->patience);
        *again = st == HSM_OK;
        return st;
    }
    st = sign_on(chosen, request, lost, again, sig);
    atomic_fetch_sub(&chosen->slot->load, 1);
    return st;
}

enum hsm_status
hsm_connections_sign(struct hsm_signer *signer, const struct hsm_request *request, uint8_t *sig)
{
    unsigned lost = 0;
    enum hsm_status st;
    bool again;

    do {
        again = false;
        st = refusal_of(signer);
        if (st == HSM_OK)
            st = sign_on_any(signer, request, &lost, &again, sig);
    } while (again);
    return st;
}
