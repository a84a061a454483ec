/* test_verdict.c - mirrors certs/src/verdict.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <pthread.h>

#include <certs/verdict.h>

#include "path_fixture.h"

#define A_DAY   86400
#define EVE     (DATA_NOW + A_DAY - 100) /* just before the certificates "to come" begin */
#define REFUSED 300 /* seconds that a refusal is kept */
#define LEAVES  400
#define THREADS 8
#define ASKED   2000 /* number of checks by each thread */

static struct certs_verdicts *verdicts;
static struct certs_chain *anchors;
static struct certs_trust trust;

static int
up(void **state)
{
    (void)state;
    anchors = path_chain("root");
    trust = (struct certs_trust){.anchors = anchors, .until = DATA_NOW + 10 * A_DAY};
    return certs_verdicts_new(NULL, 100, &verdicts) == HSM_OK ? 0 : -1;
}

static int
down(void **state)
{
    (void)state;
    certs_verdicts_free(verdicts);
    certs_chain_free(anchors);
    return 0;
}

static struct certs_verdicts_count
count(void)
{
    struct certs_verdicts_count counted;

    certs_verdicts_count(verdicts, &counted);
    return counted;
}

/* The verdict on a chain; `why` holds the reason. */
static enum hsm_status
ask(const char *names, time_t now, struct hsm_reason *why)
{
    struct certs_chain *chain = path_chain(names);
    enum hsm_status st = certs_verdicts_check(verdicts, chain, &trust, now, NULL, why);

    certs_chain_free(chain);
    return st;
}

/* Checks the verdict; returns true if it came from the cache. */
static bool
was_kept(const char *names, time_t now, enum hsm_status wanted, const char *reason)
{
    uint64_t found = count().found;
    struct hsm_reason why = {0};
    enum hsm_status st = ask(names, now, &why);

    if (st != wanted || (reason != NULL && strstr(why.text, reason) == NULL))
        fail_msg("%s: %s: %s", names, hsm_status_text(st), why.text);
    return count().found == found + 1;
}

static void
a_good_verdict_is_said_again_with_the_same_path(void **state)
{
    struct certs_chain *chain = path_chain("leaf,int");
    struct certs_chain *same = path_chain("leaf,int"); /* fetched again */
    struct certs_path *first = NULL;
    struct certs_path *second = NULL;

    (void)state;
    assert_int_equal(certs_verdicts_check(verdicts, chain, &trust, DATA_NOW, &first, NULL), HSM_OK);
    assert_int_equal(certs_verdicts_check(verdicts, same, &trust, DATA_NOW, &second, NULL), HSM_OK);
    assert_ptr_equal(first, second);
    assert_int_equal(count().found, 1);
    assert_int_equal(count().not_found, 1);
    assert_int_equal(count().kept, 1);
    certs_path_free(first);
    certs_path_free(second);
    certs_chain_free(chain);
    certs_chain_free(same);
}

static void
a_chain_in_another_order_is_another_chain(void **state)
{
    (void)state;
    assert_false(was_kept("leaf,int", DATA_NOW, HSM_OK, NULL));
    assert_false(was_kept("int,leaf", DATA_NOW, HSM_OK, NULL));
    assert_false(was_kept("leaf2,int", DATA_NOW, HSM_OK, NULL));
    assert_true(was_kept("int,leaf", DATA_NOW, HSM_OK, NULL));
}

static void
a_good_verdict_ends_with_the_first_certificate(void **state)
{
    (void)state;
    assert_false(was_kept("leaf,int", DATA_NOW, HSM_OK, NULL));
    assert_true(was_kept("leaf,int", DATA_NOW + A_DAY, HSM_OK, NULL));
    assert_false(was_kept("leaf,int", DATA_NOW + A_DAY + 1, HSM_ERR_UNTRUSTED, "expired"));
    assert_true(was_kept("leaf,int", DATA_NOW + A_DAY + 1, HSM_ERR_UNTRUSTED, "expired"));
    assert_false(was_kept("leaf,int", DATA_NOW, HSM_OK, NULL)); /* the clock was set back */
    assert_true(was_kept("leaf,int", DATA_NOW - A_DAY, HSM_OK, NULL));
    assert_false(was_kept("leaf,int", DATA_NOW - A_DAY - 1, HSM_ERR_UNTRUSTED, "not yet valid"));
}

static void
a_verdict_ends_with_the_list_and_the_crl(void **state)
{
    (void)state;
    trust.until = DATA_NOW + 60;
    assert_false(was_kept("leaf,int", DATA_NOW, HSM_OK, NULL));
    assert_true(was_kept("leaf,int", DATA_NOW + 60, HSM_OK, NULL));
    assert_false(was_kept("leaf,int", DATA_NOW + 61, HSM_OK, NULL));
    assert_false(was_kept("leaf", DATA_NOW, HSM_ERR_UNTRUSTED, "unable to get"));
    assert_true(was_kept("leaf", DATA_NOW + 60, HSM_ERR_UNTRUSTED, "unable to get"));
    assert_false(was_kept("leaf", DATA_NOW + 61, HSM_ERR_UNTRUSTED, "unable to get"));
}

static void
a_new_crl_is_obeyed_at_once(void **state)
{
    struct certs_crl *before = path_crl("");
    struct certs_crl *after = path_crl("leaf with crl");

    (void)state;
    assert_false(was_kept("leaf with crl,int", DATA_NOW, HSM_OK, NULL));
    trust.crl = before;
    assert_false(was_kept("leaf with crl,int", DATA_NOW, HSM_OK, NULL));
    assert_true(was_kept("leaf with crl,int", DATA_NOW, HSM_OK, NULL));
    trust.crl = after;
    assert_false(was_kept("leaf with crl,int", DATA_NOW, HSM_ERR_UNTRUSTED, "is revoked"));
    assert_true(was_kept("leaf with crl,int", DATA_NOW, HSM_ERR_UNTRUSTED, "is revoked"));
    assert_int_equal(count().kept, 1); /* the verdict under the previous CRL was replaced */
    certs_crl_free(before);
    certs_crl_free(after);
}

static void
a_new_list_is_obeyed_at_once(void **state)
{
    struct certs_chain *without = path_chain("stranger root");

    (void)state;
    assert_false(was_kept("leaf,int", DATA_NOW, HSM_OK, NULL));
    trust.anchors = without;
    assert_false(was_kept("leaf,int", DATA_NOW, HSM_ERR_UNTRUSTED, "unable to get"));
    trust.anchors = anchors;
    assert_false(was_kept("leaf,int", DATA_NOW, HSM_OK, NULL));
    certs_chain_free(without);
}

static void
a_refusal_is_kept_until_a_certificate_begins(void **state)
{
    (void)state;
    assert_false(was_kept("leaf to come,int", EVE, HSM_ERR_UNTRUSTED, "not yet valid"));
    assert_true(was_kept("leaf to come,int", EVE, HSM_ERR_UNTRUSTED, "not yet valid"));
    assert_true(
        was_kept("leaf to come,int", DATA_NOW + A_DAY - 1, HSM_ERR_UNTRUSTED, "not yet valid"));
    assert_false(was_kept("leaf to come,int", DATA_NOW + A_DAY, HSM_OK, NULL));
}

static void
a_refusal_is_kept_for_minutes(void **state)
{
    (void)state;
    assert_false(was_kept("leaf", DATA_NOW, HSM_ERR_UNTRUSTED, NULL));
    assert_true(was_kept("leaf", DATA_NOW + REFUSED, HSM_ERR_UNTRUSTED, NULL));
    assert_false(was_kept("leaf", DATA_NOW + REFUSED + 1, HSM_ERR_UNTRUSTED, NULL));
}

/* A root published ahead of time must not cause every unknown chain to be judged each time. */
static void
a_refusal_is_kept_until_a_root_or_an_intermediate_begins(void **state)
{
    struct certs_chain *with_next = path_chain("root,int to come");
    struct certs_path_policy policy = {.intermediates = with_next};

    (void)state;
    trust.anchors = with_next;
    assert_false(was_kept("leaf", EVE, HSM_ERR_UNTRUSTED, NULL));
    assert_true(was_kept("leaf", DATA_NOW + A_DAY - 1, HSM_ERR_UNTRUSTED, NULL));
    assert_false(was_kept("leaf", DATA_NOW + A_DAY, HSM_OK, NULL));
    trust.anchors = anchors;
    certs_verdicts_free(verdicts);
    assert_int_equal(certs_verdicts_new(&policy, 100, &verdicts), HSM_OK);
    assert_false(was_kept("leaf", EVE, HSM_ERR_UNTRUSTED, NULL));
    assert_true(was_kept("leaf", DATA_NOW + A_DAY - 1, HSM_ERR_UNTRUSTED, NULL));
    assert_false(was_kept("leaf", DATA_NOW + A_DAY, HSM_OK, NULL));
    certs_chain_free(with_next);
}

static void
the_next_start_is_the_earliest_that_is_to_come(void **state)
{
    struct certs_chain *chain = path_chain("leaf to come,int");
    EVP_PKEY *key = peer_key_new("P-256");
    X509 *soon = peer_cert(&(struct peer_spec){
        .cn = "SOON", .key = key, .not_before = DATA_NOW + 60, .not_after = DATA_NOW + A_DAY});

    (void)state;
    assert_int_equal(certs_chain_next_start(chain, DATA_NOW), DATA_NOW + A_DAY);
    assert_int_equal(certs_chain_add(chain, soon), HSM_OK);
    assert_int_equal(certs_chain_next_start(chain, DATA_NOW), DATA_NOW + 60);
    assert_int_equal(certs_chain_next_start(chain, DATA_NOW + 60), DATA_NOW + A_DAY);
    assert_int_equal(certs_chain_next_start(chain, DATA_NOW + A_DAY), 0);
    X509_free(soon);
    EVP_PKEY_free(key);
    certs_chain_free(chain);
}

static void
the_policy_of_the_cache_is_its_own(void **state)
{
    const struct certs_path_policy policy = {.ca_keys = CERTS_CA_P384};
    struct certs_chain *p384 = path_chain("p384 root");

    (void)state;
    trust.anchors = p384;
    assert_false(was_kept("p384 leaf,p384 int", DATA_NOW, HSM_ERR_UNTRUSTED, "P-256"));
    certs_verdicts_free(verdicts);
    assert_int_equal(certs_verdicts_new(&policy, 100, &verdicts), HSM_OK);
    assert_false(was_kept("p384 leaf,p384 int", DATA_NOW, HSM_OK, NULL));
    certs_chain_free(p384);
}

/* Certificates like "leaf" with different serial numbers. */
static X509 *leaves[LEAVES];

static struct certs_chain *
chain_of_leaf(size_t i, bool with_intermediate)
{
    struct certs_chain *chain = path_chain("");

    peer_must(certs_chain_add(chain, leaves[i]) == HSM_OK &&
                  (!with_intermediate || certs_chain_add(chain, path_cert("int")) == HSM_OK),
              "chain");
    return chain;
}

static enum hsm_status
ask_leaf(size_t i, bool with_intermediate)
{
    struct certs_chain *chain = chain_of_leaf(i, with_intermediate);
    enum hsm_status st = certs_verdicts_check(verdicts, chain, &trust, DATA_NOW, NULL, NULL);

    certs_chain_free(chain);
    return st;
}

static void
a_flood_of_refusals_pushes_out_no_good_verdict(void **state)
{
    uint64_t found;

    (void)state;
    for (size_t i = 0; i < 20; i++)
        assert_int_equal(ask_leaf(i, true), HSM_OK);
    for (size_t i = 20; i < LEAVES; i++)
        assert_int_equal(ask_leaf(i, false), HSM_ERR_UNTRUSTED);
    assert_true(count().kept <= 128); /* the configured limit, rounded to a power of two */
    found = count().found;
    for (size_t i = 0; i < 20; i++)
        assert_int_equal(ask_leaf(i, true), HSM_OK);
    assert_int_equal(count().found, found + 20);
}

static void
it_is_bounded_and_goes_on(void **state)
{
    (void)state;
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < LEAVES; i++)
            assert_int_equal(ask_leaf(i, true), HSM_OK);
    }
    assert_true(count().kept <= 128);
    assert_true(count().kept >= 100);
    assert_int_equal(count().found + count().not_found, 2 * LEAVES);
}

static void
what_has_ended_or_is_not_asked_for_is_forgotten(void **state)
{
    (void)state;
    assert_false(was_kept("leaf,int", DATA_NOW, HSM_OK, NULL)); /* until the leaf expires */
    assert_false(was_kept("leaf", DATA_NOW, HSM_ERR_UNTRUSTED, NULL));
    certs_verdicts_forget(verdicts, DATA_NOW + REFUSED, 2 * A_DAY);
    assert_int_equal(count().kept, 2);
    certs_verdicts_forget(verdicts, DATA_NOW + REFUSED + 1, 2 * A_DAY);
    assert_int_equal(count().kept, 1);
    certs_verdicts_forget(verdicts, DATA_NOW + A_DAY, 2 * A_DAY);
    assert_int_equal(count().kept, 1);
    certs_verdicts_forget(verdicts, DATA_NOW + A_DAY + 1, 2 * A_DAY);
    assert_int_equal(count().kept, 0);
    assert_false(was_kept("leaf,int", DATA_NOW, HSM_OK, NULL));
    assert_true(was_kept("leaf,int", DATA_NOW + 60, HSM_OK, NULL));
    certs_verdicts_forget(verdicts, DATA_NOW + 3660, 3600);
    assert_int_equal(count().kept, 1); /* the one checked a minute later */
    certs_verdicts_forget(verdicts, DATA_NOW + 3661, 3600);
    assert_int_equal(count().kept, 0);
    assert_false(was_kept("leaf,int", DATA_NOW + 3661, HSM_OK, NULL));
}

struct asker {
    pthread_t thread;
    unsigned number;
    bool wrong;
};

static void *
ask_much(void *context)
{
    struct asker *asker = context;

    for (unsigned i = 0; i < ASKED; i++) {
        size_t leaf = (asker->number * 7 + i) % 20;
        bool good = leaf % 3 != 0;

        if (ask_leaf(leaf, good) != (good ? HSM_OK : HSM_ERR_UNTRUSTED))
            asker->wrong = true;
    }
    return NULL;
}

static void
threads_share_it(void **state)
{
    struct asker askers[THREADS];

    (void)state;
    for (unsigned i = 0; i < THREADS; i++) {
        askers[i] = (struct asker){.number = i};
        assert_int_equal(pthread_create(&askers[i].thread, NULL, ask_much, &askers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(askers[i].thread, NULL);
        assert_false(askers[i].wrong);
    }
    assert_int_equal(count().found + count().not_found, THREADS * ASKED);
    assert_int_equal(count().kept, 20);
}

static void
its_size_has_bounds(void **state)
{
    struct certs_verdicts *none = NULL;

    (void)state;
    assert_int_equal(certs_verdicts_new(NULL, 0, &none), HSM_ERR_USAGE);
    assert_int_equal(certs_verdicts_new(NULL, CERTS_VERDICTS_MAX + 1, &none), HSM_ERR_USAGE);
    assert_null(none);
    certs_verdicts_free(NULL);
}

static void
the_digest_of_a_chain_is_that_of_its_certificates(void **state)
{
    struct certs_chain *one = path_chain("leaf,int");
    struct certs_chain *same = path_chain("leaf");
    struct certs_chain *other = path_chain("leaf,int,root");
    struct certs_chain *rest = path_chain("int");

    (void)state;
    assert_memory_not_equal(certs_chain_digest(one), certs_chain_digest(same),
                            CERTS_CHAIN_DIGEST_LEN);
    assert_int_equal(certs_chain_append(same, rest), HSM_OK);
    assert_memory_equal(certs_chain_digest(one), certs_chain_digest(same), CERTS_CHAIN_DIGEST_LEN);
    assert_memory_not_equal(certs_chain_digest(one), certs_chain_digest(other),
                            CERTS_CHAIN_DIGEST_LEN);
    assert_int_equal(certs_chain_append(same, same), HSM_OK);
    assert_int_equal(certs_chain_len(same), 4);
    assert_int_equal(certs_chain_latest_start(same), DATA_NOW - A_DAY);
    certs_chain_free(one);
    certs_chain_free(same);
    certs_chain_free(other);
    certs_chain_free(rest);
}

static int
fixture_up(void **state)
{
    static const struct peer_ext exts[] = {{"basicConstraints", "critical,CA:FALSE"},
                                           {"keyUsage", "critical,digitalSignature"},
                                           {"subjectKeyIdentifier", "hash"},
                                           {"authorityKeyIdentifier", "keyid"},
                                           {PEER_TNAUTHLIST_1234},
                                           {NULL, NULL}};
    EVP_PKEY *key = peer_key_new("P-256");

    (void)state;
    for (size_t i = 0; i < LEAVES; i++)
        leaves[i] = peer_cert(&(struct peer_spec){.cn = "SHAKEN 1234",
                                                  .key = key,
                                                  .issuer = path_cert("int"),
                                                  .issuer_key = path_key("int"),
                                                  .exts = exts,
                                                  .serial = (long)i + 1000});
    EVP_PKEY_free(key);
    return 0;
}

static int
fixture_down(void **state)
{
    (void)state;
    for (size_t i = 0; i < LEAVES; i++)
        X509_free(leaves[i]);
    path_fixture_free();
    return 0;
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, up, down)

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        CASE(a_good_verdict_is_said_again_with_the_same_path),
        CASE(a_chain_in_another_order_is_another_chain),
        CASE(a_good_verdict_ends_with_the_first_certificate),
        CASE(a_verdict_ends_with_the_list_and_the_crl),
        CASE(a_new_crl_is_obeyed_at_once),
        CASE(a_new_list_is_obeyed_at_once),
        CASE(a_refusal_is_kept_until_a_certificate_begins),
        CASE(a_refusal_is_kept_for_minutes),
        CASE(a_refusal_is_kept_until_a_root_or_an_intermediate_begins),
        cmocka_unit_test(the_next_start_is_the_earliest_that_is_to_come),
        CASE(the_policy_of_the_cache_is_its_own),
        CASE(a_flood_of_refusals_pushes_out_no_good_verdict),
        CASE(it_is_bounded_and_goes_on),
        CASE(what_has_ended_or_is_not_asked_for_is_forgotten),
        CASE(threads_share_it),
        CASE(its_size_has_bounds),
        CASE(the_digest_of_a_chain_is_that_of_its_certificates),
    };

    return cmocka_run_group_tests(tests, fixture_up, fixture_down);
}
