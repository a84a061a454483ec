/*
 * signers.h - the active credentials of a catalogue, loaded and ready to sign.
 *
 * A set never changes: when the catalogue does, load another set and free this
 * one; calls in flight finish with the set they hold.
 */
#ifndef SKS_SIGNERS_H
#define SKS_SIGNERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <hsm/defer.h>
#include <hsm/status.h>
#include <sks/catalogue.h>
#include <sks/sign.h>
#include <sks/tokens.h>

struct sks_signers;

/** An active credential that cannot sign. */
struct sks_left_out {
    int64_t id;
    char *spc; /* owned by the set */
    const char *why; /* static; names no token */
    bool may_come; /* may recover by itself; false: configuration or catalogue has to change */
};

/**
 * Find the key of each active credential in its token and compare it with the certificate. A
 * credential that cannot be loaded, for whatever reason, is logged and left out: the set signs with
 * the others. Without active credentials the set is empty.
 *
 * @param tokens  borrowed, outlive the set
 * @param spc     whose credentials; NULL: the only SPC that has active ones
 *
 * @retval HSM_ERR_AMBIGUOUS  spc is NULL and several SPCs have active credentials
 * @return else a failure of the catalogue
 */
HSM_MUST_CHECK enum hsm_status sks_signers_load(struct sks_catalogue *catalogue,
                                                struct sks_tokens *tokens, const char *spc,
                                                struct sks_signers **out);

/**
 * HSM_OK if a credential was loaded, or none is active. If all were left out: HSM_ERR_BUSY if a
 * token is away and may come back, else the reason why the newest was left out.
 */
HSM_MUST_CHECK enum hsm_status sks_signers_check(const struct sks_signers *signers);

/** The number of credentials left out, and the i-th of them, newest first; borrowed from the set.
 */
size_t sks_signers_left_out_count(const struct sks_signers *signers);
const struct sks_left_out *sks_signers_left_out(const struct sks_signers *signers, size_t i);

/** Take another reference to the set; released by sks_signers_free(). */
struct sks_signers *sks_signers_share(struct sks_signers *signers);
void sks_signers_free(struct sks_signers *signers);
DEFINE_DEFER(struct sks_signers, sks_signers_free)

size_t sks_signers_count(const struct sks_signers *signers);

/** The i-th signer, newest first, and the id of its credential; borrowed from the set. */
struct sks_signer *sks_signers_get(const struct sks_signers *signers, size_t i, int64_t *id);

/** The newest signer whose certificate is valid at `now`; NULL: no certificate is. */
struct sks_signer *sks_signers_at(const struct sks_signers *signers, time_t now);

/**
 * Sign a call (sks_signer_sign()) with the best of the credentials whose certificate covers `now`
 * and the call's iat: one whose token works, then the one whose token is least loaded. If a token
 * fails the next is tried, within 3 s for the whole call. So the loss of one of several tokens
 * costs no call.
 *
 * @param identity  free() it
 * @param signer    receives the signer, or on failure the last one tried; borrowed from the set;
 *                  NULL if there is none
 * @retval HSM_ERR_NOT_FOUND  no certificate of the set covers `now`
 * @return else as sks_signer_sign()
 */
HSM_MUST_CHECK enum hsm_status
sks_signers_sign(struct sks_signers *signers, const struct sks_claims *claims, time_t now,
                 char **identity, const struct sks_signer **signer, struct hsm_reason *why);

/** Check that a token still signs with its key: sign a fixed text that is not a PASSporT, and
 * verify the signature. HSM_ERR_NOT_FOUND: the set is empty. */
HSM_MUST_CHECK enum hsm_status sks_signers_probe(const struct sks_signers *signers, time_t now);

#endif
