/*
 * server_crl.c - the STI-PA's CRL: what it revokes of ours without our request.
 *
 * A service provider may ask the STI-PA itself, and the STI-PA may decide alone. From then on the
 * certificate is revoked here as well: renewalInfo says so, and revokeCert has nothing to add.
 */

#include "server_internal.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/x509.h>

#include <acme/http_client.h>
#include <certs/crl.h>
#include <hsm/log.h>

#define FETCH_MS 5000

DEFINE_DEFER(struct certs_crl, certs_crl_free)

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

/* Those of our issuer's name; an entry that is known already changes nothing. */
static enum hsm_status
take_entries(struct acme_server *server, const struct certs_crl *crl, time_t now)
{
    const X509_NAME *ours =
        certs_cert_subject_name(certs_chain_get(server->config.issuing_chain, 0));
    struct certs_crl_entry entry;
    enum hsm_status st = HSM_OK;

    for (size_t i = 0; st == HSM_OK && i < certs_crl_len(crl); i++) {
        certs_crl_get(crl, i, &entry);
        if (X509_NAME_cmp(entry.issuer, ours) == 0)
            st = acme_revocation_take(server->config.store, &entry, now);
    }
    return st;
}

static enum hsm_status
take(struct acme_server *server, time_t now, struct hsm_reason *why)
{
    DEFER(certs_crl_free) struct certs_crl *crl = NULL;
    enum hsm_status st = acme_crl_fetch(&server->config, &crl, why);

    if (st == HSM_OK)
        st = acme_crl_verify(&server->config, crl, now, why);
    if (st != HSM_OK || memcmp(certs_crl_digest(crl), server->crl_taken, CERTS_CRL_DIGEST_LEN) == 0)
        return st;
    st = take_entries(server, crl, now);
    if (st == HSM_OK)
        memcpy(server->crl_taken, certs_crl_digest(crl), CERTS_CRL_DIGEST_LEN);
    return st;
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
