/* crl.c - the STI-PA's one indirect CRL: read, checked, searched by issuer and serial number. */

#include "crl_internal.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>

#include "der_internal.h"
#include "x509_internal.h"

#define NUMBER_MAX         20 /* octets of a cRLNumber, RFC 5280 section 5.2.3 */
#define ISSUERS_REMEMBERED 64 /* at most this many names are compared with an entry's */

/* -- reading ----------------------------------------------------------------------------------- */

/* RFC 5280 sections 5.2 and 5.3: an unknown critical extension makes the CRL unusable. */
static enum hsm_status
check_critical(const X509_EXTENSIONS *exts, int processed_nid, struct hsm_reason *why)
{
    for (int i = 0; i < sk_X509_EXTENSION_num(exts); i++) {
        X509_EXTENSION *ext = sk_X509_EXTENSION_value(exts, i);
        char text[80];

        if (X509_EXTENSION_get_critical(ext) == 0 ||
            OBJ_obj2nid(X509_EXTENSION_get_object(ext)) == processed_nid)
            continue;
        (void)OBJ_obj2txt(text, sizeof(text), X509_EXTENSION_get_object(ext), 0);
        return hsm_refuse(why, HSM_ERR_UNSUPPORTED, "CRL: unknown critical extension %s", text);
    }
    return HSM_OK;
}

static const X509_NAME *
remembered_issuer(const struct certs_crl *crl, const X509_NAME *name)
{
    int count = sk_X509_NAME_num(crl->issuers);

    for (int i = count - 1; i >= 0 && i >= count - ISSUERS_REMEMBERED; i--) {
        if (X509_NAME_cmp(sk_X509_NAME_value(crl->issuers, i), name) == 0)
            return sk_X509_NAME_value(crl->issuers, i);
    }
    return NULL;
}

/* The certificateIssuer of an entry: *out is unchanged if the entry has none. */
static enum hsm_status
entry_issuer(struct certs_crl *crl, const X509_REVOKED *entry, const X509_NAME **out,
             struct hsm_reason *why)
{
    int found;
    DEFER(GENERAL_NAMES_free)
    GENERAL_NAMES *names =
        X509V3_get_d2i(X509_REVOKED_get0_extensions(entry), NID_certificate_issuer, &found, NULL);
    GENERAL_NAME *name;

    if (names == NULL && found == -1)
        return HSM_OK;
    name = sk_GENERAL_NAME_num(names) == 1 ? sk_GENERAL_NAME_value(names, 0) : NULL;
    if (name == NULL || name->type != GEN_DIRNAME) {
        ERR_clear_error();
        return hsm_refuse(why, HSM_ERR_MALFORMED, "CRL: a certificateIssuer is not one name");
    }
    *out = remembered_issuer(crl, name->d.directoryName);
    if (*out != NULL)
        return HSM_OK;
    if (sk_X509_NAME_push(crl->issuers, name->d.directoryName) < 1)
        return HSM_ERR_NOMEM;
    *out = name->d.directoryName;
    name->d.directoryName = NULL; /* owned by the stack now */
    return HSM_OK;
}

static enum hsm_status
check_entry(const X509_REVOKED *entry, struct hsm_reason *why)
{
    const X509_EXTENSIONS *exts = X509_REVOKED_get0_extensions(entry);
    enum hsm_status st = certs_exts_unique(exts, "CRL entry", why);

    return st == HSM_OK ? check_critical(exts, NID_certificate_issuer, why) : st;
}

static enum hsm_status
hash_name(const X509_NAME *name, unsigned long *out)
{
    int ok = 0;
    unsigned long hash = X509_NAME_hash_ex(name, NULL, NULL, &ok);

    if (ok != 1)
        return certs_openssl_failed("CRL");
    *out = hash;
    return HSM_OK;
}

/*
 * RFC 5280 section 5.3.3: an entry without certificateIssuer has that of the preceding entry.
 * Entries whose serial number breaks section 4.1.2.2 are left out: one such certificate of another
 * CA must not prevent the revocation of all others.
 */
static enum hsm_status
fill_table(struct certs_crl *crl, struct hsm_reason *why)
{
    const STACK_OF(X509_REVOKED) *entries = X509_CRL_get_REVOKED(crl->crl);
    const X509_NAME *issuer = X509_CRL_get_issuer(crl->crl);
    const X509_NAME *hashed = NULL;
    unsigned long name_hash = 0;

    for (int i = 0; i < sk_X509_REVOKED_num(entries); i++) {
        const X509_REVOKED *entry = sk_X509_REVOKED_value(entries, i);
        const ASN1_INTEGER *serial = X509_REVOKED_get0_serialNumber(entry);
        enum hsm_status st = check_entry(entry, why);

        if (st == HSM_OK)
            st = entry_issuer(crl, entry, &issuer, why);
        if (st == HSM_OK && hashed != issuer)
            st = hash_name(issuer, &name_hash);
        if (st != HSM_OK)
            return st;
        hashed = issuer;
        if (certs_serial_check(serial, NULL) == HSM_OK)
            certs_crl_table_add(crl, certs_crl_table_hash(crl, name_hash, serial), issuer, entry);
        else
            crl->left_out++;
    }
    return HSM_OK;
}

static enum hsm_status
read_number(struct certs_crl *crl, struct hsm_reason *why)
{
    crl->number = X509_CRL_get_ext_d2i(crl->crl, NID_crl_number, NULL, NULL);
    if (crl->number == NULL || ASN1_STRING_type(crl->number) != V_ASN1_INTEGER ||
        ASN1_STRING_length(crl->number) > NUMBER_MAX) {
        ERR_clear_error();
        return hsm_refuse(why, HSM_ERR_MALFORMED, "CRL: no cRLNumber of up to %d octets",
                          NUMBER_MAX);
    }
    return HSM_OK;
}

/* A CRL limited to some certificates or some reasons would let the others pass. */
static bool
is_partial(const ISSUING_DIST_POINT *point)
{
    return point->onlyuser > 0 || point->onlyCA > 0 || point->onlyattr > 0 ||
           point->onlysomereasons != NULL;
}

static enum hsm_status
read_issuing_distribution_point(struct certs_crl *crl, struct hsm_reason *why)
{
    int critical;
    const ISSUING_DIST_POINT *point = crl->point =
        X509_CRL_get_ext_d2i(crl->crl, NID_issuing_distribution_point, &critical, NULL);

    if (point == NULL || critical != 1) {
        ERR_clear_error();
        return hsm_refuse(why, HSM_ERR_MALFORMED, "CRL: no critical issuingDistributionPoint");
    }
    if (point->indirectCRL <= 0)
        return hsm_refuse(why, HSM_ERR_UNSUPPORTED, "CRL: not an indirect one");
    if (is_partial(point))
        return hsm_refuse(why, HSM_ERR_UNSUPPORTED, "CRL: not for all certificates and reasons");
    if (point->distpoint != NULL && point->distpoint->type == 0)
        crl->url = certs_names_uri(point->distpoint->name.fullname);
    if (crl->url == NULL)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "CRL: its distribution point has no URL");
    return HSM_OK;
}

static void
read_ca_issuers(struct certs_crl *crl)
{
    DEFER(AUTHORITY_INFO_ACCESS_free)
    AUTHORITY_INFO_ACCESS *access = X509_CRL_get_ext_d2i(crl->crl, NID_info_access, NULL, NULL);

    crl->signer_cert_url = certs_access_url(access, CERTS_AD_CA_ISSUERS);
    ERR_clear_error();
}

static enum hsm_status
read_fields(struct certs_crl *crl, struct hsm_reason *why)
{
    const X509_EXTENSIONS *exts = X509_CRL_get0_extensions(crl->crl);
    enum hsm_status st;

    if (X509_CRL_get_version(crl->crl) != X509_CRL_VERSION_2)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "CRL: not version 2");
    if (!certs_time_get(X509_CRL_get0_lastUpdate(crl->crl), &crl->this_update) ||
        !certs_time_get(X509_CRL_get0_nextUpdate(crl->crl), &crl->next_update))
        return hsm_refuse(why, HSM_ERR_MALFORMED, "CRL: no thisUpdate or no nextUpdate");
    st = certs_exts_unique(exts, "CRL", why);
    if (st == HSM_OK)
        st = check_critical(exts, NID_issuing_distribution_point, why);
    if (st == HSM_OK)
        st = read_number(crl, why);
    if (st == HSM_OK)
        st = read_issuing_distribution_point(crl, why);
    if (st == HSM_OK)
        read_ca_issuers(crl);
    return st;
}

static enum hsm_status
parse_der(const uint8_t *der, size_t len, struct certs_crl **out, struct hsm_reason *why)
{
    DEFER(certs_crl_free) struct certs_crl *crl = calloc(1, sizeof(*crl));
    const uint8_t *at = der;
    enum hsm_status st;

    if (crl == NULL)
        return HSM_ERR_NOMEM;
    crl->crl = certs_der_is_one_sequence(der, len) ? d2i_X509_CRL(NULL, &at, (long)len) : NULL;
    if (crl->crl == NULL || at != der + len) {
        ERR_clear_error();
        return hsm_refuse(why, HSM_ERR_MALFORMED, "CRL: not one CertificateList of RFC 5280");
    }
    if (EVP_Digest(der, len, crl->digest, NULL, EVP_sha256(), NULL) != 1)
        return certs_openssl_failed("CRL");
    st = read_fields(crl, why);
    if (st == HSM_OK)
        st = certs_crl_table_new(crl,
                                 (size_t)(1 + sk_X509_REVOKED_num(X509_CRL_get_REVOKED(crl->crl))));
    if (st == HSM_OK)
        st = fill_table(crl, why);
    if (st != HSM_OK)
        return st;

    *out = crl;
    crl = NULL;
    return HSM_OK;
}

enum hsm_status
certs_crl_parse(const uint8_t *octets, size_t len, struct certs_crl **out, struct hsm_reason *why)
{
    uint8_t *der;
    size_t der_len;
    enum hsm_status st;

    if (len > CERTS_CRL_MAX)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "CRL: more than %d octets", CERTS_CRL_MAX);
    st = certs_pem_or_der(octets, len, CRL_LABEL, &der, &der_len, why);
    if (st != HSM_OK)
        return st;
    st = parse_der(der, der_len, out, why);
    free(der);
    return st;
}

enum hsm_status
certs_crl_check_signature(const struct certs_crl *crl, const X509 *signer, struct hsm_reason *why)
{
    if (X509_NAME_cmp(X509_CRL_get_issuer(crl->crl), X509_get_subject_name(signer)) != 0)
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "CRL: its issuer is not the signer's subject");
    if (X509_CRL_get_signature_nid(crl->crl) != NID_ecdsa_with_SHA256)
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "CRL: not signed with ecdsa-with-SHA256");
    if (X509_CRL_verify(crl->crl, certs_cert_public(signer)) != 1) {
        ERR_clear_error();
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "CRL: its signature does not verify");
    }
    return HSM_OK;
}

/* -- queries ----------------------------------------------------------------------------------- */

enum hsm_status
certs_crl_entry_of(const X509 *cert, struct certs_crl_entry *out, struct hsm_reason *why)
{
    struct certs_crl_entry entry = {.issuer = X509_get_issuer_name(cert)};
    enum hsm_status st = certs_cert_check_serial(cert, why);

    if (st != HSM_OK)
        return st;
    entry.serial_len = certs_cert_serial(cert, entry.serial);
    *out = entry;
    return HSM_OK;
}

uint64_t
certs_crl_number(const struct certs_crl *crl)
{
    uint64_t number;

    if (ASN1_INTEGER_get_uint64(&number, crl->number) == 1)
        return number;
    ERR_clear_error();
    return UINT64_MAX;
}

enum hsm_status
certs_crl_check_newer(const struct certs_crl *crl, const struct certs_crl *before,
                      struct hsm_reason *why)
{
    int order = before == NULL ? 1 : ASN1_INTEGER_cmp(crl->number, before->number);

    if (order < 0)
        return hsm_refuse(why, HSM_ERR_UNTRUSTED,
                          "CRL: cRLNumber is below one that was seen before");
    if (order == 0 && crl->this_update < before->this_update)
        return hsm_refuse(why, HSM_ERR_UNTRUSTED,
                          "CRL: thisUpdate is before that of one with the same cRLNumber");
    return HSM_OK;
}

const uint8_t *
certs_crl_digest(const struct certs_crl *crl)
{
    return crl->digest;
}

time_t
certs_crl_this_update(const struct certs_crl *crl)
{
    return crl->this_update;
}

time_t
certs_crl_next_update(const struct certs_crl *crl)
{
    return crl->next_update;
}

enum hsm_status
certs_crl_der(const struct certs_crl *crl, uint8_t **out, size_t *len)
{
    int size = i2d_X509_CRL(crl->crl, NULL);
    uint8_t *der = size > 0 ? malloc((size_t)size) : NULL;
    uint8_t *end = der;

    if (der == NULL)
        return HSM_ERR_NOMEM;
    size = i2d_X509_CRL(crl->crl, &end);
    *out = der;
    *len = (size_t)size;
    return HSM_OK;
}

const char *
certs_crl_url(const struct certs_crl *crl)
{
    return crl->url;
}

const char *
certs_crl_signer_cert_url(const struct certs_crl *crl)
{
    return crl->signer_cert_url;
}

static bool
has_uri(const GENERAL_NAMES *names, const char *url)
{
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        char *uri = certs_name_uri(sk_GENERAL_NAME_value(names, i));
        bool same = uri != NULL && strcmp(uri, url) == 0;

        free(uri);
        if (same)
            return true;
    }
    return false;
}

/* RFC 5280 section 6.3.3 (b) (2) (i): one of the names matches. */
static bool
has_url(const struct certs_crl *crl, const char *url)
{
    return has_uri(crl->point->distpoint->name.fullname, url);
}

enum hsm_status
certs_crl_verify(const struct certs_crl *crl, const struct certs_chain *signer,
                 const struct certs_chain *pa_anchors, const char *url, time_t now,
                 struct hsm_reason *why)
{
    enum hsm_status st = certs_chain_verify(signer, pa_anchors, CERTS_FOR_CRL, now, why);

    if (st == HSM_OK)
        st = certs_crl_check_signature(crl, certs_chain_get(signer, 0), why);
    if (st != HSM_OK)
        return st;
    if (now < crl->this_update)
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "CRL: not yet valid");
    if (now > crl->next_update)
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "CRL: expired");
    if (url != NULL && !has_url(crl, url))
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "CRL: made for another distribution point, %s",
                          crl->url);
    return HSM_OK;
}

bool
certs_crl_is_reason(int64_t reason)
{
    return reason >= 0 && reason <= 10 && reason != 7 && reason != 8;
}

/* RFC 5280 section 5.3.1 */
const char *
certs_crl_reason_text(int reason)
{
    static const char *const texts[] = {
        "unspecified",   "keyCompromise",        "cACompromise",    "affiliationChanged",
        "superseded",    "cessationOfOperation", "certificateHold", "(7)",
        "removeFromCRL", "privilegeWithdrawn",   "aACompromise"};

    return reason >= 0 && reason <= 10 ? texts[reason] : "unknown reason";
}

static int
reason_of(const X509_REVOKED *entry)
{
    int found;
    ASN1_ENUMERATED *value =
        X509V3_get_d2i(X509_REVOKED_get0_extensions(entry), NID_crl_reason, &found, NULL);
    long reason = value == NULL ? -1 : ASN1_ENUMERATED_get(value);

    ASN1_ENUMERATED_free(value);
    if (found == -1)
        return 0; /* absent: unspecified */
    ERR_clear_error();
    return reason >= 0 && reason <= 10 ? (int)reason : -1;
}

static void
read_entry(const struct crl_revoked *revoked, struct certs_crl_entry *out)
{
    size_t zero = certs_needs_zero(revoked->serial, revoked->serial_len) ? 1 : 0;

    out->issuer = revoked->issuer;
    out->serial_len = zero + revoked->serial_len;
    out->serial[0] = 0;
    memcpy(out->serial + zero, revoked->serial, revoked->serial_len);
    if (!certs_time_get(X509_REVOKED_get0_revocationDate(revoked->entry), &out->revoked_at))
        out->revoked_at = 0;
    out->reason = reason_of(revoked->entry);
}

enum hsm_status
certs_crl_find(const struct certs_crl *crl, const X509 *cert, struct certs_crl_entry *out)
{
    const X509_NAME *issuer = X509_get_issuer_name(cert);
    const ASN1_INTEGER *serial = X509_get0_serialNumber(cert);
    const struct crl_revoked *revoked;
    unsigned long name_hash = 0;
    enum hsm_status st;

    if (certs_serial_check(serial, NULL) != HSM_OK)
        return HSM_ERR_NOT_FOUND; /* an entry with such a serial number was left out */
    st = hash_name(issuer, &name_hash);
    if (st != HSM_OK)
        return st;
    revoked =
        certs_crl_table_find(crl, certs_crl_table_hash(crl, name_hash, serial), issuer, serial);
    if (revoked == NULL)
        return HSM_ERR_NOT_FOUND;
    if (out != NULL)
        read_entry(revoked, out);
    return HSM_OK;
}

bool
certs_crl_has(const struct certs_crl *crl, const X509 *cert)
{
    return certs_crl_find(crl, cert, NULL) != HSM_ERR_NOT_FOUND;
}

enum hsm_status
certs_crl_check(const struct certs_crl *crl, const X509 *cert, struct hsm_reason *why)
{
    struct certs_crl_entry entry;
    char since[CERTS_TIME_TEXT_MAX];
    enum hsm_status st = certs_crl_find(crl, cert, &entry);

    if (st != HSM_OK)
        return st == HSM_ERR_NOT_FOUND ? HSM_OK : st;
    certs_time_text(entry.revoked_at, since);
    return hsm_refuse(why, HSM_ERR_UNTRUSTED, "is revoked since %s (%s)", since,
                      certs_crl_reason_text(entry.reason));
}

static bool
has_name(const GENERAL_NAMES *names, const X509_NAME *wanted)
{
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);

        if (name->type == GEN_DIRNAME && X509_NAME_cmp(name->d.directoryName, wanted) == 0)
            return true;
    }
    return false;
}

static bool
has_url_among(const struct certs_crl *crl, const GENERAL_NAMES *names)
{
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        char *uri = certs_name_uri(sk_GENERAL_NAME_value(names, i));
        bool has = uri != NULL && has_url(crl, uri);

        free(uri);
        if (has)
            return true;
    }
    return false;
}

static bool
is_point_of(const struct certs_crl *crl, const DIST_POINT *point)
{
    if (point->distpoint != NULL &&
        (point->distpoint->type != 0 || !has_url_among(crl, point->distpoint->name.fullname)))
        return false;
    return point->CRLissuer == NULL || has_name(point->CRLissuer, X509_CRL_get_issuer(crl->crl));
}

bool
certs_crl_covers(const struct certs_crl *crl, const X509 *cert)
{
    int found;
    DEFER(CRL_DIST_POINTS_free)
    CRL_DIST_POINTS *points = X509_get_ext_d2i(cert, NID_crl_distribution_points, &found, NULL);

    if (points == NULL) {
        ERR_clear_error();
        return found == -1; /* absent; or unreadable */
    }
    for (int i = 0; i < sk_DIST_POINT_num(points); i++) {
        if (is_point_of(crl, sk_DIST_POINT_value(points, i)))
            return true;
    }
    return false;
}

size_t
certs_crl_len(const struct certs_crl *crl)
{
    return crl->count;
}

size_t
certs_crl_left_out(const struct certs_crl *crl)
{
    return crl->left_out;
}

void
certs_crl_get(const struct certs_crl *crl, size_t i, struct certs_crl_entry *out)
{
    read_entry(&crl->entries[i], out);
}

static void
show_entry(const struct certs_crl_entry *entry, const char *issuer, FILE *to)
{
    char time_text[CERTS_TIME_TEXT_MAX];

    certs_time_text(entry->revoked_at, time_text);
    fputs("  ", to);
    for (size_t i = 0; i < entry->serial_len; i++)
        fprintf(to, "%02x", entry->serial[i]);
    fprintf(to, "  %s  %s  %s\n", time_text, certs_crl_reason_text(entry->reason), issuer);
}

static enum hsm_status
show_entries(const struct certs_crl *crl, FILE *to)
{
    const X509_NAME *shown = NULL;
    char *issuer = NULL;

    for (size_t i = 0; i < crl->count; i++) {
        struct certs_crl_entry entry;

        read_entry(&crl->entries[i], &entry);
        if (entry.issuer != shown) {
            free(issuer);
            issuer = certs_name_text(entry.issuer);
            shown = entry.issuer;
        }
        if (issuer == NULL)
            return HSM_ERR_NOMEM;
        show_entry(&entry, issuer, to);
    }
    free(issuer);
    return HSM_OK;
}

enum hsm_status
certs_crl_show(const struct certs_crl *crl, FILE *to)
{
    char this_update[CERTS_TIME_TEXT_MAX];
    char next_update[CERTS_TIME_TEXT_MAX];
    char *issuer = certs_name_text(X509_CRL_get_issuer(crl->crl));
    char *number = i2s_ASN1_INTEGER(NULL, crl->number);
    enum hsm_status st;

    certs_time_text(crl->this_update, this_update);
    certs_time_text(crl->next_update, next_update);
    if (issuer == NULL || number == NULL) {
        free(issuer);
        OPENSSL_free(number);
        return certs_openssl_failed("CRL");
    }
    fprintf(to,
            "CRL number %s\n"
            "  issuer       %s\n"
            "  URL          %s\n"
            "  signer at    %s\n"
            "  this update  %s\n"
            "  next update  %s\n"
            "  entries      %zu\n",
            number, issuer, crl->url,
            crl->signer_cert_url == NULL ? "(not stated)" : crl->signer_cert_url, this_update,
            next_update, crl->count);
    free(issuer);
    OPENSSL_free(number);
    if (crl->left_out > 0)
        fprintf(to, "  left out     %zu: no certificate may have their serial numbers\n",
                crl->left_out);
    st = show_entries(crl, to);
    return st == HSM_OK && ferror(to) ? HSM_ERR_IO : st;
}

void
certs_crl_free(struct certs_crl *crl)
{
    if (crl == NULL)
        return;
    X509_CRL_free(crl->crl);
    ASN1_INTEGER_free(crl->number);
    ISSUING_DIST_POINT_free(crl->point);
    sk_X509_NAME_pop_free(crl->issuers, X509_NAME_free);
    free(crl->entries);
    free(crl->table);
    free(crl->url);
    free(crl->signer_cert_url);
    free(crl);
}
