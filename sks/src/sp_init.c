/* sp_init.c - what a service provider needs before its first certificate. */
#include <sks/sp_init.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <netinet/in.h>

#include <acme/provision.h>
#include <certs/chain.h>
#include <certs/issue.h>
#include <hsm/defer.h>
#include <hsm/key.h>
#include <hsm/log.h>
#include <hsm/secret.h>
#include <hsm/token.h>
#include <sks/enroll.h>
#include <sks/sp_config.h>

#include "x5u_internal.h"

#define CLIENT_VALID_DAYS 397
#define BEARER_OCTETS     32 /* of randomness */
#define NAMES_MAX         16 /* of the TLS server certificate, besides cr_url's host */
#define HOST_MAX          255 /* characters */
#define PORT_DIGITS       5
#define PA_ANCHORS_FILE   "pa-anchors.pem"
#define TLS_CA_FILE       "tls-ca.pem"

/* ---- names and places ---- */

/* The host of "ADDRESS:PORT" or "[ADDRESS]:PORT". */
static void
address_host(const char *address, char host[HOST_MAX + 1])
{
    const char *colon = strrchr(address, ':');
    size_t len = colon == NULL ? strlen(address) : (size_t)(colon - address);

    if (len >= 2 && address[0] == '[' && address[len - 1] == ']') {
        address++;
        len -= 2;
    }
    snprintf(host, HOST_MAX + 1, "%.*s", (int)len, address);
}

static bool
is_loopback(const char *host)
{
    struct in_addr v4;
    struct in6_addr v6;

    if (inet_pton(AF_INET, host, &v4) == 1)
        return ntohl(v4.s_addr) >> 24 == IN_LOOPBACKNET;
    if (inet_pton(AF_INET6, host, &v6) == 1)
        return IN6_IS_ADDR_LOOPBACK(&v6);
    return strcasecmp(host, "localhost") == 0;
}

/* An STI-CR on the loopback is part of a lab: its verifier must be allowed to fetch from there.
 * A URL that is not an x5u is refused by a later step. */
static bool
repository_is_local(const struct sks_sp_init *init, unsigned *port)
{
    char x5u[SKS_X5U_MAX + 1];
    char name[HOST_MAX + 1];
    const char *host;
    size_t len;

    snprintf(x5u, sizeof(x5u), "%s/", init->cr_url); /* of a chain in it */
    if (sks_x5u_parse(x5u, port, NULL) != HSM_OK)
        return false;
    host = sks_x5u_host(x5u, &len);
    if (*host == '[') { /* RFC 3986 section 3.2.2 */
        host++;
        len -= 2;
    }
    snprintf(name, sizeof(name), "%.*s", (int)len, host);
    return is_loopback(name);
}

static void
tell(const char *path, const char *what)
{
    printf("%s: %s\n", path, what);
    fflush(stdout);
}

/* ---- keys and certificates ---- */

static enum hsm_status
make_tls_server(const struct sks_sp_init *init, struct hsm_token *token)
{
    const char *names[NAMES_MAX + 2] = {NULL};
    char api_host[HOST_MAX + 1];
    size_t count = 0;

    address_host(init->api_address, api_host);
    if (strcmp(api_host, "0.0.0.0") != 0 && strcmp(api_host, "::") != 0)
        names[count++] = api_host;
    for (size_t i = 0; init->tls_names != NULL && init->tls_names[i] != NULL; i++) {
        if (i == NAMES_MAX) {
            hsm_log(HSM_LOG_ERROR, "more than %d TLS names", NAMES_MAX);
            return HSM_ERR_USAGE;
        }
        names[count++] = init->tls_names[i];
    }
    return acme_provision_tls(token, &(struct acme_provision_tls){
                                         .dir = init->dir,
                                         .organization = init->organization,
                                         .country = init->country,
                                         .base_url = init->cr_url,
                                         .extra_names = names,
                                     });
}

/* A client certificate for local callers that use TLS; its key is in the token, too. */
static enum hsm_status
make_tls_client(const struct sks_sp_init *init, struct hsm_token *token)
{
    DEFER(free) char *root_path = acme_provision_path(init->dir, ACME_PROVISION_TLS_ROOT_FILE);
    DEFER(free) char *path = acme_provision_path(init->dir, SKS_SP_TLS_CLIENT_FILE);
    DEFER(certs_chain_free) struct certs_chain *root = NULL;
    DEFER(hsm_key_free) struct hsm_key *root_key = NULL;
    DEFER(certs_chain_free) struct certs_chain *chain = NULL;
    DEFER(hsm_key_free) struct hsm_key *key = NULL;
    struct acme_provision_request request = {
        .label = SKS_SP_TLS_CLIENT_LABEL,
        .certificate = {.profile = CERTS_PROFILE_TLS_CLIENT,
                        .subject = {.country = init->country,
                                    .organization = init->organization,
                                    .common_name = "Signing API client"}},
        .valid_days = CLIENT_VALID_DAYS,
        .path = path,
    };
    enum hsm_status st;

    if (root_path == NULL || path == NULL)
        return HSM_ERR_NOMEM;
    st = certs_chain_read(root_path, &root);
    if (st == HSM_OK)
        st = hsm_key_find(token, "pkcs11:object=" ACME_PROVISION_TLS_ROOT_LABEL, &root_key);
    if (st != HSM_OK)
        return st;
    request.issuer = root;
    request.issuer_key = root_key;
    st = acme_provision_certificate(token, &request, &key, &chain);
    if (st == HSM_OK)
        tell(path, "certificate of a client, its key is " SKS_SP_TLS_CLIENT_LABEL " in the token");
    return st;
}

static enum hsm_status
make_keys(const struct sks_sp_init *init, const char *pin_source)
{
    DEFER(hsm_token_close) struct hsm_token *token = NULL;
    DEFER(hsm_key_free) struct hsm_key *account = NULL;
    enum hsm_status st =
        acme_daemon_token(init->token_uri, init->module, pin_source, init->dir, &token);

    if (st == HSM_OK)
        st = make_tls_server(init, token);
    if (st == HSM_OK)
        st = make_tls_client(init, token);
    if (st == HSM_OK)
        st = hsm_key_find_or_generate(token, SKS_ENROLL_ACCOUNT_LABEL, &account);
    if (st == HSM_OK)
        tell(init->token_uri, "holds the keys of the ACME account and of TLS");
    return st;
}

/* ---- files ---- */

static enum hsm_status
make_bearer(const struct sks_sp_init *init)
{
    DEFER(free) char *path = acme_provision_path(init->dir, SKS_SP_BEARER_FILE);
    DEFER(hsm_secret_free) struct hsm_secret *bearer = NULL;
    enum hsm_status st;

    if (path == NULL)
        return HSM_ERR_NOMEM;
    if (access(path, F_OK) == 0)
        return HSM_OK;
    st = hsm_secret_random(BEARER_OCTETS, &bearer);
    if (st == HSM_OK)
        st = hsm_secret_write(bearer, path);
    if (st == HSM_OK)
        tell(path, "bearer token for remote callers of the API");
    return st;
}

/* Copy anchors, so that the directory is self-contained. The copy is written each time, because the
 * peers' anchors may have changed. */
static enum hsm_status
copy_anchors(const struct sks_sp_init *init, const char *from, const char *also, const char *name)
{
    DEFER(free) char *path = acme_provision_path(init->dir, name);
    DEFER(free) char *also_path = also == NULL ? NULL : acme_provision_path(init->dir, also);
    DEFER(certs_chain_free) struct certs_chain *anchors = NULL;
    DEFER(certs_chain_free) struct certs_chain *own = NULL;
    enum hsm_status st;

    if (path == NULL || (also != NULL && also_path == NULL))
        return HSM_ERR_NOMEM;
    st = certs_chain_read(from, &anchors);
    if (st == HSM_OK && also != NULL) {
        st = certs_chain_read(also_path, &own);
        if (st == HSM_OK)
            st = certs_chain_append(anchors, own);
    }
    if (st == HSM_OK)
        st = certs_chain_write(anchors, path);
    return st;
}

static enum hsm_status
make_files(const struct sks_sp_init *init)
{
    DEFER(free) char *trust = acme_provision_path(init->dir, "trust");
    enum hsm_status st;

    if (trust == NULL)
        return HSM_ERR_NOMEM;
    st = acme_provision_dir(trust, 0700);
    if (st == HSM_OK)
        st = make_bearer(init);
    if (st == HSM_OK)
        st = copy_anchors(init, init->pa_anchor, NULL, PA_ANCHORS_FILE);
    if (st == HSM_OK && init->tls_ca != NULL)
        st = copy_anchors(init, init->tls_ca, ACME_PROVISION_TLS_ROOT_FILE, TLS_CA_FILE);
    return st;
}

/* ---- configuration ---- */

static enum hsm_status
make_text(const struct sks_sp_init *init, const struct acme_provision_sources *sources, char **text)
{
    unsigned port = 0;
    const bool local = repository_is_local(init, &port);
    const bool usual = port == 443 || port == 8443;
    char port_text[PORT_DIGITS + 1];
    const char *own_port = local && !usual ? port_text : NULL;
    const char *tls_ca = init->tls_ca != NULL ? TLS_CA_FILE : NULL;

    snprintf(port_text, sizeof(port_text), "%hu", (unsigned short)port);
    return acme_provision_config_text(
        "sti-kms",
        (const struct acme_provision_line[]){
            {"token", "uri", init->token_uri},
            {"token", "module", init->module},
            {"token", "pin-source", sources->pin},
            {"sp", "spc", init->spc},
            {"journal", "dir", ACME_JOURNAL_DIR},
            {"pa", "url", init->pa_url},
            {"pa", "account", init->pa_account},
            {"pa", "user", init->pa_user},
            {"pa", "password-source", sources->password},
            {"pa", "api-key-source", sources->api_key},
            {"pa", "anchors", PA_ANCHORS_FILE},
            {"ca", "directory", init->ca_directory},
            {"ca", "contact", init->ca_contact},
            {"ca", "tkauth-member", "tkauth"},
            {"ca", "fingerprint", "thumbprint"},
            {"tls", "ca", tls_ca},
            {"tls", "chain", ACME_PROVISION_TLS_CHAIN_FILE},
            {"api", "address", init->api_address},
            {"api", "socket", SKS_SP_SOCKET_FILE},
            {"api", "bearer-source", "file:" SKS_SP_BEARER_FILE},
            {"api", "client-anchors", ACME_PROVISION_TLS_ROOT_FILE},
            {"cr", "address", init->cr_address},
            {"cr", "base-url", init->cr_url},
            {"cr", "dir", "cr"},
            {"verification", NULL,
             local ? "The STI-CR of this file is on the loopback: allowed here, and only here."
                   : NULL},
            {"verification", "ports", init->ports != NULL ? init->ports : own_port},
            {"verification", "tls-ca", tls_ca != NULL ? tls_ca : ACME_PROVISION_TLS_ROOT_FILE},
            {"verification", "private-addresses", local || init->private_addresses ? "yes" : "no"},
            {.section = NULL},
        },
        text);
}

enum hsm_status
sks_sp_init(const struct sks_sp_init *init)
{
    CLEAR_AFTER(acme_provision_sources_clear) struct acme_provision_sources sources = {.pin = NULL};
    DEFER(free) char *text = NULL;
    enum hsm_status st = acme_provision_sources_take(init->pin_source, init->pa_password_source,
                                                     init->pa_api_key_source, &sources);

    if (st == HSM_OK)
        st = make_text(init, &sources, &text);
    if (st == HSM_OK)
        st = acme_provision_dir(init->dir, 0755);
    if (st == HSM_OK)
        st = make_keys(init, sources.pin);
    if (st == HSM_OK)
        st = make_files(init);
    if (st == HSM_OK)
        st = acme_provision_config(init->dir, SKS_SP_CONFIG_FILE, text);
    return st;
}
