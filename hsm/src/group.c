/* group.c - choose among keys on several tokens. */
#include <hsm/group.h>

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <hsm/log.h>

#include "clock_internal.h"
#include "key_internal.h"

#define REST_MS  1000 /* a member that failed otherwise than by its token is tried last */
#define SLICE_MS 50 /* for one member, when none is well, before the next is tried */

struct member {
    struct hsm_key *key;
    void *context;
    unsigned preference;
    unsigned in_flight;
    int64_t rests_until;
    bool leaving;
};

struct hsm_group {
    pthread_mutex_t lock;
    pthread_cond_t idle; /* of a member that leaves */
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
    *out = group;
    return HSM_OK;
}

enum hsm_status
hsm_group_add(struct hsm_group *group, struct hsm_key *key, unsigned preference, void *context)
{
    struct member *member = calloc(1, sizeof(*member));
    bool room;

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

    pthread_mutex_lock(&group->lock);
    for (size_t i = 0; i < group->count; i++)
        ready += hsm_token_is_ready(hsm_key_token(group->members[i]->key)) ? 1 : 0;
    pthread_mutex_unlock(&group->lock);
    return ready;
}

/* Well before resting or away, then preferred, then less loaded. */
static bool
is_better(const struct member *a, const struct member *b, int64_t now)
{
    bool a_well = hsm_token_is_ready(hsm_key_token(a->key)) && a->rests_until <= now;
    bool b_well = hsm_token_is_ready(hsm_key_token(b->key)) && b->rests_until <= now;

    if (a_well != b_well)
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

/* The best of those that were not tried; NULL if none is left. It does not go away meanwhile. */
static struct member *
choose(struct hsm_group *group, struct hsm_key *const *tried, size_t tried_count)
{
    int64_t now = hsm_clock_ns();
    struct member *best = NULL;

    pthread_mutex_lock(&group->lock);
    for (size_t i = 0; i < group->count; i++) {
        struct member *member = group->members[i];

        if (!was_tried(tried, tried_count, member->key) &&
            (best == NULL || is_better(member, best, now)))
            best = member;
    }
    if (best != NULL)
        best->in_flight++;
    pthread_mutex_unlock(&group->lock);
    return best;
}

static void
put_back(struct hsm_group *group, struct member *member, enum hsm_status status)
{
    pthread_mutex_lock(&group->lock);
    if (status != HSM_OK && status != HSM_ERR_BUSY)
        member->rests_until = hsm_clock_ns() + REST_MS * HSM_MS;
    if (--member->in_flight == 0 && member->leaving)
        pthread_cond_broadcast(&group->idle);
    pthread_mutex_unlock(&group->lock);
}

/* One call on its way through the members. */
struct group_call {
    hsm_group_digest_fn *make;
    void *context;
    int64_t deadline;
    bool made; /* the last digest could be made */
    bool not_it; /* the last member has none for this call */
};

static enum hsm_status
sign_with(struct group_call *call, const struct member *member, enum hsm_wait wait, uint8_t *sig)
{
    uint8_t digest[HSM_SHA256_LEN];
    unsigned ms = hsm_ms_until(call->deadline);
    enum hsm_status st = call->make(call->context, member->context, digest);

    call->made = st == HSM_OK;
    call->not_it = st == HSM_ERR_NOT_FOUND;
    if (!call->made || ms == 0)
        return call->made ? HSM_ERR_BUSY : st;
    if (wait == HSM_WAIT_FOR_RECOVERY && ms > SLICE_MS)
        ms = SLICE_MS;
    return hsm_key_sign_digest_quietly(member->key, digest, ms, wait, sig);
}

/* Each member once; BUSY when none signed, NOT_FOUND when none has a digest for this call. */
static enum hsm_status
sign_with_any(struct hsm_group *group, struct group_call *call, enum hsm_wait wait, uint8_t *sig,
              void **out)
{
    struct hsm_key *tried[HSM_GROUP_MAX];
    size_t count = 0;
    enum hsm_status st = HSM_ERR_NOT_FOUND;

    while (count < HSM_GROUP_MAX) {
        struct member *member = choose(group, tried, count);
        enum hsm_status one;

        if (member == NULL)
            break;
        tried[count++] = member->key;
        one = sign_with(call, member, wait, sig);
        if (one == HSM_OK && out != NULL)
            *out = member->context;
        put_back(group, member, call->made ? one : HSM_OK);
        if (call->not_it)
            continue;
        if (one == HSM_OK || !call->made)
            return one;
        st = one;
    }
    return st;
}

enum hsm_status
hsm_group_sign(struct hsm_group *group, hsm_group_digest_fn *make, void *context,
               unsigned timeout_ms, uint8_t *sig, void **member)
{
    struct group_call call = {make, context, hsm_deadline_after(timeout_ms), true, false};
    enum hsm_wait wait = HSM_WAIT_FOR_SESSION; /* at first: another one may be well */
    enum hsm_status st;

    do {
        st = sign_with_any(group, &call, wait, sig, member);
        wait = HSM_WAIT_FOR_RECOVERY;
    } while (st == HSM_ERR_BUSY && (call.made || call.not_it) && hsm_clock_ns() < call.deadline);
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
