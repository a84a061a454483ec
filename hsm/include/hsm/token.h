/*
 * token.h - a PKCS#11 token: open, describe and initialise it.
 *
 * A token is chosen by the attributes of a PKCS#11 URI (RFC 7512), never by a
 * slot number alone. After fork() open a fresh token: using an inherited one
 * gives HSM_ERR_USAGE. Threads may share a token.
 */
#ifndef HSM_TOKEN_H
#define HSM_TOKEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <hsm/defer.h>
#include <hsm/secret.h>
#include <hsm/status.h>

struct hsm_token;
struct hsm_journal_config;

/** How signatures are requested; both routes use the same sessions and recover alike. */
enum hsm_route {
    HSM_ROUTE_LIBP11, /* through libp11, with several of its contexts */
    HSM_ROUTE_DIRECT /* C_SignInit and C_Sign from here: no allocation, no detour through DER */
};

/** "libp11" or "direct"; HSM_ERR_USAGE otherwise. */
HSM_MUST_CHECK enum hsm_status hsm_route_parse(const char *text, enum hsm_route *out);

enum hsm_event_kind {
    HSM_EVENT_LOST, /* the token is being recovered; calls wait */
    HSM_EVENT_RECOVERED, /* recovered, and a signature by it was verified */
    HSM_EVENT_PIN_REFUSED, /* no further attempt is made */
    HSM_EVENT_WRONG_SIGNATURE, /* it did not verify and was not given out */
    HSM_EVENT_KEY_REFUSED, /* after a recovery: another public half, a weaker attribute, or wrong
                              signatures while another key of the token gives good ones */
    HSM_EVENT_KEY_MISSING, /* after a recovery */
    HSM_EVENT_STUCK, /* a call inside the module outlived its deadline; a worker's thread is
                        replaced. detail is "" when the call is not a signature */
    HSM_EVENT_FEWER_SESSIONS /* the token allows fewer than were requested */
};

struct hsm_event {
    enum hsm_event_kind kind;
    const char *token; /* label */
    const char *detail; /* a PKCS#11 return value, a key's label, or "" */
};

/**
 * Where the token is and how it is used. For a member that is 0 or NULL the
 * default given beside it is used. A loaded module and an open token are shared
 * within a process: the settings of the first to open it apply.
 */
struct hsm_token_config {
    const char *uri; /* names one token, e.g. "pkcs11:token=sti-ca"; its object part is ignored */
    const char *module; /* path of the PKCS#11 module; NULL: the URI's module-path */
    const struct hsm_secret
        *pin; /* user PIN; borrowed during the call; NULL: the URI's pin-source */

    enum hsm_route route;
    unsigned sessions; /* calls in the token at once; 0: as many as it allows, at most 32 */
    unsigned workers; /* threads that call the module for the callers, so that a caller's deadline
                         holds even when a call in the module is stuck; 0: callers call it */
    unsigned queue_max; /* calls that wait for a worker; more: HSM_ERR_BUSY; 0: 4096 */
    unsigned op_timeout_ms; /* of a signature, recovery included; 0: 3000 */
    unsigned reconnect_min_ms; /* the first pause between attempts to recover; 0: 10 */
    unsigned reconnect_max_ms; /* the longest such pause, at most 5000; 0: 500 */
    unsigned verify_every; /* one signature in this many is verified; 1: all; 0: 64 */
    unsigned probe_ms; /* between probes of an idle token; 0: 10000 */
    const char *quirks; /* replaces the quirks known of the module, see docs/HSM.md; "": none; the
                           word "known" in it keeps the known ones */
    const struct hsm_journal_config
        *journal; /* where uses of its keys are written, hsm/journal.h; NULL: nowhere */
    void (*event)(void *context, const struct hsm_event *event); /* in any thread; may not call the
                                                                    token */
    void *event_context;
};

/**
 * Load the module, find the token, log in as user, open two sessions.
 *
 * The PIN is tried once. After a refusal no PIN is tried on that token in this
 * process or its children, nor in any worker that hsm_supervise() started with
 * the same configuration, until hsm_token_forget_refusals(). While another
 * hsm_token of this process has the same token open, its login is shared, and the
 * PIN given here is that of the next login, for both: at once if the other's PIN
 * was refused, else after the connection was lost. Settings that differ from the
 * first one's are logged. The token keeps the PIN, in locked, undumped memory that
 * is wiped at the end (struct hsm_secret), to log in again after the connection
 * to the token was lost.
 *
 * When the token fails, a thread of this object recovers it while calls wait
 * until their deadline: sessions are opened anew, the PIN is presented once,
 * keys are looked up again and must have the same public half and attributes as
 * before, and a test signature is verified before calls go on.
 *
 * @retval HSM_ERR_NOT_FOUND    no initialised token matches, or the module is missing
 * @retval HSM_ERR_AMBIGUOUS    several tokens match
 * @retval HSM_ERR_DENIED       wrong, locked or expired PIN: do not try again
 * @retval HSM_ERR_BUSY         the token is not present now
 * @retval HSM_ERR_UNSUPPORTED  no CKM_ECDSA on this token, or not a PKCS#11 module
 * @retval HSM_ERR_USAGE        no module or PIN named, a pin-value, a slot-id alone, or a setting
 *                              out of its range
 */
HSM_MUST_CHECK enum hsm_status hsm_token_open(const struct hsm_token_config *config,
                                              struct hsm_token **out);

/**
 * Log out and release. NULL is fine.
 *
 * Keys of this token must have been freed before. References to their EVP_PKEYs
 * (hsm_key_pkey()) may remain, in an SSL_CTX for instance; these no longer sign.
 *
 * There is one login per process: a token that is opened twice shares it, and the
 * last close ends it.
 */
void hsm_token_close(struct hsm_token *token);
DEFINE_DEFER(struct hsm_token, hsm_token_close)

/** Let each refused PIN be tried once more, at an operator's request: in this process, and in all
 * workers of the hsm_supervise() that it belongs to. */
void hsm_token_forget_refusals(void);

/** True while calls are served: the token is not being recovered, its PIN was not refused. */
bool hsm_token_is_ready(const struct hsm_token *token);

/** Counts since the token was opened, and how it is now. */
struct hsm_token_stats {
    uint64_t signatures; /* given out */
    uint64_t failures; /* calls that ended in an error */
    uint64_t timeouts; /* failures because the deadline had passed */
    uint64_t retries; /* attempts of calls after their first one */
    uint64_t throttled; /* answers that ask the caller to slow down */
    uint64_t verified;
    uint64_t wrong_signatures;
    uint64_t sessions_dropped;
    uint64_t losses; /* times that recovery began */
    uint64_t recoveries; /* times that it succeeded */
    uint64_t attempts; /* attempts at recovery */
    uint64_t restarts; /* C_Finalize and C_Initialize */
    uint64_t logins;
    uint64_t stuck; /* calls that were ever left behind in the module */
    uint64_t waits; /* calls that found no idle session */
    uint64_t waited_ns; /* their total waiting time, including those that gave up */
    unsigned stuck_now;
    unsigned sessions; /* requested */
    unsigned sessions_usable; /* that the token had room for */
    unsigned in_flight;
    unsigned waiting;
    unsigned workers;
    unsigned connections; /* to the token, each with its own login: more than one with some
                             modules, opened when calls need them */
    unsigned connections_served; /* connections that are open and not being recovered */
    enum hsm_status service; /* OK; BUSY: being recovered; DENIED: the PIN was refused */
};

void hsm_token_stats(const struct hsm_token *token, struct hsm_token_stats *out);

/** The token's own description; NUL-terminated, trailing blanks removed. */
struct hsm_token_info {
    char label[33];
    char manufacturer[33];
    char model[17];
    char serial[17];
    char module[33]; /* CK_INFO.libraryDescription */
    char module_version[16];
    char hardware_version[16];
    char firmware_version[16];
    unsigned long max_sessions; /* 0: no limit, or not reported */
    bool has_ec_key_pair_gen; /* CKM_EC_KEY_PAIR_GEN */
    bool has_ecdsa; /* CKM_ECDSA */
    bool has_rng;
    bool user_pin_low; /* CKF_USER_PIN_COUNT_LOW or _FINAL_TRY */
};

void hsm_token_info(const struct hsm_token *token, struct hsm_token_info *out);

/**
 * Describe each initialised token that matches; no PIN is needed.
 *
 * @param uri     NULL: all tokens of the module
 * @param module  NULL: the URI's module-path
 * @param out     receives an array, released with free(); empty when nothing matches
 */
HSM_MUST_CHECK enum hsm_status hsm_token_list(const char *uri, const char *module,
                                              struct hsm_token_info **out, size_t *count);

/** Get `len` octets from the token's own generator (C_GenerateRandom). */
HSM_MUST_CHECK enum hsm_status hsm_token_random(struct hsm_token *token, void *out, size_t len);

/**
 * Initialise a fresh token (C_InitToken, C_InitPIN) in the first slot without an
 * initialised one.
 *
 * @param module  path of the PKCS#11 module
 * @param label   1 to 32 octets
 *
 * @retval HSM_ERR_EXISTS     there is a token with that label; it is not changed
 * @retval HSM_ERR_NOT_FOUND  no slot without an initialised token
 */
HSM_MUST_CHECK enum hsm_status hsm_token_init(const char *module, const char *label,
                                              const struct hsm_secret *so_pin,
                                              const struct hsm_secret *user_pin);

#endif
