/*
 * authority_revoke.c - revocation requests: which account may revoke which
 * certificate.
 *
 * The standards do not define how an STI-CA notifies the STI-PA of a revocation;
 * this interface is our own. An STI-CA may revoke what is issued under its own
 * names; a service provider may revoke certificates with its own codes, and must
 * show them. The configured rule decides which of these requests are granted at
 * once; the others wait for an operator.
 */

#include <stdlib.h>
#include <string.h>

#include <openssl/x509.h>

#include <acme/events.h>
#include <certs/cert.h>
#include <certs/issue.h>
#include <certs/path.h>
#include <certs/tnauthlist.h>
#include <hsm/defer.h>
#include <hsm/log.h>

#include "authority_revoke_internal.h"
#include "limit_internal.h"

/* ---- which account may revoke what ---- */

static enum hsm_status
find_asker(struct acme_store *store, const char *account, enum authority_asker *asker)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st =
        acme_store_query(store, &rows, "SELECT is_sti_ca FROM account WHERE id = ?", "s", account);

    if (st == HSM_OK)
        *asker =
            acme_rows_next(rows) && acme_rows_int(rows, 0) != 0 ? AUTHORITY_STI_CA : AUTHORITY_SP;
    return st;
}

/* An STI-CA revokes what is issued under its own names, as long as its root is trusted. */
static enum hsm_status
check_issuer(struct acme_store *store, struct authority_plea *plea, struct hsm_reason *why)
{
    char owner[ACME_AUTHORITY_ID_MAX + 1] = "";
    bool is_trusted = false;
    enum hsm_status st = acme_authority_plea_adopt(store, plea, owner);

    if (st == HSM_ERR_NOT_FOUND || (st == HSM_OK && strcmp(owner, plea->account) != 0))
        return hsm_refuse(why, HSM_ERR_DENIED, "the issuer is not of this account");
    if (st == HSM_OK)
        st = acme_authority_issuer_is_trusted(store, plea->account, &is_trusted);
    if (st == HSM_OK && !is_trusted)
        return hsm_refuse(why, HSM_ERR_DENIED, "the STI-CA is not trusted any more");
    return st;
}

static enum hsm_status
check_spc(struct acme_store *store, const struct authority_plea *plea, const char *spc,
          struct hsm_reason *why)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st = HSM_OK;

    if (spc != NULL)
        st = acme_store_query(store, &rows,
                              "SELECT 1 FROM account_spc WHERE account = ? AND spc = ?", "ss",
                              plea->account, spc);
    if (st != HSM_OK || (rows != NULL && acme_rows_next(rows)))
        return st;
    return hsm_refuse(why, HSM_ERR_DENIED, "the certificate's SPC is not of this account");
}

/* Check that issuer and serial are those of the certificate, and take its notAfter and its encoding
 * of the issuer's name, so that one certificate is one row, whatever the request's encoding was. */
static enum hsm_status
check_named(const X509 *cert, struct authority_plea *plea, struct hsm_reason *why)
{
    struct certs_crl_entry entry;
    uint8_t *der = NULL;
    size_t len = 0;
    enum hsm_status st = certs_crl_entry_of(cert, &entry, why);

    if (st != HSM_OK)
        return st; /* not because of its serial number: the path was valid */
    if (X509_NAME_cmp(entry.issuer, plea->name) != 0 || entry.serial_len != plea->serial_len ||
        memcmp(entry.serial, plea->serial, plea->serial_len) != 0)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "chain: of another issuer or serial");
    st = certs_name_der(entry.issuer, &der, &len);
    if (st != HSM_OK)
        return st;
    free(plea->issuer);
    plea->issuer = der;
    plea->issuer_len = len;
    plea->not_after = certs_cert_not_after(cert);
    plea->is_end_shown = true;
    return HSM_OK;
}

/* Anybody can make up a certificate, so a path to a trusted root is required. */
static enum hsm_status
check_chain(struct acme_authority *authority, struct authority_plea *plea, struct certs_path **path,
            struct hsm_reason *why)
{
    DEFER(certs_chain_free) struct certs_chain *chain = NULL;
    DEFER(certs_chain_free) struct certs_chain *roots = NULL;
    const struct certs_path_policy policy = {.ca_keys = AUTHORITY_CA_KEYS};
    struct hsm_reason untrusted = {""};
    enum hsm_status st =
        certs_chain_parse_pem(plea->chain, strlen(plea->chain), CERTS_CHAIN_LEN_MAX, &chain, why);

    if (st == HSM_OK)
        st = acme_authority_roots(authority->config.store, &roots);
    if (st != HSM_OK)
        return st;
    st = certs_path_verify(chain, &(struct certs_trust){.anchors = roots}, &policy,
                           acme_authority_now(authority), path, &untrusted);
    if (st == HSM_ERR_UNTRUSTED)
        return hsm_refuse(why, HSM_ERR_DENIED, "chain: %s", untrusted.text);
    return st == HSM_OK ? check_named(certs_path_get(*path, 0), plea, why) : st;
}

/* Another trusted STI-CA could issue under the same name: the root must be the owner's. */
static enum hsm_status
check_root(struct acme_store *store, const struct certs_path *path, const char *owner,
           struct hsm_reason *why)
{
    const X509 *root = certs_path_get(path, certs_path_len(path) - 1);
    char of[ACME_AUTHORITY_ID_MAX + 1] = "";
    uint8_t *der = NULL;
    size_t len = 0;
    enum hsm_status st =
        acme_authority_issuer_find(store, certs_cert_subject_name(root), of, &der, &len);

    free(der);
    if (st == HSM_ERR_NOT_FOUND || (st == HSM_OK && strcmp(of, owner) != 0))
        return hsm_refuse(why, HSM_ERR_DENIED, "chain: its root is not of the issuer's STI-CA");
    return st;
}

/* For an STI-CA the chain is optional. */
static enum hsm_status
check_sti_ca(struct acme_authority *authority, struct authority_plea *plea, struct hsm_reason *why)
{
    struct acme_store *store = authority->config.store;
    DEFER(certs_path_free) struct certs_path *path = NULL;
    enum hsm_status st = HSM_OK;

    if (plea->chain != NULL)
        st = check_chain(authority, plea, &path, why);
    if (st == HSM_OK)
        st = check_issuer(store, plea, why);
    return st == HSM_OK && path != NULL ? check_root(store, path, plea->account, why) : st;
}

/* A service provider must send the chain, to prove that the SPC is its own. */
static enum hsm_status
check_sp(struct acme_authority *authority, struct authority_plea *plea, struct hsm_reason *why)
{
    struct acme_store *store = authority->config.store;
    DEFER(certs_path_free) struct certs_path *path = NULL;
    char owner[ACME_AUTHORITY_ID_MAX + 1];
    enum hsm_status st;

    if (plea->chain == NULL)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "chain: missing");
    st = check_chain(authority, plea, &path, why);
    if (st == HSM_OK)
        st = check_spc(store, plea, certs_tnauthlist_spc(certs_path_tnauthlist(path)), why);
    if (st == HSM_OK)
        st = acme_authority_plea_adopt(store, plea, owner);
    if (st == HSM_ERR_NOT_FOUND) /* an STI-CA without an account */
        return HSM_OK;
    return st == HSM_OK ? check_root(store, path, owner, why) : st;
}

/* ---- the decision ---- */

static enum hsm_status
decide_durably(struct acme_authority *authority, const struct authority_plea *plea,
               struct authority_decision *decision)
{
    struct acme_store *store = authority->config.store;
    enum hsm_status st = acme_store_begin(store);

    if (st != HSM_OK)
        return st;
    st = acme_authority_decide(store, plea, authority->config.revocations_per_account,
                               acme_authority_now(authority), decision);
    if (st == HSM_OK && decision->obstacle == AUTHORITY_NO_OBSTACLE)
        return acme_store_commit(store);
    acme_store_rollback(store);
    return st;
}

static void
tell(const struct authority_plea *plea, enum authority_state state)
{
    DEFER(free)
    char *certificate = acme_authority_certificate_text(plea->issuer, plea->issuer_len,
                                                        plea->serial, plea->serial_len);

    hsm_log(HSM_LOG_INFO, "STI-PA: certificate %s: %s (%s), asked by account %s: %s",
            certificate != NULL ? certificate : "?", acme_authority_state_text(state),
            certs_crl_reason_text(plea->reason), plea->account, plea->requester);
}

/* Check the right to revoke, then decide durably. */
static enum hsm_status
judge(struct acme_authority *authority, struct authority_plea *plea,
      struct authority_decision *decision, struct hsm_reason *why)
{
    enum hsm_status st = find_asker(authority->config.store, plea->account, &plea->asker);

    if (st == HSM_OK)
        st = plea->asker == AUTHORITY_STI_CA ? check_sti_ca(authority, plea, why)
                                             : check_sp(authority, plea, why);
    if (st != HSM_OK)
        return st;
    plea->is_automatic = (authority->automatic[plea->asker] & 1U << plea->reason) != 0;
    st = decide_durably(authority, plea, decision);
    if (st == HSM_OK && decision->is_changed && decision->obstacle == AUTHORITY_NO_OBSTACLE)
        tell(plea, decision->state);
    return st;
}

/* ---- the answers ---- */

static void
answer_later(struct acme_http_response *response, int status, const char *type, time_t wait_s,
             const char *message)
{
    char seconds[32];

    snprintf(seconds, sizeof(seconds), "%lld", (long long)wait_s);
    if (wait_s > 0)
        acme_http_response_header(response, "Retry-After", seconds);
    acme_http_response_header(response, "Cache-Control", "no-store");
    acme_http_respond_json(
        response, status, "application/json",
        json_pack("{s:s, s:s, s:s}", "status", "error", "type", type, "message", message));
}

/* At most once an hour: an account that repeats its request must not fill the event log. */
static void
tell_obstacle(struct acme_authority *authority, const char *account, const char *what)
{
    struct acme_store *store = authority->config.store;
    const struct acme_limit limit = {what, 1, ACME_HOUR_S};
    time_t now = acme_authority_now(authority), wait_s = 0;

    if (acme_limit_take_one(store, &limit, account, now, &wait_s) != HSM_OK || wait_s > 0)
        return;
    hsm_log(HSM_LOG_ERROR, "STI-PA: account %s: %s", account, what);
    (void)!acme_event_add(
        store, &(struct acme_event){.at = now, .who = "sti-pa", .what = what, .subject = account});
}

static void
answer_obstacle(struct acme_authority *authority, const char *account,
                enum authority_obstacle obstacle, struct acme_http_response *response)
{
    if (obstacle == AUTHORITY_QUOTA) {
        tell_obstacle(authority, account, "quota of revocations used up");
        answer_later(response, 403, "quotaExceeded", 0,
                     "this account has as many revocations as it may: ask the STI-PA's operator");
    } else {
        tell_obstacle(authority, account, "CRL full");
        answer_later(response, 507, "crlFull", ACME_AUTHORITY_FULL_RETRY_S,
                     "the CRL is full, and the STI-PA's operator knows");
    }
}

/* The decision is durable, which is all that the response states: the CRL follows. */
static void
answer_state(struct acme_authority *authority, enum authority_state state,
             struct acme_http_response *response)
{
    bool is_revoked = state == AUTHORITY_IS_REVOKED;

    if (state == AUTHORITY_IS_REFUSED) {
        acme_authority_answer_error(response, 403, "an operator has refused to revoke it");
        return;
    }
    if (is_revoked)
        acme_authority_crl_changed(authority);
    acme_http_response_header(response, "Cache-Control", "no-store");
    acme_http_respond_json(response, is_revoked ? 200 : 202, "application/json",
                           json_pack("{s:s, s:s}", "status", "success", "message",
                                     is_revoked ? "revoked" : "waits for an operator"));
}

static void
revoke(struct acme_authority *authority, const char *account, const json_t *body,
       struct acme_http_response *response)
{
    CLEAR_AFTER(acme_authority_plea_clear) struct authority_plea plea = {.account = account};
    struct authority_decision decision = {.obstacle = AUTHORITY_NO_OBSTACLE};
    struct hsm_reason why = {""};
    enum hsm_status st =
        acme_authority_plea_parse(body, acme_authority_now(authority), &plea, &why);

    if (st == HSM_OK)
        st = judge(authority, &plea, &decision, &why);
    if (st == HSM_OK && decision.obstacle != AUTHORITY_NO_OBSTACLE) {
        answer_obstacle(authority, account, decision.obstacle, response);
    } else if (st == HSM_OK) {
        answer_state(authority, decision.state, response);
    } else if (st == HSM_ERR_MALFORMED) {
        acme_authority_answer_error(response, 400, why.text);
    } else if (st == HSM_ERR_DENIED) {
        hsm_log(HSM_LOG_WARNING, "STI-PA: account %s: revocation: %s", account, why.text);
        acme_authority_answer_error(response, 403, why.text);
    } else {
        acme_authority_answer_failure(response, st);
    }
}

/* False: the response was made. */
static bool
is_within_rate(struct acme_authority *authority, const char *account,
               struct acme_http_response *response)
{
    const struct acme_limit limit = {"revocations", authority->config.revocations_per_hour,
                                     ACME_HOUR_S};
    time_t wait_s = 0;
    enum hsm_status st = acme_limit_take_one(authority->config.store, &limit, account,
                                             acme_authority_now(authority), &wait_s);

    if (st != HSM_OK) {
        acme_authority_answer_failure(response, st);
        return false;
    }
    if (wait_s == 0)
        return true;
    tell_obstacle(authority, account, "too many requests to revoke");
    answer_later(response, 429, "rateLimited", wait_s, "too many requests to revoke in an hour");
    return false;
}

void
acme_authority_revoke(struct acme_authority *authority, const struct acme_http_request *request,
                      const char *param, struct acme_http_response *response)
{
    DEFER(json_decref) json_t *body = NULL;
    char account[ACME_AUTHORITY_ID_MAX + 1];
    enum authority_verdict verdict = AUTHORITY_REFUSED;
    enum hsm_status st = acme_authority_authenticate(authority, request, &verdict, account);

    (void)param;
    if (st != HSM_OK) {
        acme_authority_answer_failure(response, st);
        return;
    }
    if (verdict != AUTHORITY_ADMITTED) {
        acme_authority_answer_verdict(authority, response, verdict);
        return;
    }
    if (!is_within_rate(authority, account, response))
        return;
    body = acme_authority_body(request, response);
    if (body != NULL)
        revoke(authority, account, body, response);
}
