/* client_chain.c - an ACME client downloads a certificate (RFC 8555 section 7.4.2). */
#include "client_internal.h"

#include <stdlib.h>

#include <openssl/x509.h>

#include <hsm/defer.h>

#include "link_internal.h"

#define ALTERNATES_MAX 8 /* alternate chains of one certificate that are considered */

/* Fetch one chain; the links to alternates stay in `answer`. */
static enum hsm_status
fetch(struct acme_client *client, const char *url, struct acme_answer *answer,
      struct certs_chain **chain, struct hsm_reason *why)
{
    enum hsm_status st =
        acme_client_post(client, url, "", "application/pem-certificate-chain", answer, why);

    if (st == HSM_OK)
        st = acme_client_judge(client, answer, "certificate", why);
    if (st != HSM_OK)
        return st;
    /* RFC 8555 section 11.4: certificates and nothing else */
    return certs_chain_parse_pem(answer->reply.body, answer->reply.body_len, CERTS_CHAIN_LEN_MAX,
                                 chain, why);
}

/* Replace *chain by an alternate if it is for the same certificate and the order accepts it. */
static bool
take_alternate(struct acme_client *client, const struct acme_client_order *order, const char *url,
               struct certs_chain **chain)
{
    DEFER(certs_chain_free) struct certs_chain *other = NULL;
    CLEAR_AFTER(acme_answer_clear) struct acme_answer answer = {.body = NULL};
    struct certs_chain *first = *chain;

    if (fetch(client, url, &answer, &other, NULL) != HSM_OK ||
        X509_cmp(certs_chain_get(other, 0), certs_chain_get(first, 0)) != 0 ||
        !order->accepts(order->context, other))
        return false;
    *chain = other;
    other = first;
    return true;
}

enum hsm_status
acme_client_download(struct acme_client *client, const struct acme_client_order *order,
                     const char *url, struct certs_chain **chain, struct hsm_reason *why)
{
    DEFER(certs_chain_free) struct certs_chain *found = NULL;
    CLEAR_AFTER(acme_answer_clear) struct acme_answer answer = {.body = NULL};
    enum hsm_status st = fetch(client, url, &answer, &found, why);
    bool taken;

    if (st != HSM_OK)
        return st;
    taken = order->accepts == NULL || order->accepts(order->context, found);
    for (size_t i = 0; !taken && i < ALTERNATES_MAX; i++) {
        DEFER(free) char *other = NULL;

        if (acme_link_find(answer.reply.link, "alternate", i, &other) != HSM_OK)
            break;
        taken = take_alternate(client, order, other, &found);
    }
    *chain = found;
    found = NULL;
    return HSM_OK;
}
