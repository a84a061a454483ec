/*
 * kms_internal.h - what the files of the SP-KMS share.
 */
#ifndef SKS_KMS_INTERNAL_H
#define SKS_KMS_INTERNAL_H

#include <sks/kms.h>

#include <acme/backoff.h>
#include <acme/time.h>
#include <hsm/secret.h>
#include <sks/enroll.h>
#include <sks/publish.h>
#include <sks/repository.h>
#include <sks/sp_verification.h>
#include <sks/tokens.h>

/** Until when an STI-CA is left alone (acme_time_is_due()). */
struct kms_wait {
    time_t until; /* 0: it is not */
    time_t for_s;
};

/** Retry state of one provider on one token. */
struct kms_place {
    struct acme_backoff backoff;
    struct kms_wait waits[SKS_SP_CAS_MAX]; /* by the configuration's number of the STI-CA */
    unsigned failures; /* since it last went well */
};

/** The last warning that was logged about a watched thing. */
struct kms_alarm {
    char what[sizeof(((struct sks_watched *)0)->what)];
    enum sks_alarm alarm;
    time_t told_at;
};

/** A service provider and what it has open: one thread's at a time. */
struct kms_provider {
    struct sks_kms *kms;
    const struct sks_sp_provider *config; /* borrowed */
    bool is_prepared; /* all up to `accounts` is there */
    struct hsm_secret *password, *api_key, *upload_bearer;
    struct hsm_secret *eab_keys[SKS_SP_CAS_MAX];
    struct sks_repository *repository;
    struct sks_publisher publisher;
    struct acme_authority_login login;
    struct sks_account *accounts[SKS_SP_TOKENS_MAX][SKS_SP_CAS_MAX];
    struct kms_place places[SKS_SP_TOKENS_MAX];
};

struct sks_kms {
    const struct sks_sp_config *config; /* borrowed */
    struct sks_kms_hooks hooks;
    struct sks_tokens *tokens;
    struct sks_catalogue *catalogue;
    struct sks_sp_verification verification;
    struct kms_provider *providers; /* as many as the configuration has */
    struct kms_alarm alarms[SKS_WATCHED_MAX];
    size_t alarm_count;
};

/** The URI of the i-th token of a provider, as the catalogue names it. */
const char *sks_kms_token_uri(const struct kms_provider *provider, size_t i);

/** Open what only this provider has, if that was not done. */
HSM_MUST_CHECK enum hsm_status sks_kms_prepare(struct kms_provider *provider,
                                               struct hsm_reason *why);

void sks_kms_tell(const struct kms_provider *provider, const char *format, ...) HSM_PRINTF(2, 3);
/** The same of a line, for those who call back. @param provider  struct kms_provider * */
void sks_kms_tell_line(void *provider, const char *line);

/** Note how a matter stands (why NULL: well), and log it when it does not.
 *  @param spc  whose matter; "": everybody's */
void sks_kms_note(struct sks_kms *kms, const char *spc, const char *matter, const char *why,
                  time_t now);

/* kms_watch.c */

/** True if the certificate of an active credential, which has not ended, is one that an STI-VS
 *  refuses: the list and the CRL that are good now say so, and the reason how. */
bool sks_kms_is_refused(struct sks_trust *trust, const struct sks_credential *credential,
                        time_t now, struct hsm_reason *why);

/* kms_meter.c: counted in [metrics] of the configuration, if there are any */

void sks_kms_meter_enrollment(const struct kms_provider *provider, bool good);
void sks_kms_meter_look(const struct kms_provider *provider, time_t now);
/** List and CRL are current. */
void sks_kms_meter_refresh(const struct sks_kms *kms, time_t now);

/** Run the notify command for credentials that sign and were not announced yet. */
void sks_kms_notify(struct kms_provider *provider, time_t now);

#endif
