/* uri.c - PKCS#11 URIs: RFC 7512, checked here and matched by libp11-kit. */
#include <hsm/uri.h>

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <openssl/crypto.h>

#include <hsm/defer.h>

#include "uri_internal.h"

#define SCHEME         "pkcs11:"
#define ATTRIBUTES_MAX 32 /* per URI; more: HSM_ERR_MALFORMED */

struct attribute {
    const char *name; /* in hsm_uri.storage */
    const uint8_t *value; /* decoded, in hsm_uri.storage, followed by a NUL */
    size_t len;
};

struct hsm_uri {
    P11KitUri *p11;
    char *storage;
    size_t storage_size;
    struct attribute attributes[ATTRIBUTES_MAX];
    size_t count;
    bool matches_nothing;
};

static const char *const path_names[] = {
    "token",   "manufacturer",    "serial", "model", "library-manufacturer", "library-description",
    "object",  "library-version", "type",   "id",    "slot-manufacturer",    "slot-description",
    "slot-id",
};
static const char *const query_names[] = {"pin-source", "pin-value", "module-name", "module-path"};
static const char *const types[] = {"public", "private", "cert", "secret-key", "data"};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static bool
is_one_of(const char *word, const char *const *words, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(word, words[i]) == 0)
            return true;
    }
    return false;
}

static bool
is_standard(const char *name)
{
    return is_one_of(name, path_names, COUNT(path_names)) ||
           is_one_of(name, query_names, COUNT(query_names));
}

/* pk11-path-res-avail and pk11-query-res-avail beside the unreserved (RFC 7512 section 2.3). */
static bool
may_stand_plain(char c, bool in_query)
{
    static const char path_extra[] = ":[]@!$'()*+,=&";
    static const char query_extra[] = ":[]@!$'()*+,=/?|";

    if (c == '\0')
        return false;
    return isalnum((unsigned char)c) || strchr("-._~", c) != NULL ||
           strchr(in_query ? query_extra : path_extra, c) != NULL;
}

/* Decode in place; false for a bad escape or a character that must be escaped. */
static bool
decode(char *text, bool in_query, size_t *len)
{
    size_t n = 0;

    for (const char *c = text; *c != '\0'; c++) {
        if (*c == '%') {
            int high = OPENSSL_hexchar2int((unsigned char)c[1]);
            int low = high < 0 ? -1 : OPENSSL_hexchar2int((unsigned char)c[2]);

            if (low < 0)
                return false;
            text[n++] = (char)(high * 16 + low);
            c += 2;
        } else if (may_stand_plain(*c, in_query)) {
            text[n++] = *c;
        } else {
            return false;
        }
    }
    text[n] = '\0';
    *len = n;
    return true;
}

static const struct attribute *
find_attribute(const struct hsm_uri *uri, const char *name)
{
    for (size_t i = 0; i < uri->count; i++) {
        if (strcmp(uri->attributes[i].name, name) == 0)
            return &uri->attributes[i];
    }
    return NULL;
}

static bool
is_decimal(const char *text)
{
    if (*text == '\0')
        return false;
    return text[strspn(text, "0123456789")] == '\0';
}

/* 1*DIGIT [ "." 1*DIGIT ] */
static bool
is_version(const char *text)
{
    size_t major = strspn(text, "0123456789");

    return major > 0 &&
           (text[major] == '\0' || (text[major] == '.' && is_decimal(text + major + 1)));
}

static enum hsm_status
check_value(const struct attribute *attribute, struct hsm_reason *why)
{
    const char *value = (const char *)attribute->value;

    if (strcmp(attribute->name, "id") != 0 && memchr(value, '\0', attribute->len) != NULL)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "PKCS#11 URI: NUL in %s", attribute->name);
    if (strcmp(attribute->name, "id") == 0 && attribute->len > HSM_ID_MAX)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "PKCS#11 URI: id above %d octets", HSM_ID_MAX);
    if (strcmp(attribute->name, "type") == 0 && !is_one_of(value, types, COUNT(types)))
        return hsm_refuse(why, HSM_ERR_MALFORMED, "PKCS#11 URI: type is not one of RFC 7512");
    if (strcmp(attribute->name, "slot-id") == 0 && !is_decimal(value))
        return hsm_refuse(why, HSM_ERR_MALFORMED, "PKCS#11 URI: slot-id is not decimal");
    if (strcmp(attribute->name, "library-version") == 0 && !is_version(value))
        return hsm_refuse(why, HSM_ERR_MALFORMED, "PKCS#11 URI: library-version is not M[.m]");
    if (strcmp(attribute->name, "module-path") == 0 && value[0] != '/')
        return hsm_refuse(why, HSM_ERR_MALFORMED, "PKCS#11 URI: module-path is not absolute");
    return HSM_OK;
}

static bool
is_name(const char *name)
{
    for (const char *c = name; *c != '\0'; c++) {
        if (!isalnum((unsigned char)*c) && *c != '-' && *c != '_')
            return false;
    }
    return *name != '\0';
}

/* One "name=value", NUL-terminated in hsm_uri.storage. */
static enum hsm_status
add_attribute(struct hsm_uri *uri, char *text, bool in_query, struct hsm_reason *why)
{
    struct attribute *attribute = &uri->attributes[uri->count];
    char *equals = strchr(text, '=');
    bool standard;

    if (equals == NULL || uri->count == ATTRIBUTES_MAX)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "PKCS#11 URI: %s",
                          equals == NULL ? "an attribute without \"=\"" : "too many attributes");
    *equals = '\0';
    if (!is_name(text))
        return hsm_refuse(why, HSM_ERR_MALFORMED, "PKCS#11 URI: not an attribute name");
    standard = is_standard(text);
    if (standard && find_attribute(uri, text) != NULL)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "PKCS#11 URI: %s twice", text);
    if (standard && in_query != is_one_of(text, query_names, COUNT(query_names)))
        return hsm_refuse(why, HSM_ERR_MALFORMED, "PKCS#11 URI: %s on the wrong side of \"?\"",
                          text);
    attribute->name = text;
    attribute->value = (const uint8_t *)equals + 1;
    if (!decode(equals + 1, in_query, &attribute->len))
        return hsm_refuse(why, HSM_ERR_MALFORMED, "PKCS#11 URI: bad character or escape in %s",
                          text);
    uri->count++;
    if (!standard && !in_query)
        uri->matches_nothing = true;
    return standard ? check_value(attribute, why) : HSM_OK;
}

/* Attributes between separators; an empty part has no attributes. */
static enum hsm_status
add_attributes(struct hsm_uri *uri, char *part, char separator, struct hsm_reason *why)
{
    enum hsm_status st = HSM_OK;

    if (*part == '\0')
        return HSM_OK;
    while (st == HSM_OK && part != NULL) {
        char *end = strchr(part, separator);

        if (end != NULL)
            *end = '\0';
        st = add_attribute(uri, part, separator == '&', why);
        part = end != NULL ? end + 1 : NULL;
    }
    return st;
}

static enum hsm_status
parse_attributes(struct hsm_uri *uri, struct hsm_reason *why)
{
    char *path = uri->storage + strlen(SCHEME);
    char *query = strchr(path, '?');
    enum hsm_status st;

    if (query != NULL)
        *query++ = '\0';
    st = add_attributes(uri, path, ';', why);
    if (st == HSM_OK && query != NULL)
        st = add_attributes(uri, query, '&', why);
    if (st != HSM_OK)
        return st;
    if (find_attribute(uri, "pin-source") != NULL && find_attribute(uri, "pin-value") != NULL)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "PKCS#11 URI: both pin-source and pin-value");
    return HSM_OK;
}

enum hsm_status
hsm_uri_parse(const char *text, struct hsm_uri **out, struct hsm_reason *why)
{
    DEFER(hsm_uri_free) struct hsm_uri *uri = NULL;
    size_t len = strnlen(text, HSM_URI_MAX + 1);
    enum hsm_status st;

    if (len > HSM_URI_MAX)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "PKCS#11 URI: above %d octets", HSM_URI_MAX);
    if (strncasecmp(text, SCHEME, strlen(SCHEME)) != 0)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "not a PKCS#11 URI: no \"pkcs11:\"");
    uri = calloc(1, sizeof(*uri));
    if (uri == NULL)
        return HSM_ERR_NOMEM;
    uri->storage = strdup(text);
    uri->storage_size = len + 1;
    uri->p11 = p11_kit_uri_new();
    if (uri->storage == NULL || uri->p11 == NULL)
        return HSM_ERR_NOMEM;
    st = parse_attributes(uri, why);
    if (st != HSM_OK)
        return st;
    if (p11_kit_uri_parse(text, P11_KIT_URI_FOR_ANY, uri->p11) != P11_KIT_URI_OK)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "PKCS#11 URI: a value that no token can have");
    if (p11_kit_uri_any_unrecognized(uri->p11))
        uri->matches_nothing = true; /* as does a value that is too long */
    *out = uri;
    uri = NULL;
    return HSM_OK;
}

const char *
hsm_uri_get(const struct hsm_uri *uri, const char *attribute)
{
    const struct attribute *found =
        strcmp(attribute, "id") == 0 ? NULL : find_attribute(uri, attribute);

    return found != NULL ? (const char *)found->value : NULL;
}

const uint8_t *
hsm_uri_id(const struct hsm_uri *uri, size_t *len)
{
    const struct attribute *found = find_attribute(uri, "id");

    *len = found != NULL ? found->len : 0;
    return found != NULL ? found->value : NULL;
}

bool
hsm_uri_matches_nothing(const struct hsm_uri *uri)
{
    return uri->matches_nothing;
}

P11KitUri *
hsm_uri_p11(const struct hsm_uri *uri)
{
    return uri->p11;
}

void
hsm_uri_free(struct hsm_uri *uri)
{
    if (uri == NULL)
        return;
    if (uri->storage != NULL)
        OPENSSL_cleanse(uri->storage, uri->storage_size); /* may hold a pin-value */
    free(uri->storage);
    p11_kit_uri_free(uri->p11);
    free(uri);
}
