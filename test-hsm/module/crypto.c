/*
 * crypto.c - the cryptographic functions that only pass through (PKCS #11 sections 5.8 to 5.15).
 *
 * Handles inside mechanism parameters (as in CKM_CONCATENATE_BASE_AND_KEY) are not translated.
 */
#include "behind.h"
#include "call.h"
#include "wrap.h"

/* A function whose first parameter is `session` and whose others are passed on unchanged. */
#define DEFINE_PASSING(name, parameters, ...)                                                      \
    CK_RV fault_##name parameters                                                                  \
    {                                                                                              \
        struct fault_call call;                                                                    \
                                                                                                   \
        if (fault_call_enter(&call, FN_##name, session))                                           \
            call.rv = fault_behind->name(call.session, __VA_ARGS__);                               \
        return fault_call_leave(&call);                                                            \
    }

/* A function that begins an operation with a key. */
#define DEFINE_INIT(name)                                                                          \
    CK_RV fault_##name(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE key)   \
    {                                                                                              \
        struct fault_call call;                                                                    \
                                                                                                   \
        if (fault_call_enter(&call, FN_##name, session)) {                                         \
            call.rv = fault_behind->name(call.session, mechanism, fault_call_key(&call, key));     \
            call.rv = fault_call_object_rv(&call, call.rv);                                        \
        }                                                                                          \
        return fault_call_leave(&call);                                                            \
    }

#define SESSION CK_SESSION_HANDLE session
#define IN      CK_BYTE *in, CK_ULONG in_len
#define OUT     CK_BYTE *out, CK_ULONG *out_len

DEFINE_INIT(C_EncryptInit)
DEFINE_PASSING(C_Encrypt, (SESSION, IN, OUT), in, in_len, out, out_len)
DEFINE_PASSING(C_EncryptUpdate, (SESSION, IN, OUT), in, in_len, out, out_len)
DEFINE_PASSING(C_EncryptFinal, (SESSION, OUT), out, out_len)

DEFINE_INIT(C_DecryptInit)
DEFINE_PASSING(C_Decrypt, (SESSION, IN, OUT), in, in_len, out, out_len)
DEFINE_PASSING(C_DecryptUpdate, (SESSION, IN, OUT), in, in_len, out, out_len)
DEFINE_PASSING(C_DecryptFinal, (SESSION, OUT), out, out_len)

DEFINE_PASSING(C_DigestInit, (SESSION, CK_MECHANISM *mechanism), mechanism)
DEFINE_PASSING(C_Digest, (SESSION, IN, OUT), in, in_len, out, out_len)
DEFINE_PASSING(C_DigestUpdate, (SESSION, IN), in, in_len)
DEFINE_PASSING(C_DigestKey, (SESSION, CK_OBJECT_HANDLE key), fault_call_key(&call, key))
DEFINE_PASSING(C_DigestFinal, (SESSION, OUT), out, out_len)

DEFINE_PASSING(C_SignUpdate, (SESSION, IN), in, in_len)
DEFINE_PASSING(C_SignFinal, (SESSION, OUT), out, out_len)
DEFINE_INIT(C_SignRecoverInit)
DEFINE_PASSING(C_SignRecover, (SESSION, IN, OUT), in, in_len, out, out_len)

DEFINE_INIT(C_VerifyInit)
DEFINE_PASSING(C_Verify, (SESSION, IN, CK_BYTE *sig, CK_ULONG sig_len), in, in_len, sig, sig_len)
DEFINE_PASSING(C_VerifyUpdate, (SESSION, IN), in, in_len)
DEFINE_PASSING(C_VerifyFinal, (SESSION, CK_BYTE *sig, CK_ULONG sig_len), sig, sig_len)
DEFINE_INIT(C_VerifyRecoverInit)
DEFINE_PASSING(C_VerifyRecover, (SESSION, CK_BYTE *sig, CK_ULONG sig_len, OUT), sig, sig_len, out,
               out_len)

DEFINE_PASSING(C_DigestEncryptUpdate, (SESSION, IN, OUT), in, in_len, out, out_len)
DEFINE_PASSING(C_DecryptDigestUpdate, (SESSION, IN, OUT), in, in_len, out, out_len)
DEFINE_PASSING(C_SignEncryptUpdate, (SESSION, IN, OUT), in, in_len, out, out_len)
DEFINE_PASSING(C_DecryptVerifyUpdate, (SESSION, IN, OUT), in, in_len, out, out_len)

DEFINE_PASSING(C_SeedRandom, (SESSION, CK_BYTE *seed, CK_ULONG len), seed, len)
DEFINE_PASSING(C_GenerateRandom, (SESSION, CK_BYTE *out, CK_ULONG len), out, len)

CK_RV
fault_C_GenerateKey(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism, CK_ATTRIBUTE *attributes,
                    CK_ULONG count, CK_OBJECT_HANDLE *key)
{
    struct fault_call call;

    if (fault_call_enter(&call, FN_C_GenerateKey, session)) {
        call.rv = fault_behind->C_GenerateKey(call.session, mechanism, attributes, count, key);
        call.rv = fault_call_show(&call, call.rv, key);
    }
    return fault_call_leave(&call);
}

CK_RV
fault_C_GenerateKeyPair(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism,
                        CK_ATTRIBUTE *public_attributes, CK_ULONG public_count,
                        CK_ATTRIBUTE *private_attributes, CK_ULONG private_count,
                        CK_OBJECT_HANDLE *public_key, CK_OBJECT_HANDLE *private_key)
{
    struct fault_call call;

    if (fault_call_enter(&call, FN_C_GenerateKeyPair, session)) {
        call.rv = fault_behind->C_GenerateKeyPair(call.session, mechanism, public_attributes,
                                                  public_count, private_attributes, private_count,
                                                  public_key, private_key);
        call.rv = fault_call_show(&call, call.rv, public_key);
        call.rv = fault_call_show(&call, call.rv, private_key);
    }
    return fault_call_leave(&call);
}

CK_RV
fault_C_WrapKey(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE wrapping_key,
                CK_OBJECT_HANDLE key, CK_BYTE *out, CK_ULONG *out_len)
{
    struct fault_call call;

    if (fault_call_enter(&call, FN_C_WrapKey, session))
        call.rv =
            fault_behind->C_WrapKey(call.session, mechanism, fault_call_object(&call, wrapping_key),
                                    fault_call_object(&call, key), out, out_len);
    return fault_call_leave(&call);
}

CK_RV
fault_C_UnwrapKey(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism,
                  CK_OBJECT_HANDLE unwrapping_key, CK_BYTE *in, CK_ULONG in_len,
                  CK_ATTRIBUTE *attributes, CK_ULONG count, CK_OBJECT_HANDLE *key)
{
    struct fault_call call;

    if (fault_call_enter(&call, FN_C_UnwrapKey, session)) {
        call.rv = fault_behind->C_UnwrapKey(call.session, mechanism,
                                            fault_call_object(&call, unwrapping_key), in, in_len,
                                            attributes, count, key);
        call.rv = fault_call_show(&call, call.rv, key);
    }
    return fault_call_leave(&call);
}

CK_RV
fault_C_DeriveKey(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE base_key,
                  CK_ATTRIBUTE *attributes, CK_ULONG count, CK_OBJECT_HANDLE *key)
{
    struct fault_call call;

    if (fault_call_enter(&call, FN_C_DeriveKey, session)) {
        call.rv = fault_behind->C_DeriveKey(
            call.session, mechanism, fault_call_object(&call, base_key), attributes, count, key);
        call.rv = fault_call_show(&call, call.rv, key);
    }
    return fault_call_leave(&call);
}

/* The two legacy functions of section 5.15. */

CK_RV
fault_C_GetFunctionStatus(CK_SESSION_HANDLE session)
{
    struct fault_call call;

    if (fault_call_enter(&call, FN_C_GetFunctionStatus, session))
        call.rv = fault_behind->C_GetFunctionStatus(call.session);
    return fault_call_leave(&call);
}

CK_RV
fault_C_CancelFunction(CK_SESSION_HANDLE session)
{
    struct fault_call call;

    if (fault_call_enter(&call, FN_C_CancelFunction, session))
        call.rv = fault_behind->C_CancelFunction(call.session);
    return fault_call_leave(&call);
}
