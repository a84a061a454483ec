/*
 * lifecycle.h - the end of a credential's life: retiring, retired, destroyed, forgotten.
 *
 * A credential that no longer signs keeps its key until its last PASSporT is
 * stale and verifiers have dropped its chain, and for some time after that; then
 * the key is destroyed in the token. Each state is in the catalogue before the
 * next begins; interrupted steps are repeated.
 */
#ifndef SKS_LIFECYCLE_H
#define SKS_LIFECYCLE_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include <hsm/status.h>
#include <sks/catalogue.h>
#include <sks/repository.h>
#include <sks/tokens.h>

struct sks_lifecycle {
    struct sks_catalogue *catalogue;
    struct sks_tokens *tokens;
    const char *spc; /* whose credentials; NULL: all */
    time_t retiring_s, retired_s; /* how long a credential stays in that state, at least */
    time_t destroyed_s; /* how long it stays destroyed before it is forgotten; 0: for ever */
    bool keep_keys; /* never destroy a key */
    /** Nothing else is valid at this time either, so the clock may be wrong: active credentials
     * stay active, and sign as long as their certificate covers the call. */
    bool clock_is_doubtful;
    struct sks_repository *repository; /* withdraws the chain of a forgotten one; NULL: none */
    /** Called with a line for a person at each step; may be NULL. */
    void (*progress)(void *context, const char *line);
    void *context;
};

/**
 * Do all that is due: expired credentials stop signing; retiring ones become
 * retired; the keys of retired ones are destroyed; those destroyed long ago are
 * forgotten, and their chains no longer served. A failure with one credential is
 * logged and does not affect the others; the first status is returned.
 *
 * @retval HSM_ERR_BUSY  the token of a key to be destroyed is away
 */
HSM_MUST_CHECK enum hsm_status sks_lifecycle_tidy(const struct sks_lifecycle *lifecycle,
                                                  time_t now);

/**
 * An operator's decision: stop signing with an active or published credential.
 *
 * @retval HSM_ERR_NOT_FOUND  no credential has this id
 * @retval HSM_ERR_USAGE      it is neither published nor active
 */
HSM_MUST_CHECK enum hsm_status sks_lifecycle_retire(const struct sks_lifecycle *lifecycle,
                                                    int64_t id, struct hsm_reason *why);

/**
 * An operator's decision: destroy the key of a retired credential now.
 *
 * @retval HSM_ERR_NOT_FOUND  no credential has this id
 * @retval HSM_ERR_USAGE        it is not retired, or another credential has the same key
 * @retval HSM_ERR_UNSUPPORTED  its private key is there, and cannot be used to identify it
 * @retval HSM_ERR_BUSY       its token is away
 */
HSM_MUST_CHECK enum hsm_status sks_lifecycle_destroy(const struct sks_lifecycle *lifecycle,
                                                     int64_t id, struct hsm_reason *why);

#endif
