/* crl.c - the STI-PA's one indirect CRL: made, checked, and asked by issuer and serial. */

#include <certs/crl.h>

#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/rand.h>

#include <hsm/log.h>
#include <hsm/use.h>

#include "der_internal.h"
#include "x509_internal.h"

#define CRL_LABEL          "X509 CRL"
#define NUMBER_MAX         20 /* octets of a cRLNumber, RFC 5280 section 5.2.3 */
#define ISSUERS_REMEMBERED 64 /* at most that many names are compared with an entry's */

/* One entry, in the CRL's order. */
struct revoked {
    const X509_NAME *issuer; /* borrowed from the CRL or from crl->issuers */
    const X509_REVOKED *entry; /* borrowed from the CRL */
    uint8_t serial[CERTS_SERIAL_MAX]; /* the entry's once more: a look-up stays in one place */
    uint8_t serial_len;
    bool is_negative; /* two's complement is not what OpenSSL keeps */
};

/* A place of the table: small, so that a look-up touches little memory. */
struct slot {
    uint32_t entry; /* its number, from 1; 0: free */
    uint32_t hash; /* half of it; the other half led here */
};

struct certs_crl {
    X509_CRL *crl;
    ASN1_INTEGER *number;
    uint8_t digest[CERTS_CRL_DIGEST_LEN];
    time_t this_update;
    time_t next_update;
    char *url; /* of the issuingDistributionPoint */
    char *signer_cert_url; /* NULL: not told */
    STACK_OF(X509_NAME) * issuers; /* certificateIssuer names, owned */
    struct revoked *entries;
    size_t count;
    struct slot *table; /* open addressing; at most half full */
    size_t table_mask; /* size - 1, the size a power of two */
    uint64_t hash_key[2];
};

DEFINE_DEFER(ASN1_INTEGER, ASN1_INTEGER_free)
DEFINE_DEFER(ASN1_TIME, ASN1_TIME_free)
DEFINE_DEFER(AUTHORITY_INFO_ACCESS, AUTHORITY_INFO_ACCESS_free)
DEFINE_DEFER(CRL_DIST_POINTS, CRL_DIST_POINTS_free)
DEFINE_DEFER(ISSUING_DIST_POINT, ISSUING_DIST_POINT_free)
DEFINE_DEFER(X509_REVOKED, X509_REVOKED_free)
DEFINE_DEFER(struct certs_crl, certs_crl_free)

/* -- the table --------------------------------------------------------------------------------- */

static uint64_t
rotate(uint64_t value, int bits)
{
    return value << bits | value >> (64 - bits);
}

static void
sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[2] += v[3];
    v[1] = rotate(v[1], 13) ^ v[0];
    v[3] = rotate(v[3], 16) ^ v[2];
    v[0] = rotate(v[0], 32);
    v[2] += v[1];
    v[0] += v[3];
    v[1] = rotate(v[1], 17) ^ v[2];
    v[3] = rotate(v[3], 21) ^ v[0];
    v[2] = rotate(v[2], 32);
}

/* SipHash-2-4 (Aumasson and Bernstein) of whole words. */
static uint64_t
sip_hash(const uint64_t key[2], const uint64_t *words, size_t count)
{
    uint64_t v[4] = {key[0] ^ 0x736f6d6570736575, key[1] ^ 0x646f72616e646f6d,
                     key[0] ^ 0x6c7967656e657261, key[1] ^ 0x7465646279746573};

    for (size_t i = 0; i <= count; i++) {
        uint64_t word = i < count ? words[i] : (uint64_t)(count * sizeof(*words)) << 56;

        v[3] ^= word;
        sip_round(v);
        sip_round(v);
        v[0] ^= word;
    }
    v[2] ^= 0xff;
    for (int i = 0; i < 4; i++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/*
 * Keyed at random, because the table is filled before the CRL's signature is
 * checked: nobody can write entries that all fall into one place.
 */
static bool
hash_entry(const struct certs_crl *crl, unsigned long name_hash, const ASN1_INTEGER *serial,
           uint64_t *hash)
{
    uint64_t words[1 + (CERTS_SERIAL_MAX + 7) / 8] = {name_hash};
    size_t len = (size_t)ASN1_STRING_length(serial);

    if (len > CERTS_SERIAL_MAX)
        return false;
    memcpy(&words[1], ASN1_STRING_get0_data(serial), len);
    *hash = sip_hash(crl->hash_key, words, sizeof(words) / sizeof(words[0]));
    return true;
}

static bool
is_negative(const ASN1_INTEGER *serial)
{
    return (ASN1_STRING_type(serial) & V_ASN1_NEG) != 0;
}

static bool
is_entry_of(const struct revoked *revoked, const X509_NAME *issuer, const ASN1_INTEGER *serial)
{
    return revoked->serial_len == ASN1_STRING_length(serial) &&
           memcmp(revoked->serial, ASN1_STRING_get0_data(serial), revoked->serial_len) == 0 &&
           revoked->is_negative == is_negative(serial) &&
           X509_NAME_cmp(revoked->issuer, issuer) == 0;
}

/* The place of that entry, or the free one where it would be. */
static struct slot *
table_slot(const struct certs_crl *crl, uint64_t hash, const X509_NAME *issuer,
           const ASN1_INTEGER *serial)
{
    size_t i = hash & crl->table_mask;

    while (crl->table[i].entry != 0) {
        const struct slot *slot = &crl->table[i];

        if (slot->hash == (uint32_t)(hash >> 32) &&
            is_entry_of(&crl->entries[slot->entry - 1], issuer, serial))
            break;
        i = (i + 1) & crl->table_mask;
    }
    return &crl->table[i];
}

static enum hsm_status
table_new(struct certs_crl *crl, size_t count)
{
    size_t size = 16;

    while (size < 2 * count)
        size *= 2;
    crl->entries = calloc(count + 1, sizeof(*crl->entries));
    crl->table = calloc(size, sizeof(*crl->table));
    crl->issuers = sk_X509_NAME_new_null();
    if (crl->entries == NULL || crl->table == NULL || crl->issuers == NULL)
        return HSM_ERR_NOMEM;
    crl->table_mask = size - 1;
    if (RAND_bytes((uint8_t *)crl->hash_key, sizeof(crl->hash_key)) != 1)
        return certs_openssl_failed("CRL table");
    return HSM_OK;
}

/* -- reading ----------------------------------------------------------------------------------- */

/* RFC 5280 sections 5.2 and 5.3: a critical extension that we do not process makes the CRL
 * unusable. */
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

/* The certificateIssuer of an entry: *out stays what it was when the entry has none. */
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
    name->d.directoryName = NULL; /* now the stack's */
    return HSM_OK;
}

static enum hsm_status
check_entry(const X509_REVOKED *entry, struct hsm_reason *why)
{
    const X509_EXTENSIONS *exts = X509_REVOKED_get0_extensions(entry);
    enum hsm_status st = certs_exts_unique(exts, "CRL entry", why);

    return st == HSM_OK ? check_critical(exts, NID_certificate_issuer, why) : st;
}

/* Its serial number has CERTS_SERIAL_MAX octets at most. */
static void
add_entry(struct certs_crl *crl, const X509_NAME *issuer, const X509_REVOKED *entry)
{
    const ASN1_INTEGER *serial = X509_REVOKED_get0_serialNumber(entry);
    struct revoked *revoked = &crl->entries[crl->count++];

    *revoked = (struct revoked){.issuer = issuer, .entry = entry};
    revoked->serial_len = (uint8_t)ASN1_STRING_length(serial);
    memcpy(revoked->serial, ASN1_STRING_get0_data(serial), revoked->serial_len);
    revoked->is_negative = is_negative(serial);
}

/* Of a certificate that is listed twice, the first entry is found. */
static void
put_slot(struct slot *slot, size_t entry, uint64_t hash)
{
    if (slot->entry == 0)
        *slot = (struct slot){.entry = (uint32_t)entry, .hash = (uint32_t)(hash >> 32)};
}

/* RFC 5280 section 5.3.3: an entry without certificateIssuer has that of the entry before it. */
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
        uint64_t hash;

        if (st == HSM_OK)
            st = entry_issuer(crl, entry, &issuer, why);
        if (st != HSM_OK)
            return st;
        if (hashed != issuer)
            name_hash = X509_NAME_hash_ex(issuer, NULL, NULL, NULL);
        hashed = issuer;
        if (!hash_entry(crl, name_hash, serial, &hash))
            return hsm_refuse(why, HSM_ERR_MALFORMED, "CRL: a serial number of more than %d octets",
                              CERTS_SERIAL_MAX);
        add_entry(crl, issuer, entry);
        put_slot(table_slot(crl, hash, issuer, serial), crl->count, hash);
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

/* A CRL that speaks of some certificates or some reasons only would let the others through. */
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
    DEFER(ISSUING_DIST_POINT_free)
    ISSUING_DIST_POINT *point =
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
    crl->crl = der_is_one_sequence(der, len) ? d2i_X509_CRL(NULL, &at, (long)len) : NULL;
    if (crl->crl == NULL || at != der + len) {
        ERR_clear_error();
        return hsm_refuse(why, HSM_ERR_MALFORMED, "CRL: not one CertificateList of RFC 5280");
    }
    if (EVP_Digest(der, len, crl->digest, NULL, EVP_sha256(), NULL) != 1)
        return certs_openssl_failed("CRL");
    st = read_fields(crl, why);
    if (st == HSM_OK)
        st = table_new(crl, (size_t)(1 + sk_X509_REVOKED_num(X509_CRL_get_REVOKED(crl->crl))));
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

static enum hsm_status
check_signature(const struct certs_crl *crl, const X509 *signer, struct hsm_reason *why)
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

/* -- making ------------------------------------------------------------------------------------ */

static enum hsm_status
add_number(X509_EXTENSIONS **exts, uint64_t number)
{
    DEFER(ASN1_INTEGER_free) ASN1_INTEGER *integer = ASN1_INTEGER_new();

    if (integer == NULL || ASN1_INTEGER_set_uint64(integer, number) != 1)
        return HSM_ERR_NOMEM;
    return certs_exts_add(exts, NID_crl_number, false, integer);
}

/* RFC 5280 section 5.2.5: critical; the URL that the certificates' distribution points have. */
static enum hsm_status
add_issuing_distribution_point(X509_EXTENSIONS **exts, const char *url)
{
    DEFER(ISSUING_DIST_POINT_free) ISSUING_DIST_POINT *point = ISSUING_DIST_POINT_new();

    if (point == NULL)
        return HSM_ERR_NOMEM;
    point->indirectCRL = 0xff;
    point->distpoint = DIST_POINT_NAME_new();
    if (point->distpoint == NULL)
        return HSM_ERR_NOMEM;
    point->distpoint->type = 0; /* fullName */
    point->distpoint->name.fullname = certs_uri_names(url);
    if (point->distpoint->name.fullname == NULL)
        return HSM_ERR_NOMEM;
    return certs_exts_add(exts, NID_issuing_distribution_point, true, point);
}

/* What an i2d function gave: written and released. */
static enum hsm_status
put_encoded(struct der_writer *to, uint8_t *der, int len)
{
    if (len <= 0)
        return certs_openssl_failed("CRL");
    der_put(to, der, (size_t)len);
    OPENSSL_free(der);
    return HSM_OK;
}

static enum hsm_status
put_extensions(struct der_writer *to, const struct certs_crl_request *request, const X509 *signer)
{
    DEFER(certs_exts_free) X509_EXTENSIONS *exts = NULL;
    uint8_t *der = NULL;
    size_t start = to->len;
    enum hsm_status st = certs_exts_add_authority_key_id(&exts, signer);

    if (st == HSM_OK)
        st = add_number(&exts, request->number);
    if (st == HSM_OK)
        st = add_issuing_distribution_point(&exts, request->url);
    if (st == HSM_OK && request->signer_cert_url != NULL)
        st = certs_exts_add_info_access(&exts, CERTS_AD_CA_ISSUERS, request->signer_cert_url);
    if (st == HSM_OK) {
        int len = i2d_X509_EXTENSIONS(exts, &der);

        st = put_encoded(to, der, len);
    }
    der_wrap(to, start, DER_CONTEXT(0));
    return st;
}

static enum hsm_status
set_revoked_serial(X509_REVOKED *revoked, const struct certs_crl_entry *entry)
{
    DEFER(ASN1_INTEGER_free) ASN1_INTEGER *serial = ASN1_INTEGER_new();
    size_t skip = entry->serial_len > 1 && entry->serial[0] == 0 ? 1 : 0;

    if (serial == NULL ||
        ASN1_STRING_set(serial, entry->serial + skip, (int)(entry->serial_len - skip)) != 1 ||
        X509_REVOKED_set_serialNumber(revoked, serial) != 1)
        return HSM_ERR_NOMEM;
    return HSM_OK;
}

static enum hsm_status
add_entry_ext(X509_REVOKED *revoked, int nid, bool critical, void *value)
{
    if (value == NULL || X509_REVOKED_add1_ext_i2d(revoked, nid, value, critical, 0) != 1)
        return certs_openssl_failed(OBJ_nid2sn(nid));
    return HSM_OK;
}

/* RFC 5280 section 5.3; certificateIssuer only where it changes, the entries after it inherit it.
 */
static enum hsm_status
add_entry_exts(X509_REVOKED *revoked, const struct certs_crl_entry *entry, bool new_issuer)
{
    enum hsm_status st = HSM_OK;

    if (entry->reason != 0) {
        ASN1_ENUMERATED *reason = ASN1_ENUMERATED_new();

        if (reason == NULL || ASN1_ENUMERATED_set(reason, entry->reason) != 1)
            st = HSM_ERR_NOMEM;
        else
            st = add_entry_ext(revoked, NID_crl_reason, false, reason);
        ASN1_ENUMERATED_free(reason);
    }
    if (st == HSM_OK && new_issuer) {
        DEFER(GENERAL_NAMES_free) GENERAL_NAMES *names = certs_directory_names(entry->issuer);

        st = add_entry_ext(revoked, NID_certificate_issuer, true, names);
    }
    return st;
}

static enum hsm_status
put_entry(struct der_writer *to, const struct certs_crl_entry *entry, bool new_issuer)
{
    DEFER(X509_REVOKED_free) X509_REVOKED *revoked = X509_REVOKED_new();
    DEFER(ASN1_TIME_free) ASN1_TIME *time = ASN1_TIME_set(NULL, entry->revoked_at);
    uint8_t *der = NULL;
    int len;
    enum hsm_status st;

    if (revoked == NULL || time == NULL)
        return HSM_ERR_NOMEM;
    if (X509_REVOKED_set_revocationDate(revoked, time) != 1)
        return HSM_ERR_NOMEM;
    st = set_revoked_serial(revoked, entry);
    if (st == HSM_OK)
        st = add_entry_exts(revoked, entry, new_issuer);
    if (st != HSM_OK)
        return st;
    len = i2d_X509_REVOKED(revoked, &der);
    return put_encoded(to, der, len);
}

/* RFC 5280 section 5.1.2.6: absent when nothing is revoked. */
static enum hsm_status
put_entries(struct der_writer *to, const struct certs_crl_request *request, const X509_NAME *signer)
{
    const X509_NAME *issuer = signer;
    size_t start = to->len;
    enum hsm_status st = HSM_OK;

    for (size_t i = 0; st == HSM_OK && i < request->count; i++) {
        const struct certs_crl_entry *entry = &request->entries[i];
        bool new_issuer = X509_NAME_cmp(issuer, entry->issuer) != 0;

        st = put_entry(to, entry, new_issuer);
        issuer = entry->issuer;
    }
    if (request->count > 0)
        der_wrap(to, start, DER_SEQUENCE);
    return st;
}

bool
certs_crl_is_reason(int64_t reason)
{
    return reason >= 0 && reason <= 10 && reason != 7 && reason != 8;
}

static enum hsm_status
check_request(const struct certs_crl_request *request, const X509 *signer,
              const struct hsm_key *signer_key, struct hsm_reason *why)
{
    if (!hsm_key_matches(signer_key, certs_cert_public(signer)))
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "CRL: the key is not that of the certificate");
    if ((X509_get_key_usage((X509 *)signer) & KU_CRL_SIGN) == 0 ||
        X509_get0_subject_key_id((X509 *)signer) == NULL)
        return hsm_refuse(why, HSM_ERR_UNTRUSTED,
                          "CRL: the certificate lacks cRLSign or a subject key identifier");
    if (request->this_update >= request->next_update)
        return hsm_refuse(why, HSM_ERR_USAGE, "CRL: thisUpdate must come before nextUpdate");
    for (size_t i = 0; i < request->count; i++) {
        const struct certs_crl_entry *entry = &request->entries[i];

        if (entry->issuer == NULL || entry->serial_len < 1 ||
            entry->serial_len > CERTS_SERIAL_MAX || !certs_crl_is_reason(entry->reason))
            return hsm_refuse(why, HSM_ERR_USAGE, "CRL: entry %zu is not one", i);
    }
    return HSM_OK;
}

/* UTCTime until 2049, then GeneralizedTime: RFC 5280 section 5.1.2.4 */
static enum hsm_status
put_time(struct der_writer *to, time_t time)
{
    DEFER(ASN1_TIME_free) ASN1_TIME *encoded = ASN1_TIME_set(NULL, time);
    uint8_t *der = NULL;
    int len = encoded == NULL ? -1 : i2d_ASN1_TIME(encoded, &der);

    return put_encoded(to, der, len);
}

/* TBSCertList, RFC 5280 section 5.1: by hand, because OpenSSL sets its signature field only when it
 * signs. */
static enum hsm_status
put_tbs(struct der_writer *to, const struct certs_crl_request *request, const X509 *signer)
{
    const X509_NAME *issuer = X509_get_subject_name(signer);
    uint8_t *der = NULL;
    int len = i2d_X509_NAME(issuer, &der);
    enum hsm_status st;

    der_put_unsigned(to, X509_CRL_VERSION_2);
    certs_put_algorithm(to);
    st = put_encoded(to, der, len);
    if (st == HSM_OK)
        st = put_time(to, request->this_update);
    if (st == HSM_OK)
        st = put_time(to, request->next_update);
    if (st == HSM_OK)
        st = put_entries(to, request, issuer);
    if (st == HSM_OK)
        st = put_extensions(to, request, signer);
    der_wrap(to, 0, DER_SEQUENCE);
    if (st == HSM_OK && to->failed)
        st = HSM_ERR_NOMEM;
    return st;
}

/* Only what reads back as such a CRL leaves this file. */
static enum hsm_status
check_made(const uint8_t *der, size_t len, const X509 *signer, struct hsm_reason *why)
{
    DEFER(certs_crl_free) struct certs_crl *crl = NULL;
    enum hsm_status st = certs_crl_parse(der, len, &crl, why);

    return st == HSM_OK ? check_signature(crl, signer, why) : st;
}

struct certs_crl_entry
certs_crl_entry_of(const X509 *cert)
{
    struct certs_crl_entry entry = {.issuer = X509_get_issuer_name(cert)};

    entry.serial_len = certs_cert_serial(cert, entry.serial);
    return entry;
}

enum hsm_status
certs_crl_new(const struct certs_crl_request *request, const X509 *signer,
              struct hsm_key *signer_key, uint8_t **der, size_t *len)
{
    struct der_writer tbs = {0};
    struct hsm_reason why = {0};
    uint8_t *made = NULL;
    size_t made_len = 0;
    enum hsm_status st = check_request(request, signer, signer_key, &why);
    HSM_USE_FOR(HSM_USE_CRL);

    if (st == HSM_OK)
        st = put_tbs(&tbs, request, signer);
    if (st == HSM_OK)
        st = certs_sign(signer_key, tbs.octets, tbs.len, &made, &made_len);
    der_writer_free(&tbs);
    if (st == HSM_OK)
        st = check_made(made, made_len, signer, &why);
    if (st != HSM_OK) {
        if (why.text[0] != '\0')
            hsm_log(HSM_LOG_ERROR, "%s", why.text);
        free(made);
        return st;
    }
    *der = made;
    *len = made_len;
    return HSM_OK;
}

enum hsm_status
certs_crl_pem(const uint8_t *der, size_t len, char **out)
{
    return certs_pem_write(CRL_LABEL, der, len, out);
}

/* -- asking ------------------------------------------------------------------------------------ */

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

enum hsm_status
certs_crl_verify(const struct certs_crl *crl, const struct certs_chain *signer,
                 const struct certs_chain *pa_anchors, const char *url, time_t now,
                 struct hsm_reason *why)
{
    enum hsm_status st = certs_chain_verify(signer, pa_anchors, CERTS_FOR_CRL, now, why);

    if (st == HSM_OK)
        st = check_signature(crl, certs_chain_get(signer, 0), why);
    if (st != HSM_OK)
        return st;
    if (now < crl->this_update)
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "CRL: not yet valid");
    if (now > crl->next_update)
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "CRL: expired");
    if (url != NULL && strcmp(url, crl->url) != 0)
        return hsm_refuse(why, HSM_ERR_UNTRUSTED, "CRL: made for another distribution point, %s",
                          crl->url);
    return HSM_OK;
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
read_entry(const struct revoked *revoked, struct certs_crl_entry *out)
{
    out->issuer = revoked->issuer;
    out->serial_len = revoked->serial_len;
    memcpy(out->serial, revoked->serial, sizeof(out->serial));
    if (!certs_time_get(X509_REVOKED_get0_revocationDate(revoked->entry), &out->revoked_at))
        out->revoked_at = 0;
    out->reason = reason_of(revoked->entry);
}

bool
certs_crl_find(const struct certs_crl *crl, const X509 *cert, struct certs_crl_entry *out)
{
    const X509_NAME *issuer = X509_get_issuer_name(cert);
    const ASN1_INTEGER *serial = X509_get0_serialNumber(cert);
    const struct slot *slot;
    uint64_t hash;

    if (!hash_entry(crl, X509_NAME_hash_ex(issuer, NULL, NULL, NULL), serial, &hash))
        return false; /* an entry of such a serial number is not parsed */
    slot = table_slot(crl, hash, issuer, serial);
    if (slot->entry == 0)
        return false;
    if (out != NULL)
        read_entry(&crl->entries[slot->entry - 1], out);
    return true;
}

bool
certs_crl_has(const struct certs_crl *crl, const X509 *cert)
{
    return certs_crl_find(crl, cert, NULL);
}

enum hsm_status
certs_crl_check(const struct certs_crl *crl, const X509 *cert, struct hsm_reason *why)
{
    struct certs_crl_entry entry;
    char since[CERTS_TIME_TEXT_MAX];

    if (!certs_crl_find(crl, cert, &entry))
        return HSM_OK;
    certs_time_text(entry.revoked_at, since);
    return hsm_refuse(why, HSM_ERR_UNTRUSTED, "is revoked since %s (%s)", since,
                      certs_crl_reason_text(entry.reason));
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
is_point_of(const struct certs_crl *crl, const DIST_POINT *point)
{
    if (point->distpoint != NULL &&
        (point->distpoint->type != 0 || !has_uri(point->distpoint->name.fullname, crl->url)))
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
        return found == -1; /* it has none; or they cannot be read */
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
            crl->signer_cert_url == NULL ? "(not told)" : crl->signer_cert_url, this_update,
            next_update, crl->count);
    free(issuer);
    OPENSSL_free(number);
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
    sk_X509_NAME_pop_free(crl->issuers, X509_NAME_free);
    free(crl->entries);
    free(crl->table);
    free(crl->url);
    free(crl->signer_cert_url);
    free(crl);
}
