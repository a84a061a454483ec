/*
 * bench_raw.h - the token's C_Sign, as called by a program that does nothing else.
 */
#ifndef BENCH_RAW_H
#define BENCH_RAW_H

#include <p11-kit/pkcs11.h>

#define BENCH_RAW_SESSIONS_MAX 128

struct bench_raw {
    CK_FUNCTION_LIST *list;
    CK_SLOT_ID slot;
    CK_OBJECT_HANDLE key;
    CK_SESSION_HANDLE sessions[BENCH_RAW_SESSIONS_MAX];
};

/** The module's functions; loads the module if necessary. */
CK_FUNCTION_LIST *bench_raw_functions(void);

/** The slot of the token with this label. */
CK_SLOT_ID bench_raw_slot(CK_FUNCTION_LIST *list, const char *token);

/** Open sessions with the token of this label, whose key is "signer". The module must be loaded and
 *  logged in already. */
void bench_raw_open(struct bench_raw *raw, const char *token, unsigned sessions);
void bench_raw_close(struct bench_raw *raw, unsigned sessions);

/** Sign 32 octets in one of the sessions. */
void bench_raw_sign(const struct bench_raw *raw, unsigned session);

/** Microseconds of CLOCK_MONOTONIC. */
double bench_now_us(void);

#endif
