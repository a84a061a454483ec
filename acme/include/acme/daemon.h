/*
 * daemon.h - common parts of the daemons: read the configuration, open what it
 * names, supervise workers, reload the configuration at SIGHUP, serve.
 */
#ifndef ACME_DAEMON_H
#define ACME_DAEMON_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

#include <acme/config.h>
#include <acme/http_server.h>
#include <acme/journal.h>
#include <acme/operations.h>
#include <certs/chain.h>
#include <hsm/defer.h>
#include <hsm/key.h>
#include <hsm/metrics.h>
#include <hsm/secret.h>
#include <hsm/status.h>
#include <hsm/supervise.h>
#include <hsm/token.h>

#define ACME_PROVISION_TLS_SERVER_LABEL "tls-server"
#define ACME_PROVISION_TLS_CHAIN_FILE   "tls-chain.pem" /* the server's chain */

/** What acme_daemon_supervise() passes to its workers. All borrowed, or NULL. */
struct acme_daemon_shared {
    const struct hsm_secret *pin; /* from a source that can be read only once */
    const struct acme_http_listener *listener, *metrics_listener;
    struct hsm_metrics *metrics;
    struct hsm_worker *worker; /* the worker itself */
};

/* struct hsm_token_config as configured; 0 and NULL stand for its defaults. */
struct acme_token_settings {
    char *route, *quirks;
    long sessions, workers, queue_max, op_timeout_ms;
    long reconnect_min_ms, reconnect_max_ms, verify_every, probe_ms;
};

/** The configuration that all daemons have; a member of the daemon's own struct. */
struct acme_daemon_config {
    char *token_uri, *module, *pin_source;
    struct acme_token_settings token;
    char *address, *base_url, *tls_key, *tls_chain;
    char *client_anchors; /* anchors of client certificates; NULL: these are not requested */
    long threads, workers;
    char *metrics_address;
    char *log_format, *log_level;
    bool log_requests;
    struct acme_journal_config journal;

    struct acme_daemon_shared shared; /* not from the file */
};

#define ACME_DAEMON_METRICS_HELP                                                                   \
    "127.0.0.1:PORT or [::1]:PORT of /metrics, /readyz and /healthz, without TLS"
#define ACME_DAEMON_REQUESTS_HELP "a line for each request; no: only in metrics"

/* One row of the table below. */
#define ACME_DAEMON_KEY(type, member, kind, section, name, required, fallback, help)               \
    {                                                                                              \
        section, name, kind, offsetof(type, member), required, 1, 64, fallback, help               \
    }

#define ACME_TOKEN_NUMBER(type, member, name, max, help)                                           \
    {                                                                                              \
        "token", name, ACME_CONFIG_NUMBER, offsetof(type, member), false, 1, max, NULL, help       \
    }

/** The rows of a struct acme_token_settings `m` in `type`; see docs/HSM.md. */
#define ACME_TOKEN_KEYS(type, m)                                                                   \
    ACME_DAEMON_KEY(type, m.route, ACME_CONFIG_TEXT, "token", "route", false, NULL,                \
                    "libp11 (the default) or direct"),                                             \
        ACME_DAEMON_KEY(type, m.quirks, ACME_CONFIG_TEXT, "token", "quirks", false, NULL,          \
                        "what the module needs done differently; without it what is known"),       \
        ACME_TOKEN_NUMBER(type, m.sessions, "sessions", 1024,                                      \
                          "signatures in the token at once, of each process (default: 32, or "     \
                          "what the token allows)"),                                               \
        ACME_TOKEN_NUMBER(type, m.workers, "workers", 256,                                         \
                          "threads that call the module, for one that may block (default: none)"), \
        ACME_TOKEN_NUMBER(type, m.queue_max, "queue-max", 1048576,                                 \
                          "signatures that wait for such a thread (default: 4096)"),               \
        ACME_TOKEN_NUMBER(type, m.op_timeout_ms, "op-timeout-ms", 600000,                          \
                          "of a signature, a recovery of the token included (default: 3000)"),     \
        ACME_TOKEN_NUMBER(type, m.reconnect_min_ms, "reconnect-min-ms", 5000,                      \
                          "between attempts to recover the token, at first (default: 10)"),        \
        ACME_TOKEN_NUMBER(type, m.reconnect_max_ms, "reconnect-max-ms", 5000,                      \
                          "and at last (default: 500)"),                                           \
        ACME_TOKEN_NUMBER(type, m.verify_every, "verify-every", 1000000000,                        \
                          "one PASSporT in so many is verified before it leaves (default: 64)"),   \
        ACME_TOKEN_NUMBER(type, m.probe_ms, "probe-ms", 3600000,                                   \
                          "between looks at an idle token (default: 10000)")

/**
 * Its rows in the table for acme_config_read(): `type` is the daemon's struct, `m` the member in
 * it. E.g. {ACME_DAEMON_KEYS(struct ca_config, daemon), ..., {.section = NULL}}
 */
#define ACME_DAEMON_KEYS(type, m)                                                                  \
    ACME_DAEMON_KEY(type, m.token_uri, ACME_CONFIG_PKCS11, "token", "uri", true, NULL,             \
                    "PKCS#11 URI of the token (RFC 7512)"),                                        \
        ACME_DAEMON_KEY(type, m.module, ACME_CONFIG_TEXT, "token", "module", false, NULL,          \
                        "path of the PKCS#11 module; without it the URI's module-path"),           \
        ACME_DAEMON_KEY(type, m.pin_source, ACME_CONFIG_SECRET_SOURCE, "token", "pin-source",      \
                        false, NULL,                                                               \
                        "where the PIN is: file:PATH, fd:N, credential:NAME, prompt"),             \
        ACME_TOKEN_KEYS(type, m.token),                                                            \
        ACME_DAEMON_KEY(type, m.address, ACME_CONFIG_TEXT, "server", "address", true, NULL,        \
                        "ADDRESS:PORT to listen on"),                                              \
        ACME_DAEMON_KEY(type, m.base_url, ACME_CONFIG_URL, "server", "base-url", true, NULL,       \
                        "https URL under which others reach this server, without a final slash"),  \
        ACME_DAEMON_KEY(type, m.threads, ACME_CONFIG_NUMBER, "server", "threads", false, "16",     \
                        "threads that answer requests"),                                           \
        ACME_DAEMON_KEY(type, m.workers, ACME_CONFIG_NUMBER, "server", "workers", false, "1",      \
                        "processes that serve, each with its own threads"),                        \
        ACME_DAEMON_KEY(type, m.tls_key, ACME_CONFIG_PKCS11, "server", "tls-key", false,           \
                        "pkcs11:object=" ACME_PROVISION_TLS_SERVER_LABEL,                          \
                        "URI of the TLS key in the token"),                                        \
        ACME_DAEMON_KEY(type, m.tls_chain, ACME_CONFIG_PATH, "server", "tls-chain", false,         \
                        ACME_PROVISION_TLS_CHAIN_FILE,                                             \
                        "PEM file of the TLS certificate and issuers"),                            \
        ACME_DAEMON_KEY(type, m.metrics_address, ACME_CONFIG_TEXT, "metrics", "address", false,    \
                        NULL, ACME_DAEMON_METRICS_HELP),                                           \
        ACME_DAEMON_KEY(type, m.log_format, ACME_CONFIG_TEXT, "log", "format", false, "text",      \
                        "text or json"),                                                           \
        ACME_DAEMON_KEY(type, m.log_level, ACME_CONFIG_TEXT, "log", "level", false, "info",        \
                        "error, warning, info or debug"),                                          \
        ACME_DAEMON_KEY(type, m.log_requests, ACME_CONFIG_SWITCH, "log", "requests", false, "yes", \
                        ACME_DAEMON_REQUESTS_HELP),                                                \
        ACME_JOURNAL_KEYS(type, m.journal)

/** Check what a table of keys cannot express; faults are logged with file and line. */
HSM_MUST_CHECK enum hsm_status acme_daemon_check(const char *path,
                                                 const struct acme_daemon_config *config);

/**
 * Open the log as configured.
 *
 * @param program  borrowed for the life of the process
 */
HSM_MUST_CHECK enum hsm_status acme_daemon_log(const char *program,
                                               const struct acme_daemon_config *config);

/**
 * For `init`: read the PIN and open a token. module and pin_source may be NULL if the URI has them.
 *
 * @param dir  in which ACME_JOURNAL_DIR is made, for the journal of key uses
 */
HSM_MUST_CHECK enum hsm_status acme_daemon_token(const char *uri, const char *module,
                                                 const char *pin_source, const char *dir,
                                                 struct hsm_token **out);

/** Open the token with all configured settings, and with the PIN if the supervisor has read it. */
HSM_MUST_CHECK enum hsm_status acme_daemon_login(const struct acme_daemon_config *config,
                                                 struct hsm_token **out);

/** For a supervisor: read a secret whose source can be read only once, since its workers could not
 *  read it again. *out stays NULL for any other source, or none. */
HSM_MUST_CHECK enum hsm_status acme_daemon_read_once(const char *source, const char *question,
                                                     struct hsm_secret **out);

/** A daemon, for its supervisor. */
struct acme_daemon_program {
    const char *name; /* static */
    size_t config_size; /* of its struct, whose first member is a struct acme_daemon_config */
    /** Fill a zeroed struct from a file and check it; faults are logged with file and line. */
    enum hsm_status (*read)(const char *path, void *config);
    void (*clear)(void *config);
    /** In each worker: open what the configuration names, serve, release everything, return. */
    enum hsm_status (*run)(const void *config, void *context);
    /** Log which changed keys need a restart (acme_daemon_tell_kept()), or refuse the new
     *  configuration. NULL: only what all daemons have in common is compared. */
    enum hsm_status (*compare)(const void *old, const void *fresh);
};

/**
 * Listen, fork the workers, and keep them running until SIGTERM or SIGINT; at
 * SIGHUP read the configuration again and replace the workers by ones that use
 * the new one (hsm_supervise()). Faults are logged.
 *
 * @param config   read from `path` by the program; its `shared` is filled in here
 * @param context  passed to `run`; made before the fork, and not changed by a reload
 */
HSM_MUST_CHECK enum hsm_status acme_daemon_supervise(const struct acme_daemon_program *program,
                                                     const char *path, void *config, void *context);

/** If the value of a key has changed, log that the new one takes effect after a restart. */
void acme_daemon_tell_kept(const char *key, const char *old, const char *fresh);

/** Read a certificate of the daemon's own with its issuers. A warning names each one that is not
 *  valid now; the daemon serves all the same, as an operator may be about to replace it. */
HSM_MUST_CHECK enum hsm_status acme_daemon_chain_read(const char *path, struct certs_chain **out);

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

/** The service of a daemon; all callbacks get `handler.context`. */
struct acme_daemon_service {
    struct acme_http_handler handler;
    void (*tick)(void *context); /* called every tick_s seconds, see acme_http_loop_every() */
    unsigned tick_s;
    /** Append the reasons why it cannot work now, other than the token; see struct
     *  acme_operations. */
    void (*not_ready)(void *context, json_t *reasons);
};

/**
 * Serve in a worker until SIGTERM or SIGINT, or until SIGHUP when another worker has taken its
 * place. /healthz and /readyz are answered without the handler, /metrics on a listener of its own.
 * A handler that does not return ends the process.
 */
HSM_MUST_CHECK enum hsm_status acme_daemon_serve(struct acme_daemon *daemon,
                                                 const struct acme_daemon_service *service);

/**
 * Listen on [metrics] address, if there is one.
 *
 * @param operations  borrowed
 */
HSM_MUST_CHECK enum hsm_status acme_daemon_listen_metrics(const struct acme_daemon_config *config,
                                                          struct acme_http_loop *loop,
                                                          const struct acme_operations *operations);

/** All keys of its token must have been freed. NULL is fine. */
void acme_daemon_close(struct acme_daemon *daemon);
DEFINE_DEFER(struct acme_daemon, acme_daemon_close)

#endif
