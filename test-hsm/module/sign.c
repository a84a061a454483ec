/* sign.c - C_SignInit and C_Sign (PKCS #11 section 5.11): signatures damaged or faked. */
#include <pthread.h>
#include <string.h>

#include "armed.h"
#include "behind.h"
#include "call.h"
#include "fake.h"
#include "sign.h"
#include "wrap.h"

#define HALF    (FAULT_SIG_LEN / 2) /* r, or s */
#define DER_MAX 72 /* octets: ECDSA-Sig-Value of P-256 */

static pthread_mutex_t stale_lock = PTHREAD_MUTEX_INITIALIZER;
static CK_BYTE stale[FAULT_SIG_LEN]; /* an earlier signature */

/* ---- damage */

/* INTEGER (X.690 section 8.3): without leading zeros, and not negative. */
static size_t
put_integer(const CK_BYTE half[HALF], CK_BYTE *out)
{
    size_t skip = 0;
    size_t pad;

    while (skip < HALF - 1 && half[skip] == 0)
        skip++;
    pad = (half[skip] & 0x80) != 0;
    out[0] = 0x02;
    out[1] = (CK_BYTE)(HALF - skip + pad);
    out[2] = 0;
    memcpy(out + 2 + pad, half + skip, HALF - skip);
    return 2 + pad + HALF - skip;
}

static size_t
to_der(const CK_BYTE *sig, CK_BYTE der[DER_MAX])
{
    size_t len = 2;

    len += put_integer(sig, der + len);
    len += put_integer(sig + HALF, der + len);
    der[0] = 0x30;
    der[1] = (CK_BYTE)(len - 2);
    return len;
}

/* Return a signature longer than callers expect; CKR_BUFFER_TOO_SMALL if it does not fit. */
static CK_RV
put_longer(const CK_BYTE *value, size_t len, CK_BYTE *sig, CK_ULONG *sig_len, CK_ULONG room)
{
    *sig_len = len;
    if (room < len)
        return CKR_BUFFER_TOO_SMALL;
    memcpy(sig, value, len);
    return CKR_OK;
}

static CK_RV
damage_as_der(CK_BYTE *sig, CK_ULONG *sig_len, CK_ULONG room)
{
    CK_BYTE der[DER_MAX];

    return put_longer(der, to_der(sig, der), sig, sig_len, room);
}

static CK_RV
damage_as_long(CK_BYTE *sig, CK_ULONG *sig_len, CK_ULONG room)
{
    CK_BYTE value[FAULT_SIG_LEN + 1] = {0};

    memcpy(value, sig, FAULT_SIG_LEN);
    return put_longer(value, sizeof(value), sig, sig_len, room);
}

static void
exchange_stale(CK_BYTE *sig, bool give)
{
    CK_BYTE earlier[FAULT_SIG_LEN];

    pthread_mutex_lock(&stale_lock);
    memcpy(earlier, stale, sizeof(earlier));
    memcpy(stale, sig, sizeof(stale));
    pthread_mutex_unlock(&stale_lock);
    if (give)
        memcpy(sig, earlier, sizeof(earlier));
}

static CK_RV
damage(enum fault_damage how, CK_BYTE *sig, CK_ULONG *sig_len, CK_ULONG room)
{
    switch (how) {
    case FAULT_NO_DAMAGE:
    case FAULT_STALE:
        exchange_stale(sig, how == FAULT_STALE);
        return CKR_OK;
    case FAULT_FLIP:
        sig[FAULT_SIG_LEN - 1] ^= 1;
        return CKR_OK;
    case FAULT_SHORT:
        *sig_len -= 2;
        return CKR_OK;
    case FAULT_R_ZERO:
        memset(sig, 0, HALF);
        return CKR_OK;
    case FAULT_S_ZERO:
        memset(sig + HALF, 0, HALF);
        return CKR_OK;
    case FAULT_ZERO:
        memset(sig, 0, FAULT_SIG_LEN);
        return CKR_OK;
    case FAULT_GARBAGE:
        for (size_t i = 0; i < FAULT_SIG_LEN; i++)
            sig[i] = (CK_BYTE)(sig[i] * 31 + 97 + i);
        return CKR_OK;
    case FAULT_LONG:
        return damage_as_long(sig, sig_len, room);
    case FAULT_DER:
        return damage_as_der(sig, sig_len, room);
    }
    return CKR_OK;
}

/* Only signatures of P-256 are damaged. An operation that ended in an error leaves no signature. */
static void
strike(struct fault_call *call, CK_BYTE *sig, CK_ULONG *sig_len, CK_ULONG room)
{
    if (call->rv != CKR_OK || sig == NULL)
        return;
    if (call->strike != &call->own && fault_is_armed(FN_C_Sign) == 0)
        return;
    if (call->strike->answers) {
        memset(sig, 0, *sig_len);
        *sig_len = room;
    } else if (*sig_len == FAULT_SIG_LEN) {
        call->rv = damage(call->strike->damage, sig, sig_len, room);
    }
}

/* ---- signatures that the module behind does not make */

static CK_RV
begin_local(struct fault_call *call, CK_OBJECT_HANDLE key)
{
    CK_OBJECT_HANDLE none = CK_INVALID_HANDLE;

    if (fault_call_object(call, key) == CK_INVALID_HANDLE)
        return CKR_KEY_HANDLE_INVALID;
    return atomic_compare_exchange_strong(&call->entry->pending, &none, key) ? CKR_OK
                                                                             : CKR_OPERATION_ACTIVE;
}

static CK_RV
sign_behind(struct fault_call *call, CK_OBJECT_HANDLE key, CK_BYTE *data, CK_ULONG len,
            CK_BYTE *sig)
{
    CK_MECHANISM mechanism = {CKM_ECDSA, NULL, 0};
    CK_ULONG sig_len = FAULT_SIG_LEN;
    CK_RV rv;

    if (!fault_call_go_inside(call))
        return call->rv;
    rv = fault_behind->C_SignInit(call->session, &mechanism, fault_call_key(call, key));
    if (rv == CKR_OK)
        rv = fault_behind->C_Sign(call->session, data, len, sig, &sig_len);
    if (rv == CKR_OK && sig_len != FAULT_SIG_LEN)
        return CKR_KEY_SIZE_RANGE;
    if (rv == CKR_OK)
        fault_fake_keep(key, data, len, sig);
    return fault_call_object_rv(call, rv);
}

static CK_RV
sign_local(struct fault_call *call, CK_BYTE *data, CK_ULONG len, CK_BYTE *sig, CK_ULONG *sig_len)
{
    CK_ULONG room = *sig_len;
    CK_OBJECT_HANDLE key;

    *sig_len = FAULT_SIG_LEN;
    if (sig == NULL)
        return CKR_OK;
    if (room < FAULT_SIG_LEN)
        return CKR_BUFFER_TOO_SMALL;
    key = atomic_exchange(&call->entry->pending, CK_INVALID_HANDLE);
    if (key == CK_INVALID_HANDLE)
        return CKR_OPERATION_NOT_INITIALIZED;
    if (fault_fake_mode() != FAULT_FAKE_REPLAY)
        memcpy(sig, fault_fake_constant(), FAULT_SIG_LEN);
    else if (!fault_fake_recall(key, data, len, sig))
        return sign_behind(call, key, data, len, sig);
    return CKR_OK;
}

static bool
is_pending(CK_SESSION_HANDLE session)
{
    const struct fault_session *entry = fault_session_get(session);

    return entry != NULL && atomic_load(&entry->pending) != CK_INVALID_HANDLE;
}

/* ---- */

CK_RV
fault_C_SignInit(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE key)
{
    struct fault_call call;

    if (fault_fake_mode() != FAULT_FAKE_OFF && mechanism != NULL &&
        mechanism->mechanism == CKM_ECDSA) {
        if (fault_call_enter_local(&call, FN_C_SignInit, session))
            call.rv = begin_local(&call, key);
    } else if (fault_call_enter(&call, FN_C_SignInit, session)) {
        call.rv = fault_behind->C_SignInit(call.session, mechanism, fault_call_key(&call, key));
        call.rv = fault_call_object_rv(&call, call.rv);
    }
    return fault_call_leave(&call);
}

CK_RV
fault_C_Sign(CK_SESSION_HANDLE session, CK_BYTE *data, CK_ULONG len, CK_BYTE *sig,
             CK_ULONG *sig_len)
{
    struct fault_call call;
    CK_ULONG room = sig_len != NULL ? *sig_len : 0;

    if (is_pending(session) && data != NULL && sig_len != NULL) {
        if (fault_call_enter_local(&call, FN_C_Sign, session))
            call.rv = sign_local(&call, data, len, sig, sig_len);
    } else if (fault_call_enter(&call, FN_C_Sign, session)) {
        call.rv = fault_behind->C_Sign(call.session, data, len, sig, sig_len);
    }
    strike(&call, sig, sig_len, room);
    return fault_call_leave(&call);
}

void
fault_sign_child(void)
{
    stale_lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
}
