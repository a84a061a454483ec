/* authority_automatic.c - the rule by which revocation requests are decided without an operator. */
#include <string.h>

#include "authority_revoke_internal.h"

#define SEPARATORS  ", \t"
#define NONE        "none"
#define REASON_LAST 10 /* RFC 5280 section 5.3.1 */

static const char *const kinds[AUTHORITY_ASKERS] = {
    [AUTHORITY_SP] = "sp",
    [AUTHORITY_STI_CA] = "sti-ca",
};

static bool
is_word(const char *at, size_t len, const char *word)
{
    return len == strlen(word) && memcmp(at, word, len) == 0;
}

static uint16_t
all_reasons(void)
{
    unsigned reasons = 0;

    for (int reason = 0; reason <= REASON_LAST; reason++)
        reasons |= certs_crl_is_reason(reason) ? 1U << reason : 0;
    return (uint16_t)reasons;
}

/* @return 0: no reason has this name */
static uint16_t
reason_named(const char *at, size_t len)
{
    for (int reason = 0; reason <= REASON_LAST; reason++) {
        if (certs_crl_is_reason(reason) && is_word(at, len, certs_crl_reason_text(reason)))
            return (uint16_t)(1U << reason);
    }
    return 0;
}

/* "KIND" or "KIND:REASON". */
static enum hsm_status
add_word(const char *at, size_t len, uint16_t rule[AUTHORITY_ASKERS], struct hsm_reason *why)
{
    const char *colon = memchr(at, ':', len);
    size_t kind_len = colon != NULL ? (size_t)(colon - at) : len;
    uint16_t reasons = colon != NULL ? reason_named(colon + 1, len - kind_len - 1) : all_reasons();

    for (int kind = 0; kind < AUTHORITY_ASKERS && reasons != 0; kind++) {
        if (is_word(at, kind_len, kinds[kind])) {
            rule[kind] |= reasons;
            return HSM_OK;
        }
    }
    return hsm_refuse(why, HSM_ERR_MALFORMED,
                      "\"%.*s\": not \"none\" alone, nor sti-ca or sp, alone or with a reason of"
                      " RFC 5280 as in sp:keyCompromise",
                      (int)len, at);
}

enum hsm_status
acme_authority_automatic_parse(const char *text, uint16_t rule[AUTHORITY_ASKERS],
                               struct hsm_reason *why)
{
    uint16_t parsed[AUTHORITY_ASKERS] = {0};
    enum hsm_status st = HSM_OK;

    if (text[strspn(text, SEPARATORS)] == '\0')
        return hsm_refuse(why, HSM_ERR_MALFORMED,
                          "empty: \"" NONE "\" says that an operator decides all");
    for (const char *at = text + strspn(text, SEPARATORS); st == HSM_OK && *at != '\0';
         at += strspn(at, SEPARATORS)) {
        size_t len = strcspn(at, SEPARATORS);

        if (!is_word(text, strlen(text), NONE))
            st = add_word(at, len, parsed, why);
        at += len;
    }
    if (st == HSM_OK)
        memcpy(rule, parsed, sizeof(parsed));
    return st;
}
