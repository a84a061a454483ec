/*
 * journal_internal.h - the journal of an open token.
 *
 * Belongs to a slot; every signature of the slot's keys passes through it. One thread writes lines,
 * another has checkpoints signed. The functions accept a NULL journal for a token without one.
 */
#ifndef HSM_JOURNAL_INTERNAL_H
#define HSM_JOURNAL_INTERNAL_H

#include <hsm/journal.h>
#include <hsm/key.h>
#include <hsm/use.h>

struct hsm_journal;
struct hsm_journal_key;
struct hsm_signer;

/** Begin a file. Faults are logged. */
HSM_MUST_CHECK enum hsm_status hsm_journal_open(const struct hsm_journal_config *config,
                                                struct hsm_journal **out);

/** Checkpoints are signed by this key from now on; takes a reference to it. */
HSM_MUST_CHECK enum hsm_status hsm_journal_sign_with(struct hsm_journal *journal,
                                                     struct hsm_signer *signer);

/** The label of the key that signs its checkpoints. */
const char *hsm_journal_key_label(const struct hsm_journal *journal);
bool hsm_journal_has_signer(const struct hsm_journal *journal);

/** Write and sign what is left, and end the file; later uses of keys are refused or lost. */
void hsm_journal_close(struct hsm_journal *journal);

/** After it was closed, when it is no longer in use. */
void hsm_journal_free(struct hsm_journal *journal);

/** How lines name a key: owned by the journal, released with hsm_journal_key_done(). NULL: no
 * memory. */
const struct hsm_journal_key *hsm_journal_key(struct hsm_journal *journal,
                                              const struct hsm_key_info *info, EVP_PKEY *public_key,
                                              const char *token, const char *serial);

/** The caller will not use it any more. NULL is fine. */
void hsm_journal_key_done(struct hsm_journal *journal, const struct hsm_journal_key *key);

/** Call before a key is used: HSM_ERR_IO if the use could not be journaled and so is not
 * allowed. */
HSM_MUST_CHECK enum hsm_status hsm_journal_may(struct hsm_journal *journal);

#define HSM_JOURNAL_ANY_TIME INT64_MAX

/**
 * Record a use of a key by this thread, for the purpose set with hsm/use.h.
 *
 * @param digest    what was signed; NULL: the key itself was made or destroyed
 * @param deadline  of the call, hsm_clock_ns(): a disk that is slow is waited for until then, and
 *                  a little longer; HSM_JOURNAL_ANY_TIME: as long as it takes, within bounds
 * @param outcome   result of the use
 * @return the outcome; HSM_ERR_IO instead of HSM_OK when the use is not in the journal, and so the
 *         result must not be given out
 */
HSM_MUST_CHECK enum hsm_status
hsm_journal_use(struct hsm_journal *journal, const struct hsm_journal_key *key,
                const uint8_t *digest, int64_t deadline, enum hsm_status outcome);

/** Count a call of C_Sign. */
void hsm_journal_count_call(struct hsm_journal *journal);

void hsm_journal_get_stats(const struct hsm_journal *journal, struct hsm_journal_stats *out);

#endif
