/* test_audit_files.c - mirrors hsm/src/audit_files.c, audit_encoding.c, audit_scan.c and
 * audit_process.c: private keys in files and in memory. The keys here are not used by any system.
 */
#define _GNU_SOURCE /* memmem, pipe2 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>
#include <openssl/rand.h>

#include <hsm/audit.h>
#include <hsm/base64url.h>

#include "audit_fixture.h"
#include "forking.h"
#include "softhsm.h"

#define FILE_SIZE (3 * 1024 * 1024) /* more than two search windows */
#define WINDOW    1048576

struct octets {
    uint8_t *at;
    size_t len;
};

static EVP_PKEY *ec;
static EVP_PKEY *rsa;
static uint8_t scalar[32];
static char directory[512];
static char path[600];

/* ---- reports ---- */

static struct hsm_audit *audit;

static const json_t *
finish(void)
{
    const json_t *report = NULL;

    assert_int_equal(hsm_audit_finish(audit, &report), HSM_OK);
    return report;
}

static void
begin(void)
{
    const struct hsm_audit_config config = {.program = "test_audit_files", .now = AUDIT_NOW};

    hsm_audit_free(audit);
    audit = NULL;
    assert_int_equal(hsm_audit_new(&config, &audit), HSM_OK);
}

static struct hsm_secret *
scalar_secret(void)
{
    struct hsm_secret *secret = NULL;
    char hex[65];

    for (size_t i = 0; i < 32; i++)
        snprintf(hex + 2 * i, 3, "%02x", scalar[i]);
    assert_int_equal(hsm_secret_new(hex, 64, &secret), HSM_OK);
    return secret;
}

static const json_t *
search(bool with_scalar)
{
    struct hsm_secret *secret = with_scalar ? scalar_secret() : NULL;

    begin();
    assert_int_equal(hsm_audit_files(audit, directory, secret), HSM_OK);
    hsm_secret_free(secret);
    return finish();
}

/* ---- files ---- */

static void
put(const void *octets, size_t len)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    assert_int_equal(fwrite(octets, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

static struct octets
of_bio(BIO *bio)
{
    struct octets out;
    char *at = NULL;
    long len = BIO_get_mem_data(bio, &at);

    out.len = (size_t)len;
    out.at = malloc(out.len + 1);
    assert_non_null(out.at);
    memcpy(out.at, at, out.len);
    out.at[out.len] = '\0';
    BIO_free(bio);
    return out;
}

static struct octets
pem_pkcs8(void)
{
    BIO *bio = BIO_new(BIO_s_mem());

    assert_int_equal(PEM_write_bio_PKCS8PrivateKey(bio, ec, NULL, NULL, 0, NULL, NULL), 1);
    return of_bio(bio);
}

static struct octets
pem_traditional(void)
{
    BIO *bio = BIO_new(BIO_s_mem());

    assert_int_equal(PEM_write_bio_PrivateKey_traditional(bio, ec, NULL, NULL, 0, NULL, NULL), 1);
    return of_bio(bio);
}

static struct octets
pem_encrypted(void)
{
    BIO *bio = BIO_new(BIO_s_mem());

    assert_int_equal(
        PEM_write_bio_PKCS8PrivateKey(bio, ec, EVP_aes_256_cbc(), "passphrase", 10, NULL, NULL), 1);
    return of_bio(bio);
}

static struct octets
pem_with_headers(void)
{
    BIO *bio = BIO_new(BIO_s_mem());

    assert_int_equal(PEM_write_bio_PrivateKey_traditional(bio, rsa, EVP_aes_256_cbc(),
                                                          (const unsigned char *)"passphrase", 10,
                                                          NULL, NULL),
                     1);
    return of_bio(bio);
}

static struct octets
pem_in_json(void)
{
    struct octets pem = pem_pkcs8();
    json_t *object = json_pack("{s:s}", "key", (char *)pem.at);
    struct octets out = {(uint8_t *)json_dumps(object, 0), 0};

    out.len = strlen((char *)out.at);
    json_decref(object);
    free(pem.at);
    return out;
}

static struct octets
der_pkcs8(void)
{
    BIO *bio = BIO_new(BIO_s_mem());

    assert_int_equal(i2d_PKCS8PrivateKey_bio(bio, ec, NULL, NULL, 0, NULL, NULL), 1);
    return of_bio(bio);
}

static struct octets
der_encrypted(void)
{
    BIO *bio = BIO_new(BIO_s_mem());

    assert_int_equal(
        i2d_PKCS8PrivateKey_bio(bio, ec, EVP_aes_256_cbc(), "passphrase", 10, NULL, NULL), 1);
    return of_bio(bio);
}

static struct octets
der_of(EVP_PKEY *key)
{
    unsigned char *der = NULL;
    int len = i2d_PrivateKey(key, &der);
    struct octets out;

    assert_true(len > 0);
    out.len = (size_t)len;
    out.at = malloc(out.len);
    assert_non_null(out.at);
    memcpy(out.at, der, out.len);
    OPENSSL_free(der);
    return out;
}

static struct octets
der_ec(void)
{
    return der_of(ec);
}

static struct octets
der_rsa(void)
{
    return der_of(rsa);
}

static struct octets
base64_of_der(void)
{
    struct octets der = der_pkcs8();
    struct octets out = {(uint8_t *)hsm_base64_encode(der.at, der.len), 0};

    out.len = strlen((char *)out.at);
    free(der.at);
    return out;
}

static struct octets
pkcs12(void)
{
    PKCS12 *p12 = PKCS12_create("passphrase", "name", ec, NULL, NULL, 0, 0, 0, 0, 0);
    BIO *bio = BIO_new(BIO_s_mem());

    assert_int_equal(i2d_PKCS12_bio(bio, p12), 1);
    PKCS12_free(p12);
    return of_bio(bio);
}

static struct octets
jwk(void)
{
    char *d = hsm_base64url_encode(scalar, 32);
    struct octets out = {malloc(256), 0};

    out.len = (size_t)snprintf((char *)out.at, 256,
                               "{\"kty\":\"EC\",\"crv\":\"P-256\", \"d\" : \"%s\"}", d);
    free(d);
    return out;
}

static struct octets
openssh(void)
{
    static const char text[] =
        "-----BEGIN OPENSSH PRIVATE KEY-----\n"
        "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW\n"
        "-----END OPENSSH PRIVATE KEY-----\n";
    struct octets out = {malloc(sizeof(text)), sizeof(text) - 1};

    memcpy(out.at, text, sizeof(text));
    return out;
}

static const struct {
    const char *name;
    struct octets (*make)(void);
} encodings[] = {
    {"pkcs8.pem", pem_pkcs8},
    {"traditional.pem", pem_traditional},
    {"encrypted.pem", pem_encrypted},
    {"headers.pem", pem_with_headers},
    {"in.json", pem_in_json},
    {"pkcs8.der", der_pkcs8},
    {"encrypted.der", der_encrypted},
    {"ec.der", der_ec},
    {"rsa.der", der_rsa},
    {"base64", base64_of_der},
    {"key.p12", pkcs12},
    {"key.jwk", jwk},
    {"id_ecdsa", openssh},
};

static void
a_private_key_in_a_file_is_the_finding_in_every_encoding(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(encodings) / sizeof(encodings[0]); i++) {
        struct octets octets = encodings[i].make();
        const json_t *report;

        print_message("%s\n", encodings[i].name);
        put(octets.at, octets.len);
        report = search(false);
        audit_assert_findings(report, "file.private-key");
        assert_int_equal(audit_count(report, "file.search", "pass"), 1);
        free(octets.at);
    }
}

static void
a_key_is_found_where_windows_meet(void **state)
{
    static const size_t places[] = {0,      WINDOW - 100,    WINDOW - 1,
                                    WINDOW, 2 * WINDOW - 60, FILE_SIZE - 200};
    struct octets der = der_pkcs8();
    uint8_t *file = malloc(FILE_SIZE);

    (void)state;
    assert_non_null(file);
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        memset(file, 0x5a, FILE_SIZE);
        memcpy(file + places[i], der.at, der.len);
        put(file, FILE_SIZE);
        audit_assert_findings(search(false), "file.private-key");
    }
    free(file);
    free(der.at);
}

static struct octets
public_pem(void)
{
    BIO *bio = BIO_new(BIO_s_mem());

    assert_int_equal(PEM_write_bio_PUBKEY(bio, ec), 1);
    return of_bio(bio);
}

static struct octets
certificate(void)
{
    struct octets out = {NULL, 0};
    uint8_t *der = NULL;

    out.len = audit_certificate_der(ec, &der);
    out.at = malloc(out.len);
    memcpy(out.at, der, out.len);
    OPENSSL_free(der);
    return out;
}

static struct octets
chance(void)
{
    struct octets out = {malloc(FILE_SIZE), FILE_SIZE};

    assert_int_equal(RAND_bytes(out.at, FILE_SIZE), 1);
    return out;
}

static void
what_is_no_private_key_is_no_finding(void **state)
{
    static const char *const texts[] = {
        "",
        "-----BEGIN PRIVATE KEY-----",
        "grep -r -- '-----BEGIN PRIVATE KEY-----' /etc # is how to look\n",
        "-----BEGIN EC PRIVATE KEY----- and -----END EC PRIVATE KEY----- frame it\n",
        "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\"}",
        "{\"d\":\"short\",\"kty\":\"EC\"}",
        "{\"d\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\"}",
        "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg",
        "0\x82\x02\x01",
    };
    struct octets (*const made[])(void) = {public_pem, certificate, chance};

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        put(texts[i], strlen(texts[i]));
        audit_assert_findings(search(true), NULL);
    }
    for (size_t i = 0; i < sizeof(made) / sizeof(made[0]); i++) {
        struct octets octets = made[i]();

        put(octets.at, octets.len);
        audit_assert_findings(search(true), NULL);
        free(octets.at);
    }
}

static void
links_are_not_followed_and_what_is_not_there_is_told(void **state)
{
    struct octets pem = pem_pkcs8();
    char outside[600];
    char link[600];

    (void)state;
    snprintf(outside, sizeof(outside), "%s/outside.pem", softhsm_dir());
    snprintf(link, sizeof(link), "%s/link", directory);
    put(pem.at, pem.len);
    assert_int_equal(rename(path, outside), 0);
    assert_int_equal(symlink(outside, link), 0);
    audit_assert_findings(search(false), NULL);
    assert_int_equal(unlink(link), 0);
    assert_int_equal(unlink(outside), 0);
    assert_int_equal(hsm_audit_files(audit, outside, NULL), HSM_ERR_NOT_FOUND);
    free(pem.at);
}

static void
the_store_of_a_software_token_is_told_and_no_finding(void **state)
{
    struct hsm_token *token;
    struct hsm_key *key = NULL;

    (void)state;
    if (!softhsm_is_softhsm())
        skip();
    token = softhsm_token("store");
    assert_int_equal(hsm_key_generate(token, "kept", &key), HSM_OK);
    begin();
    assert_int_equal(hsm_audit_files(audit, softhsm_dir(), NULL), HSM_OK);
    audit_assert_findings(finish(), NULL);
    assert_int_equal(audit_count(finish(), "file.token-store", "info"), 1);
    hsm_key_free(key);
    hsm_token_close(token);
}

/* ---- scalars ---- */

static size_t
as_octets(uint8_t *out)
{
    memcpy(out, scalar, 32);
    return 32;
}

static size_t
reversed(uint8_t *out)
{
    for (size_t i = 0; i < 32; i++)
        out[i] = scalar[31 - i];
    return 32;
}

static size_t
limbs_of_64_bits(uint8_t *out)
{
    for (size_t i = 0; i < 4; i++)
        memcpy(out + 8 * i, scalar + 24 - 8 * i, 8);
    return 32;
}

static size_t
limbs_of_32_bits(uint8_t *out)
{
    for (size_t i = 0; i < 8; i++)
        memcpy(out + 4 * i, scalar + 28 - 4 * i, 4);
    return 32;
}

static size_t
hex(uint8_t *out)
{
    for (size_t i = 0; i < 32; i++)
        snprintf((char *)out + 2 * i, 3, "%02x", scalar[i]);
    return 64;
}

static size_t
hex_in_capitals(uint8_t *out)
{
    for (size_t i = 0; i < 32; i++)
        snprintf((char *)out + 2 * i, 3, "%02X", scalar[i]);
    return 64;
}

/* In the format of `openssl pkey -text`. */
static size_t
hex_between_colons(uint8_t *out)
{
    size_t n = 0;

    for (size_t i = 0; i < 32; i++) {
        if (i % 15 == 0)
            n += (size_t)snprintf((char *)out + n, 16, "%s    ", i > 0 ? "\n" : "");
        n += (size_t)snprintf((char *)out + n, 16, "%02x%s", scalar[i], i < 31 ? ":" : "");
    }
    return n;
}

static size_t
base64_after(uint8_t *out, unsigned before, bool url, unsigned line)
{
    uint8_t octets[80];
    char *text;
    size_t n = 0;

    assert_int_equal(RAND_bytes(octets, sizeof(octets)), 1);
    memcpy(octets + before, scalar, 32);
    text = url ? hsm_base64url_encode(octets, sizeof(octets))
               : hsm_base64_encode(octets, sizeof(octets));
    for (size_t i = 0; text[i] != '\0'; i++) {
        out[n++] = (uint8_t)text[i];
        if (line > 0 && i % line == line - 1)
            out[n++] = '\n';
    }
    free(text);
    return n;
}

static size_t
base64_at_0(uint8_t *out)
{
    return base64_after(out, 0, false, 0);
}

static size_t
base64_at_1(uint8_t *out)
{
    return base64_after(out, 1, false, 0);
}

static size_t
base64_at_2_in_lines(uint8_t *out)
{
    return base64_after(out, 32, false, 64);
}

static size_t
base64url_at_1(uint8_t *out)
{
    return base64_after(out, 4, true, 0);
}

static size_t
base64url_at_2(uint8_t *out)
{
    return base64_after(out, 5, true, 0);
}

static const struct {
    const char *name;
    size_t (*make)(uint8_t *out);
} forms[] = {
    {"octets", as_octets},
    {"reversed", reversed},
    {"limbs of 64 bits", limbs_of_64_bits},
    {"limbs of 32 bits", limbs_of_32_bits},
    {"hex", hex},
    {"hex in capitals", hex_in_capitals},
    {"hex between colons", hex_between_colons},
    {"base64", base64_at_0},
    {"base64 after 1", base64_at_1},
    {"base64 in lines", base64_at_2_in_lines},
    {"base64url after 4", base64url_at_1},
    {"base64url after 5", base64url_at_2},
};

#define FORMS (sizeof(forms) / sizeof(forms[0]))

static void
a_known_scalar_is_found_in_every_form_and_only_when_asked_for(void **state)
{
    (void)state;
    for (size_t i = 0; i < FORMS; i++) {
        uint8_t octets[512];
        size_t len = forms[i].make(octets);

        print_message("%s\n", forms[i].name);
        put(octets, len);
        audit_assert_findings(search(true), "file.private-key");
        audit_assert_findings(search(false), NULL);
    }
}

static void
the_report_names_the_key_by_its_public_half_and_not_its_value(void **state)
{
    uint8_t octets[512];
    char value[65];
    char *text;

    (void)state;
    put(octets, as_octets(octets));
    text = json_dumps(search(true), 0);
    (void)hex((uint8_t *)value);
    assert_null(strstr(text, value));
    assert_non_null(strstr(text, "point_sha256"));
    free(text);
}

static void
scalars_that_are_none_are_refused(void **state)
{
    static const char *const bad[] = {
        "x",
        "00",
        "0000000000000000000000000000000000000000000000000000000000000000",
        /* the order of P-256 */
        "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551",
        "000000000000000000000000000000000000000000000000000000000000000g",
        "0000000000000000000000000000000000000000000000000000000000000001 1",
    };

    (void)state;
    begin();
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct hsm_secret *secret = NULL;

        assert_int_equal(hsm_secret_new(bad[i], strlen(bad[i]), &secret), HSM_OK);
        assert_int_equal(hsm_audit_files(audit, directory, secret), HSM_ERR_MALFORMED);
        hsm_secret_free(secret);
    }
}

/* ---- processes ---- */

/* A child that has these octets in its memory, and none of ours, which it wipes after the fork. */
static pid_t
child_with(const uint8_t *octets, size_t len)
{
    int ready[2];
    uint8_t *kept;
    char one;
    pid_t pid;

    assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        OPENSSL_cleanse(scalar, sizeof(scalar));
        EVP_PKEY_free(ec);
        EVP_PKEY_free(rsa);
        kept = malloc(len + 1);
        if (kept != NULL && len > 0)
            memcpy(kept, octets, len);
        OPENSSL_cleanse((void *)octets, len);
        if (write(ready[1], "r", 1) != 1)
            _exit(1);
        (void)alarm(300);
        for (;;)
            (void)pause();
    }
    assert_int_equal(read(ready[0], &one, 1), 1);
    close(ready[0]);
    close(ready[1]);
    return pid;
}

static void
end(pid_t pid)
{
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* A container may deny even its root access to the memory of other processes. */
static bool
may_read(pid_t pid)
{
    char name[64];
    int fd;

    snprintf(name, sizeof(name), "/proc/%ld/mem", (long)pid);
    fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

static void
a_secret_in_a_process_is_the_finding(void **state)
{
    struct hsm_secret *secret;

    (void)state;
    SKIP_WHERE_NO_FORK();
    secret = scalar_secret();
    for (size_t i = 0; i < FORMS; i++) {
        uint8_t octets[512];
        size_t len = forms[i].make(octets);
        pid_t pid = child_with(octets, len);

        if (!may_read(pid)) {
            end(pid);
            hsm_secret_free(secret);
            skip();
        }
        print_message("%s\n", forms[i].name);
        begin();
        assert_int_equal(hsm_audit_process(audit, pid, secret), HSM_OK);
        audit_assert_findings(finish(), "process.secret");
        assert_int_equal(audit_count(finish(), "process.control", "pass"), 1);
        end(pid);
        OPENSSL_cleanse(octets, sizeof(octets));
    }
    hsm_secret_free(secret);
}

static void
a_process_that_is_not_there_is_no_clean_one(void **state)
{
    pid_t pid;
    bool may;

    (void)state;
    SKIP_WHERE_NO_FORK();
    pid = child_with((uint8_t *)"", 0);
    may = may_read(pid);
    end(pid);
    if (!may)
        skip();
    begin();
    assert_int_equal(hsm_audit_process(audit, pid, NULL), HSM_ERR_NOT_FOUND);
}

static int
start(void **state)
{
    BIGNUM *d = NULL;

    (void)state;
    softhsm_start();
    snprintf(directory, sizeof(directory), "%s/searched", softhsm_dir());
    snprintf(path, sizeof(path), "%s/file", directory);
    assert_int_equal(mkdir(directory, 0700), 0);
    ec = peer_key_new("P-256");
    rsa = EVP_RSA_gen(2048);
    assert_non_null(rsa);
    assert_int_equal(EVP_PKEY_get_bn_param(ec, OSSL_PKEY_PARAM_PRIV_KEY, &d), 1);
    assert_int_equal(BN_bn2binpad(d, scalar, sizeof(scalar)), sizeof(scalar));
    BN_clear_free(d);
    return 0;
}

static int
stop(void **state)
{
    (void)state;
    hsm_audit_free(audit);
    EVP_PKEY_free(ec);
    EVP_PKEY_free(rsa);
    softhsm_stop();
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_private_key_in_a_file_is_the_finding_in_every_encoding),
        cmocka_unit_test(a_key_is_found_where_windows_meet),
        cmocka_unit_test(what_is_no_private_key_is_no_finding),
        cmocka_unit_test(links_are_not_followed_and_what_is_not_there_is_told),
        cmocka_unit_test(a_known_scalar_is_found_in_every_form_and_only_when_asked_for),
        cmocka_unit_test(the_report_names_the_key_by_its_public_half_and_not_its_value),
        cmocka_unit_test(scalars_that_are_none_are_refused),
        cmocka_unit_test(a_secret_in_a_process_is_the_finding),
        cmocka_unit_test(a_process_that_is_not_there_is_no_clean_one),
        cmocka_unit_test(the_store_of_a_software_token_is_told_and_no_finding),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
