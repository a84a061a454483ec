/* kms_watch.c - what expires, and when to warn of it. */
#include "kms_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <certs/cert.h>
#include <hsm/defer.h>
#include <hsm/log.h>
#include <hsm/time.h>

#define DAY_S         86400
#define BY_HAND_S     (30 * DAY_S) /* what a person renews is due this long before its end ... */
#define BY_HAND_SHARE 3 /* ... but not before the last third of its life */

const char *
sks_alarm_text(enum sks_alarm alarm)
{
    static const char *const texts[] = {"fine", "due", "late", "urgent", "ended"};

    return texts[alarm];
}

enum sks_alarm
sks_alarm_at(time_t due, time_t ends, time_t now)
{
    if (now > ends)
        return SKS_ENDED;
    if (now < due)
        return SKS_FINE;
    if (ends - now <= (ends - due) / 10)
        return SKS_URGENT;
    return ends - now <= (ends - due) / 2 ? SKS_LATE : SKS_DUE;
}

/* ---- what is watched ---- */

bool
sks_kms_is_refused(struct sks_trust *trust, const struct sks_credential *credential, time_t now,
                   struct hsm_reason *why)
{
    DEFER(certs_chain_free) struct certs_chain *chain = NULL;
    struct hsm_reason verdict = {""};

    if (now < credential->not_before || now > credential->not_after ||
        certs_chain_parse_pem(credential->chain_pem, strlen(credential->chain_pem),
                              CERTS_CHAIN_LEN_MAX, &chain, NULL) != HSM_OK ||
        sks_trust_check(trust, chain, now, &verdict) != HSM_ERR_UNTRUSTED ||
        !sks_trust_is_ready(trust, now))
        return false;
    hsm_refuse(why, HSM_ERR_UNTRUSTED, "credential %" PRId64 ": every STI-VS refuses it: %s",
               credential->id, verdict.text);
    return true;
}

struct list {
    struct sks_watched *things;
    size_t count;
};

static struct sks_watched *
add(struct list *list, time_t due, time_t ends)
{
    struct sks_watched *one;

    if (list->count == SKS_WATCHED_MAX)
        return NULL;
    one = &list->things[list->count++];
    *one = (struct sks_watched){.due = due, .ends = ends};
    return one;
}

/* A certificate that is refused counts as one that has expired. */
static void
add_credential(struct list *list, struct sks_catalogue *catalogue, struct sks_trust *trust,
               const struct sks_credential *credential, time_t now)
{
    struct sks_renewal renewal = {.due = 0};
    bool is_refused = sks_kms_is_refused(trust, credential, now, NULL);
    struct sks_watched *one;

    if (sks_catalogue_renewal(catalogue, credential->id, &renewal) != HSM_OK)
        renewal.due = credential->not_after - (credential->not_after - credential->not_before) / 3;
    one = is_refused ? add(list, now - 1, now - 1) : add(list, renewal.due, credential->not_after);
    if (one == NULL)
        return;
    one->is_credential = true;
    snprintf(one->what, sizeof(one->what), "certificate of credential %" PRId64 " (SPC %s)%s",
             credential->id, credential->spc, is_refused ? ": every STI-VS refuses it" : "");
}

/* A missing certificate counts as one that has expired. */
static void
add_lack(struct list *list, const char *spc, time_t now)
{
    struct sks_watched *one = add(list, now - 1, now - 1);

    if (one == NULL)
        return;
    one->is_credential = true;
    snprintf(one->what, sizeof(one->what), "active credential of SPC %s: there is none", spc);
}

static enum hsm_status
add_credentials(struct list *list, struct sks_catalogue *catalogue, struct sks_trust *trust,
                const char *spc, time_t now)
{
    struct sks_credential *all = NULL;
    size_t count = 0;
    enum hsm_status st =
        sks_catalogue_list_in(catalogue, spc, SKS_ACTIVE, SKS_ACTIVE, &all, &count);

    for (size_t i = 0; st == HSM_OK && i < count; i++)
        add_credential(list, catalogue, trust, &all[i], now);
    if (st == HSM_OK && count == 0)
        add_lack(list, spc, now);
    sks_credentials_free(all, count);
    return st;
}

/* Certificates that a person renews. */
static void
add_certificates(struct list *list, const char *what, const struct certs_chain *chain)
{
    for (size_t i = 0; i < certs_chain_len(chain); i++) {
        const X509 *cert = certs_chain_get(chain, i);
        DEFER(free) char *subject = certs_cert_subject(cert);
        time_t ends = certs_cert_not_after(cert);
        time_t share = (ends - certs_cert_not_before(cert)) / BY_HAND_SHARE;
        struct sks_watched *one = add(list, ends - (share < BY_HAND_S ? share : BY_HAND_S), ends);

        if (one != NULL)
            snprintf(one->what, sizeof(one->what), "%s %.128s", what,
                     subject != NULL ? subject : "");
    }
}

static void
add_file(struct list *list, const char *what, const char *path)
{
    DEFER(certs_chain_free) struct certs_chain *chain = NULL;

    if (path != NULL && certs_chain_read(path, &chain) == HSM_OK)
        add_certificates(list, what, chain);
}

/* Both are refreshed at least daily, so they need attention only on their last day. */
static void
add_trust(struct list *list, struct sks_trust *trust, time_t now)
{
    time_t ends[2] = {0, 0};
    static const char *const what[2] = {"trusted-CA list", "CRL"};

    sks_trust_ends(trust, &ends[0], &ends[1]);
    for (size_t i = 0; i < 2; i++) {
        time_t end = ends[i] != 0 ? ends[i] : now - 1; /* a missing one counts as expired */
        struct sks_watched *one = add(list, end - DAY_S, end);

        if (one != NULL)
            snprintf(one->what, sizeof(one->what), "%s", what[i]);
    }
}

enum hsm_status
sks_kms_watched(const struct sks_sp_config *config, struct sks_catalogue *catalogue,
                struct sks_trust *trust, time_t now, struct sks_watched **out, size_t *count)
{
    struct list list = {.things = calloc(SKS_WATCHED_MAX, sizeof(struct sks_watched))};
    enum hsm_status st = list.things == NULL ? HSM_ERR_NOMEM : HSM_OK;

    for (size_t i = 0; st == HSM_OK && i < config->provider_count; i++)
        st = add_credentials(&list, catalogue, trust, config->providers[i].spc, now);
    if (st != HSM_OK) {
        free(list.things);
        return st;
    }
    add_trust(&list, trust, now);
    add_file(&list, "STI-PA anchor", config->pa_anchors);
    if (config->api_address != NULL || config->cr_address != NULL)
        add_file(&list, "TLS certificate", config->tls_chain);
    add_file(&list, "TLS anchor", config->tls_ca);
    if (config->tls_ca == NULL || config->x5u_tls_ca == NULL ||
        strcmp(config->tls_ca, config->x5u_tls_ca) != 0)
        add_file(&list, "TLS anchor of STI-CRs", config->x5u_tls_ca);
    *out = list.things;
    *count = list.count;
    return HSM_OK;
}

/* ---- notification ---- */

static struct kms_alarm *
alarm_of(struct sks_kms *kms, const char *what)
{
    struct kms_alarm *alarm;

    for (size_t i = 0; i < kms->alarm_count; i++)
        if (strcmp(kms->alarms[i].what, what) == 0)
            return &kms->alarms[i];
    if (kms->alarm_count == SKS_WATCHED_MAX)
        kms->alarm_count = 0; /* the list changed: report all of it again */
    alarm = &kms->alarms[kms->alarm_count++];
    memset(alarm, 0, sizeof(*alarm));
    snprintf(alarm->what, sizeof(alarm->what), "%.*s", (int)sizeof(alarm->what) - 1, what);
    return alarm;
}

static enum hsm_log_level
level_of(enum sks_alarm alarm)
{
    if (alarm >= SKS_URGENT)
        return HSM_LOG_ERROR;
    return alarm == SKS_LATE ? HSM_LOG_WARNING : HSM_LOG_INFO;
}

static void
tell(struct sks_kms *kms, const struct sks_watched *one, time_t now)
{
    struct kms_alarm *before = alarm_of(kms, one->what);
    enum sks_alarm alarm = sks_alarm_at(one->due, one->ends, now);
    bool again = alarm >= SKS_LATE && now - before->told_at >= DAY_S;
    char until[HSM_TIME_LEN + 1];

    if (alarm != before->alarm || again) {
        hsm_time_format(one->ends, until);
        hsm_log(level_of(alarm), "%s: %s, %s %s (%" PRId64 " h)", sks_alarm_text(alarm), one->what,
                alarm == SKS_ENDED ? "ended at" : "ends at", until,
                (int64_t)(one->ends - now) / 3600);
        before->told_at = now;
    }
    before->alarm = alarm;
}

void
sks_kms_warn(struct sks_kms *kms, time_t now)
{
    struct sks_watched *things = NULL;
    size_t count = 0;

    if (sks_kms_watched(kms->config, kms->catalogue, kms->verification.trust, now, &things,
                        &count) != HSM_OK)
        return;
    for (size_t i = 0; i < count; i++)
        tell(kms, &things[i], now);
    free(things);
}
