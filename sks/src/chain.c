/* chain.c - the chain that the div PASSporTs of a call make. */
#include "chain_internal.h"

#include <string.h>

#include "verify_internal.h"

size_t
chain_add(struct chain *chain)
{
    size_t at = chain->count++;

    chain->claims[at] = NULL;
    chain->is_div[at] = false;
    return at;
}

bool
chain_say(struct chain *chain, size_t at, bool is_div, json_t *claims)
{
    bool is_good = claims_one_party(json_object_get(claims, "orig")) &&
                   claims_parties(json_object_get(claims, "dest")) &&
                   (!is_div || claims_one_party(json_object_get(claims, "div")));

    chain->is_div[at] = is_div;
    if (is_good)
        chain->claims[at] = claims;
    else
        json_decref(claims);
    return is_good;
}

static bool
diverts(const json_t *div, const json_t *other)
{
    return div != NULL && other != NULL &&
           party_is_in(json_object_get(div, "div"), json_object_get(other, "dest")) &&
           party_is_same(json_object_get(div, "orig"), json_object_get(other, "orig"));
}

void
chain_link(struct chain *chain)
{
    for (size_t i = 0; i < chain->count; i++) {
        for (size_t other = 0; other < chain->count; other++)
            chain->diverts[i][other] =
                i != other && chain->is_div[i] && diverts(chain->claims[i], chain->claims[other]);
    }
}

static bool
stands_on_one(const struct chain *chain, size_t div, const bool *stands)
{
    for (size_t i = 0; i < chain->count; i++) {
        if (stands[i] && chain->diverts[div][i])
            return true;
    }
    return false;
}

void
chain_stand(const struct chain *chain, const bool *valid, bool *stands)
{
    memset(stands, 0, chain->count * sizeof(stands[0]));
    for (size_t round = 0; round < chain->count; round++) {
        for (size_t i = 0; i < chain->count; i++) {
            if (valid[i] && !stands[i])
                stands[i] = !chain->is_div[i] || stands_on_one(chain, i, stands);
        }
    }
}

void
chain_clear(struct chain *chain)
{
    for (size_t i = 0; i < chain->count; i++)
        json_decref(chain->claims[i]);
    chain->count = 0;
}
