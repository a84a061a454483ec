/* authority_plea.c - parse a revocation request. */
#define _GNU_SOURCE /* asprintf */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/x509.h>

#include <acme/base64url.h>
#include <acme/json.h>
#include <certs/cert.h>
#include <certs/issue.h>
#include <hsm/defer.h>
#include <hsm/hex.h>
#include <hsm/text.h>
#include <hsm/time.h>

#include "authority_revoke_internal.h"
#include "defer_internal.h"

#define ISSUER_MAX 4096 /* characters of the issuer in base64 */
#define DAY_S      86400

void
acme_authority_plea_clear(struct authority_plea *plea)
{
    X509_NAME_free(plea->name);
    free(plea->issuer);
    plea->name = NULL;
    plea->issuer = NULL;
}

static enum hsm_status
parse_issuer(const char *text, struct authority_plea *plea, struct hsm_reason *why)
{
    enum hsm_status st;

    if (strlen(text) > ISSUER_MAX)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "issuer: too long");
    st = acme_base64_decode_any(text, strlen(text), &plea->issuer, &plea->issuer_len);
    if (st == HSM_ERR_MALFORMED)
        return hsm_refuse(why, st, "issuer: neither base64 nor base64url");
    if (st != HSM_OK)
        return st;
    if (certs_name_parse(plea->issuer, plea->issuer_len, &plea->name) != HSM_OK)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "issuer: not a name in DER");
    return HSM_OK;
}

static enum hsm_status
parse_reason(const json_t *body, struct authority_plea *plea, struct hsm_reason *why)
{
    int64_t reason;
    enum hsm_status st = acme_json_integer(body, "reason", &reason, why);

    if (st != HSM_OK)
        return st;
    if (!certs_crl_is_reason(reason))
        return hsm_refuse(why, HSM_ERR_MALFORMED, "reason: not 0 to 6, 9 or 10");
    plea->reason = (int)reason;
    return HSM_OK;
}

/* Operators are shown one line for each request. */
static enum hsm_status
parse_requester(const char *text, struct authority_plea *plea, struct hsm_reason *why)
{
    size_t len = strlen(text);

    if (len == 0 || len > ACME_AUTHORITY_REQUESTER_MAX)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "requester: not 1 to %d octets",
                          ACME_AUTHORITY_REQUESTER_MAX);
    if (!hsm_text_is_plain(text))
        return hsm_refuse(why, HSM_ERR_MALFORMED, "requester: has control characters");
    plea->requester = text;
    return HSM_OK;
}

/* A notAfter that an STI-CA states; a service provider's is read from its certificate. No CRL has
 * to list a certificate that has ended, and an entry with a notAfter in the far future would stay
 * for ever. */
static enum hsm_status
parse_not_after(const json_t *body, time_t now, struct authority_plea *plea, struct hsm_reason *why)
{
    const char *text = NULL;
    enum hsm_status st = acme_json_string_optional(body, "notAfter", &text, why);

    if (st != HSM_OK || text == NULL)
        return st;
    if (hsm_time_parse(text, &plea->not_after) != HSM_OK)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "notAfter: not a time of RFC 3339");
    if (plea->not_after < now)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "notAfter: the certificate has ended");
    if (plea->not_after - now > (time_t)ACME_AUTHORITY_ENTRY_DAYS * DAY_S)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "notAfter: more than %d days from now",
                          ACME_AUTHORITY_ENTRY_DAYS);
    return HSM_OK;
}

enum hsm_status
acme_authority_plea_parse(const json_t *body, time_t now, struct authority_plea *plea,
                          struct hsm_reason *why)
{
    const char *issuer, *serial, *requester;
    enum hsm_status st;

    if ((st = acme_json_string(body, "issuer", &issuer, why)) != HSM_OK ||
        (st = acme_json_string(body, "serial", &serial, why)) != HSM_OK ||
        (st = acme_json_string(body, "requester", &requester, why)) != HSM_OK ||
        (st = acme_json_string_optional(body, "chain", &plea->chain, why)) != HSM_OK ||
        (st = parse_reason(body, plea, why)) != HSM_OK ||
        (st = parse_not_after(body, now, plea, why)) != HSM_OK ||
        (st = certs_serial_parse(serial, plea->serial, &plea->serial_len, why)) != HSM_OK ||
        (st = parse_requester(requester, plea, why)) != HSM_OK)
        return st;
    return parse_issuer(issuer, plea, why);
}

enum hsm_status
acme_authority_plea_take(const X509 *cert, struct authority_plea *plea, struct hsm_reason *why)
{
    struct certs_crl_entry entry;
    enum hsm_status st = certs_crl_entry_of(cert, &entry, why);

    if (st != HSM_OK)
        return st;
    plea->name = X509_NAME_dup(entry.issuer);
    if (plea->name == NULL)
        return HSM_ERR_NOMEM;
    memcpy(plea->serial, entry.serial, entry.serial_len);
    plea->serial_len = entry.serial_len;
    plea->not_after = certs_cert_not_after(cert);
    plea->is_end_shown = true;
    return certs_name_der(entry.issuer, &plea->issuer, &plea->issuer_len);
}

enum hsm_status
acme_authority_plea_adopt(struct acme_store *store, struct authority_plea *plea,
                          char owner[ACME_AUTHORITY_ID_MAX + 1])
{
    uint8_t *der = NULL;
    size_t len = 0;
    enum hsm_status st = acme_authority_issuer_find(store, plea->name, owner, &der, &len);

    if (st != HSM_OK)
        return st;
    free(plea->issuer);
    plea->issuer = der;
    plea->issuer_len = len;
    return HSM_OK;
}

char *
acme_authority_certificate_text(const uint8_t *issuer, size_t issuer_len, const uint8_t *serial,
                                size_t serial_len)
{
    char hex[HSM_HEX_LEN(CERTS_SERIAL_MAX) + 1] = "";
    DEFER(X509_NAME_free) X509_NAME *name = NULL;
    DEFER(free) char *of = NULL;
    char *text = NULL;

    if (certs_name_parse(issuer, issuer_len, &name) == HSM_OK)
        of = certs_name_text(name);
    if (serial != NULL && serial_len <= CERTS_SERIAL_MAX)
        hsm_hex_put(serial, serial_len, hex);
    return asprintf(&text, "%s of %s", hex, of != NULL ? of : "?") >= 0 ? text : NULL;
}
