/* key.c - P-256 private keys that stay on their token. */
#define OPENSSL_SUPPRESS_DEPRECATED /* libp11's EVP_PKEY is an EC_KEY with a method of its own */
#include <hsm/key.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>

#include <hsm/defer.h>
#include <hsm/es256.h>
#include <hsm/log.h>

#include "ckr_internal.h"
#include "object_internal.h"
#include "token_internal.h"
#include "uri_internal.h"

#define KEY_ID_LEN 20 /* octets of the CKA_ID that we give */

struct hsm_key {
    struct hsm_token *token; /* borrowed */
    EVP_PKEY *pkey; /* of libp11: a handle, it holds no key octets */
    EVP_PKEY *public_key; /* in memory, no token behind it */
    CK_OBJECT_HANDLE private_object;
    CK_OBJECT_HANDLE public_object;
    struct hsm_key_info info;
    char id_hex[2 * HSM_ID_MAX + 1];
    char *uri; /* of p11_kit_uri_format() */
};

DEFINE_DEFER(EVP_PKEY, EVP_PKEY_free)
DEFINE_DEFER(EVP_PKEY_CTX, EVP_PKEY_CTX_free)
DEFINE_DEFER(P11KitUri, p11_kit_uri_free)
DEFINE_DEFER(struct hsm_uri, hsm_uri_free)
DEFINE_DEFER(struct hsm_key, hsm_key_free)

/* Which attribute is not that of a key that cannot leave; NULL if none. */
static const char *
attribute_at_fault(const struct hsm_key_info *info)
{
    if (info->sensitive != 1)
        return "CKA_SENSITIVE is not true";
    if (info->always_sensitive != 1)
        return "CKA_ALWAYS_SENSITIVE is not true";
    if (info->extractable != 0)
        return "CKA_EXTRACTABLE is not false";
    if (info->never_extractable != 1)
        return "CKA_NEVER_EXTRACTABLE is not true";
    if (info->local != 1)
        return "CKA_LOCAL is not true: it was not generated here";
    if (info->gen_mechanism != CKM_EC_KEY_PAIR_GEN)
        return "CKA_KEY_GEN_MECHANISM is not CKM_EC_KEY_PAIR_GEN";
    return NULL;
}

static enum hsm_status
check_info(const struct hsm_key_info *info)
{
    const char *fault = attribute_at_fault(info);

    if (!info->is_p256) {
        hsm_log(HSM_LOG_ERROR, "key %s: not on P-256", info->label);
        return HSM_ERR_UNSUPPORTED;
    }
    if (info->always_authenticate == 1) {
        hsm_log(HSM_LOG_ERROR, "key %s: wants the PIN each time (CKA_ALWAYS_AUTHENTICATE)",
                info->label);
        return HSM_ERR_UNSUPPORTED;
    }
    if (info->sign == 0) {
        hsm_log(HSM_LOG_ERROR, "key %s: may not sign (CKA_SIGN)", info->label);
        return HSM_ERR_UNSUPPORTED;
    }
    if (fault != NULL) {
        hsm_log(HSM_LOG_ERROR, "key %s: refused: %s", info->label, fault);
        return HSM_ERR_UNTRUSTED;
    }
    return HSM_OK;
}

/*
 * libp11 joins the halves of a pair by CKA_ID alone and takes the first that
 * it meets, so the id must be one private and one public key's.
 */
static enum hsm_status
check_pair(struct hsm_key *key)
{
    const struct hsm_object_name name = {NULL, key->info.id, key->info.id_len};
    enum hsm_status st;

    if (key->info.id_len == 0) {
        hsm_log(HSM_LOG_ERROR, "key %s: no CKA_ID to find its public half by", key->info.label);
        return HSM_ERR_NOT_FOUND;
    }
    st = hsm_object_find_one(key->token, CKO_PRIVATE_KEY, &name, &key->private_object);
    if (st == HSM_OK)
        st = hsm_object_find_one(key->token, CKO_PUBLIC_KEY, &name, &key->public_object);
    if (st == HSM_ERR_AMBIGUOUS)
        hsm_log(HSM_LOG_ERROR, "key %s: another key has its CKA_ID", key->info.label);
    if (st == HSM_ERR_NOT_FOUND || (st == HSM_OK && !key->info.has_point)) {
        hsm_log(HSM_LOG_ERROR, "key %s: its public half is not on the token", key->info.label);
        return HSM_ERR_NOT_FOUND;
    }
    return st;
}

static enum hsm_status
load_public(struct hsm_key *key)
{
    if (hsm_p256_from_point(key->info.point, sizeof(key->info.point), &key->public_key) == HSM_OK)
        return HSM_OK;
    hsm_log(HSM_LOG_ERROR, "key %s: its public half is not a point of P-256", key->info.label);
    return HSM_ERR_UNTRUSTED;
}

/* libp11 reads two of the four forms of CKA_EC_POINT; where it could not, it has ours, from the one
 * public object with this id. */
static bool
complete_point(EVP_PKEY *pkey, const uint8_t *point)
{
    EC_KEY *ec = (EC_KEY *)EVP_PKEY_get0_EC_KEY(pkey);

    if (ec == NULL)
        return false;
    return EC_KEY_get0_public_key(ec) != NULL ||
           EC_KEY_oct2key(ec, point, HSM_P256_POINT_LEN, NULL) == 1;
}

/* True, and the key has its EVP_PKEY, if this object of libp11's list has the id and the public
 * half. An object that was destroyed stays on the list and fails here. */
static bool
adopt(struct hsm_key *key, PKCS11_KEY *listed)
{
    DEFER(EVP_PKEY_free) EVP_PKEY *pkey = NULL;
    uint8_t point[HSM_P256_POINT_LEN];

    if (listed->id_len != key->info.id_len ||
        memcmp(listed->id, key->info.id, key->info.id_len) != 0)
        return false;
    pkey = PKCS11_get_private_key(listed);
    if (pkey == NULL || !complete_point(pkey, key->info.point))
        return false;
    if (hsm_p256_point(pkey, point) != HSM_OK || memcmp(point, key->info.point, sizeof(point)) != 0)
        return false;
    key->pkey = pkey;
    pkey = NULL;
    return true;
}

static enum hsm_status
load_pkey(struct hsm_key *key)
{
    PKCS11_KEY *listed = NULL;
    unsigned count = 0;

    if (PKCS11_enumerate_keys(key->token->slot->p11->token, &listed, &count) != 0)
        return hsm_ckr_log(hsm_ckr_from_libp11(), "keys");
    for (unsigned i = 0; i < count && key->pkey == NULL; i++)
        (void)adopt(key, &listed[i]);
    ERR_clear_error();
    if (key->pkey != NULL)
        return HSM_OK;
    hsm_log(HSM_LOG_ERROR, "key %s: libp11 and the token disagree about its public half",
            key->info.label);
    return HSM_ERR_UNTRUSTED;
}

static enum hsm_status
format_uri(struct hsm_key *key)
{
    DEFER(p11_kit_uri_free) P11KitUri *uri = p11_kit_uri_new();
    CK_OBJECT_CLASS class = CKO_PRIVATE_KEY;
    CK_ATTRIBUTE attributes[] = {
        {CKA_CLASS, &class, sizeof(class)},
        {CKA_ID, key->info.id, key->info.id_len},
        {CKA_LABEL, key->info.label, strlen(key->info.label)},
    };
    CK_ULONG count = key->info.label[0] != '\0' ? 3 : 2; /* an empty one matches only empty ones */
    CK_TOKEN_INFO *token;

    if (uri == NULL)
        return HSM_ERR_NOMEM;
    token = p11_kit_uri_get_token_info(uri);
    memcpy(token->label, key->token->raw.label, sizeof(token->label));
    if (p11_kit_uri_set_attributes(uri, attributes, count) != P11_KIT_URI_OK ||
        p11_kit_uri_format(uri, P11_KIT_URI_FOR_OBJECT_ON_TOKEN, &key->uri) != P11_KIT_URI_OK)
        return HSM_ERR_NOMEM;
    return HSM_OK;
}

static void
format_id(struct hsm_key *key)
{
    for (size_t i = 0; i < key->info.id_len; i++)
        snprintf(key->id_hex + 2 * i, 3, "%02x", key->info.id[i]);
}

/* All that is asked of a key before its first use; inside the admin gate. */
static enum hsm_status
load_object(struct hsm_key *key, CK_OBJECT_HANDLE object)
{
    enum hsm_status st = hsm_object_describe(key->token, object, &key->info);

    if (st == HSM_OK)
        st = check_info(&key->info);
    if (st == HSM_OK)
        st = check_pair(key);
    if (st == HSM_OK)
        st = load_public(key);
    if (st == HSM_OK)
        st = load_pkey(key);
    if (st == HSM_OK)
        st = format_uri(key);
    if (st == HSM_OK)
        format_id(key);
    return st;
}

static struct hsm_key *
key_new(struct hsm_token *token)
{
    struct hsm_key *key = calloc(1, sizeof(*key));

    if (key != NULL)
        key->token = token;
    return key;
}

/* NOT_FOUND and AMBIGUOUS of the private object itself are for the caller to log. */
static enum hsm_status
find_named(struct hsm_token *token, const struct hsm_object_name *name, struct hsm_key **out)
{
    DEFER(hsm_key_free) struct hsm_key *key = key_new(token);
    CK_OBJECT_HANDLE object = 0;
    enum hsm_status st;

    if (key == NULL)
        return HSM_ERR_NOMEM;
    st = hsm_token_admin_enter(token);
    if (st != HSM_OK)
        return st;
    st = hsm_object_find_one(token, CKO_PRIVATE_KEY, name, &object);
    if (st == HSM_OK)
        st = load_object(key, object);
    hsm_token_admin_leave(token);
    if (st != HSM_OK)
        return st;
    *out = key;
    key = NULL;
    return HSM_OK;
}

static void
log_not_one(const struct hsm_token *token, const char *label, enum hsm_status status)
{
    if (status == HSM_ERR_NOT_FOUND || status == HSM_ERR_AMBIGUOUS)
        hsm_log(HSM_LOG_ERROR, "key %s: %s on token %s", label != NULL ? label : "(by id)",
                hsm_status_text(status), token->info.label);
}

static enum hsm_status
usage(const char *why)
{
    hsm_log(HSM_LOG_ERROR, "PKCS#11 URI of a key: %s", why);
    return HSM_ERR_USAGE;
}

/* The URI must name an object, a private key, and if it names a token, this one. */
static enum hsm_status
check_key_uri(const struct hsm_token *token, const struct hsm_uri *uri)
{
    const char *type = hsm_uri_get(uri, "type");
    size_t id_len = 0;

    if (hsm_uri_get(uri, "pin-value") != NULL)
        return usage("pin-value is refused: name a pin-source");
    if (hsm_uri_get(uri, "object") == NULL && hsm_uri_id(uri, &id_len) == NULL)
        return usage("neither object nor id");
    if (type != NULL && strcmp(type, "private") != 0)
        return usage("type is not private");
    if (hsm_uri_matches_nothing(uri) ||
        p11_kit_uri_match_token_info(hsm_uri_p11(uri), &token->raw) != 1)
        return HSM_ERR_NOT_FOUND;
    return HSM_OK;
}

enum hsm_status
hsm_key_find(struct hsm_token *token, const char *text, struct hsm_key **out)
{
    DEFER(hsm_uri_free) struct hsm_uri *uri = NULL;
    struct hsm_reason why = {""};
    struct hsm_object_name name;
    enum hsm_status st = hsm_uri_parse(text, &uri, &why);

    if (st != HSM_OK) {
        hsm_log(HSM_LOG_ERROR, "%s", why.text);
        return st;
    }
    name.label = hsm_uri_get(uri, "object");
    name.id = hsm_uri_id(uri, &name.id_len);
    st = check_key_uri(token, uri);
    if (st == HSM_OK)
        st = find_named(token, &name, out);
    log_not_one(token, name.label, st);
    return st;
}

static bool
is_label(const char *label)
{
    size_t len = strnlen(label, HSM_LABEL_MAX + 1);

    if (len == 0 || len > HSM_LABEL_MAX)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (label[i] < 0x20 || label[i] > 0x7e)
            return false;
    }
    return true;
}

/* What was asked for beyond what keeps a key in; -1 (not told) is the module's choice. */
static enum hsm_status
check_as_asked(const struct hsm_key_info *info)
{
    if (info->sign == 1 && info->decrypt != 1 && info->unwrap != 1 && info->derive != 1)
        return HSM_OK;
    hsm_log(HSM_LOG_ERROR, "key %s: the token gave it other uses than were asked for", info->label);
    return HSM_ERR_UNTRUSTED;
}

static void
destroy_half_made(const struct hsm_token *token, CK_OBJECT_HANDLE private_object,
                  CK_OBJECT_HANDLE public_object, const char *label)
{
    enum hsm_status private_st = hsm_object_destroy(token, private_object);
    enum hsm_status public_st = hsm_object_destroy(token, public_object);

    hsm_log(HSM_LOG_ERROR, "key %s: not as asked: %s", label,
            private_st == HSM_OK && public_st == HSM_OK ? "destroyed" : "and not destroyed either");
}

/* Inside the admin gate. */
static enum hsm_status
generate_pair(struct hsm_key *key, const char *label)
{
    const struct hsm_object_name by_label = {label, NULL, 0};
    struct hsm_token *token = key->token;
    struct hsm_object_name name = {label, key->info.id, KEY_ID_LEN};
    CK_OBJECT_HANDLE private_object = 0;
    CK_OBJECT_HANDLE public_object = 0;
    enum hsm_status st = hsm_object_find_one(token, CKO_PRIVATE_KEY, &by_label, &private_object);
    CK_RV rv;

    if (st == HSM_OK || st == HSM_ERR_AMBIGUOUS)
        return HSM_ERR_EXISTS;
    if (st != HSM_ERR_NOT_FOUND)
        return st;
    rv = hsm_module_functions(token->module)
             ->C_GenerateRandom(token->slot->control, key->info.id, KEY_ID_LEN);
    if (rv != CKR_OK)
        return hsm_ckr_log(rv, "C_GenerateRandom");
    st = hsm_object_generate(token, &name, &private_object, &public_object);
    if (st != HSM_OK)
        return st;
    st = load_object(key, private_object);
    if (st == HSM_OK)
        st = check_as_asked(&key->info);
    if (st != HSM_OK)
        destroy_half_made(token, private_object, public_object, label);
    return st;
}

/* A pair that does not sign is worth nothing. */
static enum hsm_status
try_out(struct hsm_key *key)
{
    static const char message[] = "the first signature of a new key";
    uint8_t sig[HSM_P256_SIG_LEN];
    enum hsm_status st = hsm_key_sign_verified(key, message, strlen(message), sig);

    if (st != HSM_OK && hsm_key_destroy(key) == HSM_OK)
        hsm_log(HSM_LOG_ERROR, "key %s: does not sign: destroyed", key->info.label);
    return st;
}

/* EXISTS is for the caller to log. */
static enum hsm_status
generate_new(struct hsm_token *token, const char *label, struct hsm_key **out)
{
    DEFER(hsm_key_free) struct hsm_key *key = NULL;
    enum hsm_status st;

    if (!is_label(label)) {
        hsm_log(HSM_LOG_ERROR, "a key's label has 1 to %d characters of ASCII", HSM_LABEL_MAX);
        return HSM_ERR_USAGE;
    }
    key = key_new(token);
    if (key == NULL)
        return HSM_ERR_NOMEM;
    st = hsm_token_admin_enter(token);
    if (st != HSM_OK)
        return st;
    st = generate_pair(key, label);
    hsm_token_admin_leave(token);
    if (st == HSM_OK)
        st = try_out(key);
    if (st != HSM_OK)
        return st;
    *out = key;
    key = NULL;
    return HSM_OK;
}

enum hsm_status
hsm_key_generate(struct hsm_token *token, const char *label, struct hsm_key **out)
{
    enum hsm_status st = generate_new(token, label, out);

    if (st == HSM_ERR_EXISTS)
        hsm_log(HSM_LOG_ERROR, "key %s: exists already on token %s", label, token->info.label);
    return st;
}

enum hsm_status
hsm_key_find_or_generate(struct hsm_token *token, const char *label, struct hsm_key **out)
{
    const struct hsm_object_name name = {label, NULL, 0};
    enum hsm_status st = find_named(token, &name, out);

    if (st == HSM_ERR_NOT_FOUND)
        st = generate_new(token, label, out);
    if (st == HSM_ERR_EXISTS)
        st = find_named(token, &name, out); /* another process was faster */
    log_not_one(token, label, st);
    return st;
}

enum hsm_status
hsm_key_destroy(struct hsm_key *key)
{
    enum hsm_status st = hsm_token_admin_enter(key->token);
    enum hsm_status public_st;

    if (st != HSM_OK)
        return st;
    st = hsm_object_destroy(key->token, key->private_object);
    public_st = hsm_object_destroy(key->token, key->public_object);
    hsm_token_admin_leave(key->token);
    return st != HSM_OK ? st : public_st;
}

EVP_PKEY *
hsm_key_public(const struct hsm_key *key)
{
    return key->public_key;
}

const uint8_t *
hsm_key_point(const struct hsm_key *key)
{
    return key->info.point;
}

const char *
hsm_key_label(const struct hsm_key *key)
{
    return key->info.label;
}

const char *
hsm_key_id(const struct hsm_key *key)
{
    return key->id_hex;
}

const char *
hsm_key_uri(const struct hsm_key *key)
{
    return key->uri;
}

/* C_SignInit and C_Sign of CKM_ECDSA, on a session of libp11's pool. */
static enum hsm_status
sign_der(const struct hsm_key *key, const uint8_t *digest, uint8_t *der, size_t *der_len)
{
    DEFER(EVP_PKEY_CTX_free) EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key->pkey, NULL);

    if (ctx == NULL)
        return HSM_ERR_NOMEM;
    if (EVP_PKEY_sign_init(ctx) == 1 &&
        EVP_PKEY_sign(ctx, der, der_len, digest, HSM_SHA256_LEN) == 1)
        return HSM_OK;
    return hsm_ckr_log(hsm_ckr_from_libp11(), key->info.label);
}

enum hsm_status
hsm_key_sign_digest(struct hsm_key *key, const uint8_t *digest, uint8_t *sig)
{
    struct hsm_gate *gate = &key->token->slot->signing;
    uint8_t der[HSM_P256_DER_SIG_MAX];
    size_t der_len = sizeof(der);
    enum hsm_status st = hsm_token_check(key->token);

    if (st != HSM_OK)
        return st;
    if (!hsm_gate_enter(gate, HSM_SIGN_WAIT_MS)) {
        hsm_log(HSM_LOG_ERROR, "key %s: the token did not answer in time", key->info.label);
        return HSM_ERR_BUSY;
    }
    st = sign_der(key, digest, der, &der_len);
    hsm_gate_leave(gate);
    if (st != HSM_OK)
        return st;
    if (hsm_es256_from_der(der, der_len, sig) == HSM_OK)
        return HSM_OK;
    hsm_log(HSM_LOG_ERROR, "key %s: what the token answered is no signature", key->info.label);
    return HSM_ERR_CRYPTO;
}

enum hsm_status
hsm_key_sign(struct hsm_key *key, const void *message, size_t len, uint8_t *sig)
{
    uint8_t digest[HSM_SHA256_LEN];

    if (EVP_Digest(message, len, digest, NULL, EVP_sha256(), NULL) != 1) {
        ERR_clear_error();
        return HSM_ERR_CRYPTO;
    }
    return hsm_key_sign_digest(key, digest, sig);
}

enum hsm_status
hsm_key_sign_verified(struct hsm_key *key, const void *message, size_t len, uint8_t *sig)
{
    uint8_t made[HSM_P256_SIG_LEN];
    enum hsm_status st = hsm_key_sign(key, message, len, made);

    if (st != HSM_OK)
        return st;
    if (hsm_es256_verify(key->public_key, message, len, made, sizeof(made)) != HSM_OK) {
        hsm_log(HSM_LOG_ERROR, "key %s: the token's signature does not verify", key->info.label);
        return HSM_ERR_CRYPTO;
    }
    memcpy(sig, made, sizeof(made));
    return HSM_OK;
}

EVP_PKEY *
hsm_key_pkey(const struct hsm_key *key)
{
    return key->pkey;
}

bool
hsm_key_matches(const struct hsm_key *key, EVP_PKEY *public_key)
{
    uint8_t point[HSM_P256_POINT_LEN];

    return hsm_p256_point(public_key, point) == HSM_OK &&
           memcmp(point, key->info.point, sizeof(point)) == 0;
}

/* In the child of a fork() libp11's part stays: to release it would speak to the parent's module.
 */
void
hsm_key_free(struct hsm_key *key)
{
    if (key == NULL)
        return;
    if (key->token->generation == hsm_fork_generation())
        EVP_PKEY_free(key->pkey);
    EVP_PKEY_free(key->public_key);
    free(key->uri);
    free(key);
}

static enum hsm_status
describe_all(const struct hsm_token *token, const CK_OBJECT_HANDLE *objects, size_t count,
             struct hsm_key_info *out)
{
    enum hsm_status st = HSM_OK;

    for (size_t i = 0; st == HSM_OK && i < count; i++)
        st = hsm_object_describe(token, objects[i], &out[i]);
    return st;
}

enum hsm_status
hsm_key_list(struct hsm_token *token, struct hsm_key_info **out, size_t *count)
{
    const struct hsm_object_name any = {NULL, NULL, 0};
    CK_OBJECT_HANDLE *objects = NULL;
    struct hsm_key_info *infos = NULL;
    size_t n = 0;
    enum hsm_status st = hsm_token_admin_enter(token);

    if (st != HSM_OK)
        return st;
    st = hsm_object_find(token, CKO_PRIVATE_KEY, &any, &objects, &n);
    if (st == HSM_OK) {
        infos = calloc(n + 1, sizeof(*infos));
        st = infos != NULL ? describe_all(token, objects, n, infos) : HSM_ERR_NOMEM;
    }
    hsm_token_admin_leave(token);
    free(objects);
    if (st != HSM_OK) {
        free(infos);
        return st;
    }
    *out = infos;
    *count = n;
    return HSM_OK;
}
