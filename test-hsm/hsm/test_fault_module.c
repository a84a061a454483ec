/* test_fault_module.c - the fault module does what its README says: rules, commands, the table. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/evp.h>

#include "fault_token.h"

/* ---- without commands */

static void
a_call_goes_through_unchanged(void **state)
{
    struct p11_token *f = *state;
    CK_SESSION_INFO info;
    CK_BYTE sig[P11_SIG_ROOM];
    CK_ULONG len = P11_SIG_ROOM;
    EVP_PKEY *key = p11_public_key(f->session, "alpha");

    assert_int_equal(p11_sign_into(f->session, f->key, sig, &len), CKR_OK);
    assert_true(p11_verifies(key, sig, len));
    assert_int_equal(p11->C_GetSessionInfo(f->session, &info), CKR_OK);
    assert_int_equal(info.slotID, f->slot);
    assert_int_equal(info.state, CKS_RW_USER_FUNCTIONS);
    assert_int_equal(fault_number("count C_Sign"), 1);
    assert_int_equal(fault_number("failed C_Sign"), 0);
    assert_int_equal(fault_number("struck"), 0);
    assert_int_equal(fault_number("open"), 1);
    assert_int_equal(p11_sign(f->session, 0x7777), CKR_OBJECT_HANDLE_INVALID);
    assert_int_equal(p11_sign(f->session, CK_INVALID_HANDLE), CKR_OBJECT_HANDLE_INVALID);
    assert_int_equal(p11_sign(f->session ^ 0x10000, f->key), CKR_SESSION_HANDLE_INVALID);
    assert_int_equal(p11_sign(CK_INVALID_HANDLE, f->key), CKR_SESSION_HANDLE_INVALID);
    EVP_PKEY_free(key);
}

static void
closed_sessions_are_not_met_again(void **state)
{
    struct p11_token *f = *state;
    CK_SESSION_HANDLE old;
    CK_SESSION_HANDLE fresh;

    assert_int_equal(p11_open_session(f->slot, &old), CKR_OK);
    assert_int_equal(p11->C_CloseSession(old), CKR_OK);
    assert_int_equal(p11_open_session(f->slot, &fresh), CKR_OK);
    assert_int_not_equal(old, fresh);
    assert_int_equal(p11_sign(old, f->key), CKR_SESSION_HANDLE_INVALID);
    assert_int_equal(p11_sign(fresh, f->key), CKR_OK);
    assert_int_equal(fault_number("open token shelf"), 2);
    assert_int_equal(p11->C_CloseAllSessions(f->slot), CKR_OK);
    assert_int_equal(p11_sign(fresh, f->key), CKR_SESSION_HANDLE_INVALID);
    assert_int_equal(fault_number("open"), 0);
}

static void
objects_are_made_found_and_destroyed(void **state)
{
    struct p11_token *f = *state;
    CK_OBJECT_HANDLE found[P11_FOUND_MAX];
    CK_ULONG size = 0;

    assert_int_equal(p11_generate(f->session, "made", 7, true), CKR_OK);
    assert_int_equal(p11_find_keys(f->session, CKO_PRIVATE_KEY, "made", 1, found), 1);
    assert_int_equal(p11_find_key(f->session, CKO_PRIVATE_KEY, "made"), found[0]);
    assert_int_equal(p11_sign(f->session, found[0]), CKR_OK);
    assert_int_equal(p11->C_GetObjectSize(f->session, found[0], &size), CKR_OK);
    assert_int_equal(p11->C_DestroyObject(f->session, found[0]), CKR_OK);
    assert_int_equal(p11_sign(f->session, found[0]), CKR_OBJECT_HANDLE_INVALID);
    assert_int_equal(p11->C_DestroyObject(f->session, found[0]), CKR_OBJECT_HANDLE_INVALID);
    assert_int_equal(p11_find_keys(f->session, CKO_PRIVATE_KEY, "made", 4, found), 0);
    assert_int_equal(p11_find_keys(f->session, CKO_PUBLIC_KEY, "made", 4, found), 1);
    assert_int_equal(p11->C_DestroyObject(f->session, found[0]), CKR_OK);
}

/* ---- rules */

/* The results of nine signatures: "." is CKR_OK, "x" is any other. */
static void
signatures_are(struct p11_token *f, const char *rule, const char *expected)
{
    char answers[10] = "";

    fault("reset");
    fault("%s", rule);
    for (size_t i = 0; i < sizeof(answers) - 1; i++)
        answers[i] = p11_sign(f->session, f->key) == CKR_OK ? '.' : 'x';
    if (strcmp(answers, expected) != 0)
        fail_msg("%s: %s, not %s", rule, answers, expected);
}

static void
rules_strike_the_calls_that_they_name(void **state)
{
    struct p11_token *f = *state;

    signatures_are(f, "on C_Sign rv CKR_DEVICE_ERROR", "xxxxxxxxx");
    signatures_are(f, "on C_Sign times 2 rv CKR_DEVICE_ERROR", "xx.......");
    signatures_are(f, "on C_Sign after 3 times 2 rv CKR_DEVICE_ERROR", "...xx....");
    signatures_are(f, "on C_Sign every 3 rv CKR_DEVICE_ERROR", "..x..x..x");
    signatures_are(f, "on C_Sign after 1 every 4 times 1 rv 0x30", "....x....");
    signatures_are(f, "on C_Sign rv CKR_DEVICE_ERROR after 8", "........x");
    signatures_are(f, "on C_SignInit,C_Sign times 3 rv CKR_HOST_MEMORY", "xxx......");
    signatures_are(f, "on any after 2 times 1 rv CKR_HOST_MEMORY", ".x.......");
    signatures_are(f, "on C_Sign chance 0 rv CKR_DEVICE_ERROR", ".........");
    signatures_are(f, "on C_Sign chance 1 rv CKR_DEVICE_ERROR", "xxxxxxxxx");
    signatures_are(f, "on C_Sign for 0 rv CKR_DEVICE_ERROR", ".........");
    signatures_are(f, "on C_Sign for 60s rv CKR_DEVICE_ERROR", "xxxxxxxxx");
    signatures_are(f, "on C_Sign token shelf times 1 rv CKR_DEVICE_ERROR", "x........");
    signatures_are(f, "on C_Sign token other rv CKR_DEVICE_ERROR", ".........");
    signatures_are(f, "on C_Login rv CKR_DEVICE_ERROR", ".........");
    signatures_are(f,
                   "on C_Sign times 1 rv CKR_DEVICE_ERROR\n"
                   "on C_Sign after 4 times 1 rv CKR_DEVICE_ERROR # and another",
                   "x...x....");
}

static void
a_chance_is_neither_never_nor_always(void **state)
{
    struct p11_token *f = *state;
    unsigned failed = 0;

    fault("on C_SignInit chance 0.5 rv CKR_DEVICE_ERROR");
    for (unsigned i = 0; i < 200; i++)
        failed += p11_sign(f->session, f->key) != CKR_OK;
    assert_in_range(failed, 60, 140);
    assert_int_equal(fault_number("struck"), failed);
    assert_int_equal(fault_number("struck 1"), failed);
    assert_int_equal(fault_number("struck 2"), 0);
    assert_int_equal(fault_number("failed C_SignInit"), failed);
}

static void
an_error_ends_the_operation_or_leaves_it_active(void **state)
{
    struct p11_token *f = *state;
    CK_BYTE sig[P11_SIG_ROOM];
    CK_BYTE nothing[P11_SIG_ROOM];
    CK_ULONG len = P11_SIG_ROOM;

    fault("on C_Sign times 1 rv CKR_DEVICE_ERROR");
    assert_int_equal(p11_sign_into(f->session, f->key, sig, &len), CKR_DEVICE_ERROR);
    memset(nothing, 0xee, sizeof(nothing));
    memset(nothing, 0, 64);
    assert_memory_equal(sig, nothing, P11_SIG_ROOM); /* the signature is not returned */
    assert_int_equal(len, P11_SIG_ROOM);
    assert_int_equal(p11_sign_init(f->session, f->key), CKR_OK);
    assert_int_equal(p11->C_Sign(f->session, p11_digest, P11_DIGEST_LEN, sig, &len), CKR_OK);

    fault("on C_Sign times 1 rv CKR_DEVICE_ERROR active");
    assert_int_equal(p11_sign(f->session, f->key), CKR_DEVICE_ERROR);
    assert_int_equal(p11_sign(f->session, f->key), CKR_OPERATION_ACTIVE);
    assert_int_equal(p11_sign(f->session, f->key), CKR_OPERATION_ACTIVE);
}

static void
what_is_done_can_be_answered_with_an_error(void **state)
{
    struct p11_token *f = *state;
    CK_OBJECT_HANDLE found[P11_FOUND_MAX];

    fault("on C_GenerateKeyPair times 1 rv CKR_GENERAL_ERROR");
    assert_int_equal(p11_generate(f->session, "orphan", 9, true), CKR_GENERAL_ERROR);
    assert_int_equal(p11_find_keys(f->session, CKO_PRIVATE_KEY, "orphan", 4, found), 0);
    fault("on C_GenerateKeyPair times 1 rv CKR_GENERAL_ERROR done");
    assert_int_equal(p11_generate(f->session, "orphan", 9, true), CKR_GENERAL_ERROR);
    assert_int_equal(p11_find_keys(f->session, CKO_PRIVATE_KEY, "orphan", 4, found), 1);
    assert_int_equal(p11->C_DestroyObject(f->session, found[0]), CKR_OK);
    assert_int_equal(
        p11->C_DestroyObject(f->session, p11_find_key(f->session, CKO_PUBLIC_KEY, "orphan")),
        CKR_OK);
}

/* ---- the module itself */

static void
functions_are_not_there(void **state)
{
    struct p11_token *f = *state;

    fault("null C_WaitForSlotEvent,C_Sign");
    assert_null(p11->C_Sign);
    assert_null(p11->C_WaitForSlotEvent);
    assert_non_null(p11->C_SignInit);
    fault("offer C_Sign");
    assert_int_equal(p11_sign(f->session, f->key), CKR_OK);
    fault("reset");
    assert_non_null(p11->C_WaitForSlotEvent);
}

static void
the_list_of_functions_can_be_refused(void **state)
{
    CK_C_GetFunctionList get = p11->C_GetFunctionList;
    CK_FUNCTION_LIST *list = NULL;

    (void)state;
    fault("fault 26 times 1");
    assert_int_equal(get(&list), CKR_GENERAL_ERROR);
    assert_null(list);
    assert_int_equal(get(NULL), CKR_ARGUMENTS_BAD);
    assert_int_equal(get(&list), CKR_OK);
    assert_ptr_equal(list, p11);
}

static void
the_log_tells_calls_and_no_secrets(void **state)
{
    struct p11_token *f = *state;
    char path[4200];
    char text[8192];
    size_t len;
    FILE *file;

    snprintf(path, sizeof(path), "%s/calls", softhsm_dir());
    fault("log %s", path);
    assert_int_equal(p11->C_Logout(f->session), CKR_OK);
    assert_int_equal(p11_log_in(f->session, SOFTHSM_USER_PIN), CKR_OK);
    assert_int_equal(p11_log_in(f->session, "975318642"), CKR_USER_ALREADY_LOGGED_IN);
    f->key = p11_find_key(f->session, CKO_PRIVATE_KEY, "alpha");
    assert_int_equal(p11_sign(f->session, f->key), CKR_OK);
    fault("log off");
    assert_int_equal(p11_sign(f->session, f->key), CKR_OK);
    file = fopen(path, "r");
    assert_non_null(file);
    len = fread(text, 1, sizeof(text) - 1, file);
    fclose(file);
    text[len] = '\0';
    assert_non_null(strstr(text, " C_Logout session=0x"));
    assert_non_null(strstr(text, "rv=CKR_USER_ALREADY_LOGGED_IN us="));
    assert_non_null(strstr(text, " C_Sign session=0x"));
    assert_null(strstr(strstr(text, " C_Sign ") + 1, " C_Sign "));
    assert_null(strstr(text, "975318642"));
    assert_null(strstr(text, "alpha"));
}

static void
status_says_what_there_is(void **state)
{
    const char *text;

    (void)state;
    fault("remove token other");
    text = fault("status");
    assert_non_null(strstr(text, "initialized yes\nsessions 1\nheld 0\nstruck 0\n"));
    assert_non_null(strstr(text, "\"shelf\" sessions 1 there"));
    assert_non_null(strstr(text, "\"other\" sessions 0 away"));
    assert_string_equal(fault("reset"), "ok");
    assert_string_equal(fault("count"), "ok"); /* empty */
    assert_string_equal(fault("on C_Sign block"), "rule 1");
    assert_string_equal(fault("on C_Sign block"), "rule 2");
}

static void
wrong_commands_are_refused(void **state)
{
    static const struct {
        const char *command;
        const char *reply;
    } rows[] = {
        {"nonsense", "error: nonsense: no such command"},
        {"reset\n\n nonsense", "error: line 3: nonsense: no such command"},
        {"on", "error: a function is missing"},
        {"on C_Nothing block", "error: C_Nothing: not a function"},
        {"on C_Sign", "error: what is to happen is missing"},
        {"on C_Sign times 1", "error: what is to happen is missing"},
        {"on C_Sign rv", "error: a return value is missing"},
        {"on C_Sign rv CKR_NOTHING", "error: CKR_NOTHING: not a return value"},
        {"on C_Sign rv CKR_OK", "error: rv CKR_OK: not a fault"},
        {"on C_Sign times 0 block", "error: times 0: not a number from 1"},
        {"on C_Sign every 0 block", "error: every 0: not a number from 1"},
        {"on C_Sign after -1 block", "error: -1: not a number up to 18446744073709551615"},
        {"on C_Sign chance 1.5 block", "error: 1.5: not a share from 0 to 1"},
        {"on C_Sign chance nan block", "error: nan: not a share from 0 to 1"},
        {"on C_Sign delay 5", "error: 5: not a time such as 250us, 10ms, 1.5s"},
        {"on C_Sign delay -5ms", "error: -5ms: not a time such as 250us, 10ms, 1.5s"},
        {"on C_Sign delay 99999999s", "error: 99999999s: not a time such as 250us, 10ms, 1.5s"},
        {"on C_Sign block twice", "error: twice: not understood"},
        {"on C_Sign signature", "error: a damage to signatures is missing"},
        {"on C_Sign signature good", "error: good: not a damage to signatures"},
        {"on C_FindObjects objects partial 0", "error: partial 0: not a number from 1"},
        {"on C_FindObjects objects all", "error: all: not an answer of C_FindObjects"},
        {"on C_GetAttributeValue attribute CKA_NONE true", "error: CKA_NONE: not an attribute"},
        {"on C_GetAttributeValue attribute CKA_ID hex:1",
         "error: hex:1: not a value of an attribute"},
        {"on C_GetAttributeValue attribute CKA_ID hex:zz",
         "error: hex:zz: not a value of an attribute"},
        {"on C_GetAttributeValue point round", "error: round: not a form of CKA_EC_POINT"},
        {"on C_GetTokenInfo flag CKF_NONE", "error: CKF_NONE: not a flag of CK_TOKEN_INFO"},
        {"on C_Sign token 123456789012345678901234567890123 block",
         "error: 123456789012345678901234567890123: longer than a token's label"},
        {"on C_Sign token \"shelf block", "error: a quote is not closed"},
        {"latency C_Sign", "error: a time is missing"},
        {"latency C_Sign 1ms ramp 1ms", "error: ramp: what it goes up to (most) is missing"},
        {"latency C_Sign 1ms trembling", "error: trembling: not understood"},
        {"engines some", "error: some: not a number up to 4294967295"},
        {"sessions 70000", "error: 70000: not a number up to 65535"},
        {"refuse everything", "error: read-only or read-write is missing"},
        {"fault 0", "error: fault 0: strikes no function"},
        {"fault 19", "error: fault 19: strikes no function"},
        {"fault 27", "error: 27: not a number up to 26"},
        {"random rate 0.1", "error: random needs a rate and faults"},
        {"random faults 1", "error: random needs a rate and faults"},
        {"random rate 0.1 faults 1,27", "error: 27: not a fault from 1 to 26"},
        {"random rate 0.1 faults 1 slow 2ms..1ms", "error: 2ms..1ms: not a range such as 20ms..1s"},
        {"reboot token nobody", "error: nobody: no token of that label is known"},
        {"fake", "error: constant, replay or off is missing"},
        {"swap alpha", "error: the other key's label is missing"},
        {"module /another.so", "error: a module is loaded already"},
        {"log /absent/file", "error: /absent/file: cannot be written"},
        {"count C_Nothing", "error: C_Nothing: not a function"},
        {"reset now", "error: now: not understood"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++)
        assert_string_equal(fault_try(rows[i].command), rows[i].reply);
    assert_int_equal(fault_number("struck"), 0);
}

static void
rules_and_lines_are_bounded(void **state)
{
    char line[1200];

    (void)state;
    for (unsigned i = 0; i < 64; i++)
        fault("on C_CancelFunction block");
    assert_string_equal(fault_try("on C_Sign block"), "error: there are 64 rules already");
    memset(line, 'x', sizeof(line) - 1);
    line[sizeof(line) - 1] = '\0';
    assert_string_equal(fault_try(line), "error: longer than 1023 octets");
    for (size_t i = 1; i < 500; i += 2)
        line[i] = ' ';
    line[500] = '\0';
    assert_string_equal(fault_try(line), "error: more than 64 words");
}

/* ---- the table of faults */

/* Call each function that a fault affects once; returns all results combined. */
static void
call_everything(struct p11_token *f)
{
    struct p11_token fresh = *f;
    CK_BYTE point[80];
    CK_ATTRIBUTE attributes[] = {
        {CKA_EC_POINT, point, sizeof(point)},
        {CKA_PUBLIC_KEY_INFO, NULL, 0},
    };
    CK_OBJECT_HANDLE found[P11_FOUND_MAX];
    CK_SESSION_HANDLE session;
    CK_FUNCTION_LIST *list;
    CK_TOKEN_INFO info;

    p11->C_GetFunctionList(&list);
    p11_sign(f->session, f->key);
    p11->C_Finalize(NULL);
    p11_initialize();
    if (p11_find_slot("shelf", &fresh.slot) != CKR_OK)
        return;
    p11->C_GetTokenInfo(fresh.slot, &info);
    if (p11->C_OpenSession(fresh.slot, CKF_SERIAL_SESSION, NULL, NULL, &session) == CKR_OK)
        p11->C_CloseSession(session);
    if (p11_open_session(fresh.slot, &fresh.session) != CKR_OK)
        return;
    p11_log_in(fresh.session, SOFTHSM_USER_PIN);
    if (p11_find_keys(fresh.session, CKO_PUBLIC_KEY, "alpha", 4, found) > 0)
        p11->C_GetAttributeValue(fresh.session, found[0], attributes, 2);
    p11_generate(fresh.session, "scrap", 3, false);
    if (p11_find_keys(fresh.session, CKO_PRIVATE_KEY, "alpha", 4, found) > 0)
        p11_sign(fresh.session, found[0]);
}

static void
every_fault_of_the_table_strikes(void **state)
{
    struct p11_token *f = *state;

    for (unsigned number = 1; number <= 26; number++) {
        if (number == 19) /* fork: a_child_begins_with_nothing() */
            continue;
        fault("reset");
        while (!p11_try_come_up(f, "shelf"))
            continue;
        fault("fault %u times 1", number);
        call_everything(f);
        if (fault_number("struck fault %u", number) != 1)
            fail_msg("fault %u struck nothing", number);
    }
}

/* The results of 200 signatures as a text. */
static void
fail_at_random(struct p11_token *f, const char *command, char answers[201])
{
    fault("reset");
    fault("%s", command);
    for (unsigned i = 0; i < 200; i++) {
        CK_RV rv = p11_sign(f->session, f->key);

        answers[i] = rv == CKR_OK ? '.' : rv == CKR_DEVICE_ERROR ? 'd' : 't';
    }
    answers[200] = '\0';
}

static void
the_same_seed_makes_the_same_faults(void **state)
{
    struct p11_token *f = *state;
    char first[201];
    char again[201];
    char other[201];

    fail_at_random(f, "random seed 7 rate 0.1 faults 1,10", first);
    assert_in_range(strcspn(first, "dt"), 0, 199);
    assert_in_range(strcspn(first, "."), 0, 199);
    assert_true(fault_number("struck fault 1") > 0);
    assert_true(fault_number("struck fault 10") > 0);
    assert_int_equal(fault_number("struck"),
                     fault_number("struck fault 1") + fault_number("struck fault 10"));
    fail_at_random(f, "random seed 7 rate 0.1 faults 1,10", again);
    assert_string_equal(first, again);
    fail_at_random(f, "random seed 8 rate 0.1 faults 1,10", other);
    assert_string_not_equal(first, other);
    fail_at_random(f, "random seed 8 rate 0.1 faults 9,13,25", other);
    assert_int_equal(strspn(other, "."), 200); /* these do not affect signatures */
    fail_at_random(f, "random off", other);
    assert_int_equal(strspn(other, "."), 200);
}

static void
outages_keep_their_distance(void **state)
{
    struct p11_token *f = *state;
    unsigned lost = 0;

    fault("random rate 1 faults 4,5,6 gap 3600s");
    for (unsigned i = 0; i < 50; i++)
        lost += p11_sign(f->session, f->key) != CKR_OK;
    assert_true(lost > 0);
    assert_int_equal(fault_number("struck"), 1);
}

/* ---- all at once */

#define WORKERS 6

struct worker {
    pthread_t thread;
    EVP_PKEY *key;
    atomic_bool *enough;
    atomic_uint good;
};

/* As p11_try_come_up(), but any step may fail. */
static bool
try_anything(struct p11_token *f)
{
    CK_OBJECT_CLASS class = CKO_PRIVATE_KEY;
    CK_ATTRIBUTE template[] = {
        {CKA_CLASS, &class, sizeof(class)},
        {CKA_LABEL, (void *)(uintptr_t) "alpha", strlen("alpha")},
    };
    CK_ULONG count = 0;

    p11_initialize();
    if (p11_find_slot("shelf", &f->slot) != CKR_OK ||
        p11_open_session(f->slot, &f->session) != CKR_OK)
        return false;
    p11_log_in(f->session, SOFTHSM_USER_PIN);
    if (p11->C_FindObjectsInit(f->session, template, 2) != CKR_OK)
        return false;
    p11->C_FindObjects(f->session, &f->key, 1, &count);
    p11->C_FindObjectsFinal(f->session);
    return count == 1;
}

static void *
work(void *arg)
{
    struct worker *worker = arg;
    struct p11_token f = {0};
    bool up = false;

    while (!atomic_load(worker->enough)) {
        CK_BYTE sig[P11_SIG_ROOM];
        CK_ULONG len = P11_SIG_ROOM;

        if (!up)
            up = try_anything(&f);
        if (up && p11_sign_into(f.session, f.key, sig, &len) == CKR_OK) {
            atomic_fetch_add(&worker->good, p11_verifies(worker->key, sig, len));
            continue;
        }
        p11->C_CloseSession(f.session);
        up = false;
    }
    p11->C_CloseSession(f.session);
    return NULL;
}

/* Each caller has signed, and enough faults have struck. */
static bool
is_enough(struct worker *workers)
{
    bool enough = fault_number("struck") >= 150;

    for (unsigned i = 0; i < WORKERS; i++)
        enough = enough && atomic_load(&workers[i].good) >= 5;
    return enough;
}

static void
callers_and_faults_do_not_break_the_module(void **state)
{
    static struct worker workers[WORKERS];
    static atomic_bool enough;
    struct p11_token *f = *state;
    EVP_PKEY *key = p11_public_key(f->session, "alpha");

    fault("random seed 3 rate 0.03 faults passing,14,17,18 gap 10ms outage 1ms..10ms "
          "stuck 1ms..20ms slow 1ms..2ms");
    for (unsigned i = 0; i < WORKERS; i++) {
        workers[i].key = key;
        workers[i].enough = &enough;
        assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
    for (unsigned i = 0; i < 3000 && !is_enough(workers); i++) {
        const struct timespec a_moment = {.tv_nsec = 10 * MS};

        nanosleep(&a_moment, NULL);
        fault("status");
        fault("exchange\nrenumber slots\ndrop 1");
    }
    assert_true(is_enough(workers));
    atomic_store(&enough, true);
    for (unsigned i = 0; i < WORKERS; i++)
        assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
    fault("reset");
    p11_come_up(f, "shelf");
    assert_int_equal(p11_sign(f->session, f->key), CKR_OK);
    EVP_PKEY_free(key);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        ON_TOKEN(a_call_goes_through_unchanged),
        ON_TOKEN(closed_sessions_are_not_met_again),
        ON_TOKEN(objects_are_made_found_and_destroyed),
        ON_TOKEN(rules_strike_the_calls_that_they_name),
        ON_TOKEN(a_chance_is_neither_never_nor_always),
        ON_TOKEN(an_error_ends_the_operation_or_leaves_it_active),
        ON_TOKEN(what_is_done_can_be_answered_with_an_error),
        ON_TOKEN(functions_are_not_there),
        ON_TOKEN(the_list_of_functions_can_be_refused),
        ON_TOKEN(the_log_tells_calls_and_no_secrets),
        ON_TOKEN(status_says_what_there_is),
        ON_TOKEN(wrong_commands_are_refused),
        ON_TOKEN(rules_and_lines_are_bounded),
        ON_TOKEN(every_fault_of_the_table_strikes),
        ON_TOKEN(the_same_seed_makes_the_same_faults),
        ON_TOKEN(outages_keep_their_distance),
        ON_TOKEN(callers_and_faults_do_not_break_the_module),
    };

    return cmocka_run_group_tests(tests, p11_group_start, p11_group_stop);
}
