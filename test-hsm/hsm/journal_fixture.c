/* journal_fixture.c - a signing journal on a throw-away token. */
#define _GNU_SOURCE
#include "journal_fixture.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/evp.h>
#include <sys/stat.h>

#include <hsm/process.h>
#include <hsm/secret.h>

#include "softhsm.h"

#define FILE_MAX (512 * 1024 * 1024)

const char *
journal_dir(const char *name)
{
    static char path[PATH_ROOM];

    snprintf(path, sizeof(path), "%s/%s", softhsm_dir(), name);
    return path;
}

struct hsm_token *
journal_token(const struct hsm_token_config *with, const struct hsm_journal_config *journal)
{
    struct hsm_token_config config = with != NULL ? *with : (struct hsm_token_config){.uri = NULL};
    struct hsm_token *token = NULL;
    struct hsm_secret *pin = NULL;

    assert_int_equal(hsm_secret_new(SOFTHSM_USER_PIN, strlen(SOFTHSM_USER_PIN), &pin), HSM_OK);
    config.uri = "pkcs11:token=" JOURNAL_TOKEN;
    config.module = softhsm_module();
    config.pin = pin;
    config.journal = journal;
    config.op_timeout_ms = 30000; /* enough for a busy machine */
    assert_int_equal(hsm_token_open(&config, &token), HSM_OK);
    hsm_secret_free(pin);
    return token;
}

struct hsm_token *
journal_open(const char *dir, struct hsm_key **key)
{
    const struct hsm_journal_config config = {.dir = dir, .program = "test"};
    struct hsm_token *token = journal_token(NULL, &config);

    assert_int_equal(hsm_key_find_or_generate(token, JOURNAL_SIGNER, key), HSM_OK);
    return token;
}

enum hsm_status
journal_sign(struct hsm_key *key, enum hsm_use_kind kind, const char *who, const char *message)
{
    uint8_t sig[HSM_P256_SIG_LEN];
    HSM_USE_FOR(kind);
    HSM_USE_ASKED_BY(who);

    return hsm_key_sign(key, message, strlen(message), sig);
}

void
journal_digest(const char *message, char hex[2 * HSM_SHA256_LEN + 1])
{
    uint8_t digest[HSM_SHA256_LEN];

    assert_int_equal(EVP_Digest(message, strlen(message), digest, NULL, EVP_sha256(), NULL), 1);
    for (size_t i = 0; i < sizeof(digest); i++)
        snprintf(hex + 2 * i, 3, "%02x", digest[i]);
}

static void
take_finding(void *context, const struct hsm_journal_finding *finding)
{
    struct verdict *verdict = context;

    if (finding->weight == HSM_JOURNAL_NOTICE) {
        if (verdict->notices++ == 0)
            snprintf(verdict->notice, sizeof(verdict->notice), "%s: %s", finding->file,
                     finding->text);
        return;
    }
    if (verdict->faults++ > 0 && (verdict->placed || !finding->has_place))
        return;
    verdict->placed = finding->has_place;
    verdict->record = finding->record;
    verdict->octet = finding->octet;
    snprintf(verdict->file, sizeof(verdict->file), "%s", finding->file);
    snprintf(verdict->text, sizeof(verdict->text), "%s", finding->text);
}

void
journal_verify(const char *dir, EVP_PKEY *key, const char *const *notes, struct verdict *out)
{
    const struct hsm_journal_verify_config config = {
        .dir = dir, .key = key, .notes = notes, .tell = take_finding, .context = out};

    memset(out, 0, sizeof(*out));
    out->status = hsm_journal_verify(&config, &out->summary);
}

void
journal_assert_good(const char *dir, struct verdict *out)
{
    journal_verify(dir, NULL, NULL, out);
    if (out->faults > 0)
        print_message("%s: record %llu, octet %llu: %s\n", out->file,
                      (unsigned long long)out->record, (unsigned long long)out->octet, out->text);
    assert_int_equal(out->status, HSM_OK);
    assert_int_equal(out->faults, 0);
}

const char *
journal_only_file(const char *dir)
{
    static char name[HSM_JOURNAL_NAME_MAX + 1];
    DIR *opened = opendir(dir);
    const struct dirent *found;
    unsigned count = 0;

    assert_non_null(opened);
    while ((found = readdir(opened)) != NULL) {
        size_t len = strlen(found->d_name);

        if (len < 4 || strcmp(found->d_name + len - 4, HSM_JOURNAL_SUFFIX) != 0)
            continue;
        count++;
        snprintf(name, sizeof(name), "%.95s", found->d_name);
    }
    closedir(opened);
    assert_int_equal(count, 1);
    return name;
}

static void
path_of(const char *dir, const char *file, char path[2 * PATH_ROOM])
{
    snprintf(path, 2 * PATH_ROOM, "%s/%s", dir, file);
}

char *
journal_get(const char *dir, const char *file, size_t *len)
{
    char path[2 * PATH_ROOM];
    uint8_t *octets = NULL;

    path_of(dir, file, path);
    assert_int_equal(hsm_file_read(path, FILE_MAX, &octets, len), HSM_OK);
    return (char *)octets;
}

void
journal_put(const char *dir, const char *file, const char *octets, size_t len)
{
    char path[2 * PATH_ROOM];
    FILE *to;

    path_of(dir, file, path);
    to = fopen(path, "wb");
    assert_non_null(to);
    assert_int_equal(fwrite(octets, 1, len, to), len);
    assert_int_equal(fclose(to), 0);
}

void
journal_copy(const char *dir, const char *name)
{
    char from[PATH_ROOM];
    DIR *opened;
    const struct dirent *found;

    snprintf(from, sizeof(from), "%s", dir);
    assert_int_equal(mkdir(journal_dir(name), 0700), 0);
    opened = opendir(from);
    assert_non_null(opened);
    while ((found = readdir(opened)) != NULL) {
        size_t len = 0;
        char *octets;

        if (found->d_name[0] == '.')
            continue;
        octets = journal_get(from, found->d_name, &len);
        journal_put(journal_dir(name), found->d_name, octets, len);
        free(octets);
    }
    closedir(opened);
}

static bool
look(void *context, const char *file, const struct hsm_journal_record *record)
{
    struct seen *seen = context;

    if (strcmp(record->kind, seen->kind) != 0)
        return true;
    seen->count++;
    seen->number = record->number;
    snprintf(seen->file, sizeof(seen->file), "%s", file);
    snprintf(seen->key, sizeof(seen->key), "%s", record->key);
    snprintf(seen->digest, sizeof(seen->digest), "%s", record->digest);
    snprintf(seen->who, sizeof(seen->who), "%s", record->who);
    snprintf(seen->outcome, sizeof(seen->outcome), "%s", record->outcome);
    snprintf(seen->detail, sizeof(seen->detail), "%s", record->detail);
    return true;
}

void
journal_look(const char *dir, const char *kind, struct seen *out)
{
    struct hsm_reason why = {""};

    memset(out, 0, sizeof(*out));
    out->kind = kind;
    assert_int_equal(hsm_journal_read_all(dir, look, out, &why), HSM_OK);
}
