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

/** How long no request is sent to an STI-CA (acme_time_is_due()). */
struct kms_wait {
    time_t until; /* 0: no wait */
    time_t for_s;
};

/** Retry state of one provider on one token. */
struct kms_place {
    struct acme_backoff backoff;
    struct kms_wait waits[SKS_SP_CAS_MAX]; /* indexed as the STI-CAs of the configuration */
    unsigned failures; /* since the last success */
};

/** The last warning that was logged about a watched thing. */
struct kms_alarm {
    char what[sizeof(((struct sks_watched *)0)->what)];
    enum sks_alarm alarm;
    time_t told_at;
};

/** A service provider and what is open for it; used by one thread at a time. */
struct kms_provider {
    struct sks_kms *kms;
    const struct sks_sp_provider *config; /* borrowed */
    bool is_prepared; /* the members up to `accounts` are set */
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
    struct kms_provider *providers; /* as many as in the configuration */
    struct kms_alarm alarms[SKS_WATCHED_MAX];
    size_t alarm_count;
};

/** The URI of the i-th token of a provider, as configured. */
const char *sks_kms_token_uri(const struct kms_provider *provider, size_t i);

/** Open what only this provider needs, unless that was done already. */
HSM_MUST_CHECK enum hsm_status sks_kms_prepare(struct kms_provider *provider,
                                               struct hsm_reason *why);

void sks_kms_tell(const struct kms_provider *provider, const char *format, ...) HSM_PRINTF(2, 3);
/** sks_kms_tell() of a whole line, as a callback. @param provider  struct kms_provider * */
void sks_kms_tell_line(void *provider, const char *line);

/** Record the state of a matter in the catalogue, and log a failure.
 *  @param spc  the provider concerned; "": all
 *  @param why  the failure; NULL: success */
void sks_kms_note(struct sks_kms *kms, const char *spc, const char *matter, const char *why,
                  time_t now);

/* kms_watch.c */

/** True if the certificate of an active credential is within its validity but every STI-VS refuses
 *  it, according to a list and a CRL that are valid now; `why` receives the reason. */
bool sks_kms_is_refused(struct sks_trust *trust, const struct sks_credential *credential,
                        time_t now, struct hsm_reason *why);

/* kms_lost.c */

/** True if the active credential must be replaced at once: its key is missing or is another one
 *  (the token was reset or replaced), or its certificate is refused. Any other failure to find the
 *  key may be temporary and does not count. */
bool sks_kms_is_lost(const struct sks_kms *kms, const struct sks_credential *active, time_t now,
                     struct hsm_reason *why);

/** Make each active credential of the list retiring whose certificate is refused, as long as
 *  another active one can sign. Logged, and recorded as a trouble of its token. */
void sks_kms_withdraw_refused(struct kms_provider *provider, struct sks_credential *list,
                              size_t count, time_t now);

/* kms_meter.c: recorded in the metrics of the configuration, if it has any */

void sks_kms_meter_enrollment(const struct kms_provider *provider, bool good);
void sks_kms_meter_look(const struct kms_provider *provider, time_t now);
/** Record that list and CRL are current. */
void sks_kms_meter_refresh(const struct sks_kms *kms, time_t now);

/** Run the notify command for active credentials that were not announced yet. */
void sks_kms_notify(struct kms_provider *provider, time_t now);

#endif
