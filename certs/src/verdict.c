/* verdict.c - verdicts on chains, kept for as long as they hold. */

#include <certs/verdict.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/rand.h>

#include "x509_internal.h"

#define WAYS     16 /* verdicts per set: a new one replaces one of these */
#define SETS_MIN 8
#define LOCKS    64 /* a power of two; sets share them */

/* Seconds that a refusal is kept: OpenSSL reports some faults of its own, such as missing memory,
 * as faults of a certificate, and these must not last. */
#define REFUSED_S 300

/* All that a verdict depends on besides the time. */
struct key {
    uint8_t chain[CERTS_CHAIN_DIGEST_LEN];
    uint8_t anchors[CERTS_CHAIN_DIGEST_LEN];
    uint8_t crl[CERTS_CRL_DIGEST_LEN]; /* zero: no CRL is used */
};

struct verdict {
    struct key key;
    time_t from, until; /* first and last second at which it holds */
    struct certs_path *path; /* NULL: refused */
    char *why; /* the reason, if refused */
    uint64_t used; /* the set's counter when it was last used */
    time_t used_at;
};

struct set {
    uint64_t tags[WAYS]; /* tags of the chains: two cache lines tell which entries to compare */
    struct verdict *verdicts[WAYS]; /* NULL: a free place */
    uint64_t uses;
};

/* A lock and the counters under it, apart from the others in memory. */
struct stripe {
    pthread_mutex_t lock;
    uint64_t found, not_found;
} __attribute__((aligned(64)));

struct certs_verdicts {
    struct certs_path_policy policy;
    struct set *sets;
    unsigned shift; /* 64 - log2 of the number of sets */
    uint64_t multiplier; /* odd, random: outsiders cannot choose the set of their chains */
    struct stripe stripes[LOCKS];
};

/* -- places ------------------------------------------------------------------------------------ */

static uint64_t
word_at(const uint8_t *octets)
{
    uint64_t word;

    memcpy(&word, octets, sizeof(word));
    return word;
}

static size_t
set_of(const struct certs_verdicts *verdicts, const struct key *key)
{
    return (size_t)((word_at(key->chain) * verdicts->multiplier) >> verdicts->shift);
}

static size_t
set_count(const struct certs_verdicts *verdicts)
{
    return (size_t)1 << (64 - verdicts->shift);
}

static struct stripe *
stripe_of(struct certs_verdicts *verdicts, size_t set)
{
    return &verdicts->stripes[set % LOCKS];
}

static void
verdict_free(struct verdict *verdict)
{
    if (verdict == NULL)
        return;
    certs_path_free(verdict->path);
    free(verdict->why);
    free(verdict);
}

static struct key
key_of(const struct certs_chain *chain, const struct certs_trust *trust)
{
    struct key key = {.crl = {0}};

    memcpy(key.chain, certs_chain_digest(chain), sizeof(key.chain));
    memcpy(key.anchors, certs_chain_digest(trust->anchors), sizeof(key.anchors));
    if (trust->crl != NULL)
        memcpy(key.crl, certs_crl_digest(trust->crl), sizeof(key.crl));
    return key;
}

static struct verdict *
find(struct set *set, const struct key *key)
{
    uint64_t tag = word_at(key->chain + sizeof(tag));

    for (size_t i = 0; i < WAYS; i++) {
        struct verdict *verdict = set->verdicts[i];

        if (set->tags[i] == tag && verdict != NULL && memcmp(&verdict->key, key, sizeof(*key)) == 0)
            return verdict;
    }
    return NULL;
}

/* -- look-up ----------------------------------------------------------------------------------- */

struct answer {
    enum hsm_status status;
    struct certs_path *path; /* with a reference */
};

static struct answer
answer_of(const struct verdict *verdict, struct hsm_reason *why)
{
    if (verdict->path != NULL)
        return (struct answer){HSM_OK, certs_path_hold(verdict->path)};
    return (struct answer){hsm_refuse(why, HSM_ERR_UNTRUSTED, "%s", verdict->why), NULL};
}

/* False: no verdict is kept that holds at that time. */
static bool
recall(struct certs_verdicts *verdicts, const struct key *key, time_t now, struct answer *answer,
       struct hsm_reason *why)
{
    size_t at = set_of(verdicts, key);
    struct stripe *stripe = stripe_of(verdicts, at);
    struct set *set = &verdicts->sets[at];
    struct verdict *verdict;
    bool holds;

    pthread_mutex_lock(&stripe->lock);
    verdict = find(set, key);
    holds = verdict != NULL && verdict->from <= now && now <= verdict->until;
    if (holds) {
        verdict->used = ++set->uses;
        verdict->used_at = now;
        *answer = answer_of(verdict, why);
        stripe->found++;
    } else {
        stripe->not_found++;
    }
    pthread_mutex_unlock(&stripe->lock);
    return holds;
}

/* -- storage ----------------------------------------------------------------------------------- */

/* The lowest is replaced first. A chain has one place: its verdict by an older list or CRL is
 * replaced first. NULL: a free place. */
static uint64_t
worth(const struct verdict *verdict, const struct key *key, time_t now)
{
    if (verdict == NULL)
        return 1;
    if (memcmp(verdict->key.chain, key->chain, sizeof(key->chain)) == 0)
        return 0;
    if (verdict->until < now)
        return 2;
    return (verdict->path == NULL ? 3 : UINT64_MAX / 2) + verdict->used;
}

/* WAYS: a refusal would replace a good verdict. */
static size_t
place_for(const struct set *set, const struct verdict *verdict, time_t now)
{
    size_t least = 0;

    for (size_t i = 1; i < WAYS; i++) {
        if (worth(set->verdicts[i], &verdict->key, now) <
            worth(set->verdicts[least], &verdict->key, now))
            least = i;
    }
    if (verdict->path == NULL && worth(set->verdicts[least], &verdict->key, now) >= UINT64_MAX / 2)
        return WAYS;
    return least;
}

/* Takes over what `made` owns. Without memory it is not kept. */
static void
keep(struct certs_verdicts *verdicts, const struct verdict *made, time_t now)
{
    size_t at = set_of(verdicts, &made->key);
    struct stripe *stripe = stripe_of(verdicts, at);
    struct set *set = &verdicts->sets[at];
    struct verdict *verdict = malloc(sizeof(*verdict));
    size_t place;

    if (verdict == NULL) {
        certs_path_free(made->path);
        free(made->why);
        return;
    }
    *verdict = *made;
    pthread_mutex_lock(&stripe->lock);
    place = place_for(set, verdict, now);
    if (place < WAYS) {
        struct verdict *before = set->verdicts[place];

        verdict->used = ++set->uses;
        verdict->used_at = now;
        set->tags[place] = word_at(verdict->key.chain + sizeof(uint64_t));
        set->verdicts[place] = verdict;
        verdict = before;
    }
    pthread_mutex_unlock(&stripe->lock);
    verdict_free(verdict);
}

static void
keep_good(struct certs_verdicts *verdicts, const struct key *key, const struct certs_trust *trust,
          struct certs_path *path, time_t now)
{
    struct verdict verdict = {
        .key = *key, .from = certs_path_not_before(path), .until = certs_path_not_after(path)};

    if (verdict.until > trust->until)
        verdict.until = trust->until;
    verdict.path = certs_path_hold(path);
    keep(verdicts, &verdict, now);
}

/* End the verdict a second before the first of these certificates becomes valid, if that is
 * earlier. */
static void
end_before_start(struct verdict *verdict, const struct certs_chain *certs, time_t now)
{
    time_t start = certs_chain_next_start(certs, now);

    if (start != 0 && start - 1 < verdict->until)
        verdict->until = start - 1;
}

/*
 * A refusal becomes wrong when a certificate becomes valid that might have helped: it is kept until
 * then, for REFUSED_S at most.
 */
static void
keep_refused(struct certs_verdicts *verdicts, const struct key *key,
             const struct certs_chain *chain, const struct certs_trust *trust,
             const struct hsm_reason *why, time_t now)
{
    struct verdict verdict = {.key = *key, .until = now + REFUSED_S};

    if (verdict.until > trust->until)
        verdict.until = trust->until;
    end_before_start(&verdict, chain, now);
    end_before_start(&verdict, trust->anchors, now);
    if (verdicts->policy.intermediates != NULL)
        end_before_start(&verdict, verdicts->policy.intermediates, now);
    verdict.from = now; /* a certificate that has expired was good before */
    verdict.why = strdup(why->text);
    if (verdict.why != NULL)
        keep(verdicts, &verdict, now);
}

/* -- public ------------------------------------------------------------------------------------ */

static unsigned
log2_of_sets(size_t max)
{
    unsigned log2 = 0;
    size_t sets = SETS_MIN;

    while (sets * WAYS < max)
        sets *= 2;
    while ((size_t)1 << log2 < sets)
        log2++;
    return log2;
}

enum hsm_status
certs_verdicts_new(const struct certs_path_policy *policy, size_t max, struct certs_verdicts **out)
{
    unsigned log2 = log2_of_sets(max);
    struct certs_verdicts *verdicts;

    if (max == 0 || max > CERTS_VERDICTS_MAX)
        return HSM_ERR_USAGE;
    verdicts = aligned_alloc(_Alignof(struct certs_verdicts), sizeof(*verdicts));
    if (verdicts == NULL)
        return HSM_ERR_NOMEM;
    memset(verdicts, 0, sizeof(*verdicts));
    for (size_t i = 0; i < LOCKS; i++)
        pthread_mutex_init(&verdicts->stripes[i].lock, NULL);
    verdicts->shift = 64 - log2;
    verdicts->sets = calloc((size_t)1 << log2, sizeof(*verdicts->sets));
    if (policy != NULL)
        verdicts->policy = *policy;
    if (verdicts->sets == NULL ||
        RAND_bytes((uint8_t *)&verdicts->multiplier, sizeof(verdicts->multiplier)) != 1) {
        certs_verdicts_free(verdicts);
        return certs_openssl_failed("verdicts");
    }
    verdicts->multiplier |= 1;
    *out = verdicts;
    return HSM_OK;
}

static enum hsm_status
work_out(struct certs_verdicts *verdicts, const struct key *key, const struct certs_chain *chain,
         const struct certs_trust *trust, time_t now, struct certs_path **out,
         struct hsm_reason *why)
{
    struct hsm_reason reason = {0};
    enum hsm_status st = certs_path_verify(chain, trust, &verdicts->policy, now, out, &reason);

    if (st == HSM_OK)
        keep_good(verdicts, key, trust, *out, now);
    else if (st == HSM_ERR_UNTRUSTED)
        keep_refused(verdicts, key, chain, trust, &reason, now);
    if (st == HSM_ERR_UNTRUSTED)
        return hsm_refuse(why, st, "%s", reason.text);
    return st;
}

enum hsm_status
certs_verdicts_check(struct certs_verdicts *verdicts, const struct certs_chain *chain,
                     const struct certs_trust *trust, time_t now, struct certs_path **out,
                     struct hsm_reason *why)
{
    struct key key = key_of(chain, trust);
    struct answer answer = {HSM_OK, NULL};

    if (!recall(verdicts, &key, now, &answer, why))
        answer.status = work_out(verdicts, &key, chain, trust, now, &answer.path, why);
    if (answer.status == HSM_OK && out != NULL)
        *out = answer.path;
    else
        certs_path_free(answer.path);
    return answer.status;
}

static bool
is_over(const struct verdict *verdict, time_t now, time_t unused_s)
{
    return verdict->until < now || verdict->used_at + unused_s < now;
}

void
certs_verdicts_forget(struct certs_verdicts *verdicts, time_t now, time_t unused_s)
{
    for (size_t i = 0; i < set_count(verdicts); i++) {
        struct stripe *stripe = stripe_of(verdicts, i);

        pthread_mutex_lock(&stripe->lock);
        for (size_t way = 0; way < WAYS; way++) {
            struct verdict **verdict = &verdicts->sets[i].verdicts[way];

            if (*verdict == NULL || !is_over(*verdict, now, unused_s))
                continue;
            verdict_free(*verdict);
            *verdict = NULL;
        }
        pthread_mutex_unlock(&stripe->lock);
    }
}

void
certs_verdicts_count(struct certs_verdicts *verdicts, struct certs_verdicts_count *out)
{
    struct certs_verdicts_count count = {0};
    size_t sets = set_count(verdicts);

    for (size_t i = 0; i < LOCKS; i++) {
        struct stripe *stripe = &verdicts->stripes[i];

        pthread_mutex_lock(&stripe->lock);
        count.found += stripe->found;
        count.not_found += stripe->not_found;
        for (size_t k = i; k < sets; k += LOCKS) {
            for (size_t way = 0; way < WAYS; way++)
                count.kept += verdicts->sets[k].verdicts[way] != NULL;
        }
        pthread_mutex_unlock(&stripe->lock);
    }
    *out = count;
}

void
certs_verdicts_free(struct certs_verdicts *verdicts)
{
    if (verdicts == NULL)
        return;
    for (size_t i = 0; verdicts->sets != NULL && i < set_count(verdicts); i++) {
        for (size_t way = 0; way < WAYS; way++)
            verdict_free(verdicts->sets[i].verdicts[way]);
    }
    for (size_t i = 0; i < LOCKS; i++)
        pthread_mutex_destroy(&verdicts->stripes[i].lock);
    free(verdicts->sets);
    free(verdicts);
}
