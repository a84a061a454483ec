/*
 * kms.h - the SP-KMS as a whole: it keeps a credential active on each token of
 * each service provider, and the trusted-CA list and the CRL current.
 *
 * Every decision is in the catalogue before it takes effect, so that the SP-KMS
 * may end at any moment and continue later, in another process. Threads may share
 * one if each works for a different provider: then no thread waits for another
 * provider's STI-PA, STI-CA or token. Providers are numbered as in the
 * configuration.
 */
#ifndef SKS_KMS_H
#define SKS_KMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <hsm/defer.h>
#include <hsm/status.h>
#include <sks/account.h>
#include <sks/catalogue.h>
#include <sks/sp_config.h>
#include <sks/trust.h>

struct sks_kms;

struct sks_kms_hooks {
    /** Called in any thread with a line for a person at each step ("issued: serial 4f.., until
     *  ..."); may be NULL. */
    void (*progress)(void *context, const char *line);
    /** Called several times a second during waits; true: give up what is under way. May be NULL. */
    bool (*stopped)(void *context);
    void *context;
};

/**
 * Open what the configuration names for all providers: tokens, catalogue, and what verifies
 * certificates. What a single provider needs is opened when it is needed. Nothing is fetched.
 * Faults are logged.
 *
 * @param config  borrowed
 */
HSM_MUST_CHECK enum hsm_status sks_kms_open(const struct sks_sp_config *config,
                                            const struct sks_kms_hooks *hooks,
                                            struct sks_kms **out);
void sks_kms_close(struct sks_kms *kms);
DEFINE_DEFER(struct sks_kms, sks_kms_close)

/** True while a token is being opened: sks_kms_close() would wait for it. */
bool sks_kms_is_opening(struct sks_kms *kms);

/** Open what a single provider needs, its secrets and STI-CR, to check that this is possible. */
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
/** Close the open accounts of a provider, so that the CAs' directories are read again. */
void sks_kms_forget(struct sks_kms *kms, size_t provider);

/**
 * Find the STI-CA of a provider that a person named.
 *
 * @param name  its [ca] name or directory; NULL: the provider's first
 * @param out   its index among those of the configuration
 * @retval HSM_ERR_NOT_FOUND  none; logged
 */
HSM_MUST_CHECK enum hsm_status sks_kms_find_ca(const struct sks_sp_config *config, size_t provider,
                                               const char *name, size_t *out);

/**
 * The URI by which the catalogue names a provider's token: that of its credential on the token,
 * preferably the active one, as the configuration may now word the URI differently (RFC 7512); if
 * it has no credential, the configured one.
 *
 * @param out  free() it
 */
HSM_MUST_CHECK enum hsm_status sks_kms_token_name(struct sks_kms *kms, size_t provider,
                                                  const char *token_uri, char **out);

/**
 * Get a new credential, or continue an unfinished one (sks_enroll()), and run the notify command.
 *
 * @param token_uri  as in the catalogue: the credential that is active under this text is replaced
 * @param replaces   the credential that the new one replaces; 0: none
 * @retval HSM_ERR_UNTRUSTED  the CA's name is not on the STI-PA's list
 * @return else as sks_enroll()
 */
HSM_MUST_CHECK enum hsm_status sks_kms_enroll(struct sks_kms *kms, size_t provider,
                                              const char *token_uri, size_t ca, int64_t replaces,
                                              int64_t *id, struct hsm_reason *why);

/** Fetch list and CRL if due (sks_trust_refresh()). */
HSM_MUST_CHECK enum hsm_status sks_kms_refresh_trust(struct sks_kms *kms, time_t now);

/** Make every active credential of a provider due for renewal, whatever was decided before. */
HSM_MUST_CHECK enum hsm_status sks_kms_make_due(struct sks_kms *kms, size_t provider, time_t now);

/** Do what concerns all providers: open tokens that came back, fetch list and CRL. Failures are
 *  logged, and stored as troubles. One thread at a time. */
void sks_kms_tend(struct sks_kms *kms, time_t now);

/** Log what is late (sks_kms_watched()), once for each threshold and then once a day. One thread at
 *  a time. */
void sks_kms_warn(struct sks_kms *kms, time_t now);

/** Update the metrics: what expires and when, what is in trouble. After each sks_kms_tend(), in the
 *  same thread; does nothing without metrics. */
void sks_kms_meter(struct sks_kms *kms, time_t now);

/** Matter of the trouble that no look was possible because the lock could not be taken. The next
 * look clears it. */
#define SKS_KMS_LOCK_MATTER "lock"

/**
 * Do what is due for a provider: renewal on each of its tokens, retirement. Failures are logged,
 * stored as troubles in the catalogue, and retried in a later call.
 *
 * @param again_s  receives the number of seconds after which to call it again
 * @return a failure of the catalogue itself
 */
HSM_MUST_CHECK enum hsm_status sks_kms_look(struct sks_kms *kms, size_t provider, time_t now,
                                            unsigned *again_s);

/* ---- what expires, and when ---- */

/** Thresholds in the time between `due`, when something should be renewed, and `ends`. */
enum sks_alarm {
    SKS_FINE,
    SKS_DUE, /* it should be renewed now */
    SKS_LATE, /* half of the time is over */
    SKS_URGENT, /* nine tenths of it are over */
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
    bool is_credential; /* a service provider's certificate, or the lack of one */
    time_t due, ends;
};

/**
 * What signing and verifying depend on: certificates of active credentials (a provider without any
 * is listed with an expired one), trusted-CA list, CRL, STI-PA anchors, TLS certificates. Needs no
 * token.
 *
 * @param trust  for list and CRL
 * @param out    at most SKS_WATCHED_MAX; free() it
 */
HSM_MUST_CHECK enum hsm_status
sks_kms_watched(const struct sks_sp_config *config, struct sks_catalogue *catalogue,
                struct sks_trust *trust, time_t now, struct sks_watched **out, size_t *count);

#endif
