/* server_renewal.c - ACME renewal information (RFC 9773): renewalInfo and "replaces". */

#include "server_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/x509.h>

#include <acme/base64url.h>
#include <acme/json.h>
#include <certs/cert.h>
#include <hsm/defer.h>

#include "defer_internal.h"

#define RENEW_FROM_PERCENT  66 /* of a certificate's lifetime */
#define RENEW_UNTIL_PERCENT 83
#define RETRY_AFTER         "21600" /* seconds: RFC 9773 section 4.3.2 recommends six hours */
#define MAX_AGE             "300" /* seconds: after a revocation, clients must renew soon */
#define KEY_COMPROMISE      1 /* RFC 5280 section 5.3.1 */
#define KEY_ID_MAX          64 /* octets of an authorityKeyIdentifier */

/* ---- certificate identifiers (RFC 9773 section 4.1) ---- */

struct certificate_id {
    uint8_t *key_id, *serial; /* owned */
    size_t key_id_len, serial_len;
};

static void
certificate_id_clear(struct certificate_id *id)
{
    free(id->key_id);
    free(id->serial);
}

static enum hsm_status
certificate_id_parse(const char *text, struct certificate_id *out)
{
    const char *dot = strchr(text, '.');
    enum hsm_status st;

    if (dot == NULL || strlen(text) > ACME_HTTP_PARAM_MAX)
        return HSM_ERR_MALFORMED;
    st = acme_base64url_decode(text, (size_t)(dot - text), &out->key_id, &out->key_id_len);
    if (st == HSM_OK)
        st = acme_base64url_decode(dot + 1, strlen(dot + 1), &out->serial, &out->serial_len);
    if (st == HSM_OK && (out->key_id_len == 0 || out->key_id_len > KEY_ID_MAX ||
                         out->serial_len == 0 || out->serial_len > CERTS_SERIAL_MAX))
        st = HSM_ERR_MALFORMED;
    return st;
}

/* A certificate of this CA, with what renewal needs; borrowed from the row. */
struct renewable {
    struct acme_rows *rows;
    const char *account, *spc;
    time_t not_before, not_after;
    time_t compelled; /* since when it was revoked, or its key compromised; 0: neither */
};

static bool
has_key_id(const uint8_t *der, size_t len, const struct certificate_id *id)
{
    DEFER(X509_free) X509 *cert = NULL;
    const uint8_t *key_id;
    size_t key_id_len;

    if (certs_cert_parse_der(der, len, &cert, NULL) != HSM_OK)
        return false;
    key_id = certs_cert_authority_key_id(cert, &key_id_len);
    return key_id != NULL && key_id_len == id->key_id_len &&
           memcmp(key_id, id->key_id, key_id_len) == 0;
}

/* HSM_ERR_NOT_FOUND: this CA has issued no certificate with this identifier. */
static enum hsm_status
find(struct acme_store *store, const struct certificate_id *id, struct renewable *out)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    const uint8_t *der;
    size_t len;
    enum hsm_status st = acme_store_query(
        store, &rows,
        "SELECT account, spc, not_before, not_after, der, (SELECT min(revoked) FROM revocation JOIN"
        " issuance AS other USING (order_id) WHERE other.order_id = issuance.order_id OR"
        " (other.thumbprint = issuance.thumbprint AND reason = ?)) FROM issuance WHERE serial = ?"
        " AND der IS NOT NULL",
        "ib", (int64_t)KEY_COMPROMISE, id->serial, id->serial_len);

    if (st != HSM_OK)
        return st;
    if (!acme_rows_next(rows))
        return HSM_ERR_NOT_FOUND;
    der = acme_rows_blob(rows, 4, &len);
    if (!has_key_id(der, len, id))
        return HSM_ERR_NOT_FOUND;
    out->account = acme_rows_text(rows, 0);
    out->spc = acme_rows_text(rows, 1);
    out->not_before = (time_t)acme_rows_int(rows, 2);
    out->not_after = (time_t)acme_rows_int(rows, 3);
    out->compelled = (time_t)acme_rows_int(rows, 5);
    out->rows = rows;
    rows = NULL;
    return HSM_OK;
}

/* ---- renewalInfo ---- */

/* RFC 9773 section 4.2: a window in the past means to renew at once. */
static void
choose_window(const struct acme_server_config *config, const struct renewable *cert, time_t *start,
              time_t *end)
{
    time_t life = cert->not_after - cert->not_before;
    unsigned from = config->renew_from_percent, until = config->renew_until_percent;

    *start = cert->not_before + life * (from != 0 ? from : RENEW_FROM_PERCENT) / 100;
    *end = cert->not_before + life * (until != 0 ? until : RENEW_UNTIL_PERCENT) / 100;
    if (cert->compelled != 0 && cert->compelled < *end) {
        *end = cert->compelled;
        *start = cert->compelled - 1;
    }
    if (*end <= *start)
        *end = *start + 1;
}

static void
respond_window(struct acme_call *call, const struct renewable *cert)
{
    json_t *window = json_object();
    time_t start, end;

    choose_window(&call->server->config, cert, &start, &end);
    if (window != NULL &&
        (!acme_json_add_time(window, "start", start) || !acme_json_add_time(window, "end", end))) {
        json_decref(window);
        window = NULL;
    }
    acme_http_response_header(call->response, "Retry-After", RETRY_AFTER);
    acme_http_response_header(call->response, "Cache-Control", "public, max-age=" MAX_AGE);
    acme_call_json(call, 200,
                   window != NULL ? json_pack("{s:o}", "suggestedWindow", window) : NULL);
}

static bool
is_within_limit(struct acme_call *call)
{
    char address[ACME_ADDRESS_MAX + 1];
    time_t wait_s;

    acme_limit_address(acme_http_request_peer(call->request), address);
    wait_s = acme_limit_here_take(call->server->renewals, address, call->now);
    if (wait_s == 0)
        return true;
    acme_http_response_header(call->response, "Cache-Control", "no-store");
    acme_limit_refuse(call, "requests for renewalInfo", wait_s);
    return false;
}

/* Caches may keep a success for a while, but no error. */
void
acme_renewal_info(struct acme_call *call)
{
    CLEAR_AFTER(certificate_id_clear) struct certificate_id id = {.key_id = NULL};
    struct renewable cert = {.rows = NULL};
    enum hsm_status st;

    if (!is_within_limit(call))
        return;
    st = certificate_id_parse(call->params[0], &id);
    if (st == HSM_OK)
        st = find(call->server->config.store, &id, &cert);
    if (st != HSM_OK)
        acme_http_response_header(call->response, "Cache-Control", "no-store");
    if (st == HSM_OK)
        respond_window(call, &cert);
    else if (st == HSM_ERR_MALFORMED)
        acme_call_refuse(call, ACME_MALFORMED, 400, "not a certificate identifier");
    else if (st == HSM_ERR_NOT_FOUND)
        acme_call_refuse(call, ACME_MALFORMED, 404, "no such certificate");
    else
        acme_call_fault(call, st);
    acme_rows_free(cert.rows);
}

/* ---- "replaces" of a newOrder ---- */

static bool
refuse(struct acme_call *call, const char *why)
{
    acme_call_refuse(call, ACME_MALFORMED, 400, "replaces: %s", why);
    return false;
}

/* RFC 9773 section 5: same account, same identifier. */
static bool
may_replace(struct acme_call *call, const struct renewable *cert, const char *spc)
{
    if (strcmp(cert->account, call->account) != 0) {
        acme_call_refuse(call, ACME_UNAUTHORIZED, 403,
                         "replaces: the certificate is another account's");
        return false;
    }
    return strcmp(cert->spc, spc) == 0 || refuse(call, "the certificate is for another SPC");
}

bool
acme_replaces_take(struct acme_call *call, const json_t *payload, const char *spc, const char **out)
{
    CLEAR_AFTER(certificate_id_clear) struct certificate_id id = {.key_id = NULL};
    struct renewable cert = {.rows = NULL};
    struct hsm_reason why = {""};
    const char *text = NULL;
    bool good = false;
    enum hsm_status st;

    if (acme_json_string_optional(payload, "replaces", &text, &why) != HSM_OK) {
        acme_call_refuse(call, ACME_MALFORMED, 400, "%s", why.text);
        return false;
    }
    if (text == NULL)
        return true;
    st = certificate_id_parse(text, &id);
    if (st == HSM_OK)
        st = find(call->server->config.store, &id, &cert);
    if (st == HSM_OK)
        good = may_replace(call, &cert, spc);
    else if (st == HSM_ERR_MALFORMED || st == HSM_ERR_NOT_FOUND)
        good = refuse(call, "not the identifier of a certificate of this CA");
    else
        acme_call_fault(call, st);
    acme_rows_free(cert.rows);
    if (good)
        *out = text;
    return good;
}

void
acme_replaces_refuse(struct acme_call *call)
{
    acme_call_refuse(call, ACME_ALREADY_REPLACED, 409,
                     "replaces: another order replaces that certificate");
}
