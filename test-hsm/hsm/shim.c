/*
 * shim.c - a PKCS#11 module in front of SoftHSM that fails and gives false answers on command.
 *
 * $STI_SHIM contains words separated by commas, which are read on every call:
 *   C_Sign=0x30         this function returns that value (functions that call failing() below)
 *   sessions=3          at most this many sessions: CKR_SESSION_COUNT
 *   flip, zero, short   the output of C_Sign is damaged in this way
 *   flip-of=LABEL       flip, for this key only
 *   flips=5             flip, for the next five signatures only
 *   point=raw|bits|xy   CKA_EC_POINT in a form other than the standard's
 *   lie=0x162:1         this boolean attribute reads as this value
 *   ask=0x10c:1         a private key is generated with this attribute, whatever was requested
 *   killed              SIGKILL once a key pair is generated
 *   plain               key templates with CKA_COPYABLE are refused
 *   hiccup              every other key generation fails with CKR_GENERAL_ERROR
 *   random=6161ff       each call of C_GenerateRandom fills its output with the next of
 *                       these octets; after the last one, the output is random
 *   no-ecdsa            the mechanism CKM_ECDSA is missing
 *   wraps=0x1053        this mechanism is added, and wraps
 *   flags=0x40000       set in CK_TOKEN_INFO
 * $STI_SHIM_BEHIND is the module behind it.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <p11-kit/pkcs11.h>

static CK_FUNCTION_LIST *behind;
static CK_FUNCTION_LIST list;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned long sessions_open;
static unsigned generations;
static size_t randoms;
static unsigned long flipped; /* since flips= */
static bool flips[256]; /* by session, modulo 256: its operation uses the key of flip-of */

/* The text after "word" or "word=" in $STI_SHIM; NULL if the word is absent. */
static const char *
told(const char *word)
{
    const char *at = getenv("STI_SHIM");
    size_t len = strlen(word);

    while (at != NULL && *at != '\0') {
        if (strncmp(at, word, len) == 0 && (at[len] == '\0' || at[len] == ','))
            return at + len;
        if (strncmp(at, word, len) == 0 && at[len] == '=')
            return at + len + 1;
        at += strcspn(at, ",");
        at += *at == ',' ? 1 : 0;
    }
    return NULL;
}

static bool
told_value(const char *word, const char *value)
{
    const char *at = told(word);

    return at != NULL && strncmp(at, value, strlen(value)) == 0;
}

/* CKR_OK: the function works normally. */
static CK_RV
failing(const char *function)
{
    const char *value = told(function);

    return value != NULL ? (CK_RV)strtoul(value, NULL, 0) : CKR_OK;
}

static CK_RV
shim_OpenSession(CK_SLOT_ID slot, CK_FLAGS flags, void *application, CK_NOTIFY notify,
                 CK_SESSION_HANDLE *session)
{
    const char *most = told("sessions");
    CK_RV rv = failing("C_OpenSession");

    if (rv != CKR_OK)
        return rv;
    pthread_mutex_lock(&lock);
    if (most != NULL && sessions_open >= strtoul(most, NULL, 0))
        rv = CKR_SESSION_COUNT;
    else
        rv = behind->C_OpenSession(slot, flags, application, notify, session);
    if (rv == CKR_OK)
        sessions_open++;
    pthread_mutex_unlock(&lock);
    return rv;
}

static CK_RV
shim_CloseSession(CK_SESSION_HANDLE session)
{
    CK_RV rv = behind->C_CloseSession(session);

    pthread_mutex_lock(&lock);
    if (rv == CKR_OK)
        sessions_open--;
    pthread_mutex_unlock(&lock);
    return rv;
}

/* Tests that count sessions use only one slot. */
static CK_RV
shim_CloseAllSessions(CK_SLOT_ID slot)
{
    pthread_mutex_lock(&lock);
    sessions_open = 0;
    pthread_mutex_unlock(&lock);
    return behind->C_CloseAllSessions(slot);
}

static CK_RV
shim_Login(CK_SESSION_HANDLE session, CK_USER_TYPE user, CK_UTF8CHAR *pin, CK_ULONG pin_len)
{
    CK_RV rv = failing("C_Login");

    return rv != CKR_OK ? rv : behind->C_Login(session, user, pin, pin_len);
}

static CK_RV
shim_Initialize(void *args)
{
    CK_RV rv = failing("C_Initialize");

    return rv != CKR_OK ? rv : behind->C_Initialize(args);
}

static CK_RV
shim_Finalize(void *reserved)
{
    pthread_mutex_lock(&lock);
    sessions_open = 0;
    pthread_mutex_unlock(&lock);
    return behind->C_Finalize(reserved);
}

static CK_RV
shim_InitPIN(CK_SESSION_HANDLE session, CK_UTF8CHAR *pin, CK_ULONG pin_len)
{
    CK_RV rv = failing("C_InitPIN");

    return rv != CKR_OK ? rv : behind->C_InitPIN(session, pin, pin_len);
}

static CK_RV
shim_FindObjects(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE *objects, CK_ULONG most,
                 CK_ULONG *count)
{
    CK_RV rv = failing("C_FindObjects");

    return rv != CKR_OK ? rv : behind->C_FindObjects(session, objects, most, count);
}

static CK_RV
shim_GenerateRandom(CK_SESSION_HANDLE session, CK_BYTE *out, CK_ULONG len)
{
    const char *octets = told("random");
    CK_RV rv = failing("C_GenerateRandom");
    unsigned octet = 0;

    if (rv != CKR_OK)
        return rv;
    if (octets != NULL && strcspn(octets, ",") >= 2 * (randoms + 1) &&
        sscanf(octets + 2 * randoms, "%2x", &octet) == 1) {
        randoms++;
        memset(out, (int)octet, len);
        return CKR_OK;
    }
    return behind->C_GenerateRandom(session, out, len);
}

static bool
is_of(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE key, const char *label)
{
    char value[64];
    CK_ATTRIBUTE attribute = {CKA_LABEL, value, sizeof(value)};

    return behind->C_GetAttributeValue(session, key, &attribute, 1) == CKR_OK &&
           attribute.ulValueLen == strcspn(label, ",") &&
           memcmp(value, label, attribute.ulValueLen) == 0;
}

static CK_RV
shim_SignInit(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE key)
{
    const char *label = told("flip-of");
    CK_RV rv = failing("C_SignInit");

    flips[session % 256] = label != NULL && is_of(session, key, label);
    return rv != CKR_OK ? rv : behind->C_SignInit(session, mechanism, key);
}

/* True for as many signatures as flips= says. */
static bool
flips_this(void)
{
    const char *count = told("flips");
    bool flip;

    pthread_mutex_lock(&lock);
    if (count == NULL)
        flipped = 0;
    flip = count != NULL && flipped < strtoul(count, NULL, 10);
    flipped += flip;
    pthread_mutex_unlock(&lock);
    return flip;
}

static CK_RV
shim_Sign(CK_SESSION_HANDLE session, CK_BYTE *data, CK_ULONG len, CK_BYTE *sig, CK_ULONG *sig_len)
{
    CK_RV rv = behind->C_Sign(session, data, len, sig, sig_len);

    if (failing("C_Sign") != CKR_OK)
        return failing("C_Sign");
    if (rv != CKR_OK || sig == NULL)
        return rv;
    if (told("flip") != NULL || flips[session % 256] || flips_this())
        sig[*sig_len - 1] ^= 1;
    if (told("zero") != NULL)
        memset(sig, 0, *sig_len);
    if (told("short") != NULL)
        *sig_len -= 2;
    return CKR_OK;
}

/* "word=TYPE:0" or "word=TYPE:1"; false if the word is absent. */
static bool
told_attribute(const char *word, unsigned long *type, CK_BBOOL *value)
{
    const char *at = told(word);
    char *end = NULL;

    if (at == NULL)
        return false;
    *type = strtoul(at, &end, 0);
    *value = end[1] == '1' ? CK_TRUE : CK_FALSE;
    return true;
}

static CK_RV
shim_GenerateKeyPair(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism, CK_ATTRIBUTE *public,
                     CK_ULONG public_count, CK_ATTRIBUTE *private, CK_ULONG private_count,
                     CK_OBJECT_HANDLE *public_key, CK_OBJECT_HANDLE *private_key)
{
    CK_RV rv = failing("C_GenerateKeyPair");
    static CK_BBOOL asked;
    unsigned long type = 0;
    bool ask = told_attribute("ask", &type, &asked);

    if (rv != CKR_OK)
        return rv;
    if (told("hiccup") != NULL && generations++ % 2 == 0)
        return CKR_GENERAL_ERROR;
    for (CK_ULONG i = 0; i < private_count; i++) {
        if (told("plain") != NULL && private[i].type == CKA_COPYABLE)
            return CKR_ATTRIBUTE_TYPE_INVALID;
        if (ask && private[i].type == type)
        private[i].pValue = &asked;
    }
    rv = behind->C_GenerateKeyPair(session, mechanism, public, public_count, private, private_count,
                                   public_key, private_key);
    if (told("killed") != NULL)
        raise(SIGKILL);
    return rv;
}

/* SoftHSM returns 04 41 04 X Y; the caller's buffer has space for any form. */
static void
change_point(CK_ATTRIBUTE *attribute)
{
    CK_BYTE *value = attribute->pValue;

    if (told_value("point", "raw")) {
        memmove(value, value + 2, 65);
        attribute->ulValueLen = 65;
    } else if (told_value("point", "xy")) {
        memmove(value, value + 3, 64);
        attribute->ulValueLen = 64;
    } else if (told_value("point", "bits")) {
        memmove(value + 3, value + 2, 65);
        memcpy(value, "\x03\x42\x00", 3);
        attribute->ulValueLen = 68;
    }
}

static CK_RV
shim_GetAttributeValue(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object, CK_ATTRIBUTE *attributes,
                       CK_ULONG count)
{
    CK_RV rv = behind->C_GetAttributeValue(session, object, attributes, count);
    unsigned long type = 0;
    CK_BBOOL said = CK_FALSE;
    bool lie = told_attribute("lie", &type, &said);

    for (CK_ULONG i = 0; rv == CKR_OK && i < count; i++) {
        CK_ATTRIBUTE *attribute = &attributes[i];

        if (attribute->type == CKA_EC_POINT && told("point") != NULL) {
            if (attribute->pValue != NULL && attribute->ulValueLen == 67)
                change_point(attribute);
            else
                attribute->ulValueLen = 68; /* the caller only queries the length */
        }
        if (lie && attribute->type == type && attribute->pValue != NULL)
            *(CK_BBOOL *)attribute->pValue = said;
    }
    return rv;
}

static CK_RV
shim_GetMechanismInfo(CK_SLOT_ID slot, CK_MECHANISM_TYPE type, CK_MECHANISM_INFO *info)
{
    if (told("no-ecdsa") != NULL && type == CKM_ECDSA)
        return CKR_MECHANISM_INVALID;
    if (told("wraps") != NULL && type == strtoul(told("wraps"), NULL, 0)) {
        *info = (CK_MECHANISM_INFO){256, 521, CKF_WRAP | CKF_UNWRAP};
        return CKR_OK;
    }
    return behind->C_GetMechanismInfo(slot, type, info);
}

static CK_RV
shim_GetMechanismList(CK_SLOT_ID slot, CK_MECHANISM_TYPE *types, CK_ULONG *count)
{
    CK_ULONG room = *count;
    CK_RV rv = behind->C_GetMechanismList(slot, types, count);

    if (rv != CKR_OK || told("wraps") == NULL)
        return rv;
    if (types != NULL && *count == room)
        return CKR_BUFFER_TOO_SMALL;
    if (types != NULL)
        types[*count] = strtoul(told("wraps"), NULL, 0);
    (*count)++;
    return CKR_OK;
}

static CK_RV
shim_GetTokenInfo(CK_SLOT_ID slot, CK_TOKEN_INFO *info)
{
    CK_RV rv = behind->C_GetTokenInfo(slot, info);
    const char *flags = told("flags");

    if (rv == CKR_OK && flags != NULL)
        info->flags |= strtoul(flags, NULL, 0);
    return rv;
}

static void
take_over(void)
{
    list = *behind;
    list.C_Initialize = shim_Initialize;
    list.C_Finalize = shim_Finalize;
    list.C_OpenSession = shim_OpenSession;
    list.C_CloseSession = shim_CloseSession;
    list.C_CloseAllSessions = shim_CloseAllSessions;
    list.C_Login = shim_Login;
    list.C_InitPIN = shim_InitPIN;
    list.C_FindObjects = shim_FindObjects;
    list.C_GenerateRandom = shim_GenerateRandom;
    list.C_SignInit = shim_SignInit;
    list.C_Sign = shim_Sign;
    list.C_GenerateKeyPair = shim_GenerateKeyPair;
    list.C_GetAttributeValue = shim_GetAttributeValue;
    list.C_GetMechanismInfo = shim_GetMechanismInfo;
    list.C_GetMechanismList = shim_GetMechanismList;
    list.C_GetTokenInfo = shim_GetTokenInfo;
}

CK_RV
C_GetFunctionList(CK_FUNCTION_LIST **out)
{
    const char *path = getenv("STI_SHIM_BEHIND");
    CK_C_GetFunctionList get;
    void *library;

    if (behind == NULL) {
        library = path != NULL ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
        if (library == NULL)
            return CKR_GENERAL_ERROR;
        *(void **)&get = dlsym(library, "C_GetFunctionList");
        if (get == NULL || get(&behind) != CKR_OK)
            return CKR_GENERAL_ERROR;
        take_over();
    }
    *out = &list;
    return CKR_OK;
}
