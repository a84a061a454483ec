/* test_authority_rollover.c - mirrors acme/src/authority_publish.c where the keys of an STI-PA
 * change: signers and root, with an overlap in which both anchors are known. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/x509.h>

#include <acme/authority.h>
#include <acme/authority_client.h>
#include <acme/authority_token.h>
#include <acme/ca_list.h>
#include <acme/jwk.h>
#include <acme/provision.h>
#include <certs/crl.h>
#include <certs/tnauthlist.h>
#include <hsm/secret.h>

#include "authority_group.h"
#include "peer.h"
#include "softhsm.h"

#define PASSWORD  "correct horse"
#define CRL_NAME  "pa-crl" /* common name of the CRL's signer, which certificates refer to */
#define CHAIN_MAX 8 /* certificates */

/* The keys and chains of an STI-PA. */
struct generation {
    struct hsm_key *root_key, *signer_key, *crl_key;
    struct certs_chain *root, *signer_chain, *crl_chain;
};

static struct generation second;
static struct certs_chain *both; /* anchors */
static struct certs_tnauthlist *tnauthlist;
static EVP_PKEY *account_key;
static char fingerprint[ACME_FINGERPRINT_LEN + 1];

/* Certify a key with this label and common name; the file is that of the second generation. */
static void
certify(const char *label, const char *common_name, enum certs_profile profile,
        struct hsm_key **key, struct certs_chain **chain)
{
    char path[4200];
    const struct acme_provision_request request = {
        .label = label,
        .certificate = {.profile = profile,
                        .subject = {.country = "US",
                                    .organization = "STI-PA Example",
                                    .common_name = common_name}},
        .valid_days = 3650,
        .issuer = second.root,
        .issuer_key = second.root_key,
        .path = path,
    };

    snprintf(path, sizeof(path), "%s/%s.pem", softhsm_dir(), label);
    assert_int_equal(acme_provision_certificate(pa.token, &request, key, chain), HSM_OK);
}

static void
serve_with(struct hsm_key *signer_key, const struct certs_chain *signer_chain,
           struct hsm_key *crl_key, const struct certs_chain *crl_chain)
{
    struct acme_authority_config config = authority_group_config(NULL);

    config.signer_key = signer_key;
    config.signer_chain = signer_chain;
    config.crl_key = crl_key;
    config.crl_chain = crl_chain;
    acme_authority_free(authority);
    authority = NULL;
    assert_int_equal(acme_authority_new(&config, &authority), HSM_OK);
}

static int
start(void **state)
{
    (void)state;
    authority_group_open();
    certify("pa-root-2", "pa-root-2", CERTS_PROFILE_PA_ROOT, &second.root_key, &second.root);
    certify("pa-signer-2", "pa-signer", CERTS_PROFILE_PA_SIGNER, &second.signer_key,
            &second.signer_chain);
    certify("pa-crl-2", CRL_NAME, CERTS_PROFILE_PA_CRL_SIGNER, &second.crl_key, &second.crl_chain);
    assert_int_equal(certs_chain_new(&both), HSM_OK);
    assert_int_equal(certs_chain_append(both, pa.root), HSM_OK);
    assert_int_equal(certs_chain_append(both, second.root), HSM_OK);

    assert_int_equal(
        authority_group_account("1234", "sp-1234", PASSWORD, (const char *[]){"1234", NULL}, false),
        HSM_OK);
    assert_int_equal(certs_tnauthlist_from_spc("1234", &tnauthlist), HSM_OK);
    account_key = peer_key_new("P-256");
    assert_int_equal(acme_fingerprint_format(account_key, ACME_FINGERPRINT_THUMBPRINT, fingerprint),
                     HSM_OK);
    return 0;
}

static int
stop(void **state)
{
    EVP_PKEY_free(account_key);
    certs_tnauthlist_free(tnauthlist);
    certs_chain_free(both);
    certs_chain_free(second.crl_chain);
    certs_chain_free(second.signer_chain);
    certs_chain_free(second.root);
    hsm_key_free(second.crl_key);
    hsm_key_free(second.signer_key);
    hsm_key_free(second.root_key);
    return authority_group_stop(state);
}

static void
url_of(const char *path, char url[256])
{
    snprintf(url, 256, "%s%s", pa.base_url, path);
}

static char *
get_token(void)
{
    struct hsm_secret *password = NULL;
    struct acme_authority_login login = {
        .http = pa.http, .base_url = pa.base_url, .account_id = "1234", .user = "sp-1234"};
    struct hsm_reason why = {""};
    char *token = NULL;

    assert_int_equal(hsm_secret_new(PASSWORD, strlen(PASSWORD), &password), HSM_OK);
    login.password = password;
    if (acme_authority_fetch_token(&login, tnauthlist, false, fingerprint, &token, &why) != HSM_OK)
        fail_msg("%s", why.text);
    hsm_secret_free(password);
    return token;
}

/* As an STI-CA does, with the chain that the token's x5u serves now. */
static enum hsm_status
check_token(const char *text, const struct certs_chain *anchors)
{
    struct acme_authority_token *token = NULL;
    struct acme_http_reply reply = {0};
    struct certs_chain *signer = NULL;
    struct hsm_reason why = {""};
    struct acme_http_fetch fetch = {.method = "GET", .reply_max = 65536, .timeout_ms = 10000};
    enum hsm_status st;

    assert_int_equal(acme_authority_token_parse(text, &token, &why), HSM_OK);
    fetch.url = acme_authority_token_x5u(token);
    assert_int_equal(acme_http_fetch(pa.http, &fetch, &reply, &why), HSM_OK);
    assert_int_equal(reply.status, 200);
    assert_int_equal(certs_chain_parse_pem(reply.body, reply.body_len, CHAIN_MAX, &signer, &why),
                     HSM_OK);
    st = acme_authority_token_check(token,
                                    &(struct acme_authority_token_policy){
                                        .signer = signer,
                                        .pa_anchors = anchors,
                                        .account_key = account_key,
                                        .identifier = tnauthlist,
                                        .now = time(NULL),
                                    },
                                    &why);
    certs_chain_free(signer);
    acme_http_reply_clear(&reply);
    acme_authority_token_free(token);
    return st;
}

static struct acme_ca_list *
get_list(const struct certs_chain *anchors)
{
    struct acme_ca_list *list = NULL;
    struct hsm_reason why;
    char url[256];

    url_of(ACME_AUTHORITY_CA_LIST_PATH, url);
    return acme_authority_fetch_ca_list(pa.http, url, anchors, 0, time(NULL), &list, &why) == HSM_OK
               ? list
               : NULL;
}

static struct certs_crl *
get_crl(const struct certs_chain *anchors)
{
    struct certs_crl *crl = NULL;
    struct hsm_reason why;
    char url[256];

    url_of(ACME_AUTHORITY_CRL_PATH, url);
    return acme_authority_fetch_crl(pa.http, url, anchors, time(NULL), &crl, &why) == HSM_OK ? crl
                                                                                             : NULL;
}

static void
new_keys_under_a_new_root_take_over_while_what_the_old_ones_signed_stays_good(void **state)
{
    struct acme_ca_list *old_list, *new_list;
    struct certs_crl *old_crl, *new_crl;
    char *old_token, *new_token;

    (void)state;
    serve_with(pa.signer_key, pa.signer_chain, pa.crl_key, pa.crl_chain);
    old_token = get_token();
    old_list = get_list(pa.root);
    old_crl = get_crl(pa.root);
    assert_non_null(old_list);
    assert_non_null(old_crl);

    /* Relying parties have both anchors before the first signature with a new key. */
    serve_with(second.signer_key, second.signer_chain, second.crl_key, second.crl_chain);
    new_token = get_token();
    assert_int_equal(check_token(old_token, both), HSM_OK);
    assert_int_equal(check_token(new_token, both), HSM_OK);
    assert_int_equal(check_token(new_token, second.root), HSM_OK);
    assert_int_equal(check_token(new_token, pa.root), HSM_ERR_UNTRUSTED);
    assert_int_equal(check_token(old_token, second.root), HSM_ERR_UNTRUSTED);

    assert_null(get_list(pa.root));
    new_list = get_list(both);
    assert_non_null(new_list);
    assert_true(acme_ca_list_sequence(new_list) > acme_ca_list_sequence(old_list));
    assert_null(get_crl(pa.root));
    new_crl = get_crl(both);
    assert_non_null(new_crl);
    assert_true(certs_crl_number(new_crl) > certs_crl_number(old_crl));

    certs_crl_free(new_crl);
    certs_crl_free(old_crl);
    acme_ca_list_free(new_list);
    acme_ca_list_free(old_list);
    free(new_token);
    free(old_token);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(
            new_keys_under_a_new_root_take_over_while_what_the_old_ones_signed_stays_good),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
