/* test_authority_ca.c - mirrors acme/src/authority_ca.c: accounts of STI-CAs, also of those that do
 * not use this software. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <time.h>

#include <openssl/x509.h>

#include <acme/authority.h>
#include <certs/cert.h>
#include <certs/crl.h>
#include <certs/issue.h>

#include "../certs/peer_cert.h"
#include "authority_group.h"
#include "authority_revoke_group.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- accounts of STI-CAs ---- */

static void
an_account_of_an_sti_ca_is_for_a_trusted_chain_that_no_other_has(void **state)
{
    struct sti_ca rogue = {.root = NULL}, third = {.root = NULL};
    struct certs_chain *sp = enrol(&one, "1234");
    int64_t accounts = count("SELECT count(*) FROM account");

    (void)state;
    sti_ca_start(&rogue, "Rogue");
    sti_ca_start(&third, "Third");
    must(acme_authority_ca_add(store, certs_chain_get(third.root, 0)), "root");
    assert_int_equal(add_ca_account("x", "ca-x", rogue.chain), HSM_ERR_UNTRUSTED);
    assert_int_equal(add_ca_account("x", "ca-x", sp), HSM_ERR_UNTRUSTED);
    assert_int_equal(add_ca_account("x", "ca-x", one.chain), HSM_ERR_EXISTS);
    assert_int_equal(add_ca_account("ca1", "ca-x", third.chain), HSM_ERR_EXISTS);
    assert_int_equal(add_ca_account("x", "ca-one", third.chain), HSM_ERR_EXISTS);
    assert_int_equal(add_ca_account("x/y", "ca-x", third.chain), HSM_ERR_MALFORMED);
    assert_int_equal(add_ca_account("x", "a:b", third.chain), HSM_ERR_MALFORMED);
    assert_int_equal(count("SELECT count(*) FROM account"), accounts);
    assert_int_equal(count("SELECT count(*) FROM ca_issuer"), 4);
    assert_int_equal(add_ca_account("x", "ca-x", third.chain), HSM_OK);
    assert_int_equal(count("SELECT count(*) FROM ca_issuer"), 6);
    certs_chain_free(sp);
    sti_ca_stop(&third);
    sti_ca_stop(&rogue);
}

static void
sha256_hex(const X509 *cert, char hex[65])
{
    uint8_t digest[32];

    must(certs_cert_sha256(cert, digest), "digest");
    for (size_t i = 0; i < sizeof(digest); i++)
        snprintf(hex + 2 * i, 3, "%02x", digest[i]);
}

static void
an_sti_ca_that_is_trusted_no_more_revokes_nothing(void **state)
{
    struct certs_chain *chain = enrol(&two, "1234");
    struct certs_chain *entered = enrol(&two, "1234");
    X509 *root = certs_chain_get(two.root, 0);
    char hex[65];

    (void)state;
    assert_int_equal(ask("ca-two", plea_of(entered, 1)), 200);
    sha256_hex(root, hex);
    must(acme_authority_ca_remove(store, hex, "ceased"), "remove");
    assert_int_equal(ask("ca-two", plea_of(chain, 1)), 403);
    assert_false(is_on_crl(chain));
    assert_true(is_on_crl(entered)); /* revoked certificates stay revoked */
    /* A revocation by the governance authority does not depend on accounts. */
    assert_int_equal(acme_authority_revocation_add(store, certs_chain_get(chain, 0), 1, time(NULL)),
                     HSM_OK);
    must(acme_authority_ca_add(store, root), "root");
    assert_int_equal(ask("ca-two", plea_of(chain, 1)), 200);
    certs_chain_free(entered);
    certs_chain_free(chain);
}

/* A second issuing CA under the same root. */
static void
an_account_grows_with_the_next_issuing_certificate(void **state)
{
    struct sti_ca next = {.root = one.root, .issuing_key = one.issuing_key, .sp_key = one.sp_key};
    struct certs_chain *sp;
    X509 *cert;

    (void)state;
    cert = issue((struct certs_issue_request){.profile = CERTS_PROFILE_STI_INTERMEDIATE,
                                              .subject.common_name = "SHAKEN Issuing 2"},
                 "One", one.issuing_key, one.root, one.root_key);
    next.chain = chain_of(cert, one.root);
    sp = enrol(&next, "1234");
    assert_int_equal(ask("ca-one", plea_of(sp, 1)), 403);
    assert_int_equal(acme_authority_ca_account_extend(store, "ca2", next.chain), HSM_ERR_EXISTS);
    assert_int_equal(acme_authority_ca_account_extend(store, "1001", next.chain),
                     HSM_ERR_NOT_FOUND);
    assert_int_equal(acme_authority_ca_account_extend(store, "none", next.chain),
                     HSM_ERR_NOT_FOUND);
    assert_int_equal(acme_authority_ca_account_extend(store, "ca1", sp), HSM_ERR_UNTRUSTED);
    assert_int_equal(ask("ca-one", plea_of(sp, 1)), 403);
    for (int i = 0; i < 2; i++) /* repeating it is harmless */
        assert_int_equal(acme_authority_ca_account_extend(store, "ca1", next.chain), HSM_OK);
    assert_int_equal(ask("ca-one", plea_of(sp, 1)), 200);
    assert_int_equal(ask("ca-two", plea_of(sp, 1)), 403);
    assert_true(is_on_crl(sp));
    certs_chain_free(sp);
    certs_chain_free(next.chain);
}

#define PEER_CA                                                                                    \
    {"basicConstraints", "critical,CA:TRUE"}, {"keyUsage", "critical,keyCertSign"},                \
    {                                                                                              \
        "subjectKeyIdentifier", "hash"                                                             \
    }

#define PEER_BELOW                                                                                 \
    {"authorityKeyIdentifier", "keyid"},                                                           \
    {                                                                                              \
        "crlDistributionPoints", "URI:https://pa.example/download/v1/crl"                          \
    }

/* ---- STI-CAs that do not use this software ---- */

static const struct peer_ext peer_root_exts[] = {PEER_CA, {NULL, NULL}};
static const struct peer_ext peer_ca_exts[] = {PEER_CA, PEER_BELOW, {NULL, NULL}};

static const struct peer_ext peer_leaf_exts[] = {{"basicConstraints", "critical,CA:FALSE"},
                                                 {"keyUsage", "critical,digitalSignature"},
                                                 {"subjectKeyIdentifier", "hash"},
                                                 PEER_BELOW,
                                                 {PEER_TNAUTHLIST_1234},
                                                 {NULL, NULL}};

/* Keys in memory on P-384, as 3 of the 19 roots in production have. */
struct peer_ca {
    EVP_PKEY *root_key, *key, *leaf_key;
    X509 *root, *ca;
    unsigned long issued; /* number of certificates */
};

/* The name includes C and O; issuer NULL: a root. */
static X509 *
peer_issue(struct peer_ca *peer, const char *cn, EVP_PKEY *key, const X509 *issuer,
           EVP_PKEY *issuer_key, const struct peer_ext *exts)
{
    X509 *cert = peer_cert(&(struct peer_spec){.cn = cn,
                                               .key = key,
                                               .issuer = issuer,
                                               .issuer_key = issuer_key,
                                               .not_before = time(NULL) - 60,
                                               .not_after = time(NULL) + 20 * DAY,
                                               .exts = exts});
    X509_NAME *name = X509_NAME_new();
    char serial[32];

    peer_must(
        X509_NAME_add_entry_by_txt(name, "C", MBSTRING_ASC, (uint8_t *)"US", -1, -1, 0) == 1 &&
            X509_NAME_add_entry_by_txt(name, "O", MBSTRING_ASC, (uint8_t *)"Peer", -1, -1, 0) ==
                1 &&
            X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const uint8_t *)cn, -1, -1, 0) ==
                1 &&
            X509_set_subject_name(cert, name) == 1 &&
            (issuer != NULL || X509_set_issuer_name(cert, name) == 1),
        cn);
    snprintf(serial, sizeof(serial), "4f%016lx", ++peer->issued);
    peer_set_serial(cert, serial, issuer_key);
    peer_must(X509_sign(cert, issuer_key, EVP_sha384()) > 0, cn); /* CP 1.4, for P-384 */
    X509_NAME_free(name);
    return cert;
}

static void
peer_ca_start(struct peer_ca *peer)
{
    peer->root_key = peer_key_new("P-384");
    peer->key = peer_key_new("P-384");
    peer->leaf_key = peer_key_new("P-256");
    peer->root =
        peer_issue(peer, "Peer SHAKEN Root", peer->root_key, NULL, peer->root_key, peer_root_exts);
    peer->ca = peer_issue(peer, "Peer SHAKEN Issuing", peer->key, peer->root, peer->root_key,
                          peer_ca_exts);
}

static void
peer_ca_stop(struct peer_ca *peer)
{
    X509_free(peer->ca);
    X509_free(peer->root);
    EVP_PKEY_free(peer->leaf_key);
    EVP_PKEY_free(peer->key);
    EVP_PKEY_free(peer->root_key);
}

static struct certs_chain *
peer_ca_chain(const struct peer_ca *peer)
{
    struct certs_chain *chain = NULL;

    must(certs_chain_new(&chain), "chain");
    must(certs_chain_add(chain, peer->ca), "chain");
    must(certs_chain_add(chain, peer->root), "chain");
    return chain;
}

static X509 *
peer_leaf(struct peer_ca *peer)
{
    return peer_issue(peer, "SHAKEN 1234", peer->leaf_key, peer->ca, peer->key, peer_leaf_exts);
}

static struct certs_chain *
peer_enrol(struct peer_ca *peer)
{
    struct certs_chain *chain = chain_of(peer_leaf(peer), NULL);

    must(certs_chain_add(chain, peer->ca), "chain");
    return chain;
}

/* A certificate under a trusted root can be revoked, whatever the curve of the keys above it. */
static void
an_sti_ca_on_another_curve_revokes_as_others_do(void **state)
{
    struct peer_ca peer = {.issued = 0};
    struct certs_chain *above, *asked, *shown, *added;

    (void)state;
    peer_ca_start(&peer);
    above = peer_ca_chain(&peer);
    asked = peer_enrol(&peer);
    shown = peer_enrol(&peer);
    added = peer_enrol(&peer);
    assert_int_equal(add_ca_account("peer", "ca-peer", above), HSM_ERR_UNTRUSTED);
    assert_int_equal(ask("sp", with_chain(plea_of(shown, 1), shown)), 403);
    must(acme_authority_ca_add(store, peer.root), "root");
    must(add_ca_account("peer", "ca-peer", above), "account");
    assert_int_equal(ask("ca-peer", with_chain(plea_of(asked, 1), asked)), 200);
    assert_int_equal(ask("sp", with_chain(plea_of(shown, 1), shown)), 202);
    must(acme_authority_revocation_decide(store, last_id(), true, time(NULL)), "approve");
    must(acme_authority_revocation_add(store, certs_chain_get(added, 0), 1, time(NULL)), "add");
    acme_authority_refresh(authority);
    assert_true(is_on_crl(asked));
    assert_true(is_on_crl(shown));
    assert_true(is_on_crl(added));
    certs_chain_free(added);
    certs_chain_free(shown);
    certs_chain_free(asked);
    certs_chain_free(above);
    peer_ca_stop(&peer);
}

/* RFC 5280 section 4.1.2.2: the refusal names the fault, and nothing is stored that a CRL cannot
 * encode. */
static void
a_certificate_whose_serial_number_no_crl_has_is_refused(void **state)
{
    static const char *const serials[] = {"8000112233445566778899aabbccddeeff001122",
                                          "7f00112233445566778899aabbccddeeff00112233", "-80"};
    struct certs_crl_entry entry;
    struct peer_ca peer = {.issued = 0};
    struct certs_chain *good;
    int64_t before = count("SELECT count(*) FROM revocation");

    (void)state;
    peer_ca_start(&peer);
    for (size_t i = 0; i < COUNT(serials); i++) {
        X509 *leaf = peer_leaf(&peer);

        X509_set_issuer_name(leaf, certs_cert_subject_name(certs_chain_get(one.chain, 0)));
        peer_set_serial(leaf, serials[i], peer.key);
        assert_int_equal(certs_crl_entry_of(leaf, &entry, NULL), HSM_ERR_UNSUPPORTED);
        assert_int_equal(acme_authority_revocation_add(store, leaf, 1, time(NULL)),
                         HSM_ERR_UNSUPPORTED);
        X509_free(leaf);
    }
    assert_int_equal(count("SELECT count(*) FROM revocation"), before);
    good = enrol(&one, "1234");
    assert_int_equal(ask("ca-one", plea_of(good, 1)), 200);
    assert_true(is_on_crl(good));
    certs_chain_free(good);
    peer_ca_stop(&peer);
}

/* Rows that an earlier version stored. */
static void
a_row_that_no_crl_can_have_does_not_stop_the_crl(void **state)
{
    static const struct {
        uint8_t serial[CERTS_SERIAL_MAX + 1];
        size_t len;
    } bad[] = {{{0}, 0}, {{0x80}, 1}, {{1}, CERTS_SERIAL_MAX + 1}};
    struct certs_chain *chain = enrol(&one, "1234");
    size_t listed;
    struct certs_crl *crl;
    uint64_t number = crl_number();

    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++)
        must(acme_store_run(store, NULL,
                            "INSERT INTO revocation (issuer, serial, reason, requester, account,"
                            " state, asked, decided, entry) SELECT ?, ?, 1, 'earlier', 'ca2',"
                            " 'revoked', 1, 1, max(entry) + 1 FROM revocation",
                            "bb", "\x30\x00", (size_t)2, bad[i].serial, bad[i].len),
             "insert");
    assert_int_equal(ask("ca-one", plea_of(chain, 1)), 200);
    crl = fetch_crl();
    listed = (size_t)count("SELECT count(*) FROM revocation WHERE entry IS NOT NULL AND dropped"
                           " IS NULL AND requester <> 'earlier'");
    assert_int_equal(certs_crl_number(crl), number + 1);
    assert_int_equal(certs_crl_len(crl), listed);
    assert_true(certs_crl_has(crl, certs_chain_get(chain, 0)));
    must(acme_store_run(store, NULL, "DELETE FROM revocation WHERE requester = 'earlier'", ""),
         "delete");
    certs_crl_free(crl);
    certs_chain_free(chain);
}

/* RFC 5280 section 5.3.3: an entry inherits the issuer, which keeps a CRL of many STI-CAs short. */
static void
an_issuer_is_named_once_for_all_its_entries(void **state)
{
    struct certs_chain *chains[] = {enrol(&one, "1234"), enrol(&two, "1234"), enrol(&one, "1234"),
                                    enrol(&two, "1234")};
    const X509_NAME *before = NULL;
    struct certs_crl *crl;
    int64_t issuers = 0;

    (void)state;
    for (size_t i = 0; i < COUNT(chains); i++)
        assert_int_equal(ask(i % 2 == 0 ? "ca-one" : "ca-two", plea_of(chains[i], 1)), 200);
    crl = fetch_crl();
    for (size_t i = 0; i < certs_crl_len(crl); i++) {
        struct certs_crl_entry entry;

        certs_crl_get(crl, i, &entry);
        issuers += before == NULL || X509_NAME_cmp(before, entry.issuer) != 0;
        before = entry.issuer;
    }
    assert_int_equal(issuers, count("SELECT count(DISTINCT issuer) FROM revocation"
                                    " WHERE entry IS NOT NULL AND dropped IS NULL"));
    for (size_t i = 0; i < COUNT(chains); i++) {
        assert_true(certs_crl_has(crl, certs_chain_get(chains[i], 0)));
        certs_chain_free(chains[i]);
    }
    certs_crl_free(crl);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_account_of_an_sti_ca_is_for_a_trusted_chain_that_no_other_has),
        cmocka_unit_test(an_sti_ca_that_is_trusted_no_more_revokes_nothing),
        cmocka_unit_test(an_account_grows_with_the_next_issuing_certificate),
        cmocka_unit_test(an_sti_ca_on_another_curve_revokes_as_others_do),
        cmocka_unit_test(a_certificate_whose_serial_number_no_crl_has_is_refused),
        cmocka_unit_test(a_row_that_no_crl_can_have_does_not_stop_the_crl),
        cmocka_unit_test(an_issuer_is_named_once_for_all_its_entries),
    };

    return cmocka_run_group_tests(tests, authority_revoke_start, authority_revoke_stop);
}
