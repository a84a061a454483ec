/*
 * merkle.h - the Merkle tree of RFC 9162 section 2.1, with SHA-256.
 *
 * The tree comes in two forms: a frontier, which grows and knows its root in a
 * fixed amount of memory, and a tree with all its nodes, which can make proofs.
 */
#ifndef HSM_MERKLE_H
#define HSM_MERKLE_H

#include <stddef.h>
#include <stdint.h>

#include <hsm/defer.h>
#include <hsm/key.h>
#include <hsm/status.h>

#define HSM_MERKLE_DEPTH 63 /* levels, and the most nodes that a proof has */

/** H(0x00 || data). `data` must have room for one octet in front: data[-1] is written. */
HSM_MUST_CHECK enum hsm_status hsm_merkle_leaf_in_place(uint8_t *data, size_t len,
                                                        uint8_t hash[HSM_SHA256_LEN]);

/** An empty tree is all zero. */
struct hsm_merkle_frontier {
    uint64_t size; /* leaves */
    uint8_t node[HSM_MERKLE_DEPTH][HSM_SHA256_LEN]; /* of levels whose bit is set in size */
};

/** Append a leaf. On failure (HSM_ERR_CRYPTO: no hash) the size, and so the tree, is unchanged. */
HSM_MUST_CHECK enum hsm_status hsm_merkle_append(struct hsm_merkle_frontier *frontier,
                                                 const uint8_t leaf[HSM_SHA256_LEN]);

/** MTH(D[n]); for an empty tree the hash of the empty string. */
HSM_MUST_CHECK enum hsm_status hsm_merkle_root(const struct hsm_merkle_frontier *frontier,
                                               uint8_t root[HSM_SHA256_LEN]);

struct hsm_merkle_tree;

HSM_MUST_CHECK enum hsm_status hsm_merkle_tree_new(struct hsm_merkle_tree **out);
HSM_MUST_CHECK enum hsm_status hsm_merkle_tree_append(struct hsm_merkle_tree *tree,
                                                      const uint8_t leaf[HSM_SHA256_LEN]);
uint64_t hsm_merkle_tree_size(const struct hsm_merkle_tree *tree);

/** The hash of a leaf: borrowed until the next append; index < size. */
const uint8_t *hsm_merkle_tree_leaf(const struct hsm_merkle_tree *tree, uint64_t index);

/** The root that the tree had when it had `size` leaves; HSM_ERR_USAGE if it has fewer. */
HSM_MUST_CHECK enum hsm_status hsm_merkle_tree_root(const struct hsm_merkle_tree *tree,
                                                    uint64_t size, uint8_t root[HSM_SHA256_LEN]);
void hsm_merkle_tree_free(struct hsm_merkle_tree *tree);
DEFINE_DEFER(struct hsm_merkle_tree, hsm_merkle_tree_free)

struct hsm_merkle_proof {
    size_t count;
    uint8_t node[HSM_MERKLE_DEPTH][HSM_SHA256_LEN];
};

/** PATH(m, D[n]), RFC 9162 section 2.1.3.1; HSM_ERR_USAGE unless index < size <= the tree's size.
 */
HSM_MUST_CHECK enum hsm_status hsm_merkle_prove_inclusion(const struct hsm_merkle_tree *tree,
                                                          uint64_t index, uint64_t size,
                                                          struct hsm_merkle_proof *out);

/** RFC 9162 section 2.1.3.2; HSM_ERR_UNTRUSTED: the leaf is not in the tree with that root. */
HSM_MUST_CHECK enum hsm_status hsm_merkle_check_inclusion(const uint8_t leaf[HSM_SHA256_LEN],
                                                          uint64_t index, uint64_t size,
                                                          const struct hsm_merkle_proof *proof,
                                                          const uint8_t root[HSM_SHA256_LEN]);

/** PROOF(m, D[n]), RFC 9162 section 2.1.4.1; HSM_ERR_USAGE unless 0 < first <= size <= the tree's
 *  size. */
HSM_MUST_CHECK enum hsm_status hsm_merkle_prove_consistency(const struct hsm_merkle_tree *tree,
                                                            uint64_t first, uint64_t size,
                                                            struct hsm_merkle_proof *out);

/** RFC 9162 section 2.1.4.2; HSM_ERR_UNTRUSTED: the first tree is not the beginning of the second.
 */
HSM_MUST_CHECK enum hsm_status
hsm_merkle_check_consistency(uint64_t first, const uint8_t first_root[HSM_SHA256_LEN],
                             uint64_t size, const uint8_t root[HSM_SHA256_LEN],
                             const struct hsm_merkle_proof *proof);

#endif
