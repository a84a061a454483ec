/*
 * journal_ring_internal.h - uses of keys on their way to the thread that writes them.
 *
 * Any number of threads put, one takes, without locks: each place has a number that tells whose
 * turn it is (a bounded queue after D. Vyukov).
 */
#ifndef HSM_JOURNAL_RING_INTERNAL_H
#define HSM_JOURNAL_RING_INTERNAL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <hsm/key.h>
#include <hsm/status.h>
#include <hsm/use.h>

#define HSM_RING_PLACES 8192 /* a power of two */

struct hsm_journal_key;

struct hsm_ring_entry {
    int64_t time_us;
    const struct hsm_journal_key *key; /* owned by the journal: it outlives the entry */
    enum hsm_use_kind kind;
    enum hsm_status outcome;
    uint8_t digest[HSM_SHA256_LEN];
    char who[HSM_WHO_MAX + 1]; /* "": the program */
};

struct hsm_ring;

HSM_MUST_CHECK enum hsm_status hsm_ring_new(struct hsm_ring **out);
void hsm_ring_free(struct hsm_ring *ring);

/** Copy an entry into the ring; false: full. *position receives its number, from 0. */
bool hsm_ring_put(struct hsm_ring *ring, const struct hsm_ring_entry *entry, uint64_t *position);

/** Called by the one thread that takes entries; false: the ring is empty. */
bool hsm_ring_take(struct hsm_ring *ring, struct hsm_ring_entry *out);

/** Entries ever put, and ever taken. */
uint64_t hsm_ring_put_count(const struct hsm_ring *ring);
uint64_t hsm_ring_taken(const struct hsm_ring *ring);

/** About half of the places, or more, are taken. */
bool hsm_ring_is_filling(const struct hsm_ring *ring);

#endif
