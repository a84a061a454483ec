/*
 * account.h - the SP-KMS's account at an STI-CA, and the change of its key.
 *
 * Which key of the token it has is in the catalogue. A key change that was cut
 * short is finished when the account is opened again: the CA knows one of the
 * two keys, and is asked which.
 */
#ifndef SKS_ACCOUNT_H
#define SKS_ACCOUNT_H

#include <acme/client.h>
#include <hsm/key.h>
#include <hsm/status.h>
#include <hsm/token.h>
#include <sks/catalogue.h>
#include <sks/tokens.h>

struct sks_account_config {
    struct sks_catalogue *catalogue;
    struct hsm_token *token;
    const char *token_uri; /* as the catalogue names it; copied */
    const struct sks_tokens *tokens; /* that know by which texts it is named, too; NULL: by this */
    const char *hosted_spc; /* of a provider that is hosted; NULL: that of [sp] */
    struct acme_client_config client; /* all but its account_key */
};

struct sks_account;

/**
 * Find or make the account's key (the first is SKS_ENROLL_ACCOUNT_LABEL, of a hosted provider one
 * of its own), read the CA's directory,
 * finish a key change that was begun. All other pointers are borrowed. The account itself is made
 * when it is needed.
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
 * one when no other CA's account has it. What names the new key is durable before it is made.
 *
 * @retval HSM_ERR_NOT_FOUND  the CA has no account of the present key
 * @return else as acme_client_account_rollover(); where the CA refuses it the present key stays,
 *         else (HSM_ERR_BUSY, or no readable answer) it is finished when the account is opened
 * again
 */
HSM_MUST_CHECK enum hsm_status sks_account_rollover(struct sks_account *account,
                                                    struct hsm_reason *why);

/**
 * Make another account with a new key, where the CA has ended this one (RFC 8555 section 7.1.6),
 * and destroy the old key as above. What was ordered by the old account is lost.
 *
 * @retval HSM_ERR_USAGE  this one is good
 * @return else as acme_client_account()
 */
HSM_MUST_CHECK enum hsm_status sks_account_replace(struct sks_account *account,
                                                   struct hsm_reason *why);

/** NULL is fine. */
void sks_account_close(struct sks_account *account);

#endif
