/*
 * catalogue.h - the credentials of a service provider, and the state each is in.
 *
 * generated -> requested -> issued -> published -> active -> retiring ->
 * retired -> destroyed; each change is durable before it takes effect. A
 * credential that is given up goes from any state to retired; one that was
 * destroyed long ago may be deleted. Threads may share a catalogue, and
 * processes its file.
 */
#ifndef SKS_CATALOGUE_H
#define SKS_CATALOGUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <hsm/defer.h>
#include <hsm/status.h>

enum sks_state {
    SKS_GENERATED, /* its key is named, and in the token before anything is requested with it */
    SKS_REQUESTED, /* an ACME order exists */
    SKS_ISSUED, /* the chain was received and verified */
    SKS_PUBLISHED, /* the chain can be fetched at its x5u */
    SKS_ACTIVE, /* signs */
    SKS_RETIRING, /* no longer signs; its chain is still served */
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
    time_t not_before, not_after; /* of the chain; 0: not issued yet */
    int64_t replaces; /* id of the credential that it is to replace; 0: none */
    time_t changed_at; /* when it entered its state; written by the catalogue */
};

struct sks_catalogue;

/** Open or create. */
HSM_MUST_CHECK enum hsm_status sks_catalogue_open(const char *path, struct sks_catalogue **out);
void sks_catalogue_close(struct sks_catalogue *catalogue);
DEFINE_DEFER(struct sks_catalogue, sks_catalogue_close)

/**
 * Insert (id 0; receives its id) or update.
 *
 * @retval HSM_ERR_USAGE      a step back in the order of states, a state whose members are missing,
 *                            or an update to active (sks_catalogue_activate() does that)
 * @retval HSM_ERR_NOT_FOUND  no credential has this id
 * @retval HSM_ERR_EXISTS     another credential has, or had, this x5u
 */
HSM_MUST_CHECK enum hsm_status sks_catalogue_put(struct sks_catalogue *catalogue,
                                                 struct sks_credential *credential);

/**
 * Make one published credential active and the SPC's other active ones on the
 * same token retiring, atomically. A credential that is active already stays so.
 *
 * @retval HSM_ERR_NOT_FOUND  no credential has this id
 * @retval HSM_ERR_USAGE      it is neither published nor active
 */
HSM_MUST_CHECK enum hsm_status sks_catalogue_activate(struct sks_catalogue *catalogue, int64_t id);

/** All credentials, or those of one SPC (not NULL), oldest first; sks_credentials_free(). */
HSM_MUST_CHECK enum hsm_status sks_catalogue_list(struct sks_catalogue *catalogue, const char *spc,
                                                  struct sks_credential **out, size_t *count);

/** sks_catalogue_list() of the states `first` to `last`: a daemon lists what it needs, as the
 * number of destroyed credentials grows over the years. */
HSM_MUST_CHECK enum hsm_status
sks_catalogue_list_in(struct sks_catalogue *catalogue, const char *spc, enum sks_state first,
                      enum sks_state last, struct sks_credential **out, size_t *count);

#define SKS_FORGET_MAX 100 /* credentials at a time */

/** The oldest SKS_FORGET_MAX credentials, of one SPC (not NULL) or of all, that were destroyed at
 *  `since` or earlier and whose certificates have expired by `now`. */
HSM_MUST_CHECK enum hsm_status
sks_catalogue_list_destroyed(struct sks_catalogue *catalogue, const char *spc, time_t since,
                             time_t now, struct sks_credential **out, size_t *count);

/**
 * Delete a destroyed credential, and what is stored beside it.
 *
 * @retval HSM_ERR_USAGE  it is not destroyed, or does not exist
 */
HSM_MUST_CHECK enum hsm_status sks_catalogue_forget(struct sks_catalogue *catalogue, int64_t id);

void sks_credentials_free(struct sks_credential *credentials, size_t count);

/** Release the texts that one credential owns, and make it empty. */
void sks_credential_clear(struct sks_credential *credential);

/**
 * One credential; sks_credential_clear() it.
 *
 * @retval HSM_ERR_NOT_FOUND  no credential has this id; not logged
 */
HSM_MUST_CHECK enum hsm_status sks_catalogue_find(struct sks_catalogue *catalogue, int64_t id,
                                                  struct sks_credential *out);

/** Grows with every insertion and update of a credential, by any process: when it differs, load
 *  again. */
HSM_MUST_CHECK enum hsm_status sks_catalogue_version(struct sks_catalogue *catalogue, int64_t *out);

/* ---- what the SP-KMS stores beside the credentials; changes do not change the version ---- */

#define SKS_EXPLANATION_MAX 512 /* characters */

/** When a credential is to be renewed. */
struct sks_renewal {
    time_t due; /* decided once, and again when the CA's window moves */
    time_t start, end; /* the CA's window (RFC 9773); 0: there is none */
    time_t ask_at; /* when to ask the CA again; 0: not asked yet */
    char explanation_url[SKS_EXPLANATION_MAX + 1]; /* the CA's, for a person; "": none */
};

/** @retval HSM_ERR_NOT_FOUND  nothing is stored for this credential; not logged */
HSM_MUST_CHECK enum hsm_status sks_catalogue_renewal(struct sks_catalogue *catalogue, int64_t id,
                                                     struct sks_renewal *out);
HSM_MUST_CHECK enum hsm_status sks_catalogue_renewal_put(struct sks_catalogue *catalogue,
                                                         int64_t id,
                                                         const struct sks_renewal *renewal);

#define SKS_ACCOUNT_LABEL_MAX 64 /* characters */

/** The owner of an ACME account: each token has its own account, so that the loss of one token does
 *  not keep others from renewal, and so has each hosted provider. */
struct sks_account_owner {
    const char *spc; /* of a hosted provider; "": that of [sp] */
    const char *ca_directory, *token_uri;
};

/** The keys of an account, in its token. */
struct sks_account_keys {
    char label[SKS_ACCOUNT_LABEL_MAX + 1]; /* CKA_LABEL; "": nothing is stored */
    char next[SKS_ACCOUNT_LABEL_MAX + 1]; /* of an unfinished key change; "": none */
};

/** Read or replace the keys of an account. An account of which nothing is stored has two empty
 *  labels: that is not an error. */
HSM_MUST_CHECK enum hsm_status sks_catalogue_account(struct sks_catalogue *catalogue,
                                                     const struct sks_account_owner *owner,
                                                     struct sks_account_keys *out);
HSM_MUST_CHECK enum hsm_status sks_catalogue_account_put(struct sks_catalogue *catalogue,
                                                         const struct sks_account_owner *owner,
                                                         const struct sks_account_keys *keys);

/** An account of the catalogue; texts owned. */
struct sks_account_row {
    char *spc, *ca_directory, *token_uri;
    struct sks_account_keys keys;
};

/** All accounts; release with sks_account_rows_free(). */
HSM_MUST_CHECK enum hsm_status sks_catalogue_accounts(struct sks_catalogue *catalogue,
                                                      struct sks_account_row **out, size_t *count);
void sks_account_rows_free(struct sks_account_row *rows, size_t count);

/** Whether the notification that a credential signs was sent; and record that it was. */
HSM_MUST_CHECK enum hsm_status sks_catalogue_is_told(struct sks_catalogue *catalogue, int64_t id,
                                                     bool *out);
HSM_MUST_CHECK enum hsm_status sks_catalogue_told(struct sks_catalogue *catalogue, int64_t id);

/** True if a credential has this order. */
bool sks_catalogue_has_order(struct sks_catalogue *catalogue, const char *order_url);

/** The last failure in a matter (a token's URI, for instance), for `sti-kms status`. */
struct sks_trouble {
    char *spc; /* the provider concerned; "": all; owned */
    char *matter, *text; /* owned */
    time_t since, last;
    int64_t count;
};

/**
 * Record a failure, or the end of one.
 *
 * @param text  NULL: it succeeded, the trouble is over
 */
HSM_MUST_CHECK enum hsm_status sks_catalogue_trouble_put(struct sks_catalogue *catalogue,
                                                         const char *spc, const char *matter,
                                                         const char *text, time_t now);
/** All of them, oldest first; sks_troubles_free(). */
HSM_MUST_CHECK enum hsm_status sks_catalogue_troubles(struct sks_catalogue *catalogue,
                                                      struct sks_trouble **out, size_t *count);
void sks_troubles_free(struct sks_trouble *troubles, size_t count);

#endif
