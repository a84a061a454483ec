/* sti-sks.c - the SKS: signs calls (STI-AS), verifies them (STI-VS), serves certificates (STI-CR).
 */
#define _GNU_SOURCE /* asprintf, pthread_timedjoin_np */

#include <ctype.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sys/stat.h>

#include <jansson.h>
#include <openssl/rand.h>

#include <acme/http_server.h>
#include <acme/provision.h>
#include <certs/cert.h>
#include <certs/chain.h>
#include <hsm/defer.h>
#include <hsm/key.h>
#include <hsm/log.h>
#include <hsm/secret.h>
#include <hsm/supervise.h>
#include <hsm/token.h>
#include <hsm/token_meter.h>
#include <sks/callers.h>
#include <sks/catalogue.h>
#include <sks/identity.h>
#include <sks/rates.h>
#include <sks/repository.h>
#include <sks/service.h>
#include <sks/signers.h>
#include <sks/sp_config.h>
#include <sks/tn.h>
#include <sks/trail.h>
#include <sks/verification_meter.h>

#include "options.h"

#define PROGRAM         "sti-sks"
#define CREDENTIALS_S   1 /* between looks at the catalogue */
#define TICK_LIMIT_S    5 /* for a tick to end when the daemon stops */
#define BEARER_QUESTION "Bearer token of callers: "
#define UUID_LEN        36

DEFINE_DEFER(char, free)
DEFINE_DEFER(struct sks_tokens, sks_tokens_close)
DEFINE_DEFER(struct sks_catalogue, sks_catalogue_close)
DEFINE_DEFER(struct sks_signers, sks_signers_free)

#define CONFIG       __attribute__((cleanup(sks_sp_config_clear))) struct sks_sp_config
#define VERIFICATION __attribute__((cleanup(sks_sp_verification_close))) struct sks_sp_verification

/* ---- command line ---- */

/** What it said; texts are borrowed from argv. */
struct arguments {
    const char *config;
    const char *orig, *attest, *origid, *iat, *spc;
    const char *dests[SKS_DEST_MAX + 1];
    const char *identity, *from, *time;
    const char *tos[SKS_DEST_MAX + 1];
    bool check;
};

#define TEXT(option, member)                                                                       \
    {                                                                                              \
        option, OPTION_TEXT, offsetof(struct arguments, member), 0                                 \
    }

static const struct option_row option_rows[] = {
    TEXT("config", config),
    TEXT("orig", orig),
    {"dest", OPTION_LIST, offsetof(struct arguments, dests), SKS_DEST_MAX},
    TEXT("attest", attest),
    TEXT("origid", origid),
    TEXT("iat", iat),
    TEXT("spc", spc),
    TEXT("identity", identity),
    TEXT("from", from),
    {"to", OPTION_LIST, offsetof(struct arguments, tos), SKS_DEST_MAX},
    TEXT("time", time),
    {"check", OPTION_SWITCH, offsetof(struct arguments, check), 0},
};

static const struct option_table table;

static const char help_text[] =
    "Usage: " PROGRAM " COMMAND [OPTIONS]\n"
    "Signs and verifies calls (ATIS-1000074, ATIS-1000082), and serves the certificates for it.\n"
    "\n"
    "  serve --config FILE [--check]\n"
    "      Serve until SIGTERM; with --check, open everything and end.\n"
    "  sign --config FILE --orig TN --dest TN [--dest TN ...] --attest A|B|C [--origid UUID]\n"
    "       [--iat SECONDS] [--spc SPC]\n"
    "      Print the Identity header of one call, signed in the token for [sp] spc, or for "
    "another\n"
    "      SPC that has credentials.\n"
    "  verify --config FILE --identity FILE|- --from TN --to TN [--to TN ...] [--time SECONDS]\n"
    "      Judge an Identity header; exit 0 only if it is valid. The verdict is on standard\n"
    "      output as JSON, and for a person on standard error.\n"
    "\n"
    "--help and --version tell about the program.\n"
    "\n"
    "Keys of the configuration file:\n";

static void
print_help(void)
{
    fputs(help_text, stdout);
    sks_sp_config_help(stdout);
}

static enum hsm_status
read_config(const struct arguments *arguments, struct sks_sp_config *config)
{
    enum hsm_status st = sks_sp_config_read(arguments->config, config);

    return st == HSM_OK ? acme_daemon_log(PROGRAM, &config->common) : st;
}

static enum hsm_status
usage(const char *why)
{
    return options_refuse(&table, why);
}

/* A time of the command line; `fallback` when it says none. */
static bool
parse_time(const char *text, time_t fallback, int64_t *out)
{
    char *end;

    *out = (int64_t)fallback;
    if (text == NULL)
        return true;
    errno = 0;
    *out = strtoll(text, &end, 10);
    return errno == 0 && isdigit((unsigned char)*text) && *end == '\0';
}

/* Canonical forms of the numbers that were given; false: one is none. */
static bool
canonical_numbers(const char *const *given, char texts[][SKS_TN_MAX + 1], const char **out,
                  size_t *count)
{
    for (*count = 0; given[*count] != NULL; (*count)++) {
        if (sks_tn_canonical(given[*count], NULL, texts[*count]) != HSM_OK)
            return false;
        out[*count] = texts[*count];
    }
    return *count > 0;
}

/* ---- serve ---- */

/** A thread that does something now and then, and may wait for others while it does. */
struct ticker {
    pthread_t thread;
    bool started;
    pthread_mutex_t lock;
    pthread_cond_t stopped;
    bool stop;
    unsigned (*tick)(void *context); /* says in how many seconds it wants to be called again */
    void *context;
};

static void *
ticker_run(void *argument)
{
    struct ticker *ticker = argument;
    bool stop = false;

    while (!stop) {
        struct timespec until;

        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += ticker->tick(ticker->context);
        pthread_mutex_lock(&ticker->lock);
        while (!ticker->stop &&
               pthread_cond_timedwait(&ticker->stopped, &ticker->lock, &until) != ETIMEDOUT)
            continue;
        stop = ticker->stop;
        pthread_mutex_unlock(&ticker->lock);
    }
    return NULL;
}

/* Signals are for the event loop. */
static enum hsm_status
ticker_start(struct ticker *ticker, unsigned (*tick)(void *context), void *context)
{
    pthread_condattr_t attributes;
    sigset_t all;
    sigset_t before;

    ticker->tick = tick;
    ticker->context = context;
    pthread_mutex_init(&ticker->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&ticker->stopped, &attributes);
    pthread_condattr_destroy(&attributes);
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    ticker->started = pthread_create(&ticker->thread, NULL, ticker_run, ticker) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (ticker->started)
        return HSM_OK;
    hsm_log(HSM_LOG_ERROR, "cannot start a thread");
    return HSM_ERR_IO;
}

/* Waits for the tick that runs, but not for ever: false when it has not ended. */
static bool
ticker_stop(struct ticker *ticker)
{
    struct timespec until;

    if (!ticker->started)
        return true;
    pthread_mutex_lock(&ticker->lock);
    ticker->stop = true;
    pthread_cond_signal(&ticker->stopped);
    pthread_mutex_unlock(&ticker->lock);
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += TICK_LIMIT_S;
    ticker->started = pthread_timedjoin_np(ticker->thread, NULL, &until) != 0;
    return !ticker->started;
}

/** What the supervisor opens and its workers share, besides what all daemons do; NULL: not
 *  configured, or not shared. */
struct shared {
    struct hsm_secret *bearer; /* of a source that can be read once only */
    struct acme_http_listener *api, *socket, *cr;
    const char *api_address, *cr_address; /* of the configuration at the start */
    char *socket_address; /* "unix:PATH" */
    struct sks_rates *rates; /* of callers and customers */
};

/** What a worker holds, in the order of opening. */
struct sks {
    const struct sks_sp_config *config;
    const struct shared *shared; /* NULL: --check */
    struct sks_tokens *tokens;
    struct hsm_key *tls_key;
    struct certs_chain *tls_chain;
    struct certs_chain *client_anchors;
    struct hsm_secret *bearer;
    struct sks_catalogue *catalogue;
    struct sks_repository *repository;
    struct sks_sp_verification verification;
    struct sks_rates *rates; /* NULL: those that are shared */
    struct sks_callers *callers; /* NULL: no file of them */
    struct sks_trail *trail; /* NULL: no record is kept */
    struct sks_service *service;
    struct hsm_token_meter *meters[SKS_TOKENS_MAX]; /* NULL: that token has not been opened */
    struct sks_verification_meter *verification_meter;
    struct acme_http_loop *loop;
    struct ticker credentials, trust;
};

static void
sks_close(struct sks *sks)
{
    acme_http_loop_free(sks->loop);
    sks_verification_meter_free(sks->verification_meter);
    for (size_t i = 0; i < SKS_TOKENS_MAX; i++)
        hsm_token_meter_free(sks->meters[i]);
    sks_service_free(sks->service);
    sks_trail_close(sks->trail);
    sks_callers_free(sks->callers);
    sks_rates_free(sks->rates);
    sks_sp_verification_close(&sks->verification);
    sks_repository_close(sks->repository);
    sks_catalogue_close(sks->catalogue);
    hsm_secret_free(sks->bearer);
    certs_chain_free(sks->client_anchors);
    certs_chain_free(sks->tls_chain);
    hsm_key_free(sks->tls_key);
    sks_tokens_close(sks->tokens);
}

#define SKS __attribute__((cleanup(sks_close))) struct sks

/* A token that comes later is told of from then on. */
static void
read_token_meters(struct sks *sks)
{
    struct hsm_metrics *metrics = sks->config->common.shared.metrics;

    for (size_t i = 0; i < sks_tokens_count(sks->tokens); i++) {
        struct hsm_token *token = sks_tokens_get(sks->tokens, sks_tokens_uri(sks->tokens, i));

        if (sks->meters[i] != NULL)
            hsm_token_meter_read(sks->meters[i]);
        else if (token == NULL)
            hsm_token_meter_absent(metrics, sks_tokens_uri(sks->tokens, i));
        else
            (void)!hsm_token_meter_new(metrics, token, &sks->meters[i]); /* next time, then */
    }
}

static unsigned
refresh_credentials(void *context)
{
    struct sks *sks = context;

    sks_service_refresh(sks->service);
    read_token_meters(sks);
    sks_verification_meter_read(sks->verification_meter);
    return CREDENTIALS_S;
}

/* Fetching may take long, and a failure keeps what was good. */
static unsigned
refresh_trust(void *context)
{
    struct sks *sks = context;

    return sks_sp_verification_refresh(&sks->verification, time(NULL));
}

static enum hsm_status
open_tls_key(struct sks *sks)
{
    const struct sks_sp_config *config = sks->config;
    struct hsm_token *token = sks_tokens_get(sks->tokens, config->common.token_uri);
    enum hsm_status st;

    if (token != NULL) {
        st = hsm_key_find(token, config->tls_key, &sks->tls_key);
    } else {
        hsm_log(HSM_LOG_ERROR, "%s: the TLS key is in this token", config->common.token_uri);
        st = sks_tokens_check(sks->tokens); /* it is the first */
    }
    if (st == HSM_OK)
        st = certs_chain_read(config->tls_chain, &sks->tls_chain);
    if (st != HSM_OK)
        return st;
    if (hsm_key_matches(sks->tls_key, certs_cert_public(certs_chain_get(sks->tls_chain, 0))))
        return HSM_OK;
    hsm_log(HSM_LOG_ERROR, "%s: not the certificate of %s", config->tls_chain, config->tls_key);
    return HSM_ERR_UNTRUSTED;
}

static const struct hsm_secret *
bearer_of(const struct sks *sks)
{
    if (sks->bearer != NULL || sks->shared == NULL || sks->config->bearer_source == NULL)
        return sks->bearer;
    return sks->shared->bearer; /* of the start */
}

static enum hsm_status
open_tls(struct sks *sks)
{
    const struct sks_sp_config *config = sks->config;
    enum hsm_status st;

    if (config->api_address == NULL && config->cr_address == NULL &&
        (sks->shared == NULL || (sks->shared->api == NULL && sks->shared->cr == NULL)))
        return HSM_OK;
    st = open_tls_key(sks);
    if (st == HSM_OK && config->client_anchors != NULL)
        st = certs_chain_read(config->client_anchors, &sks->client_anchors);
    if (st == HSM_OK && config->bearer_source != NULL &&
        (sks->shared == NULL || !hsm_secret_is_read_once(config->bearer_source)))
        st = hsm_secret_from(config->bearer_source, BEARER_QUESTION, &sks->bearer);
    if (st != HSM_OK)
        return st;
    if (config->api_address != NULL && bearer_of(sks) == NULL && sks->client_anchors == NULL &&
        config->callers == NULL) {
        hsm_log(HSM_LOG_ERROR, "[api] address wants bearer-source, client-anchors or callers: "
                               "nobody could be authenticated");
        return HSM_ERR_MALFORMED;
    }
    return HSM_OK;
}

static enum hsm_status
open_callers(struct sks *sks)
{
    const struct sks_sp_config *config = sks->config;
    enum hsm_status st = HSM_OK;

    if (config->trail != NULL)
        st = sks_trail_open(config->trail, &sks->trail);
    if (st != HSM_OK || config->callers == NULL)
        return st;
    if (sks->shared == NULL)
        st = sks_rates_new(&sks->rates);
    if (st != HSM_OK)
        return st;
    return sks_callers_read(config->callers, sks->shared == NULL ? sks->rates : sks->shared->rates,
                            &sks->callers);
}

static enum hsm_status
open_service(struct sks *sks)
{
    struct sks_service_config service = {
        .catalogue = sks->catalogue,
        .tokens = sks->tokens,
        .spc = sks->config->spc,
        .bearer = bearer_of(sks),
        .metrics = sks->config->common.shared.metrics,
        .dial_plan = &sks->config->dial_plan,
    };
    enum hsm_status st = sks_sp_verification_open(sks->config, &sks->verification);

    if (st != HSM_OK)
        return st;
    service.verifier = sks->verification.verifier;
    service.trust = sks->verification.trust;
    service.callers = sks->callers;
    service.trail = sks->trail;
    return sks_service_new(&service, &sks->service);
}

static enum hsm_status
sks_open(const struct sks_sp_config *config, struct sks *sks)
{
    enum hsm_status st = sks_sp_tokens_open(config, config->common.shared.pin, &sks->tokens);

    sks->config = config;
    if (st == HSM_OK)
        st = open_tls(sks);
    if (st == HSM_OK)
        st = sks_catalogue_open(config->catalogue, &sks->catalogue);
    if (st == HSM_OK)
        st = sks_repository_open(config->cr_dir, config->cr_base_url, &sks->repository);
    if (st == HSM_OK)
        st = open_callers(sks);
    if (st == HSM_OK)
        st = open_service(sks);
    return st;
}

static enum hsm_status
listen_on(struct sks *sks, const char *address, const struct acme_http_listener *listener,
          bool callers, struct acme_http_handler handler)
{
    const struct acme_daemon_config *common = &sks->config->common;
    const bool is_socket = strncmp(address, "unix:", 5) == 0;
    const struct acme_http_server_config server = {
        .address = address,
        .listener = listener,
        .tls_key = is_socket ? NULL : sks->tls_key,
        .tls_chain = is_socket ? NULL : sks->tls_chain,
        .client_anchors = callers && !is_socket ? sks->client_anchors : NULL,
        .is_quiet = !common->log_requests,
        .metrics = common->shared.metrics,
        .handler = handler,
    };
    enum hsm_status st = acme_http_loop_listen(sks->loop, &server);

    if (st == HSM_OK)
        hsm_log(HSM_LOG_INFO, "%s on %s", callers ? "signing and verification" : "STI-CR", address);
    return st;
}

static enum hsm_status
listen_to_callers(struct sks *sks)
{
    const struct shared *shared = sks->shared;
    struct acme_http_handler handler = sks_service_handler(sks->service);
    enum hsm_status st = HSM_OK;

    if (shared->api != NULL)
        st = listen_on(sks, shared->api_address, shared->api, true, handler);
    if (st != HSM_OK || shared->socket == NULL)
        return st;
    return listen_on(sks, shared->socket_address, shared->socket, true, handler);
}

static enum hsm_status
open_meters(struct sks *sks)
{
    read_token_meters(sks);
    return sks_verification_meter_new(sks->config->common.shared.metrics, sks->verification.x5u,
                                      sks->verification.trust, &sks->verification_meter);
}

static enum hsm_status
start(struct sks *sks)
{
    const struct acme_daemon_config *common = &sks->config->common;
    enum hsm_status st = acme_http_loop_new((unsigned)sks->config->threads, &sks->loop);

    if (st == HSM_OK)
        st = open_meters(sks);
    if (st != HSM_OK)
        return st;
    acme_http_loop_supervise(sks->loop, common->shared.worker);
    st = listen_to_callers(sks);
    if (st == HSM_OK)
        st = acme_daemon_listen_metrics(common, sks->loop, sks_service_operations(sks->service));
    if (st == HSM_OK && sks->shared->cr != NULL)
        st = listen_on(sks, sks->shared->cr_address, sks->shared->cr, false,
                       sks_repository_handler(sks->repository));
    if (st == HSM_OK)
        st = ticker_start(&sks->credentials, refresh_credentials, sks);
    if (st == HSM_OK)
        st = ticker_start(&sks->trust, refresh_trust, sks);
    return st;
}

/* A call or a tick that is stuck in a token or a fetch uses what would be released: then nothing
 * is, and the process ends as it is. Everything durable is on disk already. */
static enum hsm_status
serve(struct sks *sks)
{
    enum hsm_status st = start(sks);
    bool trust_ended;
    bool credentials_ended;

    if (st == HSM_OK)
        st = acme_http_loop_run(sks->loop);
    trust_ended = ticker_stop(&sks->trust);
    credentials_ended = ticker_stop(&sks->credentials);
    if (st == HSM_ERR_BUSY || !trust_ended || !credentials_ended)
        hsm_worker_abandon(st);
    return st;
}

/* A worker process. */
static enum hsm_status
work(const void *config, void *context)
{
    SKS sks = {.shared = context};
    enum hsm_status st = sks_open(config, &sks);

    return st == HSM_OK ? serve(&sks) : st;
}

/* ---- its supervisor ---- */

static enum hsm_status
read_config_file(const char *path, void *config)
{
    return sks_sp_config_read(path, config);
}

static void
clear_config(void *config)
{
    sks_sp_config_clear(config);
}

/* Sockets are opened once; and a bearer token that came once cannot come again. */
static enum hsm_status
compare(const void *old_config, const void *fresh_config)
{
    const struct sks_sp_config *old = old_config;
    const struct sks_sp_config *fresh = fresh_config;

    acme_daemon_tell_kept("[api] address", old->api_address, fresh->api_address);
    acme_daemon_tell_kept("[api] socket", old->api_socket, fresh->api_socket);
    acme_daemon_tell_kept("[api] socket-mode", old->socket_mode, fresh->socket_mode);
    acme_daemon_tell_kept("[cr] address", old->cr_address, fresh->cr_address);
    if (fresh->bearer_source == NULL || !hsm_secret_is_read_once(fresh->bearer_source) ||
        (old->bearer_source != NULL && strcmp(old->bearer_source, fresh->bearer_source) == 0))
        return HSM_OK;
    hsm_log(HSM_LOG_ERROR, "[api] bearer-source: %s can be read at the start only",
            fresh->bearer_source);
    return HSM_ERR_USAGE;
}

static const struct acme_daemon_program program = {
    .name = PROGRAM,
    .config_size = sizeof(struct sks_sp_config),
    .read = read_config_file,
    .clear = clear_config,
    .run = work,
    .compare = compare,
};

static void
shared_close(struct shared *shared)
{
    acme_http_listener_close(shared->cr);
    acme_http_listener_close(shared->socket);
    free(shared->socket_address);
    acme_http_listener_close(shared->api);
    sks_rates_free(shared->rates);
    hsm_secret_free(shared->bearer);
}

/* It is made for its owner alone; who else may come in is said by the configuration. */
static enum hsm_status
open_socket(const char *path, unsigned permissions, struct shared *shared)
{
    enum hsm_status st;

    if (asprintf(&shared->socket_address, "unix:%s", path) < 0) {
        shared->socket_address = NULL;
        return HSM_ERR_NOMEM;
    }
    st = acme_http_listener_open(shared->socket_address, &shared->socket);
    if (st != HSM_OK || chmod(path, permissions) == 0)
        return st;
    hsm_log(HSM_LOG_ERROR, "%s: %s", path, strerror(errno));
    return HSM_ERR_IO;
}

static enum hsm_status
shared_open(const struct sks_sp_config *config, struct shared *shared)
{
    enum hsm_status st =
        acme_daemon_read_once(config->bearer_source, BEARER_QUESTION, &shared->bearer);

    if (st == HSM_OK)
        st = sks_rates_new(&shared->rates);
    if (st == HSM_OK && config->api_address != NULL)
        st = acme_http_listener_open(config->api_address, &shared->api);
    if (st == HSM_OK && config->api_socket != NULL)
        st = open_socket(config->api_socket, config->socket_permissions, shared);
    if (st == HSM_OK && config->cr_address != NULL)
        st = acme_http_listener_open(config->cr_address, &shared->cr);
    return st;
}

static enum hsm_status
supervise(const char *path, struct sks_sp_config *config)
{
    struct shared shared = {.api_address = config->api_address, .cr_address = config->cr_address};
    enum hsm_status st = shared_open(config, &shared);

    if (st == HSM_OK)
        st = acme_daemon_supervise(&program, path, config, &shared);
    shared_close(&shared);
    return st;
}

static enum hsm_status
check(const char *path, const struct sks_sp_config *config)
{
    SKS sks = {.shared = NULL};
    enum hsm_status st = sks_open(config, &sks);

    if (st == HSM_OK) /* a daemon would start without */
        st = sks_tokens_check(sks.tokens);
    if (st == HSM_OK)
        st = sks_service_check(sks.service);
    if (st == HSM_OK)
        printf("%s: good\n", path);
    return st;
}

static enum hsm_status
run_serve(const void *command_line)
{
    const struct arguments *arguments = command_line;
    CONFIG config = {.spc = NULL};
    enum hsm_status st = read_config(arguments, &config);

    if (st != HSM_OK)
        return st;
    return arguments->check ? check(arguments->config, &config)
                            : supervise(arguments->config, &config);
}

/* ---- sign ---- */

/* A random UUID (RFC 4122 section 4.4). */
static enum hsm_status
new_uuid(char out[UUID_LEN + 1])
{
    unsigned char b[16];

    if (RAND_bytes(b, sizeof(b)) != 1)
        return HSM_ERR_CRYPTO;
    b[6] = (unsigned char)((b[6] & 0x0f) | 0x40);
    b[8] = (unsigned char)((b[8] & 0x3f) | 0x80);
    snprintf(out, UUID_LEN + 1,
             "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1],
             b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14],
             b[15]);
    return HSM_OK;
}

static enum hsm_status
sign_claims(const struct sks_sp_config *config, const char *spc, const struct sks_claims *claims,
            time_t now)
{
    DEFER(sks_tokens_close) struct sks_tokens *tokens = NULL;
    DEFER(sks_catalogue_close) struct sks_catalogue *catalogue = NULL;
    DEFER(sks_signers_free) struct sks_signers *signers = NULL;
    DEFER(free) char *identity = NULL;
    const struct sks_signer *signer;
    struct hsm_reason why = {""};
    const char *fault;
    enum hsm_status st = sks_sp_tokens_open(config, NULL, &tokens);

    if (st == HSM_OK)
        st = sks_catalogue_open(config->catalogue, &catalogue);
    if (st == HSM_OK)
        st = sks_signers_load_from(catalogue, tokens, spc, &fault, &signers);
    if (st != HSM_OK)
        return st;
    st = sks_signers_sign(signers, claims, now, &identity, &signer, &why);
    if (signer == NULL)
        hsm_log(HSM_LOG_ERROR, "no active credential%s%s", spc != NULL ? " of SPC " : "",
                spc != NULL ? spc : "");
    else if (st != HSM_OK)
        hsm_log(HSM_LOG_ERROR, "not signed: %s", why.text);
    else
        printf("%s\n", identity);
    return st;
}

static enum hsm_status
run_sign(const void *command_line)
{
    const struct arguments *arguments = command_line;
    CONFIG config = {.spc = NULL};
    char orig[SKS_TN_MAX + 1];
    char dests[SKS_DEST_MAX][SKS_TN_MAX + 1];
    const char *dest[SKS_DEST_MAX];
    char origid[UUID_LEN + 1];
    time_t now = time(NULL);
    struct sks_claims claims = {.orig_tn = orig, .dest_tn = dest, .origid = arguments->origid};
    enum hsm_status st;

    if (sks_tn_canonical(arguments->orig, NULL, orig) != HSM_OK ||
        !canonical_numbers(arguments->dests, dests, dest, &claims.dest_tn_count))
        return usage("--orig and --dest want telephone numbers");
    if (strlen(arguments->attest) != 1)
        return usage("--attest wants A, B or C");
    claims.attest = arguments->attest[0];
    if (!parse_time(arguments->iat, now, &claims.iat))
        return usage("--iat wants seconds since 1970");
    st = new_uuid(origid);
    if (claims.origid == NULL)
        claims.origid = origid;
    if (st == HSM_OK)
        st = read_config(arguments, &config);
    return st == HSM_OK ? sign_claims(&config, arguments->spc != NULL ? arguments->spc : config.spc,
                                      &claims, now)
                        : st;
}

/* ---- verify ---- */

/* One header field value, perhaps with the field's name, from a file or standard input. */
static enum hsm_status
read_identity(const char *path, char out[SKS_IDENTITY_MAX + 1])
{
    FILE *from = strcmp(path, "-") == 0 ? stdin : fopen(path, "r");
    size_t len;

    if (from == NULL) {
        hsm_log(HSM_LOG_ERROR, "%s: %s", path, strerror(errno));
        return errno == ENOENT ? HSM_ERR_NOT_FOUND : HSM_ERR_IO;
    }
    len = fread(out, 1, SKS_IDENTITY_MAX + 1, from);
    if (from != stdin)
        fclose(from);
    if (len > SKS_IDENTITY_MAX) {
        hsm_log(HSM_LOG_ERROR, "%s: longer than %d octets", path, SKS_IDENTITY_MAX);
        return HSM_ERR_MALFORMED;
    }
    while (len > 0 && isspace((unsigned char)out[len - 1]))
        len--;
    out[len] = '\0';
    return HSM_OK;
}

static enum hsm_status
print_verdict(const struct sks_verification *verdict)
{
    char attest[2] = {verdict->attest, '\0'};
    bool valid = verdict->verdict == SKS_VALID;
    json_t *json = json_pack("{s:b, s:s}", "valid", valid, "verstat", verdict->verstat);
    int rc = json == NULL ? -1 : 0;

    if (rc == 0 && valid)
        rc = json_object_set_new(json, "attest", json_string(attest));
    if (rc == 0 && !valid)
        rc = json_object_update_new(
            json, json_pack("{s:i, s:i, s:s, s:s}", "case", (int)verdict->verdict, "reasoncode",
                            verdict->reason_code, "reasontext", verdict->reason_text, "reasondesc",
                            verdict->reason_desc.text));
    if (rc == 0)
        rc = json_dumpf(json, stdout, JSON_COMPACT);
    json_decref(json);
    if (rc != 0)
        return HSM_ERR_NOMEM;
    printf("\n");
    fflush(stdout);
    if (valid)
        fprintf(stderr, "valid: attestation %s\n", attest);
    else
        fprintf(stderr, "not valid: E%d, %d %s: %s\n", (int)verdict->verdict, verdict->reason_code,
                verdict->reason_text, verdict->reason_desc.text);
    return valid ? HSM_OK : HSM_ERR_UNTRUSTED;
}

static enum hsm_status
verify_call(const struct arguments *arguments, const struct sks_call *call, time_t now)
{
    CONFIG config = {.spc = NULL};
    VERIFICATION verification = {.http = NULL};
    struct sks_verification verdict;
    enum hsm_status st = read_config(arguments, &config);

    if (st == HSM_OK)
        st = sks_sp_verification_open(&config, &verification);
    if (st != HSM_OK)
        return st;
    st = sks_trust_refresh(verification.trust, now);
    if (st != HSM_OK && !sks_trust_is_ready(verification.trust, now)) {
        hsm_log(HSM_LOG_ERROR, "no trusted-CA list and CRL that are good now: nothing is judged");
        return st;
    }
    st = sks_verify(verification.verifier, call, now, &verdict);
    return st == HSM_OK ? print_verdict(&verdict) : st;
}

static enum hsm_status
run_verify(const void *command_line)
{
    const struct arguments *arguments = command_line;
    char identity[SKS_IDENTITY_MAX + 1];
    char tos[SKS_DEST_MAX][SKS_TN_MAX + 1];
    const char *to[SKS_DEST_MAX];
    char from[SKS_TN_MAX + 1];
    time_t now = time(NULL);
    struct sks_call call = {.from_tn = from, .to_tn = to, .identity = identity};
    enum hsm_status st;

    if (sks_tn_canonical(arguments->from, NULL, from) != HSM_OK ||
        !canonical_numbers(arguments->tos, tos, to, &call.to_tn_count))
        return usage("--from and --to want telephone numbers");
    if (!parse_time(arguments->time, now, &call.time))
        return usage("--time wants seconds since 1970");
    st = read_identity(arguments->identity, identity);
    return st == HSM_OK ? verify_call(arguments, &call, now) : st;
}

static const struct option_command commands[] = {
    {"serve", "config! check", run_serve},
    {"sign", "config! orig! dest! attest! origid iat spc", run_sign},
    {"verify", "config! identity! from! to! time", run_verify},
};

static const struct option_table table = {
    .program = PROGRAM,
    .help = print_help,
    .rows = option_rows,
    .row_count = sizeof(option_rows) / sizeof(option_rows[0]),
    .commands = commands,
    .command_count = sizeof(commands) / sizeof(commands[0]),
};

int
main(int argc, char **argv)
{
    struct arguments arguments = {.config = NULL};

    return options_main(&table, &arguments, argc, argv);
}
