/*
 * provision.h - what our daemons have in common: the keys and certificates
 * that `init` makes.
 *
 * Everything here may be run again: a key that is in the token is used, a
 * certificate that is on disk and belongs to its key is kept.
 */
#ifndef ACME_PROVISION_H
#define ACME_PROVISION_H

#include <stdbool.h>
#include <stddef.h>

#include <acme/daemon.h>
#include <certs/chain.h>
#include <certs/issue.h>
#include <hsm/key.h>
#include <hsm/status.h>
#include <hsm/token.h>

#define ACME_PROVISION_BACKDATE_S 300 /* notBefore = now - this: clocks of others may lag */

/** A certificate that shall exist, and where. */
struct acme_provision_request {
    const char *label; /* of its key in the token */
    /* Profile, subject and what the profile wants. Key, serial and times are filled in. */
    struct certs_issue_request certificate;
    unsigned valid_days;
    const struct certs_chain *issuer; /* the issuing certificate first; NULL: self-signed */
    struct hsm_key *issuer_key; /* with issuer */
    const char *path; /* PEM: the certificate, then the issuer's chain with its root */
};

/**
 * Find or generate the key; keep the certificate at `path`, or issue it when
 * there is none. One that an issuer signed is issued anew (same key, new
 * serial) when less than a third of its life is left or when it lacks one of
 * the wanted names; a self-signed one is never replaced, nor one of another
 * issuer. Faults are logged.
 *
 * @param key    receives the key: hsm_key_free()
 * @param chain  receives what is at `path` now: certs_chain_free()
 * @retval HSM_ERR_UNTRUSTED  what is at `path` is not the certificate of this key; it stays as it
 * is
 */
HSM_MUST_CHECK enum hsm_status
acme_provision_certificate(struct hsm_token *token, const struct acme_provision_request *request,
                           struct hsm_key **key, struct certs_chain **chain);

/* ACME_PROVISION_TLS_SERVER_LABEL and ACME_PROVISION_TLS_CHAIN_FILE are in acme/daemon.h. */
#define ACME_PROVISION_TLS_ROOT_LABEL "tls-root"
#define ACME_PROVISION_TLS_ROOT_FILE  "tls-root.pem" /* what clients trust */

struct acme_provision_tls {
    const char *dir; /* receives the two files above */
    const char *organization; /* O of the subjects */
    const char *country; /* C of the subjects */
    /* The server's names: this URL's host; localhost, 127.0.0.1 and ::1 with it when that is
     * loopback. */
    const char *base_url;
    const char *const
        *extra_names; /* further DNS names or IP addresses, NULL-terminated; or NULL */
};

/** TLS root and server certificate of a daemon, both keys in its token, as above. */
HSM_MUST_CHECK enum hsm_status acme_provision_tls(struct hsm_token *token,
                                                  const struct acme_provision_tls *tls);

/**
 * Write a configuration file (mode 0644) unless it is there: an operator may have edited it.
 *
 * @param written  receives false when it was there
 */
HSM_MUST_CHECK enum hsm_status acme_provision_config(const char *path, const char *text,
                                                     bool *written);

/** Make a directory (mode 0755) unless it is there. */
HSM_MUST_CHECK enum hsm_status acme_provision_dir(const char *dir);

/** "DIR/NAME"; free() it. NULL: out of memory. */
char *acme_provision_path(const char *dir, const char *name);

/**
 * The same source of a secret (hsm_secret_from()), with the absolute path of a
 * file: a configuration is read from elsewhere; free() it. NULL: out of memory.
 */
char *acme_provision_source(const char *source);

/** "ORGANIZATION ROLE" when that fits a commonName, else "ROLE"; free() it. NULL: out of memory. */
char *acme_provision_common_name(const char *organization, const char *role);

/** A value that can stand in a line of a configuration file: no control characters, no " ;". */
bool acme_config_value_is_safe(const char *value);

#endif
