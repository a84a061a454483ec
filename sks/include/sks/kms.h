/*
 * kms.h - the SP-KMS as a whole: it keeps a credential active on each token of
 * each service provider, and the trusted-CA list and the CRL current.
 *
 * Everything it decides is in the catalogue before it takes effect, so that it
 * may end at any moment and go on later, in another process. Threads may share
 * one when each does what it does for a provider of its own: then nobody waits
 * for what another provider's STI-PA, STI-CA or token does. Providers are
 * numbered as in the configuration.
 */
#ifndef SKS_KMS_H
#define SKS_KMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <hsm/status.h>
#include <sks/account.h>
#include <sks/catalogue.h>
#include <sks/sp_config.h>
#include <sks/trust.h>

struct sks_kms;

struct sks_kms_hooks {
    /** Told of each step for a person ("issued: serial 4f.., until ..."); may be NULL. */
    void (*progress)(void *context, const char *line); /* by any thread */
    /** Asked several times a second while it waits; true: give up what is under way. May be NULL.
     */
    bool (*stopped)(void *context);
    void *context;
};

/**
 * Open what the configuration names for all providers: tokens, catalogue, and what verifies
 * certificates. What one of them only needs is opened when it is needed. Nothing is fetched.
 * Faults are logged.
 *
 * @param config  borrowed
 */
HSM_MUST_CHECK enum hsm_status sks_kms_open(const struct sks_sp_config *config,
                                            const struct sks_kms_hooks *hooks,
                                            struct sks_kms **out);
void sks_kms_close(struct sks_kms *kms);

/** True while a token is being opened: sks_kms_close() would wait for it. */
bool sks_kms_is_opening(struct sks_kms *kms);

/** Open what a provider only needs: its secrets, its STI-CR. */
HSM_MUST_CHECK enum hsm_status sks_kms_check(struct sks_kms *kms, size_t provider,
                                             struct hsm_reason *why);

struct sks_catalogue *sks_kms_catalogue(const struct sks_kms *kms); /* borrowed */

/**
 * A provider's account at one of its CAs, with its key in that token. Borrowed until the next
 * sks_kms_forget().
 *
 * @param token_uri  one of its tokens
 */
HSM_MUST_CHECK enum hsm_status sks_kms_account(struct sks_kms *kms, size_t provider,
                                               const char *token_uri, size_t ca,
                                               struct sks_account **out, struct hsm_reason *why);
/** Let go of the accounts that a provider has open: CAs' directories are read anew. */
void sks_kms_forget(struct sks_kms *kms, size_t provider);

/**
 * Which STI-CA of a provider a person means.
 *
 * @param name  its [ca] name or directory; NULL: the provider's first
 * @param out   its place among those of the configuration
 * @retval HSM_ERR_NOT_FOUND  none; logged
 */
HSM_MUST_CHECK enum hsm_status sks_kms_find_ca(const struct sks_sp_config *config, size_t provider,
                                               const char *name, size_t *out);

/**
 * How the catalogue names the token of a provider: as its credential there does, the active one
 * first, which the configuration may word otherwise now (RFC 7512); else as it is configured.
 *
 * @param out  free() it
 */
HSM_MUST_CHECK enum hsm_status sks_kms_token_name(struct sks_kms *kms, size_t provider,
                                                  const char *token_uri, char **out);

/**
 * A new credential, or go on with one on its way (sks_enroll()), and tell who wants to know.
 *
 * @param token_uri  as the catalogue names it: what is active under that text is replaced
 * @param replaces  the credential whose place it takes; 0: none
 * @retval HSM_ERR_UNTRUSTED  the CA's name is not on the STI-PA's list
 * @return else as sks_enroll()
 */
HSM_MUST_CHECK enum hsm_status sks_kms_enroll(struct sks_kms *kms, size_t provider,
                                              const char *token_uri, size_t ca, int64_t replaces,
                                              int64_t *id, struct hsm_reason *why);

/** Fetch list and CRL where that is due (sks_trust_refresh()). */
HSM_MUST_CHECK enum hsm_status sks_kms_refresh_trust(struct sks_kms *kms, time_t now);

/** Let every active credential of a provider be due for renewal, whatever was decided before. */
HSM_MUST_CHECK enum hsm_status sks_kms_make_due(struct sks_kms *kms, size_t provider, time_t now);

/** Do what is for all providers: open tokens that came back, fetch list and CRL. Failures are
 *  logged, and noted as troubles. By one thread at a time. */
void sks_kms_tend(struct sks_kms *kms, time_t now);

/** Log what is late (sks_kms_watched()), once for each threshold and then once a day. By one thread
 *  at a time. */
void sks_kms_warn(struct sks_kms *kms, time_t now);

/** Tell the configuration's metrics how all stands: what ends and when, what is in trouble. After
 *  each sks_kms_tend(), by the same thread; nothing without metrics. */
void sks_kms_meter(struct sks_kms *kms, time_t now);

/** Matter of the trouble that no look was possible, because another sti-kms has the lock: it is
 * over with the next look. */
#define SKS_KMS_LOCK_MATTER "lock"

/**
 * One look at a provider, and do what is due: renewal on each of its tokens, retirement. Failures
 * are logged, noted as troubles in the catalogue and tried again later, never here.
 *
 * @param again_s  receives in how many seconds it wants to be called again
 * @return a failure of the catalogue itself
 */
HSM_MUST_CHECK enum hsm_status sks_kms_look(struct sks_kms *kms, size_t provider, time_t now,
                                            unsigned *again_s);

/* ---- what ends, and when ---- */

/** Names of the thresholds. Between the time when something should be renewed and its end ... */
enum sks_alarm {
    SKS_FINE,
    SKS_DUE, /* ... it should be renewed now */
    SKS_LATE, /* ... half of the time is over */
    SKS_URGENT, /* ... nine tenths of it */
    SKS_ENDED,
};

/** "fine", "due", "late", "urgent", "ended"; static. */
const char *sks_alarm_text(enum sks_alarm alarm);

/** @param due  when it should be renewed, before `ends` */
enum sks_alarm sks_alarm_at(time_t due, time_t ends, time_t now);

#define SKS_WATCHED_MAX                                                                            \
    (SKS_SP_PROVIDERS_MAX * (SKS_SP_TOKENS_MAX + 1) + 64) /* things                                \
                                                           */

struct sks_watched {
    char what[192]; /* for a person */
    bool is_credential; /* it is of a service provider: its certificate, or the lack of any */
    time_t due, ends;
};

/**
 * What signing and verifying hang on: certificates of active credentials (a provider without any
 * has one that has ended), trusted-CA list, CRL, STI-PA anchors, TLS certificates. Needs no token.
 *
 * @param trust  for list and CRL
 * @param out    at most SKS_WATCHED_MAX; free() it
 */
HSM_MUST_CHECK enum hsm_status
sks_kms_watched(const struct sks_sp_config *config, struct sks_catalogue *catalogue,
                struct sks_trust *trust, time_t now, struct sks_watched **out, size_t *count);

#endif
