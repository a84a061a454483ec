/* sp_config.c - the configuration of a service provider, and what is opened as it says. */
#define _GNU_SOURCE /* asprintf */
#include <sks/sp_config.h>

#include <ctype.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <acme/authority.h>
#include <acme/config.h>
#include <hsm/log.h>

#define TEXT(member, section, name, fallback, help)                                                \
    {                                                                                              \
        section, name, ACME_CONFIG_TEXT, offsetof(struct sks_sp_config, member), false, 0, 0,      \
            fallback, help                                                                         \
    }
#define REQUIRED(member, section, name, help)                                                      \
    {                                                                                              \
        section, name, ACME_CONFIG_TEXT, offsetof(struct sks_sp_config, member), true, 0, 0, NULL, \
            help                                                                                   \
    }
#define FILE_PATH(member, section, name, fallback, help)                                           \
    {                                                                                              \
        section, name, ACME_CONFIG_PATH, offsetof(struct sks_sp_config, member), false, 0, 0,      \
            fallback, help                                                                         \
    }
#define SECRET(member, section, name, help)                                                        \
    {                                                                                              \
        section, name, ACME_CONFIG_SECRET_SOURCE, offsetof(struct sks_sp_config, member), false,   \
            0, 0, NULL, help                                                                       \
    }

static const struct acme_config_key keys[] = {
    REQUIRED(common.token_uri, "token", "uri", "PKCS#11 URI of the token (RFC 7512)"),
    TEXT(common.module, "token", "module", NULL,
         "path of the PKCS#11 module; without it the URI's module-path"),
    SECRET(common.pin_source, "token", "pin-source",
           "where the PIN is: file:PATH, fd:N, credential:NAME, prompt"),
    ACME_TOKEN_KEYS(struct sks_sp_config, common.token),
    REQUIRED(spc, "sp", "spc", "service provider code that calls are signed for"),
    REQUIRED(pa_url, "pa", "url", "base URL of the STI-PA"),
    {"pa", "anchors", ACME_CONFIG_PATH, offsetof(struct sks_sp_config, pa_anchors), true, 0, 0,
     NULL, "PEM file of STI-PA roots"},
    TEXT(pa_account, "pa", "account", NULL, "account id at the STI-PA (sti-kms)"),
    TEXT(pa_user, "pa", "user", NULL, "user of that account (sti-kms)"),
    SECRET(pa_password_source, "pa", "password-source", "where its password is (sti-kms)"),
    TEXT(ca_list_url, "pa", "ca-list-url", NULL,
         "the trusted-CA list; without it URL/api/v1/ca-list"),
    TEXT(crl_url, "pa", "crl-url", NULL, "the CRL; without it URL/download/v1/crl"),
    TEXT(ca_directory, "ca", "directory", NULL, "ACME directory URL of the STI-CA (sti-kms)"),
    TEXT(ca_contact, "ca", "contact", NULL, "mailto: URL for the ACME account (sti-kms)"),
    TEXT(tkauth_member, "ca", "tkauth-member", "tkauth",
         "member that answers the challenge: tkauth (RFC 9448) or atc (deployed CAs)"),
    TEXT(fingerprint, "ca", "fingerprint", "thumbprint",
         "fingerprint in SPC tokens: thumbprint (RFC 9448) or spki (deployed)"),
    {"ca", "poll-limit", ACME_CONFIG_NUMBER, offsetof(struct sks_sp_config, poll_limit_s), false, 1,
     3600, "120", "seconds to wait for authorization and issuance"},
    FILE_PATH(tls_ca, "tls", "ca", NULL,
              "PEM file of anchors for outgoing TLS; without it the system's"),
    TEXT(tls_key, "tls", "key", "pkcs11:object=" ACME_PROVISION_TLS_SERVER_LABEL,
         "URI of the TLS key in the token"),
    FILE_PATH(tls_chain, "tls", "chain", ACME_PROVISION_TLS_CHAIN_FILE,
              "PEM file of the TLS certificate and issuers"),
    TEXT(api_address, "api", "address", NULL, "HOST:PORT of the signing and verification API"),
    FILE_PATH(api_socket, "api", "socket", NULL, "Unix socket of the same, for local callers"),
    SECRET(bearer_source, "api", "bearer-source", "where the bearer token of callers is"),
    FILE_PATH(client_anchors, "api", "client-anchors", NULL,
              "PEM file of anchors of callers' TLS certificates"),
    {"api", "threads", ACME_CONFIG_NUMBER, offsetof(struct sks_sp_config, threads), false, 1, 64,
     "4", "threads that answer requests"},
    {"api", "workers", ACME_CONFIG_NUMBER, offsetof(struct sks_sp_config, common.workers), false, 1,
     64, "1", "processes that serve API and STI-CR, each with its own threads"},
    TEXT(cr_address, "cr", "address", NULL, "HOST:PORT of the STI-CR; without it none is served"),
    REQUIRED(cr_base_url, "cr", "base-url", "https URL under which others reach the STI-CR"),
    FILE_PATH(cr_dir, "cr", "dir", "cr", "directory of the certificate chains"),
    TEXT(ports, "verification", "ports", NULL,
         "ports of x5u URLs besides 443 and 8443, separated by blanks"),
    {"verification", "private-addresses", ACME_CONFIG_SWITCH,
     offsetof(struct sks_sp_config, private_addresses), false, 0, 0, "no",
     "fetch x5u from loopback and private addresses too: yes in labs only"},
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
    FILE_PATH(trust_dir, "store", "trust-dir", "trust", "where trusted-CA list and CRL are kept"),
    TEXT(common.log_format, "log", "format", "text", "text or json"),
    TEXT(common.log_level, "log", "level", "info", "error, warning, info or debug"),
    ACME_JOURNAL_KEYS(struct sks_sp_config, common.journal),
    {.section = NULL},
};

/* One of two words. */
static enum hsm_status
choose(const char *path, const char *name, const char *text, const char *zero, const char *one,
       bool *out)
{
    *out = strcmp(text, one) == 0;
    if (*out || strcmp(text, zero) == 0)
        return HSM_OK;
    hsm_log(HSM_LOG_ERROR, "%s: %s: neither %s nor %s", path, name, zero, one);
    return HSM_ERR_MALFORMED;
}

static enum hsm_status
parse_ports(const char *path, const char *text, unsigned out[SKS_SP_PORTS_MAX + 1])
{
    size_t count = 0;

    for (const char *at = text; *at != '\0'; at += strspn(at, " ")) {
        char *end;
        unsigned long port = strtoul(at, &end, 10);

        if (!isdigit((unsigned char)*at) || (*end != ' ' && *end != '\0') || port < 1 ||
            port > 65535 || count == SKS_SP_PORTS_MAX) {
            hsm_log(HSM_LOG_ERROR, "%s: [verification] ports: not at most %d ports", path,
                    SKS_SP_PORTS_MAX);
            return HSM_ERR_MALFORMED;
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
            hsm_log(HSM_LOG_ERROR, "%s: [verification] ca-keys: not of p256, p384, p521, rsa",
                    path);
            return HSM_ERR_MALFORMED;
        }
        found |= kinds[i].kind;
        at += len;
    }
    *out = found;
    return HSM_OK;
}

static enum hsm_status
interpret(const char *path, struct sks_sp_config *config)
{
    bool atc;
    bool spki;
    enum hsm_status st =
        choose(path, "[ca] tkauth-member", config->tkauth_member, "tkauth", "atc", &atc);

    if (st == HSM_OK)
        st = choose(path, "[ca] fingerprint", config->fingerprint, "thumbprint", "spki", &spki);
    if (st == HSM_OK && config->ports != NULL)
        st = parse_ports(path, config->ports, config->port_list);
    if (st == HSM_OK)
        st = parse_ca_keys(path, config->ca_keys, &config->ca_key_kinds);
    if (st != HSM_OK)
        return st;
    config->member = atc ? ACME_ATC : ACME_TKAUTH;
    config->fingerprint_form = spki ? ACME_FINGERPRINT_SPKI : ACME_FINGERPRINT_THUMBPRINT;
    return HSM_OK;
}

/* URLs that follow from the STI-PA's. */
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

void
sks_sp_config_clear(struct sks_sp_config *config)
{
    acme_config_clear(keys, config);
}

void
sks_sp_config_help(FILE *to)
{
    const char *section = "";

    for (const struct acme_config_key *key = keys; key->section != NULL; key++) {
        if (strcmp(section, key->section) != 0)
            fprintf(to, "  [%s]\n", key->section);
        section = key->section;
        fprintf(to, "    %-18s %s%s%s%s\n", key->name, key->help,
                key->fallback != NULL ? " (default: " : "",
                key->fallback != NULL ? key->fallback : "", key->fallback != NULL ? ")" : "");
    }
}

static enum hsm_status
fetch_chain(void *context, const char *x5u, time_t now, struct certs_chain **out,
            struct hsm_reason *why)
{
    return sks_x5u_get(context, x5u, now, out, why);
}

static enum hsm_status
open_parts(const struct sks_sp_config *config, struct sks_sp_verification *parts)
{
    const struct acme_http_client_config http = {.tls_ca = config->tls_ca};
    struct certs_path_policy policy = {
        .ca_keys = config->ca_key_kinds,
        .numbers_under_spc = config->numbers_under_spc,
        .any_tnauthlist = config->any_tnauthlist,
        .any_distribution_point = config->any_crl,
    };
    struct sks_trust_config trust = {
        .ca_list_url = config->ca_list_url,
        .crl_url = config->crl_url,
        .dir = config->trust_dir,
        .policy = &policy,
    };
    struct sks_x5u_config x5u = {
        .ports = config->port_list,
        .private_addresses = config->private_addresses,
    };
    struct sks_verifier_config verifier = {.chain = fetch_chain};
    enum hsm_status st = acme_http_client_new(&http, &parts->http);

    if (st == HSM_OK)
        st = certs_chain_read(config->pa_anchors, &parts->pa_anchors);
    if (st == HSM_OK && config->intermediates != NULL)
        st = certs_chain_read(config->intermediates, &parts->intermediates);
    if (st != HSM_OK)
        return st;
    policy.intermediates = parts->intermediates;
    trust.http = parts->http;
    trust.pa_anchors = parts->pa_anchors;
    x5u.http = parts->http;
    st = sks_trust_new(&trust, &parts->trust);
    if (st == HSM_OK)
        st = sks_x5u_cache_new(&x5u, &parts->x5u);
    if (st != HSM_OK)
        return st;
    verifier.trust = parts->trust;
    verifier.context = parts->x5u;
    return sks_verifier_new(&verifier, &parts->verifier);
}

enum hsm_status
sks_sp_verification_open(const struct sks_sp_config *config, struct sks_sp_verification *out)
{
    struct sks_sp_verification parts = {.http = NULL};
    enum hsm_status st = open_parts(config, &parts);

    if (st == HSM_OK)
        *out = parts;
    else
        sks_sp_verification_close(&parts);
    return st;
}

void
sks_sp_verification_close(struct sks_sp_verification *verification)
{
    sks_verifier_free(verification->verifier);
    sks_x5u_cache_free(verification->x5u);
    sks_trust_free(verification->trust);
    certs_chain_free(verification->intermediates);
    certs_chain_free(verification->pa_anchors);
    acme_http_client_free(verification->http);
    memset(verification, 0, sizeof(*verification));
}
