/*
 * sp_config.h - the configuration of a service provider, which sti-kms and
 * sti-sks share.
 */
#ifndef SKS_SP_CONFIG_H
#define SKS_SP_CONFIG_H

#include <stdbool.h>
#include <stdio.h>

#include <acme/client.h>
#include <acme/jwk.h>
#include <acme/provision.h>
#include <hsm/status.h>
#include <sks/dial_plan.h>
#include <sks/tokens.h>

#define SKS_SP_CONFIG_FILE "sp.conf"
#define SKS_SP_PORTS_MAX   16 /* of [verification] ports */

#define SKS_SP_CAS_MAX 4 /* [ca], [ca-2] to [ca-4] */

/** A STI-CA; texts owned, NULL when not given. The first always has the defaults. */
struct sks_sp_ca {
    char *name, *directory, *contact, *tkauth_member, *fingerprint, *identifier, *x5u;
    char *eab_kid, *eab_key_source;

    /* what these texts mean */
    enum acme_tkauth_member member;
    enum acme_fingerprint fingerprint_form;
    enum acme_tnauthlist_text tnauthlist_text;
    bool hosts_chains; /* the x5u of a certificate is the one in its order */
};

/** A token; texts owned, NULL when not given. */
struct sks_sp_token {
    char *uri, *module, *pin_source;
    char *name; /* of a [token NAME] of the file of providers; else NULL */
};

#define SKS_SP_TOKENS_MAX    4 /* [token], [token-2] to [token-4]; those of a provider */
#define SKS_SP_PROVIDERS_MAX 256

/**
 * A service provider whose certificates the SP-KMS manages: that of [sp], or a hosted one.
 * Texts owned, NULL when not given.
 */
struct sks_sp_provider {
    char *spc;
    char *pa_account, *pa_user, *pa_password_source, *pa_api_key_source; /* at the STI-PA */
    char *contact; /* of its ACME accounts, instead of the STI-CAs' */
    char *eab_kid, *eab_key_source; /* at the first of its STI-CAs, hosted ones only */
    char *cr_base_url, *upload_url, *upload_bearer_source, *upload_command;
    char *token_words, *ca_words; /* the names of what it has, as the file has them */
    char *name; /* of its section; NULL: that of [sp] */
    char *where; /* its section, for a message: "/etc/sti/providers.conf:7: [provider acme]" */

    /* what these texts mean */
    size_t tokens[SKS_SP_TOKENS_MAX], token_count; /* as sks_sp_token() counts */
    size_t cas[SKS_SP_CAS_MAX], ca_count; /* of the configuration's, in the order to be asked */
};

/* Texts are owned; those without a default are NULL when not given. */
struct sks_sp_config {
    struct acme_daemon_config common; /* its members for [token] and [log] */
    char *spc; /* of [sp]; NULL only when there are hosted providers */
    char *providers_file;
    char *pa_url, *pa_account, *pa_user, *pa_password_source, *pa_api_key_source, *pa_anchors;
    char *ca_list_url, *crl_url;
    struct sks_sp_token more_tokens[SKS_SP_TOKENS_MAX - 1]; /* [token-2] to [token-4] */
    struct sks_sp_ca cas[SKS_SP_CAS_MAX];
    long poll_limit_s;
    long look_every_s, renew_percent, retry_first_s, retry_longest_s, retiring_s, retired_s,
        destroyed_s;
    bool asks_renewal_info, destroys_keys;
    char *notify_command;
    char *kms_metrics_address; /* of sti-kms run */
    char *upload_url, *upload_bearer_source, *upload_command;
    long command_timeout_s;
    char *tls_ca, *tls_key, *tls_chain;
    char *api_address, *api_socket, *bearer_source, *client_anchors;
    char *socket_mode, *callers, *trail;
    long threads; /* 0: not given */
    char *cr_address, *cr_base_url, *cr_dir;
    struct sks_dial_plan_keys dial_plan_keys;
    char *ports;
    bool private_addresses;
    char *x5u_tls_ca, *preload;
    long crl_every_s, list_every_s;
    long cache_chains, cache_octets, cache_unused_s;
    char *ca_keys, *intermediates;
    bool numbers_under_spc, any_tnauthlist, any_crl;
    char *catalogue, *trust_dir;

    /* what these texts mean */
    struct sks_dial_plan dial_plan;
    unsigned port_list[SKS_SP_PORTS_MAX + 1]; /* ends with 0 */
    unsigned ca_key_kinds; /* CERTS_CA_P384 | ... */
    unsigned socket_permissions; /* of [api] socket */
    struct sks_sp_provider *providers; /* that of [sp] first, then those of providers_file */
    size_t provider_count;
    struct sks_sp_token *named_tokens; /* of that file */
    size_t named_token_count;
};

/** Read and check a file into *out; faults are logged with file and line. */
HSM_MUST_CHECK enum hsm_status sks_sp_config_read(const char *path, struct sks_sp_config *out);

/** sks_sp_config_read(), then open the log as configured. @param program  borrowed for the life of
 *  the process */
HSM_MUST_CHECK enum hsm_status sks_sp_config_open(const char *program, const char *path,
                                                  struct sks_sp_config *out);

void sks_sp_config_clear(struct sks_sp_config *config);

/** Print the keys of the file, one line each, for --help. */
void sks_sp_config_help(FILE *to);

/** The number of configured tokens and STI-CAs: the first of each, and further ones that have a uri
 *  or directory; the named tokens of hosted providers come last. */
size_t sks_sp_token_count(const struct sks_sp_config *config);
size_t sks_sp_ca_count(const struct sks_sp_config *config);

/** The i-th token; its texts are borrowed. */
struct sks_sp_token sks_sp_token(const struct sks_sp_config *config, size_t i);

/** Find the provider with this SPC; false: not configured. */
bool sks_sp_find_provider(const struct sks_sp_config *config, const char *spc, size_t *out);

/** True if it has either user and password at the STI-PA, or an API key. */
bool sks_sp_has_credentials(const struct sks_sp_provider *provider);

/**
 * Open the tokens that are present.
 *
 * @param pin  of the first, instead of its source; may be NULL
 */
HSM_MUST_CHECK enum hsm_status sks_sp_tokens_open(const struct sks_sp_config *config,
                                                  const struct hsm_secret *pin,
                                                  struct sks_tokens **out);

#endif
