/* x509.c - helpers over OpenSSL's X.509, shared by the files of this floor. */

#define _GNU_SOURCE /* memmem */

#include "x509_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>

#include <certs/cert.h>
#include <hsm/es256.h>
#include <hsm/log.h>

/* 1.3.6.1.5.5.7.1, id-pe: its members that RFC 8226 and RFC 9118 define have no name in
 * OpenSSL 3.0.
 */
static const char id_pe[] = "1.3.6.1.5.5.7.1";
static const uint8_t id_pe_der[] = {0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x01};

/* SEQUENCE { 1.2.840.10045.4.3.2 }, no parameters (RFC 5758 section 3.2) */
static const uint8_t ecdsa_with_sha256[] = {0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86,
                                            0x48, 0xce, 0x3d, 0x04, 0x03, 0x02};

DEFINE_DEFER(AUTHORITY_KEYID, AUTHORITY_KEYID_free)
DEFINE_DEFER(EVP_ENCODE_CTX, EVP_ENCODE_CTX_free)
DEFINE_DEFER(GENERAL_NAME, GENERAL_NAME_free)
DEFINE_DEFER(X509_EXTENSION, X509_EXTENSION_free)

enum hsm_status
certs_openssl_failed(const char *what)
{
    unsigned long error = ERR_peek_last_error();
    const char *reason = error == 0 ? NULL : ERR_reason_error_string(error);

    hsm_log(HSM_LOG_ERROR, "%s: OpenSSL: %s", what, reason == NULL ? "no reason given" : reason);
    ERR_clear_error();
    return ERR_GET_REASON(error) == ERR_R_MALLOC_FAILURE ? HSM_ERR_NOMEM : HSM_ERR_CRYPTO;
}

bool
certs_is_p256(EVP_PKEY *key)
{
    uint8_t point[HSM_P256_POINT_LEN];

    return key != NULL && hsm_p256_point(key, point) == HSM_OK;
}

bool
certs_time_get(const ASN1_TIME *time, time_t *out)
{
    struct tm tm;

    if (time == NULL || ASN1_TIME_to_tm(time, &tm) != 1)
        return false;
    *out = timegm(&tm);
    return true;
}

void
certs_time_text(time_t time, char out[CERTS_TIME_TEXT_MAX])
{
    struct tm tm;

    if (gmtime_r(&time, &tm) == NULL ||
        strftime(out, CERTS_TIME_TEXT_MAX, "%Y-%m-%d %H:%M:%S UTC", &tm) == 0)
        out[0] = '\0';
}

void
certs_put_algorithm(struct der_writer *to)
{
    certs_der_put(to, ecdsa_with_sha256, sizeof(ecdsa_with_sha256));
}

bool
certs_is_ecdsa_with_sha256(struct der_reader algorithm)
{
    static const size_t header = 2, oid_len = sizeof(ecdsa_with_sha256) - header;

    return algorithm.left >= oid_len &&
           memcmp(algorithm.at, ecdsa_with_sha256 + header, oid_len) == 0;
}

enum hsm_status
certs_spki_public(const uint8_t *spki, size_t len, EVP_PKEY **out)
{
    const uint8_t *at = spki;
    enum hsm_status st = hsm_p256_from_spki(spki, len, out);
    EVP_PKEY *key;

    if (st != HSM_ERR_UNSUPPORTED)
        return st;
    key = d2i_PUBKEY(NULL, &at, (long)len);
    if (at == spki + len && certs_is_p256(key)) {
        *out = key;
        return HSM_OK;
    }
    EVP_PKEY_free(key);
    ERR_clear_error();
    return HSM_ERR_UNSUPPORTED;
}

enum hsm_status
certs_sign(struct hsm_key *key, const uint8_t *tbs, size_t len, uint8_t **der, size_t *der_len)
{
    struct der_writer writer = {0};
    uint8_t sig[HSM_P256_SIG_LEN];
    uint8_t sig_der[HSM_P256_DER_SIG_MAX];
    size_t sig_der_len;
    size_t start;
    enum hsm_status st;

    st = hsm_key_sign_verified(key, tbs, len, sig);
    if (st == HSM_OK)
        st = hsm_es256_to_der(sig, sig_der, &sig_der_len);
    if (st != HSM_OK)
        return st;

    certs_der_put(&writer, tbs, len);
    certs_put_algorithm(&writer);
    start = writer.len;
    certs_der_put(&writer, "\0", 1); /* unused bits of the last octet */
    certs_der_put(&writer, sig_der, sig_der_len);
    certs_der_wrap(&writer, start, DER_BIT_STRING);
    certs_der_wrap(&writer, 0, DER_SEQUENCE);
    if (writer.failed) {
        certs_der_writer_free(&writer);
        return HSM_ERR_NOMEM;
    }
    *der = writer.octets;
    *der_len = writer.len;
    return HSM_OK;
}

/*
 * OpenSSL sets this field only inside X509_sign(). Signing by hand keeps every signature on the one
 * path that verifies the token's answer; the price is this cast, on an object that is ours and not
 * yet encoded.
 */
enum hsm_status
certs_set_algorithm(X509 *cert)
{
    X509_ALGOR *algorithm = (X509_ALGOR *)X509_get0_tbs_sigalg(cert);

    if (X509_ALGOR_set0(algorithm, OBJ_nid2obj(NID_ecdsa_with_SHA256), V_ASN1_UNDEF, NULL) != 1)
        return certs_openssl_failed("signature algorithm");
    return HSM_OK;
}

enum hsm_status
certs_pem_write(const char *label, const uint8_t *der, size_t len, char **out)
{
    DEFER(BIO_free_all) BIO *bio = BIO_new(BIO_s_mem());
    char *text;
    char *octets;
    long text_len;

    if (bio == NULL)
        return HSM_ERR_NOMEM;
    if (PEM_write_bio(bio, label, "", der, (long)len) <= 0)
        return certs_openssl_failed("PEM");
    text_len = BIO_get_mem_data(bio, &octets);
    text = strndup(octets, (size_t)text_len);
    if (text == NULL)
        return HSM_ERR_NOMEM;
    *out = text;
    return HSM_OK;
}

static bool
is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static const char *
find(const struct certs_pem_scan *in, const char *text)
{
    return memmem(in->at, in->left, text, strlen(text));
}

static void
scan_skip(struct certs_pem_scan *scan, const char *to)
{
    scan->left -= (size_t)(to - scan->at);
    scan->at = to;
}

/* Go to the next "-----BEGIN "; HSM_ERR_NOT_FOUND: only blanks, or allowed text, are left. */
static enum hsm_status
scan_to_begin(struct certs_pem_scan *scan, bool text_allowed, struct hsm_reason *why)
{
    const char *begin = find(scan, "-----BEGIN ");

    if (!text_allowed) {
        while (scan->left > 0 && is_blank(*scan->at))
            scan_skip(scan, scan->at + 1);
        if (scan->left > 0 && begin != scan->at)
            return hsm_refuse(why, HSM_ERR_MALFORMED, "PEM: text outside of a block");
    }
    if (begin == NULL)
        return HSM_ERR_NOT_FOUND;
    scan_skip(scan, begin);
    return HSM_OK;
}

/* RFC 7468 section 3: base64 and blanks only. */
static enum hsm_status
decode_base64(const char *text, size_t len, uint8_t **out, size_t *out_len)
{
    DEFER(EVP_ENCODE_CTX_free) EVP_ENCODE_CTX *ctx = EVP_ENCODE_CTX_new();
    DEFER(free) void *octets = malloc(len / 4 * 3 + 3);
    int decoded = 0;
    int last = 0;

    if (ctx == NULL || octets == NULL)
        return HSM_ERR_NOMEM;
    if (len > INT32_MAX || memchr(text, '-', len) != NULL)
        return HSM_ERR_MALFORMED;
    EVP_DecodeInit(ctx);
    if (EVP_DecodeUpdate(ctx, octets, &decoded, (const uint8_t *)text, (int)len) < 0 ||
        EVP_DecodeFinal(ctx, (uint8_t *)octets + decoded, &last) != 1 || decoded + last == 0) {
        ERR_clear_error();
        return HSM_ERR_MALFORMED;
    }
    *out_len = (size_t)(decoded + last);
    *out = octets;
    octets = NULL;
    return HSM_OK;
}

enum hsm_status
certs_pem_next(struct certs_pem_scan *scan, const char *label, bool text_allowed, uint8_t **der,
               size_t *der_len, struct hsm_reason *why)
{
    char begin[64];
    char end[64];
    const char *last;
    enum hsm_status st = scan_to_begin(scan, text_allowed, why);

    if (st != HSM_OK)
        return st;
    (void)snprintf(begin, sizeof(begin), "-----BEGIN %s-----", label);
    (void)snprintf(end, sizeof(end), "-----END %s-----", label);
    if (scan->left < strlen(begin) || memcmp(scan->at, begin, strlen(begin)) != 0)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "PEM: a block that is not a \"%s\"", label);
    scan_skip(scan, scan->at + strlen(begin));
    last = find(scan, end);
    if (last == NULL)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "PEM: no \"%s\"", end);
    st = decode_base64(scan->at, (size_t)(last - scan->at), der, der_len);
    if (st == HSM_ERR_MALFORMED)
        return hsm_refuse(why, st, "PEM: a \"%s\" is not base64", label);
    if (st == HSM_OK)
        scan_skip(scan, last + strlen(end));
    return st;
}

enum hsm_status
certs_pem_or_der(const uint8_t *octets, size_t len, const char *label, uint8_t **der,
                 size_t *der_len, struct hsm_reason *why)
{
    struct certs_pem_scan scan = {.at = (const char *)octets, .left = len};
    enum hsm_status st;

    if (certs_der_is_one_sequence(octets, len)) {
        *der = malloc(len);
        if (*der == NULL)
            return HSM_ERR_NOMEM;
        memcpy(*der, octets, len);
        *der_len = len;
        return HSM_OK;
    }
    st = certs_pem_next(&scan, label, true, der, der_len, why);
    if (st == HSM_ERR_NOT_FOUND)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "neither DER nor a PEM \"%s\"", label);
    if (st != HSM_OK)
        return st;
    if (find(&scan, "-----BEGIN ") != NULL) {
        free(*der);
        return hsm_refuse(why, HSM_ERR_MALFORMED, "PEM: more than one block");
    }
    return HSM_OK;
}

bool
certs_is_end_entity(const X509 *cert)
{
    X509 *filled = (X509 *)cert; /* OpenSSL's getters fill a cache under a lock */

    return (X509_get_extension_flags(filled) & EXFLAG_CA) == 0 && X509_check_ca(filled) == 0;
}

bool
certs_needs_zero(const uint8_t *octets, size_t len)
{
    return len > 0 && (octets[0] & 0x80) != 0;
}

enum hsm_status
certs_serial_check(const ASN1_INTEGER *serial, struct hsm_reason *why)
{
    size_t len = (size_t)ASN1_STRING_length(serial);

    if ((ASN1_STRING_type(serial) & V_ASN1_NEG) != 0)
        return hsm_refuse(why, HSM_ERR_UNSUPPORTED,
                          "RFC 5280 section 4.1.2.2: its serial number is negative");
    if (certs_needs_zero(ASN1_STRING_get0_data(serial), len))
        len++;
    if (len > CERTS_SERIAL_MAX)
        return hsm_refuse(why, HSM_ERR_UNSUPPORTED,
                          "RFC 5280 section 4.1.2.2: its serial number has more than %d octets",
                          CERTS_SERIAL_MAX);
    return HSM_OK;
}

/* The number is bounded first: each is compared with each, before any signature was checked. */
enum hsm_status
certs_exts_unique(const X509_EXTENSIONS *exts, const char *what, struct hsm_reason *why)
{
    if (sk_X509_EXTENSION_num(exts) > CERTS_EXTS_MAX)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "%s: more than %d extensions", what,
                          CERTS_EXTS_MAX);
    for (int i = 0; i < sk_X509_EXTENSION_num(exts); i++) {
        const ASN1_OBJECT *oid = X509_EXTENSION_get_object(sk_X509_EXTENSION_value(exts, i));

        if (X509v3_get_ext_by_OBJ(exts, oid, i) >= 0) {
            char text[80];

            (void)OBJ_obj2txt(text, sizeof(text), oid, 0);
            return hsm_refuse(why, HSM_ERR_MALFORMED, "%s: RFC 5280 section 4.2: %s is there twice",
                              what, text);
        }
    }
    return HSM_OK;
}

static bool
is_pe(X509_EXTENSION *ext, enum certs_pe member)
{
    const ASN1_OBJECT *oid = X509_EXTENSION_get_object(ext);
    const uint8_t *der = OBJ_get0_data(oid);

    return OBJ_length(oid) == sizeof(id_pe_der) + 1 &&
           memcmp(der, id_pe_der, sizeof(id_pe_der)) == 0 && der[sizeof(id_pe_der)] == member;
}

enum hsm_status
certs_exts_find_pe(const X509_EXTENSIONS *exts, enum certs_pe member, const char *what,
                   const ASN1_OCTET_STRING **out, struct hsm_reason *why)
{
    const ASN1_OCTET_STRING *value = NULL;

    for (int i = 0; i < sk_X509_EXTENSION_num(exts); i++) {
        X509_EXTENSION *ext = sk_X509_EXTENSION_value(exts, i);

        if (!is_pe(ext, member))
            continue;
        if (value != NULL)
            return hsm_refuse(why, HSM_ERR_MALFORMED, "%s: the extension is there twice", what);
        value = X509_EXTENSION_get_data(ext);
    }
    *out = value;
    return HSM_OK;
}

enum hsm_status
certs_exts_tnauthlist(const X509_EXTENSIONS *exts, struct certs_tnauthlist **out,
                      struct hsm_reason *why)
{
    const ASN1_OCTET_STRING *value = NULL;
    enum hsm_status st = certs_exts_find_pe(exts, CERTS_PE_TNAUTHLIST, "TNAuthList", &value, why);

    if (st != HSM_OK)
        return st;
    if (value == NULL)
        return hsm_refuse(why, HSM_ERR_NOT_FOUND, "TNAuthList: no such extension");
    return certs_tnauthlist_parse(ASN1_STRING_get0_data(value), (size_t)ASN1_STRING_length(value),
                                  out, why);
}

/* Non-critical: RFC 8226 sections 8 and 9, RFC 9118 section 3. */
static enum hsm_status
add_pe(X509_EXTENSIONS **exts, enum certs_pe member, const uint8_t *der, size_t len)
{
    DEFER(ASN1_OBJECT_free) ASN1_OBJECT *oid = NULL;
    DEFER(ASN1_OCTET_STRING_free) ASN1_OCTET_STRING *value = ASN1_OCTET_STRING_new();
    DEFER(X509_EXTENSION_free) X509_EXTENSION *ext = NULL;
    char text[sizeof(id_pe) + 8];

    (void)snprintf(text, sizeof(text), "%s.%d", id_pe, (int)member);
    oid = OBJ_txt2obj(text, 1);
    if (oid == NULL || value == NULL || ASN1_OCTET_STRING_set(value, der, (int)len) != 1)
        return certs_openssl_failed(text);
    ext = X509_EXTENSION_create_by_OBJ(NULL, oid, 0, value);
    if (ext == NULL || X509v3_add_ext(exts, ext, -1) == NULL)
        return certs_openssl_failed(text);
    return HSM_OK;
}

enum hsm_status
certs_exts_add_tnauthlist(X509_EXTENSIONS **exts, const struct certs_tnauthlist *list)
{
    size_t len;
    const uint8_t *der = certs_tnauthlist_der(list, &len);

    return add_pe(exts, CERTS_PE_TNAUTHLIST, der, len);
}

enum hsm_status
certs_exts_constraints(const X509_EXTENSIONS *exts, struct certs_constraints **out,
                       struct hsm_reason *why)
{
    enum certs_constraints_form form = CERTS_CONSTRAINTS_JWT;
    const ASN1_OCTET_STRING *jwt = NULL;
    const ASN1_OCTET_STRING *enhanced = NULL;
    enum hsm_status st =
        certs_exts_find_pe(exts, CERTS_PE_JWT_CONSTRAINTS, "JWTClaimConstraints", &jwt, why);

    if (st == HSM_OK)
        st = certs_exts_find_pe(exts, CERTS_PE_ENHANCED_JWT_CONSTRAINTS,
                                "EnhancedJWTClaimConstraints", &enhanced, why);
    if (st != HSM_OK)
        return st;
    if (jwt == NULL && enhanced == NULL)
        return hsm_refuse(why, HSM_ERR_NOT_FOUND, "no claim constraints");
    if (jwt != NULL && enhanced != NULL)
        return hsm_refuse(why, HSM_ERR_MALFORMED,
                          "RFC 9118 section 6: both JWTClaimConstraints and "
                          "EnhancedJWTClaimConstraints");
    if (enhanced != NULL) {
        form = CERTS_CONSTRAINTS_ENHANCED;
        jwt = enhanced;
    }
    return certs_constraints_parse(form, ASN1_STRING_get0_data(jwt),
                                   (size_t)ASN1_STRING_length(jwt), out, why);
}

enum hsm_status
certs_exts_add_constraints(X509_EXTENSIONS **exts, const struct certs_constraints *constraints)
{
    size_t len;
    const uint8_t *der = certs_constraints_der(constraints, &len);
    bool is_enhanced = certs_constraints_form(constraints) == CERTS_CONSTRAINTS_ENHANCED;

    return add_pe(exts, is_enhanced ? CERTS_PE_ENHANCED_JWT_CONSTRAINTS : CERTS_PE_JWT_CONSTRAINTS,
                  der, len);
}

enum hsm_status
certs_exts_add(X509_EXTENSIONS **exts, int nid, bool critical, void *value)
{
    if (value == NULL || X509V3_add1_i2d(exts, nid, value, critical, X509V3_ADD_DEFAULT) != 1)
        return certs_openssl_failed(OBJ_nid2sn(nid));
    return HSM_OK;
}

enum hsm_status
certs_exts_add_basic_constraints(X509_EXTENSIONS **exts, bool ca, long path_len)
{
    DEFER(BASIC_CONSTRAINTS_free) BASIC_CONSTRAINTS *constraints = BASIC_CONSTRAINTS_new();

    if (constraints != NULL)
        constraints->ca = ca ? 0xff : 0;
    if (constraints != NULL && path_len != CERTS_NO_PATH_LEN) {
        constraints->pathlen = ASN1_INTEGER_new();
        if (constraints->pathlen == NULL || ASN1_INTEGER_set(constraints->pathlen, path_len) != 1)
            return HSM_ERR_NOMEM;
    }
    return certs_exts_add(exts, NID_basic_constraints, true, constraints);
}

enum hsm_status
certs_exts_add_info_access(X509_EXTENSIONS **exts, const char *method, const char *url)
{
    DEFER(AUTHORITY_INFO_ACCESS_free) AUTHORITY_INFO_ACCESS *access = AUTHORITY_INFO_ACCESS_new();
    DEFER(GENERAL_NAMES_free) GENERAL_NAMES *names = certs_uri_names(url);
    ACCESS_DESCRIPTION *description = ACCESS_DESCRIPTION_new();
    ASN1_OBJECT *oid = OBJ_txt2obj(method, 1);

    if (access == NULL || names == NULL || description == NULL || oid == NULL ||
        sk_ACCESS_DESCRIPTION_push(access, description) < 1) {
        ASN1_OBJECT_free(oid);
        ACCESS_DESCRIPTION_free(description);
        return certs_openssl_failed("authorityInfoAccess");
    }
    ASN1_OBJECT_free(description->method);
    description->method = oid;
    GENERAL_NAME_free(description->location);
    description->location = sk_GENERAL_NAME_pop(names);
    return certs_exts_add(exts, NID_info_access, false, access);
}

static bool
is_method(const ACCESS_DESCRIPTION *description, const char *method)
{
    char oid[32];

    return OBJ_obj2txt(oid, sizeof(oid), description->method, 1) > 0 && strcmp(oid, method) == 0;
}

bool
certs_access_has(const AUTHORITY_INFO_ACCESS *access, const char *method)
{
    for (int i = 0; i < sk_ACCESS_DESCRIPTION_num(access); i++) {
        if (is_method(sk_ACCESS_DESCRIPTION_value(access, i), method))
            return true;
    }
    return false;
}

char *
certs_access_url(const AUTHORITY_INFO_ACCESS *access, const char *method)
{
    for (int i = 0; i < sk_ACCESS_DESCRIPTION_num(access); i++) {
        const ACCESS_DESCRIPTION *description = sk_ACCESS_DESCRIPTION_value(access, i);
        char *url;

        if (!is_method(description, method))
            continue;
        url = certs_name_uri(description->location);
        if (url != NULL)
            return url;
    }
    return NULL;
}

enum hsm_status
certs_exts_add_authority_key_id(X509_EXTENSIONS **exts, const X509 *issuer)
{
    DEFER(AUTHORITY_KEYID_free) AUTHORITY_KEYID *id = AUTHORITY_KEYID_new();

    if (id == NULL)
        return HSM_ERR_NOMEM;
    id->keyid = ASN1_OCTET_STRING_dup(X509_get0_subject_key_id((X509 *)issuer));
    if (id->keyid == NULL)
        return HSM_ERR_NOMEM;
    return certs_exts_add(exts, NID_authority_key_identifier, false, id);
}

/* LDH labels, at most one leading wildcard label: RFC 5280 section 4.2.1.6, RFC 6125 section 6.4.3.
 */
static bool
is_dns_name(const char *text)
{
    size_t len = strlen(text);
    size_t label = 0;

    if (strncmp(text, "*.", 2) == 0)
        return len > 2 && text[2] != '*' && is_dns_name(text + 2);
    if (len < 1 || len > 253)
        return false;
    for (size_t i = 0; i < len; i++) {
        bool is_ldh = (text[i] >= 'a' && text[i] <= 'z') || (text[i] >= 'A' && text[i] <= 'Z') ||
                      (text[i] >= '0' && text[i] <= '9') || text[i] == '-';

        if (text[i] == '.' && label > 0)
            label = 0;
        else if (!is_ldh || ++label > 63)
            return false;
    }
    return label > 0;
}

static enum hsm_status
push_name(GENERAL_NAMES *names, int type, ASN1_STRING *value)
{
    DEFER(GENERAL_NAME_free) GENERAL_NAME *name = GENERAL_NAME_new();

    if (name == NULL || value == NULL) {
        ASN1_STRING_free(value);
        return HSM_ERR_NOMEM;
    }
    GENERAL_NAME_set0_value(name, type, value);
    if (sk_GENERAL_NAME_push(names, name) < 1)
        return HSM_ERR_NOMEM;
    name = NULL;
    return HSM_OK;
}

static ASN1_STRING *
ia5string(const char *text)
{
    ASN1_STRING *value = ASN1_STRING_type_new(V_ASN1_IA5STRING);

    if (value != NULL && ASN1_STRING_set(value, text, -1) != 1) {
        ASN1_STRING_free(value);
        return NULL;
    }
    return value;
}

enum hsm_status
certs_exts_add_alt_names(X509_EXTENSIONS **exts, const char *const *dns_names,
                         const char *const *ip_addresses, struct hsm_reason *why)
{
    DEFER(GENERAL_NAMES_free) GENERAL_NAMES *names = GENERAL_NAMES_new();
    enum hsm_status st = names == NULL ? HSM_ERR_NOMEM : HSM_OK;

    for (size_t i = 0; st == HSM_OK && dns_names != NULL && dns_names[i] != NULL; i++) {
        if (!is_dns_name(dns_names[i]))
            return hsm_refuse(why, HSM_ERR_USAGE, "\"%s\" is not a DNS name", dns_names[i]);
        st = push_name(names, GEN_DNS, ia5string(dns_names[i]));
    }
    for (size_t i = 0; st == HSM_OK && ip_addresses != NULL && ip_addresses[i] != NULL; i++) {
        ASN1_OCTET_STRING *address = a2i_IPADDRESS(ip_addresses[i]);

        if (address == NULL) {
            ERR_clear_error();
            return hsm_refuse(why, HSM_ERR_USAGE, "\"%s\" is not an IP address", ip_addresses[i]);
        }
        st = push_name(names, GEN_IPADD, address);
    }
    if (st != HSM_OK || sk_GENERAL_NAME_num(names) == 0)
        return st;
    return certs_exts_add(exts, NID_subject_alt_name, false, names);
}

static enum hsm_status
add_attribute(X509_NAME *name, int nid, const char *value, struct hsm_reason *why)
{
    if (value == NULL)
        return HSM_OK;
    if (*value == '\0')
        return hsm_refuse(why, HSM_ERR_USAGE, "subject: empty %s", OBJ_nid2sn(nid));
    for (const char *c = value; *c != '\0'; c++) {
        if ((uint8_t)*c < 0x20 || *c == 0x7f)
            return hsm_refuse(why, HSM_ERR_USAGE, "subject: control character in %s",
                              OBJ_nid2sn(nid));
    }
    /* The default string mask makes UTF8String of all attributes but C, a PrintableString by
     * X.520. */
    if (X509_NAME_add_entry_by_NID(name, nid, MBSTRING_UTF8, (const uint8_t *)value, -1, -1, 0) !=
        1) {
        ERR_clear_error();
        return hsm_refuse(why, HSM_ERR_USAGE, "subject: %s is not UTF-8, or too long (X.520)",
                          OBJ_nid2sn(nid));
    }
    return HSM_OK;
}

static bool
is_country(const char *text)
{
    return text[0] >= 'A' && text[0] <= 'Z' && text[1] >= 'A' && text[1] <= 'Z' && text[2] == '\0';
}

enum hsm_status
certs_subject_name(const struct certs_subject *subject, X509_NAME **out, struct hsm_reason *why)
{
    DEFER(X509_NAME_free) X509_NAME *name = X509_NAME_new();
    enum hsm_status st;

    if (name == NULL)
        return HSM_ERR_NOMEM;
    if (subject->country != NULL && !is_country(subject->country))
        return hsm_refuse(why, HSM_ERR_USAGE,
                          "subject: \"%s\" is not a country (ISO 3166-1 alpha-2)",
                          subject->country);
    st = add_attribute(name, NID_countryName, subject->country, why);
    if (st == HSM_OK)
        st = add_attribute(name, NID_stateOrProvinceName, subject->state, why);
    if (st == HSM_OK)
        st = add_attribute(name, NID_localityName, subject->locality, why);
    if (st == HSM_OK)
        st = add_attribute(name, NID_organizationName, subject->organization, why);
    if (st == HSM_OK)
        st = add_attribute(name, NID_commonName, subject->common_name, why);
    if (st != HSM_OK)
        return st;

    *out = name;
    name = NULL;
    return HSM_OK;
}

GENERAL_NAMES *
certs_uri_names(const char *uri)
{
    DEFER(GENERAL_NAMES_free) GENERAL_NAMES *names = GENERAL_NAMES_new();
    GENERAL_NAMES *made;

    if (names == NULL || push_name(names, GEN_URI, ia5string(uri)) != HSM_OK)
        return NULL;
    made = names;
    names = NULL;
    return made;
}

GENERAL_NAMES *
certs_directory_names(const X509_NAME *name)
{
    DEFER(GENERAL_NAMES_free) GENERAL_NAMES *names = GENERAL_NAMES_new();
    GENERAL_NAMES *made = names;
    GENERAL_NAME *general = GENERAL_NAME_new();
    X509_NAME *copy = X509_NAME_dup(name);

    if (names == NULL || general == NULL || copy == NULL) {
        GENERAL_NAME_free(general);
        X509_NAME_free(copy);
        return NULL;
    }
    GENERAL_NAME_set0_value(general, GEN_DIRNAME, copy);
    if (sk_GENERAL_NAME_push(names, general) < 1) {
        GENERAL_NAME_free(general);
        return NULL;
    }
    names = NULL;
    return made;
}

static bool
is_printable_ascii(const uint8_t *octets, int len)
{
    for (int i = 0; i < len; i++) {
        if (octets[i] <= 0x20 || octets[i] > 0x7e)
            return false;
    }
    return len > 0;
}

char *
certs_name_uri(const GENERAL_NAME *name)
{
    const uint8_t *octets;
    int len;

    if (name->type != GEN_URI)
        return NULL;
    octets = ASN1_STRING_get0_data(name->d.uniformResourceIdentifier);
    len = ASN1_STRING_length(name->d.uniformResourceIdentifier);
    return is_printable_ascii(octets, len) ? strndup((const char *)octets, (size_t)len) : NULL;
}

char *
certs_names_uri(const GENERAL_NAMES *names)
{
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        char *uri = certs_name_uri(sk_GENERAL_NAME_value(names, i));

        if (uri != NULL)
            return uri;
    }
    return NULL;
}
