/*
 * lint_internal.h - shared by the files of the lint: the certificate's parts, and the checks.
 *
 * Extensions are parsed here from their octets, not by OpenSSL, because a malformed extension must
 * be distinguished from an absent one. If an extension occurs twice, the last one is judged.
 */
#ifndef CERTS_LINT_INTERNAL_H
#define CERTS_LINT_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/types.h>

#include <certs/lint.h>
#include <hsm/status.h>

#include "der_internal.h"
#include "x509_internal.h"

/* The first notBefore to which a document applies; after it a CA has 90 days, for CP 1.3 145, until
 * the certificates that it issues to service providers must follow it. */
#define V003_CA   20200904
#define V003_EE   20201203
#define V004_CA   20211018
#define V004_EE   20220116
#define V005_CA   20221212
#define V005_EE   20230312
#define CP_1_1_CA 20200407
#define CP_1_1_EE 20200706
#define CP_1_3_CA 20210818
#define CP_1_3_EE 20220110
#define CP_1_4_CA 20230606
#define CP_1_4_EE 20230904

enum lint_ext_id { /* the extensions that ATIS-1000080 section 6.4.1 names */
    LINT_EXT_BASIC_CONSTRAINTS,
    LINT_EXT_KEY_USAGE,
    LINT_EXT_SUBJECT_KEY_ID,
    LINT_EXT_AUTHORITY_KEY_ID,
    LINT_EXT_POLICIES,
    LINT_EXT_CRL_POINTS,
    LINT_EXT_TNAUTHLIST,
    LINT_EXTS,
};

struct lint_ext {
    bool is_there;
    bool is_critical;
    struct der_reader value; /* borrowed from the certificate */
};

enum lint_attribute_id { /* subject attributes that rules refer to */
    LINT_C,
    LINT_O,
    LINT_CN,
    LINT_SERIAL_NUMBER,
    LINT_ATTRIBUTES,
};

struct lint_text { /* UTF-8, or T.61 unconverted; may contain NUL */
    uint8_t *octets; /* owned */
    size_t len;
};

struct lint_attribute {
    size_t count;
    struct lint_text text; /* the last one's text */
};

/* Policies, by their last octet below 2.16.840.1.114569.1.1 */
#define LINT_CP_1_3 3
#define LINT_CP_1_4 4

struct lint_policies {
    size_t count;
    unsigned shaken; /* bit n: CP 1.n is present */
    struct der_reader last; /* content of its OBJECT IDENTIFIER */
};

struct lint_tnauthlist {
    const char *fault; /* why no SPC was read; NULL: one was read */
    struct lint_text spc; /* of the only SPC entry */
    size_t entries; /* of all kinds */
    size_t spcs;
    bool is_ia5string; /* true if every SPC is an IA5String */
    bool is_tagged; /* every entry has a tag of RFC 8226 section 9 */
    bool is_ended; /* no octets follow the list, or an SPC inside its tag */
};

struct lint_view {
    X509 *cert; /* borrowed; not const, as OpenSSL's getters fill a cache under a lock */
    const X509 *issuer; /* borrowed; NULL: not known */
    enum certs_lint_role role;
    bool is_self_signed;
    int date; /* yyyymmdd: selects the rules */
    struct lint_ext ext[LINT_EXTS];
    bool is_ca; /* cA in BasicConstraints is true */
    bool is_basic_constraints; /* that extension decodes */
    bool has_path_len;
    unsigned key_usage; /* bit n: KeyUsage n of RFC 5280 section 4.2.1.3 */
    struct lint_policies policies;
    size_t crl_points; /* DistributionPoints */
    size_t crl_urls; /* URIs in their fullNames */
    struct der_reader crl_url; /* the first of them */
    struct der_reader authority_key_id; /* keyIdentifier; NULL: none */
    struct der_reader subject_key_id;
    struct lint_attribute subject[LINT_ATTRIBUTES];
    struct lint_tnauthlist tnauthlist;
};

struct certs_lint {
    enum certs_lint_role role;
    int date;
    char *subject; /* RFC 2253; owned */
    char *issuer;
    char not_before[CERTS_TIME_TEXT_MAX]; /* "": not a valid time */
    uint8_t sha256[HSM_SHA256_LEN];
    bool has_digest; /* false for an unsigned certificate */
    size_t len;
    struct certs_lint_finding *findings; /* owned */
};

/* Parse the certificate; call certs_lint_view_release() whatever it returns. */
enum hsm_status certs_lint_view_init(struct lint_view *view, const X509 *cert,
                                     const struct certs_lint_options *options);
void certs_lint_view_release(struct lint_view *view);

/* certs_der_read() of the next value, whatever its tag (one octet). */
bool certs_lint_read_any(struct der_reader *from, uint8_t *tag, struct der_reader *content);

/* Name or dotted numbers; "?" if it does not decode. */
#define LINT_OID_TEXT_MAX 80
const char *certs_lint_oid_text(const ASN1_OBJECT *oid, char text[LINT_OID_TEXT_MAX]);

/* The known extension; LINT_EXTS: it is not known. */
enum lint_ext_id certs_lint_ext_id(const X509_EXTENSION *ext);

/*
 * A check: HSM_OK: the rule is kept, or does not apply; LINT_BROKEN: it is broken, *why says how;
 * another status is a failure of the lint itself.
 */
#define LINT_BROKEN HSM_ERR_UNTRUSTED
typedef enum hsm_status lint_check(const struct lint_view *view, struct hsm_reason *why);

struct lint_row {
    struct certs_lint_rule rule;
    lint_check *check;
};

extern const struct lint_row certs_lint_rows[];
extern const size_t certs_lint_row_count;

/* lint_fields.c: the fields of a TBSCertificate */
lint_check certs_lint_version, certs_lint_serial_positive, certs_lint_serial_64_bits,
    certs_lint_serial_20_octets;
lint_check certs_lint_signature_algorithm, certs_lint_signature_sha384, certs_lint_signature_curve;
lint_check certs_lint_signature_agreement;
lint_check certs_lint_issuer_is_subject, certs_lint_issuer_is_other, certs_lint_issuer_name;
lint_check certs_lint_validity_encoding, certs_lint_validity_order,
    certs_lint_no_unique_identifiers;
lint_check certs_lint_key_p256, certs_lint_key_p384, certs_lint_key_valid;

/* lint_subject.c */
lint_check certs_lint_subject_c_and_cn, certs_lint_subject_o;
lint_check certs_lint_c_iso_3166, certs_lint_c_assigned, certs_lint_c_us, certs_lint_c_printable;
lint_check certs_lint_cn_shaken, certs_lint_cn_root, certs_lint_cn_kind;
lint_check certs_lint_cn_spc, certs_lint_cn_spc_exact, certs_lint_cn_includes_spc;
lint_check certs_lint_serial_number, certs_lint_serial_number_rdn;

/* lint_extensions.c */
lint_check certs_lint_basic_constraints, certs_lint_basic_constraints_role,
    certs_lint_basic_constraints_default;
lint_check certs_lint_no_path_len;
lint_check certs_lint_key_usage, certs_lint_key_usage_ca, certs_lint_key_usage_ca_v005,
    certs_lint_key_usage_ee;
lint_check certs_lint_subject_key_id, certs_lint_subject_key_id_size,
    certs_lint_subject_key_id_sha1;
lint_check certs_lint_authority_key_id, certs_lint_authority_key_id_root,
    certs_lint_authority_key_id_value;
lint_check certs_lint_authority_key_id_issuer;
lint_check certs_lint_policies, certs_lint_policies_shaken, certs_lint_policies_1_1,
    certs_lint_policies_current;
lint_check certs_lint_no_policies;
lint_check certs_lint_crl_points, certs_lint_crl_issuer, certs_lint_crl_issuer_any,
    certs_lint_crl_issuer_name;
lint_check certs_lint_crl_one_point, certs_lint_crl_url, certs_lint_no_crl_points;
lint_check certs_lint_exts_specified, certs_lint_exts_once, certs_lint_exts_not_critical,
    certs_lint_exts_syntax;

/* lint_tnauthlist.c */
lint_check certs_lint_tnauthlist, certs_lint_no_tnauthlist, certs_lint_spc_characters;
lint_check certs_lint_tnauthlist_only_spc, certs_lint_tnauthlist_ia5string,
    certs_lint_tnauthlist_tags;
lint_check certs_lint_tnauthlist_end;

#endif
