/* signers.c - the active credentials of a catalogue, loaded and ready to sign. */
#include <sks/signers.h>

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <certs/chain.h>
#include <hsm/defer.h>
#include <hsm/group.h>
#include <hsm/key.h>
#include <hsm/log.h>
#include <hsm/use.h>

#include "sign_internal.h"

struct loaded {
    int64_t id;
    struct hsm_key *key;
    struct sks_signer *signer; /* borrows the key */
};

struct sks_signers {
    atomic_uint holders;
    struct hsm_group *group; /* of all keys; NULL: there is at most one */
    size_t count;
    struct loaded *loaded; /* owned; newest first */
    size_t left_out_count;
    struct sks_left_out *left_out; /* owned; newest first */
    enum hsm_status status; /* why credentials were left out; HSM_OK: none was */
};

static enum hsm_status
refuse(const struct sks_credential *credential, enum hsm_status st, const char *why)
{
    hsm_log(HSM_LOG_ERROR, "credential %lld of SPC %s (%s) does not sign: %s",
            (long long)credential->id, credential->spc, credential->key_uri,
            why[0] != '\0' ? why : hsm_status_text(st));
    return st;
}

static enum hsm_status
load_one(const struct sks_credential *credential, struct hsm_token *token, struct loaded *out)
{
    DEFER(certs_chain_free) struct certs_chain *chain = NULL;
    struct sks_signer_config config = {.x5u = credential->x5u};
    struct hsm_token_info info;
    struct hsm_reason why = {""};
    enum hsm_status st;

    out->id = credential->id;
    st = certs_chain_parse_pem(credential->chain_pem, strlen(credential->chain_pem),
                               CERTS_CHAIN_LEN_MAX, &chain, &why);
    if (st != HSM_OK)
        return refuse(credential, st, why.text);
    st = hsm_key_find(token, credential->key_uri, &out->key);
    if (st != HSM_OK)
        return refuse(credential, st,
                      st == HSM_ERR_NOT_FOUND ? "its key is not in the token"
                                              : "its key cannot be used");
    hsm_token_info(token, &info);
    config.token = info.label;
    config.key = out->key;
    config.chain = chain;
    st = sks_signer_new(&config, &out->signer, &why);
    if (st != HSM_OK)
        return refuse(credential, st, why.text);
    if (strcmp(sks_signer_spc(out->signer), credential->spc) != 0)
        return refuse(credential, HSM_ERR_UNTRUSTED, "its certificate is for another SPC");
    return HSM_OK;
}

static enum hsm_status
check_one_spc(const struct sks_credential *active, size_t count)
{
    for (size_t i = 1; i < count; i++)
        if (strcmp(active[i].spc, active[0].spc) != 0) {
            hsm_log(HSM_LOG_ERROR,
                    "credentials of several SPCs are active, %s and %s: "
                    "the configuration must say which one signs",
                    active[0].spc, active[i].spc);
            return HSM_ERR_AMBIGUOUS;
        }
    return HSM_OK;
}

/* ---- what can be loaded, and what is left out ---- */

/* Why a credential cannot be loaded, in words for the callers. */
static const char *
text_of(struct sks_tokens *tokens, const struct sks_credential *credential, enum hsm_status st)
{
    const char *fault = sks_tokens_fault(tokens, credential->token_uri);

    if (fault != NULL)
        return fault;
    switch (st) {
    case HSM_ERR_BUSY:
        return "its token is away";
    case HSM_ERR_NOT_FOUND:
        return "its key is not in the token";
    default:
        return "an active credential cannot be loaded";
    }
}

static enum hsm_status
leave_out(struct sks_signers *signers, struct sks_tokens *tokens,
          const struct sks_credential *credential, enum hsm_status st)
{
    struct sks_left_out *one = &signers->left_out[signers->left_out_count];

    one->spc = strdup(credential->spc);
    if (one->spc == NULL)
        return HSM_ERR_NOMEM;
    signers->left_out_count++;
    one->id = credential->id;
    one->why = text_of(tokens, credential, st);
    one->may_come = sks_tokens_has(tokens, credential->token_uri);
    if (signers->status == HSM_OK || st == HSM_ERR_BUSY)
        signers->status = st;
    return HSM_OK;
}

/* A faulty credential does not prevent the others from signing. */
static enum hsm_status
load_next(struct sks_signers *signers, const struct sks_credential *credential,
          struct sks_tokens *tokens)
{
    struct hsm_token *token = sks_tokens_get(tokens, credential->token_uri);
    struct loaded *loaded = &signers->loaded[signers->count];
    enum hsm_status st =
        token == NULL ? refuse(credential, HSM_ERR_BUSY, text_of(tokens, credential, HSM_ERR_BUSY))
                      : load_one(credential, token, loaded);

    if (st == HSM_OK) {
        signers->count++;
        return HSM_OK;
    }
    sks_signer_free(loaded->signer);
    hsm_key_free(loaded->key);
    memset(loaded, 0, sizeof(*loaded));
    if (st == HSM_ERR_NOMEM)
        return st;
    return leave_out(signers, tokens, credential, st);
}

static enum hsm_status
make_group(struct sks_signers *signers)
{
    enum hsm_status st = HSM_OK;

    if (signers->count < 2)
        return HSM_OK;
    st = hsm_group_new(&signers->group);
    for (size_t i = 0; st == HSM_OK && i < signers->count; i++)
        st = hsm_group_add(signers->group, signers->loaded[i].key, 0, &signers->loaded[i]);
    return st;
}

static enum hsm_status
load_all(const struct sks_credential *active, size_t count, struct sks_tokens *tokens,
         struct sks_signers **out)
{
    DEFER(sks_signers_free) struct sks_signers *signers = calloc(1, sizeof(*signers));
    enum hsm_status st = HSM_OK;

    if (signers == NULL)
        return HSM_ERR_NOMEM;
    atomic_init(&signers->holders, 1);
    signers->loaded = calloc(count + 1, sizeof(*signers->loaded));
    signers->left_out = calloc(count + 1, sizeof(*signers->left_out));
    if (signers->loaded == NULL || signers->left_out == NULL)
        return HSM_ERR_NOMEM;
    for (size_t i = count; st == HSM_OK && i-- > 0;)
        st = load_next(signers, &active[i], tokens);
    if (st == HSM_OK)
        st = make_group(signers);
    if (st != HSM_OK)
        return st;
    *out = signers;
    signers = NULL;
    return HSM_OK;
}

enum hsm_status
sks_signers_load(struct sks_catalogue *catalogue, struct sks_tokens *tokens, const char *spc,
                 struct sks_signers **out)
{
    struct sks_credential *active = NULL;
    size_t count = 0;
    enum hsm_status st =
        sks_catalogue_list_in(catalogue, spc, SKS_ACTIVE, SKS_ACTIVE, &active, &count);

    if (st == HSM_OK)
        st = check_one_spc(active, count);
    if (st == HSM_OK)
        st = load_all(active, count, tokens, out);
    sks_credentials_free(active, count);
    return st;
}

enum hsm_status
sks_signers_check(const struct sks_signers *signers)
{
    return signers->count > 0 ? HSM_OK : signers->status;
}

size_t
sks_signers_left_out_count(const struct sks_signers *signers)
{
    return signers->left_out_count;
}

const struct sks_left_out *
sks_signers_left_out(const struct sks_signers *signers, size_t i)
{
    return &signers->left_out[i];
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
    hsm_group_free(signers->group);
    for (size_t i = 0; i < signers->count; i++) {
        sks_signer_free(signers->loaded[i].signer);
        hsm_key_free(signers->loaded[i].key);
    }
    free(signers->loaded);
    for (size_t i = 0; i < signers->left_out_count; i++)
        free(signers->left_out[i].spc);
    free(signers->left_out);
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

struct sks_signer *
sks_signers_at(const struct sks_signers *signers, time_t now)
{
    for (size_t i = 0; i < signers->count; i++)
        if (sks_signer_covers(signers->loaded[i].signer, now))
            return signers->loaded[i].signer;
    return NULL;
}

/* ---- sign with the best ---- */

/* A call that a group signs. */
struct group_call {
    const struct sks_claims *claims;
    time_t now;
    const struct sks_signer *asked; /* the last one tried; NULL: none yet */
    enum hsm_status prepared; /* what preparing the call for it returned */
    const struct sks_signer *forbids; /* its certificate does not allow the claims; or NULL */
    struct hsm_reason forbidden; /* why */
    char *text; /* to be signed by `asked`; owned */
    size_t len;
    struct hsm_reason *why;
};

static enum hsm_status
prepare(void *context, void *member, uint8_t *digest)
{
    struct group_call *call = context;
    const struct loaded *loaded = member;
    struct hsm_reason why = {""};
    enum hsm_status st;

    if (!sks_signer_covers(loaded->signer, call->now) ||
        !sks_signer_covers(loaded->signer, call->claims->iat))
        return HSM_ERR_NOT_FOUND; /* another signer may cover the call */
    free(call->text);
    call->text = NULL;
    st = sks_signer_prepare(loaded->signer, call->claims, call->now, &call->text, &call->len,
                            digest, &why);
    if (st == HSM_ERR_UNSUPPORTED) {
        call->forbids = loaded->signer;
        call->forbidden = why;
        return HSM_ERR_NOT_FOUND; /* likewise */
    }
    call->asked = loaded->signer;
    call->prepared = st;
    return st == HSM_OK ? st : hsm_refuse(call->why, st, "%s", why.text);
}

/* Report why no member of the group signed. If a token was asked, the fault is its own, even if the
 * certificates of the other tokens do not allow the call. */
static enum hsm_status
refuse_call(struct group_call *call, enum hsm_status st, const struct sks_signer **signer)
{
    free(call->text);
    if (call->asked != NULL) {
        *signer = call->asked;
        return call->prepared != HSM_OK ? st
                                        : hsm_refuse(call->why, sks_signer_token_fault(st),
                                                     "no token signs: %s", hsm_status_text(st));
    }
    if (call->forbids == NULL)
        return hsm_refuse(call->why, HSM_ERR_UNTRUSTED, "iat: no active certificate covers it");
    *signer = call->forbids;
    return hsm_refuse(call->why, HSM_ERR_UNSUPPORTED, "%s", call->forbidden.text);
}

static enum hsm_status
sign_in_group(struct sks_signers *signers, const struct sks_claims *claims, time_t now,
              char **identity, const struct sks_signer **signer, struct hsm_reason *why)
{
    struct group_call call = {.claims = claims, .now = now, .why = why};
    uint8_t sig[HSM_P256_SIG_LEN];
    HSM_USE_FOR(HSM_USE_PASSPORT);
    enum hsm_status st = hsm_group_sign(signers->group, prepare, &call, 0, sig, NULL);

    if (st != HSM_OK)
        return refuse_call(&call, st, signer);
    *signer = call.asked;
    sks_signer_complete(call.asked, claims, call.text, call.len, sig);
    *identity = call.text;
    return HSM_OK;
}

enum hsm_status
sks_signers_sign(struct sks_signers *signers, const struct sks_claims *claims, time_t now,
                 char **identity, const struct sks_signer **signer, struct hsm_reason *why)
{
    *signer = sks_signers_at(signers, now);
    if (*signer == NULL)
        return hsm_refuse(why, HSM_ERR_NOT_FOUND, "no active credential");
    if (signers->group != NULL)
        return sign_in_group(signers, claims, now, identity, signer, why);
    return sks_signer_sign(signers->loaded[0].signer, claims, now, identity, why);
}

enum hsm_status
sks_signers_probe(const struct sks_signers *signers, time_t now)
{
    static const char text[] =
        "sti-sks: does the token sign?"; /* no '.': not a JWS signing input */
    uint8_t sig[HSM_P256_SIG_LEN];
    enum hsm_status st = HSM_ERR_NOT_FOUND;
    HSM_USE_FOR(HSM_USE_SELF_TEST);

    for (size_t i = 0; i < signers->count && st != HSM_OK; i++)
        if (sks_signer_covers(signers->loaded[i].signer, now))
            st = hsm_key_sign_verified(signers->loaded[i].key, text, sizeof(text) - 1, sig);
    return st;
}
