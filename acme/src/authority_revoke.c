/*
 * authority_revoke.c - requests to revoke, and what is decided of them.
 *
 * The standards leave open how an STI-CA tells the STI-PA of a revocation; this
 * is ours. A rule decides for an STI-CA: what is issued under its own names is
 * its to revoke, anything else is not. What a service provider asks for waits
 * for an operator. A decision is durable before the CRL is signed with it, and
 * is never taken back.
 */

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/x509.h>

#include <acme/base64url.h>
#include <acme/events.h>
#include <certs/cert.h>
#include <certs/issue.h>
#include <certs/tnauthlist.h>
#include <hsm/defer.h>
#include <hsm/hex.h>
#include <hsm/log.h>
#include <hsm/time.h>

#include "authority_internal.h"

#define ISSUER_MAX 4096 /* characters of the issuer in base64 */
#define LISTED_MAX 100000 /* requests shown, the newest */

#define QUEUED  "queued"
#define REVOKED "revoked"
#define REFUSED "refused"

/** What is asked for; requester and chain are borrowed from the body, the issuer's octets owned. */
struct plea {
    uint8_t *issuer; /* DER */
    size_t issuer_len;
    uint8_t serial[CERTS_SERIAL_MAX]; /* content octets */
    size_t serial_len;
    int reason;
    time_t not_after; /* of the certificate; 0: not known */
    const char *requester;
    const char *chain; /* NULL: none */
    const char *account; /* who asks */
    bool by_operator; /* in the place of that account, an STI-CA's */
};

static void
plea_clear(struct plea *plea)
{
    free(plea->issuer);
    plea->issuer = NULL;
}

#define PLEA __attribute__((cleanup(plea_clear))) struct plea

DEFINE_DEFER(struct acme_rows, acme_rows_free)
DEFINE_DEFER(struct certs_chain, certs_chain_free)
DEFINE_DEFER(struct certs_path, certs_path_free)
DEFINE_DEFER(X509_NAME, X509_NAME_free)
DEFINE_DEFER(json_t, json_decref)
DEFINE_DEFER(char, free)

/* ---- the body ---- */

static enum hsm_status
parse_issuer(const char *text, struct plea *plea, struct hsm_reason *why)
{
    DEFER(X509_NAME_free) X509_NAME *name = NULL;
    enum hsm_status st;

    if (strlen(text) > ISSUER_MAX)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "issuer: too long");
    st = acme_base64_decode_any(text, strlen(text), &plea->issuer, &plea->issuer_len);
    if (st == HSM_ERR_MALFORMED)
        return hsm_refuse(why, st, "issuer: neither base64 nor base64url");
    if (st != HSM_OK)
        return st;
    if (certs_name_parse(plea->issuer, plea->issuer_len, &name) != HSM_OK)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "issuer: not a name in DER");
    return HSM_OK;
}

static int
nibble(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return tolower((unsigned char)c) - 'a' + 10;
}

/* A positive INTEGER's content octets, whether or not the sender wrote the zero before a high bit.
 */
static enum hsm_status
parse_serial(const char *text, struct plea *plea, struct hsm_reason *why)
{
    uint8_t octets[CERTS_SERIAL_MAX + 1] = {0};
    size_t digits = strlen(text), len = digits / 2, zeros = 0;

    if (digits == 0 || digits % 2 != 0 || len > CERTS_SERIAL_MAX ||
        strspn(text, "0123456789abcdefABCDEF") != digits)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "serial: not 1 to %d octets in hex",
                          CERTS_SERIAL_MAX);
    for (size_t i = 0; i < len; i++)
        octets[1 + i] = (uint8_t)(nibble(text[2 * i]) << 4 | nibble(text[2 * i + 1]));
    len++; /* with the zero before them */
    while (zeros < len && octets[zeros] == 0)
        zeros++;
    if (zeros == len)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "serial: not positive");
    if ((octets[zeros] & 0x80) != 0)
        zeros--;
    if (len - zeros > CERTS_SERIAL_MAX)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "serial: more than %d octets", CERTS_SERIAL_MAX);
    plea->serial_len = len - zeros;
    memcpy(plea->serial, octets + zeros, plea->serial_len);
    return HSM_OK;
}

/* RFC 5280 section 5.3.1; 7 is not used, and removeFromCRL (8) is for delta CRLs. */
static bool
is_reason(int64_t reason)
{
    return reason >= 0 && reason <= 10 && reason != 7 && reason != 8;
}

static enum hsm_status
parse_reason(const json_t *body, struct plea *plea, struct hsm_reason *why)
{
    int64_t reason;
    enum hsm_status st = acme_json_integer(body, "reason", &reason, why);

    if (st != HSM_OK)
        return st;
    if (!is_reason(reason))
        return hsm_refuse(why, HSM_ERR_MALFORMED, "reason: not 0 to 6, 9 or 10");
    plea->reason = (int)reason;
    return HSM_OK;
}

/* It is shown to operators, a line each. */
static enum hsm_status
parse_requester(const char *text, struct plea *plea, struct hsm_reason *why)
{
    size_t len = strlen(text);

    if (len == 0 || len > ACME_AUTHORITY_REQUESTER_MAX)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "requester: not 1 to %d octets",
                          ACME_AUTHORITY_REQUESTER_MAX);
    for (size_t i = 0; i < len; i++) {
        if (iscntrl((unsigned char)text[i]))
            return hsm_refuse(why, HSM_ERR_MALFORMED, "requester: has control characters");
    }
    plea->requester = text;
    return HSM_OK;
}

/* What an STI-CA says of its own certificate; a service provider shows it. */
static enum hsm_status
parse_not_after(const json_t *body, struct plea *plea, struct hsm_reason *why)
{
    const char *text = NULL;
    enum hsm_status st = acme_json_string_optional(body, "notAfter", &text, why);

    if (st != HSM_OK || text == NULL)
        return st;
    if (hsm_time_parse(text, &plea->not_after) != HSM_OK || plea->not_after <= 0)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "notAfter: not a time of RFC 3339");
    return HSM_OK;
}

static enum hsm_status
parse_plea(const json_t *body, struct plea *plea, struct hsm_reason *why)
{
    const char *issuer, *serial, *requester;
    enum hsm_status st;

    if ((st = acme_json_string(body, "issuer", &issuer, why)) != HSM_OK ||
        (st = acme_json_string(body, "serial", &serial, why)) != HSM_OK ||
        (st = acme_json_string(body, "requester", &requester, why)) != HSM_OK ||
        (st = acme_json_string_optional(body, "chain", &plea->chain, why)) != HSM_OK ||
        (st = parse_reason(body, plea, why)) != HSM_OK ||
        (st = parse_not_after(body, plea, why)) != HSM_OK ||
        (st = parse_serial(serial, plea, why)) != HSM_OK ||
        (st = parse_requester(requester, plea, why)) != HSM_OK)
        return st;
    return parse_issuer(issuer, plea, why);
}

/* ---- who may ask for what ---- */

static enum hsm_status
find_role(struct acme_store *store, const char *account, bool *is_sti_ca)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st =
        acme_store_query(store, &rows, "SELECT is_sti_ca FROM account WHERE id = ?", "s", account);

    if (st == HSM_OK)
        *is_sti_ca = acme_rows_next(rows) && acme_rows_int(rows, 0) != 0;
    return st;
}

/* An STI-CA revokes what is issued under its own names. */
static enum hsm_status
check_issuer(struct acme_store *store, const struct plea *plea, struct hsm_reason *why)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st =
        acme_store_query(store, &rows, "SELECT 1 FROM ca_issuer WHERE name = ? AND account = ?",
                         "bs", plea->issuer, plea->issuer_len, plea->account);

    if (st != HSM_OK || acme_rows_next(rows))
        return st;
    return hsm_refuse(why, HSM_ERR_DENIED, "the issuer is not of this account");
}

static enum hsm_status
check_spc(struct acme_store *store, const struct plea *plea, const char *spc,
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

/* Whether issuer and serial are those of the certificate. */
static enum hsm_status
check_named(const X509 *cert, const struct plea *plea, struct hsm_reason *why)
{
    struct certs_crl_entry entry = certs_crl_entry_of(cert);
    uint8_t *issuer = NULL;
    size_t len = 0;
    bool same;
    enum hsm_status st = certs_name_der(entry.issuer, &issuer, &len);

    if (st != HSM_OK)
        return st;
    same = len == plea->issuer_len && memcmp(issuer, plea->issuer, len) == 0 &&
           entry.serial_len == plea->serial_len &&
           memcmp(entry.serial, plea->serial, plea->serial_len) == 0;
    free(issuer);
    return same ? HSM_OK : hsm_refuse(why, HSM_ERR_MALFORMED, "chain: of another issuer or serial");
}

/* A service provider shows the certificate, to prove that it has its SPC: anybody could make one
 * up, so its path to a trusted root is asked for. */
static enum hsm_status
check_chain(struct acme_authority *authority, struct plea *plea, struct hsm_reason *why)
{
    DEFER(certs_chain_free) struct certs_chain *chain = NULL;
    DEFER(certs_chain_free) struct certs_chain *roots = NULL;
    DEFER(certs_path_free) struct certs_path *path = NULL;
    struct acme_store *store = authority->config.store;
    struct hsm_reason untrusted = {""};
    enum hsm_status st;

    if (plea->chain == NULL)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "chain: missing");
    st = certs_chain_parse_pem(plea->chain, strlen(plea->chain), CERTS_CHAIN_LEN_MAX, &chain, why);
    if (st == HSM_OK)
        st = authority_roots(store, &roots);
    if (st != HSM_OK)
        return st;
    st = certs_path_verify(chain, &(struct certs_trust){.anchors = roots}, NULL,
                           authority_now(authority), &path, &untrusted);
    if (st == HSM_ERR_UNTRUSTED)
        return hsm_refuse(why, HSM_ERR_DENIED, "chain: %s", untrusted.text);
    if (st == HSM_OK)
        st = check_named(certs_path_get(path, 0), plea, why);
    if (st == HSM_OK)
        plea->not_after = certs_cert_not_after(certs_path_get(path, 0));
    if (st == HSM_OK)
        st = check_spc(store, plea, certs_tnauthlist_spc(certs_path_tnauthlist(path)), why);
    return st;
}

/* ---- the decision ---- */

/* Within a transaction: the sooner it is known when a certificate ends, the sooner its entry may
 * go. */
static enum hsm_status
learn_end(struct acme_store *store, const struct plea *plea, int64_t id)
{
    if (plea->not_after == 0)
        return HSM_OK;
    return acme_store_run(store, NULL,
                          "UPDATE revocation SET not_after = ? WHERE id = ? AND not_after IS NULL",
                          "ii", (int64_t)plea->not_after, id);
}

static enum hsm_status
insert_plea(struct acme_store *store, const struct plea *plea, int64_t now, int64_t *id)
{
    return acme_store_insert(
        store, id,
        "INSERT INTO revocation (issuer, serial, reason, requester, account, state, asked)"
        " VALUES (?, ?, ?, ?, ?, '" QUEUED "', ?) RETURNING id",
        "bbissi", plea->issuer, plea->issuer_len, plea->serial, plea->serial_len,
        (int64_t)plea->reason, plea->requester, plea->account, now);
}

/* An STI-CA's word stands for a request that waited, or was refused to a service provider. */
static enum hsm_status
take_over(struct acme_store *store, const struct plea *plea, int64_t id)
{
    return acme_store_run(store, NULL,
                          "UPDATE revocation SET reason = ?, requester = ?, account = ? WHERE"
                          " id = ?",
                          "issi", (int64_t)plea->reason, plea->requester, plea->account, id);
}

/* By rule: an STI-CA asked for one of its own, or the operator did. */
static enum hsm_status
tell_revoked(struct acme_store *store, const struct plea *plea, int64_t id, int64_t now)
{
    char who[ACME_AUTHORITY_ID_MAX + 16], subject[32];

    snprintf(who, sizeof(who), "account %s", plea->account);
    snprintf(subject, sizeof(subject), "%" PRId64, id);
    return acme_event_add(store, &(struct acme_event){.at = (time_t)now,
                                                      .who = plea->by_operator ? NULL : who,
                                                      .what = "certificate revoked",
                                                      .subject = subject,
                                                      .detail = plea->requester});
}

/* Within a transaction. *state receives a literal; *is_new: this request brought it there. */
static enum hsm_status
decide(struct acme_store *store, const struct plea *plea, bool is_sti_ca, int64_t now,
       const char **state, bool *is_new)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    bool is_known;
    int64_t id = 0;
    enum hsm_status st = acme_store_query(
        store, &rows, "SELECT id, state FROM revocation WHERE issuer = ? AND serial = ?", "bb",
        plea->issuer, plea->issuer_len, plea->serial, plea->serial_len);

    if (st != HSM_OK)
        return st;
    is_known = acme_rows_next(rows);
    if (is_known) {
        id = acme_rows_int(rows, 0);
        *is_new = is_sti_ca && strcmp(acme_rows_text(rows, 1), REVOKED) != 0;
        *state = strcmp(acme_rows_text(rows, 1), QUEUED) == 0    ? QUEUED
                 : strcmp(acme_rows_text(rows, 1), REFUSED) == 0 ? REFUSED
                                                                 : REVOKED;
        st = *is_new ? take_over(store, plea, id) : HSM_OK;
    } else {
        *is_new = true;
        *state = QUEUED;
        st = insert_plea(store, plea, now, &id);
    }
    if (st == HSM_OK)
        st = learn_end(store, plea, id);
    if (st != HSM_OK || !is_sti_ca || !*is_new)
        return st;
    *state = REVOKED;
    st = authority_entry_add(store, id, now);
    return st == HSM_OK ? tell_revoked(store, plea, id, now) : st;
}

static enum hsm_status
decide_durably(struct acme_authority *authority, const struct plea *plea, bool is_sti_ca,
               const char **state, bool *is_new)
{
    struct acme_store *store = authority->config.store;
    enum hsm_status st = acme_store_begin(store);

    if (st != HSM_OK)
        return st;
    st = decide(store, plea, is_sti_ca, authority_now(authority), state, is_new);
    if (st == HSM_OK)
        return acme_store_commit(store);
    acme_store_rollback(store);
    return st;
}

/* ---- the request ---- */

static void
tell(const struct plea *plea, const char *state)
{
    char serial[2 * CERTS_SERIAL_MAX + 1] = "";
    DEFER(X509_NAME_free) X509_NAME *name = NULL;
    DEFER(free) char *issuer = NULL;

    if (certs_name_parse(plea->issuer, plea->issuer_len, &name) == HSM_OK)
        issuer = certs_name_text(name);
    hsm_hex_put(plea->serial, plea->serial_len, serial);
    hsm_log(HSM_LOG_INFO, "STI-PA: certificate %s of %s: %s (%s), asked by account %s: %s", serial,
            issuer != NULL ? issuer : "?", state, certs_crl_reason_text(plea->reason),
            plea->account, plea->requester);
}

/* The entry is durable: a CRL that cannot be signed now is signed later, and that is logged. */
static void
answer_state(struct acme_authority *authority, const char *state,
             struct acme_http_response *response)
{
    bool is_revoked = strcmp(state, REVOKED) == 0;

    if (strcmp(state, REFUSED) == 0) {
        authority_answer_error(response, 403, "an operator has refused to revoke it");
        return;
    }
    if (is_revoked && authority_document_refresh(authority, AUTHORITY_CRL) != HSM_OK)
        hsm_log(HSM_LOG_WARNING, "STI-PA: the CRL will name a revoked certificate later");
    acme_http_response_header(response, "Cache-Control", "no-store");
    acme_http_respond_json(response, is_revoked ? 200 : 202, "application/json",
                           json_pack("{s:s, s:s}", "status", "success", "message",
                                     is_revoked ? "revoked" : "waits for an operator"));
}

/* What a plea is worth, decided and durable. */
static enum hsm_status
judge(struct acme_authority *authority, struct plea *plea, const char **state,
      struct hsm_reason *why)
{
    bool is_sti_ca = false;
    bool is_new = false;
    enum hsm_status st = find_role(authority->config.store, plea->account, &is_sti_ca);

    if (st == HSM_OK)
        st = is_sti_ca ? check_issuer(authority->config.store, plea, why)
                       : check_chain(authority, plea, why);
    if (st == HSM_OK)
        st = decide_durably(authority, plea, is_sti_ca, state, &is_new);
    if (st == HSM_OK && is_new)
        tell(plea, *state);
    return st;
}

static void
revoke(struct acme_authority *authority, const char *account, const json_t *body,
       struct acme_http_response *response)
{
    PLEA plea = {.account = account};
    struct hsm_reason why = {""};
    const char *state = NULL;
    enum hsm_status st = parse_plea(body, &plea, &why);

    if (st == HSM_OK)
        st = judge(authority, &plea, &state, &why);
    if (st == HSM_OK) {
        answer_state(authority, state, response);
    } else if (st == HSM_ERR_MALFORMED) {
        authority_answer_error(response, 400, why.text);
    } else if (st == HSM_ERR_DENIED) {
        hsm_log(HSM_LOG_WARNING, "STI-PA: account %s: revocation: %s", account, why.text);
        authority_answer_error(response, 403, why.text);
    } else {
        authority_answer_failure(response, st);
    }
}

void
authority_revoke(struct acme_authority *authority, const struct acme_http_request *request,
                 const char *param, struct acme_http_response *response)
{
    DEFER(json_decref) json_t *body = NULL;
    char account[ACME_AUTHORITY_ID_MAX + 1];
    enum authority_verdict verdict = AUTHORITY_REFUSED;
    enum hsm_status st = authority_authenticate(authority, request, &verdict, account);

    (void)param;
    if (st != HSM_OK) {
        authority_answer_failure(response, st);
        return;
    }
    if (verdict != AUTHORITY_ADMITTED) {
        authority_answer_verdict(authority, response, verdict);
        return;
    }
    body = authority_body(request, response);
    if (body != NULL)
        revoke(authority, account, body, response);
}

/* ---- the operator ---- */

static void
show_request(const struct acme_rows *rows, FILE *to)
{
    char serial[2 * CERTS_SERIAL_MAX + 1] = "", when[HSM_TIME_LEN + 1];
    DEFER(X509_NAME_free) X509_NAME *name = NULL;
    DEFER(free) char *issuer = NULL;
    size_t issuer_len, len;
    const uint8_t *issuer_der = acme_rows_blob(rows, 2, &issuer_len);
    const uint8_t *octets = acme_rows_blob(rows, 3, &len);

    if (certs_name_parse(issuer_der, issuer_len, &name) == HSM_OK)
        issuer = certs_name_text(name);
    if (octets != NULL && len <= CERTS_SERIAL_MAX)
        hsm_hex_put(octets, len, serial);
    hsm_time_format((time_t)acme_rows_int(rows, 6), when);
    fprintf(to, "%" PRId64 "  %s  %s  serial %s  %s  of %s  asked by account %s: %s\n",
            acme_rows_int(rows, 0), acme_rows_text(rows, 1), when, serial,
            certs_crl_reason_text((int)acme_rows_int(rows, 4)), issuer != NULL ? issuer : "?",
            acme_rows_text(rows, 7), acme_rows_text(rows, 5));
}

enum hsm_status
acme_authority_revocations_show(struct acme_store *store, FILE *to)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st = acme_store_query(
        store, &rows,
        "SELECT * FROM (SELECT id, state, issuer, serial, reason, requester, asked, account"
        " FROM revocation ORDER BY id DESC LIMIT ?) AS latest ORDER BY id",
        "i", (int64_t)LISTED_MAX);

    while (st == HSM_OK && acme_rows_next(rows))
        show_request(rows, to);
    return st;
}

/* Within a transaction. */
static enum hsm_status
decide_by_hand(struct acme_store *store, int64_t id, bool approve, int64_t now)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    const char *state;
    enum hsm_status st =
        acme_store_query(store, &rows, "SELECT state FROM revocation WHERE id = ?", "i", id);

    if (st != HSM_OK)
        return st;
    if (!acme_rows_next(rows))
        return HSM_ERR_NOT_FOUND;
    state = acme_rows_text(rows, 0);
    if (strcmp(state, QUEUED) != 0 && !(approve && strcmp(state, REFUSED) == 0)) {
        hsm_log(HSM_LOG_ERROR, "revocation %" PRId64 ": is %s already", id, state);
        return HSM_ERR_USAGE;
    }
    if (approve)
        return authority_entry_add(store, id, now);
    return acme_store_run(store, NULL,
                          "UPDATE revocation SET state = '" REFUSED "', decided = ? WHERE id = ?",
                          "ii", now, id);
}

enum hsm_status
acme_authority_revocation_decide(struct acme_store *store, int64_t id, bool approve, time_t now)
{
    char subject[32];
    enum hsm_status st = acme_store_begin(store);

    if (st != HSM_OK)
        return st;
    st = decide_by_hand(store, id, approve, now);
    snprintf(subject, sizeof(subject), "%" PRId64, id);
    return acme_event_commit(store, st,
                             &(struct acme_event){
                                 .at = now,
                                 .what = approve ? "revocation approved" : "revocation refused",
                                 .subject = subject,
                             });
}

/* HSM_ERR_NOT_FOUND: no STI-CA's account has its issuer's name. */
static enum hsm_status
find_issuers_account(struct acme_store *store, const struct plea *plea,
                     char account[ACME_AUTHORITY_ID_MAX + 1])
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st =
        acme_store_query(store, &rows, "SELECT account FROM ca_issuer WHERE name = ?", "b",
                         plea->issuer, plea->issuer_len);

    if (st != HSM_OK)
        return st;
    if (!acme_rows_next(rows))
        return HSM_ERR_NOT_FOUND;
    snprintf(account, ACME_AUTHORITY_ID_MAX + 1, "%s", acme_rows_text(rows, 0));
    return HSM_OK;
}

enum hsm_status
acme_authority_revocation_add(struct acme_store *store, const X509 *cert, int reason, time_t now)
{
    struct certs_crl_entry entry = certs_crl_entry_of(cert);
    char account[ACME_AUTHORITY_ID_MAX + 1] = "";
    PLEA plea = {.reason = reason,
                 .not_after = certs_cert_not_after(cert),
                 .requester = "the operator",
                 .account = account,
                 .by_operator = true};
    const char *state;
    bool is_new = false;
    enum hsm_status st = is_reason(reason) ? HSM_OK : HSM_ERR_MALFORMED;

    if (st == HSM_OK)
        st = certs_name_der(entry.issuer, &plea.issuer, &plea.issuer_len);
    if (st != HSM_OK)
        return st;
    memcpy(plea.serial, entry.serial, entry.serial_len);
    plea.serial_len = entry.serial_len;
    st = find_issuers_account(store, &plea, account);
    if (st == HSM_OK)
        st = acme_store_begin(store);
    if (st != HSM_OK)
        return st;
    st = decide(store, &plea, true, now, &state, &is_new);
    if (st == HSM_OK && !is_new)
        st = HSM_ERR_EXISTS;
    if (st == HSM_OK)
        return acme_store_commit(store);
    acme_store_rollback(store);
    return st;
}
