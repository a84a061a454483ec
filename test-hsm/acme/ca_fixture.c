/* ca_fixture.c - an STI-CA, and ACME clients of other parties. */
#define _GNU_SOURCE /* asprintf, strcasestr */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include <cmocka.h>

#include <curl/curl.h>
#include <openssl/hmac.h>
#include <openssl/x509v3.h>

#include "ca_fixture.h"

#include <acme/authority_token.h>
#include <acme/base64url.h>
#include <acme/jwk.h>
#include <acme/problem.h>
#include <acme/provision.h>
#include <certs/cert.h>
#include <certs/csr.h>
#include <certs/issue.h>
#include <hsm/defer.h>

#include "peer_jws.h"
#include "postgres.h"
#include "softhsm.h"

#define YEAR 31536000 /* seconds */

static void
must(enum hsm_status status, const char *what)
{
    if (status == HSM_OK)
        return;
    fprintf(stderr, "%s: %s\n", what, hsm_status_text(status));
    abort();
}

/* Each thread keeps its connection from request to request. */
static pthread_key_t connections;

static void
make_key(void)
{
    if (pthread_key_create(&connections, curl_easy_cleanup) != 0)
        abort();
}

static CURL *
connection(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    CURL *curl;

    pthread_once(&once, make_key);
    curl = pthread_getspecific(connections);
    if (curl == NULL) {
        curl = curl_easy_init();
        if (curl == NULL || pthread_setspecific(connections, curl) != 0)
            abort();
    }
    curl_easy_reset(curl); /* keeps its connection */
    return curl;
}

static void
drop_connection(void)
{
    CURL *curl = connection();

    pthread_setspecific(connections, NULL);
    curl_easy_cleanup(curl);
}

/* ---- the STI-CA ---- */

static atomic_llong set_time;

void
ca_fixture_set_time(time_t now)
{
    atomic_store(&set_time, (long long)now);
}

time_t
ca_fixture_time(void)
{
    long long now = atomic_load(&set_time);

    return now != 0 ? (time_t)now : time(NULL);
}

/* "/pa/NAME.pem" is published by the STI-PA; the other paths belong to the STI-CA. */
void
ca_fixture_answer_pa(struct ca_fixture *fixture, const char *path,
                     struct acme_http_response *response)
{
    char *pem = NULL;

    if (strcmp(path, "/pa/signer.pem") == 0)
        must(certs_chain_pem(fixture->pa.signer_chain, &pem), path);
    else if (strcmp(path, "/pa/rogue.pem") == 0) /* valid, but not a token signer */
        must(certs_chain_pem(fixture->pa.crl_chain, &pem), path);
    else if (strcmp(path, "/pa/garbage.pem") == 0)
        pem = strdup("<html>");
    if (pem != NULL)
        acme_http_respond(response, 200, "application/pem-certificate-chain", pem, strlen(pem));
    else
        acme_http_respond(response, 404, "text/plain", "", 0);
    free(pem);
}

static void
handle(void *context, const struct acme_http_request *request, struct acme_http_response *response)
{
    struct ca_fixture *fixture = context;
    struct acme_http_handler server;

    if (fixture->intercept != NULL && fixture->intercept(fixture, request, response))
        return;
    if (strncmp(acme_http_request_path(request), "/pa/", 4) == 0) {
        ca_fixture_answer_pa(fixture, acme_http_request_path(request), response);
        return;
    }
    server = acme_server_handler(fixture->server);
    server.handle(server.context, request, response);
}

static bool
is_slow(void *context, enum acme_http_method method, const char *path)
{
    struct ca_fixture *fixture = context;
    struct acme_http_handler server;

    if (fixture->server == NULL)
        return false;
    server = acme_server_handler(fixture->server);
    return server.is_slow(server.context, method, path);
}

/* Valid at the real time and at the time of the vectors. */
static void
certify(struct ca_fixture *fixture, struct certs_issue_request *request, const char *label,
        struct hsm_key **key, struct certs_chain **chain)
{
    struct hsm_reason why = {""};
    X509 *cert = NULL;

    must(hsm_key_find_or_generate(fixture->pa.token, label, key), label);
    request->public_key = hsm_key_public(*key);
    request->subject = (struct certs_subject){
        .country = "US",
        .organization = "STI-CA Example",
        .common_name = fixture->root == NULL ? "SHAKEN ROOT" : "SHAKEN Issuing",
    };
    request->not_before = 1700000000;
    request->not_after = time(NULL) + (fixture->root == NULL ? 6 : 5) * YEAR;
    must(certs_serial_new(fixture->pa.token, request->serial, &request->serial_len), "serial");
    must(certs_issue(request, fixture->root != NULL ? certs_chain_get(fixture->root, 0) : NULL,
                     fixture->root != NULL ? fixture->root_key : *key, &cert, &why),
         why.text);
    must(certs_chain_new(chain), label);
    must(certs_chain_add(*chain, cert), label);
    X509_free(cert);
}

static void
certify_all(struct ca_fixture *fixture)
{
    struct certs_issue_request root = {.profile = CERTS_PROFILE_STI_ROOT};
    struct certs_issue_request issuing = {
        .profile = CERTS_PROFILE_STI_INTERMEDIATE,
        .policy_oid = CERTS_POLICY_CP_1_4,
        .crl_url = "https://pa.example/crl",
        .crl_issuer = certs_cert_subject_name(certs_chain_get(fixture->pa.crl_chain, 0)),
    };

    certify(fixture, &root, "sti-ca-root", &fixture->root_key, &fixture->root);
    certify(fixture, &issuing, "sti-ca-issuing", &fixture->issuing_key, &fixture->issuing_chain);
    must(certs_chain_append(fixture->issuing_chain, fixture->root), "chain");
}

static void
open_server(struct ca_fixture *fixture)
{
    must(acme_store_open(postgres_or_file(fixture->store_path), acme_server_migrations,
                         &fixture->store),
         "store");
    fixture->config.store = fixture->store;
    must(acme_server_new(&fixture->config, &fixture->server), "server");
}

static void
close_server(struct ca_fixture *fixture)
{
    acme_server_free(fixture->server);
    acme_store_close(fixture->store);
}

void
ca_fixture_restart(struct ca_fixture *fixture)
{
    close_server(fixture);
    open_server(fixture);
}

void
ca_fixture_start(struct ca_fixture *fixture)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
    *fixture = (struct ca_fixture){.server = NULL};
    pa_fixture_start(&fixture->pa, (struct acme_http_handler){
                                       .handle = handle, .is_slow = is_slow, .context = fixture});
    certify_all(fixture);
    snprintf(fixture->store_path, sizeof(fixture->store_path), "%s/sti-ca.db", softhsm_dir());
    snprintf(fixture->url, sizeof(fixture->url), "%s", fixture->pa.base_url);
    snprintf(fixture->tls_ca, sizeof(fixture->tls_ca), "%s/%s", softhsm_dir(),
             ACME_PROVISION_TLS_ROOT_FILE);
    snprintf(fixture->authority, sizeof(fixture->authority), "%s/pa/", fixture->pa.base_url);
    fixture->authorities[0] = fixture->authority;
    fixture->config = (struct acme_server_config){
        .base_url = fixture->pa.base_url,
        .token = fixture->pa.token,
        .issuing_key = fixture->issuing_key,
        .issuing_chain = fixture->issuing_chain,
        .pa_anchors = fixture->pa.root,
        .http = fixture->pa.http,
        .authorities = fixture->authorities,
        .policy_oid = CERTS_POLICY_CP_1_4,
        .crl_url = "https://pa.example/crl",
        .crl_issuer = certs_cert_subject_name(certs_chain_get(fixture->pa.crl_chain, 0)),
        .country = "US",
        .valid_days = 90,
        .backdate_s = 300,
        .now = ca_fixture_time,
    };
    open_server(fixture);
}

void
ca_fixture_stop(struct ca_fixture *fixture)
{
    drop_connection();
    close_server(fixture);
    certs_chain_free(fixture->issuing_chain);
    certs_chain_free(fixture->root);
    hsm_key_free(fixture->issuing_key);
    hsm_key_free(fixture->root_key);
    pa_fixture_stop(&fixture->pa);
}

int64_t
ca_fixture_count(struct ca_fixture *fixture, const char *sql)
{
    struct acme_rows *rows = NULL;
    int64_t count;

    must(acme_store_query(fixture->store, &rows, sql, ""), sql);
    count = acme_rows_next(rows) ? acme_rows_int(rows, 0) : -1;
    acme_rows_free(rows);
    return count;
}

void
ca_fixture_sql(struct ca_fixture *fixture, const char *sql)
{
    must(acme_store_run(fixture->store, NULL, sql, ""), sql);
}

void
ca_fixture_order_sql(struct ca_fixture *fixture, const char *url, const char *sql)
{
    must(acme_store_run(fixture->store, NULL, sql, "s", strrchr(url, '/') + 1), sql);
}

/* ---- answers ---- */

void
got_clear(struct got *got)
{
    free(got->headers);
    free(got->body);
    json_decref(got->json);
    *got = (struct got){.status = 0};
}

const char *
got_header_n(const struct got *got, const char *name, int n)
{
    static _Thread_local char values[4][CA_URL_SIZE];
    static _Thread_local size_t next;
    char *value = values[next++ % 4];
    size_t len = strlen(name);

    value[0] = '\0';
    for (const char *line = got->headers; line != NULL; line = strstr(line, "\r\n")) {
        line += *line == '\r' ? 2 : 0;
        if (strncasecmp(line, name, len) == 0 && line[len] == ':' && n-- == 0) {
            line += len + 1 + strspn(line + len + 1, " ");
            snprintf(value, CA_URL_SIZE, "%.*s", (int)strcspn(line, "\r"), line);
            break;
        }
    }
    return value;
}

const char *
got_header(const struct got *got, const char *name)
{
    return got_header_n(got, name, 0);
}

const char *
got_text(const struct got *got, const char *name)
{
    const char *text = json_string_value(json_object_get(got->json, name));

    if (text == NULL)
        fail_msg("no \"%s\" in %d %s", name, got->status, got->body);
    return text;
}

const char *
got_problem(const struct got *got)
{
    const char *type = json_string_value(json_object_get(got->json, "type"));

    if (type == NULL || strncmp(type, ACME_ERROR_PREFIX, strlen(ACME_ERROR_PREFIX)) != 0)
        return "";
    return type + strlen(ACME_ERROR_PREFIX);
}

/* ---- requests ---- */

struct growing {
    char *text;
    size_t len;
};

static size_t
grow(char *octets, size_t size, size_t count, void *to)
{
    struct growing *growing = to;

    growing->text = realloc(growing->text, growing->len + size * count + 1);
    if (growing->text == NULL)
        abort();
    memcpy(growing->text + growing->len, octets, size * count);
    growing->len += size * count;
    growing->text[growing->len] = '\0';
    return size * count;
}

static void
full_url(const struct ca_fixture *fixture, const char *path, char out[CA_URL_SIZE])
{
    snprintf(out, CA_URL_SIZE, "%s%s", path[0] == '/' ? fixture->url : "", path);
}

/* A request and its answer. */
struct transfer {
    const char *method, *content_type, *body;
    char url[CA_URL_SIZE];
    struct growing headers, text;
    long status;
};

static CURLcode
perform(const struct ca_fixture *fixture, struct transfer *transfer)
{
    struct curl_slist *extra = curl_slist_append(NULL, "Expect:");
    CURL *curl = connection();
    char type[128];
    CURLcode rc;

    snprintf(type, sizeof(type), "Content-Type: %s",
             transfer->content_type != NULL ? transfer->content_type : "");
    extra = curl_slist_append(extra, type);
    for (size_t i = 0; fixture->headers[i] != NULL; i++)
        extra = curl_slist_append(extra, fixture->headers[i]);
    curl_easy_setopt(curl, CURLOPT_URL, transfer->url);
    curl_easy_setopt(curl, CURLOPT_CAINFO, fixture->tls_ca);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, extra);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, grow);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, &transfer->headers);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, grow);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &transfer->text);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, 30L);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
    if (strcmp(transfer->method, "HEAD") == 0)
        curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
    else
        curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, transfer->method);
    if (transfer->body != NULL) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, (long)strlen(transfer->body));
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, transfer->body);
    }
    rc = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &transfer->status);
    curl_slist_free_all(extra);
    return rc;
}

static CURLcode
fetch(struct ca_fixture *fixture, const char *method, const char *path, const char *content_type,
      const char *body, struct got *got)
{
    struct transfer transfer = {.method = method, .content_type = content_type, .body = body};
    CURLcode rc;

    full_url(fixture, path, transfer.url);
    rc = perform(fixture, &transfer);
    if (rc != CURLE_OK) {
        free(transfer.headers.text);
        free(transfer.text.text);
        return rc;
    }
    *got = (struct got){.status = (int)transfer.status,
                        .headers = transfer.headers.text,
                        .body = transfer.text.text != NULL ? transfer.text.text : strdup("")};
    got->json = json_loads(got->body, 0, NULL);
    return CURLE_OK;
}

void
ca_fetch(struct ca_fixture *fixture, const char *method, const char *path, const char *content_type,
         const char *body, struct got *got)
{
    CURLcode rc = fetch(fixture, method, path, content_type, body, got);

    if (rc != CURLE_OK)
        fail_msg("%s %s: %s", method, path, curl_easy_strerror(rc));
}

bool
ca_try_fetch(struct ca_fixture *fixture, const char *method, const char *path,
             const char *content_type, const char *body, struct got *got)
{
    return fetch(fixture, method, path, content_type, body, got) == CURLE_OK;
}

void
ca_nonce(struct ca_fixture *fixture, char nonce[64])
{
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    ca_fetch(fixture, "HEAD", "/acme/new-nonce", NULL, NULL, &got);
    assert_int_equal(got.status, 200);
    snprintf(nonce, 64, "%s", got_header(&got, "Replay-Nonce"));
    assert_true(strlen(nonce) >= 16);
}

void
peer_start(struct peer *peer)
{
    *peer = (struct peer){.key = peer_key_new("P-256")};
}

void
peer_stop(struct peer *peer)
{
    EVP_PKEY_free(peer->key);
}

void
peer_join(struct ca_fixture *fixture, struct peer *peer)
{
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    peer_start(peer);
    peer_post(fixture, peer, &(struct post){.path = "/acme/new-account", .payload = "{}"}, &got);
    assert_int_equal(got.status, 201);
    snprintf(peer->kid, sizeof(peer->kid), "%s", got_header(&got, "Location"));
}

static void
add_key(json_t *header, const struct peer *peer, const struct post *post)
{
    const char *kid = post->kid != NULL ? post->kid : peer->kid;
    json_t *jwk = NULL;

    if (post->without_key)
        return;
    if (kid[0] != '\0')
        json_object_set_new(header, "kid", json_string(kid));
    if (kid[0] == '\0' || post->with_jwk) {
        must(acme_jwk_new(peer->key, &jwk), "jwk");
        json_object_set_new(header, "jwk", jwk);
    }
}

static json_t *
protected_header(struct ca_fixture *fixture, const struct peer *peer, const struct post *post)
{
    json_t *header = json_pack("{s:s}", "alg", post->alg != NULL ? post->alg : "ES256");
    char url[CA_URL_SIZE], nonce[64];

    full_url(fixture, post->url != NULL ? post->url : post->path, url);
    json_object_set_new(header, "url", json_string(url));
    if (!post->no_nonce) {
        if (post->nonce == NULL)
            ca_nonce(fixture, nonce);
        json_object_set_new(header, "nonce",
                            json_string(post->nonce != NULL ? post->nonce : nonce));
    }
    add_key(header, peer, post);
    if (post->header != NULL)
        json_object_update(header, (json_t *)post->header);
    return header;
}

char *
peer_body(struct ca_fixture *fixture, const struct peer *peer, const struct post *post)
{
    json_t *header = protected_header(fixture, peer, post), *body;
    char *header_text = json_dumps(header, JSON_COMPACT), *jws, *dot[2], *text;

    jws = peer_jws(peer->key, header_text, post->payload);
    dot[0] = strchr(jws, '.');
    dot[1] = strchr(dot[0] + 1, '.');
    *dot[0] = *dot[1] = '\0';
    if (post->break_signature)
        dot[1][1] = dot[1][1] == 'A' ? 'B' : 'A';
    body = json_pack("{s:s, s:s, s:s}", "protected", jws, "payload", dot[0] + 1, "signature",
                     dot[1] + 1);
    text = json_dumps(body, JSON_COMPACT);
    json_decref(body);
    json_decref(header);
    free(header_text);
    free(jws);
    return text;
}

void
peer_post(struct ca_fixture *fixture, const struct peer *peer, const struct post *post,
          struct got *got)
{
    char *body = peer_body(fixture, peer, post);

    ca_fetch(fixture, "POST", post->path,
             post->content_type != NULL ? post->content_type : "application/jose+json", body, got);
    free(body);
}

void
peer_send(struct ca_fixture *fixture, const struct peer *peer, const char *path,
          const char *payload, struct got *got)
{
    peer_post(fixture, peer, &(struct post){.path = path, .payload = payload}, got);
}

/* ---- external account binding ---- */

/* free() it. */
static uint8_t *
read_binding_key(const char *dir, const char *id, size_t *len)
{
    char path[4300], text[200] = "";
    uint8_t *key = NULL;
    FILE *file;

    snprintf(path, sizeof(path), "%s/%s", dir, id);
    file = fopen(path, "r");
    if (file == NULL || fgets(text, sizeof(text), file) == NULL)
        abort();
    fclose(file);
    text[strcspn(text, "\n")] = '\0';
    must(acme_base64url_decode(text, strlen(text), &key, len), path);
    return key;
}

/* RFC 7515 section 5.1, with HMAC-SHA-256 regardless of the header; free() it. */
static char *
mac_of(const uint8_t *key, size_t len, const char *protected64, const char *payload64)
{
    char *input = NULL, *text;
    uint8_t mac[32];

    if (asprintf(&input, "%s.%s", protected64, payload64) < 0 ||
        HMAC(EVP_sha256(), key, (int)len, (uint8_t *)input, strlen(input), mac, NULL) == NULL)
        abort();
    text = acme_base64url_encode(mac, sizeof(mac));
    free(input);
    return text;
}

/* free() it. */
static char *
json_base64url(json_t *value)
{
    char *text = json_dumps(value, JSON_COMPACT);
    char *encoded = acme_base64url_encode(text, strlen(text));

    free(text);
    json_decref(value);
    return encoded;
}

char *
peer_binding_payload(struct ca_fixture *fixture, const struct peer *peer,
                     const struct peer_binding *binding)
{
    const char *key_of = binding->key_of != NULL ? binding->key_of : binding->kid;
    char url[CA_URL_SIZE], *protected64, *payload64, *mac, *payload;
    json_t *jwk = NULL, *object;
    uint8_t *key;
    size_t len;

    full_url(fixture, binding->url != NULL ? binding->url : "/acme/new-account", url);
    protected64 = json_base64url(json_pack("{s:s, s:s, s:s, s:s*}", "alg",
                                           binding->alg != NULL ? binding->alg : "HS256", "kid",
                                           binding->kid, "url", url, "nonce", binding->nonce));
    must(acme_jwk_new(binding->payload_key != NULL ? binding->payload_key : peer->key, &jwk),
         "jwk");
    payload64 = json_base64url(jwk);
    key = read_binding_key(binding->dir, key_of, &len);
    mac = mac_of(key, len, protected64, payload64);
    object = json_pack("{s:{s:s, s:s, s:s}}", "externalAccountBinding", "protected", protected64,
                       "payload", payload64, "signature", mac);
    payload = json_dumps(object, JSON_COMPACT);
    json_decref(object);
    free(mac);
    free(key);
    free(payload64);
    free(protected64);
    return payload;
}

/* ---- orders in progress ---- */

static char *
spc_base64url(const char *spc)
{
    struct certs_tnauthlist *list = NULL;
    const uint8_t *der;
    size_t len;
    char *text;

    must(certs_tnauthlist_from_spc(spc, &list), spc);
    der = certs_tnauthlist_der(list, &len);
    text = acme_base64url_encode(der, len);
    certs_tnauthlist_free(list);
    return text;
}

char *
peer_order_payload(const char *spc)
{
    char *identifier = spc_base64url(spc), *payload = NULL;

    if (asprintf(&payload, "{\"identifiers\":[{\"type\":\"TNAuthList\",\"value\":\"%s\"}]}",
                 identifier) < 0)
        abort();
    free(identifier);
    return payload;
}

static void
copy_url(char out[CA_URL_SIZE], const json_t *text)
{
    assert_true(json_is_string(text));
    snprintf(out, CA_URL_SIZE, "%s", json_string_value(text));
}

void
peer_order(struct ca_fixture *fixture, const struct peer *peer, const char *spc,
           struct peer_order *order)
{
    CLEAR_AFTER(got_clear) struct got created = {.status = 0};
    CLEAR_AFTER(got_clear) struct got authz = {.status = 0};
    char *payload = peer_order_payload(spc);

    peer_send(fixture, peer, "/acme/new-order", payload, &created);
    free(payload);
    assert_int_equal(created.status, 201);
    snprintf(order->url, CA_URL_SIZE, "%s", got_header(&created, "Location"));
    copy_url(order->finalize, json_object_get(created.json, "finalize"));
    copy_url(order->authz, json_array_get(json_object_get(created.json, "authorizations"), 0));
    peer_send(fixture, peer, order->authz, "", &authz);
    assert_int_equal(authz.status, 200);
    copy_url(order->challenge,
             json_object_get(json_array_get(json_object_get(authz.json, "challenges"), 0), "url"));
}

char *
peer_token(struct ca_fixture *fixture, const struct token_plan *plan)
{
    struct certs_tnauthlist *list = NULL;
    char fingerprint[ACME_FINGERPRINT_LEN + 1], x5u[CA_URL_SIZE], jti[32];
    static atomic_int number;
    char *token = NULL;

    must(certs_tnauthlist_from_spc(plan->spc, &list), plan->spc);
    if (plan->account_key != NULL)
        must(acme_fingerprint_format(plan->account_key, ACME_FINGERPRINT_THUMBPRINT, fingerprint),
             "fingerprint");
    snprintf(x5u, sizeof(x5u), "%s/pa/signer.pem", fixture->pa.base_url);
    snprintf(jti, sizeof(jti), "jti-%d", atomic_fetch_add(&number, 1));
    must(acme_authority_token_new(
             &(struct acme_authority_token_request){
                 .iss = fixture->pa.base_url,
                 .x5u = plan->x5u != NULL ? plan->x5u : x5u,
                 .exp = plan->exp != 0 ? plan->exp : ca_fixture_time() + 600,
                 .jti = plan->jti != NULL ? plan->jti : jti,
                 .tkvalue = plan->tkvalue,
                 .tnauthlist = list,
                 .ca = plan->ca,
                 .fingerprint = plan->fingerprint != NULL ? plan->fingerprint : fingerprint},
             plan->signer != NULL ? plan->signer : fixture->pa.signer_key, &token),
         "SPC token");
    certs_tnauthlist_free(list);
    return token;
}

void
peer_order_ready(struct ca_fixture *fixture, const struct peer *peer, const char *spc,
                 struct peer_order *order)
{
    CLEAR_AFTER(got_clear) struct got answered = {.status = 0};
    char *token = peer_token(fixture, &(struct token_plan){.spc = spc, .account_key = peer->key});
    char *payload = NULL;

    peer_order(fixture, peer, spc, order);
    if (asprintf(&payload, "{\"tkauth\":\"%s\"}", token) < 0)
        abort();
    peer_send(fixture, peer, order->challenge, payload, &answered);
    assert_int_equal(answered.status, 200);
    assert_string_equal(got_text(&answered, "status"), "valid");
    free(payload);
    free(token);
}

/* ---- certificates ---- */

static void
push_extension(STACK_OF(X509_EXTENSION) * list, const char *oid, const char *value)
{
    X509_EXTENSION *extension = X509V3_EXT_nconf(NULL, NULL, oid, value);

    if (extension == NULL || sk_X509_EXTENSION_push(list, extension) == 0)
        abort();
}

static X509_REQ *
make_csr(EVP_PKEY *key, const char *spc, bool ca)
{
    X509_REQ *csr = X509_REQ_new();
    STACK_OF(X509_EXTENSION) *list = sk_X509_EXTENSION_new_null();
    char value[160];
    size_t at;

    X509_NAME_add_entry_by_NID(X509_REQ_get_subject_name(csr), NID_organizationName, MBSTRING_UTF8,
                               (const uint8_t *)"Somebody Else", -1, -1, 0);
    if (spc != NULL) {
        at = (size_t)snprintf(value, sizeof(value), "DER:30%02zXA0%02zX16%02zX", strlen(spc) + 4,
                              strlen(spc) + 2, strlen(spc));
        for (const char *c = spc; *c != '\0'; c++)
            at += (size_t)snprintf(value + at, sizeof(value) - at, "%02X", (unsigned char)*c);
        push_extension(list, "1.3.6.1.5.5.7.1.26", value);
    }
    push_extension(list, "basicConstraints", ca ? "critical,CA:TRUE" : "critical,CA:FALSE");
    if (X509_REQ_set_pubkey(csr, key) != 1 || X509_REQ_add_extensions(csr, list) != 1 ||
        X509_REQ_sign(csr, key, EVP_sha256()) <= 0)
        abort();
    sk_X509_EXTENSION_pop_free(list, X509_EXTENSION_free);
    return csr;
}

char *
peer_csr_payload(EVP_PKEY *key, const char *spc, bool ca)
{
    X509_REQ *csr = make_csr(key, spc, ca);
    uint8_t *der = NULL;
    int len = i2d_X509_REQ(csr, &der);
    char *text = acme_base64url_encode(der, (size_t)len), *payload = NULL;

    if (len <= 0 || text == NULL || asprintf(&payload, "{\"csr\":\"%s\"}", text) < 0)
        abort();
    free(text);
    OPENSSL_free(der);
    X509_REQ_free(csr);
    return payload;
}

char *
peer_csr_pem(EVP_PKEY *key, const char *spc, bool ca)
{
    X509_REQ *csr = make_csr(key, spc, ca);
    uint8_t *der = NULL;
    int len = i2d_X509_REQ(csr, &der);
    char *pem = NULL;

    if (len <= 0)
        abort();
    must(certs_csr_pem(der, (size_t)len, &pem), "CSR");
    OPENSSL_free(der);
    X509_REQ_free(csr);
    return pem;
}

/* DER of the first certificate; free() it. */
static uint8_t *
pem_leaf_der(const char *pem, size_t *len)
{
    struct certs_chain *chain = NULL;
    struct hsm_reason why = {""};
    uint8_t *der = NULL;

    if (certs_chain_parse_pem(pem, strlen(pem), CERTS_CHAIN_LEN_MAX, &chain, &why) != HSM_OK)
        fail_msg("%s", why.text);
    must(certs_cert_der(certs_chain_get(chain, 0), &der, len), "DER");
    certs_chain_free(chain);
    return der;
}

void
peer_assert_status(struct ca_fixture *fixture, const struct peer *peer, const char *url,
                   const char *status)
{
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    peer_send(fixture, peer, url, "", &got);
    assert_int_equal(got.status, 200);
    assert_string_equal(got_text(&got, "status"), status);
}

void
peer_finalize(struct ca_fixture *fixture, const struct peer *peer, const struct peer_order *order,
              EVP_PKEY *key, const char *spc, bool is_ca, struct got *got)
{
    char *payload = peer_csr_payload(key, spc, is_ca);

    peer_send(fixture, peer, order->finalize, payload, got);
    free(payload);
}

uint8_t *
peer_download(struct ca_fixture *fixture, const struct peer *peer, const char *order_url,
              size_t *len)
{
    CLEAR_AFTER(got_clear) struct got order = {.status = 0};
    CLEAR_AFTER(got_clear) struct got chain = {.status = 0};

    peer_send(fixture, peer, order_url, "", &order);
    assert_string_equal(got_text(&order, "status"), "valid");
    peer_send(fixture, peer, got_text(&order, "certificate"), "", &chain);
    assert_int_equal(chain.status, 200);
    assert_string_equal(got_header(&chain, "Content-Type"), "application/pem-certificate-chain");
    return pem_leaf_der(chain.body, len);
}

void
peer_enrol(struct ca_fixture *fixture, const struct peer *peer, const char *spc,
           struct peer_order *order)
{
    EVP_PKEY *key = peer_key_new("P-256");
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    peer_order_ready(fixture, peer, spc, order);
    peer_finalize(fixture, peer, order, key, spc, false, &got);
    assert_int_equal(got.status, 200);
    assert_string_equal(got_text(&got, "status"), "valid");
    EVP_PKEY_free(key);
}
