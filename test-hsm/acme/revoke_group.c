/* revoke_group.c - an STI-CA whose STI-PA the test plays. */
#define _GNU_SOURCE /* asprintf */
#include "revoke_group.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pthread.h>

#include <cmocka.h>

#include <acme/base64url.h>
#include <certs/cert.h>
#include <hsm/defer.h>

#include "peer.h"

/* ---- a certificate and requests about it ---- */

void
certificate_clear(struct certificate *certificate)
{
    EVP_PKEY_free(certificate->key);
    free(certificate->der);
    X509_free(certificate->x509);
}

void
enrol(const struct peer *peer, const char *spc, struct certificate *out)
{
    struct peer_order order;
    struct hsm_reason why = {""};
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    *out = (struct certificate){.key = peer_key_new("P-256")};
    peer_order_ready(&ca, peer, spc, &order);
    peer_finalize(&ca, peer, &order, out->key, spc, false, &got);
    assert_int_equal(got.status, 200);
    out->der = peer_download(&ca, peer, order.url, &out->len);
    assert_int_equal(certs_cert_parse_der(out->der, out->len, &out->x509, &why), HSM_OK);
}

char *
payload_of(const uint8_t *der, size_t len, const char *reason)
{
    char *text = acme_base64url_encode(der, len), *payload = NULL;

    if (text == NULL ||
        asprintf(&payload, "{\"certificate\":\"%s\"%s%s}", text,
                 reason != NULL ? ",\"reason\":" : "", reason != NULL ? reason : "") < 0)
        abort();
    free(text);
    return payload;
}

void
revoke(const struct peer *peer, const struct certificate *certificate, const char *reason,
       struct got *got)
{
    char *payload = payload_of(certificate->der, certificate->len, reason);

    peer_send(&ca, peer, "/acme/revoke-cert", payload, got);
    free(payload);
}

void
assert_refused(const struct got *got, int status, const char *problem)
{
    if (got->status != status || strcmp(got_problem(got), problem) != 0)
        fail_msg("%d %s, not %d %s", got->status, got->body, status, problem);
    assert_string_not_equal(got_header(got, "Replay-Nonce"), "");
}

/* ---- the STI-PA ---- */

struct told_pa sti_pa = {.status = 200, .mutex = PTHREAD_MUTEX_INITIALIZER};

static void
pa_forget(void)
{
    free(sti_pa.authorization);
    free(sti_pa.content_type);
    json_decref(sti_pa.told);
    sti_pa.authorization = sti_pa.content_type = NULL;
    sti_pa.told = NULL;
}

static bool
answer_as_pa(struct ca_fixture *fixture, const struct acme_http_request *request,
             struct acme_http_response *response)
{
    const char *authorization = acme_http_request_header(request, "Authorization");
    const char *type = acme_http_request_header(request, "Content-Type");

    if (strcmp(acme_http_request_path(request), "/sti-pa/revocations") != 0)
        return false;
    pthread_mutex_lock(&sti_pa.mutex);
    pa_forget();
    sti_pa.authorization = strdup(authorization != NULL ? authorization : "");
    sti_pa.content_type = strdup(type != NULL ? type : "");
    sti_pa.told = json_loads(acme_http_request_body(request, NULL), 0, NULL);
    pthread_mutex_unlock(&sti_pa.mutex);
    atomic_fetch_add(&fixture->intercepted, 1);
    acme_http_respond_json(response, atomic_load(&sti_pa.status), "application/json",
                           json_pack("{s:s, s:s}", "status",
                                     atomic_load(&sti_pa.status) < 300 ? "success" : "error",
                                     "message", "as the test says"));
    return true;
}

/* ---- the group ---- */

static struct hsm_secret *password;
char revocation_url[128];

int
revoke_group_start(void **state)
{
    ca_group_start(state);
    if (hsm_secret_new(PASSWORD, strlen(PASSWORD), &password) != HSM_OK)
        return -1;
    snprintf(revocation_url, sizeof(revocation_url), "%s/sti-pa/revocations", ca.pa.base_url);
    ca.config.revocation_url = revocation_url;
    ca.config.revocation_user = "sti-ca";
    ca.config.revocation_password = password;
    ca.intercept = answer_as_pa;
    ca_fixture_restart(&ca);
    return 0;
}

int
revoke_group_begin(void **state)
{
    (void)state;
    ca_fixture_set_time(0);
    ca_fixture_sql(&ca, "DELETE FROM revocation");
    atomic_store(&ca.intercepted, 0);
    atomic_store(&sti_pa.status, 200);
    return 0;
}

int
revoke_group_stop(void **state)
{
    hsm_secret_free(password);
    pa_forget();
    return ca_group_stop(state);
}
