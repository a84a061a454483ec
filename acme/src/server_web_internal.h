/*
 * server_web_internal.h - what the files of the STI-CA's web pages share.
 *
 * A handler answers through its call: it writes the page and gives the status.
 * Functions that return bool and take a call have answered when they return false.
 */
#ifndef ACME_SERVER_WEB_INTERNAL_H
#define ACME_SERVER_WEB_INTERNAL_H

#include <pthread.h>

#include <acme/authority_token.h>
#include <acme/jwk.h>
#include <certs/csr.h>

#include "form_internal.h"
#include "html_internal.h"
#include "password_internal.h"
#include "server_internal.h"

#define ACME_WEB_MANUAL       "manual" /* the account of what is ordered here; it has no key */
#define ACME_WEB_FORM_LEN     ACME_THUMBPRINT_LEN /* base64url of 32 octets */
#define ACME_WEB_LOGINS       60 /* passwords tried in an hour from one address */
#define ACME_WEB_ADMITTED_MAX 4 /* operators whose password was right moments ago */

/* What the CRL at crl_url was when somebody last looked. */
struct acme_web_crl {
    time_t looked; /* 0: nobody has */
    time_t this_update, next_update;
    long long number, entries;
    struct hsm_reason fault; /* "": it is good */
};

struct acme_web {
    pthread_mutex_t scrypt; /* one password at a time: it takes 32 MiB */
    pthread_mutex_t mutex; /* of what follows */
    struct hsm_secret *key; /* of the digests below; of this process */
    struct {
        uint8_t digest[32]; /* of user, password and stored hash */
        time_t until;
    } admitted[ACME_WEB_ADMITTED_MAX];
    struct acme_web_crl crl;
    bool looking; /* at the CRL: somebody is */
};

struct acme_web_call {
    struct acme_server *server;
    const struct acme_http_request *request;
    struct acme_http_response *response;
    char params[1][ACME_HTTP_PARAM_MAX + 1]; /* :id of the path */
    time_t now;
    char secret[ACME_ID_LEN + 1]; /* of the browser's cookie; "" before there is one */
    struct acme_html page;
};

/* ---- server_web.c ---- */

/** Begin a page; `title` is its <title> and its <h1>. */
void acme_web_begin(struct acme_web_call *call, const char *title);
/** End it and answer with it. */
void acme_web_end(struct acme_web_call *call, int http_status);
/** A page that says no more than this, and leads back to the form. */
void acme_web_say(struct acme_web_call *call, int http_status, const char *title, const char *text);
/** Answer a fault of this server: 503 when it may pass, else 500. */
void acme_web_fault(struct acme_web_call *call, enum hsm_status st);
/** 429 with Retry-After. */
void acme_web_refuse_limit(struct acme_web_call *call, const char *what, time_t wait_s);
/** 303: the browser reads `path`. */
void acme_web_redirect(struct acme_web_call *call, const char *path);

/** The hidden field of a form: bound to the cookie, which no other site can set or read. */
bool acme_web_form_token(const struct acme_web_call *call, char out[ACME_WEB_FORM_LEN + 1]);

/* ---- server_web_check.c ---- */

enum acme_web_field {
    ACME_WEB_CSR,
    ACME_WEB_TOKEN,
    ACME_WEB_FIELDS
};

/* A CSR with its SPC token that may be certified, and what the certificate will say. */
struct acme_web_checked {
    struct certs_csr *csr;
    struct acme_authority_token *token;
    struct certs_chain *signer; /* of the token */
    const char *spc; /* borrowed from csr */
    char thumbprint[ACME_THUMBPRINT_LEN + 1]; /* of the CSR's key, as next */
    char fingerprint[ACME_FINGERPRINT_LEN + 1];
    struct acme_subject subject;
    time_t not_before, not_after;
    char order[ACME_ID_LEN + 1]; /* "": none; else this very request was made before */
};

/** Why it was refused, by field; "": that one is not at fault. */
struct acme_web_refusal {
    struct hsm_reason why[ACME_WEB_FIELDS];
};

/**
 * Every check of finalize (RFC 8555 section 7.4) and tkauth-01 (RFC 9448 section 6). The key of the
 * CSR stands for the account's key, to which a token is bound there (RFC 9448 section 5.4): so a
 * token is of use only to who holds the key that it names.
 *
 * @param token  blanks and line ends in it are dropped
 * @param out    filled also when it is refused: acme_web_checked_clear()
 * @return HSM_OK; a fault (acme_status_is_fault()); any other: refused, with a reason for a field
 */
HSM_MUST_CHECK enum hsm_status acme_web_check(struct acme_server *server, const char *csr,
                                              char *token, time_t now, struct acme_web_checked *out,
                                              struct acme_web_refusal *refusal);
void acme_web_checked_clear(struct acme_web_checked *checked);

/* ---- server_web_user.c ---- */

/** Whether an operator asks (RFC 7617). */
bool acme_web_wants_operator(struct acme_web_call *call);

/* ---- handlers: server_web_manual.c, server_web_order.c, server_web_status.c ---- */

void acme_web_form(struct acme_web_call *call);
void acme_web_preview(struct acme_web_call *call);
void acme_web_issue(struct acme_web_call *call);
void acme_web_order(struct acme_web_call *call);
void acme_web_chain(struct acme_web_call *call);
void acme_web_status(struct acme_web_call *call);

/** A row of a list of names and values. */
void acme_web_row(struct acme_web_call *call, const char *name, const char *value);
/** The same of a time. */
void acme_web_time_row(struct acme_web_call *call, const char *name, time_t t);

#define ACME_WEB_SERIAL_LEN 40 /* hex digits */
void acme_web_serial(const uint8_t *serial, size_t len, char out[ACME_WEB_SERIAL_LEN + 1]);

#endif
