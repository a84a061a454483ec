/* verify_all.c - the Identity headers of a call, and the chain that its div PASSporTs form. */
#define _GNU_SOURCE /* asprintf */
#include "verify_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <acme/base64url.h>
#include <hsm/defer.h>
#include <hsm/es256.h>
#include <sks/passport.h>

#include "chain_internal.h"

#define BASE64URL "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

/* The PASSporTs of a call, followed by those inside a div-o and by one that will be signed. */
struct passports {
    struct judgement j[CHAIN_MAX];
    size_t index[CHAIN_MAX]; /* of the header */
    struct chain chain; /* as far as they could be read before anything is judged */
    bool is_good[CHAIN_MAX]; /* valid; for a div, its link holds as well */
    bool is_covered[CHAIN_MAX]; /* a good div leads from it to where the call goes */
};

static void
passports_clear(struct passports *passports)
{
    for (size_t i = 0; i < passports->chain.count; i++)
        sks_judgement_clear(&passports->j[i]);
    sks_div_chain_clear(&passports->chain);
}

/* ---- collecting the PASSporTs ---- */

/* Fill entry `i`, which the chain has counted; entries beyond the count are uninitialised. */
static void
put(struct passports *passports, size_t i, const struct judgement *like, size_t index)
{
    passports->j[i] = *like;
    passports->index[i] = index;
}

/* Read the claims before the PASSporT is judged, to find out which one a div refers to. */
static enum hsm_status
glimpse(struct passports *passports, size_t i)
{
    struct judgement *j = &passports->j[i];
    struct sks_identity identity = {0};
    enum hsm_status st = HSM_OK;

    if (j->opt == NULL)
        st = sks_identity_parse(j->text, &identity, NULL);
    if (st == HSM_OK)
        st = sks_div_chain_take(&passports->chain, i, j->opt != NULL ? j->opt : identity.passport,
                                j->is_any_type, &j->ppt, NULL);
    sks_identity_clear(&identity);
    return st == HSM_ERR_NOMEM ? st : HSM_OK; /* its verdict reports the fault */
}

/* Add the PASSporTs inside each div-o, at any depth. */
static enum hsm_status
add_insides(struct passports *passports)
{
    enum hsm_status st = HSM_OK;
    size_t inner;

    for (size_t i = 0; st == HSM_OK && i < passports->chain.count; i++) {
        if (!sks_div_chain_unwrap(&passports->chain, i, &inner))
            continue;
        put(passports, inner, &passports->j[i], passports->index[i]);
        passports->j[inner].text = NULL;
        passports->j[inner].opt = passports->chain.opt[i];
        st = glimpse(passports, inner);
    }
    return st;
}

static enum hsm_status
add_all(struct passports *passports, const struct judgement *like)
{
    const struct sks_call *call = like->call;
    size_t first = call->identity != NULL ? 1 : 0;
    size_t headers = first + call->identity_count;
    enum hsm_status st = HSM_OK;

    if (!sks_call_is_complete(call, headers) || headers > SKS_IDENTITIES_MAX)
        return HSM_ERR_USAGE;
    for (size_t i = 0; i < headers; i++) {
        put(passports, sks_div_chain_add(&passports->chain), like, i);
        passports->j[i].text = i < first ? call->identity : call->identities[i - first];
        passports->j[i].is_any_type = i >= first;
    }
    for (size_t i = 0; st == HSM_OK && headers > 1 && i < headers; i++)
        st = glimpse(passports, i);
    if (st == HSM_OK && headers == 1 && first == 0)
        st = glimpse(passports, 0);
    return st == HSM_OK ? add_insides(passports) : st;
}

/* ---- the chain (RFC 8946 section 4.2) ---- */

static void
mark_inner(struct passports *passports)
{
    for (size_t i = 0; i < passports->chain.count; i++) {
        for (size_t div = 0; div < passports->chain.count; div++)
            passports->j[i].is_inner |= passports->chain.diverts[div][i];
    }
}

static void
mark_good(struct passports *passports)
{
    bool is_valid[CHAIN_MAX];

    for (size_t i = 0; i < passports->chain.count; i++)
        is_valid[i] = passports->j[i].verdict == SKS_VALID;
    sks_div_chain_stand(&passports->chain, is_valid, passports->is_good);
}

/* A good div diverts this PASSporT, and the div either names the call's present destination and is
 * fresh, or is covered itself. */
static bool
is_led_on(const struct passports *passports, size_t i)
{
    for (size_t div = 0; div < passports->chain.count; div++) {
        if (passports->is_good[div] && passports->chain.diverts[div][i] &&
            (passports->is_covered[div] ||
             !(passports->j[div].is_elsewhere || passports->j[div].is_old)))
            return true;
    }
    return false;
}

static void
mark_covered(struct passports *passports)
{
    memset(passports->is_covered, 0, sizeof(passports->is_covered));
    for (size_t round = 0; round < passports->chain.count; round++) {
        for (size_t i = 0; i < passports->chain.count; i++)
            passports->is_covered[i] |= is_led_on(passports, i);
    }
}

/* An old iat or another destination was tolerated because a div refers to the PASSporT: refuse the
 * PASSporT if no good div covers it. */
static bool
refuse_uncovered(struct passports *passports)
{
    bool has_refused = false;

    for (size_t i = 0; i < passports->chain.count; i++) {
        struct judgement *j = &passports->j[i];

        if (j->verdict != SKS_VALID || passports->is_covered[i] || !(j->is_old || j->is_elsewhere))
            continue;
        if (j->is_old)
            (void)sks_judge(j, SKS_E15_IAT_STALE, "iat: not fresh, and not diverted by a good div");
        else
            (void)sks_judge(j, SKS_E16_NUMBERS_DIFFER, "dest: not where the call goes");
        has_refused = true;
    }
    return has_refused;
}

/* A refusal may invalidate another PASSporT, so repeat: at most once for each PASSporT. */
static void
judge_chain(struct passports *passports)
{
    do {
        mark_good(passports);
        mark_covered(passports);
    } while (refuse_uncovered(passports));
    for (size_t i = 0; i < passports->chain.count; i++) {
        if (passports->j[i].verdict == SKS_VALID && !passports->is_good[i])
            (void)sks_judge(&passports->j[i], SKS_E16_NUMBERS_DIFFER,
                            "div: no valid PASSporT that it diverts");
    }
}

/* RFC 9795 section 10: a third party's data is shown only if the caller is known. True if a
 * PASSporT was refused: a div that diverts it has to be judged again. */
static bool
judge_third_parties(struct passports *passports)
{
    bool has_first_party = false;
    bool has_refused = false;

    for (size_t i = 0; i < passports->chain.count; i++)
        has_first_party |=
            passports->j[i].verdict == SKS_VALID &&
            (passports->j[i].ppt == SKS_PPT_SHAKEN || passports->j[i].ppt == SKS_PPT_NONE);
    for (size_t i = 0; i < passports->chain.count; i++) {
        struct judgement *j = &passports->j[i];

        if (j->verdict == SKS_VALID && j->ppt == SKS_PPT_RCD && !has_first_party &&
            json_object_get(j->payload, "iss") != NULL) {
            (void)sks_judge(j, SKS_E17_UNTRUSTED,
                            "iss: a third party's, and no valid PASSporT beside");
            has_refused = true;
        }
    }
    return has_refused;
}

/* ---- the answer ---- */

/* The last dot, which the signature follows; NULL: no signature that a header field can carry. In a
 * PASSporT inside another the signature may be any text. */
static const char *
signature_of(const struct judgement *j)
{
    const char *dot = j->identity.passport == NULL ? NULL : strrchr(j->identity.passport, '.');
    size_t len = dot == NULL ? 0 : strlen(dot + 1);

    return len > 0 && len <= ACME_BASE64URL_LEN(HSM_P256_SIG_LEN) &&
                   strspn(dot + 1, BASE64URL) == len
               ? dot
               : NULL;
}

static enum hsm_status
write_one(const struct passports *passports, size_t i, struct sks_judged *out)
{
    const struct judgement *j = &passports->j[i];
    const char *dot = signature_of(j);

    out->ppt = j->ppt;
    out->index = passports->index[i];
    out->is_inside = j->opt != NULL;
    out->rcd = j->rcd;
    out->claims = json_incref(j->payload);
    out->signature = NULL;
    sks_judgement_write(j, &out->verification);
    if (dot == NULL)
        return HSM_OK;
    out->signature = malloc(strlen(dot) + 2);
    if (out->signature == NULL)
        return HSM_ERR_NOMEM;
    out->signature[0] = '.';
    memcpy(out->signature + 1, dot, strlen(dot) + 1);
    return HSM_OK;
}

static const struct sks_judged *
shaken_of(const struct sks_judgements *judgements)
{
    const struct sks_judged *first = NULL;

    for (size_t i = 0; i < judgements->count; i++) {
        const struct sks_judged *judged = &judgements->judged[i];

        if (judged->ppt != SKS_PPT_SHAKEN)
            continue;
        if (judged->verification.verdict == SKS_VALID)
            return judged;
        if (first == NULL)
            first = judged;
    }
    return first;
}

static enum hsm_status
write_all(const struct passports *passports, struct sks_judgements **out)
{
    DEFER(sks_judgements_free) struct sks_judgements *made = malloc(sizeof(*made));
    enum hsm_status st = HSM_OK;

    if (made == NULL)
        return HSM_ERR_NOMEM;
    for (made->count = 0; st == HSM_OK && made->count < passports->chain.count; made->count++)
        st = write_one(passports, made->count, &made->judged[made->count]);
    if (st != HSM_OK)
        return st;
    made->shaken = shaken_of(made);
    *out = made;
    made = NULL;
    return HSM_OK;
}

/* Judge the first `count` PASSporTs, then the chain. */
static enum hsm_status
judge_all(struct passports *passports, size_t count)
{
    enum hsm_status st = HSM_OK;

    sks_div_chain_link(&passports->chain);
    mark_inner(passports);
    for (size_t i = 0; st == HSM_OK && i < count; i++) {
        st = sks_judge_time(&passports->j[i]);
        if (st == HSM_OK && passports->j[i].verdict == SKS_VALID)
            st = sks_judge_passport(&passports->j[i]);
    }
    if (st != HSM_OK)
        return st;
    do {
        judge_chain(passports);
    } while (judge_third_parties(passports));
    return HSM_OK;
}

enum hsm_status
sks_verify_all(struct sks_verifier *verifier, const struct sks_call *call, time_t now,
               struct sks_judgements **out)
{
    const struct judgement like = {.verifier = verifier, .call = call, .now = now};
    CLEAR_AFTER(passports_clear) struct passports passports;
    enum hsm_status st;

    passports.chain.count = 0;
    st = add_all(&passports, &like);
    if (st == HSM_OK)
        st = judge_all(&passports, passports.chain.count);
    return st == HSM_OK ? write_all(&passports, out) : st;
}

/* For a div that is not valid, report the verdict on the first PASSporT that it diverts, if any. */
static void
write_diversion(const struct passports *passports, size_t div, struct sks_verification *out)
{
    const struct judgement *told = &passports->j[div];

    for (size_t i = 0; told->verdict != SKS_VALID && i < div; i++) {
        if (passports->chain.diverts[div][i]) {
            told = &passports->j[i];
            break;
        }
    }
    sks_judgement_write(told, out);
}

enum hsm_status
sks_verify_diversion(struct sks_verifier *verifier, const struct sks_call *call,
                     const struct sks_claims *div, time_t now, struct sks_verification *out)
{
    const struct judgement like = {.verifier = verifier, .call = call, .now = now};
    CLEAR_AFTER(passports_clear) struct passports passports;
    size_t at;
    enum hsm_status st;

    passports.chain.count = 0;
    st = add_all(&passports, &like);
    at = passports.chain.count;
    if (st == HSM_OK) {
        put(&passports, sks_div_chain_add(&passports.chain), &like, at);
        passports.j[at].ppt = SKS_PPT_DIV;
        st = sks_div_chain_say_div(&passports.chain, at, div);
    }
    if (st == HSM_OK)
        st = judge_all(&passports, at);
    if (st == HSM_OK)
        write_diversion(&passports, at, out);
    return st;
}

void
sks_judgements_free(struct sks_judgements *judgements)
{
    if (judgements == NULL)
        return;
    for (size_t i = 0; i < judgements->count; i++) {
        json_decref(judgements->judged[i].claims);
        free(judgements->judged[i].signature);
    }
    free(judgements);
}

char *
sks_verification_reason(const struct sks_verification *verification, const char *ppi)
{
    char *text = NULL;

    if (verification->reason_code == 0)
        return NULL;
    if (asprintf(&text, "STIR ;cause=%d ;text=\"%s\"%s%s%s", verification->reason_code,
                 verification->reason_text, ppi != NULL ? " ;ppi=\"" : "", ppi != NULL ? ppi : "",
                 ppi != NULL ? "\"" : "") < 0)
        return NULL;
    return text;
}
