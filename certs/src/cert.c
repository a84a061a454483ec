/* cert.c - one X.509 certificate: parse it, read its fields. */

#include <certs/cert.h>

#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>

#include <hsm/hex.h>

#include "der_internal.h"
#include "x509_internal.h"

enum hsm_status
certs_cert_parse_der(const uint8_t *der, size_t len, X509 **out, struct hsm_reason *why)
{
    DEFER(X509_free) X509 *cert = NULL;
    const uint8_t *at = der;
    time_t time;

    if (len > CERTS_CERT_MAX)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "certificate: more than %d octets",
                          CERTS_CERT_MAX);
    if (!certs_der_is_one_sequence(der, len))
        return hsm_refuse(why, HSM_ERR_MALFORMED, "certificate: not exactly one DER SEQUENCE");
    cert = d2i_X509(NULL, &at, (long)len);
    if (cert == NULL || at != der + len) {
        ERR_clear_error();
        return hsm_refuse(why, HSM_ERR_MALFORMED, "certificate: not a Certificate of RFC 5280");
    }
    if (!certs_time_get(X509_get0_notBefore(cert), &time) ||
        !certs_time_get(X509_get0_notAfter(cert), &time))
        return hsm_refuse(why, HSM_ERR_MALFORMED, "certificate: its validity is not two times");

    *out = cert;
    cert = NULL;
    return HSM_OK;
}

enum hsm_status
certs_cert_der(const X509 *cert, uint8_t **out, size_t *len)
{
    int der_len = i2d_X509(cert, NULL);
    uint8_t *der;
    uint8_t *at;

    if (der_len <= 0)
        return certs_openssl_failed("certificate");
    der = at = malloc((size_t)der_len);
    if (der == NULL)
        return HSM_ERR_NOMEM;
    (void)i2d_X509(cert, &at);
    *out = der;
    *len = (size_t)der_len;
    return HSM_OK;
}

enum hsm_status
certs_cert_pem(const X509 *cert, char **out)
{
    uint8_t *der;
    size_t len;
    enum hsm_status st = certs_cert_der(cert, &der, &len);

    if (st != HSM_OK)
        return st;
    st = certs_cert_pem_of_der(der, len, out);
    free(der);
    return st;
}

enum hsm_status
certs_cert_pem_of_der(const uint8_t *der, size_t len, char **out)
{
    return certs_pem_write("CERTIFICATE", der, len, out);
}

enum hsm_status
certs_cert_tnauthlist(const X509 *cert, struct certs_tnauthlist **out, struct hsm_reason *why)
{
    return certs_exts_tnauthlist(X509_get0_extensions(cert), out, why);
}

char *
certs_cert_tnauthlist_url(const X509 *cert)
{
    DEFER(AUTHORITY_INFO_ACCESS_free)
    AUTHORITY_INFO_ACCESS *access = X509_get_ext_d2i(cert, NID_info_access, NULL, NULL);

    if (access == NULL)
        ERR_clear_error();
    return certs_access_url(access, CERTS_AD_STIR_TN_LIST);
}

bool
certs_cert_has_tnauthlist_elsewhere(const X509 *cert)
{
    int found;
    DEFER(AUTHORITY_INFO_ACCESS_free)
    AUTHORITY_INFO_ACCESS *access = X509_get_ext_d2i(cert, NID_info_access, &found, NULL);

    if (access == NULL) {
        ERR_clear_error();
        return found != -1; /* -1: absent */
    }
    return certs_access_has(access, CERTS_AD_STIR_TN_LIST);
}

const X509_NAME *
certs_cert_subject_name(const X509 *cert)
{
    return X509_get_subject_name(cert);
}

char *
certs_name_text(const X509_NAME *name)
{
    DEFER(BIO_free_all) BIO *bio = BIO_new(BIO_s_mem());
    char *octets;
    long len;

    if (bio == NULL || X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253) < 0) {
        ERR_clear_error();
        return NULL;
    }
    len = BIO_get_mem_data(bio, &octets);
    return len == 0 ? strdup("") : strndup(octets, (size_t)len);
}

char *
certs_cert_subject(const X509 *cert)
{
    return certs_name_text(X509_get_subject_name(cert));
}

char *
certs_cert_issuer(const X509 *cert)
{
    return certs_name_text(X509_get_issuer_name(cert));
}

static char *
only_attribute(const X509_NAME *name, int nid)
{
    int at = X509_NAME_get_index_by_NID(name, nid, -1);
    uint8_t *utf8 = NULL;
    char *text = NULL;
    int len;

    if (at < 0 || X509_NAME_get_index_by_NID(name, nid, at) >= 0)
        return NULL;
    len = ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at)));
    if (len < 0)
        ERR_clear_error();
    else if (memchr(utf8, '\0', (size_t)len) == NULL)
        text = strndup((const char *)utf8, (size_t)len);
    OPENSSL_free(utf8);
    return text;
}

/* "DNS:" and "URI:" names; NULL: another kind of name, or one that a person could misread. */
static const char *
alt_name(const GENERAL_NAME *name, const char **kind)
{
    const char *text;

    if (name->type != GEN_DNS && name->type != GEN_URI)
        return NULL;
    *kind = name->type == GEN_DNS ? "DNS:" : "URI:";
    text = (const char *)ASN1_STRING_get0_data(name->d.ia5);
    for (int i = 0; i < ASN1_STRING_length(name->d.ia5); i++) {
        if (text[i] <= ' ' || text[i] > '~')
            return NULL;
    }
    return ASN1_STRING_length(name->d.ia5) > 0 ? text : NULL; /* OpenSSL ends it with a NUL */
}

char *
certs_cert_alt_names(const X509 *cert)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    char *text = NULL;
    size_t len = 0;
    FILE *to = open_memstream(&text, &len);

    for (int i = 0; to != NULL && i < sk_GENERAL_NAME_num(names); i++) {
        const char *kind;
        const char *name = alt_name(sk_GENERAL_NAME_value(names, i), &kind);

        if (name != NULL)
            fprintf(to, "%s%s%s", ftell(to) > 0 ? " " : "", kind, name);
    }
    GENERAL_NAMES_free(names);
    if (to != NULL && fclose(to) == 0 && len > 0)
        return text;
    free(text);
    return NULL;
}

char *
certs_cert_common_name(const X509 *cert)
{
    return only_attribute(X509_get_subject_name(cert), NID_commonName);
}

char *
certs_cert_organization(const X509 *cert)
{
    return only_attribute(X509_get_subject_name(cert), NID_organizationName);
}

size_t
certs_cert_serial(const X509 *cert, uint8_t out[CERTS_SERIAL_MAX])
{
    DEFER(ASN1_INTEGER_free) ASN1_INTEGER *serial = ASN1_INTEGER_dup(X509_get0_serialNumber(cert));
    uint8_t der[2 + CERTS_SERIAL_MAX];
    uint8_t *at = der;
    int len = serial == NULL ? -1 : i2d_ASN1_INTEGER(serial, NULL);

    if (len < 2 || (size_t)len > sizeof(der))
        return 0;
    (void)i2d_ASN1_INTEGER(serial, &at);
    memcpy(out, der + 2, (size_t)len - 2); /* shorter than 128 octets: the header has two */
    return (size_t)len - 2;
}

enum hsm_status
certs_cert_check_serial(const X509 *cert, struct hsm_reason *why)
{
    return certs_serial_check(X509_get0_serialNumber(cert), why);
}

char *
certs_cert_serial_hex(const X509 *cert)
{
    uint8_t serial[CERTS_SERIAL_MAX];
    size_t len = certs_cert_serial(cert, serial);
    char *hex = malloc(HSM_HEX_LEN(len) + 1);

    if (hex != NULL)
        hsm_hex_put(serial, len, hex);
    return hex;
}

/* hsm_hex_get() reads lower-case digits only; a person may type capitals. */
static bool
read_hex(const char *hex, uint8_t *out, size_t len)
{
    char lower[HSM_HEX_LEN(CERTS_SERIAL_MAX)];

    if (HSM_HEX_LEN(len) > sizeof(lower))
        return false;
    for (size_t i = 0; i < HSM_HEX_LEN(len); i++)
        lower[i] = hex[i] >= 'A' && hex[i] <= 'F' ? (char)(hex[i] - 'A' + 'a') : hex[i];
    return hsm_hex_get(lower, HSM_HEX_LEN(len), out, len);
}

enum hsm_status
certs_serial_parse(const char *hex, uint8_t out[CERTS_SERIAL_MAX], size_t *len,
                   struct hsm_reason *why)
{
    uint8_t octets[1 + CERTS_SERIAL_MAX] = {0}; /* with room for a leading zero */
    size_t digits = strlen(hex), count = 1 + digits / 2, zeros = 0;

    if (digits == 0 || digits % 2 != 0 || !read_hex(hex, octets + 1, digits / 2))
        return hsm_refuse(why, HSM_ERR_MALFORMED, "serial: not 1 to %d octets in hex",
                          CERTS_SERIAL_MAX);
    while (zeros < count && octets[zeros] == 0)
        zeros++;
    if (zeros == count)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "serial: not positive");
    if ((octets[zeros] & 0x80) != 0) /* X.690 section 8.3.3: negative without the zero */
        zeros--;
    if (count - zeros > CERTS_SERIAL_MAX)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "serial: more than %d octets", CERTS_SERIAL_MAX);
    *len = count - zeros;
    memcpy(out, octets + zeros, *len);
    return HSM_OK;
}

const uint8_t *
certs_cert_authority_key_id(const X509 *cert, size_t *len)
{
    /* OpenSSL caches parsed extensions in the certificate, so it takes it without const. */
    const ASN1_OCTET_STRING *id = X509_get0_authority_key_id((X509 *)(uintptr_t)cert);

    if (id == NULL || ASN1_STRING_length(id) <= 0)
        return NULL;
    *len = (size_t)ASN1_STRING_length(id);
    return ASN1_STRING_get0_data(id);
}

time_t
certs_cert_not_before(const X509 *cert)
{
    time_t time = 0; /* certs_cert_parse_der() refuses a certificate without a valid one */

    (void)certs_time_get(X509_get0_notBefore(cert), &time);
    return time;
}

time_t
certs_cert_not_after(const X509 *cert)
{
    time_t time = 0;

    (void)certs_time_get(X509_get0_notAfter(cert), &time);
    return time;
}

EVP_PKEY *
certs_cert_public(const X509 *cert)
{
    EVP_PKEY *key = X509_get0_pubkey(cert);

    if (key == NULL)
        ERR_clear_error();
    return key;
}

bool
certs_cert_names_issuer(const X509 *cert, const X509 *issuer)
{
    return X509_check_issued((X509 *)issuer, (X509 *)cert) == X509_V_OK;
}

bool
certs_cert_same_subject(const X509 *a, const X509 *b)
{
    return X509_NAME_cmp(X509_get_subject_name(a), X509_get_subject_name(b)) == 0;
}

char *
certs_cert_crl_url(const X509 *cert)
{
    DEFER(CRL_DIST_POINTS_free)
    CRL_DIST_POINTS *points = X509_get_ext_d2i(cert, NID_crl_distribution_points, NULL, NULL);

    if (points == NULL)
        ERR_clear_error();
    for (int i = 0; i < sk_DIST_POINT_num(points); i++) {
        const DIST_POINT_NAME *name = sk_DIST_POINT_value(points, i)->distpoint;
        char *url = name == NULL || name->type != 0 ? NULL : certs_names_uri(name->name.fullname);

        if (url != NULL)
            return url;
    }
    return NULL;
}

enum hsm_status
certs_cert_sha256(const X509 *cert, uint8_t out[32])
{
    if (X509_digest(cert, EVP_sha256(), out, NULL) != 1)
        return certs_openssl_failed("certificate");
    return HSM_OK;
}
