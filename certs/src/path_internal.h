/*
 * path_internal.h - a path, shared by path.c (search, accessors) and path_judge.c (judgement).
 */
#ifndef CERTS_PATH_INTERNAL_H
#define CERTS_PATH_INTERNAL_H

#include <certs/path.h>

#include <stdatomic.h>

#include <openssl/x509v3.h>

/* The members used for each PASSporT come first and together: with thousands of paths few of them
 * are in the processor's caches. */
struct certs_path {
    atomic_uint references;
    bool has_spc;
    time_t from, to; /* of the end entity */
    struct certs_constraints *constraints;
    struct hsm_es256_verifier *verifier; /* for the end entity's key; NULL: it is not on P-256 */
    struct certs_tnauthlist *tnauthlist;
    size_t len;
    X509 *certs[CERTS_PATH_LEN_MAX]; /* each with a reference */
    time_t not_before, not_after;
};

/* A path as far as it is known, and the result of the paths before it. */
struct path_search {
    const struct certs_chain *chain;
    const struct certs_trust *trust;
    const struct certs_path_policy *policy;
    time_t now;
    X509 *certs[CERTS_PATH_LEN_MAX]; /* borrowed; the end entity first */
    size_t len;
    unsigned steps, tries;
    struct hsm_reason why; /* of the first path that failed */
    bool why_is_of_whole_path;
    struct certs_path *found;
};

/* ---- path_judge.c ---- */

/** "certificate "CN=...": has expired": a reason, and which certificate it is about.
 * HSM_ERR_UNTRUSTED. */
enum hsm_status certs_path_refuse(struct hsm_reason *why, const X509 *cert, const char *reason);

/** The key of a CA is of an accepted kind. @param ca_keys  of the policy */
HSM_MUST_CHECK enum hsm_status certs_path_check_ca_key(X509 *cert, unsigned ca_keys,
                                                       struct hsm_reason *why);

/** Cheap checks before any signature is verified: certificates for other purposes are refused
 * here. */
HSM_MUST_CHECK enum hsm_status certs_path_check_end_entity(const struct path_search *search,
                                                           X509 *leaf, struct hsm_reason *why);

/** The whole path, from the end entity to an anchor. */
HSM_MUST_CHECK enum hsm_status certs_path_judge(const struct path_search *search,
                                                struct certs_path **out, struct hsm_reason *why);

#endif
