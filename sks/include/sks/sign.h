/*
 * sign.h - the STI-AS: a credential, and Identity headers made with it.
 */
#ifndef SKS_SIGN_H
#define SKS_SIGN_H

#include <time.h>

#include <certs/chain.h>
#include <hsm/defer.h>
#include <hsm/key.h>
#include <hsm/status.h>
#include <sks/passport.h>

struct sks_signer;

struct sks_signer_config {
    struct hsm_key *key; /* borrowed, outlives the signer */
    const struct certs_chain *chain; /* leaf first; copied */
    const char *x5u; /* https URL of the chain; copied */
    const char *token; /* label of the key's token, for metrics and readiness; copied */
};

/**
 * @retval HSM_ERR_UNTRUSTED  the key is not the certificate's
 * @retval HSM_ERR_MALFORMED  the certificate has no TNAuthList, its claim constraints are broken,
 *                            or x5u is not an https URL
 */
HSM_MUST_CHECK enum hsm_status sks_signer_new(const struct sks_signer_config *config,
                                              struct sks_signer **out, struct hsm_reason *why);
void sks_signer_free(struct sks_signer *signer);
DEFINE_DEFER(struct sks_signer, sks_signer_free)

const char *sks_signer_spc(const struct sks_signer *signer); /* "" when it is not one SPC */
const char *sks_signer_x5u(const struct sks_signer *signer);
const char *sks_signer_key_label(const struct sks_signer *signer); /* CKA_LABEL */
const char *sks_signer_token_label(const struct sks_signer *signer); /* "" if it was not given */
time_t sks_signer_not_after(const struct sks_signer *signer);

/**
 * Check claims, freshness of iat, the certificate's validity, and that it lets its holder claim
 * this: its (Enhanced)JWTClaimConstraints are satisfied and, if its TNAuthList has numbers but no
 * SPC, the originator's number is among them, or for a div PASSporT the diverting number (RFC 8946
 * section 4.1). Then sign.
 *
 * @param identity  the Identity header field value; free() it
 * @retval HSM_ERR_MALFORMED    a claim is not allowed; the reason names it
 * @retval HSM_ERR_UNTRUSTED    iat is not within SKS_FRESHNESS_S of now, or the certificate does
 *                              not cover now and iat
 * @retval HSM_ERR_UNSUPPORTED  the certificate does not let its holder claim this; the reason names
 *                              the claim
 * @retval HSM_ERR_BUSY         the token did not answer
 * @retval HSM_ERR_CRYPTO       the key is not what it was, or the token does not sign with it
 * @return else as hsm_key_sign_digest()
 */
HSM_MUST_CHECK enum hsm_status sks_signer_sign(struct sks_signer *signer,
                                               const struct sks_claims *claims, time_t now,
                                               char **identity, struct hsm_reason *why);

#endif
