/* fake.c - a constant, and a table of signatures made before. */
#include "fake.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#define PLACES   1024
#define DATA_MAX 64 /* octets: the longest digest */

struct place {
    CK_OBJECT_HANDLE key; /* CK_INVALID_HANDLE: empty */
    size_t len;
    CK_BYTE data[DATA_MAX];
    CK_BYTE sig[FAULT_SIG_LEN];
};

static atomic_uint mode_now;
static pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
static struct place places[PLACES];

/* r and s are above 0 and below the order of P-256, whose first four octets are ff. */
static const CK_BYTE constant[FAULT_SIG_LEN] = {0x5a, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
                                                1,    1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
                                                0x5b, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2,
                                                2,    2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2};

/* Drops the kept signatures: their key handles may stand for other keys by now. */
void
fault_fake_set(enum fault_fake mode)
{
    pthread_rwlock_wrlock(&lock);
    memset(places, 0, sizeof(places));
    atomic_store(&mode_now, mode);
    pthread_rwlock_unlock(&lock);
}

enum fault_fake
fault_fake_mode(void)
{
    return (enum fault_fake)atomic_load_explicit(&mode_now, memory_order_relaxed);
}

const CK_BYTE *
fault_fake_constant(void)
{
    return constant;
}

/* FNV-1a. */
static struct place *
place_of(CK_OBJECT_HANDLE key, const CK_BYTE *data, size_t len)
{
    uint64_t hash = 0xcbf29ce484222325U ^ key;

    for (size_t i = 0; i < len; i++)
        hash = (hash ^ data[i]) * 0x100000001b3U;
    return &places[(hash ^ hash >> 32) % PLACES];
}

static bool
holds(const struct place *place, CK_OBJECT_HANDLE key, const CK_BYTE *data, size_t len)
{
    return place->key == key && place->len == len && memcmp(place->data, data, len) == 0;
}

bool
fault_fake_recall(CK_OBJECT_HANDLE key, const CK_BYTE *data, size_t len, CK_BYTE sig[FAULT_SIG_LEN])
{
    const struct place *place = place_of(key, data, len);
    bool kept;

    pthread_rwlock_rdlock(&lock);
    kept = holds(place, key, data, len);
    if (kept)
        memcpy(sig, place->sig, FAULT_SIG_LEN);
    pthread_rwlock_unlock(&lock);
    return kept;
}

void
fault_fake_keep(CK_OBJECT_HANDLE key, const CK_BYTE *data, size_t len,
                const CK_BYTE sig[FAULT_SIG_LEN])
{
    struct place *place = place_of(key, data, len);

    if (len > DATA_MAX)
        return;
    pthread_rwlock_wrlock(&lock);
    place->key = key;
    place->len = len;
    memcpy(place->data, data, len);
    memcpy(place->sig, sig, FAULT_SIG_LEN);
    pthread_rwlock_unlock(&lock);
}

void
fault_fake_child(void)
{
    lock = (pthread_rwlock_t)PTHREAD_RWLOCK_INITIALIZER;
}
