/* lane.c - the libp11 route: a function list for libp11, with one token and one key. */
#define _GNU_SOURCE                 /* readlink */
#define OPENSSL_SUPPRESS_DEPRECATED /* libp11's EVP_PKEY is an EC_KEY with a method of its own */
#include "lane_internal.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <libp11.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>

#include <hsm/defer.h>
#include <hsm/es256.h>
#include <hsm/log.h>
#include <hsm/use.h>

#include "ckr_internal.h"
#include "clock_internal.h"
#include "es256_internal.h"
#include "object_internal.h"

#define LANE_MODULE "sti-hsm-lane.so"
#define PATH_SIZE   4096 /* octets */
#define THE_KEY     1 /* the object handle of the one key, and of its public half */

/* A session as libp11 knows it. Its handle is its address, and so unique. */
struct lane_session {
    struct hsm_lane *lane;
    bool open;
    bool signing; /* between C_SignInit and C_Sign */
    CK_OBJECT_CLASS sought; /* class of the search in progress */
    bool found; /* the search has returned its one result */
    char apart[HSM_CACHE_LINE]; /* off the cache line of the next, which others write */
};

struct hsm_lane {
    struct hsm_signer *signer;
    bool lent; /* holds a reference to the signer */
    PKCS11_CTX *p11;
    PKCS11_SLOT *slots;
    unsigned slot_count;
    EVP_PKEY *pkey;
    EC_KEY *ec; /* of `pkey`; its method is libp11's */
    struct lane_session sessions[HSM_LANE_SESSIONS];
    uint8_t point[2 + HSM_P256_POINT_LEN]; /* DER OCTET STRING */
};

/* A signature that libp11 is making for a caller in this library. */
struct operation {
    const struct hsm_session *session;
    enum hsm_form form;
    CK_RV rv;
};

/* libp11 passes no context through, so the state of a call is thread-local. */
static _Thread_local struct hsm_lane *building;
static _Thread_local struct operation *current;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static char module_path[PATH_SIZE];
static int lane_index = -1; /* index of the lane in an EVP_PKEY's extra data */

DEFINE_DEFER(ECDSA_SIG, ECDSA_SIG_free)

static struct lane_session *
session_of(CK_SESSION_HANDLE handle)
{
    return (struct lane_session *)(uintptr_t)handle; // NOLINT: see struct lane_session
}

static struct hsm_lane *
lane_of(CK_SLOT_ID id)
{
    return (struct hsm_lane *)(uintptr_t)id; // NOLINT: a slot's number is its lane's address
}

/* ---- the function list ---- */

static CK_RV
lane_Initialize(void *args)
{
    (void)args;
    return CKR_OK;
}

static CK_RV
lane_Finalize(void *reserved)
{
    (void)reserved;
    return CKR_OK;
}

static CK_RV
lane_GetInfo(CK_INFO *info)
{
    memset(info, ' ', sizeof(*info));
    info->cryptokiVersion = (CK_VERSION){2, 40};
    info->libraryVersion = (CK_VERSION){1, 0};
    info->flags = 0;
    memcpy(info->manufacturerID, "sti-hsm", 7);
    memcpy(info->libraryDescription, "one key for libp11", 18);
    return CKR_OK;
}

static CK_RV
lane_GetSlotList(CK_BBOOL with_token, CK_SLOT_ID *slots, CK_ULONG *count)
{
    CK_ULONG room = *count;

    (void)with_token;
    *count = building != NULL ? 1 : 0;
    if (slots == NULL || building == NULL)
        return CKR_OK;
    if (room == 0)
        return CKR_BUFFER_TOO_SMALL;
    slots[0] = (CK_SLOT_ID)(uintptr_t)building;
    return CKR_OK;
}

static CK_RV
lane_GetSlotInfo(CK_SLOT_ID slot, CK_SLOT_INFO *info)
{
    (void)slot;
    memset(info, ' ', sizeof(*info));
    info->flags = CKF_TOKEN_PRESENT | CKF_HW_SLOT;
    info->hardwareVersion = (CK_VERSION){0, 0};
    info->firmwareVersion = (CK_VERSION){0, 0};
    return CKR_OK;
}

static CK_RV
lane_GetTokenInfo(CK_SLOT_ID slot, CK_TOKEN_INFO *info)
{
    *info = lane_of(slot)->signer->slot->token;
    info->flags = CKF_TOKEN_INITIALIZED | CKF_USER_PIN_INITIALIZED;
    return CKR_OK;
}

static CK_RV
lane_OpenSession(CK_SLOT_ID slot, CK_FLAGS flags, void *application, CK_NOTIFY notify,
                 CK_SESSION_HANDLE *out)
{
    struct hsm_lane *lane = lane_of(slot);

    (void)flags;
    (void)application;
    (void)notify;
    for (size_t i = 0; i < HSM_LANE_SESSIONS; i++) {
        struct lane_session *session = &lane->sessions[i];

        if (session->open)
            continue;
        *session = (struct lane_session){.lane = lane, .open = true};
        *out = (CK_SESSION_HANDLE)(uintptr_t)session;
        return CKR_OK;
    }
    return CKR_SESSION_COUNT;
}

static CK_RV
lane_CloseSession(CK_SESSION_HANDLE session)
{
    session_of(session)->open = false;
    return CKR_OK;
}

static CK_RV
lane_CloseAllSessions(CK_SLOT_ID slot)
{
    for (size_t i = 0; i < HSM_LANE_SESSIONS; i++)
        lane_of(slot)->sessions[i].open = false;
    return CKR_OK;
}

/* Later versions of libp11 call this before each signature; here it causes no call to the token. */
static CK_RV
lane_GetSessionInfo(CK_SESSION_HANDLE session, CK_SESSION_INFO *info)
{
    *info = (CK_SESSION_INFO){.slotID = (CK_SLOT_ID)(uintptr_t)session_of(session)->lane,
                              .state = CKS_RW_USER_FUNCTIONS,
                              .flags = CKF_SERIAL_SESSION | CKF_RW_SESSION};
    return CKR_OK;
}

static CK_RV
lane_Login(CK_SESSION_HANDLE session, CK_USER_TYPE user, CK_UTF8CHAR *pin, CK_ULONG pin_len)
{
    (void)session;
    (void)user;
    (void)pin;
    (void)pin_len;
    return CKR_OK; /* the slot is logged in */
}

static CK_RV
lane_Logout(CK_SESSION_HANDLE session)
{
    (void)session;
    return CKR_OK;
}

static CK_RV
lane_FindObjectsInit(CK_SESSION_HANDLE session, CK_ATTRIBUTE *template, CK_ULONG count)
{
    struct lane_session *s = session_of(session);

    s->sought = CKO_PRIVATE_KEY;
    s->found = false;
    for (CK_ULONG i = 0; i < count; i++) {
        if (template[i].type == CKA_CLASS && template[i].ulValueLen == sizeof(s->sought))
            memcpy(&s->sought, template[i].pValue, sizeof(s->sought));
    }
    return CKR_OK;
}

static CK_RV
lane_FindObjects(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE *objects, CK_ULONG most,
                 CK_ULONG *count)
{
    struct lane_session *s = session_of(session);
    bool is_key = s->sought == CKO_PRIVATE_KEY || s->sought == CKO_PUBLIC_KEY;

    *count = 0;
    if (!is_key || s->found || most == 0)
        return CKR_OK;
    objects[0] = THE_KEY;
    *count = 1;
    s->found = true;
    return CKR_OK;
}

static CK_RV
lane_FindObjectsFinal(CK_SESSION_HANDLE session)
{
    (void)session;
    return CKR_OK;
}

static CK_RV
give(CK_ATTRIBUTE *attribute, const void *value, size_t len)
{
    CK_ULONG room = attribute->ulValueLen;

    attribute->ulValueLen = len;
    if (attribute->pValue == NULL)
        return CKR_OK;
    if (room < len) {
        attribute->ulValueLen = CK_UNAVAILABLE_INFORMATION;
        return CKR_BUFFER_TOO_SMALL;
    }
    memcpy(attribute->pValue, value, len);
    return CKR_OK;
}

static CK_RV
give_attribute(const struct lane_session *session, CK_ATTRIBUTE *attribute)
{
    static const CK_KEY_TYPE ec = CKK_EC;
    static const CK_BBOOL no = CK_FALSE;
    const struct hsm_key_info *info = &session->lane->signer->info;

    switch (attribute->type) {
    case CKA_CLASS:
        return give(attribute, &session->sought, sizeof(session->sought));
    case CKA_KEY_TYPE:
        return give(attribute, &ec, sizeof(ec));
    case CKA_LABEL:
        return give(attribute, info->label, strlen(info->label));
    case CKA_ID:
        return give(attribute, info->id, info->id_len);
    case CKA_EC_PARAMS:
        return give(attribute, hsm_p256_params, sizeof(hsm_p256_params));
    case CKA_EC_POINT:
        return give(attribute, session->lane->point, sizeof(session->lane->point));
    case CKA_ALWAYS_AUTHENTICATE:
        return give(attribute, &no, sizeof(no));
    default:
        attribute->ulValueLen = CK_UNAVAILABLE_INFORMATION;
        return CKR_ATTRIBUTE_TYPE_INVALID;
    }
}

static CK_RV
lane_GetAttributeValue(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object, CK_ATTRIBUTE *template,
                       CK_ULONG count)
{
    CK_RV rv = CKR_OK;

    if (object != THE_KEY)
        return CKR_OBJECT_HANDLE_INVALID;
    for (CK_ULONG i = 0; i < count; i++) {
        CK_RV one = give_attribute(session_of(session), &template[i]);

        rv = one != CKR_OK ? one : rv;
    }
    return rv;
}

static CK_RV
lane_SignInit(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE key)
{
    if (mechanism->mechanism != CKM_ECDSA)
        return CKR_MECHANISM_INVALID;
    if (key != THE_KEY)
        return CKR_KEY_HANDLE_INVALID;
    session_of(session)->signing = true;
    return CKR_OK;
}

/* For a lent EVP_PKEY, OpenSSL is the caller, so the whole call is handled here. The signature is
 * for a TLS handshake unless the thread has set another use. A thread that has set TLS itself runs
 * a server's loop, on which all its connections wait: it does not wait for a recovery. */
static CK_RV
sign_for_openssl(struct hsm_signer *signer, const uint8_t *digest, uint8_t *sig)
{
    struct hsm_slot *slot = signer->slot;
    struct hsm_use use = hsm_use_now();
    const struct hsm_request request = {
        .digest = digest,
        .patience = {hsm_deadline_after(slot->settings.op_timeout_ms), use.kind != HSM_USE_TLS},
        .verify = true,
    };
    HSM_USE_FOR(use.kind == HSM_USE_UNSPECIFIED ? HSM_USE_TLS : use.kind);

    if (slot->generation != hsm_fork_generation())
        return CKR_CRYPTOKI_NOT_INITIALIZED; /* the child of a fork() */
    return hsm_signer_sign(signer, &request, sig) == HSM_OK ? CKR_OK : CKR_DEVICE_ERROR;
}

static CK_RV
lane_Sign(CK_SESSION_HANDLE session, CK_BYTE *data, CK_ULONG len, CK_BYTE *sig, CK_ULONG *sig_len)
{
    struct lane_session *s = session_of(session);
    struct operation *operation = current;
    CK_RV rv;

    if (sig == NULL || *sig_len < HSM_P256_SIG_LEN) {
        *sig_len = HSM_P256_SIG_LEN;
        return sig == NULL ? CKR_OK : CKR_BUFFER_TOO_SMALL;
    }
    if (!s->signing)
        return CKR_OPERATION_NOT_INITIALIZED;
    s->signing = false;
    if (len != HSM_SHA256_LEN)
        return CKR_DATA_LEN_RANGE; /* only ES256 */
    *sig_len = HSM_P256_SIG_LEN;
    if (operation == NULL)
        return sign_for_openssl(s->lane->signer, data, sig);
    rv = hsm_signer_call(s->lane->signer, operation->session->handle, data, sig, &operation->form);
    operation->rv = rv;
    return rv == CKR_OK && operation->form == HSM_FORM_BAD ? CKR_DEVICE_ERROR : rv;
}

static CK_FUNCTION_LIST list = {
    .version = {2, 40},
    .C_Initialize = lane_Initialize,
    .C_Finalize = lane_Finalize,
    .C_GetInfo = lane_GetInfo,
    .C_GetSlotList = lane_GetSlotList,
    .C_GetSlotInfo = lane_GetSlotInfo,
    .C_GetTokenInfo = lane_GetTokenInfo,
    .C_OpenSession = lane_OpenSession,
    .C_CloseSession = lane_CloseSession,
    .C_CloseAllSessions = lane_CloseAllSessions,
    .C_GetSessionInfo = lane_GetSessionInfo,
    .C_Login = lane_Login,
    .C_Logout = lane_Logout,
    .C_FindObjectsInit = lane_FindObjectsInit,
    .C_FindObjects = lane_FindObjects,
    .C_FindObjectsFinal = lane_FindObjectsFinal,
    .C_GetAttributeValue = lane_GetAttributeValue,
    .C_SignInit = lane_SignInit,
    .C_Sign = lane_Sign,
};

/* ---- the module that libp11 loads ---- */

static void
free_lent(void *parent, void *lane, CRYPTO_EX_DATA *data, int index, long argl, void *argp)
{
    (void)parent;
    (void)data;
    (void)index;
    (void)argl;
    (void)argp;
    hsm_lane_free(lane);
}

static bool
plug_in(const char *path)
{
    void (*bind)(CK_FUNCTION_LIST *);
    void *library;

    if (access(path, R_OK) != 0)
        return false;
    library = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (library == NULL) {
        hsm_log(HSM_LOG_ERROR, "%s", dlerror());
        return false;
    }
    *(void **)&bind = dlsym(library, "sti_lane_bind");
    if (bind != NULL)
        bind(&list);
    return bind != NULL;
}

/* Look beside the program (a build), then at the program's installed path, then at ours. */
static void
find_module(void)
{
    static const char *const places[] = {"/" LANE_MODULE, "/" STI_LANE_FROM_BIN "/" LANE_MODULE};
    char program[PATH_SIZE / 2];
    ssize_t len = readlink("/proc/self/exe", program, sizeof(program) - 1);
    bool found = false;

    lane_index = EVP_PKEY_get_ex_new_index(0, NULL, NULL, NULL, free_lent);
    if (len > 0) {
        program[len] = '\0';
        *strrchr(program, '/') = '\0';
        for (size_t i = 0; i < sizeof(places) / sizeof(places[0]) && !found; i++) {
            snprintf(module_path, sizeof(module_path), "%s%s", program, places[i]);
            found = plug_in(module_path);
        }
    }
    if (!found) {
        snprintf(module_path, sizeof(module_path), "%s/%s", STI_LANE_DIR, LANE_MODULE);
        found = plug_in(module_path);
    }
    if (!found) {
        hsm_log(HSM_LOG_ERROR, "%s: not installed", module_path);
        module_path[0] = '\0';
    }
}

/* ---- lanes ---- */

void
hsm_lane_free(struct hsm_lane *lane)
{
    if (lane == NULL)
        return;
    EC_KEY_free(lane->ec);
    EVP_PKEY_free(lane->pkey);
    if (lane->slots != NULL)
        PKCS11_release_all_slots(lane->p11, lane->slots, lane->slot_count);
    if (lane->p11 != NULL) {
        PKCS11_CTX_unload(lane->p11);
        PKCS11_CTX_free(lane->p11);
    }
    ERR_clear_error();
    if (lane->lent)
        hsm_signer_unref(lane->signer);
    free(lane);
}

static EVP_PKEY *
load_key(struct hsm_lane *lane)
{
    PKCS11_KEY *keys = NULL;
    unsigned count = 0;

    if (PKCS11_CTX_load(lane->p11, module_path) != 0 ||
        PKCS11_enumerate_slots(lane->p11, &lane->slots, &lane->slot_count) != 0)
        return NULL;
    if (lane->slot_count != 1 || lane->slots[0].token == NULL ||
        PKCS11_enumerate_keys(lane->slots[0].token, &keys, &count) != 0 || count != 1)
        return NULL;
    return PKCS11_get_private_key(&keys[0]);
}

enum hsm_status
hsm_lane_new(struct hsm_signer *signer, struct hsm_lane **out)
{
    DEFER(hsm_lane_free) struct hsm_lane *lane = calloc(1, sizeof(*lane));
    uint8_t point[HSM_P256_POINT_LEN];

    pthread_once(&once, find_module);
    if (lane == NULL)
        return HSM_ERR_NOMEM;
    if (module_path[0] == '\0')
        return HSM_ERR_UNSUPPORTED;
    lane->signer = signer;
    lane->point[0] = 0x04;
    lane->point[1] = HSM_P256_POINT_LEN;
    memcpy(lane->point + 2, signer->info.point, HSM_P256_POINT_LEN);
    lane->p11 = PKCS11_CTX_new();
    if (lane->p11 == NULL)
        return HSM_ERR_NOMEM;
    building = lane;
    lane->pkey = load_key(lane);
    building = NULL;
    if (lane->pkey == NULL)
        return hsm_ckr_log(hsm_ckr_from_libp11(), "libp11");
    if (hsm_p256_point(lane->pkey, point) != HSM_OK ||
        memcmp(point, signer->info.point, sizeof(point)) != 0) {
        hsm_log(HSM_LOG_ERROR, "key %s: libp11's view of the public key differs from the token's",
                signer->info.label);
        return HSM_ERR_CRYPTO;
    }
    lane->ec = EVP_PKEY_get1_EC_KEY(lane->pkey);
    if (lane->ec == NULL)
        return HSM_ERR_NOMEM;
    *out = lane;
    lane = NULL;
    return HSM_OK;
}

/* libp11 keeps a reference to its EVP_PKEY until its context goes, so another EVP_PKEY is lent,
 * whose release can be observed. */
static EVP_PKEY *
another_name(EVP_PKEY *pkey)
{
    EC_KEY *ec = EVP_PKEY_get1_EC_KEY(pkey);
    EVP_PKEY *other = EVP_PKEY_new();

    if (ec != NULL && other != NULL && EVP_PKEY_assign_EC_KEY(other, ec) == 1)
        return other;
    EC_KEY_free(ec);
    EVP_PKEY_free(other);
    return NULL;
}

enum hsm_status
hsm_lane_lend(struct hsm_signer *signer, EVP_PKEY **out)
{
    struct hsm_lane *lane = NULL;
    enum hsm_status st = hsm_lane_new(signer, &lane);
    EVP_PKEY *pkey;

    if (st != HSM_OK)
        return st;
    pkey = another_name(lane->pkey);
    if (pkey == NULL || lane_index < 0 || EVP_PKEY_set_ex_data(pkey, lane_index, lane) != 1) {
        EVP_PKEY_free(pkey);
        hsm_lane_free(lane);
        return HSM_ERR_NOMEM;
    }
    lane->lent = true; /* the EVP_PKEY owns the lane from now on */
    hsm_signer_ref(signer);
    *out = pkey;
    return HSM_OK;
}

/* Copy R || S from an ECDSA_SIG. */
static bool
take_numbers(const ECDSA_SIG *made, uint8_t *sig)
{
    return BN_bn2binpad(ECDSA_SIG_get0_r(made), sig, HSM_P256_SIG_LEN / 2) ==
               HSM_P256_SIG_LEN / 2 &&
           BN_bn2binpad(ECDSA_SIG_get0_s(made), sig + HSM_P256_SIG_LEN / 2, HSM_P256_SIG_LEN / 2) ==
               HSM_P256_SIG_LEN / 2;
}

/* Not by EVP_PKEY_sign(), which would encode the two numbers in DER, only to be decoded here. */
CK_RV
hsm_lane_sign(struct hsm_lane *lane, const struct hsm_session *session, const uint8_t *digest,
              uint8_t *sig, enum hsm_form *form)
{
    struct operation operation = {session, HSM_FORM_GOOD, CKR_OK};
    DEFER(ECDSA_SIG_free) ECDSA_SIG *made = NULL;

    current = &operation;
    made = ECDSA_do_sign(digest, HSM_SHA256_LEN, lane->ec);
    current = NULL;
    if (made == NULL)
        ERR_clear_error();
    *form = operation.form;
    if (operation.rv != CKR_OK || operation.form == HSM_FORM_BAD)
        return operation.rv;
    if (made == NULL)
        return CKR_FUNCTION_FAILED;
    if (!take_numbers(made, sig) || !hsm_es256_in_range(sig))
        *form = HSM_FORM_BAD;
    return CKR_OK;
}
