/* server_web_order.c - the page of an order, and its chain. */
#include "server_web_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <acme/json.h>
#include <certs/crl.h>
#include <hsm/log.h>
#include <hsm/time.h>

#define CHAIN_TYPE "application/pem-certificate-chain"

/* A row; all borrowed from it. */
struct manual {
    struct acme_rows *rows;
    const char *id, *status, *error, *certificate, *spc, *organization, *country;
    const char *chain; /* PEM; NULL: not yet */
    const uint8_t *serial;
    size_t serial_len;
    time_t not_before, not_after;
    time_t revoked; /* 0: not revoked */
    int reason;
};

/* The order's id authorizes access: it is 128 random bits and was shown to the requester only. */
static bool
load(struct acme_web_call *call, struct manual *out)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st = acme_store_query(
        call->server->config.store, &rows,
        "SELECT acme_order.id, acme_order.status, acme_order.error, issuance.certificate,"
        " issuance.spc, issuance.organization, issuance.country, issuance.chain, issuance.serial,"
        " issuance.not_before, issuance.not_after, revocation.revoked, revocation.reason"
        " FROM acme_order JOIN issuance ON issuance.order_id = acme_order.id LEFT JOIN revocation"
        " ON revocation.order_id = acme_order.id WHERE acme_order.id = ? AND"
        " acme_order.account = ?",
        "ss", call->params[0], ACME_WEB_MANUAL);

    if (st != HSM_OK) {
        acme_web_fault(call, st);
        return false;
    }
    if (!acme_rows_next(rows)) {
        acme_web_say(call, 404, "No such request", "There is no request of this address.");
        return false;
    }
    out->id = acme_rows_text(rows, 0);
    out->status = acme_rows_text(rows, 1);
    out->error = acme_rows_text(rows, 2);
    out->certificate = acme_rows_text(rows, 3);
    out->spc = acme_rows_text(rows, 4);
    out->organization = acme_rows_text(rows, 5);
    out->country = acme_rows_text(rows, 6);
    out->chain = acme_rows_text(rows, 7);
    out->serial = acme_rows_blob(rows, 8, &out->serial_len);
    out->not_before = (time_t)acme_rows_int(rows, 9);
    out->not_after = (time_t)acme_rows_int(rows, 10);
    out->revoked = (time_t)acme_rows_int(rows, 11);
    out->reason = (int)acme_rows_int(rows, 12);
    out->rows = rows;
    rows = NULL;
    return true;
}

static void
show_waiting(struct acme_web_call *call, const struct manual *manual)
{
    acme_http_response_header(call->response, "Retry-After", ACME_RETRY_AFTER);
    acme_web_begin(call, "Your certificate is on its way");
    acme_html_add(&call->page,
                  "<p class=\"bad\" role=\"status\">The hardware token of this STI-CA, which holds "
                  "the issuing key, does not answer at the moment.</p>\n"
                  "<p>Your request is recorded and nothing is lost: the certificate for SPC %s is "
                  "issued as soon as the token is back. Keep the address of this page, and load it "
                  "again later. You need not paste anything again.</p>\n"
                  "<p><a class=\"button\" href=\"/web/order/%s\">Look again</a></p>\n",
                  manual->spc, manual->id);
    acme_web_end(call, 200);
}

static void
show_void(struct acme_web_call *call, const struct manual *manual)
{
    DEFER(json_decref)
    json_t *problem = manual->error != NULL ? json_loads(manual->error, 0, NULL) : NULL;
    const char *detail = json_string_value(json_object_get(problem, "detail"));

    acme_web_begin(call, "Nothing was issued");
    acme_html_add(&call->page,
                  "<p class=\"bad\">The certificate for SPC %s was not issued: %s.</p>\n"
                  "<p>Ask the STI-PA for a new SPC token, make a new key with its CSR, and "
                  "<a href=\"/web\">begin again</a>.</p>\n",
                  manual->spc, detail != NULL ? detail : "the request could not be completed");
    acme_web_end(call, 200);
}

/* Show where an STI-VS finds the chain (ATIS-1000074, RFC 9448 section 7). */
static void
show_publication(struct acme_web_call *call, const struct manual *manual)
{
    char x5u[ACME_URL_MAX + 1];

    acme_html_add(&call->page, "<h2>Where it is published</h2>\n");
    if (call->server->config.chains_hosted) {
        acme_chain_hosted_url(call->server, manual->certificate, x5u);
        acme_html_add(&call->page,
                      "<p>This STI-CA serves the chain to everybody. Sign calls with this x5u, or "
                      "publish the file in an STI-CR of your own:</p>\n<pre>%s</pre>\n",
                      x5u);
        return;
    }
    acme_html_add(&call->page,
                  "<p>Publish the file in your STI-CR, over HTTPS on port 443 or 8443: the URL "
                  "there is the x5u of the calls that you sign. This STI-CA does not serve it to "
                  "others.</p>\n");
}

static void
show_standing(struct acme_web_call *call, const struct manual *manual)
{
    char at[HSM_TIME_LEN + 1];

    if (manual->revoked == 0) {
        acme_html_add(&call->page,
                      "<p class=\"good\" role=\"status\">The certificate for SPC %s "
                      "is issued.</p>\n",
                      manual->spc);
        return;
    }
    hsm_time_format(manual->revoked, at);
    acme_html_add(&call->page,
                  "<p class=\"bad\">This certificate is revoked since %s, reason %s.</p>\n", at,
                  certs_crl_reason_text(manual->reason));
}

static void
show_issued(struct acme_web_call *call, const struct manual *manual)
{
    char serial[ACME_WEB_SERIAL_LEN + 1];

    acme_web_serial(manual->serial, manual->serial_len, serial);
    acme_web_begin(call, "Your certificate");
    show_standing(call, manual);
    acme_html_add(&call->page,
                  "<p><a class=\"button\" href=\"/web/order/%s/chain.pem\" download=\"sti-%s.pem\">"
                  "Download the chain (PEM)</a></p>\n<dl>\n",
                  manual->id, manual->spc);
    acme_html_add(&call->page, "<dt>Subject</dt><dd>CN=SHAKEN %s, O=%s, C=%s</dd>\n", manual->spc,
                  manual->organization, manual->country);
    acme_web_row(call, "Serial number", serial);
    acme_web_time_row(call, "Valid from", manual->not_before);
    acme_web_time_row(call, "Valid until", manual->not_after);
    acme_html_add(&call->page, "</dl>\n");
    show_publication(call, manual);
    acme_html_add(&call->page, "<h2>The chain</h2>\n<pre tabindex=\"0\">%s</pre>\n", manual->chain);
    acme_web_end(call, 200);
}

void
acme_web_order(struct acme_web_call *call)
{
    struct manual manual = {.rows = NULL};
    enum hsm_status st = HSM_OK;

    if (!load(call, &manual))
        return;
    if (strcmp(manual.status, ACME_PROCESSING) == 0) {
        st = acme_issue_complete(call->server, manual.id, false, call->now);
        acme_rows_free(manual.rows);
        manual.rows = NULL;
        if (!load(call, &manual))
            return;
    }
    if (st != HSM_OK && st != HSM_ERR_BUSY)
        hsm_log(HSM_LOG_WARNING, "order %s: still processing: %s", manual.id, hsm_status_text(st));
    if (strcmp(manual.status, ACME_PROCESSING) == 0)
        show_waiting(call, &manual);
    else if (strcmp(manual.status, ACME_VALID) == 0)
        show_issued(call, &manual);
    else
        show_void(call, &manual);
    acme_rows_free(manual.rows);
}

void
acme_web_chain(struct acme_web_call *call)
{
    struct manual manual = {.rows = NULL};
    char disposition[CERTS_SPC_MAX + 48];

    if (!load(call, &manual))
        return;
    if (manual.chain == NULL) {
        acme_web_say(call, 404, "No certificate", "This request has no certificate.");
    } else {
        snprintf(disposition, sizeof(disposition), "attachment; filename=\"sti-%s.pem\"",
                 manual.spc);
        acme_http_response_header(call->response, "Content-Disposition", disposition);
        acme_http_respond(call->response, 200, CHAIN_TYPE, manual.chain, strlen(manual.chain));
    }
    acme_rows_free(manual.rows);
}
