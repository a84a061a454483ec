/*
 * authority_token.h - the SPC token: an authority token (RFC 9447) of type
 * TNAuthList (RFC 9448 section 5), made by the STI-PA, checked by the STI-CA.
 */
#ifndef ACME_AUTHORITY_TOKEN_H
#define ACME_AUTHORITY_TOKEN_H

#include <stdbool.h>
#include <time.h>

#include <openssl/types.h>

#include <certs/chain.h>
#include <certs/tnauthlist.h>
#include <certs/verdict.h>
#include <hsm/defer.h>
#include <hsm/key.h>
#include <hsm/status.h>

#define ACME_AUTHORITY_TOKEN_MAX 16384 /* characters */

struct acme_authority_token_request {
    const char *iss; /* URL of the authority; NULL: left out */
    const char *x5u; /* HTTPS URL of the signer's certificate chain */
    time_t exp;
    const char *jti; /* unique */
    const char *tkvalue; /* base64 of the TNAuthList as the client sent it */
    const struct certs_tnauthlist
        *tnauthlist; /* used when tkvalue is NULL: base64url without padding */
    bool ca;
    const char *fingerprint; /* of the ACME account key, as the client sent it */
};

/** Make and sign; free() the text. */
HSM_MUST_CHECK enum hsm_status
acme_authority_token_new(const struct acme_authority_token_request *request, struct hsm_key *signer,
                         char **out);

struct acme_authority_token;

/** Parse; nothing in it is trusted before acme_authority_token_check(). */
HSM_MUST_CHECK enum hsm_status acme_authority_token_parse(const char *text,
                                                          struct acme_authority_token **out,
                                                          struct hsm_reason *why);

/** Borrowed from the token. x5u is NULL when the header carries x5c instead. */
const char *acme_authority_token_x5u(const struct acme_authority_token *token);
const char *acme_authority_token_jti(const struct acme_authority_token *token);
time_t acme_authority_token_exp(const struct acme_authority_token *token);
bool acme_authority_token_ca(const struct acme_authority_token *token);
const char *acme_authority_token_iss(const struct acme_authority_token *token); /* NULL: none */
/** The certificates of x5c, leaf first; NULL: none. */
const struct certs_chain *acme_authority_token_x5c(const struct acme_authority_token *token);
const struct certs_tnauthlist *
acme_authority_token_tnauthlist(const struct acme_authority_token *token);
const char *acme_authority_token_fingerprint(const struct acme_authority_token *token);

struct acme_authority_token_policy {
    const struct certs_chain *signer; /* from x5u or x5c, leaf first */
    const struct certs_chain *pa_anchors; /* STI-PA roots */
    struct certs_verdicts *verdicts; /* for CERTS_FOR_PA_SIGNING; NULL: the path is judged anew */
    EVP_PKEY *account_key; /* of the ACME account that responds to the challenge */
    const struct certs_tnauthlist *identifier; /* of the authorization */
    time_t now;
};

/**
 * Make every check of RFC 9448 section 6 that is possible before finalize: signer
 * chained to a PA anchor, alg ES256, signature, tktype, tkvalue equal to the
 * identifier, exp, fingerprint.
 */
HSM_MUST_CHECK enum hsm_status
acme_authority_token_check(const struct acme_authority_token *token,
                           const struct acme_authority_token_policy *policy,
                           struct hsm_reason *why);

void acme_authority_token_free(struct acme_authority_token *token);
DEFINE_DEFER(struct acme_authority_token, acme_authority_token_free)

#endif
