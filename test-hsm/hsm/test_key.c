/* test_key.c - mirrors hsm/src/key.c and object.c, on a throw-away token. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/wait.h>

#include <cmocka.h>

#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <p11-kit/pkcs11.h>

#include <hsm/es256.h>
#include <hsm/key.h>

#include "forking.h"
#include "peer.h"
#include "raw.h"
#include "skips.h"
#include "softhsm.h"

#define TOKEN   "keys"
#define CALLERS 64

struct fixture {
    struct hsm_token *token;
    struct raw *raw;
};

static struct hsm_key *
generated(struct fixture *f, const char *label)
{
    struct hsm_key *key = NULL;

    assert_int_equal(hsm_key_generate(f->token, label, &key), HSM_OK);
    return key;
}

/* Find by label; only the status matters. */
static enum hsm_status
try_find(struct fixture *f, const char *uri)
{
    struct hsm_key *key = NULL;
    enum hsm_status st = hsm_key_find(f->token, uri, &key);

    assert_true((st == HSM_OK) == (key != NULL));
    hsm_key_free(key);
    return st;
}

static void
info_of(struct fixture *f, const char *label, struct hsm_key_info *out)
{
    struct hsm_key_info *infos = NULL;
    size_t count = 0;
    size_t found = 0;

    assert_int_equal(hsm_key_list(f->token, &infos, &count), HSM_OK);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(infos[i].label, label) == 0) {
            *out = infos[i];
            found++;
        }
    }
    free(infos);
    assert_int_equal(found, 1);
}

static void
a_generated_key_cannot_leave(void **state)
{
    struct fixture *f = *state;
    struct hsm_key *key = generated(f, "made");
    struct hsm_key_info info;

    info_of(f, "made", &info);
    assert_int_equal(info.id_len, 20);
    assert_true(info.is_p256);
    assert_true(info.has_point);
    assert_memory_equal(info.point, hsm_key_point(key), HSM_P256_POINT_LEN);
    assert_int_equal(info.sensitive, 1);
    assert_int_equal(info.always_sensitive, 1);
    assert_int_equal(info.extractable, 0);
    assert_int_equal(info.never_extractable, 1);
    assert_int_equal(info.sign, 1);
    assert_int_equal(info.decrypt, 0);
    assert_int_equal(info.unwrap, 0);
    assert_int_equal(info.derive, 0);
    assert_int_not_equal(info.sign_recover, 1); /* unknown to some modules */
    assert_int_equal(info.on_token, 1);
    assert_int_equal(info.needs_login, 1);
    assert_true(info.may_be_used);
    assert_int_not_equal(raw_read_value(f->raw, "made"), CKR_OK);
    assert_int_equal(raw_count(f->raw, true, "made"), 1);
    assert_int_equal(raw_count(f->raw, false, "made"), 1);
    hsm_key_free(key);
    hsm_key_free(NULL);
}

static void
a_generated_key_cannot_be_made_extractable(void **state)
{
    struct fixture *f = *state;
    struct hsm_key *key = generated(f, "kept");
    struct hsm_key_info info;

    assert_int_not_equal(raw_make_extractable(f->raw, "kept"), CKR_OK);
    info_of(f, "kept", &info);
    assert_int_equal(info.extractable, 0);
    assert_true(info.may_be_used);
    hsm_key_free(key);
}

/* Attributes that not every module knows or reports. */
static void
a_generated_key_is_told_to_be_unchangeable_and_local(void **state)
{
    struct fixture *f = *state;
    struct hsm_key *key = generated(f, "unchangeable");
    struct hsm_key_info info;

    info_of(f, "unchangeable", &info);
    assert_int_equal(info.local, 1);
    assert_int_equal(info.gen_mechanism, CKM_EC_KEY_PAIR_GEN);
    assert_int_equal(info.modifiable, 0);
    assert_int_equal(info.copyable, 0);
    assert_int_equal(raw_read_value(f->raw, "unchangeable"), CKR_ATTRIBUTE_SENSITIVE);
    assert_int_equal(raw_make_extractable(f->raw, "unchangeable"), CKR_ACTION_PROHIBITED);
    hsm_key_free(key);
}

static void
a_label_is_used_once(void **state)
{
    struct fixture *f = *state;
    struct hsm_key *key = generated(f, "once");
    struct hsm_key *again = NULL;

    assert_int_equal(hsm_key_generate(f->token, "once", &again), HSM_ERR_EXISTS);
    assert_null(again);
    assert_int_equal(raw_count(f->raw, true, "once"), 1);
    hsm_key_free(key);
}

static void
labels_are_printable_and_bounded(void **state)
{
    static const char *const rows[] = {
        "",
        "a\n",
        "a\x7f",
        "\xc3\xa9",
        "12345678901234567890123456789012345678901234567890123456789012345",
    };
    struct fixture *f = *state;
    struct hsm_key *key = NULL;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_int_equal(hsm_key_generate(f->token, rows[i], &key), HSM_ERR_USAGE);
    assert_null(key);
    key = generated(f, "1234567890123456789012345678901234567890123456789012345678901 ;%");
    assert_int_equal(try_find(f, hsm_key_uri(key)), HSM_OK); /* reserved characters are escaped */
    hsm_key_free(key);
}

static void
a_signature_verifies_until_a_bit_flips(void **state)
{
    struct fixture *f = *state;
    struct hsm_key *key = generated(f, "signer");
    uint8_t sig[HSM_P256_SIG_LEN];

    for (int i = 0; i < 64; i++) { /* enough for leading zeros in R and S */
        assert_int_equal(hsm_key_sign(key, "message", 7, sig), HSM_OK);
        assert_int_equal(hsm_es256_verify(hsm_key_public(key), "message", 7, sig, sizeof(sig)),
                         HSM_OK);
    }
    assert_int_equal(hsm_es256_verify(hsm_key_public(key), "massage", 7, sig, sizeof(sig)),
                     HSM_ERR_UNTRUSTED);
    sig[63] ^= 1;
    assert_int_equal(hsm_es256_verify(hsm_key_public(key), "message", 7, sig, sizeof(sig)),
                     HSM_ERR_UNTRUSTED);
    assert_int_equal(hsm_key_sign_verified(key, "", 0, sig), HSM_OK);
    assert_int_equal(hsm_es256_verify(hsm_key_public(key), "", 0, sig, sizeof(sig)), HSM_OK);
    hsm_key_free(key);
}

static void
a_key_is_found_by_label_id_and_its_own_uri(void **state)
{
    struct fixture *f = *state;
    struct hsm_key *key = generated(f, "found");
    struct hsm_key *back = NULL;
    char by_id[128] = "pkcs11:id=";
    const char *hex = hsm_key_id(key);

    assert_int_equal(strlen(hex), 40);
    for (size_t i = 0; i < 20; i++)
        snprintf(by_id + strlen(by_id), 4, "%%%.2s", hex + 2 * i);
    assert_int_equal(try_find(f, "pkcs11:object=found"), HSM_OK);
    assert_int_equal(try_find(f, "pkcs11:object=found;type=private"), HSM_OK);
    assert_int_equal(try_find(f, "pkcs11:token=" TOKEN ";object=found"), HSM_OK);
    assert_int_equal(try_find(f, by_id), HSM_OK);
    assert_int_equal(hsm_key_find(f->token, hsm_key_uri(key), &back), HSM_OK);
    assert_string_equal(hsm_key_label(back), "found");
    assert_string_equal(hsm_key_id(back), hex);
    assert_memory_equal(hsm_key_point(back), hsm_key_point(key), HSM_P256_POINT_LEN);
    hsm_key_free(back);
    hsm_key_free(key);
}

static void
uris_that_name_no_key_of_this_token_are_refused(void **state)
{
    static const struct {
        const char *uri;
        enum hsm_status status;
    } rows[] = {
        {"pkcs11:object=absent", HSM_ERR_NOT_FOUND},
        {"pkcs11:object=found;id=%00", HSM_ERR_NOT_FOUND},
        {"pkcs11:object=", HSM_ERR_NOT_FOUND},
        {"pkcs11:token=other;object=found", HSM_ERR_NOT_FOUND},
        {"pkcs11:object=found;x-other=1", HSM_ERR_NOT_FOUND},
        {"pkcs11:", HSM_ERR_USAGE},
        {"pkcs11:token=" TOKEN, HSM_ERR_USAGE},
        {"pkcs11:object=found;type=public", HSM_ERR_USAGE},
        {"pkcs11:object=found;type=cert", HSM_ERR_USAGE},
        {"pkcs11:object=found?pin-value=2468", HSM_ERR_USAGE},
        {"object=found", HSM_ERR_MALFORMED},
        {"pkcs11:object=found;object=found", HSM_ERR_MALFORMED},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_int_equal(try_find(*state, rows[i].uri), rows[i].status);
}

static void
keys_that_could_leave_or_came_from_outside_are_refused(void **state)
{
    struct fixture *f = *state;
    struct hsm_key_info info;

    assert_true(raw_generate(f->raw, RAW_GOOD, "foreign-good", 1));
    assert_int_equal(try_find(f, "pkcs11:object=foreign-good"), HSM_OK);

    if (raw_generate(f->raw, RAW_EXTRACTABLE, "extractable", 2)) {
        assert_int_equal(try_find(f, "pkcs11:object=extractable"), HSM_ERR_UNTRUSTED);
        info_of(f, "extractable", &info);
        assert_int_equal(info.extractable, 1);
        assert_int_equal(info.never_extractable, 0);
        assert_false(info.may_be_used);
    }
    if (raw_import(f->raw, "imported", 4)) {
        assert_int_equal(try_find(f, "pkcs11:object=imported"), HSM_ERR_UNTRUSTED);
        info_of(f, "imported", &info);
        assert_int_equal(info.sensitive, 1);
        assert_int_equal(info.extractable, 0);
        assert_int_equal(info.local, 0);
        assert_int_equal(info.gen_mechanism, CK_UNAVAILABLE_INFORMATION);
        assert_false(info.may_be_used);
    }
}

static void
keys_that_are_not_sensitive_are_refused(void **state)
{
    struct fixture *f = *state;

    assert_true(raw_generate(f->raw, RAW_NOT_SENSITIVE, "not-sensitive", 3));
    assert_int_equal(try_find(f, "pkcs11:object=not-sensitive"), HSM_ERR_UNTRUSTED);
}

/* However such a key came to the token: a process may have been killed after it generated the key
 * and before it checked it. */
static void
keys_with_other_uses_or_without_a_login_are_refused(void **state)
{
    static const struct {
        enum raw_kind kind;
        const char *label;
    } rows[] = {
        {RAW_DERIVING, "deriving"},
        {RAW_WITHOUT_LOGIN, "without-login"},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct hsm_key *key = NULL;
        struct hsm_key_info info;

        if (!raw_generate(f->raw, rows[i].kind, rows[i].label, (unsigned char)(20 + i)))
            continue;
        info_of(f, rows[i].label, &info);
        if (!softhsm_is_softhsm() && info.derive != 1 && info.needs_login == 1)
            continue; /* the token made a different key from the one requested */
        assert_int_equal(info.derive, rows[i].kind == RAW_DERIVING);
        assert_int_equal(info.needs_login, rows[i].kind != RAW_WITHOUT_LOGIN);
        assert_false(info.may_be_used);
        assert_int_equal(hsm_key_find_or_generate(f->token, rows[i].label, &key),
                         HSM_ERR_UNTRUSTED);
        assert_null(key);
    }
}

static void
keys_of_another_kind_are_unsupported(void **state)
{
    struct fixture *f = *state;
    struct hsm_key_info info;

    assert_true(raw_generate(f->raw, RAW_P384, "p384", 5));
    assert_int_equal(try_find(f, "pkcs11:object=p384"), HSM_ERR_UNSUPPORTED);
    info_of(f, "p384", &info);
    assert_false(info.is_p256);
    assert_false(info.may_be_used);
    if (raw_generate(f->raw, RAW_NO_SIGN, "no-sign", 6))
        assert_int_equal(try_find(f, "pkcs11:object=no-sign"), HSM_ERR_UNSUPPORTED);
    if (raw_generate(f->raw, RAW_ALWAYS_AUTHENTICATE, "each-time", 7))
        assert_int_equal(try_find(f, "pkcs11:object=each-time"), HSM_ERR_UNSUPPORTED);
}

static void
several_keys_of_one_name_are_ambiguous(void **state)
{
    struct fixture *f = *state;

    assert_true(raw_generate(f->raw, RAW_GOOD, "twin", 8));
    assert_true(raw_generate(f->raw, RAW_GOOD, "twin", 9));
    assert_int_equal(try_find(f, "pkcs11:object=twin"), HSM_ERR_AMBIGUOUS);
    assert_int_equal(try_find(f, "pkcs11:object=twin;id=%08"), HSM_OK);
    assert_int_equal(try_find(f, "pkcs11:id=%09"), HSM_OK);
}

/* libp11 would combine the private key of one with the public key of the other. */
static void
keys_that_share_an_id_are_ambiguous(void **state)
{
    struct fixture *f = *state;

    assert_true(raw_generate(f->raw, RAW_GOOD, "id-a", 10));
    assert_int_equal(try_find(f, "pkcs11:object=id-a"), HSM_OK);
    assert_true(raw_generate(f->raw, RAW_GOOD, "id-b", 10));
    assert_int_equal(try_find(f, "pkcs11:object=id-a"), HSM_ERR_AMBIGUOUS);
    assert_int_equal(try_find(f, "pkcs11:object=id-b"), HSM_ERR_AMBIGUOUS);
    raw_destroy(f->raw, true, "id-b"); /* its public key stays */
    assert_int_equal(try_find(f, "pkcs11:object=id-a"), HSM_ERR_AMBIGUOUS);
}

static void
a_key_without_its_public_half_is_not_found(void **state)
{
    struct fixture *f = *state;
    struct hsm_key *key = NULL;

    assert_true(raw_generate(f->raw, RAW_GOOD, "half", 11));
    raw_destroy(f->raw, false, "half");
    assert_int_equal(try_find(f, "pkcs11:object=half"), HSM_ERR_NOT_FOUND);
    assert_true(raw_generate(f->raw, RAW_GOOD, "no-id", 0));
    assert_int_equal(try_find(f, "pkcs11:object=no-id"), HSM_ERR_NOT_FOUND);
    assert_int_equal(hsm_key_find_or_generate(f->token, "half", &key), HSM_ERR_NOT_FOUND);
    assert_null(key);
}

static void
what_is_not_there_is_generated_once(void **state)
{
    struct fixture *f = *state;
    struct hsm_key *made = NULL;
    struct hsm_key *found = NULL;

    assert_int_equal(hsm_key_find_or_generate(f->token, "wanted", &made), HSM_OK);
    assert_int_equal(hsm_key_find_or_generate(f->token, "wanted", &found), HSM_OK);
    assert_string_equal(hsm_key_id(made), hsm_key_id(found));
    hsm_key_free(made);
    hsm_key_free(found);
    made = NULL;
    assert_int_equal(hsm_key_find_or_generate(f->token, "p384", &made), HSM_ERR_UNSUPPORTED);
    assert_int_equal(hsm_key_find_or_generate(f->token, "twin", &made), HSM_ERR_AMBIGUOUS);
    assert_null(made);
}

static void
a_destroyed_key_is_gone_and_its_label_free(void **state)
{
    struct fixture *f = *state;
    struct hsm_key *key = generated(f, "doomed");
    uint8_t sig[HSM_P256_SIG_LEN];

    assert_int_equal(hsm_key_destroy(key), HSM_OK);
    assert_int_equal(raw_count(f->raw, true, "doomed"), 0);
    assert_int_equal(raw_count(f->raw, false, "doomed"), 0);
    assert_int_equal(try_find(f, "pkcs11:object=doomed"), HSM_ERR_NOT_FOUND);
    assert_int_not_equal(hsm_key_sign(key, "x", 1, sig), HSM_OK);
    assert_int_not_equal(hsm_key_destroy(key), HSM_OK);
    hsm_key_free(key);
    key = generated(f, "doomed");
    assert_int_equal(hsm_key_sign_verified(key, "x", 1, sig), HSM_OK);
    hsm_key_free(key);
}

/* Another program replaced the key under the same id and label. */
static void
a_key_that_was_replaced_is_not_mistaken_for_the_old_one(void **state)
{
    struct fixture *f = *state;
    struct hsm_key *old = NULL;
    struct hsm_key *new = NULL;
    uint8_t sig[HSM_P256_SIG_LEN];

    assert_true(raw_generate(f->raw, RAW_GOOD, "replaced", 12));
    assert_int_equal(hsm_key_find(f->token, "pkcs11:object=replaced", &old), HSM_OK);
    raw_destroy(f->raw, true, "replaced");
    raw_destroy(f->raw, false, "replaced");
    assert_true(raw_generate(f->raw, RAW_GOOD, "replaced", 12));
    assert_int_equal(hsm_key_find(f->token, "pkcs11:object=replaced", &new), HSM_OK);
    assert_memory_not_equal(hsm_key_point(old), hsm_key_point(new), HSM_P256_POINT_LEN);
    assert_int_equal(hsm_key_sign_verified(new, "x", 1, sig), HSM_OK);
    assert_int_not_equal(hsm_key_sign_verified(old, "x", 1, sig), HSM_OK);
    hsm_key_free(old);
    hsm_key_free(new);
}

static void
keys_outlive_each_other_and_a_second_opening(void **state)
{
    struct fixture *f = *state;
    struct hsm_key *key = generated(f, "outlives");
    struct hsm_token *second = softhsm_reopen(TOKEN);
    struct hsm_key *other = NULL;
    uint8_t sig[HSM_P256_SIG_LEN];

    assert_int_equal(hsm_key_find(second, "pkcs11:object=outlives", &other), HSM_OK);
    assert_int_equal(hsm_key_sign_verified(other, "x", 1, sig), HSM_OK);
    hsm_key_free(other);
    hsm_token_close(second);
    assert_int_equal(hsm_key_sign_verified(key, "x", 1, sig), HSM_OK);
    hsm_key_free(key);
}

static void
only_its_own_public_half_matches(void **state)
{
    struct fixture *f = *state;
    struct hsm_key *key = generated(f, "match");
    EVP_PKEY *other = peer_key_new("P-256");
    EVP_PKEY *p384 = peer_key_new("P-384");

    assert_true(hsm_key_matches(key, hsm_key_public(key)));
    assert_true(hsm_key_matches(key, hsm_key_pkey(key)));
    assert_false(hsm_key_matches(key, other));
    assert_false(hsm_key_matches(key, p384));
    EVP_PKEY_free(other);
    EVP_PKEY_free(p384);
    hsm_key_free(key);
}

/* ---- many callers ---- */

struct caller {
    struct hsm_key *key;
    unsigned number;
    bool good;
};

static void *
sign_often(void *argument)
{
    struct caller *caller = argument;
    unsigned rounds = softhsm_is_softhsm() ? 50 : 10; /* a TPM makes about 150 a second */
    char message[32];

    caller->good = true;
    for (unsigned i = 0; i < rounds && caller->good; i++) {
        uint8_t sig[HSM_P256_SIG_LEN];
        int len = snprintf(message, sizeof(message), "%u/%u", caller->number, i);

        caller->good = hsm_key_sign_verified(caller->key, message, (size_t)len, sig) == HSM_OK;
    }
    return NULL;
}

static void
sixty_four_callers_sign_at_once(void **state)
{
    struct fixture *f = *state;
    struct hsm_key *key = generated(f, "busy");
    struct caller callers[CALLERS];
    pthread_t threads[CALLERS];

    for (unsigned i = 0; i < CALLERS; i++) {
        callers[i] = (struct caller){key, i, false};
        assert_int_equal(pthread_create(&threads[i], NULL, sign_often, &callers[i]), 0);
    }
    for (unsigned i = 0; i < CALLERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_true(callers[i].good);
    }
    hsm_key_free(key);
}

static void *
generate_and_destroy(void *argument)
{
    struct caller *caller = argument;

    caller->good = true;
    for (unsigned i = 0; i < 4 && caller->good; i++) {
        struct hsm_key *key = NULL;
        char label[32];

        snprintf(label, sizeof(label), "thread-%u-%u", caller->number, i);
        caller->good = hsm_key_generate((struct hsm_token *)caller->key, label, &key) == HSM_OK &&
                       hsm_key_destroy(key) == HSM_OK;
        hsm_key_free(key);
    }
    return NULL;
}

static void
keys_are_generated_and_destroyed_while_others_sign(void **state)
{
    struct fixture *f = *state;
    struct hsm_key *key = generated(f, "meanwhile");
    struct caller callers[8];
    pthread_t threads[8];

    for (unsigned i = 0; i < 8; i++) {
        void *(*work)(void *) = i < 4 ? sign_often : generate_and_destroy;

        callers[i] = (struct caller){i < 4 ? key : (struct hsm_key *)f->token, i, false};
        assert_int_equal(pthread_create(&threads[i], NULL, work, &callers[i]), 0);
    }
    for (unsigned i = 0; i < 8; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_true(callers[i].good);
    }
    hsm_key_free(key);
}

/* ---- OpenSSL ---- */

static X509 *
self_signed(const struct hsm_key *key)
{
    X509 *cert = X509_new();

    assert_non_null(cert);
    assert_int_equal(X509_set_version(cert, X509_VERSION_3), 1);
    assert_int_equal(ASN1_INTEGER_set(X509_get_serialNumber(cert), 1), 1);
    assert_non_null(X509_gmtime_adj(X509_getm_notBefore(cert), 0));
    assert_non_null(X509_gmtime_adj(X509_getm_notAfter(cert), 3600));
    assert_int_equal(X509_set_pubkey(cert, hsm_key_public(key)), 1);
    assert_true(X509_sign(cert, hsm_key_pkey(key), EVP_sha256()) > 0);
    return cert;
}

static void
openssl_signs_certificates_with_it(void **state)
{
    struct hsm_key *key = generated(*state, "x509");
    struct hsm_key *other = generated(*state, "x509-other");
    X509 *cert = self_signed(key);

    assert_int_equal(X509_verify(cert, hsm_key_public(key)), 1);
    assert_int_not_equal(X509_verify(cert, hsm_key_public(other)), 1);
    assert_int_equal(X509_check_private_key(cert, hsm_key_pkey(key)), 1);
    assert_int_not_equal(X509_check_private_key(cert, hsm_key_pkey(other)), 1);
    X509_free(cert);
    hsm_key_free(other);
    hsm_key_free(key);
}

/* Runs both ends in one thread, over memory; true when both have finished. */
static bool
shake_hands(SSL_CTX *server_ctx, SSL_CTX *client_ctx)
{
    SSL *server = SSL_new(server_ctx);
    SSL *client = SSL_new(client_ctx);
    BIO *server_bio = NULL;
    BIO *client_bio = NULL;
    bool done;

    assert_int_equal(BIO_new_bio_pair(&server_bio, 0, &client_bio, 0), 1);
    SSL_set_bio(server, server_bio, server_bio);
    SSL_set_bio(client, client_bio, client_bio);
    SSL_set_accept_state(server);
    SSL_set_connect_state(client);
    for (int i = 0; i < 10; i++) {
        (void)SSL_do_handshake(client);
        (void)SSL_do_handshake(server);
    }
    done = SSL_is_init_finished(client) && SSL_is_init_finished(server);
    SSL_free(client);
    SSL_free(server);
    return done;
}

static void
openssl_serves_tls_with_it(void **state)
{
    struct hsm_key *key = generated(*state, "tls");
    X509 *cert = self_signed(key);
    SSL_CTX *server = SSL_CTX_new(TLS_server_method());
    SSL_CTX *client = SSL_CTX_new(TLS_client_method());

    assert_int_equal(SSL_CTX_use_certificate(server, cert), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(server, hsm_key_pkey(key)), 1);
    assert_int_equal(SSL_CTX_check_private_key(server), 1);
    SSL_CTX_set_verify(client, SSL_VERIFY_PEER, NULL);
    assert_int_equal(X509_STORE_add_cert(SSL_CTX_get_cert_store(client), cert), 1);
    assert_true(shake_hands(server, client));
    SSL_CTX_set_max_proto_version(client, TLS1_2_VERSION);
    assert_true(shake_hands(server, client));
    SSL_CTX_free(server);
    SSL_CTX_free(client);
    X509_free(cert);
    hsm_key_free(key);
}

/* ---- fork ---- */

static int
child_of(struct fixture *f, struct hsm_key *inherited)
{
    uint8_t sig[HSM_P256_SIG_LEN];
    struct hsm_key_info *infos = NULL;
    struct hsm_token *token;
    struct hsm_key *key = NULL;
    size_t count = 0;

    if (hsm_key_sign(inherited, "x", 1, sig) != HSM_ERR_USAGE ||
        hsm_key_generate(f->token, "childs", &key) != HSM_ERR_USAGE ||
        hsm_key_find(f->token, "pkcs11:object=forked", &key) != HSM_ERR_USAGE ||
        hsm_key_list(f->token, &infos, &count) != HSM_ERR_USAGE ||
        hsm_key_destroy(inherited) != HSM_ERR_USAGE)
        return 1;
    hsm_key_free(inherited);
    token = softhsm_reopen(TOKEN);
    if (hsm_key_find(token, "pkcs11:object=forked", &key) != HSM_OK ||
        hsm_key_sign_verified(key, "x", 1, sig) != HSM_OK)
        return 2;
    hsm_key_free(key);
    hsm_token_close(token);
    return 0;
}

static void
a_child_signs_with_a_token_of_its_own_alone(void **state)
{
    struct fixture *f = *state;
    struct hsm_key *key;
    uint8_t sig[HSM_P256_SIG_LEN];
    int status = -1;
    pid_t child;

    SKIP_WHERE_NO_FORK();
    key = generated(f, "forked");
    child = fork();
    if (child == 0)
        _exit(child_of(f, key));
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_int_equal(hsm_key_sign_verified(key, "x", 1, sig), HSM_OK);
    hsm_key_free(key);
}

/* Runs in another process; returns 0 on success. */
static int
generate_beside(unsigned number)
{
    struct hsm_token *token = softhsm_reopen(TOKEN);
    int result = 0;

    for (unsigned i = 0; i < 5 && result == 0; i++) {
        struct hsm_key *key = NULL;
        char label[32];

        snprintf(label, sizeof(label), "process-%u-%u", number, i);
        result = hsm_key_generate(token, label, &key) == HSM_OK ? 0 : 1;
        hsm_key_free(key);
        key = NULL;
        snprintf(label, sizeof(label), "common-%u", i);
        if (hsm_key_find_or_generate(token, label, &key) != HSM_OK)
            result = 2;
        hsm_key_free(key);
    }
    hsm_token_close(token);
    return result;
}

static void
processes_generate_side_by_side(void **state)
{
    struct fixture *f = *state;
    struct hsm_key *key;
    uint8_t sig[HSM_P256_SIG_LEN];
    pid_t children[4];

    SKIP_WHERE_NO_FORK();
    key = generated(f, "beside");
    for (unsigned i = 0; i < 4; i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (children[i] == 0)
            _exit(generate_beside(i));
    }
    for (unsigned i = 0; i < 200; i++)
        assert_int_equal(hsm_key_sign_verified(key, "x", 1, sig), HSM_OK);
    for (unsigned i = 0; i < 4; i++) {
        int status = -1;

        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
    }
    assert_int_equal(raw_count(f->raw, true, "process-3-4"), 1);
    assert_int_equal(raw_count(f->raw, true, "common-0"), 1); /* requested by all, made once */
    assert_int_equal(raw_count(f->raw, true, "common-4"), 1);
    hsm_key_free(key);
}

static int
start(void **state)
{
    static struct fixture f;

    softhsm_start();
    f.token = softhsm_token(TOKEN);
    f.raw = raw_open(TOKEN);
    *state = &f;
    return 0;
}

static int
stop(void **state)
{
    struct fixture *f = *state;

    raw_close(f->raw);
    hsm_token_close(f->token);
    softhsm_stop();
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_generated_key_cannot_leave),
        cmocka_unit_test(a_generated_key_cannot_be_made_extractable),
        cmocka_unit_test(a_generated_key_is_told_to_be_unchangeable_and_local),
        cmocka_unit_test(a_label_is_used_once),
        cmocka_unit_test(labels_are_printable_and_bounded),
        cmocka_unit_test(a_signature_verifies_until_a_bit_flips),
        cmocka_unit_test(a_key_is_found_by_label_id_and_its_own_uri),
        cmocka_unit_test(uris_that_name_no_key_of_this_token_are_refused),
        cmocka_unit_test(keys_that_could_leave_or_came_from_outside_are_refused),
        cmocka_unit_test(keys_that_are_not_sensitive_are_refused),
        cmocka_unit_test(keys_with_other_uses_or_without_a_login_are_refused),
        cmocka_unit_test(keys_of_another_kind_are_unsupported),
        cmocka_unit_test(several_keys_of_one_name_are_ambiguous),
        cmocka_unit_test(keys_that_share_an_id_are_ambiguous),
        cmocka_unit_test(a_key_without_its_public_half_is_not_found),
        cmocka_unit_test(what_is_not_there_is_generated_once),
        cmocka_unit_test(a_destroyed_key_is_gone_and_its_label_free),
        cmocka_unit_test(a_key_that_was_replaced_is_not_mistaken_for_the_old_one),
        cmocka_unit_test(keys_outlive_each_other_and_a_second_opening),
        cmocka_unit_test(only_its_own_public_half_matches),
        cmocka_unit_test(sixty_four_callers_sign_at_once),
        cmocka_unit_test(keys_are_generated_and_destroyed_while_others_sign),
        cmocka_unit_test(openssl_signs_certificates_with_it),
        cmocka_unit_test(openssl_serves_tls_with_it),
        cmocka_unit_test(a_child_signs_with_a_token_of_its_own_alone),
        cmocka_unit_test(processes_generate_side_by_side),
    };

    return skips_run_group_tests(tests, start, stop);
}
