/*
 * fault_token.h - tokens in SoftHSM with the fault module in front, through its list of functions.
 *
 * Two tokens, "shelf" with the keys "alpha" and "beta", and "other" with none; both are told apart
 * by their labels, and have the PIN of softhsm.h.
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

/* Fixtures of cmocka: both tokens and keys; "shelf" with a session, logged in, nothing told. */

int p11_group_start(void **state);
int p11_group_stop(void **state);
int p11_token_open(void **state); /* *state is a struct p11_token */
int p11_token_close(void **state);

#define ON_TOKEN(test) cmocka_unit_test_setup_teardown(test, p11_token_open, p11_token_close)

CK_RV p11_initialize(void);

/** CKR_OK, or what the look for the token failed with. */
CK_RV p11_find_slot(const char *label, CK_SLOT_ID *out);

/** Read-write. */
CK_RV p11_open_session(CK_SLOT_ID slot, CK_SESSION_HANDLE *out);
CK_RV p11_log_in(CK_SESSION_HANDLE session, const char *pin);

/** From nothing to a key; false: something on the way is not there. */
bool p11_try_come_up(struct p11_token *f, const char *token);
void p11_come_up(struct p11_token *f, const char *token);

/** How many objects there are, looked for so many at a time. */
CK_ULONG p11_find_keys(CK_SESSION_HANDLE session, CK_OBJECT_CLASS class, const char *label,
                       CK_ULONG batch, CK_OBJECT_HANDLE found[P11_FOUND_MAX]);

/** The only one. */
CK_OBJECT_HANDLE p11_find_key(CK_SESSION_HANDLE session, CK_OBJECT_CLASS class, const char *label);

/** On the token, or only for as long as the session. */
CK_RV p11_generate(CK_SESSION_HANDLE session, const char *label, CK_BYTE id, bool on_token);

CK_RV p11_sign_init(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE key);
CK_RV p11_sign(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE key);

/** The octets are 0xee where nothing was written. */
CK_RV p11_sign_into(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE key, CK_BYTE sig[P11_SIG_ROOM],
                    CK_ULONG *len);

/** The public half that lies on the token, by its label. */
EVP_PKEY *p11_public_key(CK_SESSION_HANDLE session, const char *label);

/** A signature of p11_digest. */
bool p11_verifies(EVP_PKEY *key, const CK_BYTE *sig, CK_ULONG len);

int64_t p11_now_ns(clockid_t clock);

#endif
