/* handles.c - tables of sessions and objects. */
#include "handles.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>

#define INDEX_BITS  16 /* of a session handle; the higher bits are its serial */
#define INDEX_MASK  ((1UL << INDEX_BITS) - 1)
#define CHUNK_BITS  12
#define CHUNK_SIZE  (1UL << CHUNK_BITS) /* objects */
#define CHUNKS_MAX  4096 /* 16 million handles in the lifetime of a process */
#define MAP_INITIAL 1024 /* a power of two */

struct object {
    _Atomic CK_OBJECT_HANDLE real; /* CK_INVALID_HANDLE: gone */
    atomic_uint slot;
};

struct place {
    CK_OBJECT_HANDLE real;
    CK_OBJECT_HANDLE shown; /* 0: empty */
    unsigned slot;
};

static pthread_mutex_t sessions_lock = PTHREAD_MUTEX_INITIALIZER;
static struct fault_session sessions[FAULT_SESSIONS_MAX + 1]; /* the first is never used */
static unsigned long serials[FAULT_SESSIONS_MAX + 1];
static uint16_t unused[FAULT_SESSIONS_MAX]; /* indexes of released entries */
static size_t unused_count;
static size_t used_up_to; /* entries after this index were never used */
static unsigned long open_count[FAULT_SLOTS_MAX];
static unsigned long next_serial;
static atomic_ulong misuse;

static pthread_mutex_t objects_lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic(struct object *) chunks[CHUNKS_MAX];
static CK_OBJECT_HANDLE last_shown;
static _Atomic CK_OBJECT_HANDLE floors[FAULT_SLOTS_MAX]; /* valid handles are greater */
static struct place *map; /* open addressing, by slot and real handle */
static size_t map_size;
static size_t map_used;

/* ---- sessions */

struct fault_session *
fault_session_get(CK_SESSION_HANDLE handle)
{
    struct fault_session *session = &sessions[handle & INDEX_MASK];

    if (handle == CK_INVALID_HANDLE || atomic_load(&session->handle) != handle)
        return NULL;
    return session;
}

void
fault_session_use(struct fault_session *session)
{
    if (atomic_fetch_add(&session->users, 1) > 0)
        atomic_fetch_add(&misuse, 1);
}

void
fault_session_leave(struct fault_session *session)
{
    atomic_fetch_sub(&session->users, 1);
}

void
fault_session_check_finalize(void)
{
    pthread_mutex_lock(&sessions_lock);
    for (size_t i = 1; i <= used_up_to; i++)
        atomic_fetch_add(&misuse, atomic_load(&sessions[i].users) > 0);
    pthread_mutex_unlock(&sessions_lock);
}

unsigned long
fault_session_misuse(void)
{
    return atomic_load(&misuse);
}

void
fault_session_reset_misuse(void)
{
    atomic_store(&misuse, 0);
}

/* sessions_lock is held. Skips entries in which a call still sleeps: it does not know yet that its
 * session is lost. */
static size_t
take_entry(void)
{
    for (size_t i = unused_count; i > 0; i--) {
        uint16_t index = unused[i - 1];

        if (atomic_load(&sessions[index].users) == 0) {
            unused[i - 1] = unused[--unused_count];
            return index;
        }
    }
    return used_up_to < FAULT_SESSIONS_MAX ? ++used_up_to : 0;
}

struct fault_session *
fault_session_reserve(unsigned slot, unsigned long most)
{
    struct fault_session *session = NULL;
    size_t index = 0;

    pthread_mutex_lock(&sessions_lock);
    if (most == 0 || open_count[slot] < most)
        index = take_entry();
    if (index != 0) {
        session = &sessions[index];
        open_count[slot]++;
        atomic_store(&session->slot, slot);
        atomic_store(&session->pending, CK_INVALID_HANDLE);
        atomic_store(&session->extra, CK_INVALID_HANDLE);
    }
    pthread_mutex_unlock(&sessions_lock);
    return session;
}

CK_SESSION_HANDLE
fault_session_publish(struct fault_session *session, CK_SESSION_HANDLE real)
{
    size_t index = (size_t)(session - sessions);
    CK_SESSION_HANDLE handle;

    pthread_mutex_lock(&sessions_lock);
    serials[index] = ++next_serial;
    handle = serials[index] << INDEX_BITS | index;
    atomic_store(&session->real, real);
    atomic_store(&session->handle, handle);
    pthread_mutex_unlock(&sessions_lock);
    return handle;
}

/* sessions_lock is held. */
static void
release_entry(struct fault_session *session)
{
    atomic_store(&session->handle, CK_INVALID_HANDLE);
    open_count[atomic_load(&session->slot)]--;
    unused[unused_count++] = (uint16_t)(session - sessions);
}

void
fault_session_release(struct fault_session *session)
{
    pthread_mutex_lock(&sessions_lock);
    release_entry(session);
    pthread_mutex_unlock(&sessions_lock);
}

void
fault_session_release_all(unsigned slot)
{
    pthread_mutex_lock(&sessions_lock);
    for (size_t i = 1; i <= used_up_to; i++) {
        if (atomic_load(&sessions[i].handle) == CK_INVALID_HANDLE)
            continue;
        if (slot == FAULT_EVERY_SLOT || atomic_load(&sessions[i].slot) == slot)
            release_entry(&sessions[i]);
    }
    pthread_mutex_unlock(&sessions_lock);
}

unsigned long
fault_session_count(unsigned slot)
{
    unsigned long count = 0;

    pthread_mutex_lock(&sessions_lock);
    for (unsigned i = 0; i < FAULT_SLOTS_MAX; i++)
        count += slot == FAULT_EVERY_SLOT || slot == i ? open_count[i] : 0;
    pthread_mutex_unlock(&sessions_lock);
    return count;
}

struct fault_session *
fault_session_oldest(void)
{
    struct fault_session *oldest = NULL;

    pthread_mutex_lock(&sessions_lock);
    for (size_t i = 1; i <= used_up_to; i++) {
        if (atomic_load(&sessions[i].handle) == CK_INVALID_HANDLE)
            continue;
        if (oldest == NULL || serials[i] < serials[oldest - sessions])
            oldest = &sessions[i];
    }
    pthread_mutex_unlock(&sessions_lock);
    return oldest;
}

/* ---- objects */

static struct object *
entry_of(CK_OBJECT_HANDLE shown)
{
    size_t chunk = (shown - 1) >> CHUNK_BITS;
    struct object *objects;

    if (shown == CK_INVALID_HANDLE || chunk >= CHUNKS_MAX)
        return NULL;
    objects = atomic_load(&chunks[chunk]);
    return objects != NULL ? &objects[(shown - 1) & (CHUNK_SIZE - 1)] : NULL;
}

CK_OBJECT_HANDLE
fault_object_real(unsigned slot, CK_OBJECT_HANDLE shown)
{
    struct object *object = entry_of(shown);

    if (object == NULL || shown <= atomic_load(&floors[slot]) || atomic_load(&object->slot) != slot)
        return CK_INVALID_HANDLE;
    return atomic_load(&object->real);
}

/* Make a new handle; CK_INVALID_HANDLE: no memory. objects_lock is held. */
static CK_OBJECT_HANDLE
issue(unsigned slot, CK_OBJECT_HANDLE real)
{
    size_t chunk = last_shown >> CHUNK_BITS;
    struct object *object;

    if (chunk >= CHUNKS_MAX)
        return CK_INVALID_HANDLE;
    if (atomic_load(&chunks[chunk]) == NULL) {
        struct object *objects = calloc(CHUNK_SIZE, sizeof(*objects));

        if (objects == NULL)
            return CK_INVALID_HANDLE;
        atomic_store(&chunks[chunk], objects);
    }
    object = entry_of(++last_shown);
    atomic_store(&object->slot, slot);
    atomic_store(&object->real, real);
    return last_shown;
}

static size_t
place_of(const struct place *places, size_t size, unsigned slot, CK_OBJECT_HANDLE real)
{
    size_t at = (size_t)((real + slot * 0x51ed27UL) * 0x9e3779b97f4a7c15UL >> 20) & (size - 1);

    while (places[at].shown != 0 && (places[at].real != real || places[at].slot != slot))
        at = (at + 1) & (size - 1);
    return at;
}

/* Keep half of the map empty. objects_lock is held. */
static bool
map_has_room(void)
{
    size_t size = map_size == 0 ? MAP_INITIAL : map_size * 2;
    struct place *wider;

    if (map_size > 0 && map_used < map_size / 2)
        return true;
    wider = calloc(size, sizeof(*wider));
    if (wider == NULL)
        return false;
    for (size_t i = 0; i < map_size; i++) {
        if (map[i].shown != 0)
            wider[place_of(wider, size, map[i].slot, map[i].real)] = map[i];
    }
    free(map);
    map = wider;
    map_size = size;
    return true;
}

/* objects_lock is held. */
static CK_OBJECT_HANDLE
shown_of(unsigned slot, CK_OBJECT_HANDLE real)
{
    CK_OBJECT_HANDLE shown;
    struct place *place;

    if (!map_has_room())
        return CK_INVALID_HANDLE;
    place = &map[place_of(map, map_size, slot, real)];
    if (place->shown != 0 && fault_object_real(slot, place->shown) == real)
        return place->shown;
    shown = issue(slot, real);
    if (shown == CK_INVALID_HANDLE)
        return shown;
    map_used += place->shown == 0;
    *place = (struct place){real, shown, slot};
    return shown;
}

CK_OBJECT_HANDLE
fault_object_shown(unsigned slot, CK_OBJECT_HANDLE real)
{
    CK_OBJECT_HANDLE shown;

    pthread_mutex_lock(&objects_lock);
    shown = shown_of(slot, real);
    pthread_mutex_unlock(&objects_lock);
    return shown;
}

CK_OBJECT_HANDLE
fault_object_twin(unsigned slot, CK_OBJECT_HANDLE real)
{
    CK_OBJECT_HANDLE shown;

    pthread_mutex_lock(&objects_lock);
    shown = issue(slot, real);
    pthread_mutex_unlock(&objects_lock);
    return shown;
}

void
fault_object_forget(unsigned slot, CK_OBJECT_HANDLE shown)
{
    if (fault_object_real(slot, shown) != CK_INVALID_HANDLE)
        atomic_store(&entry_of(shown)->real, CK_INVALID_HANDLE);
}

void
fault_object_renumber(unsigned slot)
{
    pthread_mutex_lock(&objects_lock);
    for (unsigned i = 0; i < FAULT_SLOTS_MAX; i++) {
        if (slot == FAULT_EVERY_SLOT || slot == i)
            atomic_store(&floors[i], last_shown);
    }
    pthread_mutex_unlock(&objects_lock);
}

/* Each handle takes the object of the previous one, and the first that of the last. */
size_t
fault_object_exchange(unsigned slot, bool (*chosen)(CK_OBJECT_HANDLE real, void *arg), void *arg)
{
    CK_OBJECT_HANDLE first = CK_INVALID_HANDLE;
    CK_OBJECT_HANDLE carried = CK_INVALID_HANDLE;
    size_t count = 0;

    pthread_mutex_lock(&objects_lock);
    for (CK_OBJECT_HANDLE shown = 1; shown <= last_shown; shown++) {
        CK_OBJECT_HANDLE real = fault_object_real(slot, shown);

        if (real == CK_INVALID_HANDLE || !chosen(real, arg))
            continue;
        if (count++ == 0)
            first = shown;
        else
            atomic_store(&entry_of(shown)->real, carried);
        carried = real;
    }
    if (count > 1)
        atomic_store(&entry_of(first)->real, carried);
    pthread_mutex_unlock(&objects_lock);
    return count;
}

/* Initialises the locks anew: another thread may have held them when the process forked. */
void
fault_handles_child(void)
{
    sessions_lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    objects_lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    for (size_t i = 1; i <= used_up_to; i++) {
        atomic_store(&sessions[i].handle, CK_INVALID_HANDLE);
        atomic_store(&sessions[i].users, 0);
    }
    for (unsigned i = 0; i < FAULT_SLOTS_MAX; i++) {
        open_count[i] = 0;
        atomic_store(&floors[i], last_shown);
    }
    unused_count = 0;
    used_up_to = 0;
}
