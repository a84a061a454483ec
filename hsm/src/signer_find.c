/* signer_find.c - after a recovery: find the keys of a slot again, and prove that one signs. */
#include <stdlib.h>
#include <string.h>

#include <hsm/log.h>

#include "clock_internal.h"
#include "object_internal.h"
#include "signer_internal.h"

#define MISSING_MAX_MS 2000 /* for a missing key after a recovery: replication lags */
#define DOUBT_MS       1000 /* before a key that signed wrongly is tried again, at first */

/* Why a key is refused. */
struct refusal {
    enum hsm_status status;
    enum hsm_event_kind kind;
    const char *text;
};

static const struct refusal not_there = {HSM_ERR_NOT_FOUND, HSM_EVENT_KEY_MISSING,
                                         "is not on the token any more"};
static const struct refusal several = {HSM_ERR_AMBIGUOUS, HSM_EVENT_KEY_REFUSED,
                                       "refused: another key has its CKA_ID"};
static const struct refusal another = {
    HSM_ERR_UNTRUSTED, HSM_EVENT_KEY_REFUSED,
    "refused: its public key or attributes changed while the token was unavailable"};
/* Applies to this token or connection: elsewhere the same key may be good. */
static const struct refusal signs_wrongly = {
    HSM_ERR_CRYPTO, HSM_EVENT_KEY_REFUSED,
    "refused: the token returns wrong signatures for it; other keys sign"};

/* Whatever the token shows: a key that is retired meanwhile may have been seen before it was
 * destroyed. */
static void
set_status(struct hsm_signer *signer, enum hsm_status status)
{
    signer->status = status;
    if (signer->retired)
        signer->status = HSM_ERR_NOT_FOUND;
}

static void
refuse(struct hsm_signer *signer, const struct refusal *refusal)
{
    if (signer->refused_with != refusal->status) {
        hsm_log(HSM_LOG_ERROR, "key %s: %s", signer->info.label, refusal->text);
        hsm_slot_report(signer->slot, refusal->kind, signer->info.label);
    }
    signer->refused_with = refusal->status;
    set_status(signer, refusal->status);
}

static void
missing(struct hsm_signer *signer)
{
    int64_t now = hsm_clock_ns();

    if (signer->missing_since == 0)
        signer->missing_since = now;
    if (now - signer->missing_since < MISSING_MAX_MS * HSM_NS_PER_MS)
        set_status(signer, HSM_ERR_BUSY);
    else
        refuse(signer, &not_there);
}

/* ---- find one key ---- */

enum hsm_status
hsm_signer_find(const struct hsm_signer *signer, struct hsm_object_pair *pair,
                struct hsm_key_info *info)
{
    const struct hsm_key_info *was = &signer->info;
    const struct hsm_object_name by_id = {NULL, was->id, was->id_len};
    enum hsm_status st = hsm_object_find_pair(signer->slot, &by_id, pair);

    if (st == HSM_OK)
        st = hsm_object_describe(signer->slot, pair, info);
    if (st != HSM_OK)
        return st;
    return memcmp(info->point, was->point, sizeof(info->point)) == 0 ? HSM_OK : HSM_ERR_UNTRUSTED;
}

/* The first signature in each session is to be verified again. */
static void
unprove(struct hsm_signer *signer)
{
    for (unsigned i = 0; i < signer->slot->settings.sessions; i++)
        atomic_store_explicit(&signer->proven[i], 0, memory_order_relaxed);
}

/* Finds the handles; whether the key may be used is for the caller to decide. */
static enum hsm_status
find_again(struct hsm_signer *signer, bool *found)
{
    struct hsm_key_info info;
    struct hsm_object_pair pair;
    enum hsm_status st = hsm_signer_find(signer, &pair, &info);

    *found = st == HSM_OK && info.may_be_used;
    if (*found) {
        signer->private_object = pair.private_object;
        signer->public_object = pair.public_object;
        signer->missing_since = 0;
        unprove(signer);
        return HSM_OK;
    }
    if (st == HSM_ERR_NOT_FOUND)
        missing(signer);
    else if (st == HSM_ERR_AMBIGUOUS)
        refuse(signer, &several);
    else if (st == HSM_OK || st == HSM_ERR_UNTRUSTED)
        refuse(signer, &another);
    else
        return st;
    return HSM_OK;
}

/* ---- a key that gave wrong signatures ---- */

/* Retried, so that a passing fault of the token is not held against the key. */
static enum hsm_status
try_often(const struct hsm_signer *signer)
{
    enum hsm_status st = HSM_ERR_CRYPTO;

    for (unsigned tries = 0; tries < HSM_WRONG_MAX && st == HSM_ERR_CRYPTO; tries++)
        st = hsm_signer_try(signer);
    return st;
}

/* The time until the next try doubles up to the probe interval. */
static void
refuse_wrong_signer(struct hsm_signer *signer)
{
    unsigned ms = signer->doubted_ms * 2;

    if (ms > signer->slot->settings.probe_ms)
        ms = signer->slot->settings.probe_ms;
    signer->doubted_ms = ms > DOUBT_MS ? ms : DOUBT_MS;
    signer->doubted = true;
    signer->tried_again = hsm_deadline_after(signer->doubted_ms);
    refuse(signer, &signs_wrongly);
}

static bool
is_left_alone(const struct hsm_signer *signer)
{
    return signer->status == HSM_ERR_CRYPTO && hsm_clock_ns() < signer->tried_again;
}

/* ---- all keys ---- */

/* With a reference to each; released with release_all(). */
static struct hsm_signer **
all_signers(struct hsm_slot *slot, size_t *count)
{
    struct hsm_signer **all;
    size_t n = 0;

    pthread_mutex_lock(&slot->signers_lock);
    for (struct hsm_signer *s = slot->signers; s != NULL; s = s->next)
        n++;
    all = calloc(n + 1, sizeof(struct hsm_signer *));
    n = 0;
    for (struct hsm_signer *s = slot->signers; s != NULL && all != NULL; s = s->next) {
        hsm_signer_ref(s);
        all[n++] = s;
    }
    pthread_mutex_unlock(&slot->signers_lock);
    *count = n;
    return all;
}

static void
release_all(struct hsm_signer **all, size_t count)
{
    for (size_t i = 0; i < count; i++)
        hsm_signer_unref(all[i]);
    free(all);
}

static void
accept_again(struct hsm_signer *signer)
{
    signer->doubted = false;
    signer->doubted_ms = 0;
    signer->refused_with = HSM_OK;
    set_status(signer, HSM_OK);
}

/* The key does not sign before hsm_signers_prove(). */
static enum hsm_status
find_for_recovery(struct hsm_signer *signer)
{
    bool found = false;
    enum hsm_status st = find_again(signer, &found);

    if (found && signer->doubted)
        set_status(signer, HSM_OK); /* prove_all() tries it */
    else if (found)
        accept_again(signer);
    return st;
}

/* While the token serves other keys. */
static enum hsm_status
find_missing(struct hsm_signer *signer)
{
    bool found = false;
    enum hsm_status st;

    if (signer->status == HSM_OK || is_left_alone(signer))
        return HSM_OK;
    st = find_again(signer, &found);
    if (found && signer->doubted)
        st = hsm_signer_try(signer);
    if (found && st == HSM_OK)
        accept_again(signer);
    if (!found || st != HSM_ERR_CRYPTO)
        return st;
    refuse_wrong_signer(signer);
    return HSM_OK;
}

enum hsm_status
hsm_signers_find_again(struct hsm_slot *slot, bool everyone)
{
    size_t n = 0;
    struct hsm_signer **all = all_signers(slot, &n);
    enum hsm_status st = all != NULL ? HSM_OK : HSM_ERR_NOMEM;

    for (size_t i = 0; i < n && st == HSM_OK; i++) {
        hsm_slot_begin_inside(slot); /* the time limit is for each key by itself */
        st = everyone ? find_for_recovery(all[i]) : find_missing(all[i]);
    }
    release_all(all, n);
    return st;
}

/* The combined result of trying keys one after another. */
struct proof {
    bool good; /* a key signed */
    bool wrong; /* a key did not sign, although the token answered */
    enum hsm_status failure; /* the token's */
};

/* A key that may not sign says nothing about the token; the next one may. */
static void
prove_one(struct hsm_signer *signer, struct proof *proof)
{
    enum hsm_status st;

    hsm_slot_begin_inside(signer->slot);
    st = try_often(signer);
    signer->disproved = st == HSM_ERR_CRYPTO;
    if (st == HSM_OK) {
        proof->good = true;
        accept_again(signer);
    } else if (st == HSM_ERR_CRYPTO) {
        proof->wrong = true;
    } else if (st != HSM_ERR_DENIED && st != HSM_ERR_UNSUPPORTED) {
        proof->failure = st;
    }
}

/* Tries each doubted key, and of the others as many as it takes to find a good one. */
static void
prove_all(struct hsm_signer **all, size_t n, struct proof *proof)
{
    for (size_t i = 0; i < n && proof->failure == HSM_OK; i++) {
        all[i]->disproved = false;
        if (all[i]->status == HSM_OK && all[i]->doubted)
            prove_one(all[i], proof);
    }
    for (size_t i = 0; i < n && proof->failure == HSM_OK && !proof->good; i++) {
        if (all[i]->status == HSM_OK && !all[i]->doubted)
            prove_one(all[i], proof);
    }
}

/* Once another key has signed well: the token may have come right only after these were tried. */
static void
prove_again(struct hsm_signer **all, size_t n, struct proof *proof)
{
    for (size_t i = 0; i < n && proof->failure == HSM_OK; i++) {
        if (all[i]->disproved)
            prove_one(all[i], proof);
    }
}

/* A token on which no key signs well is not recovered; if another key signs well, the key itself is
 * at fault. */
enum hsm_status
hsm_signers_prove(struct hsm_slot *slot)
{
    struct proof proof = {false, false, HSM_OK};
    size_t n = 0;
    struct hsm_signer **all = all_signers(slot, &n);

    if (all == NULL)
        return HSM_ERR_BUSY;
    prove_all(all, n, &proof);
    if (proof.good)
        prove_again(all, n, &proof);
    for (size_t i = 0; i < n && proof.failure == HSM_OK && proof.good; i++) {
        if (all[i]->disproved)
            refuse_wrong_signer(all[i]);
    }
    release_all(all, n);
    return proof.failure == HSM_OK && (proof.good || !proof.wrong) ? HSM_OK : HSM_ERR_BUSY;
}

bool
hsm_signers_missing(struct hsm_slot *slot)
{
    bool any = false;

    pthread_mutex_lock(&slot->signers_lock);
    for (struct hsm_signer *s = slot->signers; s != NULL && !any; s = s->next)
        any = s->status != HSM_OK && !is_left_alone(s);
    pthread_mutex_unlock(&slot->signers_lock);
    return any;
}

unsigned
hsm_signers_pause_ms(struct hsm_slot *slot, unsigned at_most)
{
    unsigned ms = at_most;

    pthread_mutex_lock(&slot->signers_lock);
    for (struct hsm_signer *s = slot->signers; s != NULL; s = s->next) {
        unsigned left = is_left_alone(s) ? hsm_ms_until(s->tried_again) : at_most;

        if (left < ms)
            ms = left;
    }
    pthread_mutex_unlock(&slot->signers_lock);
    return ms;
}
