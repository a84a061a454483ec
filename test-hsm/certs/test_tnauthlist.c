/* test_tnauthlist.c - mirrors certs/src/tnauthlist.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include <certs/tnauthlist.h>

#include "data.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void
entry_is(const struct certs_tn_entry *entry, json_t *wanted)
{
    const char *spc = json_string_value(json_object_get(wanted, "spc"));
    const char *one = json_string_value(json_object_get(wanted, "one"));
    json_t *range = json_object_get(wanted, "range");

    if (spc != NULL) {
        assert_int_equal(entry->kind, CERTS_TN_SPC);
        assert_string_equal(entry->text, spc);
        assert_int_equal(entry->count, 0);
    } else if (one != NULL) {
        assert_int_equal(entry->kind, CERTS_TN_ONE);
        assert_string_equal(entry->text, one);
        assert_int_equal(entry->count, 1);
    } else {
        assert_int_equal(entry->kind, CERTS_TN_RANGE);
        assert_string_equal(entry->text, json_string_value(json_object_get(range, "start")));
        assert_int_equal(entry->count, json_integer_value(json_object_get(range, "count")));
    }
}

/* Decoded as in the vector, and encoded from the entries to the same octets. */
static void
round_trip_is(const struct certs_tnauthlist *list, json_t *wanted, const uint8_t *der, size_t len)
{
    struct certs_tn_entry entries[8];
    struct certs_tnauthlist *again = NULL;
    size_t again_len;

    assert_int_equal(certs_tnauthlist_len(list), json_array_size(wanted));
    for (size_t i = 0; i < certs_tnauthlist_len(list); i++) {
        entry_is(certs_tnauthlist_entry(list, i), json_array_get(wanted, i));
        entries[i] = *certs_tnauthlist_entry(list, i);
    }
    assert_null(certs_tnauthlist_entry(list, certs_tnauthlist_len(list)));
    assert_int_equal(certs_tnauthlist_new(entries, certs_tnauthlist_len(list), &again, NULL),
                     HSM_OK);
    assert_true(certs_tnauthlist_equals(list, again));
    assert_memory_equal(certs_tnauthlist_der(again, &again_len), der, len);
    assert_int_equal(again_len, len);
    certs_tnauthlist_free(again);
}

static void
each_vector_has_its_verdict(void **state)
{
    json_t *file = data_json("self/tnauthlist.json");
    json_t *vector;
    size_t i;
    size_t good = 0;

    (void)state;
    json_array_foreach(json_object_get(file, "cases"), i, vector)
    {
        bool valid = json_is_true(json_object_get(vector, "valid_rfc8226"));
        struct certs_tnauthlist *list = NULL;
        struct hsm_reason why = {0};
        uint8_t der[128];
        size_t len =
            data_unhex(json_string_value(json_object_get(vector, "der_hex")), der, sizeof(der));
        enum hsm_status st = certs_tnauthlist_parse(der, len, &list, &why);

        if ((st == HSM_OK) != valid)
            fail_msg("%s: %s", json_string_value(json_object_get(vector, "id")), why.text);
        if (valid) {
            round_trip_is(list, json_object_get(vector, "decoded"), der, len);
            good++;
        } else {
            assert_int_equal(st, HSM_ERR_MALFORMED);
            assert_null(list);
            assert_string_not_equal(why.text, "");
        }
        certs_tnauthlist_free(list);
    }
    assert_int_equal(good, 7);
    assert_int_equal(i, 17);
    json_decref(file);
}

/* Encodings that a hand-written parser could get wrong, in addition to the vectors. */
static const struct {
    const char *what, *der_hex;
} malformed[] = {
    {"nothing", "-"},
    {"half a header", "30"},
    {"longer than it is", "300aa006160431323334"},
    {"a SET", "3108a006160431323334"},
    {"tag [3]", "3008a306160431323334"},
    {"an entry cut short", "3007a0061604313233"},
    {"an entry longer than its parent", "3008a007160431323334"},
    {"octets after the string inside the tag", "300aa0081604313233340500"},
    {"a UTF8String", "3008a0060c0431323334"},
    {"a PrintableString", "3008a006130431323334"},
    {"an empty SPC", "3004a0021600"},
    {"a NUL inside", "3008a006160431003334"},
    {"a control character", "3008a006160431073334"},
    {"an octet above ASCII", "3008a006160431ff3334"},
    {"an empty number", "3004a2021600"},
    {"indefinite length inside", "300ca0801604313233340000"},
    {"reserved length", "30ff"},
    {"a length of 2^32 - 1", "3084ffffffff"},
    {"a range that is not a SEQUENCE", "300fa10d160b3132313535353530313030"},
    {"a range without count", "3011a10f300d160b3132313535353530313030"},
    {"a range with an empty count", "3013a111300f160b31323135353535303130300200"},
    {"a negative count", "3014a1123010160b3132313535353530313030020184"},
    {"a count with a leading zero", "3015a1133011160b313231353535353031303002020064"},
    {"a count of 65 bits", "301ca11a3018160b31323135353535303130300209010000000000000000"},
    {"an element after the count", "3016a1143012160b31323135353535303130300201640500"},
    {"a range that reaches 10^digits", "300ba10930071602313002015a"},
};

static void
what_is_not_strict_der_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(malformed); i++) {
        struct certs_tnauthlist *list = NULL;
        struct hsm_reason why = {0};
        uint8_t der[64];
        size_t len = data_unhex(malformed[i].der_hex, der, sizeof(der));

        if (certs_tnauthlist_parse(der, len, &list, &why) != HSM_ERR_MALFORMED)
            fail_msg("%s was taken", malformed[i].what);
        assert_null(list);
        assert_string_not_equal(why.text, "");
    }
}

static void
a_range_may_end_with_its_last_number(void **state)
{
    /* 10 + 89 = 99 is below 10^2 */
    static const uint8_t der[] = {0x30, 0x0b, 0xa1, 0x09, 0x30, 0x07, 0x16,
                                  0x02, 0x31, 0x30, 0x02, 0x01, 0x59};
    struct certs_tnauthlist *list = NULL;

    (void)state;
    assert_int_equal(certs_tnauthlist_parse(der, sizeof(der), &list, NULL), HSM_OK);
    assert_int_equal(certs_tnauthlist_entry(list, 0)->count, 89);
    certs_tnauthlist_free(list);
}

static void
an_spc_makes_the_octets_of_the_standard(void **state)
{
    static const uint8_t wanted[] = {0x30, 0x08, 0xa0, 0x06, 0x16, 0x04, '1', '2', '3', '4'};
    struct certs_tnauthlist *list = NULL;
    struct certs_tnauthlist *copy = NULL;
    size_t len;

    (void)state;
    assert_int_equal(certs_tnauthlist_from_spc("1234", &list), HSM_OK);
    assert_memory_equal(certs_tnauthlist_der(list, &len), wanted, sizeof(wanted));
    assert_int_equal(len, sizeof(wanted));
    assert_string_equal(certs_tnauthlist_spc(list), "1234");
    assert_int_equal(certs_tnauthlist_copy(list, &copy), HSM_OK);
    certs_tnauthlist_free(list);
    assert_string_equal(certs_tnauthlist_spc(copy), "1234");
    certs_tnauthlist_free(copy);
}

static void
an_spc_of_other_characters_or_length_is_refused(void **state)
{
    static const char *const bad[] = {"", "12 4", "12-4", "1234\n", "\xc3\xa9"};
    char longest[CERTS_SPC_MAX + 2];
    struct certs_tnauthlist *list = NULL;

    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++)
        assert_int_equal(certs_tnauthlist_from_spc(bad[i], &list), HSM_ERR_MALFORMED);
    memset(longest, 'A', sizeof(longest));
    longest[CERTS_SPC_MAX + 1] = '\0';
    assert_int_equal(certs_tnauthlist_from_spc(longest, &list), HSM_ERR_MALFORMED);
    assert_null(list);
    longest[CERTS_SPC_MAX] = '\0';
    assert_int_equal(certs_tnauthlist_from_spc(longest, &list), HSM_OK);
    certs_tnauthlist_free(list);
}

static const struct {
    const char *what;
    struct certs_tn_entry entry;
} bad_entries[] = {
    {"an empty SPC", {CERTS_TN_SPC, "", 0}},
    {"a number with a plus", {CERTS_TN_ONE, "+12155551212", 1}},
    {"a number of 16 digits", {CERTS_TN_ONE, "1234567890123456", 1}},
    {"a range of one", {CERTS_TN_RANGE, "12155550100", 1}},
    {"a range from a star", {CERTS_TN_RANGE, "1215*", 2}},
    {"a range beyond its digits", {CERTS_TN_RANGE, "99", 2}},
    {"a range near 2^64", {CERTS_TN_RANGE, "999999999999999", UINT64_MAX}},
    {"a kind there is not", {(enum certs_tn_kind)3, "1234", 0}},
};

static void
entries_that_break_rfc_8226_are_refused(void **state)
{
    struct certs_tnauthlist *list = NULL;
    struct hsm_reason why;

    (void)state;
    assert_int_equal(certs_tnauthlist_new(NULL, 0, &list, &why), HSM_ERR_MALFORMED);
    for (size_t i = 0; i < COUNT(bad_entries); i++) {
        if (certs_tnauthlist_new(&bad_entries[i].entry, 1, &list, &why) != HSM_ERR_MALFORMED)
            fail_msg("%s was taken", bad_entries[i].what);
    }
    assert_null(list);
}

static void
many_entries_need_long_form_lengths_and_have_a_bound(void **state)
{
    size_t count = 5000;
    struct certs_tn_entry *entries = calloc(count, sizeof(*entries));
    struct certs_tnauthlist *list = NULL;
    struct certs_tnauthlist *again = NULL;
    const uint8_t *der;
    size_t len;

    (void)state;
    for (size_t i = 0; i < count; i++)
        entries[i] = (struct certs_tn_entry){CERTS_TN_ONE, "12155551212", 1};
    for (size_t n = 1; n <= 4000; n += 13) { /* past 2^7, 2^8 and 2^16 octets */
        assert_int_equal(certs_tnauthlist_new(entries, n, &list, NULL), HSM_OK);
        der = certs_tnauthlist_der(list, &len);
        assert_int_equal(certs_tnauthlist_parse(der, len, &again, NULL), HSM_OK);
        assert_int_equal(certs_tnauthlist_len(again), n);
        certs_tnauthlist_free(list);
        certs_tnauthlist_free(again);
    }
    list = NULL;
    assert_int_equal(certs_tnauthlist_new(entries, count, &list, NULL), HSM_ERR_MALFORMED);
    assert_null(list);
    free(entries);
}

static void
two_spcs_are_not_a_shaken_list_and_read_well(void **state)
{
    static const struct certs_tn_entry entries[] = {
        {CERTS_TN_SPC, "1234", 0}, {CERTS_TN_RANGE, "12155550100", 100}, {CERTS_TN_ONE, "911", 1}};
    struct certs_tnauthlist *list = NULL;
    char *text;

    (void)state;
    assert_int_equal(certs_tnauthlist_new(entries, COUNT(entries), &list, NULL), HSM_OK);
    assert_null(certs_tnauthlist_spc(list));
    text = certs_tnauthlist_text(list);
    assert_string_equal(text, "SPC 1234, range 12155550100 x 100, number 911");
    free(text);
    certs_tnauthlist_free(list);
}

/* -- RFC 9060: a delegate's list within that of its issuer -- */

static struct certs_tnauthlist *
list_of(json_t *entries)
{
    struct certs_tn_entry made[4] = {0};
    struct certs_tnauthlist *list = NULL;
    json_t *entry;
    size_t i;

    assert_true(json_array_size(entries) <= COUNT(made));
    json_array_foreach(entries, i, entry)
    {
        json_t *range = json_object_get(entry, "range");
        const char *spc = json_string_value(json_object_get(entry, "spc"));
        const char *text = range != NULL ? json_string_value(json_object_get(range, "start"))
                           : spc != NULL ? spc
                                         : json_string_value(json_object_get(entry, "one"));

        made[i].kind = range != NULL ? CERTS_TN_RANGE : spc != NULL ? CERTS_TN_SPC : CERTS_TN_ONE;
        made[i].count =
            range != NULL ? (uint64_t)json_integer_value(json_object_get(range, "count")) : 1;
        snprintf(made[i].text, sizeof(made[i].text), "%s", text);
    }
    assert_int_equal(certs_tnauthlist_new(made, json_array_size(entries), &list, NULL), HSM_OK);
    return list;
}

static void
each_vector_of_encompassing_has_its_verdict(void **state)
{
    json_t *file = data_json("self/encompassing.json");
    json_t *vector;
    size_t i;

    (void)state;
    json_array_foreach(json_object_get(file, "cases"), i, vector)
    {
        struct certs_tnauthlist *parent = list_of(json_object_get(vector, "parent"));
        struct certs_tnauthlist *child = list_of(json_object_get(vector, "child"));
        json_t *wanted = json_object_get(vector, "encompassed");
        enum certs_scope scope = certs_tnauthlist_scope(parent, child);

        print_message("case %zu\n", i);
        assert_int_equal(certs_tnauthlist_encompasses(parent, child), json_is_true(wanted));
        if (json_is_string(wanted)) /* needs external data */
            assert_int_equal(scope, CERTS_SCOPE_BY_NUMBERING);
        else
            assert_int_equal(scope,
                             json_is_true(wanted) ? CERTS_SCOPE_INSIDE : CERTS_SCOPE_OUTSIDE);
        certs_tnauthlist_free(parent);
        certs_tnauthlist_free(child);
    }
    assert_int_equal(i, 6);
    json_decref(file);
}

#define SPC(text)                                                                                  \
    {                                                                                              \
        CERTS_TN_SPC, text, 0                                                                      \
    }
#define ONE(text)                                                                                  \
    {                                                                                              \
        CERTS_TN_ONE, text, 1                                                                      \
    }
#define RANGE(text, count)                                                                         \
    {                                                                                              \
        CERTS_TN_RANGE, text, count                                                                \
    }

static const struct {
    struct certs_tn_entry parent[3], child[3];
    enum certs_scope wanted;
} scopes[] = {
    /* adjacent and overlapping numbers and ranges of the parent are combined */
    {{RANGE("100", 50), RANGE("150", 50)}, {RANGE("120", 60)}, CERTS_SCOPE_INSIDE},
    {{RANGE("150", 50), RANGE("100", 60)}, {RANGE("100", 100)}, CERTS_SCOPE_INSIDE},
    {{RANGE("150", 50), RANGE("100", 50)}, {RANGE("100", 101)}, CERTS_SCOPE_OUTSIDE},
    {{RANGE("100", 50), RANGE("151", 50)}, {RANGE("120", 60)}, CERTS_SCOPE_OUTSIDE},
    {{ONE("101"), ONE("100"), ONE("102")}, {RANGE("100", 3)}, CERTS_SCOPE_INSIDE},
    {{ONE("101"), ONE("100"), ONE("103")}, {RANGE("100", 3)}, CERTS_SCOPE_OUTSIDE},
    {{RANGE("100", 100), RANGE("120", 5)}, {ONE("199")}, CERTS_SCOPE_INSIDE},
    /* the ends of a range */
    {{RANGE("100", 10)}, {ONE("100")}, CERTS_SCOPE_INSIDE},
    {{RANGE("100", 10)}, {ONE("109")}, CERTS_SCOPE_INSIDE},
    {{RANGE("100", 10)}, {ONE("110")}, CERTS_SCOPE_OUTSIDE},
    {{RANGE("100", 10)}, {ONE("099")}, CERTS_SCOPE_OUTSIDE},
    {{RANGE("100", 10)}, {RANGE("099", 2)}, CERTS_SCOPE_OUTSIDE},
    {{ONE("100")}, {RANGE("100", 2)}, CERTS_SCOPE_OUTSIDE},
    /* numbers of different lengths differ */
    {{RANGE("0100", 100)}, {ONE("150")}, CERTS_SCOPE_OUTSIDE},
    {{RANGE("100", 100)}, {ONE("0150")}, CERTS_SCOPE_OUTSIDE},
    {{RANGE("10", 80), RANGE("100", 100)}, {ONE("150")}, CERTS_SCOPE_INSIDE},
    /* # and * are not in any range */
    {{ONE("*12")}, {ONE("*12")}, CERTS_SCOPE_INSIDE},
    {{ONE("*12"), ONE("#12")}, {ONE("*13")}, CERTS_SCOPE_OUTSIDE},
    {{RANGE("100", 800)}, {ONE("1#2")}, CERTS_SCOPE_OUTSIDE},
    /* all entries count, and an SPC is not a number */
    {{SPC("1234"), SPC("5678")}, {SPC("5678"), SPC("1234")}, CERTS_SCOPE_INSIDE},
    {{SPC("1234")}, {SPC("1234"), SPC("5678")}, CERTS_SCOPE_OUTSIDE},
    {{SPC("709J")}, {SPC("709j")}, CERTS_SCOPE_OUTSIDE},
    {{SPC("1234")}, {ONE("1234")}, CERTS_SCOPE_BY_NUMBERING},
    {{ONE("1234")}, {SPC("1234")}, CERTS_SCOPE_OUTSIDE},
    {{SPC("1234"), ONE("911")}, {ONE("911")}, CERTS_SCOPE_INSIDE},
    {{SPC("1234"), ONE("911")}, {ONE("911"), RANGE("100", 2)}, CERTS_SCOPE_BY_NUMBERING},
    {{SPC("1234")}, {RANGE("100", 2), SPC("5678")}, CERTS_SCOPE_OUTSIDE},
};

static size_t
entries_of(const struct certs_tn_entry *entries)
{
    size_t count = 0;

    while (count < 3 && entries[count].text[0] != '\0')
        count++;
    return count;
}

static void
the_scope_of_a_delegate_is_within_that_of_its_issuer_or_not(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(scopes); i++) {
        struct certs_tnauthlist *parent = NULL;
        struct certs_tnauthlist *child = NULL;

        assert_int_equal(
            certs_tnauthlist_new(scopes[i].parent, entries_of(scopes[i].parent), &parent, NULL),
            HSM_OK);
        assert_int_equal(
            certs_tnauthlist_new(scopes[i].child, entries_of(scopes[i].child), &child, NULL),
            HSM_OK);
        if (certs_tnauthlist_scope(parent, child) != scopes[i].wanted)
            fail_msg("case %zu", i);
        assert_true(certs_tnauthlist_encompasses(child, child));
        certs_tnauthlist_free(parent);
        certs_tnauthlist_free(child);
    }
}

static void
a_number_is_in_a_list_by_itself_or_inside_a_range(void **state)
{
    static const struct certs_tn_entry entries[] = {SPC("1234"), RANGE("12155550100", 100),
                                                    ONE("911"), ONE("*67")};
    static const struct {
        const char *number;
        bool wanted;
    } cases[] = {
        {"12155550100", true},   {"12155550199", true},
        {"12155550200", false},  {"12155550099", false},
        {"911", true},           {"0911", false},
        {"*67", true},           {"*68", false},
        {"1234", false},         {"", false},
        {"+12155550100", false}, {"1215555010012155550100", false},
    };
    struct certs_tnauthlist *list = NULL;

    (void)state;
    assert_int_equal(certs_tnauthlist_new(entries, COUNT(entries), &list, NULL), HSM_OK);
    for (size_t i = 0; i < COUNT(cases); i++) {
        if (certs_tnauthlist_has_number(list, cases[i].number) != cases[i].wanted)
            fail_msg("\"%s\"", cases[i].number);
    }
    certs_tnauthlist_free(list);
}

#define MANY 12000 /* SPCs that fit into CERTS_TNAUTHLIST_MAX */

/* A stranger can send such lists: comparing 12,000 times 12,000 pairs would take seconds. */
static void
the_scope_of_long_lists_takes_no_look_at_each_pair(void **state)
{
    struct certs_tn_entry *entries = calloc(MANY + 1, sizeof(*entries));
    struct certs_tnauthlist *parent = NULL, *child = NULL, *beyond = NULL;
    clock_t start;

    (void)state;
    assert_non_null(entries);
    for (size_t i = 0; i < MANY; i++) {
        entries[i].kind = CERTS_TN_SPC;
        entries[i].text[0] = 'A';
    }
    entries[MANY - 1].text[0] = 'Z';
    assert_int_equal(certs_tnauthlist_new(entries, MANY, &parent, NULL), HSM_OK);
    for (size_t i = 0; i < MANY; i++)
        entries[i].text[0] = 'Z';
    assert_int_equal(certs_tnauthlist_new(entries, MANY, &child, NULL), HSM_OK);
    entries[0].text[0] = 'B';
    assert_int_equal(certs_tnauthlist_new(entries, MANY, &beyond, NULL), HSM_OK);
    start = clock();
    assert_int_equal(certs_tnauthlist_scope(parent, child), CERTS_SCOPE_INSIDE);
    assert_true(clock() - start < CLOCKS_PER_SEC / 4); /* processor time; 1 % is enough */
    assert_int_equal(certs_tnauthlist_scope(parent, beyond), CERTS_SCOPE_OUTSIDE);
    certs_tnauthlist_free(parent);
    certs_tnauthlist_free(child);
    certs_tnauthlist_free(beyond);
    free(entries);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_vector_has_its_verdict),
        cmocka_unit_test(what_is_not_strict_der_is_refused),
        cmocka_unit_test(a_range_may_end_with_its_last_number),
        cmocka_unit_test(an_spc_makes_the_octets_of_the_standard),
        cmocka_unit_test(an_spc_of_other_characters_or_length_is_refused),
        cmocka_unit_test(entries_that_break_rfc_8226_are_refused),
        cmocka_unit_test(many_entries_need_long_form_lengths_and_have_a_bound),
        cmocka_unit_test(two_spcs_are_not_a_shaken_list_and_read_well),
        cmocka_unit_test(each_vector_of_encompassing_has_its_verdict),
        cmocka_unit_test(the_scope_of_a_delegate_is_within_that_of_its_issuer_or_not),
        cmocka_unit_test(a_number_is_in_a_list_by_itself_or_inside_a_range),
        cmocka_unit_test(the_scope_of_long_lists_takes_no_look_at_each_pair),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
