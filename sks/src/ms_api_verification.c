/* ms_api_verification.c - the verificationRequest and its answer. */
#include "ms_api_verification_internal.h"

#include <string.h>

#include <sks/identity.h>

static void
point_call(struct ms_verification *verification)
{
    struct sks_call *call = &verification->call;

    call->from_tn = verification->from.tn_count > 0 ? verification->from.tn[0] : NULL;
    call->from_uri = verification->from.uri_count > 0 ? verification->from.uri[0] : NULL;
    call->to_tn = verification->to.tn;
    call->to_tn_count = verification->to.tn_count;
    call->to_uri = verification->to.uri;
    call->to_uri_count = verification->to.uri_count;
}

bool
ms_verification_parse(const char *body, size_t len, struct ms_verification *out,
                      struct ms_fault *fault)
{
    static const char *const mandatory[] = {"from", "identity", "time", "to", NULL};
    const json_t *request;

    memset(out, 0, sizeof(*out));
    if (ms_request_open(body, len, "verificationRequest", &out->json, &request, fault) &&
        ms_request_has_all(request, mandatory, fault)) {
        if (ms_take_one(&out->from, request, "from", fault) &&
            ms_take_string(request, "identity", SKS_IDENTITY_MAX, &out->call.identity, fault) &&
            ms_take_time(request, "time", &out->call.time, fault) &&
            ms_take_many(&out->to, request, "to", true, fault)) {
            point_call(out);
            return true;
        }
    }
    ms_verification_clear(out);
    return false;
}

void
ms_verification_clear(struct ms_verification *verification)
{
    json_decref(verification->json);
    verification->json = NULL;
}

json_t *
ms_verification_response(const struct sks_verification *verification)
{
    if (verification->verdict == SKS_VALID)
        return json_pack("{s:{s:s}}", "verificationResponse", "verstat", verification->verstat);
    return json_pack("{s:{s:i, s:s, s:s, s:s}}", "verificationResponse", "reasoncode",
                     verification->reason_code, "reasontext", verification->reason_text,
                     "reasondesc", verification->reason_desc.text, "verstat",
                     verification->verstat);
}
