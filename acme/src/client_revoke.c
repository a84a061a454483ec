/* client_revoke.c - an ACME client revokes a certificate (RFC 8555 section 7.6). */
#include "client_internal.h"

#include <stdlib.h>

#include <acme/base64url.h>
#include <acme/json.h>
#include <certs/cert.h>
#include <hsm/defer.h>

static enum hsm_status
revocation_payload(const X509 *cert, int reason, char **out)
{
    DEFER(free) char *text = NULL;
    DEFER(json_decref) json_t *object = NULL;
    uint8_t *der = NULL;
    size_t len = 0;
    enum hsm_status st = certs_cert_der(cert, &der, &len);

    if (st != HSM_OK)
        return st;
    text = acme_base64url_encode(der, len);
    free(der);
    if (text != NULL)
        object = json_pack("{s:s, s:i}", "certificate", text, "reason", reason);
    *out = acme_json_text(object);
    return *out != NULL ? HSM_OK : HSM_ERR_NOMEM;
}

enum hsm_status
acme_client_revoke(struct acme_client *client, const X509 *cert, int reason,
                   struct hsm_key *certificate_key, struct hsm_reason *why)
{
    struct acme_client_signer signer = {.key = certificate_key};
    const char *url = client->directory.revoke_cert;
    DEFER(free) char *payload = NULL;
    CLEAR_AFTER(acme_answer_clear) struct acme_answer answer = {.body = NULL};
    enum hsm_status st = HSM_OK;

    if (url == NULL)
        return hsm_refuse(why, HSM_ERR_UNSUPPORTED, "the CA has no revokeCert");
    if (certificate_key == NULL && client->kid == NULL)
        st = acme_client_account(client, why);
    if (st == HSM_OK)
        st = revocation_payload(cert, reason, &payload);
    if (st != HSM_OK)
        return st;
    st = certificate_key == NULL
             ? acme_client_post(client, url, payload, NULL, &answer, why)
             : acme_client_post_as(client, &signer, url, payload, NULL, &answer, why);
    if (st == HSM_OK && acme_client_has_problem(&answer, ACME_ALREADY_REVOKED))
        return hsm_refuse(why, HSM_ERR_EXISTS, "revokeCert: the certificate is revoked already");
    return st == HSM_OK ? acme_client_judge(client, &answer, "revokeCert", why) : st;
}
