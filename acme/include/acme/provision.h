/*
 * provision.h - the keys, certificates and configuration that each daemon's `init`
 * makes.
 *
 * Everything here may be run again: a key that exists in the token is used, a
 * certificate on disk that belongs to its key is kept.
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

#define ACME_PROVISION_BACKDATE_S 300 /* notBefore is this long ago: other clocks may be slow */

/** A certificate that must exist, and where. */
struct acme_provision_request {
    const char *label; /* of its key in the token */
    /* Profile, subject and what the profile requires. Key, serial and times are filled in. */
    struct certs_issue_request certificate;
    unsigned valid_days;
    const struct certs_chain *issuer; /* the issuing certificate first; NULL: self-signed */
    struct hsm_key *issuer_key; /* with issuer */
    const char *path; /* PEM: the certificate, then the issuer's chain with its root */
};

/**
 * Find or generate the key; keep the certificate at `path`, or issue it if there
 * is none. A certificate of this issuer is issued again (same key, new serial)
 * when less than a third of its lifetime is left or when it lacks one of the
 * requested names; a self-signed one is never replaced, nor one by another
 * issuer. Faults are logged.
 *
 * @param key    receives the key: hsm_key_free()
 * @param chain  receives the chain now at `path`: certs_chain_free()
 * @retval HSM_ERR_UNTRUSTED  the certificate at `path` is not that of this key; it is not changed
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
    /* The host of this URL is the server's name; if it is loopback, localhost, 127.0.0.1 and ::1
     * are its names, too. */
    const char *base_url;
    const char *const
        *extra_names; /* further DNS names or IP addresses, NULL-terminated; or NULL */
};

/** Make a daemon's TLS root and server certificate, both keys in its token, as
 *  acme_provision_certificate() does. */
HSM_MUST_CHECK enum hsm_status acme_provision_tls(struct hsm_token *token,
                                                  const struct acme_provision_tls *tls);

/**
 * Write a configuration file (mode 0644) unless it exists: an operator may have edited it.
 *
 * @param written  receives false if it existed
 */
HSM_MUST_CHECK enum hsm_status acme_provision_config(const char *path, const char *text,
                                                     bool *written);

/** Make a directory (mode 0755) unless it exists. */
HSM_MUST_CHECK enum hsm_status acme_provision_dir(const char *dir);

/** "DIR/NAME"; free() it. NULL: out of memory. */
char *acme_provision_path(const char *dir, const char *name);

/**
 * A source of a secret (hsm_secret_from()) with the path of a file made absolute,
 * as the configuration is read from another directory; free() it. NULL: out of
 * memory.
 */
char *acme_provision_source(const char *source);

/** "ORGANIZATION ROLE" if that fits a commonName, else "ROLE"; free() it. NULL: out of memory. */
char *acme_provision_common_name(const char *organization, const char *role);

/** True for a value that a line of a configuration file can hold: no control characters, no " ;".
 */
bool acme_config_value_is_safe(const char *value);

#endif
