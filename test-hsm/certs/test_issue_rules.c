/* test_issue_rules.c - mirrors certs/src/issue.c and profile.c: the rules of the profiles, which a
 * request must obey. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <certs/issue.h>

#include "issue_group.h"
#include "peer_cert.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* -- refusals -- */

typedef void break_rule(struct certs_issue_request *request);

static struct certs_tnauthlist *broken_list; /* of the current case */
static EVP_PKEY *p384;

static void
set_list(struct certs_issue_request *request, const struct certs_tn_entry *entries, size_t count)
{
    peer_must(certs_tnauthlist_new(entries, count, &broken_list, NULL) == HSM_OK, "list");
    request->tnauthlist = broken_list;
}

static void
zero_serial(struct certs_issue_request *r)
{
    memset(r->serial, 0, sizeof(r->serial));
}

static void
no_serial(struct certs_issue_request *r)
{
    r->serial_len = 0;
}

static void
serial_of_56_bits(struct certs_issue_request *r)
{
    r->serial_len = 7;
}

static void
serial_of_21_octets(struct certs_issue_request *r)
{
    r->serial_len = CERTS_SERIAL_MAX + 1;
}

static void
negative_serial(struct certs_issue_request *r)
{
    r->serial[0] = 0x80;
}

static void
no_cn(struct certs_issue_request *r)
{
    r->subject.common_name = NULL;
}

static void
no_c(struct certs_issue_request *r)
{
    r->subject.country = NULL;
}

static void
no_o(struct certs_issue_request *r)
{
    r->subject.organization = NULL;
}

static void
small_c(struct certs_issue_request *r)
{
    r->subject.country = "us";
}

static void
cn_without_shaken(struct certs_issue_request *r)
{
    r->subject.common_name = "Shaken Root";
}

static void
cn_without_root(struct certs_issue_request *r)
{
    r->subject.common_name = "Test SHAKEN CA";
}

static void
cn_of_another_spc(struct certs_issue_request *r)
{
    r->subject.common_name = "SHAKEN 1235";
}

static void
cn_with_two_blanks(struct certs_issue_request *r)
{
    r->subject.common_name = "SHAKEN  1234";
}

static void
cn_with_more(struct certs_issue_request *r)
{
    r->subject.common_name = "SHAKEN 1234 Inc.";
}

static void
cn_of_the_spc_alone(struct certs_issue_request *r)
{
    r->subject.common_name = "1234";
}

static void
no_tnauthlist(struct certs_issue_request *r)
{
    r->tnauthlist = NULL;
}

static void
a_tnauthlist(struct certs_issue_request *r)
{
    r->tnauthlist = spc_1234;
}

static void
two_spcs(struct certs_issue_request *r)
{
    set_list(r, (struct certs_tn_entry[]){{CERTS_TN_SPC, "1234", 0}, {CERTS_TN_SPC, "5678", 0}}, 2);
}

static void
a_number(struct certs_issue_request *r)
{
    set_list(r, &(struct certs_tn_entry){CERTS_TN_ONE, "1234", 1}, 1);
}

static void
small_spc(struct certs_issue_request *r)
{
    set_list(r, &(struct certs_tn_entry){CERTS_TN_SPC, "818h", 0}, 1);
    r->subject.common_name = "SHAKEN 818h";
}

static void
no_list(struct certs_issue_request *r)
{
    r->tnauthlist = NULL;
}

static void
list_in_the_clear(struct certs_issue_request *r)
{
    r->tnauthlist_url = "http://sti-ca.example/numbers";
}

static void
list_at_no_host(struct certs_issue_request *r)
{
    r->tnauthlist_url = "https:///numbers";
}

static void
list_elsewhere(struct certs_issue_request *r)
{
    r->tnauthlist_url = "https://sti-ca.example/numbers";
}

static void
claim_constraints(struct certs_issue_request *r)
{
    r->constraints = constraints;
}

static void
another_spc(struct certs_issue_request *r)
{
    set_list(r, &(struct certs_tn_entry){CERTS_TN_SPC, "5678", 0}, 1);
    r->subject.common_name = "SHAKEN 5678";
    r->numbers_under_spc = true;
}

static void
another_number(struct certs_issue_request *r)
{
    set_list(r, &(struct certs_tn_entry){CERTS_TN_ONE, "12155550200", 1}, 1);
}

static void
a_range_that_begins_outside(struct certs_issue_request *r)
{
    set_list(r, &(struct certs_tn_entry){CERTS_TN_RANGE, "12155550099", 20}, 1);
}

static void
a_list_that_is_elsewhere(struct certs_issue_request *r)
{
    another_number(r);
    list_elsewhere(r);
}

static void
a_path_length(struct certs_issue_request *r)
{
    r->has_path_len = true;
}

static void
a_long_path(struct certs_issue_request *r)
{
    r->has_path_len = true;
    r->path_len = 17;
}

static void
no_root_to_certify(struct certs_issue_request *r)
{
    r->subject_cert = NULL;
}

static void
a_root_to_certify(struct certs_issue_request *r)
{
    r->subject_cert = next_root;
}

static void
a_name_beside_the_root(struct certs_issue_request *r)
{
    r->subject.common_name = "Test SHAKEN Root G3";
}

static void
a_key_beside_the_root(struct certs_issue_request *r)
{
    r->public_key = hsm_key_public(keys[CERTS_PROFILE_TLS_CLIENT]);
}

static void
an_intermediate_to_certify(struct certs_issue_request *r)
{
    r->subject_cert = issued[CERTS_PROFILE_STI_INTERMEDIATE];
}

static void
an_end_entity_to_certify(struct certs_issue_request *r)
{
    r->subject_cert = issued[CERTS_PROFILE_STI_END_ENTITY];
}

static void
the_issuer_itself_to_certify(struct certs_issue_request *r)
{
    r->subject_cert = issued[CERTS_PROFILE_STI_ROOT];
}

static void
a_root_that_is_not_of_shaken(struct certs_issue_request *r)
{
    r->subject_cert = issued[CERTS_PROFILE_PA_ROOT];
}

static void
crl_url_alone(struct certs_issue_request *r)
{
    r->crl_url = CRL_URL;
}

static void
no_policy(struct certs_issue_request *r)
{
    r->policy_oid = NULL;
}

static void
policy_that_is_no_oid(struct certs_issue_request *r)
{
    r->policy_oid = "CP 1.4";
}

static void
policy_of_others(struct certs_issue_request *r)
{
    r->policy_oid = "1.2.3.4";
}

static void
country_of_others(struct certs_issue_request *r)
{
    r->subject.country = "CA";
}

static void
country_of_nobody(struct certs_issue_request *r)
{
    r->subject.country = "ZZ";
}

static void
serial_of_63_bits(struct certs_issue_request *r)
{
    memcpy(r->serial, "\x7f\xff\xff\xff\xff\xff\xff\xff", 8);
    r->serial_len = 8;
}

static void
a_policy(struct certs_issue_request *r)
{
    r->policy_oid = CERTS_POLICY_CP_1_4;
}

static void
no_crl_url(struct certs_issue_request *r)
{
    r->crl_url = NULL;
}

static void
crl_in_a_file(struct certs_issue_request *r)
{
    r->crl_url = "file:///crl.pem";
}

static void
crl_url_with_a_blank(struct certs_issue_request *r)
{
    r->crl_url = "https://sti-pa.example/the crl";
}

static void
a_crl_url(struct certs_issue_request *r)
{
    r->crl_url = CRL_URL;
}

static void
no_crl_issuer(struct certs_issue_request *r)
{
    r->crl_issuer = NULL;
}

static void
no_alt_names(struct certs_issue_request *r)
{
    r->dns_names = NULL;
    r->ip_addresses = NULL;
}

static void
alt_names(struct certs_issue_request *r)
{
    r->dns_names = server_dns;
}

static void
key_on_p384(struct certs_issue_request *r)
{
    r->public_key = p384;
}

static void
no_key(struct certs_issue_request *r)
{
    r->public_key = NULL;
}

static void
ends_before_it_begins(struct certs_issue_request *r)
{
    r->not_after = r->not_before;
}

static void
begins_before_its_issuer(struct certs_issue_request *r)
{
    r->not_before = DATA_NOW - 1;
}

static void
ends_after_its_issuer(struct certs_issue_request *r)
{
    r->not_after = DATA_NOW + 90 * A_DAY + 1;
}

static void
key_of_another(struct certs_issue_request *r)
{
    r->public_key = hsm_key_public(keys[CERTS_PROFILE_TLS_CLIENT]);
}

static void
unknown_profile(struct certs_issue_request *r)
{
    r->profile = (enum certs_profile)PROFILES;
}

#define EE CERTS_PROFILE_STI_END_ENTITY

#define TN  CERTS_PROFILE_TN_END_ENTITY
#define DCA CERTS_PROFILE_DELEGATE_CA
#define DEE CERTS_PROFILE_DELEGATE_END_ENTITY

static const struct {
    enum certs_profile profile;
    break_rule *break_it;
    enum hsm_status wanted;
    const char *reason;
} refusals[] = {
    {EE, zero_serial, HSM_ERR_USAGE, "shortest form"},
    {EE, no_serial, HSM_ERR_USAGE, "8 to 20 octets"},
    {EE, serial_of_56_bits, HSM_ERR_USAGE, "8 to 20 octets"},
    {EE, serial_of_21_octets, HSM_ERR_USAGE, "8 to 20 octets"},
    {EE, negative_serial, HSM_ERR_USAGE, "positive"},
    {EE, no_cn, HSM_ERR_USAGE, "CN"},
    {EE, no_c, HSM_ERR_USAGE, "a C and an O"},
    {EE, no_o, HSM_ERR_USAGE, "a C and an O"},
    {EE, small_c, HSM_ERR_USAGE, "country"},
    {ROOT, cn_without_shaken, HSM_ERR_USAGE, "SHAKEN"},
    {ROOT, cn_without_root, HSM_ERR_USAGE, "ROOT"},
    {INT, cn_without_shaken, HSM_ERR_USAGE, "SHAKEN"},
    {EE, cn_of_another_spc, HSM_ERR_USAGE, "SHAKEN <SPC>"},
    {EE, cn_with_two_blanks, HSM_ERR_USAGE, "SHAKEN <SPC>"},
    {EE, cn_with_more, HSM_ERR_USAGE, "SHAKEN <SPC>"},
    {EE, cn_of_the_spc_alone, HSM_ERR_USAGE, "SHAKEN <SPC>"},
    {EE, no_tnauthlist, HSM_ERR_USAGE, "exactly one SPC"},
    {EE, two_spcs, HSM_ERR_USAGE, "exactly one SPC"},
    {EE, a_number, HSM_ERR_USAGE, "exactly one SPC"},
    {EE, small_spc, HSM_ERR_USAGE, "upper-case"},
    {INT, a_tnauthlist, HSM_ERR_USAGE, "must not have a TNAuthList"},
    {ROOT, a_tnauthlist, HSM_ERR_USAGE, "must not have a TNAuthList"},
    {EE, no_policy, HSM_ERR_USAGE, "policy"},
    {EE, policy_that_is_no_oid, HSM_ERR_USAGE, "object identifier"},
    {EE, policy_of_others, HSM_ERR_USAGE, "ee.certificate-policies.shaken"},
    {INT, policy_of_others, HSM_ERR_USAGE, "intermediate.certificate-policies.shaken"},
    {EE, country_of_others, HSM_ERR_USAGE, "ee.subject.c.us"},
    {ROOT, country_of_nobody, HSM_ERR_USAGE, "ca.subject.c.assigned"},
    {EE, serial_of_63_bits, HSM_ERR_USAGE, "ee.serial-number.64-bits"},
    {INT, no_policy, HSM_ERR_USAGE, "policy"},
    {ROOT, a_policy, HSM_ERR_USAGE, "must not have a certificate policy"},
    {EE, no_crl_url, HSM_ERR_USAGE, "URL of the CRL"},
    {EE, crl_in_a_file, HSM_ERR_USAGE, "URL of the CRL"},
    {EE, crl_url_with_a_blank, HSM_ERR_USAGE, "URL of the CRL"},
    {INT, no_crl_url, HSM_ERR_USAGE, "URL of the CRL"},
    {ROOT, a_crl_url, HSM_ERR_USAGE, "must not have a CRL"},
    {EE, no_crl_issuer, HSM_ERR_USAGE, "CRL issuer"},
    {EE, alt_names, HSM_ERR_USAGE, "must not have DNS names"},
    {CERTS_PROFILE_TLS_SERVER, no_alt_names, HSM_ERR_USAGE, "must have a DNS name"},
    {CERTS_PROFILE_PA_SIGNER, no_o, HSM_ERR_USAGE, "a C and an O"},
    {EE, key_on_p384, HSM_ERR_USAGE, "P-256"},
    {INT, key_on_p384, HSM_ERR_USAGE, "P-256"},
    {EE, no_key, HSM_ERR_USAGE, "P-256"},
    {EE, ends_before_it_begins, HSM_ERR_USAGE, "notBefore"},
    {EE, begins_before_its_issuer, HSM_ERR_UNTRUSTED, "not valid for all"},
    {EE, ends_after_its_issuer, HSM_ERR_UNTRUSTED, "not valid for all"},
    {ROOT, key_of_another, HSM_ERR_UNTRUSTED, "not the signing key"},
    {ROOT, unknown_profile, HSM_ERR_USAGE, "unknown profile"},
    {ROOT, a_root_to_certify, HSM_ERR_USAGE, "does not certify another root"},
    {EE, a_root_to_certify, HSM_ERR_USAGE, "does not certify another root"},
    {EE, list_elsewhere, HSM_ERR_USAGE, "must not have its TNAuthList elsewhere"},
    {EE, claim_constraints, HSM_ERR_USAGE, "must not have claim constraints"},
    {EE, a_path_length, HSM_ERR_USAGE, "no CA"},
    {INT, a_long_path, HSM_ERR_USAGE, "too large"},
    {X, no_root_to_certify, HSM_ERR_USAGE, "no others"},
    {X, a_name_beside_the_root, HSM_ERR_USAGE, "no others"},
    {X, a_key_beside_the_root, HSM_ERR_USAGE, "no others"},
    {X, an_intermediate_to_certify, HSM_ERR_USAGE, "signed itself"},
    {X, an_end_entity_to_certify, HSM_ERR_USAGE, "signed itself"},
    {X, a_root_that_is_not_of_shaken, HSM_ERR_USAGE, "SHAKEN"},
    {X, the_issuer_itself_to_certify, HSM_ERR_UNTRUSTED, "is the issuer"},
    {X, begins_before_its_issuer, HSM_ERR_USAGE, "not valid for all of that time"},
    {X, ends_after_its_issuer, HSM_ERR_USAGE, "not valid for all of that time"},
    {X, no_policy, HSM_ERR_USAGE, "policy"},
    {X, no_crl_url, HSM_ERR_USAGE, "URL of the CRL"},
    {X, a_tnauthlist, HSM_ERR_USAGE, "must not have a TNAuthList"},
    {TN, no_list, HSM_ERR_USAGE, "must have a TNAuthList"},
    {TN, list_in_the_clear, HSM_ERR_USAGE, "HTTPS"},
    {TN, list_at_no_host, HSM_ERR_USAGE, "HTTPS"},
    {TN, crl_url_alone, HSM_ERR_USAGE, "CRL issuer"},
    {TN, no_o, HSM_ERR_USAGE, "a C and an O"},
    {DCA, no_list, HSM_ERR_USAGE, "must have a TNAuthList"},
    {DCA, list_elsewhere, HSM_ERR_USAGE, "must not have its TNAuthList elsewhere"},
    {DCA, claim_constraints, HSM_ERR_USAGE, "must not have claim constraints"},
    {DEE, no_list, HSM_ERR_USAGE, "must have a TNAuthList"},
    {DEE, another_spc, HSM_ERR_UNTRUSTED, "not encompassed"},
    {DEE, another_number, HSM_ERR_UNTRUSTED, "numbering data"},
    {DEE, a_range_that_begins_outside, HSM_ERR_UNTRUSTED, "numbering data"},
    {DEE, a_list_that_is_elsewhere, HSM_ERR_UNTRUSTED, "numbering data"},
};

static void
each_broken_rule_is_refused(void **state)
{
    (void)state;
    p384 = peer_key_new("P-384");
    for (size_t i = 0; i < COUNT(refusals); i++) {
        struct certs_issue_request request = good_request(refusals[i].profile);
        enum certs_profile issuer = issuer_of(refusals[i].profile);
        struct hsm_reason why = {0};
        X509 *cert = NULL;
        enum hsm_status st;

        refusals[i].break_it(&request);
        st = certs_issue(&request, issuer == refusals[i].profile ? NULL : issued[issuer],
                         keys[issuer], &cert, &why);
        if (st != refusals[i].wanted || strstr(why.text, refusals[i].reason) == NULL)
            fail_msg("%zu (%s): %s: %s", i, refusals[i].reason, hsm_status_text(st), why.text);
        assert_null(cert);
        certs_tnauthlist_free(broken_list);
        broken_list = NULL;
    }
    EVP_PKEY_free(p384);
}

/* The policy of another country applies; ATIS-1000080 remains the same. */
static void
the_rules_of_the_united_states_bind_no_certificate_under_the_french_policy(void **state)
{
    struct certs_issue_request request = good_request(EE);
    struct hsm_reason why = {0};
    X509 *cert = NULL;

    (void)state;
    request.policy_oid = "1.2.250.1.695.1.1.1.1";
    request.subject.country = "FR";
    if (issue(&request, &cert, &why) != HSM_OK)
        fail_msg("%s", why.text);
    X509_free(cert);
    cert = NULL;
    request.subject.country = "ZZ";
    assert_int_equal(issue(&request, &cert, &why), HSM_ERR_USAGE);
    assert_non_null(strstr(why.text, "ee.subject.c.assigned"));
}

static void
a_key_that_is_not_the_issuers_signs_nothing(void **state)
{
    struct certs_issue_request request = good_request(EE);
    X509 *cert = NULL;
    struct hsm_reason why = {0};

    (void)state;
    assert_int_equal(certs_issue(&request, issued[INT], keys[ROOT], &cert, &why),
                     HSM_ERR_UNTRUSTED);
    assert_non_null(strstr(why.text, "not that of the issuing certificate"));
    assert_null(cert);
}

static void
only_a_ca_issues_and_only_a_root_signs_itself(void **state)
{
    struct certs_issue_request request = good_request(EE);
    X509 *cert = NULL;

    (void)state;
    assert_int_equal(certs_issue(&request, issued[EE], keys[EE], &cert, NULL), HSM_ERR_UNTRUSTED);
    assert_int_equal(certs_issue(&request, NULL, keys[EE], &cert, NULL), HSM_ERR_USAGE);
    request = good_request(ROOT);
    assert_int_equal(certs_issue(&request, issued[INT], keys[INT], &cert, NULL), HSM_ERR_USAGE);
    assert_null(cert);
}

/* Issuing certificates made by others, with a path length and without a key identifier. */
static void
an_issuing_certificate_is_held_to_its_own_limits(void **state)
{
    static const struct peer_ext no_ca_below[] = {
        {"basicConstraints", "critical,CA:TRUE,pathlen:0"},
        {"keyUsage", "critical,keyCertSign"},
        {"subjectKeyIdentifier", "hash"},
        {NULL, NULL}};
    static const struct peer_ext no_ski[] = {{"basicConstraints", "critical,CA:TRUE"},
                                             {"keyUsage", "critical,keyCertSign"},
                                             {NULL, NULL}};
    EVP_PKEY *peer = peer_key_new("P-256");
    struct peer_spec spec = {.cn = "SHAKEN",
                             .key = hsm_key_public(keys[ROOT]),
                             .issuer_key = peer,
                             .not_before = DATA_NOW - A_DAY,
                             .not_after = DATA_NOW + 365 * A_DAY,
                             .exts = no_ca_below};
    struct certs_issue_request request = good_request(INT);
    struct hsm_reason why = {0};
    X509 *issuer = peer_cert(&spec);
    X509 *cert = NULL;

    (void)state;
    assert_int_equal(certs_issue(&request, issuer, keys[ROOT], &cert, &why), HSM_ERR_UNTRUSTED);
    assert_non_null(strstr(why.text, "pathLenConstraint"));
    request = good_request(EE);
    assert_int_equal(certs_issue(&request, issuer, keys[ROOT], &cert, &why), HSM_OK);
    X509_free(cert);
    cert = NULL;
    X509_free(issuer);
    spec.exts = no_ski;
    issuer = peer_cert(&spec);
    assert_int_equal(certs_issue(&request, issuer, keys[ROOT], &cert, &why), HSM_ERR_UNTRUSTED);
    assert_non_null(strstr(why.text, "key identifier"));
    assert_null(cert);
    X509_free(issuer);
    EVP_PKEY_free(peer);
}

/* -- RFC 9060 -- */

/* Issue with the delegate CA, in any profile. */
static enum hsm_status
delegate(const struct certs_issue_request *request, struct hsm_reason *why)
{
    X509 *cert = NULL;
    enum hsm_status st = certs_issue(request, issued[DCA], keys[DCA], &cert, why);

    X509_free(cert);
    return st;
}

static void
a_delegate_ca_hands_on_what_it_has(void **state)
{
    struct certs_issue_request request = good_request(DEE);
    struct hsm_reason why = {0};

    (void)state;
    request.tnauthlist = delegated; /* the whole of it */
    assert_int_equal(delegate(&request, &why), HSM_OK);
    request = good_request(DCA); /* also for another CA */
    assert_int_equal(delegate(&request, &why), HSM_OK);
    request = good_request(TN);
    assert_int_equal(delegate(&request, &why), HSM_OK);
    request = good_request(EE);
    assert_int_equal(delegate(&request, &why), HSM_OK);
    another_spc(&request);
    assert_int_equal(delegate(&request, &why), HSM_ERR_UNTRUSTED);
    certs_tnauthlist_free(broken_list);
    broken_list = NULL;
}

static void
numbers_of_an_spc_are_for_the_caller_to_know(void **state)
{
    struct certs_issue_request request = good_request(DEE);
    struct hsm_reason why = {0};

    (void)state;
    another_number(&request);
    assert_int_equal(delegate(&request, &why), HSM_ERR_UNTRUSTED);
    request.numbers_under_spc = true;
    assert_int_equal(delegate(&request, &why), HSM_OK);
    certs_tnauthlist_free(broken_list);
    broken_list = NULL;
}

static void
below_a_delegate_ca_nobody_is_without_a_list(void **state)
{
    static const enum certs_profile without[] = {INT, X, CERTS_PROFILE_PA_SIGNER,
                                                 CERTS_PROFILE_TLS_CLIENT};

    (void)state;
    for (size_t i = 0; i < COUNT(without); i++) {
        struct certs_issue_request request = good_request(without[i]);
        struct hsm_reason why = {0};

        assert_int_equal(delegate(&request, &why), HSM_ERR_UNTRUSTED);
        assert_non_null(strstr(why.text, "each one has its own"));
    }
}

static void
a_delegates_issuer_is_a_delegate_ca(void **state)
{
    struct certs_issue_request request = good_request(DEE);
    struct hsm_reason why = {0};
    X509 *cert = NULL;

    (void)state;
    assert_int_equal(certs_issue(&request, issued[INT], keys[INT], &cert, &why), HSM_ERR_UNTRUSTED);
    assert_non_null(strstr(why.text, "not a delegate CA's"));
    assert_null(cert);
}

static const struct {
    struct peer_ext list; /* the issuer's TNAuthList extension */
    enum certs_profile profile;
    const char *reason; /* NULL: made */
} unreadable_lists[] = {
    {{"1.3.6.1.5.5.7.1.26", "DER:3000"}, DEE, "TNAuthList: no entry"},
    {{"authorityInfoAccess", "1.3.6.1.5.5.7.48.14;URI:https://sp.example/numbers"},
     DEE,
     "its TNAuthList is elsewhere"},
    {{"authorityInfoAccess", "1.3.6.1.5.5.7.48.14;URI:https://sp.example/numbers"},
     TN,
     "its TNAuthList is elsewhere"},
    {{"authorityInfoAccess", "caIssuers;URI:http://ca.example/root.crt"}, TN, NULL},
};

/* RFC 9060 section 4.1: a list by reference limits in the same way as one by value. */
static void
an_issuer_whose_list_cannot_be_read_issues_nothing(void **state)
{
    EVP_PKEY *peer = peer_key_new("P-256");

    (void)state;
    for (size_t i = 0; i < COUNT(unreadable_lists); i++) {
        const struct peer_ext exts[] = {{"basicConstraints", "critical,CA:TRUE"},
                                        {"keyUsage", "critical,keyCertSign"},
                                        {"subjectKeyIdentifier", "hash"},
                                        unreadable_lists[i].list,
                                        {NULL, NULL}};
        X509 *issuer = peer_cert(&(struct peer_spec){.cn = "SHAKEN",
                                                     .key = hsm_key_public(keys[DCA]),
                                                     .issuer_key = peer,
                                                     .not_before = DATA_NOW - A_DAY,
                                                     .not_after = DATA_NOW + 365 * A_DAY,
                                                     .exts = exts});
        struct certs_issue_request request = good_request(unreadable_lists[i].profile);
        const char *reason = unreadable_lists[i].reason;
        struct hsm_reason why = {0};
        X509 *cert = NULL;
        enum hsm_status st = certs_issue(&request, issuer, keys[DCA], &cert, &why);

        if (st != (reason == NULL ? HSM_OK : HSM_ERR_UNTRUSTED) ||
            (reason != NULL && strstr(why.text, reason) == NULL) ||
            (cert == NULL) != (reason != NULL))
            fail_msg("%zu: %s: %s", i, hsm_status_text(st), why.text);
        X509_free(cert);
        X509_free(issuer);
    }
    EVP_PKEY_free(peer);
}

/* RFC 8226 section 10.1: the access method and the URL; the certificate itself has no list. */
static void
a_list_by_reference_is_an_access_description(void **state)
{
    static const uint8_t wanted[] =
        "\x30\x2c\x30\x2a\x06\x08\x2b\x06\x01\x05\x05\x07\x30\x0e\x86\x1e"
        "https://sti-ca.example/numbers";
    struct certs_issue_request request = good_request(TN);
    struct certs_tnauthlist *list = NULL;
    struct hsm_reason why = {0};
    X509 *cert = NULL;
    X509_EXTENSION *ext;
    char *url;

    (void)state;
    list_elsewhere(&request);
    request.constraints = NULL;
    assert_int_equal(issue(&request, &cert, &why), HSM_OK);
    assert_int_equal(certs_cert_tnauthlist(cert, &list, NULL), HSM_ERR_NOT_FOUND);
    ext = X509_get_ext(cert, X509_get_ext_by_NID(cert, NID_info_access, -1));
    assert_int_equal(X509_EXTENSION_get_critical(ext), 0);
    assert_int_equal(ASN1_STRING_length(X509_EXTENSION_get_data(ext)), sizeof(wanted) - 1);
    assert_memory_equal(ASN1_STRING_get0_data(X509_EXTENSION_get_data(ext)), wanted,
                        sizeof(wanted) - 1);
    url = certs_cert_tnauthlist_url(cert);
    assert_string_equal(url, "https://sti-ca.example/numbers");
    free(url);
    assert_null(certs_cert_tnauthlist_url(issued[TN]));
    X509_free(cert);
}

/* A delegate's certificates may have a policy and a CRL; those of the STI-CA must. */
static void
policy_and_crl_are_there_where_they_may_be(void **state)
{
    struct certs_issue_request request = good_request(DEE);
    struct hsm_reason why = {0};
    X509 *cert = NULL;
    char *url;

    (void)state;
    request.policy_oid = "1.2.250.1.695.1.1.1.1";
    request.crl_url = CRL_URL;
    request.crl_issuer = certs_cert_subject_name(issued[CERTS_PROFILE_PA_CRL_SIGNER]);
    assert_int_equal(issue(&request, &cert, &why), HSM_OK);
    assert_true(X509_get_ext_by_NID(cert, NID_certificate_policies, -1) >= 0);
    url = certs_cert_crl_url(cert);
    assert_string_equal(url, CRL_URL);
    free(url);
    X509_free(cert);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_broken_rule_is_refused),
        cmocka_unit_test(
            the_rules_of_the_united_states_bind_no_certificate_under_the_french_policy),
        cmocka_unit_test(a_key_that_is_not_the_issuers_signs_nothing),
        cmocka_unit_test(only_a_ca_issues_and_only_a_root_signs_itself),
        cmocka_unit_test(an_issuing_certificate_is_held_to_its_own_limits),
        cmocka_unit_test(a_delegate_ca_hands_on_what_it_has),
        cmocka_unit_test(numbers_of_an_spc_are_for_the_caller_to_know),
        cmocka_unit_test(below_a_delegate_ca_nobody_is_without_a_list),
        cmocka_unit_test(a_delegates_issuer_is_a_delegate_ca),
        cmocka_unit_test(an_issuer_whose_list_cannot_be_read_issues_nothing),
        cmocka_unit_test(a_list_by_reference_is_an_access_description),
        cmocka_unit_test(policy_and_crl_are_there_where_they_may_be),
    };

    return cmocka_run_group_tests(tests, issue_group_start, issue_group_stop);
}
