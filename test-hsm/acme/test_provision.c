/* test_provision.c - mirrors acme/src/provision.c, on a throw-away SoftHSM token. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include <openssl/x509v3.h>

#include <unistd.h>

#include <acme/provision.h>
#include <certs/cert.h>
#include <hsm/process.h>

#include "data.h"
#include "softhsm.h"

#define PATH_SIZE 4300

static struct hsm_token *token;

static const char *
in_dir(const char *name)
{
    static char paths[4][PATH_SIZE];
    static size_t next;
    char *path = paths[next++ % 4];

    snprintf(path, PATH_SIZE, "%s/%s", softhsm_dir(), name);
    return path;
}

static enum hsm_status
provision_tls(const char *base_url, const char *const *extra)
{
    return acme_provision_tls(token, &(struct acme_provision_tls){.dir = softhsm_dir(),
                                                                  .organization = "Example",
                                                                  .country = "US",
                                                                  .base_url = base_url,
                                                                  .extra_names = extra});
}

static struct certs_chain *
read_chain(const char *name)
{
    struct certs_chain *chain = NULL;

    assert_int_equal(certs_chain_read(in_dir(name), &chain), HSM_OK);
    return chain;
}

static char *
leaf_serial(const char *name)
{
    struct certs_chain *chain = read_chain(name);
    char *serial = certs_cert_serial_hex(certs_chain_get(chain, 0));

    certs_chain_free(chain);
    return serial;
}

static void
a_tls_certificate_names_the_host_and_for_loopback_its_other_names(void **state)
{
    static const char *const extra[] = {"ca.example", "192.0.2.1", "CA.example", NULL};
    struct certs_chain *chain;
    X509 *leaf;

    (void)state;
    assert_int_equal(provision_tls("https://127.0.0.1:4443", extra), HSM_OK);
    chain = read_chain(ACME_PROVISION_TLS_CHAIN_FILE);
    assert_int_equal(certs_chain_len(chain), 2);
    leaf = certs_chain_get(chain, 0);
    assert_int_equal(X509_check_ip_asc(leaf, "127.0.0.1", 0), 1);
    assert_int_equal(X509_check_ip_asc(leaf, "::1", 0), 1);
    assert_int_equal(X509_check_ip_asc(leaf, "192.0.2.1", 0), 1);
    assert_int_equal(X509_check_host(leaf, "localhost", 0, 0, NULL), 1);
    assert_int_equal(X509_check_host(leaf, "ca.example", 0, 0, NULL), 1);
    assert_int_equal(X509_check_host(leaf, "pa.example", 0, 0, NULL), 0);
    certs_chain_free(chain);
}

static void
it_is_issued_anew_for_another_name_and_else_kept(void **state)
{
    char *first, *same, *other, *root, *root_after;
    struct certs_chain *chain;

    (void)state;
    assert_int_equal(provision_tls("https://localhost", NULL), HSM_OK);
    first = leaf_serial(ACME_PROVISION_TLS_CHAIN_FILE);
    root = leaf_serial(ACME_PROVISION_TLS_ROOT_FILE);
    assert_int_equal(provision_tls("https://[::1]:9", NULL), HSM_OK);
    same = leaf_serial(ACME_PROVISION_TLS_CHAIN_FILE);
    assert_int_equal(provision_tls("https://sti.example:4443", NULL), HSM_OK);
    other = leaf_serial(ACME_PROVISION_TLS_CHAIN_FILE);
    root_after = leaf_serial(ACME_PROVISION_TLS_ROOT_FILE);
    assert_string_equal(same, first);
    assert_string_not_equal(other, first);
    assert_string_equal(root_after, root);
    chain = read_chain(ACME_PROVISION_TLS_CHAIN_FILE);
    assert_int_equal(X509_check_host(certs_chain_get(chain, 0), "localhost", 0, 0, NULL), 0);
    certs_chain_free(chain);
    free(first);
    free(same);
    free(other);
    free(root);
    free(root_after);
}

/* The token with the root's key was lost and the root's file was moved away. */
static void
what_a_former_root_of_that_name_signed_is_issued_anew(void **state)
{
    struct acme_provision_request former = {
        .label = "former-root",
        .certificate = {.profile = CERTS_PROFILE_TLS_ROOT},
        .valid_days = 30,
        .path = in_dir("former-root.pem"),
    };
    static const char *const names[] = {"localhost", NULL};
    struct acme_provision_request server = {
        .label = ACME_PROVISION_TLS_SERVER_LABEL,
        .certificate = {.profile = CERTS_PROFILE_TLS_SERVER,
                        .subject = {.common_name = "localhost"},
                        .dns_names = names},
        .valid_days = 10,
        .path = in_dir(ACME_PROVISION_TLS_CHAIN_FILE),
    };
    struct hsm_key *root_key = NULL, *key = NULL;
    struct certs_chain *root = NULL, *chain = NULL, *now;
    char *before, *after;

    (void)state;
    assert_int_equal(provision_tls("https://localhost", NULL), HSM_OK);
    now = read_chain(ACME_PROVISION_TLS_ROOT_FILE);
    former.certificate.subject = (struct certs_subject){
        .country = "US", .organization = "Example", .common_name = "Example TLS Root"};
    assert_int_equal(acme_provision_certificate(token, &former, &root_key, &root), HSM_OK);
    assert_int_equal(X509_NAME_cmp(certs_cert_subject_name(certs_chain_get(root, 0)),
                                   certs_cert_subject_name(certs_chain_get(now, 0))),
                     0);
    server.issuer = root;
    server.issuer_key = root_key;
    (void)unlink(server.path);
    assert_int_equal(acme_provision_certificate(token, &server, &key, &chain), HSM_OK);
    before = leaf_serial(ACME_PROVISION_TLS_CHAIN_FILE);
    assert_int_equal(provision_tls("https://localhost", NULL), HSM_OK);
    after = leaf_serial(ACME_PROVISION_TLS_CHAIN_FILE);
    assert_string_not_equal(after, before);
    free(before);
    free(after);
    certs_chain_free(now);
    certs_chain_free(root);
    certs_chain_free(chain);
    hsm_key_free(root_key);
    hsm_key_free(key);
}

static void
what_another_issuer_signed_is_kept_whatever_it_names(void **state)
{
    struct acme_provision_request other_root = {
        .label = "other-root",
        .certificate = {.profile = CERTS_PROFILE_TLS_ROOT,
                        .subject = {.country = "US",
                                    .organization = "Other",
                                    .common_name = "Other TLS Root"}},
        .valid_days = 30,
        .path = in_dir("other-root.pem"),
    };
    static const char *const names[] = {"theirs.example", NULL};
    struct acme_provision_request theirs = {
        .label = ACME_PROVISION_TLS_SERVER_LABEL,
        .certificate = {.profile = CERTS_PROFILE_TLS_SERVER,
                        .subject = {.country = "US",
                                    .organization = "Example",
                                    .common_name = "theirs.example"},
                        .dns_names = names},
        .valid_days = 10,
        .path = in_dir(ACME_PROVISION_TLS_CHAIN_FILE),
    };
    struct hsm_key *root_key = NULL, *key = NULL;
    struct certs_chain *root = NULL, *chain = NULL;
    char *before, *after;

    (void)state;
    assert_int_equal(acme_provision_certificate(token, &other_root, &root_key, &root), HSM_OK);
    theirs.issuer = root;
    theirs.issuer_key = root_key;
    (void)unlink(theirs.path);
    assert_int_equal(acme_provision_certificate(token, &theirs, &key, &chain), HSM_OK);
    before = leaf_serial(ACME_PROVISION_TLS_CHAIN_FILE);
    assert_int_equal(provision_tls("https://ours.example", NULL), HSM_OK);
    after = leaf_serial(ACME_PROVISION_TLS_CHAIN_FILE);
    assert_string_equal(after, before);
    free(before);
    free(after);
    assert_int_equal(unlink(theirs.path), 0); /* the following tests use their own */
    certs_chain_free(chain);
    certs_chain_free(root);
    hsm_key_free(key);
    hsm_key_free(root_key);
}

static void
a_base_url_that_is_no_https_url_is_refused(void **state)
{
    static const char *const urls[] = {"http://ca.example", "https://", "ca.example",
                                       "https://a b/", ""};

    (void)state;
    for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++)
        assert_int_equal(provision_tls(urls[i], NULL), HSM_ERR_USAGE);
}

static enum hsm_status
provision_root(const char *label, const char *path, struct hsm_key **key,
               struct certs_chain **chain)
{
    return acme_provision_certificate(token,
                                      &(struct acme_provision_request){
                                          .label = label,
                                          .certificate = {.profile = CERTS_PROFILE_PA_ROOT,
                                                          .subject = {.country = "US",
                                                                      .organization = "Example",
                                                                      .common_name = "Root"}},
                                          .valid_days = 1,
                                          .path = path,
                                      },
                                      key, chain);
}

static void
a_root_is_made_once_and_nobody_elses_is_taken_for_it(void **state)
{
    struct hsm_key *key = NULL, *again = NULL, *none = NULL;
    struct certs_chain *chain = NULL, *chain_again = NULL, *no_chain = NULL;

    (void)state;
    assert_int_equal(provision_root("root", in_dir("root.pem"), &key, &chain), HSM_OK);
    assert_int_equal(provision_root("root", in_dir("root.pem"), &again, &chain_again), HSM_OK);
    assert_true(hsm_key_matches(key, hsm_key_public(again)));
    assert_int_equal(X509_cmp(certs_chain_get(chain, 0), certs_chain_get(chain_again, 0)), 0);
    assert_int_equal(provision_root("other-root", in_dir("root.pem"), &none, &no_chain),
                     HSM_ERR_UNTRUSTED);
    assert_null(none);
    assert_null(no_chain);
    assert_int_equal(hsm_file_write(in_dir("broken.pem"), "x", 1, 0644), HSM_OK);
    assert_int_not_equal(provision_root("root", in_dir("broken.pem"), &none, &no_chain), HSM_OK);
    hsm_key_free(key);
    hsm_key_free(again);
    certs_chain_free(chain);
    certs_chain_free(chain_again);
}

static void
nothing_outlives_its_issuer(void **state)
{
    struct hsm_key *root_key = NULL, *key = NULL;
    struct certs_chain *root = NULL, *chain = NULL;

    (void)state;
    assert_int_equal(provision_root("root", in_dir("root.pem"), &root_key, &root), HSM_OK);
    assert_int_equal(
        acme_provision_certificate(token,
                                   &(struct acme_provision_request){
                                       .label = "signer",
                                       .certificate = {.profile = CERTS_PROFILE_PA_SIGNER,
                                                       .subject = {.country = "US",
                                                                   .organization = "Example",
                                                                   .common_name = "Signer"}},
                                       .valid_days = 100,
                                       .issuer = root,
                                       .issuer_key = root_key,
                                       .path = in_dir("signer.pem"),
                                   },
                                   &key, &chain),
        HSM_OK);
    assert_int_equal(certs_cert_not_after(certs_chain_get(chain, 0)),
                     certs_cert_not_after(certs_chain_get(root, 0)));
    assert_int_equal(certs_chain_len(chain), 2);
    hsm_key_free(root_key);
    hsm_key_free(key);
    certs_chain_free(root);
    certs_chain_free(chain);
}

static void
a_configuration_that_is_there_is_kept(void **state)
{
    uint8_t *text = NULL;
    size_t len;

    (void)state;
    assert_int_equal(acme_provision_config(softhsm_dir(), "a.conf", "first"), HSM_OK);
    assert_int_equal(acme_provision_config(softhsm_dir(), "a.conf", "second"), HSM_OK);
    assert_int_equal(hsm_file_read(in_dir("a.conf"), 100, &text, &len), HSM_OK);
    assert_string_equal((char *)text, "first");
    free(text);
}

static void
lines_of_a_configuration_are_written_in_sections(void **state)
{
    const struct acme_provision_line lines[] = {
        {"token", "uri", "pkcs11:token=a;object=b"},
        {"token", "module", NULL},
        {"token", "pin-source", "file:/pin"},
        {"left-out", "key", NULL},
        {"cr", NULL, "why"},
        {"cr", "dir", "cr"},
        {.section = NULL},
    };
    char *text = NULL;

    (void)state;
    assert_int_equal(acme_provision_config_text("sti-x", lines, &text), HSM_OK);
    assert_string_equal(
        text, "# Written by sti-x init, and never again: edit it. All keys: sti-x --help\n"
              "\n[token]\nuri = pkcs11:token=a;object=b\npin-source = file:/pin\n"
              "\n[cr]\n# why\ndir = cr\n");
    free(text);
}

static void
values_that_would_break_a_configuration_are_refused(void **state)
{
    static const char *const values[] = {"a\nb", "a\tb", "a ;b", ";b", " a", ""};
    char *text = NULL;

    (void)state;
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        assert_int_equal(
            acme_provision_config_text("sti-x",
                                       (const struct acme_provision_line[]){
                                           {"token", "uri", values[i]}, {.section = NULL}},
                                       &text),
            HSM_ERR_USAGE);
        assert_null(text);
    }
}

static void
sources_and_names_come_out_as_configurations_and_certificates_want_them(void **state)
{
    CLEAR_AFTER(acme_provision_sources_clear)
    struct acme_provision_sources some = {.pin = NULL}, others = {.pin = NULL};
    char *fits = acme_provision_common_name("Example", "SHAKEN Root");
    char *too_long = acme_provision_common_name(
        "An organization whose name is as long as names of organizations are", "SHAKEN Root");

    (void)state;
    assert_int_equal(acme_provision_sources_take("fd:3", "file:/", "/tmp/..", &some), HSM_OK);
    assert_string_equal(some.pin, "fd:3");
    assert_string_equal(some.password, "file:/");
    assert_string_equal(some.api_key, "file:/");
    assert_int_equal(acme_provision_sources_take("prompt", NULL, "credential:a/b", &others),
                     HSM_OK);
    assert_string_equal(others.pin, "prompt");
    assert_null(others.password);
    assert_string_equal(others.api_key, "credential:a/b");
    assert_string_equal(fits, "Example SHAKEN Root");
    assert_string_equal(too_long, "SHAKEN Root");
    free(fits);
    free(too_long);
}

static void
a_daemon_is_not_opened_with_a_certificate_of_another_key(void **state)
{
    static char uri[] = "pkcs11:token=provision", key[] = "pkcs11:object=tls-root";
    char chain[PATH_SIZE], module[PATH_SIZE], pin[PATH_SIZE];
    struct acme_daemon_config config = {
        .token_uri = uri, .module = module, .pin_source = pin, .tls_key = key, .tls_chain = chain};
    struct acme_daemon *daemon = NULL;

    (void)state;
    assert_int_equal(provision_tls("https://localhost", NULL), HSM_OK);
    snprintf(chain, sizeof(chain), "%s", in_dir(ACME_PROVISION_TLS_CHAIN_FILE));
    snprintf(module, sizeof(module), "%s", softhsm_module());
    snprintf(pin, sizeof(pin), "%s", in_dir("pin"));
    assert_int_equal(hsm_file_write(pin, SOFTHSM_USER_PIN, strlen(SOFTHSM_USER_PIN), 0600), HSM_OK);
    assert_int_equal(acme_daemon_open(&config, &daemon), HSM_ERR_UNTRUSTED);
    assert_null(daemon);
    snprintf(chain, sizeof(chain), "%s", in_dir(ACME_PROVISION_TLS_ROOT_FILE));
    assert_int_equal(acme_daemon_open(&config, &daemon), HSM_OK);
    acme_daemon_close(daemon);
}

static int
start(void **state)
{
    (void)state;
    softhsm_start();
    token = softhsm_token("provision");
    return 0;
}

static int
stop(void **state)
{
    (void)state;
    hsm_token_close(token);
    softhsm_stop();
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tls_certificate_names_the_host_and_for_loopback_its_other_names),
        cmocka_unit_test(it_is_issued_anew_for_another_name_and_else_kept),
        cmocka_unit_test(what_a_former_root_of_that_name_signed_is_issued_anew),
        cmocka_unit_test(what_another_issuer_signed_is_kept_whatever_it_names),
        cmocka_unit_test(a_base_url_that_is_no_https_url_is_refused),
        cmocka_unit_test(a_root_is_made_once_and_nobody_elses_is_taken_for_it),
        cmocka_unit_test(nothing_outlives_its_issuer),
        cmocka_unit_test(a_configuration_that_is_there_is_kept),
        cmocka_unit_test(lines_of_a_configuration_are_written_in_sections),
        cmocka_unit_test(values_that_would_break_a_configuration_are_refused),
        cmocka_unit_test(sources_and_names_come_out_as_configurations_and_certificates_want_them),
        cmocka_unit_test(a_daemon_is_not_opened_with_a_certificate_of_another_key),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
