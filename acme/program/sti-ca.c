/* sti-ca.c - the STI-CA: its configuration, its command line, its ACME server. */
#include "sti-ca.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/objects.h>

#include <acme/config.h>
#include <acme/events.h>
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

#include "chains.h"

#define NOT_GIVEN                (-1L) /* value of a number that the configuration lacks */
#define NONCES_PER_ADDRESS       10000
#define REQUESTS_PER_ACCOUNT     1000
#define RENEWAL_INFO_PER_ADDRESS 3600

#define TICK_S 2

/* ---- configuration ---- */

#define KEY(section, name, kind, member, required, min, max, fallback, help)                       \
    {                                                                                              \
        section, name, kind, offsetof(struct config, member), required, min, max, fallback, help   \
    }

static const struct acme_config_key config_keys[] = {
    ACME_DAEMON_KEYS(struct config, daemon),
    KEY("ca", "store", ACME_CONFIG_STORE, store, false, 0, 0, STORE_FILE,
        "SQLite file or postgresql:// URI: accounts, orders, certificates, participants"),
    KEY("ca", "issuing-key", ACME_CONFIG_PKCS11, issuing_key, false, 0, 0,
        "pkcs11:object=" ISSUING_LABEL, "URI of the key that signs certificates"),
    KEY("ca", "chain", ACME_CONFIG_PATH, chain, false, 0, 0, CHAIN_FILE,
        "PEM file of the issuing certificate, its issuers and the root"),
    KEY("ca", "policy", ACME_CONFIG_TEXT, policy, false, 0, 0, CERTS_POLICY_CP_1_4,
        "OID of the certificate policy"),
    KEY("ca", "country", ACME_CONFIG_TEXT, country, false, 0, 0, COUNTRY,
        "C of the subject of a participant that has none registered"),
    KEY("ca", "valid-days", ACME_CONFIG_NUMBER, valid_days, false, 1, 1095, "90",
        "days that a certificate is valid"),
    KEY("ca", "within-token", ACME_CONFIG_SWITCH, within_token, false, 0, 0, "no",
        "no certificate outlives the SPC token that it stands on (RFC 9447 section 7)"),
    KEY("ca", "backdate-s", ACME_CONFIG_NUMBER, backdate_s, false, 0, 86400, "300",
        "seconds that notBefore lies back: clocks of others may lag"),
    KEY("ca", "participants-required", ACME_CONFIG_SWITCH, participants_required, false, 0, 0, "no",
        "refuse an SPC that participant set has not named"),
    KEY("ca", "account-key-in-csr", ACME_CONFIG_SWITCH, account_key_in_csr, false, 0, 0, "no",
        "certify the ACME account's own key (RFC 8555 section 11.1 forbids it)"),
    KEY("ca", "read-without-dot", ACME_CONFIG_SWITCH, read_without_dot, false, 0, 0, "no",
        "accept a POST-as-GET that is signed without the final '.' of RFC 7515 section 5.1"),
    KEY("ca", "reuse-authorizations", ACME_CONFIG_SWITCH, reuse_authorizations, false, 0, 0, "no",
        "a valid authorization serves further orders until its SPC token expires"),
    KEY("ca", "host-chains", ACME_CONFIG_SWITCH, host_chains, false, 0, 0, "no",
        "serve each chain to everybody and name its URL as x5u in the order (RFC 9448)"),
    KEY("ca", "alternate-chains", ACME_CONFIG_PATH, alternate_chains, false, 0, 0, NULL,
        "directory of *.pem: other certificates of the issuing key, each with its issuers and "
        "root"),
    KEY("ca", "terms-of-service", ACME_CONFIG_URL, terms_of_service, false, 0, 0, NULL,
        "URL of the terms that accounts agree to; a new URL wants a new agreement"),
    KEY("ca", "external-accounts", ACME_CONFIG_PATH, external_accounts, false, 0, 0,
        "external-accounts", "directory of the keys that eab add makes"),
    KEY("ca", "external-account-required", ACME_CONFIG_SWITCH, external_account_required, false, 0,
        0, "no", "a new account is bound to an external account (RFC 8555 section 7.3.4)"),
    KEY("ca", "renew-from-percent", ACME_CONFIG_NUMBER, renew_from_percent, false, 1, 98, "66",
        "of a certificate's life: when renewalInfo begins to suggest its renewal"),
    KEY("ca", "renew-until-percent", ACME_CONFIG_NUMBER, renew_until_percent, false, 2, 99, "83",
        "and when that window ends"),
    KEY("limits", "accounts-per-address", ACME_CONFIG_NUMBER, accounts_per_address, false, 0,
        1000000, "100", "new accounts an hour from one address, or IPv6 /64; 0: any number"),
    KEY("limits", "orders-per-address", ACME_CONFIG_NUMBER, orders_per_address, false, 0, 1000000,
        "3000", "new orders an hour from one address, or IPv6 /64; 0: any number"),
    KEY("limits", "orders-per-account", ACME_CONFIG_NUMBER, orders_per_account, false, 0, 1000000,
        "300", "new orders an hour of one account; 0: any number"),
    KEY("limits", "nonces-per-address", ACME_CONFIG_NUMBER, nonces_per_address, false, 0, 1000000,
        NULL,
        "nonces an hour by newNonce, or for what no account has signed; 0: any number; without it "
        "10000, and any number where orders-per-address is 0"),
    KEY("limits", "requests-per-account", ACME_CONFIG_NUMBER, requests_per_account, false, 0,
        1000000, NULL,
        "challenge answers, revocations, key changes an hour; 0: any number; without it 1000, or "
        "orders-per-account where that is more or 0"),
    KEY("limits", "renewal-info-per-address", ACME_CONFIG_NUMBER, renewal_info_per_address, false,
        0, 1000000, NULL,
        "renewalInfo an hour of one address, or IPv6 /64, by each worker; 0: any number; without "
        "it 3600, and any number where orders-per-address is 0"),
    KEY("web", "enabled", ACME_CONFIG_SWITCH, web_enabled, false, 0, 0, "no",
        "pages below BASE/web: a CSR is pasted with its SPC token; the status, for operators"),
    KEY("pa", "anchors", ACME_CONFIG_PATH, anchors, false, 0, 0, ANCHORS_FILE,
        "PEM file of the STI-PA roots"),
    KEY("pa", "authorities", ACME_CONFIG_TEXT, authorities, true, 0, 0, NULL,
        "https URLs, separated by blanks: the x5u of an SPC token lies below one of them"),
    KEY("pa", "crl-url", ACME_CONFIG_URL, crl_url, true, 0, 0, NULL,
        "URL of the STI-PA's CRL, for the certificates"),
    KEY("pa", "crl-issuer", ACME_CONFIG_PATH, crl_issuer, false, 0, 0, CRL_ISSUER_FILE,
        "PEM file whose first certificate is that of the CRL's signer"),
    KEY("pa", "tls-ca", ACME_CONFIG_PATH, tls_ca, false, 0, 0, NULL,
        "PEM file of the TLS anchors for fetching an x5u; without it the system's"),
    KEY("pa", "revocation-url", ACME_CONFIG_URL, revocation_url, false, 0, 0, NULL,
        "URL at which the STI-PA takes revocations; without it they wait"),
    KEY("pa", "user", ACME_CONFIG_TEXT, user, false, 0, 0, NULL,
        "user of this STI-CA's account at the STI-PA"),
    KEY("pa", "password-source", ACME_CONFIG_SECRET_SOURCE, password_source, false, 0, 0, NULL,
        "where its password is: file:PATH, fd:N, credential:NAME, prompt"),
    KEY("pa", "api-key-source", ACME_CONFIG_SECRET_SOURCE, api_key_source, false, 0, 0, NULL,
        "instead of these two: where an API key of that account is, likewise"),
    {.section = NULL},
};

/* revocation-url needs credentials; credentials without revocation-url are a mistake. */
static enum hsm_status
check_account(const char *path, const struct config *config)
{
    bool forwards = config->revocation_url != NULL;

    if (!forwards && config->user != NULL)
        return acme_config_refuse(path, "pa", "user", "without revocation-url");
    if (!forwards && config->password_source != NULL)
        return acme_config_refuse(path, "pa", "password-source", "without revocation-url");
    if (!forwards && config->api_key_source != NULL)
        return acme_config_refuse(path, "pa", "api-key-source", "without revocation-url");
    if (config->api_key_source != NULL && (config->user != NULL || config->password_source != NULL))
        return acme_config_refuse(path, "pa", "api-key-source", "beside user or password-source");
    if (forwards && config->api_key_source == NULL &&
        (config->user == NULL || config->password_source == NULL))
        return acme_config_refuse(path, "pa", "revocation-url",
                                  "without user and password-source, or api-key-source");
    return HSM_OK;
}

static bool
is_oid(const char *text)
{
    ASN1_OBJECT *oid = OBJ_txt2obj(text, 1);

    ASN1_OBJECT_free(oid);
    return oid != NULL;
}

static bool
are_https_urls(const char *text)
{
    for (text += strspn(text, " \t"); *text != '\0'; text += strspn(text, " \t")) {
        size_t len = strcspn(text, " \t");

        if (len <= strlen("https://") || strncmp(text, "https://", strlen("https://")) != 0)
            return false;
        text += len;
    }
    return true;
}

/* Faults that would otherwise show when the first certificate is issued. */
static enum hsm_status
check_issuing(const char *path, const struct config *config)
{
    const char *country = config->country;

    if (!acme_server_base_url_is_valid(config->daemon.base_url))
        return acme_config_refuse(path, "server", "base-url",
                                  "not https://HOST or https://HOST:PORT");
    if (!is_oid(config->policy))
        return acme_config_refuse(path, "ca", "policy", "not an OID in digits and dots");
    if (strlen(country) != 2 || strspn(country, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != 2)
        return acme_config_refuse(path, "ca", "country", "not two capital letters");
    if (config->renew_from_percent >= config->renew_until_percent)
        return acme_config_refuse(path, "ca", "renew-until-percent",
                                  "not more than renew-from-percent");
    if (!are_https_urls(config->authorities))
        return acme_config_refuse(path, "pa", "authorities", "not https URLs");
    return HSM_OK;
}

void
ca_config_clear(void *config)
{
    acme_config_clear(config_keys, config);
}

/* An operator who lifts a limit on orders does not meet a default limit on what an order needs. */
static void
default_limits(struct config *config)
{
    long orders = config->orders_per_account;

    if (config->nonces_per_address == NOT_GIVEN)
        config->nonces_per_address = config->orders_per_address == 0 ? 0 : NONCES_PER_ADDRESS;
    if (config->renewal_info_per_address == NOT_GIVEN)
        config->renewal_info_per_address =
            config->orders_per_address == 0 ? 0 : RENEWAL_INFO_PER_ADDRESS;
    if (config->requests_per_account == NOT_GIVEN)
        config->requests_per_account =
            orders == 0 || orders > REQUESTS_PER_ACCOUNT ? orders : REQUESTS_PER_ACCOUNT;
}

static enum hsm_status
config_read(const char *path, void *config)
{
    struct config *read = config;
    enum hsm_status st;

    read->nonces_per_address = read->requests_per_account = NOT_GIVEN;
    read->renewal_info_per_address = NOT_GIVEN;
    st = acme_config_read(path, config_keys, config);
    if (st != HSM_OK)
        return st;
    default_limits(read);
    st = acme_daemon_check(path, &read->daemon);
    if (st == HSM_OK)
        st = check_issuing(path, read);
    if (st == HSM_OK)
        st = check_account(path, read);
    if (st != HSM_OK)
        ca_config_clear(config);
    return st;
}

/* ---- command line ---- */

static const struct option_row option_rows[] = {
    COMMON_OPTIONS,
    {"dir", "DIR", AT(dir), "where all is made that is no key"},
    {"token", "URI", AT(token), "the token of the keys, such as pkcs11:token=sti-ca"},
    TOKEN_OPTIONS,
    {"spc", "SPC", AT(spc), "service provider code of the participant"},
    {"organization", "NAME", AT(organization), "O of subjects: the legal name"},
    {"country", "CC", AT(country),
     "C of subjects, two capitals (default " COUNTRY "; of a participant [ca] country)"},
    LISTEN_OPTIONS,
    {"pa-anchor", "PEM", AT(pa_anchor), "the root of the STI-PA"},
    {"authority", "URL", LIST(authorities),
     "URL below which the certificates of the STI-PA's token signers\n"
     "                          are; may be repeated"},
    {"crl-url", "URL", AT(crl_url), "where the STI-PA's CRL is published"},
    {"crl-issuer-cert", "PEM", AT(crl_issuer_cert), "the certificate that signs that CRL"},
    {"tls-ca", "PEM", AT(tls_ca), "with what the STI-PA's TLS certificate is trusted"},
    {"issuing-chain", "PEM", AT(issuing_chain),
     "what an offline root signed for the key " ISSUING_LABEL " of the token:\n"
     "                          the issuing certificate, then its issuers"},
    {"revocation-url", "URL", AT(revocation_url),
     "where revocations are forwarded to the STI-PA; with --pa-user and\n"
     "                          --pa-password-source, or with --pa-api-key-source"},
    {"pa-user", "USER", AT(pa_user), "user of the account that the STI-PA made for this STI-CA"},
    {"pa-password-source", "SOURCE", AT(pa_password_source), "where its password is"},
    {"pa-api-key-source", "SOURCE", AT(pa_api_key_source),
     "instead of these two: where an API key of that account is"},
    {"id", "ID", AT(id), "of the account, or of the key for an external account"},
    {"serial", "HEX", AT(serial), "serial number of the certificate"},
    {"reason", "N", AT(reason), "0 to 6 (RFC 5280 section 5.3.1; default 0)"},
    {"since", "TIME", AT(since), "RFC 3339: when the backup was made, or some minutes before"},
    {"user", "USER", AT(user), "the operator"},
    PASSWORD_OPTION,
    {.name = NULL},
};

static void
print_more(void)
{
    print_keys(config_keys);
}

/* ---- serve ---- */

/* The server and what it borrows. */
struct ca {
    struct acme_daemon *daemon;
    struct acme_store *store;
    struct acme_http_client *http;
    struct hsm_key *issuing_key;
    struct certs_chain *issuing_chain, *pa_anchors, *crl_issuer;
    char *authorities; /* a copy of the configured text; each blank behind a URL is now a NUL */
    const char *authority[AUTHORITIES_MAX + 1];
    struct hsm_secret *password, *api_key; /* of the account at the STI-PA; at most one is set */
    struct chains alternates;
    struct acme_server *server;
};

static void
ca_close(struct ca *ca)
{
    acme_server_free(ca->server);
    chains_clear(&ca->alternates);
    hsm_secret_free(ca->password);
    hsm_secret_free(ca->api_key);
    free(ca->authorities);
    certs_chain_free(ca->crl_issuer);
    certs_chain_free(ca->pa_anchors);
    certs_chain_free(ca->issuing_chain);
    hsm_key_free(ca->issuing_key);
    acme_http_client_free(ca->http);
    acme_store_close(ca->store);
    acme_daemon_close(ca->daemon);
}

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

static enum hsm_status
open_account(const struct config *config, struct ca *ca)
{
    if (config->revocation_url == NULL) {
        hsm_log(HSM_LOG_WARNING, "no [pa] revocation-url: the STI-PA is not told of revocations");
        return HSM_OK;
    }
    if (config->api_key_source != NULL)
        return hsm_secret_from(config->api_key_source,
                               "API key of the account at the STI-PA: ", &ca->api_key);
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
        st = acme_daemon_chain_read(config->chain, &ca->issuing_chain);
    if (st == HSM_OK)
        st = certs_chain_read(config->anchors, &ca->pa_anchors);
    if (st == HSM_OK)
        st = certs_chain_read(config->crl_issuer, &ca->crl_issuer);
    if (st == HSM_OK && config->alternate_chains != NULL)
        st = chains_read(config->alternate_chains, &ca->alternates);
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
ca_open(const struct config *config, bool only_checked, struct ca *ca)
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
            .crl_signer = ca->crl_issuer,
            .country = config->country,
            .valid_days = (unsigned)config->valid_days,
            .within_token = config->within_token,
            .backdate_s = (unsigned)config->backdate_s,
            .participants_required = config->participants_required,
            .account_key_in_csr = config->account_key_in_csr,
            .read_without_dot = config->read_without_dot,
            .authorizations_reused = config->reuse_authorizations,
            .chains_hosted = config->host_chains,
            .alternate_chains = ca->alternates.chain,
            .terms_of_service = config->terms_of_service,
            .external_accounts = config->external_accounts,
            .external_account_required = config->external_account_required,
            .accounts_per_address = (unsigned)config->accounts_per_address,
            .orders_per_address = (unsigned)config->orders_per_address,
            .orders_per_account = (unsigned)config->orders_per_account,
            .nonces_per_address = (unsigned)config->nonces_per_address,
            .requests_per_account = (unsigned)config->requests_per_account,
            .renewal_info_per_address = (unsigned)config->renewal_info_per_address,
            .renew_from_percent = (unsigned)config->renew_from_percent,
            .renew_until_percent = (unsigned)config->renew_until_percent,
            .web_enabled = config->web_enabled,
            .metrics = config->daemon.shared.metrics,
            .only_checked = only_checked,
            /* the store of a database server may serve instances that cannot be seen from here */
            .others_serve = acme_store_is_uri(config->store) ||
                            (config->daemon.shared.worker != NULL &&
                             !hsm_worker_is_alone(config->daemon.shared.worker)),
            .revocation_url = config->revocation_url,
            .revocation_user = config->user,
            .revocation_password = ca->password,
            .revocation_api_key = ca->api_key,
        },
        &ca->server);
}

static void
tick(void *server)
{
    acme_server_tick(server);
}

static void
not_ready(void *server, json_t *reasons)
{
    acme_server_not_ready(server, reasons);
}

/* Open everything; unless *context, a bool, is true (--check), serve in this worker process. */
static enum hsm_status
run(const void *config, void *context)
{
    CLEAR_AFTER(ca_close) struct ca ca = {.daemon = NULL};
    const bool *only_checked = context;
    enum hsm_status st = ca_open(config, *only_checked, &ca);

    if (st != HSM_OK || *only_checked)
        return st;
    st = acme_server_tell_start(ca.server);
    if (st != HSM_OK)
        return st;
    return acme_daemon_serve(
        ca.daemon, &(struct acme_daemon_service){.handler = acme_server_handler(ca.server),
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
        .clear = ca_config_clear,
        .run = run,
    };
    CLEAR_AFTER(ca_config_clear) struct config config = {.store = NULL};

    return serve(&daemon, arguments->config, arguments->check, &config);
}

/* ---- the store ---- */

enum hsm_status
open_store(const struct arguments *arguments, struct config *config, struct acme_store **out)
{
    CLEAR_AFTER(ca_config_clear) struct config own = {.store = NULL};
    struct config *read = config != NULL ? config : &own;
    enum hsm_status st = acme_config_read(arguments->config, config_keys, read);

    return st == HSM_OK ? acme_store_open(read->store, acme_server_migrations, out) : st;
}

static enum hsm_status
run_events(const struct arguments *arguments)
{
    DEFER(acme_store_close) struct acme_store *store = NULL;
    long long count;
    enum hsm_status st = events_count(arguments->last, &count);

    if (st == HSM_OK)
        st = open_store(arguments, NULL, &store);
    return st == HSM_OK ? acme_events_show(store, count, arguments->json, stdout) : st;
}

/* ---- commands ---- */

static const char init_more[] =
    "Makes what is missing: keys in the token, certificates and " CONFIG_FILE " in DIR. From the\n"
    "STI-PA come its root, the URLs below which the certificates of its token signers are, the\n"
    "URL of its CRL and the certificate that signs it. The files are copied to DIR. Revocations\n"
    "are forwarded to the STI-PA with the account that it made for this STI-CA. Without\n"
    "--issuing-chain a root's key is made in this token, too. Run again, it issues anew what its\n"
    "own root signed and is in the last third of its life.\n";

static const char eab_more[] =
    "RFC 8555 section 7.3.4: each key is for one new account. add writes the file ID, readable\n"
    "by this user only, into [ca] external-accounts: hand its text (base64url, for HS256) and ID\n"
    "to whom the account is for. It is removed when the account is made; remove takes it away\n"
    "before.\n";

static const char web_user_more[] =
    "Operators may see the status page, BASE/web/status, where [web] enabled is yes. A password\n"
    "has 12 octets or more; a scrypt hash of it is stored.\n";

static const struct command commands[] = {
    {"init",
     "dir! token! module pin-source organization! country address! base-url! pa-anchor! authority!"
     " crl-url! crl-issuer-cert! tls-ca issuing-chain revocation-url pa-user pa-password-source"
     " pa-api-key-source",
     NULL, "make what is missing: keys, certificates and the configuration", init_more, run_init},
    {"serve", "config! check", NULL, "serve until SIGTERM",
     "--check opens everything, compares keys and certificates, and ends.\n", run_serve},
    {"participant set", "config! spc! organization! country", NULL,
     "the validated name of the holder of an SPC, for its next certificates", NULL,
     run_participant_set},
    {"participant list", "config!", NULL, "the validated names of holders of SPCs", NULL,
     run_participant_list},
    {"participant remove", "config! spc!", NULL, "forget the name of the holder of an SPC",
     "Open orders for the SPC become invalid. Certificates stay good.\n", run_participant_remove},
    {"account list", "config!", NULL, "the ACME accounts", NULL, run_account_list},
    {"account revoke", "config! id!", NULL, "end an ACME account",
     "Its open orders become invalid. Its certificates stay good.\n", run_account_revoke},
    {"revoke", "config! serial! reason", NULL, "revoke a certificate",
     "The daemon forwards it to the STI-PA.\n", run_revoke},
    {"revocation resend", "config! since!", NULL,
     "have what the STI-PA accepted forwarded again: it was restored from a backup",
     "Revocations of certificates that have not ended; tells how many.\n", run_revocation_resend},
    {"eab add", "config! id!", NULL, "make a key for external account binding", eab_more,
     run_eab_add},
    {"eab list", "config!", NULL,
     "the keys for external account binding, and the accounts made with one", eab_more,
     run_eab_list},
    {"eab remove", "config! id!", NULL, "take away a key for external account binding", eab_more,
     run_eab_remove},
    {"events", "config! last json", NULL, "who did what, and when", NULL, run_events},
    {"web user add", "config! user! password-source!", NULL, "let an operator see the status page",
     web_user_more, run_web_user_add},
    {"web user list", "config!", NULL, "the operators who may see the status page", web_user_more,
     run_web_user_list},
    {"web user remove", "config! user!", NULL, "let an operator see the status page no more",
     web_user_more, run_web_user_remove},
};

static const struct option_table table = {
    .program = PROGRAM,
    .purpose = "The STI-CA of ATIS-1000080: SHAKEN certificates over ACME, signed in the token.",
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
