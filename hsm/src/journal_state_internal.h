/*
 * journal_state_internal.h - shared by the parts of a journal.
 *
 *   callers  journal.c         put entries into the ring, and wait if the entry must be durable
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
    char detail[HSM_JOURNAL_DETAIL_MAX]; /* label, token, point: for the key's own line */
    uint64_t introduced_in; /* the writer's: number of the file in which it was last introduced */
    unsigned holders; /* signers; 0: no new entry will name it */
    uint64_t entries; /* put into the ring when the last holder was done with it */
    struct hsm_journal_key *next;
};

/* A file that ended, but whose end is not in the index yet: retried until it is. */
struct hsm_closed_file {
    struct hsm_file_state state;
    struct hsm_closed_file *next;
};

struct hsm_journal {
    struct hsm_journal_config config; /* with defaults filled in; texts are owned */
    struct hsm_ring *ring;

    atomic_bool accepting;
    atomic_bool failing; /* a line could not be written */
    atomic_ullong records, lost, refused, calls, checkpoints;

    sem_t wake; /* the writer */
    atomic_bool asleep; /* set until there is an entry */
    atomic_bool urgent; /* a caller waits, or the ring fills */
    atomic_bool stopping;
    pthread_t writer, notary;

    pthread_mutex_t lock; /* protects the members below */
    pthread_cond_t changed; /* signalled when `committed` or `failing` changes */
    pthread_cond_t notary_wake;
    uint64_t committed; /* entries of the ring that are written, and durable where required */
    struct hsm_file_state now; /* state of the present file, as far as it is written */
    uint64_t notarised; /* size of that file at its last checkpoint */
    struct hsm_closed_file *closed;
    struct hsm_closed_file *spare; /* allocated in advance: the end needs no memory */
    struct hsm_journal_key *keys;
    unsigned idle_keys; /* keys without a holder */
    _Atomic(struct hsm_signer *) signer; /* with a reference; set once, under index_lock */
    char signer_id[HSM_HEX_LEN(HSM_JOURNAL_KEY_LEN) + 1];
    uint8_t signer_hint[4];
    bool notary_stopping;
    bool notary_ended;

    pthread_mutex_t index_lock;
    struct hsm_index index;
    bool index_kept; /* the notary's: another process kept its lock at the last attempt */

    struct hsm_file file; /* the writer's */
    uint64_t file_number; /* the writer's: number of its file, from 1 */
    uint64_t lost_recorded; /* the writer's: value of `lost` when it was last recorded */
    struct hsm_ring_entry held; /* the writer's: taken from the ring, but not yet a line */
    bool holds;
    int64_t rotates_after; /* the writer's: next try, after no file could be begun */
    bool sync_wanted; /* the writer's: the buffer must be made durable */
    bool broken; /* the writer's: fdatasync failed */
};

void *hsm_journal_write(void *journal);
void *hsm_journal_notarise(void *journal);

/** Begin the first file; called before the threads start. BUSY if others keep the index locked
 * until the deadline. */
HSM_MUST_CHECK enum hsm_status hsm_journal_begin(struct hsm_journal *journal, int64_t deadline);

/** Under the lock: there are enough new lines for a checkpoint. */
bool hsm_journal_is_due(const struct hsm_journal *journal);

/** Called by the writer when it has emptied the ring: if many keys have no holder, drop those that
 * no entry names. */
void hsm_journal_forget_keys(struct hsm_journal *journal);

/** Wake the writer. */
void hsm_journal_wake(struct hsm_journal *journal, bool urgent);

#endif
