/* test_sti_ca.c - mirrors acme/program/sti-ca.c: the program as an operator runs it. */
#define _GNU_SOURCE /* memmem, nftw */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/x509.h>

#include <jansson.h>

#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <acme/client.h>
#include <acme/server.h>
#include <certs/cert.h>
#include <certs/chain.h>
#include <hsm/process.h>

#include "data.h"
#include "port.h"
#include "softhsm.h"

#define PATH_SIZE 4300
#define ARGS_MAX  40

extern char **environ;

static char dir[PATH_SIZE - 100];
static char config[PATH_SIZE];
static char base_url[64], address[32];
static char anchor[PATH_SIZE], crl_issuer[PATH_SIZE];
static char output[65536]; /* of the last program */

static const char *
in_dir(const char *name)
{
    static char paths[4][PATH_SIZE];
    static size_t next;
    char *path = paths[next++ % 4];

    snprintf(path, PATH_SIZE, "%s/%s", dir, name);
    return path;
}

static pid_t
spawn(char *const args[])
{
    posix_spawn_file_actions_t actions;
    pid_t pid;

    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, in_dir("output"), O_WRONLY | O_CREAT | O_TRUNC,
                                     0600);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    assert_int_equal(posix_spawn(&pid, args[0], &actions, NULL, args, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    return pid;
}

/* The whole file; free() it. */
static char *
text_of(const char *path)
{
    uint8_t *octets = NULL;
    size_t len;

    assert_int_equal(hsm_file_read(path, 1 << 20, &octets, &len), HSM_OK);
    return (char *)octets;
}

/* Run sti-ca with these NULL-terminated arguments; returns its exit status. */
static int
run_args(const char *const *arguments)
{
    char *args[ARGS_MAX] = {(char *)program_path("sti-ca")}, *said;
    pid_t pid;
    int status;

    for (size_t n = 0; arguments[n] != NULL && n < ARGS_MAX - 2; n++)
        args[n + 1] = (char *)arguments[n];
    pid = spawn(args);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    said = text_of(in_dir("output"));
    snprintf(output, sizeof(output), "%s", said);
    free(said);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

#define RUN(...) run_args((const char *const[]){__VA_ARGS__, NULL})

static int
init_with(const char *pin, const char *authority)
{
    return RUN("init", "--dir", dir, "--module", softhsm_module(), "--token", "pkcs11:token=sti-ca",
               "--pin-source", pin, "--organization", "Example STI-CA", "--address", address,
               "--base-url", base_url, "--pa-anchor", anchor, "--authority", authority, "--crl-url",
               "https://sti-pa.example/download/v1/crl", "--crl-issuer-cert", crl_issuer);
}

static int
init(void)
{
    return init_with(in_dir("pin"), "https://sti-pa.example/");
}

static void
assert_succeeds(int status)
{
    if (status != 0)
        fail_msg("exit %d: %s", status, output);
}

static void
assert_fails(int status, int wanted, const char *words)
{
    if (status != wanted || strstr(output, words) == NULL)
        fail_msg("exit %d instead of %d with \"%s\": %s", status, wanted, words, output);
}

static void
init_makes_what_is_missing_and_keeps_what_is_there(void **state)
{
    static const char *const files[] = {"sti-ca-root.pem", "sti-ca-chain.pem", "tls-root.pem",
                                        "tls-chain.pem", "sti-ca.conf"};
    enum {
        FILES = sizeof(files) / sizeof(files[0])
    };
    char *before[FILES], *renewed;

    (void)state;
    assert_succeeds(init());
    for (size_t i = 0; i < FILES; i++)
        before[i] = text_of(in_dir(files[i]));
    assert_int_equal(unlink(in_dir("sti-ca-chain.pem")), 0); /* as if init had been interrupted */
    assert_succeeds(init());
    renewed = text_of(in_dir("sti-ca-chain.pem"));
    assert_string_not_equal(renewed, before[1]);
    free(before[1]);
    before[1] = renewed;
    assert_succeeds(init());
    for (size_t i = 0; i < FILES; i++) {
        char *after = text_of(in_dir(files[i]));

        assert_string_equal(after, before[i]);
        free(after);
        free(before[i]);
    }
    assert_succeeds(RUN("serve", "--config", config, "--check"));
}

static void
the_certificates_are_those_of_an_sti_ca(void **state)
{
    struct certs_chain *root = NULL, *chain = NULL;
    char *name;

    (void)state;
    assert_int_equal(certs_chain_read(in_dir("sti-ca-root.pem"), &root), HSM_OK);
    assert_int_equal(certs_chain_read(in_dir("sti-ca-chain.pem"), &chain), HSM_OK);
    assert_int_equal(certs_chain_len(chain), 2);
    name = certs_cert_subject(certs_chain_get(root, 0));
    assert_string_equal(name, "CN=Example STI-CA SHAKEN Root,O=Example STI-CA,C=US");
    free(name);
    name = certs_cert_crl_url(certs_chain_get(chain, 0));
    assert_string_equal(name, "https://sti-pa.example/download/v1/crl");
    free(name);
    certs_chain_free(root);
    certs_chain_free(chain);
}

static void
init_refuses_a_wrong_pin_and_says_it_not(void **state)
{
    (void)state;
    assert_int_equal(hsm_file_write(in_dir("wrong-pin"), "9999\n", 5, 0600), HSM_OK);
    assert_int_equal(init_with(in_dir("wrong-pin"), "https://sti-pa.example/"), 1);
    assert_null(strstr(output, "9999"));
}

static void
a_certificate_of_another_key_is_neither_used_nor_overwritten(void **state)
{
    char *ours = text_of(in_dir("sti-ca-root.pem"));
    char *theirs = data_text("self/sti-ca-root.cert.pem", NULL), *after;

    (void)state;
    assert_int_equal(hsm_file_write(in_dir("sti-ca-root.pem"), theirs, strlen(theirs), 0644),
                     HSM_OK);
    assert_fails(init(), 1, "not the certificate of the key sti-ca-root");
    after = text_of(in_dir("sti-ca-root.pem"));
    assert_string_equal(after, theirs);
    assert_int_equal(hsm_file_write(in_dir("sti-ca-root.pem"), ours, strlen(ours), 0644), HSM_OK);
    free(ours);
    free(theirs);
    free(after);
}

static int
init_with_chain(const char *where, const char *chain)
{
    return RUN("init", "--dir", where, "--module", softhsm_module(), "--token",
               "pkcs11:token=sti-ca", "--pin-source", in_dir("pin"), "--organization",
               "Example STI-CA", "--address", address, "--base-url", base_url, "--pa-anchor",
               anchor, "--authority", "https://sti-pa.example/", "--crl-url",
               "https://sti-pa.example/download/v1/crl", "--crl-issuer-cert", crl_issuer,
               "--issuing-chain", chain);
}

/* The issuing certificate with a wrong signature, and its root. */
static void
write_forged_chain(const char *path)
{
    struct certs_chain *whole = NULL, *forged = NULL;
    struct hsm_reason why = {""};
    X509 *cert = NULL;
    uint8_t *der = NULL;
    size_t len;

    assert_int_equal(certs_chain_read(in_dir("sti-ca-chain.pem"), &whole), HSM_OK);
    assert_int_equal(certs_cert_der(certs_chain_get(whole, 0), &der, &len), HSM_OK);
    der[len - 1] ^= 1;
    assert_int_equal(certs_cert_parse_der(der, len, &cert, &why), HSM_OK);
    assert_int_equal(certs_chain_new(&forged), HSM_OK);
    assert_int_equal(certs_chain_add(forged, cert), HSM_OK);
    assert_int_equal(certs_chain_add(forged, certs_chain_get(whole, 1)), HSM_OK);
    assert_int_equal(certs_chain_write(forged, path), HSM_OK);
    X509_free(cert);
    free(der);
    certs_chain_free(whole);
    certs_chain_free(forged);
}

static void
what_an_offline_root_signed_is_taken_and_no_root_made(void **state)
{
    char *where = strdup(in_dir("offline")), *their_config = strdup(in_dir("offline/sti-ca.conf"));
    struct certs_chain *whole = NULL, *half = NULL;
    char *chain, *taken, *half_text;

    (void)state;
    assert_fails(init_with_chain(where, in_dir("sti-ca-root.pem")), 1,
                 "not the certificate of the key sti-ca-issuing");
    assert_int_equal(certs_chain_read(in_dir("sti-ca-chain.pem"), &whole), HSM_OK);
    assert_int_equal(certs_chain_new(&half), HSM_OK);
    assert_int_equal(certs_chain_add(half, certs_chain_get(whole, 0)), HSM_OK);
    assert_int_equal(certs_chain_write(half, in_dir("half.pem")), HSM_OK);
    certs_chain_free(whole);
    certs_chain_free(half);
    assert_fails(init_with_chain(where, in_dir("half.pem")), 1,
                 "not an issuing certificate, its issuers, and their root");
    assert_succeeds(init_with_chain(where, in_dir("sti-ca-chain.pem")));
    taken = text_of(in_dir("offline/sti-ca-chain.pem"));
    chain = text_of(in_dir("sti-ca-chain.pem"));
    assert_string_equal(taken, chain);
    free(taken);
    write_forged_chain(in_dir("forged.pem"));
    assert_fails(init_with_chain(where, in_dir("forged.pem")), 1, "signature");
    taken = text_of(in_dir("offline/sti-ca-chain.pem"));
    assert_string_equal(taken, chain); /* unchanged */
    free(taken);
    half_text = text_of(in_dir("half.pem")); /* a different existing chain is replaced */
    assert_int_equal(
        hsm_file_write(in_dir("offline/sti-ca-chain.pem"), half_text, strlen(half_text), 0644),
        HSM_OK);
    assert_succeeds(init_with_chain(where, in_dir("sti-ca-chain.pem")));
    taken = text_of(in_dir("offline/sti-ca-chain.pem"));
    assert_string_equal(taken, chain);
    free(half_text);
    free(taken);
    free(chain);
    assert_int_not_equal(access(in_dir("offline/sti-ca-root.pem"), F_OK), 0);
    assert_succeeds(RUN("serve", "--config", their_config, "--check"));
    free(where);
    free(their_config);
}

static void
check_compares_keys_and_certificates(void **state)
{
    char *ours = text_of(in_dir("sti-ca-chain.pem"));
    char *root = text_of(in_dir("sti-ca-root.pem"));
    char *issuing = strndup(ours, strlen(ours) - strlen(root));
    char *other = data_text("self/rogue-root.cert.pem", NULL);
    char *mixed = NULL;

    (void)state;
    assert_true(asprintf(&mixed, "%s%s", issuing, other) > 0);
    assert_int_equal(hsm_file_write(in_dir("sti-ca-chain.pem"), root, strlen(root), 0644), HSM_OK);
    assert_fails(RUN("serve", "--config", config, "--check"), 1, "not the key");
    assert_int_equal(hsm_file_write(in_dir("sti-ca-chain.pem"), issuing, strlen(issuing), 0644),
                     HSM_OK);
    assert_fails(RUN("serve", "--config", config, "--check"), 1, "its issuers, and their root");
    assert_int_equal(hsm_file_write(in_dir("sti-ca-chain.pem"), mixed, strlen(mixed), 0644),
                     HSM_OK);
    assert_fails(RUN("serve", "--config", config, "--check"), 1, "its issuers, and their root");
    assert_int_equal(hsm_file_write(in_dir("sti-ca-chain.pem"), ours, strlen(ours), 0644), HSM_OK);
    assert_succeeds(RUN("serve", "--config", config, "--check"));
    free(mixed);
    free(other);
    free(issuing);
    free(ours);
    free(root);
}

static void
check_warns_of_a_certificate_that_has_expired(void **state)
{
    char *ours = text_of(in_dir("tls-chain.pem"));
    char *expired = data_text("self/sp-1234-expired.cert.pem", NULL);
    char *both = NULL;

    (void)state;
    assert_true(asprintf(&both, "%s%s", ours, expired) > 0);
    assert_succeeds(RUN("serve", "--config", config, "--check"));
    assert_null(strstr(output, "expired"));
    assert_int_equal(hsm_file_write(in_dir("tls-chain.pem"), both, strlen(both), 0644), HSM_OK);
    assert_succeeds(RUN("serve", "--config", config, "--check"));
    assert_non_null(strstr(output, "tls-chain.pem: certificate \"CN=SHAKEN 1234"));
    assert_non_null(strstr(output, "has expired: 20"));
    assert_int_equal(hsm_file_write(in_dir("tls-chain.pem"), ours, strlen(ours), 0644), HSM_OK);
    free(both);
    free(expired);
    free(ours);
}

static void
command_lines_and_configurations_that_are_refused(void **state)
{
    static const char bad_config[] = "[token]\nuri = pkcs11:token=sti-ca\n[ca]\nvalid-dayz = 3\n";

    (void)state;
    assert_int_equal(RUN("revoke"), 2);
    assert_int_equal(RUN("revocation", "resend", "--config", config), 2);
    assert_fails(RUN("revocation", "resend", "--config", config, "--since", "yesterday"), 2,
                 "--since is no time");
    assert_succeeds(
        RUN("revocation", "resend", "--config", config, "--since", "2026-01-15T12:00:00Z"));
    assert_string_equal(output, "0\n");
    assert_int_equal(RUN("serve"), 2);
    assert_int_equal(RUN("serve", "--config", config, "word"), 2);
    assert_int_equal(RUN("serve", "--pin", "2468"), 2);
    assert_null(strstr(output, "2468"));
    for (int joined = 0; joined < 2; joined++) { /* an abbreviated option: no PIN is printed */
        assert_fails(joined ? RUN("init", "--dir", dir, "--pin=2468")
                            : RUN("init", "--dir", dir, "--pin", "2468"),
                     2, "cut short");
        assert_null(strstr(output, "2468"));
    }
    assert_int_equal(RUN("init", "--dir", dir), 2);
    assert_int_equal(init_with(in_dir("pin"), "https://a.example/ ; b"), 2);
    assert_fails(RUN("init", "--dir", in_dir("slash"), "--token", "pkcs11:token=sti-ca",
                     "--organization", "X", "--address", address, "--base-url",
                     "https://ca.example/", "--pa-anchor", anchor, "--authority",
                     "https://sti-pa.example/", "--crl-url", "https://sti-pa.example/crl",
                     "--crl-issuer-cert", crl_issuer),
                 2, "--base-url is not https://HOST");
    assert_int_equal(RUN("participant", "set", "--config", config, "--spc", "1234"), 2);
    assert_int_equal(hsm_file_write(in_dir("bad.conf"), bad_config, strlen(bad_config), 0644),
                     HSM_OK);
    assert_fails(RUN("serve", "--config", in_dir("bad.conf"), "--check"), 1, "valid-dayz");
    assert_int_equal(RUN("serve", "--config", in_dir("none.conf"), "--check"), 1);
    assert_succeeds(RUN("--version"));
    assert_non_null(strstr(output, "sti-ca "));
    assert_succeeds(RUN("--help"));
    assert_non_null(strstr(output, "participants-required"));
}

static void
participants_are_named_and_renamed(void **state)
{
    struct acme_store *store = NULL;
    struct acme_rows *rows = NULL;

    (void)state;
    assert_succeeds(
        RUN("participant", "set", "--config", config, "--spc", "709J", "--organization", "First"));
    assert_succeeds(RUN("participant", "set", "--config", config, "--spc", "709J", "--organization",
                        "Second", "--country", "CA"));
    assert_int_equal(
        RUN("participant", "set", "--config", config, "--spc", "70/9", "--organization", "First"),
        1);
    assert_int_equal(acme_store_open(in_dir("sti-ca.db"), acme_server_migrations, &store), HSM_OK);
    assert_int_equal(
        acme_store_query(store, &rows, "SELECT organization, country FROM participant", ""),
        HSM_OK);
    assert_int_equal(acme_rows_count(rows), 1);
    assert_true(acme_rows_next(rows));
    assert_string_equal(acme_rows_text(rows, 0), "Second");
    assert_string_equal(acme_rows_text(rows, 1), "CA");
    acme_rows_free(rows);
    acme_store_close(store);
    assert_succeeds(RUN("participant", "list", "--config", config));
    assert_non_null(strstr(output, "709J\tSecond\tCA\n"));
    assert_succeeds(RUN("participant", "remove", "--config", config, "--spc", "709J"));
    assert_fails(RUN("participant", "remove", "--config", config, "--spc", "709J"), 1,
                 "has no registered name");
}

static void
keys_of_external_accounts_are_made_listed_and_removed(void **state)
{
    char *key;

    (void)state;
    assert_succeeds(RUN("eab", "add", "--config", config, "--id", "sp-one"));
    key = text_of(in_dir("external-accounts/sp-one"));
    assert_int_equal(strcspn(key, "\n"), 86); /* base64url of 64 octets */
    assert_null(strstr(output, key)); /* not shown on the screen */
    free(key);
    assert_fails(RUN("eab", "add", "--config", config, "--id", "sp-one"), 1, "exists, or was used");
    assert_fails(RUN("eab", "add", "--config", config, "--id", "../sp"), 1, "[A-Za-z0-9_-]");
    assert_succeeds(RUN("eab", "list", "--config", config));
    assert_non_null(strstr(output, "sp-one\tnot used"));
    assert_succeeds(RUN("eab", "remove", "--config", config, "--id", "sp-one"));
    assert_fails(RUN("eab", "remove", "--config", config, "--id", "sp-one"), 1, "no such key");
    assert_succeeds(RUN("eab", "list", "--config", config));
    assert_null(strstr(output, "sp-one"));
}

static int
add_operator(const char *user, const char *password)
{
    assert_int_equal(hsm_file_write(in_dir("password"), password, strlen(password), 0600), HSM_OK);
    return RUN("web", "user", "add", "--config", config, "--user", user, "--password-source",
               in_dir("password"));
}

static void
operators_of_the_status_page_are_added_listed_and_removed(void **state)
{
    (void)state;
    assert_fails(add_operator("alice", "too short"), 1, "a password has 12 octets or more");
    assert_fails(add_operator("al ice", "long enough it is"), 1, "[A-Za-z0-9._@-]");
    assert_succeeds(add_operator("alice", "long enough it is"));
    assert_null(strstr(output, "long enough"));
    assert_non_null(strstr(output, "[web] enabled is no"));
    assert_fails(add_operator("alice", "another one of hers"), 1, "alice: exists");
    assert_succeeds(RUN("web", "user", "list", "--config", config));
    assert_non_null(strstr(output, "alice\tsince 20"));
    assert_succeeds(RUN("web", "user", "remove", "--config", config, "--user", "alice"));
    assert_fails(RUN("web", "user", "remove", "--config", config, "--user", "alice"), 1,
                 "alice: no such user");
    assert_fails(RUN("web", "user", "add", "--config", config, "--user", "alice"), 2,
                 "password-source");
}

/* Record a certificate as issued by the CA. */
static void
plant_certificate(void)
{
    struct acme_store *store = NULL;
    struct certs_chain *chain = NULL;
    uint8_t serial[CERTS_SERIAL_MAX], *der = NULL;
    size_t serial_len, len;

    assert_int_equal(certs_chain_read(data_path("self/sp-1234.cert.pem"), &chain), HSM_OK);
    serial_len = certs_cert_serial(certs_chain_get(chain, 0), serial);
    assert_int_equal(certs_cert_der(certs_chain_get(chain, 0), &der, &len), HSM_OK);
    assert_int_equal(acme_store_open(in_dir("sti-ca.db"), acme_server_migrations, &store), HSM_OK);
    assert_int_equal(
        acme_store_run(store, NULL,
                       "INSERT INTO account (id, status, jwk, thumbprint, contact, created)"
                       " VALUES ('a', 'valid', '{}', 't', '[]', 1)",
                       ""),
        HSM_OK);
    assert_int_equal(acme_store_run(store, NULL,
                                    "INSERT INTO authz VALUES ('z', 'a', 'valid', '', x'00', 1)",
                                    ""),
                     HSM_OK);
    assert_int_equal(acme_store_run(store, NULL,
                                    "INSERT INTO acme_order (id, account, authz, status, spc,"
                                    " created, expires) VALUES ('o', 'a', 'z', 'valid', '1234', 1,"
                                    " 2)",
                                    ""),
                     HSM_OK);
    assert_int_equal(acme_store_run(store, NULL,
                                    "INSERT INTO issuance (order_id, certificate, account, spc,"
                                    " organization, country, point, thumbprint, serial, under,"
                                    " attempted, der) VALUES ('o', 'c', 'a', '1234', 'O', 'US',"
                                    " x'04', 't', ?, '', 1, ?)",
                                    "bb", serial, serial_len, der, len),
                     HSM_OK);
    acme_store_close(store);
    free(der);
    certs_chain_free(chain);
}

static void
an_operator_revokes_a_certificate_once(void **state)
{
    static const char serial[] = "55492c1d19f42e88516b08db24a61a83";

    (void)state;
    plant_certificate();
    assert_fails(RUN("revoke", "--config", config, "--serial", "0102"), 1, "no certificate");
    assert_fails(RUN("revoke", "--config", config, "--serial", "0g"), 1, "in hex");
    assert_fails(RUN("revoke", "--config", config, "--serial", serial, "--reason", "7"), 2,
                 "0 to 6");
    assert_fails(RUN("revoke", "--config", config, "--serial", serial, "--reason", ""), 2,
                 "0 to 6");
    assert_int_equal(RUN("revoke", "--config", config), 2);
    assert_succeeds(RUN("revoke", "--config", config, "--serial", serial, "--reason", "4"));
    assert_non_null(strstr(output, "the STI-PA is not told of revocations"));
    assert_non_null(strstr(output, "55492c1d19f42e88516b08db24a61a83: revoked\n"));
    assert_fails(RUN("revoke", "--config", config, "--serial", serial), 1, "revoked already");
}

/* The account of the certificate above. */
static void
an_operator_lists_accounts_and_revokes_one(void **state)
{
    (void)state;
    assert_succeeds(RUN("account", "list", "--config", config));
    assert_non_null(strstr(output, "a\tvalid\tsince 1970-01-01T00:00:01Z\t[]\n"));
    assert_succeeds(RUN("account", "revoke", "--config", config, "--id", "a"));
    assert_fails(RUN("account", "revoke", "--config", config, "--id", "a"), 1,
                 "there is none, or it is valid no more");
    assert_succeeds(RUN("account", "list", "--config", config));
    assert_non_null(strstr(output, "a\trevoked\t"));
}

/* At the start, not with the first certificate. */
static void
what_no_certificate_could_be_made_with_is_refused_with_its_line(void **state)
{
    static const struct {
        const char *section, *value, *said;
    } table[] = {
        {"ca", "policy = SHAKEN", "[ca] policy: not an OID"},
        {"ca", "country = us", "[ca] country: not two capital letters"},
        {"ca", "renew-from-percent = 83", "[ca] renew-until-percent: not more than"},
        {"ca", "terms-of-service = terms.html", "[ca] terms-of-service: not an https URL"},
        {"ca", "issuing-key = issuing", "[ca] issuing-key: not a PKCS#11 URI"},
    };
    char *ours = text_of(config);

    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        char *text = NULL;

        assert_true(asprintf(&text, "%s[%s]\n%s\n", ours, table[i].section, table[i].value) > 0);
        assert_int_equal(hsm_file_write(config, text, strlen(text), 0644), HSM_OK);
        assert_fails(RUN("serve", "--config", config, "--check"), 1, table[i].said);
        free(text);
    }
    assert_int_equal(hsm_file_write(config, ours, strlen(ours), 0644), HSM_OK);
    free(ours);
}

/* All settings of the account or none, on the command line and in the file. */
static void
an_account_at_the_sti_pa_is_configured_whole(void **state)
{
    char *ours = text_of(config), *half = NULL, *whole = NULL, *with_key = NULL;

    (void)state;
    assert_fails(RUN("init", "--dir", dir, "--module", softhsm_module(), "--token",
                     "pkcs11:token=sti-ca", "--pin-source", in_dir("pin"), "--organization",
                     "Example STI-CA", "--address", address, "--base-url", base_url, "--pa-anchor",
                     anchor, "--authority", "https://sti-pa.example/", "--crl-url",
                     "https://sti-pa.example/download/v1/crl", "--crl-issuer-cert", crl_issuer,
                     "--revocation-url", "https://sti-pa.example/sti-pa/revocations"),
                 2, "--revocation-url goes with");
    assert_true(asprintf(&half, "%srevocation-url = https://sti-pa.example/sti-pa/revocations\n",
                         ours) > 0);
    assert_int_equal(hsm_file_write(config, half, strlen(half), 0644), HSM_OK);
    assert_fails(RUN("serve", "--config", config, "--check"), 1,
                 "] revocation-url: without user and password-source, or api-key-source");

    assert_true(asprintf(&whole, "%suser = sti-ca\npassword-source = file:ca.password\n", half) >
                0);
    assert_int_equal(hsm_file_write(config, whole, strlen(whole), 0644), HSM_OK);
    assert_int_equal(RUN("serve", "--config", config, "--check"), 1); /* no such file yet */
    assert_int_equal(hsm_file_write(in_dir("ca.password"), "pass word\n", 10, 0600), HSM_OK);
    assert_succeeds(RUN("serve", "--config", config, "--check"));
    assert_null(strstr(output, "pass word"));

    assert_true(asprintf(&with_key, "%sapi-key-source = file:ca.key\n", whole) > 0);
    assert_int_equal(hsm_file_write(config, with_key, strlen(with_key), 0644), HSM_OK);
    assert_fails(RUN("serve", "--config", config, "--check"), 1,
                 "] api-key-source: beside user or password-source");
    free(with_key);
    assert_true(asprintf(&with_key, "%sapi-key-source = file:ca.key\n", half) > 0);
    assert_int_equal(hsm_file_write(config, with_key, strlen(with_key), 0644), HSM_OK);
    assert_int_equal(RUN("serve", "--config", config, "--check"), 1); /* no such file yet */
    assert_int_equal(hsm_file_write(in_dir("ca.key"), "k.e-y\n", 6, 0600), HSM_OK);
    assert_succeeds(RUN("serve", "--config", config, "--check"));
    assert_null(strstr(output, "k.e-y"));
    free(with_key);
    assert_true(asprintf(&with_key, "%sapi-key-source = file:ca.key\n", ours) > 0);
    assert_int_equal(hsm_file_write(config, with_key, strlen(with_key), 0644), HSM_OK);
    assert_fails(RUN("serve", "--config", config, "--check"), 1,
                 "] api-key-source: without revocation-url");
    free(with_key);
    assert_int_equal(hsm_file_write(config, ours, strlen(ours), 0644), HSM_OK);
    free(whole);
    free(half);
    free(ours);
}

/* Retries until the server answers, for 20 s at most. */
static struct acme_client *
connect_client(const struct acme_client_config *with)
{
    const struct timespec pause = {.tv_nsec = 50 * 1000 * 1000};
    struct acme_client *client = NULL;
    struct hsm_reason why = {""};

    for (int i = 0; i < 400 && client == NULL; i++) {
        if (acme_client_new(with, &client, &why) != HSM_OK)
            nanosleep(&pause, NULL);
    }
    if (client == NULL)
        fail_msg("sti-ca does not serve: %s", why.text);
    return client;
}

static void
the_daemon_serves_acme_until_sigterm(void **state)
{
    char *args[] = {(char *)program_path("sti-ca"), (char *)"serve", (char *)"--config", config,
                    NULL};
    char *directory = acme_server_directory_url(base_url);
    struct hsm_token *token = softhsm_token("sti-sp");
    struct hsm_key *key = NULL;
    struct acme_http_client *http = NULL;
    struct acme_client *client;
    struct hsm_reason why = {""};
    pid_t pid = spawn(args);
    int status;

    (void)state;
    assert_int_equal(hsm_key_generate(token, "account", &key), HSM_OK);
    assert_int_equal(
        acme_http_client_new(&(struct acme_http_client_config){.tls_ca = in_dir("tls-root.pem")},
                             &http),
        HSM_OK);
    client = connect_client(&(struct acme_client_config){
        .http = http, .directory_url = directory, .account_key = key, .poll_limit_s = 10});
    if (acme_client_account(client, &why) != HSM_OK)
        fail_msg("%s", why.text);
    assert_int_equal(strncmp(acme_client_kid(client), base_url, strlen(base_url)), 0);
    assert_int_equal(kill(pid, SIGTERM), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    acme_client_free(client);
    acme_http_client_free(http);
    hsm_key_free(key);
    hsm_token_close(token);
    free(directory);
}

static int
refuse_private_key(const char *path, const struct stat *about, int kind, struct FTW *where)
{
    uint8_t *octets = NULL;
    size_t len = 0;

    (void)where;
    if (kind != FTW_F || about->st_size == 0)
        return 0;
    assert_int_equal(hsm_file_read(path, 16 << 20, &octets, &len), HSM_OK);
    assert_null(memmem(octets, len, "PRIVATE KEY", strlen("PRIVATE KEY")));
    free(octets);
    return 0;
}

static void
no_file_holds_a_private_key(void **state)
{
    (void)state;
    assert_int_equal(nftw(dir, refuse_private_key, 8, FTW_PHYS), 0);
}

static void
an_operator_reads_who_did_what(void **state)
{
    static const char *const told[] = {
        "participant set: 709J: Second, CA",
        "external account added: sp-one",
        "external account removed: sp-one",
        "configured: base-url: https://",
        "web user added: alice",
        "web user removed: alice",
        "configured: terms-of-service: none",
        "certificate revoked: ",
    };
    json_t *object;

    (void)state;
    assert_succeeds(RUN("events", "--config", config));
    for (size_t i = 0; i < sizeof(told) / sizeof(told[0]); i++)
        assert_non_null(strstr(output, told[i]));
    assert_non_null(strstr(output, "  operator "));
    assert_succeeds(RUN("events", "--config", config, "--last", "1", "--json"));
    object = json_loads(output, 0, NULL); /* a single line */
    assert_string_equal(json_string_value(json_object_get(object, "what")), "configured");
    json_decref(object);
    assert_fails(RUN("events", "--config", config, "--last", "0"), 2, "--last");
}

static int
start(void **state)
{
    unsigned port = free_port();

    (void)state;
    softhsm_start();
    hsm_token_close(softhsm_token("sti-ca"));
    snprintf(dir, sizeof(dir), "%s/ca", softhsm_dir());
    snprintf(config, sizeof(config), "%s/sti-ca.conf", dir);
    snprintf(address, sizeof(address), "127.0.0.1:%u", port);
    snprintf(base_url, sizeof(base_url), "https://127.0.0.1:%u", port);
    snprintf(anchor, sizeof(anchor), "%s", data_path("self/pa-root.cert.pem"));
    snprintf(crl_issuer, sizeof(crl_issuer), "%s", data_path("self/pa-crl.cert.pem"));
    assert_int_equal(mkdir(dir, 0700), 0);
    return hsm_file_write(in_dir("pin"), SOFTHSM_USER_PIN "\n", strlen(SOFTHSM_USER_PIN) + 1,
                          0600) == HSM_OK
               ? 0
               : -1;
}

static int
stop(void **state)
{
    (void)state;
    softhsm_stop();
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(init_makes_what_is_missing_and_keeps_what_is_there),
        cmocka_unit_test(the_certificates_are_those_of_an_sti_ca),
        cmocka_unit_test(init_refuses_a_wrong_pin_and_says_it_not),
        cmocka_unit_test(a_certificate_of_another_key_is_neither_used_nor_overwritten),
        cmocka_unit_test(what_an_offline_root_signed_is_taken_and_no_root_made),
        cmocka_unit_test(check_compares_keys_and_certificates),
        cmocka_unit_test(check_warns_of_a_certificate_that_has_expired),
        cmocka_unit_test(command_lines_and_configurations_that_are_refused),
        cmocka_unit_test(participants_are_named_and_renamed),
        cmocka_unit_test(keys_of_external_accounts_are_made_listed_and_removed),
        cmocka_unit_test(operators_of_the_status_page_are_added_listed_and_removed),
        cmocka_unit_test(an_operator_revokes_a_certificate_once),
        cmocka_unit_test(an_operator_lists_accounts_and_revokes_one),
        cmocka_unit_test(what_no_certificate_could_be_made_with_is_refused_with_its_line),
        cmocka_unit_test(an_account_at_the_sti_pa_is_configured_whole),
        cmocka_unit_test(the_daemon_serves_acme_until_sigterm),
        cmocka_unit_test(an_operator_reads_who_did_what),
        cmocka_unit_test(no_file_holds_a_private_key),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
