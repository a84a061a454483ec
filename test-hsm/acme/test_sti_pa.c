/* test_sti_pa.c - mirrors acme/program/sti-pa.c: the program as an operator runs it. */
#define _GNU_SOURCE /* asprintf, nftw */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/x509.h>

#include <acme/authority.h>
#include <acme/authority_client.h>
#include <acme/jwk.h>
#include <certs/crl.h>
#include <certs/issue.h>
#include <hsm/process.h>

#include "data.h"
#include "peer.h"
#include "port.h"
#include "postgres.h"
#include "softhsm.h"

#define PATH_SIZE 4300
#define ARGS_MAX  32

extern char **environ;

static char dir[PATH_SIZE - 100];
static char config[PATH_SIZE];
static char base_url[64];
static char address[32];
static char output[65536]; /* of the last program */

static pid_t
spawn(char *const args[])
{
    posix_spawn_file_actions_t actions;
    char path[PATH_SIZE];
    pid_t pid;

    snprintf(path, sizeof(path), "%s/output", dir);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    assert_int_equal(posix_spawn(&pid, args[0], &actions, NULL, args, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    return pid;
}

/* Read the output of the programs since the last one was started into `output`. */
static void
read_output(void)
{
    char path[PATH_SIZE];
    uint8_t *octets = NULL;
    size_t len;

    snprintf(path, sizeof(path), "%s/output", dir);
    assert_int_equal(hsm_file_read(path, sizeof(output) - 1, &octets, &len), HSM_OK);
    snprintf(output, sizeof(output), "%s", (char *)octets);
    free(octets);
}

/* Run sti-pa with these NULL-terminated arguments; returns its exit status and fills `output`. */
static int
run(const char *first, ...)
{
    char *args[ARGS_MAX] = {(char *)program_path("sti-pa"), (char *)first};
    size_t n = 1;
    va_list list;
    pid_t pid;
    int status;

    va_start(list, first);
    while (args[n] != NULL && n < ARGS_MAX - 2)
        args[++n] = va_arg(list, char *);
    va_end(list);
    pid = spawn(args);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    read_output();
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void
write_text(const char *name, const char *text)
{
    char path[PATH_SIZE];

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    assert_int_equal(hsm_file_write(path, text, strlen(text), 0600), HSM_OK);
}

static const char *
in_dir(const char *name)
{
    static char paths[4][PATH_SIZE];
    static size_t next;
    char *path = paths[next++ % 4];

    snprintf(path, PATH_SIZE, "%s/%s", dir, name);
    return path;
}

static int
init(void)
{
    return run("init", "--dir", dir, "--module", softhsm_module(), "--token", "pkcs11:token=sti-pa",
               "--pin-source", in_dir("pin"), "--organization", "Example STI-PA", "--country", "US",
               "--address", address, "--base-url", base_url, NULL);
}

static int
start(void **state)
{
    unsigned port = free_port();

    (void)state;
    softhsm_start();
    hsm_token_close(softhsm_token("sti-pa"));
    snprintf(dir, sizeof(dir), "%s/pa", softhsm_dir());
    snprintf(config, sizeof(config), "%s/sti-pa.conf", dir);
    snprintf(address, sizeof(address), "127.0.0.1:%u", port);
    snprintf(base_url, sizeof(base_url), "https://127.0.0.1:%u", port);
    assert_int_equal(mkdir(dir, 0700), 0);
    write_text("pin", SOFTHSM_USER_PIN "\n");
    write_text("password", "pass word\n");
    return 0;
}

static int
stop(void **state)
{
    (void)state;
    softhsm_stop();
    return 0;
}

static void
assert_succeeds(int status)
{
    if (status != 0)
        fail_msg("exit %d: %s", status, output);
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

/* Change the store in the configuration to PostgreSQL, if the tests run with it. */
static void
choose_store(void)
{
    char *text = text_of(config), *rest = NULL;
    FILE *to = fopen(config, "w");

    assert_non_null(to);
    for (char *line = strtok_r(text, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        if (strncmp(line, "store = ", 8) == 0)
            fprintf(to, "store = %s\n", postgres_or_file(in_dir("sti-pa.db")));
        else
            fprintf(to, "%s\n", line);
    }
    assert_int_equal(fclose(to), 0);
    free(text);
}

static void
init_makes_what_is_missing_and_keeps_what_is_there(void **state)
{
    static const char *const files[] = {"pa-root.pem",  "pa-signer-chain.pem", "pa-crl-chain.pem",
                                        "tls-root.pem", "tls-chain.pem",       "sti-pa.conf"};
    enum {
        FILES = sizeof(files) / sizeof(files[0])
    };
    char *before[FILES];

    (void)state;
    assert_succeeds(init());
    assert_non_null(strstr(output, "key journal: generated in token sti-pa"));
    assert_non_null(strstr(output, "sti-pa.db: is a new store"));
    choose_store();
    for (size_t i = 0; i < FILES; i++)
        before[i] = text_of(in_dir(files[i]));
    assert_succeeds(init());
    for (size_t i = 0; i < FILES; i++) {
        char *after = text_of(in_dir(files[i]));

        assert_string_equal(after, before[i]);
        free(after);
        free(before[i]);
    }
    assert_int_equal(unlink(in_dir("pa-crl-chain.pem")), 0);
    assert_succeeds(init());
    assert_int_equal(access(in_dir("pa-crl-chain.pem"), R_OK), 0);
    assert_succeeds(run("serve", "--config", config, "--check", NULL));
    assert_null(strstr(output, "signed")); /* --check publishes nothing */
    assert_succeeds(run("events", "--config", config, NULL));
    assert_string_equal(output, "");
}

static void
check_refuses_a_signer_under_another_root(void **state)
{
    char *ours = text_of(in_dir("pa-crl-chain.pem"));
    char *root = text_of(in_dir("pa-root.pem"));
    char *other = data_text("self/rogue-root.cert.pem", NULL);
    char *mixed = NULL;

    (void)state;
    assert_true(asprintf(&mixed, "%.*s%s", (int)(strlen(ours) - strlen(root)), ours, other) > 0);
    write_text("pa-crl-chain.pem", mixed);
    assert_int_equal(run("serve", "--config", config, "--check", NULL), 1);
    assert_non_null(strstr(output, "the CRL signer's chain: not its certificate, then each"));
    write_text("pa-crl-chain.pem", ours);
    assert_succeeds(run("serve", "--config", config, "--check", NULL));
    free(mixed);
    free(other);
    free(root);
    free(ours);
}

static void
init_refuses_a_wrong_pin(void **state)
{
    (void)state;
    write_text("wrong-pin", "9999\n");
    assert_int_equal(run("init", "--dir", dir, "--module", softhsm_module(), "--token",
                         "pkcs11:token=sti-pa", "--pin-source", in_dir("wrong-pin"),
                         "--organization", "Example STI-PA", "--country", "US", "--address",
                         address, "--base-url", base_url, NULL),
                     1);
    assert_null(strstr(output, "9999"));
    assert_non_null(strstr(output, "token sti-pa: the PIN was refused"));
}

static void
init_makes_nothing_if_a_value_cannot_stand_in_the_configuration(void **state)
{
    (void)state;
    assert_int_equal(run("init", "--dir", in_dir("refused"), "--module", softhsm_module(),
                         "--token", "pkcs11:token=sti-pa", "--pin-source", in_dir("wrong-pin"),
                         "--organization", "Example STI-PA", "--country", "US", "--address",
                         "127.0.0.1:0 ; x", "--base-url", base_url, NULL),
                     2);
    assert_non_null(strstr(output, "address: this value cannot stand"));
    assert_int_equal(run("init", "--dir", in_dir("refused"), "--module", softhsm_module(),
                         "--token", "pkcs11:token=sti-pa", "--pin-source", in_dir("wrong-pin"),
                         "--organization", "Example STI-PA", "--country", "US", "--address",
                         "localhost:8444", "--base-url", base_url, NULL),
                     2);
    assert_non_null(strstr(output, "[server] address: not ADDRESS:PORT"));
    assert_int_not_equal(access(in_dir("refused"), F_OK), 0);
}

static void
command_lines_that_are_refused(void **state)
{
    (void)state;
    assert_int_equal(run(NULL, NULL), 2);
    assert_int_equal(run("revoke", NULL), 2);
    assert_int_equal(run("account", NULL), 2);
    assert_int_equal(run("account", "drop", NULL), 2);
    assert_int_equal(run("ca", "account", NULL), 2);
    assert_int_equal(run("ca", "account", "drop", NULL), 2);
    assert_int_equal(run("serve", NULL), 2);
    assert_int_equal(run("serve", "--config", config, "--ca", NULL), 2);
    assert_int_equal(run("serve", "--config", config, "word", NULL), 2);
    assert_int_equal(run("serve", "--pin", "2468", NULL), 2);
    assert_int_equal(run("init", "--dir", dir, NULL), 2);
    assert_int_equal(run("init", "--dir", dir, "--token", "pkcs11:token=sti-pa", "--organization",
                         "X", "--country", "US", "--address", address, "--base-url",
                         "http://127.0.0.1", NULL),
                     2);
    assert_int_equal(run("account", "add", "--config", config, "--id", "1", "--user", "u", "--spc",
                         "1234", NULL),
                     2);
    assert_int_equal(run("serve", "--config", in_dir("none.conf"), "--check", NULL), 1);
    assert_succeeds(run("--version", NULL));
    assert_non_null(strstr(output, "sti-pa "));
    assert_succeeds(run("--help", NULL));
    assert_non_null(strstr(output, "token-lifetime-s"));
}

static void
accounts_are_added_once_and_listed(void **state)
{
    struct hsm_secret *generated = NULL;
    struct stat about;

    (void)state;
    assert_succeeds(run("account", "add", "--config", config, "--id", "1001", "--user", "sp-one",
                        "--password-source", in_dir("password"), "--spc", "1234", "--spc", "709J",
                        "--ca", NULL));
    assert_int_equal(run("account", "add", "--config", config, "--id", "1001", "--user", "other",
                         "--password-source", in_dir("password"), "--spc", "1234", NULL),
                     1);
    assert_non_null(strstr(output, "exists"));
    assert_int_equal(run("account", "add", "--config", config, "--id", "1001", "--user", "other",
                         "--generate-password", in_dir("1001.password"), "--spc", "1234", NULL),
                     1);
    assert_int_equal(access(in_dir("1001.password"), F_OK), -1); /* no account has it */
    assert_succeeds(run("account", "add", "--config", config, "--id", "1002", "--user", "sp-two",
                        "--generate-password", in_dir("1002.password"), "--spc", "5678", NULL));
    assert_int_equal(hsm_secret_read(in_dir("1002.password"), &generated), HSM_OK);
    assert_true(hsm_secret_len(generated) >= 32);
    assert_null(strstr(output, hsm_secret_octets(generated)));
    hsm_secret_free(generated);
    assert_int_equal(stat(in_dir("1002.password"), &about), 0);
    assert_int_equal(about.st_mode & 0777, 0600);
    assert_succeeds(run("account", "list", "--config", config, NULL));
    assert_non_null(strstr(output, "1001  user sp-one  SPC 1234 709J  may ask for ca\n"));
    assert_non_null(strstr(output, "1002  user sp-two  SPC 5678\n"));
}

/* The root of another STI-CA, and a certificate that is not a root. */
static void
trusted_cas_are_added_once_and_listed(void **state)
{
    char root[PATH_SIZE];
    char leaf[PATH_SIZE];

    (void)state;
    snprintf(root, sizeof(root), "%s", data_path("self/sti-ca-root.cert.pem"));
    snprintf(leaf, sizeof(leaf), "%s", data_path("self/sti-ca-int.cert.pem"));
    assert_succeeds(run("ca", "add", "--config", config, "--root", root, NULL));
    assert_int_equal(run("ca", "add", "--config", config, "--root", root, NULL), 1);
    assert_non_null(strstr(output, "already"));
    assert_int_equal(run("ca", "add", "--config", config, "--root", leaf, NULL), 1);
    assert_int_equal(run("ca", "add", "--config", config, "--root", in_dir("pin"), NULL), 1);
    assert_succeeds(run("ca", "list", "--config", config, NULL));
    assert_non_null(strstr(output, "CN=Example SHAKEN ROOT"));
}

/* The STI-CA of the test above: its chain consists of its intermediate and the root. */
static void
an_sti_ca_has_an_account_for_its_own_names(void **state)
{
    char *intermediate = data_text("self/sti-ca-int.cert.pem", NULL);
    char *root = data_text("self/sti-ca-root.cert.pem", NULL), *chain = NULL;
    char rogue[PATH_SIZE];

    (void)state;
    assert_true(asprintf(&chain, "%s%s", intermediate, root) > 0);
    write_text("chain.pem", chain);
    snprintf(rogue, sizeof(rogue), "%s", data_path("self/rogue-root.cert.pem"));
    assert_int_equal(run("ca", "account", "add", "--config", config, "--id", "ca-1", "--user", "ca",
                         "--chain", in_dir("chain.pem"), NULL),
                     2);
    assert_int_equal(run("ca", "account", "add", "--config", config, "--id", "ca-1", "--user", "ca",
                         "--chain", rogue, "--generate-password", in_dir("ca.password"), NULL),
                     1);
    assert_non_null(strstr(output, "not of a trusted STI-CA"));
    assert_succeeds(run("ca", "account", "add", "--config", config, "--id", "ca-1", "--user", "ca",
                        "--chain", in_dir("chain.pem"), "--generate-password",
                        in_dir("ca.password"), NULL));
    assert_int_equal(run("ca", "account", "add", "--config", config, "--id", "ca-2", "--user",
                         "ca-2", "--chain", in_dir("chain.pem"), "--generate-password",
                         in_dir("ca.password"), NULL),
                     1);
    assert_non_null(strstr(output, "another account's"));
    assert_succeeds(run("account", "list", "--config", config, NULL));
    assert_non_null(strstr(output, "ca-1  user ca  STI-CA\n"));
    assert_succeeds(run("ca", "account", "extend", "--config", config, "--id", "ca-1", "--chain",
                        in_dir("chain.pem"), NULL));
    assert_int_equal(run("ca", "account", "extend", "--config", config, "--id", "1001", "--chain",
                         in_dir("chain.pem"), NULL),
                     1);
    assert_non_null(strstr(output, "no STI-CA has it"));
    free(chain);
    free(root);
    free(intermediate);
}

static void
an_operator_decides_of_what_waits(void **state)
{
    struct acme_store *store = NULL;
    static const char insert[] =
        "INSERT INTO revocation (issuer, serial, reason, requester, account, state, asked) VALUES"
        " (?, ?, 1, 'a test', '1001', 'queued', 1768478400)";
    static const uint8_t issuer[] = {0x30, 0x0b, 0x31, 0x09, 0x30, 0x07, 0x06,
                                     0x03, 0x55, 0x04, 0x03, 0x0c, 0x00};

    (void)state;
    assert_int_equal(
        acme_store_open(postgres_or_file(in_dir("sti-pa.db")), acme_authority_migrations, &store),
        HSM_OK);
    for (uint8_t serial = 1; serial <= 2; serial++)
        assert_int_equal(
            acme_store_run(store, NULL, insert, "bb", issuer, sizeof(issuer), &serial, (size_t)1),
            HSM_OK);
    acme_store_close(store);
    assert_succeeds(run("revocation", "list", "--config", config, NULL));
    assert_non_null(
        strstr(output, "1  queued  2026-01-15T12:00:00Z  keyCompromise  serial 01 of "));
    assert_succeeds(run("revocation", "approve", "--config", config, "--id", "1", NULL));
    assert_succeeds(run("revocation", "refuse", "--config", config, "--id", "2", NULL));
    assert_int_equal(run("revocation", "refuse", "--config", config, "--id", "1", NULL), 2);
    assert_non_null(strstr(output, "is revoked already"));
    assert_int_equal(run("revocation", "approve", "--config", config, "--id", "3", NULL), 1);
    assert_int_equal(run("revocation", "approve", "--config", config, "--id", "1x", NULL), 2);
    assert_int_equal(run("revocation", "approve", "--config", config, NULL), 2);
    assert_succeeds(run("revocation", "list", "--config", config, NULL));
    assert_non_null(strstr(output, "1  revoked  "));
    assert_non_null(strstr(output, "2  refused  "));
}

static void
an_operator_changes_codes_and_password_and_sees_how_an_account_stands(void **state)
{
    (void)state;
    assert_succeeds(run("account", "spc", "--config", config, "--id", "1002", "--spc", "5678",
                        "--spc", "42", NULL));
    assert_succeeds(
        run("account", "suspend", "--config", config, "--id", "1002", "--reason", "fees", NULL));
    assert_succeeds(run("account", "limit", "--config", config, "--id", "1002", "--from",
                        "192.0.2.0/24", NULL));
    assert_succeeds(
        run("account", "bind", "--config", config, "--id", "1002", "--client", "CN=kms", NULL));
    assert_succeeds(run("account", "list", "--config", config, NULL));
    assert_non_null(strstr(output, "1002  user sp-two  SPC 42 5678  from 192.0.2.0/24"
                                   "  client CN=kms  suspended: fees\n"));
    assert_int_equal(
        run("account", "spc", "--config", config, "--id", "1002", "--spc", "4-2", NULL), 1);
    assert_int_equal(run("account", "spc", "--config", config, "--id", "ca-1", "--spc", "42", NULL),
                     1);
    assert_non_null(strstr(output, "no service provider has it"));
    assert_int_equal(run("account", "password", "--config", config, "--id", "1002", NULL), 2);
    assert_succeeds(run("account", "password", "--config", config, "--id", "1002",
                        "--generate-password", in_dir("1002.next"), NULL));
    assert_int_equal(run("account", "password", "--config", config, "--id", "none",
                         "--generate-password", in_dir("none.next"), NULL),
                     1);
    assert_int_equal(access(in_dir("none.next"), F_OK), -1); /* no such account */
}

/* Neither is it said that the account is missing: nobody has looked. */
static void
a_configuration_or_store_that_cannot_be_read_is_all_that_is_reported(void **state)
{
    static const char *const commands[][4] = {
        {"account", "suspend", "--reason", "fees"},
        {"account", "reinstate", NULL, NULL},
        {"account", "limit", NULL, NULL},
        {"account", "spc", "--spc", "42"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        assert_int_equal(run(commands[i][0], commands[i][1], "--config", in_dir("none.conf"),
                             "--id", "1002", commands[i][2], commands[i][3], NULL),
                         1);
        assert_non_null(strstr(output, "none.conf: No such file or directory\n"));
        assert_null(strstr(output, "account 1002"));
    }
    write_text("broken.db", "this is no SQLite file, but more than a hundred octets of text, "
                            "so that it is not taken for an empty one either\n");
    write_text("broken.conf", "[token]\nuri = pkcs11:token=sti-pa\n[server]\n"
                              "address = 127.0.0.1:1\nbase-url = https://127.0.0.1:1\n"
                              "[pa]\nstore = broken.db\n");
    assert_int_equal(run("account", "list", "--config", in_dir("broken.conf"), NULL), 1);
    assert_non_null(strstr(output, "broken.db: file is not a database"));
}

/* Otherwise a leaked password would become the new one. */
static void
a_password_that_is_there_is_no_new_one(void **state)
{
    char *before = text_of(in_dir("1002.next"));
    char *after;

    (void)state;
    assert_int_equal(run("account", "password", "--config", config, "--id", "1002",
                         "--generate-password", in_dir("1002.next"), NULL),
                     1);
    assert_non_null(strstr(output, "a new password wants a new file"));
    assert_null(strstr(output, "password changed"));
    after = text_of(in_dir("1002.next"));
    assert_string_equal(after, before);
    free(after);
    free(before);
    assert_succeeds(run("account", "password", "--config", config, "--id", "1002",
                        "--generate-password", in_dir("1002.third"), NULL));

    write_text("planted.password", "known to others\n");
    assert_int_equal(chmod(in_dir("planted.password"), 0644), 0);
    assert_int_equal(run("account", "add", "--config", config, "--id", "1009", "--user", "sp-nine",
                         "--generate-password", in_dir("planted.password"), "--spc", "5678", NULL),
                     1);
    assert_non_null(strstr(output, "not a file of this user with access for this user only"));
    assert_int_equal(chmod(in_dir("planted.password"), 0600), 0);
    assert_succeeds(run("account", "add", "--config", config, "--id", "1009", "--user", "sp-nine",
                        "--generate-password", in_dir("planted.password"), "--spc", "5678", NULL));
    assert_non_null(strstr(output, "is there already: the password in it is used"));
}

static void
an_operator_puts_a_certificate_on_the_crl(void **state)
{
    char leaf[PATH_SIZE];
    char foreign[PATH_SIZE];

    (void)state;
    snprintf(leaf, sizeof(leaf), "%s", data_path("self/sp-1234.cert.pem"));
    snprintf(foreign, sizeof(foreign), "%s", data_path("self/rogue-leaf.cert.pem"));
    assert_int_equal(
        run("revocation", "add", "--config", config, "--certificate", leaf, "--reason", "11", NULL),
        2);
    assert_int_equal(
        run("revocation", "add", "--config", config, "--certificate", leaf, "--reason", "7", NULL),
        1);
    assert_non_null(strstr(output, "none that a CRL gives"));
    assert_int_equal(run("revocation", "add", "--config", config, "--certificate", foreign, NULL),
                     1);
    assert_non_null(strstr(output, "its issuer is no STI-CA's"));
    assert_succeeds(
        run("revocation", "add", "--config", config, "--certificate", leaf, "--reason", "1", NULL));
    assert_int_equal(run("revocation", "add", "--config", config, "--certificate", leaf, NULL), 1);
    assert_non_null(strstr(output, "is on the CRL already"));
    assert_succeeds(run("revocation", "list", "--config", config, NULL));
    assert_non_null(strstr(output, " of CN="));
}

static void
an_operator_takes_off_the_crl_what_should_not_be_there(void **state)
{
    char leaf[PATH_SIZE];

    (void)state;
    snprintf(leaf, sizeof(leaf), "%s", data_path("self/sp-1234.cert.pem"));
    assert_int_equal(run("revocation", "drop", "--config", config, "--id", "3", NULL), 2);
    assert_int_equal(
        run("revocation", "drop", "--config", config, "--id", "x", "--reason", "stolen", NULL), 2);
    assert_int_equal(run("revocation", "drop", "--config", config, "--id", "3", "--to", "2",
                         "--reason", "stolen", NULL),
                     2);
    /* the operator's own */
    assert_int_equal(run("revocation", "drop", "--config", config, "--id", "3", "--to", "9",
                         "--account", "ca-1", "--reason", "stolen", NULL),
                     1);
    assert_non_null(strstr(output, "none of these is on the CRL"));
    assert_succeeds(run("revocation", "drop", "--config", config, "--id", "3", "--to", "9",
                        "--reason", "stolen", NULL));
    assert_non_null(strstr(output, "1 dropped"));
    assert_succeeds(run("revocation", "list", "--config", config, NULL));
    assert_non_null(strstr(output, "3  refused  "));
    assert_succeeds(run("events", "--config", config, "--last", "1", NULL));
    assert_non_null(strstr(output, "revocations dropped: 3 to 9: 1 entries: stolen"));
    assert_succeeds(
        run("revocation", "add", "--config", config, "--certificate", leaf, "--reason", "1", NULL));
}

static void
an_operator_says_after_a_restore_what_was_published(void **state)
{
    (void)state;
    assert_int_equal(run("restore", "--config", config, NULL), 2);
    assert_int_equal(run("restore", "--config", config, "--sequence", "0", NULL), 2);
    assert_int_equal(run("restore", "--config", config, "--crl-number", "1x", NULL), 2);
    assert_int_equal(run("restore", "--config", config, "--sequence", "1000000000000001", NULL), 2);
    assert_succeeds(
        run("restore", "--config", config, "--sequence", "500", "--crl-number", "70", NULL));
    assert_int_equal(
        run("restore", "--config", config, "--sequence", "600", "--crl-number", "69", NULL), 1);
    assert_non_null(strstr(output, "a higher number already; nothing was changed"));
    assert_succeeds(run("restore", "--config", config, "--sequence", "500", NULL));
    assert_succeeds(run("events", "--config", config, NULL));
    assert_non_null(strstr(output, ": number raised: trusted-CA list: 500 was published\n"));
    assert_non_null(strstr(output, ": number raised: CRL: 70 was published\n"));
}

/* Retries until the server answers, for 20 s at most. */
static void
wait_until_it_serves(struct acme_http_client *http, const char *url)
{
    const struct timespec pause = {.tv_nsec = 100 * 1000 * 1000};

    for (int i = 0; i < 200; i++) {
        struct acme_http_reply reply = {0};
        struct acme_http_fetch fetch = {
            .method = "GET", .url = url, .reply_max = 1 << 20, .timeout_ms = 5000};
        enum hsm_status st = acme_http_fetch(http, &fetch, &reply, NULL);

        acme_http_reply_clear(&reply);
        if (st == HSM_OK)
            return;
        nanosleep(&pause, NULL);
    }
    read_output();
    fail_msg("sti-pa does not serve: %s", output);
}

static void
use_it(struct acme_http_client *http, const char *list_url, const struct certs_chain *anchors)
{
    EVP_PKEY *account = peer_key_new("P-256");
    struct certs_tnauthlist *tnauthlist = NULL;
    struct hsm_secret *password = NULL;
    char fingerprint[ACME_FINGERPRINT_LEN + 1];
    struct acme_authority_login login = {
        .http = http, .base_url = base_url, .account_id = "1001", .user = "sp-one"};
    char *crl_url = acme_authority_crl_url(base_url);
    struct acme_ca_list *list = NULL;
    struct certs_crl *crl = NULL;
    char *token = NULL;
    struct hsm_reason why = {""};

    assert_int_equal(hsm_secret_read(in_dir("password"), &password), HSM_OK);
    assert_int_equal(certs_tnauthlist_from_spc("709J", &tnauthlist), HSM_OK);
    assert_int_equal(acme_fingerprint_format(account, ACME_FINGERPRINT_SPKI, fingerprint), HSM_OK);
    login.password = password;
    if (acme_authority_fetch_token(&login, tnauthlist, true, fingerprint, &token, &why) != HSM_OK)
        fail_msg("%s", why.text);
    if (acme_authority_fetch_ca_list(http, list_url, anchors, 500, time(NULL), &list, &why) !=
        HSM_OK)
        fail_msg("%s", why.text);
    assert_int_equal(acme_ca_list_sequence(list), 501);
    assert_int_equal(certs_chain_len(acme_ca_list_roots(list)), 1);
    if (acme_authority_fetch_crl(http, crl_url, anchors, time(NULL), &crl, &why) != HSM_OK)
        fail_msg("%s", why.text);
    assert_int_equal(certs_crl_number(crl), 71);
    assert_int_equal(certs_crl_len(crl), 2); /* one approved and one added by an operator */
    acme_ca_list_free(list);
    certs_crl_free(crl);
    free(token);
    free(crl_url);
    certs_tnauthlist_free(tnauthlist);
    hsm_secret_free(password);
    EVP_PKEY_free(account);
}

static void
daemon_serves_until_sigterm(void **state)
{
    char *args[] = {(char *)program_path("sti-pa"), (char *)"serve", (char *)"--config", config,
                    NULL};
    struct acme_http_client_config client = {.tls_ca = in_dir("tls-root.pem")};
    struct acme_http_client *http = NULL;
    struct certs_chain *anchors = NULL;
    char list_url[128];
    pid_t pid = spawn(args);
    int status;

    (void)state;
    snprintf(list_url, sizeof(list_url), "%s/api/v1/ca-list", base_url);
    assert_int_equal(acme_http_client_new(&client, &http), HSM_OK);
    assert_int_equal(certs_chain_read(in_dir("pa-root.pem"), &anchors), HSM_OK);
    wait_until_it_serves(http, list_url);
    use_it(http, list_url, anchors);
    assert_int_equal(kill(pid, SIGTERM), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_succeeds(run("events", "--config", config, NULL));
    assert_non_null(strstr(output, ": configured: token-lifetime-s: 86400\n"));
    assert_non_null(strstr(output, ": configured: policy: none\n"));
    certs_chain_free(anchors);
    acme_http_client_free(http);
}

/* Revoke that serial number with the STI-CA's account. */
static void
revoke_serial(struct acme_http_client *http, uint8_t serial)
{
    struct certs_chain *chain = NULL;
    struct hsm_secret *password = NULL;
    struct hsm_reason why = {""};
    char url[128];
    struct acme_authority_revocation wanted = {.http = http,
                                               .url = url,
                                               .user = "ca",
                                               .serial = &serial,
                                               .serial_len = 1,
                                               .requester = "a test"};
    uint8_t *issuer = NULL;

    snprintf(url, sizeof(url), "%s" ACME_AUTHORITY_REVOCATIONS_PATH, base_url);
    assert_int_equal(certs_chain_read(data_path("self/sp-1234.cert.pem"), &chain), HSM_OK);
    assert_int_equal(certs_name_der(X509_get_issuer_name(certs_chain_get(chain, 0)), &issuer,
                                    &wanted.issuer_len),
                     HSM_OK);
    assert_int_equal(hsm_secret_read(in_dir("ca.password"), &password), HSM_OK);
    wanted.issuer = issuer;
    wanted.password = password;
    if (acme_authority_request_revocation(&wanted, NULL, &why) != HSM_OK)
        fail_msg("%s", why.text);
    hsm_secret_free(password);
    free(issuer);
    certs_chain_free(chain);
}

/* The number of "CRL signed" events. */
static int
crls_signed(void)
{
    int count = 0;

    assert_succeeds(run("events", "--config", config, "--last", "1000", NULL));
    for (const char *at = output; (at = strstr(at, "CRL signed")) != NULL; at++)
        count++;
    return count;
}

/* The daemon publishes an accepted revocation without a request for the CRL. If it is killed, the
 * next one publishes it. */
static void
what_was_answered_for_is_published_also_after_a_kill(void **state)
{
    char *args[] = {(char *)program_path("sti-pa"), (char *)"serve", (char *)"--config", config,
                    NULL};
    struct acme_http_client_config client = {.tls_ca = in_dir("tls-root.pem")};
    struct acme_http_client *http = NULL;
    struct certs_chain *anchors = NULL;
    struct certs_crl *crl = NULL;
    struct hsm_reason why = {""};
    char list_url[128], *crl_url = acme_authority_crl_url(base_url);
    pid_t pid = spawn(args);
    int status, before;

    (void)state;
    snprintf(list_url, sizeof(list_url), "%s/api/v1/ca-list", base_url);
    assert_int_equal(acme_http_client_new(&client, &http), HSM_OK);
    assert_int_equal(certs_chain_read(in_dir("pa-root.pem"), &anchors), HSM_OK);
    wait_until_it_serves(http, list_url);
    before = crls_signed();
    revoke_serial(http, 21);
    while (crls_signed() == before) /* no request for the CRL; the runner ends the loop otherwise */
        nanosleep(&(struct timespec){.tv_nsec = 100 * 1000 * 1000}, NULL);
    revoke_serial(http, 22);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    pid = spawn(args);
    wait_until_it_serves(http, list_url);
    if (acme_authority_fetch_crl(http, crl_url, anchors, time(NULL), &crl, &why) != HSM_OK)
        fail_msg("%s", why.text);
    assert_int_equal(certs_crl_len(crl), 4);
    assert_int_equal(kill(pid, SIGTERM), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    certs_crl_free(crl);
    free(crl_url);
    certs_chain_free(anchors);
    acme_http_client_free(http);
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

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(init_makes_what_is_missing_and_keeps_what_is_there),
        cmocka_unit_test(check_refuses_a_signer_under_another_root),
        cmocka_unit_test(init_refuses_a_wrong_pin),
        cmocka_unit_test(init_makes_nothing_if_a_value_cannot_stand_in_the_configuration),
        cmocka_unit_test(command_lines_that_are_refused),
        cmocka_unit_test(accounts_are_added_once_and_listed),
        cmocka_unit_test(trusted_cas_are_added_once_and_listed),
        cmocka_unit_test(an_sti_ca_has_an_account_for_its_own_names),
        cmocka_unit_test(an_operator_decides_of_what_waits),
        cmocka_unit_test(an_operator_changes_codes_and_password_and_sees_how_an_account_stands),
        cmocka_unit_test(a_configuration_or_store_that_cannot_be_read_is_all_that_is_reported),
        cmocka_unit_test(a_password_that_is_there_is_no_new_one),
        cmocka_unit_test(an_operator_puts_a_certificate_on_the_crl),
        cmocka_unit_test(an_operator_takes_off_the_crl_what_should_not_be_there),
        cmocka_unit_test(an_operator_says_after_a_restore_what_was_published),
        cmocka_unit_test(daemon_serves_until_sigterm),
        cmocka_unit_test(what_was_answered_for_is_published_also_after_a_kill),
        cmocka_unit_test(no_file_holds_a_private_key),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
