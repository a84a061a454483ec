/*
 * trust_internal.h - the list of trusted STI-CAs and the CRL that are held.
 *
 * trust.c          check chains against them
 * trust_store.c    keep them across restarts
 * trust_refresh.c  fetch them again
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
 * A list or a CRL, with the certificates of its signer. Immutable once it is
 * shared, except for the times, of which verifications use only checked_at. A
 * verification holds a reference, so that it and a refresh never wait for each
 * other.
 */
struct held {
    atomic_uint references;
    struct acme_ca_list *list; /* NULL: fixed anchors, or a CRL */
    struct certs_chain *anchors; /* fixed anchors; else NULL */
    struct certs_crl *crl;
    struct certs_chain *signer;
    char *etag; /* NULL: none */
    time_t fetched_at; /* 0: it was read from the directory, or is fixed */
    time_t asked_at; /* when the STI-PA last confirmed that it is the present one */
    atomic_llong checked_at; /* when its signature was last verified; 0: not yet */
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

/** When it expires: nextUpdate of a CRL, exp of a list. */
time_t sks_held_end(const struct held *held);

/** Check its signature, and that it is valid at `now`. */
HSM_MUST_CHECK enum hsm_status sks_trust_check_signed(const struct sks_trust *trust,
                                                      const struct held *held, time_t now,
                                                      struct hsm_reason *why);

/* trust_store.c */

/** Read what the directory holds, if one is configured. */
HSM_MUST_CHECK enum hsm_status sks_trust_load(struct sks_trust *trust);
/** Write it durably, unless the directory holds a newer one: HSM_ERR_UNTRUSTED. */
HSM_MUST_CHECK enum hsm_status sks_trust_keep(const struct sks_trust *trust,
                                              const struct held *held, struct hsm_reason *why);

#endif
