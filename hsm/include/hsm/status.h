/*
 * status.h - the one error type of all four floors.
 *
 * A status is a kind: it tells the caller what to do next. What exactly was
 * wrong is reported once, where it is noticed: faults of the system are logged,
 * faults of an input are written to a struct hsm_reason, so that a server can
 * pass them to the peer.
 */
#ifndef HSM_STATUS_H
#define HSM_STATUS_H

#define HSM_MUST_CHECK          __attribute__((warn_unused_result))
#define HSM_PRINTF(text, first) __attribute__((format(printf, text, first)))

enum hsm_status {
    HSM_OK = 0,
    HSM_ERR_USAGE, /* the caller broke the contract: fix the program or its arguments */
    HSM_ERR_NOMEM, /* give up on this operation */
    HSM_ERR_NOT_FOUND, /* nothing has that name: fix the configuration */
    HSM_ERR_AMBIGUOUS, /* several have that name: fix the configuration */
    HSM_ERR_EXISTS, /* the name is taken */
    HSM_ERR_DENIED, /* wrong PIN, password or missing right: never retry */
    HSM_ERR_BUSY, /* token or peer unavailable: retry later */
    HSM_ERR_MALFORMED, /* input breaks its grammar: reject it */
    HSM_ERR_UNTRUSTED, /* well-formed, but its signature, issuer, time or binding is not good */
    HSM_ERR_UNSUPPORTED, /* well-formed, but with an algorithm or form that is not supported */
    HSM_ERR_CRYPTO, /* a cryptographic operation failed */
    HSM_ERR_IO, /* a file, socket or disk of this machine failed */
};

/** A short name of the kind, such as "not found"; static storage. */
const char *hsm_status_text(enum hsm_status status);

/** The exit status of a program that ends with this kind: 0, 2 for USAGE, else 1. */
int hsm_status_exit(enum hsm_status status);

#define HSM_REASON_MAX 256 /* octets with the final NUL; longer texts are cut */

/** Why an input was refused: one line for a person, printable, never a secret. */
struct hsm_reason {
    char text[HSM_REASON_MAX];
};

/**
 * Write the reason and return the kind, so that a refusal is one statement:
 * `return hsm_refuse(why, HSM_ERR_MALFORMED, "JWS: %zu parts", n);`
 *
 * Control characters and octets above 0x7e of what was formatted become '?'.
 *
 * @param why  may be NULL: the caller does not want to know
 */
enum hsm_status hsm_refuse(struct hsm_reason *why, enum hsm_status status, const char *format, ...)
    HSM_PRINTF(3, 4);

#endif
