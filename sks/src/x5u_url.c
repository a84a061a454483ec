/* x5u_url.c - the rules of ATIS-1000074 for the URL of a certificate chain. */
#include "x5u_internal.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#include <netinet/in.h>

#define SCHEME      "https://"
#define WIDEST_PORT 65535

/* The length of a host name, or of an IP literal with its brackets (RFC 3986 section 3.2.2); 0:
 * neither. */
static size_t
host_len(const char *host)
{
    size_t len;

    if (*host == '[') {
        len = 1 + strspn(host + 1, "0123456789abcdefABCDEF:.");
        return host[len] == ']' && len > 1 && len <= INET6_ADDRSTRLEN ? len + 1 : 0;
    }
    len = strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._");
    return len <= X5U_HOST_MAX ? len : 0;
}

/* Read a port, ":" and one to five digits, if there is one, and move *at past it. */
static bool
take_port(const char **at, unsigned *port)
{
    size_t digits;

    *port = 443;
    if (**at != ':')
        return true;
    digits = strspn(*at + 1, "0123456789");
    if (digits == 0 || digits > 5)
        return false;
    *port = 0;
    for (const char *c = *at + 1; c <= *at + digits; c++)
        *port = *port * 10 + (unsigned)(*c - '0');
    *at += 1 + digits;
    return *port > 0 && *port <= WIDEST_PORT;
}

/* path-abempty of RFC 3986 section 3.3, not empty. */
static bool
is_path(const char *path)
{
    if (*path != '/')
        return false;
    for (const char *c = path; *c != '\0'; c++) {
        if (*c == '%' && (!isxdigit((unsigned char)c[1]) || !isxdigit((unsigned char)c[2])))
            return false;
        if (!isalnum((unsigned char)*c) && strchr("/-._~%!$&'()*+,;=:@", *c) == NULL)
            return false;
    }
    return true;
}

enum hsm_status
sks_x5u_parse(const char *url, unsigned *port, struct hsm_reason *why)
{
    const char *at = url + strlen(SCHEME);
    size_t len;

    if (strnlen(url, SKS_X5U_MAX + 1) > SKS_X5U_MAX)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "x5u: longer than %d characters", SKS_X5U_MAX);
    if (strncasecmp(url, SCHEME, strlen(SCHEME)) != 0)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "x5u: not an https URL");
    if (at[strcspn(at, "?#")] != '\0')
        return hsm_refuse(why, HSM_ERR_MALFORMED, "x5u: has a query or fragment");
    if (memchr(at, '@', strcspn(at, "/")) != NULL)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "x5u: has user information");
    len = host_len(at);
    if (len == 0)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "x5u: has no host name or address");
    at += len;
    if (!take_port(&at, port))
        return hsm_refuse(why, HSM_ERR_MALFORMED, "x5u: not a port");
    if (!is_path(at))
        return hsm_refuse(why, HSM_ERR_MALFORMED, "x5u: not a path");
    return HSM_OK;
}

const char *
sks_x5u_host(const char *url, size_t *len)
{
    url += strlen(SCHEME);
    *len = host_len(url);
    return url;
}
