/*
 * tokens.h - the tokens of a service provider: each has its own keys and
 * certificates, so that the loss of one costs no call.
 *
 * Tokens that are away are opened when they come back. Threads may share the set.
 */
#ifndef SKS_TOKENS_H
#define SKS_TOKENS_H

#include <stdbool.h>
#include <stddef.h>

#include <acme/daemon.h>
#include <hsm/defer.h>
#include <hsm/secret.h>
#include <hsm/status.h>
#include <hsm/token.h>

#define SKS_TOKENS_MAX 32

struct sks_token_config { /* borrowed; NULL as in hsm/token.h */
    const char *uri; /* as configured */
    const char *module, *pin_source;
    const struct hsm_secret *pin; /* instead of pin_source */
    const struct acme_token_settings *settings;
    const struct acme_journal_config *journal; /* of the n-th token in directory DIR-n */
};

struct sks_tokens;

/**
 * Open the tokens that are present, concurrently: a fault of one, even a refused PIN, does not
 * affect the others. One that takes longer than 5 s while another is open, or longer than 60 s,
 * counts as away until it is open. Each one that is not open is logged. All texts are copied.
 *
 * @retval HSM_ERR_USAGE   no token, more than SKS_TOKENS_MAX, or the same token twice
 * @retval HSM_ERR_BUSY    no token could be opened, at least one because it is away
 * @retval HSM_ERR_DENIED  no token could be opened, and a PIN was refused
 * @return otherwise, if no token could be opened, the failure of the first one
 */
HSM_MUST_CHECK enum hsm_status sks_tokens_open(const struct sks_token_config *configs, size_t count,
                                               struct sks_tokens **out);

/** Retry those that are not open, except one whose PIN was refused; one thread at a time. Takes 5 s
 *  at most. False: some are still not open. A fault is logged if it differs from the one before. */
bool sks_tokens_retry(struct sks_tokens *tokens);

/** HSM_OK, or why the first of them that is not open could not be opened. */
enum hsm_status sks_tokens_check(struct sks_tokens *tokens);

size_t sks_tokens_count(const struct sks_tokens *tokens);
const char *sks_tokens_uri(const struct sks_tokens *tokens, size_t i);

/** True if a URI names a configured token, open or not: by the same text, or by a text that can
 * mean only one of them (RFC 7512: no attribute that both have differs, and both have the label,
 * serial number or slot). */
bool sks_tokens_has(const struct sks_tokens *tokens, const char *uri);

/** True if a URI names the i-th token, as in sks_tokens_has(). */
bool sks_tokens_is(const struct sks_tokens *tokens, size_t i, const char *uri);

/** The token that a URI names, as in sks_tokens_has(): borrowed; NULL if it is not open, or not
 *  configured. */
struct hsm_token *sks_tokens_get(struct sks_tokens *tokens, const char *uri);

/** Why the token that a URI names does not sign now, for its users: a static text that names no
 *  token. NULL: it signs. */
const char *sks_tokens_fault(struct sks_tokens *tokens, const char *uri);

#define SKS_TOKENS_THREADS_MIN 4
#define SKS_TOKENS_THREADS_MAX 64

/**
 * The number of threads that keeps all tokens busy: a call to a token behind a network holds a
 * thread and a session until it returns, so with fewer threads than sessions the token would idle.
 * One that is not open yet is assumed to have as many sessions as the others.
 */
unsigned sks_tokens_threads(struct sks_tokens *tokens);

/** True while at least one of them serves. */
bool sks_tokens_ready(struct sks_tokens *tokens);

/** True while one of them is being opened: sks_tokens_close() would wait for it, for a while. */
bool sks_tokens_are_opening(struct sks_tokens *tokens);

/** All their keys must have been freed. Waits up to 5 s for one that is being opened; if it still
 * is then, all are closed when that ends, or with the process. NULL is fine. */
void sks_tokens_close(struct sks_tokens *tokens);
DEFINE_DEFER(struct sks_tokens, sks_tokens_close)

#endif
