/*
 * ecosystem.h - an STI-PA, an STI-CA and a service provider on one throw-away
 * token, and an HTTPS server with the answers of a test.
 *
 * All certificates hold from an hour ago for a year, by the clock of the machine.
 */
#ifndef TEST_ECOSYSTEM_H
#define TEST_ECOSYSTEM_H

#include <pthread.h>
#include <time.h>

#include <openssl/x509.h>

#include <acme/http_client.h>
#include <acme/http_server.h>
#include <certs/chain.h>
#include <certs/issue.h>
#include <hsm/key.h>
#include <hsm/token.h>

#include "softhsm.h"

#define ECO_CRL_URL "https://pa.example/download/v1/crl"
#define ECO_SPC     "1234"
#define ECO_DAY     86400 /* seconds */

struct ecosystem {
    time_t now; /* when it was made */
    struct hsm_token *token;
    struct hsm_key *root_key, *ca_key, *sp_key, *pa_key, *pa_signer_key, *crl_key;
    struct hsm_key *tls_root_key, *tls_key;
    struct certs_chain *roots; /* the STI-CA's root */
    struct certs_chain *ca; /* its intermediate */
    struct certs_chain *sp; /* the service provider's certificate, the intermediate */
    struct certs_chain *pa_anchors, *pa_signer, *crl_signer;
    struct certs_chain *tls_anchors, *tls;
    char tls_ca[4096]; /* path of tls_anchors */
    struct acme_http_client *http; /* trusts tls_anchors */
};

/** Abort, naming `what`, unless this succeeded. */
void eco_must(enum hsm_status st, const char *what);

/** Generate a key; hsm_key_free() it. */
struct hsm_key *eco_key(struct ecosystem *eco, const char *label);

/** A certificate as `request` says, with times unless it has them; X509_free() it. */
X509 *eco_issue(struct ecosystem *eco, struct certs_issue_request request, EVP_PKEY *public_key,
                const struct certs_chain *issuer, struct hsm_key *issuer_key);

/** The certificate alone; it is taken over. */
struct certs_chain *eco_chain(X509 *cert);

/** What the STI-CA issues to a service provider: the certificate, then the intermediate. */
struct certs_chain *eco_sp_chain(struct ecosystem *eco, const char *spc, EVP_PKEY *public_key,
                                 time_t not_before, time_t not_after);
struct certs_chain *eco_root(struct ecosystem *eco, enum certs_profile profile, const char *name,
                             struct hsm_key *key);

/** The keys and certificates of each party. */
void eco_pa_new(struct ecosystem *eco);
void eco_ca_new(struct ecosystem *eco);
void eco_tls_new(struct ecosystem *eco);

/** Make the token and all parties: eco_stop() them. */
void eco_start(struct ecosystem *eco);
void eco_stop(struct ecosystem *eco);

/** The Identity header field value of a PASSporT of that type: to 12155551213, of now, with these
 *  claims (",\"name\":value") besides, signed with the service provider's key; free() it. */
char *eco_identity(struct ecosystem *eco, const char *ppt, const char *x5u, const char *orig,
                   const char *claims);

/* The claims of a shaken PASSporT for eco_identity(). */
#define ECO_SHAKEN ",\"attest\":\"A\",\"origid\":\"de305d54-75b4-431b-adb2-eb6b9e546014\""

/** The STI-PA's CRL for some days from `this_update` on, with the certificate on it or without
 *  (NULL); free() it. */
uint8_t *eco_crl(struct ecosystem *eco, uint64_t number, time_t this_update, int days,
                 const char *url, const char *signer_url, const X509 *revoked, size_t *len);

/* An HTTPS server on a separate port; the handler runs on several threads. */
struct eco_server {
    struct acme_http_loop *loop;
    pthread_t thread;
    char base[64]; /* "https://127.0.0.1:PORT" */
    unsigned port;
};

/** A thread that runs a loop. */
void *eco_server_run(void *loop);

/** Start with the certificate of eco_tls_new(): eco_server_stop() it. */
void eco_server_start(struct eco_server *server, struct ecosystem *eco,
                      struct acme_http_handler handler);
void eco_server_stop(struct eco_server *server);

#endif
