/*
 * journal_internal.h - the journal of a token that is open.
 *
 * Belongs to a slot; every signature of the slot's keys passes by it. A thread
 * writes lines, another one has checkpoints signed. Functions take a NULL
 * journal for a token without one.
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

/** Checkpoints are signed by this key from now on; a reference is taken. */
HSM_MUST_CHECK enum hsm_status hsm_journal_sign_with(struct hsm_journal *journal,
                                                     struct hsm_signer *signer);

/** The label of the key that is wanted for it. */
const char *hsm_journal_key_label(const struct hsm_journal *journal);
bool hsm_journal_has_signer(const struct hsm_journal *journal);

/** Write and sign what is left, and end the file; what is used afterwards is refused or lost. */
void hsm_journal_close(struct hsm_journal *journal);

/** After it was closed, when nobody has it any more. */
void hsm_journal_free(struct hsm_journal *journal);

/** How lines name a key: the journal's; hsm_journal_key_done(). NULL: no memory. */
const struct hsm_journal_key *hsm_journal_key(struct hsm_journal *journal,
                                              const struct hsm_key_info *info, EVP_PKEY *public_key,
                                              const char *token, const char *serial);

/** It will not be used any more. NULL is fine. */
void hsm_journal_key_done(struct hsm_journal *journal, const struct hsm_journal_key *key);

/** Before a key is used: HSM_ERR_IO if it could not be journaled, and so may not be. */
HSM_MUST_CHECK enum hsm_status hsm_journal_may(struct hsm_journal *journal);

#define HSM_JOURNAL_ANY_TIME INT64_MAX

/**
 * A key was used by this thread, for what it has said (hsm/use.h).
 *
 * @param digest    what was signed; NULL: the key itself was what was made or destroyed
 * @param deadline  of the call, hsm_clock_ns(): a disk that is slow is waited for until then, and
 *                  a little longer; HSM_JOURNAL_ANY_TIME: as long as it takes, within bounds
 * @param outcome   how it went
 * @return the outcome; HSM_ERR_IO instead of HSM_OK when it is not in the journal and so may not
 *         be given out
 */
HSM_MUST_CHECK enum hsm_status
hsm_journal_use(struct hsm_journal *journal, const struct hsm_journal_key *key,
                const uint8_t *digest, int64_t deadline, enum hsm_status outcome);

/** C_Sign is called. */
void hsm_journal_count_call(struct hsm_journal *journal);

void hsm_journal_get_stats(const struct hsm_journal *journal, struct hsm_journal_stats *out);

#endif
