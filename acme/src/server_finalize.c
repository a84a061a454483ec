/* server_finalize.c - finalize (RFC 8555 section 7.4). */

#include "server_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include <acme/base64url.h>
#include <acme/json.h>
#include <acme/jwk.h>
#include <certs/constraints.h>
#include <certs/csr.h>
#include <hsm/log.h>

#define KEY_COMPROMISE 1 /* RFC 5280 section 5.3.1 */

/* ---- checking the CSR ---- */

static bool
take_csr(struct acme_call *call, struct certs_csr **out)
{
    DEFER(json_decref) json_t *payload = NULL;
    struct hsm_reason why = {""};
    const char *text = NULL;
    uint8_t *der = NULL;
    size_t len = 0;
    enum hsm_status st;

    if (!acme_call_payload(call, &payload))
        return false;
    st = acme_json_string(payload, "csr", &text, &why);
    if (st == HSM_OK && acme_base64url_decode(text, strlen(text), &der, &len) != HSM_OK)
        st = hsm_refuse(&why, HSM_ERR_MALFORMED, "csr: not base64url");
    if (st != HSM_OK) {
        acme_call_refuse(call, ACME_MALFORMED, 400, "%s", why.text);
        return false;
    }
    st = certs_csr_parse(der, len, out, &why);
    free(der);
    if (st == HSM_OK)
        return true;
    if (st == HSM_ERR_NOMEM)
        acme_call_fault(call, st);
    else
        acme_call_refuse(call, ACME_BAD_CSR, 400, "%s", why.text);
    return false;
}

static bool
bad_csr(struct acme_call *call, const char *why)
{
    acme_call_refuse(call, ACME_BAD_CSR, 400, "%s", why);
    return false;
}

enum hsm_status
acme_csr_check(const struct certs_csr *csr, const uint8_t *tnauthlist, size_t tnauthlist_len,
               bool ca, struct hsm_reason *why)
{
    const struct certs_tnauthlist *list = certs_csr_tnauthlist(csr);
    const struct certs_constraints *constraints = certs_csr_constraints(csr);
    const uint8_t *der;
    size_t len = 0;

    if (list == NULL)
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "CSR: no TNAuthList");
    der = certs_tnauthlist_der(list, &len);
    if (len != tnauthlist_len || memcmp(der, tnauthlist, len) != 0)
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "CSR: its TNAuthList is not the order's");
    if (certs_csr_is_ca(csr) && ca)
        return hsm_refuse(why, HSM_ERR_UNSUPPORTED,
                          "CSR: delegate CA certificates are not issued here");
    if (certs_csr_is_ca(csr) != ca)
        return hsm_refuse(why, HSM_ERR_UNTRUSTED,
                          "CSR: BasicConstraints cA is not the ca of the SPC token");
    if (constraints != NULL) /* without them the certificate would allow more than was requested */
        return hsm_refuse(why, HSM_ERR_UNSUPPORTED, "CSR: %s is not issued here",
                          certs_constraints_form(constraints) == CERTS_CONSTRAINTS_ENHANCED
                              ? "EnhancedJWTClaimConstraints (RFC 9118)"
                              : "JWTClaimConstraints (RFC 8226 section 8)");
    return HSM_OK;
}

static bool
csr_is_of_order(struct acme_call *call, const struct acme_order *order, const struct certs_csr *csr)
{
    struct hsm_reason why = {""};

    if (acme_csr_check(csr, order->tnauthlist, order->tnauthlist_len, order->ca, &why) == HSM_OK)
        return true;
    return bad_csr(call, why.text);
}

/* RFC 8555 section 11.1: the certificate's key is not the account's. */
static bool
csr_is_not_account_key(struct acme_call *call, const struct certs_csr *csr)
{
    if (!call->server->config.account_key_in_csr &&
        EVP_PKEY_eq(certs_csr_public(csr), call->key) == 1)
        return bad_csr(call, "CSR: its key is the key of the account");
    return true;
}

enum hsm_status
acme_csr_key_check(struct acme_server *server, const char *account, bool own,
                   const char *thumbprint)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st = acme_store_query(
        server->config.store, &rows,
        "SELECT 1 FROM account WHERE thumbprint = ? AND id <> ? UNION ALL"
        " SELECT 1 FROM issuance WHERE thumbprint = ? AND voided = 0 AND (account <> ? OR ? = 0)"
        " UNION ALL SELECT 1 FROM issuance JOIN revocation USING (order_id) WHERE thumbprint = ?"
        " AND reason = ?",
        "ssssisi", thumbprint, account, thumbprint, account, (int64_t)own, thumbprint,
        (int64_t)KEY_COMPROMISE);

    if (st != HSM_OK)
        return st;
    return acme_rows_next(rows) ? HSM_ERR_EXISTS : HSM_OK;
}

/* ---- the intent ---- */

/*
 * The subject is what this CA has recorded of the holder of the SPC, never what
 * the CSR contains: the SPC token proves the right to the code and nothing about a
 * name, so a name copied from the CSR would be the applicant's own claim under the
 * CA's signature. A participant without a validated name is certified as the
 * holder of its code.
 */
enum hsm_status
acme_subject_find(struct acme_server *server, const char *spc, struct acme_subject *out)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st =
        acme_store_query(server->config.store, &rows,
                         "SELECT organization, country FROM participant WHERE spc = ?", "s", spc);

    if (st != HSM_OK)
        return st;
    if (acme_rows_next(rows)) {
        snprintf(out->organization, sizeof(out->organization), "%s", acme_rows_text(rows, 0));
        snprintf(out->country, sizeof(out->country), "%s", acme_rows_text(rows, 1));
    } else {
        snprintf(out->organization, sizeof(out->organization), "Service Provider %.40s", spc);
        snprintf(out->country, sizeof(out->country), "%s", server->config.country);
    }
    return HSM_OK;
}

/* A request that finalizes an order. */
struct finalization {
    struct acme_call *call;
    const struct acme_order *order;
    const struct certs_csr *csr;
    char thumbprint[ACME_THUMBPRINT_LEN + 1]; /* of the CSR's key */
    struct acme_serial serial;
    bool is_ours; /* of concurrent requests to finalize one order, one finds it ready */
};

static enum hsm_status
record_intent(const struct finalization *finalization)
{
    const struct acme_call *call = finalization->call;
    const struct acme_order *order = finalization->order;
    struct acme_subject subject;
    enum hsm_status st = acme_subject_find(call->server, order->spc, &subject);

    if (st != HSM_OK)
        return st;
    return acme_issue_record(call->server,
                             &(struct acme_intent){
                                 .order_id = order->id,
                                 .account = call->account,
                                 .spc = order->spc,
                                 .organization = subject.organization,
                                 .country = subject.country,
                                 .public_key = certs_csr_public(finalization->csr),
                                 .thumbprint = finalization->thumbprint,
                                 .serial = &finalization->serial,
                                 .not_before = order->not_before,
                                 .not_after = order->not_after,
                                 .token_exp = order->token_exp,
                             },
                             call->now);
}

/* Within a transaction. */
static enum hsm_status
begin_processing(struct acme_store *store, void *context)
{
    struct finalization *finalization = context;
    const struct acme_call *call = finalization->call;
    bool own = EVP_PKEY_eq(certs_csr_public(finalization->csr), call->key) == 1;
    int64_t changes = 0;
    enum hsm_status st =
        acme_csr_key_check(call->server, call->account, own, finalization->thumbprint);

    if (st == HSM_OK)
        st = acme_store_run(store, &changes,
                            "UPDATE acme_order SET status = '" ACME_PROCESSING "', error = NULL"
                            " WHERE id = ? AND status = '" ACME_READY "' AND expires > ?",
                            "si", finalization->order->id, (int64_t)call->now);
    finalization->is_ours = st == HSM_OK && changes == 1;
    return finalization->is_ours ? record_intent(finalization) : st;
}

static void
refuse_not_ready(struct acme_call *call)
{
    acme_call_refuse(call, ACME_ORDER_NOT_READY, 403, "the order is not ready: read it again");
}

/* True: this request has made the order "processing", and its intent is durable. */
static bool
make_intent(struct acme_call *call, const struct acme_order *order, const struct certs_csr *csr)
{
    struct finalization finalization = {.call = call, .order = order, .csr = csr};
    enum hsm_status st = acme_jwk_thumbprint(certs_csr_public(csr), finalization.thumbprint);

    acme_issue_draw_serial(call->server, &finalization.serial);
    if (st == HSM_OK)
        st = acme_store_together(call->server->config.store, begin_processing, &finalization);
    if (st == HSM_ERR_EXISTS)
        return bad_csr(call, "CSR: its key was certified before or is another account's");
    if (st != HSM_OK)
        acme_call_fault(call, st);
    else if (!finalization.is_ours)
        refuse_not_ready(call);
    return st == HSM_OK && finalization.is_ours;
}

/* RFC 9447 section 7, if configured. A requested validity is refused and not shortened. */
static bool
ends_within_token(struct acme_call *call, const struct acme_order *order)
{
    if (!call->server->config.within_token ||
        (order->token_exp > call->now && order->not_before < order->token_exp &&
         order->not_after <= order->token_exp))
        return true;
    acme_call_refuse(call, ACME_UNAUTHORIZED, 403,
                     "the certificate would outlive the SPC token that the order stands on");
    return false;
}

static void
finalize(struct acme_call *call, struct acme_order *order)
{
    DEFER(certs_csr_free) struct certs_csr *csr = NULL;
    enum hsm_status st;

    if (strcmp(order->status, ACME_READY) != 0) {
        refuse_not_ready(call);
        return;
    }
    if (!take_csr(call, &csr) || !csr_is_of_order(call, order, csr) ||
        !csr_is_not_account_key(call, csr) || !ends_within_token(call, order) ||
        !acme_call_settle(call) || !make_intent(call, order, csr))
        return;
    st = acme_issue_complete(call->server, order->id, true, call->now);
    if (st != HSM_OK) /* the response is "processing"; acme_server_tick() and polls retry */
        hsm_log(HSM_LOG_WARNING, "order %s: processing: %s", order->id, hsm_status_text(st));
    acme_rows_free(order->rows);
    order->rows = NULL;
    if (acme_order_load(call, order))
        acme_order_respond(call, 200, order);
}

void
acme_finalize(struct acme_call *call)
{
    struct acme_order order = {.rows = NULL};

    if (!acme_order_load(call, &order))
        return;
    if (acme_terms_wanted(call))
        finalize(call, &order);
    acme_rows_free(order.rows);
}
