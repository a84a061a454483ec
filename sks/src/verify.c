/* verify.c - the STI-VS: judge an Identity header. */
#include <sks/verify.h>

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include <acme/json.h>
#include <certs/cert.h>
#include <hsm/defer.h>
#include <sks/identity.h>
#include <sks/passport.h>
#include <sks/tn.h>

#include "passport_internal.h"

struct sks_verifier {
    struct sks_verifier_config config;
};

/* One call on its way through the cases. */
struct judgement {
    const struct sks_verifier *verifier;
    const struct sks_call *call;
    time_t now;
    struct sks_identity identity;
    struct sks_passport passport; /* parts of identity.passport */
    json_t *header, *payload;
    struct certs_chain *chain; /* as it was served */
    struct certs_path *path; /* as it is trusted: the end entity is the first of it */
    int64_t iat;
    const char *attest; /* in payload */
    enum sks_case verdict;
    struct hsm_reason why;
};

/* What a case answers (ATIS-1000082; the texts as RFC 8224 section 6.2.2 writes them). */
struct answer {
    int code;
    const char *verstat;
};

static const char passed[] = "TN-Validation-Passed";
static const char failed[] = "TN-Validation-Failed";
static const char none[] = "No-TN-Validation";

static const struct answer answers[] = {
    [SKS_VALID] = {0, passed},
    [SKS_E3_TIME_STALE] = {403, none},
    [SKS_E4_COMPACT_FORM] = {438, none},
    [SKS_E5_PPT_PARAMETER] = {438, none},
    [SKS_E6_NO_INFO] = {436, none},
    [SKS_E7_INFO_INVALID] = {436, none},
    [SKS_E8_INFO_UNREACHABLE] = {436, none},
    [SKS_E9_HEADER_MEMBER_MISSING] = {436, none},
    [SKS_E10_X5U_NOT_INFO] = {436, none},
    [SKS_E11_TYP] = {437, none},
    [SKS_E12_ALG] = {437, none},
    [SKS_E13_PPT] = {438, none},
    [SKS_E14_CLAIM_MISSING] = {438, none},
    [SKS_E15_IAT_STALE] = {403, none},
    [SKS_E16_NUMBERS_DIFFER] = {438, none},
    [SKS_E17_UNTRUSTED] = {437, failed},
    [SKS_E18_SIGNATURE] = {438, failed},
    [SKS_E19_ATTEST] = {438, none},
};

static const char *
reason_text(int code)
{
    switch (code) {
    case 403:
        return "Stale Date";
    case 436:
        return "Bad Identity Info";
    case 437:
        return "Unsupported Credential";
    case 438:
        return "Invalid Identity Header";
    default:
        return "";
    }
}

/* A verdict is an answer, not a failure. */
static enum hsm_status
judge(struct judgement *j, enum sks_case verdict, const char *text)
{
    j->verdict = verdict;
    return hsm_refuse(&j->why, HSM_OK, "%s", text);
}

/* The same with the reason that a lower function gave; its failures of our own system stay ones. */
static enum hsm_status
judge_status(struct judgement *j, enum sks_case verdict, enum hsm_status st)
{
    if (st == HSM_ERR_NOMEM || st == HSM_ERR_USAGE)
        return st;
    j->verdict = verdict;
    return HSM_OK;
}

static bool
is_fresh(const struct judgement *j, int64_t when)
{
    int64_t window = j->verifier->config.freshness_s;

    return when >= (int64_t)j->now - window && when <= (int64_t)j->now + window;
}

static enum hsm_status
check_time(struct judgement *j)
{
    if (!is_fresh(j, j->call->time))
        return judge(j, SKS_E3_TIME_STALE, "time: not fresh");
    return HSM_OK;
}

/* Whatever is not a full form PASSporT that can be read has no better case than this one. */
static enum hsm_status
check_full_form(struct judgement *j)
{
    enum hsm_status st = sks_identity_parse(j->call->identity, &j->identity, &j->why);

    if (st == HSM_OK)
        st = sks_passport_split(j->identity.passport, &j->passport, &j->why);
    if (st == HSM_OK)
        st = sks_passport_header(&j->passport, &j->header, &j->why);
    return st == HSM_OK ? HSM_OK : judge_status(j, SKS_E4_COMPACT_FORM, st);
}

/* Callers that send only info leave the rest to the PASSporT's own header. */
static enum hsm_status
check_ppt_parameter(struct judgement *j)
{
    if (j->identity.ppt != NULL && strcmp(j->identity.ppt, "shaken") != 0)
        return judge(j, SKS_E5_PPT_PARAMETER, "Identity: ppt is not shaken");
    return HSM_OK;
}

static enum hsm_status
check_info_present(struct judgement *j)
{
    if (j->identity.info == NULL)
        return judge(j, SKS_E6_NO_INFO, "Identity: no info");
    return HSM_OK;
}

/* E7 and E8: who fetches also judges the URL. */
static enum hsm_status
get_chain(struct judgement *j)
{
    const struct sks_verifier_config *config = &j->verifier->config;
    enum hsm_status st =
        config->chain(config->context, j->identity.info, j->now, &j->chain, &j->why);

    if (st == HSM_OK)
        return HSM_OK;
    return judge_status(j, st == HSM_ERR_MALFORMED ? SKS_E7_INFO_INVALID : SKS_E8_INFO_UNREACHABLE,
                        st);
}

static const char *
header_string(const struct judgement *j, const char *name)
{
    return json_string_value(json_object_get(j->header, name));
}

static enum hsm_status
check_header_members(struct judgement *j)
{
    static const char *const names[] = {"alg", "ppt", "typ", "x5u"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const char *value;
        enum hsm_status st = acme_json_string(j->header, names[i], &value, &j->why);

        if (st != HSM_OK)
            return judge_status(j, SKS_E9_HEADER_MEMBER_MISSING, st);
    }
    return HSM_OK;
}

static enum hsm_status
check_x5u(struct judgement *j)
{
    if (strcmp(header_string(j, "x5u"), j->identity.info) != 0)
        return judge(j, SKS_E10_X5U_NOT_INFO, "x5u: differs from info");
    return HSM_OK;
}

static enum hsm_status
check_typ(struct judgement *j)
{
    if (strcmp(header_string(j, "typ"), "passport") != 0)
        return judge(j, SKS_E11_TYP, "typ: not passport");
    return HSM_OK;
}

/* RFC 7515 section 4.1.11: what crit names must be understood, and we know no such extension. */
static enum hsm_status
check_alg(struct judgement *j)
{
    if (strcmp(header_string(j, "alg"), "ES256") != 0)
        return judge(j, SKS_E12_ALG, "alg: not ES256");
    if (j->identity.alg != NULL && strcmp(j->identity.alg, "ES256") != 0)
        return judge(j, SKS_E12_ALG, "Identity: alg is not ES256");
    if (json_object_get(j->header, "crit") != NULL || json_object_get(j->header, "b64") != NULL)
        return judge(j, SKS_E12_ALG, "crit: not supported");
    return HSM_OK;
}

static enum hsm_status
check_ppt(struct judgement *j)
{
    if (strcmp(header_string(j, "ppt"), "shaken") != 0)
        return judge(j, SKS_E13_PPT, "ppt: not shaken");
    return HSM_OK;
}

/* Exactly one identity, a string (RFC 8225 section 5.2.1). */
static bool
is_orig(const json_t *orig)
{
    const json_t *tn = json_object_get(orig, "tn");
    const json_t *uri = json_object_get(orig, "uri");

    if ((tn == NULL) == (uri == NULL))
        return false;
    return json_string_length(tn != NULL ? tn : uri) > 0;
}

/* Absent, or an array of strings that are not empty; counts them. */
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

static bool
is_dest(const json_t *dest)
{
    size_t count = 0;

    return json_is_object(dest) && is_identities(json_object_get(dest, "tn"), &count) &&
           is_identities(json_object_get(dest, "uri"), &count) && count > 0 &&
           count <= SKS_DEST_MAX;
}

static enum hsm_status
check_claims(struct judgement *j)
{
    enum hsm_status st = sks_passport_payload(&j->passport, &j->payload, &j->why);
    const char *origid;

    if (st == HSM_OK)
        st = acme_json_integer(j->payload, "iat", &j->iat, &j->why);
    if (st == HSM_OK)
        st = acme_json_string(j->payload, "attest", &j->attest, &j->why);
    if (st == HSM_OK)
        st = acme_json_string(j->payload, "origid", &origid, &j->why);
    if (st != HSM_OK)
        return judge_status(j, SKS_E14_CLAIM_MISSING, st);
    if (*origid == '\0')
        return judge(j, SKS_E14_CLAIM_MISSING, "origid: empty");
    if (!is_orig(json_object_get(j->payload, "orig")))
        return judge(j, SKS_E14_CLAIM_MISSING, "orig: missing, or not one tn or uri");
    if (!is_dest(json_object_get(j->payload, "dest")))
        return judge(j, SKS_E14_CLAIM_MISSING, "dest: missing, or not arrays of tn or uri");
    return HSM_OK;
}

static enum hsm_status
check_iat(struct judgement *j)
{
    if (!is_fresh(j, j->iat))
        return judge(j, SKS_E15_IAT_STALE, "iat: not fresh");
    return HSM_OK;
}

/* One end of the call as SIP tells it, in the canonical forms that a claim may have. */
struct party {
    char tn[SKS_TN_MAX + 1]; /* "": it is no number */
    char uri[SKS_TN_URI_MAX + 1]; /* "": it is no URI */
};

static struct party
party_of(const char *tn, const char *uri)
{
    struct party party = {0};
    const char *text = tn != NULL ? tn : uri;

    if (text == NULL)
        return party; /* nobody */
    if (sks_tn_canonical(text, NULL, party.tn) != HSM_OK)
        party.tn[0] = '\0';
    if (tn != NULL || strlen(text) > SKS_TN_URI_MAX)
        return party;
    if (sks_uri_canonical(text, party.uri) != HSM_OK)
        memcpy(party.uri, text, strlen(text) + 1);
    return party;
}

/* A tn claim is canonical or it is nobody's (RFC 8225 section 5.2.1). */
static bool
is_tn_of(const struct party *party, const json_t *claim)
{
    return claim != NULL && party->tn[0] != '\0' &&
           strcmp(party->tn, json_string_value(claim)) == 0;
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

/* Everyone the call goes to must be among those the PASSporT names; it may name more. */
static bool
is_every_to_among(const struct sks_call *call, const json_t *dest)
{
    for (size_t i = 0; i < call->to_tn_count; i++) {
        struct party to = party_of(call->to_tn[i], NULL);

        if (!is_among(&to, dest))
            return false;
    }
    for (size_t i = 0; i < call->to_uri_count; i++) {
        struct party to = party_of(NULL, call->to_uri[i]);

        if (!is_among(&to, dest))
            return false;
    }
    return true;
}

static enum hsm_status
check_numbers(struct judgement *j)
{
    const json_t *orig = json_object_get(j->payload, "orig");
    struct party from = party_of(j->call->from_tn, j->call->from_uri);

    if (!is_tn_of(&from, json_object_get(orig, "tn")) &&
        !is_uri_of(&from, json_object_get(orig, "uri")))
        return judge(j, SKS_E16_NUMBERS_DIFFER, "orig: differs from the caller");
    if (!is_every_to_among(j->call, json_object_get(j->payload, "dest")))
        return judge(j, SKS_E16_NUMBERS_DIFFER, "dest: differs from the called party");
    return HSM_OK;
}

/* RFC 8224 section 6.2 step 4: the certificate was valid when the PASSporT was made, too. */
static enum hsm_status
check_trust(struct judgement *j)
{
    enum hsm_status st =
        sks_trust_path(j->verifier->config.trust, j->chain, j->now, &j->path, &j->why);
    const X509 *leaf;

    if (st != HSM_OK)
        return judge_status(j, SKS_E17_UNTRUSTED, st);
    leaf = certs_path_get(j->path, 0);
    if (j->iat < certs_cert_not_before(leaf) || j->iat > certs_cert_not_after(leaf))
        return judge(j, SKS_E17_UNTRUSTED, "iat: outside the certificate's validity");
    return HSM_OK;
}

static enum hsm_status
check_signature(struct judgement *j)
{
    EVP_PKEY *public_key = certs_cert_public(certs_path_get(j->path, 0));
    enum hsm_status st;

    if (public_key == NULL)
        return judge(j, SKS_E17_UNTRUSTED, "the certificate's key is of an unknown type");
    st = sks_passport_verify(&j->passport, public_key, &j->why);
    if (st == HSM_ERR_UNSUPPORTED)
        return judge_status(j, SKS_E17_UNTRUSTED, st);
    return st == HSM_OK ? HSM_OK : judge_status(j, SKS_E18_SIGNATURE, st);
}

static enum hsm_status
check_attest(struct judgement *j)
{
    if (strlen(j->attest) != 1 || strchr("ABC", j->attest[0]) == NULL)
        return judge(j, SKS_E19_ATTEST, "attest: not A, B or C");
    return HSM_OK;
}

/* In the order of the cases: E3 to E19. */
static enum hsm_status (*const checks[])(struct judgement *j) = {
    check_time,           check_full_form, check_ppt_parameter, check_info_present, get_chain,
    check_header_members, check_x5u,       check_typ,           check_alg,          check_ppt,
    check_claims,         check_iat,       check_numbers,       check_trust,        check_signature,
    check_attest,
};

static void
judgement_clear(struct judgement *j)
{
    sks_identity_clear(&j->identity);
    json_decref(j->header);
    json_decref(j->payload);
    certs_path_free(j->path);
    certs_chain_free(j->chain);
}

static void
write_verdict(const struct judgement *j, struct sks_verification *out)
{
    const struct answer *answer = &answers[j->verdict];

    *out = (struct sks_verification){
        .verdict = j->verdict,
        .reason_code = answer->code,
        .reason_text = reason_text(answer->code),
        .verstat = answer->verstat,
        .attest = '\0',
    };
    if (j->verdict == SKS_VALID)
        out->attest = j->attest[0];
    else
        out->reason_desc = j->why;
}

enum hsm_status
sks_verifier_new(const struct sks_verifier_config *config, struct sks_verifier **out)
{
    struct sks_verifier *verifier;

    if (config->trust == NULL || config->chain == NULL)
        return HSM_ERR_USAGE;
    verifier = calloc(1, sizeof(*verifier));
    if (verifier == NULL)
        return HSM_ERR_NOMEM;
    verifier->config = *config;
    if (verifier->config.freshness_s == 0)
        verifier->config.freshness_s = SKS_FRESHNESS_S;
    *out = verifier;
    return HSM_OK;
}

void
sks_verifier_free(struct sks_verifier *verifier)
{
    free(verifier);
}

enum hsm_status
sks_verify(struct sks_verifier *verifier, const struct sks_call *call, time_t now,
           struct sks_verification *out)
{
    struct judgement j = {.verifier = verifier, .call = call, .now = now};
    enum hsm_status st = HSM_OK;

    if (call->identity == NULL || (call->from_tn == NULL && call->from_uri == NULL) ||
        call->to_tn_count + call->to_uri_count == 0)
        return HSM_ERR_USAGE;
    for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]); i++) {
        st = checks[i](&j);
        if (st != HSM_OK || j.verdict != SKS_VALID)
            break;
    }
    if (st == HSM_OK)
        write_verdict(&j, out);
    judgement_clear(&j);
    return st;
}
