/* diversion.c - whether a div PASSporT continues those of the call (RFC 8946). */
#include "diversion_internal.h"

#include <stdbool.h>

#include <jansson.h>

#include <acme/json.h>
#include <hsm/defer.h>
#include <sks/identity.h>
#include <sks/passport.h>

#include "chain_internal.h"
#include "verify_internal.h"

static const char headers_member[] = "identityHeaders"; /* of the request */

/* Add a PASSporT of the call. */
static enum hsm_status
add_link(struct chain *chain, const char *text, struct hsm_reason *why)
{
    struct sks_identity identity = {0};
    enum sks_ppt ppt = SKS_PPT_NONE;
    size_t at = sks_div_chain_add(chain);
    int64_t iat;
    enum hsm_status st = sks_identity_parse(text, &identity, why);

    if (st == HSM_OK)
        st = sks_div_chain_take(chain, at, identity.passport, true, &ppt, why);
    sks_identity_clear(&identity);
    return st == HSM_OK ? acme_json_integer(chain->claims[at], "iat", &iat, why) : st;
}

/* Add the PASSporTs inside div-o ones (section 5). One that cannot be read has no claims. */
static enum hsm_status
add_insides(struct chain *chain)
{
    enum hsm_status st = HSM_OK;
    enum sks_ppt ppt;
    size_t inner;

    for (size_t i = 0; st != HSM_ERR_NOMEM && i < chain->count; i++) {
        if (sks_div_chain_unwrap(chain, i, &inner))
            st = sks_div_chain_take(chain, inner, chain->opt[i], true, &ppt, NULL);
    }
    return st == HSM_ERR_NOMEM ? st : HSM_OK;
}

/* The iat of the div is fresh; the other one may be any integer. */
static enum hsm_status
check_link(const struct chain *chain, size_t div, size_t at, bool stands,
           struct sks_refusal *refusal)
{
    json_int_t iat = json_integer_value(json_object_get(chain->claims[at], "iat"));
    json_int_t div_iat = json_integer_value(json_object_get(chain->claims[div], "iat"));

    if (!chain->diverts[div][at])
        return hsm_refuse(sks_refusal_of(refusal, "orig"), HSM_ERR_UNTRUSTED,
                          "not that of the PASSporT which is diverted");
    if (iat > div_iat + SKS_FRESHNESS_S || iat < div_iat - SKS_DIV_AGE_S) /* clocks differ */
        return hsm_refuse(sks_refusal_of(refusal, "iat"), HSM_ERR_UNTRUSTED,
                          "not within %d s after that of the PASSporT which is diverted",
                          SKS_DIV_AGE_S);
    if (!stands)
        return hsm_refuse(sks_refusal_of(refusal, headers_member), HSM_ERR_UNTRUSTED,
                          "the chain has a gap");
    return HSM_OK;
}

/* The div must continue one of the others; only their claims are compared. */
static enum hsm_status
check_chain(struct chain *chain, size_t div, struct sks_refusal *refusal)
{
    bool is_there[CHAIN_MAX];
    bool stands[CHAIN_MAX];
    enum hsm_status st = hsm_refuse(sks_refusal_of(refusal, "div"), HSM_ERR_UNTRUSTED,
                                    "no destination of an earlier PASSporT");

    sks_div_chain_link(chain);
    for (size_t i = 0; i < chain->count; i++)
        is_there[i] = i != div;
    sks_div_chain_stand(chain, is_there, stands);
    for (size_t i = 0; st != HSM_OK && i < div; i++) {
        if (sks_party_is_in(json_object_get(chain->claims[div], "div"),
                            json_object_get(chain->claims[i], "dest")))
            st = check_link(chain, div, i, stands[i], refusal);
    }
    return st;
}

enum hsm_status
sks_diversion_check(const char *const *identities, size_t count, const struct sks_claims *div,
                    struct sks_refusal *refusal)
{
    CLEAR_AFTER(sks_div_chain_clear) struct chain chain = {.count = 0};
    size_t at;
    enum hsm_status st = HSM_OK;

    if (count > SKS_IDENTITIES_MAX)
        return hsm_refuse(sks_refusal_of(refusal, headers_member), HSM_ERR_MALFORMED,
                          "more than %d", SKS_IDENTITIES_MAX);
    for (size_t i = 0; i < count; i++) {
        st = add_link(&chain, identities[i], sks_refusal_of(refusal, headers_member));
        if (st != HSM_OK)
            return st;
    }
    st = add_insides(&chain);
    if (st != HSM_OK)
        return st;
    at = sks_div_chain_add(&chain);
    st = sks_div_chain_say_div(&chain, at, div);
    return st == HSM_OK ? check_chain(&chain, at, refusal) : st;
}
