/* audit_attempt.c - try to take every private key of a token. */
#include "audit_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#include <hsm/log.h>

#include "ckr_internal.h"

#define VALUE_MAX  8192 /* octets of CKA_VALUE */
#define THROW_AWAY "sti-hsm-audit-throw-away" /* label of the key that is weakened first */

/* The attempts of one token. */
struct attempts {
    struct hsm_audit_scene *scene;
    struct hsm_wrapping_keys keys;
    bool weakens; /* C_SetAttributeValue weakened the throw-away key */
    bool tried_weakening; /* there was a throw-away key */
    CK_RV extractable_rv; /* C_SetAttributeValue's answer for it */
    CK_RV sensitive_rv;
    int modifiable; /* the throw-away key's CKA_MODIFIABLE */
};

static CK_BBOOL yes = CK_TRUE;
static CK_BBOOL no = CK_FALSE;

static const CK_FUNCTION_LIST *
functions_of(const struct attempts *attempts)
{
    return hsm_module_functions(attempts->scene->slot->module);
}

struct outcome {
    enum hsm_audit_check check;
    const char *call;
    const char *detail; /* mechanism or attribute; NULL: none */
    CK_RV rv;
    bool taken; /* the key, or something weaker than it, was obtained */
    bool tried;
    bool inconclusive; /* the answer proves nothing about the key */
    enum hsm_audit_check cause; /* the finding that explains it; HSM_CHECK_NONE: none */
    const char *remark; /* NULL: none */
    json_t *control; /* the same call on a sample key; taken over; NULL: none */
};

static enum hsm_audit_verdict
verdict_of(const struct outcome *outcome)
{
    if (!outcome->tried || outcome->inconclusive)
        return HSM_AUDIT_UNTESTED;
    if (outcome->taken)
        return outcome->cause != HSM_CHECK_NONE ? HSM_AUDIT_CONSEQUENCE : HSM_AUDIT_FINDING;
    if (outcome->rv == CKR_OK || hsm_ckr_is_refusal(outcome->rv))
        return HSM_AUDIT_PASS;
    return HSM_AUDIT_UNTESTED;
}

static void
state_as(struct attempts *attempts, const char *subject, const struct outcome *outcome,
         enum hsm_audit_verdict verdict)
{
    struct hsm_audit *audit = attempts->scene->audit;
    char rv[HSM_CKR_TEXT_SIZE];
    char found[256];

    hsm_ckr_text(outcome->rv, rv);
    snprintf(found, sizeof(found), "%s%s%s%s%s", outcome->detail != NULL ? outcome->detail : "",
             outcome->detail != NULL ? ": " : "", outcome->tried ? rv : "not tried",
             outcome->remark != NULL ? "; " : "", outcome->remark != NULL ? outcome->remark : "");
    hsm_audit_state(audit, &(struct hsm_audit_statement){
                               .check = outcome->check,
                               .subject = subject,
                               .found = found,
                               .evidence = hsm_audit_pack(
                                   audit, "{s:s, s:s?, s:s?, s:o}", "call", outcome->call, "of",
                                   outcome->detail, "rv", outcome->tried ? rv : NULL, "control",
                                   outcome->control != NULL ? outcome->control : json_null()),
                               .verdict = verdict,
                               .cause = outcome->cause,
                           });
}

static void
state(struct attempts *attempts, const struct hsm_audit_key *key, const struct outcome *outcome)
{
    state_as(attempts, key->object->uri, outcome, verdict_of(outcome));
}

/* ---- the value ---- */

static enum hsm_audit_check
weakness_of(const struct hsm_audit_key *key)
{
    if (key->extractable_found)
        return HSM_CHECK_EXTRACTABLE;
    return key->sensitive_found ? HSM_CHECK_SENSITIVE : HSM_CHECK_NONE;
}

/* Any value is wiped unread: only its length is used. */
static void
attempt_value(struct attempts *attempts, const struct hsm_audit_key *key)
{
    uint8_t value[VALUE_MAX];
    CK_ATTRIBUTE wanted = {CKA_VALUE, value, sizeof(value)};
    struct outcome outcome = {
        .check = HSM_CHECK_ATTEMPT_VALUE,
        .call = "C_GetAttributeValue",
        .detail = "CKA_VALUE",
        .tried = true,
        .cause = weakness_of(key),
    };

    outcome.rv = functions_of(attempts)->C_GetAttributeValue(attempts->scene->slot->control,
                                                             key->object->handle, &wanted, 1);
    OPENSSL_cleanse(value, sizeof(value));
    outcome.taken = outcome.rv == CKR_OK && wanted.ulValueLen > 0 &&
                    wanted.ulValueLen != CK_UNAVAILABLE_INFORMATION;
    if (outcome.taken)
        outcome.remark = "the token gave the value; it was wiped unseen";
    else if (outcome.rv == CKR_OK)
        outcome.remark = "without a value";
    state(attempts, key, &outcome);
}

/* ---- wrapping ---- */

/* True: a refusal on account of the key's own attributes, which needs no control. */
static bool
is_about_the_key(CK_RV rv)
{
    return rv == CKR_KEY_UNEXTRACTABLE || rv == CKR_KEY_NOT_WRAPPABLE ||
           rv == CKR_ATTRIBUTE_SENSITIVE || rv == CKR_ACTION_PROHIBITED;
}

static void
attempt_wrap_by(struct attempts *attempts, const struct hsm_audit_key *key, CK_MECHANISM_TYPE type)
{
    json_t *name = hsm_audit_mechanism(type);
    CK_RV control = CKR_OK;
    size_t len = 0;
    char text[HSM_CKR_TEXT_SIZE];
    struct outcome outcome = {
        .check = HSM_CHECK_ATTEMPT_WRAP,
        .call = "C_WrapKey",
        .detail = json_string_value(name),
        .cause = key->extractable_found ? HSM_CHECK_EXTRACTABLE : HSM_CHECK_NONE,
    };
    bool controlled = hsm_wrap_with(attempts->scene, &attempts->keys, type, attempts->keys.sample,
                                    &control, &len);

    outcome.tried = hsm_wrap_with(attempts->scene, &attempts->keys, type, key->object->handle,
                                  &outcome.rv, &len);
    outcome.taken = outcome.tried && outcome.rv == CKR_OK && len > 0;
    if (controlled)
        outcome.control = json_string(hsm_ckr_text(control, text));
    if (!outcome.tried)
        outcome.remark = "its parameters are not known here, or the token makes no key for it";
    else if (outcome.taken)
        outcome.remark = "the token wrapped the key; what came out was wiped";
    else if (!is_about_the_key(outcome.rv) && (!controlled || control != CKR_OK)) {
        outcome.inconclusive = true;
        outcome.remark = "says nothing: a key that may be wrapped is refused, too";
    }
    state(attempts, key, &outcome);
    json_decref(name);
}

static void
attempt_wrap(struct attempts *attempts, const struct hsm_audit_key *key)
{
    CK_MECHANISM_TYPE type = 0;
    size_t count = 0;

    while (hsm_wrapping_mechanism(attempts->scene, count, &type)) {
        attempt_wrap_by(attempts, key, type);
        count++;
    }
    if (count == 0) {
        const struct outcome none = {
            .check = HSM_CHECK_ATTEMPT_WRAP,
            .call = "C_GetMechanismInfo",
            .remark = "the token wraps by no mechanism",
            .cause = HSM_CHECK_NONE,
        };

        state_as(attempts, key->object->uri, &none, HSM_AUDIT_PASS);
    }
}

/* ---- weaker attributes ---- */

static CK_RV
set_bool(const struct attempts *attempts, CK_OBJECT_HANDLE object, CK_ATTRIBUTE_TYPE type,
         CK_BBOOL *value)
{
    CK_ATTRIBUTE wanted = {type, value, sizeof(*value)};

    if (functions_of(attempts)->C_SetAttributeValue == NULL)
        return CKR_FUNCTION_NOT_SUPPORTED;
    return functions_of(attempts)->C_SetAttributeValue(attempts->scene->slot->control, object,
                                                       &wanted, 1);
}

static bool
is_weak(const struct attempts *attempts, CK_OBJECT_HANDLE object)
{
    struct hsm_reading reading = {.slot = attempts->scene->slot, .object = object};

    return hsm_object_read_bool(&reading, CKA_EXTRACTABLE) == 1 ||
           hsm_object_read_bool(&reading, CKA_SENSITIVE) == 0;
}

/* Removes throw-away keys that a killed run left behind. */
static void
remove_throw_aways(const struct attempts *attempts)
{
    const struct hsm_object_name name = {THROW_AWAY, NULL, 0};
    const struct hsm_slot *slot = attempts->scene->slot;
    CK_OBJECT_HANDLE *found = NULL;
    size_t count = 0;
    enum hsm_status st = hsm_object_find(slot, HSM_ANY_CLASS, &name, &found, &count);

    for (size_t i = 0; st == HSM_OK && i < count; i++)
        st = hsm_object_destroy(slot, found[i]);
    free(found);
    (void)hsm_audit_keep(attempts->scene->audit, st);
}

/* Weakening a production key would spoil it, so a throw-away key shows first what the token
 * allows. */
static void
weaken_throw_away(struct attempts *attempts)
{
    const struct hsm_slot *slot = attempts->scene->slot;
    uint8_t id[HSM_ID_MAX];
    const struct hsm_object_name name = {THROW_AWAY, id, slot->settings.quirks.id_len};
    struct hsm_reading reading = {.slot = slot};
    CK_OBJECT_HANDLE public_key = CK_INVALID_HANDLE;

    remove_throw_aways(attempts);
    if (functions_of(attempts)->C_GenerateRandom(slot->control, id, name.id_len) != CKR_OK ||
        hsm_object_generate(slot, &name, &reading.object, &public_key) != HSM_OK)
        return;
    attempts->tried_weakening = true;
    attempts->modifiable = hsm_object_read_bool(&reading, CKA_MODIFIABLE);
    attempts->extractable_rv = set_bool(attempts, reading.object, CKA_EXTRACTABLE, &yes);
    attempts->sensitive_rv = set_bool(attempts, reading.object, CKA_SENSITIVE, &no);
    attempts->weakens = is_weak(attempts, reading.object);
    remove_throw_aways(attempts);
}

static void
state_throw_away(struct attempts *attempts)
{
    struct outcome outcome = {
        .check = HSM_CHECK_ATTEMPT_SET,
        .call = "C_SetAttributeValue",
        .detail = "a throw-away key, CKA_EXTRACTABLE and CKA_SENSITIVE",
        .rv =
            attempts->extractable_rv == CKR_OK ? attempts->sensitive_rv : attempts->extractable_rv,
        .taken = attempts->weakens,
        .tried = attempts->tried_weakening,
        .cause = HSM_CHECK_NONE,
    };

    if (attempts->weakens)
        outcome.remark = "it is weaker now by what the module says";
    state_as(attempts, attempts->scene->uri, &outcome, verdict_of(&outcome));
}

/* NULL: the attempt may be made on this key. */
static const char *
why_not_set(const struct attempts *attempts, const struct hsm_audit_key *key)
{
    if (!attempts->tried_weakening)
        return "no throw-away key could be made to try it on first";
    if (attempts->weakens)
        return "the token weakened a throw-away key: this one would be spoilt";
    if (key->info.modifiable == 1 && attempts->modifiable != 1)
        return "CKA_MODIFIABLE is true, other than of the throw-away key: this one might be spoilt";
    if (key->extractable_found || key->sensitive_found)
        return "it is weak already";
    return NULL;
}

static void
attempt_set_one(struct attempts *attempts, const struct hsm_audit_key *key, CK_ATTRIBUTE_TYPE type,
                CK_BBOOL *value)
{
    struct outcome outcome = {
        .check = HSM_CHECK_ATTEMPT_SET,
        .call = "C_SetAttributeValue",
        .detail = hsm_audit_attribute_name(type),
        .cause = HSM_CHECK_NONE,
        .remark = why_not_set(attempts, key),
    };

    outcome.tried = outcome.remark == NULL;
    if (outcome.tried) {
        outcome.rv = set_bool(attempts, key->object->handle, type, value);
        outcome.taken = is_weak(attempts, key->object->handle);
    }
    if (outcome.taken)
        outcome.remark = "the key is weaker now";
    state(attempts, key, &outcome);
}

static void
attempt_set(struct attempts *attempts, const struct hsm_audit_key *key)
{
    attempt_set_one(attempts, key, CKA_EXTRACTABLE, &yes);
    attempt_set_one(attempts, key, CKA_SENSITIVE, &no);
}

/* ---- copies ---- */

static CK_RV
copy(const struct attempts *attempts, const struct hsm_audit_key *key, CK_ULONG attributes,
     bool *weak)
{
    const CK_FUNCTION_LIST *functions = functions_of(attempts);
    CK_ATTRIBUTE template[] = {
        {CKA_TOKEN, &no, sizeof(no)},
        {CKA_SENSITIVE, &no, sizeof(no)},
        {CKA_EXTRACTABLE, &yes, sizeof(yes)},
    };
    CK_OBJECT_HANDLE made = CK_INVALID_HANDLE;
    CK_RV rv;

    if (functions->C_CopyObject == NULL)
        return CKR_FUNCTION_NOT_SUPPORTED;
    rv = functions->C_CopyObject(attempts->scene->slot->control, key->object->handle, template,
                                 attributes, &made);
    if (rv != CKR_OK)
        return rv;
    *weak = is_weak(attempts, made);
    (void)hsm_audit_keep(attempts->scene->audit, hsm_object_destroy(attempts->scene->slot, made));
    return rv;
}

static void
attempt_copy(struct attempts *attempts, const struct hsm_audit_key *key)
{
    struct outcome outcome = {
        .check = HSM_CHECK_ATTEMPT_COPY,
        .call = "C_CopyObject",
        .tried = true,
        .cause = weakness_of(key),
    };

    outcome.rv = copy(attempts, key, 3, &outcome.taken);
    if (outcome.rv == CKR_OK)
        outcome.remark = outcome.taken ? "a copy that may leave was made, and removed"
                                       : "a copy was made, no weaker, and removed";
    state(attempts, key, &outcome);
}

/* A session copy that is no weaker is a fault only if CKA_COPYABLE forbids copies. */
static void
attempt_session_copy(struct attempts *attempts, const struct hsm_audit_key *key)
{
    struct outcome outcome = {
        .check = HSM_CHECK_ATTEMPT_SESSION_COPY,
        .call = "C_CopyObject",
        .tried = true,
        .cause = weakness_of(key),
    };
    bool was_asked = !attempts->scene->slot->settings.quirks.plain_templates;

    outcome.rv = copy(attempts, key, 1, &outcome.taken);
    if (outcome.rv == CKR_OK)
        outcome.remark = "a copy was made, and removed";
    if (outcome.rv != CKR_OK || outcome.taken) {
        state(attempts, key, &outcome);
    } else if (was_asked && key->info.copyable == 0) {
        state_as(attempts, key->object->uri, &outcome, HSM_AUDIT_FINDING);
    } else if (was_asked && key->info.copyable == 1) {
        outcome.cause = HSM_CHECK_COPYABLE;
        state_as(attempts, key->object->uri, &outcome, HSM_AUDIT_CONSEQUENCE);
    } else {
        state_as(attempts, key->object->uri, &outcome, HSM_AUDIT_INFO);
    }
}

/* ---- derivation ---- */

/* ECDH with the key's own public point; the derived secret is destroyed. */
static CK_RV
derive(const struct attempts *attempts, CK_OBJECT_HANDLE key, const uint8_t *point)
{
    const CK_FUNCTION_LIST *functions = functions_of(attempts);
    CK_ECDH1_DERIVE_PARAMS params = {
        .kdf = CKD_NULL, .public_data_len = HSM_P256_POINT_LEN, .public_data = (CK_BYTE *)point};
    CK_MECHANISM mechanism = {CKM_ECDH1_DERIVE, &params, sizeof(params)};
    CK_OBJECT_CLASS class = CKO_SECRET_KEY;
    CK_KEY_TYPE type = CKK_GENERIC_SECRET;
    CK_ULONG len = 32;
    CK_OBJECT_HANDLE made = CK_INVALID_HANDLE;
    CK_ATTRIBUTE template[] = {
        {CKA_CLASS, &class, sizeof(class)}, {CKA_KEY_TYPE, &type, sizeof(type)},
        {CKA_TOKEN, &no, sizeof(no)},       {CKA_SENSITIVE, &yes, sizeof(yes)},
        {CKA_VALUE_LEN, &len, sizeof(len)},
    };
    CK_RV rv;

    if (functions->C_DeriveKey == NULL)
        return CKR_FUNCTION_NOT_SUPPORTED;
    rv =
        functions->C_DeriveKey(attempts->scene->slot->control, &mechanism, key, template, 5, &made);
    if (rv == CKR_OK)
        (void)hsm_audit_keep(attempts->scene->audit,
                             hsm_object_destroy(attempts->scene->slot, made));
    return rv;
}

static void
attempt_derive(struct attempts *attempts, const struct hsm_audit_key *key)
{
    char text[HSM_CKR_TEXT_SIZE];
    struct outcome outcome = {
        .check = HSM_CHECK_ATTEMPT_DERIVE,
        .call = "C_DeriveKey",
        .detail = "CKM_ECDH1_DERIVE",
        .tried = key->info.has_point,
        .cause = key->info.derive == 1 ? HSM_CHECK_DERIVE : HSM_CHECK_NONE,
    };

    if (!outcome.tried) {
        outcome.remark = "not a key on P-256 with a public half";
        state(attempts, key, &outcome);
        return;
    }
    if (attempts->keys.sample != CK_INVALID_HANDLE)
        outcome.control = json_string(
            hsm_ckr_text(derive(attempts, attempts->keys.sample, key->info.point), text));
    outcome.rv = derive(attempts, key->object->handle, key->info.point);
    outcome.taken = outcome.rv == CKR_OK;
    if (outcome.taken)
        outcome.remark = "a secret was derived, and removed";
    state(attempts, key, &outcome);
}

/* ---- all attempts ---- */

enum hsm_status
hsm_audit_attempts(struct hsm_audit_scene *scene)
{
    struct attempts attempts = {.scene = scene};

    weaken_throw_away(&attempts);
    state_throw_away(&attempts);
    hsm_wrapping_keys_make(scene, &attempts.keys);
    for (size_t i = 0; i < scene->key_count; i++) {
        attempt_value(&attempts, &scene->keys[i]);
        attempt_wrap(&attempts, &scene->keys[i]);
        attempt_set(&attempts, &scene->keys[i]);
        attempt_copy(&attempts, &scene->keys[i]);
        attempt_session_copy(&attempts, &scene->keys[i]);
        attempt_derive(&attempts, &scene->keys[i]);
    }
    hsm_wrapping_keys_destroy(scene, &attempts.keys);
    return scene->audit->failure;
}

void
hsm_audit_print_plan(const struct hsm_token *token, FILE *out)
{
    json_t *label = hsm_audit_text(token->info.label, strlen(token->info.label));

    fprintf(out,
            "On token %s, to each private key:\n"
            "  - read CKA_VALUE; what comes, if it comes, is wiped unseen\n"
            "  - wrap it by every wrapping mechanism, under keys of this session\n"
            "  - set CKA_EXTRACTABLE true and CKA_SENSITIVE false: first of a key made for it\n"
            "    (\"" THROW_AWAY "\", removed again), and where that is weakened, of no other\n"
            "  - copy it, weaker and as it is, to an object of this session\n"
            "  - derive a secret with it (ECDH)\n"
            "Every object made for it is removed. Nothing should succeed; an HSM that counts or\n"
            "reports such attempts will.\n",
            json_string_value(label) != NULL ? json_string_value(label) : "");
    json_decref(label);
}
