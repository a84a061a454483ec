/* trust_refresh.c - the list of trusted STI-CAs and the CRL, fetched anew. */
#include "trust_internal.h"

#include <stdlib.h>
#include <string.h>

#include <acme/authority_client.h>
#include <hsm/defer.h>
#include <hsm/log.h>

#define LOOK_S  60 /* longest interval between two checks whether a refresh is due, */
#define RETRY_S 5 /* and the interval while nothing good is held */

static void
replace(struct sks_trust *trust, struct held **which, struct held *with)
{
    struct held *before;

    pthread_mutex_lock(&trust->lock);
    before = *which;
    *which = with;
    pthread_mutex_unlock(&trust->lock);
    sks_held_release(before);
}

/* ---- when ---- */

/* After half its life at the latest, so that a failed refresh can be repeated before it ends. */
static time_t
due_at(const struct held *held, time_t every_s)
{
    time_t half = (sks_held_end(held) - held->fetched_at) / 2;

    return held->asked_at + (half < every_s ? half : every_s);
}

static bool
is_due(const struct held *held, time_t every_s, time_t now)
{
    return held == NULL || held->fetched_at == 0 || now < held->asked_at ||
           now >= due_at(held, every_s);
}

/* ---- fetching ---- */

/* Only a refresh replaces what is held, so a refresh can read it without the lock. */
static struct acme_authority_query
query_of(const struct sks_trust *trust, const char *url, const struct held *held)
{
    bool is_fetched = held != NULL && held->fetched_at != 0;

    return (struct acme_authority_query){
        .http = trust->http,
        .url = url,
        .pa_anchors = trust->pa_anchors,
        .signer = is_fetched ? held->signer : NULL,
        .etag = is_fetched ? held->etag : NULL,
    };
}

/* HSM_ERR_EXISTS: the STI-PA still has the list that is held. */
static enum hsm_status
fetch_list(const struct sks_trust *trust, time_t now, struct held *held, struct hsm_reason *why)
{
    const struct acme_authority_query query = query_of(trust, trust->ca_list_url, trust->list);
    uint64_t previous = trust->list == NULL ? 0 : acme_ca_list_sequence(trust->list->list);
    enum hsm_status st = acme_authority_get_ca_list(&query, previous, now, &held->list,
                                                    &held->signer, &held->etag, why);

    if (st == HSM_OK && query.signer != NULL &&
        strcmp(acme_ca_list_text(held->list), acme_ca_list_text(trust->list->list)) == 0)
        return HSM_ERR_EXISTS;
    return st;
}

static enum hsm_status
fetch_crl(const struct sks_trust *trust, time_t now, struct held *held, struct hsm_reason *why)
{
    const struct acme_authority_query query = query_of(trust, trust->crl_url, trust->crl);
    const struct certs_crl *previous = trust->crl == NULL ? NULL : trust->crl->crl;
    enum hsm_status st =
        acme_authority_get_crl(&query, now, &held->crl, &held->signer, &held->etag, why);

    if (st == HSM_OK)
        st = certs_crl_check_newer(held->crl, previous, why);
    if (st == HSM_OK && query.signer != NULL &&
        memcmp(certs_crl_digest(held->crl), certs_crl_digest(previous), CERTS_CRL_DIGEST_LEN) == 0)
        return HSM_ERR_EXISTS;
    return st;
}

static enum hsm_status
refresh(struct sks_trust *trust, struct held **which, const char *url, time_t every_s, time_t now,
        enum hsm_status (*fetch)(const struct sks_trust *, time_t, struct held *,
                                 struct hsm_reason *))
{
    DEFER(sks_held_release) struct held *held = NULL;
    struct hsm_reason why = {0};
    enum hsm_status st;

    if (!is_due(*which, every_s, now))
        return HSM_OK;
    held = sks_held_new(now);
    if (held == NULL)
        return HSM_ERR_NOMEM;
    st = fetch(trust, now, held, &why);
    if (st == HSM_ERR_EXISTS) {
        (*which)->asked_at = now;
        return HSM_OK;
    }
    if (st == HSM_OK) /* durable before it is used, or a restart could roll it back */
        st = sks_trust_keep(trust, held, &why);
    if (st != HSM_OK) {
        hsm_log(HSM_LOG_WARNING, "%s: %s; what was good is kept", url,
                why.text[0] != '\0' ? why.text : hsm_status_text(st));
        return st;
    }
    replace(trust, which, held);
    held = NULL;
    return HSM_OK;
}

enum hsm_status
sks_trust_refresh(struct sks_trust *trust, time_t now)
{
    enum hsm_status list_st;
    enum hsm_status crl_st;

    if (trust->http == NULL)
        return HSM_OK;
    pthread_mutex_lock(&trust->refreshing);
    list_st =
        refresh(trust, &trust->list, trust->ca_list_url, trust->list_every_s, now, fetch_list);
    crl_st = refresh(trust, &trust->crl, trust->crl_url, trust->crl_every_s, now, fetch_crl);
    pthread_mutex_unlock(&trust->refreshing);
    certs_verdicts_forget(trust->verdicts, now, trust->unused_s);
    return list_st != HSM_OK ? list_st : crl_st;
}

unsigned
sks_trust_next_s(struct sks_trust *trust, time_t now)
{
    time_t next = now + LOOK_S;

    if (trust->http == NULL)
        return LOOK_S;
    if (!sks_trust_is_ready(trust, now))
        return RETRY_S;
    pthread_mutex_lock(&trust->refreshing);
    if (due_at(trust->list, trust->list_every_s) < next)
        next = due_at(trust->list, trust->list_every_s);
    if (due_at(trust->crl, trust->crl_every_s) < next)
        next = due_at(trust->crl, trust->crl_every_s);
    pthread_mutex_unlock(&trust->refreshing);
    return next > now ? (unsigned)(next - now) : RETRY_S; /* overdue: the last fetch failed */
}
