/* test_journal_proof.c - mirrors hsm/src/journal_proof.c and journal_note.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include <openssl/ec.h>
#include <openssl/evp.h>

#include "journal_fixture.h"
#include "softhsm.h"

#define RECORDS 40
#define MANY    1000000 /* with $STI_LONG */

static char dir[PATH_ROOM];
static char file[HSM_JOURNAL_NAME_MAX + 1];
static EVP_PKEY *journal_key;
static struct hsm_journal_note note; /* the last one in the file */

static bool
take_last(void *context, const struct hsm_journal_note *found)
{
    *(struct hsm_journal_note *)context = *found;
    return true;
}

static struct hsm_journal_log *
open_log(void)
{
    struct hsm_journal_log *log = NULL;
    struct hsm_reason why = {""};

    assert_int_equal(hsm_journal_log_open(dir, file, &log, &why), HSM_OK);
    return log;
}

static void
every_record_is_proved_to_who_has_the_checkpoint(void **state)
{
    struct hsm_journal_log *log = open_log();
    uint64_t size = hsm_merkle_tree_size(hsm_journal_log_tree(log));

    (void)state;
    assert_int_equal(size, note.size);
    for (uint64_t n = 0; n < size; n++) {
        char record[HSM_JOURNAL_LINE_MAX + 1];
        char number[24];
        struct hsm_journal_note proved;
        struct hsm_reason why = {""};
        char *text = NULL;

        assert_int_equal(hsm_journal_prove(log, n, &note, &text, &why), HSM_OK);
        assert_int_equal(hsm_journal_proof_check(text, journal_key, record, &proved, &why), HSM_OK);
        snprintf(number, sizeof(number), "%llu ", (unsigned long long)n);
        assert_memory_equal(record, number, strlen(number));
        assert_int_equal(proved.size, note.size);
        free(text);
    }
    hsm_journal_log_close(log);
}

static void
no_octet_of_a_proof_can_be_another(void **state)
{
    struct hsm_journal_log *log = open_log();
    struct hsm_reason why = {""};
    char *text = NULL;

    (void)state;
    assert_int_equal(hsm_journal_prove(log, 7, &note, &text, &why), HSM_OK);
    for (size_t i = 0; i < strlen(text); i++) {
        char record[HSM_JOURNAL_LINE_MAX + 1];
        struct hsm_journal_note proved;
        char octet = text[i];

        text[i] = (char)(octet ^ 1);
        assert_int_not_equal(hsm_journal_proof_check(text, journal_key, record, &proved, &why),
                             HSM_OK);
        text[i] = '\0';
        assert_int_not_equal(hsm_journal_proof_check(text, journal_key, record, &proved, &why),
                             HSM_OK);
        text[i] = octet;
    }
    free(text);
    hsm_journal_log_close(log);
}

static void
a_proof_is_for_one_key(void **state)
{
    struct hsm_journal_log *log = open_log();
    EVP_PKEY *other = EVP_EC_gen("P-256");
    char record[HSM_JOURNAL_LINE_MAX + 1];
    struct hsm_journal_note proved;
    struct hsm_reason why = {""};
    char *text = NULL;

    (void)state;
    assert_int_equal(hsm_journal_prove(log, 3, &note, &text, &why), HSM_OK);
    assert_int_equal(hsm_journal_proof_check(text, other, record, &proved, &why),
                     HSM_ERR_UNTRUSTED);
    free(text);
    EVP_PKEY_free(other);
    hsm_journal_log_close(log);
}

static void
what_the_checkpoint_does_not_cover_is_not_proved(void **state)
{
    struct hsm_journal_log *log = open_log();
    struct hsm_journal_note other = note;
    struct hsm_reason why = {""};
    char *text = NULL;

    (void)state;
    assert_int_equal(hsm_journal_prove(log, note.size, &note, &text, &why), HSM_ERR_NOT_FOUND);
    other.root[3] ^= 1;
    assert_int_equal(hsm_journal_prove(log, 0, &other, &text, &why), HSM_ERR_UNTRUSTED);
    other = note;
    other.size++;
    assert_int_equal(hsm_journal_prove(log, 0, &other, &text, &why), HSM_ERR_UNTRUSTED);
    assert_null(text);
    hsm_journal_log_close(log);
}

static void
a_checkpoint_is_read_as_it_was_written_and_no_other_way(void **state)
{
    struct hsm_journal_note again;
    struct hsm_reason why = {""};
    char text[HSM_JOURNAL_NOTE_MAX + 8];

    (void)state;
    assert_int_equal(hsm_journal_note_format(&note, text), HSM_OK);
    assert_int_equal(hsm_journal_note_parse(text, &again, &why), HSM_OK);
    assert_memory_equal(&again.root, &note.root, sizeof(note.root));
    assert_int_equal(hsm_journal_note_verify(&again, journal_key), HSM_OK);
    for (size_t i = 0; text[i] != '\0'; i++) {
        char octet = text[i];

        text[i] = (char)(octet ^ 1);
        if (hsm_journal_note_parse(text, &again, &why) == HSM_OK)
            assert_int_equal(hsm_journal_note_verify(&again, journal_key), HSM_ERR_UNTRUSTED);
        text[i] = octet;
    }
    memcpy(text + strlen(text), "more", 5);
    assert_int_equal(hsm_journal_note_parse(text, &again, &why), HSM_ERR_MALFORMED);
    assert_int_equal(hsm_journal_note_parse("", &again, &why), HSM_ERR_MALFORMED);
}

/* ---- a million records: with $STI_LONG */

static double
seconds_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void
a_million_records_are_verified_in_ten_seconds_and_one_is_proved_in_ten_milliseconds(void **state)
{
    char million[PATH_ROOM];
    const struct hsm_journal_config config = {.dir = million, .program = "test", .rotate_mb = 1024};
    struct hsm_token *token;
    struct hsm_key *key = NULL;
    struct verdict verdict;
    struct hsm_journal_log *log = NULL;
    struct hsm_reason why = {""};
    struct hsm_journal_note last;
    struct seen seen;
    char record[HSM_JOURNAL_LINE_MAX + 1];
    char *text = NULL;
    double begin, end;

    (void)state;
    if (getenv("STI_LONG") == NULL)
        skip();
    snprintf(million, sizeof(million), "%s", journal_dir("million"));
    token = journal_token(NULL, &config);
    assert_int_equal(hsm_key_find_or_generate(token, JOURNAL_SIGNER, &key), HSM_OK);
    for (int i = 0; i < MANY; i++)
        assert_int_equal(journal_sign(key, HSM_USE_PASSPORT, "million", "x"), HSM_OK);
    hsm_key_free(key);
    hsm_token_close(token);

    begin = seconds_now();
    journal_assert_good(config.dir, &verdict);
    end = seconds_now();
    print_message("%llu records verified in %.2f s\n", (unsigned long long)verdict.summary.records,
                  end - begin);
    assert_true(verdict.summary.uses >= MANY);
    assert_true(end - begin < 10);

    journal_look(config.dir, "close", &seen);
    assert_int_equal(hsm_journal_log_open(config.dir, seen.file, &log, &why), HSM_OK);
    assert_int_equal(hsm_journal_notes(config.dir, seen.file, take_last, &last, &why), HSM_OK);
    begin = seconds_now();
    assert_int_equal(hsm_journal_prove(log, MANY / 3, &last, &text, &why), HSM_OK);
    assert_int_equal(hsm_journal_proof_check(text, journal_key, record, &last, &why), HSM_OK);
    end = seconds_now();
    print_message("a record proved and the proof checked in %.3f ms\n", (end - begin) * 1e3);
    assert_true(end - begin < 0.010);
    free(text);
    hsm_journal_log_close(log);
}

static int
start(void **state)
{
    struct hsm_token *token;
    struct hsm_key *key = NULL;
    struct seen seen;

    (void)state;
    softhsm_start();
    hsm_token_close(softhsm_token(JOURNAL_TOKEN));
    snprintf(dir, sizeof(dir), "%s", journal_dir("proved"));
    token = journal_open(dir, &key);
    for (int i = 0; i < RECORDS; i++)
        assert_int_equal(journal_sign(key, HSM_USE_PASSPORT, "proof", "x"), HSM_OK);
    hsm_key_free(key);
    assert_int_equal(hsm_key_find(token, "pkcs11:object=" HSM_JOURNAL_KEY, &key), HSM_OK);
    journal_key = hsm_key_public(key);
    assert_int_equal(EVP_PKEY_up_ref(journal_key), 1);
    hsm_key_free(key);
    hsm_token_close(token);
    journal_look(dir, "close", &seen);
    snprintf(file, sizeof(file), "%s", seen.file);
    return hsm_journal_notes(dir, file, take_last, &note, NULL) == HSM_OK ? 0 : -1;
}

static int
stop(void **state)
{
    (void)state;
    EVP_PKEY_free(journal_key);
    softhsm_stop();
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_record_is_proved_to_who_has_the_checkpoint),
        cmocka_unit_test(no_octet_of_a_proof_can_be_another),
        cmocka_unit_test(a_proof_is_for_one_key),
        cmocka_unit_test(what_the_checkpoint_does_not_cover_is_not_proved),
        cmocka_unit_test(a_checkpoint_is_read_as_it_was_written_and_no_other_way),
        cmocka_unit_test(
            a_million_records_are_verified_in_ten_seconds_and_one_is_proved_in_ten_milliseconds),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
