/* path.c - the path from an end entity to a trusted root: search, storage, accessors. */

#include "path_internal.h"

#include <stdio.h>
#include <stdlib.h>

#include <openssl/err.h>
#include <openssl/x509_vfy.h>

#include <certs/cert.h>

#include "x509_internal.h"

#define STEPS_MAX 256 /* issuers tried for one verdict, mostly without checking a signature */

/* -- finding paths ----------------------------------------------------------------------------- */

/* The first certificate, unless it is a CA and exactly one other is an end entity. */
static X509 *
end_entity_of(const struct certs_chain *chain)
{
    X509 *first = certs_chain_get(chain, 0);
    X509 *other = NULL;

    if (first == NULL || certs_is_end_entity(first))
        return first;
    for (size_t i = 1; i < certs_chain_len(chain); i++) {
        X509 *cert = certs_chain_get(chain, i);

        if (!certs_is_end_entity(cert))
            continue;
        if (other != NULL)
            return first;
        other = cert;
    }
    return other != NULL ? other : first;
}

static bool
has_begun_and_not_ended(const X509 *cert, time_t now)
{
    return certs_cert_not_before(cert) <= now && now <= certs_cert_not_after(cert);
}

/* Compares name and key: a CA that occurs twice, as when two CAs have signed each other, is a
 * loop. */
static bool
is_on_path(const struct path_search *search, X509 *cert)
{
    const ASN1_BIT_STRING *key = X509_get0_pubkey_bitstr(cert);

    for (size_t i = 0; i < search->len; i++) {
        if (X509_NAME_cmp(X509_get_subject_name(search->certs[i]), X509_get_subject_name(cert)) ==
                0 &&
            ASN1_STRING_cmp(X509_get0_pubkey_bitstr(search->certs[i]), key) == 0)
            return true;
    }
    return false;
}

static bool
is_self_signed(X509 *cert)
{
    return (X509_get_extension_flags(cert) & EXFLAG_SS) != 0;
}

/* Keep the reason of the first path that failed; the reason for a whole path is better than that
 * for a part. */
static void
note(struct path_search *search, bool is_whole_path, const struct hsm_reason *why)
{
    if (search->why.text[0] != '\0' && (search->why_is_of_whole_path || !is_whole_path))
        return;
    search->why = *why;
    search->why_is_of_whole_path = is_whole_path;
}

/* HSM_ERR_NOT_FOUND: the path is not valid, try the next. */
static enum hsm_status
judge_whole(struct path_search *search)
{
    struct hsm_reason why = {0};
    enum hsm_status st;

    if (search->tries++ == CERTS_PATH_TRIES_MAX) {
        search->steps = STEPS_MAX;
        return HSM_ERR_NOT_FOUND;
    }
    st = certs_path_judge(search, &search->found, &why);
    if (st != HSM_ERR_UNTRUSTED)
        return st;
    note(search, true, &why);
    return HSM_ERR_NOT_FOUND;
}

static enum hsm_status extend(struct path_search *search);

static enum hsm_status
extend_with(struct path_search *search, X509 *issuer, bool is_anchor)
{
    enum hsm_status st;

    search->certs[search->len++] = issuer;
    st = is_anchor ? judge_whole(search) : extend(search);
    search->len--;
    return st;
}

/* The issuer's name matches. HSM_ERR_NOT_FOUND: it is not the issuer, try the next. */
static enum hsm_status
try_issuer(struct path_search *search, X509 *issuer, bool is_anchor)
{
    X509 *subject = search->certs[search->len - 1];
    struct hsm_reason why = {0};
    int error;

    if (is_on_path(search, issuer) || search->steps == STEPS_MAX)
        return HSM_ERR_NOT_FOUND;
    search->steps++;
    error = X509_check_issued(issuer, subject);
    if (error != X509_V_OK)
        (void)certs_path_refuse(&why, issuer, X509_verify_cert_error_string(error));
    else if (certs_path_check_ca_key(issuer, search->policy->ca_keys, &why) == HSM_OK) {
        if (search->len + (is_anchor ? 0 : 1) < CERTS_PATH_LEN_MAX)
            return extend_with(search, issuer, is_anchor);
        (void)hsm_refuse(&why, HSM_ERR_UNTRUSTED, "a path of more than %d certificates",
                         CERTS_PATH_LEN_MAX);
    }
    ERR_clear_error();
    note(search, false, &why);
    return HSM_ERR_NOT_FOUND;
}

/* Try the certificates of one source whose name matches: `valid` selects those valid now, or the
 * others. */
static enum hsm_status
try_source(struct path_search *search, const struct certs_chain *source, bool valid)
{
    const X509_NAME *name = X509_get_issuer_name(search->certs[search->len - 1]);
    bool are_anchors = source == search->trust->anchors;

    for (size_t i = 0; i < certs_chain_len(source); i++) {
        X509 *issuer = certs_chain_get(source, i);
        enum hsm_status st;

        if (X509_NAME_cmp(X509_get_subject_name(issuer), name) != 0 ||
            has_begun_and_not_ended(issuer, search->now) != valid)
            continue;
        st = try_issuer(search, issuer, are_anchors && is_self_signed(issuer));
        if (st != HSM_ERR_NOT_FOUND)
            return st;
    }
    return HSM_ERR_NOT_FOUND;
}

static void
note_no_issuer(struct path_search *search)
{
    X509 *last = search->certs[search->len - 1];
    struct hsm_reason why = {0};
    char text[160];
    char *issuer;

    if (is_self_signed(last)) {
        (void)certs_path_refuse(&why, last, "self-signed, and not an anchor");
    } else {
        issuer = certs_cert_issuer(last);
        (void)snprintf(text, sizeof(text), "unable to get local issuer certificate \"%.100s\"",
                       issuer == NULL ? "?" : issuer);
        free(issuer);
        (void)certs_path_refuse(&why, last, text);
    }
    note(search, false, &why);
}

/* Try every continuation from the last certificate: to an anchor, a received certificate, or the
 * store. */
static enum hsm_status
extend(struct path_search *search)
{
    const struct certs_chain *sources[] = {search->trust->anchors, search->chain,
                                           search->policy->intermediates};
    enum hsm_status st = HSM_ERR_NOT_FOUND;

    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < sizeof(sources) / sizeof(sources[0]); i++) {
            if (sources[i] != NULL)
                st = try_source(search, sources[i], round == 0);
            if (st != HSM_ERR_NOT_FOUND)
                return st;
        }
    }
    note_no_issuer(search);
    return HSM_ERR_NOT_FOUND;
}

static enum hsm_status
search_from(struct path_search *search, X509 *leaf, struct hsm_reason *why)
{
    enum hsm_status st;

    if (leaf == NULL)
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "no certificate");
    st = certs_path_check_end_entity(search, leaf, why);
    if (st != HSM_OK)
        return st;
    search->certs[0] = leaf;
    search->len = 1;
    st = extend(search);
    if (st == HSM_ERR_NOT_FOUND)
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "%s", search->why.text);
    return st;
}

enum hsm_status
certs_path_verify(const struct certs_chain *chain, const struct certs_trust *trust,
                  const struct certs_path_policy *policy, time_t now, struct certs_path **out,
                  struct hsm_reason *why)
{
    static const struct certs_path_policy default_policy;
    struct path_search search = {.chain = chain,
                                 .trust = trust,
                                 .policy = policy == NULL ? &default_policy : policy,
                                 .now = now};
    enum hsm_status st = search_from(&search, end_entity_of(chain), why);

    if (st == HSM_OK)
        *out = search.found;
    return st;
}

/* chain.h: the first certificate is the one that the caller uses. */
enum hsm_status
certs_chain_verify(const struct certs_chain *chain, const struct certs_chain *anchors,
                   enum certs_purpose purpose, time_t now, struct hsm_reason *why)
{
    const struct certs_path_policy policy = {.purpose = purpose};
    const struct certs_trust trust = {.anchors = anchors};
    struct path_search search = {.chain = chain, .trust = &trust, .policy = &policy, .now = now};
    enum hsm_status st = search_from(&search, certs_chain_get(chain, 0), why);

    certs_path_free(search.found);
    return st;
}

/* -- accessors --------------------------------------------------------------------------------- */

size_t
certs_path_len(const struct certs_path *path)
{
    return path->len;
}

X509 *
certs_path_get(const struct certs_path *path, size_t i)
{
    return i < path->len ? path->certs[i] : NULL;
}

bool
certs_path_is_of(const struct certs_path *path, const X509 *end_entity)
{
    return end_entity != NULL && X509_cmp(path->certs[0], end_entity) == 0;
}

const struct certs_tnauthlist *
certs_path_tnauthlist(const struct certs_path *path)
{
    return path->tnauthlist;
}

bool
certs_path_has_spc(const struct certs_path *path)
{
    return path->has_spc;
}

bool
certs_path_covers(const struct certs_path *path, int64_t when)
{
    return when >= path->from && when <= path->to;
}

const struct hsm_es256_verifier *
certs_path_verifier(const struct certs_path *path)
{
    return path->verifier;
}

const struct certs_constraints *
certs_path_constraints(const struct certs_path *path)
{
    return path->constraints;
}

time_t
certs_path_not_before(const struct certs_path *path)
{
    return path->not_before;
}

time_t
certs_path_not_after(const struct certs_path *path)
{
    return path->not_after;
}

struct certs_path *
certs_path_hold(struct certs_path *path)
{
    (void)atomic_fetch_add_explicit(&path->references, 1, memory_order_relaxed);
    return path;
}

void
certs_path_free(struct certs_path *path)
{
    if (path == NULL || atomic_fetch_sub_explicit(&path->references, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < path->len; i++)
        X509_free(path->certs[i]);
    certs_tnauthlist_free(path->tnauthlist);
    certs_constraints_free(path->constraints);
    hsm_es256_verifier_free(path->verifier);
    free(path);
}
