/*
 * journal_note_internal.h - checkpoints while they are made.
 */
#ifndef HSM_JOURNAL_NOTE_INTERNAL_H
#define HSM_JOURNAL_NOTE_INTERNAL_H

#include <hsm/journal.h>

#define HSM_NOTE_SIG_TEXT 105 /* octets of a signature as text, with its NUL */

/** The signed text: all of a note up to and including the line end before its signatures. */
HSM_MUST_CHECK enum hsm_status hsm_note_text(const struct hsm_journal_note *note,
                                             char out[HSM_JOURNAL_NOTE_MAX]);

/** base64 of key hint and DER signature. */
HSM_MUST_CHECK enum hsm_status hsm_note_sig_format(const struct hsm_journal_note *note,
                                                   char out[HSM_NOTE_SIG_TEXT]);
HSM_MUST_CHECK enum hsm_status hsm_note_sig_parse(const char *text, struct hsm_journal_note *out);

/** Standard base64 with padding, in its canonical form only; false: it is not, or it is longer. */
bool hsm_note_base64_get(const char *text, size_t text_len, uint8_t *out, size_t size, size_t *len);

/** The hash by which lines (its first 16 octets) and notes (its first 4) name a key: SHA-256 of its
 * SubjectPublicKeyInfo. */
HSM_MUST_CHECK enum hsm_status hsm_note_key_hash(EVP_PKEY *key, uint8_t hash[HSM_SHA256_LEN]);

#endif
