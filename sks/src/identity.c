/* identity.c - the Identity header field value. */
#include <sks/identity.h>

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <hsm/defer.h>

/* Part of the text being parsed. */
struct span {
    const char *at;
    size_t len;
};

/* Linear white space, folded lines included (RFC 3261 section 25.1). */
static const char blanks[] = " \t\r\n";

static const char *
skip_blanks(const char *at)
{
    return at + strspn(at, blanks);
}

static bool
is_name(struct span name, const char *wanted)
{
    return strlen(wanted) == name.len && strncasecmp(name.at, wanted, name.len) == 0;
}

/* The value may still follow "Identity:" or its compact form "y:" (RFC 8224 section 13.1). */
static const char *
skip_header_name(const char *text)
{
    const char *at = skip_blanks(text);
    struct span name = {at, strcspn(at, " \t\r\n:;.")};
    const char *colon = skip_blanks(at + name.len);

    if (*colon == ':' && (is_name(name, "Identity") || is_name(name, "y")))
        return skip_blanks(colon + 1);
    return at;
}

/* base64-char and "." of RFC 8224 section 4, and "-" and "_" of base64url, which its grammar
 * lacks. */
static bool
is_digest_character(char c)
{
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'))
        return true;
    return c == '-' || c == '_' || c == '.' || c == '+' || c == '/' || c == '=';
}

/* RFC 3261 section 25.1, token. */
static bool
is_token(struct span text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (!isalnum((unsigned char)text.at[i]) && strchr("-.!%*_+`'~", text.at[i]) == NULL)
            return false;
    }
    return text.len > 0;
}

/* No control characters. UTF-8 may occur in the quoted string of an unknown parameter. */
static bool
is_text(struct span text, bool may_be_utf8)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.at[i];

        if (c < 0x20 || c == 0x7f || (c > 0x7f && !may_be_utf8))
            return false;
    }
    return true;
}

/* The text between a pair of marks; *at moves past the second. In a quoted string a backslash
 * escapes the next character; both are kept, because no known parameter uses escapes. */
static bool
take_enclosed(const char **at, char end, struct span *out)
{
    const char *last = *at + 1;

    while (*last != '\0' && *last != end)
        last += end == '"' && last[0] == '\\' && last[1] != '\0' ? 2 : 1;
    if (*last == '\0')
        return false;
    *out = (struct span){*at + 1, (size_t)(last - *at) - 1};
    *at = last + 1;
    return true;
}

static bool
take_value(const char **at, struct span *out)
{
    if (**at == '<')
        return take_enclosed(at, '>', out);
    if (**at == '"')
        return take_enclosed(at, '"', out);
    *out = (struct span){*at, strcspn(*at, "; \t\r\n")};
    *at += out->len;
    return out->len > 0;
}

/* One ident-info-params; a generic-param may lack a value. */
static enum hsm_status
take_parameter(const char **at, struct span *name, struct span *value, struct hsm_reason *why)
{
    *at = skip_blanks(*at);
    *name = (struct span){*at, strcspn(*at, "=; \t\r\n")};
    *value = (struct span){*at, 0};
    if (!is_token(*name))
        return hsm_refuse(why, HSM_ERR_MALFORMED, "Identity: a parameter without a name");
    *at = skip_blanks(*at + name->len);
    if (**at == '=') {
        *at = skip_blanks(*at + 1);
        if (!take_value(at, value) || !is_text(*value, true))
            return hsm_refuse(why, HSM_ERR_MALFORMED, "Identity: the value of %.*s is broken",
                              (int)name->len, name->at);
        *at = skip_blanks(*at);
    }
    if (**at != ';' && **at != '\0')
        return hsm_refuse(why, HSM_ERR_MALFORMED, "Identity: no ';' after %.*s", (int)name->len,
                          name->at);
    return HSM_OK;
}

/* The member for a known parameter; NULL: unknown. */
static char **
field_of(struct sks_identity *identity, struct span name)
{
    if (is_name(name, "info"))
        return &identity->info;
    if (is_name(name, "alg"))
        return &identity->alg;
    if (is_name(name, "ppt"))
        return &identity->ppt;
    return NULL;
}

static enum hsm_status
keep_parameter(struct sks_identity *identity, struct span name, struct span value,
               struct hsm_reason *why)
{
    char **field = field_of(identity, name);

    if (field == NULL)
        return HSM_OK;
    if (*field != NULL)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "Identity: %.*s twice", (int)name.len, name.at);
    if (field == &identity->info && !is_text(value, false))
        return hsm_refuse(why, HSM_ERR_MALFORMED, "Identity: info is not ASCII");
    if (field != &identity->info && !is_token(value))
        return hsm_refuse(why, HSM_ERR_MALFORMED, "Identity: %.*s is not a token", (int)name.len,
                          name.at);
    *field = strndup(value.at, value.len);
    return *field == NULL ? HSM_ERR_NOMEM : HSM_OK;
}

static enum hsm_status
parse_parameters(const char *at, struct sks_identity *identity, struct hsm_reason *why)
{
    enum hsm_status st = HSM_OK;
    struct span name;
    struct span value;

    while (st == HSM_OK && *at == ';') {
        at++;
        st = take_parameter(&at, &name, &value, why);
        if (st == HSM_OK)
            st = keep_parameter(identity, name, value, why);
    }
    return st;
}

enum hsm_status
sks_identity_parse(const char *text, struct sks_identity *out, struct hsm_reason *why)
{
    struct sks_identity parsed = {0};
    DEFER(sks_identity_clear) struct sks_identity *held = &parsed;
    struct span digest;
    const char *at;
    enum hsm_status st;

    if (strnlen(text, SKS_IDENTITY_MAX + 1) > SKS_IDENTITY_MAX)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "Identity: longer than %d characters",
                          SKS_IDENTITY_MAX);
    at = skip_header_name(text);
    digest = (struct span){at, 0};
    while (is_digest_character(at[digest.len]))
        digest.len++;
    at = skip_blanks(at + digest.len);
    if (digest.len == 0 || (*at != ';' && *at != '\0'))
        return hsm_refuse(why, HSM_ERR_MALFORMED, "Identity: no signed-identity-digest");
    parsed.passport = strndup(digest.at, digest.len);
    if (parsed.passport == NULL)
        return HSM_ERR_NOMEM;
    st = parse_parameters(at, &parsed, why);
    if (st != HSM_OK)
        return st;
    *out = parsed;
    held = NULL;
    return HSM_OK;
}

void
sks_identity_clear(struct sks_identity *identity)
{
    free(identity->passport);
    free(identity->info);
    free(identity->alg);
    free(identity->ppt);
    *identity = (struct sks_identity){0};
}

char *
sks_identity_format(const char *passport, const char *x5u, const char *ppt)
{
    static const char format[] = "%s;info=<%s>;alg=ES256%s%s%s";
    bool is_token = strcmp(ppt, "shaken") == 0;
    const char *name = *ppt == '\0' ? "" : is_token ? ";ppt=" : ";ppt=\"";
    const char *end = *ppt == '\0' || is_token ? "" : "\"";
    size_t size = sizeof(format) + strlen(passport) + strlen(x5u) + strlen(name) + strlen(ppt) + 1;
    char *text = malloc(size);

    if (text != NULL)
        snprintf(text, size, format, passport, x5u, name, ppt, end);
    return text;
}
