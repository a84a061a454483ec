/* merkle.c - the Merkle tree of RFC 9162 section 2.1. */
#include <hsm/merkle.h>

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "es256_internal.h"

#define LEAF_PREFIX 0x00
#define NODE_PREFIX 0x01

struct level {
    uint8_t (*node)[HSM_SHA256_LEN];
    uint64_t count;
    uint64_t room;
};

/* Level n has a node for each complete, aligned run of 2^n leaves. */
struct hsm_merkle_tree {
    struct level level[HSM_MERKLE_DEPTH];
};

enum hsm_status
hsm_merkle_leaf_in_place(uint8_t *data, size_t len, uint8_t hash[HSM_SHA256_LEN])
{
    data[-1] = LEAF_PREFIX;
    return hsm_sha256(data - 1, len + 1, hash);
}

static enum hsm_status
hash_pair(const uint8_t *left, const uint8_t *right, uint8_t *out)
{
    uint8_t octets[1 + 2 * HSM_SHA256_LEN];

    octets[0] = NODE_PREFIX;
    memcpy(octets + 1, left, HSM_SHA256_LEN);
    memcpy(octets + 1 + HSM_SHA256_LEN, right, HSM_SHA256_LEN);
    return hsm_sha256(octets, sizeof(octets), out);
}

enum hsm_status
hsm_merkle_append(struct hsm_merkle_frontier *frontier, const uint8_t leaf[HSM_SHA256_LEN])
{
    uint8_t node[HSM_SHA256_LEN];
    enum hsm_status st = HSM_OK;
    unsigned level = 0;

    memcpy(node, leaf, sizeof(node));
    for (uint64_t size = frontier->size; (size & 1) != 0 && st == HSM_OK; size >>= 1)
        st = hash_pair(frontier->node[level++], node, node);
    if (st != HSM_OK)
        return st;
    memcpy(frontier->node[level], node, sizeof(node));
    frontier->size++;
    return HSM_OK;
}

enum hsm_status
hsm_merkle_root(const struct hsm_merkle_frontier *frontier, uint8_t root[HSM_SHA256_LEN])
{
    uint8_t node[HSM_SHA256_LEN];
    enum hsm_status st = HSM_OK;
    bool any = false;

    if (frontier->size == 0)
        return hsm_sha256("", 0, root);
    for (unsigned level = 0; level < HSM_MERKLE_DEPTH && st == HSM_OK; level++) {
        if ((frontier->size >> level & 1) == 0)
            continue;
        if (any)
            st = hash_pair(frontier->node[level], node, node);
        else
            memcpy(node, frontier->node[level], sizeof(node));
        any = true;
    }
    if (st == HSM_OK)
        memcpy(root, node, sizeof(node));
    return st;
}

enum hsm_status
hsm_merkle_tree_new(struct hsm_merkle_tree **out)
{
    struct hsm_merkle_tree *tree = calloc(1, sizeof(*tree));

    if (tree == NULL)
        return HSM_ERR_NOMEM;
    *out = tree;
    return HSM_OK;
}

static enum hsm_status
push(struct level *level, const uint8_t *node)
{
    if (level->count == level->room) {
        uint64_t room = level->room == 0 ? 64 : 2 * level->room;
        void *larger = realloc(level->node, room * HSM_SHA256_LEN);

        if (larger == NULL)
            return HSM_ERR_NOMEM;
        level->node = larger;
        level->room = room;
    }
    memcpy(level->node[level->count++], node, HSM_SHA256_LEN);
    return HSM_OK;
}

enum hsm_status
hsm_merkle_tree_append(struct hsm_merkle_tree *tree, const uint8_t leaf[HSM_SHA256_LEN])
{
    uint8_t node[HSM_SHA256_LEN];
    struct level *level = tree->level;
    enum hsm_status st;

    memcpy(node, leaf, sizeof(node));
    st = push(level, node);
    while (st == HSM_OK && (level->count & 1) == 0) {
        st = hash_pair(level->node[level->count - 2], level->node[level->count - 1], node);
        level++;
        if (st == HSM_OK)
            st = push(level, node);
    }
    return st;
}

uint64_t
hsm_merkle_tree_size(const struct hsm_merkle_tree *tree)
{
    return tree->level[0].count;
}

const uint8_t *
hsm_merkle_tree_leaf(const struct hsm_merkle_tree *tree, uint64_t index)
{
    return tree->level[0].node[index];
}

void
hsm_merkle_tree_free(struct hsm_merkle_tree *tree)
{
    if (tree == NULL)
        return;
    for (unsigned i = 0; i < HSM_MERKLE_DEPTH; i++)
        free(tree->level[i].node);
    free(tree);
}

/* The largest power of two smaller than n, which is 2 or more. */
static uint64_t
split_of(uint64_t n)
{
    uint64_t k = 1;

    while (k < n - k)
        k <<= 1;
    return k;
}

static unsigned
log2_of(uint64_t power)
{
    unsigned level = 0;

    while (power >> level != 1)
        level++;
    return level;
}

/* MTH(D[begin:begin + n]); `begin` is a multiple of the power of two that holds n. */
static enum hsm_status
hash_run(const struct hsm_merkle_tree *tree, uint64_t begin, uint64_t n, uint8_t *out)
{
    uint8_t right[HSM_SHA256_LEN];
    uint64_t k;
    enum hsm_status st;

    if ((n & (n - 1)) == 0) {
        unsigned level = log2_of(n);

        memcpy(out, tree->level[level].node[begin >> level], HSM_SHA256_LEN);
        return HSM_OK;
    }
    k = split_of(n);
    st = hash_run(tree, begin + k, n - k, right);
    if (st == HSM_OK)
        st = hash_run(tree, begin, k, out);
    return st == HSM_OK ? hash_pair(out, right, out) : st;
}

enum hsm_status
hsm_merkle_tree_root(const struct hsm_merkle_tree *tree, uint64_t size,
                     uint8_t root[HSM_SHA256_LEN])
{
    if (size > hsm_merkle_tree_size(tree))
        return HSM_ERR_USAGE;
    return size == 0 ? hsm_sha256("", 0, root) : hash_run(tree, 0, size, root);
}

/* Proofs are defined from the root down, but given from the leaf up. */
static void
reverse(struct hsm_merkle_proof *proof)
{
    uint8_t node[HSM_SHA256_LEN];

    for (size_t i = 0, j = proof->count; i + 1 < j; i++) {
        j--;
        memcpy(node, proof->node[i], sizeof(node));
        memcpy(proof->node[i], proof->node[j], sizeof(node));
        memcpy(proof->node[j], node, sizeof(node));
    }
}

enum hsm_status
hsm_merkle_prove_inclusion(const struct hsm_merkle_tree *tree, uint64_t index, uint64_t size,
                           struct hsm_merkle_proof *out)
{
    struct hsm_merkle_proof proof = {.count = 0};
    uint64_t begin = 0;
    uint64_t n = size;
    enum hsm_status st = HSM_OK;

    if (index >= size || size > hsm_merkle_tree_size(tree))
        return HSM_ERR_USAGE;
    while (n > 1 && st == HSM_OK) {
        uint64_t k = split_of(n);
        uint8_t *sibling = proof.node[proof.count++];

        if (index - begin < k) {
            st = hash_run(tree, begin + k, n - k, sibling);
            n = k;
        } else {
            st = hash_run(tree, begin, k, sibling);
            begin += k;
            n -= k;
        }
    }
    if (st != HSM_OK)
        return st;
    reverse(&proof);
    *out = proof;
    return HSM_OK;
}

enum hsm_status
hsm_merkle_check_inclusion(const uint8_t leaf[HSM_SHA256_LEN], uint64_t index, uint64_t size,
                           const struct hsm_merkle_proof *proof, const uint8_t root[HSM_SHA256_LEN])
{
    uint8_t r[HSM_SHA256_LEN];
    uint64_t fn = index;
    uint64_t sn = size - 1;
    enum hsm_status st = HSM_OK;

    if (index >= size)
        return HSM_ERR_UNTRUSTED;
    memcpy(r, leaf, sizeof(r));
    for (size_t i = 0; i < proof->count && st == HSM_OK; i++) {
        if (sn == 0)
            return HSM_ERR_UNTRUSTED;
        if ((fn & 1) != 0 || fn == sn) {
            st = hash_pair(proof->node[i], r, r);
            while ((fn & 1) == 0 && fn != 0) {
                fn >>= 1;
                sn >>= 1;
            }
        } else {
            st = hash_pair(r, proof->node[i], r);
        }
        fn >>= 1;
        sn >>= 1;
    }
    if (st != HSM_OK)
        return st;
    return sn == 0 && memcmp(r, root, sizeof(r)) == 0 ? HSM_OK : HSM_ERR_UNTRUSTED;
}

enum hsm_status
hsm_merkle_prove_consistency(const struct hsm_merkle_tree *tree, uint64_t first, uint64_t size,
                             struct hsm_merkle_proof *out)
{
    struct hsm_merkle_proof proof = {.count = 0};
    uint64_t begin = 0;
    uint64_t m = first;
    uint64_t n = size;
    enum hsm_status st = HSM_OK;

    if (first == 0 || first > size || size > hsm_merkle_tree_size(tree))
        return HSM_ERR_USAGE;
    while (m != n && st == HSM_OK) { /* SUBPROOF(m, D[n], b) */
        uint64_t k = split_of(n);

        if (m <= k) {
            st = hash_run(tree, begin + k, n - k, proof.node[proof.count++]);
            n = k;
        } else {
            st = hash_run(tree, begin, k, proof.node[proof.count++]);
            begin += k;
            m -= k;
            n -= k;
        }
    }
    if (st == HSM_OK && begin != 0) /* b is false: the verifier does not know this node */
        st = hash_run(tree, begin, n, proof.node[proof.count++]);
    if (st != HSM_OK)
        return st;
    reverse(&proof);
    *out = proof;
    return HSM_OK;
}

struct consistency {
    uint64_t fn, sn;
    uint8_t fr[HSM_SHA256_LEN], sr[HSM_SHA256_LEN];
};

static enum hsm_status
step(struct consistency *c, const uint8_t *node)
{
    enum hsm_status st;

    if ((c->fn & 1) != 0 || c->fn == c->sn) {
        st = hash_pair(node, c->fr, c->fr);
        if (st == HSM_OK)
            st = hash_pair(node, c->sr, c->sr);
        while ((c->fn & 1) == 0 && c->fn != 0) {
            c->fn >>= 1;
            c->sn >>= 1;
        }
    } else {
        st = hash_pair(c->sr, node, c->sr);
    }
    c->fn >>= 1;
    c->sn >>= 1;
    return st;
}

enum hsm_status
hsm_merkle_check_consistency(uint64_t first, const uint8_t first_root[HSM_SHA256_LEN],
                             uint64_t size, const uint8_t root[HSM_SHA256_LEN],
                             const struct hsm_merkle_proof *proof)
{
    struct consistency c = {.fn = first - 1, .sn = size - 1};
    size_t i = 0;
    enum hsm_status st = HSM_OK;
    bool is_power = (first & (first - 1)) == 0;

    if (first == 0 || first > size)
        return HSM_ERR_UNTRUSTED;
    if (first == size)
        return proof->count == 0 && memcmp(first_root, root, HSM_SHA256_LEN) == 0
                   ? HSM_OK
                   : HSM_ERR_UNTRUSTED;
    if (!is_power && proof->count == 0)
        return HSM_ERR_UNTRUSTED;
    memcpy(c.fr, is_power ? first_root : proof->node[i++], HSM_SHA256_LEN);
    memcpy(c.sr, c.fr, HSM_SHA256_LEN);
    while ((c.fn & 1) != 0) {
        c.fn >>= 1;
        c.sn >>= 1;
    }
    for (; i < proof->count && st == HSM_OK; i++) {
        if (c.sn == 0)
            return HSM_ERR_UNTRUSTED;
        st = step(&c, proof->node[i]);
    }
    if (st != HSM_OK)
        return st;
    return c.sn == 0 && memcmp(c.fr, first_root, HSM_SHA256_LEN) == 0 &&
                   memcmp(c.sr, root, HSM_SHA256_LEN) == 0
               ? HSM_OK
               : HSM_ERR_UNTRUSTED;
}
