/* object.c - find, describe, generate and destroy key objects on a token. */
#include "object_internal.h"

#include <stdlib.h>
#include <string.h>

#include <hsm/log.h>

#include "ckr_internal.h"
#include "clock_internal.h"

#define FIND_BATCH       64 /* handles per C_FindObjects */
#define EC_PARAMS_SIZE   64 /* octets: longer than any named curve */
#define EC_POINT_SIZE    160 /* octets: P-521 in a BIT STRING, with room to spare */
#define ATTRIBUTES_MAX   24 /* in a template */
#define GENERATE_HICCUPS 4 /* hiccups that are tolerated */
#define GENERATE_MS      10 /* after a hiccup, at first; doubled each time */
#define PASSING_TRIES    3 /* retries when the token asks for patience, as for signatures */
#define PASSING_MS       4

/* prime256v1, 1.2.840.10045.3.1.7, as CKA_EC_PARAMS (RFC 5480 section 2.1.1.1). */
const CK_BYTE hsm_p256_params[HSM_P256_PARAMS_LEN] = {0x06, 0x08, 0x2a, 0x86, 0x48,
                                                      0xce, 0x3d, 0x03, 0x01, 0x07};

/* A template under construction; the values are borrowed. */
struct template
{
    CK_ATTRIBUTE attributes[ATTRIBUTES_MAX];
    CK_ULONG count;
};

static CK_BBOOL yes = CK_TRUE;
static CK_BBOOL no = CK_FALSE;

static void
add(struct template *t, CK_ATTRIBUTE_TYPE type, const void *value, size_t len)
{
    CK_ATTRIBUTE *attribute = &t->attributes[t->count++];

    attribute->type = type;
    attribute->pValue = (void *)value; /* CK_ATTRIBUTE takes no const; it is only read */
    attribute->ulValueLen = len;
}

static void
add_bool(struct template *t, CK_ATTRIBUTE_TYPE type, bool value)
{
    add(t, type, value ? &yes : &no, sizeof(CK_BBOOL));
}

static void
add_name(struct template *t, const struct hsm_object_name *name)
{
    if (name->label != NULL)
        add(t, CKA_LABEL, name->label, strlen(name->label));
    if (name->id != NULL)
        add(t, CKA_ID, name->id, name->id_len);
}

static const CK_FUNCTION_LIST *
functions_of(const struct hsm_slot *slot)
{
    return hsm_module_functions(slot->module);
}

/* True: the failure may pass, and did not recur too often; some time has passed. */
static bool
is_passing(CK_RV rv, unsigned *tries)
{
    enum hsm_ckr_action action = hsm_ckr_action(rv);

    if ((action != HSM_CKR_THROTTLE && action != HSM_CKR_RETRY) || *tries >= PASSING_TRIES)
        return false;
    ++*tries;
    hsm_clock_sleep_until(hsm_deadline_after(PASSING_MS << *tries));
    return true;
}

/* Handles gathered by a search. */
struct handles {
    CK_OBJECT_HANDLE *items;
    size_t count;
    size_t size;
};

static enum hsm_status
append(struct handles *handles, const CK_OBJECT_HANDLE *batch, CK_ULONG n)
{
    if (handles->count + n > HSM_OBJECTS_MAX) {
        hsm_log(HSM_LOG_ERROR, "more than %d objects on the token", HSM_OBJECTS_MAX);
        return HSM_ERR_UNSUPPORTED;
    }
    if (handles->count + n > handles->size) {
        size_t size = handles->size * 2 + FIND_BATCH;
        CK_OBJECT_HANDLE *larger = realloc(handles->items, size * sizeof(*larger));

        if (larger == NULL)
            return HSM_ERR_NOMEM;
        handles->items = larger;
        handles->size = size;
    }
    if (n > 0) /* no items, no array yet */
        memcpy(handles->items + handles->count, batch, n * sizeof(*batch));
    handles->count += n;
    return HSM_OK;
}

/* *again is true if the failure may pass, and the whole search is to be repeated. */
static enum hsm_status
gather(const struct hsm_slot *slot, struct handles *handles, unsigned *tries, bool *again)
{
    CK_OBJECT_HANDLE batch[FIND_BATCH];
    CK_ULONG n = 0;
    enum hsm_status st = HSM_OK;

    do {
        CK_RV rv = functions_of(slot)->C_FindObjects(slot->control, batch, FIND_BATCH, &n);

        *again = is_passing(rv, tries);
        if (*again)
            return HSM_ERR_BUSY;
        st = rv == CKR_OK ? append(handles, batch, n) : hsm_ckr_log(rv, "C_FindObjects");
    } while (st == HSM_OK && n > 0);
    return st;
}

static enum hsm_status
search(const struct hsm_slot *slot, struct template *wanted, struct handles *handles,
       unsigned *tries, bool *again)
{
    const CK_FUNCTION_LIST *functions = functions_of(slot);
    CK_RV rv = functions->C_FindObjectsInit(slot->control, wanted->attributes, wanted->count);
    enum hsm_status st;

    handles->count = 0;
    *again = is_passing(rv, tries);
    if (*again)
        return HSM_ERR_BUSY;
    if (rv != CKR_OK)
        return hsm_ckr_log(rv, "C_FindObjectsInit");
    st = gather(slot, handles, tries, again);
    (void)functions->C_FindObjectsFinal(slot->control);
    return st;
}

enum hsm_status
hsm_object_find(const struct hsm_slot *slot, CK_OBJECT_CLASS class,
                const struct hsm_object_name *name, CK_OBJECT_HANDLE **out, size_t *count)
{
    struct handles handles = {NULL, 0, 0};
    struct template wanted = {.count = 0};
    enum hsm_status st;
    unsigned tries = 0;
    bool again;

    if (class != HSM_ANY_CLASS)
        add(&wanted, CKA_CLASS, &class, sizeof(class));
    add_name(&wanted, name);
    do
        st = search(slot, &wanted, &handles, &tries, &again);
    while (again);
    if (st != HSM_OK) {
        free(handles.items);
        return st;
    }
    *out = handles.items;
    *count = handles.count;
    return HSM_OK;
}

enum hsm_status
hsm_object_find_one(const struct hsm_slot *slot, CK_OBJECT_CLASS class,
                    const struct hsm_object_name *name, CK_OBJECT_HANDLE *out)
{
    CK_OBJECT_HANDLE *found = NULL;
    size_t count = 0;
    enum hsm_status st = hsm_object_find(slot, class, name, &found, &count);

    if (st != HSM_OK)
        return st;
    if (count == 1)
        *out = found[0];
    free(found);
    if (count == 1)
        return HSM_OK;
    return count == 0 ? HSM_ERR_NOT_FOUND : HSM_ERR_AMBIGUOUS;
}

/* An unknown value may be a vendor's way to report that the attribute does not exist, or that the
 * connection is lost. */
static bool
is_failure(const struct hsm_slot *slot, CK_RV rv)
{
    if (rv == CKR_OK)
        return false;
    return !hsm_ckr_is_refusal(rv) || (!hsm_ckr_is_known(rv) && hsm_slot_control_is_lost(slot));
}

bool
hsm_object_read(struct hsm_reading *reading, CK_ATTRIBUTE_TYPE type, void *out, size_t size,
                size_t *len)
{
    CK_ATTRIBUTE wanted;
    unsigned tries = 0;
    CK_RV rv;

    if (reading->failure != CKR_OK)
        return false; /* the token failed: it is not read any further */
    do {
        wanted = (CK_ATTRIBUTE){type, out, size};
        rv = functions_of(reading->slot)
                 ->C_GetAttributeValue(reading->slot->control, reading->object, &wanted, 1);
    } while (is_passing(rv, &tries));
    reading->rv = rv;
    if (rv == CKR_BUFFER_TOO_SMALL)
        return false; /* a foreign object may have any label */
    if (is_failure(reading->slot, rv))
        reading->failure = rv;
    if (rv != CKR_OK || wanted.ulValueLen == CK_UNAVAILABLE_INFORMATION || wanted.ulValueLen > size)
        return false;
    *len = wanted.ulValueLen;
    return true;
}

int
hsm_object_read_bool(struct hsm_reading *reading, CK_ATTRIBUTE_TYPE type)
{
    CK_BBOOL value = CK_FALSE;
    size_t len = 0;

    if (!hsm_object_read(reading, type, &value, sizeof(value), &len) || len != sizeof(value))
        return -1;
    return value != CK_FALSE ? 1 : 0;
}

CK_ULONG
hsm_object_read_ulong(struct hsm_reading *reading, CK_ATTRIBUTE_TYPE type)
{
    CK_ULONG value = CK_UNAVAILABLE_INFORMATION;
    size_t len = 0;

    if (!hsm_object_read(reading, type, &value, sizeof(value), &len) || len != sizeof(value))
        return CK_UNAVAILABLE_INFORMATION;
    return value;
}

static bool
names_p256(struct hsm_reading *reading)
{
    CK_BYTE params[EC_PARAMS_SIZE];
    size_t len = 0;

    return hsm_object_read(reading, CKA_EC_PARAMS, params, sizeof(params), &len) &&
           len == sizeof(hsm_p256_params) && memcmp(params, hsm_p256_params, len) == 0;
}

enum hsm_status
hsm_object_read_end(const struct hsm_reading *reading)
{
    if (reading->failure == CKR_OK)
        return HSM_OK;
    (void)hsm_ckr_log(reading->failure, "C_GetAttributeValue");
    return HSM_ERR_BUSY;
}

enum hsm_status
hsm_object_id(const struct hsm_slot *slot, CK_OBJECT_HANDLE object, uint8_t *id, size_t *id_len)
{
    struct hsm_reading reading = {.slot = slot, .object = object};
    CK_BYTE value[HSM_ID_MAX];
    size_t len = 0;

    if (hsm_object_read(&reading, CKA_ID, value, sizeof(value), &len) && len > 0) {
        memcpy(id, value, len);
        *id_len = len;
        return HSM_OK;
    }
    return hsm_object_read_end(&reading) == HSM_OK ? HSM_ERR_NOT_FOUND : HSM_ERR_BUSY;
}

static bool
has_label(struct hsm_reading *reading, const char *label)
{
    char value[HSM_LABEL_MAX];
    size_t len = 0;

    return label == NULL || (hsm_object_read(reading, CKA_LABEL, value, sizeof(value), &len) &&
                             len == strlen(label) && memcmp(value, label, len) == 0);
}

/* Picks the keys among the objects with an id; a certificate may have the same id. */
static enum hsm_status
sort_pair(const struct hsm_slot *slot, const struct hsm_object_name *name,
          const CK_OBJECT_HANDLE *objects, size_t count, struct hsm_object_pair *out)
{
    struct hsm_object_pair pair = {CK_INVALID_HANDLE, CK_INVALID_HANDLE};
    size_t privates = 0;
    size_t publics = 0;

    for (size_t i = 0; i < count; i++) {
        struct hsm_reading reading = {.slot = slot, .object = objects[i]};
        CK_ULONG class = hsm_object_read_ulong(&reading, CKA_CLASS);

        if (class == CKO_PRIVATE_KEY) {
            privates++;
            if (has_label(&reading, name->label))
                pair.private_object = objects[i];
        } else if (class == CKO_PUBLIC_KEY) {
            publics++;
            pair.public_object = objects[i];
        }
        if (hsm_object_read_end(&reading) != HSM_OK)
            return HSM_ERR_BUSY;
    }
    if (privates > 1 || publics > 1)
        return HSM_ERR_AMBIGUOUS;
    if (pair.private_object == CK_INVALID_HANDLE)
        return HSM_ERR_NOT_FOUND;
    *out = pair;
    return HSM_OK;
}

enum hsm_status
hsm_object_find_pair(const struct hsm_slot *slot, const struct hsm_object_name *name,
                     struct hsm_object_pair *out)
{
    const struct hsm_object_name by_id = {NULL, name->id, name->id_len};
    CK_OBJECT_HANDLE *found = NULL;
    size_t count = 0;
    enum hsm_status st = hsm_object_find(slot, HSM_ANY_CLASS, &by_id, &found, &count);

    if (st == HSM_OK)
        st = sort_pair(slot, name, found, count, out);
    free(found);
    return st;
}

/*
 * Modules return CKA_EC_POINT in four forms, which their lengths distinguish: DER OCTET STRING (the
 * standard's), BIT STRING, the bare point, X || Y. Trying DER first would mistake a bare point that
 * begins 04 41 for DER.
 */
static bool
decode_point(const CK_BYTE *value, size_t len, uint8_t *point)
{
    static const CK_BYTE octet_string[] = {0x04, 0x41, 0x04};
    static const CK_BYTE bit_string[] = {0x03, 0x42, 0x00, 0x04};
    size_t skip;

    if (len == 67 && memcmp(value, octet_string, sizeof(octet_string)) == 0)
        skip = 3;
    else if (len == 68 && memcmp(value, bit_string, sizeof(bit_string)) == 0)
        skip = 4;
    else if (len == 65 && value[0] == 0x04)
        skip = 1;
    else if (len == 64)
        skip = 0;
    else
        return false;
    point[0] = 0x04;
    memcpy(point + 1, value + skip, HSM_P256_POINT_LEN - 1);
    return true;
}

static enum hsm_status
describe_public(const struct hsm_slot *slot, CK_OBJECT_HANDLE object, struct hsm_key_info *info,
                bool key_names_curve)
{
    struct hsm_reading reading = {.slot = slot, .object = object};
    CK_BYTE value[EC_POINT_SIZE];
    size_t len = 0;

    if (object == CK_INVALID_HANDLE)
        return HSM_OK;
    /* Some modules record the curve with the public half only. */
    if (!key_names_curve)
        info->is_p256 = names_p256(&reading);
    if (info->is_p256 && hsm_object_read(&reading, CKA_EC_POINT, value, sizeof(value), &len))
        info->has_point = decode_point(value, len, info->point);
    return hsm_object_read_end(&reading);
}

/* PKCS #11 v3.1 section 4.9; -1 does not satisfy it either. */
static const char *
way_out(const struct hsm_key_info *info)
{
    if (info->sensitive != 1)
        return "CKA_SENSITIVE is not true";
    if (info->always_sensitive != 1)
        return "CKA_ALWAYS_SENSITIVE is not true";
    if (info->extractable != 0)
        return "CKA_EXTRACTABLE is not false";
    if (info->never_extractable != 1)
        return "CKA_NEVER_EXTRACTABLE is not true";
    return NULL;
}

static const char *
fault_of_origin(const struct hsm_key_info *info, const struct hsm_quirks *quirks)
{
    if (quirks->origin_waived)
        return NULL;
    if (info->local != 1 && quirks->origin_untold)
        return "CKA_LOCAL is not true, nor of any other key in this module; the quirks "
               "\"known,origin-untold\" in the configuration do without it (docs/HSM.md)";
    if (info->local != 1)
        return "CKA_LOCAL is not true: it was not generated here";
    if (info->gen_mechanism != CKM_EC_KEY_PAIR_GEN)
        return "CKA_KEY_GEN_MECHANISM is not CKM_EC_KEY_PAIR_GEN";
    return NULL;
}

/* Who may use the key and for what; a use that reads -1 is unknown to the module. */
static const char *
fault_of_use(const struct hsm_key_info *info)
{
    if (info->on_token != 1)
        return "CKA_TOKEN is not true: it goes with the session";
    if (info->needs_login != 1)
        return "CKA_PRIVATE is not true: it can be used without a login";
    if (info->sign_recover == 1)
        return "CKA_SIGN_RECOVER is true: it has other uses than to sign";
    if (info->decrypt == 1)
        return "CKA_DECRYPT is true: it has other uses than to sign";
    if (info->unwrap == 1)
        return "CKA_UNWRAP is true: it has other uses than to sign";
    if (info->derive == 1)
        return "CKA_DERIVE is true: it has other uses than to sign";
    return NULL;
}

const char *
hsm_object_fault(const struct hsm_key_info *info, const struct hsm_quirks *quirks)
{
    const char *fault = way_out(info);

    if (fault == NULL)
        fault = fault_of_origin(info, quirks);
    return fault != NULL ? fault : fault_of_use(info);
}

static void
describe_private(struct hsm_reading *reading, struct hsm_key_info *info, bool *names_curve)
{
    CK_BYTE params[EC_PARAMS_SIZE];
    size_t len = 0;

    if (hsm_object_read(reading, CKA_LABEL, info->label, HSM_LABEL_MAX, &len))
        info->label[len] = '\0';
    if (!hsm_object_read(reading, CKA_ID, info->id, sizeof(info->id), &info->id_len))
        info->id_len = 0;
    *names_curve = hsm_object_read(reading, CKA_EC_PARAMS, params, sizeof(params), &len) && len > 0;
    info->is_p256 = hsm_object_read_ulong(reading, CKA_KEY_TYPE) == CKK_EC && names_p256(reading);
    info->sensitive = hsm_object_read_bool(reading, CKA_SENSITIVE);
    info->always_sensitive = hsm_object_read_bool(reading, CKA_ALWAYS_SENSITIVE);
    info->extractable = hsm_object_read_bool(reading, CKA_EXTRACTABLE);
    info->never_extractable = hsm_object_read_bool(reading, CKA_NEVER_EXTRACTABLE);
    info->local = hsm_object_read_bool(reading, CKA_LOCAL);
    info->on_token = hsm_object_read_bool(reading, CKA_TOKEN);
    info->needs_login = hsm_object_read_bool(reading, CKA_PRIVATE);
    info->sign = hsm_object_read_bool(reading, CKA_SIGN);
    info->sign_recover = hsm_object_read_bool(reading, CKA_SIGN_RECOVER);
    info->decrypt = hsm_object_read_bool(reading, CKA_DECRYPT);
    info->unwrap = hsm_object_read_bool(reading, CKA_UNWRAP);
    info->derive = hsm_object_read_bool(reading, CKA_DERIVE);
    info->modifiable = hsm_object_read_bool(reading, CKA_MODIFIABLE);
    info->copyable = hsm_object_read_bool(reading, CKA_COPYABLE);
    info->always_authenticate = hsm_object_read_bool(reading, CKA_ALWAYS_AUTHENTICATE);
    info->gen_mechanism = hsm_object_read_ulong(reading, CKA_KEY_GEN_MECHANISM);
}

enum hsm_status
hsm_object_describe(const struct hsm_slot *slot, const struct hsm_object_pair *pair,
                    struct hsm_key_info *out)
{
    struct hsm_reading reading = {.slot = slot, .object = pair->private_object};
    struct hsm_key_info info;
    bool names_curve = false;
    enum hsm_status st;

    memset(&info, 0, sizeof(info));
    describe_private(&reading, &info, &names_curve);
    st = hsm_object_read_end(&reading);
    if (st == HSM_OK)
        st = describe_public(slot, pair->public_object, &info, names_curve);
    if (st != HSM_OK)
        return st;
    info.may_be_used = hsm_object_fault(&info, &slot->settings.quirks) == NULL && info.is_p256 &&
                       info.has_point && info.sign != 0 && info.always_authenticate != 1;
    *out = info;
    return HSM_OK;
}

/* `strict` also requests attributes that are desirable, but unknown to some modules. */
static void
public_template(struct template *t, const struct hsm_object_name *name,
                const struct hsm_quirks *quirks, bool strict)
{
    t->count = 0;
    add_bool(t, CKA_TOKEN, true);
    add_bool(t, CKA_PRIVATE, false);
    if (!quirks->bare_public)
        add_bool(t, CKA_VERIFY, true);
    add(t, CKA_EC_PARAMS, hsm_p256_params, sizeof(hsm_p256_params));
    add_name(t, name);
    if (!strict)
        return;
    add_bool(t, CKA_ENCRYPT, false);
    add_bool(t, CKA_WRAP, false);
    add_bool(t, CKA_VERIFY_RECOVER, false);
}

static void
private_template(struct template *t, const struct hsm_object_name *name, bool strict)
{
    static const CK_MECHANISM_TYPE allowed[] = {CKM_ECDSA};

    t->count = 0;
    add_bool(t, CKA_TOKEN, true);
    add_bool(t, CKA_PRIVATE, true);
    add_bool(t, CKA_SENSITIVE, true);
    add_bool(t, CKA_EXTRACTABLE, false);
    add_bool(t, CKA_SIGN, true);
    add_bool(t, CKA_SIGN_RECOVER, false);
    add_bool(t, CKA_DECRYPT, false);
    add_bool(t, CKA_UNWRAP, false);
    add_bool(t, CKA_DERIVE, false);
    add_name(t, name);
    if (!strict)
        return;
    add_bool(t, CKA_MODIFIABLE, false);
    add_bool(t, CKA_COPYABLE, false);
    add(t, CKA_ALLOWED_MECHANISMS, allowed, sizeof(allowed));
}

static bool
refuses_template(CK_RV rv)
{
    return rv == CKR_ATTRIBUTE_TYPE_INVALID || rv == CKR_ATTRIBUTE_VALUE_INVALID ||
           rv == CKR_ATTRIBUTE_READ_ONLY || rv == CKR_TEMPLATE_INCONSISTENT;
}

/* Software tokens fail now and then when another process starts or generates at the same time.
 * True: the failure may pass, and did not recur too often; some time has passed. */
static bool
is_hiccup(CK_RV rv, unsigned *hiccups)
{
    if (rv != CKR_GENERAL_ERROR || *hiccups >= GENERATE_HICCUPS)
        return false;
    ++*hiccups;
    hsm_clock_sleep_until(hsm_deadline_after(GENERATE_MS << *hiccups));
    return true;
}

/* C_GenerateKeyPair may have made a pair although it returned an error. */
static bool
is_nothing_made(const struct hsm_slot *slot, const struct hsm_object_name *name)
{
    const struct hsm_object_name by_id = {NULL, name->id, name->id_len};
    CK_OBJECT_HANDLE *found = NULL;
    size_t count = 0;
    enum hsm_status st = hsm_object_find(slot, HSM_ANY_CLASS, &by_id, &found, &count);

    free(found);
    return st == HSM_OK && count == 0;
}

static CK_RV
generate(const struct hsm_slot *slot, const struct hsm_object_name *name, bool strict,
         CK_OBJECT_HANDLE *private_key, CK_OBJECT_HANDLE *public_key)
{
    CK_MECHANISM mechanism = {CKM_EC_KEY_PAIR_GEN, NULL, 0};
    struct template public;
    struct template private;
    unsigned hiccups = 0;
    unsigned passing = 0;
    CK_RV rv;

    public_template(&public, name, &slot->settings.quirks, strict);
    private_template(&private, name, strict);
    do
        rv = functions_of(slot)->C_GenerateKeyPair(slot->control, &mechanism, public.attributes,
                                                   public.count, private.attributes, private.count,
                                                   public_key, private_key);
    while ((is_hiccup(rv, &hiccups) || is_passing(rv, &passing)) && is_nothing_made(slot, name));
    return rv;
}

enum hsm_status
hsm_object_generate(const struct hsm_slot *slot, const struct hsm_object_name *name,
                    CK_OBJECT_HANDLE *private_key, CK_OBJECT_HANDLE *public_key)
{
    bool strict = !slot->settings.quirks.plain_templates;
    CK_RV rv = generate(slot, name, strict, private_key, public_key);

    if (strict && refuses_template(rv)) {
        hsm_log(HSM_LOG_WARNING,
                "key %s: %s: asked again without CKA_MODIFIABLE, CKA_COPYABLE, "
                "CKA_ALLOWED_MECHANISMS and the uses of the public half",
                name->label, hsm_ckr_name(rv));
        rv = generate(slot, name, false, private_key, public_key);
    }
    return rv == CKR_OK ? HSM_OK : hsm_ckr_log(rv, "C_GenerateKeyPair");
}

enum hsm_status
hsm_object_destroy(const struct hsm_slot *slot, CK_OBJECT_HANDLE object)
{
    unsigned tries = 0;
    CK_RV rv;

    do
        rv = functions_of(slot)->C_DestroyObject(slot->control, object);
    while (is_passing(rv, &tries));
    /* an attempt that returned an error has succeeded; tpm2-pkcs11 reports a key handle */
    if (tries > 0 && (rv == CKR_OBJECT_HANDLE_INVALID || rv == CKR_KEY_HANDLE_INVALID))
        rv = CKR_OK;
    return rv == CKR_OK ? HSM_OK : hsm_ckr_log(rv, "C_DestroyObject");
}
