/* sign.c - the STI-AS: a credential, and Identity headers made with it. */
#include <sks/sign.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include <certs/cert.h>
#include <certs/constraints.h>
#include <certs/tnauthlist.h>
#include <hsm/defer.h>
#include <hsm/json.h>
#include <sks/identity.h>

#include "constrained_internal.h"
#include "passport_internal.h"
#include "sign_internal.h"
#include "x5u_internal.h"

/** The text that all Identity headers of one kind share; owned. */
struct frame {
    char *begin; /* the PASSporT's header, encoded */
    char *after; /* the parameters */
};

struct sks_signer {
    struct hsm_key *key; /* borrowed */
    struct certs_chain *chain; /* owned */
    char *x5u; /* owned */
    char *token; /* owned; its label */
    struct frame frames[SKS_PPT_COUNT];
    struct certs_tnauthlist *list; /* owned */
    bool has_spc; /* in `list`: the provider is responsible for the numbers */
    struct certs_constraints *constraints; /* owned; NULL: none */
    char spc[CERTS_SPC_MAX + 1];
    time_t not_before, not_after; /* of the leaf; the earliest of the chain */
    struct hsm_series *_Atomic count, *_Atomic seconds; /* see sks_signer_series() */
};

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
read_tnauthlist(struct sks_signer *signer, const X509 *leaf, struct hsm_reason *why)
{
    const char *spc;
    enum hsm_status st = certs_cert_tnauthlist(leaf, &signer->list, why);

    if (st == HSM_ERR_NOT_FOUND)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "the certificate has no TNAuthList");
    if (st != HSM_OK)
        return st;
    spc = certs_tnauthlist_spc(signer->list);
    if (spc != NULL && strlen(spc) <= CERTS_SPC_MAX)
        memcpy(signer->spc, spc, strlen(spc) + 1);
    signer->has_spc = certs_tnauthlist_has_spc(signer->list);
    return HSM_OK;
}

static enum hsm_status
read_constraints(struct sks_signer *signer, const X509 *leaf, struct hsm_reason *why)
{
    enum hsm_status st = certs_cert_constraints(leaf, &signer->constraints, why);

    return st == HSM_ERR_NOT_FOUND ? HSM_OK : st;
}

static enum hsm_status
make_frames(struct sks_signer *signer, struct hsm_reason *why)
{
    for (size_t i = 0; i < SKS_PPT_COUNT; i++) {
        struct frame *frame = &signer->frames[i];
        enum hsm_status st = sks_passport_begin((enum sks_ppt)i, signer->x5u, &frame->begin);

        if (st != HSM_OK)
            return hsm_refuse(why, st, "x5u: longer than %d characters", SKS_PASSPORT_X5U_MAX);
        frame->after = sks_identity_format("", signer->x5u, sks_ppt_text((enum sks_ppt)i));
        if (frame->after == NULL)
            return HSM_ERR_NOMEM;
    }
    return HSM_OK;
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
    signer->token = strdup(config->token != NULL ? config->token : "");
    if (signer->x5u == NULL || signer->token == NULL)
        return HSM_ERR_NOMEM;
    st = read_tnauthlist(signer, leaf, why);
    if (st == HSM_OK)
        st = read_constraints(signer, leaf, why);
    if (st == HSM_OK)
        st = make_frames(signer, why);
    if (st == HSM_OK)
        st = certs_chain_copy(config->chain, &signer->chain);
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
    for (size_t i = 0; i < SKS_PPT_COUNT; i++) {
        free(signer->frames[i].begin);
        free(signer->frames[i].after);
    }
    certs_constraints_free(signer->constraints);
    certs_tnauthlist_free(signer->list);
    certs_chain_free(signer->chain);
    free(signer->x5u);
    free(signer->token);
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

const char *
sks_signer_token_label(const struct sks_signer *signer)
{
    return signer->token;
}

time_t
sks_signer_not_after(const struct sks_signer *signer)
{
    return signer->not_after;
}

struct sks_signer_series
sks_signer_series(const struct sks_signer *signer)
{
    return (struct sks_signer_series){
        atomic_load_explicit(&signer->count, memory_order_relaxed),
        atomic_load_explicit(&signer->seconds, memory_order_relaxed),
    };
}

void
sks_signer_count_in(const struct sks_signer *signer, struct sks_signer_series series)
{
    struct sks_signer *counted = (struct sks_signer *)(uintptr_t)signer; /* only these atomics */

    atomic_store_explicit(&counted->count, series.count, memory_order_relaxed);
    atomic_store_explicit(&counted->seconds, series.seconds, memory_order_relaxed);
}

bool
sks_signer_covers(const struct sks_signer *signer, int64_t when)
{
    return when >= signer->not_before && when <= signer->not_after;
}

/* RFC 8224 section 4.1: iat is fresh, and iat and now lie in the credential's validity. */
static enum hsm_status
check_times(const struct sks_signer *signer, int64_t iat, time_t now, struct hsm_reason *why)
{
    if (iat < (int64_t)now - SKS_FRESHNESS_S || iat > (int64_t)now + SKS_FRESHNESS_S)
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "iat: not within %d s of now", SKS_FRESHNESS_S);
    if (!sks_signer_covers(signer, now))
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "the certificate is not valid now");
    if (!sks_signer_covers(signer, iat))
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "iat: outside the certificate's validity");
    return HSM_OK;
}

/* ---- what the certificate allows ---- */

/* A verifier would reject a PASSporT that violates the constraints: apply its check to the payload
 * as it will be read. */
static enum hsm_status
check_constraints(const struct sks_signer *signer, const struct sks_claims *claims,
                  struct hsm_reason *why)
{
    DEFER(json_decref) json_t *payload = NULL;
    enum hsm_status st;

    if (signer->constraints == NULL)
        return HSM_OK;
    st = sks_claims_read(claims, &payload);
    if (st == HSM_OK)
        st = sks_constrained_check(signer->constraints, payload, why);
    return st == HSM_ERR_UNTRUSTED ? HSM_ERR_UNSUPPORTED : st;
}

/* A certificate that lists only numbers covers these and no others (RFC 8224 section 6.1, RFC 8946
 * section 4.1, RFC 9060). With an SPC the provider is responsible for the number. */
static enum hsm_status
check_numbers(const struct sks_signer *signer, const struct sks_claims *claims,
              struct hsm_reason *why)
{
    bool is_div = claims->ppt == SKS_PPT_DIV;
    const char *number = is_div ? claims->div_tn : claims->orig_tn;

    if (signer->has_spc || (number != NULL && certs_tnauthlist_has_number(signer->list, number)))
        return HSM_OK;
    return hsm_refuse(why, HSM_ERR_UNSUPPORTED, "%s: not in the certificate's TNAuthList",
                      is_div ? "div" : "orig");
}

/* ---- sign ---- */

static enum hsm_status
check(const struct sks_signer *signer, const struct sks_claims *claims, time_t now,
      struct hsm_reason *why)
{
    struct sks_refusal refusal = {.member = NULL};
    enum hsm_status st = sks_claims_check(claims, &refusal);

    if (st != HSM_OK)
        return sks_refusal_tell(&refusal, st, why);
    st = check_times(signer, claims->iat, now, why);
    if (st == HSM_OK)
        st = check_numbers(signer, claims, why);
    return st == HSM_OK ? check_constraints(signer, claims, why) : st;
}

enum hsm_status
sks_signer_token_fault(enum hsm_status st)
{
    return st == HSM_ERR_UNTRUSTED || st == HSM_ERR_UNSUPPORTED ? HSM_ERR_CRYPTO : st;
}

enum hsm_status
sks_signer_sign(struct sks_signer *signer, const struct sks_claims *claims, time_t now,
                char **identity, struct hsm_reason *why)
{
    enum hsm_status st = check(signer, claims, now, why);
    const struct frame *frame;

    if (st != HSM_OK)
        return st;
    frame = &signer->frames[claims->ppt];
    st = sks_passport_sign(frame->begin, claims, signer->key, frame->after, identity);
    if (st != HSM_OK)
        return hsm_refuse(why, sks_signer_token_fault(st), "key %s: %s", hsm_key_label(signer->key),
                          hsm_status_text(st));
    return HSM_OK;
}

enum hsm_status
sks_signer_prepare(const struct sks_signer *signer, const struct sks_claims *claims, time_t now,
                   char **text, size_t *len, uint8_t *digest, struct hsm_reason *why)
{
    const struct frame *frame = &signer->frames[claims->ppt];
    char *made = NULL;
    size_t made_len = 0;
    enum hsm_status st = check(signer, claims, now, why);

    if (st == HSM_OK)
        st = sks_passport_unsigned(frame->begin, claims, frame->after, &made, &made_len);
    if (st != HSM_OK)
        return st;
    if (EVP_Digest(made, made_len, digest, NULL, EVP_sha256(), NULL) != 1) {
        free(made);
        return HSM_ERR_CRYPTO;
    }
    *text = made;
    *len = made_len;
    return HSM_OK;
}

void
sks_signer_complete(const struct sks_signer *signer, const struct sks_claims *claims, char *text,
                    size_t len, const uint8_t *sig)
{
    sks_passport_complete(text, len, sig, signer->frames[claims->ppt].after);
}
