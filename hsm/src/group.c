/* group.c - choose among keys on several tokens. */
#include <hsm/group.h>

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <hsm/log.h>

#include "clock_internal.h"
#include "key_internal.h"
#include "module_internal.h"

#define REST_MS   1000 /* after a failure, during which a member is tried last */
#define SLICE_MS  50 /* for one member that is out of service, before the next is tried */
#define REFUSE_MS 1 /* a shorter round was refused, and is not repeated at once */

struct member {
    struct hsm_key *key;
    void *context;
    unsigned preference;
    unsigned in_flight;
    int64_t rests_until;
    bool doubtful; /* it has rested, but not signed since: gets one call at a time */
    bool leaving;
};

struct hsm_group {
    pthread_mutex_t lock;
    pthread_cond_t idle; /* of a leaving member */
    unsigned generation; /* hsm_fork_generation() when it was made */
    struct member *members[HSM_GROUP_MAX];
    size_t count;
};

enum hsm_status
hsm_group_new(struct hsm_group **out)
{
    struct hsm_group *group = calloc(1, sizeof(*group));

    if (group == NULL)
        return HSM_ERR_NOMEM;
    if (pthread_mutex_init(&group->lock, NULL) != 0 || pthread_cond_init(&group->idle, NULL) != 0) {
        free(group);
        return HSM_ERR_NOMEM;
    }
    group->generation = hsm_fork_generation();
    *out = group;
    return HSM_OK;
}

/* In the child of a fork() the lock may be the parent's for ever. */
static bool
is_inherited(const struct hsm_group *group)
{
    return group->generation != hsm_fork_generation();
}

static enum hsm_status
refuse_inherited(void)
{
    hsm_log(HSM_LOG_ERROR, "a group of keys from before fork() is not usable after it");
    return HSM_ERR_USAGE;
}

enum hsm_status
hsm_group_add(struct hsm_group *group, struct hsm_key *key, unsigned preference, void *context)
{
    struct member *member;
    bool room;

    if (is_inherited(group))
        return refuse_inherited();
    member = calloc(1, sizeof(*member));
    if (member == NULL)
        return HSM_ERR_NOMEM;
    *member = (struct member){.key = key, .context = context, .preference = preference};
    pthread_mutex_lock(&group->lock);
    room = group->count < HSM_GROUP_MAX;
    if (room)
        group->members[group->count++] = member;
    pthread_mutex_unlock(&group->lock);
    if (room)
        return HSM_OK;
    free(member);
    hsm_log(HSM_LOG_ERROR, "a group has at most %d keys", HSM_GROUP_MAX);
    return HSM_ERR_USAGE;
}

void
hsm_group_remove(struct hsm_group *group, struct hsm_key *key)
{
    struct member *member = NULL;

    if (is_inherited(group))
        return;
    pthread_mutex_lock(&group->lock);
    for (size_t i = 0; i < group->count && member == NULL; i++) {
        if (group->members[i]->key != key)
            continue;
        member = group->members[i];
        group->members[i] = group->members[--group->count];
    }
    if (member != NULL) {
        member->leaving = true;
        while (member->in_flight > 0)
            pthread_cond_wait(&group->idle, &group->lock);
    }
    pthread_mutex_unlock(&group->lock);
    free(member);
}

size_t
hsm_group_ready(struct hsm_group *group)
{
    size_t ready = 0;

    if (is_inherited(group))
        return 0;
    pthread_mutex_lock(&group->lock);
    for (size_t i = 0; i < group->count; i++)
        ready += hsm_token_is_ready(hsm_key_token(group->members[i]->key)) ? 1 : 0;
    pthread_mutex_unlock(&group->lock);
    return ready;
}

static bool
is_well(const struct member *member, int64_t now)
{
    return hsm_token_is_ready(hsm_key_token(member->key)) && member->rests_until <= now &&
           (!member->doubtful || member->in_flight == 0);
}

/* Members in service before resting or lost ones, then by preference, then by load. */
static bool
is_better(const struct member *a, const struct member *b, int64_t now)
{
    bool a_well = is_well(a, now);

    if (a_well != is_well(b, now))
        return a_well;
    if (a->preference != b->preference)
        return a->preference < b->preference;
    return a->in_flight < b->in_flight;
}

static bool
was_tried(struct hsm_key *const *tried, size_t count, const struct hsm_key *key)
{
    for (size_t i = 0; i < count; i++) {
        if (tried[i] == key)
            return true;
    }
    return false;
}

/* The best member that was not tried; NULL: all were. It stays in the group meanwhile. */
static struct member *
choose(struct hsm_group *group, struct hsm_key *const *tried, size_t tried_count, bool *last)
{
    int64_t now = hsm_clock_ns();
    struct member *best = NULL;
    size_t left = 0;

    pthread_mutex_lock(&group->lock);
    for (size_t i = 0; i < group->count; i++) {
        struct member *member = group->members[i];

        if (was_tried(tried, tried_count, member->key))
            continue;
        left++;
        if (best == NULL || is_better(member, best, now))
            best = member;
    }
    if (best != NULL)
        best->in_flight++;
    pthread_mutex_unlock(&group->lock);
    *last = left <= 1;
    return best;
}

/* Result of one member. */
struct trial {
    enum hsm_status status;
    bool asked; /* false: it was not called */
    bool too_slow; /* it used up its time */
};

static void
put_back(struct hsm_group *group, struct member *member, const struct trial *trial)
{
    bool failed = trial->asked && trial->status != HSM_OK &&
                  (trial->status != HSM_ERR_BUSY || trial->too_slow);

    pthread_mutex_lock(&group->lock);
    if (failed) {
        member->rests_until = hsm_clock_ns() + REST_MS * HSM_NS_PER_MS;
        member->doubtful = true;
    } else if (trial->asked && trial->status == HSM_OK) {
        member->doubtful = false;
    }
    if (--member->in_flight == 0 && member->leaving)
        pthread_cond_broadcast(&group->idle);
    pthread_mutex_unlock(&group->lock);
}

/* One call on its way through the members. */
struct group_call {
    hsm_group_digest_fn *make;
    void *context;
    int64_t deadline;
    enum hsm_wait wait;
    enum hsm_status made; /* the last result of `make` */
};

/* A member that hangs must leave time for the others. One that serves is not limited to a slice: a
 * call that is cut short in the module counts as stuck. */
static unsigned
time_for(const struct group_call *call, const struct member *member, bool last)
{
    unsigned ms = hsm_ms_until(call->deadline);

    if (!last)
        ms -= ms / 2;
    if (ms > hsm_key_timeout_ms(member->key))
        ms = hsm_key_timeout_ms(member->key);
    if (call->wait == HSM_WAIT_FOR_RECOVERY && ms > SLICE_MS &&
        !hsm_token_is_ready(hsm_key_token(member->key)))
        ms = SLICE_MS;
    return ms;
}

static struct trial
sign_with(struct group_call *call, const struct member *member, bool last, uint8_t *sig)
{
    uint8_t digest[HSM_SHA256_LEN];
    struct trial trial = {.status = HSM_ERR_BUSY};
    unsigned ms;
    int64_t until;

    call->made = call->make(call->context, member->context, digest);
    ms = time_for(call, member, last);
    if (call->made != HSM_OK || ms == 0) {
        trial.status = call->made != HSM_OK ? call->made : HSM_ERR_BUSY;
        return trial;
    }
    until = hsm_deadline_after(ms);
    trial.asked = true;
    trial.status = hsm_key_sign_digest_quietly(member->key, digest, ms, call->wait, sig);
    trial.too_slow = call->wait == HSM_WAIT_FOR_SESSION && hsm_clock_ns() >= until;
    return trial;
}

/* Each member once; BUSY when no member signed but one may later, NOT_FOUND when no member has a
 * digest for this call. */
static enum hsm_status
sign_with_any(struct hsm_group *group, struct group_call *call, uint8_t *sig, void **out)
{
    struct hsm_key *tried[HSM_GROUP_MAX];
    size_t count = 0;
    enum hsm_status st = HSM_ERR_NOT_FOUND;

    while (count < HSM_GROUP_MAX) {
        bool last = false;
        struct member *member = choose(group, tried, count, &last);
        struct trial trial;

        if (member == NULL)
            break;
        tried[count++] = member->key;
        trial = sign_with(call, member, last, sig);
        if (trial.status == HSM_OK && out != NULL)
            *out = member->context;
        put_back(group, member, &trial);
        if (call->made == HSM_ERR_NOT_FOUND)
            continue;
        if (trial.status == HSM_OK || call->made != HSM_OK)
            return trial.status;
        if (st != HSM_ERR_BUSY)
            st = trial.status;
    }
    return st;
}

static bool
may_go_on(const struct group_call *call, enum hsm_status st)
{
    return st == HSM_ERR_BUSY && (call->made == HSM_OK || call->made == HSM_ERR_NOT_FOUND) &&
           hsm_clock_ns() < call->deadline;
}

/* After all members refused at once, as workers with a full queue do. */
static void
pause_after(const struct group_call *call, int64_t begun)
{
    int64_t until = hsm_deadline_after(SLICE_MS);

    if (call->wait == HSM_WAIT_FOR_RECOVERY && hsm_clock_ns() - begun < REFUSE_MS * HSM_NS_PER_MS)
        hsm_clock_sleep_until(until < call->deadline ? until : call->deadline);
}

static unsigned
longest_timeout_ms(struct hsm_group *group)
{
    unsigned longest = 0;

    pthread_mutex_lock(&group->lock);
    for (size_t i = 0; i < group->count; i++) {
        unsigned ms = hsm_key_timeout_ms(group->members[i]->key);

        longest = ms > longest ? ms : longest;
    }
    pthread_mutex_unlock(&group->lock);
    return longest;
}

enum hsm_status
hsm_group_sign(struct hsm_group *group, hsm_group_digest_fn *make, void *context,
               unsigned timeout_ms, uint8_t *sig, void **member)
{
    struct group_call call = {
        .make = make,
        .context = context,
        .wait = HSM_WAIT_FOR_SESSION, /* at first, as another member may be usable */
    };
    enum hsm_status st;
    bool again;

    if (is_inherited(group))
        return refuse_inherited();
    call.deadline = hsm_deadline_after(timeout_ms != 0 ? timeout_ms : longest_timeout_ms(group));
    do {
        int64_t begun = hsm_clock_ns();

        st = sign_with_any(group, &call, sig, member);
        again = may_go_on(&call, st);
        if (again)
            pause_after(&call, begun);
        call.wait = HSM_WAIT_FOR_RECOVERY;
    } while (again);
    if (st == HSM_ERR_BUSY)
        hsm_log(HSM_LOG_ERROR, "no key of the group signed in time");
    return st;
}

void
hsm_group_free(struct hsm_group *group)
{
    if (group == NULL)
        return;
    for (size_t i = 0; i < group->count; i++)
        free(group->members[i]);
    pthread_cond_destroy(&group->idle);
    pthread_mutex_destroy(&group->lock);
    free(group);
}
