/*
 * fault_token.h - tokens in SoftHSM behind the fault module, used through its function list.
 *
 * There are two tokens, "shelf" with the keys "alpha" and "beta", and "other" without keys. They
 * are distinguished by their labels, and have the PIN of softhsm.h.
 */
#ifndef TEST_FAULT_TOKEN_H
#define TEST_FAULT_TOKEN_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include <openssl/types.h>
#include <p11-kit/pkcs11.h>

#include "fault_client.h"
#include "softhsm.h"

#define COUNT(array)   (sizeof(array) / sizeof((array)[0]))
#define P11_DIGEST_LEN 32
#define P11_SIG_ROOM   80 /* octets for a signature: more than DER needs */
#define P11_FOUND_MAX  4
#define MS             1000000LL /* ns */

struct p11_token {
    CK_SLOT_ID slot;
    CK_SESSION_HANDLE session;
    CK_OBJECT_HANDLE key; /* "alpha", private */
};

extern CK_FUNCTION_LIST *p11;
extern CK_BYTE p11_digest[P11_DIGEST_LEN]; /* what the functions below sign */

/* cmocka fixtures: both tokens and keys; a session with "shelf", logged in, without any faults. */

int p11_group_start(void **state);
int p11_group_stop(void **state);
int p11_token_open(void **state); /* *state is a struct p11_token */
int p11_token_close(void **state);

#define ON_TOKEN(test) cmocka_unit_test_setup_teardown(test, p11_token_open, p11_token_close)

CK_RV p11_initialize(void);

/** Find the token's slot; returns CKR_OK or the failure of the search. */
CK_RV p11_find_slot(const char *label, CK_SLOT_ID *out);

/** Open a read-write session. */
CK_RV p11_open_session(CK_SLOT_ID slot, CK_SESSION_HANDLE *out);
CK_RV p11_log_in(CK_SESSION_HANDLE session, const char *pin);

/** Initialise, open a session, log in and find the key; false: a step failed. */
bool p11_try_come_up(struct p11_token *f, const char *token);
void p11_come_up(struct p11_token *f, const char *token);

/** The number of objects, found `batch` at a time. */
CK_ULONG p11_find_keys(CK_SESSION_HANDLE session, CK_OBJECT_CLASS class, const char *label,
                       CK_ULONG batch, CK_OBJECT_HANDLE found[P11_FOUND_MAX]);

/** The only object of p11_find_keys(). */
CK_OBJECT_HANDLE p11_find_key(CK_SESSION_HANDLE session, CK_OBJECT_CLASS class, const char *label);

/** Generate a key pair on the token or as session objects. */
CK_RV p11_generate(CK_SESSION_HANDLE session, const char *label, CK_BYTE id, bool on_token);

CK_RV p11_sign_init(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE key);
CK_RV p11_sign(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE key);

/** Sign into a buffer filled with 0xee. */
CK_RV p11_sign_into(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE key, CK_BYTE sig[P11_SIG_ROOM],
                    CK_ULONG *len);

/** The public key on the token with this label. */
EVP_PKEY *p11_public_key(CK_SESSION_HANDLE session, const char *label);

/** Whether this is a signature of p11_digest. */
bool p11_verifies(EVP_PKEY *key, const CK_BYTE *sig, CK_ULONG len);

int64_t p11_now_ns(clockid_t clock);

#endif
