/* sti-kms.c - the SP-KMS: a service provider's keys, certificates and their states. */
#define _GNU_SOURCE /* asprintf */

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sys/file.h>

#include <acme/client.h>
#include <acme/provision.h>
#include <hsm/defer.h>
#include <hsm/log.h>
#include <hsm/time.h>
#include <sks/catalogue.h>
#include <sks/lifecycle.h>
#include <sks/revoke.h>

#include "kms_commands.h"
#include "options.h"

#define COUNTRY "US" /* of TLS certificates, by default */

/* ---- command line ---- */

static const struct option_row option_rows[] = {
    {"config", "FILE", AT(config), "the configuration file"},
    {"dir", "DIR", AT(init.dir), "where all is made that is no key"},
    {"token", "URI", AT(token), "a token of the provider's (default, but for init: its first)"},
    {"module", "PATH", AT(init.module), "PKCS#11 module; else the URI's module-path"},
    {"pin-source", "SOURCE", AT(init.pin_source),
     "where the PIN is: file:PATH, fd:N, credential:NAME or prompt"},
    {"organization", "NAME", AT(init.organization), "O of TLS certificates"},
    {"country", "CC", AT(init.country), "C of TLS certificates (default " COUNTRY ")"},
    {"spc", "SPC", AT(spc), "service provider code of the provider"},
    {"api-address", "ADDRESS:PORT", AT(init.api_address), "where sti-sks serves callers"},
    {"cr-address", "ADDRESS:PORT", AT(init.cr_address),
     "where sti-sks serves certificates (STI-CR)"},
    {"cr-url", "URL", AT(init.cr_url),
     "the https URL of certificates; on the loopback, x5u URLs there are\n"
     "                          fetched too"},
    {"tls-name", "NAME", LIST(tls_names), "another name of the TLS certificate's; may be repeated"},
    {"pa-url", "URL", AT(init.pa_url), "the STI-PA"},
    {"pa-account", "ID", AT(init.pa_account), "the provider's account there"},
    {"pa-user", "USER", AT(init.pa_user), "user of that account"},
    {"pa-password-source", "SOURCE", AT(init.pa_password_source), "where its password is"},
    {"pa-api-key-source", "SOURCE", AT(init.pa_api_key_source),
     "instead of these two: where an API key of that account is"},
    {"pa-anchor", "PEM", AT(init.pa_anchor), "the root of the STI-PA"},
    {"ca-directory", "URL", AT(init.ca_directory), "the ACME directory of the STI-CA"},
    {"ca-contact", "MAILTO", AT(init.ca_contact), "mailto: URL for the ACME account"},
    {"tls-ca", "PEM", AT(init.tls_ca), "with what the TLS certificates of others are trusted"},
    {"verification-ports", "PORTS", AT(init.ports),
     "of x5u URLs besides 443 and 8443, between blanks (default: that of\n"
     "                          --cr-url if it is on the loopback)"},
    {"private-addresses", NULL, SWITCH(init.private_addresses),
     "fetch from loopback and private addresses: in labs"},
    {"id", "ID", AT(id), "number of the credential, as in status"},
    {"reason", "N", AT(reason), "0 to 6 (RFC 5280 section 5.3.1); 1: its key is compromised"},
    {"ca", "NAME", AT(ca), "[ca] name or directory of the configuration (default: the first)"},
    {"contact", "MAILTO", AT(contact), "mailto: URL"},
    {"json", NULL, SWITCH(json), "print JSON"},
    {"force", NULL, SWITCH(force), "whether it is due or not"},
    {"yes", NULL, SWITCH(yes), "confirm it: this cannot be taken back"},
    {"check", NULL, SWITCH(check), "open everything and end"},
    {.name = NULL},
};

static const char values_help[] =
    "\n"
    "SPC is that of [sp] or of a hosted provider ([sp] providers); without it the command is for\n"
    "each of them (deactivate, replace: wanted when there are several). NAME is [ca] name or\n"
    "directory of the configuration, URI that of one of the provider's tokens; without them its\n"
    "first. SOURCE is file:PATH, fd:N, credential:NAME (systemd) or prompt.\n\n"
    "Keys of the configuration file:\n";

static void
print_more(void)
{
    fputs(values_help, stdout);
    sks_sp_config_help(stdout);
}

enum hsm_status
kms_check_config(const struct sks_sp_config *config)
{
    for (size_t i = 0; i < config->provider_count; i++) {
        const struct sks_sp_provider *one = &config->providers[i];

        if (one->pa_account == NULL || !sks_sp_has_credentials(one) || one->ca_count == 0) {
            hsm_log(HSM_LOG_ERROR,
                    "%s: wanted: [pa] account, user and password-source, or account and"
                    " api-key-source alone; [ca] directory",
                    one->where);
            return HSM_ERR_MALFORMED;
        }
    }
    return HSM_OK;
}

enum hsm_status
kms_find_token(const struct sks_sp_config *config, size_t provider, const char *uri,
               const char **out)
{
    const struct sks_sp_provider *of = &config->providers[provider];

    for (size_t i = 0; i < of->token_count; i++) {
        const struct sks_sp_token token = sks_sp_token(config, of->tokens[i]);

        if (uri != NULL && strcmp(token.uri, uri) != 0)
            continue;
        *out = token.uri;
        return HSM_OK;
    }
    hsm_log(HSM_LOG_ERROR, "%s: no token of SPC %s has this URI", uri, of->spc);
    return HSM_ERR_NOT_FOUND;
}

void
kms_format_time(time_t time, char out[HSM_TIME_LEN + 1])
{
    if (time == 0)
        snprintf(out, HSM_TIME_LEN + 1, "-");
    else
        hsm_time_format(time, out);
}

enum hsm_status
kms_lock(const struct sks_sp_config *config, const char *spc, unsigned wait_s, int *fd)
{
    static const struct timespec slice = {.tv_nsec = 100000000};
    DEFER(free) char *path = NULL;
    int opened;

    if (asprintf(&path, "%s-%s.lock", config->catalogue, spc) < 0) {
        path = NULL;
        return HSM_ERR_NOMEM;
    }
    opened = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (opened < 0) {
        hsm_log(HSM_LOG_ERROR, "%s: %s", path, strerror(errno));
        return HSM_ERR_IO;
    }
    for (unsigned slices = wait_s * 10; flock(opened, LOCK_EX | LOCK_NB) != 0; slices--) {
        if (slices == 0) {
            hsm_log(wait_s > 0 ? HSM_LOG_ERROR : HSM_LOG_DEBUG,
                    "%s: another " PROGRAM " is at work for this SPC", path);
            close(opened);
            return HSM_ERR_BUSY;
        }
        (void)nanosleep(&slice, NULL);
    }
    *fd = opened;
    return HSM_OK;
}

void
kms_print(void *context, const char *line)
{
    (void)context;
    printf("%s\n", line);
    fflush(stdout); /* a person is watching, perhaps through a pipe */
}

/* ---- init ---- */

static enum hsm_status
run_init(const struct arguments *arguments)
{
    struct sks_sp_init init = arguments->init;
    const bool has_password = init.pa_user != NULL && init.pa_password_source != NULL;

    if (init.pa_api_key_source != NULL ? init.pa_user != NULL || init.pa_password_source != NULL
                                       : !has_password)
        return options_refuse("wanted: --pa-user and --pa-password-source, or"
                              " --pa-api-key-source alone");
    init.token_uri = arguments->token;
    init.spc = arguments->spc;
    init.tls_names = arguments->tls_names;
    if (init.country == NULL)
        init.country = COUNTRY;
    return sks_sp_init(&init);
}

/* ---- what is done for providers ---- */

bool
kms_is_meant(const struct arguments *arguments, const char *spc)
{
    return arguments->spc == NULL || strcmp(arguments->spc, spc) == 0;
}

static enum hsm_status
check_choice(const struct arguments *arguments, const struct sks_sp_config *config,
             enum kms_choice choice)
{
    size_t provider;

    if (arguments->spc == NULL)
        return choice == KMS_EACH || config->provider_count == 1
                   ? HSM_OK
                   : options_refuse("several providers are configured: give --spc");
    if (sks_sp_find_provider(config, arguments->spc, &provider))
        return HSM_OK;
    hsm_log(HSM_LOG_ERROR, "%s: no provider of the configuration has this SPC", arguments->spc);
    return HSM_ERR_NOT_FOUND;
}

static enum hsm_status
act_locked(const struct arguments *arguments, const struct sks_sp_config *config,
           struct sks_kms *kms, size_t provider, kms_act *act)
{
    const char *spc = config->providers[provider].spc;
    struct hsm_reason why = {""};
    int lock;
    enum hsm_status st = kms_lock(config, spc, LOCK_WAIT_S, &lock);

    if (st != HSM_OK)
        return st;
    st = act(arguments, config, kms, provider, &why);
    close(lock);
    if (st != HSM_OK)
        hsm_log(HSM_LOG_ERROR, "SPC %s: not done: %s", spc,
                why.text[0] != '\0' ? why.text : hsm_status_text(st));
    return st;
}

enum hsm_status
kms_for(const struct arguments *arguments, enum kms_choice choice,
        enum hsm_status (*prepare)(struct sks_kms *kms), kms_act *act)
{
    const struct sks_kms_hooks hooks = {.progress = kms_print};
    CLEAR_AFTER(sks_sp_config_clear) struct sks_sp_config config = {.spc = NULL};
    DEFER(sks_kms_close) struct sks_kms *kms = NULL; /* borrows the configuration: closed first */
    enum hsm_status st = sks_sp_config_open(PROGRAM, arguments->config, &config);

    if (st == HSM_OK)
        st = check_choice(arguments, &config, choice);
    if (st == HSM_OK)
        st = kms_check_config(&config);
    if (st == HSM_OK)
        st = sks_kms_open(&config, &hooks, &kms);
    if (st == HSM_OK && prepare != NULL)
        st = prepare(kms);
    if (st != HSM_OK)
        return st;
    for (size_t i = 0; i < config.provider_count; i++) {
        enum hsm_status one = kms_is_meant(arguments, config.providers[i].spc)
                                  ? act_locked(arguments, &config, kms, i, act)
                                  : HSM_OK;

        st = st == HSM_OK ? one : st;
    }
    return st;
}

/* ---- enroll, renew ---- */

static enum hsm_status
refresh_trust(struct sks_kms *kms)
{
    enum hsm_status st = sks_kms_refresh_trust(kms, time(NULL));

    if (st != HSM_OK)
        hsm_log(HSM_LOG_ERROR, "not done: trusted-CA list and CRL could not be fetched");
    return st;
}

static enum hsm_status
enroll(const struct arguments *arguments, const struct sks_sp_config *config, struct sks_kms *kms,
       size_t provider, struct hsm_reason *why)
{
    DEFER(free) char *name = NULL;
    struct sks_account *account = NULL;
    const char *token = NULL;
    size_t ca = 0;
    int64_t id;
    enum hsm_status st = kms_find_token(config, provider, arguments->token, &token);

    if (st == HSM_OK)
        st = sks_kms_find_ca(config, provider, arguments->ca, &ca);
    if (st == HSM_OK)
        st = sks_kms_token_name(kms, provider, token, &name);
    if (st == HSM_OK)
        st = sks_kms_account(kms, provider, name, ca, &account, why);
    if (st == HSM_OK)
        st = acme_client_account(sks_account_client(account), why);
    if (st != HSM_OK)
        return st;
    printf("account: %s\n", acme_client_kid(sks_account_client(account)));
    return sks_kms_enroll(kms, provider, name, ca, 0, &id, why);
}

static enum hsm_status
run_enroll(const struct arguments *arguments)
{
    return kms_for(arguments, KMS_EACH, refresh_trust, enroll);
}

/* A failure to fetch the list or the CRL is recorded as a trouble, which find_trouble() reports. */
static enum hsm_status
tend(struct sks_kms *kms)
{
    sks_kms_tend(kms, time(NULL));
    return HSM_OK;
}

/* Refuse if the provider has a trouble, or all providers have one in common. */
static enum hsm_status
find_trouble(struct sks_kms *kms, const char *spc, struct hsm_reason *why)
{
    struct sks_trouble *list = NULL;
    size_t count = 0;
    enum hsm_status st = sks_catalogue_troubles(sks_kms_catalogue(kms), &list, &count);

    for (size_t i = 0; st == HSM_OK && i < count; i++)
        if (*list[i].spc == '\0' || strcmp(list[i].spc, spc) == 0)
            st = hsm_refuse(why, HSM_ERR_BUSY, "%s: %s", list[i].matter, list[i].text);
    sks_troubles_free(list, count);
    return st;
}

static enum hsm_status
renew(const struct arguments *arguments, const struct sks_sp_config *config, struct sks_kms *kms,
      size_t provider, struct hsm_reason *why)
{
    unsigned again_s;
    enum hsm_status st = HSM_OK;

    if (arguments->force)
        st = sks_kms_make_due(kms, provider, time(NULL));
    if (st == HSM_OK)
        st = sks_kms_look(kms, provider, time(NULL), &again_s);
    return st == HSM_OK ? find_trouble(kms, config->providers[provider].spc, why) : st;
}

static enum hsm_status
run_renew(const struct arguments *arguments)
{
    return kms_for(arguments, KMS_EACH, tend, renew);
}

/* ---- one credential: retire, destroy, abandon, revoke ---- */

/** The credential of --id. */
struct chosen {
    const struct sks_sp_config *config;
    struct sks_catalogue *catalogue;
    int64_t id;
    int reason; /* for revocation */
};

typedef enum hsm_status credential_act(const struct chosen *chosen, struct hsm_reason *why);

/* The credential's provider need not be in the configuration any more. */
static enum hsm_status
lock_credential(const struct chosen *chosen, int *lock)
{
    struct sks_credential credential = {.id = 0};
    enum hsm_status st = sks_catalogue_find(chosen->catalogue, chosen->id, &credential);

    if (st == HSM_ERR_NOT_FOUND)
        hsm_log(HSM_LOG_ERROR, "credential %lld: not in the catalogue", (long long)chosen->id);
    if (st != HSM_OK)
        return st;
    st = kms_lock(chosen->config, credential.spc, LOCK_WAIT_S, lock);
    sks_credential_clear(&credential);
    return st;
}

/* Run `act` while holding the lock of the credential's provider. */
static enum hsm_status
act_in_turn(const struct chosen *chosen, credential_act *act, struct hsm_reason *why)
{
    int lock;
    enum hsm_status st = lock_credential(chosen, &lock);

    if (st != HSM_OK)
        return st;
    st = act(chosen, why);
    close(lock);
    return st;
}

/* Stopping a credential from signing is a single step in the catalogue, so it need not wait for the
 * lock, which a look of `run` may hold for minutes.
 *
 * @param at_once  done first, without the lock; NULL: nothing
 * @param act      done while holding the lock of its provider; NULL: nothing */
static enum hsm_status
with_credential(const struct arguments *arguments, int reason, credential_act *at_once,
                credential_act *act)
{
    DEFER(sks_catalogue_close) struct sks_catalogue *catalogue = NULL;
    CLEAR_AFTER(sks_sp_config_clear) struct sks_sp_config config = {.spc = NULL};
    struct chosen chosen = {.config = &config, .reason = reason};
    struct hsm_reason why = {""};
    long long id;
    enum hsm_status st = options_number("id", arguments->id, 0, INT64_MAX, &id);

    if (st == HSM_OK)
        st = sks_sp_config_open(PROGRAM, arguments->config, &config);
    if (st == HSM_OK)
        st = sks_catalogue_open(config.catalogue, &catalogue);
    if (st != HSM_OK)
        return st;
    chosen.catalogue = catalogue;
    chosen.id = id;
    if (at_once != NULL)
        st = at_once(&chosen, &why);
    if (st == HSM_OK && act != NULL)
        st = act_in_turn(&chosen, act, &why);
    if (st != HSM_OK)
        hsm_log(HSM_LOG_ERROR, "not done: %s",
                why.text[0] != '\0' ? why.text : hsm_status_text(st));
    return st;
}

static enum hsm_status
retire(const struct chosen *chosen, struct hsm_reason *why)
{
    return sks_lifecycle_retire(
        &(struct sks_lifecycle){.catalogue = chosen->catalogue, .progress = kms_print}, chosen->id,
        why);
}

static enum hsm_status
run_retire(const struct arguments *arguments)
{
    return with_credential(arguments, 0, retire, NULL);
}

static enum hsm_status
destroy(const struct chosen *chosen, struct hsm_reason *why)
{
    DEFER(sks_tokens_close) struct sks_tokens *tokens = NULL;
    enum hsm_status st = sks_sp_tokens_open(chosen->config, NULL, &tokens);

    if (st != HSM_OK)
        return hsm_refuse(why, st, "the tokens cannot be opened: %s", hsm_status_text(st));
    return sks_lifecycle_destroy(&(struct sks_lifecycle){.catalogue = chosen->catalogue,
                                                         .tokens = tokens,
                                                         .progress = kms_print},
                                 chosen->id, why);
}

static enum hsm_status
run_destroy(const struct arguments *arguments)
{
    if (!arguments->yes)
        return options_refuse("irreversible: confirm with --yes");
    return with_credential(arguments, 0, NULL, destroy);
}

static enum hsm_status
abandon(const struct chosen *chosen, struct hsm_reason *why)
{
    struct sks_credential credential = {.id = 0};
    enum hsm_status st = sks_catalogue_find(chosen->catalogue, chosen->id, &credential);

    if (st != HSM_OK)
        return st;
    if (credential.state >= SKS_ACTIVE) {
        st = hsm_refuse(why, HSM_ERR_USAGE, "credential %lld is %s: not on the way to active",
                        (long long)chosen->id, sks_state_text(credential.state));
    } else {
        credential.state = SKS_RETIRED;
        st = sks_catalogue_put(chosen->catalogue, &credential);
    }
    sks_credential_clear(&credential);
    if (st == HSM_OK)
        printf("credential %lld: retired\n", (long long)chosen->id);
    return st;
}

static enum hsm_status
run_abandon(const struct arguments *arguments)
{
    return with_credential(arguments, 0, NULL, abandon);
}

/* Ask the CA that issued the certificate to revoke it, with the account of its provider. */
static enum hsm_status
ask_ca(const struct sks_sp_config *config, struct sks_kms *kms, struct sks_credential *credential,
       int reason, struct hsm_reason *why)
{
    struct sks_account *account = NULL;
    size_t provider = 0;
    size_t ca = 0;
    enum hsm_status st;

    if (credential->ca_directory == NULL)
        return hsm_refuse(why, HSM_ERR_USAGE, "the catalogue does not say which CA has issued it");
    if (!sks_sp_find_provider(config, credential->spc, &provider))
        return hsm_refuse(why, HSM_ERR_NOT_FOUND, "SPC %s is not in the configuration",
                          credential->spc);
    st = sks_kms_find_ca(config, provider, credential->ca_directory, &ca);
    if (st != HSM_OK)
        return hsm_refuse(why, st, "%s, which has issued it, is not in the configuration",
                          credential->ca_directory);
    st = sks_kms_account(kms, provider, credential->token_uri, ca, &account, why);
    if (st != HSM_OK)
        return st;
    return sks_revoke_finish(sks_kms_catalogue(kms), sks_account_client(account), credential,
                             reason, why);
}

/* Signing stops before anything is opened or waited for that might fail. */
static enum hsm_status
stop_signing(const struct chosen *chosen, struct hsm_reason *why)
{
    struct sks_credential credential = {.id = 0};
    enum hsm_status st = sks_revoke_begin(chosen->catalogue, chosen->id, &credential, why);

    if (st != HSM_OK)
        return st;
    printf("credential %lld: %s, signs no more\n", (long long)chosen->id,
           sks_state_text(credential.state));
    fflush(stdout);
    sks_credential_clear(&credential);
    return HSM_OK;
}

static enum hsm_status
revoke_credential(const struct chosen *chosen, struct hsm_reason *why)
{
    const struct sks_kms_hooks hooks = {.progress = kms_print};
    DEFER(sks_kms_close) struct sks_kms *kms = NULL;
    struct sks_credential credential = {.id = 0};
    enum hsm_status st = sks_revoke_begin(chosen->catalogue, chosen->id, &credential, why);

    if (st == HSM_OK)
        st = sks_kms_open(chosen->config, &hooks, &kms);
    if (st == HSM_OK)
        st = ask_ca(chosen->config, kms, &credential, chosen->reason, why);
    if (st == HSM_OK)
        printf("credential %lld: revoked, %s\n", (long long)chosen->id,
               sks_state_text(credential.state));
    sks_credential_clear(&credential);
    return st;
}

static enum hsm_status
run_revoke(const struct arguments *arguments)
{
    long long reason;
    enum hsm_status st = options_number("reason", arguments->reason, 0, 6, &reason);

    return st == HSM_OK ? with_credential(arguments, (int)reason, stop_signing, revoke_credential)
                        : st;
}

static const char init_more[] =
    "Makes what is missing: keys in the token, TLS certificates, a bearer token "
    "and\n" SKS_SP_CONFIG_FILE " in DIR. Needed are --pa-user and --pa-password-source, or\n"
    "--pa-api-key-source.\n";

static const char run_more[] =
    "Renews when the STI-CA wants it (RFC 9773) or after a share of a certificate's life, keeps\n"
    "trusted-CA list and CRL current, and says long before something ends that it does. SIGHUP\n"
    "reads the configuration again.\n";

static const char account_more[] =
    "The ACME account at a CA: each token has its own, and each hosted provider. rollover gives\n"
    "it a new key from the token (RFC 8555 section 7.3.5), and is finished later when it was cut\n"
    "short. replace makes another account, with a new key, where the CA has ended this one.\n";

static const struct command commands[] = {
    {"init",
     "dir! token! module pin-source organization! country spc! api-address! cr-address! cr-url! "
     "tls-name pa-url! pa-account! pa-user pa-password-source pa-api-key-source pa-anchor! "
     "ca-directory! "
     "ca-contact tls-ca verification-ports private-addresses",
     NULL, "make what is missing: keys, TLS certificates and the configuration", init_more,
     run_init},
    {"enroll", "config! spc ca token", NULL, "get a certificate, publish and activate it",
     "Key in the token, SPC token, ACME, verify, publish, fetch back, activate; continues what an\n"
     "earlier run left on the way. What was active on this token signs no more.\n",
     run_enroll},
    {"renew", "config! spc force", NULL,
     "look once at everything, as run does, and renew what is due",
     "On each token what is due is renewed, always with a new key, and what is over is put away.\n"
     "Exit 0 only if nothing is left undone.\n",
     run_renew},
    {"run", "config! check", NULL, "look after each provider's certificates until SIGTERM",
     run_more, kms_run},
    {"status", "config! spc json", NULL,
     "the credentials and their states, what ends when, and what went wrong",
     "ALARM is fine, due, late (half of the time to renew it is over), urgent (nine tenths of "
     "it),\n"
     "ended.\n",
     kms_run_status},
    {"ca list", "config! spc json", NULL, "the STI-CAs on the STI-PA's list",
     "They are told by the names of their roots, and which of the configuration they are: one of\n"
     "these names in [ca] name binds [ca] to it.\n",
     kms_run_ca_list},
    {"account show", "config! spc ca token", NULL, "the ACME account at a CA", account_more,
     kms_run_account_show},
    {"account update", "config! contact! spc ca token", NULL,
     "change the contact of the ACME account", account_more, kms_run_account_update},
    {"account rollover", "config! spc ca token", NULL, "give the ACME account a new key",
     account_more, kms_run_account_rollover},
    {"account replace", "config! spc ca token", NULL, "make another ACME account", account_more,
     kms_run_account_replace},
    {"account deactivate", "config! yes spc ca token", NULL, "end the ACME account; needs --yes",
     account_more, kms_run_account_deactivate},
    {"retire", "config! id!", NULL, "sign no more with a credential",
     "Its key is destroyed after [kms] retiring-time and destroy-after.\n", run_retire},
    {"destroy", "config! id! yes", NULL, "destroy the key of a retired credential now; needs --yes",
     NULL, run_destroy},
    {"abandon", "config! id!", NULL, "give up a credential that is not active yet", NULL,
     run_abandon},
    {"revoke", "config! id! reason!", NULL,
     "sign no more with a credential and have its certificate revoked",
     "Done again when it was cut short.\n", run_revoke},
};

static const struct option_table table = {
    .program = PROGRAM,
    .purpose =
        "The SP-KMS of ATIS-1000080: a service provider's certificates, their keys in the token.",
    .rows = option_rows,
    .commands = commands,
    .command_count = sizeof(commands) / sizeof(commands[0]),
    .arguments_size = sizeof(struct arguments),
    .last_counts = true,
    .more = print_more,
};

int
main(int argc, char **argv)
{
    return options_main(&table, argc, argv);
}
