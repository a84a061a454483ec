/* sti-pa.c - the STI-PA: its keys and certificates, its daemon, its accounts and trusted STI-CAs.
 */
#define _GNU_SOURCE /* asprintf */

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <acme/authority.h>
#include <acme/config.h>
#include <acme/provision.h>
#include <acme/store.h>
#include <certs/chain.h>
#include <certs/issue.h>
#include <hsm/defer.h>
#include <hsm/key.h>
#include <hsm/log.h>
#include <hsm/process.h>
#include <hsm/secret.h>

#include "common.h"
#include "options.h"
#include "sti-pa.h"

#define PROGRAM           "sti-pa"
#define CONFIG_FILE       PROGRAM ".conf"
#define TICK_S            1
#define ROOT_VALID_DAYS   7300
#define SIGNER_VALID_DAYS 1825
#define ROOT_LABEL        "pa-root"
#define SIGNER_LABEL      "pa-signer"
#define CRL_LABEL         "pa-crl"
#define ROOT_FILE         "pa-root.pem"
#define SIGNER_CHAIN_FILE "pa-signer-chain.pem"
#define CRL_CHAIN_FILE    "pa-crl-chain.pem"
#define STORE_FILE        PROGRAM ".db"

DEFINE_DEFER(struct acme_store, acme_store_close)
DEFINE_DEFER(struct certs_chain, certs_chain_free)
DEFINE_DEFER(struct hsm_key, hsm_key_free)
DEFINE_DEFER(struct hsm_token, hsm_token_close)
DEFINE_DEFER(char, free)

/* ---- configuration ---- */

struct config {
    struct acme_daemon_config daemon;
    char *store, *policy;
    char *signer_key, *signer_chain, *crl_key, *crl_chain;
    long token_lifetime_s, session_lifetime_s, list_lifetime_s, crl_lifetime_s, entry_days;
    long tokens_per_hour, revocations_per_hour, revocations_per_account;
    char *revocation_automatic;
};

#define PA_KEY(member, kind, name, fallback, help)                                                 \
    {                                                                                              \
        "pa", name, kind, offsetof(struct config, member), false, 0, 0, fallback, help             \
    }
#define PA_SECONDS(member, name, min, max, fallback, help)                                         \
    {                                                                                              \
        "pa", name, ACME_CONFIG_NUMBER, offsetof(struct config, member), false, min, max,          \
            fallback, help                                                                         \
    }

static const struct acme_config_key config_keys[] = {
    ACME_DAEMON_KEYS(struct config, daemon),
    {"server", "client-anchors", ACME_CONFIG_PATH, offsetof(struct config, daemon.client_anchors),
     false, 0, 0, NULL, "PEM file of the CAs of clients' certificates: account bind"},
    PA_KEY(store, ACME_CONFIG_STORE, "store", STORE_FILE,
           "SQLite file or postgresql:// URI: accounts, SPC tokens, trusted STI-CAs, lists, CRLs"),
    PA_KEY(signer_key, ACME_CONFIG_PKCS11, "signer-key", "pkcs11:object=" SIGNER_LABEL,
           "URI of the key that signs SPC tokens and the trusted-CA list"),
    PA_KEY(signer_chain, ACME_CONFIG_PATH, "signer-chain", SIGNER_CHAIN_FILE,
           "PEM file of its certificate and the STI-PA root"),
    PA_KEY(crl_key, ACME_CONFIG_PKCS11, "crl-key", "pkcs11:object=" CRL_LABEL,
           "URI of the key that signs the CRL"),
    PA_KEY(crl_chain, ACME_CONFIG_PATH, "crl-chain", CRL_CHAIN_FILE,
           "PEM file of its certificate and the STI-PA root"),
    PA_SECONDS(token_lifetime_s, "token-lifetime-s", 60, 31622400, "86400",
               "seconds that an SPC token is good for"),
    {"pa", "tokens-per-hour", ACME_CONFIG_NUMBER, offsetof(struct config, tokens_per_hour), false,
     0, 1000000, "1000", "SPC tokens of one account in an hour; 0: no limit"},
    {"pa", "revocations-per-hour", ACME_CONFIG_NUMBER,
     offsetof(struct config, revocations_per_hour), false, 0, 1000000, "20000",
     "requests to revoke of one account in an hour; 0: no limit"},
    {"pa", "revocations-per-account", ACME_CONFIG_NUMBER,
     offsetof(struct config, revocations_per_account), false, 0, ACME_AUTHORITY_REVOCATIONS_MAX,
     "20000", "revocations of one account that wait or are on the CRL; 0: no limit"},
    PA_KEY(revocation_automatic, ACME_CONFIG_TEXT, "revocation-automatic", ACME_AUTHORITY_AUTOMATIC,
           "what no operator decides: sti-ca, sp, alone or as in sp:keyCompromise; or none"),
    PA_KEY(
        policy, ACME_CONFIG_PATH, "policy", NULL,
        "JSON file of the governance authority: what an SPC may have; read again when it changes"),
    PA_SECONDS(session_lifetime_s, "session-lifetime-s", 60, 86400, "3600",
               "seconds that an access token is good for"),
    PA_SECONDS(list_lifetime_s, "list-lifetime-s", 120, 31622400, "604800",
               "seconds until a trusted-CA list expires; it is signed anew at half of them"),
    PA_SECONDS(crl_lifetime_s, "crl-lifetime-s", 120, 31622400, "172800",
               "seconds from a CRL to its nextUpdate; it is signed anew at half of them"),
    {"pa", "crl-entry-days", ACME_CONFIG_NUMBER, offsetof(struct config, entry_days), false, 1,
     36525, "9132",
     "days that an entry stays on the CRL if it is not known when its certificate ends"},
    {.section = NULL},
};

static void
config_clear(void *config)
{
    acme_config_clear(config_keys, config);
}

static enum hsm_status
config_read(const char *path, void *config)
{
    const struct config *read = config;
    enum hsm_status st = acme_config_read(path, config_keys, config);

    if (st != HSM_OK)
        return st;
    st = acme_daemon_check(path, &read->daemon);
    if (st != HSM_OK)
        config_clear(config);
    return st;
}

/* ---- command line ---- */

static const struct option_row option_rows[] = {
    COMMON_OPTIONS,
    TEXT_OPTION("dir", dir),
    TEXT_OPTION("token", token),
    TEXT_OPTION("module", module),
    TEXT_OPTION("pin-source", pin_source),
    TEXT_OPTION("organization", organization),
    TEXT_OPTION("country", country),
    TEXT_OPTION("address", address),
    TEXT_OPTION("base-url", base_url),
    TEXT_OPTION("id", id),
    TEXT_OPTION("user", user),
    TEXT_OPTION("password-source", password_source),
    TEXT_OPTION("generate-password", generate_password),
    TEXT_OPTION("root", root),
    TEXT_OPTION("chain", chain),
    TEXT_OPTION("certificate", certificate),
    TEXT_OPTION("sha256", sha256),
    TEXT_OPTION("reason", reason),
    TEXT_OPTION("client", client),
    TEXT_OPTION("file", file),
    TEXT_OPTION("days", days),
    TEXT_OPTION("number", number),
    TEXT_OPTION("to", to),
    TEXT_OPTION("account", account),
    TEXT_OPTION("sequence", sequence),
    TEXT_OPTION("crl-number", crl_number),
    LIST_OPTION("from", from, PREFIXES_MAX),
    LIST_OPTION("spc", spcs, SPCS_MAX),
    SWITCH_OPTION("ca", ca),
};

static const char help_text[] =
    "Usage: " PROGRAM " COMMAND [OPTIONS]\n"
    "The STI-PA of ATIS-1000080: SPC tokens, the list of trusted STI-CAs, the CRL.\n"
    "\n"
    "  init --dir DIR --token URI [--module PATH] [--pin-source SOURCE] --organization NAME\n"
    "       --country CC --address HOST:PORT --base-url URL\n"
    "      Make what is missing: keys in the token, certificates and " CONFIG_FILE " in DIR.\n"
    "  serve --config FILE [--check]\n"
    "      Serve until SIGTERM; with --check, open everything and end.\n"
    "  account add --config FILE --id ID --user USER --spc SPC [--spc SPC ...] [--ca]\n"
    "       (--password-source SOURCE | --generate-password FILE)\n"
    "      A service provider's account, the codes it may have SPC tokens for, and with --ca\n"
    "      tokens for CA certificates too. FILE receives a random password; one that is there\n"
    "      already is used, if FILE is the user's alone.\n"
    "  account list --config FILE\n"
    "  account spc --config FILE --id ID --spc SPC [--spc SPC ...] [--ca]\n"
    "      From now on it may have tokens for these codes, and for no others.\n"
    "  account password --config FILE --id ID (--password-source SOURCE | --generate-password "
    "FILE)\n"
    "      Change it; sessions that were opened with the old one are over. FILE is a new one.\n"
    "  account suspend --config FILE --id ID --reason TEXT\n"
    "  account reinstate --config FILE --id ID\n"
    "      A suspended account logs in no more, and its sessions and keys are good for nothing.\n"
    "  account bind --config FILE --id ID [--client SUBJECT]\n"
    "      Admit a TLS client certificate with this subject; without --client, none.\n"
    "  account limit --config FILE --id ID [--from ADDRESS[/BITS] ...]\n"
    "      Only from these addresses; without --from, from everywhere.\n"
    "  account key add --config FILE --id ID --file FILE [--days N]\n"
    "      A new API key, in a new FILE, good for N days (365).\n"
    "  account key list --config FILE\n"
    "  account key revoke --config FILE --number N\n"
    "  ca add --config FILE --root PEM\n"
    "      Trust an STI-CA: its root is on the list from the next request on. A root with an\n"
    "      error of sti-cert lint is refused.\n"
    "  ca remove --config FILE --sha256 HEX --reason TEXT\n"
    "      Trust it no more: the next list is without it.\n"
    "  ca list --config FILE\n"
    "  ca account add --config FILE --id ID --user USER --chain PEM\n"
    "       (--password-source SOURCE | --generate-password FILE)\n"
    "      An account with which a trusted STI-CA puts certificates on the CRL: those that are\n"
    "      issued under the names in its chain, which begins with its issuing certificate.\n"
    "  ca account extend --config FILE --id ID --chain PEM\n"
    "      It issues under the names in this chain, too: of its next issuing certificate.\n"
    "  revocation add --config FILE --certificate PEM [--reason N]\n"
    "      Put the first certificate of a file on the CRL, for reason 0 to 6, 9 or 10 (RFC 5280\n"
    "      section 5.3.1): the governance authority wants it.\n"
    "  revocation list --config FILE\n"
    "  revocation approve --config FILE --id ID\n"
    "  revocation refuse --config FILE --id ID\n"
    "      Decide what waits: what [pa] revocation-automatic does not decide.\n"
    "  revocation drop --config FILE --id ID [--to ID] [--account ACCOUNT] --reason TEXT\n"
    "      Take off the CRL what should never have been on it, as by stolen credentials: one, or\n"
    "      all up to another, of this account or of all.\n"
    "  restore --config FILE [--sequence N] [--crl-number N]\n"
    "      After the store was restored from a backup: the last trusted-CA list that was "
    "published\n"
    "      had sequence N, the last CRL number N. The next ones have higher ones.\n"
    "  events --config FILE [--last N] [--json]\n"
    "      Who did what, and when: the last N (100).\n"
    "\n"
    "SOURCE is file:PATH, fd:N, credential:NAME (systemd) or prompt. A PIN or password is never\n"
    "an argument. --help and --version tell about the program.\n"
    "\n"
    "Keys of the configuration file:\n";

static void
print_help(void)
{
    fputs(help_text, stdout);
    print_keys(config_keys);
}

enum hsm_status
pa_usage(const char *why)
{
    return options_refuse(&pa_options, why);
}

/* ---- init ---- */

struct init {
    const struct arguments *arguments;
    struct hsm_token *token; /* borrowed */
    struct certs_chain *root; /* owned */
    struct hsm_key *root_key; /* owned, like the next */
};

static enum hsm_status
provision(const struct init *init, const struct acme_provision_request *wanted, const char *file,
          const char *common_name, struct hsm_key **key, struct certs_chain **chain)
{
    DEFER(free) char *path = acme_provision_path(init->arguments->dir, file);
    struct acme_provision_request request = *wanted;

    if (path == NULL)
        return HSM_ERR_NOMEM;
    request.path = path;
    request.issuer = init->root;
    request.issuer_key = init->root_key;
    request.certificate.subject = (struct certs_subject){
        .country = init->arguments->country,
        .organization = init->arguments->organization,
        .common_name = common_name,
    };
    return acme_provision_certificate(init->token, &request, key, chain);
}

static enum hsm_status
provision_signer(const struct init *init, const struct acme_provision_request *wanted,
                 const char *file, const char *common_name)
{
    DEFER(hsm_key_free) struct hsm_key *key = NULL;
    DEFER(certs_chain_free) struct certs_chain *chain = NULL;

    return provision(init, wanted, file, common_name, &key, &chain);
}

static enum hsm_status
provision_all(struct init *init)
{
    enum hsm_status st = provision(init,
                                   &(struct acme_provision_request){
                                       .label = ROOT_LABEL,
                                       .certificate = {.profile = CERTS_PROFILE_PA_ROOT},
                                       .valid_days = ROOT_VALID_DAYS,
                                   },
                                   ROOT_FILE, "STI-PA Root", &init->root_key, &init->root);

    if (st == HSM_OK)
        st = provision_signer(init,
                              &(struct acme_provision_request){
                                  .label = SIGNER_LABEL,
                                  .certificate = {.profile = CERTS_PROFILE_PA_SIGNER},
                                  .valid_days = SIGNER_VALID_DAYS,
                              },
                              SIGNER_CHAIN_FILE, "STI-PA Token Signer");
    if (st == HSM_OK)
        st = provision_signer(init,
                              &(struct acme_provision_request){
                                  .label = CRL_LABEL,
                                  .certificate = {.profile = CERTS_PROFILE_PA_CRL_SIGNER},
                                  .valid_days = SIGNER_VALID_DAYS,
                              },
                              CRL_CHAIN_FILE, "STI-PA CRL");
    if (st == HSM_OK)
        st = acme_provision_tls(init->token, &(struct acme_provision_tls){
                                                 .dir = init->arguments->dir,
                                                 .organization = init->arguments->organization,
                                                 .country = init->arguments->country,
                                                 .base_url = init->arguments->base_url,
                                             });
    return st;
}

static enum hsm_status
check_values(const char *const *values, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (values[i] != NULL && !acme_config_value_is_safe(values[i]))
            return pa_usage("an option's value cannot stand in " CONFIG_FILE);
    }
    return HSM_OK;
}

static enum hsm_status
write_config(const struct arguments *arguments, const char *pin_source)
{
    const char *const values[] = {arguments->token, arguments->module, pin_source,
                                  arguments->address, arguments->base_url};
    DEFER(free) char *path = acme_provision_path(arguments->dir, CONFIG_FILE);
    DEFER(free) char *text = NULL;
    enum hsm_status st = check_values(values, sizeof(values) / sizeof(values[0]));
    bool written;

    if (st != HSM_OK)
        return st;
    if (asprintf(&text,
                 "# Written by " PROGRAM " init, and never again: edit it. All keys: " PROGRAM
                 " --help\n\n[token]\nuri = %s\n%s%s%s%s%s%s\n[server]\naddress = %s\n"
                 "base-url = %s\n\n[journal]\ndir = " ACME_JOURNAL_DIR
                 "\n\n[pa]\nstore = " STORE_FILE "\nsigner-chain = " SIGNER_CHAIN_FILE
                 "\ncrl-chain = " CRL_CHAIN_FILE "\n",
                 arguments->token, arguments->module != NULL ? "module = " : "",
                 arguments->module != NULL ? arguments->module : "",
                 arguments->module != NULL ? "\n" : "", pin_source != NULL ? "pin-source = " : "",
                 pin_source != NULL ? pin_source : "", pin_source != NULL ? "\n" : "",
                 arguments->address, arguments->base_url) < 0)
        text = NULL;
    if (path == NULL || text == NULL)
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

    return path != NULL ? acme_store_open(path, acme_authority_migrations, &store) : HSM_ERR_NOMEM;
}

static enum hsm_status
run_init(const void *command_line)
{
    const struct arguments *arguments = command_line;
    DEFER(hsm_token_close) struct hsm_token *token = NULL;
    DEFER(free) char *pin_source = NULL;
    struct init init = {.arguments = arguments};
    enum hsm_status st;

    if (strncmp(arguments->base_url, "https://", 8) != 0)
        return pa_usage("--base-url is not an https URL");
    if (arguments->pin_source != NULL) {
        pin_source = acme_provision_source(arguments->pin_source);
        if (pin_source == NULL)
            return HSM_ERR_NOMEM;
    }
    st = acme_provision_dir(arguments->dir);
    if (st == HSM_OK)
        st = acme_daemon_token(arguments->token, arguments->module, pin_source, arguments->dir,
                               &token);
    if (st == HSM_OK) {
        init.token = token;
        st = provision_all(&init);
        certs_chain_free(init.root);
        hsm_key_free(init.root_key);
    }
    if (st == HSM_OK)
        st = make_store(arguments->dir);
    if (st == HSM_OK)
        st = write_config(arguments, pin_source);
    return st;
}

/* ---- serve ---- */

/** What the authority borrows, in the order of opening. */
struct pa {
    struct acme_daemon *daemon;
    struct acme_store *store;
    struct hsm_key *signer_key, *crl_key;
    struct certs_chain *signer_chain, *crl_chain;
    struct acme_authority *authority;
};

static void
pa_close(struct pa *pa)
{
    acme_authority_free(pa->authority);
    certs_chain_free(pa->crl_chain);
    certs_chain_free(pa->signer_chain);
    hsm_key_free(pa->crl_key);
    hsm_key_free(pa->signer_key);
    acme_store_close(pa->store);
    acme_daemon_close(pa->daemon);
}

#define PA __attribute__((cleanup(pa_close))) struct pa

static enum hsm_status
open_signers(const struct config *config, struct pa *pa)
{
    struct hsm_token *token = acme_daemon_lend_token(pa->daemon);
    enum hsm_status st = hsm_key_find(token, config->signer_key, &pa->signer_key);

    if (st == HSM_OK)
        st = hsm_key_find(token, config->crl_key, &pa->crl_key);
    if (st == HSM_OK)
        st = certs_chain_read(config->signer_chain, &pa->signer_chain);
    if (st == HSM_OK)
        st = certs_chain_read(config->crl_chain, &pa->crl_chain);
    return st;
}

static enum hsm_status
pa_open(const struct config *config, bool only_checked, struct pa *pa)
{
    struct acme_authority_config authority = {
        .base_url = config->daemon.base_url,
        .token_lifetime_s = (unsigned)config->token_lifetime_s,
        .session_lifetime_s = (unsigned)config->session_lifetime_s,
        .list_lifetime_s = (unsigned)config->list_lifetime_s,
        .crl_lifetime_s = (unsigned)config->crl_lifetime_s,
        .entry_days = (unsigned)config->entry_days,
        .metrics = config->daemon.shared.metrics,
        .tokens_per_hour = (unsigned)config->tokens_per_hour,
        .revocations_per_hour = (unsigned)config->revocations_per_hour,
        .revocations_per_account = (unsigned)config->revocations_per_account,
        .revocation_automatic = config->revocation_automatic,
        .crl_pause_ms = ACME_AUTHORITY_CRL_PAUSE_MS,
        .policy = config->policy,
        .only_checked = only_checked,
    };
    enum hsm_status st = acme_daemon_open(&config->daemon, &pa->daemon);

    if (st == HSM_OK)
        st = open_signers(config, pa);
    if (st == HSM_OK)
        st = acme_store_open(config->store, acme_authority_migrations, &pa->store);
    if (st != HSM_OK)
        return st;
    authority.store = pa->store;
    authority.signer_key = pa->signer_key;
    authority.signer_chain = pa->signer_chain;
    authority.crl_key = pa->crl_key;
    authority.crl_chain = pa->crl_chain;
    return acme_authority_new(&authority, &pa->authority);
}

static void
tick(void *authority)
{
    acme_authority_tick(authority);
}

static void
not_ready(void *authority, json_t *reasons)
{
    acme_authority_not_ready(authority, reasons);
}

/* A worker process. */
static enum hsm_status
work(const void *config, void *context)
{
    PA pa = {.daemon = NULL};
    struct acme_daemon_service service = {.tick = tick, .tick_s = TICK_S, .not_ready = not_ready};
    enum hsm_status st = pa_open(config, false, &pa);

    (void)context;
    if (st == HSM_OK)
        st = acme_authority_tell_start(pa.authority);
    if (st != HSM_OK)
        return st;
    service.handler = acme_authority_handler(pa.authority);
    return acme_daemon_serve(pa.daemon, &service);
}

static const struct acme_daemon_program program = {
    .name = PROGRAM,
    .config_size = sizeof(struct config),
    .read = config_read,
    .clear = config_clear,
    .run = work,
};

static enum hsm_status
check(const void *config)
{
    PA pa = {.daemon = NULL};

    return pa_open(config, true, &pa);
}

static const struct option_command commands[] = {
    {"init", "dir! token! module pin-source organization! country! address! base-url!", run_init},
    {"serve", "config! check", run_serve},
    {"account add", "config! id! user! password-source generate-password spc! ca", run_account_add},
    {"account list", "config!", run_account_list},
    {"account spc", "config! id! spc! ca", run_account_spc},
    {"account password", "config! id! password-source generate-password", run_account_password},
    {"account suspend", "config! id! reason!", run_account_suspend},
    {"account reinstate", "config! id!", run_account_reinstate},
    {"account bind", "config! id! client", run_account_bind},
    {"account limit", "config! id! from", run_account_limit},
    {"account key add", "config! id! file! days", run_account_key_add},
    {"account key list", "config!", run_account_key_list},
    {"account key revoke", "config! number!", run_account_key_revoke},
    {"ca add", "config! root!", run_ca_add},
    {"ca remove", "config! sha256! reason!", run_ca_remove},
    {"ca list", "config!", run_ca_list},
    {"ca account add", "config! id! user! chain! password-source generate-password",
     run_ca_account_add},
    {"ca account extend", "config! id! chain!", run_ca_account_extend},
    {"revocation add", "config! certificate! reason", run_revocation_add},
    {"revocation list", "config!", run_revocation_list},
    {"revocation approve", "config! id!", run_revocation_approve},
    {"revocation refuse", "config! id!", run_revocation_refuse},
    {"revocation drop", "config! id! to account reason!", run_revocation_drop},
    {"restore", "config! sequence crl-number", run_restore},
    {"events", "config! last json", run_events},
};

const struct option_table pa_options = OPTION_TABLE(PROGRAM, print_help, option_rows, commands);

const struct store_program this_program = {
    .daemon = &program,
    .check = check,
    .keys = config_keys,
    .store_offset = offsetof(struct config, store),
    .migrations = acme_authority_migrations,
    .options = &pa_options,
};

int
main(int argc, char **argv)
{
    struct arguments arguments = {.dir = NULL};

    return options_main(&pa_options, &arguments, argc, argv);
}
