/*
 * provision.h - what our daemons have in common: the keys and certificates
 * that `init` makes, and opening what a configuration names.
 *
 * Everything here may be run again: a key that is in the token is used, a
 * certificate that is on disk and belongs to its key is kept.
 */
#ifndef ACME_PROVISION_H
#define ACME_PROVISION_H

#include <stdbool.h>
#include <stddef.h>

#include <acme/config.h>
#include <acme/http_server.h>
#include <acme/journal.h>
#include <certs/chain.h>
#include <certs/issue.h>
#include <hsm/key.h>
#include <hsm/secret.h>
#include <hsm/status.h>
#include <hsm/supervise.h>
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
 * the wanted names; a self-signed one is never replaced. Faults are logged.
 *
 * @param key    receives the key: hsm_key_free()
 * @param chain  receives what is at `path` now: certs_chain_free()
 * @retval HSM_ERR_UNTRUSTED  what is at `path` is not the certificate of this key; it stays as it
 * is
 */
HSM_MUST_CHECK enum hsm_status
acme_provision_certificate(struct hsm_token *token, const struct acme_provision_request *request,
                           struct hsm_key **key, struct certs_chain **chain);

#define ACME_PROVISION_TLS_ROOT_LABEL   "tls-root"
#define ACME_PROVISION_TLS_SERVER_LABEL "tls-server"
#define ACME_PROVISION_TLS_ROOT_FILE    "tls-root.pem" /* what clients trust */
#define ACME_PROVISION_TLS_CHAIN_FILE   "tls-chain.pem" /* what the server shows */

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

/** What the configuration of every daemon says; a member of the daemon's own struct. */
/* struct hsm_token_config as a file says it: 0 and NULL are its defaults. */
struct acme_token_settings {
    char *route, *quirks;
    long sessions, workers, queue_max, op_timeout_ms;
    long reconnect_min_ms, reconnect_max_ms, verify_every, probe_ms;
};

struct acme_daemon_config {
    char *token_uri, *module, *pin_source;
    struct acme_token_settings token;
    char *address, *base_url, *tls_key, *tls_chain;
    long threads, workers;
    char *log_format, *log_level;
    struct acme_journal_config journal;

    /* Not from the file: what acme_daemon_supervise() gives its workers. All borrowed, or NULL. */
    const struct hsm_secret *pin; /* of a source that can be read once only */
    const struct acme_http_listener *listener;
    struct hsm_worker *worker;
};

/* One row of the table below. */
#define ACME_DAEMON_KEY(type, member, kind, section, name, required, fallback, help)               \
    {                                                                                              \
        section, name, kind, offsetof(type, member), required, 1, 64, fallback, help               \
    }

#define ACME_TOKEN_NUMBER(type, member, name, max, help)                                           \
    {                                                                                              \
        "token", name, ACME_CONFIG_NUMBER, offsetof(type, member), false, 1, max, NULL, help       \
    }

/** The rows of a struct acme_token_settings `m` in `type`; docs/HSM.md says more of them. */
#define ACME_TOKEN_KEYS(type, m)                                                                   \
    ACME_DAEMON_KEY(type, m.route, ACME_CONFIG_TEXT, "token", "route", false, NULL,                \
                    "libp11 (the default) or direct"),                                             \
        ACME_DAEMON_KEY(type, m.quirks, ACME_CONFIG_TEXT, "token", "quirks", false, NULL,          \
                        "what the module needs done differently; without it what is known"),       \
        ACME_TOKEN_NUMBER(type, m.sessions, "sessions", 1024,                                      \
                          "signatures in the token at once, of each process"),                     \
        ACME_TOKEN_NUMBER(type, m.workers, "workers", 256,                                         \
                          "threads that call the module, for one that may block"),                 \
        ACME_TOKEN_NUMBER(type, m.queue_max, "queue-max", 1048576,                                 \
                          "signatures that wait for such a thread"),                               \
        ACME_TOKEN_NUMBER(type, m.op_timeout_ms, "op-timeout-ms", 600000,                          \
                          "of a signature, a recovery of the token included"),                     \
        ACME_TOKEN_NUMBER(type, m.reconnect_min_ms, "reconnect-min-ms", 5000,                      \
                          "between attempts to recover the token, at first"),                      \
        ACME_TOKEN_NUMBER(type, m.reconnect_max_ms, "reconnect-max-ms", 5000, "and at last"),      \
        ACME_TOKEN_NUMBER(type, m.verify_every, "verify-every", 1000000000,                        \
                          "one PASSporT in so many is verified before it leaves"),                 \
        ACME_TOKEN_NUMBER(type, m.probe_ms, "probe-ms", 3600000, "between looks at an idle token")

/**
 * Its rows in the table for acme_config_read(): `type` is the daemon's struct, `m` this one in it.
 * E.g. {ACME_DAEMON_KEYS(struct ca_config, daemon), ..., {.section = NULL}}
 */
#define ACME_DAEMON_KEYS(type, m)                                                                  \
    ACME_DAEMON_KEY(type, m.token_uri, ACME_CONFIG_TEXT, "token", "uri", true, NULL,               \
                    "PKCS#11 URI of the token (RFC 7512)"),                                        \
        ACME_DAEMON_KEY(type, m.module, ACME_CONFIG_TEXT, "token", "module", false, NULL,          \
                        "path of the PKCS#11 module; without it the URI's module-path"),           \
        ACME_DAEMON_KEY(type, m.pin_source, ACME_CONFIG_SECRET_SOURCE, "token", "pin-source",      \
                        false, NULL,                                                               \
                        "where the PIN is: file:PATH, fd:N, credential:NAME, prompt"),             \
        ACME_TOKEN_KEYS(type, m.token),                                                            \
        ACME_DAEMON_KEY(type, m.address, ACME_CONFIG_TEXT, "server", "address", true, NULL,        \
                        "HOST:PORT to listen on"),                                                 \
        ACME_DAEMON_KEY(type, m.base_url, ACME_CONFIG_TEXT, "server", "base-url", true, NULL,      \
                        "https URL under which others reach this server, without a final slash"),  \
        ACME_DAEMON_KEY(type, m.threads, ACME_CONFIG_NUMBER, "server", "threads", false, "4",      \
                        "threads that answer requests"),                                           \
        ACME_DAEMON_KEY(type, m.workers, ACME_CONFIG_NUMBER, "server", "workers", false, "1",      \
                        "processes that serve, each with its own threads"),                        \
        ACME_DAEMON_KEY(type, m.tls_key, ACME_CONFIG_TEXT, "server", "tls-key", false,             \
                        "pkcs11:object=" ACME_PROVISION_TLS_SERVER_LABEL,                          \
                        "URI of the TLS key in the token"),                                        \
        ACME_DAEMON_KEY(type, m.tls_chain, ACME_CONFIG_PATH, "server", "tls-chain", false,         \
                        ACME_PROVISION_TLS_CHAIN_FILE,                                             \
                        "PEM file of the TLS certificate and issuers"),                            \
        ACME_DAEMON_KEY(type, m.log_format, ACME_CONFIG_TEXT, "log", "format", false, "text",      \
                        "text or json"),                                                           \
        ACME_DAEMON_KEY(type, m.log_level, ACME_CONFIG_TEXT, "log", "level", false, "info",        \
                        "error, warning, info or debug"),                                          \
        ACME_JOURNAL_KEYS(type, m.journal)

/** Open the log as the configuration says. @param program  borrowed for the life of the process */
HSM_MUST_CHECK enum hsm_status acme_daemon_log(const char *program,
                                               const struct acme_daemon_config *config);

/**
 * For `init`: read the PIN and open a token. module and pin_source may be NULL: the URI has them.
 *
 * @param dir  gets the directory ACME_JOURNAL_DIR, where uses of keys are written
 */
HSM_MUST_CHECK enum hsm_status acme_daemon_token(const char *uri, const char *module,
                                                 const char *pin_source, const char *dir,
                                                 struct hsm_token **out);

/** The same with all that the configuration says, and the PIN that the supervisor has read. */
HSM_MUST_CHECK enum hsm_status acme_daemon_login(const struct acme_daemon_config *config,
                                                 struct hsm_token **out);

/** For a supervisor: read a secret that its workers could not read again. *out stays NULL for
 *  another source, or none. */
HSM_MUST_CHECK enum hsm_status acme_daemon_read_once(const char *source, const char *question,
                                                     struct hsm_secret **out);

/**
 * Listen, fork config->workers processes, and keep them running until SIGTERM
 * or SIGINT (hsm_supervise()). Faults are logged.
 *
 * @param config  receives what is not from the file
 * @param run     in each worker: acme_daemon_open(), acme_daemon_serve(), release all, return
 */
HSM_MUST_CHECK enum hsm_status acme_daemon_supervise(struct acme_daemon_config *config,
                                                     enum hsm_status (*run)(void *context),
                                                     void *context);

struct acme_daemon;

/**
 * Open the token, the TLS key and the TLS chain. Faults are logged.
 *
 * @param config  borrowed, outlives the daemon
 * @retval HSM_ERR_UNTRUSTED  tls-key is not the key of tls-chain
 */
HSM_MUST_CHECK enum hsm_status acme_daemon_open(const struct acme_daemon_config *config,
                                                struct acme_daemon **out);
/** Borrowed. */
struct hsm_token *acme_daemon_lend_token(const struct acme_daemon *daemon);

/** Serve in a worker until SIGTERM or SIGINT; `tick` gets the handler's context every `tick_s`
 * seconds, as acme_http_loop_every() says. A handler that does not return ends the process. */
HSM_MUST_CHECK enum hsm_status acme_daemon_serve(struct acme_daemon *daemon,
                                                 const struct acme_http_handler *handler,
                                                 void (*tick)(void *context), unsigned tick_s);

/** Keys that others hold of its token must have been freed. NULL is fine. */
void acme_daemon_close(struct acme_daemon *daemon);

#endif
