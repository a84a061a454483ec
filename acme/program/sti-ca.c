/* sti-ca.c - the STI-CA: its keys and certificates, its ACME server, the names of participants. */
#define _GNU_SOURCE /* asprintf */

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <acme/config.h>
#include <acme/http_client.h>
#include <acme/provision.h>
#include <acme/server.h>
#include <acme/store.h>
#include <certs/cert.h>
#include <certs/chain.h>
#include <certs/issue.h>
#include <hsm/defer.h>
#include <hsm/key.h>
#include <hsm/log.h>
#include <hsm/secret.h>
#include <hsm/supervise.h>

#include "options.h"

#define PROGRAM                 "sti-ca"
#define CONFIG_FILE             PROGRAM ".conf"
#define STORE_FILE              PROGRAM ".db"
#define ROOT_LABEL              "sti-ca-root"
#define ISSUING_LABEL           "sti-ca-issuing"
#define ROOT_FILE               "sti-ca-root.pem"
#define CHAIN_FILE              "sti-ca-chain.pem"
#define ANCHORS_FILE            "pa-anchors.pem" /* copies of what init was given */
#define CRL_ISSUER_FILE         "pa-crl-issuer.pem"
#define TLS_CA_FILE             "pa-tls-ca.pem"
#define ROOT_VALID_DAYS         7300
#define INTERMEDIATE_VALID_DAYS 1825
#define COUNTRY                 "US"
#define AUTHORITIES_MAX         32
#define TICK_S                  2

DEFINE_DEFER(struct acme_store, acme_store_close)
DEFINE_DEFER(struct certs_chain, certs_chain_free)
DEFINE_DEFER(struct hsm_key, hsm_key_free)
DEFINE_DEFER(struct hsm_token, hsm_token_close)
DEFINE_DEFER(char, free)

/* ---- configuration ---- */

struct config {
    struct acme_daemon_config daemon;
    char *store, *issuing_key, *chain, *policy, *country;
    long valid_days, backdate_s;
    bool participants_required, account_key_in_csr;
    char *anchors, *authorities, *crl_url, *crl_issuer, *tls_ca;
    char *revocation_url, *user, *password_source;
};

#define KEY(section, name, kind, member, required, min, max, fallback, help)                       \
    {                                                                                              \
        section, name, kind, offsetof(struct config, member), required, min, max, fallback, help   \
    }

static const struct acme_config_key config_keys[] = {
    ACME_DAEMON_KEYS(struct config, daemon),
    KEY("ca", "store", ACME_CONFIG_PATH, store, false, 0, 0, STORE_FILE,
        "SQLite file: accounts, orders, certificates, participants"),
    KEY("ca", "issuing-key", ACME_CONFIG_TEXT, issuing_key, false, 0, 0,
        "pkcs11:object=" ISSUING_LABEL, "URI of the key that signs certificates"),
    KEY("ca", "chain", ACME_CONFIG_PATH, chain, false, 0, 0, CHAIN_FILE,
        "PEM file of the issuing certificate, its issuers and the root"),
    KEY("ca", "policy", ACME_CONFIG_TEXT, policy, false, 0, 0, CERTS_POLICY_CP_1_4,
        "OID of the certificate policy"),
    KEY("ca", "country", ACME_CONFIG_TEXT, country, false, 0, 0, COUNTRY,
        "C of the subject of a participant that has none registered"),
    KEY("ca", "valid-days", ACME_CONFIG_NUMBER, valid_days, false, 1, 1095, "90",
        "days that a certificate is valid"),
    KEY("ca", "backdate-s", ACME_CONFIG_NUMBER, backdate_s, false, 0, 86400, "300",
        "seconds that notBefore lies back: clocks of others may lag"),
    KEY("ca", "participants-required", ACME_CONFIG_SWITCH, participants_required, false, 0, 0, "no",
        "refuse an SPC that participant set has not named"),
    KEY("ca", "account-key-in-csr", ACME_CONFIG_SWITCH, account_key_in_csr, false, 0, 0, "no",
        "certify the ACME account's own key (RFC 8555 section 11.1 forbids it)"),
    KEY("pa", "anchors", ACME_CONFIG_PATH, anchors, false, 0, 0, ANCHORS_FILE,
        "PEM file of the STI-PA roots"),
    KEY("pa", "authorities", ACME_CONFIG_TEXT, authorities, true, 0, 0, NULL,
        "https URLs, separated by blanks: the x5u of an SPC token lies below one of them"),
    KEY("pa", "crl-url", ACME_CONFIG_TEXT, crl_url, true, 0, 0, NULL,
        "URL of the STI-PA's CRL, for the certificates"),
    KEY("pa", "crl-issuer", ACME_CONFIG_PATH, crl_issuer, false, 0, 0, CRL_ISSUER_FILE,
        "PEM file whose first certificate is that of the CRL's signer"),
    KEY("pa", "tls-ca", ACME_CONFIG_PATH, tls_ca, false, 0, 0, NULL,
        "PEM file of the TLS anchors for fetching an x5u; without it the system's"),
    KEY("pa", "revocation-url", ACME_CONFIG_TEXT, revocation_url, false, 0, 0, NULL,
        "URL at which the STI-PA takes revocations; without it they wait"),
    KEY("pa", "user", ACME_CONFIG_TEXT, user, false, 0, 0, NULL,
        "user of this STI-CA's account at the STI-PA"),
    KEY("pa", "password-source", ACME_CONFIG_SECRET_SOURCE, password_source, false, 0, 0, NULL,
        "where its password is: file:PATH, fd:N, credential:NAME, prompt"),
    {.section = NULL},
};

static void
config_clear(struct config *config)
{
    acme_config_clear(config_keys, config);
}

#define CONFIG __attribute__((cleanup(config_clear))) struct config

/* ---- command line ---- */

/* What it said; texts are borrowed from argv. */
struct arguments {
    const char *dir, *token, *module, *pin_source;
    const char *organization, *country, *address, *base_url;
    const char *pa_anchor, *crl_url, *crl_issuer_cert, *tls_ca;
    const char *revocation_url, *pa_user, *pa_password_source;
    const char *config, *spc, *serial, *reason;
    const char *authorities[AUTHORITIES_MAX + 1]; /* NULL-terminated */
    bool check;
};

#define TEXT(option, member)                                                                       \
    {                                                                                              \
        option, OPTION_TEXT, offsetof(struct arguments, member), 0                                 \
    }

static const struct option_row option_rows[] = {
    TEXT("dir", dir),
    TEXT("token", token),
    TEXT("module", module),
    TEXT("pin-source", pin_source),
    TEXT("organization", organization),
    TEXT("country", country),
    TEXT("address", address),
    TEXT("base-url", base_url),
    TEXT("pa-anchor", pa_anchor),
    TEXT("crl-url", crl_url),
    TEXT("crl-issuer-cert", crl_issuer_cert),
    TEXT("tls-ca", tls_ca),
    TEXT("revocation-url", revocation_url),
    TEXT("pa-user", pa_user),
    TEXT("pa-password-source", pa_password_source),
    TEXT("config", config),
    TEXT("spc", spc),
    TEXT("serial", serial),
    TEXT("reason", reason),
    {"authority", OPTION_LIST, offsetof(struct arguments, authorities), AUTHORITIES_MAX},
    {"check", OPTION_SWITCH, offsetof(struct arguments, check), 0},
};

static const struct option_table table;

static const char help_text[] =
    "Usage: " PROGRAM " COMMAND [OPTIONS]\n"
    "The STI-CA of ATIS-1000080: SHAKEN certificates over ACME, signed in the token.\n"
    "\n"
    "  init --dir DIR --token URI [--module PATH] [--pin-source SOURCE] --organization NAME\n"
    "       [--country CC] --address HOST:PORT --base-url URL --pa-anchor PEM\n"
    "       --authority URL [--authority URL ...] --crl-url URL --crl-issuer-cert PEM\n"
    "       [--tls-ca PEM]\n"
    "       [--revocation-url URL --pa-user USER --pa-password-source SOURCE]\n"
    "      Make what is missing: keys in the token, certificates and " CONFIG_FILE " in DIR. From\n"
    "      the STI-PA come its root, the URLs below which the certificates of its token signers\n"
    "      are, the URL of its CRL and the certificate that signs it. --tls-ca is with what its\n"
    "      TLS certificate is trusted. The files are copied to DIR. Revocations are forwarded to\n"
    "      the STI-PA with the account that it made for this STI-CA.\n"
    "  serve --config FILE [--check]\n"
    "      Serve until SIGTERM; with --check, open everything, compare keys and certificates, and\n"
    "      end.\n"
    "  participant set --config FILE --spc SPC --organization NAME [--country CC]\n"
    "      The validated name of the holder of an SPC, for its next certificates.\n"
    "  revoke --config FILE --serial HEX [--reason N]\n"
    "      Revoke a certificate, for reason 0 to 6 (RFC 5280 section 5.3.1); the daemon forwards "
    "it\n"
    "      to the STI-PA.\n"
    "\n"
    "SOURCE is file:PATH, fd:N, credential:NAME (systemd) or prompt. A PIN is never an argument.\n"
    "--help and --version tell about the program.\n"
    "\n"
    "Keys of the configuration file:\n";

static void
print_help(void)
{
    fputs(help_text, stdout);
    for (const struct acme_config_key *key = config_keys; key->section != NULL; key++)
        printf("  [%s] %s%s%s: %s\n", key->section, key->name, key->fallback != NULL ? " = " : "",
               key->fallback != NULL ? key->fallback : "", key->help);
}

/* ---- init ---- */

struct init {
    const struct arguments *arguments;
    struct hsm_token *token; /* borrowed */
    const char *country;
    struct certs_chain *root, *crl_issuer; /* owned */
    struct hsm_key *root_key; /* owned */
};

static enum hsm_status
provision_root(struct init *init)
{
    DEFER(free) char *path = acme_provision_path(init->arguments->dir, ROOT_FILE);
    DEFER(free)
    char *name = acme_provision_common_name(init->arguments->organization, "SHAKEN Root");
    struct acme_provision_request request = {
        .label = ROOT_LABEL,
        .certificate = {.profile = CERTS_PROFILE_STI_ROOT,
                        .subject = {.country = init->country,
                                    .organization = init->arguments->organization,
                                    .common_name = name}},
        .valid_days = ROOT_VALID_DAYS,
        .path = path,
    };

    if (path == NULL || name == NULL)
        return HSM_ERR_NOMEM;
    return acme_provision_certificate(init->token, &request, &init->root_key, &init->root);
}

static enum hsm_status
provision_issuing(struct init *init)
{
    DEFER(free) char *path = acme_provision_path(init->arguments->dir, CHAIN_FILE);
    DEFER(free)
    char *name = acme_provision_common_name(init->arguments->organization, "SHAKEN Issuing CA");
    DEFER(hsm_key_free) struct hsm_key *key = NULL;
    DEFER(certs_chain_free) struct certs_chain *chain = NULL;
    struct acme_provision_request request = {
        .label = ISSUING_LABEL,
        .certificate = {.profile = CERTS_PROFILE_STI_INTERMEDIATE,
                        .subject = {.country = init->country,
                                    .organization = init->arguments->organization,
                                    .common_name = name},
                        .policy_oid = CERTS_POLICY_CP_1_4,
                        .crl_url = init->arguments->crl_url,
                        .crl_issuer =
                            certs_cert_subject_name(certs_chain_get(init->crl_issuer, 0))},
        .valid_days = INTERMEDIATE_VALID_DAYS,
        .issuer = init->root,
        .issuer_key = init->root_key,
        .path = path,
    };

    if (path == NULL || name == NULL)
        return HSM_ERR_NOMEM;
    return acme_provision_certificate(init->token, &request, &key, &chain);
}

static enum hsm_status
provision_all(struct init *init)
{
    enum hsm_status st = provision_root(init);

    if (st == HSM_OK)
        st = provision_issuing(init);
    if (st == HSM_OK)
        st = acme_provision_tls(init->token, &(struct acme_provision_tls){
                                                 .dir = init->arguments->dir,
                                                 .organization = init->arguments->organization,
                                                 .country = init->country,
                                                 .base_url = init->arguments->base_url,
                                             });
    return st;
}

/* Certificates of others, into DIR unless a file of that name is there. */
static enum hsm_status
copy_certificates(const struct arguments *arguments, const char *from, const char *name)
{
    DEFER(free) char *path = acme_provision_path(arguments->dir, name);
    DEFER(certs_chain_free) struct certs_chain *chain = NULL;
    enum hsm_status st;

    if (path == NULL)
        return HSM_ERR_NOMEM;
    if (access(path, F_OK) == 0)
        return HSM_OK;
    st = certs_chain_read(from, &chain);
    return st == HSM_OK ? certs_chain_write(chain, path) : st;
}

static enum hsm_status
copy_all(const struct arguments *arguments)
{
    enum hsm_status st = copy_certificates(arguments, arguments->pa_anchor, ANCHORS_FILE);

    if (st == HSM_OK)
        st = copy_certificates(arguments, arguments->crl_issuer_cert, CRL_ISSUER_FILE);
    if (st == HSM_OK && arguments->tls_ca != NULL)
        st = copy_certificates(arguments, arguments->tls_ca, TLS_CA_FILE);
    return st;
}

/* ---- the configuration that init writes ---- */

/* Sources of secrets with absolute paths; owned, NULL when not given. */
struct sources {
    char *pin, *pa_password;
};

static void
sources_clear(struct sources *sources)
{
    free(sources->pin);
    free(sources->pa_password);
}

#define SOURCES __attribute__((cleanup(sources_clear))) struct sources

static enum hsm_status
take_source(const char *given, char **out)
{
    if (given == NULL)
        return HSM_OK;
    *out = acme_provision_source(given);
    return *out != NULL ? HSM_OK : HSM_ERR_NOMEM;
}

static enum hsm_status
check_values(const struct arguments *arguments, const struct sources *sources)
{
    const char *const values[] = {
        arguments->token,     arguments->module,        sources->pin,       arguments->address,
        arguments->country,   arguments->base_url,      arguments->crl_url, arguments->pa_user,
        sources->pa_password, arguments->revocation_url};
    bool forwards = arguments->revocation_url != NULL;

    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        if (values[i] != NULL && !acme_config_value_is_safe(values[i]))
            return options_refuse(&table, "an option's value cannot stand in " CONFIG_FILE);
    }
    if ((arguments->pa_user != NULL) != forwards || (sources->pa_password != NULL) != forwards)
        return options_refuse(&table, "--revocation-url, --pa-user and --pa-password-source go"
                                      " together");
    for (size_t i = 0; arguments->authorities[i] != NULL; i++) {
        if (!acme_config_value_is_safe(arguments->authorities[i]) ||
            strchr(arguments->authorities[i], ' ') != NULL)
            return options_refuse(&table, "--authority: not a URL");
    }
    return HSM_OK;
}

static void
write_line(FILE *to, const char *name, const char *value)
{
    if (value != NULL)
        fprintf(to, "%s = %s\n", name, value);
}

static void
write_text(FILE *to, const struct arguments *arguments, const struct sources *sources)
{
    fputs("# Written by " PROGRAM " init, and never again: edit it. All keys: " PROGRAM
          " --help\n\n[token]\n",
          to);
    write_line(to, "uri", arguments->token);
    write_line(to, "module", arguments->module);
    write_line(to, "pin-source", sources->pin);
    fputs("\n[server]\n", to);
    write_line(to, "address", arguments->address);
    write_line(to, "base-url", arguments->base_url);
    fputs("\n[journal]\ndir = " ACME_JOURNAL_DIR "\n", to);
    fputs("\n[ca]\nstore = " STORE_FILE "\nchain = " CHAIN_FILE "\n", to);
    write_line(to, "country", arguments->country);
    fputs("\n[pa]\nanchors = " ANCHORS_FILE "\ncrl-issuer = " CRL_ISSUER_FILE "\nauthorities =",
          to);
    for (size_t i = 0; arguments->authorities[i] != NULL; i++)
        fprintf(to, " %s", arguments->authorities[i]);
    fputc('\n', to);
    write_line(to, "crl-url", arguments->crl_url);
    write_line(to, "tls-ca", arguments->tls_ca != NULL ? TLS_CA_FILE : NULL);
    write_line(to, "revocation-url", arguments->revocation_url);
    write_line(to, "user", arguments->pa_user);
    write_line(to, "password-source", sources->pa_password);
}

static enum hsm_status
write_config(const struct arguments *arguments, const struct sources *sources)
{
    DEFER(free) char *path = acme_provision_path(arguments->dir, CONFIG_FILE);
    DEFER(free) char *text = NULL;
    size_t len = 0;
    FILE *to = open_memstream(&text, &len);
    bool written = false;
    enum hsm_status st;

    if (path == NULL || to == NULL)
        return HSM_ERR_NOMEM;
    write_text(to, arguments, sources);
    if (fclose(to) != 0)
        return HSM_ERR_NOMEM;
    st = acme_provision_config(path, text, &written);
    if (st == HSM_OK)
        printf("%s: %s\n", path, written ? "written" : "kept as it was");
    return st;
}

static enum hsm_status
make_store(const char *dir)
{
    DEFER(free) char *path = acme_provision_path(dir, STORE_FILE);
    DEFER(acme_store_close) struct acme_store *store = NULL;

    return path != NULL ? acme_store_open(path, acme_server_migrations, &store) : HSM_ERR_NOMEM;
}

static enum hsm_status
make_all(const struct arguments *arguments, const char *pin_source)
{
    DEFER(hsm_token_close) struct hsm_token *token = NULL;
    struct init init = {.arguments = arguments,
                        .country = arguments->country != NULL ? arguments->country : COUNTRY};
    enum hsm_status st = certs_chain_read(arguments->crl_issuer_cert, &init.crl_issuer);

    if (st == HSM_OK)
        st = acme_provision_dir(arguments->dir);
    if (st == HSM_OK)
        st = copy_all(arguments);
    if (st == HSM_OK)
        st = acme_daemon_token(arguments->token, arguments->module, pin_source, arguments->dir,
                               &token);
    if (st == HSM_OK) {
        init.token = token;
        st = provision_all(&init);
    }
    certs_chain_free(init.crl_issuer);
    certs_chain_free(init.root);
    hsm_key_free(init.root_key); /* before its token */
    return st;
}

static enum hsm_status
run_init(const void *command_line)
{
    const struct arguments *arguments = command_line;
    SOURCES sources = {.pin = NULL};
    DEFER(free) char *directory = acme_server_directory_url(arguments->base_url);
    enum hsm_status st = take_source(arguments->pin_source, &sources.pin);

    if (st == HSM_OK)
        st = take_source(arguments->pa_password_source, &sources.pa_password);
    if (st == HSM_OK)
        st = check_values(arguments, &sources);
    if (st == HSM_OK)
        st = make_all(arguments, sources.pin);
    if (st == HSM_OK)
        st = make_store(arguments->dir);
    if (st == HSM_OK)
        st = write_config(arguments, &sources);
    if (st == HSM_OK && directory != NULL)
        printf("ACME directory: %s\n", directory);
    return st;
}

/* ---- serve ---- */

/* What the server borrows, in the order of opening. */
struct ca {
    struct acme_daemon *daemon;
    struct acme_store *store;
    struct acme_http_client *http;
    struct hsm_key *issuing_key;
    struct certs_chain *issuing_chain, *pa_anchors, *crl_issuer;
    char *authorities; /* a copy of the configured text, cut at its blanks */
    const char *authority[AUTHORITIES_MAX + 1];
    struct hsm_secret *password; /* of the account at the STI-PA */
    struct acme_server *server;
};

static void
ca_close(struct ca *ca)
{
    acme_server_free(ca->server);
    hsm_secret_free(ca->password);
    free(ca->authorities);
    certs_chain_free(ca->crl_issuer);
    certs_chain_free(ca->pa_anchors);
    certs_chain_free(ca->issuing_chain);
    hsm_key_free(ca->issuing_key);
    acme_http_client_free(ca->http);
    acme_store_close(ca->store);
    acme_daemon_close(ca->daemon);
}

#define CA __attribute__((cleanup(ca_close))) struct ca

static enum hsm_status
split_authorities(const char *text, struct ca *ca)
{
    size_t count = 0;
    char *rest = NULL;

    ca->authorities = strdup(text);
    if (ca->authorities == NULL)
        return HSM_ERR_NOMEM;
    for (char *url = strtok_r(ca->authorities, " \t", &rest); url != NULL;
         url = strtok_r(NULL, " \t", &rest)) {
        if (count == AUTHORITIES_MAX) {
            hsm_log(HSM_LOG_ERROR, "[pa] authorities: more than %d", AUTHORITIES_MAX);
            return HSM_ERR_USAGE;
        }
        ca->authority[count++] = url;
    }
    return HSM_OK;
}

/* All of revocation-url, user and password-source, or none. */
static enum hsm_status
open_account(const struct config *config, struct ca *ca)
{
    bool forwards = config->revocation_url != NULL;

    if ((config->user != NULL) != forwards || (config->password_source != NULL) != forwards) {
        hsm_log(HSM_LOG_ERROR, "[pa] revocation-url, user and password-source go together");
        return HSM_ERR_MALFORMED;
    }
    if (!forwards) {
        hsm_log(HSM_LOG_WARNING, "no [pa] revocation-url: the STI-PA is not told of revocations");
        return HSM_OK;
    }
    return hsm_secret_from(config->password_source,
                           "Password of the account at the STI-PA: ", &ca->password);
}

static enum hsm_status
open_parts(const struct config *config, struct ca *ca)
{
    enum hsm_status st = acme_daemon_open(&config->daemon, &ca->daemon);

    if (st == HSM_OK)
        st =
            hsm_key_find(acme_daemon_lend_token(ca->daemon), config->issuing_key, &ca->issuing_key);
    if (st == HSM_OK)
        st = certs_chain_read(config->chain, &ca->issuing_chain);
    if (st == HSM_OK)
        st = certs_chain_read(config->anchors, &ca->pa_anchors);
    if (st == HSM_OK)
        st = certs_chain_read(config->crl_issuer, &ca->crl_issuer);
    if (st == HSM_OK)
        st = split_authorities(config->authorities, ca);
    if (st == HSM_OK)
        st = open_account(config, ca);
    if (st == HSM_OK)
        st = acme_http_client_new(&(struct acme_http_client_config){.tls_ca = config->tls_ca},
                                  &ca->http);
    if (st == HSM_OK)
        st = acme_store_open(config->store, acme_server_migrations, &ca->store);
    return st;
}

static enum hsm_status
ca_open(const struct config *config, struct ca *ca)
{
    enum hsm_status st = open_parts(config, ca);

    if (st != HSM_OK)
        return st;
    return acme_server_new(
        &(struct acme_server_config){
            .base_url = config->daemon.base_url,
            .store = ca->store,
            .token = acme_daemon_lend_token(ca->daemon),
            .issuing_key = ca->issuing_key,
            .issuing_chain = ca->issuing_chain,
            .pa_anchors = ca->pa_anchors,
            .http = ca->http,
            .authorities = ca->authority,
            .policy_oid = config->policy,
            .crl_url = config->crl_url,
            .crl_issuer = certs_cert_subject_name(certs_chain_get(ca->crl_issuer, 0)),
            .country = config->country,
            .valid_days = (unsigned)config->valid_days,
            .backdate_s = (unsigned)config->backdate_s,
            .participants_required = config->participants_required,
            .account_key_in_csr = config->account_key_in_csr,
            .others_serve =
                config->daemon.worker != NULL && !hsm_worker_is_alone(config->daemon.worker),
            .revocation_url = config->revocation_url,
            .revocation_user = config->user,
            .revocation_password = ca->password,
        },
        &ca->server);
}

static void
tick(void *server)
{
    acme_server_tick(server);
}

/* A worker process. */
static enum hsm_status
work(void *context)
{
    const struct config *config = context;
    CA ca = {.daemon = NULL};
    struct acme_http_handler handler;
    enum hsm_status st = ca_open(config, &ca);

    if (st != HSM_OK)
        return st;
    handler = acme_server_handler(ca.server);
    return acme_daemon_serve(ca.daemon, &handler, tick, TICK_S);
}

static enum hsm_status
check(const char *path, const struct config *config)
{
    CA ca = {.daemon = NULL};
    enum hsm_status st = ca_open(config, &ca);

    if (st == HSM_OK)
        printf("%s: good\n", path);
    return st;
}

static enum hsm_status
run_serve(const void *command_line)
{
    const struct arguments *arguments = command_line;
    CONFIG config = {.store = NULL};
    enum hsm_status st = acme_config_read(arguments->config, config_keys, &config);

    if (st == HSM_OK)
        st = acme_daemon_log(PROGRAM, &config.daemon);
    if (st != HSM_OK)
        return st;
    if (arguments->check)
        return check(arguments->config, &config);
    return acme_daemon_supervise(&config.daemon, work, &config);
}

/* ---- participants ---- */

static enum hsm_status
run_participant_set(const void *command_line)
{
    const struct arguments *arguments = command_line;
    CONFIG config = {.store = NULL};
    DEFER(acme_store_close) struct acme_store *store = NULL;
    enum hsm_status st = acme_config_read(arguments->config, config_keys, &config);

    if (st == HSM_OK)
        st = acme_store_open(config.store, acme_server_migrations, &store);
    if (st == HSM_OK)
        st = acme_server_participant_set(store, arguments->spc, arguments->organization,
                                         arguments->country != NULL ? arguments->country
                                                                    : config.country);
    if (st == HSM_ERR_MALFORMED)
        hsm_log(HSM_LOG_ERROR,
                "an SPC is of [A-Z0-9], an organization has 1 to 64 octets, a country two letters");
    if (st == HSM_OK)
        printf("%s: %s\n", arguments->spc, arguments->organization);
    return st;
}

/* ---- revocation ---- */

static enum hsm_status
revoke_by_serial(struct acme_store *store, const char *serial, long reason)
{
    enum hsm_status st = acme_server_revoke(store, serial, (int)reason, time(NULL));

    if (st == HSM_ERR_MALFORMED)
        hsm_log(HSM_LOG_ERROR, "a serial is of 1 to %d octets in hex, a reason 0 to 6",
                CERTS_SERIAL_MAX);
    else if (st == HSM_ERR_NOT_FOUND)
        hsm_log(HSM_LOG_ERROR, "%s: no certificate of this STI-CA", serial);
    else if (st == HSM_ERR_EXISTS)
        hsm_log(HSM_LOG_ERROR, "%s: is revoked already", serial);
    else if (st == HSM_OK)
        printf("%s: revoked\n", serial);
    return st;
}

static enum hsm_status
run_revoke(const void *command_line)
{
    const struct arguments *arguments = command_line;
    CONFIG config = {.store = NULL};
    DEFER(acme_store_close) struct acme_store *store = NULL;
    char *end = NULL;
    long reason = arguments->reason != NULL ? strtol(arguments->reason, &end, 10) : 0;
    enum hsm_status st;

    if (end != NULL && (end == arguments->reason || *end != '\0' || reason < 0 || reason > 6))
        return options_refuse(&table, "--reason is not 0 to 6");
    st = acme_config_read(arguments->config, config_keys, &config);
    if (st == HSM_OK)
        st = acme_store_open(config.store, acme_server_migrations, &store);
    if (st != HSM_OK)
        return st;
    if (config.revocation_url == NULL)
        hsm_log(HSM_LOG_WARNING, "no [pa] revocation-url: the STI-PA is not told of revocations");
    return revoke_by_serial(store, arguments->serial, reason);
}

static const struct option_command commands[] = {
    {"init",
     "dir! token! module pin-source organization! country address! base-url! pa-anchor! authority!"
     " crl-url! crl-issuer-cert! tls-ca revocation-url pa-user pa-password-source",
     run_init},
    {"serve", "config! check", run_serve},
    {"participant set", "config! spc! organization! country", run_participant_set},
    {"revoke", "config! serial! reason", run_revoke},
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
    struct arguments arguments = {.dir = NULL};

    return options_main(&table, &arguments, argc, argv);
}
