/*
 * revoke.h - the SP-KMS: revoke a credential.
 *
 * Signing with it stops first; then the STI-CA is asked, which has the STI-PA
 * put it on the CRL. An interrupted run may be repeated.
 */
#ifndef SKS_REVOKE_H
#define SKS_REVOKE_H

#include <stdint.h>

#include <acme/client.h>
#include <hsm/status.h>
#include <sks/catalogue.h>

/**
 * Stop signing with a credential: an active or published one becomes retiring,
 * one that was only issued becomes retired. Durable when it returns.
 *
 * @param out  receives the changed credential; sks_credential_clear() it
 * @retval HSM_ERR_NOT_FOUND  no credential has this id
 * @retval HSM_ERR_USAGE      it has no certificate that could be revoked
 */
HSM_MUST_CHECK enum hsm_status sks_revoke_begin(struct sks_catalogue *catalogue, int64_t id,
                                                struct sks_credential *out, struct hsm_reason *why);

/**
 * Have its certificate revoked and retire it. A certificate that is already
 * revoked counts as success.
 *
 * @param credential  from sks_revoke_begin(); receives its new state
 * @param client      of its STI-CA, with the account that it was issued to
 * @param reason      RFC 5280 section 5.3.1
 * @return as acme_client_revoke()
 */
HSM_MUST_CHECK enum hsm_status
sks_revoke_finish(struct sks_catalogue *catalogue, struct acme_client *client,
                  struct sks_credential *credential, int reason, struct hsm_reason *why);

#endif
