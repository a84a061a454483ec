/*
 * raw.h - what another program could do to a token, through PKCS#11 directly.
 *
 * Tests use it to make keys that our code must refuse, and to inspect those that it made.
 * Every failure aborts.
 */
#ifndef TEST_RAW_H
#define TEST_RAW_H

#include <stdbool.h>
#include <stddef.h>

struct raw;

/** Open a separate session, logged in, on an open token of softhsm_token(). */
struct raw *raw_open(const char *token_label);
void raw_close(struct raw *raw);

/** Change the user's PIN. */
void raw_change_pin(struct raw *raw, const char *before, const char *pin);

enum raw_kind {
    RAW_GOOD, /* with the attributes of our keys */
    RAW_EXTRACTABLE, /* CKA_EXTRACTABLE true */
    RAW_NOT_SENSITIVE, /* CKA_SENSITIVE false */
    RAW_NO_SIGN, /* CKA_SIGN false */
    RAW_DERIVING, /* CKA_DERIVE true */
    RAW_WITHOUT_LOGIN, /* CKA_PRIVATE false */
    RAW_P384,
    RAW_ALWAYS_AUTHENTICATE,
};

/** Generate a key pair; the id is one octet, 0: no id. False: the token cannot make such keys. */
bool raw_generate(struct raw *raw, enum raw_kind kind, const char *label, unsigned char id);

/** Import a P-256 pair made outside the token, marked sensitive and not extractable. False: the
 * token does not accept it. */
bool raw_import(struct raw *raw, const char *label, unsigned char id);

/** A key pair like ours except for one attribute; the id is four octets, the last one is `id`. */
enum raw_plant {
    RAW_PLANT_NOTHING,
    RAW_PLANT_EXTRACTABLE, /* and sensitive */
    RAW_PLANT_MODIFIABLE,
    RAW_PLANT_IMPORTED,
};

/** Generate a key pair of this kind. False: the token cannot make such keys. */
bool raw_plant(struct raw *raw, enum raw_plant plant, const char *label, unsigned char id);

/** Generate an AES key that may wrap other keys. False: the token cannot. */
bool raw_plant_wrapping_key(struct raw *raw, const char *label);

/** Store a certificate, in DER. False: the token cannot. */
bool raw_certificate(struct raw *raw, const char *label, const unsigned char *id, size_t id_len,
                     const unsigned char *der, size_t der_len);

/** The number of objects on the token and of this session. */
size_t raw_objects(struct raw *raw);

/** The number of objects with this label. */
size_t raw_count(struct raw *raw, bool private_keys, const char *label);

void raw_destroy(struct raw *raw, bool private_keys, const char *label);

/** The CK_RV of reading the key's private value, and of making the key extractable. */
unsigned long raw_read_value(struct raw *raw, const char *label);
unsigned long raw_make_extractable(struct raw *raw, const char *label);

#endif
