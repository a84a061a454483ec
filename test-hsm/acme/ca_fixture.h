/*
 * ca_fixture.h - an STI-CA on the server of pa_fixture.h, and ACME clients of other parties: raw
 * requests, correct or with one fault.
 */
#ifndef TEST_CA_FIXTURE_H
#define TEST_CA_FIXTURE_H

#include <stdatomic.h>
#include <stdbool.h>

#include <jansson.h>

#include <acme/server.h>

#include "pa_fixture.h"

#define CA_URL_SIZE 512

struct ca_fixture {
    struct pa_fixture pa;
    struct hsm_key *root_key, *issuing_key;
    struct certs_chain *root, *issuing_chain;
    char store_path[4200];
    struct acme_store *store;
    struct acme_server_config config; /* a test changes it, then ca_fixture_restart() */
    struct acme_server *server;
    char authority[128]; /* "https://127.0.0.1:PORT/pa/" */
    const char *authorities[2];
    /* Called before the STI-CA; returns true if it has answered instead. NULL: not used. */
    bool (*intercept)(struct ca_fixture *fixture, const struct acme_http_request *request,
                      struct acme_http_response *response);
    atomic_int intercepted; /* counter for the interceptor */
    char url[64]; /* base URL of the STI-CA: pa.base_url, or that of a program */
    char tls_ca[4200]; /* PEM file with which a client trusts it */
    const char *headers[8]; /* "NAME: VALUE", sent with each request; NULL-terminated */
};

void ca_fixture_start(struct ca_fixture *fixture);
void ca_fixture_stop(struct ca_fixture *fixture);

/** Answer a request for what the STI-PA publishes below "/pa/". */
void ca_fixture_answer_pa(struct ca_fixture *fixture, const char *path,
                          struct acme_http_response *response);

/** Close server and store and open them again, as after a crash. */
void ca_fixture_restart(struct ca_fixture *fixture);

/** Set the server's clock; initially, and with 0, it is the real time. */
void ca_fixture_set_time(time_t now);
time_t ca_fixture_time(void);

/** The number that a query of the store returns. */
int64_t ca_fixture_count(struct ca_fixture *fixture, const char *sql);
/** Run a statement without parameters. */
void ca_fixture_sql(struct ca_fixture *fixture, const char *sql);
/** Run a statement whose only parameter is the id of an order: the last segment of its URL. */
void ca_fixture_order_sql(struct ca_fixture *fixture, const char *url, const char *sql);

/* ---- answers ---- */

struct got {
    int status;
    char *headers; /* as received, "\r\n" between */
    char *body;
    json_t *json; /* NULL: not JSON */
};

void got_clear(struct got *got);
/** The value of a header, or of the n-th header with this name; "" if absent. Valid until the
 * fourth call after this one. */
const char *got_header_n(const struct got *got, const char *name, int n);
const char *got_header(const struct got *got, const char *name);
/** A string member of the body; fails the test if it is absent. */
const char *got_text(const struct got *got, const char *name);
/** The type of the problem document without its prefix; "" if the body is not one. */
const char *got_problem(const struct got *got);

/* ---- requests ---- */

/** Send any request. body NULL: no body. */
void ca_fetch(struct ca_fixture *fixture, const char *method, const char *path,
              const char *content_type, const char *body, struct got *got);

/** ca_fetch(), but false if there was no answer, as from a server that has just been killed. */
bool ca_try_fetch(struct ca_fixture *fixture, const char *method, const char *path,
                  const char *content_type, const char *body, struct got *got);

/** Another party's client: a software key and, once it has one, its account. */
struct peer {
    EVP_PKEY *key;
    char kid[CA_URL_SIZE]; /* "": none yet */
};

void peer_start(struct peer *peer); /* a fresh key, no account */
void peer_join(struct ca_fixture *fixture, struct peer *peer); /* a fresh key and an account */
void peer_stop(struct peer *peer);

/** A signed request, with optional faults. */
struct post {
    const char *path; /* or the whole URL */
    const char *payload; /* "": POST-as-GET */
    const char *alg, *url, *nonce, *content_type, *kid; /* NULL: the correct value */
    const json_t *header; /* members that replace or join those of the protected header */
    bool no_nonce, with_jwk, without_key, break_signature;
};

/** The body of such a request; free() it. */
char *peer_body(struct ca_fixture *fixture, const struct peer *peer, const struct post *post);
void peer_post(struct ca_fixture *fixture, const struct peer *peer, const struct post *post,
               struct got *got);
/** Send a correct request of an account. */
void peer_send(struct ca_fixture *fixture, const struct peer *peer, const char *path,
               const char *payload, struct got *got);

/** An external account binding, with optional faults. */
struct peer_binding {
    const char *dir; /* of acme_server_external_add() */
    const char *kid; /* its file also has the key, unless key_of names another */
    const char *key_of, *alg, *url, *nonce; /* NULL: the correct value */
    EVP_PKEY *payload_key; /* NULL: the account's */
};

/** {"externalAccountBinding": ...}; free() it. */
char *peer_binding_payload(struct ca_fixture *fixture, const struct peer *peer,
                           const struct peer_binding *binding);

/** A nonce of the server. */
void ca_nonce(struct ca_fixture *fixture, char nonce[64]);

/* ---- orders in progress ---- */

struct peer_order {
    char url[CA_URL_SIZE], authz[CA_URL_SIZE], challenge[CA_URL_SIZE], finalize[CA_URL_SIZE];
};

/** The payload of a newOrder for the SPC; free() it. */
char *peer_order_payload(const char *spc);

/** newOrder for the SPC; fails the test when it is refused. */
void peer_order(struct ca_fixture *fixture, const struct peer *peer, const char *spc,
                struct peer_order *order);
/** peer_order(), and answer its challenge. */
void peer_order_ready(struct ca_fixture *fixture, const struct peer *peer, const char *spc,
                      struct peer_order *order);

/* The values of an SPC token; members that are NULL or 0 get the values that the STI-PA would
 * use. */
struct token_plan {
    const char *spc, *tkvalue, *fingerprint, *x5u, *jti;
    EVP_PKEY *account_key; /* its fingerprint goes into the token */
    struct hsm_key *signer;
    time_t exp;
    bool ca;
};
char *peer_token(struct ca_fixture *fixture, const struct token_plan *plan);

/** {"csr": ...} of a request for the SPC (NULL: without TNAuthList); free() it. */
char *peer_csr_payload(EVP_PKEY *key, const char *spc, bool ca);

/** The CSR of peer_csr_payload() in PEM; free() it. */
char *peer_csr_pem(EVP_PKEY *key, const char *spc, bool ca);

/** Fails the test unless the resource has this status. */
void peer_assert_status(struct ca_fixture *fixture, const struct peer *peer, const char *url,
                        const char *status);

/* finalize with a CSR for the key, as built by peer_csr_payload(). */
void peer_finalize(struct ca_fixture *fixture, const struct peer *peer,
                   const struct peer_order *order, EVP_PKEY *key, const char *spc, bool ca,
                   struct got *got);

/** Complete an order up to its certificate, for a fresh key. */
void peer_enrol(struct ca_fixture *fixture, const struct peer *peer, const char *spc,
                struct peer_order *order);

/** DER of the certificate of a valid order; free() it. */
uint8_t *peer_download(struct ca_fixture *fixture, const struct peer *peer, const char *order_url,
                       size_t *len);

#endif
