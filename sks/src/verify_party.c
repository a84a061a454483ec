/* verify_party.c - the parties of a call, in the canonical forms that a claim may have. */
#include "verify_internal.h"

#include <string.h>

#include <sks/passport.h>
#include <sks/tn.h>

bool
sks_claims_one_party(const json_t *orig)
{
    const json_t *tn = json_object_get(orig, "tn");
    const json_t *uri = json_object_get(orig, "uri");

    if ((tn == NULL) == (uri == NULL))
        return false;
    return json_string_length(tn != NULL ? tn : uri) > 0;
}

/* True if absent, or an array of non-empty strings, which are counted. */
static bool
is_identities(const json_t *identities, size_t *count)
{
    if (identities == NULL)
        return true;
    if (!json_is_array(identities) || json_array_size(identities) > SKS_DEST_MAX)
        return false;
    for (size_t i = 0; i < json_array_size(identities); i++) {
        if (json_string_length(json_array_get(identities, i)) == 0)
            return false;
    }
    *count += json_array_size(identities);
    return true;
}

bool
sks_claims_parties(const json_t *dest)
{
    size_t count = 0;

    return json_is_object(dest) && is_identities(json_object_get(dest, "tn"), &count) &&
           is_identities(json_object_get(dest, "uri"), &count) && count > 0 &&
           count <= SKS_DEST_MAX;
}

/* A party of the call as the SIP headers name it. */
struct party {
    char tn[SKS_TN_MAX + 1]; /* "": not a telephone number */
    char uri[SKS_TN_URI_MAX + 1]; /* "": not a URI */
};

static void
party_of(const char *tn, const char *uri, const struct sks_dial_plan *plan, struct party *out)
{
    const char *text = tn != NULL ? tn : uri;

    out->tn[0] = '\0';
    out->uri[0] = '\0';
    if (text == NULL)
        return; /* no party */
    if (sks_tn_canonical(text, tn != NULL ? NULL : plan, out->tn) != HSM_OK)
        out->tn[0] = '\0';
    if (tn != NULL || strlen(text) > SKS_TN_URI_MAX)
        return;
    if (sks_uri_canonical(text, out->uri) != HSM_OK)
        memcpy(out->uri, text, strlen(text) + 1);
}

/* A tn claim that is not canonical matches no party (RFC 8225 section 5.2.1). */
static bool
is_tn_of(const struct party *party, const json_t *claim)
{
    const char *tn = json_string_value(claim);

    return tn != NULL && party->tn[0] != '\0' && strcmp(party->tn, tn) == 0;
}

static bool
is_uri_of(const struct party *party, const json_t *claim)
{
    char canonical[SKS_TN_URI_MAX + 1];
    const char *uri = json_string_value(claim);

    if (uri == NULL || party->uri[0] == '\0')
        return false;
    if (sks_uri_canonical(uri, canonical) == HSM_OK)
        uri = canonical;
    return strcmp(party->uri, uri) == 0;
}

static bool
is_among(const struct party *party, const json_t *dest)
{
    const json_t *tns = json_object_get(dest, "tn");
    const json_t *uris = json_object_get(dest, "uri");

    for (size_t i = 0; i < json_array_size(tns); i++) {
        if (is_tn_of(party, json_array_get(tns, i)))
            return true;
    }
    for (size_t i = 0; i < json_array_size(uris); i++) {
        if (is_uri_of(party, json_array_get(uris, i)))
            return true;
    }
    return false;
}

/* Every destination of the call must be named in the PASSporT, which may name more. */
static bool
has_all(const json_t *dest, const struct sks_dial_plan *plan, const char *const *tns,
        size_t tn_count, const char *const *uris, size_t uri_count)
{
    for (size_t i = 0; i < tn_count; i++) {
        struct party party;

        party_of(tns[i], NULL, NULL, &party);
        if (!is_among(&party, dest))
            return false;
    }
    for (size_t i = 0; i < uri_count; i++) {
        struct party party;

        party_of(NULL, uris[i], plan, &party);
        if (!is_among(&party, dest))
            return false;
    }
    return true;
}

bool
sks_party_is_from(const struct sks_call *call, const json_t *orig)
{
    struct party from;

    party_of(call->from_tn, call->from_uri, call->plan, &from);
    return is_tn_of(&from, json_object_get(orig, "tn")) ||
           is_uri_of(&from, json_object_get(orig, "uri"));
}

bool
sks_party_is_to(const struct sks_call *call, const json_t *dest)
{
    return has_all(dest, call->plan, call->to_tn, call->to_tn_count, call->to_uri,
                   call->to_uri_count);
}

bool
sks_party_is_target(const struct sks_call *call, const json_t *dest)
{
    if (call->target_tn_count + call->target_uri_count == 0)
        return sks_party_is_to(call, dest);
    return has_all(dest, call->plan, call->target_tn, call->target_tn_count, call->target_uri,
                   call->target_uri_count);
}

/* The party that a claim names. */
static void
party_claimed(const json_t *claim, struct party *out)
{
    party_of(json_string_value(json_object_get(claim, "tn")),
             json_string_value(json_object_get(claim, "uri")), NULL, out);
}

bool
sks_party_is_same(const json_t *orig, const json_t *other)
{
    struct party party;

    party_claimed(orig, &party);
    return is_tn_of(&party, json_object_get(other, "tn")) ||
           is_uri_of(&party, json_object_get(other, "uri"));
}

bool
sks_party_is_in(const json_t *div, const json_t *dest)
{
    struct party party;

    party_claimed(div, &party);
    return is_among(&party, dest);
}
