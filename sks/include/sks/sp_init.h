/*
 * sp_init.h - what a service provider needs before its first certificate: keys
 * in the token, TLS certificates, a bearer token, and the configuration file.
 */
#ifndef SKS_SP_INIT_H
#define SKS_SP_INIT_H

#include <stdbool.h>

#include <hsm/status.h>

/* CKA_LABEL of the key that a local client may use. */
#define SKS_SP_TLS_CLIENT_LABEL "tls-client"
#define SKS_SP_TLS_CLIENT_FILE  "tls-client-chain.pem"
#define SKS_SP_BEARER_FILE      "bearer"
#define SKS_SP_SOCKET_FILE      "sks.sock"

struct sks_sp_init { /* borrowed; NULL leaves a key of the configuration out */
    const char *dir;
    const char *token_uri, *module, *pin_source;
    const char *organization, *country; /* of the TLS certificates */
    const char *spc;
    const char *api_address, *cr_address, *cr_url;
    const char *const *tls_names; /* further names of the TLS server certificate; or NULL */
    const char *pa_url, *pa_account, *pa_user, *pa_password_source;
    const char *pa_api_key_source; /* instead of user and password */
    const char *pa_anchor; /* PEM file; copied */
    const char *ca_directory, *ca_contact;
    const char *tls_ca; /* PEM file of the peers' TLS anchors; copied, with the own root added */
    /* x5u ports besides 443 and 8443; NULL: that of cr_url when cr_url is on the loopback */
    const char *ports;
    bool private_addresses; /* fetch from them; true in any case when cr_url is on the loopback */
};

/**
 * Make what is missing in `dir`; existing things are kept. Each is reported as a
 * line on standard output; faults are logged.
 *
 * @retval HSM_ERR_USAGE  a value cannot stand in the configuration file
 */
HSM_MUST_CHECK enum hsm_status sks_sp_init(const struct sks_sp_init *init);

#endif
