/* sp_providers.c - the service providers of a configuration: that of [sp], and hosted ones. */
#define _GNU_SOURCE /* asprintf */
#include "sp_providers_internal.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <certs/tnauthlist.h>
#include <hsm/defer.h>
#include <hsm/log.h>

#define TEXT(member, name, required, help)                                                         \
    {                                                                                              \
        "provider", name, ACME_CONFIG_TEXT, offsetof(struct sks_sp_provider, member), required, 0, \
            0, NULL, help                                                                          \
    }
#define URL(member, name, help)                                                                    \
    {                                                                                              \
        "provider", name, ACME_CONFIG_URL, offsetof(struct sks_sp_provider, member), false, 0, 0,  \
            NULL, help                                                                             \
    }
#define SECRET(member, name, required, help)                                                       \
    {                                                                                              \
        "provider", name, ACME_CONFIG_SECRET_SOURCE, offsetof(struct sks_sp_provider, member),     \
            required, 0, 0, NULL, help                                                             \
    }

static const struct acme_config_key provider_keys[] = {
    TEXT(spc, "spc", true, "its service provider code"),
    TEXT(pa_account, "pa-account", true, "its account id at the STI-PA"),
    TEXT(pa_user, "pa-user", false, "user of that account"),
    SECRET(pa_password_source, "pa-password-source", false, "where its password is"),
    SECRET(pa_api_key_source, "pa-api-key-source", false,
           "instead of these two: where an API key of that account is"),
    TEXT(token_words, "tokens", false,
         "where its keys are: names of [token NAME], or token, token-2, ..; default: those of the "
         "main file"),
    TEXT(ca_words, "ca", false,
         "who issues to it, in this order: of ca, ca-2, ..; default: those of the main file"),
    TEXT(contact, "contact", false, "mailto: URL for its ACME accounts; default: that of the CA"),
    TEXT(eab_kid, "eab-kid", false, "external account binding of its own at the first of its CAs"),
    SECRET(eab_key_source, "eab-key-source", false, "where the MAC key of that is"),
    URL(cr_base_url, "cr-base-url",
        "https URL of an STI-CR of its own; default: all of [cr], uploads included"),
    URL(upload_url, "cr-upload-url", "as [cr] upload-url, with cr-base-url only"),
    SECRET(upload_bearer_source, "cr-upload-bearer-source", false, "likewise"),
    TEXT(upload_command, "cr-upload-command", false, "likewise"),
    {.section = NULL},
};

static const struct acme_config_key token_keys[] = {
    {"token", "uri", ACME_CONFIG_PKCS11, offsetof(struct sks_sp_token, uri), true, 0, 0, NULL,
     "as in the main file"},
    {"token", "module", ACME_CONFIG_TEXT, offsetof(struct sks_sp_token, module), false, 0, 0, NULL,
     "as in the main file"},
    {"token", "pin-source", ACME_CONFIG_SECRET_SOURCE, offsetof(struct sks_sp_token, pin_source),
     false, 0, 0, NULL, "as in the main file"},
    {.section = NULL},
};

static void
provider_clear(struct sks_sp_provider *provider)
{
    acme_config_clear(provider_keys, provider);
    free(provider->name);
    free(provider->where);
}

static void
token_clear(struct sks_sp_token *token)
{
    acme_config_clear(token_keys, token);
    free(token->name);
}

bool
sks_sp_find_provider(const struct sks_sp_config *config, const char *spc, size_t *out)
{
    for (size_t i = 0; i < config->provider_count; i++)
        if (strcmp(config->providers[i].spc, spc) == 0) {
            *out = i;
            return true;
        }
    return false;
}

bool
sks_sp_has_credentials(const struct sks_sp_provider *provider)
{
    const bool has_password = provider->pa_user != NULL && provider->pa_password_source != NULL;

    if (provider->pa_api_key_source != NULL)
        return provider->pa_user == NULL && provider->pa_password_source == NULL;
    return has_password;
}

/* ---- one section ---- */

static enum hsm_status
check_spc(const struct sks_sp_config *config, const char *spc, struct hsm_reason *why)
{
    DEFER(certs_tnauthlist_free) struct certs_tnauthlist *list = NULL;
    enum hsm_status st = certs_tnauthlist_from_spc(spc, &list);
    size_t other;

    if (st == HSM_ERR_NOMEM)
        return st;
    if (st != HSM_OK)
        return hsm_refuse(why, st, "spc: not an SPC");
    if (sks_sp_find_provider(config, spc, &other))
        return hsm_refuse(why, HSM_ERR_MALFORMED, "spc: is that of %s",
                          config->providers[other].where);
    return HSM_OK;
}

static enum hsm_status
check_provider(const struct sks_sp_config *config, const struct sks_sp_provider *provider,
               struct hsm_reason *why)
{
    for (size_t i = 0; i < config->provider_count; i++)
        if (config->providers[i].name != NULL &&
            strcmp(config->providers[i].name, provider->name) == 0)
            return hsm_refuse(why, HSM_ERR_MALFORMED, "given before");
    if (!sks_sp_has_credentials(provider))
        return hsm_refuse(why, HSM_ERR_MALFORMED,
                          "wanted: pa-user and pa-password-source, or pa-api-key-source alone");
    if ((provider->eab_kid == NULL) != (provider->eab_key_source == NULL))
        return hsm_refuse(why, HSM_ERR_MALFORMED, "eab-kid and eab-key-source: both or neither");
    if (provider->cr_base_url == NULL &&
        (provider->upload_url != NULL || provider->upload_bearer_source != NULL ||
         provider->upload_command != NULL))
        return hsm_refuse(why, HSM_ERR_MALFORMED, "cr-upload-..: only with cr-base-url");
    return check_spc(config, provider->spc, why);
}

/* Make room for one more element. */
static bool
grow(void **list, size_t count, size_t size)
{
    void *longer = reallocarray(*list, count + 1, size);

    if (longer == NULL)
        return false;
    *list = longer;
    memset((char *)longer + count * size, 0, size);
    return true;
}

static enum hsm_status
take_provider(void *context, const char *name, const char *where, void *section,
              struct hsm_reason *why)
{
    struct sks_sp_config *config = context;
    struct sks_sp_provider *provider = section;
    void *list = config->providers;
    enum hsm_status st = HSM_ERR_NOMEM;

    provider->name = strdup(name);
    if (asprintf(&provider->where, "%s: [provider %s]", where, name) < 0)
        provider->where = NULL;
    if (config->provider_count == SKS_SP_PROVIDERS_MAX)
        st = hsm_refuse(why, HSM_ERR_MALFORMED, "more than %d providers", SKS_SP_PROVIDERS_MAX);
    else if (provider->name != NULL && provider->where != NULL)
        st = check_provider(config, provider, why);
    if (st == HSM_OK && !grow(&list, config->provider_count, sizeof(*provider)))
        st = HSM_ERR_NOMEM;
    if (st != HSM_OK) {
        provider_clear(provider);
        return st;
    }
    config->providers = list;
    config->providers[config->provider_count++] = *provider;
    return HSM_OK;
}

/* The names "token", "token-2" and so on mean the tokens of the main file. */
static enum hsm_status
check_token(const struct sks_sp_config *config, const struct sks_sp_token *token,
            struct hsm_reason *why)
{
    size_t count = sks_sp_token_count(config);

    if (count == SKS_TOKENS_MAX)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "more than %d tokens in all", SKS_TOKENS_MAX);
    if (strcmp(token->name, "token") == 0 || strncmp(token->name, "token-", 6) == 0)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "a name that is one of the main file's");
    for (size_t i = 0; i < count; i++) {
        const struct sks_sp_token other = sks_sp_token(config, i);

        if (other.name != NULL && strcmp(other.name, token->name) == 0)
            return hsm_refuse(why, HSM_ERR_MALFORMED, "given before");
        if (strcmp(other.uri, token->uri) == 0)
            return hsm_refuse(why, HSM_ERR_MALFORMED, "uri: another token has it");
    }
    return HSM_OK;
}

static enum hsm_status
take_token(void *context, const char *name, const char *where, void *section,
           struct hsm_reason *why)
{
    struct sks_sp_config *config = context;
    struct sks_sp_token *token = section;
    void *list = config->named_tokens;
    enum hsm_status st = HSM_ERR_NOMEM;

    (void)where;
    token->name = strdup(name);
    if (token->name != NULL)
        st = check_token(config, token, why);
    if (st == HSM_OK && !grow(&list, config->named_token_count, sizeof(*token)))
        st = HSM_ERR_NOMEM;
    if (st != HSM_OK) {
        token_clear(token);
        return st;
    }
    config->named_tokens = list;
    config->named_tokens[config->named_token_count++] = *token;
    return HSM_OK;
}

const struct acme_config_kind sks_sp_provider_kinds[] = {
    {"provider", provider_keys, sizeof(struct sks_sp_provider), take_provider},
    {"token", token_keys, sizeof(struct sks_sp_token), take_token},
    {.name = NULL},
};

/* ---- names in a section ---- */

/** Finds the index of what a word names. */
typedef bool find_word(const struct sks_sp_config *config, const char *word, size_t *out);

/* "KIND" is the first, "KIND-2" the second. */
static bool
is_section(const char *word, const char *kind, size_t i)
{
    char name[32];

    if (i == 0)
        return strcmp(word, kind) == 0;
    snprintf(name, sizeof(name), "%s-%zu", kind, i + 1);
    return strcmp(word, name) == 0;
}

static bool
find_token(const struct sks_sp_config *config, const char *word, size_t *out)
{
    for (size_t i = 0; i < sks_sp_token_count(config); i++) {
        const struct sks_sp_token token = sks_sp_token(config, i);

        if (token.name != NULL ? strcmp(token.name, word) == 0 : is_section(word, "token", i)) {
            *out = i;
            return true;
        }
    }
    return false;
}

static bool
find_ca(const struct sks_sp_config *config, const char *word, size_t *out)
{
    for (size_t i = 0; i < sks_sp_ca_count(config); i++)
        if (is_section(word, "ca", i)) {
            *out = i;
            return true;
        }
    return false;
}

/* Resolve words separated by blanks, each of which must name a different item; `max` at most. */
static enum hsm_status
resolve(const struct sks_sp_config *config, const char *text, find_word *find, size_t max,
        size_t *out, size_t *count, struct hsm_reason *why)
{
    char word[ACME_CONFIG_NAME_MAX + 1];

    for (const char *at = text + strspn(text, " \t"); *at != '\0'; at += strspn(at, " \t")) {
        size_t len = strcspn(at, " \t");
        size_t found = 0;

        snprintf(word, sizeof(word), "%.*s", (int)(len < sizeof(word) ? len : 0), at);
        at += len;
        if (!find(config, word, &found))
            return hsm_refuse(why, HSM_ERR_NOT_FOUND, "%.*s: not configured", (int)len, at - len);
        for (size_t i = 0; i < *count; i++)
            if (out[i] == found)
                return hsm_refuse(why, HSM_ERR_MALFORMED, "%s: twice", word);
        if (*count == max)
            return hsm_refuse(why, HSM_ERR_MALFORMED, "more than %zu", max);
        out[(*count)++] = found;
    }
    return HSM_OK;
}

/* Take the first items, which are those of the main file. */
static void
take_first(size_t wanted, size_t *out, size_t *count)
{
    for (*count = 0; *count < wanted; (*count)++)
        out[*count] = *count;
}

static enum hsm_status
resolve_provider(const struct sks_sp_config *config, struct sks_sp_provider *provider)
{
    struct hsm_reason why = {""};
    const char *key = "tokens";
    enum hsm_status st = HSM_OK;

    if (provider->token_words == NULL)
        take_first(sks_sp_token_count(config) - config->named_token_count, provider->tokens,
                   &provider->token_count);
    else
        st = resolve(config, provider->token_words, find_token, SKS_SP_TOKENS_MAX, provider->tokens,
                     &provider->token_count, &why);
    if (st == HSM_OK && provider->ca_words == NULL) {
        take_first(sks_sp_ca_count(config), provider->cas, &provider->ca_count);
    } else if (st == HSM_OK) {
        key = "ca";
        st = resolve(config, provider->ca_words, find_ca, SKS_SP_CAS_MAX, provider->cas,
                     &provider->ca_count, &why);
    }
    if (st == HSM_OK)
        return HSM_OK;
    hsm_log(HSM_LOG_ERROR, "%s: %s: %s", provider->where, key, why.text);
    return HSM_ERR_MALFORMED;
}

/* ---- all providers ---- */

static bool
copy(const char *text, char **out)
{
    *out = text == NULL ? NULL : strdup(text);
    return text == NULL || *out != NULL;
}

/* The provider of [sp], whose keys are spread over the main file. */
static enum hsm_status
take_main(const char *path, struct sks_sp_config *config)
{
    struct sks_sp_provider provider = {.spc = NULL};
    struct hsm_reason why = {""};
    void *list = NULL;
    enum hsm_status st = check_spc(config, config->spc, &why);

    if (st != HSM_OK)
        return acme_config_refuse(path, "sp", "spc", "not an SPC");
    if (!grow(&list, 0, sizeof(provider)))
        return HSM_ERR_NOMEM;
    config->providers = list;
    config->provider_count = 1; /* so that a partial copy is released */
    if (asprintf(&provider.where, "%s: [sp]", path) < 0)
        provider.where = NULL;
    if (provider.where == NULL || !copy(config->spc, &provider.spc) ||
        !copy(config->pa_account, &provider.pa_account) ||
        !copy(config->pa_user, &provider.pa_user) ||
        !copy(config->pa_password_source, &provider.pa_password_source) ||
        !copy(config->pa_api_key_source, &provider.pa_api_key_source))
        st = HSM_ERR_NOMEM;
    config->providers[0] = provider;
    return st;
}

enum hsm_status
sks_sp_providers_read(const char *path, struct sks_sp_config *config)
{
    enum hsm_status st = HSM_OK;

    if (config->spc != NULL)
        st = take_main(path, config);
    if (st == HSM_OK && config->providers_file != NULL)
        st = acme_config_read_sections(config->providers_file, sks_sp_provider_kinds, config);
    if (st == HSM_OK && config->provider_count == 0)
        st = acme_config_refuse(path, "sp", "spc", "missing");
    for (size_t i = 0; st == HSM_OK && i < config->provider_count; i++)
        st = resolve_provider(config, &config->providers[i]);
    return st;
}

void
sks_sp_providers_clear(struct sks_sp_config *config)
{
    for (size_t i = 0; i < config->provider_count; i++)
        provider_clear(&config->providers[i]);
    for (size_t i = 0; i < config->named_token_count; i++)
        token_clear(&config->named_tokens[i]);
    free(config->providers);
    free(config->named_tokens);
    config->providers = NULL;
    config->named_tokens = NULL;
    config->provider_count = config->named_token_count = 0;
}
