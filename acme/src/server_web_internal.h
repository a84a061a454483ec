/*
 * server_web_internal.h - shared by the files of the STI-CA's web pages.
 *
 * A handler responds through its call: it writes the page and sets the status.
 * Functions that take a call and return bool have made the response when they
 * return false.
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

#define ACME_WEB_FORM_LEN     ACME_THUMBPRINT_LEN /* base64url of 32 octets */
#define ACME_WEB_LOGINS       60 /* passwords tried per hour from one address */
#define ACME_WEB_ADMITTED_MAX 4 /* operators whose password was right minutes ago */

/* The CRL at crl_url when it was last fetched. */
struct acme_web_crl {
    time_t looked; /* 0: never */
    time_t this_update, next_update;
    long long number, entries;
    struct hsm_reason fault; /* "": the CRL is valid */
};

struct acme_web {
    pthread_mutex_t scrypt; /* one password at a time: hashing takes 32 MiB */
    pthread_mutex_t mutex; /* guards the members below */
    struct hsm_secret *key; /* for the digests below; random, per process */
    struct {
        uint8_t digest[32]; /* MAC over user, password and stored hash */
        time_t until;
    } admitted[ACME_WEB_ADMITTED_MAX];
    struct acme_web_crl crl;
    bool looking; /* a thread is fetching the CRL */
};

struct acme_web_call {
    struct acme_server *server;
    const struct acme_http_request *request;
    struct acme_http_response *response;
    char params[1][ACME_HTTP_PARAM_MAX + 1]; /* :id of the path */
    time_t now;
    char secret[ACME_ID_LEN + 1]; /* from the browser's cookie; "" before there is one */
    struct acme_html page;
};

/* ---- server_web.c ---- */

/** Begin a page; `title` is its <title> and its <h1>. */
void acme_web_begin(struct acme_web_call *call, const char *title);
/** End the page and respond with it. */
void acme_web_end(struct acme_web_call *call, int http_status);
/** A page with only this text, and a link to the form. */
void acme_web_say(struct acme_web_call *call, int http_status, const char *title, const char *text);
/** Respond to a fault of this server: 503 when it is transient, else 500. */
void acme_web_fault(struct acme_web_call *call, enum hsm_status st);
/** 429 with Retry-After. */
void acme_web_refuse_limit(struct acme_web_call *call, const char *what, time_t wait_s);
/** 303: the browser fetches `path`. */
void acme_web_redirect(struct acme_web_call *call, const char *path);

/** The hidden field of a form: bound to the cookie, which other sites can neither set nor read. */
bool acme_web_form_token(const struct acme_web_call *call, char out[ACME_WEB_FORM_LEN + 1]);

/* ---- server_web_check.c ---- */

enum acme_web_field {
    ACME_WEB_CSR,
    ACME_WEB_TOKEN,
    ACME_WEB_FIELDS
};

/* A CSR and its SPC token that may be certified, and the contents of the certificate. */
struct acme_web_checked {
    struct certs_csr *csr;
    struct acme_authority_token *token;
    struct certs_chain *signer; /* of the token */
    const char *spc; /* borrowed from csr */
    char thumbprint[ACME_THUMBPRINT_LEN + 1]; /* of the CSR's key; so is the fingerprint */
    char fingerprint[ACME_FINGERPRINT_LEN + 1];
    struct acme_subject subject;
    time_t not_before, not_after;
    char order[ACME_ID_LEN + 1]; /* "": none; else this same request was made before */
};

/** Reasons of a refusal by field; "": the field is not at fault. */
struct acme_web_refusal {
    struct hsm_reason why[ACME_WEB_FIELDS];
};

/**
 * Every check of finalize (RFC 8555 section 7.4) and tkauth-01 (RFC 9448 section 6). The key of the
 * CSR takes the place of the account's key, to which a token is bound in ACME (RFC 9448 section
 * 5.4): so only the holder of the key that the token names can use it.
 *
 * @param token  blanks and line ends in it are dropped
 * @param out    set also on a refusal: acme_web_checked_clear()
 * @return HSM_OK; a fault (acme_status_is_fault()); any other: refused, with a reason for a field
 */
HSM_MUST_CHECK enum hsm_status acme_web_check(struct acme_server *server, const char *csr,
                                              char *token, time_t now, struct acme_web_checked *out,
                                              struct acme_web_refusal *refusal);
void acme_web_checked_clear(struct acme_web_checked *checked);

/* ---- server_web_user.c ---- */

/** True if the request has an operator's password (RFC 7617). */
bool acme_web_wants_operator(struct acme_web_call *call);

/* ---- handlers: server_web_manual.c, server_web_order.c, server_web_status.c ---- */

void acme_web_form(struct acme_web_call *call);
void acme_web_preview(struct acme_web_call *call);
void acme_web_issue(struct acme_web_call *call);
void acme_web_order(struct acme_web_call *call);
void acme_web_chain(struct acme_web_call *call);
void acme_web_status(struct acme_web_call *call);

/** A row of a list with name and value. */
void acme_web_row(struct acme_web_call *call, const char *name, const char *value);
/** acme_web_row() for a time. */
void acme_web_time_row(struct acme_web_call *call, const char *name, time_t t);

#define ACME_WEB_SERIAL_LEN 40 /* hex digits */
void acme_web_serial(const uint8_t *serial, size_t len, char out[ACME_WEB_SERIAL_LEN + 1]);

#endif
