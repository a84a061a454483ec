/* issue_group.c - one certificate of each profile, which tests share. */
#include "issue_group.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "peer_cert.h"
#include "softhsm.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct hsm_token *token;
struct hsm_key *keys[PROFILES];
X509 *issued[PROFILES];
struct certs_tnauthlist *spc_1234;
struct certs_tnauthlist *delegated;
static struct certs_tnauthlist *numbers; /* of the certificates for numbers, within `delegated` */
struct certs_constraints *constraints;
X509 *next_root;

const char *const server_dns[] = {"sti-ca.example", "localhost", NULL};
static const char *const server_ip[] = {"127.0.0.1", "::1", NULL};

struct certs_issue_request
good_request(enum certs_profile profile)
{
    static const char *const names[PROFILES] = {
        [CERTS_PROFILE_STI_ROOT] = "Test SHAKEN Root",
        [CERTS_PROFILE_STI_INTERMEDIATE] = "Test SHAKEN Intermediate",
        [CERTS_PROFILE_STI_END_ENTITY] = "SHAKEN 1234",
        [CERTS_PROFILE_STI_CROSS] = NULL,
        [CERTS_PROFILE_TN_END_ENTITY] = "Test School District",
        [CERTS_PROFILE_DELEGATE_CA] = "Test Delegate CA",
        [CERTS_PROFILE_DELEGATE_END_ENTITY] = "Test Customer",
        [CERTS_PROFILE_PA_ROOT] = "STI-PA Root Certificate",
        [CERTS_PROFILE_PA_SIGNER] = "STI-PA Token Signer",
        [CERTS_PROFILE_PA_CRL_SIGNER] = "STI-PA CRL",
        [CERTS_PROFILE_TLS_ROOT] = "Test TLS",
        [CERTS_PROFILE_TLS_SERVER] = "sti-ca.example",
        [CERTS_PROFILE_TLS_CLIENT] = "sp-kms",
    };
    bool is_cross = profile == CERTS_PROFILE_STI_CROSS;
    bool is_sti = is_cross || profile == CERTS_PROFILE_STI_INTERMEDIATE ||
                  profile == CERTS_PROFILE_STI_END_ENTITY;
    bool is_of_numbers =
        profile == CERTS_PROFILE_TN_END_ENTITY || profile == CERTS_PROFILE_DELEGATE_END_ENTITY;
    bool is_server = profile == CERTS_PROFILE_TLS_SERVER;

    return (struct certs_issue_request){
        .profile = profile,
        .subject = {.country = is_cross ? NULL : "US",
                    .organization = is_cross ? NULL : "Tést Telecom",
                    .common_name = names[profile]},
        .public_key = is_cross ? NULL : hsm_key_public(keys[profile]),
        .subject_cert = is_cross ? next_root : NULL,
        .serial = {0x00, 0x80, 1, 2, 3, 4, 5, 6, 7, (uint8_t)profile},
        .serial_len = 10,
        .not_before = DATA_NOW,
        .not_after = DATA_NOW + 90 * A_DAY,
        .tnauthlist = profile == CERTS_PROFILE_STI_END_ENTITY ? spc_1234
                      : profile == CERTS_PROFILE_DELEGATE_CA  ? delegated
                      : is_of_numbers                         ? numbers
                                                              : NULL,
        .constraints = is_of_numbers ? constraints : NULL,
        .policy_oid = is_sti ? CERTS_POLICY_CP_1_4 : NULL,
        .crl_url = is_sti ? CRL_URL : NULL,
        .crl_issuer = is_sti ? certs_cert_subject_name(issued[CERTS_PROFILE_PA_CRL_SIGNER]) : NULL,
        .dns_names = is_server ? server_dns : NULL,
        .ip_addresses = is_server ? server_ip : NULL,
    };
}

enum certs_profile
issuer_of(enum certs_profile profile)
{
    switch (profile) {
    case CERTS_PROFILE_STI_INTERMEDIATE:
    case CERTS_PROFILE_STI_CROSS:
        return CERTS_PROFILE_STI_ROOT;
    case CERTS_PROFILE_STI_END_ENTITY:
    case CERTS_PROFILE_TN_END_ENTITY:
    case CERTS_PROFILE_DELEGATE_CA:
        return CERTS_PROFILE_STI_INTERMEDIATE;
    case CERTS_PROFILE_DELEGATE_END_ENTITY:
        return CERTS_PROFILE_DELEGATE_CA;
    case CERTS_PROFILE_PA_SIGNER:
    case CERTS_PROFILE_PA_CRL_SIGNER:
        return CERTS_PROFILE_PA_ROOT;
    case CERTS_PROFILE_TLS_SERVER:
    case CERTS_PROFILE_TLS_CLIENT:
        return CERTS_PROFILE_TLS_ROOT;
    default:
        return profile; /* a root */
    }
}

enum hsm_status
issue(const struct certs_issue_request *request, X509 **out, struct hsm_reason *why)
{
    enum certs_profile issuer = issuer_of(request->profile);

    return certs_issue(request, issuer == request->profile ? NULL : issued[issuer], keys[issuer],
                       out, why);
}

static void
make(enum certs_profile profile)
{
    struct certs_issue_request request = good_request(profile);
    struct hsm_reason why = {0};

    if (issue(&request, &issued[profile], &why) != HSM_OK)
        peer_must(false, why.text);
}

/* The CA's next root, which the present root certifies. */
static void
make_next_root(void)
{
    struct certs_issue_request request = good_request(CERTS_PROFILE_STI_ROOT);

    request.subject.common_name = "Test SHAKEN Root G2";
    request.public_key = hsm_key_public(keys[CERTS_PROFILE_STI_CROSS]);
    peer_must(certs_issue(&request, NULL, keys[CERTS_PROFILE_STI_CROSS], &next_root, NULL) ==
                  HSM_OK,
              "next root");
}

static void
make_lists(void)
{
    static const struct certs_tn_entry delegated_entries[] = {{CERTS_TN_SPC, "1234", 0},
                                                              {CERTS_TN_RANGE, "12155550100", 100}};
    static const struct certs_tn_entry number_entries[] = {{CERTS_TN_ONE, "12155550199", 1},
                                                           {CERTS_TN_RANGE, "12155550110", 10}};
    static const char *const attest[] = {"A", "B", NULL};
    static const struct certs_permitted_values permitted[] = {{"attest", attest}, {NULL, NULL}};

    peer_must(certs_tnauthlist_from_spc("1234", &spc_1234) == HSM_OK, "SPC");
    peer_must(certs_tnauthlist_new(delegated_entries, COUNT(delegated_entries), &delegated, NULL) ==
                  HSM_OK,
              "delegated");
    peer_must(certs_tnauthlist_new(number_entries, COUNT(number_entries), &numbers, NULL) == HSM_OK,
              "numbers");
    peer_must(
        certs_constraints_new(CERTS_CONSTRAINTS_JWT,
                              &(struct certs_claim_constraints){.permitted_values = permitted},
                              &constraints, NULL) == HSM_OK,
        "constraints");
}

int
issue_group_start(void **state)
{
    (void)state;
    softhsm_start();
    token = softhsm_token("issue");
    make_lists();
    for (int i = 0; i < PROFILES; i++)
        peer_must(hsm_key_generate(token, certs_profile_text((enum certs_profile)i), &keys[i]) ==
                      HSM_OK,
                  "key");
    make(CERTS_PROFILE_PA_ROOT);
    make(CERTS_PROFILE_PA_SIGNER);
    make(CERTS_PROFILE_PA_CRL_SIGNER);
    make(CERTS_PROFILE_STI_ROOT);
    make(CERTS_PROFILE_STI_INTERMEDIATE);
    make(CERTS_PROFILE_STI_END_ENTITY);
    make_next_root();
    make(CERTS_PROFILE_STI_CROSS);
    make(CERTS_PROFILE_TN_END_ENTITY);
    make(CERTS_PROFILE_DELEGATE_CA);
    make(CERTS_PROFILE_DELEGATE_END_ENTITY);
    make(CERTS_PROFILE_TLS_ROOT);
    make(CERTS_PROFILE_TLS_SERVER);
    make(CERTS_PROFILE_TLS_CLIENT);
    return 0;
}

int
issue_group_stop(void **state)
{
    (void)state;
    for (int i = 0; i < PROFILES; i++) {
        X509_free(issued[i]);
        hsm_key_free(keys[i]);
    }
    X509_free(next_root);
    certs_constraints_free(constraints);
    certs_tnauthlist_free(numbers);
    certs_tnauthlist_free(delegated);
    certs_tnauthlist_free(spc_1234);
    hsm_token_close(token);
    softhsm_stop();
    return 0;
}
