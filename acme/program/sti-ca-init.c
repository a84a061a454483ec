/* sti-ca-init.c - the command sti-ca init: keys, certificates, the store, the configuration. */
#include "sti-ca.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <acme/provision.h>
#include <acme/server.h>
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

/* Copy a file of certificates into DIR unless the copy exists. */
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

/* Certificates issued under this chain will verify: order, signatures, times and CA flags. */
static enum hsm_status
check_issuing_chain(const struct certs_chain *chain, const char *from)
{
    DEFER(certs_chain_free) struct certs_chain *root = NULL;
    struct hsm_reason why = {""};
    enum hsm_status st;

    if (!acme_server_chain_is_whole(chain)) {
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

/* Install the issuing certificate that an offline root signed for the issuing key of this token. It
 * replaces an earlier one. */
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

static enum hsm_status
check_account(const struct arguments *arguments)
{
    const bool forwards = arguments->revocation_url != NULL;
    const bool has_key = arguments->pa_api_key_source != NULL;

    if ((arguments->pa_user != NULL) != (forwards && !has_key) ||
        (arguments->pa_password_source != NULL) != (forwards && !has_key) || (has_key && !forwards))
        return options_refuse("--revocation-url goes with --pa-user and"
                              " --pa-password-source, or with --pa-api-key-source");
    return HSM_OK;
}

/* The value of [pa] authorities: the URLs, separated by blanks; free() it. */
static enum hsm_status
join_authorities(const struct arguments *arguments, char **out)
{
    size_t len = 0;
    FILE *to;

    for (size_t i = 0; arguments->authorities[i] != NULL; i++) {
        if (*arguments->authorities[i] == '\0' || strchr(arguments->authorities[i], ' ') != NULL)
            return options_refuse("--authority: not a URL");
    }
    to = open_memstream(out, &len);
    if (to == NULL)
        return HSM_ERR_NOMEM;
    for (size_t i = 0; arguments->authorities[i] != NULL; i++)
        fprintf(to, "%s%s", i > 0 ? " " : "", arguments->authorities[i]);
    return fclose(to) == 0 ? HSM_OK : HSM_ERR_NOMEM;
}

static enum hsm_status
make_text(const struct arguments *arguments, const struct acme_provision_sources *sources,
          char **text)
{
    DEFER(free) char *authorities = NULL;
    enum hsm_status st = check_account(arguments);

    if (st == HSM_OK)
        st = join_authorities(arguments, &authorities);
    if (st != HSM_OK)
        return st;
    return acme_provision_config_text(
        PROGRAM,
        (const struct acme_provision_line[]){
            {"token", "uri", arguments->token},
            {"token", "module", arguments->module},
            {"token", "pin-source", sources->pin},
            {"server", "address", arguments->address},
            {"server", "base-url", arguments->base_url},
            {"journal", "dir", ACME_JOURNAL_DIR},
            {"ca", "store", STORE_FILE},
            {"ca", "chain", CHAIN_FILE},
            {"ca", "country", arguments->country},
            {"pa", "anchors", ANCHORS_FILE},
            {"pa", "crl-issuer", CRL_ISSUER_FILE},
            {"pa", "authorities", authorities},
            {"pa", "crl-url", arguments->crl_url},
            {"pa", "tls-ca", arguments->tls_ca != NULL ? TLS_CA_FILE : NULL},
            {"pa", "revocation-url", arguments->revocation_url},
            {"pa", "user", arguments->pa_user},
            {"pa", "password-source", sources->password},
            {"pa", "api-key-source", sources->api_key},
            {.section = NULL},
        },
        text);
}

static enum hsm_status
make_all(const struct arguments *arguments, const char *pin_source)
{
    DEFER(hsm_token_close) struct hsm_token *token = NULL;
    struct init init = {.arguments = arguments,
                        .country = arguments->country != NULL ? arguments->country : COUNTRY};
    enum hsm_status st = certs_chain_read(arguments->crl_issuer_cert, &init.crl_issuer);

    if (st == HSM_OK)
        st = acme_provision_dir(arguments->dir, 0755);
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
    CLEAR_AFTER(acme_provision_sources_clear) struct acme_provision_sources sources = {.pin = NULL};
    DEFER(free) char *directory = acme_server_directory_url(arguments->base_url);
    DEFER(free) char *text = NULL;
    enum hsm_status st;

    if (!acme_server_base_url_is_valid(arguments->base_url))
        return options_refuse("--base-url is not https://HOST or https://HOST:PORT");
    st = acme_provision_sources_take(arguments->pin_source, arguments->pa_password_source,
                                     arguments->pa_api_key_source, &sources);
    if (st == HSM_OK)
        st = make_text(arguments, &sources, &text);
    if (st == HSM_OK)
        st = make_all(arguments, sources.pin);
    if (st == HSM_OK)
        st = acme_provision_store(arguments->dir, STORE_FILE, acme_server_migrations);
    if (st == HSM_OK)
        st = acme_provision_config(arguments->dir, CONFIG_FILE, text);
    if (st == HSM_OK && directory != NULL)
        printf("ACME directory: %s\n", directory);
    return st;
}
