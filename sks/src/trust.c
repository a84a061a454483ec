/* trust.c - what a STI-VS trusts: the STI-PA's list of STI-CA roots and its CRL. */
#include "trust_internal.h"

#include <stdlib.h>
#include <string.h>

#include <hsm/defer.h>
#include <hsm/log.h>

#define RECHECK_S 300 /* a valid signature is not verified again for this long */
#define FIXED_S   86400 /* how long a verdict on fixed anchors is kept */

/* -- what is held ------------------------------------------------------------------------------ */

void
sks_held_release(struct held *held)
{
    if (held == NULL || atomic_fetch_sub(&held->references, 1) != 1)
        return;
    acme_ca_list_free(held->list);
    certs_chain_free(held->anchors);
    certs_crl_free(held->crl);
    certs_chain_free(held->signer);
    free(held->etag);
    free(held);
}

struct held *
sks_held_new(time_t fetched_at)
{
    struct held *held = calloc(1, sizeof(*held));

    if (held != NULL) {
        atomic_init(&held->references, 1);
        atomic_init(&held->checked_at, fetched_at);
        held->fetched_at = fetched_at;
        held->asked_at = fetched_at;
    }
    return held;
}

/* A new reference; NULL when absent. */
static struct held *
borrow(struct sks_trust *trust, struct held *const *which)
{
    struct held *held;

    pthread_mutex_lock(&trust->lock);
    held = *which;
    if (held != NULL)
        atomic_fetch_add(&held->references, 1);
    pthread_mutex_unlock(&trust->lock);
    return held;
}

/* -- validity at a time ------------------------------------------------------------------------ */

time_t
sks_held_end(const struct held *held)
{
    return held->crl != NULL ? certs_crl_next_update(held->crl) : acme_ca_list_exp(held->list);
}

enum hsm_status
sks_trust_check_signed(const struct sks_trust *trust, const struct held *held, time_t now,
                       struct hsm_reason *why)
{
    if (certs_chain_len(held->signer) == 0)
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "%s: its signer's certificate is not held",
                          held->crl != NULL ? "CRL" : "list of trusted STI-CAs");
    if (held->crl != NULL)
        return certs_crl_verify(held->crl, held->signer, trust->pa_anchors, trust->crl_url, now,
                                why);
    return acme_ca_list_check(held->list, held->signer, trust->pa_anchors, 0, now, why);
}

/* The signature is verified from time to time, expiry is checked each time. */
static enum hsm_status
check_held(const struct sks_trust *trust, struct held *held, time_t now, struct hsm_reason *why)
{
    long long checked_at = atomic_load(&held->checked_at);
    enum hsm_status st;

    if (held->anchors != NULL)
        return HSM_OK; /* fixed anchors are not signed */
    if (checked_at != 0 && now >= checked_at && now - checked_at < RECHECK_S &&
        now < sks_held_end(held))
        return HSM_OK;
    st = sks_trust_check_signed(trust, held, now, why);
    if (st == HSM_OK)
        atomic_store(&held->checked_at, now);
    return st;
}

static const struct certs_chain *
anchors_of(const struct held *held)
{
    return held->anchors != NULL ? held->anchors : acme_ca_list_roots(held->list);
}

/* The list and CRL held at one time: a refresh does not change them for the borrower. */
struct view {
    struct held *list, *crl; /* crl NULL: not required */
};

static void
view_release(struct view *view)
{
    sks_held_release(view->list);
    sks_held_release(view->crl);
}

static enum hsm_status
view_borrow(struct sks_trust *trust, time_t now, struct view *view, struct hsm_reason *why)
{
    enum hsm_status st;

    view->list = borrow(trust, &trust->list);
    if (view->list == NULL)
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "no list of trusted STI-CAs is held");
    st = check_held(trust, view->list, now, why);
    if (st != HSM_OK || !trust->needs_crl)
        return st;
    view->crl = borrow(trust, &trust->crl);
    if (view->crl == NULL)
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "no CRL is held");
    return check_held(trust, view->crl, now, why);
}

/* The last second at which both are valid; fixed anchors do not expire. */
static time_t
view_until(const struct view *view, time_t now)
{
    time_t until = view->list->anchors != NULL ? now + FIXED_S : sks_held_end(view->list) - 1;

    if (view->crl != NULL && sks_held_end(view->crl) < until)
        until = sks_held_end(view->crl);
    return until;
}

enum hsm_status
sks_trust_path(struct sks_trust *trust, const struct certs_chain *chain, time_t now,
               struct certs_path **out, struct hsm_reason *why)
{
    struct view view = {.list = NULL};
    enum hsm_status st = view_borrow(trust, now, &view, why);

    if (st == HSM_OK) {
        const struct certs_trust trusted = {.anchors = anchors_of(view.list),
                                            .crl = view.crl == NULL ? NULL : view.crl->crl,
                                            .until = view_until(&view, now)};

        st = certs_verdicts_check(trust->verdicts, chain, &trusted, now, out, why);
    }
    view_release(&view);
    return st;
}

enum hsm_status
sks_trust_check(struct sks_trust *trust, const struct certs_chain *chain, time_t now,
                struct hsm_reason *why)
{
    DEFER(certs_path_free) struct certs_path *path = NULL;
    enum hsm_status st = sks_trust_path(trust, chain, now, &path, why);

    if (st == HSM_OK && !certs_path_is_of(path, certs_chain_get(chain, 0)))
        return hsm_refuse(why, HSM_ERR_UNTRUSTED,
                          "the chain begins with another certificate than "
                          "the end entity");
    return st;
}

static bool
is_good(struct sks_trust *trust, struct held *const *which, time_t now)
{
    DEFER(sks_held_release) struct held *held = borrow(trust, which);

    return held != NULL && check_held(trust, held, now, NULL) == HSM_OK;
}

bool
sks_trust_is_ready(struct sks_trust *trust, time_t now)
{
    return is_good(trust, &trust->list, now) &&
           (!trust->needs_crl || is_good(trust, &trust->crl, now));
}

bool
sks_trust_is_revoked(struct sks_trust *trust, const X509 *cert, time_t now)
{
    DEFER(sks_held_release) struct held *held = borrow(trust, &trust->crl);

    return held != NULL && check_held(trust, held, now, NULL) == HSM_OK &&
           certs_crl_has(held->crl, cert);
}

static time_t
end_or_none(struct sks_trust *trust, struct held *const *which)
{
    DEFER(sks_held_release) struct held *held = borrow(trust, which);

    return held == NULL || held->anchors != NULL ? 0 : sks_held_end(held);
}

void
sks_trust_ends(struct sks_trust *trust, time_t *list, time_t *crl)
{
    *list = end_or_none(trust, &trust->list);
    *crl = end_or_none(trust, &trust->crl);
}

enum hsm_status
sks_trust_roots(struct sks_trust *trust, time_t now, struct certs_chain **out,
                struct hsm_reason *why)
{
    DEFER(sks_held_release) struct held *held = borrow(trust, &trust->list);
    enum hsm_status st;

    if (held == NULL)
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "no list of trusted STI-CAs is held");
    st = check_held(trust, held, now, why);
    return st == HSM_OK ? certs_chain_copy(anchors_of(held), out) : st;
}

/* -- making one -------------------------------------------------------------------------------- */

static struct sks_trust *
trust_new(const struct certs_path_policy *policy)
{
    struct sks_trust *trust = calloc(1, sizeof(*trust));

    if (trust == NULL)
        return NULL;
    if (certs_verdicts_new(policy, SKS_TRUST_VERDICTS, &trust->verdicts) != HSM_OK) {
        free(trust);
        return NULL;
    }
    pthread_mutex_init(&trust->refreshing, NULL);
    pthread_mutex_init(&trust->lock, NULL);
    return trust;
}

enum hsm_status
sks_trust_new(const struct sks_trust_config *config, struct sks_trust **out)
{
    DEFER(sks_trust_free) struct sks_trust *trust = trust_new(config->policy);
    enum hsm_status st;

    if (trust == NULL)
        return HSM_ERR_NOMEM;
    trust->http = config->http;
    trust->needs_crl = true;
    trust->list_every_s = config->list_every_s != 0 ? config->list_every_s : SKS_TRUST_LIST_EVERY_S;
    trust->crl_every_s = config->crl_every_s != 0 ? config->crl_every_s : SKS_TRUST_CRL_EVERY_S;
    trust->unused_s = config->unused_s != 0 ? config->unused_s : SKS_TRUST_UNUSED_S;
    trust->ca_list_url = strdup(config->ca_list_url);
    trust->crl_url = strdup(config->crl_url);
    if (trust->ca_list_url == NULL || trust->crl_url == NULL)
        return HSM_ERR_NOMEM;
    if (config->dir != NULL && (trust->dir = strdup(config->dir)) == NULL)
        return HSM_ERR_NOMEM;
    st = certs_chain_copy(config->pa_anchors, &trust->pa_anchors);
    if (st == HSM_OK)
        st = sks_trust_load(trust);
    if (st != HSM_OK)
        return st;
    *out = trust;
    trust = NULL;
    return HSM_OK;
}

static enum hsm_status
give_crl(struct sks_trust *trust, const uint8_t *octets, size_t len,
         const struct certs_chain *signer)
{
    struct hsm_reason why = {0};
    enum hsm_status st;

    trust->needs_crl = true;
    trust->crl = sks_held_new(0);
    if (trust->crl == NULL)
        return HSM_ERR_NOMEM;
    st = certs_crl_parse(octets, len, &trust->crl->crl, &why);
    if (st == HSM_ERR_MALFORMED)
        hsm_log(HSM_LOG_ERROR, "%s", why.text);
    return st == HSM_OK ? certs_chain_copy(signer, &trust->crl->signer) : st;
}

enum hsm_status
sks_trust_fixed(const struct certs_chain *anchors, const uint8_t *crl, size_t crl_len,
                const struct certs_chain *crl_signer, const struct certs_chain *pa_anchors,
                struct sks_trust **out)
{
    DEFER(sks_trust_free) struct sks_trust *trust = trust_new(NULL);
    enum hsm_status st;

    if (trust == NULL)
        return HSM_ERR_NOMEM;
    trust->list = sks_held_new(0);
    if (trust->list == NULL)
        return HSM_ERR_NOMEM;
    st = certs_chain_copy(anchors, &trust->list->anchors);
    if (st == HSM_OK && crl != NULL)
        st = certs_chain_copy(pa_anchors, &trust->pa_anchors);
    if (st == HSM_OK && crl != NULL)
        st = give_crl(trust, crl, crl_len, crl_signer);
    if (st != HSM_OK)
        return st;
    *out = trust;
    trust = NULL;
    return HSM_OK;
}

void
sks_trust_free(struct sks_trust *trust)
{
    if (trust == NULL)
        return;
    sks_held_release(trust->list);
    sks_held_release(trust->crl);
    certs_verdicts_free(trust->verdicts);
    certs_chain_free(trust->pa_anchors);
    pthread_mutex_destroy(&trust->refreshing);
    pthread_mutex_destroy(&trust->lock);
    free(trust->ca_list_url);
    free(trust->crl_url);
    free(trust->dir);
    free(trust);
}
