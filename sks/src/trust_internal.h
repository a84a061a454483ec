/*
 * trust_internal.h - a list of trusted STI-CAs and a CRL that are held.
 *
 * trust.c          what they say of a chain
 * trust_store.c    kept across restarts
 * trust_refresh.c  fetched anew
 */
#ifndef SKS_TRUST_INTERNAL_H
#define SKS_TRUST_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include <acme/ca_list.h>
#include <certs/verdict.h>
#include <hsm/defer.h>
#include <sks/trust.h>

/*
 * A list or a CRL, and who signed it. Immutable once others can see it, but for
 * the times, which verifications do not look at, save that of the last good
 * check. They hold a reference, so that a refresh never waits for them nor they
 * for it.
 */
struct held {
    atomic_uint references;
    struct acme_ca_list *list; /* NULL: fixed anchors, or a CRL */
    struct certs_chain *anchors; /* of fixed anchors */
    struct certs_crl *crl;
    struct certs_chain *signer;
    char *etag; /* NULL: none */
    time_t fetched_at; /* when it came; 0: from the directory, or given */
    time_t asked_at; /* when the STI-PA last said that it is still this one */
    atomic_llong checked_at; /* 0: not yet */
};

struct sks_trust {
    struct acme_http_client *http; /* NULL: fixed */
    struct certs_chain *pa_anchors;
    char *ca_list_url, *crl_url, *dir;
    time_t list_every_s, crl_every_s, unused_s;
    bool needs_crl;
    struct certs_verdicts *verdicts;
    pthread_mutex_t refreshing; /* one at a time; taken before `lock` */
    pthread_mutex_t lock; /* guards the two pointers */
    struct held *list, *crl;
};

/** NULL: no memory. */
struct held *sks_held_new(time_t fetched_at);
void sks_held_release(struct held *held);
DEFINE_DEFER(struct held, sks_held_release)

/** nextUpdate or exp. */
time_t sks_held_end(const struct held *held);

/** Its signature, and whether it is good at that time. */
HSM_MUST_CHECK enum hsm_status sks_trust_check_signed(const struct sks_trust *trust,
                                                      const struct held *held, time_t now,
                                                      struct hsm_reason *why);

/* trust_store.c */

/** Read what the directory holds; without one, nothing. */
HSM_MUST_CHECK enum hsm_status sks_trust_load(struct sks_trust *trust);
/** Write it durably, unless the directory holds a newer one: HSM_ERR_UNTRUSTED. */
HSM_MUST_CHECK enum hsm_status sks_trust_keep(const struct sks_trust *trust,
                                              const struct held *held, struct hsm_reason *why);

#endif
