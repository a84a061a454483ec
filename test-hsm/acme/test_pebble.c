/*
 * test_pebble.c - the ACME client against another implementation: Debian's pebble, which refuses
 * every second nonce and requires external accounts. Skipped if it is not installed.
 */
#define _GNU_SOURCE /* asprintf */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <acme/client.h>
#include <certs/cert.h>
#include <hsm/log.h>

#include "peer.h"
#include "port.h"
#include "softhsm.h"

#define PEBBLE  "/usr/bin/pebble"
#define SKIPPED 77
#define EAB_KID "kid-1"
#define EAB_KEY "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"

static struct {
    pid_t pid;
    char directory[64], root[512];
    struct hsm_token *token;
    struct hsm_key *first, *second;
    struct acme_http_client *http;
    struct hsm_secret *eab_key;
} world;

/* ---- pebble ---- */

static void
write_pem(const char *path, EVP_PKEY *key, X509 *cert)
{
    FILE *to = fopen(path, "w");

    if (to == NULL ||
        (key != NULL ? PEM_write_PrivateKey(to, key, NULL, NULL, 0, NULL, NULL)
                     : PEM_write_X509(to, cert)) != 1 ||
        fclose(to) != 0)
        abort();
}

/* pebble's TLS certificate: its key belongs to another party's system, in a directory that is
 * removed. */
static void
make_tls(const char *key_path)
{
    EVP_PKEY *key = peer_key_new("P-256");
    X509 *cert = X509_new();
    X509_EXTENSION *names = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, "IP:127.0.0.1");

    X509_set_version(cert, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 7);
    X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
    X509_gmtime_adj(X509_getm_notAfter(cert), 86400);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC,
                               (const unsigned char *)"pebble", -1, -1, 0);
    X509_set_issuer_name(cert, X509_get_subject_name(cert));
    X509_set_pubkey(cert, key);
    X509_add_ext(cert, names, -1);
    if (X509_sign(cert, key, EVP_sha256()) == 0)
        abort();
    write_pem(key_path, key, NULL);
    write_pem(world.root, NULL, cert);
    X509_EXTENSION_free(names);
    X509_free(cert);
    EVP_PKEY_free(key);
}

static void
start_pebble(void)
{
    static char nonces[] = "PEBBLE_WFE_NONCEREJECT=50", no_sleep[] = "PEBBLE_VA_NOSLEEP=1",
                valid[] = "PEBBLE_VA_ALWAYS_VALID=1", path[] = "PATH=/usr/bin:/bin";
    char *const environment[] = {nonces, no_sleep, valid, path, NULL};
    char key_path[512], config[512], log[512];
    char *const argv[] = {(char *)(uintptr_t)PEBBLE, (char *)(uintptr_t) "-config", config, NULL};
    posix_spawn_file_actions_t actions;
    unsigned port = free_port();
    FILE *to;

    snprintf(world.root, sizeof(world.root), "%s/pebble.pem", softhsm_dir());
    snprintf(key_path, sizeof(key_path), "%s/pebble.key.pem", softhsm_dir());
    snprintf(config, sizeof(config), "%s/pebble.json", softhsm_dir());
    snprintf(log, sizeof(log), "%s/pebble.log", softhsm_dir());
    snprintf(world.directory, sizeof(world.directory), "https://127.0.0.1:%u/dir", port);
    make_tls(key_path);
    to = fopen(config, "w");
    if (to == NULL)
        abort();
    fprintf(to,
            "{\"pebble\":{\"listenAddress\":\"127.0.0.1:%u\",\"managementListenAddress\":"
            "\"127.0.0.1:%u\",\"certificate\":\"%s\",\"privateKey\":\"%s\",\"httpPort\":1,"
            "\"tlsPort\":1,\"externalAccountBindingRequired\":true,"
            "\"externalAccountMACKeys\":{\"" EAB_KID "\":\"" EAB_KEY "\"}}}",
            port, free_port(), world.root, key_path);
    fclose(to);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, log, O_WRONLY | O_CREAT, 0600);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    if (posix_spawn(&world.pid, PEBBLE, &actions, NULL, argv, environment) != 0)
        abort();
    posix_spawn_file_actions_destroy(&actions);
}

static int
start(void **state)
{
    (void)state;
    hsm_log_open(&(struct hsm_log_config){.program = "test", .level = HSM_LOG_WARNING});
    softhsm_start();
    world.token = softhsm_token("sp");
    start_pebble();
    if (hsm_key_generate(world.token, "first", &world.first) != HSM_OK ||
        hsm_key_generate(world.token, "second", &world.second) != HSM_OK ||
        hsm_secret_new(EAB_KEY, strlen(EAB_KEY), &world.eab_key) != HSM_OK ||
        acme_http_client_new(&(struct acme_http_client_config){.tls_ca = world.root},
                             &world.http) != HSM_OK)
        return -1;
    return 0;
}

static int
stop(void **state)
{
    (void)state;
    kill(world.pid, SIGKILL);
    waitpid(world.pid, NULL, 0);
    acme_http_client_free(world.http);
    hsm_secret_free(world.eab_key);
    hsm_key_free(world.first);
    hsm_key_free(world.second);
    hsm_token_close(world.token);
    softhsm_stop();
    return 0;
}

/* ---- the client ---- */

/* The client, once pebble listens. */
static struct acme_client *
client_of(struct hsm_key *account_key, bool bound)
{
    const struct timespec pause = {.tv_nsec = 100000000};
    const struct acme_client_config config = {.http = world.http,
                                              .directory_url = world.directory,
                                              .account_key = account_key,
                                              .contact = "mailto:noc@sp.example",
                                              .poll_limit_s = 60,
                                              .eab_kid = bound ? EAB_KID : NULL,
                                              .eab_key = bound ? world.eab_key : NULL};
    struct acme_client *client = NULL;
    struct hsm_reason why = {""};
    enum hsm_status st = HSM_ERR_BUSY;

    for (int tries = 0; st == HSM_ERR_BUSY && tries < 200; tries++) {
        st = acme_client_new(&config, &client, &why);
        if (st == HSM_ERR_BUSY)
            nanosleep(&pause, NULL);
    }
    if (st != HSM_OK)
        fail_msg("%s", why.text);
    return client;
}

static void
must(enum hsm_status st, const struct hsm_reason *why)
{
    if (st != HSM_OK)
        fail_msg("%s: %s", hsm_status_text(st), why->text);
}

static enum hsm_status
respond(void *context, const struct acme_client_challenge *challenge, EVP_PKEY *key, char **payload,
        struct hsm_reason *why)
{
    (void)context;
    (void)key;
    (void)why;
    if (strcmp(challenge->type, "http-01") != 0)
        return HSM_ERR_UNSUPPORTED;
    *payload = strdup("{}");
    return *payload != NULL ? HSM_OK : HSM_ERR_NOMEM;
}

/* A CSR for sp.example and www.sp.example, for a key in the token. */
static uint8_t *
make_csr(struct hsm_key *key, size_t *len)
{
    X509_REQ *request = X509_REQ_new();
    X509_EXTENSION *names =
        X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, "DNS:sp.example,DNS:www.sp.example");
    STACK_OF(X509_EXTENSION) *extensions = sk_X509_EXTENSION_new_null();
    uint8_t *der = NULL;
    int n;

    sk_X509_EXTENSION_push(extensions, names);
    X509_REQ_set_pubkey(request, hsm_key_public(key));
    X509_REQ_add_extensions(request, extensions);
    assert_true(X509_REQ_sign(request, hsm_key_pkey(key), EVP_sha256()) > 0);
    n = i2d_X509_REQ(request, &der);
    assert_true(n > 0);
    *len = (size_t)n;
    sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
    X509_REQ_free(request);
    return der;
}

static struct certs_chain *
obtain(struct acme_client *client, const char *label)
{
    static const struct acme_client_identifier identifiers[] = {{"dns", "sp.example"},
                                                                {"dns", "www.sp.example"}};
    struct acme_client_order order = {
        .identifiers = identifiers, .identifier_count = 2, .respond = respond};
    struct certs_chain *chain = NULL;
    struct hsm_reason why = {""};
    struct hsm_key *key = NULL;
    uint8_t *csr;

    assert_int_equal(hsm_key_find_or_generate(world.token, label, &key), HSM_OK);
    csr = make_csr(key, &order.csr_len);
    order.csr = csr;
    must(acme_client_obtain(client, &order, &chain, &why), &why);
    assert_true(hsm_key_matches(key, certs_cert_public(certs_chain_get(chain, 0))));
    OPENSSL_free(csr);
    hsm_key_free(key);
    return chain;
}

static void
an_account_is_bound_found_changed_and_read(void **state)
{
    struct acme_client *client = client_of(world.first, false);
    struct acme_client_account_state account;
    struct acme_client_meta meta;
    struct hsm_reason why = {""};

    (void)state;
    acme_client_meta(client, &meta);
    assert_true(meta.external_account_required);
    assert_int_equal(acme_client_account_find(client, &why), HSM_ERR_NOT_FOUND);
    assert_int_equal(acme_client_account(client, &why), HSM_ERR_DENIED);
    assert_non_null(strstr(why.text, "externalAccountRequired"));
    acme_client_free(client);
    client = client_of(world.first, true);
    must(acme_client_account(client, &why), &why);
    must(acme_client_account_update(client, "mailto:other@sp.example", &why), &why);
    must(acme_client_account_read(client, &account, &why), &why);
    assert_string_equal(account.status, "valid");
    assert_string_equal(account.contacts, "mailto:other@sp.example");
    acme_client_free(client);
}

static void
an_order_is_made_authorised_finalized_and_revoked(void **state)
{
    struct acme_client *client = client_of(world.first, true);
    struct hsm_reason why = {""};
    struct certs_chain *chain = obtain(client, "certificate");

    (void)state;
    assert_true(certs_chain_len(chain) >= 2);
    must(acme_client_revoke(client, certs_chain_get(chain, 0), 4, NULL, &why), &why);
    assert_int_equal(acme_client_revoke(client, certs_chain_get(chain, 0), 4, NULL, &why),
                     HSM_ERR_EXISTS);
    certs_chain_free(chain);
    acme_client_free(client);
}

static void
a_certificate_is_revoked_by_its_own_key(void **state)
{
    struct acme_client *client = client_of(world.first, true);
    struct hsm_reason why = {""};
    struct hsm_key *key = NULL;
    struct certs_chain *chain = obtain(client, "other certificate");

    (void)state;
    assert_int_equal(hsm_key_find(world.token, "pkcs11:object=other%20certificate", &key), HSM_OK);
    assert_int_equal(acme_client_revoke(client, certs_chain_get(chain, 0), 1, world.second, &why),
                     HSM_ERR_DENIED);
    must(acme_client_revoke(client, certs_chain_get(chain, 0), 1, key, &why), &why);
    hsm_key_free(key);
    certs_chain_free(chain);
    acme_client_free(client);
}

static void
the_accounts_key_is_changed_and_the_account_given_up(void **state)
{
    struct acme_client *client = client_of(world.first, true);
    struct hsm_reason why = {""};

    (void)state;
    must(acme_client_account_rollover(client, world.second, &why), &why);
    certs_chain_free(obtain(client, "third certificate")); /* with the new key */
    must(acme_client_account_deactivate(client, &why), &why);
    acme_client_free(client);
    client = client_of(world.first, true);
    assert_int_equal(acme_client_account_find(client, &why), HSM_ERR_NOT_FOUND);
    acme_client_free(client);
}

static void
an_identifier_that_it_does_not_know_is_refused(void **state)
{
    struct acme_client *client = client_of(world.first, true);
    struct certs_tnauthlist *list = NULL;
    struct certs_chain *chain = NULL;
    struct hsm_reason why = {""};

    (void)state;
    assert_int_equal(certs_tnauthlist_from_spc("1234", &list), HSM_OK);
    assert_int_equal(
        acme_client_obtain(client, &(struct acme_client_order){.tnauthlist = list}, &chain, &why),
        HSM_ERR_DENIED);
    assert_non_null(strstr(why.text, "newOrder: "));
    certs_tnauthlist_free(list);
    acme_client_free(client);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_account_is_bound_found_changed_and_read),
        cmocka_unit_test(an_identifier_that_it_does_not_know_is_refused),
        cmocka_unit_test(an_order_is_made_authorised_finalized_and_revoked),
        cmocka_unit_test(a_certificate_is_revoked_by_its_own_key),
        cmocka_unit_test(the_accounts_key_is_changed_and_the_account_given_up),
    };

    if (access(PEBBLE, X_OK) != 0) {
        printf("skipped: no %s\n", PEBBLE);
        return SKIPPED;
    }
    return cmocka_run_group_tests(tests, start, stop);
}
