/* test_trail.c - mirrors sks/src/trail.c: the log of signatures. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <sys/stat.h>

#include <cmocka.h>

#include <sks/service.h>
#include <sks/x5u.h>

#include "signing_group.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Returns the number of lines of a file, each of which is JSON; `last` is the last one. */
static size_t
read_trail(const char *path, json_t **last)
{
    FILE *from = fopen(path, "r");
    char line[16384];
    size_t count = 0;

    *last = NULL;
    assert_non_null(from);
    while (fgets(line, sizeof(line), from) != NULL) {
        json_decref(*last);
        *last = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
        assert_non_null(*last);
        count++;
    }
    fclose(from);
    return count;
}

static void
each_signature_is_on_record_with_whose_decision_it_was(void **state)
{
    static const char *const members[] = {"caller", "customer", "spc", "ppt", "x5u"};
    static const char *const values[] = {"pbx", "acme", ECO_SPC, "shaken", X5U};
    struct stat about;
    json_t *claims;
    json_t *last;

    (void)state;
    begin_with(two_customers, (long)getuid());
    post(SHAKEN);
    assert_int_equal(called.status, 200);
    post(SHAKEN ",\"requestId\":\"a\\\"b\"");
    assert_int_equal(called.status, 200);
    claims = signed_payload("identityHeader");
    assert_int_equal(read_trail(world.trail, &last), 2);
    for (size_t i = 0; i < COUNT(members); i++)
        assert_string_equal(json_string_value(json_object_get(last, members[i])), values[i]);
    assert_true(json_equal(json_object_get(last, "claims"), claims));
    assert_string_equal(json_string_value(json_object_get(last, "requestId")), "a?b");
    assert_non_null(strstr(json_string_value(json_object_get(last, "rule")), "callers.conf:2"));
    assert_int_equal(stat(world.trail, &about), 0);
    assert_int_equal(about.st_mode & 0777, 0600);
    json_decref(claims);
    json_decref(last);
}

static void
each_refusal_is_on_record_with_what_was_asked(void **state)
{
    static const char callers[] = "[customer acme]\nspc = " ECO_SPC "\nattest = A B\n"
                                  "numbers = 12155551200-12155551299\n"
                                  "[caller pbx]\nuid = %ld\ncustomers = acme\n";
    static const struct {
        const char *members, *refused, *customer, *attest, *number;
    } cases[] = {
        {"\"attest\":\"C\"," FROM "," TO "," ID, "attest: not a level of the customer", "acme", "C",
         "12155551212"},
        {A ",\"orig\":{\"tn\":\"19175550100\"}," TO "," ID, "orig: not a number of the customer",
         NULL, "A", "19175550100"},
        {A ",\"orig\":{\"tn\":\"19175550100\"}," TO ",\"origid\":\"no UUID\"",
         "orig: not a number of the customer", NULL, "A",
         "19175550100"}, /* its claims are invalid as well */
        {SHAKEN ",\"profileId\":\"nobody\"", "profileId: not a customer of this caller", NULL, "A",
         "12155551212"},
    };
    json_t *last;

    (void)state;
    begin_with(callers, (long)getuid());
    for (size_t i = 0; i < COUNT(cases); i++) {
        const char *customer, *attest, *number;
        json_t *claims;

        post(cases[i].members);
        assert_int_equal(called.status, 403);
        assert_int_equal(read_trail(world.trail, &last), i + 1);
        customer = json_string_value(json_object_get(last, "customer"));
        claims = json_object_get(last, "claims");
        attest = json_string_value(json_object_get(claims != NULL ? claims : last, "attest"));
        number = json_string_value(claims != NULL
                                       ? json_object_get(json_object_get(claims, "orig"), "tn")
                                       : json_object_get(last, "orig"));
        assert_string_equal(json_string_value(json_object_get(last, "refused")), cases[i].refused);
        assert_string_equal(json_string_value(json_object_get(last, "caller")), "pbx");
        assert_int_equal(customer != NULL, cases[i].customer != NULL);
        if (customer != NULL)
            assert_string_equal(customer, cases[i].customer);
        assert_string_equal(attest, cases[i].attest);
        assert_string_equal(number, cases[i].number);
        assert_null(json_object_get(last, "x5u"));
        json_decref(last);
    }
    post(A "," FROM "," TO); /* malformed, so not a refusal by policy */
    assert_int_equal(called.status, 400);
    assert_int_equal(read_trail(world.trail, &last), COUNT(cases));
    json_decref(last);
    sks_trail_follow(sks.trail); /* to the disk */
}

/* Otherwise refused callers could fill the disk, and nothing is signed without it. */
static void
refusals_are_on_record_no_more_often_than_the_rate(void **state)
{
    static const char *const callers[] = {
        "[customer acme]\nspc = " ECO_SPC "\nattest = A\nnumbers = 12155551212\nrate = 1\n"
        "[caller pbx]\nuid = %ld\ncustomers = acme\n",
        "[customer acme]\nspc = " ECO_SPC "\nattest = A\nnumbers = 12155551212\n"
        "[caller pbx]\nuid = %ld\ncustomers = acme\nrate = 1\n",
    };
    static const char *const members[] = {"\"attest\":\"C\"," FROM "," TO "," ID,
                                          SHAKEN ",\"profileId\":\"nobody\""};
    json_t *last;

    (void)state;
    for (size_t i = 0; i < COUNT(callers); i++) {
        time_t begun = time(NULL);
        size_t lines;

        begin_with(callers[i], (long)getuid());
        for (int calls = 0; calls < 60; calls++) {
            post(members[i]);
            assert_int_equal(called.status, 403);
        }
        lines = read_trail(world.trail, &last);
        json_decref(last);
        signing_finish(NULL);
        assert_in_range(lines, 1, (size_t)(time(NULL) - begun) + 3);
    }
}

static void
a_record_that_is_moved_away_is_begun_anew(void **state)
{
    char moved[208];
    json_t *last;

    (void)state;
    signing_begin(NULL);
    snprintf(moved, sizeof(moved), "%s.1", world.trail);
    post(SHAKEN);
    assert_int_equal(rename(world.trail, moved), 0);
    post(SHAKEN); /* still to the old file */
    sks_service_refresh(sks.service);
    post(SHAKEN);
    assert_int_equal(read_trail(moved, &last), 2);
    json_decref(last);
    assert_int_equal(read_trail(world.trail, &last), 1);
    assert_null(json_object_get(last, "caller")); /* callers have no names without a file */
    json_decref(last);
    unlink(moved);
}

static void
without_its_record_no_signature_is_given_out(void **state)
{
    (void)state;
    if (access("/dev/full", W_OK) != 0)
        skip();
    snprintf(world.trail, sizeof(world.trail), "%s/full", softhsm_dir());
    assert_int_equal(symlink("/dev/full", world.trail), 0);
    /* Symbolic links are not followed. */
    assert_int_equal(sks_trail_open(world.trail, &sks.trail), HSM_ERR_IO);
    unlink(world.trail);
    snprintf(world.trail, sizeof(world.trail), "/dev/full");
    signing_begin(NULL);
    post(SHAKEN);
    assert_atis_error(503, "POL5030", "record");
    assert_null(strstr(called.body, "identity"));
    snprintf(world.trail, sizeof(world.trail), "%s/trail", softhsm_dir());
}

#define TEST(test) cmocka_unit_test_teardown(test, signing_finish)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(each_signature_is_on_record_with_whose_decision_it_was),
        TEST(each_refusal_is_on_record_with_what_was_asked),
        TEST(refusals_are_on_record_no_more_often_than_the_rate),
        TEST(a_record_that_is_moved_away_is_begun_anew),
        TEST(without_its_record_no_signature_is_given_out),
    };

    return cmocka_run_group_tests(tests, signing_group_start, signing_group_stop);
}
