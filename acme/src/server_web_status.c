/* server_web_status.c - the status page for the STI-CA's operator. */
#include "server_web_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <certs/cert.h>
#include <certs/crl.h>
#include <hsm/time.h>
#include <hsm/token.h>

#define WEEK_S      (7 * ACME_DAY_S)
#define EXPIRING_S  (14 * ACME_DAY_S)
#define SHOWN_MAX   50 /* rows of a table */
#define CRL_FRESH_S 60 /* for how long a fetched CRL is shown */

/* ---- tables ---- */

struct table {
    const char *id, *title;
    const char *columns[6]; /* ends with NULL; a column whose name begins with '#' has numbers */
    void (*add)(struct acme_web_call *call, const struct acme_rows *rows); /* the cells of a row */
};

static void
add_head(struct acme_web_call *call, const struct table *table)
{
    acme_html_add(&call->page,
                  "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-labelledby=\"%s\">\n"
                  "<table>\n<thead><tr>",
                  table->id);
    for (const char *const *column = table->columns; *column != NULL; column++) {
        if (**column == '#')
            acme_html_add(&call->page, "<th scope=\"col\" class=\"number\">%s</th>", *column + 1);
        else
            acme_html_add(&call->page, "<th scope=\"col\">%s</th>", *column);
    }
    acme_html_add(&call->page, "</tr></thead>\n<tbody>\n");
}

static void
show_rows(struct acme_web_call *call, const struct table *table, struct acme_rows *rows)
{
    acme_html_add(&call->page, "<h2 id=\"%s\">%s</h2>\n", table->id, table->title);
    if (acme_rows_count(rows) == 0) {
        acme_html_add(&call->page, "<p>None.</p>\n");
        return;
    }
    add_head(call, table);
    while (acme_rows_next(rows)) {
        acme_html_add(&call->page, "<tr>");
        table->add(call, rows);
        acme_html_add(&call->page, "</tr>\n");
    }
    acme_html_add(&call->page, "</tbody>\n</table>\n</div>\n");
    if (acme_rows_count(rows) == SHOWN_MAX)
        acme_html_add(&call->page, "<p>The first %lld are shown.</p>\n", (long long)SHOWN_MAX);
}

static void
add_cell(struct acme_web_call *call, const char *value)
{
    acme_html_add(&call->page, "<td>%s</td>", value);
}

static void
add_time_cell(struct acme_web_call *call, int64_t t)
{
    char text[HSM_TIME_LEN + 1];

    hsm_time_format((time_t)t, text);
    add_cell(call, text);
}

static void
add_number_cell(struct acme_web_call *call, int64_t n)
{
    acme_html_add(&call->page, "<td class=\"number\">%lld</td>", (long long)n);
}

static void
add_serial_cell(struct acme_web_call *call, const struct acme_rows *rows, size_t column)
{
    char text[ACME_WEB_SERIAL_LEN + 1];
    size_t len = 0;
    const uint8_t *serial = acme_rows_blob(rows, column, &len);

    acme_web_serial(serial, len, text);
    add_cell(call, text);
}

/* ---- issuance ---- */

static void
add_issuance(struct acme_web_call *call, const struct acme_rows *rows)
{
    add_cell(call, acme_rows_text(rows, 0));
    add_cell(call, acme_rows_text(rows, 1));
    add_number_cell(call, acme_rows_int(rows, 2));
    add_number_cell(call, acme_rows_int(rows, 3));
}

static enum hsm_status
show_issuance(struct acme_web_call *call)
{
    static const struct table table = {"issuance",
                                       "Orders by outcome",
                                       {"Outcome", "How", "#Last 24 hours", "#Last 7 days", NULL},
                                       add_issuance};
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st = acme_store_query(
        call->server->config.store, &rows,
        "SELECT CASE WHEN issuance.der IS NOT NULL THEN 'issued' WHEN issuance.voided = 1 THEN"
        " 'given up' WHEN status = '" ACME_PROCESSING
        "' THEN 'waiting' WHEN status = '" ACME_INVALID
        "' THEN 'refused or expired' ELSE 'open' END AS outcome, CASE WHEN acme_order.account ="
        " '" ACME_WEB_MANUAL "' THEN 'web page' ELSE 'ACME' END AS how, SUM(CASE WHEN created > ?"
        " THEN 1 ELSE 0 END), COUNT(*) FROM acme_order LEFT JOIN issuance ON issuance.order_id ="
        " acme_order.id WHERE created > ? GROUP BY 1, 2 ORDER BY 1, 2",
        "ii", (int64_t)(call->now - ACME_DAY_S), (int64_t)(call->now - WEEK_S));

    if (st == HSM_OK)
        show_rows(call, &table, rows);
    return st;
}

static void
add_waiting(struct acme_web_call *call, const struct acme_rows *rows)
{
    add_cell(call, acme_rows_text(rows, 0));
    add_cell(call, acme_rows_text(rows, 1));
    add_time_cell(call, acme_rows_int(rows, 2));
    add_time_cell(call, acme_rows_int(rows, 3));
}

static enum hsm_status
show_waiting(struct acme_web_call *call)
{
    static const struct table table = {"waiting",
                                       "Orders that wait for their certificate",
                                       {"SPC", "Order", "Since", "Last try", NULL},
                                       add_waiting};
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st = acme_store_query(
        call->server->config.store, &rows,
        "SELECT issuance.spc, acme_order.id, created, attempted FROM acme_order JOIN issuance ON"
        " issuance.order_id = acme_order.id WHERE status = '" ACME_PROCESSING "' ORDER BY created"
        " LIMIT ?",
        "i", (int64_t)SHOWN_MAX);

    if (st == HSM_OK)
        show_rows(call, &table, rows);
    return st;
}

static void
add_expiring(struct acme_web_call *call, const struct acme_rows *rows)
{
    add_cell(call, acme_rows_text(rows, 0));
    add_cell(call, acme_rows_text(rows, 1));
    add_serial_cell(call, rows, 2);
    add_time_cell(call, acme_rows_int(rows, 3));
}

static enum hsm_status
show_expiring(struct acme_web_call *call)
{
    static const struct table table = {"expiring",
                                       "Certificates that end within 14 days",
                                       {"SPC", "Organization", "Serial number", "Ends", NULL},
                                       add_expiring};
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st = acme_store_query(
        call->server->config.store, &rows,
        "SELECT spc, organization, serial, not_after FROM issuance WHERE der IS NOT NULL AND"
        " not_after > ? AND not_after <= ? AND NOT EXISTS (SELECT 1 FROM revocation WHERE"
        " revocation.order_id = issuance.order_id) ORDER BY not_after LIMIT ?",
        "iii", (int64_t)call->now, (int64_t)(call->now + EXPIRING_S), (int64_t)SHOWN_MAX);

    if (st == HSM_OK)
        show_rows(call, &table, rows);
    return st;
}

static void
add_revocations(struct acme_web_call *call, const struct acme_rows *rows)
{
    add_serial_cell(call, rows, 0);
    add_cell(call, certs_crl_reason_text((int)acme_rows_int(rows, 1)));
    add_time_cell(call, acme_rows_int(rows, 2));
    add_number_cell(call, acme_rows_int(rows, 3));
    add_time_cell(call, acme_rows_int(rows, 4));
}

static enum hsm_status
show_revocations(struct acme_web_call *call)
{
    static const struct table table = {
        "revocations",
        "Revocations that the STI-PA does not know yet",
        {"Serial number", "Reason", "Revoked", "#Tries", "Next try", NULL},
        add_revocations};
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st = acme_store_query(
        call->server->config.store, &rows,
        "SELECT serial, reason, revoked, tries, next_try FROM revocation WHERE accepted IS NULL"
        " ORDER BY revoked LIMIT ?",
        "i", (int64_t)SHOWN_MAX);

    if (st == HSM_OK)
        show_rows(call, &table, rows);
    return st;
}

static void
add_event(struct acme_web_call *call, const struct acme_rows *rows)
{
    add_time_cell(call, acme_rows_int(rows, 0));
    for (size_t column = 1; column <= 4; column++)
        add_cell(call, acme_rows_text(rows, column));
}

/* Only the latest; `sti-ca events` lists all. */
static enum hsm_status
show_events(struct acme_web_call *call)
{
    static const struct table table = {
        "events", "The latest acts", {"When", "Who", "What", "To what", "Detail", NULL}, add_event};
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st = acme_store_query(
        call->server->config.store, &rows,
        "SELECT at, who, what, subject, detail FROM event ORDER BY id DESC LIMIT ?", "i",
        (int64_t)SHOWN_MAX);

    if (st == HSM_OK)
        show_rows(call, &table, rows);
    return st;
}

/* ---- the token ---- */

static void
show_token(struct acme_web_call *call)
{
    const struct acme_server_config *config = &call->server->config;
    time_t ends = certs_chain_not_after(config->issuing_chain);
    struct hsm_token_stats stats;

    hsm_token_stats(config->token, &stats);
    acme_html_add(&call->page, "<h2>The token and its issuing key</h2>\n");
    if (!hsm_token_is_ready(config->token))
        acme_html_add(&call->page, "<p class=\"bad\">The token does not answer: %s.</p>\n",
                      hsm_status_text(stats.service));
    else if (ends <= call->now)
        acme_html_add(&call->page, "<p class=\"bad\">The issuing certificate has ended.</p>\n");
    else
        acme_html_add(&call->page, "<p class=\"good\">The token is ready.</p>\n");
    acme_html_add(&call->page,
                  "<dl>\n<dt>Issuing chain ends</dt><dd>in %lld days</dd>\n"
                  "<dt>Signatures</dt><dd>%lld, by this process since its start</dd>\n"
                  "<dt>Failed calls</dt><dd>%lld</dd>\n<dt>Times lost</dt><dd>%lld, recovered "
                  "%lld</dd>\n</dl>\n",
                  (long long)((ends - call->now) / ACME_DAY_S), (long long)stats.signatures,
                  (long long)stats.failures, (long long)stats.losses, (long long)stats.recoveries);
}

/* ---- the CRL ---- */

static struct acme_web_crl
look_at_crl(const struct acme_server_config *config, time_t now)
{
    DEFER(certs_crl_free) struct certs_crl *crl = NULL;
    struct acme_web_crl seen = {.looked = now};
    enum hsm_status st = acme_crl_fetch(config, &crl, &seen.fault);

    if (st == HSM_OK) {
        seen.this_update = certs_crl_this_update(crl);
        seen.next_update = certs_crl_next_update(crl);
        seen.number = (long long)certs_crl_number(crl);
        seen.entries = (long long)certs_crl_len(crl);
        if (config->crl_signer != NULL)
            st = acme_crl_verify(config, crl, now, &seen.fault);
    }
    if (st != HSM_OK && seen.fault.text[0] == '\0')
        (void)hsm_refuse(&seen.fault, st, "%s", hsm_status_text(st));
    return seen;
}

/* One thread fetches the CRL, and not too often; others show the previous result meanwhile. */
static struct acme_web_crl
see_crl(struct acme_web_call *call)
{
    struct acme_web *web = call->server->web;
    struct acme_web_crl seen;
    bool ours;

    pthread_mutex_lock(&web->mutex);
    ours = !web->looking &&
           (web->crl.looked > call->now || web->crl.looked + CRL_FRESH_S <= call->now);
    if (ours)
        web->looking = true;
    seen = web->crl;
    pthread_mutex_unlock(&web->mutex);
    if (!ours)
        return seen;
    seen = look_at_crl(&call->server->config, call->now);
    pthread_mutex_lock(&web->mutex);
    web->crl = seen;
    web->looking = false;
    pthread_mutex_unlock(&web->mutex);
    return seen;
}

static void
show_crl(struct acme_web_call *call)
{
    struct acme_web_crl seen = see_crl(call);

    acme_html_add(&call->page, "<h2>The CRL of the STI-PA</h2>\n");
    if (seen.looked == 0)
        acme_html_add(&call->page, "<p>It is being fetched: load this page again.</p>\n");
    else if (seen.fault.text[0] != '\0')
        acme_html_add(&call->page, "<p class=\"bad\">%s</p>\n", seen.fault.text);
    else
        acme_html_add(&call->page, "<p class=\"good\">It is %lld minutes old and good.</p>\n",
                      (long long)((call->now - seen.this_update) / 60));
    acme_html_add(&call->page, "<dl>\n");
    acme_web_row(call, "URL", call->server->config.crl_url);
    if (seen.this_update != 0) {
        acme_web_time_row(call, "This update", seen.this_update);
        acme_web_time_row(call, "Next update", seen.next_update);
        acme_html_add(&call->page, "<dt>Number</dt><dd>%lld</dd>\n<dt>Entries</dt><dd>%lld</dd>\n",
                      seen.number, seen.entries);
    }
    acme_html_add(&call->page, "</dl>\n");
}

void
acme_web_status(struct acme_web_call *call)
{
    enum hsm_status st;

    if (!acme_web_wants_operator(call))
        return;
    acme_web_begin(call, "Status");
    show_token(call);
    show_crl(call);
    st = show_issuance(call);
    if (st == HSM_OK)
        st = show_waiting(call);
    if (st == HSM_OK)
        st = show_expiring(call);
    if (st == HSM_OK)
        st = show_revocations(call);
    if (st == HSM_OK)
        st = show_events(call);
    if (st == HSM_OK) {
        acme_web_end(call, 200);
        return;
    }
    acme_html_clear(&call->page);
    acme_web_fault(call, st);
}
