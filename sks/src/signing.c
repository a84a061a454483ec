/* signing.c - the STI-AS of the service. */
#include "signing_internal.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <hsm/clock.h>
#include <hsm/defer.h>
#include <hsm/log.h>

#define PROBE_S 10 /* without a signature for this long, a probe is signed */
#define RETRY_S 10 /* between attempts to load what could not be loaded */

#define QUICK_NS INT64_C(500000) /* a signature that takes less is made in the event loop */
#define SLOWER   64 /* about this many slower signatures raise the typical time to theirs */

/** A service provider, and its credentials that sign. */
struct provider {
    char *spc; /* owned; NULL: the only provider with active credentials */
    struct sks_signers *signers; /* those that sign; NULL: nothing is loaded */
    struct sks_signers *latest; /* what the catalogue has now; NULL: it could not be read */
    atomic_bool may_come; /* what could not be loaded may be available later */
    _Atomic enum hsm_status status; /* of the last load */
    const char *_Atomic fault; /* why not all credentials were loaded; static; NULL: all were */
    atomic_bool signs; /* by the last signature or probe */
    atomic_llong last_signed; /* on the monotonic clock */
};

struct sks_signing {
    struct sks_signing_config config; /* its `spcs` are not used */
    size_t provider_count;
    struct provider *providers;

    pthread_mutex_t lock; /* guards the providers' sets */

    time_t tokens_at; /* when to retry tokens that are not open; on the monotonic clock */

    pthread_mutex_t refreshing; /* one refresh at a time; guards the next members */
    atomic_llong version; /* of the catalogue at the last load */
    time_t retry_at, probe_at; /* on the monotonic clock */

    atomic_llong typical_ns; /* time of a signature; 0: the last call got none */
};

/* ---- credentials ---- */

static struct provider *
find_provider(struct sks_signing *signing, const char *spc)
{
    for (size_t i = 0; i < signing->provider_count; i++) {
        struct provider *provider = &signing->providers[i];

        if (spc == NULL || provider->spc == NULL ? spc == provider->spc
                                                 : strcmp(spc, provider->spc) == 0)
            return provider;
    }
    return NULL;
}

/* A new reference to a set of a provider; NULL: nothing is loaded. */
static struct sks_signers *
take(struct sks_signing *signing, struct sks_signers *const *set)
{
    struct sks_signers *taken = NULL;

    pthread_mutex_lock(&signing->lock);
    if (*set != NULL)
        taken = sks_signers_share(*set);
    pthread_mutex_unlock(&signing->lock);
    return taken;
}

/* A new reference to the set that signs; NULL: nothing is loaded. */
static struct sks_signers *
take_signers(struct sks_signing *signing, const struct provider *provider)
{
    return take(signing, &provider->signers);
}

static struct sks_signers *
exchange(struct sks_signing *signing, struct sks_signers **set, struct sks_signers *signers)
{
    struct sks_signers *old;

    pthread_mutex_lock(&signing->lock);
    old = *set;
    *set = signers;
    pthread_mutex_unlock(&signing->lock);
    return old;
}

static void
replace_signers(struct sks_signing *signing, struct provider *provider, struct sks_signers *signers)
{
    struct sks_signers *old = exchange(signing, &provider->signers, signers);

    signing->config.replaced(signing->config.context, old);
    sks_signers_free(old);
}

static const char *
name_of(const struct provider *provider)
{
    return provider->spc != NULL ? provider->spc : "(any)";
}

static void
tell_signers(const struct provider *provider, const struct sks_signers *signers, time_t now)
{
    int64_t id;

    if (sks_signers_count(signers) == 0)
        hsm_log(HSM_LOG_WARNING, "SPC %s: no active credential: calls are not signed",
                name_of(provider));
    for (size_t i = 0; i < sks_signers_count(signers); i++) {
        const struct sks_signer *signer = sks_signers_get(signers, i, &id);

        if (now > sks_signer_not_after(signer)) {
            hsm_log(HSM_LOG_WARNING,
                    "credential %" PRId64 " of SPC %s: its certificate has expired", id,
                    sks_signer_spc(signer));
            continue;
        }
        hsm_log(HSM_LOG_INFO, "credential %" PRId64 " signs for SPC %s, x5u %s", id,
                sks_signer_spc(signer), sks_signer_x5u(signer));
    }
}

/* Load what the catalogue has now, and keep it in `latest`. *fault receives the reason why not all
 * of it could be loaded, or NULL. */
static enum hsm_status
load_signers(struct sks_signing *signing, struct provider *provider, const char **fault,
             struct sks_signers **out)
{
    struct sks_signers *signers = NULL;
    bool may_come = false;
    enum hsm_status st = sks_signers_load(signing->config.catalogue, signing->config.tokens,
                                          provider->spc, &signers);

    *fault = st == HSM_OK ? NULL : "an active credential cannot be loaded";
    for (size_t i = 0; st == HSM_OK && i < sks_signers_left_out_count(signers); i++) {
        const struct sks_left_out *one = sks_signers_left_out(signers, i);

        *fault = *fault == NULL ? one->why : *fault;
        may_come = may_come || one->may_come;
    }
    atomic_store(&provider->may_come, st != HSM_OK || may_come);
    sks_signers_free(exchange(signing, &provider->latest, signers));
    if (st == HSM_OK)
        st = sks_signers_check(signers);
    if (st == HSM_OK)
        *out = sks_signers_share(signers);
    return st;
}

/* A retiring credential may sign until the one that replaced it in its token can. One that was not
 * replaced there was ended by the operator, or because every STI-VS refuses it. */
static bool
is_given_up(const struct sks_credential *credential, const struct sks_credential *active,
            size_t count)
{
    for (size_t i = 0; credential->state == SKS_RETIRING && i < count; i++)
        if (strcmp(active[i].spc, credential->spc) == 0 &&
            strcmp(active[i].token_uri, credential->token_uri) == 0)
            return false;
    return credential->state >= SKS_RETIRING;
}

/* Find out whether a loaded credential has been given up: then it must not sign. */
static enum hsm_status
find_given_up(struct sks_signing *signing, const struct provider *provider, bool *found)
{
    struct sks_credential *active = NULL;
    size_t count = 0;
    enum hsm_status failure = sks_catalogue_list_in(signing->config.catalogue, provider->spc,
                                                    SKS_ACTIVE, SKS_ACTIVE, &active, &count);

    *found = false;
    if (failure != HSM_OK)
        return failure;
    for (size_t i = 0; !*found && i < sks_signers_count(provider->signers); i++) {
        struct sks_credential credential = {.id = 0};
        int64_t id;
        enum hsm_status st;

        (void)sks_signers_get(provider->signers, i, &id);
        st = sks_catalogue_find(signing->config.catalogue, id, &credential);
        *found =
            st == HSM_ERR_NOT_FOUND || (st == HSM_OK && is_given_up(&credential, active, count));
        failure = st == HSM_OK || *found ? failure : st;
        sks_credential_clear(&credential);
    }
    sks_credentials_free(active, count);
    return failure;
}

/* When new credentials cannot be loaded, the old ones continue to sign unless one of them has been
 * given up. If the catalogue cannot be read, it is tried again. */
static void
drop_given_up(struct sks_signing *signing, struct provider *provider)
{
    bool found = false;

    if (provider->signers == NULL)
        return;
    if (find_given_up(signing, provider, &found) != HSM_OK)
        atomic_store(&provider->may_come, true);
    if (!found)
        return;
    atomic_store(&provider->signs, false);
    replace_signers(signing, provider, NULL);
}

/* A failure that was logged before, with the same catalogue, is not logged again. */
static void
load_provider(struct sks_signing *signing, struct provider *provider, bool is_new, time_t now)
{
    const char *before = provider->fault;
    struct sks_signers *signers = NULL;
    const char *fault;
    bool is_other;
    enum hsm_status st;

    hsm_log_repeats(!is_new && before != NULL);
    st = load_signers(signing, provider, &fault, &signers);
    hsm_log_repeats(false);
    atomic_store(&provider->status, st);
    atomic_store(&provider->fault, fault);
    if (fault != NULL && fault != before)
        hsm_log(HSM_LOG_ERROR, "SPC %s: %s: %s", name_of(provider),
                st == HSM_OK ? "not all of its credentials sign" : "its calls may not be signed",
                fault);
    if (st != HSM_OK) {
        drop_given_up(signing, provider);
        return;
    }
    is_other = is_new || fault != before;
    if (is_other)
        tell_signers(provider, signers, now);
    replace_signers(signing, provider, signers);
    if (is_other) /* assumed of new credentials; of the same ones the last signature shows it */
        atomic_store(&provider->signs, true);
}

/* True if a load should be retried. This does not include loaded credentials that do not sign: they
 * sign again when their token comes back. */
static bool
is_wanting(const struct provider *provider)
{
    return provider->fault != NULL && provider->may_come;
}

/* A provider that cannot be loaded does not prevent the others from loading. Called with
 * `refreshing` held, or before other threads have access. */
static enum hsm_status
load(struct sks_signing *signing, time_t now)
{
    time_t at = hsm_clock_s();
    bool is_new;
    int64_t version;
    enum hsm_status st = sks_catalogue_version(signing->config.catalogue, &version);

    if (st != HSM_OK)
        return st;
    is_new = version != signing->version;
    if (!is_new && at < signing->retry_at)
        return HSM_OK;
    for (size_t i = 0; i < signing->provider_count; i++)
        if (is_new || is_wanting(&signing->providers[i])) /* its token may have come back */
            load_provider(signing, &signing->providers[i], is_new, now);
    atomic_store(&signing->version, version); /* read before: a later change is seen next time */
    signing->retry_at = at + RETRY_S;
    return HSM_OK;
}

/* Notice the loss of a token before a call fails because of it. */
static void
probe(struct sks_signing *signing, time_t now)
{
    time_t at = hsm_clock_s();

    if (at < signing->probe_at)
        return;
    signing->probe_at = at + PROBE_S;
    for (size_t i = 0; i < signing->provider_count; i++) {
        struct provider *provider = &signing->providers[i];
        DEFER(sks_signers_free) struct sks_signers *signers = NULL;
        enum hsm_status st;

        if (at - atomic_load(&provider->last_signed) < PROBE_S)
            continue;
        signers = take_signers(signing, provider);
        st = signers == NULL ? HSM_ERR_NOT_FOUND : sks_signers_probe(signers, now);
        if (st != HSM_ERR_NOT_FOUND)
            atomic_store(&provider->signs, st == HSM_OK);
    }
}

/* A token that is not open may take long to fail again: call this without a lock. */
static void
retry_tokens(struct sks_signing *signing)
{
    if (hsm_clock_s() < signing->tokens_at)
        return;
    (void)sks_tokens_retry(
        signing->config.tokens); /* providers that cannot sign are logged when they are loaded */
    signing->tokens_at = hsm_clock_s() + RETRY_S;
}

/* Report the SPCs that this worker signs for, for a worker that is to replace it. They include
 * those that it signs for with a credential whose successor cannot be loaded. */
static void
tell_others(struct sks_signing *signing, time_t now)
{
    for (size_t i = 0; signing->config.serving != NULL && i < signing->provider_count; i++) {
        const struct provider *provider = &signing->providers[i];
        DEFER(sks_signers_free) struct sks_signers *signers = take_signers(signing, provider);

        if (provider->signs && signers != NULL && sks_signers_at(signers, now) != NULL)
            sks_serving_tell(signing->config.serving, name_of(provider), hsm_clock_s());
    }
}

void
sks_signing_refresh(struct sks_signing *signing, time_t now)
{
    retry_tokens(signing);
    pthread_mutex_lock(&signing->refreshing);
    if (load(signing, now) == HSM_OK) /* a failure was logged, and what was loaded stays */
        probe(signing, now);
    pthread_mutex_unlock(&signing->refreshing);
    tell_others(signing, now);
}

static bool
has_changed(struct sks_signing *signing)
{
    int64_t version;

    return sks_catalogue_version(signing->config.catalogue, &version) == HSM_OK &&
           version != signing->version;
}

/* No call is refused because a credential became active only after the last refresh. Failed loads
 * are not retried here, because other calls would have to wait. */
static struct sks_signers *
signers_that_can_sign(struct sks_signing *signing, const struct provider *provider, time_t now)
{
    struct sks_signers *signers = take_signers(signing, provider);

    if ((signers != NULL && sks_signers_at(signers, now) != NULL) || !has_changed(signing))
        return signers;
    sks_signers_free(signers);
    pthread_mutex_lock(&signing->refreshing);
    if (load(signing, now) != HSM_OK)
        hsm_log(HSM_LOG_DEBUG, "credentials could not be loaded for a call");
    pthread_mutex_unlock(&signing->refreshing);
    return take_signers(signing, provider);
}

/* ---- calls ---- */

static bool
cannot_now(struct ms_fault *fault, const char *why)
{
    return sks_ms_refuse(fault, MS_NOT_POSSIBLE_NOW, why, "");
}

/* Report why there is no signature: because of the token or of the certificate. */
static bool
refuse_signature(struct sks_signing *signing, struct provider *provider,
                 const struct sks_signer *asked, enum hsm_status st, int64_t begun,
                 const struct hsm_reason *why, struct ms_fault *fault)
{
    if (st == HSM_ERR_UNTRUSTED)
        return cannot_now(fault, "the active credential is not valid now");
    if (st == HSM_ERR_UNSUPPORTED)
        return sks_ms_refuse(fault, MS_NOT_ALLOWED, "the certificate", why->text);
    if (st == HSM_ERR_NOMEM || st == HSM_ERR_MALFORMED) /* the claims were checked before */
        return sks_ms_refuse(fault, MS_INTERNAL, "", "");
    hsm_log(HSM_LOG_ERROR, "a call was not signed: %s", why->text);
    signing->config.signature(signing->config.context, asked, false, hsm_clock_ns() - begun);
    atomic_store(&provider->signs, false);
    atomic_store(&signing->typical_ns, 0);
    return cannot_now(fault, "the token does not sign");
}

/* The faster signatures show how fast a token is; the others waited for a processor. If threads
 * update the time concurrently, one value may be lost. */
static void
note_signature(struct sks_signing *signing, struct provider *provider,
               const struct sks_signer *signer, int64_t begun)
{
    int64_t now = hsm_clock_ns();
    int64_t typical = atomic_load_explicit(&signing->typical_ns, memory_order_relaxed);
    int64_t took = now - begun;

    if (typical == 0 || took < typical)
        typical = took;
    else
        typical += (took - typical) / SLOWER;
    atomic_store_explicit(&signing->typical_ns, typical > 0 ? typical : 1, memory_order_relaxed);
    atomic_store(&provider->last_signed, now / HSM_NS_PER_S);
    atomic_store(&provider->signs, true);
    signing->config.signature(signing->config.context, signer, true, took);
}

static bool
is_ready(const struct sks_signing *signing)
{
    return sks_tokens_ready(signing->config.tokens);
}

bool
sks_signing_is_quick(struct sks_signing *signing)
{
    int64_t typical = atomic_load_explicit(&signing->typical_ns, memory_order_relaxed);

    return typical > 0 && typical < QUICK_NS && is_ready(signing);
}

bool
sks_signing_sign(struct sks_signing *signing, const char *spc, const struct sks_claims *claims,
                 time_t now, char **identity, struct sks_signers **signers,
                 const struct sks_signer **signer, struct ms_fault *fault)
{
    DEFER(sks_signers_free) struct sks_signers *taken = NULL;
    struct provider *provider = find_provider(signing, spc);
    const struct sks_signer *chosen = NULL;
    struct hsm_reason why = {""};
    int64_t begun = 0;
    enum hsm_status st = HSM_ERR_NOT_FOUND;

    if (provider != NULL)
        taken = signers_that_can_sign(signing, provider, now);
    if (taken != NULL) {
        begun = hsm_clock_ns();
        st = sks_signers_sign(taken, claims, now, identity, &chosen, &why);
    }
    if (chosen == NULL) {
        const char *known = provider != NULL ? provider->fault : NULL;

        atomic_store(&signing->typical_ns, 0);
        return cannot_now(fault, known != NULL ? known : "no active credential");
    }
    if (st != HSM_OK)
        return refuse_signature(signing, provider, chosen, st, begun, &why, fault);
    note_signature(signing, provider, chosen, begun);
    *signer = chosen;
    *signers = taken;
    taken = NULL;
    return true;
}

/* ---- status ---- */

/* The reasons why a provider's calls are not signed, or not with its present credentials. */
static size_t
faults_of(struct sks_signing *signing, const struct provider *provider, time_t now,
          const char **why)
{
    DEFER(sks_signers_free) struct sks_signers *signers = take_signers(signing, provider);
    const char *fault = provider->status != HSM_OK ? provider->fault : NULL;
    size_t count = 0;

    if (fault != NULL)
        why[count++] = fault;
    else if (signers == NULL || sks_signers_count(signers) == 0)
        why[count++] = "no active credential";
    else if (sks_signers_at(signers, now) == NULL)
        why[count++] = "the active credential is not valid now";
    if (!provider->signs)
        why[count++] = "the token does not sign";
    return count;
}

size_t
sks_signing_reasons(struct sks_signing *signing, time_t now,
                    const char *why[SKS_SIGNING_REASONS_MAX])
{
    size_t count = 1;

    /* One that signs is enough: a provider that cannot sign must not stop the calls of others. */
    for (size_t i = 0; count > 0 && i < signing->provider_count; i++)
        count = faults_of(signing, &signing->providers[i], now, why);
    if (count == 0 && !is_ready(signing))
        why[count++] = "the token does not sign";
    return count;
}

const char *
sks_signing_provider(struct sks_signing *signing, size_t i, time_t now, const char **why)
{
    const struct provider *provider = &signing->providers[i];
    const char *faults[SKS_SIGNING_REASONS_MAX];

    *why = faults_of(signing, provider, now, faults) > 0 ? faults[0] : NULL;
    return provider->spc != NULL ? provider->spc : "";
}

enum hsm_status
sks_signing_check(const struct sks_signing *signing)
{
    enum hsm_status st = HSM_OK;

    for (size_t i = 0; i < signing->provider_count && st == HSM_OK; i++) {
        st = signing->providers[i].status;
        if (st == HSM_OK && signing->providers[i].fault != NULL)
            st = HSM_ERR_BUSY;
    }
    return st;
}

size_t
sks_signing_provider_count(const struct sks_signing *signing)
{
    return signing->provider_count;
}

struct sks_signers *
sks_signing_signers(struct sks_signing *signing, size_t i)
{
    return take_signers(signing, &signing->providers[i]);
}

struct sks_signers *
sks_signing_latest(struct sks_signing *signing, size_t i)
{
    return take(signing, &signing->providers[i].latest);
}

/* ---- new and free ---- */

/* If the candidate does not start, the other workers continue. It must therefore be able to sign
 * for every provider that they sign for. */
static enum hsm_status
check_candidate(const struct sks_signing *signing, time_t now)
{
    enum hsm_status st = HSM_OK;

    for (size_t i = 0; i < signing->provider_count; i++) {
        const struct provider *provider = &signing->providers[i];

        if ((provider->signers != NULL && sks_signers_at(provider->signers, now) != NULL) ||
            !sks_serving_is(signing->config.serving, name_of(provider), hsm_clock_s()))
            continue;
        hsm_log(HSM_LOG_ERROR,
                "SPC %s: its calls are signed now, and would not be any more with this "
                "configuration: %s",
                name_of(provider),
                provider->fault != NULL ? provider->fault
                                        : "no active credential that is valid now");
        st = HSM_ERR_BUSY;
    }
    return st;
}

/* What is absent now may be available later. The operator has to correct any other failure before
 * the start, unless another provider can be served. */
static enum hsm_status
check_start(const struct sks_signing *signing, time_t now)
{
    enum hsm_status first = HSM_OK;

    if (signing->config.is_candidate && signing->config.serving != NULL)
        first = check_candidate(signing, now);
    if (first != HSM_OK)
        return first;
    for (size_t i = 0; i < signing->provider_count; i++) {
        enum hsm_status st = signing->providers[i].status;

        if (st == HSM_OK || st == HSM_ERR_BUSY || st == HSM_ERR_NOT_FOUND)
            return HSM_OK;
        first = first == HSM_OK ? st : first;
    }
    return first;
}

static enum hsm_status
copy_providers(struct sks_signing *signing, const struct sks_signing_config *config)
{
    signing->providers = calloc(config->spc_count, sizeof(*signing->providers));
    if (signing->providers == NULL)
        return HSM_ERR_NOMEM;
    for (size_t i = 0; i < config->spc_count; i++) {
        struct provider *provider = &signing->providers[signing->provider_count];

        if (find_provider(signing, config->spcs[i]) != NULL)
            continue; /* several customers of one provider */
        if (config->spcs[i] != NULL && (provider->spc = strdup(config->spcs[i])) == NULL)
            return HSM_ERR_NOMEM;
        atomic_init(&provider->signs, true);
        atomic_init(&provider->last_signed, -PROBE_S);
        signing->provider_count++;
    }
    return HSM_OK;
}

enum hsm_status
sks_signing_new(const struct sks_signing_config *config, time_t now, struct sks_signing **out)
{
    DEFER(sks_signing_free) struct sks_signing *signing = calloc(1, sizeof(*signing));
    enum hsm_status st;

    if (signing == NULL)
        return HSM_ERR_NOMEM;
    signing->config = *config;
    atomic_init(&signing->version, -1); /* none: versions grow from 1 */
    signing->tokens_at = hsm_clock_s() + RETRY_S;
    pthread_mutex_init(&signing->lock, NULL);
    pthread_mutex_init(&signing->refreshing, NULL);
    st = copy_providers(signing, config);
    if (st == HSM_OK)
        st = load(signing, now);
    if (st == HSM_OK)
        st = check_start(signing, now);
    if (st != HSM_OK)
        return st;
    *out = signing;
    signing = NULL;
    return HSM_OK;
}

void
sks_signing_free(struct sks_signing *signing)
{
    if (signing == NULL)
        return;
    for (size_t i = 0; i < signing->provider_count; i++) {
        sks_signers_free(signing->providers[i].signers);
        sks_signers_free(signing->providers[i].latest);
        free(signing->providers[i].spc);
    }
    free(signing->providers);
    pthread_mutex_destroy(&signing->lock);
    pthread_mutex_destroy(&signing->refreshing);
    free(signing);
}
