/*
 * signers.h - the active credentials of a catalogue, loaded and ready to sign.
 *
 * A set never changes: when the catalogue does, load another and let go of
 * this one; calls in flight finish with the set they took.
 */
#ifndef SKS_SIGNERS_H
#define SKS_SIGNERS_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <hsm/status.h>
#include <hsm/token.h>
#include <sks/catalogue.h>
#include <sks/sign.h>
#include <sks/tokens.h>

struct sks_signers;

/**
 * Find the key of each active credential in the token and compare it with the
 * certificate. No active credential gives an empty set.
 *
 * @param token  borrowed, outlives the set
 * @param spc    whose credentials; NULL: the only SPC that has active ones
 *
 * @retval HSM_ERR_AMBIGUOUS  spc is NULL and several SPCs have active credentials
 * @retval HSM_ERR_NOT_FOUND  a key is not in the token
 * @retval HSM_ERR_UNTRUSTED  a key is not the certificate's, or the certificate is not the SPC's
 */
HSM_MUST_CHECK enum hsm_status sks_signers_load(struct sks_catalogue *catalogue,
                                                struct hsm_token *token, const char *spc,
                                                struct sks_signers **out);

/**
 * The same with keys in several tokens. A credential whose token is away is left out: the set signs
 * with the others, and is to be loaded again for as long as there is a fault.
 *
 * @param fault  receives why a credential was left out, a static text of sks_tokens_fault(), also
 *               when nothing was loaded; NULL: none was
 * @retval HSM_ERR_BUSY  the tokens of all active credentials are away
 */
HSM_MUST_CHECK enum hsm_status sks_signers_load_from(struct sks_catalogue *catalogue,
                                                     struct sks_tokens *tokens, const char *spc,
                                                     const char **fault, struct sks_signers **out);

/** One more holder of the set; each calls sks_signers_free(). */
struct sks_signers *sks_signers_share(struct sks_signers *signers);
void sks_signers_free(struct sks_signers *signers);

size_t sks_signers_count(const struct sks_signers *signers);

/** The i-th signer, newest first, and the id of its credential; borrowed from the set. */
struct sks_signer *sks_signers_get(const struct sks_signers *signers, size_t i, int64_t *id);

/** The newest one whose certificate has not ended at `now`; NULL: none. */
struct sks_signer *sks_signers_at(const struct sks_signers *signers, time_t now);

/**
 * Sign a call (sks_signer_sign()) with the credential that is best now: whose token is well, then
 * whose is least loaded; and with the next when a token fails, within the time that a token is
 * given. So the loss of one of several tokens costs no call.
 *
 * @param identity  free() it
 * @param signer    receives whose signature it is, or would have been; borrowed from the set; NULL
 *                  when there is none
 * @retval HSM_ERR_NOT_FOUND  no certificate of the set covers `now`
 * @return else as sks_signer_sign()
 */
HSM_MUST_CHECK enum hsm_status
sks_signers_sign(struct sks_signers *signers, const struct sks_claims *claims, time_t now,
                 char **identity, const struct sks_signer **signer, struct hsm_reason *why);

/** Whether a token still signs with that key: a fixed text is signed that is no PASSporT, and
 *  the signature verified. An empty set gives HSM_ERR_NOT_FOUND. */
HSM_MUST_CHECK enum hsm_status sks_signers_probe(const struct sks_signers *signers, time_t now);

#endif
