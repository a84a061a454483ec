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

#include <jansson.h>

#include <acme/authority_client.h>
#include <acme/client.h>
#include <acme/provision.h>
#include <hsm/defer.h>
#include <hsm/key.h>
#include <hsm/log.h>
#include <hsm/secret.h>
#include <hsm/token.h>
#include <sks/catalogue.h>
#include <sks/enroll.h>
#include <sks/repository.h>
#include <sks/revoke.h>
#include <sks/sp_config.h>
#include <sks/sp_init.h>

#include "options.h"

#define PROGRAM       "sti-kms"
#define TLS_NAMES_MAX 16

DEFINE_DEFER(char, free)
DEFINE_DEFER(struct sks_catalogue, sks_catalogue_close)

#define CONFIG __attribute__((cleanup(sks_sp_config_clear))) struct sks_sp_config

/* ---- command line ---- */

/** What it said; texts are borrowed from argv. */
struct arguments {
    struct sks_sp_init init;
    const char *tls_names[TLS_NAMES_MAX + 1];
    const char *config;
    const char *id, *reason;
    bool json;
};

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
    {"json", OPTION_SWITCH, offsetof(struct arguments, json), 0},
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
    "  enroll --config FILE\n"
    "      Key in the token, SPC token, ACME, verify, publish, fetch back, activate; continues\n"
    "      what an earlier run left on the way.\n"
    "  status --config FILE [--json]\n"
    "      The credentials and their states.\n"
    "  abandon --config FILE --id ID\n"
    "      Give up a credential that is not active yet.\n"
    "  revoke --config FILE --id ID --reason N\n"
    "      Sign no more with a credential and have its certificate revoked, for reason 0 to 6\n"
    "      (RFC 5280 section 5.3.1; 1: its key is compromised). Done again when it was cut short.\n"
    "\n"
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

static enum hsm_status
read_config(const struct arguments *arguments, struct sks_sp_config *config)
{
    enum hsm_status st = sks_sp_config_read(arguments->config, config);

    return st == HSM_OK ? acme_daemon_log(PROGRAM, &config->common) : st;
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

/* ---- enroll ---- */

static void
print_progress(void *context, const char *line)
{
    (void)context;
    printf("%s\n", line);
    fflush(stdout); /* a person is watching, perhaps through a pipe */
}

/* Two enrollments at once would both continue the same credential. Held until the process ends. */
static enum hsm_status
lock_catalogue(const struct sks_sp_config *config)
{
    DEFER(free) char *path = NULL;
    int fd;

    if (asprintf(&path, "%s.lock", config->catalogue) < 0) {
        path = NULL;
        return HSM_ERR_NOMEM;
    }
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        hsm_log(HSM_LOG_ERROR, "%s: %s", path, strerror(errno));
        return HSM_ERR_IO;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) == 0)
        return HSM_OK;
    hsm_log(HSM_LOG_ERROR, "%s: another " PROGRAM " is at work on this catalogue", path);
    close(fd);
    return HSM_ERR_BUSY;
}

static enum hsm_status
check_config(const struct sks_sp_config *config)
{
    if (config->pa_account != NULL && config->pa_user != NULL &&
        config->pa_password_source != NULL && config->ca_directory != NULL)
        return HSM_OK;
    hsm_log(HSM_LOG_ERROR, "enroll wants [pa] account, user, password-source and [ca] directory");
    return HSM_ERR_MALFORMED;
}

/* What an enrollment borrows, in the order of opening. */
struct kms {
    struct hsm_token *token;
    struct sks_catalogue *catalogue;
    struct sks_repository *repository;
    struct sks_sp_verification verification;
    struct hsm_key *account_key;
    struct acme_client *client;
    struct hsm_secret *password;
};

static void
kms_close(struct kms *kms)
{
    hsm_secret_free(kms->password);
    acme_client_free(kms->client);
    hsm_key_free(kms->account_key);
    sks_sp_verification_close(&kms->verification);
    sks_repository_close(kms->repository);
    sks_catalogue_close(kms->catalogue);
    hsm_token_close(kms->token);
}

#define KMS __attribute__((cleanup(kms_close))) struct kms

static enum hsm_status
open_client(const struct sks_sp_config *config, const char *directory, struct kms *kms)
{
    struct acme_client_config client = {
        .http = kms->verification.http,
        .directory_url = directory,
        .contact = config->ca_contact,
        .member = config->member,
        .poll_limit_s = (unsigned)config->poll_limit_s,
    };
    struct hsm_reason why = {""};
    enum hsm_status st =
        hsm_key_find_or_generate(kms->token, SKS_ENROLL_ACCOUNT_LABEL, &kms->account_key);

    if (st != HSM_OK)
        return st;
    client.account_key = kms->account_key;
    st = acme_client_new(&client, &kms->client, &why);
    if (st == HSM_OK)
        st = acme_client_account(kms->client, &why);
    if (st != HSM_OK)
        hsm_log(HSM_LOG_ERROR, "%s: %s", directory,
                why.text[0] != '\0' ? why.text : hsm_status_text(st));
    else
        printf("account: %s\n", acme_client_kid(kms->client));
    return st;
}

static enum hsm_status
kms_open(const struct sks_sp_config *config, struct kms *kms)
{
    enum hsm_status st = acme_daemon_login(&config->common, &kms->token);

    if (st == HSM_OK)
        st = sks_catalogue_open(config->catalogue, &kms->catalogue);
    if (st == HSM_OK)
        st = sks_repository_open(config->cr_dir, config->cr_base_url, &kms->repository);
    if (st == HSM_OK)
        st = sks_sp_verification_open(config, &kms->verification);
    if (st == HSM_OK)
        st = sks_trust_refresh(kms->verification.trust, time(NULL));
    if (st == HSM_OK)
        st = hsm_secret_from(config->pa_password_source,
                             "Password of the account at the STI-PA: ", &kms->password);
    return st == HSM_OK ? open_client(config, config->ca_directory, kms) : st;
}

static enum hsm_status
enroll(const struct sks_sp_config *config, const struct kms *kms)
{
    const struct acme_authority_login authority = {
        .http = kms->verification.http,
        .base_url = config->pa_url,
        .account_id = config->pa_account,
        .user = config->pa_user,
        .password = kms->password,
    };
    const struct sks_enrollment enrollment = {
        .token = kms->token,
        .token_uri = config->common.token_uri,
        .catalogue = kms->catalogue,
        .repository = kms->repository,
        .client = kms->client,
        .ca_directory = config->ca_directory,
        .authority = &authority,
        .fingerprint = config->fingerprint_form,
        .trust = kms->verification.trust,
        .http = kms->verification.http,
        .spc = config->spc,
        .progress = print_progress,
    };
    struct hsm_reason why = {""};
    int64_t id;
    enum hsm_status st = sks_enroll(&enrollment, &id, &why);

    if (st != HSM_OK)
        hsm_log(HSM_LOG_ERROR, "not enrolled: %s",
                why.text[0] != '\0' ? why.text : hsm_status_text(st));
    return st;
}

static enum hsm_status
run_enroll(const void *command_line)
{
    CONFIG config = {.spc = NULL};
    KMS kms = {.token = NULL};
    enum hsm_status st = read_config(command_line, &config);

    if (st == HSM_OK)
        st = check_config(&config);
    if (st == HSM_OK)
        st = lock_catalogue(&config);
    if (st == HSM_OK)
        st = kms_open(&config, &kms);
    return st == HSM_OK ? enroll(&config, &kms) : st;
}

/* ---- status ---- */

static void
time_text(time_t time, char out[32])
{
    struct tm parts;

    if (time == 0 || gmtime_r(&time, &parts) == NULL ||
        strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &parts) == 0)
        snprintf(out, 32, "-");
}

static void
print_credential(const struct sks_credential *credential)
{
    char until[32];

    time_text(credential->not_after, until);
    printf("%-4lld %-10s %-6s %-21s %s\n", (long long)credential->id,
           sks_state_text(credential->state), credential->spc, until,
           credential->x5u != NULL ? credential->x5u : "-");
    printf("     %s\n", credential->key_uri);
}

static json_t *
credential_json(const struct sks_credential *credential)
{
    char until[32];

    time_text(credential->not_after, until);
    return json_pack("{s:I, s:s, s:s, s:s, s:s, s:s?, s:s?, s:s?, s:s?}", "id",
                     (json_int_t)credential->id, "state", sks_state_text(credential->state), "spc",
                     credential->spc, "token", credential->token_uri, "key", credential->key_uri,
                     "caDirectory", credential->ca_directory, "orderUrl", credential->order_url,
                     "x5u", credential->x5u, "notAfter", credential->not_after != 0 ? until : NULL);
}

static enum hsm_status
print_json(const struct sks_sp_config *config, const struct sks_credential *list, size_t count)
{
    json_t *array = json_array();
    json_t *status;
    int rc = 0;

    for (size_t i = 0; i < count && rc == 0; i++)
        rc = json_array_append_new(array, credential_json(&list[i]));
    status = json_pack("{s:s, s:o}", "spc", config->spc, "credentials", array);
    if (rc == 0 && status != NULL)
        rc = json_dumpf(status, stdout, JSON_INDENT(2));
    printf("\n");
    json_decref(status);
    return rc == 0 && status != NULL ? HSM_OK : HSM_ERR_NOMEM;
}

static enum hsm_status
run_status(const void *command_line)
{
    const struct arguments *arguments = command_line;
    DEFER(sks_catalogue_close) struct sks_catalogue *catalogue = NULL;
    CONFIG config = {.spc = NULL};
    struct sks_credential *list = NULL;
    size_t count = 0;
    enum hsm_status st = read_config(arguments, &config);

    if (st == HSM_OK)
        st = sks_catalogue_open(config.catalogue, &catalogue);
    if (st == HSM_OK)
        st = sks_catalogue_list(catalogue, NULL, &list, &count);
    if (st != HSM_OK)
        return st;
    if (arguments->json) {
        st = print_json(&config, list, count);
    } else {
        printf("%-4s %-10s %-6s %-21s %s\n", "ID", "STATE", "SPC", "UNTIL", "X5U, KEY");
        for (size_t i = 0; i < count; i++)
            print_credential(&list[i]);
    }
    sks_credentials_free(list, count);
    return st;
}

/* ---- abandon ---- */

static enum hsm_status
abandon(struct sks_catalogue *catalogue, struct sks_credential *list, size_t count, const char *id)
{
    char *end;
    long long wanted = strtoll(id, &end, 10);

    for (size_t i = 0; *end == '\0' && i < count; i++) {
        if (list[i].id != wanted)
            continue;
        if (list[i].state >= SKS_ACTIVE) {
            hsm_log(HSM_LOG_ERROR, "credential %s is %s: not on the way to active", id,
                    sks_state_text(list[i].state));
            return HSM_ERR_USAGE;
        }
        list[i].state = SKS_RETIRED;
        return sks_catalogue_put(catalogue, &list[i]);
    }
    hsm_log(HSM_LOG_ERROR, "credential %s: not in the catalogue", id);
    return HSM_ERR_NOT_FOUND;
}

static enum hsm_status
run_abandon(const void *command_line)
{
    const struct arguments *arguments = command_line;
    DEFER(sks_catalogue_close) struct sks_catalogue *catalogue = NULL;
    CONFIG config = {.spc = NULL};
    struct sks_credential *list = NULL;
    size_t count = 0;
    enum hsm_status st = read_config(arguments, &config);

    if (st == HSM_OK)
        st = lock_catalogue(&config);
    if (st == HSM_OK)
        st = sks_catalogue_open(config.catalogue, &catalogue);
    if (st == HSM_OK)
        st = sks_catalogue_list(catalogue, NULL, &list, &count);
    if (st != HSM_OK)
        return st;
    st = abandon(catalogue, list, count, arguments->id);
    if (st == HSM_OK)
        printf("credential %s: retired\n", arguments->id);
    sks_credentials_free(list, count);
    return st;
}

/* ---- revoke ---- */

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

/* Ask the CA that has issued it; what is opened for that is in `kms`. */
static enum hsm_status
ask_ca(const struct sks_sp_config *config, struct kms *kms, struct sks_credential *credential,
       int reason, struct hsm_reason *why)
{
    enum hsm_status st = acme_daemon_login(&config->common, &kms->token);

    if (st == HSM_OK && credential->ca_directory == NULL)
        st = hsm_refuse(why, HSM_ERR_USAGE, "the catalogue does not say which CA has issued it");
    if (st == HSM_OK)
        st = sks_sp_verification_open(config, &kms->verification);
    if (st == HSM_OK)
        st = open_client(config, credential->ca_directory, kms);
    if (st == HSM_OK)
        st = sks_revoke_finish(kms->catalogue, kms->client, credential, reason, why);
    return st;
}

static enum hsm_status
revoke_credential(const struct sks_sp_config *config, int64_t id, int reason)
{
    KMS kms = {.token = NULL};
    struct sks_credential credential = {.id = 0};
    struct hsm_reason why = {""};
    enum hsm_status st = sks_catalogue_open(config->catalogue, &kms.catalogue);

    if (st == HSM_OK)
        st = sks_revoke_begin(kms.catalogue, id, &credential, &why);
    if (st == HSM_OK) {
        printf("credential %lld: %s, signs no more\n", (long long)id,
               sks_state_text(credential.state));
        fflush(stdout);
        st = ask_ca(config, &kms, &credential, reason, &why);
    }
    if (st == HSM_OK)
        printf("credential %lld: revoked, %s\n", (long long)id, sks_state_text(credential.state));
    else
        hsm_log(HSM_LOG_ERROR, "not revoked: %s",
                why.text[0] != '\0' ? why.text : hsm_status_text(st));
    sks_credential_clear(&credential);
    return st;
}

static enum hsm_status
run_revoke(const void *command_line)
{
    const struct arguments *arguments = command_line;
    CONFIG config = {.spc = NULL};
    long long id, reason;
    enum hsm_status st = read_number("id", arguments->id, INT64_MAX, &id);

    if (st == HSM_OK)
        st = read_number("reason", arguments->reason, 6, &reason);
    if (st == HSM_OK)
        st = read_config(arguments, &config);
    if (st == HSM_OK)
        st = lock_catalogue(&config);
    return st == HSM_OK ? revoke_credential(&config, id, (int)reason) : st;
}

static const struct option_command commands[] = {
    {"init",
     "dir! token! module pin-source organization! country spc! api-address! cr-address! cr-url! "
     "tls-name pa-url! pa-account! pa-user! pa-password-source! pa-anchor! ca-directory! "
     "ca-contact tls-ca verification-ports private-addresses",
     run_init},
    {"enroll", "config!", run_enroll},
    {"status", "config! json", run_status},
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
