/*
 * tokens.h - the tokens of a service provider: each has keys and certificates of
 * its own, so that the loss of one costs no call.
 *
 * Tokens that are not there are opened when they come. Threads may share it.
 */
#ifndef SKS_TOKENS_H
#define SKS_TOKENS_H

#include <stdbool.h>
#include <stddef.h>

#include <acme/daemon.h>
#include <hsm/secret.h>
#include <hsm/status.h>
#include <hsm/token.h>

#define SKS_TOKENS_MAX 32

struct sks_token_config { /* borrowed; NULL as in hsm/token.h */
    const char *uri; /* as the catalogue names it */
    const char *module, *pin_source;
    const struct hsm_secret *pin; /* instead of pin_source */
    const struct acme_token_settings *settings;
    const struct acme_journal_config *journal; /* of the n-th token in directory DIR-n */
};

struct sks_tokens;

/**
 * Open those that are there, all at once: what is wrong with one, its PIN included, keeps no other
 * from it. One that takes longer than 5 s while another is open, or than 60 s, is away until it is
 * open, too. Each that is not open is logged. All that is pointed to is copied.
 *
 * @retval HSM_ERR_USAGE   none, more than SKS_TOKENS_MAX, or one twice
 * @retval HSM_ERR_BUSY    none could be opened, one of them because it is away
 * @retval HSM_ERR_DENIED  none could be opened, and a PIN was refused
 * @return else what kept the first from being opened, when none could be
 */
HSM_MUST_CHECK enum hsm_status sks_tokens_open(const struct sks_token_config *configs, size_t count,
                                               struct sks_tokens **out);

/** Try again those that are not open, but for one whose PIN was refused; one thread at a time.
 * Takes 5 s at most. False: some still are not. A fault is logged when it is another than before.
 */
bool sks_tokens_retry(struct sks_tokens *tokens);

/** HSM_OK, or what kept the first token in their order that is not open from being opened. */
enum hsm_status sks_tokens_check(struct sks_tokens *tokens);

size_t sks_tokens_count(const struct sks_tokens *tokens);
const char *sks_tokens_uri(const struct sks_tokens *tokens, size_t i);

/** True if a token of that URI is configured, open or not: by the same text, or by another that
 *  names the only one of them which it could mean (RFC 7512: no attribute of both differs, and the
 *  label, serial number or slot is in both). */
bool sks_tokens_has(const struct sks_tokens *tokens, const char *uri);

/** True if it is the i-th. */
bool sks_tokens_is(const struct sks_tokens *tokens, size_t i, const char *uri);

/** The token of that URI, as above: borrowed; NULL when it is not open, or not configured. */
struct hsm_token *sks_tokens_get(struct sks_tokens *tokens, const char *uri);

/** Why the token of that URI, as above, signs nothing now, for those it signs for: a static text
 * that names no token. NULL: it does. */
const char *sks_tokens_fault(struct sks_tokens *tokens, const char *uri);

#define SKS_TOKENS_THREADS_MIN 4
#define SKS_TOKENS_THREADS_MAX 64

/**
 * How many threads keep all of them busy: a call that a token behind a network signs holds a
 * thread, and a session, until it is back, so that with fewer threads than sessions the token would
 * rest. One that is not open yet is taken to have as many sessions as the others.
 */
unsigned sks_tokens_threads(struct sks_tokens *tokens);

/** True while one of them at least serves. */
bool sks_tokens_ready(struct sks_tokens *tokens);

/** True while one of them is being opened: sks_tokens_close() would wait for it, for a while. */
bool sks_tokens_are_opening(struct sks_tokens *tokens);

/** Keys of them must have been freed before. One that is being opened is waited for, 5 s at most;
 * where one still is then, all are closed when that has ended, or with the process. NULL is fine.
 */
void sks_tokens_close(struct sks_tokens *tokens);

#endif
