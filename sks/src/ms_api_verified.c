/* ms_api_verified.c - the verificationResponse. */
#include <stdlib.h>
#include <string.h>

#include <hsm/defer.h>
#include <hsm/json.h>

#include "ms_api_verification_internal.h"

static bool
is_valid(const struct sks_judged *judged)
{
    return judged->verification.verdict == SKS_VALID;
}

static bool
is_any(const struct sks_judgements *judgements, bool (*has)(const struct sks_judged *judged))
{
    for (size_t i = 0; i < judgements->count; i++) {
        if (has(&judgements->judged[i]))
            return true;
    }
    return false;
}

static bool
is_invalid(const struct sks_judged *judged)
{
    return !is_valid(judged);
}

/* True if no other member of the response covers it: 3GPP has members for div and rph. */
static bool
has_more_to_say(const struct sks_judged *judged)
{
    return is_invalid(judged) || judged->rcd != SKS_RCD_NONE || judged->ppt == SKS_PPT_NONE;
}

static bool
has_more_to_say_in_atis(const struct sks_judged *judged)
{
    return has_more_to_say(judged) || judged->ppt != SKS_PPT_SHAKEN;
}

/* ---- parts of the response; NULL: no memory ---- */

/* RFC 9410: one for each PASSporT that is not valid, which it names if there are several. */
static json_t *
reason_headers(const struct sks_judgements *judgements)
{
    DEFER(json_decref) json_t *reasons = json_array();
    json_t *made;

    for (size_t i = 0; i < judgements->count; i++) {
        const struct sks_judged *judged = &judgements->judged[i];
        DEFER(free) char *text = NULL;

        if (is_valid(judged))
            continue;
        text = sks_verification_reason(&judged->verification,
                                       judgements->count > 1 ? judged->signature : NULL);
        if (text == NULL || json_array_append_new(reasons, json_string(text)) != 0)
            return NULL;
    }
    made = reasons;
    reasons = NULL;
    return made;
}

static json_t *
verify_result(const struct sks_judged *judged)
{
    static const char *const rcd[] = {
        [SKS_RCD_NONE] = NULL,
        [SKS_RCD_GOOD] = "pass",
        [SKS_RCD_CONTENT_OPEN] = "pass-content-open",
        [SKS_RCD_BAD] = "fail",
    };
    const struct sks_verification *verification = &judged->verification;
    const char *ppt = sks_ppt_text(judged->ppt);

    if (is_valid(judged))
        return json_pack("{s:{s:s, s:s, s:O, s:s*}}", "verifyResult", "ppt", ppt, "status", "pass",
                         "validClaims", judged->claims, "rcdStatus", rcd[judged->rcd]);
    return json_pack("{s:{s:s, s:s, s:i, s:s, s:s}}", "verifyResult", "ppt", ppt, "status", "fail",
                     "reasonCode", verification->reason_code, "reasonText",
                     verification->reason_text, "reasonDescription",
                     verification->reason_desc.text);
}

static json_t *
verify_results(const struct sks_judgements *judgements)
{
    DEFER(json_decref) json_t *results = json_array();
    json_t *made;

    for (size_t i = 0; i < judgements->count; i++) {
        if (json_array_append_new(results, verify_result(&judgements->judged[i])) != 0)
            return NULL;
    }
    made = results;
    results = NULL;
    return made;
}

static bool
is_div(const struct sks_judged *judged)
{
    return judged->ppt == SKS_PPT_DIV || judged->ppt == SKS_PPT_DIV_O;
}

static json_t *
div_results(const struct sks_judgements *judgements)
{
    DEFER(json_decref) json_t *results = json_array();
    json_t *made;

    for (size_t i = 0; i < judgements->count; i++) {
        const struct sks_judged *judged = &judgements->judged[i];
        json_t *div = json_object_get(judged->claims, "div");

        if (is_div(judged) &&
            json_array_append_new(results, json_pack("{s:O*, s:s}", "div", div, "verstatValue",
                                                     judged->verification.verstat)) != 0)
            return NULL;
    }
    made = results;
    results = NULL;
    return made;
}

/* A valid one if possible: a call may have an rph PASSporT for each namespace. */
static const struct sks_judged *
rph_of(const struct sks_judgements *judgements)
{
    const struct sks_judged *found = NULL;

    for (size_t i = 0; i < judgements->count; i++) {
        const struct sks_judged *judged = &judgements->judged[i];

        if (judged->ppt == SKS_PPT_RPH && (found == NULL || (!is_valid(found) && is_valid(judged))))
            found = judged;
    }
    return found;
}

static const char *
verstat_priority(const struct sks_judged *rph)
{
    if (is_valid(rph))
        return "RPH-Validation-Passed";
    return strcmp(rph->verification.verstat, "TN-Validation-Failed") == 0 ? "RPH-Validation-Failed"
                                                                          : "No-RPH-Validation";
}

/* ---- the response ---- */

/* json_object_set_new() takes ownership of the value even if it fails, and refuses NULL. */
static bool
set(json_t *to, const char *name, json_t *value)
{
    return json_object_set_new(to, name, value) == 0;
}

/* The response to a plain request of ATIS-1000082 has no members but its own. */
static bool
set_lists(json_t *to, const struct ms_verification *verification,
          const struct sks_judgements *judgements)
{
    bool is_atis = verification->dialect == MS_ATIS;

    if (is_atis && !verification->has_list)
        return true;
    if (is_any(judgements, is_atis ? has_more_to_say_in_atis : has_more_to_say) &&
        !set(to, "verifyResults", verify_results(judgements)))
        return false;
    return !is_any(judgements, is_invalid) || set(to, "reasonHeaders", reason_headers(judgements));
}

static json_t *
atis_answer(const struct sks_judgements *judgements)
{
    const struct sks_judged *shaken = judgements->shaken;
    const struct sks_verification *verification = shaken == NULL ? NULL : &shaken->verification;

    if (verification == NULL)
        return json_pack("{s:i, s:s, s:s, s:s}", "reasoncode", 438, "reasontext",
                         "Invalid Identity Header", "reasondesc", "no shaken PASSporT", "verstat",
                         "No-TN-Validation");
    if (is_valid(shaken))
        return json_pack("{s:s}", "verstat", verification->verstat);
    return json_pack("{s:i, s:s, s:s, s:s}", "reasoncode", verification->reason_code, "reasontext",
                     verification->reason_text, "reasondesc", verification->reason_desc.text,
                     "verstat", verification->verstat);
}

static json_t *
threegpp_answer(const struct sks_judgements *judgements)
{
    const struct sks_judged *rph = rph_of(judgements);
    json_t *answer = json_object();
    bool is_made = answer != NULL;

    if (is_made && judgements->shaken != NULL)
        is_made =
            set(answer, "verstatValue", json_string(judgements->shaken->verification.verstat));
    if (is_made && is_any(judgements, is_div))
        is_made = set(answer, "divResult", div_results(judgements));
    if (is_made && rph != NULL)
        is_made = set(answer, "verstatPriority", json_string(verstat_priority(rph)));
    if (is_made)
        return answer;
    json_decref(answer);
    return NULL;
}

json_t *
sks_ms_verification_response(const struct ms_verification *verification,
                             const struct sks_judgements *judgements)
{
    json_t *answer =
        verification->dialect == MS_3GPP ? threegpp_answer(judgements) : atis_answer(judgements);

    if (answer == NULL || !set_lists(answer, verification, judgements)) {
        json_decref(answer);
        return NULL;
    }
    return json_pack("{s:o}", "verificationResponse", answer);
}
