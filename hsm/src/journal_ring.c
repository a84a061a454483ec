/* journal_ring.c - uses of keys on their way to the thread that writes them. */
#include "journal_ring_internal.h"

#include <stdlib.h>

#define MASK  (HSM_RING_PLACES - 1)
#define CACHE 64 /* octets of a line */

/* Its turn is n when entry n may be put here, n + 1 when it may be taken. */
struct place {
    _Alignas(CACHE) _Atomic(uint64_t) turn;
    struct hsm_ring_entry entry;
};

struct hsm_ring {
    _Alignas(CACHE) _Atomic(uint64_t) put;
    _Alignas(CACHE) _Atomic(uint64_t) taken;
    struct place place[HSM_RING_PLACES];
};

enum hsm_status
hsm_ring_new(struct hsm_ring **out)
{
    struct hsm_ring *ring = aligned_alloc(CACHE, sizeof(*ring));

    if (ring == NULL)
        return HSM_ERR_NOMEM;
    atomic_init(&ring->put, 0);
    atomic_init(&ring->taken, 0);
    for (uint64_t i = 0; i < HSM_RING_PLACES; i++)
        atomic_init(&ring->place[i].turn, i);
    *out = ring;
    return HSM_OK;
}

void
hsm_ring_free(struct hsm_ring *ring)
{
    free(ring);
}

bool
hsm_ring_put(struct hsm_ring *ring, const struct hsm_ring_entry *entry, uint64_t *position)
{
    uint64_t n = atomic_load_explicit(&ring->put, memory_order_relaxed);

    for (;;) {
        struct place *place = &ring->place[n & MASK];
        uint64_t turn = atomic_load_explicit(&place->turn, memory_order_acquire);

        if ((int64_t)(turn - n) < 0)
            return false; /* the entry of the previous round is still here */
        if (turn == n && atomic_compare_exchange_weak_explicit(
                             &ring->put, &n, n + 1, memory_order_relaxed, memory_order_relaxed)) {
            place->entry = *entry;
            atomic_store_explicit(&place->turn, n + 1, memory_order_release);
            *position = n;
            return true;
        }
        if (turn != n)
            n = atomic_load_explicit(&ring->put, memory_order_relaxed);
    }
}

bool
hsm_ring_take(struct hsm_ring *ring, struct hsm_ring_entry *out)
{
    uint64_t n = atomic_load_explicit(&ring->taken, memory_order_relaxed);
    struct place *place = &ring->place[n & MASK];

    if (atomic_load_explicit(&place->turn, memory_order_acquire) != n + 1)
        return false;
    *out = place->entry;
    atomic_store_explicit(&place->turn, n + HSM_RING_PLACES, memory_order_release);
    atomic_store_explicit(&ring->taken, n + 1, memory_order_relaxed);
    return true;
}

uint64_t
hsm_ring_put_count(const struct hsm_ring *ring)
{
    return atomic_load_explicit(&ring->put, memory_order_relaxed);
}

uint64_t
hsm_ring_taken(const struct hsm_ring *ring)
{
    return atomic_load_explicit(&ring->taken, memory_order_relaxed);
}

bool
hsm_ring_is_filling(const struct hsm_ring *ring)
{
    return atomic_load_explicit(&ring->put, memory_order_relaxed) -
               atomic_load_explicit(&ring->taken, memory_order_relaxed) >
           HSM_RING_PLACES / 2;
}
