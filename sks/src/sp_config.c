/* sp_config.c - the configuration of a service provider. */
#define _GNU_SOURCE /* asprintf */
#include <sks/sp_config.h>

#include <ctype.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <acme/authority.h>
#include <acme/config.h>
#include <acme/daemon.h>
#include <certs/path.h>
#include <hsm/log.h>

#include "sp_providers_internal.h"

#define KEY(kind, member, section, name, required, min, max, fallback, help)                       \
    {                                                                                              \
        section, name, kind, offsetof(struct sks_sp_config, member), required, min, max, fallback, \
            help                                                                                   \
    }
#define TEXT(member, section, name, fallback, help)                                                \
    KEY(ACME_CONFIG_TEXT, member, section, name, false, 0, 0, fallback, help)
#define FILE_PATH(member, section, name, fallback, help)                                           \
    KEY(ACME_CONFIG_PATH, member, section, name, false, 0, 0, fallback, help)
#define URL(member, section, name, required, help)                                                 \
    KEY(ACME_CONFIG_URL, member, section, name, required, 0, 0, NULL, help)
#define PKCS11(member, section, name, required, fallback, help)                                    \
    KEY(ACME_CONFIG_PKCS11, member, section, name, required, 0, 0, fallback, help)
#define SECRET(member, section, name, help)                                                        \
    KEY(ACME_CONFIG_SECRET_SOURCE, member, section, name, false, 0, 0, NULL, help)
#define NUMBER(member, section, name, min, max, fallback, help)                                    \
    KEY(ACME_CONFIG_NUMBER, member, section, name, false, min, max, fallback, help)

/* A further token, which has its own keys, certificates and ACME account. */
#define TOKEN_KEYS(i, section)                                                                     \
    PKCS11(more_tokens[i].uri, section, "uri", false, NULL, "as in [token]"),                      \
        TEXT(more_tokens[i].module, section, "module", NULL, "as in [token]"),                     \
        SECRET(more_tokens[i].pin_source, section, "pin-source", "as in [token]")

#define CA_KEYS(i, section, tkauth, print, text, chains)                                           \
    TEXT(cas[i].name, section, "name", NULL,                                                       \
         "organization of its root; refused unless the STI-PA's list has it (sti-kms ca list)"),   \
        URL(cas[i].directory, section, "directory", false,                                         \
            "ACME directory URL of the STI-CA (sti-kms)"),                                         \
        TEXT(cas[i].contact, section, "contact", NULL,                                             \
             "mailto: URL for the ACME account (sti-kms)"),                                        \
        TEXT(cas[i].tkauth_member, section, "tkauth-member", tkauth,                               \
             "member that answers the challenge: tkauth (RFC 9448) or atc (deployed CAs)"),        \
        TEXT(cas[i].fingerprint, section, "fingerprint", print,                                    \
             "fingerprint in SPC tokens: thumbprint (RFC 9448) or spki (deployed)"),               \
        TEXT(cas[i].identifier, section, "identifier", text,                                       \
             "text of the TNAuthList: base64url (RFC 9448) or base64 (deployed CAs)"),             \
        TEXT(cas[i].x5u, section, "x5u", chains,                                                   \
             "where verifiers fetch its chains: own ([cr]), or ca, which names it in its orders"), \
        TEXT(cas[i].eab_kid, section, "eab-kid", NULL,                                             \
             "key id of an external account binding, from the CA"),                                \
        SECRET(cas[i].eab_key_source, section, "eab-key-source",                                   \
               "where its MAC key is, in base64url as the CA gave it")

static const struct acme_config_key keys[] = {
    PKCS11(common.token_uri, "token", "uri", true, NULL, "PKCS#11 URI of the token (RFC 7512)"),
    TEXT(common.module, "token", "module", NULL,
         "path of the PKCS#11 module; without it the URI's module-path"),
    SECRET(common.pin_source, "token", "pin-source",
           "where the PIN is: file:PATH, fd:N, credential:NAME, prompt"),
    ACME_TOKEN_KEYS(struct sks_sp_config, common.token),
    TOKEN_KEYS(0, "token-2"),
    TOKEN_KEYS(1, "token-3"),
    TOKEN_KEYS(2, "token-4"),
    TEXT(spc, "sp", "spc", NULL,
         "service provider code that calls are signed for; may be left out with providers"),
    FILE_PATH(providers_file, "sp", "providers", NULL,
              "file of service providers that are hosted here, each with an SPC of its own"),
    URL(pa_url, "pa", "url", true, "base URL of the STI-PA"),
    {"pa", "anchors", ACME_CONFIG_PATH, offsetof(struct sks_sp_config, pa_anchors), true, 0, 0,
     NULL, "PEM file of STI-PA roots"},
    TEXT(pa_account, "pa", "account", NULL, "account id at the STI-PA (sti-kms)"),
    TEXT(pa_user, "pa", "user", NULL, "user of that account (sti-kms)"),
    SECRET(pa_password_source, "pa", "password-source", "where its password is (sti-kms)"),
    SECRET(pa_api_key_source, "pa", "api-key-source",
           "instead of these two: where an API key of that account is (sti-kms)"),
    URL(ca_list_url, "pa", "ca-list-url", false,
        "the trusted-CA list; without it URL/api/v1/ca-list"),
    URL(crl_url, "pa", "crl-url", false, "the CRL; without it URL/download/v1/crl"),
    CA_KEYS(0, "ca", "tkauth", "thumbprint", "base64url", "own"),
    {"ca", "poll-limit", ACME_CONFIG_NUMBER, offsetof(struct sks_sp_config, poll_limit_s), false, 1,
     3600, "120", "seconds to wait for authorization and issuance"},
    CA_KEYS(1, "ca-2", NULL, NULL, NULL, NULL),
    CA_KEYS(2, "ca-3", NULL, NULL, NULL, NULL),
    CA_KEYS(3, "ca-4", NULL, NULL, NULL, NULL),
    NUMBER(look_every_s, "kms", "look-every", 1, 3600, "60",
           "seconds between looks at what is to be renewed (sti-kms run)"),
    NUMBER(renew_percent, "kms", "renew-at", 5, 90, "67",
           "percent of a certificate's life after which it is renewed, unless the CA says when"),
    {"kms", "renewal-info", ACME_CONFIG_SWITCH, offsetof(struct sks_sp_config, asks_renewal_info),
     false, 0, 0, "yes", "ask the CA when it wants a certificate renewed (RFC 9773)"},
    NUMBER(retry_first_s, "kms", "retry-first", 1, 3600, "30",
           "seconds until something that failed is tried again; doubled each time"),
    NUMBER(retry_longest_s, "kms", "retry-longest", 1, 86400, "3600", "and no longer than this"),
    /* Verifiers keep a chain for a day, a PASSporT is fresh for a minute. */
    NUMBER(retiring_s, "kms", "retiring-time", 1, 31536000, "86460",
           "seconds that a credential keeps its key ready after it signs no more"),
    NUMBER(retired_s, "kms", "destroy-after", 1, 315360000, "604800",
           "seconds after that until its key is destroyed"),
    NUMBER(destroyed_s, "kms", "forget-after", 1, 315360000, "34560000",
           "seconds after that until it is in the catalogue no more, nor its chain in [cr] dir"),
    {"kms", "destroy-keys", ACME_CONFIG_SWITCH, offsetof(struct sks_sp_config, destroys_keys),
     false, 0, 0, "yes", "destroy keys that are no longer needed"},
    TEXT(notify_command, "kms", "notify-command", NULL,
         "program and arguments to run when a credential signs: {spc} {id} {url} {key}"),
    TEXT(kms_metrics_address, "kms", "metrics-address", NULL,
         "127.0.0.1:PORT or [::1]:PORT of /metrics, /readyz and /healthz of sti-kms run"),
    FILE_PATH(tls_ca, "tls", "ca", NULL,
              "PEM file of anchors of STI-PA, STI-CA and upload-url; without it the system's"),
    PKCS11(tls_key, "tls", "key", false, "pkcs11:object=" ACME_PROVISION_TLS_SERVER_LABEL,
           "URI of the TLS key in the token"),
    FILE_PATH(tls_chain, "tls", "chain", ACME_PROVISION_TLS_CHAIN_FILE,
              "PEM file of the TLS certificate and issuers"),
    TEXT(api_address, "api", "address", NULL, "ADDRESS:PORT of the signing and verification API"),
    FILE_PATH(api_socket, "api", "socket", NULL, "Unix socket of the same, for local callers"),
    SECRET(bearer_source, "api", "bearer-source", "where the bearer token of callers is"),
    FILE_PATH(client_anchors, "api", "client-anchors", NULL,
              "PEM file of anchors of callers' TLS certificates"),
    TEXT(socket_mode, "api", "socket-mode", "0600",
         "who may reach that socket; more than its owner only with callers"),
    FILE_PATH(callers, "api", "callers", NULL,
              "file of callers and customers; without it any caller may have anything signed"),
    FILE_PATH(trail, "api", "trail", NULL,
              "file to which each signature, and each refusal, is recorded"),
    {"api", "threads", ACME_CONFIG_NUMBER, offsetof(struct sks_sp_config, threads), false, 1, 64,
     NULL, "threads that answer requests; without it as many as the tokens have sessions, 4 to 64"},
    {"api", "workers", ACME_CONFIG_NUMBER, offsetof(struct sks_sp_config, common.workers), false, 1,
     64, "1", "processes that serve API and STI-CR, each with its own threads"},
    TEXT(cr_address, "cr", "address", NULL,
         "ADDRESS:PORT of the STI-CR; without it none is served"),
    URL(cr_base_url, "cr", "base-url", true, "https URL under which others reach the STI-CR"),
    FILE_PATH(cr_dir, "cr", "dir", "cr", "directory of the certificate chains"),
    URL(upload_url, "cr", "upload-url", false,
        "https URL below which new chains are put (HTTP PUT) at an STI-CR of somebody else"),
    SECRET(upload_bearer_source, "cr", "upload-bearer-source", "where its bearer token is"),
    TEXT(upload_command, "cr", "upload-command", NULL,
         "program and arguments that bring a chain there: {file} {name} {url}"),
    NUMBER(command_timeout_s, "cr", "command-timeout", 1, 3600, "60",
           "seconds for an upload, and for any of these programs"),
    SKS_DIAL_PLAN_KEYS(struct sks_sp_config, dial_plan_keys, "numbers"),
    TEXT(ports, "verification", "ports", NULL,
         "ports of x5u URLs besides 443 and 8443, separated by blanks"),
    {"verification", "private-addresses", ACME_CONFIG_SWITCH,
     offsetof(struct sks_sp_config, private_addresses), false, 0, 0, "no",
     "fetch x5u from loopback and private addresses too: yes in labs only"},
    FILE_PATH(x5u_tls_ca, "verification", "tls-ca", NULL,
              "PEM file of anchors of STI-CRs besides the system's"),
    FILE_PATH(preload, "verification", "preload", NULL,
              "file of x5u URLs, one a line, that are fetched before anybody asks"),
    {"verification", "crl-refresh", ACME_CONFIG_NUMBER, offsetof(struct sks_sp_config, crl_every_s),
     false, 1, 86400, "300",
     "seconds between looks at the CRL: how long a revocation takes to be heard of"},
    {"verification", "list-refresh", ACME_CONFIG_NUMBER,
     offsetof(struct sks_sp_config, list_every_s), false, 1, 86400, "3600",
     "the same of the trusted-CA list"},
    NUMBER(cache_chains, "verification", "cache-chains", 16, 30000, "10000",
           "chains that are kept, in each worker; the one not used for longest goes first"),
    NUMBER(cache_octets, "verification", "cache-octets", 65536, 1073741824, "33554432",
           "the same in octets of their PEM: in memory they take ten times as much"),
    NUMBER(cache_unused_s, "verification", "cache-unused", 1, 604800, "21600",
           "seconds after which a chain that no call has named goes, and the verdict on it"),
    TEXT(ca_keys, "verification", "ca-keys", "p384 p521 rsa",
         "keys of CA certificates that are accepted besides P-256; p256: no others"),
    FILE_PATH(intermediates, "verification", "intermediates", NULL,
              "PEM file of CA certificates that repositories leave out"),
    {"verification", "numbers-under-spc", ACME_CONFIG_SWITCH,
     offsetof(struct sks_sp_config, numbers_under_spc), false, 0, 0, "no",
     "take it from a delegate's issuer that its numbers belong to the issuer's SPC"},
    {"verification", "any-tnauthlist", ACME_CONFIG_SWITCH,
     offsetof(struct sks_sp_config, any_tnauthlist), false, 0, 0, "no",
     "accept certificates whose TNAuthList cannot be read, as one in a hundred is"},
    {"verification", "any-crl", ACME_CONFIG_SWITCH, offsetof(struct sks_sp_config, any_crl), false,
     0, 0, "no", "ask the STI-PA's CRL also about certificates that name another CRL"},
    FILE_PATH(catalogue, "store", "path", "catalogue.db", "the catalogue of credentials"),
    FILE_PATH(trust_dir, "store", "trust-dir", "trust",
              "where trusted-CA list, CRL and chains of others are kept"),
    ACME_JOURNAL_KEYS(struct sks_sp_config, common.journal),
    TEXT(common.metrics_address, "metrics", "address", NULL, ACME_DAEMON_METRICS_HELP),
    TEXT(common.log_format, "log", "format", "text", "text or json"),
    TEXT(common.log_level, "log", "level", "info", "error, warning, info or debug"),
    {"log", "requests", ACME_CONFIG_SWITCH, offsetof(struct sks_sp_config, common.log_requests),
     false, 0, 0, "yes", ACME_DAEMON_REQUESTS_HELP},
    {.section = NULL},
};

/* Read a text that must be one of two words; *out receives true for `one`. */
static enum hsm_status
choose(const char *path, const char *section, const char *name, const char *text, const char *zero,
       const char *one, bool *out)
{
    char what[64];

    *out = strcmp(text, one) == 0;
    if (*out || strcmp(text, zero) == 0)
        return HSM_OK;
    snprintf(what, sizeof(what), "neither %s nor %s", zero, one);
    return acme_config_refuse(path, section, name, what);
}

static enum hsm_status
parse_ports(const char *path, const char *text, unsigned out[SKS_SP_PORTS_MAX + 1])
{
    size_t count = 0;
    char what[32];

    for (const char *at = text; *at != '\0'; at += strspn(at, " ")) {
        char *end;
        unsigned long port = strtoul(at, &end, 10);

        if (!isdigit((unsigned char)*at) || (*end != ' ' && *end != '\0') || port < 1 ||
            port > 65535 || count == SKS_SP_PORTS_MAX) {
            snprintf(what, sizeof(what), "not at most %d ports", SKS_SP_PORTS_MAX);
            return acme_config_refuse(path, "verification", "ports", what);
        }
        out[count++] = (unsigned)port;
        at = end;
    }
    out[count] = 0;
    return HSM_OK;
}

static enum hsm_status
parse_ca_keys(const char *path, const char *text, unsigned *out)
{
    static const struct {
        const char *word;
        unsigned kind;
    } kinds[] = {
        {"p256", 0}, {"p384", CERTS_CA_P384}, {"p521", CERTS_CA_P521}, {"rsa", CERTS_CA_RSA}};
    unsigned found = 0;

    for (const char *at = text; *at != '\0'; at += strspn(at, " ")) {
        size_t len = strcspn(at, " ");
        size_t i = 0;

        while (i < sizeof(kinds) / sizeof(kinds[0]) &&
               (strlen(kinds[i].word) != len || strncmp(kinds[i].word, at, len) != 0))
            i++;
        if (i == sizeof(kinds) / sizeof(kinds[0])) {
            return acme_config_refuse(path, "verification", "ca-keys",
                                      "not of p256, p384, p521, rsa");
        }
        found |= kinds[i].kind;
        at += len;
    }
    *out = found;
    return HSM_OK;
}

/* Interpret the texts of one STI-CA; one that is not given means the default of [ca]. */
static enum hsm_status
interpret_ca(const char *path, const char *section, struct sks_sp_ca *ca)
{
    bool atc = false, spki = false, padded = false;
    enum hsm_status st = HSM_OK;

    if (ca->tkauth_member != NULL)
        st = choose(path, section, "tkauth-member", ca->tkauth_member, "tkauth", "atc", &atc);
    if (st == HSM_OK && ca->fingerprint != NULL)
        st = choose(path, section, "fingerprint", ca->fingerprint, "thumbprint", "spki", &spki);
    if (st == HSM_OK && ca->identifier != NULL)
        st = choose(path, section, "identifier", ca->identifier, "base64url", "base64", &padded);
    if (st == HSM_OK && ca->x5u != NULL)
        st = choose(path, section, "x5u", ca->x5u, "own", "ca", &ca->hosts_chains);
    if (st != HSM_OK)
        return st;
    ca->member = atc ? ACME_ATC : ACME_TKAUTH;
    ca->fingerprint_form = spki ? ACME_FINGERPRINT_SPKI : ACME_FINGERPRINT_THUMBPRINT;
    ca->tnauthlist_text = padded ? ACME_TNAUTHLIST_BASE64 : ACME_TNAUTHLIST_BASE64URL;
    if ((ca->eab_kid == NULL) == (ca->eab_key_source == NULL))
        return HSM_OK;
    return acme_config_refuse(path, section, ca->eab_kid != NULL ? "eab-kid" : "eab-key-source",
                              "eab-kid and eab-key-source: both or neither");
}

/* With a file of callers, the uid at the socket identifies the caller; without one, only the
 * socket's permissions protect it. */
static enum hsm_status
interpret_callers(const char *path, struct sks_sp_config *config)
{
    char *end;

    config->socket_permissions = (unsigned)strtoul(config->socket_mode, &end, 8);
    if (*end != '\0' || strspn(config->socket_mode, "01234567") != strlen(config->socket_mode) ||
        (config->socket_permissions & ~0666U) != 0 || (config->socket_permissions & 0600U) != 0600U)
        return acme_config_refuse(path, "api", "socket-mode", "not 0600, 0660 or 0666");
    if (config->callers == NULL && config->socket_permissions != 0600)
        return acme_config_refuse(path, "api", "socket-mode",
                                  "other users only with [api] callers");
    if (config->callers != NULL && config->bearer_source != NULL)
        return acme_config_refuse(path, "api", "bearer-source",
                                  "with [api] callers tokens are in that file");
    return HSM_OK;
}

static enum hsm_status
check_addresses(const char *path, const struct sks_sp_config *config)
{
    if (config->api_address != NULL && !acme_http_address_is_valid(config->api_address))
        return acme_config_refuse(path, "api", "address", "not ADDRESS:PORT");
    if (config->cr_address != NULL && !acme_http_address_is_valid(config->cr_address))
        return acme_config_refuse(path, "cr", "address", "not ADDRESS:PORT");
    if (config->kms_metrics_address != NULL &&
        !acme_http_address_is_loopback(config->kms_metrics_address))
        return acme_config_refuse(path, "kms", "metrics-address", "not ADDRESS:PORT of loopback");
    return HSM_OK;
}

static enum hsm_status
interpret_dial_plan(const char *path, struct sks_sp_config *config)
{
    struct sks_refusal refusal = {.member = NULL};

    if (sks_dial_plan_read(&config->dial_plan_keys, &config->dial_plan, &refusal) == HSM_OK)
        return HSM_OK;
    return acme_config_refuse(path, "numbers", refusal.member, refusal.why.text);
}

static enum hsm_status
interpret(const char *path, struct sks_sp_config *config)
{
    static const char *const sections[SKS_SP_CAS_MAX] = {"ca", "ca-2", "ca-3", "ca-4"};
    enum hsm_status st = acme_daemon_check(path, &config->common);

    if (st == HSM_OK)
        st = check_addresses(path, config);
    for (size_t i = 0; st == HSM_OK && i < SKS_SP_CAS_MAX; i++)
        st = interpret_ca(path, sections[i], &config->cas[i]);
    if (st == HSM_OK && config->ports != NULL)
        st = parse_ports(path, config->ports, config->port_list);
    if (st == HSM_OK)
        st = interpret_dial_plan(path, config);
    if (st == HSM_OK)
        st = parse_ca_keys(path, config->ca_keys, &config->ca_key_kinds);
    if (st == HSM_OK)
        st = interpret_callers(path, config);
    return st == HSM_OK ? sks_sp_providers_read(path, config) : st;
}

/* Derive the URLs that are not given from the STI-PA's. */
static enum hsm_status
complete(struct sks_sp_config *config)
{
    size_t len = strlen(config->pa_url);

    if (len > 0 && config->pa_url[len - 1] == '/')
        config->pa_url[len - 1] = '\0';
    if (config->ca_list_url == NULL &&
        asprintf(&config->ca_list_url, "%s/api/v1/ca-list", config->pa_url) < 0) {
        config->ca_list_url = NULL;
        return HSM_ERR_NOMEM;
    }
    if (config->crl_url == NULL)
        config->crl_url = acme_authority_crl_url(config->pa_url);
    return config->crl_url == NULL ? HSM_ERR_NOMEM : HSM_OK;
}

enum hsm_status
sks_sp_config_read(const char *path, struct sks_sp_config *out)
{
    struct sks_sp_config config = {.spc = NULL};
    enum hsm_status st = acme_config_read(path, keys, &config);

    if (st == HSM_OK)
        st = interpret(path, &config);
    if (st == HSM_OK)
        st = complete(&config);
    if (st == HSM_OK)
        *out = config;
    else
        sks_sp_config_clear(&config);
    return st;
}

enum hsm_status
sks_sp_config_open(const char *program, const char *path, struct sks_sp_config *out)
{
    enum hsm_status st = sks_sp_config_read(path, out);

    return st == HSM_OK ? acme_daemon_log(program, &out->common) : st;
}

void
sks_sp_config_clear(struct sks_sp_config *config)
{
    acme_config_clear(keys, config);
    sks_sp_providers_clear(config);
}

static const char *
plural(const char *section, const char *name)
{
    if (*name != '\0')
        return "; any number of them";
    if (strcmp(section, "token") == 0)
        return "; further tokens: [token-2] to [token-4], with uri, module and "
               "pin-source; the rest is as in [token]";
    return strcmp(section, "ca") == 0 ? "; further STI-CAs: [ca-2] to [ca-4]" : "";
}

/* Print the keys of a table, except those of numbered sections, which are as in the first. */
static void
print_keys(FILE *to, const struct acme_config_key *key, const char *name)
{
    const char *section = "";

    for (; key->section != NULL; key++) {
        if (isdigit((unsigned char)key->section[strlen(key->section) - 1]))
            continue;
        if (strcmp(section, key->section) != 0)
            fprintf(to, "  [%s%s]%s\n", key->section, name, plural(key->section, name));
        section = key->section;
        fprintf(to, "    %-23s %s%s%s%s\n", key->name, key->help,
                key->fallback != NULL ? " (default: " : "",
                key->fallback != NULL ? key->fallback : "", key->fallback != NULL ? ")" : "");
    }
}

void
sks_sp_config_help(FILE *to)
{
    print_keys(to, keys, "");
    fprintf(to, "Keys of the file that [sp] providers names:\n");
    for (const struct acme_config_kind *kind = sks_sp_provider_kinds; kind->name != NULL; kind++)
        print_keys(to, kind->keys, " NAME");
}

static size_t
section_token_count(const struct sks_sp_config *config)
{
    size_t count = 1;

    while (count < SKS_SP_TOKENS_MAX && config->more_tokens[count - 1].uri != NULL)
        count++;
    return count;
}

size_t
sks_sp_token_count(const struct sks_sp_config *config)
{
    return section_token_count(config) + config->named_token_count;
}

struct sks_sp_token
sks_sp_token(const struct sks_sp_config *config, size_t i)
{
    size_t sections = section_token_count(config);

    if (i >= sections)
        return config->named_tokens[i - sections];
    if (i > 0)
        return config->more_tokens[i - 1];
    return (struct sks_sp_token){.uri = config->common.token_uri,
                                 .module = config->common.module,
                                 .pin_source = config->common.pin_source};
}

size_t
sks_sp_ca_count(const struct sks_sp_config *config)
{
    size_t count = 0;

    while (count < SKS_SP_CAS_MAX && config->cas[count].directory != NULL)
        count++;
    return count;
}

enum hsm_status
sks_sp_tokens_open(const struct sks_sp_config *config, const struct hsm_secret *pin,
                   struct sks_tokens **out)
{
    size_t count = sks_sp_token_count(config);
    struct sks_token_config tokens[SKS_TOKENS_MAX];

    for (size_t i = 0; i < count; i++) {
        const struct sks_sp_token one = sks_sp_token(config, i);

        tokens[i] = (struct sks_token_config){.uri = one.uri,
                                              .module = one.module,
                                              .pin_source = one.pin_source,
                                              .pin = i == 0 ? pin : NULL,
                                              .settings = &config->common.token,
                                              .journal = &config->common.journal};
    }
    return sks_tokens_open(tokens, count, out);
}
