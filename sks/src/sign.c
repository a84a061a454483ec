/* sign.c - the STI-AS: a credential, and Identity headers made with it. */
#include <sks/sign.h>

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <certs/cert.h>
#include <certs/tnauthlist.h>
#include <hsm/defer.h>
#include <sks/identity.h>

#include "x5u_internal.h"

struct sks_signer {
    struct hsm_key *key; /* borrowed */
    struct certs_chain *chain; /* owned */
    char *x5u; /* owned */
    char spc[CERTS_SPC_MAX + 1];
    time_t not_before, not_after; /* of the leaf; of the first of the chain to end */
};

DEFINE_DEFER(struct sks_signer, sks_signer_free)
DEFINE_DEFER(struct certs_tnauthlist, certs_tnauthlist_free)
DEFINE_DEFER(char, free)

/* Key and certificate are compared at load, not at the first call. */
static enum hsm_status
check_leaf(const struct hsm_key *key, const X509 *leaf, struct hsm_reason *why)
{
    EVP_PKEY *public_key = certs_cert_public(leaf);

    if (public_key == NULL || !hsm_key_matches(key, public_key))
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "the certificate is not for key %s",
                          hsm_key_label(key));
    return HSM_OK;
}

static enum hsm_status
read_spc(struct sks_signer *signer, const X509 *leaf, struct hsm_reason *why)
{
    DEFER(certs_tnauthlist_free) struct certs_tnauthlist *list = NULL;
    const char *spc;
    enum hsm_status st = certs_cert_tnauthlist(leaf, &list, why);

    if (st == HSM_ERR_NOT_FOUND)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "the certificate has no TNAuthList");
    if (st != HSM_OK)
        return st;
    spc = certs_tnauthlist_spc(list);
    if (spc != NULL && strlen(spc) <= CERTS_SPC_MAX)
        memcpy(signer->spc, spc, strlen(spc) + 1);
    return HSM_OK;
}

static enum hsm_status
copy_chain(const struct certs_chain *chain, struct certs_chain **out)
{
    enum hsm_status st = certs_chain_new(out);

    return st == HSM_OK ? certs_chain_append(*out, chain) : st;
}

enum hsm_status
sks_signer_new(const struct sks_signer_config *config, struct sks_signer **out,
               struct hsm_reason *why)
{
    DEFER(sks_signer_free) struct sks_signer *signer = NULL;
    const X509 *leaf = certs_chain_get(config->chain, 0);
    unsigned port;
    enum hsm_status st;

    if (leaf == NULL)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "the certificate chain is empty");
    st = check_leaf(config->key, leaf, why);
    if (st == HSM_OK)
        st = sks_x5u_parse(config->x5u, &port, why);
    if (st != HSM_OK)
        return st;
    signer = calloc(1, sizeof(*signer));
    if (signer == NULL)
        return HSM_ERR_NOMEM;
    signer->key = config->key;
    signer->not_before = certs_cert_not_before(leaf);
    signer->not_after = certs_chain_not_after(config->chain);
    signer->x5u = strdup(config->x5u);
    if (signer->x5u == NULL)
        return HSM_ERR_NOMEM;
    st = read_spc(signer, leaf, why);
    if (st == HSM_OK)
        st = copy_chain(config->chain, &signer->chain);
    if (st != HSM_OK)
        return st;
    *out = signer;
    signer = NULL;
    return HSM_OK;
}

void
sks_signer_free(struct sks_signer *signer)
{
    if (signer == NULL)
        return;
    certs_chain_free(signer->chain);
    free(signer->x5u);
    free(signer);
}

const char *
sks_signer_spc(const struct sks_signer *signer)
{
    return signer->spc;
}

const char *
sks_signer_x5u(const struct sks_signer *signer)
{
    return signer->x5u;
}

const char *
sks_signer_key_label(const struct sks_signer *signer)
{
    return hsm_key_label(signer->key);
}

time_t
sks_signer_not_after(const struct sks_signer *signer)
{
    return signer->not_after;
}

static bool
is_covered(const struct sks_signer *signer, int64_t when)
{
    return when >= signer->not_before && when <= signer->not_after;
}

/* RFC 8224 section 4.1: iat is fresh, and iat and now lie in the credential's validity. */
static enum hsm_status
check_times(const struct sks_signer *signer, int64_t iat, time_t now, struct hsm_reason *why)
{
    if (iat < (int64_t)now - SKS_FRESHNESS_S || iat > (int64_t)now + SKS_FRESHNESS_S)
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "iat: not within %d s of now", SKS_FRESHNESS_S);
    if (!is_covered(signer, now))
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "the certificate is not valid now");
    if (!is_covered(signer, iat))
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "iat: outside the certificate's validity");
    return HSM_OK;
}

enum hsm_status
sks_signer_sign(struct sks_signer *signer, const struct sks_claims *claims, time_t now,
                char **identity, struct hsm_reason *why)
{
    DEFER(free) char *passport = NULL;
    char *text;
    enum hsm_status st = sks_claims_check(claims, why);

    if (st == HSM_OK)
        st = check_times(signer, claims->iat, now, why);
    if (st != HSM_OK)
        return st;
    st = sks_passport_new(claims, signer->x5u, signer->key, &passport);
    if (st != HSM_OK)
        return hsm_refuse(why, st, "key %s: %s", hsm_key_label(signer->key), hsm_status_text(st));
    text = sks_identity_format(passport, signer->x5u, "shaken");
    if (text == NULL)
        return HSM_ERR_NOMEM;
    *identity = text;
    return HSM_OK;
}
