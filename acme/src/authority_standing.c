/* authority_standing.c - the standing of an account: suspension, addresses, API keys and client
 * certificate. */

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>

#include <openssl/sha.h>

#include <acme/events.h>
#include <hsm/defer.h>
#include <hsm/log.h>
#include <hsm/time.h>

#include "authority_internal.h"

#define API_KEY_LEN  32 /* random octets */
#define API_KEYS_MAX 16 /* of one account, so that keys can overlap */
#define SOURCES_MAX  64 /* of one account */
#define PREFIX_SIZE  64 /* octets of "ADDRESS/BITS" and its NUL */
#define DAY_S        86400
#define REASON_MAX   256 /* octets */
#define CLIENT_MAX   1024 /* octets of a client certificate's subject */

/* ---- network prefixes ---- */

struct prefix {
    uint8_t octets[16]; /* an IPv4 address is ::ffff:a.b.c.d */
    unsigned bits; /* of 128 */
};

static bool
parse_address(const char *text, uint8_t out[16], bool *is_v4)
{
    struct in_addr v4;
    struct in6_addr v6;

    *is_v4 = inet_pton(AF_INET, text, &v4) == 1;
    if (*is_v4) {
        memset(out, 0, 10);
        memset(out + 10, 0xff, 2);
        memcpy(out + 12, &v4, 4);
        return true;
    }
    if (inet_pton(AF_INET6, text, &v6) != 1)
        return false;
    memcpy(out, &v6, 16);
    return true;
}

/* "192.0.2.0/24", "2001:db8::/32", or a single address. */
static bool
parse_prefix(const char *text, struct prefix *out)
{
    char address[PREFIX_SIZE];
    const char *slash = strchr(text, '/');
    size_t len = slash != NULL ? (size_t)(slash - text) : strlen(text);
    unsigned long bits;
    char *end = NULL;
    bool is_v4;

    if (len >= sizeof(address))
        return false;
    memcpy(address, text, len);
    address[len] = '\0';
    if (!parse_address(address, out->octets, &is_v4))
        return false;
    bits = is_v4 ? 32 : 128;
    if (slash != NULL) {
        if (slash[1] < '0' || slash[1] > '9' || strlen(slash + 1) > 3)
            return false;
        bits = strtoul(slash + 1, &end, 10);
        if (*end != '\0' || bits > (is_v4 ? 32 : 128))
            return false;
    }
    out->bits = (unsigned)bits + (is_v4 ? 96 : 0);
    return true;
}

static bool
is_within(const uint8_t address[16], const struct prefix *prefix)
{
    unsigned whole = prefix->bits / 8;
    unsigned rest = prefix->bits % 8;

    if (memcmp(address, prefix->octets, whole) != 0)
        return false;
    return rest == 0 ||
           ((address[whole] ^ prefix->octets[whole]) & (uint8_t)(0xff << (8 - rest))) == 0;
}

/* ---- checks of a request ---- */

/* A request over the Unix socket comes from this host. */
enum hsm_status
acme_authority_source_of(struct acme_authority *authority, const struct acme_http_request *request,
                         const char *account, enum authority_source *source)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    uint8_t address[16];
    struct prefix prefix;
    bool is_v4;
    enum hsm_status st =
        acme_store_query(authority->config.store, &rows,
                         "SELECT prefix FROM account_source WHERE account = ?", "s", account);

    *source = AUTHORITY_ANYWHERE;
    if (st != HSM_OK || acme_rows_count(rows) == 0 || acme_http_request_is_local(request))
        return st;
    *source = AUTHORITY_OUTSIDE;
    if (!parse_address(acme_http_request_peer(request), address, &is_v4))
        return HSM_OK;
    while (acme_rows_next(rows) && *source == AUTHORITY_OUTSIDE) {
        if (parse_prefix(acme_rows_text(rows, 0), &prefix) && is_within(address, &prefix))
            *source = AUTHORITY_WITHIN;
    }
    return HSM_OK;
}

static enum hsm_status
check_source(struct acme_authority *authority, const struct acme_http_request *request,
             const char *account, enum authority_verdict *verdict)
{
    enum authority_source source;
    enum hsm_status st = acme_authority_source_of(authority, request, account, &source);

    if (st == HSM_OK && source == AUTHORITY_OUTSIDE)
        *verdict = AUTHORITY_ELSEWHERE;
    return st;
}

enum hsm_status
acme_authority_check_standing(struct acme_authority *authority,
                              const struct acme_http_request *request, const char *account,
                              enum authority_verdict *verdict)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st =
        acme_store_query(authority->config.store, &rows,
                         "SELECT suspended IS NOT NULL FROM account WHERE id = ?", "s", account);

    if (st != HSM_OK)
        return st;
    if (!acme_rows_next(rows))
        *verdict = AUTHORITY_REFUSED;
    else if (acme_rows_int(rows, 0) != 0)
        *verdict = AUTHORITY_SUSPENDED;
    else
        st = check_source(authority, request, account, verdict);
    if (st == HSM_OK && *verdict != AUTHORITY_ADMITTED)
        hsm_log(HSM_LOG_WARNING, "STI-PA: account %s from %s: %s", account,
                acme_http_request_peer(request),
                *verdict == AUTHORITY_SUSPENDED ? "suspended" : "not from there");
    return st;
}

static enum hsm_status
first_account(struct acme_rows *rows, enum authority_verdict *verdict,
              char account[ACME_AUTHORITY_ID_MAX + 1])
{
    if (acme_rows_next(rows)) {
        snprintf(account, ACME_AUTHORITY_ID_MAX + 1, "%s", acme_rows_text(rows, 0));
        *verdict = AUTHORITY_ADMITTED;
    }
    return HSM_OK;
}

enum hsm_status
acme_authority_admit_api_key(struct acme_authority *authority, const char *key,
                             enum authority_verdict *verdict,
                             char account[ACME_AUTHORITY_ID_MAX + 1])
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    uint8_t digest[SHA256_DIGEST_LENGTH];
    enum hsm_status st;

    SHA256((const unsigned char *)key, strlen(key), digest);
    st = acme_store_query(authority->config.store, &rows,
                          "SELECT account FROM api_key WHERE digest = ? AND revoked IS NULL"
                          " AND expires > ?",
                          "bi", digest, sizeof(digest), (int64_t)acme_authority_now(authority));
    return st == HSM_OK ? first_account(rows, verdict, account) : st;
}

enum hsm_status
acme_authority_admit_client(struct acme_authority *authority, const char *subject,
                            enum authority_verdict *verdict,
                            char account[ACME_AUTHORITY_ID_MAX + 1])
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st = acme_store_query(authority->config.store, &rows,
                                          "SELECT id FROM account WHERE client = ?", "s", subject);

    return st == HSM_OK ? first_account(rows, verdict, account) : st;
}

/* ---- the operator ---- */

/* Change an account and record the event; HSM_ERR_NOT_FOUND if no row changes. */
static enum hsm_status
change(struct acme_store *store, const struct acme_event *event, const char *sql, const char *value)
{
    int64_t changes = 0;
    enum hsm_status st = acme_store_begin(store);

    if (st != HSM_OK)
        return st;
    st = acme_store_run(store, &changes, sql, "ss", value, event->subject);
    if (st == HSM_OK && changes == 0)
        st = HSM_ERR_NOT_FOUND;
    return acme_event_commit(store, st, event);
}

enum hsm_status
acme_authority_account_suspend(struct acme_store *store, const char *account_id, const char *reason)
{
    if (strlen(reason) > REASON_MAX) {
        hsm_log(HSM_LOG_ERROR, "reason: longer than %d octets", REASON_MAX);
        return HSM_ERR_MALFORMED;
    }
    return change(
        store,
        &(struct acme_event){
            .at = time(NULL), .what = "account suspended", .subject = account_id, .detail = reason},
        "UPDATE account SET suspended = ? WHERE id = ? AND suspended IS NULL", reason);
}

enum hsm_status
acme_authority_account_reinstate(struct acme_store *store, const char *account_id)
{
    return change(
        store,
        &(struct acme_event){.at = time(NULL), .what = "account reinstated", .subject = account_id},
        "UPDATE account SET suspended = ? WHERE id = ? AND suspended IS NOT NULL", NULL);
}

enum hsm_status
acme_authority_account_bind(struct acme_store *store, const char *account_id, const char *subject)
{
    if (subject != NULL && (*subject == '\0' || strlen(subject) > CLIENT_MAX)) {
        hsm_log(HSM_LOG_ERROR, "subject: not 1 to %d octets", CLIENT_MAX);
        return HSM_ERR_MALFORMED;
    }
    return change(store,
                  &(struct acme_event){.at = time(NULL),
                                       .what = subject != NULL ? "client certificate bound"
                                                               : "client certificate unbound",
                                       .subject = account_id,
                                       .detail = subject},
                  "UPDATE account SET client = ? WHERE id = ?", subject);
}

static enum hsm_status
check_account(struct acme_store *store, const char *account_id)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st =
        acme_store_query(store, &rows, "SELECT 1 FROM account WHERE id = ?", "s", account_id);

    return st == HSM_OK && !acme_rows_next(rows) ? HSM_ERR_NOT_FOUND : st;
}

static enum hsm_status
insert_sources(struct acme_store *store, const char *account_id, const char *const *prefixes,
               char *told, size_t size)
{
    enum hsm_status st = acme_store_run(store, NULL, "DELETE FROM account_source WHERE account = ?",
                                        "s", account_id);
    size_t len = 0;

    for (size_t i = 0; st == HSM_OK && prefixes[i] != NULL; i++) {
        st = acme_store_run(
            store, NULL,
            "INSERT INTO account_source (account, prefix) VALUES (?, ?) ON CONFLICT DO NOTHING",
            "ss", account_id, prefixes[i]);
        len += (size_t)snprintf(told + len, size - len, "%s%s", i > 0 ? " " : "", prefixes[i]);
    }
    return st;
}

enum hsm_status
acme_authority_account_limit(struct acme_store *store, const char *account_id,
                             const char *const *prefixes)
{
    char told[SOURCES_MAX * PREFIX_SIZE] = "everywhere";
    struct prefix prefix;
    enum hsm_status st;

    for (size_t i = 0; prefixes[i] != NULL; i++) {
        if (i == SOURCES_MAX || strlen(prefixes[i]) >= PREFIX_SIZE ||
            !parse_prefix(prefixes[i], &prefix)) {
            hsm_log(HSM_LOG_ERROR, "source \"%s\": not an address or ADDRESS/BITS, or over %d",
                    prefixes[i], SOURCES_MAX);
            return HSM_ERR_MALFORMED;
        }
    }
    st = acme_store_begin(store);
    if (st != HSM_OK)
        return st;
    st = check_account(store, account_id);
    if (st == HSM_OK)
        st = insert_sources(store, account_id, prefixes, told, sizeof(told));
    return acme_event_commit(store, st,
                             &(struct acme_event){.at = time(NULL),
                                                  .what = "account limited to sources",
                                                  .subject = account_id,
                                                  .detail = told});
}

/* ---- API keys ---- */

/* Within a transaction. */
static enum hsm_status
insert_key(struct acme_store *store, const char *account_id, const struct hsm_secret *key,
           int64_t expires, int64_t *id)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    uint8_t digest[SHA256_DIGEST_LENGTH];
    enum hsm_status st = check_account(store, account_id);

    if (st == HSM_OK)
        st = acme_store_query(store, &rows,
                              "SELECT count(*) FROM api_key WHERE account = ? AND revoked IS NULL"
                              " AND expires > ?",
                              "si", account_id, (int64_t)time(NULL));
    if (st != HSM_OK)
        return st;
    if (acme_rows_next(rows) && acme_rows_int(rows, 0) >= API_KEYS_MAX) {
        hsm_log(HSM_LOG_ERROR, "account %s: has %d API keys already", account_id, API_KEYS_MAX);
        return HSM_ERR_USAGE;
    }
    SHA256((const unsigned char *)hsm_secret_octets(key), hsm_secret_len(key), digest);
    return acme_store_insert(
        store, id,
        "INSERT INTO api_key (digest, account, created, expires) VALUES (?, ?, ?, ?) RETURNING id",
        "bsii", digest, sizeof(digest), account_id, (int64_t)time(NULL), expires);
}

static enum hsm_status
add_key(struct acme_store *store, const char *account_id, const struct hsm_secret *key,
        unsigned days, int64_t *id)
{
    char detail[64];
    int64_t number = 0;
    enum hsm_status st = acme_store_begin(store);

    if (st != HSM_OK)
        return st;
    st = insert_key(store, account_id, key, (int64_t)time(NULL) + (int64_t)days * DAY_S, &number);
    snprintf(detail, sizeof(detail), "number %" PRId64 ", for %u days", number, days);
    st = acme_event_commit(
        store, st,
        &(struct acme_event){
            .at = time(NULL), .what = "API key added", .subject = account_id, .detail = detail});
    if (st == HSM_OK)
        *id = number;
    return st;
}

/* Write the file first: a key that is only in the store could not be used. */
enum hsm_status
acme_authority_api_key_add(struct acme_store *store, const char *account_id, const char *path,
                           unsigned days, int64_t *id)
{
    DEFER(hsm_secret_free) struct hsm_secret *key = NULL;
    enum hsm_status st;

    if (days == 0 || days > ACME_AUTHORITY_KEY_DAYS_MAX) {
        hsm_log(HSM_LOG_ERROR, "days: not 1 to %d", ACME_AUTHORITY_KEY_DAYS_MAX);
        return HSM_ERR_MALFORMED;
    }
    st = check_account(store, account_id);
    if (st == HSM_OK)
        st = hsm_secret_random(API_KEY_LEN, &key);
    if (st == HSM_OK)
        st = hsm_secret_write(key, path);
    return st == HSM_OK ? add_key(store, account_id, key, days, id) : st;
}

/* Within a transaction. */
static enum hsm_status
revoke_key(struct acme_store *store, int64_t id)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    char detail[32];
    enum hsm_status st = acme_store_query(
        store, &rows, "SELECT account FROM api_key WHERE id = ? AND revoked IS NULL", "i", id);

    if (st != HSM_OK)
        return st;
    if (!acme_rows_next(rows))
        return HSM_ERR_NOT_FOUND;
    st = acme_store_run(store, NULL, "UPDATE api_key SET revoked = ? WHERE id = ?", "ii",
                        (int64_t)time(NULL), id);
    snprintf(detail, sizeof(detail), "number %" PRId64, id);
    return st == HSM_OK
               ? acme_event_add(store, &(struct acme_event){.at = time(NULL),
                                                            .what = "API key revoked",
                                                            .subject = acme_rows_text(rows, 0),
                                                            .detail = detail})
               : st;
}

enum hsm_status
acme_authority_api_key_revoke(struct acme_store *store, int64_t id)
{
    enum hsm_status st = acme_store_begin(store);

    if (st != HSM_OK)
        return st;
    st = revoke_key(store, id);
    if (st == HSM_OK)
        return acme_store_commit(store);
    acme_store_rollback(store);
    return st;
}

enum hsm_status
acme_authority_api_keys_show(struct acme_store *store, FILE *to)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st = acme_store_query(
        store, &rows, "SELECT id, account, created, expires, revoked FROM api_key ORDER BY id", "");

    while (st == HSM_OK && acme_rows_next(rows)) {
        char created[HSM_TIME_DAY_LEN + 1], expires[HSM_TIME_DAY_LEN + 1];
        bool is_revoked = acme_rows_int(rows, 4) != 0;

        hsm_time_day((time_t)acme_rows_int(rows, 2), created);
        hsm_time_day((time_t)acme_rows_int(rows, 3), expires);
        fprintf(to, "%" PRId64 "  account %s  since %s  until %s%s\n", acme_rows_int(rows, 0),
                acme_rows_text(rows, 1), created, expires, is_revoked ? "  revoked" : "");
    }
    return st;
}
