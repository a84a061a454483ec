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
#include <sks/catalogue.h>
#include <sks/revoke.h>

#include "kms_commands.h"
#include "options.h"

DEFINE_DEFER(char, free)
DEFINE_DEFER(struct sks_catalogue, sks_catalogue_close)
DEFINE_DEFER(struct sks_kms, sks_kms_close)

/* ---- command line ---- */

#define TEXT(option, member)                                                                       \
    {                                                                                              \
        option, OPTION_TEXT, offsetof(struct arguments, member), 0                                 \
    }

static const struct option_row option_rows[] = {
    TEXT("dir", init.dir),
    TEXT("token", init.token_uri),
    TEXT("module", init.module),
    TEXT("pin-source", init.pin_source),
    TEXT("organization", init.organization),
    TEXT("country", init.country),
    TEXT("spc", init.spc),
    TEXT("api-address", init.api_address),
    TEXT("cr-address", init.cr_address),
    TEXT("cr-url", init.cr_url),
    {"tls-name", OPTION_LIST, offsetof(struct arguments, tls_names), TLS_NAMES_MAX},
    TEXT("pa-url", init.pa_url),
    TEXT("pa-account", init.pa_account),
    TEXT("pa-user", init.pa_user),
    TEXT("pa-password-source", init.pa_password_source),
    TEXT("pa-anchor", init.pa_anchor),
    TEXT("ca-directory", init.ca_directory),
    TEXT("ca-contact", init.ca_contact),
    TEXT("tls-ca", init.tls_ca),
    TEXT("verification-ports", init.ports),
    {"private-addresses", OPTION_SWITCH, offsetof(struct arguments, init.private_addresses), 0},
    TEXT("config", config),
    TEXT("id", id),
    TEXT("reason", reason),
    TEXT("ca", ca),
    TEXT("contact", contact),
    {"json", OPTION_SWITCH, offsetof(struct arguments, json), 0},
    {"force", OPTION_SWITCH, offsetof(struct arguments, force), 0},
    {"yes", OPTION_SWITCH, offsetof(struct arguments, yes), 0},
};

static const struct option_table table;

static const char help_text[] =
    "Usage: " PROGRAM " COMMAND [OPTIONS]\n"
    "The SP-KMS of ATIS-1000080: a service provider's certificates, their keys in the token.\n"
    "\n"
    "  init --dir DIR --token URI [--module PATH] [--pin-source SOURCE]\n"
    "       --organization NAME [--country CC] --spc SPC\n"
    "       --api-address HOST:PORT --cr-address HOST:PORT --cr-url URL [--tls-name NAME ...]\n"
    "       --pa-url URL --pa-account ID --pa-user USER --pa-password-source SOURCE\n"
    "       --pa-anchor PEM --ca-directory URL [--ca-contact MAILTO] [--tls-ca PEM]\n"
    "       [--verification-ports 'PORT ...'] [--private-addresses]\n"
    "      Make what is missing: keys in the token, TLS certificates, a bearer token and\n"
    "      " SKS_SP_CONFIG_FILE " in DIR. With --cr-url on the loopback, x5u URLs there are\n"
    "      fetched too.\n"
    "  enroll --config FILE [--ca NAME] [--token URI]\n"
    "      Key in the token, SPC token, ACME, verify, publish, fetch back, activate; continues\n"
    "      what an earlier run left on the way. What was active on this token signs no more.\n"
    "  renew --config FILE [--force]\n"
    "      Look once at everything, as run does: renew on each token what is due, always with a\n"
    "      new key, put away what is over. --force: whether it is due or not. Exit 0 only if\n"
    "      nothing is left undone.\n"
    "  run --config FILE\n"
    "      Do so until SIGTERM: renew when the STI-CA wants it (RFC 9773) or after a share of a\n"
    "      certificate's life, keep trusted-CA list and CRL current, and say long before\n"
    "      something ends that it does. SIGHUP reads the configuration again.\n"
    "  status --config FILE [--json]\n"
    "      The credentials and their states, what ends when, and what went wrong. ALARM is fine,\n"
    "      due, late (half of the time to renew it is over), urgent (nine tenths of it), ended.\n"
    "  ca list --config FILE [--json]\n"
    "      The STI-CAs on the STI-PA's list by the names of their roots, and which of the\n"
    "      configuration they are: one of these names in [ca] name binds [ca] to it.\n"
    "  account show --config FILE [--ca NAME] [--token URI]\n"
    "  account update --config FILE --contact MAILTO [--ca NAME] [--token URI]\n"
    "  account rollover --config FILE [--ca NAME] [--token URI]\n"
    "  account deactivate --config FILE --yes [--ca NAME] [--token URI]\n"
    "      The ACME account at a CA; each token has its own. rollover gives it a new key from\n"
    "      the token (RFC 8555 section 7.3.5), and is finished later when it was cut short.\n"
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
    "NAME is [ca] name or directory of the configuration, URI that of one of its tokens; without\n"
    "them the first.\n"
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
    if (config->pa_account != NULL && config->pa_user != NULL &&
        config->pa_password_source != NULL && sks_sp_ca_count(config) > 0)
        return HSM_OK;
    hsm_log(HSM_LOG_ERROR, "wanted: [pa] account, user, password-source and [ca] directory");
    return HSM_ERR_MALFORMED;
}

enum hsm_status
kms_find_token(const struct sks_sp_config *config, const char *uri, const char **out)
{
    const char *found = uri == NULL ? config->common.token_uri : NULL;

    for (size_t i = 0; uri != NULL && i < sks_sp_token_count(config); i++) {
        const char *one = i == 0 ? config->common.token_uri : config->more_tokens[i - 1].uri;

        found = strcmp(one, uri) == 0 ? one : found;
    }
    if (found == NULL) {
        hsm_log(HSM_LOG_ERROR, "%s: no token of the configuration has this URI", uri);
        return HSM_ERR_NOT_FOUND;
    }
    *out = found;
    return HSM_OK;
}

void
kms_format_time(time_t time, char out[ACME_TIME_LEN + 1])
{
    if (time == 0)
        snprintf(out, ACME_TIME_LEN + 1, "-");
    else
        acme_time_format(time, out);
}

enum hsm_status
kms_lock(const struct sks_sp_config *config, unsigned wait_s, int *fd)
{
    static const struct timespec slice = {.tv_nsec = 100000000};
    DEFER(free) char *path = NULL;
    int opened;

    if (asprintf(&path, "%s.lock", config->catalogue) < 0) {
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
                    "%s: another " PROGRAM " is at work on this catalogue", path);
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

    init.tls_names = arguments->tls_names;
    if (init.country == NULL)
        init.country = "US";
    return sks_sp_init(&init);
}

/* ---- what works on the catalogue ---- */

/** What a command does with all that is open. */
typedef enum hsm_status kms_act(const struct arguments *arguments,
                                const struct sks_sp_config *config, struct sks_kms *kms,
                                struct hsm_reason *why);

static enum hsm_status
with_kms(const struct arguments *arguments, const struct sks_sp_config *config, kms_act *act)
{
    const struct sks_kms_hooks hooks = {.progress = kms_print};
    DEFER(sks_kms_close) struct sks_kms *kms = NULL;
    struct hsm_reason why = {""};
    enum hsm_status st = sks_kms_open(config, &hooks, &kms);

    if (st != HSM_OK)
        return st;
    st = act(arguments, config, kms, &why);
    if (st != HSM_OK)
        hsm_log(HSM_LOG_ERROR, "not done: %s",
                why.text[0] != '\0' ? why.text : hsm_status_text(st));
    return st;
}

static enum hsm_status
run(const void *command_line, bool enrolls, kms_act *act)
{
    const struct arguments *arguments = command_line;
    CONFIG config = {.spc = NULL};
    int lock;
    enum hsm_status st = kms_read_config(arguments, &config);

    if (st == HSM_OK && enrolls)
        st = kms_check_config(&config);
    if (st == HSM_OK)
        st = kms_lock(&config, LOCK_WAIT_S, &lock);
    if (st != HSM_OK)
        return st;
    st = with_kms(arguments, &config, act);
    close(lock);
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
refresh_trust(struct sks_kms *kms, struct hsm_reason *why)
{
    enum hsm_status st = sks_kms_refresh_trust(kms, time(NULL));

    if (st != HSM_OK)
        return hsm_refuse(why, st, "trusted-CA list and CRL could not be fetched");
    return HSM_OK;
}

static enum hsm_status
enroll(const struct arguments *arguments, const struct sks_sp_config *config, struct sks_kms *kms,
       struct hsm_reason *why)
{
    struct sks_account *account = NULL;
    const char *token = NULL;
    size_t ca = 0;
    int64_t id;
    enum hsm_status st = kms_find_token(config, arguments->init.token_uri, &token);

    if (st == HSM_OK)
        st = sks_kms_find_ca(config, arguments->ca, &ca);
    if (st == HSM_OK)
        st = refresh_trust(kms, why);
    if (st == HSM_OK)
        st = sks_kms_account(kms, token, ca, &account, why);
    if (st == HSM_OK)
        st = acme_client_account(sks_account_client(account), why);
    if (st != HSM_OK)
        return st;
    printf("account: %s\n", acme_client_kid(sks_account_client(account)));
    return sks_kms_enroll(kms, token, ca, 0, &id, why);
}

static enum hsm_status
run_enroll(const void *command_line)
{
    return run(command_line, true, enroll);
}

static enum hsm_status
renew(const struct arguments *arguments, const struct sks_sp_config *config, struct sks_kms *kms,
      struct hsm_reason *why)
{
    struct sks_trouble *troubles = NULL;
    size_t count = 0;
    unsigned again_s;
    enum hsm_status st = HSM_OK;

    (void)config;
    if (arguments->force)
        st = sks_kms_make_due(kms, time(NULL));
    if (st == HSM_OK)
        st = sks_kms_round(kms, time(NULL), &again_s);
    if (st == HSM_OK)
        st = sks_catalogue_troubles(sks_kms_catalogue(kms), &troubles, &count);
    if (st == HSM_OK && count > 0)
        st = hsm_refuse(why, HSM_ERR_BUSY, "%s: %s", troubles[0].matter, troubles[0].text);
    sks_troubles_free(troubles, count);
    return st;
}

static enum hsm_status
run_renew(const void *command_line)
{
    return run(command_line, true, renew);
}

/* ---- retire, destroy ---- */

static enum hsm_status
retire(const struct arguments *arguments, const struct sks_sp_config *config, struct sks_kms *kms,
       struct hsm_reason *why)
{
    struct sks_lifecycle lifecycle;
    long long id;
    enum hsm_status st = read_number("id", arguments->id, INT64_MAX, &id);

    (void)config;
    sks_kms_lifecycle(kms, &lifecycle);
    return st == HSM_OK ? sks_lifecycle_retire(&lifecycle, id, why) : st;
}

static enum hsm_status
run_retire(const void *command_line)
{
    return run(command_line, false, retire);
}

static enum hsm_status
destroy(const struct arguments *arguments, const struct sks_sp_config *config, struct sks_kms *kms,
        struct hsm_reason *why)
{
    struct sks_lifecycle lifecycle;
    long long id;
    enum hsm_status st = read_number("id", arguments->id, INT64_MAX, &id);

    (void)config;
    sks_kms_lifecycle(kms, &lifecycle);
    return st == HSM_OK ? sks_lifecycle_destroy(&lifecycle, id, why) : st;
}

static enum hsm_status
run_destroy(const void *command_line)
{
    const struct arguments *arguments = command_line;

    if (!arguments->yes)
        return options_refuse(&table, "this cannot be taken back: say --yes");
    return run(arguments, false, destroy);
}

/* ---- abandon ---- */

static enum hsm_status
abandon(struct sks_catalogue *catalogue, int64_t id)
{
    struct sks_credential credential = {.id = 0};
    enum hsm_status st = sks_catalogue_find(catalogue, id, &credential);

    if (st == HSM_ERR_NOT_FOUND)
        hsm_log(HSM_LOG_ERROR, "credential %lld: not in the catalogue", (long long)id);
    if (st != HSM_OK)
        return st;
    if (credential.state >= SKS_ACTIVE) {
        hsm_log(HSM_LOG_ERROR, "credential %lld is %s: not on the way to active", (long long)id,
                sks_state_text(credential.state));
        st = HSM_ERR_USAGE;
    } else {
        credential.state = SKS_RETIRED;
        st = sks_catalogue_put(catalogue, &credential);
    }
    sks_credential_clear(&credential);
    return st;
}

static enum hsm_status
run_abandon(const void *command_line)
{
    const struct arguments *arguments = command_line;
    DEFER(sks_catalogue_close) struct sks_catalogue *catalogue = NULL;
    CONFIG config = {.spc = NULL};
    long long id;
    int lock;
    enum hsm_status st = read_number("id", arguments->id, INT64_MAX, &id);

    if (st == HSM_OK)
        st = kms_read_config(arguments, &config);
    if (st == HSM_OK)
        st = kms_lock(&config, LOCK_WAIT_S, &lock);
    if (st != HSM_OK)
        return st;
    st = sks_catalogue_open(config.catalogue, &catalogue);
    if (st == HSM_OK)
        st = abandon(catalogue, id);
    if (st == HSM_OK)
        printf("credential %lld: retired\n", id);
    close(lock);
    return st;
}

/* ---- revoke ---- */

/* Ask the CA that has issued it. */
static enum hsm_status
ask_ca(const struct sks_sp_config *config, struct sks_kms *kms, struct sks_credential *credential,
       int reason, struct hsm_reason *why)
{
    struct sks_account *account = NULL;
    size_t ca;
    enum hsm_status st;

    if (credential->ca_directory == NULL)
        return hsm_refuse(why, HSM_ERR_USAGE, "the catalogue does not say which CA has issued it");
    st = sks_kms_find_ca(config, credential->ca_directory, &ca);
    if (st != HSM_OK)
        return hsm_refuse(why, st, "%s, which has issued it, is not in the configuration",
                          credential->ca_directory);
    st = sks_kms_account(kms, credential->token_uri, ca, &account, why);
    if (st != HSM_OK)
        return st;
    return sks_revoke_finish(sks_kms_catalogue(kms), sks_account_client(account), credential,
                             reason, why);
}

/* Nobody signs with it any more before anything is opened that might fail. */
static enum hsm_status
revoke_credential(const struct sks_sp_config *config, int64_t id, int reason,
                  struct hsm_reason *why)
{
    const struct sks_kms_hooks hooks = {.progress = kms_print};
    DEFER(sks_catalogue_close) struct sks_catalogue *catalogue = NULL;
    DEFER(sks_kms_close) struct sks_kms *kms = NULL;
    struct sks_credential credential = {.id = 0};
    enum hsm_status st = sks_catalogue_open(config->catalogue, &catalogue);

    if (st == HSM_OK)
        st = sks_revoke_begin(catalogue, id, &credential, why);
    if (st != HSM_OK)
        return st;
    printf("credential %lld: %s, signs no more\n", (long long)id, sks_state_text(credential.state));
    fflush(stdout);
    st = sks_kms_open(config, &hooks, &kms);
    if (st == HSM_OK)
        st = ask_ca(config, kms, &credential, reason, why);
    if (st == HSM_OK)
        printf("credential %lld: revoked, %s\n", (long long)id, sks_state_text(credential.state));
    sks_credential_clear(&credential);
    return st;
}

static enum hsm_status
run_revoke(const void *command_line)
{
    const struct arguments *arguments = command_line;
    CONFIG config = {.spc = NULL};
    struct hsm_reason why = {""};
    long long id, reason;
    int lock;
    enum hsm_status st = read_number("id", arguments->id, INT64_MAX, &id);

    if (st == HSM_OK)
        st = read_number("reason", arguments->reason, 6, &reason);
    if (st == HSM_OK)
        st = kms_read_config(arguments, &config);
    if (st == HSM_OK)
        st = kms_lock(&config, LOCK_WAIT_S, &lock);
    if (st != HSM_OK)
        return st;
    st = revoke_credential(&config, id, (int)reason, &why);
    if (st != HSM_OK)
        hsm_log(HSM_LOG_ERROR, "not revoked: %s",
                why.text[0] != '\0' ? why.text : hsm_status_text(st));
    close(lock);
    return st;
}

static const struct option_command commands[] = {
    {"init",
     "dir! token! module pin-source organization! country spc! api-address! cr-address! cr-url! "
     "tls-name pa-url! pa-account! pa-user! pa-password-source! pa-anchor! ca-directory! "
     "ca-contact tls-ca verification-ports private-addresses",
     run_init},
    {"enroll", "config! ca token", run_enroll},
    {"renew", "config! force", run_renew},
    {"run", "config!", kms_run},
    {"status", "config! json", kms_run_status},
    {"ca list", "config! json", kms_run_ca_list},
    {"account show", "config! ca token", kms_run_account_show},
    {"account update", "config! contact! ca token", kms_run_account_update},
    {"account rollover", "config! ca token", kms_run_account_rollover},
    {"account deactivate", "config! yes ca token", kms_run_account_deactivate},
    {"retire", "config! id!", run_retire},
    {"destroy", "config! id! yes", run_destroy},
    {"abandon", "config! id!", run_abandon},
    {"revoke", "config! id! reason!", run_revoke},
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
