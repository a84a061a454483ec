/* lifecycle.c - the end of a credential's life. */
#include <sks/lifecycle.h>

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <acme/time.h>
#include <hsm/defer.h>
#include <hsm/key.h>
#include <hsm/log.h>
#include <hsm/uri.h>

#define LINE_SIZE 512
#define CLOCK_S   86400 /* a state that began further ahead of now began on a wrong clock */

static void HSM_PRINTF(2, 3) tell(const struct sks_lifecycle *lifecycle, const char *format, ...)
{
    char line[LINE_SIZE];
    va_list arguments;

    if (lifecycle->progress == NULL)
        return;
    va_start(arguments, format);
    vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    lifecycle->progress(lifecycle->context, line);
}

static enum hsm_status
move(const struct sks_lifecycle *lifecycle, struct sks_credential *credential, enum sks_state state,
     const char *because, struct hsm_reason *why)
{
    enum hsm_status st;

    credential->state = state;
    st = sks_catalogue_put(lifecycle->catalogue, credential);
    if (st != HSM_OK)
        return hsm_refuse(why, st, "credential %lld: the catalogue did not take the state %s",
                          (long long)credential->id, sks_state_text(state));
    tell(lifecycle, "credential %lld: %s, %s", (long long)credential->id, sks_state_text(state),
         because);
    return HSM_OK;
}

/* ---- the key ---- */

/* A key is kept as long as another credential that has it is not retired. */
static enum hsm_status
check_nobody_needs_it(const struct sks_lifecycle *lifecycle, const struct sks_credential *one,
                      struct hsm_reason *why)
{
    struct sks_credential *list = NULL;
    size_t count = 0;
    enum hsm_status st = sks_catalogue_list_in(lifecycle->catalogue, NULL, SKS_GENERATED,
                                               SKS_RETIRING, &list, &count);

    for (size_t i = 0; st == HSM_OK && i < count; i++)
        if (list[i].id != one->id && strcmp(list[i].key_uri, one->key_uri) == 0)
            st = hsm_refuse(why, HSM_ERR_USAGE, "credential %lld: credential %lld has its key, too",
                            (long long)one->id, (long long)list[i].id);
    sks_credentials_free(list, count);
    return st;
}

static bool
is_named(const struct hsm_key_info *info, const struct hsm_uri *uri)
{
    const char *label = hsm_uri_get(uri, "object");
    size_t id_len = 0;
    const uint8_t *id = hsm_uri_id(uri, &id_len);

    if (id != NULL && (id_len != info->id_len || memcmp(id, info->id, id_len) != 0))
        return false;
    return label == NULL ? id != NULL : strcmp(label, info->label) == 0;
}

/* A key that is not found was destroyed by a run that could not record it, or was never generated.
 * But its private key, which could still sign, may be there without the public key, or in a token
 * whose label has changed. */
static enum hsm_status
check_is_gone(struct hsm_token *token, const struct sks_credential *credential,
              struct hsm_reason *why)
{
    DEFER(hsm_uri_free) struct hsm_uri *uri = NULL;
    struct hsm_key_info *infos = NULL;
    size_t count = 0;
    enum hsm_status st = hsm_uri_parse(credential->key_uri, &uri, why);

    if (st == HSM_OK && (st = hsm_key_list(token, &infos, &count)) != HSM_OK)
        st = hsm_refuse(why, st, "credential %lld: whether its key is gone cannot be said: %s",
                        (long long)credential->id, hsm_status_text(st));
    for (size_t i = 0; st == HSM_OK && i < count; i++)
        if (is_named(&infos[i], uri))
            st = hsm_refuse(why, HSM_ERR_UNSUPPORTED,
                            "credential %lld: its private key %s is in the token, without its "
                            "public half or under another label of the token",
                            (long long)credential->id, infos[i].label);
    free(infos);
    return st;
}

static enum hsm_status
destroy_key(const struct sks_lifecycle *lifecycle, const struct sks_credential *credential,
            struct hsm_reason *why)
{
    struct hsm_token *token = sks_tokens_get(lifecycle->tokens, credential->token_uri);
    DEFER(hsm_key_free) struct hsm_key *key = NULL;
    enum hsm_status st;

    if (token == NULL || !hsm_token_is_ready(token))
        return hsm_refuse(why, HSM_ERR_BUSY, "credential %lld: its token is away",
                          (long long)credential->id);
    st = hsm_key_find(token, credential->key_uri, &key);
    if (st == HSM_ERR_NOT_FOUND)
        return check_is_gone(token, credential, why);
    if (st == HSM_OK)
        st = hsm_key_destroy(key);
    if (st != HSM_OK)
        return hsm_refuse(why, st, "credential %lld: its key is not destroyed: %s",
                          (long long)credential->id, hsm_status_text(st));
    return HSM_OK;
}

static enum hsm_status
destroy(const struct sks_lifecycle *lifecycle, struct sks_credential *credential,
        struct hsm_reason *why)
{
    enum hsm_status st = check_nobody_needs_it(lifecycle, credential, why);

    if (st == HSM_OK)
        st = destroy_key(lifecycle, credential, why);
    if (st == HSM_OK)
        st = move(lifecycle, credential, SKS_DESTROYED, "its key is gone from the token", why);
    return st;
}

/* ---- what is due ---- */

/* True if the credential has been in its state for `for_s`, or entered it while the clock was
 * ahead. */
static bool
has_stayed(const struct sks_credential *credential, time_t for_s, time_t now)
{
    return acme_time_is_due(credential->changed_at + for_s, for_s + CLOCK_S, now);
}

static enum hsm_status
tidy_one(const struct sks_lifecycle *lifecycle, struct sks_credential *credential, time_t now,
         struct hsm_reason *why)
{
    enum hsm_status st = HSM_OK;

    if (credential->state == SKS_ACTIVE && credential->not_after < now &&
        !lifecycle->clock_is_doubtful)
        return move(lifecycle, credential, SKS_RETIRING, "its certificate has ended", why);
    if (credential->state == SKS_RETIRING && has_stayed(credential, lifecycle->retiring_s, now))
        return move(lifecycle, credential, SKS_RETIRED, "no call of it is fresh any more", why);
    if (credential->state == SKS_RETIRED && has_stayed(credential, lifecycle->retired_s, now) &&
        !lifecycle->keep_keys)
        st = destroy(lifecycle, credential, why);
    return st;
}

/* ---- forgetting destroyed credentials ---- */

/* Remove the chain first: once the credential is gone from the catalogue, nothing would remove
 * it. */
static enum hsm_status
forget_one(const struct sks_lifecycle *lifecycle, const struct sks_credential *credential)
{
    enum hsm_status st = HSM_OK;

    if (lifecycle->repository != NULL && credential->x5u != NULL)
        st = sks_repository_withdraw(lifecycle->repository, credential->x5u);
    if (st == HSM_OK)
        st = sks_catalogue_forget(lifecycle->catalogue, credential->id);
    if (st == HSM_OK)
        tell(lifecycle, "credential %lld: forgotten, it was destroyed long ago",
             (long long)credential->id);
    return st;
}

static enum hsm_status
forget_old(const struct sks_lifecycle *lifecycle, time_t now)
{
    struct sks_credential *list = NULL;
    size_t count = 0;
    enum hsm_status st = HSM_OK;

    if (lifecycle->destroyed_s == 0)
        return HSM_OK;
    st = sks_catalogue_list_destroyed(lifecycle->catalogue, lifecycle->spc,
                                      now - lifecycle->destroyed_s, now, &list, &count);
    for (size_t i = 0; st == HSM_OK && i < count; i++)
        st = forget_one(lifecycle, &list[i]);
    sks_credentials_free(list, count);
    return st;
}

enum hsm_status
sks_lifecycle_tidy(const struct sks_lifecycle *lifecycle, time_t now)
{
    struct sks_credential *list = NULL;
    size_t count = 0;
    enum hsm_status first = HSM_OK;
    enum hsm_status st = sks_catalogue_list_in(lifecycle->catalogue, lifecycle->spc, SKS_ACTIVE,
                                               SKS_RETIRED, &list, &count);

    for (size_t i = 0; st == HSM_OK && i < count; i++) {
        struct hsm_reason why = {""};
        enum hsm_status one = tidy_one(lifecycle, &list[i], now, &why);

        if (one != HSM_OK &&
            one != HSM_ERR_BUSY) /* an absent token is reported by the code that waits for it */
            hsm_log(HSM_LOG_ERROR, "%s", why.text[0] != '\0' ? why.text : hsm_status_text(one));
        first = first == HSM_OK ? one : first;
    }
    sks_credentials_free(list, count);
    if (st == HSM_OK)
        st = forget_old(lifecycle, now);
    return first != HSM_OK ? first : st;
}

/* ---- an operator's decision ---- */

static enum hsm_status
find(const struct sks_lifecycle *lifecycle, int64_t id, struct sks_credential *out,
     struct hsm_reason *why)
{
    enum hsm_status st = sks_catalogue_find(lifecycle->catalogue, id, out);

    if (st == HSM_ERR_NOT_FOUND)
        return hsm_refuse(why, st, "credential %lld: not in the catalogue", (long long)id);
    return st;
}

enum hsm_status
sks_lifecycle_retire(const struct sks_lifecycle *lifecycle, int64_t id, struct hsm_reason *why)
{
    struct sks_credential credential = {.id = 0};
    enum hsm_status st = find(lifecycle, id, &credential, why);

    if (st != HSM_OK)
        return st;
    if (credential.state == SKS_PUBLISHED || credential.state == SKS_ACTIVE)
        st = move(lifecycle, &credential, SKS_RETIRING, "by the operator", why);
    else
        st = hsm_refuse(why, HSM_ERR_USAGE, "credential %lld is %s: it does not sign",
                        (long long)id, sks_state_text(credential.state));
    sks_credential_clear(&credential);
    return st;
}

enum hsm_status
sks_lifecycle_destroy(const struct sks_lifecycle *lifecycle, int64_t id, struct hsm_reason *why)
{
    struct sks_credential credential = {.id = 0};
    enum hsm_status st = find(lifecycle, id, &credential, why);

    if (st != HSM_OK)
        return st;
    if (credential.state == SKS_RETIRED)
        st = destroy(lifecycle, &credential, why);
    else
        st = hsm_refuse(why, HSM_ERR_USAGE, "credential %lld is %s, not retired", (long long)id,
                        sks_state_text(credential.state));
    sks_credential_clear(&credential);
    return st;
}
