/* revoke.c - the SP-KMS: revoke a credential. */
#include <sks/revoke.h>

#include <string.h>

#include <certs/chain.h>
#include <hsm/defer.h>

static enum hsm_status
put(struct sks_catalogue *catalogue, struct sks_credential *credential, enum sks_state state,
    struct hsm_reason *why)
{
    enum hsm_status st;

    if (credential->state >= state)
        return HSM_OK;
    credential->state = state;
    st = sks_catalogue_put(catalogue, credential);
    if (st == HSM_OK)
        return HSM_OK;
    return hsm_refuse(why, st, "the catalogue did not take the state %s: %s", sks_state_text(state),
                      hsm_status_text(st));
}

enum hsm_status
sks_revoke_begin(struct sks_catalogue *catalogue, int64_t id, struct sks_credential *out,
                 struct hsm_reason *why)
{
    struct sks_credential credential = {.id = 0};
    enum hsm_status st = sks_catalogue_find(catalogue, id, &credential);

    if (st == HSM_ERR_NOT_FOUND)
        return hsm_refuse(why, st, "credential %lld: not in the catalogue", (long long)id);
    if (st != HSM_OK)
        return st;
    if (credential.chain_pem == NULL)
        st = hsm_refuse(why, HSM_ERR_USAGE, "credential %lld: is %s and has no certificate",
                        (long long)id, sks_state_text(credential.state));
    else
        st = put(catalogue, &credential, credential.x5u != NULL ? SKS_RETIRING : SKS_RETIRED, why);
    if (st == HSM_OK)
        *out = credential;
    else
        sks_credential_clear(&credential);
    return st;
}

enum hsm_status
sks_revoke_finish(struct sks_catalogue *catalogue, struct acme_client *client,
                  struct sks_credential *credential, int reason, struct hsm_reason *why)
{
    DEFER(certs_chain_free) struct certs_chain *chain = NULL;
    enum hsm_status st = certs_chain_parse_pem(credential->chain_pem, strlen(credential->chain_pem),
                                               CERTS_CHAIN_LEN_MAX, &chain, why);

    if (st == HSM_OK)
        st = acme_client_revoke(client, certs_chain_get(chain, 0), reason, NULL, why);
    if (st != HSM_OK && st != HSM_ERR_EXISTS)
        return st;
    return put(catalogue, credential, SKS_RETIRED, why);
}
