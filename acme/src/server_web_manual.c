/*
 * server_web_manual.c - the manual flow (ATIS-1000080 section 6.3.1): a CSR is pasted into a form
 * with the SPC token that authorizes it, shown decoded, and certified.
 *
 * A confirmed request becomes an order of the account "manual", with its authorization, challenge
 * and intent, in one transaction. From then on it is treated like any other order, also when the
 * token is unavailable, after a crash, and for revocation.
 */
#include "server_web_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#include <acme/base64url.h>
#include <certs/cert.h>
#include <hsm/defer.h>
#include <hsm/log.h>

#define TOKEN_MAX (2 * ACME_AUTHORITY_TOKEN_MAX) /* octets, including blanks and line ends */

enum form {
    FORM_CSR,
    FORM_TOKEN,
    FORM_SECRET,
    FORM_FIELDS
};

static void clear_fields(struct acme_form_field (*fields)[FORM_FIELDS])
{
    acme_form_clear(*fields, FORM_FIELDS);
}

/* ---- the form ---- */

static const struct {
    const char *id, *label, *hint;
} inputs[ACME_WEB_FIELDS] = {
    [ACME_WEB_CSR] = {"csr", "Certificate signing request (CSR)",
                      "PKCS#10 in PEM, from BEGIN CERTIFICATE REQUEST to END. With a key on P-256"
                      " and a TNAuthList of exactly one SPC. Its subject is not used."},
    [ACME_WEB_TOKEN] = {"token", "SPC token",
                        "From the STI-PA: three parts, separated by dots. It names the SPC of the"
                        " CSR, and its fingerprint is that of the CSR's key."},
};

static const struct acme_web_refusal no_refusal;

static void
add_summary(struct acme_web_call *call, const struct acme_web_refusal *refusal)
{
    acme_html_add(&call->page,
                  "<div class=\"summary\" role=\"alert\" aria-labelledby=\"summary\">\n"
                  "<h2 id=\"summary\">Nothing was issued</h2>\n<ul>\n");
    for (int i = 0; i < ACME_WEB_FIELDS; i++) {
        if (refusal->why[i].text[0] != '\0')
            acme_html_add(&call->page, "<li><a href=\"#%s\">%s: %s</a></li>\n", inputs[i].id,
                          inputs[i].label, refusal->why[i].text);
    }
    acme_html_add(&call->page, "</ul>\n</div>\n");
}

static void
add_input(struct acme_web_call *call, int i, const char *value, const char *error)
{
    const char *id = inputs[i].id;
    bool bad = error[0] != '\0';

    acme_html_add(&call->page,
                  "<label for=\"%s\">%s</label>\n<p class=\"hint\" id=\"%s-hint\">%s</p>\n", id,
                  inputs[i].label, id, inputs[i].hint);
    if (bad)
        acme_html_add(&call->page, "<p class=\"error\" id=\"%s-error\">%s</p>\n", id, error);
    acme_html_add(&call->page, "<textarea id=\"%s\" name=\"%s\" spellcheck=\"false\"", id, id);
    acme_html_add(&call->page, " autocomplete=\"off\" autocapitalize=\"none\" required");
    if (bad)
        acme_html_add(&call->page,
                      " aria-invalid=\"true\" aria-describedby=\"%s-error %s-hint\">\n", id, id);
    else
        acme_html_add(&call->page, " aria-describedby=\"%s-hint\">\n", id);
    acme_html_add(&call->page, "%s</textarea>\n", value);
}

static void
show_form(struct acme_web_call *call, int http_status, const char *const values[ACME_WEB_FIELDS],
          const struct acme_web_refusal *refusal)
{
    char secret[ACME_WEB_FORM_LEN + 1];
    bool refused = refusal != &no_refusal;

    if (!acme_web_form_token(call, secret)) {
        acme_web_fault(call, HSM_ERR_CRYPTO);
        return;
    }
    acme_web_begin(call, refused ? "Refused: request a certificate" : "Request a certificate");
    if (refused)
        add_summary(call, refusal);
    acme_html_add(&call->page,
                  "<p>For a service provider without an ACME client: a SHAKEN certificate for the "
                  "key of a CSR, with the SPC token that the STI-PA gave for that key. What will "
                  "be certified is shown before it is.</p>\n"
                  "<form method=\"post\" action=\"/web/preview\">\n"
                  "<input type=\"hidden\" name=\"form\" value=\"%s\">\n",
                  secret);
    for (int i = 0; i < ACME_WEB_FIELDS; i++)
        add_input(call, i, values[i], refusal->why[i].text);
    acme_html_add(&call->page,
                  "<button type=\"submit\">Check and show</button>\n</form>\n"
                  "<h2>Which fingerprint</h2>\n"
                  "<p>An SPC token is bound to a key by its fingerprint (RFC 9448 section 5.4): in "
                  "ACME to the key of the account, here to the key of the CSR. Ask the STI-PA for "
                  "a token with the fingerprint of the key that is to be certified. So a token "
                  "that others have seen is of no use to them, and each is used once.</p>\n");
    acme_web_end(call, http_status);
}

void
acme_web_form(struct acme_web_call *call)
{
    static const char *const empty[ACME_WEB_FIELDS] = {"", ""};

    show_form(call, 200, empty, &no_refusal);
}

/* ---- reading the form ---- */

static bool
has_form_type(struct acme_web_call *call)
{
    if (acme_form_is_type(acme_http_request_header(call->request, "Content-Type")))
        return true;
    acme_web_say(call, 415, "Not a form", "Content-Type is not " ACME_FORM_TYPE ".");
    return false;
}

static bool
is_from_our_form(struct acme_web_call *call, const char *secret)
{
    char wanted[ACME_WEB_FORM_LEN + 1];

    if (secret != NULL && strlen(secret) == ACME_WEB_FORM_LEN &&
        acme_web_form_token(call, wanted) && CRYPTO_memcmp(secret, wanted, ACME_WEB_FORM_LEN) == 0)
        return true;
    acme_web_say(
        call, 403, "Not from the form",
        "The form was opened in another browser, or your browser has lost its cookie since."
        " Nothing was done.");
    return false;
}

static bool
read_form(struct acme_web_call *call, struct acme_form_field fields[FORM_FIELDS])
{
    struct hsm_reason why = {""};
    size_t len = 0;
    const char *body = acme_http_request_body(call->request, &len);
    enum hsm_status st;

    if (!has_form_type(call))
        return false;
    fields[FORM_CSR] = (struct acme_form_field){.name = "csr", .max = CERTS_CSR_PEM_MAX};
    fields[FORM_TOKEN] = (struct acme_form_field){.name = "token", .max = TOKEN_MAX};
    fields[FORM_SECRET] = (struct acme_form_field){.name = "form", .max = ACME_WEB_FORM_LEN};
    st = acme_form_parse(body, len, fields, FORM_FIELDS, &why);
    if (st == HSM_ERR_NOMEM)
        acme_web_fault(call, st);
    else if (st != HSM_OK)
        acme_web_say(call, 400, "Not that form", why.text);
    else if (fields[FORM_CSR].value == NULL || fields[FORM_TOKEN].value == NULL)
        acme_web_say(call, 400, "Not that form", "A field of the form is missing.");
    else
        return is_from_our_form(call, fields[FORM_SECRET].value);
    return false;
}

/* Each check may fetch a signer's certificate and verifies signatures, so checks are limited like
 * orders. */
static bool
count_look(struct acme_web_call *call)
{
    char address[ACME_ADDRESS_MAX + 1];
    time_t wait_s = 0;
    enum hsm_status st;

    acme_limit_address(acme_http_request_peer(call->request), address);
    st = acme_limit_take(call->server->config.store, "forms", address,
                         call->server->config.orders_per_address, call->now, &wait_s);
    if (st != HSM_OK)
        acme_web_fault(call, st);
    else if (wait_s != 0)
        acme_web_refuse_limit(call, "forms from this address", wait_s);
    return st == HSM_OK && wait_s == 0;
}

static void
redirect_to_order(struct acme_web_call *call, const char *order)
{
    char path[64];

    snprintf(path, sizeof(path), "/web/order/%s", order);
    acme_web_redirect(call, path);
}

/* On a refusal, show the form again with the values that were sent. */
static bool
check(struct acme_web_call *call, const struct acme_form_field fields[FORM_FIELDS],
      struct acme_web_checked *out)
{
    const char *const values[] = {
        [ACME_WEB_CSR] = fields[FORM_CSR].value, [ACME_WEB_TOKEN] = fields[FORM_TOKEN].value};
    struct acme_web_refusal refusal = {.why = {{""}}};
    enum hsm_status st = acme_web_check(call->server, fields[FORM_CSR].value,
                                        fields[FORM_TOKEN].value, call->now, out, &refusal);

    if (st == HSM_OK && out->order[0] == '\0')
        return true;
    if (st == HSM_OK)
        redirect_to_order(call, out->order);
    else if (acme_status_is_fault(st) || (refusal.why[ACME_WEB_CSR].text[0] == '\0' &&
                                          refusal.why[ACME_WEB_TOKEN].text[0] == '\0'))
        acme_web_fault(call, st);
    else
        show_form(call, 422, values, &refusal);
    return false;
}

/* ---- the preview ---- */

static void
show_certificate(struct acme_web_call *call, const struct acme_web_checked *checked)
{
    const struct acme_server_config *config = &call->server->config;
    DEFER(free) char *issuer = certs_cert_subject(certs_chain_get(config->issuing_chain, 0));
    DEFER(free) char *crl_issuer = certs_name_text(config->crl_issuer);

    acme_html_add(&call->page, "<h2>The certificate</h2>\n<dl>\n");
    acme_html_add(&call->page, "<dt>Subject</dt><dd>CN=SHAKEN %s, O=%s, C=%s</dd>\n", checked->spc,
                  checked->subject.organization, checked->subject.country);
    acme_web_row(call, "TNAuthList", checked->spc);
    acme_web_row(call, "Key", "EC P-256, of the CSR");
    acme_web_row(call, "Key fingerprint", checked->fingerprint);
    acme_web_time_row(call, "Valid from", checked->not_before);
    acme_web_time_row(call, "Valid until", checked->not_after);
    acme_web_row(call, "Profile", "SHAKEN end entity (ATIS-1000080 section 6.4.1)");
    acme_web_row(call, "Policy", config->policy_oid);
    acme_web_row(call, "Issuer", issuer);
    acme_web_row(call, "CRL distribution point", config->crl_url);
    acme_web_row(call, "CRL issuer", crl_issuer);
    acme_html_add(&call->page, "</dl>\n"
                               "<p>The subject is what this STI-CA knows of the holder of the SPC. "
                               "The subject of the CSR is not used.</p>\n");
}

static void
show_token(struct acme_web_call *call, const struct acme_web_checked *checked)
{
    const struct acme_authority_token *token = checked->token;
    const char *iss = acme_authority_token_iss(token), *x5u = acme_authority_token_x5u(token);
    DEFER(free) char *spc = certs_tnauthlist_text(acme_authority_token_tnauthlist(token));
    DEFER(free) char *signer = certs_cert_subject(certs_chain_get(checked->signer, 0));

    acme_html_add(&call->page, "<h2>The SPC token</h2>\n<dl>\n");
    acme_web_row(call, "For", spc);
    acme_web_row(call, "May be a CA (ca)", acme_authority_token_ca(token) ? "yes" : "no");
    acme_web_time_row(call, "Expires", acme_authority_token_exp(token));
    acme_web_row(call, "Fingerprint", acme_authority_token_fingerprint(token));
    acme_web_row(call, "Identifier (jti)", acme_authority_token_jti(token));
    if (iss != NULL)
        acme_web_row(call, "Authority (iss)", iss);
    acme_web_row(call, "Signed by", signer);
    acme_web_row(call, "Signer's certificate", x5u != NULL ? x5u : "in the token (x5c)");
    acme_html_add(&call->page, "</dl>\n");
}

static void
show_preview(struct acme_web_call *call, const struct acme_form_field fields[FORM_FIELDS],
             const struct acme_web_checked *checked)
{
    acme_web_begin(call, "Check what will be certified");
    acme_html_add(&call->page,
                  "<p class=\"good\">CSR and SPC token are good. Nothing is issued yet.</p>\n");
    show_certificate(call, checked);
    show_token(call, checked);
    acme_html_add(&call->page,
                  "<form method=\"post\" action=\"/web/issue\">\n"
                  "<input type=\"hidden\" name=\"form\" value=\"%s\">\n"
                  "<input type=\"hidden\" name=\"csr\" value=\"%s\">\n"
                  "<input type=\"hidden\" name=\"token\" value=\"%s\">\n",
                  fields[FORM_SECRET].value, fields[FORM_CSR].value, fields[FORM_TOKEN].value);
    acme_html_add(&call->page, "<button type=\"submit\">Issue this certificate</button>\n"
                               "<a href=\"/web\">Begin again</a>\n</form>\n");
    acme_web_end(call, 200);
}

void
acme_web_preview(struct acme_web_call *call)
{
    CLEAR_AFTER(clear_fields) struct acme_form_field fields[FORM_FIELDS] = {{.name = NULL}};
    CLEAR_AFTER(acme_web_checked_clear) struct acme_web_checked checked = {.csr = NULL};

    if (count_look(call) && read_form(call, fields) && check(call, fields, &checked))
        show_preview(call, fields, &checked);
}

/* ---- the order ---- */

struct placing {
    const struct acme_web_checked *checked;
    struct acme_order_ids ids;
    struct acme_serial serial;
    time_t wait_s; /* seconds to wait; 0: within the limit */
};

/* In the state in which a successful tkauth-01 leaves it. */
static enum hsm_status
insert_authz(struct acme_web_call *call, const struct placing *placing, time_t expires)
{
    const struct certs_tnauthlist *list = certs_csr_tnauthlist(placing->checked->csr);
    size_t len = 0;
    const uint8_t *der = certs_tnauthlist_der(list, &len);
    DEFER(free) char *identifier = acme_base64url_encode(der, len);

    if (identifier == NULL)
        return HSM_ERR_NOMEM;
    return acme_authz_insert(call->server->config.store,
                             &(struct acme_new_authz){.ids = &placing->ids,
                                                      .account = ACME_WEB_MANUAL,
                                                      .identifier = identifier,
                                                      .tnauthlist = list,
                                                      .expires = expires,
                                                      .token = placing->checked->token,
                                                      .validated = call->now});
}

/* HSM_ERR_EXISTS: the token was used in between. */
static enum hsm_status
insert_order(struct acme_web_call *call, const struct placing *placing, time_t expires)
{
    struct acme_store *store = call->server->config.store;
    const struct acme_authority_token *token = placing->checked->token;
    enum hsm_status st =
        acme_order_insert(store, &(struct acme_new_order){.ids = &placing->ids,
                                                          .account = ACME_WEB_MANUAL,
                                                          .status = ACME_PROCESSING,
                                                          .spc = placing->checked->spc,
                                                          .created = call->now,
                                                          .expires = expires});

    if (st != HSM_OK)
        return st;
    return acme_store_run(store, NULL,
                          "INSERT INTO manual_token (jti, order_id, expires) VALUES (?, ?, ?)",
                          "ssi", acme_authority_token_jti(token), placing->ids.order,
                          (int64_t)acme_authority_token_exp(token));
}

static enum hsm_status
record_intent(struct acme_web_call *call, const struct placing *placing)
{
    const struct acme_web_checked *checked = placing->checked;

    return acme_issue_record(
        call->server,
        &(struct acme_intent){.order_id = placing->ids.order,
                              .account = ACME_WEB_MANUAL,
                              .spc = checked->spc,
                              .organization = checked->subject.organization,
                              .country = checked->subject.country,
                              .public_key = certs_csr_public(checked->csr),
                              .thumbprint = checked->thumbprint,
                              .serial = &placing->serial,
                              .token_exp = acme_authority_token_exp(checked->token)},
        call->now);
}

/* Within a transaction. HSM_ERR_EXISTS: token or key were used in between; HSM_ERR_DENIED: a limit
 * is reached. */
static enum hsm_status
insert_all(struct acme_web_call *call, struct placing *placing)
{
    time_t expires = call->now + ACME_ORDER_LIFETIME_S;
    char whom[CERTS_SPC_MAX + sizeof(ACME_WEB_MANUAL) + 1];
    enum hsm_status st;

    snprintf(whom, sizeof(whom), ACME_WEB_MANUAL " %s", placing->checked->spc);
    st = acme_order_count(call->server, whom, acme_http_request_peer(call->request), call->now,
                          &placing->wait_s);
    if (st == HSM_OK && placing->wait_s != 0)
        return HSM_ERR_DENIED;
    if (st == HSM_OK)
        st = acme_csr_key_check(call->server, ACME_WEB_MANUAL, false, placing->checked->thumbprint);
    if (st == HSM_OK)
        st = insert_authz(call, placing, expires);
    if (st == HSM_OK)
        st = insert_order(call, placing, expires);
    return st == HSM_OK ? record_intent(call, placing) : st;
}

static enum hsm_status
make_order(struct acme_web_call *call, struct placing *placing)
{
    struct acme_store *store = call->server->config.store;
    enum hsm_status st = acme_order_ids_new(&placing->ids);

    acme_issue_draw_serial(call->server, &placing->serial);
    if (st == HSM_OK)
        st = acme_store_begin(store);
    return st == HSM_OK ? acme_store_end(store, insert_all(call, placing)) : st;
}

static void
complete(struct acme_web_call *call, const struct acme_web_checked *checked, const char *order)
{
    enum hsm_status st;

    hsm_log(HSM_LOG_INFO, "order %s: SPC %s, from the web page, SPC token %s", order, checked->spc,
            acme_authority_token_jti(checked->token));
    st = acme_issue_complete(call->server, order, true, call->now);
    if (st != HSM_OK) /* the page shows it; acme_server_tick() and page views retry */
        hsm_log(HSM_LOG_WARNING, "order %s: processing: %s", order, hsm_status_text(st));
    redirect_to_order(call, order);
}

/* Of two concurrent requests one makes the order; the other finds the order or the reason of a
 * refusal. */
static void
look_again(struct acme_web_call *call, const struct acme_form_field fields[FORM_FIELDS])
{
    CLEAR_AFTER(acme_web_checked_clear) struct acme_web_checked checked = {.csr = NULL};

    if (check(call, fields, &checked))
        acme_web_fault(call, HSM_ERR_BUSY);
}

void
acme_web_issue(struct acme_web_call *call)
{
    CLEAR_AFTER(clear_fields) struct acme_form_field fields[FORM_FIELDS] = {{.name = NULL}};
    CLEAR_AFTER(acme_web_checked_clear) struct acme_web_checked checked = {.csr = NULL};
    struct placing placing = {.checked = &checked};
    enum hsm_status st;

    if (!count_look(call) || !read_form(call, fields) || !check(call, fields, &checked))
        return;
    st = make_order(call, &placing);
    if (st == HSM_ERR_EXISTS)
        look_again(call, fields);
    else if (st == HSM_ERR_DENIED)
        acme_web_refuse_limit(call, "orders for this SPC or from this address", placing.wait_s);
    else if (st != HSM_OK)
        acme_web_fault(call, st);
    else
        complete(call, &checked, placing.ids.order);
}
