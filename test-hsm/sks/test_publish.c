/* test_publish.c - mirrors sks/src/publish.c: a remote STI-CR that accepts or refuses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <sys/stat.h>

#include <hsm/process.h>
#include <sks/publish.h>

#include "ecosystem.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define PEM          "-----BEGIN CERTIFICATE-----\n"
#define X5U          "https://cr.example/certs/0123.pem"

static struct ecosystem eco;
static struct eco_server server;

/* The last request to the STI-CR, and the status that it answers with. */
static struct {
    enum acme_http_method method;
    char path[128], authorization[128], content_type[128], body[256];
    atomic_int status;
} cr;

static void
keep(char *out, size_t size, const char *text)
{
    snprintf(out, size, "%s", text != NULL ? text : "");
}

static void
take(void *context, const struct acme_http_request *request, struct acme_http_response *response)
{
    const char *body;
    size_t len;

    (void)context;
    cr.method = acme_http_request_method(request);
    keep(cr.path, sizeof(cr.path), acme_http_request_path(request));
    keep(cr.authorization, sizeof(cr.authorization),
         acme_http_request_header(request, "Authorization"));
    keep(cr.content_type, sizeof(cr.content_type),
         acme_http_request_header(request, "Content-Type"));
    body = acme_http_request_body(request, &len);
    snprintf(cr.body, sizeof(cr.body), "%.*s", (int)len, body);
    acme_http_respond(response, cr.status, "text/plain", "", 0);
}

static struct sks_publisher
publisher_to(const char *base)
{
    return (struct sks_publisher){
        .http = eco.http, .upload_url = base, .dir = softhsm_dir(), .timeout_s = 20};
}

static void
a_chain_is_put_below_the_upload_url(void **state)
{
    struct hsm_secret *bearer = NULL;
    struct hsm_reason why = {""};
    char base[128];
    struct sks_publisher publisher;

    (void)state;
    snprintf(base, sizeof(base), "%s/up/", server.base);
    publisher = publisher_to(base);
    cr.status = 201;
    assert_int_equal(sks_publish(&publisher, PEM, X5U, &why), HSM_OK);
    assert_int_equal(cr.method, ACME_HTTP_PUT);
    assert_string_equal(cr.path, "/up/0123.pem");
    assert_string_equal(cr.body, PEM);
    assert_string_equal(cr.content_type, "application/pem-certificate-chain");
    assert_string_equal(cr.authorization, "");

    assert_int_equal(hsm_secret_new("t0p", 3, &bearer), HSM_OK);
    publisher.upload_bearer = bearer;
    base[strlen(base) - 1] = '\0'; /* the final slash is optional */
    assert_int_equal(sks_publish(&publisher, PEM, X5U, &why), HSM_OK);
    assert_string_equal(cr.path, "/up/0123.pem");
    assert_string_equal(cr.authorization, "Bearer t0p");
    hsm_secret_free(bearer);
}

static void
what_the_repository_answers_decides(void **state)
{
    static const struct {
        int status;
        enum hsm_status wanted;
    } cases[] = {
        {200, HSM_OK},         {204, HSM_OK},       {301, HSM_ERR_DENIED}, {403, HSM_ERR_DENIED},
        {409, HSM_ERR_DENIED}, {429, HSM_ERR_BUSY}, {500, HSM_ERR_BUSY},   {503, HSM_ERR_BUSY},
    };
    struct sks_publisher publisher = publisher_to(server.base);
    struct hsm_reason why = {""};

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        cr.status = cases[i].status;
        if (sks_publish(&publisher, PEM, X5U, &why) != cases[i].wanted)
            fail_msg("%d: %s", cases[i].status, why.text);
    }
    publisher.upload_url = "https://127.0.0.1:1/";
    assert_int_equal(sks_publish(&publisher, PEM, X5U, &why), HSM_ERR_BUSY);
    publisher.upload_url = "http://127.0.0.1:1/"; /* would send the bearer token in the clear */
    assert_int_equal(sks_publish(&publisher, PEM, X5U, &why), HSM_ERR_MALFORMED);
}

static void
programs_are_given_file_name_and_credential(void **state)
{
    struct sks_publisher publisher = publisher_to(NULL);
    char script[512], seen[512], upload[1200], notify[1200], wanted[512];
    struct hsm_reason why = {""};
    uint8_t *text = NULL;
    FILE *to;
    size_t len;

    (void)state;
    snprintf(script, sizeof(script), "%s/program", softhsm_dir());
    snprintf(seen, sizeof(seen), "%s/seen", softhsm_dir());
    to = fopen(script, "w");
    assert_non_null(to);
    fprintf(to, "#!/bin/sh\necho \"$@\" >>%s\n", seen);
    fclose(to);
    assert_int_equal(chmod(script, 0700), 0);
    snprintf(upload, sizeof(upload), "%s up {file} {name} {url}", script);
    snprintf(notify, sizeof(notify), "%s on {spc} {id} {url} {key}", script);

    assert_int_equal(sks_publish(&publisher, PEM, X5U, &why), HSM_OK); /* nothing configured */
    assert_int_equal(sks_publish_notify(&publisher, "1234", 7, X5U, "pkcs11:object=k", &why),
                     HSM_OK);
    publisher.upload_command = upload;
    publisher.notify_command = notify;
    assert_int_equal(sks_publish_check(&publisher, &why), HSM_OK);
    assert_int_equal(sks_publish(&publisher, PEM, X5U, &why), HSM_OK);
    assert_int_equal(sks_publish_notify(&publisher, "1234", 7, X5U, "pkcs11:object=k", &why),
                     HSM_OK);
    snprintf(wanted, sizeof(wanted),
             "up %s/0123.pem 0123.pem " X5U "\non 1234 7 " X5U " pkcs11:object=k\n", softhsm_dir());
    assert_int_equal(hsm_file_read(seen, 4096, &text, &len), HSM_OK);
    assert_string_equal((char *)text, wanted);
    free(text);

    publisher.notify_command = "/bin/true {name}"; /* only for uploads */
    assert_int_equal(sks_publish_check(&publisher, &why), HSM_ERR_MALFORMED);
    publisher.upload_command = "/bin/false";
    assert_int_equal(sks_publish(&publisher, PEM, X5U, &why), HSM_ERR_BUSY);
}

static int
start(void **state)
{
    (void)state;
    eco_start(&eco);
    eco_server_start(&server, &eco, (struct acme_http_handler){.handle = take});
    return 0;
}

static int
stop(void **state)
{
    (void)state;
    eco_server_stop(&server);
    eco_stop(&eco);
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_chain_is_put_below_the_upload_url),
        cmocka_unit_test(what_the_repository_answers_decides),
        cmocka_unit_test(programs_are_given_file_name_and_credential),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
