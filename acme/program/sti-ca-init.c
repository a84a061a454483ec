/* sti-ca-init.c - what sti-ca init makes: keys, certificates, the store, the configuration. */
#include "sti-ca.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/x509v3.h>

#include <acme/config.h>
#include <acme/provision.h>
#include <acme/server.h>
#include <acme/store.h>
#include <certs/cert.h>
#include <certs/chain.h>
#include <certs/issue.h>
#include <hsm/defer.h>
#include <hsm/key.h>
#include <hsm/log.h>

#define ROOT_LABEL              "sti-ca-root"
#define ROOT_FILE               "sti-ca-root.pem"
#define TLS_CA_FILE             "pa-tls-ca.pem"
#define ROOT_VALID_DAYS         7300
#define INTERMEDIATE_VALID_DAYS 1825

/* ---- keys and certificates ---- */

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

/* The issuing certificate first, its issuers in their order, a root last. */
static bool
is_in_order(const struct certs_chain *chain)
{
    size_t last = certs_chain_len(chain) - 1;

    for (size_t i = 0; i < last; i++) {
        if (X509_check_issued(certs_chain_get(chain, i + 1), certs_chain_get(chain, i)) !=
            X509_V_OK)
            return false;
    }
    return last > 0 && X509_self_signed(certs_chain_get(chain, last), 1) == 1;
}

/* What is issued with it verifies: signatures, times and CA flags as well. */
static enum hsm_status
check_issuing_chain(const struct certs_chain *chain, const char *from)
{
    DEFER(certs_chain_free) struct certs_chain *root = NULL;
    struct hsm_reason why = {""};
    enum hsm_status st;

    if (!is_in_order(chain)) {
        hsm_log(HSM_LOG_ERROR, "%s: not an issuing certificate, its issuers, and their root", from);
        return HSM_ERR_MALFORMED;
    }
    st = certs_chain_new(&root);
    if (st == HSM_OK)
        st = certs_chain_add(root, certs_chain_get(chain, certs_chain_len(chain) - 1));
    if (st == HSM_OK)
        st = certs_chain_verify(chain, root, CERTS_FOR_ISSUING, time(NULL), &why);
    if (st == HSM_ERR_UNTRUSTED)
        hsm_log(HSM_LOG_ERROR, "%s: %s", from, why.text);
    return st;
}

/* What an offline root signed; its key is here, the root's is not. A new one takes the place of
 * what is there. */
static enum hsm_status
take_issuing(const struct init *init)
{
    const char *from = init->arguments->issuing_chain;
    DEFER(free) char *path = acme_provision_path(init->arguments->dir, CHAIN_FILE);
    DEFER(hsm_key_free) struct hsm_key *key = NULL;
    DEFER(certs_chain_free) struct certs_chain *chain = NULL;
    enum hsm_status st = path != NULL ? certs_chain_read(from, &chain) : HSM_ERR_NOMEM;

    if (st == HSM_OK)
        st = hsm_key_find(init->token, "pkcs11:object=" ISSUING_LABEL, &key);
    if (st != HSM_OK)
        return st;
    if (!hsm_key_matches(key, certs_cert_public(certs_chain_get(chain, 0)))) {
        hsm_log(HSM_LOG_ERROR, "%s: not the certificate of the key " ISSUING_LABEL " in this token",
                from);
        return HSM_ERR_UNTRUSTED;
    }
    st = check_issuing_chain(chain, from);
    return st == HSM_OK ? certs_chain_write(chain, path) : st;
}

static enum hsm_status
make_issuing(struct init *init)
{
    enum hsm_status st;

    if (init->arguments->issuing_chain != NULL)
        return take_issuing(init);
    st = provision_root(init);
    return st == HSM_OK ? provision_issuing(init) : st;
}

static enum hsm_status
provision_all(struct init *init)
{
    enum hsm_status st = make_issuing(init);

    if (st == HSM_OK)
        st = acme_provision_tls(init->token, &(struct acme_provision_tls){
                                                 .dir = init->arguments->dir,
                                                 .organization = init->arguments->organization,
                                                 .country = init->country,
                                                 .base_url = init->arguments->base_url,
                                             });
    return st;
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
    char *pin, *pa_password, *pa_api_key;
};

static void
sources_clear(struct sources *sources)
{
    free(sources->pin);
    free(sources->pa_password);
    free(sources->pa_api_key);
}

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
        arguments->token,    arguments->module,        sources->pin,
        arguments->address,  arguments->country,       arguments->base_url,
        arguments->crl_url,  arguments->pa_user,       sources->pa_password,
        sources->pa_api_key, arguments->revocation_url};
    const bool forwards = arguments->revocation_url != NULL;
    const bool has_key = sources->pa_api_key != NULL;

    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        if (values[i] != NULL && !acme_config_value_is_safe(values[i]))
            return options_refuse("an option's value cannot stand in " CONFIG_FILE);
    }
    if ((arguments->pa_user != NULL) != (forwards && !has_key) ||
        (sources->pa_password != NULL) != (forwards && !has_key) || (has_key && !forwards))
        return options_refuse("--revocation-url goes with --pa-user and"
                              " --pa-password-source, or with --pa-api-key-source");
    for (size_t i = 0; arguments->authorities[i] != NULL; i++) {
        if (!acme_config_value_is_safe(arguments->authorities[i]) ||
            strchr(arguments->authorities[i], ' ') != NULL)
            return options_refuse("--authority: not a URL");
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
    write_line(to, "api-key-source", sources->pa_api_key);
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

enum hsm_status
run_init(const struct arguments *arguments)
{
    CLEAR_AFTER(sources_clear) struct sources sources = {.pin = NULL};
    DEFER(free) char *directory = acme_server_directory_url(arguments->base_url);
    enum hsm_status st = take_source(arguments->pin_source, &sources.pin);

    if (st == HSM_OK)
        st = take_source(arguments->pa_password_source, &sources.pa_password);
    if (st == HSM_OK)
        st = take_source(arguments->pa_api_key_source, &sources.pa_api_key);
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
