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

DEFINE_DEFER(char, free)
DEFINE_DEFER(struct sks_catalogue, sks_catalogue_close)
DEFINE_DEFER(struct sks_kms, sks_kms_close)
DEFINE_DEFER(struct sks_tokens, sks_tokens_close)

/* ---- command line ---- */

static const struct option_row option_rows[] = {
    TEXT_OPTION("dir", init.dir),
    TEXT_OPTION("token", init.token_uri),
    TEXT_OPTION("module", init.module),
    TEXT_OPTION("pin-source", init.pin_source),
    TEXT_OPTION("organization", init.organization),
    TEXT_OPTION("country", init.country),
    TEXT_OPTION("spc", init.spc),
    TEXT_OPTION("api-address", init.api_address),
    TEXT_OPTION("cr-address", init.cr_address),
    TEXT_OPTION("cr-url", init.cr_url),
    LIST_OPTION("tls-name", tls_names, TLS_NAMES_MAX),
    TEXT_OPTION("pa-url", init.pa_url),
    TEXT_OPTION("pa-account", init.pa_account),
    TEXT_OPTION("pa-user", init.pa_user),
    TEXT_OPTION("pa-password-source", init.pa_password_source),
    TEXT_OPTION("pa-api-key-source", init.pa_api_key_source),
    TEXT_OPTION("pa-anchor", init.pa_anchor),
    TEXT_OPTION("ca-directory", init.ca_directory),
    TEXT_OPTION("ca-contact", init.ca_contact),
    TEXT_OPTION("tls-ca", init.tls_ca),
    TEXT_OPTION("verification-ports", init.ports),
    SWITCH_OPTION("private-addresses", init.private_addresses),
    TEXT_OPTION("config", config),
    TEXT_OPTION("id", id),
    TEXT_OPTION("reason", reason),
    TEXT_OPTION("ca", ca),
    TEXT_OPTION("contact", contact),
    SWITCH_OPTION("json", json),
    SWITCH_OPTION("force", force),
    SWITCH_OPTION("yes", yes),
    SWITCH_OPTION("check", check),
};

static const struct option_table table;

static const char help_text[] =
    "Usage: " PROGRAM " COMMAND [OPTIONS]\n"
    "The SP-KMS of ATIS-1000080: a service provider's certificates, their keys in the token.\n"
    "\n"
    "  init --dir DIR --token URI [--module PATH] [--pin-source SOURCE]\n"
    "       --organization NAME [--country CC] --spc SPC\n"
    "       --api-address HOST:PORT --cr-address HOST:PORT --cr-url URL [--tls-name NAME ...]\n"
    "       --pa-url URL --pa-account ID\n"
    "       (--pa-user USER --pa-password-source SOURCE | --pa-api-key-source SOURCE)\n"
    "       --pa-anchor PEM --ca-directory URL [--ca-contact MAILTO] [--tls-ca PEM]\n"
    "       [--verification-ports 'PORT ...'] [--private-addresses]\n"
    "      Make what is missing: keys in the token, TLS certificates, a bearer token and\n"
    "      " SKS_SP_CONFIG_FILE " in DIR. With --cr-url on the loopback, x5u URLs there are\n"
    "      fetched too.\n"
    "  enroll --config FILE [--spc SPC] [--ca NAME] [--token URI]\n"
    "      Key in the token, SPC token, ACME, verify, publish, fetch back, activate; continues\n"
    "      what an earlier run left on the way. What was active on this token signs no more.\n"
    "  renew --config FILE [--spc SPC] [--force]\n"
    "      Look once at everything, as run does: renew on each token what is due, always with a\n"
    "      new key, put away what is over. --force: whether it is due or not. Exit 0 only if\n"
    "      nothing is left undone.\n"
    "  run --config FILE [--check]\n"
    "      Do so for each provider until SIGTERM: renew when the STI-CA wants it (RFC 9773) or\n"
    "      after a share of a certificate's life, keep trusted-CA list and CRL current, and say\n"
    "      long before something ends that it does. SIGHUP reads the configuration again. With\n"
    "      --check open everything and end.\n"
    "  status --config FILE [--spc SPC] [--json]\n"
    "      The credentials and their states, what ends when, and what went wrong. ALARM is fine,\n"
    "      due, late (half of the time to renew it is over), urgent (nine tenths of it), ended.\n"
    "  ca list --config FILE [--spc SPC] [--json]\n"
    "      The STI-CAs on the STI-PA's list by the names of their roots, and which of the\n"
    "      configuration they are: one of these names in [ca] name binds [ca] to it.\n"
    "  account show --config FILE [--spc SPC] [--ca NAME] [--token URI]\n"
    "  account update --config FILE --contact MAILTO [--spc SPC] [--ca NAME] [--token URI]\n"
    "  account rollover --config FILE [--spc SPC] [--ca NAME] [--token URI]\n"
    "  account replace --config FILE [--spc SPC] [--ca NAME] [--token URI]\n"
    "  account deactivate --config FILE --yes [--spc SPC] [--ca NAME] [--token URI]\n"
    "      The ACME account at a CA; each token has its own, and each hosted provider. rollover\n"
    "      gives it a new key from the token (RFC 8555 section 7.3.5), and is finished later when\n"
    "      it was cut short. replace makes another account, with a new key, where the CA has\n"
    "      ended this one.\n"
    "  retire --config FILE --id ID\n"
    "      Sign no more with a credential. Its key is destroyed after [kms] retiring-time and\n"
    "      destroy-after.\n"
    "  destroy --config FILE --id ID --yes\n"
    "      Destroy the key of a retired credential now.\n"
    "  abandon --config FILE --id ID\n"
    "      Give up a credential that is not active yet.\n"
    "  revoke --config FILE --id ID --reason N\n"
    "      Sign no more with a credential and have its certificate revoked, for reason 0 to 6\n"
    "      (RFC 5280 section 5.3.1; 1: its key is compromised). Done again when it was cut short.\n"
    "\n"
    "SPC is that of [sp] or of a hosted provider ([sp] providers); without it the command is for\n"
    "each of them (deactivate: wanted when there are several). NAME is [ca] name or directory of\n"
    "the configuration, URI that of one of the provider's tokens; without them its first.\n"
    "SOURCE is file:PATH, fd:N, credential:NAME (systemd) or prompt. A PIN or password is never\n"
    "an argument. --help and --version tell about the program.\n"
    "\n"
    "Keys of the configuration file:\n";

static void
print_help(void)
{
    fputs(help_text, stdout);
    sks_sp_config_help(stdout);
}

enum hsm_status
kms_read_config(const struct arguments *arguments, struct sks_sp_config *config)
{
    enum hsm_status st = sks_sp_config_read(arguments->config, config);

    return st == HSM_OK ? acme_daemon_log(PROGRAM, &config->common) : st;
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
run_init(const void *command_line)
{
    const struct arguments *arguments = command_line;
    struct sks_sp_init init = arguments->init;
    const bool has_password = init.pa_user != NULL && init.pa_password_source != NULL;

    if (init.pa_api_key_source != NULL ? init.pa_user != NULL || init.pa_password_source != NULL
                                       : !has_password)
        return options_refuse(&table, "wanted: --pa-user and --pa-password-source, or"
                                      " --pa-api-key-source alone");
    init.tls_names = arguments->tls_names;
    if (init.country == NULL)
        init.country = "US";
    return sks_sp_init(&init);
}

/* ---- what is done for providers ---- */

bool
kms_is_meant(const struct arguments *arguments, const char *spc)
{
    return arguments->init.spc == NULL || strcmp(arguments->init.spc, spc) == 0;
}

static enum hsm_status
check_choice(const struct arguments *arguments, const struct sks_sp_config *config,
             enum kms_choice choice)
{
    size_t provider;

    if (arguments->init.spc == NULL)
        return choice == KMS_EACH || config->provider_count == 1
                   ? HSM_OK
                   : options_refuse(&table, "there are several providers: say --spc");
    if (sks_sp_find_provider(config, arguments->init.spc, &provider))
        return HSM_OK;
    hsm_log(HSM_LOG_ERROR, "%s: no provider of the configuration has this SPC",
            arguments->init.spc);
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
kms_for(const void *command_line, enum kms_choice choice,
        enum hsm_status (*prepare)(struct sks_kms *kms), kms_act *act)
{
    const struct arguments *arguments = command_line;
    const struct sks_kms_hooks hooks = {.progress = kms_print};
    CONFIG config = {.spc = NULL};
    DEFER(sks_kms_close) struct sks_kms *kms = NULL; /* borrows it: closed first */
    enum hsm_status st = kms_read_config(arguments, &config);

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

static enum hsm_status
read_number(const char *option, const char *text, long long max, long long *out)
{
    char *end = NULL;
    char refusal[64];

    errno = 0;
    *out = strtoll(text, &end, 10);
    if (end != text && *end == '\0' && errno == 0 && *out >= 0 && *out <= max)
        return HSM_OK;
    snprintf(refusal, sizeof(refusal), "--%s is not 0 to %lld", option, max);
    return options_refuse(&table, refusal);
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
    enum hsm_status st = kms_find_token(config, provider, arguments->init.token_uri, &token);

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
run_enroll(const void *command_line)
{
    return kms_for(command_line, KMS_EACH, refresh_trust, enroll);
}

/* List and CRL that cannot be fetched are a trouble, which is told at the end. */
static enum hsm_status
tend(struct sks_kms *kms)
{
    sks_kms_tend(kms, time(NULL));
    return HSM_OK;
}

/* The provider's own, and everybody's. */
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
run_renew(const void *command_line)
{
    return kms_for(command_line, KMS_EACH, tend, renew);
}

/* ---- one credential: retire, destroy, abandon, revoke ---- */

/** The credential of --id. */
struct chosen {
    const struct sks_sp_config *config;
    struct sks_catalogue *catalogue;
    int64_t id;
    int reason; /* to revoke it */
};

typedef enum hsm_status credential_act(const struct chosen *chosen, struct hsm_reason *why);

/* Its provider need not be configured any more. */
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

/* While its provider is locked. */
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

/* What stops a credential from signing is one step of the catalogue, and waits for nobody: a look
 * of `run` may take minutes.
 *
 * @param at_once  done first, without the lock; NULL: nothing
 * @param act      done when no other sti-kms is at work for its provider; NULL: nothing */
static enum hsm_status
with_credential(const struct arguments *arguments, int reason, credential_act *at_once,
                credential_act *act)
{
    DEFER(sks_catalogue_close) struct sks_catalogue *catalogue = NULL;
    CONFIG config = {.spc = NULL};
    struct chosen chosen = {.config = &config, .reason = reason};
    struct hsm_reason why = {""};
    long long id;
    enum hsm_status st = read_number("id", arguments->id, INT64_MAX, &id);

    if (st == HSM_OK)
        st = kms_read_config(arguments, &config);
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
run_retire(const void *command_line)
{
    return with_credential(command_line, 0, retire, NULL);
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
run_destroy(const void *command_line)
{
    const struct arguments *arguments = command_line;

    if (!arguments->yes)
        return options_refuse(&table, "this cannot be taken back: say --yes");
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
run_abandon(const void *command_line)
{
    return with_credential(command_line, 0, NULL, abandon);
}

/* Ask the CA that has issued it, with the account of the provider that has it. */
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

/* Nobody signs with it any more before anything is opened, or waited for, that might fail. */
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
run_revoke(const void *command_line)
{
    const struct arguments *arguments = command_line;
    long long reason;
    enum hsm_status st = read_number("reason", arguments->reason, 6, &reason);

    return st == HSM_OK ? with_credential(arguments, (int)reason, stop_signing, revoke_credential)
                        : st;
}

static const struct option_command commands[] = {
    {"init",
     "dir! token! module pin-source organization! country spc! api-address! cr-address! cr-url! "
     "tls-name pa-url! pa-account! pa-user pa-password-source pa-api-key-source pa-anchor! "
     "ca-directory! "
     "ca-contact tls-ca verification-ports private-addresses",
     run_init},
    {"enroll", "config! spc ca token", run_enroll},
    {"renew", "config! spc force", run_renew},
    {"run", "config! check", kms_run},
    {"status", "config! spc json", kms_run_status},
    {"ca list", "config! spc json", kms_run_ca_list},
    {"account show", "config! spc ca token", kms_run_account_show},
    {"account update", "config! contact! spc ca token", kms_run_account_update},
    {"account rollover", "config! spc ca token", kms_run_account_rollover},
    {"account replace", "config! spc ca token", kms_run_account_replace},
    {"account deactivate", "config! yes spc ca token", kms_run_account_deactivate},
    {"retire", "config! id!", run_retire},
    {"destroy", "config! id! yes", run_destroy},
    {"abandon", "config! id!", run_abandon},
    {"revoke", "config! id! reason!", run_revoke},
};

static const struct option_table table = OPTION_TABLE(PROGRAM, print_help, option_rows, commands);

int
main(int argc, char **argv)
{
    struct arguments arguments = {.config = NULL};

    return options_main(&table, &arguments, argc, argv);
}
