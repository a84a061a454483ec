/*
 * path.h - the path from an end entity to a trusted root (RFC 5280 section 6),
 * as an STI-VS judges it: keys, names, times, key usage, the scope of delegates
 * (RFC 9060), revocation by the STI-PA's CRL, and one reason for each failure.
 *
 * OpenSSL verifies each path by the rules of RFC 5280; which path is tried, and
 * what SHAKEN requires beyond those rules, is decided here. See docs/PATHS.md.
 */
#ifndef CERTS_PATH_H
#define CERTS_PATH_H

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#include <openssl/types.h>

#include <certs/chain.h>
#include <certs/constraints.h>
#include <certs/crl.h>
#include <certs/tnauthlist.h>
#include <hsm/defer.h>
#include <hsm/es256.h>
#include <hsm/status.h>

#define CERTS_PATH_LEN_MAX   9 /* certificates of a path, end entity and root included */
#define CERTS_PATH_TRIES_MAX 8 /* candidate paths whose signatures are verified for one verdict */

/* Keys of CA certificates that are accepted besides P-256. An end entity is always on P-256. */
#define CERTS_CA_P384 1u /* US SHAKEN CP 1.4 section 6.1.5; signatures with SHA-384 or better */
#define CERTS_CA_P521 2u /* in use; the same signatures */
#define CERTS_CA_RSA  4u /* RFC 8226 section 4: PKCS#1 v1.5, SHA-256 or better; up to 4096 bits */

/* What a verifier accepts. All zero is the default policy. */
struct certs_path_policy {
    enum certs_purpose purpose;
    unsigned ca_keys; /* CERTS_CA_P384 | ...; 0: P-256 everywhere */
    /* The local store: intermediates that repositories leave out. Borrowed; NULL: none. */
    const struct certs_chain *intermediates;
    /* Trust the issuer that a delegate's numbers belong to the issuer's SPC, which no certificate
     * can prove. False refuses every such delegate, as there is no numbering data. */
    bool numbers_under_spc;
    /* Accept an end entity whose TNAuthList is not the DER of RFC 8226, which one in a hundred is
     * not; its scope is then unknown, and certs_path_tnauthlist() NULL. */
    bool any_tnauthlist;
    /* Look an end entity up in the CRL even if it names another one. */
    bool any_distribution_point;
};

/* What is trusted at present. Borrowed. */
struct certs_trust {
    const struct certs_chain *anchors; /* self-signed roots, such as the trusted STI-CA list */
    const struct certs_crl *crl; /* passed certs_crl_verify(); NULL: revocation is not checked */
    time_t until; /* last second at which both are good; used by verdict.h */
};

/* A path that was found good. Immutable; threads may share it. */
struct certs_path;

/**
 * Find a path and judge it at the time `now`.
 *
 * The end entity is the first certificate, or else the only one that is not a CA:
 * some repositories serve the root first. The others, in any order, are candidate
 * intermediates. If there are several paths a good one is chosen.
 *
 * @param policy  NULL: the default
 * @param out     certs_path_free() it; its end entity is certs_path_get(path, 0), which need not be
 *                the first certificate of the chain
 * @retval HSM_ERR_UNTRUSTED  with one reason, and which certificate it is about: that of the path
 *                            that came closest
 */
HSM_MUST_CHECK enum hsm_status certs_path_verify(const struct certs_chain *chain,
                                                 const struct certs_trust *trust,
                                                 const struct certs_path_policy *policy, time_t now,
                                                 struct certs_path **out, struct hsm_reason *why);

/** The number of certificates: the end entity, intermediates, the root. */
size_t certs_path_len(const struct certs_path *path);

/** The end entity is the first, the root the last. Borrowed; NULL past the end. */
X509 *certs_path_get(const struct certs_path *path, size_t i);

/** True if the end entity is this certificate, possibly as another object. */
bool certs_path_is_of(const struct certs_path *path, const X509 *end_entity);

/** The scope of the end entity; borrowed. NULL: the purpose is not CERTS_FOR_STI, or the policy
 * accepted a list that cannot be read. */
const struct certs_tnauthlist *certs_path_tnauthlist(const struct certs_path *path);

/** True if certs_path_tnauthlist() has an SPC: then a provider is responsible for the numbers. */
bool certs_path_has_spc(const struct certs_path *path);

/** True if the end entity's certificate is valid at that time. */
bool certs_path_covers(const struct certs_path *path, int64_t when);

/** Verifies signatures of the end entity; borrowed; NULL: its key is not on P-256. */
const struct hsm_es256_verifier *certs_path_verifier(const struct certs_path *path);

/** The constraints that each of its PASSporTs must satisfy; borrowed; NULL: none. */
const struct certs_constraints *certs_path_constraints(const struct certs_path *path);

/** First and last second at which every certificate of the path is valid. */
time_t certs_path_not_before(const struct certs_path *path);
time_t certs_path_not_after(const struct certs_path *path);

/** Take another reference, for another owner; released by certs_path_free(). */
struct certs_path *certs_path_hold(struct certs_path *path);

void certs_path_free(struct certs_path *path);
DEFINE_DEFER(struct certs_path, certs_path_free)

#endif
