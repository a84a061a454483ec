/* key_list.c - all keys of a token. */
#include <stdlib.h>
#include <string.h>

#include <hsm/key.h>

#include "object_internal.h"
#include "token_internal.h"

#define LIST_TRIES 3

/* A public object and its id: a search for each key would take quadratic time. */
struct half {
    CK_OBJECT_HANDLE object;
    uint8_t id[HSM_ID_MAX];
    size_t id_len;
};

static int
by_id(const void *a, const void *b)
{
    const struct half *x = a;
    const struct half *y = b;

    if (x->id_len != y->id_len)
        return x->id_len < y->id_len ? -1 : 1;
    return memcmp(x->id, y->id, x->id_len);
}

/* Sorted by id; objects without an id are left out. */
static enum hsm_status
public_halves(const struct hsm_slot *slot, struct half **out, size_t *count)
{
    const struct hsm_object_name any = {NULL, NULL, 0};
    CK_OBJECT_HANDLE *objects = NULL;
    struct half *halves = NULL;
    size_t found = 0;
    size_t n = 0;
    enum hsm_status st = hsm_object_find(slot, CKO_PUBLIC_KEY, &any, &objects, &found);

    if (st == HSM_OK) {
        halves = calloc(found + 1, sizeof(*halves));
        st = halves != NULL ? HSM_OK : HSM_ERR_NOMEM;
    }
    for (size_t i = 0; i < found && st == HSM_OK; i++) {
        halves[n].object = objects[i];
        st = hsm_object_id(slot, objects[i], halves[n].id, &halves[n].id_len);
        n += st == HSM_OK ? 1 : 0;
        st = st == HSM_ERR_NOT_FOUND ? HSM_OK : st;
    }
    free(objects);
    if (st != HSM_OK) {
        free(halves);
        return st;
    }
    qsort(halves, n, sizeof(*halves), by_id);
    *out = halves;
    *count = n;
    return HSM_OK;
}

/* The one public object with an id; CK_INVALID_HANDLE for none and for several. */
static CK_OBJECT_HANDLE
half_of(const struct half *halves, size_t count, const struct half *wanted)
{
    const struct half *found = bsearch(wanted, halves, count, sizeof(*halves), by_id);

    if (found == NULL || (found > halves && by_id(found - 1, wanted) == 0) ||
        (found + 1 < halves + count && by_id(found + 1, wanted) == 0))
        return CK_INVALID_HANDLE;
    return found->object;
}

/* A key without its other half is listed, too. */
static enum hsm_status
describe_all(const struct hsm_slot *slot, const CK_OBJECT_HANDLE *objects, size_t count,
             struct hsm_key_info *out)
{
    struct half *halves = NULL;
    size_t half_count = 0;
    enum hsm_status st = public_halves(slot, &halves, &half_count);

    for (size_t i = 0; st == HSM_OK && i < count; i++) {
        struct hsm_object_pair pair = {objects[i], CK_INVALID_HANDLE};
        struct half wanted = {.id_len = 0};

        st = hsm_object_id(slot, objects[i], wanted.id, &wanted.id_len);
        if (st == HSM_OK)
            pair.public_object = half_of(halves, half_count, &wanted);
        if (st == HSM_OK || st == HSM_ERR_NOT_FOUND)
            st = hsm_object_describe(slot, &pair, &out[i]);
    }
    free(halves);
    return st;
}

/* *again is true if an object disappeared while it was described, or the token was lost. */
static enum hsm_status
list_once(struct hsm_token *token, struct hsm_key_info **out, size_t *count, bool *again)
{
    const struct hsm_object_name any = {NULL, NULL, 0};
    CK_OBJECT_HANDLE *objects = NULL;
    struct hsm_key_info *infos = NULL;
    size_t n = 0;
    enum hsm_status st = hsm_token_admin_enter(token, HSM_TURN_READ);

    *again = false;
    if (st != HSM_OK)
        return st;
    st = hsm_object_find(token->slot, CKO_PRIVATE_KEY, &any, &objects, &n);
    if (st == HSM_OK) {
        infos = calloc(n + 1, sizeof(*infos));
        st = infos != NULL ? describe_all(token->slot, objects, n, infos) : HSM_ERR_NOMEM;
    }
    (void)hsm_token_admin_leave(token, st);
    *again = st == HSM_ERR_BUSY;
    free(objects);
    if (st != HSM_OK) {
        free(infos);
        return st;
    }
    *out = infos;
    *count = n;
    return HSM_OK;
}

enum hsm_status
hsm_key_list(struct hsm_token *token, struct hsm_key_info **out, size_t *count)
{
    enum hsm_status st = HSM_ERR_BUSY;
    bool again = true;

    for (int tries = 0; again && tries < LIST_TRIES; tries++)
        st = list_once(token, out, count, &again);
    return st;
}
