/* verify.c - the STI-VS: judge an Identity header by the cases of ATIS-1000082. */
#include "verify_internal.h"

#include <stdlib.h>
#include <string.h>

#include <acme/json.h>
#include <sks/passport.h>

/* The answer of a case (ATIS-1000082); reason_text() has the reason phrase of its code. */
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

/* RFC 8224 section 6.2.2 */
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

enum hsm_status
sks_judge(struct judgement *j, enum sks_case verdict, const char *text)
{
    j->verdict = verdict;
    return hsm_refuse(&j->why, HSM_OK, "%s", text);
}

enum hsm_status
sks_judge_status(struct judgement *j, enum sks_case verdict, enum hsm_status st)
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

enum hsm_status
sks_judge_time(struct judgement *j)
{
    if (!is_fresh(j, j->call->time))
        return sks_judge(j, SKS_E3_TIME_STALE, "time: not fresh");
    return HSM_OK;
}

/* A PASSporT inside another has no parameters: info is taken from the x5u of its own header. */
static enum hsm_status
open_opt(struct judgement *j)
{
    const char *x5u;

    j->identity.passport = strdup(j->opt);
    if (j->identity.passport == NULL)
        return HSM_ERR_NOMEM;
    if (sks_passport_split(j->identity.passport, &j->passport, &j->why) != HSM_OK)
        return HSM_ERR_MALFORMED;
    if (sks_passport_header(&j->passport, &j->header, &j->why) != HSM_OK)
        return HSM_ERR_MALFORMED;
    x5u = json_string_value(json_object_get(j->header, "x5u"));
    if (x5u == NULL)
        return HSM_OK; /* no info: E6 */
    j->identity.info = strdup(x5u);
    return j->identity.info == NULL ? HSM_ERR_NOMEM : HSM_OK;
}

/* The type that the ppt parameter names; without the parameter shaken is assumed. */
static enum sks_ppt
ppt_parameter(const struct judgement *j)
{
    return j->identity.ppt == NULL ? SKS_PPT_SHAKEN : sks_ppt_of(j->identity.ppt);
}

static enum hsm_status
open_identity(struct judgement *j)
{
    enum hsm_status st = sks_identity_parse(j->text, &j->identity, &j->why);

    if (st == HSM_OK)
        st = sks_passport_split(j->identity.passport, &j->passport, &j->why);
    if (st != HSM_OK)
        return st;
    j->has_usual_header = j->identity.info != NULL &&
                          sks_passport_has_header(&j->passport, ppt_parameter(j), j->identity.info);
    return j->has_usual_header ? HSM_OK : sks_passport_header(&j->passport, &j->header, &j->why);
}

/* The type that the PASSporT claims; where only shaken is accepted, it is judged as shaken. */
static enum sks_ppt
ppt_claimed(const struct judgement *j)
{
    const json_t *ppt = json_object_get(j->header, "ppt");

    if (!j->is_any_type)
        return SKS_PPT_SHAKEN;
    if (j->has_usual_header)
        return ppt_parameter(j);
    if (ppt == NULL)
        return j->identity.ppt == NULL ? SKS_PPT_NONE : sks_ppt_of(j->identity.ppt);
    return sks_ppt_of(json_string_value(ppt));
}

/* Anything that is not a readable full form PASSporT is reported as this case: none fits better. */
static enum hsm_status
check_full_form(struct judgement *j)
{
    enum hsm_status st = j->opt != NULL ? open_opt(j) : open_identity(j);

    j->ppt = ppt_claimed(j);
    return st == HSM_OK ? HSM_OK : sks_judge_status(j, SKS_E4_COMPACT_FORM, st);
}

/* Callers that send only info leave the rest to the PASSporT's own header. */
static enum hsm_status
check_ppt_parameter(struct judgement *j)
{
    if (j->identity.ppt == NULL)
        return HSM_OK;
    if (!j->is_any_type && strcmp(j->identity.ppt, "shaken") != 0)
        return sks_judge(j, SKS_E5_PPT_PARAMETER, "Identity: ppt is not shaken");
    if (sks_ppt_of(j->identity.ppt) == SKS_PPT_UNKNOWN)
        return sks_judge(j, SKS_E5_PPT_PARAMETER, "Identity: ppt is not known");
    return HSM_OK;
}

static enum hsm_status
check_info_present(struct judgement *j)
{
    if (j->identity.info == NULL)
        return sks_judge(j, SKS_E6_NO_INFO, "Identity: no info");
    return HSM_OK;
}

/* E7 and E8: the code that fetches the chain also checks the URL. */
static enum hsm_status
get_chain(struct judgement *j)
{
    const struct sks_verifier_config *config = &j->verifier->config;
    bool may_wait = j->call->wait == NULL || config->ask == NULL;
    enum hsm_status st;

    if (may_wait)
        st = config->chain(config->context, j->identity.info, j->now, &j->chain, &j->why);
    else
        st = config->ask(config->context, j->identity.info, j->now, j->call, &j->chain, &j->why);
    if (st == HSM_OK)
        return HSM_OK;
    if (!may_wait && st == HSM_ERR_NOT_FOUND)
        return HSM_ERR_BUSY; /* not here yet: no verdict */
    return sks_judge_status(
        j, st == HSM_ERR_MALFORMED ? SKS_E7_INFO_INVALID : SKS_E8_INFO_UNREACHABLE, st);
}

static const char *
header_string(const struct judgement *j, const char *name)
{
    return json_string_value(json_object_get(j->header, name));
}

/* E9 to E13: a usual header has all members, with the required values. */

/* Where any type is accepted, ppt may be absent: the base type. */
static enum hsm_status
check_header_members(struct judgement *j)
{
    static const char *const names[] = {"alg", "ppt", "typ", "x5u"};

    for (size_t i = 0; !j->has_usual_header && i < sizeof(names) / sizeof(names[0]); i++) {
        bool is_optional = j->ppt == SKS_PPT_NONE && strcmp(names[i], "ppt") == 0;
        const char *value;
        enum hsm_status st =
            is_optional ? HSM_OK : acme_json_string(j->header, names[i], &value, &j->why);

        if (st != HSM_OK)
            return sks_judge_status(j, SKS_E9_HEADER_MEMBER_MISSING, st);
    }
    return HSM_OK;
}

static enum hsm_status
check_x5u(struct judgement *j)
{
    if (!j->has_usual_header && strcmp(header_string(j, "x5u"), j->identity.info) != 0)
        return sks_judge(j, SKS_E10_X5U_NOT_INFO, "x5u: differs from info");
    return HSM_OK;
}

static enum hsm_status
check_typ(struct judgement *j)
{
    if (!j->has_usual_header && strcmp(header_string(j, "typ"), "passport") != 0)
        return sks_judge(j, SKS_E11_TYP, "typ: not passport");
    return HSM_OK;
}

/* RFC 7515 section 4.1.11: extensions that crit names must be understood; none is supported. */
static enum hsm_status
check_alg(struct judgement *j)
{
    if (!j->has_usual_header && strcmp(header_string(j, "alg"), "ES256") != 0)
        return sks_judge(j, SKS_E12_ALG, "alg: not ES256");
    if (j->identity.alg != NULL && strcmp(j->identity.alg, "ES256") != 0)
        return sks_judge(j, SKS_E12_ALG, "Identity: alg is not ES256");
    if (json_object_get(j->header, "crit") != NULL || json_object_get(j->header, "b64") != NULL)
        return sks_judge(j, SKS_E12_ALG, "crit: not supported");
    return HSM_OK;
}

static enum hsm_status
check_ppt(struct judgement *j)
{
    const char *ppt = header_string(j, "ppt");

    if (j->has_usual_header)
        return HSM_OK;
    if (!j->is_any_type && strcmp(ppt, "shaken") != 0)
        return sks_judge(j, SKS_E13_PPT, "ppt: not shaken");
    if (j->ppt == SKS_PPT_UNKNOWN)
        return sks_judge(j, SKS_E13_PPT, "ppt: not known");
    if (ppt != NULL && j->identity.ppt != NULL && strcmp(ppt, j->identity.ppt) != 0)
        return sks_judge(j, SKS_E13_PPT, "ppt: not what the Identity header says");
    return HSM_OK;
}

static enum hsm_status
check_shaken_claims(struct judgement *j)
{
    const char *origid;
    enum hsm_status st = acme_json_string(j->payload, "attest", &j->attest, &j->why);

    if (st == HSM_OK)
        st = acme_json_string(j->payload, "origid", &origid, &j->why);
    if (st != HSM_OK)
        return sks_judge_status(j, SKS_E14_CLAIM_MISSING, st);
    if (*origid == '\0')
        return sks_judge(j, SKS_E14_CLAIM_MISSING, "origid: empty");
    return HSM_OK;
}

static enum hsm_status
check_claims(struct judgement *j)
{
    enum hsm_status st = sks_passport_payload(&j->passport, &j->payload, &j->why);

    if (st == HSM_OK)
        st = acme_json_integer(j->payload, "iat", &j->iat, &j->why);
    if (st != HSM_OK)
        return sks_judge_status(j, SKS_E14_CLAIM_MISSING, st);
    if (j->ppt == SKS_PPT_SHAKEN) {
        st = check_shaken_claims(j);
        if (st != HSM_OK || j->verdict != SKS_VALID)
            return st;
    }
    if (!sks_claims_one_party(json_object_get(j->payload, "orig")))
        return sks_judge(j, SKS_E14_CLAIM_MISSING, "orig: missing, or not one tn or uri");
    if (!sks_claims_parties(json_object_get(j->payload, "dest")))
        return sks_judge(j, SKS_E14_CLAIM_MISSING, "dest: missing, or not arrays of tn or uri");
    return sks_check_type_claims(j);
}

/* RFC 8946 section 4.2: a PASSporT that was diverted may be as old as a transferred call. */
static enum hsm_status
check_iat(struct judgement *j)
{
    int64_t oldest = (int64_t)j->now - j->verifier->config.div_age_s;

    if (is_fresh(j, j->iat))
        return HSM_OK;
    j->is_old = j->is_inner && j->iat >= oldest && j->iat < (int64_t)j->now;
    return j->is_old ? HSM_OK : sks_judge(j, SKS_E15_IAT_STALE, "iat: not fresh");
}

static enum hsm_status
check_numbers(struct judgement *j)
{
    const json_t *dest = json_object_get(j->payload, "dest");
    bool is_div = sks_ppt_is_div(j->ppt);

    if (!sks_party_is_from(j->call, json_object_get(j->payload, "orig")))
        return sks_judge(j, SKS_E16_NUMBERS_DIFFER, "orig: differs from the caller");
    if (is_div ? sks_party_is_target(j->call, dest) : sks_party_is_to(j->call, dest))
        return sks_check_signalling(j);
    j->is_elsewhere = j->is_inner;
    return j->is_elsewhere
               ? sks_check_signalling(j)
               : sks_judge(j, SKS_E16_NUMBERS_DIFFER, "dest: differs from the called party");
}

/* RFC 8224 section 6.2 step 4: the certificate was valid when the PASSporT was made, too. */
static enum hsm_status
check_trust(struct judgement *j)
{
    enum hsm_status st =
        sks_trust_path(j->verifier->config.trust, j->chain, j->now, &j->path, &j->why);

    if (st != HSM_OK)
        return sks_judge_status(j, SKS_E17_UNTRUSTED, st);
    if (!certs_path_covers(j->path, j->iat))
        return sks_judge(j, SKS_E17_UNTRUSTED, "iat: outside the certificate's validity");
    return sks_check_authority(j);
}

static enum hsm_status
check_signature(struct judgement *j)
{
    const struct hsm_es256_verifier *verifier = certs_path_verifier(j->path);
    enum hsm_status st;

    if (verifier == NULL)
        return sks_judge(j, SKS_E17_UNTRUSTED, "the certificate's key is not on P-256");
    st = sks_passport_verify(&j->passport, verifier, &j->why);
    if (st != HSM_OK)
        return sks_judge_status(j, SKS_E18_SIGNATURE, st);
    if (j->verifier->config.vouch != NULL)
        j->verifier->config.vouch(j->verifier->config.context, j->identity.info);
    return HSM_OK;
}

static enum hsm_status
check_attest(struct judgement *j)
{
    if (j->ppt != SKS_PPT_SHAKEN)
        return HSM_OK;
    if (strlen(j->attest) != 1 || strchr("ABC", j->attest[0]) == NULL)
        return sks_judge(j, SKS_E19_ATTEST, "attest: not A, B or C");
    return HSM_OK;
}

/* In the order of the cases: E4 to E19. */
static enum hsm_status (*const checks[])(struct judgement *j) = {
    check_full_form, check_ppt_parameter, check_info_present, get_chain,       check_header_members,
    check_x5u,       check_typ,           check_alg,          check_ppt,       check_claims,
    check_iat,       check_numbers,       check_trust,        check_signature, check_attest,
};

enum hsm_status
sks_judge_passport(struct judgement *j)
{
    enum hsm_status st = HSM_OK;

    for (size_t i = 0; st == HSM_OK && j->verdict == SKS_VALID; i++) {
        if (i == sizeof(checks) / sizeof(checks[0]))
            break;
        st = checks[i](j);
    }
    return st;
}

void
sks_judgement_clear(struct judgement *j)
{
    sks_identity_clear(&j->identity);
    json_decref(j->header);
    json_decref(j->payload);
    certs_path_free(j->path);
    certs_chain_free(j->chain);
}

void
sks_judgement_write(const struct judgement *j, struct sks_verification *out)
{
    const struct answer *answer = &answers[j->verdict];

    *out = (struct sks_verification){
        .verdict = j->verdict,
        .reason_code = answer->code,
        .reason_text = reason_text(answer->code),
        .verstat = answer->verstat,
        .attest = '\0',
    };
    if (j->verdict != SKS_VALID)
        out->reason_desc = j->why;
    else if (j->attest != NULL)
        out->attest = j->attest[0];
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
    if (verifier->config.div_age_s == 0)
        verifier->config.div_age_s = SKS_DIV_AGE_S;
    *out = verifier;
    return HSM_OK;
}

void
sks_verifier_free(struct sks_verifier *verifier)
{
    free(verifier);
}

bool
sks_verifier_waits(const struct sks_verifier *verifier)
{
    return verifier->config.ask == NULL;
}

bool
sks_call_is_complete(const struct sks_call *call, size_t identities)
{
    return identities > 0 && (call->from_tn != NULL || call->from_uri != NULL) &&
           call->to_tn_count + call->to_uri_count > 0;
}

enum hsm_status
sks_verify(struct sks_verifier *verifier, const struct sks_call *call, time_t now,
           struct sks_verification *out)
{
    struct judgement j = {.verifier = verifier, .call = call, .now = now, .text = call->identity};
    enum hsm_status st;

    if (!sks_call_is_complete(call, call->identity != NULL ? 1 : 0))
        return HSM_ERR_USAGE;
    st = sks_judge_time(&j);
    if (st == HSM_OK && j.verdict == SKS_VALID)
        st = sks_judge_passport(&j);
    if (st == HSM_OK)
        sks_judgement_write(&j, out);
    sks_judgement_clear(&j);
    return st;
}
