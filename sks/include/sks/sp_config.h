/*
 * sp_config.h - the configuration of a service provider, which sti-kms and
 * sti-sks share, and what both open as it says.
 */
#ifndef SKS_SP_CONFIG_H
#define SKS_SP_CONFIG_H

#include <stdbool.h>
#include <stdio.h>

#include <acme/client.h>
#include <acme/http_client.h>
#include <acme/jwk.h>
#include <acme/provision.h>
#include <certs/chain.h>
#include <hsm/status.h>
#include <sks/trust.h>
#include <sks/verify.h>
#include <sks/x5u.h>

#define SKS_SP_CONFIG_FILE "sp.conf"
#define SKS_SP_PORTS_MAX   16 /* of [verification] ports */

/* Texts are owned; those without a default are NULL when not given. */
struct sks_sp_config {
    struct acme_daemon_config common; /* its members for [token] and [log] */
    char *spc;
    char *pa_url, *pa_account, *pa_user, *pa_password_source, *pa_anchors;
    char *ca_list_url, *crl_url;
    char *ca_directory, *ca_contact, *tkauth_member, *fingerprint;
    long poll_limit_s;
    char *tls_ca, *tls_key, *tls_chain;
    char *api_address, *api_socket, *bearer_source, *client_anchors;
    long threads;
    char *cr_address, *cr_base_url, *cr_dir;
    char *ports;
    bool private_addresses;
    char *preload;
    long crl_every_s, list_every_s;
    char *ca_keys, *intermediates;
    bool numbers_under_spc, any_tnauthlist, any_crl;
    char *catalogue, *trust_dir;

    /* what these texts mean */
    enum acme_tkauth_member member;
    enum acme_fingerprint fingerprint_form;
    unsigned port_list[SKS_SP_PORTS_MAX + 1]; /* ends with 0 */
    unsigned ca_key_kinds; /* CERTS_CA_P384 | ... */
};

/** Read and check a file into *out; faults are logged with file and line. */
HSM_MUST_CHECK enum hsm_status sks_sp_config_read(const char *path, struct sks_sp_config *out);
void sks_sp_config_clear(struct sks_sp_config *config);

/** Print the keys of the file, one line each, for --help. */
void sks_sp_config_help(FILE *to);

/** What verifies calls and certificates; no token is needed for it. */
struct sks_sp_verification {
    struct acme_http_client *http;
    struct certs_chain *pa_anchors;
    struct certs_chain *intermediates; /* the local store; NULL: none */
    struct sks_trust *trust;
    struct sks_x5u_cache *x5u;
    struct sks_verifier *verifier;
};

/** Open all of it; nothing is fetched yet. Faults are logged. `config` is borrowed. */
HSM_MUST_CHECK enum hsm_status sks_sp_verification_open(const struct sks_sp_config *config,
                                                        struct sks_sp_verification *out);

/** Fetch anew what is due; call it again after so many seconds, on a thread that may wait. Failures
 *  are logged. */
unsigned sks_sp_verification_refresh(struct sks_sp_verification *verification, time_t now);

/** Release what it holds and make it empty. */
void sks_sp_verification_close(struct sks_sp_verification *verification);

#endif
