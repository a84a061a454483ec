/*
 * journal_verify_internal.h - shared by the parts that verify a journal.
 */
#ifndef HSM_JOURNAL_VERIFY_INTERNAL_H
#define HSM_JOURNAL_VERIFY_INTERNAL_H

#include "journal_read_internal.h"

#define HSM_OF_THE_INDEX SIZE_MAX

/* A known root: the index, or a checkpoint, states that a file's tree of that size had that root.
 */
struct hsm_point {
    size_t entry; /* the entry of the file; HSM_OF_THE_INDEX: the index */
    uint64_t size;
    uint8_t root[HSM_SHA256_LEN];
    bool kept; /* stated by a checkpoint that was kept elsewhere */
    uint64_t record; /* otherwise, the record of the index that states it */
};

struct hsm_verification {
    const struct hsm_journal_verify_config *config;
    struct hsm_journal_summary summary;
    struct hsm_entries entries;
    char id[HSM_HEX_LEN(HSM_INDEX_ID_LEN) + 1];
    struct hsm_point *points;
    size_t point_count, point_room;
    struct hsm_journal_note *kept;
    size_t kept_count;
    uint64_t sealed; /* lines of the index that its last checkpoint covers */
    EVP_PKEY *key; /* the key `key_id` of the directory */
    char key_id[HSM_HEX_LEN(HSM_JOURNAL_KEY_LEN) + 1];
    char **names; /* names of the files in the directory */
    size_t name_count;
};

/* ---- journal_verify.c ---- */

void hsm_verify_tell(struct hsm_verification *v, enum hsm_journal_weight weight, const char *file,
                     const char *format, ...) HSM_PRINTF(4, 5);
void hsm_verify_fault(struct hsm_verification *v, const char *file, uint64_t record, uint64_t octet,
                      const char *format, ...) HSM_PRINTF(5, 6);

/** Compare the chain's root with a known one of the same size; adds a finding when they differ. */
void hsm_verify_point(struct hsm_verification *v, const char *file, const struct hsm_chain *chain,
                      const struct hsm_point *point);

/* ---- journal_verify_index.c ---- */

/** Parse the checkpoints that were kept elsewhere; malformed ones are reported as findings. */
HSM_MUST_CHECK enum hsm_status hsm_verify_take_kept(struct hsm_verification *v);

/** Verify the index against the directory, and collect its entries and the known roots in it. */
HSM_MUST_CHECK enum hsm_status hsm_verify_index(struct hsm_verification *v);

/** After hsm_verify_index(): add the checkpoints that were kept elsewhere to the known roots. */
HSM_MUST_CHECK enum hsm_status hsm_verify_place_kept(struct hsm_verification *v);

#endif
