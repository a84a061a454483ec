/* chain.c - the chain that the div PASSporTs of a call form. */
#include "chain_internal.h"

#include <stdlib.h>
#include <string.h>

#include <hsm/defer.h>
#include <hsm/json.h>
#include <sks/identity.h>

#include "passport_internal.h"
#include "verify_internal.h"

size_t
sks_div_chain_add(struct chain *chain)
{
    size_t at = chain->count++;

    chain->claims[at] = NULL;
    chain->ppt[at] = SKS_PPT_NONE;
    chain->opt[at] = NULL;
    chain->inside[at] = CHAIN_NONE;
    return at;
}

/* Set the type and claims of a PASSporT. False: orig, dest or div cannot be compared, and the
 * claims stay NULL. */
static bool
say(struct chain *chain, size_t at, enum sks_ppt ppt, json_t *claims)
{
    bool is_good = sks_claims_one_party(json_object_get(claims, "orig")) &&
                   sks_claims_parties(json_object_get(claims, "dest")) &&
                   (!sks_ppt_is_div(ppt) || sks_claims_one_party(json_object_get(claims, "div")));

    chain->ppt[at] = ppt;
    if (is_good)
        chain->claims[at] = json_incref(claims);
    return is_good;
}

/* The signature that covers `opt` is not verified yet. */
static enum hsm_status
take_opt(struct chain *chain, size_t at, const json_t *claims)
{
    const json_t *opt = json_object_get(claims, "opt");

    if (chain->ppt[at] != SKS_PPT_DIV_O || !json_is_string(opt) ||
        json_string_length(opt) > SKS_IDENTITY_MAX)
        return HSM_OK;
    chain->opt[at] = strdup(json_string_value(opt));
    return chain->opt[at] != NULL ? HSM_OK : HSM_ERR_NOMEM;
}

enum hsm_status
sks_div_chain_take(struct chain *chain, size_t at, const char *passport, bool is_any_type,
                   enum sks_ppt *ppt, struct hsm_reason *why)
{
    DEFER(json_decref) json_t *header = NULL;
    DEFER(json_decref) json_t *claims = NULL;
    const json_t *type;
    bool is_good;
    enum hsm_status st = sks_passport_decode(passport, &header, &claims, why);

    if (st != HSM_OK)
        return st;
    type = json_object_get(header, "ppt");
    if (is_any_type)
        *ppt = type == NULL ? SKS_PPT_NONE : sks_ppt_of(json_string_value(type));
    is_good = say(chain, at, *ppt, claims);
    st = take_opt(chain, at, claims);
    if (st != HSM_OK || is_good)
        return st;
    return hsm_refuse(why, HSM_ERR_MALFORMED, "orig, dest or div is not what it must be");
}

bool
sks_div_chain_unwrap(struct chain *chain, size_t at, size_t *inner)
{
    if (chain->opt[at] == NULL || chain->count >= SKS_IDENTITIES_MAX)
        return false;
    *inner = chain->inside[at] = sks_div_chain_add(chain);
    return true;
}

enum hsm_status
sks_div_chain_say_div(struct chain *chain, size_t at, const struct sks_claims *div)
{
    DEFER(json_decref) json_t *claims = NULL;
    enum hsm_status st = sks_claims_read(div, &claims);

    if (st != HSM_OK)
        return st;
    return say(chain, at, SKS_PPT_DIV, claims) ? HSM_OK : HSM_ERR_USAGE;
}

static bool
diverts(const json_t *div, const json_t *other)
{
    return div != NULL && other != NULL &&
           sks_party_is_in(json_object_get(div, "div"), json_object_get(other, "dest")) &&
           sks_party_is_same(json_object_get(div, "orig"), json_object_get(other, "orig"));
}

void
sks_div_chain_link(struct chain *chain)
{
    for (size_t i = 0; i < chain->count; i++) {
        for (size_t other = 0; other < chain->count; other++)
            chain->diverts[i][other] = i != other && sks_ppt_is_div(chain->ppt[i]) &&
                                       diverts(chain->claims[i], chain->claims[other]);
    }
}

/* A div-o stands only on the PASSporT inside it (RFC 8946 section 5.1). */
static bool
stands_on_one(const struct chain *chain, size_t div, const bool *stands)
{
    size_t inside = chain->inside[div];

    if (chain->ppt[div] == SKS_PPT_DIV_O)
        return inside != CHAIN_NONE && stands[inside] && chain->diverts[div][inside];
    for (size_t i = 0; i < chain->count; i++) {
        if (stands[i] && chain->diverts[div][i])
            return true;
    }
    return false;
}

void
sks_div_chain_stand(const struct chain *chain, const bool *valid, bool *stands)
{
    memset(stands, 0, chain->count * sizeof(stands[0]));
    for (size_t round = 0; round < chain->count; round++) {
        for (size_t i = 0; i < chain->count; i++) {
            if (valid[i] && !stands[i])
                stands[i] = !sks_ppt_is_div(chain->ppt[i]) || stands_on_one(chain, i, stands);
        }
    }
}

void
sks_div_chain_clear(struct chain *chain)
{
    for (size_t i = 0; i < chain->count; i++) {
        json_decref(chain->claims[i]);
        free(chain->opt[i]);
    }
    chain->count = 0;
}
