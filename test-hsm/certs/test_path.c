/* test_path.c - mirrors certs/src/path.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "path_fixture.h"

/* `names` as in "leaf,int,root". */
static bool
is_path(const struct certs_path *path, const char *names)
{
    struct certs_chain *wanted = path_chain(names);
    bool same = certs_chain_len(wanted) == certs_path_len(path);

    for (size_t i = 0; same && i < certs_path_len(path); i++)
        same = certs_chain_get(wanted, i) == certs_path_get(path, i);
    certs_chain_free(wanted);
    return same;
}

static void
judge(const struct path_case *item)
{
    struct certs_chain *served = path_chain(item->served);
    struct certs_chain *anchors = path_chain(item->anchors == NULL ? "root" : item->anchors);
    struct certs_chain *store = item->store == NULL ? NULL : path_chain(item->store);
    struct certs_crl *crl = item->crl == NULL ? NULL : path_crl(item->crl);
    struct certs_path_policy policy = item->policy;
    struct certs_trust trust = {.anchors = anchors, .crl = crl};
    struct certs_path *path = NULL;
    struct hsm_reason why = {0};
    enum hsm_status st;

    policy.intermediates = store;
    st = certs_path_verify(served, &trust, &policy, item->now == 0 ? DATA_NOW : item->now, &path,
                           &why);
    if (st != (item->reason == NULL ? HSM_OK : HSM_ERR_UNTRUSTED) ||
        (item->reason != NULL && strstr(why.text, item->reason) == NULL))
        fail_msg("%s: %s: %s", item->what, hsm_status_text(st), why.text);
    if (item->path != NULL && !is_path(path, item->path))
        fail_msg("%s: another path", item->what);
    if ((path == NULL) != (item->reason != NULL))
        fail_msg("%s: a path where none is, or none where one is", item->what);
    certs_path_free(path);
    certs_crl_free(crl);
    certs_chain_free(store);
    certs_chain_free(anchors);
    certs_chain_free(served);
}

static void
each_chain_has_its_path_or_its_reason(void **state)
{
    (void)state;
    for (size_t i = 0; i < path_case_count; i++)
        judge(&path_cases[i]);
}

static struct certs_path *
good_path(const char *served, const struct certs_path_policy *policy)
{
    struct certs_chain *chain = path_chain(served);
    struct certs_chain *anchors = path_chain("root");
    struct certs_path *path = NULL;
    struct hsm_reason why = {0};

    if (certs_path_verify(chain, &(struct certs_trust){.anchors = anchors}, policy, DATA_NOW, &path,
                          &why) != HSM_OK)
        fail_msg("%s: %s", served, why.text);
    certs_chain_free(anchors); /* a path does not depend on the chains it was made from */
    certs_chain_free(chain);
    return path;
}

static void
a_path_tells_what_the_end_entity_may_say(void **state)
{
    struct certs_path *path = good_path("leaf with constraints,int", NULL);
    const struct certs_constraints *constraints = certs_path_constraints(path);

    (void)state;
    assert_string_equal(certs_tnauthlist_spc(certs_path_tnauthlist(path)), "1234");
    assert_non_null(constraints);
    assert_string_equal(certs_constraints_content(constraints)->must_include[0], "rcd");
    certs_path_free(path);

    path = good_path("delegate,sp ca,int", NULL);
    assert_null(certs_path_constraints(path));
    assert_true(certs_tnauthlist_has_number(certs_path_tnauthlist(path), "12155550150"));
    assert_false(certs_tnauthlist_has_number(certs_path_tnauthlist(path), "12155550151"));
    certs_path_free(path);
}

static void
a_path_is_valid_while_all_its_certificates_are(void **state)
{
    struct certs_path *path = good_path("int,leaf", NULL);

    (void)state;
    assert_int_equal(certs_path_len(path), 3);
    assert_ptr_equal(certs_path_get(path, 0), path_cert("leaf"));
    assert_null(certs_path_get(path, 3));
    assert_int_equal(certs_path_not_before(path), DATA_NOW - 86400);
    assert_int_equal(certs_path_not_after(path), DATA_NOW + 86400);
    certs_path_free(path);
}

static void
a_path_lives_as_long_as_its_last_owner(void **state)
{
    struct certs_path *path = good_path("leaf,int", NULL);
    struct certs_path *again = certs_path_hold(path);

    (void)state;
    assert_ptr_equal(again, path);
    certs_path_free(path);
    assert_int_equal(certs_path_len(again), 3);
    certs_path_free(again);
    certs_path_free(NULL);
}

/* The caller uses the first certificate, so no other one may be judged. */
static void
the_simple_entry_judges_the_first_certificate_alone(void **state)
{
    struct certs_chain *anchors = path_chain("root");
    struct certs_chain *good = path_chain("leaf,int");
    struct certs_chain *turned = path_chain("int,leaf");
    struct certs_chain *false_friend = path_chain("stranger leaf,leaf,int");
    struct hsm_reason why = {0};

    (void)state;
    assert_int_equal(certs_chain_verify(good, anchors, CERTS_FOR_STI, DATA_NOW, NULL), HSM_OK);
    assert_int_equal(certs_chain_verify(turned, anchors, CERTS_FOR_STI, DATA_NOW, &why),
                     HSM_ERR_UNTRUSTED);
    assert_non_null(strstr(why.text, "a CA, not an end entity"));
    assert_int_equal(certs_chain_verify(false_friend, anchors, CERTS_FOR_STI, DATA_NOW, &why),
                     HSM_ERR_UNTRUSTED);
    assert_non_null(strstr(why.text, "CN=tls"));
    certs_chain_free(false_friend);
    certs_chain_free(turned);
    certs_chain_free(good);
    certs_chain_free(anchors);
}

/* A stranger serves 7 CAs with one name and without key identifiers; the store has as many. */
static void
certificates_of_one_name_are_tried_within_bounds(void **state)
{
    struct certs_chain *chain = path_chain("plain leaf");
    struct certs_chain *store = path_chain("");
    struct certs_chain *anchors = path_chain("plain root");
    EVP_PKEY *key = peer_key_new("P-256");
    const struct peer_ext exts[] = {{"basicConstraints", "critical,CA:TRUE"}, {NULL, NULL}};
    struct certs_path_policy policy = {.intermediates = store};
    struct certs_path *path = NULL;
    struct hsm_reason why = {0};

    (void)state;
    for (int i = 0; i < 40; i++) {
        EVP_PKEY *own = peer_key_new("P-256");
        X509 *cert = peer_cert(&(struct peer_spec){.cn = "PLAIN",
                                                   .key = own,
                                                   .issuer = path_cert("plain root"),
                                                   .issuer_key = key,
                                                   .exts = exts,
                                                   .serial = i + 1});

        assert_int_equal(certs_chain_add(i < 7 ? chain : store, cert), HSM_OK);
        X509_free(cert);
        EVP_PKEY_free(own);
    }
    assert_int_equal(certs_path_verify(chain, &(struct certs_trust){.anchors = anchors}, &policy,
                                       DATA_NOW, &path, &why),
                     HSM_ERR_UNTRUSTED);
    assert_non_null(strstr(why.text, "signature failure"));
    assert_null(path);
    EVP_PKEY_free(key);
    certs_chain_free(anchors);
    certs_chain_free(store);
    certs_chain_free(chain);
}

#define EE_BASICS                                                                                  \
    {"basicConstraints", "critical,CA:FALSE"},                                                     \
    {                                                                                              \
        "keyUsage", "critical,digitalSignature"                                                    \
    }

/* The verdict on a certificate that claims to be issued by "int". */
static enum hsm_status
judge_leaf(X509 *leaf, const char *above, struct hsm_reason *why)
{
    struct certs_chain *chain = path_chain("");
    struct certs_chain *more = path_chain(above);
    struct certs_chain *anchors = path_chain("root");
    enum hsm_status st;

    assert_int_equal(certs_chain_add(chain, leaf), HSM_OK);
    assert_int_equal(certs_chain_append(chain, more), HSM_OK);
    st = certs_chain_verify(chain, anchors, CERTS_FOR_STI, DATA_NOW, why);
    certs_chain_free(anchors);
    certs_chain_free(more);
    certs_chain_free(chain);
    return st;
}

/* A stranger can send lists of any length, so the signature on them is verified first. */
static void
signatures_are_verified_before_rights_are_compared(void **state)
{
    static const struct peer_ext exts[] = {
        EE_BASICS, {"1.3.6.1.5.5.7.1.26", "DER:3008A006160435363738"}, {NULL, NULL}}; /* 5678 */
    X509 *leaf = peer_cert(&(struct peer_spec){.cn = "Dentist",
                                               .key = path_key("leaf"),
                                               .issuer = path_cert("sp ca"),
                                               .issuer_key = path_key("stranger int"),
                                               .exts = exts});
    struct hsm_reason why = {0};

    (void)state;
    assert_int_equal(judge_leaf(leaf, "sp ca,int", &why), HSM_ERR_UNTRUSTED);
    assert_non_null(strstr(why.text, "signature failure"));
    X509_free(leaf);
}

/* A leaf with `count` extensions; no two have the same name. */
static X509 *
leaf_of_extensions(size_t count)
{
    struct peer_ext exts[70] = {EE_BASICS, {PEER_TNAUTHLIST_1234}};
    char oids[70][32];

    assert_true(count < 70);
    for (size_t i = 3; i < count; i++) {
        snprintf(oids[i], sizeof(oids[i]), "1.2.3.4.%zu", i);
        exts[i] = (struct peer_ext){oids[i], "DER:0500"};
    }
    exts[count] = (struct peer_ext){NULL, NULL};
    return peer_cert(&(struct peer_spec){.cn = "SHAKEN 1234",
                                         .key = path_key("leaf"),
                                         .issuer = path_cert("int"),
                                         .issuer_key = path_key("int"),
                                         .exts = exts});
}

static void
a_certificate_has_64_extensions_at_most(void **state)
{
    X509 *good = leaf_of_extensions(64);
    X509 *bad = leaf_of_extensions(65);
    struct hsm_reason why = {0};

    (void)state;
    if (judge_leaf(good, "int", &why) != HSM_OK)
        fail_msg("%s", why.text);
    assert_int_equal(judge_leaf(bad, "int", &why), HSM_ERR_UNTRUSTED);
    assert_non_null(strstr(why.text, "more than 64 extensions"));
    X509_free(good);
    X509_free(bad);
}

static const struct {
    const char *hex; /* the serial number */
    const char *reason; /* NULL: valid */
} serials[] = {
    {"00", NULL},
    {"80", NULL},
    {"7fffffffffffffffffffffffffffffffffffffff", NULL},
    {"8000000000000000000000000000000000000000", "more than 20 octets"}, /* with a leading zero */
    {"010000000000000000000000000000000000000000", "more than 20 octets"},
};

/* No CRL could list it: RFC 5280 section 4.1.2.2. */
static void
a_serial_number_has_20_octets_at_most(void **state)
{
    static const struct peer_ext exts[] = {EE_BASICS, {PEER_TNAUTHLIST_1234}, {NULL, NULL}};
    const struct peer_spec spec = {.cn = "SHAKEN 1234",
                                   .key = path_key("leaf"),
                                   .issuer = path_cert("int"),
                                   .issuer_key = path_key("int"),
                                   .exts = exts};

    (void)state;
    for (size_t i = 0; i < sizeof(serials) / sizeof(serials[0]); i++) {
        X509 *leaf = peer_cert(&spec);
        const char *reason = serials[i].reason;
        struct hsm_reason why = {0};
        enum hsm_status st;

        peer_set_serial(leaf, serials[i].hex, path_key("int"));
        st = judge_leaf(leaf, "int", &why);
        if (st != (reason == NULL ? HSM_OK : HSM_ERR_UNTRUSTED) ||
            (reason != NULL && strstr(why.text, reason) == NULL))
            fail_msg("%s: %s: %s", serials[i].hex, hsm_status_text(st), why.text);
        X509_free(leaf);
    }
}

static void
an_empty_chain_has_no_path(void **state)
{
    struct certs_chain *empty = path_chain("");
    struct certs_path *path = NULL;
    struct hsm_reason why = {0};

    (void)state;
    assert_int_equal(certs_path_verify(empty, &(struct certs_trust){.anchors = empty}, NULL,
                                       DATA_NOW, &path, &why),
                     HSM_ERR_UNTRUSTED);
    assert_string_equal(why.text, "no certificate");
    assert_null(path);
    certs_chain_free(empty);
}

static int
fixture_down(void **state)
{
    (void)state;
    path_fixture_free();
    return 0;
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_chain_has_its_path_or_its_reason),
        cmocka_unit_test(a_path_tells_what_the_end_entity_may_say),
        cmocka_unit_test(a_path_is_valid_while_all_its_certificates_are),
        cmocka_unit_test(a_path_lives_as_long_as_its_last_owner),
        cmocka_unit_test(the_simple_entry_judges_the_first_certificate_alone),
        cmocka_unit_test(certificates_of_one_name_are_tried_within_bounds),
        cmocka_unit_test(signatures_are_verified_before_rights_are_compared),
        cmocka_unit_test(a_certificate_has_64_extensions_at_most),
        cmocka_unit_test(a_serial_number_has_20_octets_at_most),
        cmocka_unit_test(an_empty_chain_has_no_path),
    };

    return cmocka_run_group_tests(tests, NULL, fixture_down);
}
