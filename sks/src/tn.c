/* tn.c - telephone numbers and SIP URIs in canonical form. */
#include <sks/tn.h>

#include <ctype.h>
#include <string.h>
#include <strings.h>

#define NATIONAL_MIN 5 /* digits after a national prefix; fewer are a service code */
#define GLOBAL_MIN   7 /* digits after an international prefix */

static const char number_characters[] = "0123456789#*";
static const char visual_separators[] = "-.() \t\r\n"; /* RFC 3966 section 3, and white space */

bool
sks_tn_is_canonical(const char *text)
{
    size_t len = strlen(text);

    return len >= 1 && len <= SKS_TN_MAX && strspn(text, number_characters) == len;
}

static bool
is_number_character(char c)
{
    return (c >= '0' && c <= '9') || c == '#' || c == '*';
}

/* The text after the scheme, or NULL. Schemes are case-insensitive (RFC 3986 section 3.1). */
static const char *
after_scheme(const char *text, const char *scheme)
{
    size_t len = strlen(scheme);

    return strncasecmp(text, scheme, len) == 0 ? text + len : NULL;
}

static const char *
after_sip(const char *text)
{
    const char *rest = after_scheme(text, "sip:");

    return rest != NULL ? rest : after_scheme(text, "sips:");
}

/* The part that may be a number: it ends before parameters, a SIP password or the host. */
static bool
find_number(const char *text, const char **start, size_t *len)
{
    /* Nearly all texts are bare numbers: skip the search for a scheme. */
    bool may_have_scheme = isalpha((unsigned char)text[0]) != 0;
    const char *rest = may_have_scheme ? after_sip(text) : NULL;

    if (rest != NULL) {
        if (strchr(rest, '@') == NULL)
            return false; /* no user part */
        *len = strcspn(rest, ";:@");
    } else {
        if (may_have_scheme)
            rest = after_scheme(text, "tel:");
        if (rest == NULL)
            rest = text;
        *len = strcspn(rest, ";");
    }
    *start = rest;
    return true;
}

static int
hex_value(char c)
{
    if (!isxdigit((unsigned char)c))
        return -1;
    return isdigit((unsigned char)c) ? c - '0' : tolower((unsigned char)c) - 'a' + 10;
}

/* Decode the next character, which may be percent-encoded (RFC 3986 section 2.1), and move *at past
 * it. '\0': malformed. */
static char
next_character(const char **at, const char *end)
{
    const char *c = *at;
    int high;
    int low;

    if (*c != '%') {
        *at = c + 1;
        return *c;
    }
    if (end - c < 3)
        return '\0';
    high = hex_value(c[1]);
    low = hex_value(c[2]);
    *at = c + 3;
    return high < 0 || low < 0 ? '\0' : (char)(high * 16 + low);
}

/* The digits of a number without its "+" and separators. */
static enum hsm_status
collect_digits(const char *start, size_t len, char out[SKS_TN_MAX + 1], bool *global)
{
    const char *end = start + len;
    size_t n = 0;

    *global = false;
    while (start < end) {
        char c = next_character(&start, end);

        if (c == '\0')
            return HSM_ERR_NOT_FOUND;
        if (c == '+' && n == 0 && !*global) {
            *global = true;
        } else if (is_number_character(c)) {
            if (n == SKS_TN_MAX)
                return HSM_ERR_MALFORMED;
            out[n++] = c;
        } else if (strchr(visual_separators, c) == NULL) {
            return HSM_ERR_NOT_FOUND;
        }
    }
    out[n] = '\0';
    return n > 0 ? HSM_OK : HSM_ERR_NOT_FOUND;
}

/* The digits after a prefix; NULL: the number does not have it. */
static const char *
behind(const char *number, const char *prefix)
{
    size_t len = strlen(prefix);

    return len > 0 && strncmp(number, prefix, len) == 0 ? number + len : NULL;
}

/* If the plan sets no length of national numbers, their prefix identifies them. */
static bool
is_national(const struct sks_dial_plan *plan, const char *number, bool has_prefix)
{
    size_t len = strlen(number);

    return plan->national_digits != 0 ? len == plan->national_digits
                                      : has_prefix && len >= NATIONAL_MIN;
}

/* A number dialled under the plan without its prefix, and the country code to put before it;
 * service codes such as 911 and *67 are not changed. */
static const char *
find_global(const struct sks_dial_plan *plan, const char *number, const char **country_code)
{
    const char *rest;

    *country_code = "";
    if (number[strspn(number, "0123456789")] != '\0')
        return number;
    rest = behind(number, plan->international_prefix);
    if (rest != NULL && *rest != '0' && strlen(rest) >= GLOBAL_MIN)
        return rest;
    rest = behind(number, plan->national_prefix);
    if (rest == NULL || !is_national(plan, rest, true))
        rest = is_national(plan, number, false) ? number : NULL;
    if (rest == NULL)
        return number;
    *country_code = plan->country_code;
    return rest;
}

enum hsm_status
sks_tn_canonical(const char *text, const struct sks_dial_plan *plan, char out[SKS_TN_MAX + 1])
{
    char number[SKS_TN_MAX + 1];
    const char *country_code = "";
    const char *rest = number;
    const char *start;
    size_t len;
    bool global;
    enum hsm_status st;

    if (strlen(text) > SKS_TN_URI_MAX)
        return HSM_ERR_MALFORMED;
    if (!find_number(text, &start, &len))
        return HSM_ERR_NOT_FOUND;
    st = collect_digits(start, len, number, &global);
    if (st != HSM_OK)
        return st;
    if (plan != NULL && plan->country_code != NULL && !global)
        rest = find_global(plan, number, &country_code);
    len = strlen(country_code);
    if (len + strlen(rest) > SKS_TN_MAX)
        return HSM_ERR_MALFORMED;
    memcpy(out, country_code, len);
    memcpy(out + len, rest, strlen(rest) + 1);
    return HSM_OK;
}

/* Length of the user part, without its password and parameters. */
static size_t
user_len(const char *user, const char *at)
{
    size_t len = (size_t)(at - user);
    size_t plain = strcspn(user, ";:@");

    return plain < len ? plain : len;
}

/* Length of the host, without port, parameters and headers; the colons of an IPv6 reference are
 * part of it. */
static size_t
host_len(const char *host)
{
    const char *bracket = *host == '[' ? strchr(host, ']') : NULL;

    return bracket != NULL ? (size_t)(bracket - host) + 1 : strcspn(host, ":;?");
}

static bool
is_unreserved(char c)
{
    return c != '\0' && (isalnum((unsigned char)c) || strchr("-._~", c) != NULL);
}

/* Write in lower case, with percent-encoding only where it is necessary; returns the length. */
static size_t
write_folded(const char *from, size_t len, char *out)
{
    const char *end = from + len;
    size_t n = 0;

    while (from < end) {
        const char *c = from;
        char decoded = next_character(&from, end);

        if (is_unreserved(decoded)) {
            out[n++] = (char)tolower((unsigned char)decoded);
            continue;
        }
        if (decoded == '\0')
            from = c + 1; /* not an escape: kept as it is */
        for (; c < from; c++)
            out[n++] = (char)tolower((unsigned char)*c);
    }
    return n;
}

enum hsm_status
sks_uri_canonical(const char *uri, char out[SKS_TN_URI_MAX + 1])
{
    const char *user = after_sip(uri);
    const char *at = user == NULL ? NULL : strchr(user, '@');
    size_t scheme_len;
    size_t n = 0;

    if (at == NULL)
        return HSM_ERR_NOT_FOUND;
    if (strlen(uri) > SKS_TN_URI_MAX || at == user || host_len(at + 1) == 0)
        return HSM_ERR_MALFORMED;
    scheme_len = (size_t)(user - uri);
    n += write_folded(uri, scheme_len, out);
    n += write_folded(user, user_len(user, at), out + n);
    out[n++] = '@';
    n += write_folded(at + 1, host_len(at + 1), out + n);
    out[n] = '\0';
    return HSM_OK;
}
