/* key.c - P-256 private keys that stay on their token. */
#include <hsm/key.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/rand.h>

#include <hsm/defer.h>
#include <hsm/es256.h>
#include <hsm/hex.h>
#include <hsm/log.h>
#include <hsm/use.h>

#include "ckr_internal.h"
#include "clock_internal.h"
#include "defer_internal.h"
#include "es256_internal.h"
#include "journal_internal.h"
#include "key_internal.h"
#include "lane_internal.h"
#include "object_internal.h"
#include "signer_internal.h"
#include "token_internal.h"
#include "uri_internal.h"

#define FIND_TRIES     3 /* when the token is lost during the search */
#define GENERATE_TRIES 8 /* when others generate a key of the same label at the same time */
#define ID_TRIES       16 /* random CKA_IDs, until one is free */
#define GENERATE_MS    4 /* bounds the first random pause between tries; doubled each time */

/* A caller's handle of a signer. */
struct hsm_key {
    struct hsm_token *token; /* borrowed */
    struct hsm_signer *signer; /* with a reference */
    EVP_PKEY *pkey; /* lent by the signer: a handle, it holds no key octets */
    char id_hex[2 * HSM_ID_MAX + 1];
    char *uri; /* from p11_kit_uri_format() */
};

static enum hsm_status
check_info(const struct hsm_key_info *info, const struct hsm_quirks *quirks)
{
    const char *fault = hsm_object_fault(info, quirks);

    if (!info->is_p256) {
        hsm_log(HSM_LOG_ERROR, "key %s: not on P-256", info->label);
        return HSM_ERR_UNSUPPORTED;
    }
    if (info->always_authenticate == 1) {
        hsm_log(HSM_LOG_ERROR,
                "key %s: requires the PIN for each signature (CKA_ALWAYS_AUTHENTICATE)",
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

static enum hsm_status
load_public(const struct hsm_key_info *info, EVP_PKEY **out)
{
    if (hsm_p256_from_point(info->point, sizeof(info->point), out) == HSM_OK)
        return HSM_OK;
    hsm_log(HSM_LOG_ERROR, "key %s: its public half is not a point of P-256", info->label);
    return HSM_ERR_UNTRUSTED;
}

static enum hsm_status
format_uri(struct hsm_key *key)
{
    DEFER(p11_kit_uri_free) P11KitUri *uri = p11_kit_uri_new();
    CK_OBJECT_CLASS class = CKO_PRIVATE_KEY;
    struct hsm_key_info *info = &key->signer->info; /* CK_ATTRIBUTE takes no const */
    CK_ATTRIBUTE attributes[] = {
        {CKA_CLASS, &class, sizeof(class)},
        {CKA_ID, info->id, info->id_len},
        {CKA_LABEL, info->label, strlen(info->label)},
    };
    CK_ULONG count = info->label[0] != '\0' ? 3 : 2; /* an empty one matches only empty ones */
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
    const struct hsm_key_info *info = &key->signer->info;

    hsm_hex_put(info->id, info->id_len, key->id_hex);
}

/* The checks that every key must pass before its first use; inside the admin gate. */
static enum hsm_status
load_pair(struct hsm_key *key, const struct hsm_object_pair *pair)
{
    struct hsm_slot *slot = key->token->slot;
    DEFER(EVP_PKEY_free) EVP_PKEY *public_key = NULL;
    struct hsm_key_info info;
    enum hsm_status st = hsm_object_describe(slot, pair, &info);

    if (st == HSM_OK)
        st = check_info(&info, &slot->settings.quirks);
    if (st == HSM_OK && !info.has_point) {
        hsm_log(HSM_LOG_ERROR, "key %s: its public half is not on the token", info.label);
        st = HSM_ERR_NOT_FOUND;
    }
    if (st == HSM_OK)
        st = load_public(&info, &public_key);
    if (st == HSM_OK)
        st = hsm_signer_new(slot, &info, pair->private_object, pair->public_object, public_key,
                            &key->signer);
    if (st != HSM_OK)
        return st;
    public_key = NULL; /* the signer's */
    st = hsm_lane_lend(key->signer, &key->pkey);
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

/* Only the id joins the halves of a pair, so exactly one private and one public key may have it. */
static enum hsm_status
find_pair(const struct hsm_slot *slot, const struct hsm_object_name *name,
          struct hsm_object_pair *out)
{
    struct hsm_object_name by_id = *name;
    CK_OBJECT_HANDLE object = 0;
    uint8_t id[HSM_ID_MAX];
    enum hsm_status st = HSM_OK;

    if (name->id == NULL) {
        st = hsm_object_find_one(slot, CKO_PRIVATE_KEY, name, &object);
        if (st != HSM_OK)
            return st;
        st = hsm_object_id(slot, object, id, &by_id.id_len);
        by_id.id = id;
        if (st == HSM_ERR_NOT_FOUND)
            hsm_log(HSM_LOG_ERROR, "key %s: no CKA_ID to find its public half by", name->label);
    }
    if (st == HSM_OK)
        st = hsm_object_find_pair(slot, &by_id, out);
    if (st == HSM_ERR_AMBIGUOUS && name->id == NULL)
        hsm_log(HSM_LOG_ERROR, "key %s: another key has its CKA_ID", name->label);
    return st;
}

/* *again is true if the token was lost meanwhile. */
static enum hsm_status
find_once(struct hsm_key *key, const struct hsm_object_name *name, bool *again)
{
    struct hsm_slot *slot = key->token->slot;
    struct hsm_object_pair pair;
    enum hsm_status st = hsm_token_admin_enter(key->token, HSM_TURN_READ);

    *again = false;
    if (st != HSM_OK)
        return st;
    st = find_pair(slot, name, &pair);
    if (st == HSM_OK)
        st = load_pair(key, &pair);
    *again = hsm_token_admin_leave(key->token, st);
    return st;
}

/* NOT_FOUND and AMBIGUOUS of the private object itself are left to the caller to log. */
static enum hsm_status
find_named(struct hsm_token *token, const struct hsm_object_name *name, struct hsm_key **out)
{
    DEFER(hsm_key_free) struct hsm_key *key = NULL;
    enum hsm_status st = HSM_ERR_BUSY;
    bool again = true;

    for (int tries = 0; again && tries < FIND_TRIES; tries++) {
        hsm_key_free(key);
        key = key_new(token);
        if (key == NULL)
            return HSM_ERR_NOMEM;
        st = find_once(key, name, &again);
    }
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

/* The URI must name an object, a private key, and if it names a token, it must be this one. */
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

/* Attributes that are requested of a new key beyond those required of every key. */
static enum hsm_status
check_as_asked(const struct hsm_key_info *info)
{
    if (info->sign == 1)
        return HSM_OK;
    hsm_log(HSM_LOG_ERROR, "key %s: its CKA_SIGN is not true on the token", info->label);
    return HSM_ERR_UNTRUSTED;
}

/* `what` is the fault of the pair. */
static void
destroy_made(const struct hsm_slot *slot, const struct hsm_object_pair *pair, const char *label,
             const char *what)
{
    enum hsm_status private_st = hsm_object_destroy(slot, pair->private_object);
    enum hsm_status public_st = hsm_object_destroy(slot, pair->public_object);

    hsm_log(HSM_LOG_ERROR, "key %s: %s: %s", label, what,
            private_st == HSM_OK && public_st == HSM_OK ? "destroyed" : "and not destroyed either");
}

/* A pair that does not sign is destroyed. */
static enum hsm_status
load_generated(struct hsm_key *key, const struct hsm_object_pair *pair)
{
    enum hsm_status st = load_pair(key, pair);

    if (st == HSM_OK)
        st = check_as_asked(&key->signer->info);
    if (st == HSM_OK)
        st = hsm_signer_try(key->signer);
    return st;
}

/* EXISTS if a private key has the label. */
static enum hsm_status
check_label_free(const struct hsm_slot *slot, const char *label)
{
    const struct hsm_object_name by_label = {label, NULL, 0};
    CK_OBJECT_HANDLE object;
    enum hsm_status st = hsm_object_find_one(slot, CKO_PRIVATE_KEY, &by_label, &object);

    if (st == HSM_OK || st == HSM_ERR_AMBIGUOUS)
        return HSM_ERR_EXISTS;
    return st == HSM_ERR_NOT_FOUND ? HSM_OK : st;
}

/* Only this check keeps others, on this host or another, from using the label or the id at the same
 * time: each that finds two destroys its own. */
static enum hsm_status
check_only_one(const struct hsm_slot *slot, const struct hsm_object_name *name,
               const struct hsm_object_pair *made)
{
    const struct hsm_object_name by_label = {name->label, NULL, 0};
    const struct hsm_object_name by_id = {NULL, name->id, name->id_len};
    CK_OBJECT_HANDLE object;
    enum hsm_status st = hsm_object_find_one(slot, CKO_PRIVATE_KEY, &by_label, &object);

    if (st != HSM_ERR_AMBIGUOUS)
        st = hsm_object_find_one(slot, CKO_PRIVATE_KEY, &by_id, &object);
    if (st == HSM_ERR_AMBIGUOUS)
        destroy_made(slot, made, name->label, "another was made at the same time");
    return st == HSM_ERR_AMBIGUOUS ? st : HSM_OK;
}

/* A YubiHSM 2 keeps 0x0000 and 0xffff for objects of its own (its user guide, "Object ID"). */
static bool
is_reserved(const uint8_t *id, size_t len)
{
    return len == 2 && id[0] == id[1] && (id[0] == 0x00 || id[0] == 0xff);
}

static enum hsm_status
check_id_free(const struct hsm_slot *slot, const uint8_t *id, size_t len)
{
    const struct hsm_object_name by_id = {NULL, id, len};
    CK_OBJECT_HANDLE *objects = NULL;
    size_t count = 0;
    enum hsm_status st = hsm_object_find(slot, HSM_ANY_CLASS, &by_id, &objects, &count);

    free(objects);
    return st == HSM_OK && count > 0 ? HSM_ERR_EXISTS : st;
}

/* A short random id may be that of another key: both would be ambiguous from then on. */
static enum hsm_status
choose_id(const struct hsm_slot *slot, uint8_t *id, size_t len)
{
    enum hsm_status st = HSM_ERR_EXISTS;

    for (unsigned tries = 0; st == HSM_ERR_EXISTS && tries < ID_TRIES; tries++) {
        CK_RV rv = hsm_module_functions(slot->module)->C_GenerateRandom(slot->control, id, len);

        if (rv != CKR_OK)
            return hsm_ckr_log(rv, "C_GenerateRandom");
        if (!is_reserved(id, len))
            st = check_id_free(slot, id, len);
    }
    if (st != HSM_ERR_EXISTS)
        return st;
    hsm_log(HSM_LOG_ERROR, "no CKA_ID of %zu octets was free in %d tries", len, ID_TRIES);
    return HSM_ERR_UNSUPPORTED;
}

/* AMBIGUOUS: try again. Inside the admin gate. */
static enum hsm_status
generate_pair(struct hsm_key *key, const char *label)
{
    struct hsm_slot *slot = key->token->slot;
    uint8_t id[HSM_ID_MAX];
    const struct hsm_object_name name = {label, id, slot->settings.quirks.id_len};
    struct hsm_object_pair pair;
    enum hsm_status st = check_label_free(slot, label);

    if (st == HSM_OK)
        st = choose_id(slot, id, name.id_len);
    if (st == HSM_OK)
        st = hsm_object_generate(slot, &name, &pair.private_object, &pair.public_object);
    /* With shared files this process has its turn, so no other generates a key. */
    if (st == HSM_OK && !slot->settings.quirks.shared_files)
        st = check_only_one(slot, &name, &pair);
    if (st != HSM_OK)
        return st;
    st = load_generated(key, &pair);
    if (st != HSM_OK)
        destroy_made(slot, &pair, label, "not as asked");
    return st;
}

/* Making and destroying a key is journaled like its uses. */
static enum hsm_status
journal_change(const struct hsm_signer *signer, enum hsm_status outcome)
{
    return hsm_journal_use(signer->slot->journal, signer->journal_key, NULL, HSM_JOURNAL_ANY_TIME,
                           outcome);
}

/* A random pause, so that those who collided do not collide again. */
static void
keep_apart(unsigned tries)
{
    uint16_t chance = 0;

    (void)RAND_bytes((unsigned char *)&chance, sizeof(chance)); /* if it fails, 0 will do */
    hsm_clock_sleep_until(hsm_deadline_after(chance % (GENERATE_MS << tries)));
}

/* EXISTS is for the caller to log. */
static enum hsm_status
generate_new(struct hsm_token *token, const char *label, struct hsm_key **out)
{
    DEFER(hsm_key_free) struct hsm_key *key = NULL;
    enum hsm_status st;
    HSM_USE_FOR(HSM_USE_KEY_GENERATION);

    if (!is_label(label)) {
        hsm_log(HSM_LOG_ERROR, "a key's label has 1 to %d characters of ASCII", HSM_LABEL_MAX);
        return HSM_ERR_USAGE;
    }
    key = key_new(token);
    if (key == NULL)
        return HSM_ERR_NOMEM;
    st = hsm_journal_may(token->slot->journal);
    if (st == HSM_OK)
        st = HSM_ERR_AMBIGUOUS;
    for (unsigned tries = 0; st == HSM_ERR_AMBIGUOUS && tries < GENERATE_TRIES; tries++) {
        if (tries > 0)
            keep_apart(tries);
        st = hsm_token_admin_enter(token, HSM_TURN_WRITE);
        if (st != HSM_OK)
            return st;
        st = generate_pair(key, label);
        (void)hsm_token_admin_leave(token, st); /* not repeated: it may have been done */
    }
    if (st == HSM_OK)
        st = journal_change(key->signer, st);
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

    if (st == HSM_ERR_NOT_FOUND) {
        st = generate_new(token, label, out);
        if (st == HSM_OK)
            hsm_log(HSM_LOG_INFO, "key %s: generated in token %s", label, token->info.label);
    }
    if (st == HSM_ERR_EXISTS)
        st = find_named(token, &name, out); /* another process generated it first */
    log_not_one(token, label, st);
    return st;
}

/* Handles may have changed their meaning: find the key again, which must still be the same. Inside
 * the admin gate. */
static enum hsm_status
find_now(const struct hsm_signer *signer, struct hsm_object_pair *pair, struct hsm_key_info *info)
{
    enum hsm_status st = hsm_signer_find(signer, pair, info);

    if (st == HSM_ERR_UNTRUSTED)
        hsm_log(HSM_LOG_ERROR, "key %s: another key has its CKA_ID now", signer->info.label);
    return st;
}

enum hsm_status
hsm_key_destroy(struct hsm_key *key)
{
    struct hsm_signer *signer = key->signer;
    struct hsm_slot *slot = key->token->slot;
    struct hsm_object_pair pair;
    struct hsm_key_info info;
    enum hsm_status st = hsm_token_admin_enter(key->token, HSM_TURN_WRITE);
    enum hsm_status public_st = HSM_OK;
    HSM_USE_FOR(HSM_USE_KEY_DESTRUCTION);

    if (st != HSM_OK)
        return st;
    st = hsm_journal_may(slot->journal);
    if (st == HSM_OK)
        st = find_now(signer, &pair, &info);
    if (st == HSM_OK)
        st = hsm_object_destroy(slot, pair.private_object);
    if (st == HSM_OK) {
        hsm_signer_retire(signer);
        public_st = hsm_object_destroy(slot, pair.public_object);
    }
    (void)hsm_token_admin_leave(key->token, st);
    return journal_change(signer, st != HSM_OK ? st : public_st);
}

EVP_PKEY *
hsm_key_public(const struct hsm_key *key)
{
    return key->signer->public_key;
}

const uint8_t *
hsm_key_point(const struct hsm_key *key)
{
    return key->signer->info.point;
}

const char *
hsm_key_label(const struct hsm_key *key)
{
    return key->signer->info.label;
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

/* With the token's own timeout if the caller gives none. */
static enum hsm_status
sign_within(struct hsm_key *key, struct hsm_request *request, unsigned timeout_ms,
            enum hsm_wait wait, uint8_t *sig)
{
    enum hsm_status st = hsm_token_check(key->token);

    if (st != HSM_OK)
        return st;
    if (timeout_ms == 0)
        timeout_ms = hsm_key_timeout_ms(key);
    request->patience.deadline = hsm_deadline_after(timeout_ms);
    request->patience.through_recovery = wait == HSM_WAIT_FOR_RECOVERY;
    return hsm_signer_sign(key->signer, request, sig);
}

enum hsm_status
hsm_key_sign_digest(struct hsm_key *key, const uint8_t *digest, uint8_t *sig)
{
    struct hsm_request request = {.digest = digest};

    return sign_within(key, &request, 0, HSM_WAIT_FOR_RECOVERY, sig);
}

enum hsm_status
hsm_key_sign_digest_within(struct hsm_key *key, const uint8_t *digest, unsigned timeout_ms,
                           enum hsm_wait wait, uint8_t *sig)
{
    struct hsm_request request = {.digest = digest};

    return sign_within(key, &request, timeout_ms, wait, sig);
}

enum hsm_status
hsm_key_sign_digest_quietly(struct hsm_key *key, const uint8_t *digest, unsigned timeout_ms,
                            enum hsm_wait wait, uint8_t *sig)
{
    struct hsm_request request = {.digest = digest, .quiet = true};

    return sign_within(key, &request, timeout_ms, wait, sig);
}

static enum hsm_status
sign_message(struct hsm_key *key, const void *message, size_t len, bool verify, uint8_t *sig)
{
    uint8_t digest[HSM_SHA256_LEN];
    struct hsm_request request = {.digest = digest, .verify = verify};
    enum hsm_status st = hsm_sha256(message, len, digest);

    return st == HSM_OK ? sign_within(key, &request, 0, HSM_WAIT_FOR_RECOVERY, sig) : st;
}

enum hsm_status
hsm_key_sign(struct hsm_key *key, const void *message, size_t len, uint8_t *sig)
{
    return sign_message(key, message, len, false, sig);
}

enum hsm_status
hsm_key_sign_verified(struct hsm_key *key, const void *message, size_t len, uint8_t *sig)
{
    return sign_message(key, message, len, true, sig);
}

const struct hsm_token *
hsm_key_token(const struct hsm_key *key)
{
    return key->token;
}

unsigned
hsm_key_timeout_ms(const struct hsm_key *key)
{
    return key->token->slot->settings.op_timeout_ms;
}

struct hsm_signer *
hsm_key_signer(const struct hsm_key *key)
{
    return key->signer;
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
           memcmp(point, key->signer->info.point, sizeof(point)) == 0;
}

void
hsm_key_free(struct hsm_key *key)
{
    if (key == NULL)
        return;
    EVP_PKEY_free(key->pkey);
    if (key->signer != NULL)
        hsm_signer_unref(key->signer);
    free(key->uri);
    free(key);
}

enum hsm_status
hsm_key_describe(struct hsm_key *key, struct hsm_key_info *out)
{
    struct hsm_object_pair pair;
    struct hsm_key_info info;
    enum hsm_status st = HSM_ERR_BUSY;
    bool again = true;

    for (int tries = 0; again && tries < FIND_TRIES; tries++) {
        st = hsm_token_admin_enter(key->token, HSM_TURN_READ);
        if (st != HSM_OK)
            return st;
        st = find_now(key->signer, &pair, &info);
        again = hsm_token_admin_leave(key->token, st);
    }
    if (st == HSM_OK)
        *out = info;
    return st;
}
