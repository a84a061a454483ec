/* show.c - print a certificate in the terms of SHAKEN. */

#include <certs/cert.h>
#include <certs/chain.h>

#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>

#include "x509_internal.h"

#define SECONDS_A_DAY 86400

/* The OIDs of the United States' SHAKEN certificate policy. */
static const struct {
    const char *oid;
    const char *name;
} policies[] = {
    {"2.16.840.1.114569.1.1.1", "US SHAKEN CP 1.1"},
    {"2.16.840.1.114569.1.1.2", "US SHAKEN CP 1.2"},
    {"2.16.840.1.114569.1.1.3", "US SHAKEN CP 1.3"},
    {CERTS_POLICY_CP_1_4, "US SHAKEN CP 1.4"},
};

static void
show_line(FILE *to, const char *name, const char *value)
{
    fprintf(to, "  %-12s %s\n", name, value);
}

static void
show_name(FILE *to, const char *label, const X509_NAME *name)
{
    char *text = certs_name_text(name);

    show_line(to, label, text == NULL ? "?" : text);
    free(text);
}

static void
show_octets(FILE *to, const char *label, const uint8_t *octets, size_t len)
{
    fprintf(to, "  %-12s ", label);
    for (size_t i = 0; i < len; i++)
        fprintf(to, "%s%02X", i == 0 ? "" : ":", octets[i]);
    fputc('\n', to);
}

static bool
has_ext_key_usage(X509 *cert, uint32_t usage)
{
    return (X509_get_extension_flags(cert) & EXFLAG_XKUSAGE) != 0 &&
           (X509_get_extended_key_usage(cert) & usage) != 0;
}

/* The profile that the certificate resembles; its rules are not checked here. */
static const char *
guess_profile(X509 *cert, bool has_tnauthlist)
{
    uint32_t usage = X509_get_key_usage(cert);
    char *name = certs_cert_common_name(cert);
    bool is_shaken = name != NULL && strstr(name, "SHAKEN") != NULL;
    bool is_self_signed = (X509_get_extension_flags(cert) & EXFLAG_SS) != 0;

    free(name);
    if (!certs_is_end_entity(cert)) {
        if (has_tnauthlist)
            return "delegate CA";
        if (is_self_signed)
            return is_shaken ? "STI root" : "root";
        return is_shaken ? "STI intermediate" : "intermediate";
    }
    if (has_tnauthlist)
        return "STI end entity";
    if (has_ext_key_usage(cert, XKU_SSL_SERVER))
        return "TLS server";
    if (has_ext_key_usage(cert, XKU_SSL_CLIENT))
        return "TLS client";
    if ((X509_get_extension_flags(cert) & EXFLAG_KUSAGE) == 0)
        return "end entity without key usage";
    return (usage & KU_CRL_SIGN) != 0 ? "CRL signer" : "signer";
}

static void
show_tnauthlist(const X509 *cert, bool *found, FILE *to)
{
    struct certs_tnauthlist *list = NULL;
    struct hsm_reason why = {0};
    enum hsm_status st = certs_cert_tnauthlist(cert, &list, &why);
    char *text = st == HSM_OK ? certs_tnauthlist_text(list) : NULL;

    char *url = certs_cert_tnauthlist_url(cert);

    *found = st != HSM_ERR_NOT_FOUND || url != NULL;
    if (text != NULL)
        show_line(to, "TNAuthList", text);
    else if (st != HSM_ERR_NOT_FOUND)
        show_line(to, "TNAuthList", why.text);
    if (url != NULL)
        show_line(to, "TNAuthList at", url);
    free(url);
    free(text);
    certs_tnauthlist_free(list);
}

static void
show_constraints(const X509 *cert, FILE *to)
{
    struct certs_constraints *constraints = NULL;
    struct hsm_reason why = {0};
    enum hsm_status st = certs_cert_constraints(cert, &constraints, &why);
    char *text = st == HSM_OK ? certs_constraints_text(constraints) : NULL;

    if (text != NULL)
        fprintf(to, "  %-12s %s%s\n", "claims", text,
                certs_constraints_are_void(constraints) ? " (void: RFC 9118 section 3)" : "");
    else if (st != HSM_ERR_NOT_FOUND)
        show_line(to, "claims", why.text);
    free(text);
    certs_constraints_free(constraints);
}

static void
show_policies(const X509 *cert, FILE *to)
{
    DEFER(CERTIFICATEPOLICIES_free)
    CERTIFICATEPOLICIES *found = X509_get_ext_d2i(cert, NID_certificate_policies, NULL, NULL);

    for (int i = 0; i < sk_POLICYINFO_num(found); i++) {
        char oid[80];
        const char *name = "unknown policy";

        (void)OBJ_obj2txt(oid, sizeof(oid), sk_POLICYINFO_value(found, i)->policyid, 1);
        for (size_t k = 0; k < sizeof(policies) / sizeof(policies[0]); k++) {
            if (strcmp(oid, policies[k].oid) == 0)
                name = policies[k].name;
        }
        fprintf(to, "  %-12s %s (%s)\n", "policy", oid, name);
    }
}

static void
show_crl(const X509 *cert, FILE *to)
{
    DEFER(CRL_DIST_POINTS_free)
    CRL_DIST_POINTS *points = X509_get_ext_d2i(cert, NID_crl_distribution_points, NULL, NULL);

    for (int i = 0; i < sk_DIST_POINT_num(points); i++) {
        const DIST_POINT *point = sk_DIST_POINT_value(points, i);
        char *url = NULL;

        if (point->distpoint != NULL && point->distpoint->type == 0)
            url = certs_names_uri(point->distpoint->name.fullname);
        show_line(to, "CRL", url == NULL ? "(no URL)" : url);
        free(url);
        for (int k = 0; k < sk_GENERAL_NAME_num(point->CRLissuer); k++) {
            const GENERAL_NAME *name = sk_GENERAL_NAME_value(point->CRLissuer, k);

            if (name->type == GEN_DIRNAME)
                show_name(to, "CRL issuer", name->d.directoryName);
        }
    }
}

static void
show_validity(const X509 *cert, time_t now, FILE *to)
{
    time_t not_before = certs_cert_not_before(cert);
    time_t not_after = certs_cert_not_after(cert);
    char from[CERTS_TIME_TEXT_MAX];
    char until[CERTS_TIME_TEXT_MAX];

    certs_time_text(not_before, from);
    certs_time_text(not_after, until);
    show_line(to, "not before", from);
    fprintf(to, "  %-12s %s", "not after", until);
    if (now < not_before)
        fprintf(to, " (not yet valid)\n");
    else if (now > not_after)
        fprintf(to, " (expired %lld days ago)\n", (long long)(now - not_after) / SECONDS_A_DAY);
    else
        fprintf(to, " (%lld days left)\n", (long long)(not_after - now) / SECONDS_A_DAY);
}

static void
show_key(const X509 *cert, FILE *to)
{
    EVP_PKEY *key = certs_cert_public(cert);
    char group[64];
    size_t len;

    if (key == NULL)
        show_line(to, "key", "of an unknown kind");
    else if (certs_is_p256(key))
        show_line(to, "key", "P-256");
    else if (EVP_PKEY_get_group_name(key, group, sizeof(group), &len) == 1)
        show_line(to, "key", group);
    else
        fprintf(to, "  %-12s %s, %d bits\n", "key", EVP_PKEY_get0_type_name(key),
                EVP_PKEY_get_bits(key));
}

static void
show_key_ids(X509 *cert, FILE *to)
{
    const ASN1_OCTET_STRING *subject = X509_get0_subject_key_id(cert);
    const ASN1_OCTET_STRING *authority = X509_get0_authority_key_id(cert);

    if (subject != NULL)
        show_octets(to, "subject key", ASN1_STRING_get0_data(subject),
                    (size_t)ASN1_STRING_length(subject));
    if (authority != NULL)
        show_octets(to, "issuer key", ASN1_STRING_get0_data(authority),
                    (size_t)ASN1_STRING_length(authority));
}

static void
show_alt_names(const X509 *cert, FILE *to)
{
    DEFER(GENERAL_NAMES_free)
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);

    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        BIO *bio = BIO_new(BIO_s_mem());
        char *octets;
        long len;

        if (bio == NULL)
            return;
        (void)GENERAL_NAME_print(bio, (GENERAL_NAME *)name);
        len = BIO_get_mem_data(bio, &octets);
        fprintf(to, "  %-12s ", "name");
        for (long k = 0; k < len; k++) /* OpenSSL keeps these octets unchanged */
            fputc(octets[k] < 0x20 || octets[k] > 0x7e ? '?' : octets[k], to);
        fputc('\n', to);
        BIO_free_all(bio);
    }
}

enum hsm_status
certs_cert_show(const X509 *cert, time_t now, FILE *to)
{
    X509 *asked = (X509 *)cert; /* OpenSSL's getters fill a cache under a lock */
    uint8_t sha256[HSM_SHA256_LEN];
    char *serial = certs_cert_serial_hex(cert);
    bool has_tnauthlist;
    enum hsm_status st = certs_cert_sha256(cert, sha256);

    if (st != HSM_OK || serial == NULL) {
        free(serial);
        return st != HSM_OK ? st : HSM_ERR_NOMEM;
    }
    show_name(to, "subject", X509_get_subject_name(cert));
    show_name(to, "issuer", X509_get_issuer_name(cert));
    show_tnauthlist(cert, &has_tnauthlist, to);
    show_constraints(cert, to);
    show_line(to, "looks like", guess_profile(asked, has_tnauthlist));
    show_validity(cert, now, to);
    show_line(to, "serial", serial);
    show_policies(cert, to);
    show_crl(cert, to);
    show_alt_names(cert, to);
    show_key(cert, to);
    show_key_ids(asked, to);
    show_octets(to, "SHA-256", sha256, sizeof(sha256));
    free(serial);
    ERR_clear_error();
    return ferror(to) ? HSM_ERR_IO : HSM_OK;
}

static bool
has_signed(const X509 *issuer, X509 *cert)
{
    EVP_PKEY *key = certs_cert_public(issuer);
    bool has = X509_NAME_cmp(X509_get_subject_name(issuer), X509_get_issuer_name(cert)) == 0 &&
               key != NULL && X509_verify(cert, key) == 1;

    ERR_clear_error();
    return has;
}

static void
show_signer(const struct certs_chain *chain, size_t at, FILE *to)
{
    X509 *cert = certs_chain_get(chain, at);

    if (has_signed(cert, cert)) {
        show_line(to, "signed by", "itself");
        return;
    }
    for (size_t i = 0; i < certs_chain_len(chain); i++) {
        if (has_signed(certs_chain_get(chain, i), cert)) {
            fprintf(to, "  %-12s certificate %zu\n", "signed by", i + 1);
            return;
        }
    }
    show_line(to, "signed by", "no certificate of this file");
}

enum hsm_status
certs_chain_show(const struct certs_chain *chain, time_t now, FILE *to)
{
    for (size_t i = 0; i < certs_chain_len(chain); i++) {
        enum hsm_status st;

        fprintf(to, "certificate %zu of %zu\n", i + 1, certs_chain_len(chain));
        st = certs_cert_show(certs_chain_get(chain, i), now, to);
        if (st != HSM_OK)
            return st;
        show_signer(chain, i, to);
    }
    return HSM_OK;
}
