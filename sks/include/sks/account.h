/*
 * account.h - the SP-KMS's account at an STI-CA, and the change of its key.
 *
 * The catalogue records which key of the token is the account's. An interrupted
 * key change is finished when the account is opened again: the CA knows one of
 * the two keys, and is asked which.
 */
#ifndef SKS_ACCOUNT_H
#define SKS_ACCOUNT_H

#include <acme/client.h>
#include <hsm/defer.h>
#include <hsm/key.h>
#include <hsm/status.h>
#include <hsm/token.h>
#include <sks/catalogue.h>
#include <sks/tokens.h>

struct sks_account_config {
    struct sks_catalogue *catalogue;
    struct hsm_token *token;
    const char *token_uri; /* as configured; copied */
    const struct sks_tokens
        *tokens; /* know the other texts that name this token; NULL: only this */
    const char *hosted_spc; /* SPC of a hosted provider; NULL: the provider of [sp] */
    struct acme_client_config client; /* all but its account_key */
};

struct sks_account;

/**
 * Find or generate the account's key (the first is labelled SKS_ENROLL_ACCOUNT_LABEL; a hosted
 * provider has its own), read the CA's directory, and finish a key change that was begun. The
 * other pointers are borrowed. The account itself is created when it is needed.
 *
 * @return as acme_client_new()
 */
HSM_MUST_CHECK enum hsm_status sks_account_open(const struct sks_account_config *config,
                                                struct sks_account **out, struct hsm_reason *why);

/** Borrowed. */
struct acme_client *sks_account_client(const struct sks_account *account);
const char *sks_account_label(const struct sks_account *account);

/**
 * Give the account a new key from the token (RFC 8555 section 7.3.5), and destroy the old
 * one unless an account at another CA uses it. The new key's label is durable before it is
 * generated.
 *
 * @retval HSM_ERR_NOT_FOUND  the CA has no account of the present key
 * @return else as acme_client_account_rollover(). Where the CA refuses it the present key stays;
 *         otherwise (HSM_ERR_BUSY, or no readable answer) the change is finished when the account
 *         is opened again.
 */
HSM_MUST_CHECK enum hsm_status sks_account_rollover(struct sks_account *account,
                                                    struct hsm_reason *why);

/**
 * Create another account with a new key if the CA has ended this one (RFC 8555 section 7.1.6) or
 * does not know it, and destroy the old key as sks_account_rollover() does. Orders of the old
 * account are lost.
 *
 * @retval HSM_ERR_USAGE  this account is valid
 * @return else as acme_client_account()
 */
HSM_MUST_CHECK enum hsm_status sks_account_replace(struct sks_account *account,
                                                   struct hsm_reason *why);

/** NULL is fine. */
void sks_account_close(struct sks_account *account);
DEFINE_DEFER(struct sks_account, sks_account_close)

#endif
