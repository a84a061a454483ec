/* test_link.c - mirrors acme/src/link.c; the first links are those of RFC 8288 section 3.5. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <link_internal.h>

static void
links_are_found_by_their_relation(void **state)
{
    static const struct {
        const char *links, *relation;
        size_t skip;
        const char *url; /* NULL: not found */
    } cases[] = {
        {"<http://example.com/TheBook/chapter2>; rel=\"previous\"; title=\"previous chapter\"",
         "previous", 0, "http://example.com/TheBook/chapter2"},
        {"</>; rel=\"http://example.net/foo\"", "http://example.net/foo", 0, "/"},
        {"</TheBook/chapter2>; rel=\"previous\"; title*=UTF-8'de'letztes%20Kapitel,"
         " </TheBook/chapter4>; rel=\"next\"; title*=UTF-8'de'n%c3%a4chstes%20Kapitel",
         "next", 0, "/TheBook/chapter4"},
        {"<http://example.org/>; rel=\"start http://example.net/relation/other\"", "start", 0,
         "http://example.org/"},
        {"<https://a/1>;rel=alternate,<https://a/2>;REL=\"Alternate\"", "alternate", 1,
         "https://a/2"},
        {"<https://a/1>;rel=alternate,<https://a/2>;rel=alternate", "alternate", 2, NULL},
        {"<https://a/?x=1,2;3>;rel=next", "next", 0, "https://a/?x=1,2;3"},
        {"<https://a/1>;title=\"a, \\\"<b>;rel=next\";rel=up, <https://a/2>;rel=next", "next", 0,
         "https://a/2"},
        {"<https://a/1>;rel=index;rel=next", "next", 0, NULL}, /* only the first rel counts */
        {"<https://a/1>;anchor;rel = next", "next", 0, "https://a/1"},
        {" ,, <https://a/1> ; rel=next ,", "next", 0, "https://a/1"},
        {"<https://a/1>;rel=\"nextdoor\"", "next", 0, NULL},
        {"<https://a/1>", "next", 0, NULL},
        {"<https://a/1;rel=next", "next", 0, NULL},
        {"<https://a/1>;rel=\"next", "next", 0, NULL},
        {"<https://a/1>;title=\"x\\", "next", 0, NULL},
        {"https://a/1;rel=next", "next", 0, NULL},
        {"", "next", 0, NULL},
        {NULL, "next", 0, NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *url = NULL;
        enum hsm_status st = acme_link_find(cases[i].links, cases[i].relation, cases[i].skip, &url);

        assert_int_equal(st, cases[i].url != NULL ? HSM_OK : HSM_ERR_NOT_FOUND);
        if (cases[i].url != NULL)
            assert_string_equal(url, cases[i].url);
        free(url);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(links_are_found_by_their_relation)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
