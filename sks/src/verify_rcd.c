/* verify_rcd.c - rich call data and its digests (RFC 9795). */
#include "verify_internal.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <openssl/evp.h>

#include <acme/base64url.h>
#include <acme/json.h>
#include <hsm/defer.h>
#include <sks/tn.h>

#define POINTER_MAX     64 /* characters of a JSON pointer in rcdi */
#define DIGESTS_MAX     32 /* members of rcdi */
#define PROPERTY_TYPE   2 /* a jCard property is [name, parameters, type, value ...], RFC 7095 */
#define PROPERTY_VALUES 3

DEFINE_DEFER(char, free)

/* ---- the claim rcd (section 5.1) ---- */

static bool
has_scheme(const char *text, const char *scheme)
{
    return text != NULL && strncasecmp(text, scheme, strlen(scheme)) == 0;
}

/* NULL, or what is wrong with it. */
static const char *
fault_of_rcd(const json_t *rcd)
{
    const json_t *nam = json_object_get(rcd, "nam");
    const json_t *apn = json_object_get(rcd, "apn");
    const json_t *icn = json_object_get(rcd, "icn");
    const json_t *jcd = json_object_get(rcd, "jcd");
    const json_t *jcl = json_object_get(rcd, "jcl");

    if (!json_is_object(rcd) || !json_is_string(nam))
        return "rcd: no object with nam";
    if (apn != NULL && (!json_is_string(apn) || !sks_tn_is_canonical(json_string_value(apn))))
        return "rcd: apn is not a canonical number";
    if (icn != NULL && !has_scheme(json_string_value(icn), "https://") &&
        !has_scheme(json_string_value(icn), "data:"))
        return "rcd: icn is no https or data URI";
    if (jcd != NULL && jcl != NULL)
        return "rcd: jcd and jcl together";
    if (jcd != NULL && !json_is_array(jcd))
        return "rcd: jcd is not a jCard";
    if (jcl != NULL && !has_scheme(json_string_value(jcl), "https://"))
        return "rcd: jcl is no https URL";
    return NULL;
}

/* ---- what a digest is of (section 6.1) ---- */

struct target {
    const json_t *value; /* of JSON; NULL: content behind a URI */
};

/* The next reference token of a JSON pointer (RFC 6901), ~0 and ~1 undone; false: broken. */
static bool
take_token(const char **at, char out[POINTER_MAX])
{
    size_t n = 0;

    if (**at != '/')
        return false;
    for ((*at)++; **at != '\0' && **at != '/'; (*at)++) {
        char c = **at;

        if (c == '~') {
            (*at)++;
            if (**at != '0' && **at != '1')
                return false;
            c = **at == '0' ? '~' : '/';
        }
        out[n++] = c; /* the whole pointer is shorter than POINTER_MAX */
    }
    out[n] = '\0';
    return true;
}

/* RFC 6901 section 4: decimal, without leading zeros. */
static bool
array_index(const char *token, size_t *out)
{
    size_t len = strspn(token, "0123456789");

    if (len == 0 || len > 4 || token[len] != '\0' || (token[0] == '0' && len > 1))
        return false;
    *out = (size_t)strtoul(token, NULL, 10);
    return true;
}

/* A value of a jCard property of type uri stands for what is behind it. */
static bool
is_uri_of_property(const json_t *property, size_t index)
{
    const char *type = json_string_value(json_array_get(property, PROPERTY_TYPE));

    return index >= PROPERTY_VALUES && type != NULL && strcasecmp(type, "uri") == 0;
}

/* icn and jcl are URIs, and whatever a pointer names inside of jcl is behind it. */
static bool
resolve(const json_t *rcd, const char *pointer, struct target *out)
{
    const json_t *at = rcd;
    char token[POINTER_MAX];
    size_t index = 0;
    bool is_first = true;

    *out = (struct target){.value = NULL};
    if (strlen(pointer) >= POINTER_MAX || *pointer == '\0')
        return false;
    while (*pointer != '\0') {
        const json_t *parent = at;

        if (!take_token(&pointer, token))
            return false;
        if (json_is_array(parent))
            at = array_index(token, &index) ? json_array_get(parent, index) : NULL;
        else
            at = json_object_get(parent, token);
        if (at == NULL)
            return false;
        if (is_first && (strcmp(token, "icn") == 0 || strcmp(token, "jcl") == 0))
            return strcmp(token, "jcl") == 0 || *pointer == '\0';
        if (json_is_array(parent) && json_is_string(at) && is_uri_of_property(parent, index))
            return *pointer == '\0';
        is_first = false;
    }
    out->value = at;
    return true;
}

/* ---- digests (section 6.1.1) ---- */

static const EVP_MD *
algorithm_of(const char *digest, size_t *name_len)
{
    static const struct {
        const char *name;
        const EVP_MD *(*md)(void);
    } algorithms[] = {{"sha256-", EVP_sha256}, {"sha384-", EVP_sha384}, {"sha512-", EVP_sha512}};

    for (size_t i = 0; i < sizeof(algorithms) / sizeof(algorithms[0]); i++) {
        *name_len = strlen(algorithms[i].name);
        if (strncmp(digest, algorithms[i].name, *name_len) == 0)
            return algorithms[i].md();
    }
    return NULL;
}

/* Both alphabets and padding are accepted; published examples are standard and without. */
static enum hsm_status
parse_digest(const char *text, const EVP_MD **md, uint8_t **octets, struct hsm_reason *why)
{
    size_t name_len;
    size_t len;
    enum hsm_status st;

    *md = text == NULL ? NULL : algorithm_of(text, &name_len);
    if (*md == NULL)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "rcdi: not a SHA-2 digest");
    st = acme_base64_decode_any(text + name_len, strlen(text + name_len), octets, &len);
    if (st == HSM_OK && len != (size_t)EVP_MD_get_size(*md)) {
        free(*octets);
        *octets = NULL;
        st = HSM_ERR_MALFORMED;
    }
    return st == HSM_ERR_MALFORMED ? hsm_refuse(why, st, "rcdi: not a SHA-2 digest") : st;
}

static enum hsm_status
compare_value(const json_t *value, const EVP_MD *md, const uint8_t *wanted, const char *pointer,
              struct hsm_reason *why)
{
    DEFER(free) char *text = acme_json_canonical(value);
    uint8_t got[EVP_MAX_MD_SIZE];

    if (text == NULL)
        return HSM_ERR_NOMEM;
    if (EVP_Digest(text, strlen(text), got, NULL, md, NULL) != 1)
        return HSM_ERR_CRYPTO;
    if (memcmp(got, wanted, (size_t)EVP_MD_get_size(md)) == 0)
        return HSM_OK;
    return hsm_refuse(why, HSM_ERR_MALFORMED, "rcdi: the digest of %s differs", pointer);
}

static enum hsm_status
check_digest(const json_t *rcd, const char *pointer, const json_t *digest, enum sks_rcd *out,
             struct hsm_reason *why)
{
    DEFER(free) char *wanted = NULL;
    const EVP_MD *md;
    struct target target;
    enum hsm_status st = parse_digest(json_string_value(digest), &md, (uint8_t **)&wanted, why);

    if (st != HSM_OK)
        return st;
    if (!resolve(rcd, pointer, &target))
        return hsm_refuse(why, HSM_ERR_MALFORMED, "rcdi: a pointer to nothing in rcd");
    if (target.value != NULL)
        return compare_value(target.value, md, (const uint8_t *)wanted, pointer, why);
    *out = SKS_RCD_CONTENT_OPEN;
    return HSM_OK;
}

/* Every URI that is referenced needs a digest once there is one (section 6.1). */
static const char *
digest_missing(const json_t *rcd, const json_t *rcdi)
{
    if (has_scheme(json_string_value(json_object_get(rcd, "icn")), "https://") &&
        json_object_get(rcdi, "/icn") == NULL)
        return "rcdi: no digest of icn";
    if (json_object_get(rcd, "jcl") != NULL && json_object_get(rcdi, "/jcl") == NULL)
        return "rcdi: no digest of jcl";
    return NULL;
}

static enum hsm_status
check_rcdi(const json_t *rcd, json_t *rcdi, enum sks_rcd *out, struct hsm_reason *why)
{
    const char *missing = digest_missing(rcd, rcdi);
    enum hsm_status st = HSM_OK;
    const char *pointer;
    json_t *digest;

    if (!json_is_object(rcdi) || json_object_size(rcdi) == 0 ||
        json_object_size(rcdi) > DIGESTS_MAX)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "rcdi: not an object of digests");
    if (rcd == NULL)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "rcdi: without rcd");
    if (missing != NULL)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "%s", missing);
    json_object_foreach(rcdi, pointer, digest)
    {
        if (st == HSM_OK)
            st = check_digest(rcd, pointer, digest, out, why);
    }
    return st;
}

enum hsm_status
rcd_check(const json_t *payload, enum sks_rcd *out, struct hsm_reason *why)
{
    const json_t *rcd = json_object_get(payload, "rcd");
    const json_t *crn = json_object_get(payload, "crn");
    json_t *rcdi = json_object_get(payload, "rcdi");
    const char *fault = rcd == NULL ? NULL : fault_of_rcd(rcd);

    if (rcd == NULL && crn == NULL && rcdi == NULL) {
        *out = SKS_RCD_NONE;
        return HSM_OK;
    }
    *out = SKS_RCD_GOOD;
    if (fault == NULL && crn != NULL && !json_is_string(crn))
        fault = "crn: not a string";
    if (fault != NULL)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "%s", fault);
    return rcdi == NULL ? HSM_OK : check_rcdi(rcd, rcdi, out, why);
}
