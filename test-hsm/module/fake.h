/*
 * fake.h - signatures that cost nothing, to measure the layers above the token alone.
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
    FAULT_FAKE_REPLAY, /* data that was signed before gets the same signature again */
};

void fault_fake_set(enum fault_fake mode);
enum fault_fake fault_fake_mode(void);

const CK_BYTE *fault_fake_constant(void);

/** An earlier signature of these octets by this key; false: there is no such signature. */
bool fault_fake_recall(CK_OBJECT_HANDLE key, const CK_BYTE *data, size_t len,
                       CK_BYTE sig[FAULT_SIG_LEN]);

/** Keep a signature for fault_fake_recall(), unless the data is longer than 64 octets. */
void fault_fake_keep(CK_OBJECT_HANDLE key, const CK_BYTE *data, size_t len,
                     const CK_BYTE sig[FAULT_SIG_LEN]);

void fault_fake_child(void);

#endif
