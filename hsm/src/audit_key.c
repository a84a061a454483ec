/* audit_key.c - the attributes of private keys, read back and judged. */
#include "audit_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hsm/defer.h>
#include <hsm/use.h>

#include "ckr_internal.h"

#define MECHANISMS_MAX 64 /* in CKA_ALLOWED_MECHANISMS */
#define CHALLENGE_LEN  32 /* random octets */

/* A boolean attribute, and the value that it should have. */
struct rule {
    enum hsm_audit_check check;
    CK_ATTRIBUTE_TYPE type;
    bool wanted;
    bool required; /* not reported counts as false: our programs refuse such a key */
};

static const struct rule rules[] = {
    {HSM_CHECK_PRIVATE, CKA_PRIVATE, true, true},
    {HSM_CHECK_SENSITIVE, CKA_SENSITIVE, true, true},
    {HSM_CHECK_ALWAYS_SENSITIVE, CKA_ALWAYS_SENSITIVE, true, true},
    {HSM_CHECK_EXTRACTABLE, CKA_EXTRACTABLE, false, true},
    {HSM_CHECK_NEVER_EXTRACTABLE, CKA_NEVER_EXTRACTABLE, true, true},
    {HSM_CHECK_LOCAL, CKA_LOCAL, true, true},
    {HSM_CHECK_MODIFIABLE, CKA_MODIFIABLE, false, false},
    {HSM_CHECK_COPYABLE, CKA_COPYABLE, false, false},
    {HSM_CHECK_SIGN, CKA_SIGN, true, false},
    {HSM_CHECK_SIGN_RECOVER, CKA_SIGN_RECOVER, false, false},
    {HSM_CHECK_DECRYPT, CKA_DECRYPT, false, false},
    {HSM_CHECK_UNWRAP, CKA_UNWRAP, false, false},
    {HSM_CHECK_DERIVE, CKA_DERIVE, false, false},
};

#define RULES (sizeof(rules) / sizeof(rules[0]))

/* The judgement of one attribute. */
struct judgement {
    enum hsm_audit_verdict verdict;
    enum hsm_audit_check cause;
    const char *remark; /* added to what was found; NULL: none */
};

static struct judgement
because_of(enum hsm_audit_check cause, const char *remark)
{
    return (struct judgement){HSM_AUDIT_CONSEQUENCE, cause, remark};
}

/*
 * PKCS #11 v3.1 table 29: CKA_ALWAYS_SENSITIVE and CKA_NEVER_EXTRACTABLE are false for an imported
 * key, and for one whose attributes ever were otherwise. So that one fault gives one finding, a
 * consequence of another finding is stated as a consequence.
 */
static struct judgement
judge_history(const struct hsm_audit_key *key, enum hsm_audit_check check)
{
    const struct judgement finding = {HSM_AUDIT_FINDING, HSM_CHECK_NONE, NULL};

    if (check == HSM_CHECK_ALWAYS_SENSITIVE && key->info.sensitive == 0)
        return because_of(HSM_CHECK_SENSITIVE, "it is not sensitive now");
    if (check == HSM_CHECK_NEVER_EXTRACTABLE && key->info.extractable == 1)
        return because_of(HSM_CHECK_EXTRACTABLE, "it is extractable now");
    if (key->imported)
        return because_of(HSM_CHECK_LOCAL, "it came from outside");
    return finding;
}

/* A value that this kind of module reports for every key, whatever was requested, is not the key's
 * fault. */
static struct judgement
judge_other(const struct hsm_audit_scene *scene, const struct hsm_audit_key *key,
            const struct rule *rule)
{
    const struct hsm_quirks *quirks = &scene->slot->settings.quirks;

    if (rule->check == HSM_CHECK_LOCAL && quirks->origin_untold)
        return key->imported
                   ? (struct judgement){HSM_AUDIT_FINDING, HSM_CHECK_NONE,
                                        "this module says so of every key; CKA_ALWAYS_SENSITIVE "
                                        "and "
                                        "CKA_NEVER_EXTRACTABLE are false: it came from outside"}
                   : (struct judgement){
                         HSM_AUDIT_PASS, HSM_CHECK_NONE,
                         "this module says so of every key; what was generated in it "
                         "is shown by CKA_ALWAYS_SENSITIVE and CKA_NEVER_EXTRACTABLE"};
    if ((rule->check == HSM_CHECK_MODIFIABLE || rule->check == HSM_CHECK_COPYABLE) &&
        quirks->plain_templates)
        return (struct judgement){HSM_AUDIT_NOT_REPORTED, HSM_CHECK_NONE,
                                  "this module does not let it be asked for"};
    if (rule->check == HSM_CHECK_ALWAYS_SENSITIVE || rule->check == HSM_CHECK_NEVER_EXTRACTABLE)
        return judge_history(key, rule->check);
    return (struct judgement){HSM_AUDIT_FINDING, HSM_CHECK_NONE, NULL};
}

static struct judgement
judge(const struct hsm_audit_scene *scene, const struct hsm_audit_key *key, const struct rule *rule,
      int value)
{
    if (value == (rule->wanted ? 1 : 0))
        return (struct judgement){HSM_AUDIT_PASS, HSM_CHECK_NONE, NULL};
    if (value < 0)
        return (struct judgement){rule->required ? HSM_AUDIT_UNPROVEN : HSM_AUDIT_NOT_REPORTED,
                                  HSM_CHECK_NONE, NULL};
    return judge_other(scene, key, rule);
}

static json_t *
attribute_json(struct hsm_audit *audit, CK_ATTRIBUTE_TYPE type, CK_RV rv, json_t *value)
{
    return hsm_audit_pack(audit, "{s:s, s:s, s:s, s:o}", "call", "C_GetAttributeValue", "attribute",
                          hsm_audit_attribute_name(type), "rv", hsm_ckr_name(rv), "value", value);
}

static json_t *
bool_json(int value)
{
    if (value < 0)
        return json_null();
    return json_boolean(value == 1);
}

static const char *
word_of(int value)
{
    if (value < 0)
        return "not reported";
    return value == 1 ? "true" : "false";
}

static void
state_rule(struct hsm_audit_scene *scene, struct hsm_audit_key *key, struct hsm_reading *reading,
           const struct rule *rule)
{
    int value = hsm_object_read_bool(reading, rule->type);
    struct judgement judgement = judge(scene, key, rule, value);
    char found[256];

    snprintf(found, sizeof(found), "%s%s%s", word_of(value), judgement.remark != NULL ? "; " : "",
             judgement.remark != NULL ? judgement.remark : "");
    hsm_audit_state(scene->audit, &(struct hsm_audit_statement){
                                      .check = rule->check,
                                      .subject = key->object->uri,
                                      .found = found,
                                      .evidence = attribute_json(scene->audit, rule->type,
                                                                 reading->rv, bool_json(value)),
                                      .verdict = judgement.verdict,
                                      .cause = judgement.cause,
                                  });
}

static void
state_mechanism(struct hsm_audit_scene *scene, struct hsm_audit_key *key,
                struct hsm_reading *reading)
{
    CK_ULONG made = hsm_object_read_ulong(reading, CKA_KEY_GEN_MECHANISM);
    struct judgement judgement = {HSM_AUDIT_PASS, HSM_CHECK_NONE, NULL};
    const char *name = hsm_audit_mechanism_name(made);
    bool is_reported = made != CK_UNAVAILABLE_INFORMATION;

    if (made != CKM_EC_KEY_PAIR_GEN && key->imported)
        judgement = because_of(HSM_CHECK_LOCAL, NULL);
    else if (made != CKM_EC_KEY_PAIR_GEN && scene->slot->settings.quirks.origin_untold)
        judgement.verdict = HSM_AUDIT_NOT_REPORTED;
    else if (made != CKM_EC_KEY_PAIR_GEN)
        judgement.verdict = is_reported ? HSM_AUDIT_FINDING : HSM_AUDIT_UNPROVEN;
    hsm_audit_state(scene->audit, &(struct hsm_audit_statement){
                                      .check = HSM_CHECK_KEY_GEN_MECHANISM,
                                      .subject = key->object->uri,
                                      .found = !is_reported   ? "not reported"
                                               : name != NULL ? name
                                                              : "another mechanism",
                                      .evidence = attribute_json(
                                          scene->audit, CKA_KEY_GEN_MECHANISM, reading->rv,
                                          is_reported ? hsm_audit_mechanism(made) : json_null()),
                                      .verdict = judgement.verdict,
                                      .cause = judgement.cause,
                                  });
}

static json_t *
mechanisms_json(const CK_MECHANISM_TYPE *types, size_t count)
{
    json_t *all = json_array();

    for (size_t i = 0; all != NULL && i < count; i++) {
        if (json_array_append_new(all, hsm_audit_mechanism(types[i])) != 0) {
            json_decref(all);
            all = NULL;
        }
    }
    return all;
}

/* An empty list counts as absent: then CKA_SIGN and the other flags decide. */
static void
state_allowed(struct hsm_audit_scene *scene, struct hsm_audit_key *key, struct hsm_reading *reading)
{
    CK_MECHANISM_TYPE types[MECHANISMS_MAX];
    size_t len = 0;
    bool is_reported =
        hsm_object_read(reading, CKA_ALLOWED_MECHANISMS, types, sizeof(types), &len) &&
        len >= sizeof(types[0]);
    size_t count = is_reported ? len / sizeof(types[0]) : 0;
    bool alone = count == 1 && types[0] == CKM_ECDSA;

    hsm_audit_state(scene->audit,
                    &(struct hsm_audit_statement){
                        .check = HSM_CHECK_ALLOWED_MECHANISMS,
                        .subject = key->object->uri,
                        .found = alone         ? "CKM_ECDSA alone"
                                 : is_reported ? "others as well"
                                               : "not reported: no list",
                        .evidence = attribute_json(scene->audit, CKA_ALLOWED_MECHANISMS,
                                                   reading->rv, mechanisms_json(types, count)),
                        .verdict = alone         ? HSM_AUDIT_PASS
                                   : is_reported ? HSM_AUDIT_INFO
                                                 : HSM_AUDIT_NOT_REPORTED,
                    });
}

/* Attributes that are stated but not judged. */
static void
state_said(struct hsm_audit_scene *scene, struct hsm_audit_key *key, struct hsm_reading *reading,
           enum hsm_audit_check check, CK_ATTRIBUTE_TYPE type)
{
    int value = hsm_object_read_bool(reading, type);

    hsm_audit_state(
        scene->audit,
        &(struct hsm_audit_statement){
            .check = check,
            .subject = key->object->uri,
            .found = word_of(value),
            .evidence = attribute_json(scene->audit, type, reading->rv, bool_json(value)),
            .verdict = value < 0 ? HSM_AUDIT_NOT_REPORTED : HSM_AUDIT_INFO,
        });
}

static void
state_type(struct hsm_audit_scene *scene, struct hsm_audit_key *key)
{
    json_t *point =
        key->info.has_point ? hsm_audit_hex(key->info.point, HSM_P256_POINT_LEN) : json_null();

    hsm_audit_state(scene->audit,
                    &(struct hsm_audit_statement){
                        .check = HSM_CHECK_KEY_TYPE,
                        .subject = key->object->uri,
                        .found = key->info.is_p256 ? "P-256" : "another type or curve",
                        .evidence = hsm_audit_pack(scene->audit, "{s:s, s:b, s:o}", "call",
                                                   "C_GetAttributeValue", "p256",
                                                   (int)key->info.is_p256, "point", point),
                        .verdict = key->info.is_p256 ? HSM_AUDIT_PASS : HSM_AUDIT_FINDING,
                    });
}

static void
state_attributes(struct hsm_audit_scene *scene, struct hsm_audit_key *key)
{
    struct hsm_reading reading = {.slot = scene->slot, .object = key->object->handle};

    state_type(scene, key);
    for (size_t i = 0; i < RULES; i++) {
        state_rule(scene, key, &reading, &rules[i]);
        if (rules[i].check == HSM_CHECK_LOCAL)
            state_mechanism(scene, key, &reading);
    }
    state_allowed(scene, key, &reading);
    state_said(scene, key, &reading, HSM_CHECK_WRAP_WITH_TRUSTED, CKA_WRAP_WITH_TRUSTED);
    state_said(scene, key, &reading, HSM_CHECK_ALWAYS_AUTHENTICATE, CKA_ALWAYS_AUTHENTICATE);
    (void)hsm_audit_keep(scene->audit, hsm_object_read_end(&reading));
}

/* If a module does not report the origin, an import is recognised by the attributes that only
 * generation sets. */
static bool
is_imported(const struct hsm_key_info *info, const struct hsm_quirks *quirks)
{
    if (quirks->origin_untold)
        return info->always_sensitive == 0 && info->never_extractable == 0;
    return info->local == 0;
}

static const struct hsm_audit_object *
public_object_of(const struct hsm_audit_scene *scene, const struct hsm_audit_object *private_key)
{
    for (size_t i = 0; i < scene->object_count; i++) {
        const struct hsm_audit_object *object = &scene->objects[i];

        if (object->class == CKO_PUBLIC_KEY && object->id_len > 0 &&
            object->id_len == private_key->id_len &&
            memcmp(object->id, private_key->id, object->id_len) == 0)
            return object;
    }
    return NULL;
}

static enum hsm_status
describe(const struct hsm_audit_scene *scene, struct hsm_audit_key *key)
{
    const struct hsm_quirks *quirks = &scene->slot->settings.quirks;
    struct hsm_object_pair pair = {.private_object = key->object->handle};
    enum hsm_status st;

    key->public_object = public_object_of(scene, key->object);
    pair.public_object =
        key->public_object != NULL ? key->public_object->handle : CK_INVALID_HANDLE;
    st = hsm_object_describe(scene->slot, &pair, &key->info);
    key->imported = is_imported(&key->info, quirks);
    key->extractable_found = key->info.extractable == 1;
    key->sensitive_found = key->info.sensitive == 0;
    return st;
}

enum hsm_status
hsm_audit_keys(struct hsm_audit_scene *scene)
{
    enum hsm_status st = HSM_OK;

    scene->keys = calloc(scene->object_count + 1, sizeof(*scene->keys));
    if (scene->keys == NULL)
        return HSM_ERR_NOMEM;
    for (size_t i = 0; st == HSM_OK && i < scene->object_count; i++) {
        struct hsm_audit_key *key = &scene->keys[scene->key_count];

        if (scene->objects[i].class != CKO_PRIVATE_KEY)
            continue;
        key->object = &scene->objects[i];
        scene->key_count++;
        st = describe(scene, key);
        if (st == HSM_OK)
            state_attributes(scene, key);
    }
    return st == HSM_OK ? scene->audit->failure : st;
}

/* ---- keys that wrap ---- */

/* Keys that the standard allows such a key to wrap. */
static size_t
wrappable_keys(const struct hsm_audit_scene *scene)
{
    size_t count = 0;

    for (size_t i = 0; i < scene->key_count; i++)
        count += scene->keys[i].info.extractable != 0 ? 1 : 0;
    return count;
}

static void
state_wrapping(struct hsm_audit_scene *scene, const struct hsm_audit_object *object, CK_RV rv)
{
    size_t count = wrappable_keys(scene);
    char found[128];

    snprintf(found, sizeof(found),
             count > 0 ? "CKA_WRAP true; %zu private keys here are not CKA_EXTRACTABLE false"
                       : "CKA_WRAP true; CKA_EXTRACTABLE false alone keeps the private keys here",
             count);
    hsm_audit_state(scene->audit,
                    &(struct hsm_audit_statement){
                        .check = HSM_CHECK_WRAPPING_KEY,
                        .subject = object->uri,
                        .found = found,
                        .evidence = attribute_json(scene->audit, CKA_WRAP, rv, json_true()),
                        .verdict = HSM_AUDIT_FINDING,
                    });
}

/* Some modules report CKA_WRAP for public keys on curves although no mechanism wraps under them. */
static bool
may_be_of_use(const struct hsm_audit_scene *scene, struct hsm_reading *reading,
              CK_OBJECT_CLASS class)
{
    return class == CKO_SECRET_KEY ||
           (class == CKO_PUBLIC_KEY &&
            hsm_wraps_under_public(scene, hsm_object_read_ulong(reading, CKA_KEY_TYPE)));
}

void
hsm_audit_wrapping_keys(struct hsm_audit_scene *scene)
{
    for (size_t i = 0; i < scene->object_count; i++) {
        const struct hsm_audit_object *object = &scene->objects[i];
        struct hsm_reading reading = {.slot = scene->slot, .object = object->handle};

        if (may_be_of_use(scene, &reading, object->class) &&
            hsm_object_read_bool(&reading, CKA_WRAP) == 1)
            state_wrapping(scene, object, reading.rv);
        (void)hsm_audit_keep(scene->audit, hsm_object_read_end(&reading));
    }
}

/* ---- the public half ---- */

static void
state_half(struct hsm_audit_scene *scene, const struct hsm_audit_key *key, const char *found,
           enum hsm_audit_verdict verdict)
{
    hsm_audit_state(
        scene->audit,
        &(struct hsm_audit_statement){
            .check = HSM_CHECK_PUBLIC_HALF,
            .subject = key->object->uri,
            .found = found,
            .evidence = hsm_audit_pack(scene->audit, "{s:s?}", "public_object",
                                       key->public_object != NULL ? key->public_object->uri : NULL),
            .verdict = verdict,
        });
}

/* The signed text begins with words, so it cannot be a certificate, token or PASSporT. */
static enum hsm_status
sign_challenge(struct hsm_token *token, const char *uri)
{
    DEFER(hsm_key_free) struct hsm_key *key = NULL;
    char challenge[64] = "sti-hsm audit challenge\n";
    uint8_t sig[HSM_P256_SIG_LEN];
    size_t len = strlen(challenge);
    enum hsm_status st = hsm_token_random(token, challenge + len, CHALLENGE_LEN);
    HSM_USE_FOR(HSM_USE_AUDIT);

    if (st == HSM_OK)
        st = hsm_key_find(token, uri, &key);
    return st == HSM_OK ? hsm_key_sign_verified(key, challenge, len + CHALLENGE_LEN, sig) : st;
}

void
hsm_audit_public_halves(struct hsm_audit_scene *scene)
{
    for (size_t i = 0; i < scene->key_count; i++) {
        const struct hsm_audit_key *key = &scene->keys[i];

        if (key->public_object == NULL)
            state_half(scene, key, "no public object has its CKA_ID", HSM_AUDIT_FINDING);
        else if (!key->info.may_be_used)
            state_half(scene, key, "not asked: our programs refuse this key", HSM_AUDIT_UNTESTED);
        else if (sign_challenge(scene->token, key->object->uri) == HSM_OK)
            state_half(scene, key, "it verifies", HSM_AUDIT_PASS);
        else
            state_half(scene, key, "it does not verify", HSM_AUDIT_FINDING);
    }
}
