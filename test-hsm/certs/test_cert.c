/* test_cert.c - mirrors certs/src/cert.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <dirent.h>

#include <openssl/evp.h>

#include "peer_cert.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Decode a JSON member in standard base64. */
static size_t
unbase64(const char *text, uint8_t *out, size_t max)
{
    size_t digits = strlen(text);
    size_t pads = (text[digits - 1] == '=') + (text[digits - 2] == '=');

    peer_must(digits / 4 * 3 <= max, "too long");
    peer_must(EVP_DecodeBlock(out, (const uint8_t *)text, (int)digits) > 0, "base64");
    return digits / 4 * 3 - pads;
}

static void
hex_of(const uint8_t *octets, size_t len, char *out)
{
    for (size_t i = 0; i < len; i++)
        snprintf(out + 2 * i, 3, "%02x", octets[i]);
}

static void
the_certificate_of_rfc_9118_reads_as_published(void **state)
{
    json_t *file = data_json("rfc/rfc9118_cert.json");
    uint8_t der[1024];
    size_t len =
        unbase64(json_string_value(json_object_get(file, "cert_der_b64")), der, sizeof(der));
    struct certs_tnauthlist *list = NULL;
    X509 *cert = NULL;
    uint8_t digest[32];
    char hex[65];
    char *text;
    uint8_t serial[CERTS_SERIAL_MAX];

    (void)state;
    assert_int_equal(certs_cert_parse_der(der, len, &cert, NULL), HSM_OK);
    assert_int_equal(certs_cert_tnauthlist(cert, &list, NULL), HSM_OK);
    assert_string_equal(certs_tnauthlist_spc(list), "1234");
    text = certs_cert_subject(cert);
    assert_string_equal(text, "CN=SHAKEN,OU=VoIP,O=Bogus Example Telecom,L=Herndon,ST=VA,C=US");
    free(text);
    text = certs_cert_issuer(cert);
    assert_string_equal(text, "CN=BOGUS SHAKEN ROOT,C=US");
    free(text);
    text = certs_cert_serial_hex(cert);
    assert_string_equal(text, "1fb65ddeb43902cbce9732e7cd41e1ad58434a5b");
    free(text);
    assert_int_equal(certs_cert_serial(cert, serial), 20);
    assert_int_equal(certs_cert_not_before(cert), 1626385935); /* 2021-07-15T21:52:15Z */
    assert_int_equal(certs_cert_not_after(cert), 1657921935); /* 2022-07-15T21:52:15Z */
    assert_int_equal(certs_cert_sha256(cert, digest), HSM_OK);
    hex_of(digest, sizeof(digest), hex);
    assert_string_equal(hex, "85b1a780a9a515c723eb28b0c972e224b54ed554b1acef3aa16dfd15d9e01c25");
    assert_null(certs_cert_crl_url(cert));
    certs_tnauthlist_free(list);
    X509_free(cert);
    json_decref(file);
}

static void
names_and_crl_url_are_lent_as_text(void **state)
{
    X509 *cert = data_cert("self/sp-1234.cert.pem");
    char *text = certs_cert_common_name(cert);

    (void)state;
    assert_string_equal(text, "SHAKEN 1234");
    free(text);
    text = certs_cert_organization(cert);
    assert_string_equal(text, "Example Telecom");
    free(text);
    text = certs_cert_crl_url(cert);
    assert_string_equal(text, "https://sti-pa.example/download/v1/crl");
    free(text);
    assert_non_null(certs_cert_public(cert));
    X509_free(cert);
}

static void
a_certificate_is_one_der_value_within_its_bound(void **state)
{
    X509 *good = data_cert("self/sp-1234.cert.pem");
    X509 *cert = NULL;
    uint8_t *der = NULL;
    uint8_t *more;
    size_t len;
    struct hsm_reason why;

    (void)state;
    assert_int_equal(certs_cert_der(good, &der, &len), HSM_OK);
    more = calloc(1, CERTS_CERT_MAX + 1);
    memcpy(more, der, len);
    assert_int_equal(certs_cert_parse_der(more, len, &cert, &why), HSM_OK);
    X509_free(cert);
    cert = NULL;
    assert_int_equal(certs_cert_parse_der(more, len + 1, &cert, &why), HSM_ERR_MALFORMED);
    assert_int_equal(certs_cert_parse_der(more, len - 1, &cert, &why), HSM_ERR_MALFORMED);
    assert_int_equal(certs_cert_parse_der(more, 0, &cert, &why), HSM_ERR_MALFORMED);
    assert_int_equal(certs_cert_parse_der(more, CERTS_CERT_MAX + 1, &cert, &why),
                     HSM_ERR_MALFORMED);
    for (size_t at = 0; at < len; at++) { /* every octet of the structure */
        more[at] ^= 0x80;
        if (certs_cert_parse_der(more, len, &cert, &why) == HSM_OK)
            X509_free(cert);
        else
            assert_string_not_equal(why.text, "");
        cert = NULL;
        more[at] ^= 0x80;
    }
    free(more);
    free(der);
    X509_free(good);
}

static const struct {
    const char *what;
    struct peer_ext exts[3];
    enum hsm_status wanted;
} tnauthlists[] = {
    {"one", {{PEER_TNAUTHLIST_1234}}, HSM_OK},
    {"none", {{"keyUsage", "digitalSignature"}}, HSM_ERR_NOT_FOUND},
    {"two", {{PEER_TNAUTHLIST_1234}, {PEER_TNAUTHLIST_1234}}, HSM_ERR_MALFORMED},
    {"an implicit one", {{"1.3.6.1.5.5.7.1.26", "DER:3006800431323334"}}, HSM_ERR_MALFORMED},
    {"an empty one", {{"1.3.6.1.5.5.7.1.26", "DER:3000"}}, HSM_ERR_MALFORMED},
};

static void
a_tnauthlist_is_there_once_and_well_formed(void **state)
{
    EVP_PKEY *key = peer_key_new("P-256");

    (void)state;
    for (size_t i = 0; i < COUNT(tnauthlists); i++) {
        X509 *cert = peer_cert(
            &(struct peer_spec){.cn = "SHAKEN 1234", .key = key, .exts = tnauthlists[i].exts});
        struct certs_tnauthlist *list = NULL;
        struct hsm_reason why = {0};

        if (certs_cert_tnauthlist(cert, &list, &why) != tnauthlists[i].wanted)
            fail_msg("%s: %s", tnauthlists[i].what, why.text);
        certs_tnauthlist_free(list);
        X509_free(cert);
    }
    EVP_PKEY_free(key);
}

static void
shown_names_cannot_drive_a_terminal(void **state)
{
    static const struct peer_ext exts[] = {{"subjectAltName", "DNS:a\033[2Jb.example"},
                                           {NULL, NULL}};
    EVP_PKEY *key = peer_key_new("P-256");
    X509 *cert = peer_cert(&(struct peer_spec){.cn = "x\033[31m\n", .key = key, .exts = exts});
    char *text = NULL;
    size_t len;
    FILE *to = open_memstream(&text, &len);

    (void)state;
    assert_int_equal(certs_cert_show(cert, DATA_NOW, to), HSM_OK);
    fclose(to);
    assert_null(strchr(text, '\033'));
    assert_non_null(strstr(text, "name         DNS:a.[2Jb.example\n"));
    free(text);
    X509_free(cert);
    EVP_PKEY_free(key);
}

/* Calls every function that reads a certificate; each must return. */
static void
ask_everything(X509 *cert)
{
    struct certs_tnauthlist *list = NULL;
    struct certs_chain *chain = NULL;
    uint8_t serial[CERTS_SERIAL_MAX];
    char *text = NULL;
    size_t len = 0;
    FILE *to = open_memstream(&text, &len);

    free(certs_cert_common_name(cert));
    free(certs_cert_organization(cert));
    free(certs_cert_crl_url(cert));
    assert_true(certs_cert_serial(cert, serial) <= CERTS_SERIAL_MAX);
    if (certs_cert_tnauthlist(cert, &list, NULL) == HSM_OK)
        certs_tnauthlist_free(list);
    assert_int_equal(certs_cert_show(cert, DATA_NOW, to), HSM_OK);
    fclose(to);
    assert_non_null(strstr(text, "SHA-256"));
    free(text);
    assert_int_equal(certs_chain_new(&chain), HSM_OK);
    assert_int_equal(certs_chain_add(chain, cert), HSM_OK);
    assert_int_equal(certs_chain_verify(chain, chain, CERTS_FOR_STI, DATA_NOW, NULL),
                     HSM_ERR_UNTRUSTED);
    certs_chain_free(chain);
}

static void
certificates_with_single_defects_are_read_and_shown(void **state)
{
    const char *shared = shared_path("interop/shaken-certificates/single-defects");
    char directory[1024];
    struct dirent *entry;
    size_t read = 0;
    DIR *all;

    (void)state;
    if (shared == NULL)
        skip();
    snprintf(directory, sizeof(directory), "%s", shared);
    all = opendir(directory);
    assert_non_null(all);
    while ((entry = readdir(all)) != NULL) {
        char path[2048];
        struct certs_chain *chain = NULL;

        if (strstr(entry->d_name, ".pem") == NULL)
            continue;
        snprintf(path, sizeof(path), "%s/%s", directory, entry->d_name);
        assert_int_equal(certs_chain_read(path, &chain), HSM_OK);
        for (size_t i = 0; i < certs_chain_len(chain); i++)
            ask_everything(certs_chain_get(chain, i));
        certs_chain_free(chain);
        read++;
    }
    closedir(all);
    assert_int_equal(read, 75);
}

static void
ca_certificates_in_production_are_read_and_shown(void **state)
{
    static const char *const files[] = {"interop/shaken-certificates/roots.pem",
                                        "interop/shaken-certificates/intermediates.pem",
                                        "interop/shaken-certificates/STI-PA_ROOT.pem"};

    (void)state;
    for (size_t k = 0; k < COUNT(files); k++) {
        const char *path = shared_path(files[k]);
        struct certs_chain *chain = NULL;

        if (path == NULL)
            skip();
        assert_int_equal(certs_chain_read(path, &chain), HSM_OK);
        for (size_t i = 0; i < certs_chain_len(chain); i++)
            ask_everything(certs_chain_get(chain, i));
        certs_chain_free(chain);
    }
}

static void
a_serial_number_in_hex_is_read_as_the_certificate_has_it(void **state)
{
    static const struct {
        const char *hex, *octets; /* octets NULL: refused */
    } rows[] = {
        {"01", "01"},
        {"00007f", "7f"},
        {"80", "0080"},
        {"ABCDEF", "00abcdef"},
        {"0102030405060708091011121314151617181920", "0102030405060708091011121314151617181920"},
        {"", NULL},
        {"0", NULL},
        {"00", NULL},
        {"0g", NULL},
        {"-1", NULL},
        {"0x12", NULL},
        {"0102030405060708091011121314151617181920ff", NULL},
        {"8102030405060708091011121314151617181920", NULL}, /* 21 octets with its zero */
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        uint8_t serial[CERTS_SERIAL_MAX];
        char hex[2 * CERTS_SERIAL_MAX + 1];
        struct hsm_reason why = {""};
        size_t len = 0;
        enum hsm_status st = certs_serial_parse(rows[i].hex, serial, &len, &why);

        if (rows[i].octets == NULL) {
            assert_int_equal(st, HSM_ERR_MALFORMED);
            assert_memory_equal(why.text, "serial: ", 8);
            continue;
        }
        assert_int_equal(st, HSM_OK);
        hex_of(serial, len, hex);
        assert_string_equal(hex, rows[i].octets);
    }
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_certificate_of_rfc_9118_reads_as_published),
        cmocka_unit_test(names_and_crl_url_are_lent_as_text),
        cmocka_unit_test(a_serial_number_in_hex_is_read_as_the_certificate_has_it),
        cmocka_unit_test(a_certificate_is_one_der_value_within_its_bound),
        cmocka_unit_test(a_tnauthlist_is_there_once_and_well_formed),
        cmocka_unit_test(shown_names_cannot_drive_a_terminal),
        cmocka_unit_test(certificates_with_single_defects_are_read_and_shown),
        cmocka_unit_test(ca_certificates_in_production_are_read_and_shown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
