/* sp_init.c - what a service provider needs before its first certificate. */
#define _GNU_SOURCE /* asprintf */
#include <sks/sp_init.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/stat.h>

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

#define CLIENT_VALID_DAYS 397
#define BEARER_OCTETS     32 /* random */
#define NAMES_MAX         16 /* of the TLS server certificate, besides cr_url's host */
#define HOST_MAX          255 /* characters */
#define PA_ANCHORS_FILE   "pa-anchors.pem"
#define TLS_CA_FILE       "tls-ca.pem"

/* ---- names and places ---- */

/* The host of "HOST:PORT" or "[HOST]:PORT". */
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

/* "HOST:PORT" of an https URL. */
static void
url_authority(const char *url, char authority[HOST_MAX + 1])
{
    const char *start = strstr(url, "://");

    start = start == NULL ? url : start + 3;
    snprintf(authority, HOST_MAX + 1, "%.*s", (int)strcspn(start, "/"), start);
}

static bool
is_loopback(const char *host)
{
    return strcmp(host, "localhost") == 0 || strcmp(host, "::1") == 0 ||
           strncmp(host, "127.", 4) == 0;
}

/* A STI-CR on the loopback is a lab's: its verifier must be allowed to fetch from there. */
static bool
repository_is_local(const struct sks_sp_init *init, char port[HOST_MAX + 1])
{
    char authority[HOST_MAX + 1];
    char host[HOST_MAX + 1];
    const char *colon;

    url_authority(init->cr_url, authority);
    address_host(authority, host);
    colon = strrchr(authority, ':');
    snprintf(port, HOST_MAX + 1, "%s",
             colon != NULL && strchr(colon, ']') == NULL ? colon + 1 : "443");
    return is_loopback(host);
}

static enum hsm_status
make_dir(const char *dir, mode_t mode)
{
    if (mkdir(dir, mode) == 0 || errno == EEXIST)
        return HSM_OK;
    hsm_log(HSM_LOG_ERROR, "%s: %s", dir, strerror(errno));
    return HSM_ERR_IO;
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

/* For a caller on this machine that speaks TLS: its key is in the token like every other. */
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

/* Copies, so that the directory stands on its own. Written each time: the peers' may have changed.
 */
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
    st = make_dir(trust, 0700);
    if (st == HSM_OK)
        st = make_bearer(init);
    if (st == HSM_OK)
        st = copy_anchors(init, init->pa_anchor, NULL, PA_ANCHORS_FILE);
    if (st == HSM_OK && init->tls_ca != NULL)
        st = copy_anchors(init, init->tls_ca, ACME_PROVISION_TLS_ROOT_FILE, TLS_CA_FILE);
    return st;
}

/* ---- configuration ---- */

static void
section(FILE *to, const char *name)
{
    fprintf(to, "\n[%s]\n", name);
}

/* False: the value cannot stand in the file. */
static bool
entry(FILE *to, const char *name, const char *value)
{
    if (value == NULL)
        return true;
    if (!acme_config_value_is_safe(value)) {
        hsm_log(HSM_LOG_ERROR, "%s: this value cannot stand in a configuration file", name);
        return false;
    }
    fprintf(to, "%s = %s\n", name, value);
    return true;
}

/* Sources of secrets with absolute paths; owned, NULL when not given. */
struct sources {
    char *pin, *password, *api_key;
};

static void
sources_clear(struct sources *sources)
{
    free(sources->pin);
    free(sources->password);
    free(sources->api_key);
}

static enum hsm_status
take_source(const char *given, char **out)
{
    if (given == NULL)
        return HSM_OK;
    *out = acme_provision_source(given);
    return *out != NULL ? HSM_OK : HSM_ERR_NOMEM;
}

static bool
write_peers(FILE *to, const struct sks_sp_init *init, const struct sources *sources)
{
    section(to, "pa");
    if (!entry(to, "url", init->pa_url) || !entry(to, "account", init->pa_account) ||
        !entry(to, "user", init->pa_user) || !entry(to, "password-source", sources->password) ||
        !entry(to, "api-key-source", sources->api_key) || !entry(to, "anchors", PA_ANCHORS_FILE))
        return false;
    section(to, "ca");
    if (!entry(to, "directory", init->ca_directory) || !entry(to, "contact", init->ca_contact) ||
        !entry(to, "tkauth-member", "tkauth") || !entry(to, "fingerprint", "thumbprint"))
        return false;
    section(to, "tls");
    return entry(to, "ca", init->tls_ca != NULL ? TLS_CA_FILE : NULL) &&
           entry(to, "chain", ACME_PROVISION_TLS_CHAIN_FILE);
}

static bool
write_servers(FILE *to, const struct sks_sp_init *init)
{
    section(to, "api");
    if (!entry(to, "address", init->api_address) || !entry(to, "socket", SKS_SP_SOCKET_FILE) ||
        !entry(to, "bearer-source", "file:" SKS_SP_BEARER_FILE) ||
        !entry(to, "client-anchors", ACME_PROVISION_TLS_ROOT_FILE))
        return false;
    section(to, "cr");
    return entry(to, "address", init->cr_address) && entry(to, "base-url", init->cr_url) &&
           entry(to, "dir", "cr");
}

static bool
write_verification(FILE *to, const struct sks_sp_init *init)
{
    char port[HOST_MAX + 1];
    bool local = repository_is_local(init, port);
    bool usual = strcmp(port, "443") == 0 || strcmp(port, "8443") == 0;

    section(to, "verification");
    if (local)
        fprintf(to, "# The STI-CR of this file is on the loopback: allowed here, and only here.\n");
    return entry(to, "ports",
                 init->ports != NULL ? init->ports
                 : local && !usual   ? port
                                     : NULL) &&
           entry(to, "tls-ca", init->tls_ca != NULL ? TLS_CA_FILE : ACME_PROVISION_TLS_ROOT_FILE) &&
           entry(to, "private-addresses", local || init->private_addresses ? "yes" : "no");
}

static bool
write_text(FILE *to, const struct sks_sp_init *init, const struct sources *sources)
{
    fprintf(to, "# Written by sti-kms init, and never again: edit it. All keys: sti-kms --help\n");
    section(to, "token");
    if (!entry(to, "uri", init->token_uri) || !entry(to, "module", init->module) ||
        !entry(to, "pin-source", sources->pin))
        return false;
    section(to, "sp");
    if (!entry(to, "spc", init->spc))
        return false;
    section(to, "journal");
    return entry(to, "dir", ACME_JOURNAL_DIR) && write_peers(to, init, sources) &&
           write_servers(to, init) && write_verification(to, init);
}

static enum hsm_status
make_config(const struct sks_sp_init *init, const struct sources *sources)
{
    DEFER(free) char *path = acme_provision_path(init->dir, SKS_SP_CONFIG_FILE);
    DEFER(free) char *text = NULL;
    size_t len = 0;
    bool written = false;
    bool good;
    FILE *to = open_memstream(&text, &len);
    enum hsm_status st;

    if (path == NULL || to == NULL) {
        if (to != NULL)
            fclose(to);
        return HSM_ERR_NOMEM;
    }
    good = write_text(to, init, sources);
    if (fclose(to) != 0)
        return HSM_ERR_NOMEM;
    if (!good)
        return HSM_ERR_USAGE;
    st = acme_provision_config(path, text, &written);
    if (st == HSM_OK)
        tell(path, written ? "written" : "kept as it was");
    return st;
}

enum hsm_status
sks_sp_init(const struct sks_sp_init *init)
{
    CLEAR_AFTER(sources_clear) struct sources sources = {.pin = NULL};
    enum hsm_status st = take_source(init->pin_source, &sources.pin);

    if (st == HSM_OK)
        st = take_source(init->pa_password_source, &sources.password);
    if (st == HSM_OK)
        st = take_source(init->pa_api_key_source, &sources.api_key);
    if (st == HSM_OK)
        st = make_dir(init->dir, 0755);
    if (st == HSM_OK)
        st = make_keys(init, sources.pin);
    if (st == HSM_OK)
        st = make_files(init);
    if (st == HSM_OK)
        st = make_config(init, &sources);
    return st;
}
