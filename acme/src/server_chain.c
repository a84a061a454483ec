/*
 * server_chain.c - certificate download (RFC 8555 section 7.4.2), with alternate
 * chains, and the hosted chain that x5u names (RFC 9448 section 7).
 */

#include "server_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/x509.h>

#include <certs/cert.h>
#include <hsm/log.h>

#include "defer_internal.h"

#define MEDIA_TYPE   "application/pem-certificate-chain"
#define HOSTED_CACHE "public, max-age=86400" /* a chain never changes; ATIS-1000074: a day */

enum hsm_status
acme_chain_without_root(const struct certs_chain *chain, struct certs_chain **out)
{
    size_t count = certs_chain_len(chain);
    enum hsm_status st = certs_chain_new(out);

    for (size_t i = 0; st == HSM_OK && i + 1 < count; i++)
        st = certs_chain_add(*out, certs_chain_get(chain, i));
    return st;
}

bool
acme_server_chain_is_whole(const struct certs_chain *chain)
{
    size_t count = certs_chain_len(chain);

    return count > 1 && certs_chain_is_in_order(chain) &&
           X509_self_signed(certs_chain_get(chain, count - 1), 1) == 1;
}

/* A chain of another certificate with the issuing key and name: what is issued chains to both. */
static bool
is_alternate(const struct acme_server_config *config, const struct certs_chain *chain)
{
    X509 *ours = certs_chain_get(config->issuing_chain, 0), *other = certs_chain_get(chain, 0);

    return acme_server_chain_is_whole(chain) &&
           hsm_key_matches(config->issuing_key, certs_cert_public(other)) &&
           certs_cert_same_subject(ours, other);
}

enum hsm_status
acme_chain_take_alternates(struct acme_server *server)
{
    const struct certs_chain *const *chain = server->config.alternate_chains;
    enum hsm_status st = HSM_OK;

    for (; st == HSM_OK && chain != NULL && *chain != NULL; chain++) {
        if (server->alternate_count == ACME_ALTERNATES_MAX ||
            !is_alternate(&server->config, *chain)) {
            hsm_log(HSM_LOG_ERROR,
                    "alternate chain %zu: more than %d, or it does not begin with"
                    " another certificate of the issuing key and end with its root",
                    server->alternate_count + 1, ACME_ALTERNATES_MAX);
            return HSM_ERR_UNTRUSTED;
        }
        st = acme_chain_without_root(*chain, &server->alternates[server->alternate_count]);
        if (st == HSM_OK)
            server->alternate_count++;
    }
    return st;
}

/* An issued certificate; borrowed from the row. */
struct issued {
    struct acme_rows *rows;
    const char *chain; /* PEM */
    const uint8_t *der;
    size_t der_len;
};

/* @param account  NULL: any. False: the response was made. */
static bool
load(struct acme_call *call, const char *certificate, const char *account, struct issued *out)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st = acme_store_query(call->server->config.store, &rows,
                                          "SELECT account, chain, der FROM issuance WHERE"
                                          " certificate = ? AND chain IS NOT NULL",
                                          "s", certificate);

    if (st != HSM_OK) {
        acme_call_fault(call, st);
        return false;
    }
    if (!acme_rows_next(rows)) {
        acme_call_refuse(call, ACME_MALFORMED, 404, "no such certificate");
        return false;
    }
    if (account != NULL && strcmp(acme_rows_text(rows, 0), account) != 0) {
        acme_call_refuse(call, ACME_UNAUTHORIZED, 403, "the certificate is another account's");
        return false;
    }
    out->chain = acme_rows_text(rows, 1);
    out->der = acme_rows_blob(rows, 2, &out->der_len);
    out->rows = rows;
    rows = NULL;
    return true;
}

/* What a previous issuing key has signed has no alternate chains. */
static enum hsm_status
read_leaf(const struct acme_server *server, const struct issued *issued, X509 **out, size_t *count)
{
    enum hsm_status st;

    *count = 0;
    if (server->alternate_count == 0)
        return HSM_OK;
    st = certs_cert_parse_der(issued->der, issued->der_len, out, NULL);
    if (st == HSM_OK &&
        certs_cert_names_issuer(*out, certs_chain_get(server->config.issuing_chain, 0)))
        *count = server->alternate_count;
    return st;
}

/* RFC 8555 section 7.4.2: each chain links to the others; number 0 is the default one. */
static void
link_others(struct acme_call *call, size_t count, size_t this_one)
{
    char url[ACME_URL_MAX + 1], rest[32];

    for (size_t i = 0; i <= count; i++) {
        snprintf(rest, sizeof(rest), "/%zu", i);
        acme_server_url(call->server, "cert", call->params[0], i != 0 ? rest : NULL, url);
        if (i != this_one)
            acme_call_link(call, url, "alternate");
    }
}

static void
respond_pem(struct acme_call *call, const char *pem)
{
    acme_http_respond(call->response, 200, MEDIA_TYPE, pem, strlen(pem));
}

static void
respond_alternate(struct acme_call *call, X509 *cert, size_t number)
{
    DEFER(certs_chain_free) struct certs_chain *chain = NULL;
    DEFER(free) char *pem = NULL;
    enum hsm_status st = certs_chain_new(&chain);

    if (st == HSM_OK)
        st = certs_chain_add(chain, cert);
    if (st == HSM_OK)
        st = certs_chain_append(chain, call->server->alternates[number - 1]);
    if (st == HSM_OK)
        st = certs_chain_pem(chain, &pem);
    if (st == HSM_OK)
        respond_pem(call, pem);
    else
        acme_call_fault(call, st);
}

/* number 0: the chain as it was stored */
static void
respond(struct acme_call *call, const struct issued *issued, size_t number)
{
    DEFER(X509_free) X509 *cert = NULL;
    size_t count;

    if (read_leaf(call->server, issued, &cert, &count) != HSM_OK) {
        acme_call_fault(call, HSM_ERR_IO);
        return;
    }
    if (number > count) {
        acme_call_refuse(call, ACME_MALFORMED, 404, "no such chain");
        return;
    }
    link_others(call, count, number);
    if (number == 0)
        respond_pem(call, issued->chain);
    else
        respond_alternate(call, cert, number);
}

static void
download(struct acme_call *call, size_t number)
{
    struct issued issued = {.rows = NULL};

    if (acme_call_wants_read(call) && load(call, call->params[0], call->account, &issued) &&
        acme_call_settle(call))
        respond(call, &issued, number);
    acme_rows_free(issued.rows);
}

void
acme_certificate(struct acme_call *call)
{
    download(call, 0);
}

/* The number is one digit, from 1. */
void
acme_certificate_alternate(struct acme_call *call)
{
    const char *digit = call->params[1];

    if (digit[0] < '1' || digit[0] > '0' + ACME_ALTERNATES_MAX || digit[1] != '\0')
        acme_call_refuse(call, ACME_MALFORMED, 404, "no such chain");
    else
        download(call, (size_t)(digit[0] - '0'));
}

/* ---- the hosted chain ---- */

void
acme_chain_hosted_url(const struct acme_server *server, const char *certificate,
                      char out[ACME_URL_MAX + 1])
{
    acme_server_url(server, "chain", certificate, ".pem", out);
}

/* Public: an STI-VS fetches it without authentication. */
void
acme_hosted_chain(struct acme_call *call)
{
    struct issued issued = {.rows = NULL};
    char *suffix = strrchr(call->params[0], '.');

    if (!call->server->config.chains_hosted || suffix == NULL || strcmp(suffix, ".pem") != 0) {
        acme_call_refuse(call, ACME_MALFORMED, 404, "no such resource");
        return;
    }
    *suffix = '\0';
    if (load(call, call->params[0], NULL, &issued)) {
        acme_http_response_header(call->response, "Cache-Control", HOSTED_CACHE);
        respond_pem(call, issued.chain);
    }
    acme_rows_free(issued.rows);
}
