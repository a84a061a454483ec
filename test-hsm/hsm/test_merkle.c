/* test_merkle.c - mirrors hsm/src/merkle.c: the tree of RFC 9162, compared with its definition. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/evp.h>

#include <hsm/merkle.h>

#define LEAVES 70
#define HASH   HSM_SHA256_LEN

static uint8_t leaves[LEAVES][HASH];

static void
hash(const void *data, size_t len, uint8_t out[HASH])
{
    assert_int_equal(EVP_Digest(data, len, out, NULL, EVP_sha256(), NULL), 1);
}

/* Section 2.1.1, implemented literally. */
static void
mth(size_t begin, size_t n, uint8_t out[HASH])
{
    uint8_t octets[1 + 2 * HASH] = {0x01};
    size_t k = 1;

    if (n == 0) {
        hash("", 0, out);
        return;
    }
    if (n == 1) {
        memcpy(out, leaves[begin], HASH);
        return;
    }
    while (2 * k < n)
        k *= 2;
    mth(begin, k, octets + 1);
    mth(begin + k, n - k, octets + 1 + HASH);
    hash(octets, sizeof(octets), out);
}

static struct hsm_merkle_tree *
tree_of(size_t n)
{
    struct hsm_merkle_tree *tree = NULL;

    assert_int_equal(hsm_merkle_tree_new(&tree), HSM_OK);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(hsm_merkle_tree_append(tree, leaves[i]), HSM_OK);
    assert_int_equal(hsm_merkle_tree_size(tree), n);
    return tree;
}

/* Leaves and roots from the tests of Certificate Transparency implementations. */
static void
known_leaves_have_the_known_roots(void **state)
{
    static const struct {
        const char *leaf;
        size_t len;
        const char *root;
    } rows[] = {
        {"", 0, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"},
        {"\x00", 1, "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"},
        {"\x10", 1, "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"},
        {"\x20\x21", 2, "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"},
        {"\x30\x31", 2, "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4"},
        {"\x40\x41\x42\x43", 4, "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef"},
        {"\x50\x51\x52\x53\x54\x55\x56\x57", 8,
         "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c"},
        {"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f", 16,
         "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"},
    };
    struct hsm_merkle_frontier frontier = {.size = 0};

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint8_t octets[1 + 16], leaf[HASH], root[HASH];
        char hex[2 * HASH + 1];

        memcpy(octets + 1, rows[i].leaf, rows[i].len);
        assert_int_equal(hsm_merkle_leaf_in_place(octets + 1, rows[i].len, leaf), HSM_OK);
        assert_int_equal(hsm_merkle_append(&frontier, leaf), HSM_OK);
        assert_int_equal(hsm_merkle_root(&frontier, root), HSM_OK);
        for (size_t n = 0; n < HASH; n++)
            snprintf(hex + 2 * n, 3, "%02x", root[n]);
        assert_string_equal(hex, rows[i].root);
    }
}

static void
frontier_and_tree_have_the_root_of_the_definition(void **state)
{
    struct hsm_merkle_frontier frontier = {.size = 0};
    struct hsm_merkle_tree *tree = tree_of(LEAVES);
    uint8_t expected[HASH], root[HASH];

    (void)state;
    for (size_t n = 0; n <= LEAVES; n++) {
        mth(0, n, expected);
        assert_int_equal(hsm_merkle_root(&frontier, root), HSM_OK);
        assert_memory_equal(root, expected, HASH);
        assert_int_equal(hsm_merkle_tree_root(tree, n, root), HSM_OK);
        assert_memory_equal(root, expected, HASH);
        if (n < LEAVES)
            assert_int_equal(hsm_merkle_append(&frontier, leaves[n]), HSM_OK);
    }
    assert_int_equal(hsm_merkle_tree_root(tree, LEAVES + 1, root), HSM_ERR_USAGE);
    hsm_merkle_tree_free(tree);
}

static void
every_leaf_is_proved_to_be_in_every_tree(void **state)
{
    struct hsm_merkle_tree *tree = tree_of(LEAVES);
    struct hsm_merkle_proof proof;
    uint8_t root[HASH];

    (void)state;
    for (size_t n = 1; n <= LEAVES; n++) {
        mth(0, n, root);
        for (size_t i = 0; i < n; i++) {
            assert_int_equal(hsm_merkle_prove_inclusion(tree, i, n, &proof), HSM_OK);
            assert_int_equal(hsm_merkle_check_inclusion(leaves[i], i, n, &proof, root), HSM_OK);
            assert_int_equal(
                hsm_merkle_check_inclusion(leaves[(i + 1) % LEAVES], i, n, &proof, root),
                HSM_ERR_UNTRUSTED);
            if (n > 1)
                assert_int_equal(
                    hsm_merkle_check_inclusion(leaves[i], (i + 1) % n, n, &proof, root),
                    HSM_ERR_UNTRUSTED);
            for (size_t node = 0; node < proof.count; node++) {
                proof.node[node][7] ^= 1;
                assert_int_equal(hsm_merkle_check_inclusion(leaves[i], i, n, &proof, root),
                                 HSM_ERR_UNTRUSTED);
                proof.node[node][7] ^= 1;
            }
            proof.count++;
            assert_int_equal(hsm_merkle_check_inclusion(leaves[i], i, n, &proof, root),
                             HSM_ERR_UNTRUSTED);
        }
    }
    assert_int_equal(hsm_merkle_prove_inclusion(tree, 5, 5, &proof), HSM_ERR_USAGE);
    assert_int_equal(hsm_merkle_prove_inclusion(tree, 0, LEAVES + 1, &proof), HSM_ERR_USAGE);
    assert_int_equal(hsm_merkle_check_inclusion(leaves[0], 0, 0, &proof, root), HSM_ERR_UNTRUSTED);
    hsm_merkle_tree_free(tree);
}

static void
every_tree_is_proved_to_begin_every_later_one(void **state)
{
    struct hsm_merkle_tree *tree = tree_of(LEAVES);
    struct hsm_merkle_proof proof;
    uint8_t first[HASH], root[HASH];

    (void)state;
    for (size_t n = 1; n <= LEAVES; n++) {
        mth(0, n, root);
        for (size_t m = 1; m <= n; m++) {
            mth(0, m, first);
            assert_int_equal(hsm_merkle_prove_consistency(tree, m, n, &proof), HSM_OK);
            assert_int_equal(hsm_merkle_check_consistency(m, first, n, root, &proof), HSM_OK);
            first[0] ^= 1;
            assert_int_equal(hsm_merkle_check_consistency(m, first, n, root, &proof),
                             HSM_ERR_UNTRUSTED);
            first[0] ^= 1;
            root[0] ^= 1;
            assert_int_equal(hsm_merkle_check_consistency(m, first, n, root, &proof),
                             HSM_ERR_UNTRUSTED);
            root[0] ^= 1;
        }
    }
    assert_int_equal(hsm_merkle_prove_consistency(tree, 0, 5, &proof), HSM_ERR_USAGE);
    assert_int_equal(hsm_merkle_prove_consistency(tree, 6, 5, &proof), HSM_ERR_USAGE);
    assert_int_equal(hsm_merkle_check_consistency(6, root, 5, root, &proof), HSM_ERR_UNTRUSTED);
    hsm_merkle_tree_free(tree);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_leaves_have_the_known_roots),
        cmocka_unit_test(frontier_and_tree_have_the_root_of_the_definition),
        cmocka_unit_test(every_leaf_is_proved_to_be_in_every_tree),
        cmocka_unit_test(every_tree_is_proved_to_begin_every_later_one),
    };

    for (size_t i = 0; i < LEAVES; i++)
        hash(&i, sizeof(i), leaves[i]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
