/*
 * lifecycle.h - the end of a credential's life: retiring, retired, destroyed, forgotten.
 *
 * A credential that signs no more keeps its key until its last PASSporT is
 * stale and verifiers have forgotten its chain, and some time beyond; then the
 * key is destroyed in the token. Each state is in the catalogue before the next
 * begins; what was cut short is done again.
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

/* Verifiers keep a chain for a day, a PASSporT is fresh for a minute. */
#define SKS_RETIRING_S 86460
#define SKS_RETIRED_S  604800

struct sks_lifecycle {
    struct sks_catalogue *catalogue;
    struct sks_tokens *tokens;
    const char *spc; /* whose credentials; NULL: all */
    time_t retiring_s, retired_s; /* how long a credential stays in that state, at least */
    bool keep_keys; /* never destroy one */
    /** Nothing else is good at that time either: nobody knows that a certificate has ended. What is
     *  active stays so, and signs as long as its certificate covers the call. */
    bool clock_is_doubtful;
    time_t destroyed_s; /* how long it stays in that, at least; 0: for ever */
    struct sks_repository *repository; /* that its chain is then taken from; NULL: none */
    /** Told of each step for a person; may be NULL. */
    void (*progress)(void *context, const char *line);
    void *context;
};

/**
 * Do all that is due: what is active and has ended becomes retiring; retiring becomes retired;
 * the keys of retired ones are destroyed; what was destroyed long ago is
 * forgotten, and its chain not served any more. One that cannot be done keeps no other
 * from it: it is logged, and the first status returned.
 *
 * @retval HSM_ERR_BUSY  the token of a key that is to be destroyed is away
 */
HSM_MUST_CHECK enum hsm_status sks_lifecycle_tidy(const struct sks_lifecycle *lifecycle,
                                                  time_t now);

/**
 * An operator's decision: an active or published credential signs no more from now on.
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
 * @retval HSM_ERR_USAGE      it is not retired, or its key is another's too
 * @retval HSM_ERR_UNSUPPORTED  its private key is there, and cannot be taken hold of
 * @retval HSM_ERR_BUSY       its token is away
 */
HSM_MUST_CHECK enum hsm_status sks_lifecycle_destroy(const struct sks_lifecycle *lifecycle,
                                                     int64_t id, struct hsm_reason *why);

#endif
