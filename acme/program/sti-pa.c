/* sti-pa.c - the STI-PA: its configuration, its command line, its keys, its daemon. */
#include "sti-pa.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <acme/authority.h>
#include <acme/config.h>
#include <acme/events.h>
#include <acme/provision.h>
#include <acme/store.h>
#include <certs/chain.h>
#include <certs/issue.h>
#include <hsm/defer.h>
#include <hsm/key.h>

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
    {"dir", "DIR", AT(dir), "where all is made that is no key"},
    {"token", "URI", AT(token), "the token of the keys, such as pkcs11:token=sti-pa"},
    TOKEN_OPTIONS,
    {"organization", "NAME", AT(organization), "O of subjects: the legal name"},
    {"country", "CC", AT(country), "C of subjects, two capitals"},
    LISTEN_OPTIONS,
    {"id", "ID", AT(id), "of the account; of a revocation its number in revocation list"},
    {"user", "USER", AT(user), "with which the account logs in"},
    {"chain", "PEM", AT(chain), "the STI-CA's issuing certificate, then its issuers"},
    {"spc", "SPC", LIST(spcs), "a code that it may have SPC tokens for; may be repeated"},
    {"ca", NULL, SWITCH(ca), "it may have tokens for CA certificates too"},
    PASSWORD_OPTION,
    {"generate-password", "FILE", AT(generate_password),
     "instead: FILE receives a random password"},
    {"client", "SUBJECT", AT(client), "of the certificate; without it: none is admitted"},
    {"from", "ADDRESS[/BITS]", LIST(from),
     "from here; may be repeated; without it: from everywhere"},
    {"file", "FILE", AT(file), "a new file, which receives the API key"},
    {"days", "N", AT(days), "how long the API key is good (default 365)"},
    {"number", "N", AT(number), "the API key's, of account key list"},
    {"root", "PEM", AT(root), "the STI-CA's root certificate"},
    {"sha256", "HEX", AT(sha256), "of that certificate, as in ca list"},
    {"certificate", "PEM", AT(certificate), "the certificate, the first of the file"},
    {"to", "ID", AT(to), "all revocations from --id up to this one"},
    {"account", "ACCOUNT", AT(account), "of this account only; else of all"},
    {"reason", "REASON", AT(reason),
     "why, for the record; of revocation add a number: 0 to 6, 9 or 10\n"
     "                          (RFC 5280 section 5.3.1; default 0)"},
    {"sequence", "N", AT(sequence), "of the last trusted-CA list that was published"},
    {"crl-number", "N", AT(crl_number), "of the last CRL that was published"},
    {.name = NULL},
};

static void
print_more(void)
{
    print_keys(config_keys);
}

/* ---- init ---- */

struct init {
    const struct arguments *arguments;
    struct hsm_token *token; /* borrowed */
    struct certs_chain *root; /* owned; NULL until it is made */
    struct hsm_key *root_key; /* owned; with root */
};

struct certificate {
    const char *label; /* of its key in the token */
    enum certs_profile profile;
    unsigned valid_days;
    const char *file, *common_name;
};

/* The first certificate is the root, which issues the others. */
static enum hsm_status
provision(const struct certificate *wanted, struct init *init)
{
    DEFER(free) char *path = acme_provision_path(init->arguments->dir, wanted->file);
    DEFER(hsm_key_free) struct hsm_key *key = NULL;
    DEFER(certs_chain_free) struct certs_chain *chain = NULL;
    struct acme_provision_request request = {
        .label = wanted->label,
        .certificate = {.profile = wanted->profile,
                        .subject = {.country = init->arguments->country,
                                    .organization = init->arguments->organization,
                                    .common_name = wanted->common_name}},
        .valid_days = wanted->valid_days,
        .issuer = init->root,
        .issuer_key = init->root_key,
        .path = path,
    };
    enum hsm_status st;

    if (path == NULL)
        return HSM_ERR_NOMEM;
    st = acme_provision_certificate(init->token, &request, &key, &chain);
    if (st != HSM_OK || init->root != NULL)
        return st;
    init->root = chain;
    chain = NULL;
    init->root_key = key;
    key = NULL;
    return HSM_OK;
}

static enum hsm_status
provision_all(struct init *init)
{
    static const struct certificate certificates[] = {
        {ROOT_LABEL, CERTS_PROFILE_PA_ROOT, ROOT_VALID_DAYS, ROOT_FILE, "STI-PA Root"},
        {SIGNER_LABEL, CERTS_PROFILE_PA_SIGNER, SIGNER_VALID_DAYS, SIGNER_CHAIN_FILE,
         "STI-PA Token Signer"},
        {CRL_LABEL, CERTS_PROFILE_PA_CRL_SIGNER, SIGNER_VALID_DAYS, CRL_CHAIN_FILE, "STI-PA CRL"},
    };

    for (size_t i = 0; i < sizeof(certificates) / sizeof(certificates[0]); i++) {
        enum hsm_status st = provision(&certificates[i], init);

        if (st != HSM_OK)
            return st;
    }
    return acme_provision_tls(init->token, &(struct acme_provision_tls){
                                               .dir = init->arguments->dir,
                                               .organization = init->arguments->organization,
                                               .country = init->arguments->country,
                                               .base_url = init->arguments->base_url,
                                           });
}

static enum hsm_status
make_all(const struct arguments *arguments, const char *pin_source)
{
    DEFER(hsm_token_close) struct hsm_token *token = NULL;
    struct init init = {.arguments = arguments};
    enum hsm_status st = acme_provision_dir(arguments->dir, 0755);

    if (st == HSM_OK)
        st = acme_daemon_token(arguments->token, arguments->module, pin_source, arguments->dir,
                               &token);
    if (st == HSM_OK) {
        init.token = token;
        st = provision_all(&init);
    }
    certs_chain_free(init.root);
    hsm_key_free(init.root_key); /* before its token */
    return st;
}

static enum hsm_status
run_init(const struct arguments *arguments)
{
    CLEAR_AFTER(acme_provision_sources_clear) struct acme_provision_sources sources = {.pin = NULL};
    DEFER(free) char *text = NULL;
    enum hsm_status st;

    if (strncmp(arguments->base_url, "https://", 8) != 0)
        return options_refuse("--base-url is not an https URL");
    st = acme_provision_sources_take(arguments->pin_source, NULL, NULL, &sources);
    if (st == HSM_OK)
        st = acme_provision_config_text(PROGRAM,
                                        (const struct acme_provision_line[]){
                                            {"token", "uri", arguments->token},
                                            {"token", "module", arguments->module},
                                            {"token", "pin-source", sources.pin},
                                            {"server", "address", arguments->address},
                                            {"server", "base-url", arguments->base_url},
                                            {"journal", "dir", ACME_JOURNAL_DIR},
                                            {"pa", "store", STORE_FILE},
                                            {"pa", "signer-chain", SIGNER_CHAIN_FILE},
                                            {"pa", "crl-chain", CRL_CHAIN_FILE},
                                            {.section = NULL},
                                        },
                                        &text);
    if (st == HSM_OK)
        st = make_all(arguments, sources.pin);
    if (st == HSM_OK)
        st = acme_provision_store(arguments->dir, STORE_FILE, acme_authority_migrations);
    if (st == HSM_OK)
        st = acme_provision_config(arguments->dir, CONFIG_FILE, text);
    return st;
}

/* ---- serve ---- */

/* The authority and what it borrows. */
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

static enum hsm_status
open_signers(const struct config *config, struct pa *pa)
{
    struct hsm_token *token = acme_daemon_lend_token(pa->daemon);
    enum hsm_status st = hsm_key_find(token, config->signer_key, &pa->signer_key);

    if (st == HSM_OK)
        st = hsm_key_find(token, config->crl_key, &pa->crl_key);
    if (st == HSM_OK)
        st = acme_daemon_chain_read(config->signer_chain, &pa->signer_chain);
    if (st == HSM_OK)
        st = acme_daemon_chain_read(config->crl_chain, &pa->crl_chain);
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

/* Open everything; unless *context, a bool, is true (--check), serve in this worker process. */
static enum hsm_status
run(const void *config, void *context)
{
    CLEAR_AFTER(pa_close) struct pa pa = {.daemon = NULL};
    const bool *only_checked = context;
    enum hsm_status st = pa_open(config, *only_checked, &pa);

    if (st != HSM_OK || *only_checked)
        return st;
    st = acme_authority_tell_start(pa.authority);
    if (st != HSM_OK)
        return st;
    return acme_daemon_serve(
        pa.daemon, &(struct acme_daemon_service){.handler = acme_authority_handler(pa.authority),
                                                 .tick = tick,
                                                 .tick_s = TICK_S,
                                                 .not_ready = not_ready});
}

static enum hsm_status
run_serve(const struct arguments *arguments)
{
    static const struct acme_daemon_program daemon = {
        .name = PROGRAM,
        .config_size = sizeof(struct config),
        .read = config_read,
        .clear = config_clear,
        .run = run,
    };
    CLEAR_AFTER(config_clear) struct config config = {.store = NULL};

    return serve(&daemon, arguments->config, arguments->check, &config);
}

/* ---- the store ---- */

enum hsm_status
open_store(const struct arguments *arguments, struct acme_store **out)
{
    CLEAR_AFTER(config_clear) struct config config = {.store = NULL};
    enum hsm_status st = acme_config_read(arguments->config, config_keys, &config);

    return st == HSM_OK ? acme_store_open(config.store, acme_authority_migrations, out) : st;
}

static enum hsm_status
run_events(const struct arguments *arguments)
{
    DEFER(acme_store_close) struct acme_store *store = NULL;
    long long count;
    enum hsm_status st = events_count(arguments->last, &count);

    if (st == HSM_OK)
        st = open_store(arguments, &store);
    return st == HSM_OK ? acme_events_show(store, count, arguments->json, stdout) : st;
}

/* ---- commands ---- */

static const char first_password_more[] =
    "One of --password-source and --generate-password is needed. A FILE that is there already is\n"
    "used, if it is the user's alone.\n";

static const char next_password_more[] =
    "One of --password-source and --generate-password is needed. FILE is a new one. Sessions that\n"
    "were opened with the old password are over.\n";

static const char decide_more[] = "What waits is what [pa] revocation-automatic does not decide.\n";

static const struct command commands[] = {
    {"init", "dir! token! module pin-source organization! country! address! base-url!", NULL,
     "make what is missing: keys, certificates and the configuration",
     "Keys are made in the token, certificates and " CONFIG_FILE " in DIR.\n", run_init},
    {"serve", "config! check", NULL, "serve until SIGTERM", NULL, run_serve},
    {"account add", "config! id! user! password-source generate-password spc! ca", NULL,
     "add a service provider's account, and the codes it may have SPC tokens for",
     first_password_more, run_account_add},
    {"account list", "config!", NULL, "the accounts", NULL, run_account_list},
    {"account spc", "config! id! spc! ca", NULL,
     "let an account have tokens for these codes, and for no others", NULL, run_account_spc},
    {"account password", "config! id! password-source generate-password", NULL,
     "change an account's password", next_password_more, run_account_password},
    {"account suspend", "config! id! reason!", NULL, "let an account log in no more",
     "Its sessions and keys are good for nothing.\n", run_account_suspend},
    {"account reinstate", "config! id!", NULL, "end a suspension", NULL, run_account_reinstate},
    {"account bind", "config! id! client", NULL, "admit a TLS client certificate with this subject",
     NULL, run_account_bind},
    {"account limit", "config! id! from", NULL, "admit an account only from these addresses", NULL,
     run_account_limit},
    {"account key add", "config! id! file! days", NULL, "make an API key of an account", NULL,
     run_account_key_add},
    {"account key list", "config!", NULL, "the API keys", NULL, run_account_key_list},
    {"account key revoke", "config! number!", NULL, "end an API key", NULL, run_account_key_revoke},
    {"ca add", "config! root!", NULL, "trust an STI-CA",
     "Its root is on the list from the next request on. A root with an error of sti-cert lint is\n"
     "refused.\n",
     run_ca_add},
    {"ca remove", "config! sha256! reason!", NULL,
     "trust an STI-CA no more: the next list is without it", NULL, run_ca_remove},
    {"ca list", "config!", NULL, "the STI-CAs that are trusted", NULL, run_ca_list},
    {"ca account add", "config! id! user! chain! password-source generate-password", NULL,
     "add an account with which a trusted STI-CA puts certificates on the CRL",
     "Those are certificates that are issued under the names in its chain.\n"
     "One of --password-source and --generate-password is needed. A FILE that is there already is\n"
     "used, if it is the user's alone.\n",
     run_ca_account_add},
    {"ca account extend", "config! id! chain!", NULL,
     "let an STI-CA issue under the names in this chain too",
     "It is the chain of its next issuing certificate.\n", run_ca_account_extend},
    {"revocation add", "config! certificate! reason", NULL,
     "put a certificate on the CRL: the governance authority wants it", NULL, run_revocation_add},
    {"revocation list", "config!", NULL, "the requests to revoke, and where they stand", NULL,
     run_revocation_list},
    {"revocation approve", "config! id!", NULL, "put on the CRL what waits", decide_more,
     run_revocation_approve},
    {"revocation refuse", "config! id!", NULL, "refuse what waits", decide_more,
     run_revocation_refuse},
    {"revocation drop", "config! id! to account reason!", NULL,
     "take off the CRL what should never have been on it",
     "As by stolen credentials: one, or all up to another, of one account or of all.\n",
     run_revocation_drop},
    {"restore", "config! sequence crl-number", NULL,
     "tell the last numbers, after the store was restored from a backup",
     "The next trusted-CA list and the next CRL have higher ones.\n", run_restore},
    {"events", "config! last json", NULL, "who did what, and when", NULL, run_events},
};

static const struct option_table table = {
    .program = PROGRAM,
    .purpose = "The STI-PA of ATIS-1000080: SPC tokens, the list of trusted STI-CAs, the CRL.",
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
