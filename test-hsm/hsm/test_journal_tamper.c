/*
 * test_journal_tamper.c - mirrors hsm/src/journal_verify.c: every change of a real journal is found
 * and located.
 *
 * An attacker with access to the directory can recompute every hash, so each change of records is
 * tried twice: alone, and with the chain recomputed after it. The checkpoint key is in the token.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/pem.h>

#include <hsm/es256.h>

#include "journal_fixture.h"
#include "softhsm.h"

#define LINES_MAX 256
#define HEX_LEN   64 /* octets of a hash */

/* A journal with files of two processes; the tests change its files in place and restore them. */
static char dir[PATH_ROOM];
static char first[HSM_JOURNAL_NAME_MAX + 1], second[HSM_JOURNAL_NAME_MAX + 1];
static EVP_PKEY *journal_key;

static void
assert_fault(const char *what, const char *file, uint64_t record, const struct verdict *verdict)
{
    if (verdict->status == HSM_ERR_UNTRUSTED && strcmp(verdict->file, file) == 0 &&
        (!verdict->placed || verdict->record == record))
        return;
    fail_msg("%s in %s, record %llu: told %s: record %llu, octet %llu: %s", what, file,
             (unsigned long long)record, verdict->faults > 0 ? verdict->file : "nothing",
             (unsigned long long)verdict->record, (unsigned long long)verdict->octet,
             verdict->text);
}

/* ---- lines ---- */

struct lines {
    char *octets;
    size_t len;
    char *line[LINES_MAX + 1]; /* the beginning of each line, and the end of the last */
    size_t count;
};

static void
lines_get(const char *file, struct lines *out)
{
    memset(out, 0, sizeof(*out));
    out->octets = journal_get(dir, file, &out->len);
    out->line[0] = out->octets;
    for (char *c = out->octets; c < out->octets + out->len; c++) {
        if (*c != '\n')
            continue;
        assert_true(out->count < LINES_MAX);
        out->line[++out->count] = c + 1;
    }
}

/* The hash of a line of `len` octets, without its own hash, after the hash `last`. */
static void
line_hash(const char *last, const char *body, size_t len, char hex[HEX_LEN + 1])
{
    uint8_t digest[32];
    char *leaf = malloc(1 + HEX_LEN + 1 + len);

    assert_non_null(leaf);
    leaf[0] = 0;
    memcpy(leaf + 1, last, HEX_LEN);
    leaf[1 + HEX_LEN] = ' ';
    memcpy(leaf + 1 + HEX_LEN + 1, body, len);
    assert_int_equal(EVP_Digest(leaf, 1 + HEX_LEN + 1 + len, digest, NULL, EVP_sha256(), NULL), 1);
    for (size_t i = 0; i < sizeof(digest); i++)
        snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    free(leaf);
}

/* Recompute numbers and hashes as a forger would. Returns the new length. */
static size_t
make_good(const char *octets, size_t len, char *out)
{
    char last[HEX_LEN + 1];
    size_t n = 0;
    size_t number = 0;

    memset(last, '0', HEX_LEN);
    last[HEX_LEN] = '\0';
    for (const char *line = octets; line < octets + len; number++) {
        const char *end = memchr(line, '\n', (size_t)(octets + len - line));
        const char *body = strchr(line, ' ');
        size_t begin = n;

        assert_non_null(end);
        n += (size_t)sprintf(out + n, "%zu", number);
        memcpy(out + n, body, (size_t)(end - HEX_LEN - body));
        n += (size_t)(end - HEX_LEN - body);
        line_hash(last, out + begin, n - begin - 1, last);
        memcpy(out + n, last, HEX_LEN);
        n += HEX_LEN;
        out[n++] = '\n';
        line = end + 1;
    }
    return n;
}

/* Verify the changed file as it is and with recomputed hashes; `record` is the first that
 * differs. */
static void
try_change(const char *what, const char *file, const char *octets, size_t len, uint64_t record,
           bool only_named)
{
    struct lines good;
    struct verdict verdict;
    char *rehashed = malloc(len + 64 * (size_t)LINES_MAX);
    size_t rehashed_len;

    assert_non_null(rehashed);
    lines_get(file, &good);
    journal_put(dir, file, octets, len);
    journal_verify(dir, journal_key, NULL, &verdict);
    assert_fault(what, file, record, &verdict);
    rehashed_len = make_good(octets, len, rehashed);
    journal_put(dir, file, rehashed, rehashed_len);
    journal_verify(dir, journal_key, NULL, &verdict);
    assert_int_equal(verdict.status, HSM_ERR_UNTRUSTED);
    assert_string_equal(verdict.file, file);
    if (only_named) /* not before the change, and not after the next checkpoint */
        assert_true(!verdict.placed || verdict.record >= record);
    journal_put(dir, file, good.octets, good.len);
    free(good.octets);
    free(rehashed);
}

/* ---- the journal ---- */

static void
write_one(char *name, int signatures)
{
    struct hsm_key *key = NULL;
    struct hsm_token *token = journal_open(dir, &key);
    struct seen seen;

    for (int i = 0; i < signatures; i++)
        assert_int_equal(journal_sign(key, i % 2 == 0 ? HSM_USE_CERTIFICATE : HSM_USE_PASSPORT,
                                      "account 1", "x"),
                         HSM_OK);
    hsm_key_free(key);
    hsm_token_close(token);
    journal_look(dir, "close", &seen);
    memcpy(name, seen.file, sizeof(first));
}

/* ---- changes ---- */

/* Uses the journal of one file, because it is verified once per octet. */
static void
any_octet_of_any_file_is_missed(void **state)
{
    const char *const files[] = {first, HSM_JOURNAL_INDEX};

    (void)state;
    for (size_t f = 0; f < sizeof(files) / sizeof(files[0]); f++) {
        struct lines good;
        uint64_t record = 0;
        struct verdict verdict;

        lines_get(files[f], &good);
        for (size_t i = 0; i < good.len; i++) {
            char octet = good.octets[i];

            good.octets[i] = (char)(octet ^ (1 << (i % 8)));
            journal_put(dir, files[f], good.octets, good.len);
            journal_verify(dir, journal_key, NULL, &verdict);
            assert_fault("a flipped bit", files[f], record, &verdict);
            assert_true(verdict.placed);
            assert_int_equal(verdict.octet, good.line[record] - good.octets);
            good.octets[i] = octet;
            record += octet == '\n' ? 1 : 0;
        }
        journal_put(dir, files[f], good.octets, good.len);
        free(good.octets);
    }
    write_one(second, 1);
}

/* Omit line n; the very last one is detected at the end. */
static void
a_dropped_record_is_missed(void **state)
{
    const char *const files[] = {first, second, HSM_JOURNAL_INDEX};

    (void)state;
    for (size_t f = 0; f < sizeof(files) / sizeof(files[0]); f++) {
        struct lines good;

        lines_get(files[f], &good);
        for (size_t n = 0; n + 1 < good.count; n++) {
            char *octets = malloc(good.len);
            size_t before = (size_t)(good.line[n] - good.octets);
            size_t behind = good.len - (size_t)(good.line[n + 1] - good.octets);

            assert_non_null(octets);
            memcpy(octets, good.octets, before);
            memcpy(octets + before, good.line[n + 1], behind);
            try_change("a dropped record", files[f], octets, before + behind, n,
                       strcmp(files[f], HSM_JOURNAL_INDEX) != 0);
            free(octets);
        }
        free(good.octets);
    }
}

static void
a_repeated_record_is_found(void **state)
{
    const char *const files[] = {first, second, HSM_JOURNAL_INDEX};

    (void)state;
    for (size_t f = 0; f < sizeof(files) / sizeof(files[0]); f++) {
        struct lines good;

        lines_get(files[f], &good);
        for (size_t n = 0; n < good.count; n++) {
            size_t until = (size_t)(good.line[n + 1] - good.octets);
            size_t line = (size_t)(good.line[n + 1] - good.line[n]);
            char *octets = malloc(good.len + line);

            assert_non_null(octets);
            memcpy(octets, good.octets, until);
            memcpy(octets + until, good.line[n], line);
            memcpy(octets + until + line, good.line[n + 1], good.len - until);
            try_change("a repeated record", files[f], octets, good.len + line, n + 1,
                       strcmp(files[f], HSM_JOURNAL_INDEX) != 0);
            free(octets);
        }
        free(good.octets);
    }
}

static void
swapped_records_are_found(void **state)
{
    const char *const files[] = {first, second, HSM_JOURNAL_INDEX};

    (void)state;
    for (size_t f = 0; f < sizeof(files) / sizeof(files[0]); f++) {
        struct lines good;

        lines_get(files[f], &good);
        for (size_t n = 0; n + 1 < good.count; n++) {
            char *octets = malloc(good.len);
            size_t at = (size_t)(good.line[n] - good.octets);
            size_t one = (size_t)(good.line[n + 1] - good.line[n]);
            size_t two = (size_t)(good.line[n + 2] - good.line[n + 1]);

            assert_non_null(octets);
            memcpy(octets, good.octets, good.len);
            memcpy(octets + at, good.line[n + 1], two);
            memcpy(octets + at + two, good.line[n], one);
            try_change("swapped records", files[f], octets, good.len, n,
                       strcmp(files[f], HSM_JOURNAL_INDEX) != 0);
            free(octets);
        }
        free(good.octets);
    }
}

/* Truncate to any number of lines, and in the middle of any line. */
static void
a_file_that_was_cut_is_missed(void **state)
{
    const char *const files[] = {first, second};

    (void)state;
    for (size_t f = 0; f < sizeof(files) / sizeof(files[0]); f++) {
        struct lines good;
        struct verdict verdict;

        lines_get(files[f], &good);
        for (size_t n = 0; n < good.count; n++) {
            size_t len = (size_t)(good.line[n] - good.octets);

            for (size_t more = 0; more <= 20; more += 20) {
                journal_put(dir, files[f], good.octets, len + more);
                journal_verify(dir, journal_key, NULL, &verdict);
                assert_fault("a cut file", files[f], n, &verdict);
                assert_true(verdict.placed);
            }
        }
        journal_put(dir, files[f], good.octets, good.len);
        free(good.octets);
    }
}

/* The index alone does not show that its end is missing, but a retained checkpoint does. */
static bool
keep_last(void *context, const struct hsm_journal_note *note)
{
    *(struct hsm_journal_note *)context = *note;
    return true;
}

static void
an_index_that_was_cut_is_missed_by_who_kept_a_checkpoint(void **state)
{
    struct hsm_journal_note note;
    char text[HSM_JOURNAL_NOTE_MAX];
    const char *const notes[] = {text, NULL};
    struct lines good;
    struct verdict verdict;

    (void)state;
    assert_int_equal(hsm_journal_notes(dir, HSM_JOURNAL_INDEX, keep_last, &note, NULL), HSM_OK);
    assert_int_equal(hsm_journal_note_format(&note, text), HSM_OK);
    journal_verify(dir, journal_key, notes, &verdict);
    assert_int_equal(verdict.status, HSM_OK);
    lines_get(HSM_JOURNAL_INDEX, &good);
    assert_int_equal(note.size, good.count - 1); /* all lines except its own */
    for (size_t n = 0; n < good.count - 1; n++) {
        journal_put(dir, HSM_JOURNAL_INDEX, good.octets, (size_t)(good.line[n] - good.octets));
        journal_verify(dir, journal_key, notes, &verdict);
        assert_int_equal(verdict.status, HSM_ERR_UNTRUSTED);
    }
    journal_put(dir, HSM_JOURNAL_INDEX, good.octets, good.len);
    free(good.octets);
}

static void
a_checkpoint_of_another_history_is_told(void **state)
{
    struct hsm_journal_note note;
    char text[HSM_JOURNAL_NOTE_MAX];
    const char *const notes[] = {text, NULL};
    struct verdict verdict;

    (void)state;
    assert_int_equal(hsm_journal_notes(dir, first, keep_last, &note, NULL), HSM_OK);
    note.root[0] ^= 1;
    assert_int_equal(hsm_journal_note_format(&note, text), HSM_OK);
    journal_verify(dir, journal_key, notes, &verdict);
    assert_int_equal(verdict.status, HSM_ERR_UNTRUSTED);
    assert_non_null(strstr(verdict.text, "does not verify"));
    snprintf(text, sizeof(text), "nothing of the kind\n");
    journal_verify(dir, journal_key, notes, &verdict);
    assert_int_equal(verdict.status, HSM_ERR_UNTRUSTED);
}

/* ---- forged checkpoints ---- */

/* The forger's key. */
static EVP_PKEY *
software_key(void)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");

    assert_non_null(key);
    return key;
}

static void
sign_as(EVP_PKEY *key, struct hsm_journal_note *note)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    char text[HSM_JOURNAL_NOTE_MAX];
    uint8_t der[80], spki_hash[32], *spki = NULL;
    size_t len = sizeof(der);
    int spki_len = i2d_PUBKEY(key, &spki);
    char *end;

    assert_int_equal(EVP_Digest(spki, (size_t)spki_len, spki_hash, NULL, EVP_sha256(), NULL), 1);
    memcpy(note->key_hint, spki_hash, sizeof(note->key_hint));
    OPENSSL_free(spki);
    note->sig[0] = note->sig[32] = 1; /* any well-formed one: it is not part of the signed text */
    assert_int_equal(hsm_journal_note_format(note, text), HSM_OK);
    end = strstr(text, "\n\n") + 1;
    assert_int_equal(EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, key), 1);
    assert_int_equal(EVP_DigestSign(ctx, der, &len, (const uint8_t *)text, (size_t)(end - text)),
                     1);
    EVP_MD_CTX_free(ctx);
    assert_int_equal(hsm_es256_from_der(der, len, note->sig), HSM_OK);
}

static void
a_checkpoint_by_another_key_is_refused(void **state)
{
    struct hsm_journal_note note;
    EVP_PKEY *key = software_key();

    (void)state;
    assert_int_equal(hsm_journal_notes(dir, HSM_JOURNAL_INDEX, keep_last, &note, NULL), HSM_OK);
    assert_int_equal(hsm_journal_note_verify(&note, journal_key), HSM_OK);
    sign_as(key, &note);
    assert_int_equal(hsm_journal_note_verify(&note, key), HSM_OK);
    assert_int_equal(hsm_journal_note_verify(&note, journal_key), HSM_ERR_UNTRUSTED);
    EVP_PKEY_free(key);
}

/* Replace each signature of the index in turn by one of the forger, and recompute the hashes: the
 * line is named. */
static void
a_forged_checkpoint_is_named(void **state)
{
    EVP_PKEY *key = software_key();
    struct lines good;
    char *octets, *rehashed;

    (void)state;
    lines_get(HSM_JOURNAL_INDEX, &good);
    octets = malloc(good.len + LINES_MAX);
    rehashed = malloc(good.len + LINES_MAX);
    assert_non_null(octets);
    assert_non_null(rehashed);
    for (size_t n = 0; n < good.count; n++) {
        char *sig = memmem(good.line[n], (size_t)(good.line[n + 1] - good.line[n]), "sig=", 4);
        struct hsm_journal_note note = {.origin = "x", .time = "2026-01-01T00:00:00.000000Z"};
        char text[HSM_JOURNAL_NOTE_MAX];
        const char *forged;
        struct verdict verdict;
        size_t head, forged_len, old_len, len;

        if (sig == NULL)
            continue;
        sign_as(key, &note);
        assert_int_equal(hsm_journal_note_format(&note, text), HSM_OK);
        forged = strrchr(text, ' ') + 1;
        forged_len = strcspn(forged, "\n");
        head = (size_t)(sig + 4 - good.octets);
        old_len = strcspn(sig + 4, ", ");
        memcpy(octets, good.octets, head);
        memcpy(octets + head, forged, forged_len);
        len = head + forged_len;
        memcpy(octets + len, sig + 4 + old_len, good.len - head - old_len);
        len += good.len - head - old_len;
        journal_put(dir, HSM_JOURNAL_INDEX, rehashed, make_good(octets, len, rehashed));
        journal_verify(dir, journal_key, NULL, &verdict);
        assert_fault("a forged checkpoint", HSM_JOURNAL_INDEX, n, &verdict);
        assert_true(verdict.placed);
    }
    journal_put(dir, HSM_JOURNAL_INDEX, good.octets, good.len);
    free(good.octets);
    free(octets);
    free(rehashed);
    EVP_PKEY_free(key);
}

/* ---- files ---- */

static void
a_missing_file_is_missed(void **state)
{
    struct verdict verdict;
    char path[2 * PATH_ROOM];
    size_t len = 0;
    char *octets = journal_get(dir, first, &len);

    (void)state;
    snprintf(path, sizeof(path), "%s/%s", dir, first);
    assert_int_equal(unlink(path), 0);
    journal_verify(dir, journal_key, NULL, &verdict);
    assert_fault("a missing file", first, 0, &verdict);
    assert_non_null(strstr(verdict.text, "missing"));
    journal_put(dir, first, octets, len);
    free(octets);
}

static void
a_file_that_is_not_accounted_for_is_told(void **state)
{
    struct verdict verdict;
    char path[2 * PATH_ROOM];

    (void)state;
    journal_put(dir, "extra.log", "x", 1);
    journal_verify(dir, journal_key, NULL, &verdict);
    assert_fault("a file more", "extra.log", 0, &verdict);
    snprintf(path, sizeof(path), "%s/extra.log", dir);
    assert_int_equal(unlink(path), 0);
}

static void
exchanged_files_are_told(void **state)
{
    struct verdict verdict;
    size_t len = 0, other_len = 0;
    char *octets = journal_get(dir, first, &len);
    char *other = journal_get(dir, second, &other_len);

    (void)state;
    journal_put(dir, first, other, other_len);
    journal_verify(dir, journal_key, NULL, &verdict);
    assert_fault("another file's lines", first, 0, &verdict);
    journal_put(dir, first, octets, len);
    free(octets);
    free(other);
}

static void
a_key_that_was_exchanged_in_the_directory_is_told(void **state)
{
    EVP_PKEY *key = software_key();
    struct verdict verdict;
    char name[64] = "";
    char *pem;
    size_t len = 0;
    BIO *bio = BIO_new(BIO_s_mem());
    char *text = NULL;
    long text_len;
    struct seen seen;

    (void)state;
    journal_look(dir, "checkpoint", &seen);
    snprintf(name, sizeof(name), "%s.pem", seen.key);
    pem = journal_get(dir, name, &len);
    assert_int_equal(PEM_write_bio_PUBKEY(bio, key), 1);
    text_len = BIO_get_mem_data(bio, &text);
    journal_put(dir, name, text, (size_t)text_len);
    BIO_free(bio);
    journal_verify(dir, NULL, NULL, &verdict);
    assert_int_equal(verdict.status, HSM_ERR_UNTRUSTED);
    assert_string_equal(verdict.file, HSM_JOURNAL_INDEX);
    journal_put(dir, name, pem, len);
    free(pem);
    EVP_PKEY_free(key);
}

static int
start(void **state)
{
    struct hsm_key *key = NULL;
    struct hsm_token *token;
    struct verdict verdict;

    (void)state;
    softhsm_start();
    hsm_token_close(softhsm_token(JOURNAL_TOKEN));
    snprintf(dir, sizeof(dir), "%s", journal_dir("real"));
    write_one(first, 2);
    token = softhsm_reopen(JOURNAL_TOKEN);
    assert_int_equal(hsm_key_find(token, "pkcs11:object=" HSM_JOURNAL_KEY, &key), HSM_OK);
    journal_key = hsm_key_public(key);
    assert_int_equal(EVP_PKEY_up_ref(journal_key), 1);
    hsm_key_free(key);
    hsm_token_close(token);
    journal_verify(dir, journal_key, NULL, &verdict);
    return verdict.status == HSM_OK ? 0 : -1;
}

static int
stop(void **state)
{
    (void)state;
    EVP_PKEY_free(journal_key);
    softhsm_stop();
    return 0;
}

/* Verifies after each test that everything was restored. */
static int
still_good(void **state)
{
    struct verdict verdict;

    (void)state;
    journal_verify(dir, journal_key, NULL, &verdict);
    return verdict.status == HSM_OK ? 0 : -1;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(any_octet_of_any_file_is_missed, still_good),
        cmocka_unit_test_teardown(a_dropped_record_is_missed, still_good),
        cmocka_unit_test_teardown(a_repeated_record_is_found, still_good),
        cmocka_unit_test_teardown(swapped_records_are_found, still_good),
        cmocka_unit_test_teardown(a_file_that_was_cut_is_missed, still_good),
        cmocka_unit_test_teardown(an_index_that_was_cut_is_missed_by_who_kept_a_checkpoint,
                                  still_good),
        cmocka_unit_test_teardown(a_checkpoint_of_another_history_is_told, still_good),
        cmocka_unit_test_teardown(a_checkpoint_by_another_key_is_refused, still_good),
        cmocka_unit_test_teardown(a_forged_checkpoint_is_named, still_good),
        cmocka_unit_test_teardown(a_missing_file_is_missed, still_good),
        cmocka_unit_test_teardown(a_file_that_is_not_accounted_for_is_told, still_good),
        cmocka_unit_test_teardown(exchanged_files_are_told, still_good),
        cmocka_unit_test_teardown(a_key_that_was_exchanged_in_the_directory_is_told, still_good),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
