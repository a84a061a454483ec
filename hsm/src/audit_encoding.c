/* audit_encoding.c - recognise encodings of private keys. */
#define _GNU_SOURCE /* memmem */
#include "audit_internal.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pkcs12.h>
#include <openssl/x509.h>

#include <hsm/base64url.h>
#include <hsm/defer.h>

#include "defer_internal.h"

#define DER_MAX      16384 /* octets of a key in DER; a longer one is not examined */
#define PEM_LABEL    48 /* octets of "-----BEGIN ...-----" at most */
#define PEM_BODY_MIN 16 /* characters of base64 after it */
#define JWK_REACH    1024 /* octets around "d" that are searched for "kty" */
#define JWK_D_MIN    32 /* characters of its value */

DEFINE_DEFER(PKCS8_PRIV_KEY_INFO, PKCS8_PRIV_KEY_INFO_free)
DEFINE_DEFER(PKCS12, PKCS12_free)
DEFINE_DEFER(X509_SIG, X509_SIG_free)

static bool
begins(const uint8_t *octets, size_t len, const char *text)
{
    size_t n = strlen(text);

    return len >= n && memcmp(octets, text, n) == 0;
}

/* ---- PEM (RFC 7468) ---- */

static bool
is_base64_char(uint8_t c)
{
    return isalnum(c) != 0 || c == '+' || c == '/' || c == '=';
}

/* Skips the line itself and RFC 1421 headers such as "Proc-Type:". A text about PEM has no body. */
static bool
has_body(const uint8_t *at, size_t len)
{
    size_t run = 0;

    for (size_t i = 0; i < len && i < 512; i++) {
        bool escaped = at[i] == '\\' && i + 1 < len && (at[i + 1] == 'n' || at[i + 1] == 'r');

        run = is_base64_char(at[i]) ? run + 1 : 0;
        if (run == PEM_BODY_MIN)
            return true;
        i += escaped ? 1 : 0; /* a PEM in a JSON string */
    }
    return false;
}

static const char *
pem_at(const uint8_t *at, size_t len)
{
    static const char begin[] = "-----BEGIN ";
    size_t i = sizeof(begin) - 1;
    size_t from = i;
    size_t size;

    if (!begins(at, len, begin))
        return NULL;
    while (i < len && i < PEM_LABEL && at[i] != '-')
        i++;
    if (!begins(at + i, len - i, "-----") || !has_body(at + i + 5, len - i - 5))
        return NULL;
    size = i - from;
    if (size >= 11 && memcmp(at + i - 11, "PRIVATE KEY", 11) == 0)
        return "private key, PEM";
    if (begins(at + from, size, "PGP PRIVATE KEY BLOCK"))
        return "private key, PGP";
    return NULL;
}

/* ---- DER ---- */

/* The length of a whole SEQUENCE; 0: it is not a SEQUENCE, or is cut short. */
static size_t
sequence_len(const uint8_t *at, size_t len)
{
    size_t n;

    if (len < 4 || at[0] != 0x30)
        return 0;
    if (at[1] < 0x80)
        n = 2 + (size_t)at[1];
    else if (at[1] == 0x81)
        n = 3 + (size_t)at[2];
    else if (at[1] == 0x82)
        n = 4 + ((size_t)at[2] << 8 | at[3]);
    else
        return 0;
    return n <= len && n <= DER_MAX ? n : 0;
}

static size_t
header_len(const uint8_t *at)
{
    return at[1] < 0x80 ? 2 : at[1] == 0x81 ? 3 : 4;
}

/* Parsed to be sure: meanwhile the key is in this process's memory. */
static bool
parses_as(int type, const uint8_t *der, size_t len)
{
    const uint8_t *at = der;
    DEFER(EVP_PKEY_free) EVP_PKEY *key = d2i_PrivateKey(type, NULL, &at, (long)len);

    return key != NULL && at == der + len;
}

static bool
is_pkcs8(const uint8_t *der, size_t len)
{
    const uint8_t *at = der;
    DEFER(PKCS8_PRIV_KEY_INFO_free)
    PKCS8_PRIV_KEY_INFO *info = d2i_PKCS8_PRIV_KEY_INFO(NULL, &at, (long)len);

    return info != NULL && at == der + len;
}

static bool
is_pkcs12(const uint8_t *der, size_t len)
{
    const uint8_t *at = der;
    DEFER(PKCS12_free) PKCS12 *p12 = d2i_PKCS12(NULL, &at, (long)len);

    return p12 != NULL && at == der + len;
}

/* RFC 5958 section 3: an AlgorithmIdentifier of PBES and an OCTET STRING. */
static bool
is_encrypted_pkcs8(const uint8_t *der, size_t len)
{
    const uint8_t *at = der;
    DEFER(X509_SIG_free) X509_SIG *sig = d2i_X509_SIG(NULL, &at, (long)len);
    const X509_ALGOR *algorithm = NULL;
    const ASN1_OBJECT *oid = NULL;

    if (sig == NULL || at != der + len)
        return false;
    X509_SIG_get0(sig, &algorithm, NULL);
    X509_ALGOR_get0(&oid, NULL, NULL, algorithm);
    return EVP_PBE_find(EVP_PBE_TYPE_OUTER, OBJ_obj2nid(oid), NULL, NULL, NULL) == 1;
}

/* Decides by what follows the SEQUENCE's header, so that little is parsed in vain. */
static const char *
judge_der(const uint8_t *der, size_t len)
{
    size_t skip = header_len(der);
    const uint8_t *inner = der + skip;
    size_t left = len - skip;

    if (left < 8)
        return NULL;
    if (inner[0] == 0x30)
        return left > 13 && inner[2] == 0x06 && is_encrypted_pkcs8(der, len)
                   ? "private key, PKCS #8 encrypted"
                   : NULL;
    if (inner[0] != 0x02 || inner[1] != 1)
        return NULL;
    if (inner[2] <= 1 && inner[3] == 0x30 && is_pkcs8(der, len))
        return "private key, PKCS #8";
    if (inner[2] == 1 && inner[3] == 0x04 && parses_as(EVP_PKEY_EC, der, len))
        return "private key, RFC 5915";
    if (inner[2] == 0 && inner[3] == 0x02 && parses_as(EVP_PKEY_RSA, der, len))
        return "private key, PKCS #1";
    if (inner[2] == 3 && inner[3] == 0x30 && is_pkcs12(der, len))
        return "private key, PKCS #12";
    return NULL;
}

static const char *
der_at(const uint8_t *at, size_t len)
{
    size_t n = sequence_len(at, len);
    const char *form;

    if (n == 0)
        return NULL;
    form = judge_der(at, n);
    ERR_clear_error();
    return form;
}

/* DER without its PEM lines: the base64 of every SEQUENCE begins with "M". */
static const char *
base64_at(const uint8_t *octets, size_t len, size_t at)
{
    const char *text = (const char *)octets + at;
    uint8_t *der = NULL;
    size_t n = 0;
    size_t der_len = 0;
    const char *form = NULL;

    if (len - at < 32 || text[0] != 'M' || (at > 0 && is_base64_char(octets[at - 1])))
        return NULL;
    while (n < len - at && n < DER_MAX &&
           (is_base64_char((uint8_t)text[n]) || text[n] == '-' || text[n] == '_'))
        n++;
    if (n < 32 || hsm_base64_decode_any(text, n, &der, &der_len) != HSM_OK)
        return NULL;
    if (der_at(der, der_len) != NULL)
        form = "private key, base64 of DER";
    OPENSSL_cleanse(der, der_len);
    free(der);
    return form;
}

/* ---- JWK (RFC 7518 sections 6.2.2 and 6.3.2) ---- */

static size_t
skip_blanks(const uint8_t *at, size_t len, size_t i)
{
    while (i < len && (at[i] == ' ' || at[i] == '\t' || at[i] == '\n' || at[i] == '\r'))
        i++;
    return i;
}

static bool
has_d(const uint8_t *at, size_t len)
{
    size_t i = skip_blanks(at, len, 3);
    size_t run = 0;

    if (i >= len || at[i] != ':')
        return false;
    i = skip_blanks(at, len, i + 1);
    if (i >= len || at[i] != '"')
        return false;
    for (i++; i < len && (isalnum(at[i]) != 0 || at[i] == '-' || at[i] == '_'); i++)
        run++;
    return run >= JWK_D_MIN && i < len && at[i] == '"';
}

static const char *
jwk_at(const uint8_t *octets, size_t len, size_t at)
{
    size_t from = at > JWK_REACH ? at - JWK_REACH : 0;
    size_t end = len - at > JWK_REACH ? at + JWK_REACH : len;

    if (!begins(octets + at, len - at, "\"d\"") || !has_d(octets + at, len - at))
        return NULL;
    return memmem(octets + from, end - from, "\"kty\"", 5) != NULL ? "private key, JWK" : NULL;
}

const char *
hsm_encoding_at(const uint8_t *octets, size_t len, size_t at)
{
    switch (octets[at]) {
    case '-':
        return pem_at(octets + at, len - at);
    case 0x30:
        return der_at(octets + at, len - at);
    case 'M':
        return base64_at(octets, len, at);
    case '"':
        return jwk_at(octets, len, at);
    default:
        return NULL;
    }
}
