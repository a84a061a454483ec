/* client_renewal.c - when a CA wants a certificate renewed (RFC 9773). */
#define _GNU_SOURCE /* asprintf */
#include "client_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <acme/base64url.h>
#include <certs/cert.h>
#include <hsm/defer.h>

#define RETRY_MIN_S      60 /* a shorter Retry-After is raised to this */
#define RETRY_MAX_S      86400 /* a longer one is lowered to this */
#define RETRY_FALLBACK_S 21600 /* RFC 9773 section 4.3.2: without Retry-After */

enum hsm_status
acme_client_certid(const X509 *cert, char **out)
{
    DEFER(free) char *issuer = NULL;
    DEFER(free) char *serial = NULL;
    uint8_t serial_octets[CERTS_SERIAL_MAX];
    size_t serial_len = certs_cert_serial(cert, serial_octets);
    size_t len = 0;
    const uint8_t *key_id = certs_cert_authority_key_id(cert, &len);

    if (key_id == NULL || serial_len == 0)
        return HSM_ERR_UNSUPPORTED;
    issuer = acme_base64url_encode(key_id, len);
    serial = acme_base64url_encode(serial_octets, serial_len);
    if (issuer == NULL || serial == NULL)
        return HSM_ERR_NOMEM;
    if (asprintf(out, "%s.%s", issuer, serial) >= 0)
        return HSM_OK;
    *out = NULL;
    return HSM_ERR_NOMEM;
}

static enum hsm_status
renewal_url(const struct acme_client *client, const X509 *cert, char **out, struct hsm_reason *why)
{
    DEFER(free) char *certid = NULL;
    const char *base = client->directory.renewal_info;
    enum hsm_status st;

    if (base == NULL)
        return hsm_refuse(why, HSM_ERR_UNSUPPORTED, "the CA has no renewalInfo");
    st = acme_client_certid(cert, &certid);
    if (st == HSM_ERR_UNSUPPORTED)
        return hsm_refuse(why, st, "the certificate has no authorityKeyIdentifier");
    if (st != HSM_OK)
        return st;
    if (asprintf(out, "%s%s%s", base, base[strlen(base) - 1] == '/' ? "" : "/", certid) >= 0)
        return HSM_OK;
    *out = NULL;
    return HSM_ERR_NOMEM;
}

static unsigned
clamp_retry(long asked_s)
{
    if (asked_s < 0)
        return RETRY_FALLBACK_S;
    if (asked_s < RETRY_MIN_S)
        return RETRY_MIN_S;
    return asked_s > RETRY_MAX_S ? RETRY_MAX_S : (unsigned)asked_s;
}

enum hsm_status
acme_client_renewal(struct acme_client *client, const X509 *cert, struct acme_client_renewal *out,
                    struct hsm_reason *why)
{
    DEFER(free) char *url = NULL;
    CLEAR_AFTER(acme_answer_clear) struct acme_answer answer = {.body = NULL};
    struct acme_client_renewal found;
    enum hsm_status st = renewal_url(client, cert, &url, why);

    if (st == HSM_OK)
        st = acme_client_get(client, url, &answer, why);
    if (st == HSM_OK)
        st = acme_client_judge(client, &answer, "renewalInfo", why);
    if (st == HSM_OK && answer.body == NULL)
        st = hsm_refuse(why, HSM_ERR_MALFORMED, "renewalInfo: the answer is not JSON");
    if (st == HSM_OK)
        st = acme_renewal_parse(answer.body, &found, why);
    if (st != HSM_OK)
        return st;
    found.retry_after_s = clamp_retry(acme_retry_after_s(answer.reply.retry_after, time(NULL)));
    *out = found;
    return HSM_OK;
}
