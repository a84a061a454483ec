/* r_value.c - the claims rph and sph: values of Resource-Priority. */
#include "r_value_internal.h"

#include <stdbool.h>
#include <string.h>
#include <strings.h>

#include <sks/claims.h>

/* namespace "." priority, each a token without dots (RFC 4412 section 3.1). */
static bool
is_r_value(const char *text)
{
    static const char token[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                "0123456789-!%*_+`'~";
    size_t name = text == NULL ? 0 : strspn(text, token);
    size_t priority = name > 0 && text[name] == '.' ? strspn(text + name + 1, token) : 0;

    return priority > 0 && text[name + 1 + priority] == '\0' &&
           name + 1 + priority <= SKS_R_VALUE_MAX;
}

/* RFC 7135; the names of namespaces are case-insensitive. */
static bool
is_esnet(const char *r_value)
{
    return strncasecmp(r_value, "esnet.", strlen("esnet.")) == 0;
}

enum hsm_status
sks_rph_check(const char *const *auth, size_t count, const char *sph, struct sks_refusal *refusal)
{
    bool has_esnet = false;

    for (size_t i = 0; i < count; i++) {
        if (!is_r_value(auth[i]))
            return hsm_refuse(sks_refusal_of(refusal, "rph"), HSM_ERR_MALFORMED,
                              "not namespace.priority");
        has_esnet |= is_esnet(auth[i]);
    }
    if (sph != NULL && strcmp(sph, SKS_PSAP_CALLBACK) != 0)
        return hsm_refuse(sks_refusal_of(refusal, "sph"), HSM_ERR_MALFORMED,
                          "not " SKS_PSAP_CALLBACK);
    if (sph != NULL && !has_esnet)
        return hsm_refuse(sks_refusal_of(refusal, "sph"), HSM_ERR_MALFORMED,
                          "RFC 9027 section 4: only with an esnet value in rph");
    return HSM_OK;
}
