/*
 * authority_publish.c - what the STI-PA publishes: the trusted-CA list, the CRL, and the
 * certificates of their signers.
 *
 * A document is served from the store only. A new one takes the next number and is
 * inserted under it before it is served: when two processes sign at once, one finds the
 * number taken and serves the other's document. So a number never has two contents, and
 * numbers never decrease.
 */
#define _GNU_SOURCE /* asprintf */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/sha.h>

#include <acme/ca_list.h>
#include <acme/events.h>
#include <acme/time.h>
#include <certs/cert.h>
#include <certs/crl.h>
#include <hsm/clock.h>
#include <hsm/defer.h>
#include <hsm/hex.h>
#include <hsm/log.h>

#include "authority_internal.h"

#define RETRY_S          30 /* before the next attempt after a failed signature */
#define BACKDATE_S       300 /* thisUpdate is this long ago: verifiers' clocks may be slow */
#define DOCUMENTS_KEPT   100 /* of each kind */
#define SIGNER_WARNING_S (30 * 86400)
#define SIGNER_ID_LEN    32 /* hex digits of a certificate id */
#define SIGNER_MAX_AGE   "public, max-age=31536000, immutable"

/** A row of the table. */
struct document {
    uint64_t number;
    time_t expires;
    char *signer;
    uint8_t says[SHA256_DIGEST_LENGTH];
    uint8_t *body;
    size_t len;
    time_t this_update; /* thisUpdate and last entry of a CRL that is being signed */
    int64_t last_entry;
};

static void
document_clear(struct document *document)
{
    free(document->signer);
    free(document->body);
    memset(document, 0, sizeof(*document));
}

static const char *
name_of(enum authority_document kind)
{
    return kind == AUTHORITY_CA_LIST ? "trusted-CA list" : "CRL";
}

/* SHA-256 over what identifies the current contents of the CRL, without number and times: its URL,
 * and the number of its last entry. */
static enum hsm_status
crl_says(struct acme_authority *authority, uint8_t out[SHA256_DIGEST_LENGTH])
{
    DEFER(free) char *text = NULL;
    int64_t entries = 0;
    enum hsm_status st = acme_authority_entries_last(authority->config.store, &entries);

    if (st != HSM_OK)
        return st;
    if (asprintf(&text, "%s %" PRId64, authority->crl_url, entries) < 0) {
        text = NULL;
        return HSM_ERR_NOMEM;
    }
    SHA256((const unsigned char *)text, strlen(text), out);
    return HSM_OK;
}

static enum hsm_status
sign_list(struct acme_authority *authority, struct document *document)
{
    DEFER(certs_chain_free) struct certs_chain *roots = NULL;
    struct acme_ca_list_request request = {
        .sequence = document->number,
        .exp = document->expires,
        .x5u = document->signer,
    };
    char *jws = NULL;
    enum hsm_status st = acme_authority_roots(authority->config.store, &roots);

    if (st != HSM_OK)
        return st;
    request.roots = roots;
    st = acme_ca_list_new(&request, authority->config.signer_key, &jws);
    if (st != HSM_OK)
        return st;
    document->len = strlen(jws);
    document->body = (uint8_t *)jws;
    return HSM_OK;
}

static enum hsm_status
sign_crl(struct acme_authority *authority, struct document *document)
{
    struct certs_crl_request request = {
        .number = document->number,
        .this_update = acme_authority_now(authority) - BACKDATE_S,
        .next_update = document->expires,
        .url = authority->crl_url,
        .signer_cert_url = document->signer,
    };
    struct authority_entries entries = {.entries = NULL};
    enum hsm_status st = acme_authority_entries_read(authority, &entries);

    if (st != HSM_OK)
        return st;
    request.entries = entries.entries;
    request.count = entries.count;
    document->this_update = request.this_update;
    document->last_entry = entries.last;
    st = certs_crl_new(&request, certs_chain_get(authority->config.crl_chain, 0),
                       authority->config.crl_key, &document->body, &document->len);
    acme_authority_entries_clear(&entries);
    return st;
}

/* What differs between list and CRL. */
struct publication {
    const char *signer; /* URL */
    const struct certs_chain *chain;
    unsigned lifetime_s;
    enum hsm_status (*says)(struct acme_authority *authority, uint8_t out[SHA256_DIGEST_LENGTH]);
    /* Makes body and len from number, expires and signer. */
    enum hsm_status (*sign)(struct acme_authority *authority, struct document *document);
};

static struct publication
publication_of(const struct acme_authority *authority, enum authority_document kind)
{
    const struct acme_authority_config *config = &authority->config;

    if (kind == AUTHORITY_CA_LIST)
        return (struct publication){authority->signer_url, config->signer_chain,
                                    config->list_lifetime_s, acme_authority_roots_digest,
                                    sign_list};
    return (struct publication){authority->crl_signer_url, config->crl_chain,
                                config->crl_lifetime_s, crl_says, sign_crl};
}

static enum hsm_status
copy_row(const struct acme_rows *rows, struct document *out)
{
    struct document document = {.number = (uint64_t)acme_rows_int(rows, 0),
                                .expires = (time_t)acme_rows_int(rows, 1)};
    size_t says_len;
    const uint8_t *says = acme_rows_blob(rows, 3, &says_len);
    const uint8_t *body = acme_rows_blob(rows, 4, &document.len);

    document.signer = strdup(acme_rows_text(rows, 2));
    document.body = malloc(document.len + 1);
    if (document.signer == NULL || document.body == NULL) {
        document_clear(&document);
        return HSM_ERR_NOMEM;
    }
    if (says_len == sizeof(document.says)) /* else it stays 0, and a new document is signed */
        memcpy(document.says, says, says_len);
    memcpy(document.body, body, document.len);
    document.body[document.len] = '\0';
    *out = document;
    return HSM_OK;
}

/* The document with the highest number; number 0 if there is none. */
static enum hsm_status
read_latest(struct acme_authority *authority, enum authority_document kind, struct document *out)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st =
        acme_store_query(authority->config.store, &rows,
                         "SELECT number, expires, signer, says, body FROM document WHERE kind = ?"
                         " ORDER BY number DESC LIMIT 1",
                         "i", (int64_t)kind);

    if (st != HSM_OK)
        return st;
    memset(out, 0, sizeof(*out));
    return acme_rows_next(rows) ? copy_row(rows, out) : HSM_OK;
}

enum hsm_status
acme_authority_document_floor(struct acme_store *store, enum authority_document kind, uint64_t *out)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st = acme_store_query(
        store, &rows, "SELECT number FROM published WHERE kind = ?", "i", (int64_t)kind);

    if (st != HSM_OK)
        return st;
    *out = acme_rows_next(rows) ? (uint64_t)acme_rows_int(rows, 0) : 0;
    return HSM_OK;
}

/* When a document that is signed now expires: no later than its signer's certificate. */
static time_t
new_expiry(const struct acme_authority *authority, enum authority_document kind)
{
    struct publication publication = publication_of(authority, kind);
    time_t expires = acme_authority_now(authority) + (time_t)publication.lifetime_s;
    time_t signer_until = certs_chain_not_after(publication.chain);

    return expires < signer_until ? expires : signer_until;
}

/*
 * A new document is signed when the contents have changed, or when it would last
 * at least half a lifetime longer. When it would expire earlier, the old one was
 * signed while the clock was fast, and verifiers find it not yet valid. A number
 * that is not above `floor` was published before the store was restored.
 */
static enum hsm_status
is_current(struct acme_authority *authority, enum authority_document kind,
           const struct document *document, uint64_t floor, bool *current)
{
    struct publication publication = publication_of(authority, kind);
    time_t gain = new_expiry(authority, kind) - document->expires;
    uint8_t says[SHA256_DIGEST_LENGTH];
    enum hsm_status st = publication.says(authority, says);

    if (st != HSM_OK)
        return st;
    *current = document->number > floor && strcmp(document->signer, publication.signer) == 0 &&
               memcmp(document->says, says, sizeof(says)) == 0 &&
               document->expires > acme_authority_now(authority) &&
               gain < (time_t)publication.lifetime_s / 2 && gain >= -ACME_CLOCK_SKEW_S;
    return HSM_OK;
}

/* Delete documents that are no longer in use; the highest number is always kept. */
static enum hsm_status
prune(struct acme_authority *authority, enum authority_document kind, uint64_t number)
{
    if (number <= DOCUMENTS_KEPT)
        return HSM_OK;
    return acme_store_run(authority->config.store, NULL,
                          "DELETE FROM document WHERE kind = ? AND number <= ?", "ii",
                          (int64_t)kind, (int64_t)(number - DOCUMENTS_KEPT));
}

static enum hsm_status
tell_signed(struct acme_authority *authority, enum authority_document kind,
            const struct document *document)
{
    char what[64], subject[32];

    snprintf(what, sizeof(what), "%s signed", name_of(kind));
    snprintf(subject, sizeof(subject), "%" PRIu64, document->number);
    return acme_event_add(authority->config.store,
                          &(struct acme_event){.at = acme_authority_now(authority),
                                               .who = "sti-pa",
                                               .what = what,
                                               .subject = subject,
                                               .detail = document->signer});
}

static enum hsm_status
insert(struct acme_authority *authority, enum authority_document kind,
       const struct document *document)
{
    enum hsm_status st = acme_store_begin(authority->config.store);

    if (st != HSM_OK)
        return st;
    st = acme_store_run(authority->config.store, NULL,
                        "INSERT INTO document (kind, number, expires, signer, says, body)"
                        " VALUES (?, ?, ?, ?, ?, ?)",
                        "iiisbb", (int64_t)kind, (int64_t)document->number,
                        (int64_t)document->expires, document->signer, document->says,
                        sizeof(document->says), document->body, document->len);

    if (st == HSM_OK)
        st = tell_signed(authority, kind, document);
    if (st == HSM_OK && kind == AUTHORITY_CRL)
        st = acme_authority_entries_outlive(authority, document->last_entry, document->this_update);
    if (st == HSM_OK)
        st = acme_store_commit(authority->config.store);
    else
        acme_store_rollback(authority->config.store);
    if (st == HSM_ERR_EXISTS) { /* another process was faster: its document has this number, and may
                                 * have been signed before the latest decision */
        if (kind == AUTHORITY_CRL)
            acme_authority_crl_changed(authority);
        return HSM_OK;
    }
    if (st != HSM_OK)
        return st;
    hsm_log(HSM_LOG_INFO, "STI-PA: %s %llu signed", name_of(kind),
            (unsigned long long)document->number);
    return prune(authority, kind, document->number);
}

static enum hsm_status
check_signer(const struct acme_authority *authority, enum authority_document kind)
{
    time_t until = certs_chain_not_after(publication_of(authority, kind).chain);
    time_t left = until - acme_authority_now(authority);

    if (left <= 0) {
        hsm_log(HSM_LOG_ERROR, "STI-PA: the %s cannot be signed: its signer has expired",
                name_of(kind));
        return HSM_ERR_UNTRUSTED;
    }
    if (left < SIGNER_WARNING_S)
        hsm_log(HSM_LOG_WARNING, "STI-PA: the signer of the %s expires in %lld hours",
                name_of(kind), (long long)left / 3600);
    return HSM_OK;
}

/* Sign the next document and make it durable. */
static enum hsm_status
sign_next(struct acme_authority *authority, enum authority_document kind, uint64_t number)
{
    struct publication publication = publication_of(authority, kind);
    CLEAR_AFTER(document_clear)
    struct document next = {.number = number, .expires = new_expiry(authority, kind)};
    enum hsm_status st = check_signer(authority, kind);

    if (st != HSM_OK)
        return st;
    next.signer = strdup(publication.signer);
    if (next.signer == NULL)
        return HSM_ERR_NOMEM;
    /* The digest comes first: a change in between makes this document stale and is not missed. */
    if ((st = publication.says(authority, next.says)) != HSM_OK ||
        (st = publication.sign(authority, &next)) != HSM_OK)
        return st;
    return insert(authority, kind, &next);
}

/* One thread signs; threads that waited find its document. */
static enum hsm_status
refresh_locked(struct acme_authority *authority, enum authority_document kind)
{
    CLEAR_AFTER(document_clear) struct document latest = {.number = 0};
    bool current = false;
    uint64_t floor = 0;
    enum hsm_status st = read_latest(authority, kind, &latest);

    if (st == HSM_OK)
        st = acme_authority_document_floor(authority->config.store, kind, &floor);
    if (st == HSM_OK)
        st = is_current(authority, kind, &latest, floor, &current);
    if (st != HSM_OK || current)
        return st;
    if (!acme_time_is_due(authority->retry_at[kind], RETRY_S, acme_authority_now(authority)))
        return HSM_ERR_BUSY;
    st = sign_next(authority, kind, (latest.number > floor ? latest.number : floor) + 1);
    authority->retry_at[kind] = st == HSM_OK ? 0 : acme_authority_now(authority) + RETRY_S;
    if (kind == AUTHORITY_CRL)
        authority->crl_signed_ns = hsm_clock_ns();
    return st;
}

enum hsm_status
acme_authority_document_refresh(struct acme_authority *authority, enum authority_document kind)
{
    enum hsm_status st;

    pthread_mutex_lock(&authority->signing);
    st = refresh_locked(authority, kind);
    pthread_mutex_unlock(&authority->signing);
    return st;
}

void
acme_authority_crl_changed(struct acme_authority *authority)
{
    atomic_store(&authority->crl_changed, true);
}

/* Under the lock. Without a pause, every revocation and every download in between would have the
 * whole CRL signed again. */
static bool
is_paused(const struct acme_authority *authority, enum authority_document kind)
{
    int64_t pause_ns = (int64_t)authority->config.crl_pause_ms * HSM_NS_PER_MS;

    return kind == AUTHORITY_CRL && authority->crl_signed_ns != 0 &&
           hsm_clock_ns() - authority->crl_signed_ns < pause_ns;
}

/* Whether it can be served: it has not expired, and relying parties have not seen a later one. */
static bool
is_servable(const struct acme_authority *authority, const struct document *document, uint64_t floor)
{
    return document->number > floor && document->expires > acme_authority_now(authority);
}

/* For requests that can be answered with the previous document: do not wait for the thread that
 * signs. That is so for the CRL, which changes with each revocation; the list changes when an
 * operator changes it, who expects to see the change at once. */
static enum hsm_status
try_refresh(struct acme_authority *authority, enum authority_document kind)
{
    enum hsm_status st = HSM_ERR_BUSY;

    if (pthread_mutex_trylock(&authority->signing) != 0)
        return HSM_ERR_BUSY;
    if (!is_paused(authority, kind))
        st = refresh_locked(authority, kind);
    pthread_mutex_unlock(&authority->signing);
    return st;
}

/*
 * The document to serve: the current one. When a new one cannot be signed, or one was signed
 * just now, the previous one is served until it expires, unless relying parties have seen a
 * later one.
 */
static enum hsm_status
read_document(struct acme_authority *authority, enum authority_document kind, struct document *out)
{
    CLEAR_AFTER(document_clear) struct document latest = {.number = 0};
    bool current = false;
    uint64_t floor = 0;
    enum hsm_status st = read_latest(authority, kind, &latest);

    if (st == HSM_OK)
        st = acme_authority_document_floor(authority->config.store, kind, &floor);
    if (st == HSM_OK)
        st = is_current(authority, kind, &latest, floor, &current);
    if (st != HSM_OK)
        return st;
    if (!current) {
        bool may_be_former = kind == AUTHORITY_CRL && is_servable(authority, &latest, floor);
        enum hsm_status refreshed = may_be_former
                                        ? try_refresh(authority, kind)
                                        : acme_authority_document_refresh(authority, kind);

        document_clear(&latest);
        st = read_latest(authority, kind, &latest);
        if (st != HSM_OK)
            return st;
        if (!is_servable(authority, &latest, floor))
            return refreshed != HSM_OK ? refreshed : HSM_ERR_BUSY;
    }
    *out = latest;
    memset(&latest, 0, sizeof(latest));
    return HSM_OK;
}

/* ---- after a backup was restored ---- */

static enum hsm_status
raise_number(struct acme_store *store, enum authority_document kind, int64_t number, time_t now)
{
    char detail[64];
    int64_t changes = 0;
    enum hsm_status st = acme_store_run(
        store, &changes,
        "INSERT INTO published (kind, number) SELECT ?, ? WHERE NOT EXISTS"
        " (SELECT 1 FROM document WHERE kind = ? AND number > ?) ON CONFLICT (kind) DO UPDATE"
        " SET number = excluded.number WHERE excluded.number >= published.number",
        "iiii", (int64_t)kind, number, (int64_t)kind, number);

    if (st != HSM_OK)
        return st;
    if (changes == 0)
        return HSM_ERR_EXISTS;
    snprintf(detail, sizeof(detail), "%" PRId64 " was published", number);
    return acme_event_add(
        store, &(struct acme_event){
                   .at = now, .what = "number raised", .subject = name_of(kind), .detail = detail});
}

enum hsm_status
acme_authority_numbers_raise(struct acme_store *store, int64_t sequence, int64_t crl_number,
                             time_t now)
{
    const int64_t numbers[AUTHORITY_DOCUMENTS] = {
        [AUTHORITY_CA_LIST] = sequence,
        [AUTHORITY_CRL] = crl_number,
    };
    enum hsm_status st = HSM_OK;

    for (int i = 0; i < AUTHORITY_DOCUMENTS; i++)
        if (numbers[i] < 0 || numbers[i] > ACME_AUTHORITY_NUMBER_MAX) {
            hsm_log(HSM_LOG_ERROR, "number of the %s: not 1 to %" PRId64,
                    name_of((enum authority_document)i), ACME_AUTHORITY_NUMBER_MAX);
            return HSM_ERR_MALFORMED;
        }
    st = acme_store_begin(store);
    if (st != HSM_OK)
        return st;
    for (int i = 0; i < AUTHORITY_DOCUMENTS && st == HSM_OK; i++)
        if (numbers[i] != 0)
            st = raise_number(store, (enum authority_document)i, numbers[i], now);
    if (st == HSM_OK)
        return acme_store_commit(store);
    acme_store_rollback(store);
    return st;
}

/* ---- answers ---- */

/* Caches may keep it until a new one is due, but must notice a change soon. */
static void
add_caching(struct acme_authority *authority, enum authority_document kind,
            const struct document *document, struct acme_http_response *response)
{
    time_t gain = new_expiry(authority, kind) - document->expires;
    time_t max_age = (time_t)publication_of(authority, kind).lifetime_s / 2 - gain;
    char value[48];

    if (max_age > document->expires - acme_authority_now(authority))
        max_age = document->expires - acme_authority_now(authority);
    if (max_age > ACME_AUTHORITY_MAX_AGE_S)
        max_age = ACME_AUTHORITY_MAX_AGE_S;
    if (max_age < 0)
        max_age = 0;
    snprintf(value, sizeof(value), "public, max-age=%lld", (long long)max_age);
    acme_http_response_header(response, "Cache-Control", value);
}

/* RFC 9110 section 13.1.2: respond 304 if the client has this body already. */
static bool
is_unmodified(const struct acme_http_request *request, const struct document *document,
              struct acme_http_response *response)
{
    const char *wanted = acme_http_request_header(request, "If-None-Match");
    uint8_t digest[SHA256_DIGEST_LENGTH];
    char etag[2 + 32 + 1] = "\"";

    SHA256(document->body, document->len, digest);
    hsm_hex_put(digest, 16, etag + 1);
    etag[33] = '"';
    etag[34] = '\0';
    acme_http_response_header(response, "ETag", etag);
    if (wanted == NULL || (strstr(wanted, etag) == NULL && strcmp(wanted, "*") != 0))
        return false;
    acme_http_respond(response, 304, NULL, NULL, 0);
    return true;
}

/* Read the document. False: the response is complete without it. */
static bool
begin_answer(struct acme_authority *authority, enum authority_document kind,
             const struct acme_http_request *request, struct acme_http_response *response,
             struct document *document)
{
    enum hsm_status st = read_document(authority, kind, document);

    if (st != HSM_OK) {
        acme_authority_answer_failure(response, st);
        return false;
    }
    add_caching(authority, kind, document, response);
    return !is_unmodified(request, document, response);
}

void
acme_authority_serve_ca_list(struct acme_authority *authority,
                             const struct acme_http_request *request, const char *param,
                             struct acme_http_response *response)
{
    CLEAR_AFTER(document_clear) struct document list = {.number = 0};

    (void)param;
    if (!begin_answer(authority, AUTHORITY_CA_LIST, request, response, &list))
        return;
    acme_http_respond_json(response, 200, "application/json",
                           json_pack("{s:s, s:s, s:s}", "status", "success", "message",
                                     "trusted STI-CA list", "caList", (const char *)list.body));
}

void
acme_authority_serve_crl(struct acme_authority *authority, const struct acme_http_request *request,
                         const char *param, struct acme_http_response *response)
{
    CLEAR_AFTER(document_clear) struct document crl = {.number = 0};

    (void)param;
    if (!begin_answer(authority, AUTHORITY_CRL, request, response, &crl))
        return;
    acme_http_respond(response, 200, "application/pkix-crl", crl.body, crl.len);
}

enum hsm_status
acme_authority_signer_publish(struct acme_authority *authority, const struct certs_chain *chain,
                              char **url)
{
    DEFER(free) char *pem = NULL;
    uint8_t digest[SHA256_DIGEST_LENGTH];
    char digits[SIGNER_ID_LEN + 1];
    char path[sizeof(ACME_AUTHORITY_SIGNERS_PATH "certificateId_.crt") + SIGNER_ID_LEN];
    enum hsm_status st = certs_chain_pem(chain, &pem);

    if (st != HSM_OK)
        return st;
    /* The name is derived from the whole chain: another chain has another name, and no name is
     * reused. */
    SHA256((const unsigned char *)pem, strlen(pem), digest);
    hsm_hex_put(digest, SIGNER_ID_LEN / 2, digits);
    snprintf(path, sizeof(path), ACME_AUTHORITY_SIGNERS_PATH "certificateId_%s.crt", digits);
    st = acme_store_run(authority->config.store, NULL,
                        "INSERT INTO signer_chain (id, pem) VALUES (?, ?) ON CONFLICT DO NOTHING",
                        "ss", path + strlen(ACME_AUTHORITY_SIGNERS_PATH), pem);
    if (st != HSM_OK)
        return st;
    *url = acme_authority_url(authority->config.base_url, path);
    return *url != NULL ? HSM_OK : HSM_ERR_NOMEM;
}

void
acme_authority_serve_signer(struct acme_authority *authority,
                            const struct acme_http_request *request, const char *id,
                            struct acme_http_response *response)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st = acme_store_query(authority->config.store, &rows,
                                          "SELECT pem FROM signer_chain WHERE id = ?", "s", id);
    const char *pem;

    (void)request;
    if (st != HSM_OK) {
        acme_authority_answer_failure(response, st);
        return;
    }
    if (!acme_rows_next(rows)) {
        acme_authority_answer_error(response, 404, "no such certificate");
        return;
    }
    pem = acme_rows_text(rows, 0);
    acme_http_response_header(response, "Cache-Control", SIGNER_MAX_AGE);
    acme_http_respond(response, 200, "application/pem-certificate-chain", pem, strlen(pem));
}
