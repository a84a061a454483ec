/*
 * catalogue.h - the credentials of a service provider, and the state each is in.
 *
 * generated -> requested -> issued -> published -> active -> retiring ->
 * retired -> destroyed; each change is durable before it takes effect. A
 * credential that is given up goes from where it is to retired. Threads may
 * share a catalogue, and processes its file.
 */
#ifndef SKS_CATALOGUE_H
#define SKS_CATALOGUE_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <hsm/status.h>

enum sks_state {
    SKS_GENERATED, /* its key has a name, and is in the token before anything is asked with it */
    SKS_REQUESTED, /* an ACME order exists */
    SKS_ISSUED, /* the chain is here, verified */
    SKS_PUBLISHED, /* and can be fetched at its x5u */
    SKS_ACTIVE, /* signs */
    SKS_RETIRING, /* signs no more; its chain is still served */
    SKS_RETIRED,
    SKS_DESTROYED, /* the key is gone from the token */
};

/** "generated", "requested", ...; static. */
const char *sks_state_text(enum sks_state state);

struct sks_credential { /* texts owned; NULL when not known yet */
    int64_t id;
    enum sks_state state;
    char *spc;
    char *token_uri;
    char *key_uri;
    char *ca_directory;
    char *order_url;
    char *chain_pem;
    char *x5u;
    time_t not_after; /* 0: not issued yet */
};

struct sks_catalogue;

/** Open or create. */
HSM_MUST_CHECK enum hsm_status sks_catalogue_open(const char *path, struct sks_catalogue **out);
void sks_catalogue_close(struct sks_catalogue *catalogue);

/**
 * Insert (id 0; receives its id) or update.
 *
 * @retval HSM_ERR_USAGE      a step back in the order of states, a state without what it says is
 *                            there, or an update to active (sks_catalogue_activate() does that)
 * @retval HSM_ERR_NOT_FOUND  no credential has this id
 * @retval HSM_ERR_EXISTS     another credential has, or had, this x5u
 */
HSM_MUST_CHECK enum hsm_status sks_catalogue_put(struct sks_catalogue *catalogue,
                                                 struct sks_credential *credential);

/**
 * Make one published credential active and the SPC's other active ones on the
 * same token retiring, at once. One that is active stays so.
 *
 * @retval HSM_ERR_NOT_FOUND  no credential has this id
 * @retval HSM_ERR_USAGE      it is neither published nor active
 */
HSM_MUST_CHECK enum hsm_status sks_catalogue_activate(struct sks_catalogue *catalogue, int64_t id);

/** All credentials, or those of one SPC (not NULL), oldest first; sks_credentials_free(). */
HSM_MUST_CHECK enum hsm_status sks_catalogue_list(struct sks_catalogue *catalogue, const char *spc,
                                                  struct sks_credential **out, size_t *count);
void sks_credentials_free(struct sks_credential *credentials, size_t count);

/** Release the texts that one credential owns, and make it empty. */
void sks_credential_clear(struct sks_credential *credential);

/** Grows with every change, by any process: when it differs, load again. */
HSM_MUST_CHECK enum hsm_status sks_catalogue_version(struct sks_catalogue *catalogue, int64_t *out);

#endif
