/* kms_round.c - the SP-KMS's periodic round: do what is due. */
#include "kms_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <certs/cert.h>
#include <hsm/clock.h>
#include <hsm/defer.h>
#include <hsm/log.h>
#include <hsm/time.h>
#include <sks/lifecycle.h>

#define ASK_AGAIN_S     3600 /* until the CA is asked for its window again, after a failure ... */
#define ASK_UNKNOWN_S   86400 /* ... or if it offers no windows */
#define ASK_LONGEST_S   (ASK_UNKNOWN_S + ASK_AGAIN_S) /* upper bound, also for a Retry-After */
#define LATEST_TENTHS   9 /* of a life: no CA window delays renewal beyond this */
#define USED_TENTHS     1 /* of a life: after a use of this length renewal may be immediate */
#define LEFT_TENTHS     1 /* of the remaining life: no Retry-After makes us wait longer ... */
#define ASKED_MAX_S     86400 /* ... nor longer than this */
#define JITTER_HUNDREDS 3 /* of a life, at most, by which renewals without a window differ */

void
sks_kms_note(struct sks_kms *kms, const char *spc, const char *matter, const char *why, time_t now)
{
    if (sks_catalogue_trouble_put(kms->catalogue, spc, matter, why, now) != HSM_OK)
        hsm_log(HSM_LOG_WARNING, "%s: the outcome could not be recorded in the catalogue", matter);
    if (why != NULL)
        hsm_log(HSM_LOG_WARNING, "%s%s%s%s: %s", *spc != '\0' ? "SPC " : "", spc,
                *spc != '\0' ? ", " : "", matter, why);
}

static bool
is_stopped(const struct sks_kms *kms)
{
    return kms->hooks.stopped != NULL && kms->hooks.stopped(kms->hooks.context);
}

/* ---- when to renew ---- */

static time_t
begins(const struct sks_credential *credential)
{
    return credential->not_before != 0 ? credential->not_before : credential->changed_at;
}

/* Due after a configured share of the certificate's life, with jitter so that not all are renewed
 * at the same moment. */
static void
decide_by_life(const struct sks_kms *kms, const struct sks_credential *credential,
               struct sks_renewal *out)
{
    time_t life = credential->not_after - begins(credential);

    memset(out, 0, sizeof(*out));
    out->due = begins(credential) + life / 100 * kms->config->renew_percent +
               (time_t)acme_backoff_random((unsigned)(life / 100 * JITTER_HUNDREDS) + 1);
}

/* When the CA's window has passed, renewal is due at once (RFC 9773 section 4.2). If the CA's clock
 * or calculation is wrong, the window of the next certificate may have passed too. Renewal is
 * therefore immediate only if the previous credential was in use long enough; otherwise it waits,
 * each time twice as long. */
static time_t
earliest(const struct sks_kms *kms, const struct sks_credential *credential)
{
    time_t share = (credential->not_after - begins(credential)) / 10 * USED_TENTHS;
    struct sks_credential before = {.id = 0};
    time_t used, wait;

    if (credential->replaces == 0 ||
        sks_catalogue_find(kms->catalogue, credential->replaces, &before) != HSM_OK)
        return 0;
    used = begins(credential) - begins(&before);
    sks_credential_clear(&before);
    if (used >= share)
        return 0;
    wait = used * 2 > (time_t)kms->config->retry_longest_s ? used * 2
                                                           : (time_t)kms->config->retry_longest_s;
    return credential->changed_at + (wait < share ? wait : share);
}

static void
put_off_hasty(const struct sks_kms *kms, const struct sks_credential *credential, time_t now,
              struct sks_renewal *renewal)
{
    time_t at = earliest(kms, credential);
    char text[HSM_TIME_LEN + 1];

    if (renewal->due >= at)
        return;
    renewal->due = at;
    if (at <= now)
        return;
    hsm_time_format(at, text);
    hsm_log(HSM_LOG_ERROR,
            "credential %lld: the STI-CA wants it renewed at once, as the one before it; not "
            "before %s",
            (long long)credential->id, text);
}

/* RFC 9773 section 4.2: a random moment of the window, chosen once for each window. */
static void
decide_by_window(const struct kms_provider *provider, const struct sks_credential *credential,
                 const struct acme_client_renewal *window, time_t now, struct sks_renewal *renewal)
{
    char start[HSM_TIME_LEN + 1], end[HSM_TIME_LEN + 1];

    renewal->ask_at = now + (time_t)window->retry_after_s;
    if (renewal->start == window->start && renewal->end == window->end)
        return;
    renewal->start = window->start;
    renewal->end = window->end;
    renewal->due =
        window->start + (time_t)acme_backoff_random((unsigned)(window->end - window->start));
    put_off_hasty(provider->kms, credential, now, renewal);
    snprintf(renewal->explanation_url, sizeof(renewal->explanation_url), "%s",
             window->explanation_url);
    hsm_time_format(window->start, start);
    hsm_time_format(window->end, end);
    sks_kms_tell(provider, "credential %lld: the STI-CA wants it renewed between %s and %s%s%s",
                 (long long)credential->id, start, end,
                 window->explanation_url[0] != '\0' ? ", see " : "", window->explanation_url);
}

/* The provider's STI-CA that issued the credential; false: none of those now configured. */
static bool
ca_of(const struct kms_provider *provider, const struct sks_credential *credential, size_t *out)
{
    const struct sks_sp_ca *cas = provider->kms->config->cas;

    for (size_t i = 0; i < provider->config->ca_count; i++)
        if (credential->ca_directory != NULL &&
            strcmp(credential->ca_directory, cas[provider->config->cas[i]].directory) == 0) {
            *out = provider->config->cas[i];
            return true;
        }
    return false;
}

/* The public functions take the index of a provider. */
static size_t
number_of(const struct kms_provider *provider)
{
    return (size_t)(provider - provider->kms->providers);
}

static enum hsm_status
ask_window(struct kms_provider *provider, const struct sks_credential *credential, size_t ca,
           struct acme_client_renewal *window, struct hsm_reason *why)
{
    DEFER(certs_chain_free) struct certs_chain *chain = NULL;
    struct sks_account *account = NULL;
    enum hsm_status st = certs_chain_parse_pem(credential->chain_pem, strlen(credential->chain_pem),
                                               CERTS_CHAIN_LEN_MAX, &chain, why);

    if (st == HSM_OK)
        st = sks_kms_account(provider->kms, number_of(provider), credential->token_uri, ca,
                             &account, why);
    if (st != HSM_OK)
        return st;
    return acme_client_renewal(sks_account_client(account), certs_chain_get(chain, 0), window, why);
}

static void
ask_ca(struct kms_provider *provider, const struct sks_credential *credential, time_t now,
       struct sks_renewal *renewal)
{
    struct acme_client_renewal window;
    struct hsm_reason why = {""};
    enum hsm_status st;
    size_t ca;

    if (!provider->kms->config->asks_renewal_info ||
        !acme_time_is_due(renewal->ask_at, ASK_LONGEST_S, now) || !ca_of(provider, credential, &ca))
        return;
    st = ask_window(provider, credential, ca, &window, &why);
    if (st == HSM_OK) {
        decide_by_window(provider, credential, &window, now, renewal);
        return;
    }
    renewal->ask_at = now + (st == HSM_ERR_UNSUPPORTED ? ASK_UNKNOWN_S : ASK_AGAIN_S) +
                      (time_t)acme_backoff_random(ASK_AGAIN_S / 10);
    if (st != HSM_ERR_UNSUPPORTED)
        hsm_log(HSM_LOG_INFO, "credential %lld: when to renew it is not told: %s",
                (long long)credential->id, why.text);
}

/* When a credential is due for renewal, as decided before or now; the decision is in the
 * catalogue. */
static enum hsm_status
decide(struct kms_provider *provider, const struct sks_credential *credential, time_t now,
       time_t *due)
{
    struct sks_renewal renewal;
    time_t latest =
        begins(credential) + (credential->not_after - begins(credential)) / 10 * LATEST_TENTHS;
    enum hsm_status st = sks_catalogue_renewal(provider->kms->catalogue, credential->id, &renewal);
    bool is_new = st == HSM_ERR_NOT_FOUND;
    time_t asked_at;

    if (st != HSM_OK && !is_new)
        return st;
    if (is_new)
        decide_by_life(provider->kms, credential, &renewal);
    asked_at = renewal.ask_at;
    ask_ca(provider, credential, now, &renewal);
    if (renewal.due > latest)
        renewal.due = latest;
    *due = renewal.due;
    if (!is_new && asked_at == renewal.ask_at)
        return HSM_OK;
    return sks_catalogue_renewal_put(provider->kms->catalogue, credential->id, &renewal);
}

/* ---- one token ---- */

/* The credentials of the service provider on a token; NULL, or in the list. */
struct holding {
    const struct sks_credential *active, *on_the_way; /* the newest */
    const struct sks_credential *retiring; /* the newest; used only if none is active */
    struct hsm_reason lost; /* why a new one is needed at once; "": it is not */
};

/* A credential that was begun before the active one, for instance at another CA, is no longer
 * needed. */
static void
give_up(struct kms_provider *provider, struct sks_credential *credential)
{
    sks_kms_tell(provider, "credential %lld: was %s; given up, it is not needed",
                 (long long)credential->id, sks_state_text(credential->state));
    credential->state = SKS_RETIRED;
    if (sks_catalogue_put(provider->kms->catalogue, credential) != HSM_OK)
        hsm_log(HSM_LOG_WARNING, "credential %lld: could not be given up",
                (long long)credential->id);
}

static void
find_holding(struct kms_provider *provider, size_t token, struct sks_credential *list, size_t count,
             struct holding *out)
{
    const struct sks_tokens *tokens = provider->kms->tokens;

    memset(out, 0, sizeof(*out));
    for (size_t i = count; i-- > 0;) { /* the newest first */
        if (!sks_tokens_is(tokens, provider->config->tokens[token], list[i].token_uri))
            continue;
        if (list[i].state == SKS_ACTIVE && out->active == NULL)
            out->active = &list[i];
        else if (list[i].state < SKS_ACTIVE && out->active != NULL)
            give_up(provider, &list[i]);
        else if (list[i].state < SKS_ACTIVE && out->on_the_way == NULL)
            out->on_the_way = &list[i];
        else if (list[i].state == SKS_RETIRING && out->retiring == NULL)
            out->retiring = &list[i];
    }
}

static bool
may_ask(const struct kms_place *place, size_t ca, time_t now)
{
    return acme_time_is_due(place->waits[ca].until, place->waits[ca].for_s, now);
}

/* The STI-CA of the unfinished credential, or else the first. If time runs out after failures, the
 * next STI-CA that may be asked now. */
static size_t
choose_ca(const struct kms_provider *provider, const struct holding *holding,
          const struct kms_place *place, bool is_urgent, time_t now)
{
    const struct sks_sp_provider *config = provider->config;
    size_t ca;

    for (size_t i = 0; is_urgent && place->failures > 0 && i < config->ca_count; i++) {
        ca = config->cas[(place->failures + i) % config->ca_count];
        if (may_ask(place, ca, now))
            return ca;
    }
    if (holding->on_the_way != NULL && ca_of(provider, holding->on_the_way, &ca))
        return ca;
    return config->cas[0];
}

/* The longest wait that a Retry-After may cause: it must not let the active certificate expire. */
static time_t
longest_wait(const struct sks_kms *kms, const struct holding *holding, time_t now)
{
    const struct sks_credential *active = holding->active;
    time_t longest;

    if (active == NULL || holding->lost.text[0] != '\0' || active->not_after <= now)
        return (time_t)kms->config->retry_longest_s;
    longest = (active->not_after - now) / 10 * LEFT_TENTHS;
    if (longest < (time_t)kms->config->retry_first_s)
        return (time_t)kms->config->retry_first_s;
    return longest < ASKED_MAX_S ? longest : ASKED_MAX_S;
}

/* A wait requested by the STI-CA is observed, up to longest_wait(). A refusal is retried less often
 * than a failure that may be temporary. */
static time_t
put_off(struct kms_provider *provider, size_t token, size_t ca, const struct holding *holding,
        enum hsm_status st, time_t now)
{
    struct kms_place *place = &provider->places[token];
    struct kms_wait *wait = &place->waits[ca];
    const struct sks_account *account = provider->accounts[token][ca];
    long asked = account == NULL ? 0 : acme_client_retry_after_s(sks_account_client(account));
    long longest = (long)longest_wait(provider->kms, holding, now);

    if (st != HSM_ERR_BUSY)
        place->backoff.next_ms = place->backoff.longest_ms;
    if (asked > longest)
        asked = longest;
    wait->for_s = acme_backoff_next(&place->backoff, asked > 0 ? asked * 1000 : -1) / 1000 + 1;
    wait->until = now + wait->for_s;
    place->failures++;
    return wait->until;
}

static void
went_well(struct kms_place *place)
{
    acme_backoff_reset(&place->backoff);
    memset(place->waits, 0, sizeof(place->waits));
    place->failures = 0;
}

/* The catalogue compares token URIs as texts: a credential that replaces another one gets the same
 * URI, although the configuration may now word it differently (RFC 7512). */
static const char *
name_of_token(const struct holding *holding, const char *uri)
{
    if (holding->active != NULL)
        return holding->active->token_uri;
    return holding->on_the_way != NULL ? holding->on_the_way->token_uri : uri;
}

/* The id of the credential that a new one replaces; 0: none. */
static int64_t
replaced_by_next(const struct holding *holding)
{
    if (holding->active != NULL)
        return holding->active->id;
    return holding->lost.text[0] != '\0' ? holding->retiring->id : 0;
}

static void
renew(struct kms_provider *provider, size_t token, size_t ca, const struct holding *holding,
      time_t now)
{
    struct sks_kms *kms = provider->kms;
    const char *uri = sks_kms_token_uri(provider, token);
    const char *name = name_of_token(holding, uri);
    const char *lost = holding->lost.text;
    struct hsm_reason why = {""};
    char text[2 * HSM_REASON_MAX + 64];
    char next[HSM_TIME_LEN + 1];
    time_t begun = hsm_clock_s();
    int64_t id;
    enum hsm_status st =
        sks_kms_enroll(kms, number_of(provider), name, ca, replaced_by_next(holding), &id, &why);

    if (st != HSM_OK && is_stopped(kms)) /* not a failure: the next run continues it */
        return;
    sks_kms_meter_enrollment(provider, st == HSM_OK);
    if (st == HSM_OK) {
        went_well(&provider->places[token]);
        sks_kms_note(kms, provider->config->spc, uri, NULL, now);
        hsm_log(HSM_LOG_INFO, "%s: credential %lld signs", uri, (long long)id);
        return;
    }
    now += hsm_clock_s() - begun; /* it may have taken minutes */
    hsm_time_format(put_off(provider, token, ca, holding, st, now), next);
    snprintf(text, sizeof(text), "%s%s%s; tried again at %s", lost, *lost != '\0' ? "; " : "",
             why.text[0] != '\0' ? why.text : hsm_status_text(st), next);
    sks_kms_note(kms, provider->config->spc, uri, text, now);
}

/* Note why a token is not open, and why its credential was withdrawn, if it was. */
static void
note_away(const struct kms_provider *provider, const char *uri, const char *lost, time_t now)
{
    const char *fault = sks_tokens_fault(provider->kms->tokens, uri);
    char text[2 * HSM_REASON_MAX];

    snprintf(text, sizeof(text), "%s%s%s", lost, *lost != '\0' && fault != NULL ? "; " : "",
             fault != NULL ? fault : "");
    sks_kms_note(provider->kms, provider->config->spc, uri, text[0] != '\0' ? text : NULL, now);
}

static enum hsm_status
look_at(struct kms_provider *provider, size_t token, struct sks_credential *list, size_t count,
        time_t now)
{
    struct sks_kms *kms = provider->kms;
    const char *uri = sks_kms_token_uri(provider, token);
    struct hsm_token *open = sks_tokens_get(kms->tokens, uri);
    struct kms_place *place = &provider->places[token];
    struct holding holding;
    time_t due = now;
    bool is_urgent = true;
    size_t ca;
    enum hsm_status st = HSM_OK;

    find_holding(provider, token, list, count, &holding);
    if (holding.active == NULL && holding.retiring != NULL)
        (void)sks_kms_is_refused(kms->verification.trust, holding.retiring, now, &holding.lost);
    if (open == NULL) {
        note_away(provider, uri, holding.lost.text, now);
        return HSM_OK;
    }
    if (holding.active != NULL && !sks_kms_is_lost(kms, holding.active, now, &holding.lost)) {
        st = decide(provider, holding.active, now, &due);
        is_urgent = sks_alarm_at(due, holding.active->not_after, now) >= SKS_URGENT;
    }
    if (st != HSM_OK)
        return st;
    if (now < due && holding.on_the_way == NULL) {
        sks_kms_note(kms, provider->config->spc, uri, NULL, now);
        return HSM_OK;
    }
    ca = choose_ca(provider, &holding, place, is_urgent, now);
    if (!may_ask(place, ca, now))
        return HSM_OK;
    if (holding.lost.text[0] != '\0')
        hsm_log(HSM_LOG_ERROR, "%s: %s; a new one is made", uri, holding.lost.text);
    renew(provider, token, ca, &holding, now);
    return HSM_OK;
}

/* Note active credentials that neither sign nor are renewed: their token was removed from the
 * configuration. */
static void
note_homeless(struct kms_provider *provider, const struct sks_credential *list, size_t count,
              time_t now)
{
    char text[HSM_REASON_MAX] = "";
    size_t len = 0;

    for (size_t i = 0; i < count && len < sizeof(text); i++)
        if (list[i].state == SKS_ACTIVE &&
            !sks_tokens_has(provider->kms->tokens, list[i].token_uri))
            len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%lld",
                                    len > 0 ? ", " : "sti-kms retire --id ", (long long)list[i].id);
    sks_kms_note(provider->kms, provider->config->spc, "active on a token that is not configured",
                 len > 0 ? text : NULL, now);
}

/* Clear the troubles of tokens that are not the provider's any more, or are named differently now:
 * no later look would clear them. */
static void
forget_troubles_of_tokens(struct kms_provider *provider, time_t now)
{
    struct sks_kms *kms = provider->kms;
    struct sks_trouble *list = NULL;
    size_t count = 0;

    if (sks_catalogue_troubles(kms->catalogue, &list, &count) != HSM_OK)
        return;
    for (size_t i = 0; i < count; i++) {
        bool is_its = strncmp(list[i].matter, "pkcs11:", strlen("pkcs11:")) != 0;

        for (size_t j = 0; j < provider->config->token_count; j++)
            is_its = is_its || strcmp(list[i].matter, sks_kms_token_uri(provider, j)) == 0;
        if (!is_its && strcmp(list[i].spc, provider->config->spc) == 0)
            sks_kms_note(kms, list[i].spc, list[i].matter, NULL, now);
    }
    sks_troubles_free(list, count);
}

/* ---- a look at a provider ---- */

enum hsm_status
sks_kms_make_due(struct sks_kms *kms, size_t provider, time_t now)
{
    struct sks_credential *list = NULL;
    size_t count = 0;
    enum hsm_status st = sks_catalogue_list_in(kms->catalogue, kms->config->providers[provider].spc,
                                               SKS_ACTIVE, SKS_ACTIVE, &list, &count);

    for (size_t i = 0; st == HSM_OK && i < count; i++) {
        /* the CA is not asked again before the renewal: its window would override this */
        const struct sks_renewal renewal = {.due = now, .ask_at = now + ASK_UNKNOWN_S};

        st = sks_catalogue_renewal_put(kms->catalogue, list[i].id, &renewal);
    }
    sks_credentials_free(list, count);
    return st;
}

void
sks_kms_notify(struct kms_provider *provider, time_t now)
{
    struct sks_kms *kms = provider->kms;
    const char *spc = provider->config->spc;
    struct sks_credential *list = NULL;
    struct hsm_reason failed = {""};
    size_t count = 0;

    if (kms->config->notify_command != NULL &&
        sks_catalogue_list_in(kms->catalogue, spc, SKS_ACTIVE, SKS_ACTIVE, &list, &count) != HSM_OK)
        return;
    for (size_t i = 0; i < count; i++) {
        struct hsm_reason why = {""};
        bool told = true;
        enum hsm_status st;

        if (sks_catalogue_is_told(kms->catalogue, list[i].id, &told) != HSM_OK || told)
            continue;
        st = sks_publish_notify(&provider->publisher, list[i].spc, list[i].id, list[i].x5u,
                                list[i].key_uri, &why);
        if (st == HSM_OK)
            st = sks_catalogue_told(kms->catalogue, list[i].id);
        if (st != HSM_OK && failed.text[0] == '\0')
            hsm_refuse(&failed, st, "%s", why.text[0] != '\0' ? why.text : hsm_status_text(st));
    }
    sks_kms_note(kms, spc, "notify-command", failed.text[0] != '\0' ? failed.text : NULL, now);
    sks_credentials_free(list, count);
}

/* Seconds until the next look: not after the end of a wait, and with jitter so that not all
 * instances look at the same second. */
static unsigned
next_look_s(const struct kms_provider *provider, time_t now)
{
    unsigned wait = (unsigned)provider->kms->config->look_every_s;

    wait = wait - wait / 10 + acme_backoff_random(wait / 5 + 1);
    for (size_t i = 0; i < provider->config->token_count; i++)
        for (size_t j = 0; j < SKS_SP_CAS_MAX; j++) {
            time_t next = provider->places[i].waits[j].until;

            if (next > now && next - now < (time_t)wait)
                wait = (unsigned)(next - now);
        }
    return wait > 0 ? wait : 1;
}

/* Retire and destroy what no longer signs, even if the provider could not be prepared. */
static void
tidy(struct kms_provider *provider, time_t now)
{
    const struct sks_sp_config *config = provider->kms->config;
    const struct sks_lifecycle lifecycle = {
        .catalogue = provider->kms->catalogue,
        .tokens = provider->kms->tokens,
        .spc = provider->config->spc,
        .retiring_s = (time_t)config->retiring_s,
        .retired_s = (time_t)config->retired_s,
        .keep_keys = !config->destroys_keys,
        .clock_is_doubtful = !sks_trust_is_ready(provider->kms->verification.trust, now),
        /* without its STI-CR nothing is forgotten, because the chain could not be removed */
        .destroyed_s = provider->repository != NULL ? (time_t)config->destroyed_s : 0,
        .repository = provider->repository,
        .progress = sks_kms_tell_line,
        .context = provider,
    };

    if (sks_lifecycle_tidy(&lifecycle, now) != HSM_OK)
        hsm_log(HSM_LOG_DEBUG, "some expired credentials could not be retired");
}

enum hsm_status
sks_kms_look(struct sks_kms *kms, size_t number, time_t now, unsigned *again_s)
{
    struct kms_provider *provider = &kms->providers[number];
    struct sks_credential *list = NULL;
    struct hsm_reason why = {""};
    size_t count = 0;
    enum hsm_status prepared = sks_kms_prepare(provider, &why);
    enum hsm_status st = sks_catalogue_list_in(kms->catalogue, provider->config->spc, SKS_GENERATED,
                                               SKS_RETIRING, &list, &count);

    sks_kms_note(kms, provider->config->spc, SKS_KMS_LOCK_MATTER, NULL, now);
    sks_kms_note(kms, provider->config->spc, "configuration", prepared == HSM_OK ? NULL : why.text,
                 now);
    if (st == HSM_OK)
        sks_kms_withdraw_refused(provider, list, count, now);
    if (prepared == HSM_OK)
        for (size_t i = 0; st == HSM_OK && i < provider->config->token_count && !is_stopped(kms);
             i++)
            st = look_at(provider, i, list, count, now);
    if (st == HSM_OK) {
        note_homeless(provider, list, count, now);
        forget_troubles_of_tokens(provider, now);
    }
    sks_credentials_free(list, count);
    if (st == HSM_OK && prepared == HSM_OK)
        sks_kms_notify(provider, now);
    if (st == HSM_OK)
        tidy(provider, now);
    if (st == HSM_OK)
        sks_kms_meter_look(provider, now);
    sks_kms_forget(kms, number);
    *again_s = next_look_s(provider, now);
    return st;
}

/* ---- for all providers ---- */

enum hsm_status
sks_kms_refresh_trust(struct sks_kms *kms, time_t now)
{
    return sks_trust_refresh(kms->verification.trust, now);
}

/* Clear the troubles of providers that are not configured any more. */
static void
forget_troubles_of_others(struct sks_kms *kms, time_t now)
{
    struct sks_trouble *list = NULL;
    size_t count = 0;
    size_t provider;

    if (sks_catalogue_troubles(kms->catalogue, &list, &count) != HSM_OK)
        return;
    for (size_t i = 0; i < count; i++)
        if (*list[i].spc != '\0' && !sks_sp_find_provider(kms->config, list[i].spc, &provider))
            sks_kms_note(kms, list[i].spc, list[i].matter, NULL, now);
    sks_troubles_free(list, count);
}

void
sks_kms_tend(struct sks_kms *kms, time_t now)
{
    enum hsm_status st;

    (void)sks_tokens_retry(kms->tokens); /* an absent token is reported by the code that needs it */
    st = sks_kms_refresh_trust(kms, now);
    if (st == HSM_OK)
        sks_kms_meter_refresh(kms, now);
    sks_kms_note(kms, "", "trusted-CA list and CRL",
                 st == HSM_OK ? NULL : "could not be refreshed; what was good is kept", now);
    forget_troubles_of_others(kms, now);
}
