/* authority_grant.c - a request for an SPC token: RFC 9447 section 5.1, RFC 9448 section 5.5. */

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <openssl/rand.h>

#include <acme/authority_token.h>
#include <acme/base64url.h>
#include <acme/jwk.h>
#include <certs/tnauthlist.h>
#include <hsm/defer.h>
#include <hsm/log.h>
#include <hsm/use.h>

#include "authority_internal.h"
#include "limit_internal.h"

#define FINGERPRINT_PREFIX "SHA256 "
#define FINGERPRINT_OCTETS 32
#define TKVALUE_MAX        1024 /* characters: one SPC needs far less */
#define JTI_LEN            36 /* characters of a UUID (RFC 9562) */
#define DAY_S              86400
#define EXPIRED_BATCH      10000 /* rows deleted at once: other threads write in between */

/** The "atc" object of RFC 9447 section 4, as requested. Texts are borrowed from the request. */
struct wish {
    const char *tkvalue;
    const char *fingerprint;
    bool ca;
    struct certs_tnauthlist *tnauthlist;
    const char *spc; /* of the TNAuthList */
    int64_t lifetime_s; /* from the policy or the configuration */
};

static void
wish_clear(struct wish *wish)
{
    certs_tnauthlist_free(wish->tnauthlist);
    wish->tnauthlist = NULL;
}

/* RFC 9448 section 5.4: "SHA256 " and hex octets joined by ':'. */
static bool
is_hex_fingerprint(const char *text)
{
    size_t prefix = strlen(FINGERPRINT_PREFIX);

    if (strlen(text) != ACME_FINGERPRINT_LEN || strncmp(text, FINGERPRINT_PREFIX, prefix) != 0)
        return false;
    for (size_t i = 0; i < (size_t)FINGERPRINT_OCTETS * 3 - 1; i++) {
        char c = text[prefix + i];

        if (i % 3 == 2 ? c != ':' : !isxdigit((unsigned char)c))
            return false;
    }
    return true;
}

/* Also seen: the bare base64url thumbprint of RFC 7638. */
static bool
is_thumbprint(const char *text)
{
    size_t len = strlen(text);

    if (len != ACME_THUMBPRINT_LEN)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (!isalnum((unsigned char)text[i]) && text[i] != '-' && text[i] != '_')
            return false;
    }
    return true;
}

/* Exactly one SPC: that is all a SHAKEN certificate may hold (ATIS-1000080 section 6.4.1). */
static enum hsm_status
parse_tkvalue(const char *text, struct wish *wish, struct hsm_reason *why)
{
    uint8_t *der = NULL;
    size_t len;
    enum hsm_status st;

    if (strlen(text) > TKVALUE_MAX)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "tkvalue: too long");
    st = acme_base64_decode_any(text, strlen(text), &der, &len);
    if (st == HSM_ERR_MALFORMED)
        return hsm_refuse(why, st, "tkvalue: neither base64url nor base64");
    if (st != HSM_OK)
        return st;
    st = certs_tnauthlist_parse(der, len, &wish->tnauthlist, why);
    free(der);
    if (st != HSM_OK)
        return st;
    wish->spc = certs_tnauthlist_spc(wish->tnauthlist);
    if (wish->spc == NULL)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "tkvalue: not exactly one service provider code");
    wish->tkvalue = text;
    return HSM_OK;
}

/*
 * RFC 9447 section 5.1 puts the object into the member "atc"; the example of RFC
 * 9448 section 5.5 is the inner object alone. Both are accepted.
 */
static enum hsm_status
parse_wish(const json_t *body, struct wish *wish, struct hsm_reason *why)
{
    const json_t *atc = body;
    const char *tktype;
    const char *tkvalue;
    json_t *inner;
    enum hsm_status st = HSM_OK;

    if (json_object_get(body, "atc") != NULL) {
        st = acme_json_object(body, "atc", &inner, why);
        if (st != HSM_OK)
            return st;
        atc = inner;
    }
    if ((st = acme_json_string(atc, "tktype", &tktype, why)) != HSM_OK ||
        (st = acme_json_string(atc, "tkvalue", &tkvalue, why)) != HSM_OK ||
        (st = acme_json_string(atc, "fingerprint", &wish->fingerprint, why)) != HSM_OK ||
        (st = acme_json_bool_optional(atc, "ca", false, &wish->ca, why)) != HSM_OK)
        return st;
    /* RFC 9447 itself uses two spellings. */
    if (strcasecmp(tktype, "TNAuthList") != 0)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "tktype: not TNAuthList");
    /* RFC 9448 section 5.6: the CA checks that the fingerprint is that of the account key. */
    if (!is_hex_fingerprint(wish->fingerprint) && !is_thumbprint(wish->fingerprint))
        return hsm_refuse(why, HSM_ERR_MALFORMED,
                          "fingerprint: not SHA256 and 32 octets in hex, nor a thumbprint");
    return parse_tkvalue(tkvalue, wish, why);
}

/* The governance authority's rule for the code, independent of the account. */
static enum hsm_status
check_policy(struct acme_authority *authority, struct wish *wish, struct hsm_reason *why)
{
    struct authority_rule rule;
    enum hsm_status st =
        acme_authority_policy_ask(authority->policy, authority->config.store, wish->spc, &rule);

    if (st != HSM_OK)
        return st;
    if (!rule.allowed)
        return hsm_refuse(why, HSM_ERR_DENIED, "SPC %s may have no tokens", wish->spc);
    if (wish->ca && !rule.ca)
        return hsm_refuse(why, HSM_ERR_DENIED, "SPC %s may not have ca", wish->spc);
    wish->lifetime_s =
        rule.lifetime_s > 0 ? rule.lifetime_s : (int64_t)authority->config.token_lifetime_s;
    return HSM_OK;
}

/* RFC 9448 section 5.6: the authority verifies that the TNAuthList belongs to the account. */
static enum hsm_status
check_account(struct acme_store *store, const char *account_id, const struct wish *wish,
              struct hsm_reason *why)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st = acme_store_query(store, &rows,
                                          "SELECT ca FROM account JOIN account_spc ON account = id"
                                          " WHERE id = ? AND spc = ?",
                                          "ss", account_id, wish->spc);

    if (st != HSM_OK)
        return st;
    if (!acme_rows_next(rows))
        return hsm_refuse(why, HSM_ERR_DENIED, "SPC %s is not of this account", wish->spc);
    if (wish->ca && acme_rows_int(rows, 0) == 0)
        return hsm_refuse(why, HSM_ERR_DENIED, "this account may not ask for ca");
    return HSM_OK;
}

/* A random UUID (RFC 9562 section 5.4). */
static enum hsm_status
new_jti(char out[JTI_LEN + 1])
{
    uint8_t r[16];

    if (RAND_bytes(r, sizeof(r)) != 1) {
        hsm_log(HSM_LOG_ERROR, "STI-PA: no random numbers");
        return HSM_ERR_CRYPTO;
    }
    r[6] = (uint8_t)((r[6] & 0x0f) | 0x40);
    r[8] = (uint8_t)((r[8] & 0x3f) | 0x80);
    snprintf(out, JTI_LEN + 1,
             "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", r[0], r[1],
             r[2], r[3], r[4], r[5], r[6], r[7], r[8], r[9], r[10], r[11], r[12], r[13], r[14],
             r[15]);
    return HSM_OK;
}

/** The row of a token that is about to be signed. */
struct record {
    struct acme_authority *authority;
    const char *account_id, *jti;
    const struct wish *wish;
    time_t exp;
    time_t wait_s; /* not 0: the rate limit is reached; nothing was recorded */
};

static struct acme_limit
limit_of(const struct acme_authority *authority)
{
    return (struct acme_limit){"tokens", authority->config.tokens_per_hour, ACME_HOUR_S};
}

/* Part of a transaction: the token is counted and recorded together, also when several processes
 * issue tokens. */
static enum hsm_status
insert(struct acme_store *store, void *context)
{
    struct record *record = context;
    const struct wish *wish = record->wish;
    struct acme_limit limit = limit_of(record->authority);
    time_t now = acme_authority_now(record->authority);
    enum hsm_status st =
        acme_limit_take_one(store, &limit, record->account_id, now, &record->wait_s);

    if (st != HSM_OK || record->wait_s != 0)
        return st;
    return acme_store_run(
        store, NULL,
        "INSERT INTO spc_token (jti, account, spc, ca, fingerprint, issued, expires)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        "sssisii", record->jti, record->account_id, wish->spc, (int64_t)wish->ca, wish->fingerprint,
        (int64_t)now, (int64_t)record->exp);
}

/* The token was not signed, so it does not count. Its row stays: a jti without a token does no
 * harm. */
static void
give_back(struct acme_authority *authority, const char *account_id)
{
    struct acme_limit limit = limit_of(authority);

    /* logged where it was noticed; the account has one token less this hour */
    (void)!acme_limit_give_back(authority->config.store, &limit, account_id);
}

enum hsm_status
acme_authority_tokens_expire(struct acme_authority *authority)
{
    int64_t since =
        (int64_t)acme_authority_now(authority) - (int64_t)ACME_AUTHORITY_TOKEN_DAYS * DAY_S;

    return acme_store_run(authority->config.store, NULL,
                          "DELETE FROM spc_token WHERE jti IN (SELECT jti FROM spc_token WHERE"
                          " expires <= ? LIMIT ?)",
                          "ii", since, (int64_t)EXPIRED_BATCH);
}

/* No token outlives the certificate that verifies it. */
static enum hsm_status
expiry(const struct acme_authority *authority, int64_t lifetime_s, time_t *exp)
{
    time_t now = acme_authority_now(authority);
    time_t signer_until = certs_chain_not_after(authority->config.signer_chain);

    *exp = now + (time_t)lifetime_s;
    if (*exp > signer_until)
        *exp = signer_until;
    if (*exp > now)
        return HSM_OK;
    hsm_log(HSM_LOG_ERROR, "STI-PA: the signer's certificate has expired");
    return HSM_ERR_UNTRUSTED;
}

/* Recorded durably before the token leaves the process: no token exists that the store does not
 * have. */
static enum hsm_status
issue(struct acme_authority *authority, const char *account_id, const struct wish *wish,
      char **token, time_t *wait_s)
{
    char jti[JTI_LEN + 1];
    struct acme_authority_token_request request = {
        .iss = authority->config.base_url,
        .x5u = authority->signer_url,
        .jti = jti,
        .tkvalue = wish->tkvalue,
        .ca = wish->ca,
        .fingerprint = wish->fingerprint,
    };
    struct record record = {
        .authority = authority, .account_id = account_id, .jti = jti, .wish = wish};
    enum hsm_status st = expiry(authority, wish->lifetime_s, &request.exp);
    HSM_USE_ASKED_BY(account_id);

    if (st != HSM_OK || (st = new_jti(jti)) != HSM_OK)
        return st;
    record.exp = request.exp;
    st = acme_store_together(authority->config.store, insert, &record);
    *wait_s = record.wait_s;
    if (st != HSM_OK || record.wait_s != 0)
        return st;
    st = acme_authority_token_new(&request, authority->config.signer_key, token);
    if (st != HSM_OK) {
        give_back(authority, account_id);
        return st;
    }
    hsm_log(HSM_LOG_INFO, "STI-PA: SPC token %s: account %s, SPC %s%s, for %s, until %" PRId64, jti,
            account_id, wish->spc, wish->ca ? ", ca" : "", wish->fingerprint, (int64_t)request.exp);
    return HSM_OK;
}

static void
answer_token(struct acme_authority *authority, const char *token,
             struct acme_http_response *response)
{
    acme_http_response_header(response, "Cache-Control", "no-store");
    acme_http_respond_json(response, 200, "application/json",
                           json_pack("{s:s, s:s, s:s, s:s, s:s}", "status", "success", "message",
                                     "SPC token granted", "token", token, "crl", authority->crl_url,
                                     "iss", authority->crl_issuer));
}

/* RFC 6585 section 4 */
static void
answer_limited(struct acme_http_response *response, time_t wait_s)
{
    char seconds[32];

    snprintf(seconds, sizeof(seconds), "%lld", (long long)wait_s);
    acme_http_response_header(response, "Retry-After", seconds);
    acme_authority_answer_error(response, 429, "too many SPC tokens in an hour: try again later");
}

static void
grant(struct acme_authority *authority, const char *account_id, const json_t *body,
      struct wish *wish, struct acme_http_response *response)
{
    DEFER(free) char *token = NULL;
    struct hsm_reason why = {""};
    time_t wait_s = 0;
    enum hsm_status st = parse_wish(body, wish, &why);

    if (st == HSM_ERR_MALFORMED || st == HSM_ERR_UNSUPPORTED) {
        acme_authority_answer_error(response, 400, why.text);
        return;
    }
    if (st == HSM_OK)
        st = check_account(authority->config.store, account_id, wish, &why);
    if (st == HSM_OK)
        st = check_policy(authority, wish, &why);
    if (st == HSM_ERR_DENIED) {
        hsm_log(HSM_LOG_WARNING, "STI-PA: account %s: %s", account_id, why.text);
        acme_authority_answer_error(response, 403, why.text);
        return;
    }
    if (st == HSM_OK)
        st = issue(authority, account_id, wish, &token, &wait_s);
    if (st != HSM_OK)
        acme_authority_answer_failure(response, st);
    else if (wait_s != 0)
        answer_limited(response, wait_s);
    else
        answer_token(authority, token, response);
}

void
acme_authority_grant(struct acme_authority *authority, const struct acme_http_request *request,
                     const char *account_id, struct acme_http_response *response)
{
    DEFER(json_decref) json_t *body = NULL;
    struct wish wish = {.tnauthlist = NULL};
    enum authority_verdict verdict = AUTHORITY_REFUSED;
    enum hsm_status st = acme_authority_admit(authority, request, account_id, &verdict);

    if (st != HSM_OK) {
        acme_authority_answer_failure(response, st);
        return;
    }
    if (verdict != AUTHORITY_ADMITTED) {
        acme_authority_answer_verdict(authority, response, verdict);
        return;
    }
    body = acme_authority_body(request, response);
    if (body == NULL)
        return;
    grant(authority, account_id, body, &wish, response);
    wish_clear(&wish);
}
