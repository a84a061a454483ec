/* diversion.c - whether a div PASSporT continues those of the call (RFC 8946). */
#include "diversion_internal.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include <acme/json.h>
#include <hsm/defer.h>
#include <sks/identity.h>
#include <sks/passport.h>
#include <sks/tn.h>

#define CHAIN_MAX 8 /* PASSporTs of one call */

/** An earlier PASSporT; its payload is owned. */
struct link {
    json_t *payload;
    bool is_div;
    int64_t iat;
};

struct chain {
    struct link links[CHAIN_MAX];
    size_t count;
};

static void
chain_clear(struct chain *chain)
{
    for (size_t i = 0; i < chain->count; i++)
        json_decref(chain->links[i].payload);
}

#define CHAIN __attribute__((cleanup(chain_clear))) struct chain

static enum hsm_status
read_link(const char *text, struct link *out, struct hsm_reason *why)
{
    struct sks_identity identity = {0};
    json_t *header = NULL;
    const char *ppt;
    enum hsm_status st = sks_identity_parse(text, &identity, why);

    if (st == HSM_OK)
        st = sks_passport_decode(identity.passport, &header, &out->payload, why);
    sks_identity_clear(&identity);
    if (st != HSM_OK)
        return st;
    ppt = json_string_value(json_object_get(header, "ppt"));
    out->is_div = ppt != NULL && strcmp(ppt, sks_ppt_text(SKS_PPT_DIV)) == 0;
    json_decref(header);
    st = acme_json_integer(out->payload, "iat", &out->iat, why);
    if (st != HSM_OK)
        json_decref(out->payload);
    return st;
}

/* ---- identities ---- */

/* Numbers and URIs in the form in which they are compared (RFC 8224 section 8). */
static bool
is_same(const char *a, const char *b, bool is_tn)
{
    char x[SKS_TN_URI_MAX + 1];
    char y[SKS_TN_URI_MAX + 1];

    if (a == NULL || b == NULL)
        return false;
    if (is_tn)
        return sks_tn_canonical(a, NULL, x) == HSM_OK && sks_tn_canonical(b, NULL, y) == HSM_OK &&
               strcmp(x, y) == 0;
    if (sks_uri_canonical(a, x) != HSM_OK || sks_uri_canonical(b, y) != HSM_OK)
        return strcmp(a, b) == 0;
    return strcmp(x, y) == 0;
}

/* One of {"tn": ..} and {"uri": ..}, each a text or an array of them. */
static bool
names(const json_t *claim, const char *tn, const char *uri)
{
    const char *wanted = tn != NULL ? tn : uri;
    const json_t *value = json_object_get(claim, tn != NULL ? "tn" : "uri");

    if (!json_is_array(value))
        return is_same(json_string_value(value), wanted, tn != NULL);
    for (size_t i = 0; i < json_array_size(value); i++)
        if (is_same(json_string_value(json_array_get(value, i)), wanted, tn != NULL))
            return true;
    return false;
}

static bool
names_claim(const json_t *claim, const json_t *one)
{
    return names(claim, json_string_value(json_object_get(one, "tn")),
                 json_string_value(json_object_get(one, "uri")));
}

/* ---- the chain ---- */

/* Back from a link to a PASSporT that is no div; each step takes another link, so it ends. */
static bool
reaches_origin(const struct chain *chain, size_t at, unsigned visited)
{
    const struct link *link = &chain->links[at];

    if (!link->is_div)
        return true;
    visited |= 1U << at;
    for (size_t i = 0; i < chain->count; i++)
        if ((visited & (1U << i)) == 0 &&
            names_claim(json_object_get(chain->links[i].payload, "dest"),
                        json_object_get(link->payload, "div")) &&
            reaches_origin(chain, i, visited))
            return true;
    return false;
}

static enum hsm_status
check_link(const struct chain *chain, size_t at, const struct sks_claims *div,
           struct hsm_reason *why)
{
    const struct link *link = &chain->links[at];

    if (!names(json_object_get(link->payload, "orig"), div->orig_tn, div->orig_uri))
        return hsm_refuse(why, HSM_ERR_UNTRUSTED,
                          "orig: not that of the PASSporT which is diverted");
    if (div->iat < link->iat || div->iat - link->iat > SKS_DIVERSION_IAT_S)
        return hsm_refuse(why, HSM_ERR_UNTRUSTED,
                          "iat: not within %d s after that of the PASSporT which is diverted",
                          SKS_DIVERSION_IAT_S);
    if (!reaches_origin(chain, at, 0))
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "identityHeaders: the chain has a gap");
    return HSM_OK;
}

enum hsm_status
sks_diversion_check(const char *const *identities, size_t count, const struct sks_claims *div,
                    struct hsm_reason *why)
{
    CHAIN chain = {.count = 0};
    enum hsm_status found =
        hsm_refuse(why, HSM_ERR_UNTRUSTED, "div: no destination of an earlier PASSporT");

    if (count > CHAIN_MAX)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "identityHeaders: more than %d", CHAIN_MAX);
    for (; chain.count < count; chain.count++) {
        struct hsm_reason fault = {""};
        enum hsm_status st = read_link(identities[chain.count], &chain.links[chain.count], &fault);

        if (st != HSM_OK)
            return hsm_refuse(why, st, "identityHeaders: %.200s", fault.text);
    }
    for (size_t i = 0; found != HSM_OK && i < count; i++)
        if (names(json_object_get(chain.links[i].payload, "dest"), div->div_tn, div->div_uri))
            found = check_link(&chain, i, div, why);
    return found;
}
