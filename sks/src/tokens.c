/* tokens.c - the tokens of a service provider. */
#define _GNU_SOURCE /* asprintf, pthread_cond_clockwait */
#include <sks/tokens.h>

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <acme/provision.h>
#include <hsm/clock.h>
#include <hsm/defer.h>
#include <hsm/log.h>
#include <hsm/uri.h>

#define PATIENCE_S 5 /* to wait for openers: at each attempt, and when the set is closed */
#define FIRST_S    60 /* to wait at first for an open token; below HSM_WORKER_START_MS */

/* A token. Everything that it points to is owned, because its opener may outlive the caller's data.
 */
struct one {
    char *uri, *module, *pin_source;
    struct acme_token_settings settings;
    struct acme_journal_config journal;
    struct hsm_secret *pin; /* given, or read before the opener starts from a source that can be
                               read only once; NULL: pin_source is read at each login */
    struct hsm_token *token; /* NULL: not open */
    enum hsm_status status; /* why it is not open; HSM_ERR_DENIED: its PIN is never tried again */
    struct sks_tokens *tokens; /* the set that it belongs to */
    pthread_t opener; /* opens it, however long that takes */
    bool has_opener;
    bool is_opening; /* the opener has not ended */
    bool is_again; /* this is not the first attempt */
};

struct sks_tokens {
    pthread_mutex_t lock; /* guards what openers write */
    pthread_cond_t opened;
    bool is_left; /* closed while openers were running: the last of them releases the set */
    size_t count;
    struct one all[SKS_TOKENS_MAX];
};

static bool
copy_text(const char *text, char **out)
{
    *out = text == NULL ? NULL : strdup(text);
    return text == NULL || *out != NULL;
}

static bool
copy_settings(const struct acme_token_settings *settings, struct acme_token_settings *out)
{
    *out = *settings;
    out->quirks = NULL;
    return copy_text(settings->route, &out->route) && copy_text(settings->quirks, &out->quirks);
}

/* Each token has its own journal: from the second on, the directory's name ends in its number. */
static bool
copy_journal(const struct acme_journal_config *journal, size_t n, struct acme_journal_config *out)
{
    *out = *journal;
    out->dir = out->key_label = out->on_failure = NULL;
    if (journal->dir == NULL || n == 1) {
        if (!copy_text(journal->dir, &out->dir))
            return false;
    } else if (asprintf(&out->dir, "%s-%zu", journal->dir, n) < 0) {
        out->dir = NULL;
        return false;
    }
    return copy_text(journal->key_label, &out->key_label) &&
           copy_text(journal->on_failure, &out->on_failure);
}

static bool
copy_pin(const struct hsm_secret *pin, struct hsm_secret **out)
{
    return pin == NULL ||
           hsm_secret_new(hsm_secret_octets(pin), hsm_secret_len(pin), out) == HSM_OK;
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
    tokens->count++; /* so that a partial copy is released */
    one->tokens = tokens;
    if (copy_text(config->uri, &one->uri) && copy_text(config->module, &one->module) &&
        copy_text(config->pin_source, &one->pin_source) && copy_pin(config->pin, &one->pin) &&
        (config->settings == NULL || copy_settings(config->settings, &one->settings)) &&
        (config->journal == NULL || copy_journal(config->journal, tokens->count, &one->journal)))
        return HSM_OK;
    return HSM_ERR_NOMEM;
}

static enum hsm_status
take_pin(struct one *one)
{
    return one->pin != NULL ? HSM_OK : acme_daemon_read_once(one->pin_source, one->uri, &one->pin);
}

static enum hsm_status
open_one(const struct one *one, struct hsm_token **out)
{
    const struct acme_daemon_config config = {.token_uri = one->uri,
                                              .module = one->module,
                                              .pin_source = one->pin_source,
                                              .shared = {.pin = one->pin},
                                              .token = one->settings,
                                              .journal = one->journal};

    return acme_daemon_login(&config, out);
}

static void
tell(const struct one *one, enum hsm_status st)
{
    if (st == HSM_OK)
        hsm_log(HSM_LOG_INFO, "token %s: open now", one->uri);
    else if (st == HSM_ERR_DENIED)
        hsm_log(HSM_LOG_ERROR,
                "token %s: its PIN was refused and is not tried again: nothing is signed with its "
                "keys until the configuration is read again (SIGHUP) or the program restarted",
                one->uri);
    else
        hsm_log(HSM_LOG_WARNING, "token %s: not open: %s; it is tried again", one->uri,
                st == HSM_ERR_USAGE ? "its configuration is wrong" : hsm_status_text(st));
}

/* ---- opening: each token in its own thread, so that one that hangs does not delay the others ----
 */

/* Called with the lock held. */
static size_t
count_those(const struct sks_tokens *tokens, bool (*are_so)(const struct one *one))
{
    size_t count = 0;

    for (size_t i = 0; i < tokens->count; i++)
        count += are_so(&tokens->all[i]);
    return count;
}

static bool
is_opening(const struct one *one)
{
    return one->is_opening;
}

static bool
is_open(const struct one *one)
{
    return one->token != NULL;
}

static void
release(struct sks_tokens *tokens)
{
    for (size_t i = 0; i < tokens->count; i++) {
        struct one *one = &tokens->all[i];

        hsm_token_close(one->token);
        hsm_secret_free(one->pin);
        free(one->uri);
        free(one->module);
        free(one->pin_source);
        free(one->settings.route);
        free(one->settings.quirks);
        free(one->journal.dir);
        free(one->journal.key_label);
        free(one->journal.on_failure);
    }
    pthread_cond_destroy(&tokens->opened);
    pthread_mutex_destroy(&tokens->lock);
    free(tokens);
}

/* Record the result of an attempt. A token that opens at once is not logged. */
static void
conclude(struct one *one, struct hsm_token *token, enum hsm_status st)
{
    struct sks_tokens *tokens = one->tokens;
    bool is_last;

    pthread_mutex_lock(&tokens->lock);
    if (st != one->status && (tokens->count > 1 || one->is_again) && !tokens->is_left)
        tell(one, st);
    one->token = token;
    one->status = st;
    one->is_opening = false;
    is_last = tokens->is_left && count_those(tokens, is_opening) == 0;
    pthread_cond_broadcast(&tokens->opened);
    pthread_mutex_unlock(&tokens->lock);
    if (is_last)
        release(tokens);
}

static void *
opener(void *argument)
{
    struct one *one = argument;
    struct hsm_token *token = NULL;
    enum hsm_status st;

    hsm_log_repeats(one->is_again);
    st = open_one(one, &token);
    hsm_log_repeats(false);
    conclude(one, token, st);
    return NULL;
}

/* If no thread can be started, the calling thread opens the token. */
static void
begin_to_open(struct one *one, bool is_again)
{
    enum hsm_status st = take_pin(one);
    sigset_t all;
    sigset_t before;

    one->is_again = is_again;
    if (st != HSM_OK) {
        conclude(one, NULL, st);
        return;
    }
    one->is_opening = true;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    one->has_opener = pthread_create(&one->opener, NULL, opener, one) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!one->has_opener)
        (void)opener(one);
}

/* Join the openers that have ended. */
static void
join_openers(struct sks_tokens *tokens)
{
    for (size_t i = 0; i < tokens->count; i++) {
        struct one *one = &tokens->all[i];
        bool has_ended;

        pthread_mutex_lock(&tokens->lock);
        has_ended = !one->is_opening;
        pthread_mutex_unlock(&tokens->lock);
        if (one->has_opener && has_ended)
            one->has_opener = pthread_join(one->opener, NULL) != 0;
    }
}

static size_t
count_open(struct sks_tokens *tokens)
{
    size_t count;

    pthread_mutex_lock(&tokens->lock);
    count = count_those(tokens, is_open);
    pthread_mutex_unlock(&tokens->lock);
    return count;
}

/* Wait until all openers have ended or, with one_will_do, a token is open; `seconds` at most.
 * Called with the lock held. */
static void
wait_for_openers(struct sks_tokens *tokens, bool one_will_do, time_t seconds)
{
    const struct timespec until = hsm_clock_timespec(hsm_clock_ns() + seconds * HSM_NS_PER_S);
    int rc = 0;

    while (rc == 0 && count_those(tokens, is_opening) > 0 &&
           !(one_will_do && count_those(tokens, is_open) > 0))
        rc = pthread_cond_clockwait(&tokens->opened, &tokens->lock, CLOCK_MONOTONIC, &until);
}

/* A token that is still being opened counts as away until it is open. Its opener ends when the
 * token answers, or with the process. */
static void
try_those_that_are_not_open(struct sks_tokens *tokens, bool is_again)
{
    bool has_begun = false;

    for (size_t i = 0; i < tokens->count; i++) {
        struct one *one = &tokens->all[i];

        if (one->has_opener || one->token != NULL || one->status == HSM_ERR_DENIED)
            continue;
        begin_to_open(one, is_again);
        has_begun = true;
    }
    pthread_mutex_lock(&tokens->lock);
    if (has_begun) /* a token that hangs is waited for once */
        wait_for_openers(tokens, false, PATIENCE_S);
    if (!is_again)
        wait_for_openers(tokens, true, FIRST_S - PATIENCE_S);
    for (size_t i = 0; i < tokens->count; i++) {
        struct one *one = &tokens->all[i];

        if (one->is_opening && one->status == HSM_OK) {
            one->status = HSM_ERR_BUSY;
            tell(one, one->status);
        }
    }
    pthread_mutex_unlock(&tokens->lock);
    join_openers(tokens);
}

/* Prefer HSM_ERR_BUSY, which may pass, to HSM_ERR_DENIED, which the operator has to correct. */
static enum hsm_status
why_none_is_open(const struct sks_tokens *tokens)
{
    static const enum hsm_status kinds[] = {HSM_ERR_BUSY, HSM_ERR_DENIED};

    for (size_t kind = 0; kind < sizeof(kinds) / sizeof(kinds[0]); kind++)
        for (size_t i = 0; i < tokens->count; i++)
            if (tokens->all[i].status == kinds[kind])
                return kinds[kind];
    return tokens->all[0].status;
}

enum hsm_status
sks_tokens_open(const struct sks_token_config *configs, size_t count, struct sks_tokens **out)
{
    DEFER(sks_tokens_close) struct sks_tokens *tokens = calloc(1, sizeof(*tokens));
    enum hsm_status st = count > 0 && count <= SKS_TOKENS_MAX ? HSM_OK : HSM_ERR_USAGE;

    if (tokens == NULL)
        return HSM_ERR_NOMEM;
    pthread_mutex_init(&tokens->lock, NULL);
    pthread_cond_init(&tokens->opened, NULL);
    for (size_t i = 0; st == HSM_OK && i < count; i++)
        st = take_config(tokens, &configs[i]);
    if (st != HSM_OK)
        return st;
    try_those_that_are_not_open(tokens, false);
    if (count_open(tokens) == 0)
        return why_none_is_open(tokens);
    *out = tokens;
    tokens = NULL;
    return HSM_OK;
}

bool
sks_tokens_retry(struct sks_tokens *tokens)
{
    try_those_that_are_not_open(tokens, true);
    return count_open(tokens) == tokens->count;
}

enum hsm_status
sks_tokens_check(struct sks_tokens *tokens)
{
    enum hsm_status st = HSM_OK;

    pthread_mutex_lock(&tokens->lock);
    for (size_t i = 0; i < tokens->count && st == HSM_OK; i++)
        st = tokens->all[i].status;
    pthread_mutex_unlock(&tokens->lock);
    return st;
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

/* True if no attribute that both URIs have differs, and both have one that identifies a token (RFC
 * 7512 section 2.3). */
static bool
names_the_same(const char *text, const char *other_text)
{
    static const struct {
        const char *name;
        bool tells; /* it identifies one token */
    } attributes[] = {{"token", true},
                      {"serial", true},
                      {"slot-id", true},
                      {"model", false},
                      {"manufacturer", false},
                      {"slot-manufacturer", false},
                      {"slot-description", false}};
    DEFER(hsm_uri_free) struct hsm_uri *uri = NULL;
    DEFER(hsm_uri_free) struct hsm_uri *other = NULL;
    bool told = false;

    if (hsm_uri_parse(text, &uri, NULL) != HSM_OK ||
        hsm_uri_parse(other_text, &other, NULL) != HSM_OK)
        return false;
    for (size_t i = 0; i < sizeof(attributes) / sizeof(attributes[0]); i++) {
        const char *a = hsm_uri_get(uri, attributes[i].name);
        const char *b = hsm_uri_get(other, attributes[i].name);

        if (a == NULL || b == NULL)
            continue;
        if (strcmp(a, b) != 0)
            return false;
        told = told || attributes[i].tells;
    }
    return told;
}

/* The token that a URI names; NULL: none of these, or more than one would match. */
static const struct one *
find(const struct sks_tokens *tokens, const char *uri)
{
    const struct one *found = NULL;
    size_t count = 0;

    for (size_t i = 0; i < tokens->count; i++)
        if (strcmp(tokens->all[i].uri, uri) == 0)
            return &tokens->all[i];
    for (size_t i = 0; i < tokens->count; i++)
        if (names_the_same(tokens->all[i].uri, uri)) {
            found = &tokens->all[i];
            count++;
        }
    return count == 1 ? found : NULL;
}

bool
sks_tokens_has(const struct sks_tokens *tokens, const char *uri)
{
    return find(tokens, uri) != NULL;
}

bool
sks_tokens_is(const struct sks_tokens *tokens, size_t i, const char *uri)
{
    return find(tokens, uri) == &tokens->all[i];
}

struct hsm_token *
sks_tokens_get(struct sks_tokens *tokens, const char *uri)
{
    const struct one *one = find(tokens, uri);
    struct hsm_token *found;

    if (one == NULL)
        return NULL;
    pthread_mutex_lock(&tokens->lock);
    found = one->token;
    pthread_mutex_unlock(&tokens->lock);
    return found;
}

static const char *
fault_text(enum hsm_status st)
{
    switch (st) {
    case HSM_OK:
        return NULL;
    case HSM_ERR_DENIED:
        return "the PIN of its token was refused";
    case HSM_ERR_NOT_FOUND:
        return "its token, or what opens it, is not there";
    case HSM_ERR_UNSUPPORTED:
        return "the module of its token cannot be used";
    case HSM_ERR_USAGE:
        return "the configuration of its token is wrong";
    default:
        return "its token is away";
    }
}

const char *
sks_tokens_fault(struct sks_tokens *tokens, const char *uri)
{
    const struct one *one = find(tokens, uri);
    const struct hsm_token *token;
    struct hsm_token_stats stats;
    enum hsm_status st;

    if (one == NULL)
        return "its token is not in the configuration";
    pthread_mutex_lock(&tokens->lock);
    token = one->token;
    st = one->status;
    pthread_mutex_unlock(&tokens->lock);
    if (token == NULL)
        return fault_text(st);
    hsm_token_stats(token, &stats);
    return fault_text(stats.service);
}

static unsigned
count_sessions(struct sks_tokens *tokens)
{
    unsigned sum = 0, most = 0, missing = 0;

    pthread_mutex_lock(&tokens->lock);
    for (size_t i = 0; i < tokens->count; i++) {
        struct hsm_token_stats stats = {.sessions = 0};

        if (tokens->all[i].token != NULL)
            hsm_token_stats(tokens->all[i].token, &stats);
        else
            missing++;
        sum += stats.sessions;
        most = stats.sessions > most ? stats.sessions : most;
    }
    pthread_mutex_unlock(&tokens->lock);
    return sum + missing * most;
}

unsigned
sks_tokens_threads(struct sks_tokens *tokens)
{
    unsigned sessions = count_sessions(tokens);

    if (sessions < SKS_TOKENS_THREADS_MIN)
        return SKS_TOKENS_THREADS_MIN;
    return sessions < SKS_TOKENS_THREADS_MAX ? sessions : SKS_TOKENS_THREADS_MAX;
}

bool
sks_tokens_are_opening(struct sks_tokens *tokens)
{
    bool are_opening;

    pthread_mutex_lock(&tokens->lock);
    are_opening = count_those(tokens, is_opening) > 0;
    pthread_mutex_unlock(&tokens->lock);
    return are_opening;
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

/* Nothing can be closed while an opener is running, because it may hold the module's lock. True: an
 * opener still runs, and the last one to end releases the set. */
static bool
leave_to_openers(struct sks_tokens *tokens)
{
    bool is_left;

    pthread_mutex_lock(&tokens->lock);
    wait_for_openers(tokens, false, PATIENCE_S);
    is_left = count_those(tokens, is_opening) > 0;
    tokens->is_left = is_left;
    for (size_t i = 0; i < tokens->count && is_left; i++) {
        struct one *one = &tokens->all[i];

        if (one->is_opening)
            hsm_log(HSM_LOG_WARNING, "token %s: left while it is being opened", one->uri);
        if (one->has_opener)
            (void)pthread_detach(one->opener);
    }
    pthread_mutex_unlock(&tokens->lock);
    return is_left;
}

void
sks_tokens_close(struct sks_tokens *tokens)
{
    if (tokens == NULL || leave_to_openers(tokens))
        return;
    join_openers(tokens);
    release(tokens);
}
