/*
 * server_crl.c - import the STI-PA's CRL: certificates of this STI-CA that were revoked without
 * its request.
 *
 * A service provider may send its request to the STI-PA, and the STI-PA may revoke on its own.
 * The certificate then counts as revoked here, too: renewalInfo suggests renewal now, and
 * revokeCert answers alreadyRevoked.
 */

#include "server_internal.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/x509.h>

#include <acme/http_client.h>
#include <certs/crl.h>
#include <hsm/clock.h>
#include <hsm/log.h>

#define FETCH_MS 5000
#define TAKE_NS  INT64_C(5000000000) /* spent at a time */
#define BATCH    500 /* entries per transaction */

enum hsm_status
acme_crl_fetch(const struct acme_server_config *config, struct certs_crl **out,
               struct hsm_reason *why)
{
    struct acme_http_reply reply = {.status = 0};
    enum hsm_status st = acme_http_fetch(config->http,
                                         &(struct acme_http_fetch){.method = "GET",
                                                                   .url = config->crl_url,
                                                                   .reply_max = CERTS_CRL_MAX,
                                                                   .timeout_ms = FETCH_MS},
                                         &reply, why);

    if (st == HSM_OK && reply.status != 200)
        st = hsm_refuse(why, HSM_ERR_BUSY, "%s: HTTP status %d", config->crl_url, reply.status);
    if (st == HSM_OK)
        st = certs_crl_parse((const uint8_t *)reply.body, reply.body_len, out, why);
    acme_http_reply_clear(&reply);
    return st;
}

enum hsm_status
acme_crl_verify(const struct acme_server_config *config, const struct certs_crl *crl, time_t now,
                struct hsm_reason *why)
{
    return certs_crl_verify(crl, config->crl_signer, config->pa_anchors, config->crl_url, now, why);
}

/* ---- importing in batches, so that requests are served in between ---- */

/* The CRL has entries of all issuers. An entry for another STI-CA, or one that is known, changes
 * nothing. */
static enum hsm_status
take_batch(struct acme_server *server, size_t end, time_t now)
{
    struct acme_store *store = server->config.store;
    struct certs_crl_entry entry;
    enum hsm_status st = acme_store_begin(store);

    if (st != HSM_OK)
        return st;
    for (size_t i = server->crl_next; st == HSM_OK && i < end; i++) {
        certs_crl_get(server->crl, i, &entry);
        st = acme_revocation_take(store, &entry, now);
    }
    return acme_store_end(store, st);
}

static size_t
end_of_batch(const struct acme_server *server)
{
    size_t rest = certs_crl_len(server->crl) - server->crl_next;

    return server->crl_next + (rest < BATCH ? rest : BATCH);
}

static void
forget(struct acme_server *server)
{
    certs_crl_free(server->crl);
    server->crl = NULL;
}

void
acme_crl_go_on(struct acme_server *server, time_t now)
{
    int64_t until = hsm_clock_ns() + TAKE_NS;
    enum hsm_status st = HSM_OK;

    if (server->crl == NULL)
        return;
    while (st == HSM_OK && server->crl_next < certs_crl_len(server->crl) &&
           hsm_clock_ns() < until) {
        size_t end = end_of_batch(server);

        st = take_batch(server, end, now);
        if (st == HSM_OK)
            server->crl_next = end;
    }
    if (st != HSM_OK) { /* it is fetched again some minutes later */
        hsm_log(HSM_LOG_WARNING, "the CRL of the STI-PA is not taken: %s", hsm_status_text(st));
        forget(server);
    } else if (server->crl_next == certs_crl_len(server->crl)) {
        memcpy(server->crl_taken, certs_crl_digest(server->crl), CERTS_CRL_DIGEST_LEN);
        forget(server);
    }
}

static bool
is_digest(const struct certs_crl *crl, const uint8_t *digest)
{
    return memcmp(certs_crl_digest(crl), digest, CERTS_CRL_DIGEST_LEN) == 0;
}

static enum hsm_status
take(struct acme_server *server, time_t now, struct hsm_reason *why)
{
    DEFER(certs_crl_free) struct certs_crl *crl = NULL;
    enum hsm_status st = acme_crl_fetch(&server->config, &crl, why);

    if (st == HSM_OK)
        st = acme_crl_verify(&server->config, crl, now, why);
    if (st != HSM_OK || is_digest(crl, server->crl_taken) ||
        (server->crl != NULL && is_digest(crl, certs_crl_digest(server->crl))))
        return st;
    forget(server);
    server->crl = crl;
    server->crl_next = 0;
    crl = NULL;
    return HSM_OK;
}

void
acme_crl_take(struct acme_server *server, time_t now)
{
    struct hsm_reason why = {""};
    enum hsm_status st;

    if (server->config.crl_signer == NULL)
        return;
    st = take(server, now, &why);
    if (st != HSM_OK)
        hsm_log(HSM_LOG_WARNING, "the CRL of the STI-PA is not taken: %s",
                why.text[0] != '\0' ? why.text : hsm_status_text(st));
}
