/* rcd.c - check rich call data (RFC 9795), before it is signed and when it is verified. */
#include "rcd_internal.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <openssl/evp.h>

#include <acme/base64url.h>
#include <acme/json.h>
#include <hsm/defer.h>
#include <sks/tn.h>

#define URI_MAX     2048 /* characters of a URI, unless it is a data URI */
#define POINTER_MAX 64 /* characters of a JSON pointer */
#define DIGEST_MAX  96 /* characters of "sha512-" and 64 octets in base64 */

static enum hsm_status
refuse(struct sks_refusal *refusal, const char *what)
{
    return hsm_refuse(sks_refusal_of(refusal, "rcd"), HSM_ERR_MALFORMED, "%s", what);
}

static bool
is_https(const char *text)
{
    return strncasecmp(text, "https://", 8) == 0 && text[8] != '\0' && strlen(text) <= URI_MAX &&
           strpbrk(text, " \"<>\\^`{|}") == NULL;
}

static bool
is_data(const char *text)
{
    return strncasecmp(text, "data:", 5) == 0 && strchr(text, ',') != NULL;
}

/* ---- rcd ---- */

/* Of numbers, only integers have a canonical form (RFC 8225 section 9). */
static bool
has_real(const json_t *value)
{
    json_t *member;
    const char *name;
    size_t i;

    if (json_is_real(value))
        return true;
    json_array_foreach(value, i, member)
    {
        if (has_real(member))
            return true;
    }
    json_object_foreach((json_t *)(uintptr_t)value, name, member) /* not modified */
    {
        if (has_real(member))
            return true;
    }
    return false;
}

/* ["vcard", [[name, {parameters}, type, value, ...], ...]] (RFC 7095 section 3.2) */
static bool
is_jcard(const json_t *value)
{
    const json_t *properties = json_array_get(value, 1);
    const char *kind = json_string_value(json_array_get(value, 0));
    json_t *property;
    size_t i;

    if (kind == NULL || strcmp(kind, "vcard") != 0 || json_array_size(value) != 2 ||
        json_array_size(properties) == 0)
        return false;
    json_array_foreach(properties, i, property)
    {
        if (json_array_size(property) < 4 || !json_is_string(json_array_get(property, 0)) ||
            !json_is_object(json_array_get(property, 1)) ||
            !json_is_string(json_array_get(property, 2)))
            return false;
    }
    return true;
}

static const char *
fault_of_member(const char *name, const json_t *value)
{
    const char *text = json_string_value(value);

    if (strcmp(name, "nam") == 0)
        return text != NULL ? NULL : "nam is not a string";
    if (strcmp(name, "apn") == 0)
        return text != NULL && sks_tn_is_canonical(text) ? NULL : "apn is not a canonical number";
    if (strcmp(name, "icn") == 0)
        return text != NULL && (is_https(text) || is_data(text)) ? NULL
                                                                 : "icn is no https or data URI";
    if (strcmp(name, "jcl") == 0)
        return text != NULL && is_https(text) ? NULL : "jcl is no https URL";
    if (strcmp(name, "jcd") == 0)
        return is_jcard(value) ? NULL : "jcd is not a jCard";
    return "a member is none of nam, apn, icn, jcd, jcl";
}

static enum hsm_status
check_rcd(const json_t *rcd, struct sks_refusal *refusal)
{
    const char *fault;
    const char *name;
    json_t *value;

    if (!json_is_object(rcd))
        return refuse(refusal, "not an object");
    if (json_object_get(rcd, "nam") == NULL)
        return refuse(refusal, "nam is missing");
    if (json_object_get(rcd, "jcd") != NULL && json_object_get(rcd, "jcl") != NULL)
        return refuse(refusal, "both jcd and jcl");
    json_object_foreach((json_t *)(uintptr_t)rcd, name, value) /* not modified */
    {
        fault = fault_of_member(name, value);
        if (fault != NULL)
            return refuse(refusal, fault);
    }
    if (has_real(rcd))
        return refuse(refusal, "a number with fraction or exponent");
    return HSM_OK;
}

/* ---- rcdi ---- */

static enum hsm_status
refuse_digest(struct sks_refusal *refusal, const char *pointer, const char *what)
{
    return hsm_refuse(sks_refusal_of(refusal, "rcdi"), HSM_ERR_MALFORMED, "%s: %s", pointer, what);
}

/* One step of a JSON pointer (RFC 6901): a member of an object, or an element of an array. */
static const json_t *
step(const json_t *value, const char *name)
{
    if (json_is_object(value))
        return json_object_get(value, name);
    if (*name == '\0' || strlen(name) > 4 || strspn(name, "0123456789") != strlen(name) ||
        (name[0] == '0' && name[1] != '\0'))
        return NULL;
    return json_array_get(value, strtoul(name, NULL, 10));
}

/* The value that a pointer names; NULL: there is no such value. Escapes ('~') are not decoded: no
 * name defined for rcd needs them. */
static const json_t *
resolve(const json_t *rcd, const char *pointer)
{
    char text[POINTER_MAX + 1];
    char *rest = text;
    char *name;

    if (pointer[0] != '/' || strlen(pointer) > POINTER_MAX)
        return NULL;
    memcpy(text, pointer + 1, strlen(pointer));
    while (rcd != NULL && (name = strsep(&rest, "/")) != NULL)
        rcd = step(rcd, name);
    return rcd;
}

/* True if the digest covers what a URI refers to, not the text of the URI: for icn, for jcl and
 * the elements of the jCard behind it, and for URIs in a jCard (section 6.1). */
static bool
names_content(const char *pointer, const json_t *value)
{
    const char *text = json_string_value(value);

    return strcmp(pointer, "/jcl") == 0 || strncmp(pointer, "/jcl/", 5) == 0 ||
           (text != NULL && strcmp(pointer, "/nam") != 0 && (is_https(text) || is_data(text)));
}

static const EVP_MD *
digest_of(const char *text, const char **value)
{
    static const struct {
        const char *prefix;
        const EVP_MD *(*md)(void);
    } known[] = {{"sha256-", EVP_sha256}, {"sha384-", EVP_sha384}, {"sha512-", EVP_sha512}};

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        size_t len = strlen(known[i].prefix);

        if (strncmp(text, known[i].prefix, len) == 0) {
            *value = text + len;
            return known[i].md();
        }
    }
    return NULL;
}

/* Accept base64 with and without padding: the published examples have none. */
static bool
decode_digest(const char *text, size_t want, uint8_t *out)
{
    DEFER(free) char *octets = NULL;
    size_t len;

    if (strlen(text) > DIGEST_MAX || strpbrk(text, "-_") != NULL ||
        acme_base64_decode_any(text, strlen(text), (uint8_t **)&octets, &len) != HSM_OK ||
        len != want)
        return false;
    memcpy(out, octets, len);
    return true;
}

/* Check the digest of a value in the claim, which covers its canonical JSON (section 6.1.1). */
static enum hsm_status
check_inline(const json_t *value, const EVP_MD *md, const uint8_t *wanted, const char *pointer,
             struct sks_refusal *refusal)
{
    DEFER(free) char *text = acme_json_canonical(value);
    uint8_t found[EVP_MAX_MD_SIZE];
    unsigned len = 0;

    if (text == NULL)
        return HSM_ERR_NOMEM;
    if (EVP_Digest(text, strlen(text), found, &len, md, NULL) != 1)
        return HSM_ERR_CRYPTO;
    if (memcmp(found, wanted, len) != 0)
        return refuse_digest(refusal, pointer, "not the digest of the value");
    return HSM_OK;
}

static enum hsm_status
check_digest(const json_t *rcd, const char *pointer, const json_t *digest,
             struct sks_refusal *refusal)
{
    const char *text = json_string_value(digest);
    const json_t *value = resolve(rcd, pointer);
    const char *encoded = NULL;
    const EVP_MD *md = text == NULL ? NULL : digest_of(text, &encoded);
    uint8_t octets[EVP_MAX_MD_SIZE];

    /* The jCard behind jcl has not been fetched, so its elements cannot be resolved. */
    if (value == NULL && (strncmp(pointer, "/jcl/", 5) != 0 || !json_object_get(rcd, "jcl")))
        return refuse_digest(refusal, pointer, "names nothing of rcd");
    if (md == NULL || !decode_digest(encoded, (size_t)EVP_MD_get_size(md), octets))
        return refuse_digest(refusal, pointer, "not sha256-, sha384- or sha512- and its base64");
    return names_content(pointer, value) ? HSM_OK
                                         : check_inline(value, md, octets, pointer, refusal);
}

/* The values of a jCard property are its fourth and further elements (RFC 7095 section 3.3). */
static enum hsm_status
check_jcard_covered(const json_t *rcdi, const json_t *jcard, struct sks_refusal *refusal)
{
    json_t *property;
    size_t i;

    json_array_foreach(json_array_get(jcard, 1), i, property)
    {
        for (size_t j = 3; j < json_array_size(property); j++) {
            const char *text = json_string_value(json_array_get(property, j));
            char pointer[POINTER_MAX];

            snprintf(pointer, sizeof(pointer), "/jcd/1/%zu/%zu", i, j);
            if (text != NULL && is_https(text) && json_object_get(rcdi, pointer) == NULL)
                return refuse_digest(refusal, pointer, "a URI without its digest");
        }
    }
    return HSM_OK;
}

static enum hsm_status
check_rcdi(const json_t *rcdi, const json_t *rcd, struct sks_refusal *refusal)
{
    static const struct {
        const char *name, *pointer;
    } uris[] = {{"icn", "/icn"}, {"jcl", "/jcl"}};
    const char *pointer;
    json_t *digest;
    enum hsm_status st;

    if (!json_is_object(rcdi) || json_object_size(rcdi) == 0)
        return hsm_refuse(sks_refusal_of(refusal, "rcdi"), HSM_ERR_MALFORMED,
                          "not an object with members");
    json_object_foreach((json_t *)(uintptr_t)rcdi, pointer, digest) /* it is not changed */
    {
        st = check_digest(rcd, pointer, digest, refusal);
        if (st != HSM_OK)
            return st;
    }
    for (size_t i = 0; i < sizeof(uris) / sizeof(uris[0]); i++)
        if (json_object_get(rcd, uris[i].name) != NULL &&
            json_object_get(rcdi, uris[i].pointer) == NULL)
            return refuse_digest(refusal, uris[i].pointer, "a URI without its digest");
    return check_jcard_covered(rcdi, json_object_get(rcd, "jcd"), refusal);
}

enum hsm_status
sks_rcd_check(const json_t *rcd, const json_t *rcdi, struct sks_refusal *refusal)
{
    enum hsm_status st = rcd == NULL ? HSM_OK : check_rcd(rcd, refusal);

    if (st != HSM_OK || rcdi == NULL)
        return st;
    if (rcd == NULL)
        return hsm_refuse(sks_refusal_of(refusal, "rcdi"), HSM_ERR_MALFORMED,
                          "RFC 9795 section 6.1: only with rcd");
    return check_rcdi(rcdi, rcd, refusal);
}

bool
sks_rcdi_has_content(const json_t *rcdi, const json_t *rcd)
{
    const char *pointer;
    json_t *digest;

    json_object_foreach((json_t *)(uintptr_t)rcdi, pointer, digest) /* it is not changed */
    {
        if (names_content(pointer, resolve(rcd, pointer)))
            return true;
    }
    return false;
}
