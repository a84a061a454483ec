/*
 * use.h - what a private key is used for, and who asked: for the signing journal.
 *
 * Both are set for a thread, from the statement to the end of its block. Code
 * that builds what is signed sets the kind; code that serves a caller sets the
 * name by which the configuration knows that caller. A signature whose kind was
 * not set is journaled as "unspecified", which is a fault of the program.
 *
 *   HSM_USE_FOR(HSM_USE_CRL);      the signatures of this thread are CRLs,
 *   HSM_USE_ASKED_BY(account_id);  and this account asked for them
 */
#ifndef HSM_USE_H
#define HSM_USE_H

#include <stdbool.h>

#define HSM_WHO_MAX 63 /* octets of a name that are journaled; the rest is cut */

enum hsm_use_kind {
    HSM_USE_UNSPECIFIED,
    HSM_USE_CERTIFICATE,
    HSM_USE_CRL,
    HSM_USE_CSR,
    HSM_USE_SPC_TOKEN, /* RFC 9448 */
    HSM_USE_CA_LIST, /* trusted STI-CAs, ATIS-1000084 */
    HSM_USE_PASSPORT, /* RFC 8225 */
    HSM_USE_ACME, /* a request, RFC 8555 section 6.2 */
    /* A handshake. A signature with this kind does not wait for a token that is being recovered.
     * An EVP_PKEY of hsm_key_pkey() is journaled with this kind unless another was set. */
    HSM_USE_TLS,
    HSM_USE_SELF_TEST, /* does the token sign? */
    HSM_USE_OPERATOR, /* a person asked on a command line */
    HSM_USE_BENCHMARK,
    HSM_USE_AUDIT, /* a report */
    HSM_USE_KEY_GENERATION, /* the digest is that of the public key */
    HSM_USE_KEY_DESTRUCTION, /* likewise */
    HSM_USE_KINDS /* the number of kinds */
};

struct hsm_use {
    enum hsm_use_kind kind;
    const char *who; /* borrowed; NULL: the program itself */
};

/** The use that is set for this thread. */
struct hsm_use hsm_use_now(void);

/** Set one of the two and return the previous values, for hsm_use_restore(). */
struct hsm_use hsm_use_for(enum hsm_use_kind kind);
struct hsm_use hsm_use_asked_by(const char *who);

void hsm_use_restore(const struct hsm_use *before);

/* The variable is only read by its cleanup. */
#define HSM_USE_SCOPE __attribute__((cleanup(hsm_use_restore), unused)) struct hsm_use

#define HSM_USE_FOR(kind)     HSM_USE_SCOPE hsm_use_kind_before = hsm_use_for(kind)
#define HSM_USE_ASKED_BY(who) HSM_USE_SCOPE hsm_use_who_before = hsm_use_asked_by(who)

/** "certificate", "crl", ...: as in the journal. */
const char *hsm_use_word(enum hsm_use_kind kind);

/** False for signatures made at call rate: these may be journaled shortly after they were given
 *  out. */
bool hsm_use_is_durable(enum hsm_use_kind kind);

#endif
