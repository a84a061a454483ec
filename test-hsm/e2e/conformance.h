/*
 * conformance.h - the rules that test_conformance.c checks.
 */
#ifndef TEST_CONFORMANCE_H
#define TEST_CONFORMANCE_H

#include <stdbool.h>
#include <stddef.h>

#define RULE_HEADERS 3

enum rule_signer {
    BY_ACCOUNT,
    BY_STRANGER, /* another account */
    BY_NEW_KEY, /* a key that has no account */
};

/** A requirement of a section, the request that tests it, and the expected answer. */
struct rule {
    const char *rfc, *section;
    const char *must; /* the request, in words; the rule's name */

    /* A request; or check, with its answer in words. */
    const char *path; /* "@order" and similar stand for the URLs of what the test has made */
    const char *method; /* NULL: a signed POST */
    const char *payload, *content_type, *alg, *url, *nonce, *kid;
    const char *header; /* JSON: members that replace or join those of the protected header */
    enum rule_signer signer;
    bool no_nonce, with_jwk, without_key, break_signature;
    const char *as; /* an account of the STI-PA, or "": sent to the STI-PA; NULL: to the STI-CA */

    int status;
    const char *problem; /* NULL: no refusal */
    const char *headers[RULE_HEADERS]; /* "Name" or "Name: part of its value" */
    const char *member; /* a member that the answer must have */

    void (*configure)(void); /* makes the operator's settings for this rule; NULL: no change */
    void (*check)(void);
    const char *answer;
};

extern const struct rule conformance_rules[];
extern const size_t conformance_rule_count;

void conformance_with_terms(void);
void conformance_with_external_accounts(void);
void conformance_with_keys_for_external_accounts(void);
void conformance_with_limit(void);
void conformance_with_hosted_chains(void);

void conformance_nonce_is_used_once(void);
void conformance_nonce_of_an_answer_is_good(void);
void conformance_rate_is_limited(void);
void conformance_algorithms_are_named(void);
void conformance_unprotected_header_is_refused(void);
void conformance_account_is_found_again(void);
void conformance_orders_are_paged(void);
void conformance_key_changes(void);
void conformance_key_change_to_a_taken_key(void);
void conformance_key_change_of_another_account(void);
void conformance_key_change_for_another_url(void);
void conformance_key_change_with_another_old_key(void);
void conformance_key_change_that_the_new_key_did_not_sign(void);
void conformance_key_change_with_a_nonce_inside(void);
void conformance_key_change_with_a_kid_inside(void);
void conformance_binding_is_accepted(void);
void conformance_binding_by_another_mac_key(void);
void conformance_binding_with_a_nonce(void);
void conformance_binding_for_another_url(void);
void conformance_binding_of_another_account_key(void);
void conformance_binding_by_a_signature(void);
void conformance_deactivated_account_is_done(void);
void conformance_order_names_what_it_is_for(void);
void conformance_validity_within_the_issuers(void);
void conformance_csr_of_other_identifiers(void);
void conformance_csr_of_the_account_key(void);
void conformance_csr_for_a_ca(void);
void conformance_finalized_order_has_a_certificate(void);
void conformance_chain_is_leaf_first_and_pem_alone(void);
void conformance_authorization_has_its_members(void);
void conformance_deactivated_authorization_ends_its_order(void);
void conformance_token_is_accepted(void);
void conformance_token_as_deployed_is_accepted(void);
void conformance_token_that_is_none(void);
void conformance_token_of_another_code(void);
void conformance_token_of_another_account(void);
void conformance_token_that_has_expired(void);
void conformance_token_of_another_signer(void);
void conformance_token_of_an_unknown_authority(void);
void conformance_token_whose_signer_is_not_to_be_had(void);
void conformance_token_of_another_type(void);
void conformance_token_without_expiry(void);
void conformance_token_with_its_signers_certificate(void);
void conformance_token_with_x5u_and_x5c(void);
void conformance_token_without_identifier(void);
void conformance_token_without_fingerprint(void);
void conformance_answer_of_both_members(void);
void conformance_token_for_a_ca_wants_a_ca_csr(void);
void conformance_certificate_is_revoked_once(void);
void conformance_certificate_is_revoked_by_its_key(void);
void conformance_certificate_is_revoked_by_who_is_authorized(void);
void conformance_certificate_of_another_ca_is_not_revoked(void);
void conformance_stranger_does_not_revoke(void);
void conformance_reason_is_one_of_the_list(void);
void conformance_renewal_window_has_a_length(void);
void conformance_certificate_is_replaced_once(void);

/* conformance_pa.c: the STI-PA on the same server as the STI-CA. */

struct ca_fixture;
struct got;

void conformance_pa_start(struct ca_fixture *ca);
void conformance_pa_stop(void);
/** Send a request to the STI-PA as the account `as`; "": without credentials. */
void conformance_pa_ask(const char *as, const char *method, const char *path,
                        const char *content_type, const char *payload, struct got *got);

void conformance_pa_token_is_good(void);
void conformance_pa_token_has_the_bare_form(void);
void conformance_pa_token_keeps_the_alphabet(void);
void conformance_pa_jti_is_new_and_recorded(void);
void conformance_pa_token_ends_when_policy_says(void);
void conformance_pa_ca_flag_is_as_asked_for(void);
void conformance_pa_signer_is_where_x5u_says(void);
void conformance_pa_tokens_are_limited(void);

#endif
