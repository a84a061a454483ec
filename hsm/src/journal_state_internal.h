/*
 * journal_state_internal.h - what the parts of a journal share.
 *
 *   callers  journal.c         put entries into the ring, and wait where it must be durable
 *   writer   journal_writer.c  a thread: takes entries, writes and syncs lines, begins files
 *   notary   journal_notary.c  a thread: has checkpoints signed and keeps the index
 */
#ifndef HSM_JOURNAL_STATE_INTERNAL_H
#define HSM_JOURNAL_STATE_INTERNAL_H

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "journal_file_internal.h"
#include "journal_internal.h"
#include "journal_ring_internal.h"

struct hsm_journal_key {
    char id[HSM_HEX_LEN(HSM_JOURNAL_KEY_LEN) + 1];
    uint8_t hash[HSM_SHA256_LEN]; /* of its SubjectPublicKeyInfo */
    char detail[HSM_JOURNAL_DETAIL_MAX]; /* label, token, point: of the line that introduces it */
    uint64_t told_in; /* the writer's: number of the file that introduces it */
    unsigned holders; /* signers; 0: no more entries will name it */
    uint64_t entries; /* of the ring, when the last holder was done with it */
    struct hsm_journal_key *next;
};

/* A file that ended and that the index does not know as ended yet: tried until it does. */
struct hsm_closed_file {
    struct hsm_file_state state;
    struct hsm_closed_file *next;
};

struct hsm_journal {
    struct hsm_journal_config config; /* with defaults; texts are owned */
    struct hsm_ring *ring;

    atomic_bool accepting;
    atomic_bool failing; /* a line could not be written */
    atomic_ullong records, lost, refused, calls, checkpoints;

    sem_t wake; /* the writer */
    atomic_bool asleep; /* until there is anything at all */
    atomic_bool urgent; /* somebody waits, or the ring fills */
    atomic_bool stopping;
    pthread_t writer, notary;

    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t changed; /* committed, failing */
    pthread_cond_t notary_wake;
    uint64_t committed; /* entries of the ring that are written, and durable where they have to be
                         */
    struct hsm_file_state now; /* of the file that is being written, as far as it is */
    uint64_t notarised; /* size of that file at its last checkpoint */
    struct hsm_closed_file *closed;
    struct hsm_closed_file *spare; /* for the end, where nothing may be missing */
    struct hsm_journal_key *keys;
    unsigned idle_keys; /* of them, without a holder */
    _Atomic(struct hsm_signer *) signer; /* with a reference; set once, under index_lock */
    char signer_id[HSM_HEX_LEN(HSM_JOURNAL_KEY_LEN) + 1];
    uint8_t signer_hint[4];
    bool notary_stopping;
    bool notary_ended;

    pthread_mutex_t index_lock;
    struct hsm_index index;

    struct hsm_file file; /* the writer's */
    uint64_t file_number; /* the writer's: of its files, from 1 */
    uint64_t lost_told; /* the writer's: of `lost` */
    struct hsm_ring_entry held; /* the writer's: taken from the ring, and no line yet */
    bool holds;
    int64_t rotates_after; /* the writer's: no new file could be begun */
    bool sync_wanted; /* the writer's: what is in the buffer has to be durable */
    bool broken; /* the writer's: fdatasync failed */
};

void *hsm_journal_write(void *journal);
void *hsm_journal_notarise(void *journal);

/** The first file; before the threads start. BUSY when others keep the index until the deadline. */
HSM_MUST_CHECK enum hsm_status hsm_journal_begin(struct hsm_journal *journal, int64_t deadline);

/** Under the lock: so many lines are new that a checkpoint is due. */
bool hsm_journal_is_due(const struct hsm_journal *journal);

/** For the writer, when it has taken what was there: when many keys have no holder, those that no
 *  entry names are forgotten. */
void hsm_journal_forget_keys(struct hsm_journal *journal);

/** Make the writer look. */
void hsm_journal_wake(struct hsm_journal *journal, bool urgent);

#endif
