/*
 * raw.h - what another program could do to a token, through PKCS#11 itself.
 *
 * Tests make with it the keys that ours must refuse, and look at what ours made.
 * Everything aborts where it fails.
 */
#ifndef TEST_RAW_H
#define TEST_RAW_H

#include <stdbool.h>
#include <stddef.h>

struct raw;

/** A session of its own, logged in, on a token that softhsm_token() made and that is open. */
struct raw *raw_open(const char *token_label);
void raw_close(struct raw *raw);

/** The user's PIN. */
void raw_change_pin(struct raw *raw, const char *before, const char *pin);

enum raw_kind {
    RAW_GOOD, /* as ours would be */
    RAW_EXTRACTABLE, /* CKA_EXTRACTABLE true */
    RAW_NOT_SENSITIVE, /* CKA_SENSITIVE false */
    RAW_NO_SIGN, /* CKA_SIGN false */
    RAW_DERIVING, /* CKA_DERIVE true */
    RAW_WITHOUT_LOGIN, /* CKA_PRIVATE false */
    RAW_P384,
    RAW_ALWAYS_AUTHENTICATE,
};

/** A key pair; the id is one octet, 0 for none. False: this token has no such keys. */
bool raw_generate(struct raw *raw, enum raw_kind kind, const char *label, unsigned char id);

/** A P-256 pair that was made outside, marked sensitive and not extractable. False:
 * this token takes none. */
bool raw_import(struct raw *raw, const char *label, unsigned char id);

/** A key pair as ours would be but for one thing; the id is four octets, its last is `id`. */
enum raw_plant {
    RAW_PLANT_NOTHING,
    RAW_PLANT_EXTRACTABLE, /* and sensitive */
    RAW_PLANT_MODIFIABLE,
    RAW_PLANT_IMPORTED,
};

/** False: this token has no such keys. */
bool raw_plant(struct raw *raw, enum raw_plant plant, const char *label, unsigned char id);

/** An AES key of the token that may wrap others. False: this token has none. */
bool raw_plant_wrapping_key(struct raw *raw, const char *label);

/** A certificate in DER. False: this token keeps none. */
bool raw_certificate(struct raw *raw, const char *label, const unsigned char *id, size_t id_len,
                     const unsigned char *der, size_t der_len);

/** Objects on the token and of this session. */
size_t raw_objects(struct raw *raw);

/** How many objects with the label there are. */
size_t raw_count(struct raw *raw, bool private_keys, const char *label);

void raw_destroy(struct raw *raw, bool private_keys, const char *label);

/** The CK_RV of asking for the private value of the key, and of making it extractable. */
unsigned long raw_read_value(struct raw *raw, const char *label);
unsigned long raw_make_extractable(struct raw *raw, const char *label);

#endif
