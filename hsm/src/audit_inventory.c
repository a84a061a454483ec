/* audit_inventory.c - inventory: module, slot, token, mechanisms, objects. */
#include "audit_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <p11-kit/uri.h>

#include <hsm/defer.h>
#include <hsm/es256.h>
#include <hsm/log.h>

#include "ckr_internal.h"
#include "defer_internal.h"
#include "uri_internal.h"

#define MECHANISMS_MAX  4096 /* per token; more: HSM_ERR_UNSUPPORTED */
#define CERTIFICATE_MAX 65536 /* octets of CKA_VALUE */
#define FILE_CHUNK      65536 /* octets of a module that are hashed at once */

static const CK_FUNCTION_LIST *
functions_of(const struct hsm_audit_scene *scene)
{
    return hsm_module_functions(scene->slot->module);
}

/* Texts in CK_INFO and other structs are padded with blanks. */
static json_t *
padded(const CK_UTF8CHAR *text, size_t len)
{
    while (len > 0 && (text[len - 1] == ' ' || text[len - 1] == '\0'))
        len--;
    return hsm_audit_text(text, len);
}

#define PADDED(member) padded((member), sizeof(member))

static json_t *
version(CK_VERSION version)
{
    char text[16];

    snprintf(text, sizeof(text), "%u.%u", version.major, version.minor);
    return json_string(text);
}

/* ---- module ---- */

static bool
hash_rest(int fd, EVP_MD_CTX *ctx, uint64_t *size)
{
    uint8_t chunk[FILE_CHUNK];
    ssize_t n;

    *size = 0;
    while ((n = read(fd, chunk, sizeof(chunk))) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 || EVP_DigestUpdate(ctx, chunk, (size_t)n) != 1)
            return false;
        *size += (uint64_t)n;
    }
    return true;
}

/* The file of that name may have been replaced since the module was loaded. */
static enum hsm_status
hash_file(const char *path, uint8_t *digest, uint64_t *size)
{
    DEFER(EVP_MD_CTX_free) EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    unsigned len = 0;
    bool good;

    if (fd < 0) {
        hsm_log(HSM_LOG_ERROR, "%s: %s", path, strerror(errno));
        return HSM_ERR_IO;
    }
    good = ctx != NULL && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1 &&
           hash_rest(fd, ctx, size) && EVP_DigestFinal_ex(ctx, digest, &len) == 1;
    close(fd);
    return good ? HSM_OK : HSM_ERR_IO;
}

static json_t *
module_json(struct hsm_audit_scene *scene)
{
    const CK_INFO *info = hsm_module_info(scene->slot->module);
    const char *path = hsm_module_path(scene->slot->module);
    uint8_t digest[HSM_SHA256_LEN];
    uint64_t size = 0;

    if (!hsm_audit_keep(scene->audit, hash_file(path, digest, &size)))
        return NULL;
    return hsm_audit_pack(
        scene->audit, "{s:o, s:I, s:o, s:o, s:o, s:o, s:o}", "path",
        hsm_audit_text(path, strlen(path)), "size", (json_int_t)size, "sha256",
        hsm_audit_hex(digest, sizeof(digest)), "manufacturer", PADDED(info->manufacturerID),
        "description", PADDED(info->libraryDescription), "version", version(info->libraryVersion),
        "cryptoki", version(info->cryptokiVersion));
}

/* ---- slot, token, session ---- */

static json_t *
slot_json(struct hsm_audit_scene *scene)
{
    CK_SLOT_INFO info;
    CK_RV rv = functions_of(scene)->C_GetSlotInfo(scene->slot->id, &info);

    if (rv != CKR_OK) {
        (void)hsm_audit_keep(scene->audit, hsm_ckr_log(rv, "C_GetSlotInfo"));
        return NULL;
    }
    return hsm_audit_pack(scene->audit, "{s:I, s:o, s:o, s:o, s:o, s:b, s:b}", "id",
                          (json_int_t)scene->slot->id, "description", PADDED(info.slotDescription),
                          "manufacturer", PADDED(info.manufacturerID), "hardware",
                          version(info.hardwareVersion), "firmware", version(info.firmwareVersion),
                          "hardware_slot", (info.flags & CKF_HW_SLOT) != 0, "removable",
                          (info.flags & CKF_REMOVABLE_DEVICE) != 0);
}

static json_t *
token_json(struct hsm_audit_scene *scene)
{
    CK_TOKEN_INFO info;
    CK_RV rv = functions_of(scene)->C_GetTokenInfo(scene->slot->id, &info);

    if (rv != CKR_OK) {
        (void)hsm_audit_keep(scene->audit, hsm_ckr_log(rv, "C_GetTokenInfo"));
        return NULL;
    }
    return hsm_audit_pack(scene->audit, "{s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "label",
                          PADDED(info.label), "manufacturer", PADDED(info.manufacturerID), "model",
                          PADDED(info.model), "serial", PADDED(info.serialNumber), "hardware",
                          version(info.hardwareVersion), "firmware", version(info.firmwareVersion),
                          "flags", hsm_audit_token_flags(info.flags));
}

/* States the state of the control session; returns its name for the inventory. */
static json_t *
session_json(struct hsm_audit_scene *scene)
{
    CK_SESSION_INFO info;
    const char *name;
    CK_RV rv = functions_of(scene)->C_GetSessionInfo(scene->slot->control, &info);

    if (rv != CKR_OK) {
        (void)hsm_audit_keep(scene->audit, hsm_ckr_log(rv, "C_GetSessionInfo"));
        return NULL;
    }
    name = hsm_audit_state_name(info.state);
    hsm_audit_state(
        scene->audit,
        &(struct hsm_audit_statement){
            .check = HSM_CHECK_LOGIN,
            .subject = scene->uri,
            .found = name != NULL ? name : "another state",
            .evidence = hsm_audit_pack(scene->audit, "{s:s, s:s, s:I}", "call", "C_GetSessionInfo",
                                       "rv", "CKR_OK", "state", (json_int_t)info.state),
            .verdict = HSM_AUDIT_INFO,
        });
    return json_string(name != NULL ? name : "another state");
}

/* ---- mechanisms ---- */

static enum hsm_status
list_mechanisms(struct hsm_audit_scene *scene)
{
    const CK_FUNCTION_LIST *functions = functions_of(scene);
    CK_ULONG count = 0;
    CK_RV rv;

    if (functions->C_GetMechanismList == NULL)
        return HSM_ERR_UNSUPPORTED;
    rv = functions->C_GetMechanismList(scene->slot->id, NULL, &count);
    if (rv != CKR_OK)
        return hsm_ckr_log(rv, "C_GetMechanismList");
    if (count > MECHANISMS_MAX)
        return HSM_ERR_UNSUPPORTED;
    scene->mechanisms = calloc(count + 1, sizeof(*scene->mechanisms));
    if (scene->mechanisms == NULL)
        return HSM_ERR_NOMEM;
    rv = functions->C_GetMechanismList(scene->slot->id, scene->mechanisms, &count);
    if (rv != CKR_OK)
        return hsm_ckr_log(rv, "C_GetMechanismList");
    scene->mechanism_count = count;
    return HSM_OK;
}

static json_t *
mechanism_json(struct hsm_audit_scene *scene, CK_MECHANISM_TYPE type)
{
    CK_MECHANISM_INFO info = {0, 0, 0};
    CK_RV rv = functions_of(scene)->C_GetMechanismInfo(scene->slot->id, type, &info);

    return hsm_audit_pack(scene->audit, "{s:o, s:s, s:I, s:I, s:o}", "mechanism",
                          hsm_audit_mechanism(type), "rv", hsm_ckr_name(rv), "min",
                          (json_int_t)info.ulMinKeySize, "max", (json_int_t)info.ulMaxKeySize,
                          "flags", hsm_audit_mechanism_flags(rv == CKR_OK ? info.flags : 0));
}

static json_t *
mechanisms_json(struct hsm_audit_scene *scene)
{
    json_t *all = json_array();

    if (!hsm_audit_keep(scene->audit, all != NULL ? list_mechanisms(scene) : HSM_ERR_NOMEM))
        return all;
    for (CK_ULONG i = 0; i < scene->mechanism_count; i++) {
        if (json_array_append_new(all, mechanism_json(scene, scene->mechanisms[i])) != 0)
            (void)hsm_audit_keep(scene->audit, HSM_ERR_NOMEM);
    }
    return all;
}

/* ---- objects ---- */

static enum hsm_status
format_uri(const struct hsm_audit_scene *scene, const struct hsm_audit_object *object, char **out)
{
    DEFER(p11_kit_uri_free) P11KitUri *uri = p11_kit_uri_new();
    CK_OBJECT_CLASS class = object != NULL ? object->class : 0;
    struct hsm_audit_object name = object != NULL ? *object : (struct hsm_audit_object){0};
    CK_ATTRIBUTE attributes[] = {
        {CKA_CLASS, &class, sizeof(class)},
        {CKA_ID, name.id, name.id_len},
        {CKA_LABEL, name.label, strlen(name.label)},
    };
    CK_TOKEN_INFO *token = uri != NULL ? p11_kit_uri_get_token_info(uri) : NULL;

    if (uri == NULL)
        return HSM_ERR_NOMEM;
    memcpy(token->label, scene->token->raw.label, sizeof(token->label));
    memcpy(token->serialNumber, scene->token->raw.serialNumber, sizeof(token->serialNumber));
    for (size_t i = 0; object != NULL && i < 3; i++) {
        if (attributes[i].ulValueLen > 0 &&
            p11_kit_uri_set_attribute(uri, &attributes[i]) != P11_KIT_URI_OK)
            return HSM_ERR_NOMEM;
    }
    return p11_kit_uri_format(uri, P11_KIT_URI_FOR_OBJECT_ON_TOKEN, out) == P11_KIT_URI_OK
               ? HSM_OK
               : HSM_ERR_NOMEM;
}

/* Reads a certificate object: the certificate, and its public key. */
static enum hsm_status
read_certificate(struct hsm_reading *reading, struct hsm_audit_object *object)
{
    uint8_t *der = malloc(CERTIFICATE_MAX);
    const uint8_t *at = der;
    size_t len = 0;

    if (der == NULL)
        return HSM_ERR_NOMEM;
    if (hsm_object_read(reading, CKA_VALUE, der, CERTIFICATE_MAX, &len))
        object->certificate = d2i_X509(NULL, &at, (long)len);
    free(der);
    if (object->certificate != NULL)
        object->public_key = X509_get_pubkey(object->certificate);
    return HSM_OK;
}

static enum hsm_status
read_object(const struct hsm_audit_scene *scene, CK_OBJECT_HANDLE handle,
            struct hsm_audit_object *object)
{
    struct hsm_reading reading = {.slot = scene->slot, .object = handle};
    enum hsm_status st = HSM_OK;
    size_t len = 0;

    object->handle = handle;
    object->class = hsm_object_read_ulong(&reading, CKA_CLASS);
    if (hsm_object_read(&reading, CKA_LABEL, object->label, HSM_LABEL_MAX, &len))
        object->label[len] = '\0';
    if (!hsm_object_read(&reading, CKA_ID, object->id, sizeof(object->id), &object->id_len))
        object->id_len = 0;
    if (object->class == CKO_CERTIFICATE)
        st = read_certificate(&reading, object);
    if (st == HSM_OK)
        st = hsm_object_read_end(&reading);
    return st == HSM_OK ? format_uri(scene, object, &object->uri) : st;
}

static enum hsm_status
read_objects(struct hsm_audit_scene *scene)
{
    const struct hsm_object_name any = {NULL, NULL, 0};
    CK_OBJECT_HANDLE *handles = NULL;
    size_t count = 0;
    enum hsm_status st = hsm_object_find(scene->slot, HSM_ANY_CLASS, &any, &handles, &count);

    if (st != HSM_OK)
        return st;
    scene->objects = calloc(count + 1, sizeof(*scene->objects));
    if (scene->objects == NULL)
        st = HSM_ERR_NOMEM;
    for (size_t i = 0; st == HSM_OK && i < count; i++) {
        st = read_object(scene, handles[i], &scene->objects[i]);
        scene->object_count = i + 1;
    }
    free(handles);
    return st;
}

static json_t *
object_json(struct hsm_audit *audit, const struct hsm_audit_object *object)
{
    const char *class = hsm_audit_class_name(object->class);

    return hsm_audit_pack(audit, "{s:s, s:s, s:o, s:o}", "class",
                          class != NULL ? class : "another class", "uri", object->uri, "label",
                          hsm_audit_text(object->label, strlen(object->label)), "id",
                          hsm_audit_hex(object->id, object->id_len));
}

/* Objects other than key pairs and certificates are not part of this system. Wrapping keys are
 * stated elsewhere. */
static void
state_unknown(struct hsm_audit_scene *scene, const struct hsm_audit_object *object)
{
    const char *class = hsm_audit_class_name(object->class);

    if (object->class == CKO_PRIVATE_KEY || object->class == CKO_PUBLIC_KEY ||
        object->class == CKO_CERTIFICATE)
        return;
    hsm_audit_state(scene->audit, &(struct hsm_audit_statement){
                                      .check = HSM_CHECK_OBJECT_UNKNOWN,
                                      .subject = object->uri,
                                      .found = class != NULL ? class : "an object of another class",
                                      .evidence = object_json(scene->audit, object),
                                      .verdict = HSM_AUDIT_INFO,
                                  });
}

static json_t *
objects_json(struct hsm_audit_scene *scene)
{
    json_t *all = json_array();

    if (!hsm_audit_keep(scene->audit, all != NULL ? read_objects(scene) : HSM_ERR_NOMEM))
        return all;
    for (size_t i = 0; i < scene->object_count; i++) {
        if (json_array_append_new(all, object_json(scene->audit, &scene->objects[i])) != 0)
            (void)hsm_audit_keep(scene->audit, HSM_ERR_NOMEM);
        state_unknown(scene, &scene->objects[i]);
    }
    return all;
}

/* ---- the whole inventory ---- */

static void
state_module(struct hsm_audit_scene *scene, json_t *module)
{
    const char *hash = json_string_value(json_object_get(module, "sha256"));
    char found[128];

    snprintf(found, sizeof(found), "SHA-256 %s", hash != NULL ? hash : "not known");
    hsm_audit_state(scene->audit, &(struct hsm_audit_statement){
                                      .check = HSM_CHECK_MODULE,
                                      .subject = scene->uri,
                                      .found = found,
                                      .evidence = json_incref(module),
                                      .verdict = HSM_AUDIT_INFO,
                                  });
}

enum hsm_status
hsm_audit_inventory(struct hsm_audit_scene *scene)
{
    struct hsm_audit *audit = scene->audit;
    json_t *module = NULL;
    json_t *token;

    if (!hsm_audit_keep(audit, format_uri(scene, NULL, &scene->uri)))
        return audit->failure;
    module = module_json(scene);
    token = hsm_audit_pack(audit, "{s:s, s:o, s:o, s:o, s:o, s:o, s:o}", "uri", scene->uri,
                           "module", module, "slot", slot_json(scene), "token", token_json(scene),
                           "session", session_json(scene), "mechanisms", mechanisms_json(scene),
                           "objects", objects_json(scene));
    if (token == NULL || json_array_append_new(audit->tokens, token) != 0)
        (void)hsm_audit_keep(audit, HSM_ERR_NOMEM);
    else
        state_module(scene, module);
    return audit->failure;
}

void
hsm_audit_scene_release(struct hsm_audit_scene *scene)
{
    for (size_t i = 0; i < scene->object_count; i++) {
        free(scene->objects[i].uri);
        EVP_PKEY_free(scene->objects[i].public_key);
        X509_free(scene->objects[i].certificate);
    }
    free(scene->objects);
    free(scene->keys);
    free(scene->mechanisms);
    free(scene->uri);
}
