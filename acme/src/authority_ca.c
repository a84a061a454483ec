/* authority_ca.c - the STI-CAs that the STI-PA trusts: the trusted list, and the account of
 * each. */

#include <stdlib.h>
#include <string.h>

#include <openssl/sha.h>
#include <openssl/x509.h>

#include <acme/events.h>
#include <certs/cert.h>
#include <certs/issue.h>
#include <certs/lint.h>
#include <hsm/defer.h>
#include <hsm/hex.h>
#include <hsm/log.h>
#include <hsm/text.h>
#include <hsm/time.h>

#include "authority_internal.h"
#include "defer_internal.h"

/* Faults are logged, since an operator supplied the certificate. On points where the standards
 * disagree, the linter only warns. */
static enum hsm_status
check_profile(const X509 *root, const char *subject)
{
    DEFER(certs_lint_free) struct certs_lint *lint = NULL;
    enum hsm_status st =
        certs_lint_new(root, &(struct certs_lint_options){.role = CERTS_LINT_ROOT}, &lint);

    if (st != HSM_OK)
        return st;
    for (size_t i = 0; i < certs_lint_len(lint); i++) {
        const struct certs_lint_finding *finding = certs_lint_get(lint, i);

        hsm_log(finding->rule->severity == CERTS_LINT_ERROR ? HSM_LOG_ERROR : HSM_LOG_WARNING,
                "%s: %s: %s (%s)", subject, finding->rule->id, finding->detail.text,
                finding->rule->citation);
    }
    return certs_lint_count(lint, CERTS_LINT_ERROR) > 0 ? HSM_ERR_UNTRUSTED : HSM_OK;
}

static enum hsm_status
insert_root(struct acme_store *store, const X509 *root, const char *digest_hex)
{
    uint8_t *der = NULL;
    size_t len;
    enum hsm_status st = certs_cert_der(root, &der, &len);

    if (st != HSM_OK)
        return st;
    st = acme_store_run(store, NULL, "INSERT INTO trusted_ca (sha256, der, added) VALUES (?, ?, ?)",
                        "sbi", digest_hex, der, len, (int64_t)time(NULL));
    free(der);
    return st;
}

enum hsm_status
acme_authority_ca_add(struct acme_store *store, const X509 *root)
{
    DEFER(free) char *subject = certs_cert_subject(root);
    DEFER(free) char *issuer = certs_cert_issuer(root);
    uint8_t digest[SHA256_DIGEST_LENGTH];
    char digest_hex[2 * SHA256_DIGEST_LENGTH + 1];
    enum hsm_status st;

    if (subject == NULL || issuer == NULL)
        return HSM_ERR_NOMEM;
    if (strcmp(subject, issuer) != 0 || certs_cert_not_after(root) <= time(NULL)) {
        hsm_log(HSM_LOG_ERROR, "%s: not a root, or expired", subject);
        return HSM_ERR_UNTRUSTED;
    }
    if ((st = check_profile(root, subject)) != HSM_OK ||
        (st = certs_cert_sha256(root, digest)) != HSM_OK ||
        (st = acme_store_begin(store)) != HSM_OK)
        return st;
    hsm_hex_put(digest, sizeof(digest), digest_hex);
    st = insert_root(store, root, digest_hex);
    return acme_event_commit(
        store, st,
        &(struct acme_event){
            .at = time(NULL), .what = "STI-CA trusted", .subject = digest_hex, .detail = subject});
}

static enum hsm_status
delete_root(struct acme_store *store, const char *digest_hex)
{
    int64_t changes = 0;
    enum hsm_status st =
        acme_store_run(store, &changes, "DELETE FROM trusted_ca WHERE sha256 = ?", "s", digest_hex);

    return st == HSM_OK && changes == 0 ? HSM_ERR_NOT_FOUND : st;
}

enum hsm_status
acme_authority_ca_remove(struct acme_store *store, const char *sha256, const char *reason)
{
    enum hsm_status st = acme_store_begin(store);

    if (st != HSM_OK)
        return st;
    st = delete_root(store, sha256);
    return acme_event_commit(store, st,
                             &(struct acme_event){.at = time(NULL),
                                                  .what = "STI-CA no longer trusted",
                                                  .subject = sha256,
                                                  .detail = reason});
}

/* The certificate in the current row's column 1. */
static enum hsm_status
read_root(const struct acme_rows *rows, X509 **out)
{
    struct hsm_reason why;
    size_t len;
    const uint8_t *der = acme_rows_blob(rows, 1, &len);
    enum hsm_status st = certs_cert_parse_der(der, len, out, &why);

    if (st == HSM_ERR_MALFORMED)
        hsm_log(HSM_LOG_ERROR, "trusted CA %s: %s", acme_rows_text(rows, 0), why.text);
    return st;
}

/* In a fixed order, so that the list does not depend on the order in which roots were added. */
static enum hsm_status
query_roots(struct acme_store *store, struct acme_rows **rows)
{
    return acme_store_query(store, rows, "SELECT sha256, der FROM trusted_ca ORDER BY sha256", "");
}

enum hsm_status
acme_authority_cas_show(struct acme_store *store, FILE *to)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st = query_roots(store, &rows);

    while (st == HSM_OK && acme_rows_next(rows)) {
        DEFER(X509_free) X509 *root = NULL;
        DEFER(free) char *subject = NULL;
        char day[HSM_TIME_DAY_LEN + 1];

        st = read_root(rows, &root);
        if (st != HSM_OK)
            return st;
        subject = certs_cert_subject(root);
        hsm_time_day(certs_cert_not_after(root), day);
        fprintf(to, "%s  until %s  ", acme_rows_text(rows, 0), day);
        hsm_text_put(subject != NULL ? subject : "", to);
        fputc('\n', to);
    }
    return st;
}

enum hsm_status
acme_authority_roots(struct acme_store *store, struct certs_chain **out)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    DEFER(certs_chain_free) struct certs_chain *roots = NULL;
    enum hsm_status st = query_roots(store, &rows);

    if (st == HSM_OK)
        st = certs_chain_new(&roots);
    while (st == HSM_OK && acme_rows_next(rows)) {
        DEFER(X509_free) X509 *root = NULL;

        st = read_root(rows, &root);
        if (st == HSM_OK)
            st = certs_chain_add(roots, root);
    }
    if (st != HSM_OK)
        return st;
    *out = roots;
    roots = NULL;
    return HSM_OK;
}

enum hsm_status
acme_authority_roots_digest(struct acme_authority *authority, uint8_t out[SHA256_DIGEST_LENGTH])
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    DEFER(free) char *digests = NULL; /* separated by commas */
    size_t len = 0;
    FILE *to = open_memstream(&digests, &len);
    enum hsm_status st = query_roots(authority->config.store, &rows);

    for (bool is_first = true; to != NULL && st == HSM_OK && acme_rows_next(rows); is_first = false)
        fprintf(to, "%s%s", is_first ? "" : ",", acme_rows_text(rows, 0));
    if (to == NULL || fclose(to) != 0)
        return HSM_ERR_NOMEM;
    if (st == HSM_OK)
        SHA256((const unsigned char *)digests, len, out);
    return st;
}

/* ---- accounts of STI-CAs ---- */

/* The name in the current row's first column. */
static enum hsm_status
read_name(const struct acme_rows *rows, X509_NAME **out)
{
    size_t len;
    const uint8_t *der = acme_rows_blob(rows, 0, &len);

    if (certs_name_parse(der, len, out) == HSM_OK)
        return HSM_OK;
    hsm_log(HSM_LOG_ERROR, "STI-PA: the name of an STI-CA in the store is not readable");
    return HSM_ERR_IO;
}

/* Make the row of this name the current one. Verifiers treat two encodings of a name as equal; a
 * store does not. */
static enum hsm_status
find_name(struct acme_rows *rows, const X509_NAME *name)
{
    while (acme_rows_next(rows)) {
        DEFER(X509_NAME_free) X509_NAME *bound = NULL;
        enum hsm_status st = read_name(rows, &bound);

        if (st != HSM_OK || X509_NAME_cmp(bound, name) == 0)
            return st;
    }
    return HSM_ERR_NOT_FOUND;
}

enum hsm_status
acme_authority_issuer_find(struct acme_store *store, const X509_NAME *name,
                           char account[ACME_AUTHORITY_ID_MAX + 1], uint8_t **der, size_t *len)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st =
        acme_store_query(store, &rows, "SELECT name, account FROM ca_issuer ORDER BY name", "");
    const uint8_t *bound;

    if (st == HSM_OK)
        st = find_name(rows, name);
    if (st != HSM_OK)
        return st;
    bound = acme_rows_blob(rows, 0, len);
    *der = malloc(*len + 1);
    if (*der == NULL)
        return HSM_ERR_NOMEM;
    memcpy(*der, bound, *len);
    snprintf(account, ACME_AUTHORITY_ID_MAX + 1, "%s", acme_rows_text(rows, 1));
    return HSM_OK;
}

static bool
has_subject(const struct certs_chain *roots, const X509_NAME *name)
{
    for (size_t i = 0; i < certs_chain_len(roots); i++) {
        if (X509_NAME_cmp(certs_cert_subject_name(certs_chain_get(roots, i)), name) == 0)
            return true;
    }
    return false;
}

enum hsm_status
acme_authority_issuer_is_trusted(struct acme_store *store, const char *account, bool *is_trusted)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    DEFER(certs_chain_free) struct certs_chain *roots = NULL;
    bool is_found = false;
    enum hsm_status st = acme_authority_roots(store, &roots);

    if (st == HSM_OK)
        st = acme_store_query(store, &rows, "SELECT name FROM ca_issuer WHERE account = ?", "s",
                              account);
    while (st == HSM_OK && !is_found && acme_rows_next(rows)) {
        DEFER(X509_NAME_free) X509_NAME *name = NULL;

        st = read_name(rows, &name);
        is_found = st == HSM_OK && has_subject(roots, name);
    }
    if (st == HSM_OK)
        *is_trusted = is_found;
    return st;
}

static enum hsm_status
insert_issuer(struct acme_store *store, const char *account_id, const X509_NAME *name)
{
    char owner[ACME_AUTHORITY_ID_MAX + 1];
    uint8_t *der = NULL;
    size_t len = 0;
    enum hsm_status st = acme_authority_issuer_find(store, name, owner, &der, &len);

    if (st == HSM_OK) {
        free(der);
        return strcmp(owner, account_id) == 0 ? HSM_OK : HSM_ERR_EXISTS;
    }
    if (st == HSM_ERR_NOT_FOUND)
        st = certs_name_der(name, &der, &len);
    if (st == HSM_OK)
        st = acme_store_run(store, NULL, "INSERT INTO ca_issuer (name, account) VALUES (?, ?)",
                            "bs", der, len, account_id);
    free(der);
    return st;
}

enum hsm_status
acme_authority_issuers_insert(struct acme_store *store, const char *account_id,
                              const struct certs_path *issuers)
{
    enum hsm_status st = HSM_OK;

    for (size_t i = 0; st == HSM_OK && i < certs_path_len(issuers); i++)
        st = insert_issuer(store, account_id, certs_cert_subject_name(certs_path_get(issuers, i)));
    return st;
}

/* Faults of the chain are logged, since an operator supplied it. */
static enum hsm_status
find_path(struct acme_store *store, const struct certs_chain *chain, struct certs_path **out)
{
    DEFER(certs_chain_free) struct certs_chain *roots = NULL;
    const struct certs_path_policy policy = {.purpose = CERTS_FOR_ISSUING,
                                             .ca_keys = AUTHORITY_CA_KEYS};
    struct hsm_reason why = {""};
    enum hsm_status st = acme_authority_roots(store, &roots);

    if (st != HSM_OK)
        return st;
    st = certs_path_verify(chain, &(struct certs_trust){.anchors = roots}, &policy, time(NULL), out,
                           &why);
    if (st == HSM_ERR_UNTRUSTED)
        hsm_log(HSM_LOG_ERROR, "the chain is not of a trusted STI-CA: %s", why.text);
    return st;
}

enum hsm_status
acme_authority_ca_account_add(struct acme_store *store, const char *account_id, const char *user,
                              const struct hsm_secret *password, const struct certs_chain *chain)
{
    DEFER(certs_path_free) struct certs_path *path = NULL;
    enum hsm_status st = find_path(store, chain, &path);

    if (st != HSM_OK)
        return st;
    return acme_authority_account_insert(store, account_id, user, password,
                                         &(struct authority_rights){.issuers = path});
}

static enum hsm_status
find_sti_ca(struct acme_store *store, const char *account_id)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st = acme_store_query(
        store, &rows, "SELECT 1 FROM account WHERE id = ? AND is_sti_ca = 1", "s", account_id);

    return st == HSM_OK && !acme_rows_next(rows) ? HSM_ERR_NOT_FOUND : st;
}

enum hsm_status
acme_authority_ca_account_extend(struct acme_store *store, const char *account_id,
                                 const struct certs_chain *chain)
{
    DEFER(certs_path_free) struct certs_path *path = NULL;
    enum hsm_status st = find_path(store, chain, &path);

    if (st == HSM_OK)
        st = acme_store_begin(store);
    if (st != HSM_OK)
        return st;
    st = find_sti_ca(store, account_id);
    if (st == HSM_OK)
        st = acme_authority_issuers_insert(store, account_id, path);
    return acme_event_commit(store, st,
                             &(struct acme_event){.at = time(NULL),
                                                  .what = "account of an STI-CA extended",
                                                  .subject = account_id});
}
