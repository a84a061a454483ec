/*
 * fake.h - signatures that cost nothing: the price of the layers above the token alone.
 */
#ifndef FAULT_FAKE_H
#define FAULT_FAKE_H

#include <stdbool.h>
#include <stddef.h>

#include <p11-kit/pkcs11.h>

#define FAULT_SIG_LEN 64 /* octets: r || s of P-256 */

enum fault_fake {
    FAULT_FAKE_OFF,
    FAULT_FAKE_CONSTANT, /* the same well-formed r || s each time: it does not verify */
    FAULT_FAKE_REPLAY, /* what was signed before gets the signature that it got then */
};

void fault_fake_set(enum fault_fake mode);
enum fault_fake fault_fake_mode(void);

const CK_BYTE *fault_fake_constant(void);

/** The signature of these octets by this key, made before. */
bool fault_fake_recall(CK_OBJECT_HANDLE key, const CK_BYTE *data, size_t len,
                       CK_BYTE sig[FAULT_SIG_LEN]);

/** Data longer than 64 octets is not kept. */
void fault_fake_keep(CK_OBJECT_HANDLE key, const CK_BYTE *data, size_t len,
                     const CK_BYTE sig[FAULT_SIG_LEN]);

void fault_fake_child(void);

#endif
