/* test_authority_decide.c - mirrors acme/src/authority_plea.c and authority_decide.c: what a
 * service provider asks and an operator decides. */
#define _GNU_SOURCE /* asprintf */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <time.h>

#include <jansson.h>
#include <openssl/x509.h>

#include <acme/authority.h>
#include <acme/base64url.h>
#include <acme/events.h>
#include <certs/cert.h>

#include "../certs/peer_cert.h"
#include "authority_group.h"
#include "authority_revoke_group.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- a service provider ---- */

static void
a_service_provider_asks_and_an_operator_decides(void **state)
{
    struct certs_chain *chain = enrol(&one, "1234");
    uint64_t number = crl_number();
    int64_t id;

    (void)state;
    assert_int_equal(ask("sp", with_chain(plea_of(chain, 1), chain)), 202);
    assert_int_equal(ask("sp", with_chain(plea_of(chain, 1), chain)), 202); /* the same again */
    assert_false(is_on_crl(chain));
    assert_int_equal(crl_number(), number);
    id = last_id();
    assert_int_equal(acme_authority_revocation_decide(store, id, true, time(NULL)), HSM_OK);
    assert_true(is_on_crl(chain)); /* when the CRL is fetched next */
    assert_int_equal(crl_number(), number + 1);
    assert_int_equal(ask("sp", with_chain(plea_of(chain, 1), chain)), 200);
    assert_int_equal(acme_authority_revocation_decide(store, id, true, time(NULL)), HSM_ERR_USAGE);
    assert_int_equal(acme_authority_revocation_decide(store, id, false, time(NULL)), HSM_ERR_USAGE);
    assert_int_equal(acme_authority_revocation_decide(store, id + 1, true, time(NULL)),
                     HSM_ERR_NOT_FOUND);
    certs_chain_free(chain);
}

static void
what_an_operator_refused_is_refused_again_until_he_or_the_sti_ca_says_otherwise(void **state)
{
    struct certs_chain *first = enrol(&one, "1234");
    struct certs_chain *second = enrol(&one, "1234");
    int64_t id;

    (void)state;
    assert_int_equal(ask("sp", with_chain(plea_of(first, 5), first)), 202);
    id = last_id();
    assert_int_equal(acme_authority_revocation_decide(store, id, false, time(NULL)), HSM_OK);
    assert_int_equal(acme_authority_revocation_decide(store, id, false, time(NULL)), HSM_ERR_USAGE);
    assert_int_equal(ask("sp", with_chain(plea_of(first, 5), first)), 403);
    assert_false(is_on_crl(first));
    assert_int_equal(acme_authority_revocation_decide(store, id, true, time(NULL)), HSM_OK);
    assert_true(is_on_crl(first));

    assert_int_equal(ask("sp", with_chain(plea_of(second, 5), second)), 202);
    assert_int_equal(acme_authority_revocation_decide(store, last_id(), false, time(NULL)), HSM_OK);
    assert_int_equal(ask("ca-one", plea_of(second, 1)), 200);
    assert_true(is_on_crl(second));
    certs_chain_free(second);
    certs_chain_free(first);
}

static void
the_word_of_the_sti_ca_ends_the_waiting(void **state)
{
    struct certs_chain *chain = enrol(&one, "1234");

    (void)state;
    assert_int_equal(ask("sp", with_chain(plea_of(chain, 0), chain)), 202);
    assert_int_equal(ask("ca-one", plea_of(chain, 1)), 200);
    assert_true(is_on_crl(chain));
    assert_int_equal(count("SELECT count(*) FROM revocation WHERE account = 'ca1' AND reason = 1"
                           " AND id = (SELECT max(id) FROM revocation)"),
                     1);
    certs_chain_free(chain);
}

static void
a_service_provider_asks_only_for_certificates_with_its_spc(void **state)
{
    struct certs_chain *own = enrol(&one, "1234");
    struct certs_chain *foreign = enrol(&one, "5678");
    struct certs_chain *untrusted;
    struct sti_ca rogue = {.root = NULL};
    int64_t before = count("SELECT count(*) FROM revocation");
    json_t *plea;

    (void)state;
    sti_ca_start(&rogue, "Rogue");
    untrusted = enrol(&rogue, "1234");
    /* No proof, proof for another certificate, for another SPC, under an untrusted root. */
    assert_int_equal(ask("sp", plea_of(own, 1)), 400);
    assert_int_equal(ask("sp", with_chain(plea_of(foreign, 1), own)), 400);
    assert_int_equal(ask("sp", with_chain(plea_of(foreign, 1), foreign)), 403);
    assert_int_equal(ask("sp", with_chain(plea_of(untrusted, 1), untrusted)), 403);
    plea = plea_of(own, 1);
    json_object_set_new(plea, "chain", json_string("no PEM"));
    assert_int_equal(ask("sp", plea), 400);
    /* The issuing CA is not an end entity. */
    assert_int_equal(ask("sp", with_chain(plea_of(one.chain, 1), one.chain)), 403);
    assert_int_equal(count("SELECT count(*) FROM revocation"), before);
    certs_chain_free(untrusted);
    certs_chain_free(foreign);
    certs_chain_free(own);
    sti_ca_stop(&rogue);
}

static void
what_is_decided_without_an_operator_is_configured(void **state)
{
    static const struct {
        const char *rule;
        int ca, sp, sp_compromised; /* expected statuses */
    } rows[] = {
        {NULL, 200, 202, 202},
        {"none", 202, 202, 202},
        {"sti-ca, sp:keyCompromise", 200, 202, 200},
        {"sp", 202, 200, 200},
        {"sti-ca:keyCompromise,sp:superseded sp:keyCompromise", 202, 202, 200},
    };
    static const char *const bad[] = {
        "sti_ca", "sp:", "sp:7", "sp:removeFromCRL", ":", "none, sp", "sp:keyCompromise:sp", "",
        " ",      ",",   " , ",  "none,none"};
    struct acme_authority *other = NULL;

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct certs_chain *ca = enrol(&one, "1234"), *sp = enrol(&one, "1234");
        struct certs_chain *compromised = enrol(&one, "1234");

        begin_with(&(struct acme_authority_config){.revocation_automatic = rows[i].rule});
        assert_int_equal(ask("ca-one", plea_of(ca, 5)), rows[i].ca);
        assert_int_equal(is_on_crl(ca), rows[i].ca == 200);
        assert_int_equal(ask("sp", with_chain(plea_of(sp, 5), sp)), rows[i].sp);
        assert_int_equal(ask("sp", with_chain(plea_of(compromised, 1), compromised)),
                         rows[i].sp_compromised);
        assert_int_equal(is_on_crl(compromised), rows[i].sp_compromised == 200);
        certs_chain_free(compromised);
        certs_chain_free(sp);
        certs_chain_free(ca);
    }
    begin_again(0);
    for (size_t i = 0; i < COUNT(bad); i++) {
        const struct acme_authority_config config = {.base_url = pa.base_url,
                                                     .store = store,
                                                     .signer_key = pa.signer_key,
                                                     .signer_chain = pa.signer_chain,
                                                     .crl_key = pa.crl_key,
                                                     .crl_chain = pa.crl_chain,
                                                     .token_lifetime_s = 1,
                                                     .session_lifetime_s = 1,
                                                     .list_lifetime_s = DAY,
                                                     .crl_lifetime_s = DAY,
                                                     .revocation_automatic = bad[i],
                                                     .only_checked = true};

        assert_int_equal(acme_authority_new(&config, &other), HSM_ERR_MALFORMED);
    }
}

/* A decision of an operator takes precedence over a rule. */
static void
no_rule_grants_a_service_provider_what_an_operator_refused(void **state)
{
    struct certs_chain *chain = enrol(&one, "1234");

    (void)state;
    assert_int_equal(ask("sp", with_chain(plea_of(chain, 1), chain)), 202);
    assert_int_equal(acme_authority_revocation_decide(store, last_id(), false, time(NULL)), HSM_OK);
    begin_with(&(struct acme_authority_config){.revocation_automatic = "sp"});
    assert_int_equal(ask("sp", with_chain(plea_of(chain, 1), chain)), 403);
    assert_false(is_on_crl(chain));
    begin_again(0);
    certs_chain_free(chain);
}

static void
an_event_names_the_certificate(void **state)
{
    struct certs_chain *chain = enrol(&one, "1234");
    char *serial = certs_cert_serial_hex(certs_chain_get(chain, 0));
    char *text = NULL, *wanted = NULL;
    size_t len = 0;
    FILE *to;

    (void)state;
    for (int i = 0; i < 2; i++) {
        if (i == 0) {
            assert_int_equal(ask("sp", with_chain(plea_of(chain, 1), chain)), 202);
            assert_int_equal(acme_authority_revocation_decide(store, last_id(), false, time(NULL)),
                             HSM_OK);
        } else {
            assert_int_equal(ask("ca-one", plea_of(chain, 1)), 200);
        }
        to = open_memstream(&text, &len);
        assert_int_equal(acme_events_show(store, 1, false, to), HSM_OK);
        fclose(to);
        assert_true(asprintf(&wanted, "%s of CN=SHAKEN Issuing,O=One,C=US%s", serial,
                             i == 0 ? "\n" : ": the test\n") > 0);
        assert_non_null(strstr(text, wanted));
        free(wanted);
        free(text);
    }
    free(serial);
    certs_chain_free(chain);
}

/* Encode the issuer differently: in upper case, and as another string type. */
static json_t *
with_other_encoding(json_t *plea, const char *organization)
{
    X509_NAME *name = X509_NAME_new();
    unsigned char *der = NULL;
    char *encoded;
    int len;

    X509_NAME_add_entry_by_txt(name, "C", MBSTRING_ASC, (const unsigned char *)"us", -1, -1, 0);
    X509_NAME_add_entry_by_txt(name, "O", V_ASN1_T61STRING, (const unsigned char *)organization, -1,
                               -1, 0);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8,
                               (const unsigned char *)" shaken  ISSUING ", -1, -1, 0);
    len = i2d_X509_NAME(name, &der);
    encoded = acme_base64_encode(der, (size_t)len);
    json_object_set_new(plea, "issuer", json_string(encoded));
    free(encoded);
    OPENSSL_free(der);
    X509_NAME_free(name);
    return plea;
}

/* RFC 5280 section 7.1: names are compared as by those who look up the CRL. */
static void
an_issuer_is_the_same_in_every_encoding(void **state)
{
    struct certs_chain *chain = enrol(&one, "1234");
    int64_t before = count("SELECT count(*) FROM revocation");

    (void)state;
    assert_int_equal(ask("ca-two", with_other_encoding(plea_of(chain, 1), "ONE")), 403);
    assert_int_equal(ask("ca-one", with_other_encoding(plea_of(chain, 1), "ONE")), 200);
    assert_int_equal(ask("ca-one", plea_of(chain, 1)), 200);
    assert_int_equal(ask("sp", with_chain(with_other_encoding(plea_of(chain, 1), "ONE"), chain)),
                     200);
    assert_int_equal(count("SELECT count(*) FROM revocation"), before + 1);
    assert_true(is_on_crl(chain));
    certs_chain_free(chain);
}

/* This holds also where the STI-CA has no account that fixes the encoding. */
static void
a_certificate_is_asked_for_once_in_every_encoding(void **state)
{
    struct sti_ca third = {.root = NULL};
    struct certs_chain *chain;
    int64_t before = count("SELECT count(*) FROM revocation");

    (void)state;
    sti_ca_start(&third, "Without Account");
    must(acme_authority_ca_add(store, certs_chain_get(third.root, 0)), "root");
    chain = enrol(&third, "1234");
    assert_int_equal(ask("sp", with_chain(plea_of(chain, 1), chain)), 202);
    must(acme_authority_revocation_decide(store, last_id(), false, time(NULL)), "refuse");
    assert_int_equal(
        ask("sp", with_chain(with_other_encoding(plea_of(chain, 1), "WITHOUT account"), chain)),
        403);
    assert_int_equal(count("SELECT count(*) FROM revocation"), before + 1);
    certs_chain_free(chain);
    sti_ca_stop(&third);
}

/* ---- revocations made in error ---- */

static void
an_operator_takes_off_what_should_never_have_been_on_the_crl(void **state)
{
    struct certs_chain *chains[] = {enrol(&one, "1234"), enrol(&two, "1234"), enrol(&one, "1234")};
    struct certs_chain *own = enrol(&one, "1234");
    int64_t first, dropped = 0;
    uint64_t number;

    (void)state;
    for (size_t i = 0; i < COUNT(chains); i++)
        assert_int_equal(ask(i == 1 ? "ca-two" : "ca-one", plea_of(chains[i], 1)), 200);
    first = last_id() - 2;
    assert_int_equal(acme_authority_revocation_add(store, certs_chain_get(own, 0), 1, time(NULL)),
                     HSM_OK);
    number = crl_number();
    assert_int_equal(acme_authority_revocations_drop(store, "ca1", first, first + 3, "stolen",
                                                     time(NULL), &dropped),
                     HSM_OK);
    assert_int_equal(dropped, 2);
    assert_string_equal(last_event(), "revocations dropped");
    assert_false(is_on_crl(chains[0]));
    assert_true(is_on_crl(chains[1]));
    assert_false(is_on_crl(chains[2]));
    assert_true(is_on_crl(own)); /* the operator's, although that STI-CA issued it */
    assert_int_equal(crl_number(), number + 1);
    assert_int_equal(acme_authority_revocations_drop(store, "ca1", first, first + 2, "stolen",
                                                     time(NULL), &dropped),
                     HSM_ERR_NOT_FOUND);
    assert_int_equal(ask("sp", with_chain(plea_of(chains[0], 1), chains[0])), 403);
    /* The last one can be dropped as well, and a revocation after that is visible. */
    assert_int_equal(acme_authority_revocations_drop(store, NULL, first + 1, first + 1, "x",
                                                     time(NULL), &dropped),
                     HSM_OK);
    assert_int_equal(ask("ca-one", plea_of(chains[2], 1)), 200);
    assert_true(is_on_crl(chains[2]));
    assert_false(is_on_crl(chains[1]));
    certs_chain_free(own);
    for (size_t i = 0; i < COUNT(chains); i++)
        certs_chain_free(chains[i]);
}

/* ---- what an operator sees ---- */

static void
the_list_of_requests_tells_who_wants_what(void **state)
{
    struct certs_chain *chain = enrol(&one, "1234");
    char *serial = certs_cert_serial_hex(certs_chain_get(chain, 0));
    char *text = NULL, *line;
    size_t len = 0;
    FILE *to = open_memstream(&text, &len);

    (void)state;
    assert_int_equal(ask("sp", with_chain(plea_of(chain, 1), chain)), 202);
    assert_int_equal(acme_authority_revocations_show(store, to), HSM_OK);
    fclose(to);
    line = strstr(text, serial);
    assert_non_null(line);
    while (line > text && line[-1] != '\n')
        line--;
    assert_int_equal(strtol(line, NULL, 10), last_id());
    assert_non_null(strstr(line, "queued"));
    assert_non_null(strstr(line, "keyCompromise"));
    assert_non_null(strstr(line, "CN=SHAKEN Issuing"));
    assert_non_null(strstr(line, "asked by account 1001: the test"));
    free(text);
    free(serial);
    certs_chain_free(chain);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_service_provider_asks_and_an_operator_decides),
        cmocka_unit_test(
            what_an_operator_refused_is_refused_again_until_he_or_the_sti_ca_says_otherwise),
        cmocka_unit_test(the_word_of_the_sti_ca_ends_the_waiting),
        cmocka_unit_test(a_service_provider_asks_only_for_certificates_with_its_spc),
        cmocka_unit_test(what_is_decided_without_an_operator_is_configured),
        cmocka_unit_test(no_rule_grants_a_service_provider_what_an_operator_refused),
        cmocka_unit_test(an_event_names_the_certificate),
        cmocka_unit_test(an_issuer_is_the_same_in_every_encoding),
        cmocka_unit_test(a_certificate_is_asked_for_once_in_every_encoding),
        cmocka_unit_test(an_operator_takes_off_what_should_never_have_been_on_the_crl),
        cmocka_unit_test(the_list_of_requests_tells_who_wants_what),
    };

    return cmocka_run_group_tests(tests, authority_revoke_start, authority_revoke_stop);
}
