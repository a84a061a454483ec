/*
 * sti-ca.h - shared by sti-ca.c (the daemon), sti-ca-init.c (keys, certificates and
 * configuration) and sti-ca-operator.c (the operator's commands).
 */
#ifndef STI_ACME_STI_CA_H
#define STI_ACME_STI_CA_H

#include <stdbool.h>

#include <acme/daemon.h>
#include <acme/store.h>
#include <hsm/status.h>

#include "options.h"
#include "store_program.h"

#define PROGRAM         "sti-ca"
#define CONFIG_FILE     PROGRAM ".conf"
#define STORE_FILE      PROGRAM ".db"
#define ISSUING_LABEL   "sti-ca-issuing"
#define CHAIN_FILE      "sti-ca-chain.pem"
#define ANCHORS_FILE    "pa-anchors.pem" /* copies of the files given to init */
#define CRL_ISSUER_FILE "pa-crl-issuer.pem"
#define COUNTRY         "US"
#define AUTHORITIES_MAX 32

/** The command line; texts are borrowed from argv. */
struct arguments {
    const char *config, *last;
    bool check, json;
    const char *dir, *token, *module, *pin_source;
    const char *organization, *country, *address, *base_url;
    const char *pa_anchor, *crl_url, *crl_issuer_cert, *tls_ca, *issuing_chain;
    const char *revocation_url, *pa_user, *pa_password_source, *pa_api_key_source;
    const char *spc, *serial, *reason, *since, *id, *user, *password_source;
    const char *authorities[AUTHORITIES_MAX + 1]; /* NULL-terminated */
};

/* The configuration file. */
struct config {
    struct acme_daemon_config daemon;
    char *store, *issuing_key, *chain, *policy, *country;
    long valid_days, backdate_s;
    bool participants_required, account_key_in_csr, read_without_dot, reuse_authorizations;
    bool host_chains, within_token;
    char *alternate_chains, *terms_of_service;
    char *external_accounts;
    bool external_account_required;
    long accounts_per_address, orders_per_address, orders_per_account;
    long nonces_per_address, requests_per_account, renewal_info_per_address;
    long renew_from_percent, renew_until_percent;
    char *anchors, *authorities, *crl_url, *crl_issuer, *tls_ca;
    char *revocation_url, *user, *password_source, *api_key_source;
    bool web_enabled;
};

void ca_config_clear(void *config);

/**
 * Open the store of the configuration that --config names.
 *
 * @param config  zeroed, receives the configuration: ca_config_clear(); or NULL
 */
HSM_MUST_CHECK enum hsm_status open_store(const struct arguments *arguments, struct config *config,
                                          struct acme_store **out);

/** The command init. */
enum hsm_status run_init(const struct arguments *arguments);

/* The operator's commands. */
enum hsm_status run_participant_set(const struct arguments *arguments);
enum hsm_status run_participant_list(const struct arguments *arguments);
enum hsm_status run_participant_remove(const struct arguments *arguments);
enum hsm_status run_account_list(const struct arguments *arguments);
enum hsm_status run_account_revoke(const struct arguments *arguments);
enum hsm_status run_eab_add(const struct arguments *arguments);
enum hsm_status run_eab_list(const struct arguments *arguments);
enum hsm_status run_eab_remove(const struct arguments *arguments);
enum hsm_status run_web_user_add(const struct arguments *arguments);
enum hsm_status run_web_user_list(const struct arguments *arguments);
enum hsm_status run_web_user_remove(const struct arguments *arguments);
enum hsm_status run_revoke(const struct arguments *arguments);
enum hsm_status run_revocation_resend(const struct arguments *arguments);

#endif
