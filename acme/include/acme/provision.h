/*
 * provision.h - the keys, certificates and configuration that each daemon's `init`
 * makes.
 *
 * Everything here may be repeated: an existing key of the token is used, and an
 * existing certificate of that key is kept.
 */
#ifndef ACME_PROVISION_H
#define ACME_PROVISION_H

#include <sys/types.h>

#include <acme/daemon.h>
#include <certs/chain.h>
#include <certs/issue.h>
#include <hsm/key.h>
#include <hsm/status.h>
#include <hsm/token.h>

#define ACME_PROVISION_BACKDATE_S 300 /* notBefore is this long ago: other clocks may be slow */

/** A certificate that must exist, and its place. */
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
 * Find or generate the key; keep the certificate at `path`, or issue a new one if
 * it is absent. A certificate of this issuer is issued again (same key, new serial)
 * when less than a third of its lifetime is left or when it lacks one of the
 * requested names; a self-signed certificate and one of another issuer are never
 * replaced. Faults are logged.
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
    /* The host of this URL is the server's name; if it is a loopback host, localhost, 127.0.0.1
     * and ::1 are added. */
    const char *base_url;
    const char *const
        *extra_names; /* further DNS names or IP addresses, NULL-terminated; or NULL */
};

/** Make a daemon's TLS root and server certificate, both keys in its token, as
 *  acme_provision_certificate() does. */
HSM_MUST_CHECK enum hsm_status acme_provision_tls(struct hsm_token *token,
                                                  const struct acme_provision_tls *tls);

/** Make a directory unless it exists. */
HSM_MUST_CHECK enum hsm_status acme_provision_dir(const char *dir, mode_t mode);

/** "DIR/NAME"; free() it. NULL: out of memory. */
char *acme_provision_path(const char *dir, const char *name);

/** "ORGANIZATION ROLE" if that fits a commonName, else "ROLE"; free() it. NULL: out of memory. */
char *acme_provision_common_name(const char *organization, const char *role);

/** Make the store DIR/NAME unless it exists, and bring its schema up to date (acme_store_open()).
 */
HSM_MUST_CHECK enum hsm_status acme_provision_store(const char *dir, const char *name,
                                                    const char *const *migrations);

/** Sources of secrets (hsm_secret_from()) for a configuration file; owned, NULL if not given. */
struct acme_provision_sources {
    char *pin, *password, *api_key;
};

/**
 * Copy sources and make the paths of files absolute, because the daemon reads the configuration in
 * another directory. A parameter may be NULL.
 *
 * @param out  a zeroed struct; after a failure it holds a part of the sources
 */
HSM_MUST_CHECK enum hsm_status acme_provision_sources_take(const char *pin, const char *password,
                                                           const char *api_key,
                                                           struct acme_provision_sources *out);
void acme_provision_sources_clear(struct acme_provision_sources *sources);

/** A line of a configuration file. All borrowed. */
struct acme_provision_line {
    const char *section; /* the lines of a section follow one another */
    const char *name; /* NULL: the line is a comment */
    const char *value; /* NULL: the line is left out */
};

/**
 * Make the text of the configuration file that `PROGRAM init` writes.
 *
 * @param lines  ends with a NULL section
 * @param out    free() it
 * @retval HSM_ERR_USAGE  a value is empty, has a control character, begins with a blank or ';', or
 *                        contains " ;"; its name is logged
 */
HSM_MUST_CHECK enum hsm_status acme_provision_config_text(const char *program,
                                                          const struct acme_provision_line *lines,
                                                          char **out);

/** Write the configuration file DIR/NAME (mode 0644) unless it exists: an operator may have edited
 *  it. Standard output receives its path and whether it was written. */
HSM_MUST_CHECK enum hsm_status acme_provision_config(const char *dir, const char *name,
                                                     const char *text);

#endif
