/*
 * sti-ca.h - what the files of the program share: sti-ca.c (its daemon, its operator's commands)
 * and sti-ca-init.c (its keys, certificates and configuration).
 */
#ifndef STI_ACME_STI_CA_H
#define STI_ACME_STI_CA_H

#include <stdbool.h>

#include <hsm/status.h>

#include "options.h"

#define PROGRAM         "sti-ca"
#define CONFIG_FILE     PROGRAM ".conf"
#define STORE_FILE      PROGRAM ".db"
#define ISSUING_LABEL   "sti-ca-issuing"
#define CHAIN_FILE      "sti-ca-chain.pem"
#define ANCHORS_FILE    "pa-anchors.pem" /* copies of what init was given */
#define CRL_ISSUER_FILE "pa-crl-issuer.pem"
#define COUNTRY         "US"
#define AUTHORITIES_MAX 32
#define EVENTS_SHOWN    100 /* if nothing is said */

/** What it said; texts are borrowed from argv. */
struct arguments {
    const char *dir, *token, *module, *pin_source;
    const char *organization, *country, *address, *base_url;
    const char *pa_anchor, *crl_url, *crl_issuer_cert, *tls_ca;
    const char *revocation_url, *pa_user, *pa_password_source;
    const char *config, *spc, *serial, *reason, *id, *last, *user, *password_source;
    const char *authorities[AUTHORITIES_MAX + 1]; /* NULL-terminated */
    bool check, json;
};

extern const struct option_table ca_options;

/** The command init. */
enum hsm_status run_init(const void *command_line);

#endif
