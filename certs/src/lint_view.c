/* lint_view.c - parse a certificate into what the rules look at. */
#include "lint_internal.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>

#include "x509_internal.h"

#define TAG_NUMBER      0x1f
#define TAG_CONSTRUCTED 0x20
#define TAG_CLASS       0xc0 /* 0: universal */
#define DER_BOOLEAN     0x01
#define DER_OCTETS      0x04
#define DER_OID         0x06
#define KEY_IDENTIFIER  0x80 /* [0] IMPLICIT */

DEFINE_DEFER(ASN1_STRING, ASN1_STRING_free)

/* OBJECT IDENTIFIERs, as encoded. */
static const struct {
    size_t len;
    uint8_t oid[8];
} ext_oids[LINT_EXTS] = {
    [LINT_EXT_BASIC_CONSTRAINTS] = {3, {0x55, 0x1d, 0x13}},
    [LINT_EXT_KEY_USAGE] = {3, {0x55, 0x1d, 0x0f}},
    [LINT_EXT_SUBJECT_KEY_ID] = {3, {0x55, 0x1d, 0x0e}},
    [LINT_EXT_AUTHORITY_KEY_ID] = {3, {0x55, 0x1d, 0x23}},
    [LINT_EXT_POLICIES] = {3, {0x55, 0x1d, 0x20}},
    [LINT_EXT_CRL_POINTS] = {3, {0x55, 0x1d, 0x1f}},
    [LINT_EXT_TNAUTHLIST] = {8, {0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x01, 0x1a}},
};

static const int attribute_nids[LINT_ATTRIBUTES] = {
    [LINT_C] = NID_countryName,
    [LINT_O] = NID_organizationName,
    [LINT_CN] = NID_commonName,
    [LINT_SERIAL_NUMBER] = NID_serialNumber,
};

/* 2.16.840.1.114569.1.1, the United States' SHAKEN certificate policies */
static const uint8_t shaken_policies[] = {0x60, 0x86, 0x48, 0x01, 0x86, 0xff, 0x09, 0x01, 0x01};

bool
certs_lint_read_any(struct der_reader *from, uint8_t *tag, struct der_reader *content)
{
    uint8_t first = from->left > 0 ? *from->at : 0;

    if ((first & TAG_NUMBER) == TAG_NUMBER || !certs_der_read(from, first, content))
        return false;
    *tag = first;
    return true;
}

const char *
certs_lint_oid_text(const ASN1_OBJECT *oid, char text[LINT_OID_TEXT_MAX])
{
    return OBJ_obj2txt(text, LINT_OID_TEXT_MAX, oid, 0) > 0 ? text : "?";
}

/* BMPString to UTF-8, by OpenSSL. */
static enum hsm_status
read_bmp_string(const uint8_t *octets, size_t len, struct lint_text *out)
{
    DEFER(ASN1_STRING_free) ASN1_STRING *string = ASN1_STRING_type_new(V_ASN1_BMPSTRING);
    uint8_t *utf8 = NULL;
    int utf8_len;

    if (string == NULL || ASN1_STRING_set(string, octets, (int)len) != 1)
        return HSM_ERR_NOMEM;
    utf8_len = ASN1_STRING_to_UTF8(&utf8, string);
    if (utf8_len < 0)
        return HSM_ERR_MALFORMED;
    free(out->octets);
    *out = (struct lint_text){.octets = malloc((size_t)utf8_len + 1), .len = (size_t)utf8_len};
    if (out->octets != NULL)
        memcpy(out->octets, utf8, (size_t)utf8_len);
    OPENSSL_free(utf8);
    return out->octets == NULL ? HSM_ERR_NOMEM : HSM_OK;
}

/* X.680 section 41; '*' and '&' do not belong to it, but occur in practice. */
static bool
is_printable(uint8_t octet)
{
    return (octet >= 'A' && octet <= 'Z') || (octet >= 'a' && octet <= 'z') ||
           (octet >= '0' && octet <= '9') || (octet != '\0' && strchr(" '()+,-./:=?*&", octet));
}

static bool
is_of_type(int type, const uint8_t *octets, size_t len)
{
    size_t left = len;

    switch (type) {
    case V_ASN1_PRINTABLESTRING:
        while (left > 0 && is_printable(octets[left - 1]))
            left--;
        return left == 0;
    case V_ASN1_NUMERICSTRING:
        while (left > 0 && octets[left - 1] != '\0' && strchr("0123456789 ", octets[left - 1]))
            left--;
        return left == 0;
    case V_ASN1_IA5STRING:
        while (left > 0 && octets[left - 1] < 0x80)
            left--;
        return left == 0;
    case V_ASN1_UTF8STRING:
        while (left > 0) {
            unsigned long character;
            int used = UTF8_getc(octets + (len - left), (int)left, &character);

            if (used <= 0)
                return false;
            left -= (size_t)used;
        }
        return true;
    default:
        return type == V_ASN1_T61STRING || type == V_ASN1_GENERALSTRING;
    }
}

static enum hsm_status
copy_text(const uint8_t *octets, size_t len, struct lint_text *out)
{
    uint8_t *copy = malloc(len + 1);

    if (copy == NULL)
        return HSM_ERR_NOMEM;
    if (len > 0)
        memcpy(copy, octets, len);
    free(out->octets);
    *out = (struct lint_text){.octets = copy, .len = len};
    return HSM_OK;
}

/* A string of a type used as text in directories; HSM_ERR_MALFORMED: another type, or octets that
 * its type does not allow. */
static enum hsm_status
read_string(int type, const uint8_t *octets, size_t len, struct lint_text *out)
{
    if (len > INT_MAX)
        return HSM_ERR_MALFORMED;
    if (type == V_ASN1_BMPSTRING)
        return read_bmp_string(octets, len, out);
    return is_of_type(type, octets, len) ? copy_text(octets, len, out) : HSM_ERR_MALFORMED;
}

/* read_string() for names, but octets that the type does not allow count as text, too: the
 * attribute exists. */
static enum hsm_status
read_value(const ASN1_STRING *value, struct lint_text *out)
{
    const uint8_t *octets = ASN1_STRING_get0_data(value);
    size_t len = (size_t)ASN1_STRING_length(value);
    enum hsm_status st = read_string(ASN1_STRING_type(value), octets, len, out);

    if (st != HSM_ERR_MALFORMED)
        return st;
    switch (ASN1_STRING_type(value)) {
    case V_ASN1_PRINTABLESTRING:
    case V_ASN1_NUMERICSTRING:
    case V_ASN1_IA5STRING:
    case V_ASN1_UTF8STRING:
    case V_ASN1_BMPSTRING:
        return copy_text(octets, len, out);
    default:
        return HSM_ERR_MALFORMED;
    }
}

enum lint_ext_id
certs_lint_ext_id(const X509_EXTENSION *ext)
{
    const ASN1_OBJECT *oid = X509_EXTENSION_get_object((X509_EXTENSION *)ext);
    size_t len = OBJ_length(oid);
    size_t id = 0;

    while (id < LINT_EXTS &&
           (len != ext_oids[id].len || memcmp(OBJ_get0_data(oid), ext_oids[id].oid, len) != 0))
        id++;
    return (enum lint_ext_id)id;
}

/* X.690 section 8.3.2: in the fewest octets; nine octets would be a path length of 2^64. */
static bool
is_integer(const struct der_reader *content)
{
    if (content->left < 1 || content->left > 8)
        return false;
    return content->left == 1 || !((content->at[0] == 0x00 && (content->at[1] & 0x80) == 0) ||
                                   (content->at[0] == 0xff && (content->at[1] & 0x80) != 0));
}

/* SEQUENCE { cA BOOLEAN DEFAULT FALSE, pathLenConstraint INTEGER OPTIONAL, ... } */
static void
read_basic_constraints(struct lint_view *view)
{
    struct der_reader value = view->ext[LINT_EXT_BASIC_CONSTRAINTS].value;
    struct der_reader fields;
    struct der_reader content;
    bool is_ca = false;
    bool has_path_len = false;
    uint8_t tag = 0;

    view->is_basic_constraints = false;
    if (!certs_der_read(&value, DER_SEQUENCE, &fields))
        return;
    if (fields.left > 0 && *fields.at == DER_BOOLEAN) {
        if (!certs_der_read(&fields, DER_BOOLEAN, &content) || content.left != 1 ||
            (*content.at != 0x00 && *content.at != 0xff))
            return;
        is_ca = *content.at == 0xff;
    }
    if (fields.left > 0) {
        if (!certs_lint_read_any(&fields, &tag, &content) ||
            (tag == DER_INTEGER && !is_integer(&content)))
            return;
        has_path_len = tag == DER_INTEGER;
    }
    view->is_basic_constraints = true;
    view->is_ca = is_ca;
    view->has_path_len = has_path_len;
}

static void
read_key_usage(struct lint_view *view)
{
    struct der_reader value = view->ext[LINT_EXT_KEY_USAGE].value;
    struct der_reader bits;
    unsigned padding;
    size_t count;

    if (!certs_der_read(&value, DER_BIT_STRING, &bits) || bits.left < 1)
        return;
    padding = *bits.at;
    if (padding > 7 || (bits.left == 1 && padding > 0) ||
        (bits.left > 1 && (bits.at[bits.left - 1] & ((1U << padding) - 1)) != 0))
        return;
    view->key_usage = 0;
    count = (bits.left - 1) * 8 - padding;
    for (size_t n = 0; n < 9 && n < count; n++) {
        if ((bits.at[1 + n / 8] & (0x80U >> n % 8)) != 0)
            view->key_usage |= 1U << n;
    }
}

static void
read_policies(struct lint_view *view)
{
    struct der_reader value = view->ext[LINT_EXT_POLICIES].value;
    struct lint_policies *policies = &view->policies;
    struct der_reader all;
    struct der_reader one;
    struct der_reader oid;

    *policies = (struct lint_policies){0};
    if (!certs_der_read(&value, DER_SEQUENCE, &all))
        return;
    while (certs_der_read(&all, DER_SEQUENCE, &one) && certs_der_read(&one, DER_OID, &oid)) {
        policies->count++;
        policies->last = oid;
        if (oid.left == sizeof(shaken_policies) + 1 &&
            memcmp(oid.at, shaken_policies, sizeof(shaken_policies)) == 0 &&
            oid.at[sizeof(shaken_policies)] < 32)
            policies->shaken |= 1U << oid.at[sizeof(shaken_policies)];
    }
}

/* GeneralNames of a fullName: count the URIs, keep the first of all. */
static void
read_full_name(struct lint_view *view, struct der_reader names)
{
    struct der_reader name;
    uint8_t tag;

    while (certs_lint_read_any(&names, &tag, &name)) {
        if ((tag & TAG_NUMBER) != GEN_URI)
            continue;
        if (view->crl_urls == 0)
            view->crl_url = name;
        view->crl_urls++;
    }
}

static void
read_crl_points(struct lint_view *view)
{
    struct der_reader value = view->ext[LINT_EXT_CRL_POINTS].value;
    struct der_reader points;
    struct der_reader point;
    struct der_reader name;
    struct der_reader full_name;
    uint8_t tag;

    if (!certs_der_read(&value, DER_SEQUENCE, &points))
        return;
    while (certs_der_read(&points, DER_SEQUENCE, &point)) {
        view->crl_points++;
        if (certs_der_read(&point, DER_CONTEXT(0), &name) &&
            certs_lint_read_any(&name, &tag, &full_name) &&
            (tag | TAG_CONSTRUCTED) == DER_CONTEXT(0)) /* OpenSSL accepts a primitive tag, too */
            read_full_name(view, full_name);
    }
}

static void
read_subject_key_id(struct lint_view *view)
{
    struct der_reader value = view->ext[LINT_EXT_SUBJECT_KEY_ID].value;

    view->subject_key_id = (struct der_reader){0};
    (void)certs_der_read(&value, DER_OCTETS, &view->subject_key_id);
}

/* The value begins with keyIdentifier [0] IMPLICIT OCTET STRING OPTIONAL. */
static void
read_authority_key_id(struct lint_view *view)
{
    struct der_reader value = view->ext[LINT_EXT_AUTHORITY_KEY_ID].value;
    struct der_reader fields;

    view->authority_key_id = (struct der_reader){0};
    if (certs_der_read(&value, DER_SEQUENCE, &fields))
        (void)certs_der_read(&fields, KEY_IDENTIFIER, &view->authority_key_id);
}

static void (*const readers[LINT_EXTS])(struct lint_view *view) = {
    [LINT_EXT_BASIC_CONSTRAINTS] = read_basic_constraints,
    [LINT_EXT_KEY_USAGE] = read_key_usage,
    [LINT_EXT_SUBJECT_KEY_ID] = read_subject_key_id,
    [LINT_EXT_AUTHORITY_KEY_ID] = read_authority_key_id,
    [LINT_EXT_POLICIES] = read_policies,
    [LINT_EXT_CRL_POINTS] = read_crl_points,
    [LINT_EXT_TNAUTHLIST] = NULL, /* parsed by read_tnauthlist() */
};

/* In order, so that the last of two counts, and URLs of CRLs add up. */
static void
read_extensions(struct lint_view *view)
{
    for (int i = 0; i < X509_get_ext_count(view->cert); i++) {
        X509_EXTENSION *ext = X509_get_ext(view->cert, i);
        const ASN1_OCTET_STRING *value = X509_EXTENSION_get_data(ext);
        enum lint_ext_id id = certs_lint_ext_id(ext);

        if (id == LINT_EXTS)
            continue;
        view->ext[id] = (struct lint_ext){
            .is_there = true,
            .is_critical = X509_EXTENSION_get_critical(ext) != 0,
            .value = {.at = ASN1_STRING_get0_data(value),
                      .left = (size_t)ASN1_STRING_length(value)},
        };
        if (readers[id] != NULL)
            readers[id](view);
    }
}

static enum hsm_status
read_subject(struct lint_view *view)
{
    const X509_NAME *name = X509_get_subject_name(view->cert);

    for (int i = 0; i < X509_NAME_entry_count(name); i++) {
        const X509_NAME_ENTRY *entry = X509_NAME_get_entry(name, i);
        const ASN1_STRING *value = X509_NAME_ENTRY_get_data(entry);
        int nid = OBJ_obj2nid(X509_NAME_ENTRY_get_object(entry));

        for (size_t id = 0; id < LINT_ATTRIBUTES; id++) {
            struct lint_attribute *attribute = &view->subject[id];
            enum hsm_status st;

            if (nid != attribute_nids[id])
                continue;
            st = read_value(value, &attribute->text);
            if (st == HSM_OK)
                attribute->count++;
            else if (st == HSM_ERR_NOMEM)
                return st;
        }
    }
    return HSM_OK;
}

/* The SPC of a TNEntry: the string inside the explicit tag. */
static enum hsm_status
read_spc(struct lint_tnauthlist *list, struct der_reader content)
{
    struct der_reader string;
    uint8_t tag;
    enum hsm_status st;

    list->spcs++;
    if (!certs_lint_read_any(&content, &tag, &string) ||
        (tag & (TAG_CLASS | TAG_CONSTRUCTED)) != 0) {
        list->fault = "the SPC is not a string";
        return HSM_OK;
    }
    st = read_string(tag, string.at, string.left, &list->spc);
    if (st == HSM_ERR_MALFORMED)
        list->fault = "the SPC is not a string, or not of the characters that its kind allows";
    list->is_ia5string = list->is_ia5string && tag == DER_IA5STRING;
    list->is_ended = list->is_ended && content.left == 0;
    return st == HSM_ERR_MALFORMED ? HSM_OK : st;
}

/*
 * RFC 8226 section 9, more leniently than certs_tnauthlist_parse(): an SPC may be another string
 * than an IA5String, and octets may follow. Separate rules judge that; this determines whether
 * there is a single SPC at all.
 */
static enum hsm_status
read_tnauthlist(struct lint_view *view)
{
    struct lint_tnauthlist *list = &view->tnauthlist;
    struct der_reader value = view->ext[LINT_EXT_TNAUTHLIST].value;
    struct der_reader entries;
    struct der_reader content;
    uint8_t tag;
    enum hsm_status st = HSM_OK;

    list->is_ia5string = list->is_tagged = list->is_ended = true;
    if (!view->ext[LINT_EXT_TNAUTHLIST].is_there) {
        list->fault = "there is no TNAuthList";
        return HSM_OK;
    }
    if (!certs_der_read(&value, DER_SEQUENCE, &entries)) {
        list->fault = "the TNAuthList is not a SEQUENCE in DER";
        return HSM_OK;
    }
    list->is_ended = value.left == 0;
    while (st == HSM_OK && entries.left > 0) {
        if (!certs_lint_read_any(&entries, &tag, &content)) {
            list->fault = "a TNEntry is not DER";
            return HSM_OK;
        }
        list->entries++;
        list->is_tagged = list->is_tagged && tag >= DER_CONTEXT(0) && tag <= DER_CONTEXT(2);
        if ((tag & TAG_NUMBER) == 0)
            st = read_spc(list, content);
    }
    if (list->fault == NULL && list->spcs != 1)
        list->fault =
            list->spcs == 0 ? "the TNAuthList has no SPC" : "the TNAuthList has more than one SPC";
    if (list->fault == NULL && list->spc.len == 0)
        list->fault = "the SPC is empty";
    return st;
}

/* Subject and issuer are the same octets, and the signature is by the certificate's own key. */
static bool
is_self_signed(X509 *cert)
{
    const uint8_t *subject;
    const uint8_t *issuer;
    size_t subject_len;
    size_t issuer_len;
    EVP_PKEY *key;

    if (X509_NAME_get0_der(X509_get_subject_name(cert), &subject, &subject_len) != 1 ||
        X509_NAME_get0_der(X509_get_issuer_name(cert), &issuer, &issuer_len) != 1)
        return false;
    if (subject_len != issuer_len || memcmp(subject, issuer, subject_len) != 0)
        return false;
    key = X509_get0_pubkey(cert);
    return key != NULL && X509_verify(cert, key) == 1;
}

static void
set_role(struct lint_view *view, enum certs_lint_role role)
{
    if (role != 0) {
        view->role = role;
        view->is_self_signed = role == CERTS_LINT_ROOT;
        return;
    }
    view->is_self_signed = is_self_signed(view->cert);
    if (!view->is_ca)
        view->role = CERTS_LINT_END_ENTITY;
    else
        view->role = view->is_self_signed ? CERTS_LINT_ROOT : CERTS_LINT_INTERMEDIATE;
}

static int
day_of(const ASN1_TIME *time)
{
    struct tm tm;

    if (ASN1_TIME_to_tm(time, &tm) != 1)
        return CERTS_LINT_LATEST;
    return (tm.tm_year + 1900) * 10000 + (tm.tm_mon + 1) * 100 + tm.tm_mday;
}

enum hsm_status
certs_lint_view_init(struct lint_view *view, const X509 *cert,
                     const struct certs_lint_options *options)
{
    enum hsm_status st;

    *view = (struct lint_view){.cert = (X509 *)cert, .issuer = options->issuer};
    view->date = options->date != 0 ? options->date : day_of(X509_get0_notBefore(cert));
    read_extensions(view);
    set_role(view, options->role);
    st = read_subject(view);
    if (st == HSM_OK)
        st = read_tnauthlist(view);
    ERR_clear_error(); /* errors of OpenSSL's parsers are judged, not reported */
    return st;
}

void
certs_lint_view_release(struct lint_view *view)
{
    for (size_t id = 0; id < LINT_ATTRIBUTES; id++)
        free(view->subject[id].text.octets);
    free(view->tnauthlist.spc.octets);
}
