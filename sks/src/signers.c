/* signers.c - the active credentials of a catalogue, loaded and ready to sign. */
#include <sks/signers.h>

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <certs/chain.h>
#include <hsm/defer.h>
#include <hsm/key.h>
#include <hsm/log.h>
#include <hsm/use.h>

struct loaded {
    int64_t id;
    struct hsm_key *key;
    struct sks_signer *signer; /* borrows the key */
};

struct sks_signers {
    atomic_uint holders;
    size_t count;
    struct loaded loaded[]; /* newest first */
};

DEFINE_DEFER(struct certs_chain, certs_chain_free)
DEFINE_DEFER(struct sks_signers, sks_signers_free)

static enum hsm_status
refuse(const struct sks_credential *credential, enum hsm_status st, const char *why)
{
    hsm_log(HSM_LOG_ERROR, "credential %lld (%s): %s", (long long)credential->id,
            credential->key_uri, why[0] != '\0' ? why : hsm_status_text(st));
    return st;
}

static enum hsm_status
load_one(const struct sks_credential *credential, struct hsm_token *token, struct loaded *out)
{
    DEFER(certs_chain_free) struct certs_chain *chain = NULL;
    struct sks_signer_config config = {.x5u = credential->x5u};
    struct hsm_reason why = {""};
    enum hsm_status st;

    out->id = credential->id;
    st = certs_chain_parse_pem(credential->chain_pem, strlen(credential->chain_pem),
                               CERTS_CHAIN_LEN_MAX, &chain, &why);
    if (st != HSM_OK)
        return refuse(credential, st, why.text);
    st = hsm_key_find(token, credential->key_uri, &out->key);
    if (st != HSM_OK)
        return refuse(credential, st, "its key cannot be used");
    config.key = out->key;
    config.chain = chain;
    st = sks_signer_new(&config, &out->signer, &why);
    if (st != HSM_OK)
        return refuse(credential, st, why.text);
    if (strcmp(sks_signer_spc(out->signer), credential->spc) != 0)
        return refuse(credential, HSM_ERR_UNTRUSTED, "its certificate is for another SPC");
    return HSM_OK;
}

/* Keep the active ones, and see that they are of one SPC. */
static enum hsm_status
select_active(struct sks_credential *list, size_t *count)
{
    size_t kept = 0;

    for (size_t i = 0; i < *count; i++) {
        struct sks_credential one = list[i];

        if (one.state != SKS_ACTIVE)
            continue;
        list[i] = list[kept]; /* swapped, so that all of them are released later */
        list[kept++] = one;
        if (strcmp(one.spc, list[0].spc) != 0) {
            hsm_log(HSM_LOG_ERROR,
                    "credentials of several SPCs are active, %s and %s: "
                    "the configuration must say which one signs",
                    list[0].spc, one.spc);
            return HSM_ERR_AMBIGUOUS;
        }
    }
    *count = kept;
    return HSM_OK;
}

static enum hsm_status
load_all(const struct sks_credential *active, size_t count, struct hsm_token *token,
         struct sks_signers **out)
{
    DEFER(sks_signers_free)
    struct sks_signers *signers = calloc(1, sizeof(*signers) + count * sizeof(struct loaded));
    enum hsm_status st = HSM_OK;

    if (signers == NULL)
        return HSM_ERR_NOMEM;
    atomic_init(&signers->holders, 1);
    while (st == HSM_OK && signers->count < count) {
        size_t i = signers->count++; /* counted first: what is half made is released too */

        st = load_one(&active[count - 1 - i], token, &signers->loaded[i]);
    }
    if (st != HSM_OK)
        return st;
    *out = signers;
    signers = NULL;
    return HSM_OK;
}

enum hsm_status
sks_signers_load(struct sks_catalogue *catalogue, struct hsm_token *token, const char *spc,
                 struct sks_signers **out)
{
    struct sks_credential *list = NULL;
    size_t all = 0;
    size_t active;
    enum hsm_status st = sks_catalogue_list(catalogue, spc, &list, &all);

    if (st != HSM_OK)
        return st;
    active = all;
    st = select_active(list, &active);
    if (st == HSM_OK)
        st = load_all(list, active, token, out);
    sks_credentials_free(list, all);
    return st;
}

struct sks_signers *
sks_signers_share(struct sks_signers *signers)
{
    atomic_fetch_add_explicit(&signers->holders, 1, memory_order_relaxed);
    return signers;
}

void
sks_signers_free(struct sks_signers *signers)
{
    if (signers == NULL ||
        atomic_fetch_sub_explicit(&signers->holders, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < signers->count; i++) {
        sks_signer_free(signers->loaded[i].signer);
        hsm_key_free(signers->loaded[i].key);
    }
    free(signers);
}

size_t
sks_signers_count(const struct sks_signers *signers)
{
    return signers->count;
}

struct sks_signer *
sks_signers_get(const struct sks_signers *signers, size_t i, int64_t *id)
{
    *id = signers->loaded[i].id;
    return signers->loaded[i].signer;
}

static const struct loaded *
at(const struct sks_signers *signers, time_t now)
{
    for (size_t i = 0; i < signers->count; i++)
        if (sks_signer_not_after(signers->loaded[i].signer) >= now)
            return &signers->loaded[i];
    return NULL;
}

struct sks_signer *
sks_signers_at(const struct sks_signers *signers, time_t now)
{
    const struct loaded *found = at(signers, now);

    return found == NULL ? NULL : found->signer;
}

enum hsm_status
sks_signers_probe(const struct sks_signers *signers, time_t now)
{
    static const char text[] =
        "sti-sks: does the token sign?"; /* no '.': not a JWS signing input */
    const struct loaded *found = at(signers, now);
    uint8_t sig[HSM_P256_SIG_LEN];
    HSM_USE_FOR(HSM_USE_SELF_TEST);

    if (found == NULL)
        return HSM_ERR_NOT_FOUND;
    return hsm_key_sign_verified(found->key, text, sizeof(text) - 1, sig);
}
