/* test_http_listen.c - mirrors acme/src/http_listen.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <acme/http_server.h>
#include <certs/issue.h>

#include "http_group.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- listening ---- */

static void
a_certificate_of_another_key_is_refused_at_once(void **state)
{
    struct acme_http_server_config config = tls_config("127.0.0.1:0");
    struct acme_http_loop *loop = NULL;
    struct certs_chain *empty = NULL;

    (void)state;
    assert_int_equal(acme_http_loop_new(1, &loop), HSM_OK);
    config.tls_key = http_other_id.key;
    assert_int_equal(acme_http_loop_listen(loop, &config), HSM_ERR_UNTRUSTED);
    assert_int_equal(certs_chain_new(&empty), HSM_OK);
    config.tls_chain = empty;
    assert_int_equal(acme_http_loop_listen(loop, &config), HSM_ERR_UNTRUSTED);
    config = tls_config("127.0.0.1:0");
    assert_int_equal(acme_http_loop_listen(loop, &config), HSM_OK);
    assert_int_not_equal(acme_http_loop_port(loop, 0), 0);
    assert_int_equal(acme_http_loop_port(loop, 1), 0);
    acme_http_loop_free(loop);
    certs_chain_free(empty);
}

/* The clock may be wrong, so this is only logged and left to the operator. */
static void
a_certificate_that_has_ended_is_told(void **state)
{
    struct certs_issue_request request = {.profile = CERTS_PROFILE_TLS_ROOT,
                                          .subject = {.common_name = "ended"},
                                          .public_key = hsm_key_public(http_server_id.key),
                                          .serial = {1},
                                          .serial_len = CERTS_SERIAL_MAX,
                                          .not_before = time(NULL) - 7200};
    int standard = dup(STDERR_FILENO);

    (void)state;
    for (int ended = 0; ended < 2; ended++) {
        struct acme_http_server_config config = tls_config("127.0.0.1:0");
        struct acme_http_loop *loop = NULL;
        struct certs_chain *chain = NULL;
        struct hsm_reason why = {""};
        FILE *log = tmpfile();
        X509 *cert = NULL;
        char text[2048] = "";

        request.not_after = time(NULL) + (ended ? -60 : 3600);
        assert_int_equal(certs_issue(&request, NULL, http_server_id.key, &cert, &why), HSM_OK);
        assert_int_equal(certs_chain_new(&chain), HSM_OK);
        assert_int_equal(certs_chain_add(chain, cert), HSM_OK);
        config.tls_chain = chain;
        assert_int_equal(acme_http_loop_new(1, &loop), HSM_OK);
        dup2(fileno(log), STDERR_FILENO);
        assert_int_equal(acme_http_loop_listen(loop, &config), HSM_OK);
        dup2(standard, STDERR_FILENO);
        assert_true(pread(fileno(log), text, sizeof(text) - 1, 0) >= 0);
        assert_int_equal(strstr(text, "has ended") != NULL, ended);
        acme_http_loop_free(loop);
        certs_chain_free(chain);
        X509_free(cert);
        fclose(log);
    }
    close(standard);
}

static void
tls_is_for_tcp_and_only_for_tcp(void **state)
{
    struct acme_http_server_config config = tls_config("unix:/tmp/sti-never.sock");
    struct acme_http_loop *loop = NULL;

    (void)state;
    assert_int_equal(acme_http_loop_new(1, &loop), HSM_OK);
    assert_int_equal(acme_http_loop_listen(loop, &config), HSM_ERR_USAGE);
    config = tls_config("127.0.0.1:0");
    config.tls_key = NULL;
    assert_int_equal(acme_http_loop_listen(loop, &config), HSM_ERR_USAGE);
    assert_int_equal(access("/tmp/sti-never.sock", F_OK), -1);
    acme_http_loop_free(loop);
}

static void
what_is_no_address_is_refused(void **state)
{
    static const char *const addresses[] = {
        "",
        "127.0.0.1",
        "127.0.0.1:",
        ":8443",
        "127.0.0.1:65536",
        "127.0.0.1:x",
        "::1:8443",
        "[::1]",
        "[::1:8443",
        "::1]:1",
        "localhost:8443",
        "192.0.2.1:1",
        "127.0.0.1:8443:1",
        "/tmp/a.sock",
    };
    struct acme_http_loop *loop = NULL;

    (void)state;
    assert_int_equal(acme_http_loop_new(1, &loop), HSM_OK);
    for (size_t i = 0; i < COUNT(addresses); i++) {
        struct acme_http_server_config config = tls_config(addresses[i]);

        if (acme_http_loop_listen(loop, &config) != HSM_ERR_IO)
            fail_msg("%s", addresses[i]);
    }
    acme_http_loop_free(loop);
}

static void
a_port_that_is_taken_is_refused(void **state)
{
    char address[32];
    struct acme_http_loop *loop = NULL;
    struct acme_http_server_config config = tls_config("127.0.0.1:0");

    (void)state;
    assert_int_equal(acme_http_loop_new(1, &loop), HSM_OK);
    assert_int_equal(acme_http_loop_listen(loop, &config), HSM_OK);
    snprintf(address, sizeof(address), "127.0.0.1:%u", acme_http_loop_port(loop, 0));
    config = tls_config(address);
    assert_int_equal(acme_http_loop_listen(loop, &config), HSM_ERR_IO);
    acme_http_loop_free(loop);
}

static void
a_unix_socket_is_for_its_owner_and_replaces_only_a_stale_one(void **state)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    char address[64];
    struct acme_http_server_config config = {.address = address, .handler = handler};
    struct acme_http_loop *loop = NULL;
    struct acme_http_loop *second = NULL;
    struct stat about;
    int stale = socket(AF_UNIX, SOCK_STREAM, 0);
    FILE *file;

    (void)state;
    snprintf(name.sun_path, sizeof(name.sun_path), "/tmp/sti-own-%d.sock", (int)getpid());
    snprintf(address, sizeof(address), "unix:/tmp/sti-own-%d.sock", (int)getpid());
    assert_int_equal(bind(stale, (struct sockaddr *)&name, sizeof(name)), 0);
    close(stale);
    assert_int_equal(acme_http_loop_new(1, &loop), HSM_OK);
    assert_int_equal(acme_http_loop_new(1, &second), HSM_OK);
    assert_int_equal(acme_http_loop_listen(loop, &config), HSM_OK); /* replaces the stale one */
    assert_int_equal(stat(name.sun_path, &about), 0);
    assert_true(S_ISSOCK(about.st_mode));
    assert_int_equal(about.st_mode & 0777, 0600);
    assert_int_equal(acme_http_loop_listen(second, &config), HSM_ERR_IO); /* in use */
    acme_http_loop_free(loop);
    assert_int_equal(access(name.sun_path, F_OK), -1); /* removed with its server */
    file = fopen(name.sun_path, "w");
    assert_non_null(file);
    fclose(file);
    assert_int_equal(acme_http_loop_listen(second, &config), HSM_ERR_IO); /* not a socket */
    assert_int_equal(access(name.sun_path, F_OK), 0);
    unlink(name.sun_path);
    acme_http_loop_free(second);
}

static void
old_tls_and_plain_text_are_refused(void **state)
{
    SSL_CTX *ctx = tls_context();
    SSL *ssl;
    int fd = http_connect_tcp(&peer);

    (void)state;
    http_send(fd, "GET / HTTP/1.1\r\n\r\n", 18);
    assert_true(http_receive(fd, reply, sizeof(reply), NULL, 0, SOON_MS) >= 0);
    assert_null(strstr(reply, "HTTP"));
    close(fd);
    SSL_CTX_set_security_level(ctx, 0);
    assert_int_equal(SSL_CTX_set_min_proto_version(ctx, TLS1_VERSION), 1);
    assert_int_equal(SSL_CTX_set_max_proto_version(ctx, TLS1_1_VERSION), 1);
    ssl = SSL_new(ctx);
    assert_int_equal(SSL_set_fd(ssl, http_connect_tcp(&peer)), 1);
    assert_int_not_equal(SSL_connect(ssl), 1);
    tls_close(ssl);
    assert_int_equal(SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION), 1);
    ssl = tls_connect(ctx);
    assert_string_equal(SSL_get_version(ssl), "TLSv1.2");
    tls_close(ssl);
    SSL_CTX_free(ctx);
}

static void
accepted_connections_do_not_wait_for_acknowledgements(void **state)
{
    struct acme_http_server_config config = tls_config("127.0.0.1:0");
    struct acme_http_loop *loop = NULL;
    int found = 0;

    (void)state;
    assert_int_equal(acme_http_loop_new(1, &loop), HSM_OK);
    assert_int_equal(acme_http_loop_listen(loop, &config), HSM_OK);
    for (int fd = 0; fd < 256; fd++) { /* find the listening one */
        struct sockaddr_in name;
        socklen_t len = sizeof(name);
        int value = 0;
        socklen_t value_len = sizeof(value);

        if (getsockname(fd, (struct sockaddr *)&name, &len) != 0 || name.sin_family != AF_INET ||
            ntohs(name.sin_port) != acme_http_loop_port(loop, 0))
            continue;
        assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, &value_len), 0);
        found += value != 0;
    }
    assert_int_equal(found, 1);
    acme_http_loop_free(loop);
}

/* ---- sockets that processes share ---- */

static void
the_file_of_a_shared_unix_socket_goes_with_the_listener(void **state)
{
    char address[64];
    const char *path = address + strlen("unix:");
    struct acme_http_listener *listener = NULL, *second = NULL;
    struct http_peer worker;

    (void)state;
    snprintf(address, sizeof(address), "unix:/tmp/sti-shared-%d.sock", (int)getpid());
    assert_int_equal(acme_http_listener_open(address, &listener), HSM_OK);
    assert_int_equal(acme_http_listener_open(address, &second), HSM_ERR_IO); /* in use */
    share(&worker, listener, address, 0);
    assert_int_equal(http_peer_stop(&worker), HSM_OK);
    assert_int_equal(access(path, F_OK), 0);
    acme_http_listener_close(listener);
    assert_int_not_equal(access(path, F_OK), 0);
    assert_int_equal(acme_http_listener_open("127.0.0.1", &listener), HSM_ERR_IO);
}

/* ---- stopping ---- */

static void
without_tls_there_is_loopback_only(void **state)
{
    static const struct {
        const char *address;
        bool is_valid, is_loopback;
    } cases[] = {
        {"127.0.0.1:0", true, true},
        {"[::1]:0", true, true},
        {"127.9.9.9:80", true, true},
        {"0.0.0.0:0", true, false},
        {"192.0.2.1:80", true, false},
        {"[::]:0", true, false},
        {"[2001:db8::1]:1", true, false},
        {"localhost:80", false, false},
        {"127.0.0.1", false, false},
        {"unix:/tmp/x", false, false},
        {"", false, false},
    };
    struct acme_http_loop *loop = NULL;

    (void)state;
    assert_int_equal(acme_http_loop_new(1, &loop), HSM_OK);
    for (size_t i = 0; i < COUNT(cases); i++) {
        const struct acme_http_server_config config = {
            .address = cases[i].address, .without_tls = true, .handler = handler};

        if (acme_http_address_is_valid(cases[i].address) != cases[i].is_valid ||
            acme_http_address_is_loopback(cases[i].address) != cases[i].is_loopback)
            fail_msg("%s", cases[i].address);
        if (!cases[i].is_loopback)
            assert_int_equal(acme_http_loop_listen(loop, &config), HSM_ERR_USAGE);
    }
    acme_http_loop_free(loop);
}

#define WITH_SERVER(test) cmocka_unit_test_setup_teardown(test, http_group_start, http_group_stop)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_certificate_of_another_key_is_refused_at_once),
        cmocka_unit_test(a_certificate_that_has_ended_is_told),
        cmocka_unit_test(tls_is_for_tcp_and_only_for_tcp),
        cmocka_unit_test(what_is_no_address_is_refused),
        cmocka_unit_test(a_port_that_is_taken_is_refused),
        cmocka_unit_test(a_unix_socket_is_for_its_owner_and_replaces_only_a_stale_one),
        WITH_SERVER(old_tls_and_plain_text_are_refused),
        cmocka_unit_test(accepted_connections_do_not_wait_for_acknowledgements),
        cmocka_unit_test(the_file_of_a_shared_unix_socket_goes_with_the_listener),
        cmocka_unit_test(without_tls_there_is_loopback_only),
    };

    return cmocka_run_group_tests(tests, http_fixture_start, http_fixture_stop);
}
