/* tokens.c - the tokens of a service provider. */
#define _GNU_SOURCE /* asprintf */
#include <sks/tokens.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <acme/provision.h>
#include <hsm/defer.h>
#include <hsm/log.h>

struct one {
    char *uri, *module, *pin_source; /* owned */
    struct acme_token_settings settings;
    struct acme_journal_config journal;
    char *journal_dir; /* owned */
    const struct hsm_secret *pin; /* borrowed */
    struct hsm_token *token; /* NULL: not open */
    bool refused; /* its PIN: never tried again */
};

struct sks_tokens {
    pthread_mutex_t lock;
    size_t count;
    struct one all[SKS_TOKENS_MAX];
};

DEFINE_DEFER(struct sks_tokens, sks_tokens_close)

static bool
copy_text(const char *text, char **out)
{
    *out = text == NULL ? NULL : strdup(text);
    return text == NULL || *out != NULL;
}

/* A journal is of one token. */
static bool
name_journal(const struct sks_tokens *tokens, struct one *one)
{
    if (one->journal.dir == NULL || tokens->count == 1)
        return true;
    if (asprintf(&one->journal_dir, "%s-%zu", one->journal.dir, tokens->count) < 0) {
        one->journal_dir = NULL;
        return false;
    }
    one->journal.dir = one->journal_dir;
    return true;
}

static enum hsm_status
take_config(struct sks_tokens *tokens, const struct sks_token_config *config)
{
    struct one *one = &tokens->all[tokens->count];

    for (size_t i = 0; i < tokens->count; i++)
        if (strcmp(tokens->all[i].uri, config->uri) == 0) {
            hsm_log(HSM_LOG_ERROR, "token %s: configured twice", config->uri);
            return HSM_ERR_USAGE;
        }
    tokens->count++; /* what is half copied is released too */
    one->pin = config->pin;
    if (config->settings != NULL)
        one->settings = *config->settings;
    if (config->journal != NULL)
        one->journal = *config->journal;
    if (copy_text(config->uri, &one->uri) && copy_text(config->module, &one->module) &&
        copy_text(config->pin_source, &one->pin_source) && name_journal(tokens, one))
        return HSM_OK;
    return HSM_ERR_NOMEM;
}

static enum hsm_status
open_one(struct one *one)
{
    const struct acme_daemon_config config = {.token_uri = one->uri,
                                              .module = one->module,
                                              .pin_source = one->pin_source,
                                              .shared = {.pin = one->pin},
                                              .token = one->settings,
                                              .journal = one->journal};
    enum hsm_status st = acme_daemon_login(&config, &one->token);

    one->refused = st == HSM_ERR_DENIED;
    return st;
}

enum hsm_status
sks_tokens_open(const struct sks_token_config *configs, size_t count, struct sks_tokens **out)
{
    DEFER(sks_tokens_close) struct sks_tokens *tokens = calloc(1, sizeof(*tokens));
    enum hsm_status first = HSM_OK;
    size_t opened = 0;

    if (tokens == NULL)
        return HSM_ERR_NOMEM;
    pthread_mutex_init(&tokens->lock, NULL);
    if (count == 0 || count > SKS_TOKENS_MAX)
        return HSM_ERR_USAGE;
    for (size_t i = 0; i < count; i++) {
        enum hsm_status st = take_config(tokens, &configs[i]);

        if (st != HSM_OK)
            return st;
        st = open_one(&tokens->all[i]);
        if (st == HSM_ERR_DENIED)
            return st;
        opened += st == HSM_OK;
        first = first == HSM_OK ? st : first;
        if (st != HSM_OK && count > 1)
            hsm_log(HSM_LOG_WARNING, "token %s: not open; it is tried again", configs[i].uri);
    }
    if (opened == 0)
        return first;
    *out = tokens;
    tokens = NULL;
    return HSM_OK;
}

bool
sks_tokens_retry(struct sks_tokens *tokens)
{
    bool all = true;

    for (size_t i = 0; i < tokens->count; i++) {
        struct one *one = &tokens->all[i];
        struct one tried = *one; /* opening takes long: others ask for tokens meanwhile */

        if (one->token != NULL)
            continue;
        if (one->refused || open_one(&tried) != HSM_OK) {
            one->refused = tried.refused;
            all = false;
            continue;
        }
        pthread_mutex_lock(&tokens->lock);
        one->token = tried.token;
        pthread_mutex_unlock(&tokens->lock);
        hsm_log(HSM_LOG_INFO, "token %s: open now", one->uri);
    }
    return all;
}

size_t
sks_tokens_count(const struct sks_tokens *tokens)
{
    return tokens->count;
}

const char *
sks_tokens_uri(const struct sks_tokens *tokens, size_t i)
{
    return tokens->all[i].uri;
}

struct hsm_token *
sks_tokens_get(struct sks_tokens *tokens, const char *uri)
{
    struct hsm_token *found = NULL;

    pthread_mutex_lock(&tokens->lock);
    for (size_t i = 0; i < tokens->count; i++)
        if (tokens->count == 1 || strcmp(tokens->all[i].uri, uri) == 0)
            found = tokens->all[i].token;
    pthread_mutex_unlock(&tokens->lock);
    return found;
}

bool
sks_tokens_ready(struct sks_tokens *tokens)
{
    bool ready = false;

    pthread_mutex_lock(&tokens->lock);
    for (size_t i = 0; i < tokens->count; i++)
        ready = ready || (tokens->all[i].token != NULL && hsm_token_is_ready(tokens->all[i].token));
    pthread_mutex_unlock(&tokens->lock);
    return ready;
}

void
sks_tokens_close(struct sks_tokens *tokens)
{
    if (tokens == NULL)
        return;
    for (size_t i = 0; i < tokens->count; i++) {
        hsm_token_close(tokens->all[i].token);
        free(tokens->all[i].uri);
        free(tokens->all[i].module);
        free(tokens->all[i].pin_source);
        free(tokens->all[i].journal_dir);
    }
    pthread_mutex_destroy(&tokens->lock);
    free(tokens);
}
