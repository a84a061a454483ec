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
#include <sks/tokens.h>

/** A token as the rounds see it. */
struct kms_place {
    struct acme_backoff backoff;
    time_t next_at; /* not before; 0: at once */
    unsigned failures; /* since it last went well */
};

/** What was said of a watched thing. */
struct kms_alarm {
    char what[sizeof(((struct sks_watched *)0)->what)];
    enum sks_alarm alarm;
    time_t told_at;
};

struct sks_kms {
    const struct sks_sp_config *config; /* borrowed */
    struct sks_kms_hooks hooks;
    struct sks_tokens *tokens;
    struct sks_catalogue *catalogue;
    struct sks_repository *repository;
    struct sks_sp_verification verification;
    struct hsm_secret *password, *upload_bearer;
    struct hsm_secret *eab_keys[SKS_SP_CAS_MAX];
    struct sks_publisher publisher;
    struct acme_authority_login login;
    struct sks_account *accounts[SKS_TOKENS_MAX][SKS_SP_CAS_MAX];

    struct kms_place places[SKS_TOKENS_MAX];
    struct kms_alarm alarms[SKS_WATCHED_MAX];
    size_t alarm_count;
};

void kms_tell(const struct sks_kms *kms, const char *format, ...) HSM_PRINTF(2, 3);

/** Note how a matter stands (why NULL: well), and log it when that is news. */
void kms_note(struct sks_kms *kms, const char *matter, const char *why, time_t now);

/** Tell, by the operator's command, of credentials that sign and that nobody was told of. */
void kms_notify(struct sks_kms *kms, time_t now);

/** Say what is late, once for each threshold and then once a day. */
void kms_watch(struct sks_kms *kms, time_t now);

#endif
