/* kms_lost.c - active credentials that must be replaced at once. */
#include "kms_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <certs/cert.h>
#include <certs/chain.h>
#include <hsm/defer.h>
#include <hsm/key.h>
#include <hsm/log.h>

/**
 * Look for the key of an active credential in its token.
 *
 * @retval HSM_ERR_NOT_FOUND  it is not there any more
 * @retval HSM_ERR_UNTRUSTED  another key has its name
 * @retval HSM_ERR_BUSY       this may be temporary: the token is away, for instance
 */
static enum hsm_status
check_key(const struct sks_kms *kms, const struct sks_credential *active, struct hsm_reason *why)
{
    struct hsm_token *token = sks_tokens_get(kms->tokens, active->token_uri);
    DEFER(hsm_key_free) struct hsm_key *key = NULL;
    DEFER(certs_chain_free) struct certs_chain *chain = NULL;
    enum hsm_status st = token == NULL ? HSM_ERR_BUSY : hsm_key_find(token, active->key_uri, &key);

    if (st == HSM_ERR_NOT_FOUND)
        return hsm_refuse(why, st, "credential %" PRId64 ": its key is not in the token any more",
                          active->id);
    if (st != HSM_OK || certs_chain_parse_pem(active->chain_pem, strlen(active->chain_pem),
                                              CERTS_CHAIN_LEN_MAX, &chain, NULL) != HSM_OK)
        return HSM_ERR_BUSY;
    if (hsm_key_matches(key, certs_cert_public(certs_chain_get(chain, 0))))
        return HSM_OK;
    return hsm_refuse(why, HSM_ERR_UNTRUSTED, "credential %" PRId64 ": another key has its name",
                      active->id);
}

bool
sks_kms_is_lost(const struct sks_kms *kms, const struct sks_credential *active, time_t now,
                struct hsm_reason *why)
{
    enum hsm_status st = check_key(kms, active, why);

    return st == HSM_ERR_NOT_FOUND || st == HSM_ERR_UNTRUSTED ||
           sks_kms_is_refused(kms->verification.trust, active, now, why);
}

/* ---- credentials that must not sign any more ---- */

/* True if the credential can sign, and its certificate is valid and not refused. */
static bool
is_good(const struct sks_kms *kms, const struct sks_credential *credential, time_t now)
{
    const struct hsm_token *token;

    if (credential->state != SKS_ACTIVE || now < credential->not_before ||
        now > credential->not_after ||
        sks_kms_is_refused(kms->verification.trust, credential, now, NULL))
        return false;
    token = sks_tokens_get(kms->tokens, credential->token_uri);
    return token != NULL && hsm_token_is_ready(token) && check_key(kms, credential, NULL) == HSM_OK;
}

static bool
has_good(const struct sks_kms *kms, const struct sks_credential *list, size_t count, time_t now)
{
    for (size_t i = 0; i < count; i++)
        if (is_good(kms, &list[i], now))
            return true;
    return false;
}

/* The token's URI as configured: troubles have this name. */
static const char *
matter_of(const struct kms_provider *provider, const char *token_uri)
{
    for (size_t i = 0; i < provider->config->token_count; i++)
        if (sks_tokens_is(provider->kms->tokens, provider->config->tokens[i], token_uri))
            return sks_kms_token_uri(provider, i);
    return token_uri;
}

static void
withdraw(struct kms_provider *provider, struct sks_credential *credential, const char *because,
         time_t now)
{
    struct sks_kms *kms = provider->kms;
    char text[HSM_REASON_MAX + 64];

    credential->state = SKS_RETIRING;
    if (sks_catalogue_put(kms->catalogue, credential) != HSM_OK) {
        credential->state = SKS_ACTIVE;
        hsm_log(HSM_LOG_ERROR, "%s; that it signs no more could not be recorded", because);
        return;
    }
    snprintf(text, sizeof(text), "%s; it signs no more", because);
    sks_kms_note(kms, credential->spc, matter_of(provider, credential->token_uri), text, now);
}

void
sks_kms_withdraw_refused(struct kms_provider *provider, struct sks_credential *list, size_t count,
                         time_t now)
{
    struct sks_kms *kms = provider->kms;

    for (size_t i = 0; i < count; i++) {
        struct hsm_reason why = {""};

        if (list[i].state == SKS_ACTIVE &&
            sks_kms_is_refused(kms->verification.trust, &list[i], now, &why) &&
            has_good(kms, list, count, now))
            withdraw(provider, &list[i], why.text, now);
    }
}
