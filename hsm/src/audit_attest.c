/* audit_attest.c - attestation of keys by the makers of tokens. */
#include "audit_internal.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509_vfy.h>

#include <hsm/defer.h>
#include <hsm/es256.h>
#include <hsm/log.h>
#include <hsm/process.h>

#include "defer_internal.h"

#define FILE_MAX 1048576 /* octets of a file of certificates */

/* The known formats. A new one is a row here and a file beside audit_yubihsm.c. */
static const struct hsm_attestation_format *const formats[] = {&hsm_attestation_yubihsm};

#define FORMATS (sizeof(formats) / sizeof(formats[0]))

DEFINE_DEFER(X509_STORE_CTX, X509_STORE_CTX_free)

/* ---- files ---- */

static enum hsm_status
read_pem(const char *path, STACK_OF(X509) * out)
{
    DEFER(BIO_free_all) BIO *bio = NULL;
    uint8_t *octets = NULL;
    X509 *certificate;
    size_t len = 0;
    enum hsm_status st = hsm_file_read(path, FILE_MAX, &octets, &len);

    if (st != HSM_OK)
        return st;
    bio = BIO_new_mem_buf(octets, (int)len);
    st = bio != NULL ? HSM_OK : HSM_ERR_NOMEM;
    while (st == HSM_OK && (certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL) {
        if (sk_X509_push(out, certificate) <= 0) {
            X509_free(certificate);
            st = HSM_ERR_NOMEM;
        }
    }
    ERR_clear_error();
    free(octets);
    return st;
}

static enum hsm_status
add_roots(struct hsm_audit *audit, const char *path)
{
    STACK_OF(X509) *roots = sk_X509_new_null();
    enum hsm_status st = roots != NULL ? read_pem(path, roots) : HSM_ERR_NOMEM;

    if (audit->roots == NULL)
        audit->roots = X509_STORE_new();
    if (st == HSM_OK && sk_X509_num(roots) == 0) {
        hsm_log(HSM_LOG_ERROR, "%s: no certificate", path);
        st = HSM_ERR_MALFORMED;
    }
    for (int i = 0; st == HSM_OK && i < sk_X509_num(roots); i++) {
        if (audit->roots == NULL || X509_STORE_add_cert(audit->roots, sk_X509_value(roots, i)) != 1)
            st = HSM_ERR_NOMEM;
    }
    sk_X509_pop_free(roots, X509_free);
    return st;
}

enum hsm_status
hsm_audit_attestations(struct hsm_audit *audit, const char *path, const char *roots)
{
    int before = sk_X509_num(audit->attestations);
    enum hsm_status st = add_roots(audit, roots);

    if (st == HSM_OK)
        st = read_pem(path, audit->attestations);
    if (st == HSM_OK && sk_X509_num(audit->attestations) == before) {
        hsm_log(HSM_LOG_ERROR, "%s: no certificate", path);
        return HSM_ERR_MALFORMED;
    }
    return st;
}

/* ---- one attestation ---- */

static const struct hsm_attestation_format *
format_of(X509 *certificate)
{
    for (size_t i = 0; i < FORMATS; i++) {
        if (formats[i]->is_of(certificate))
            return formats[i];
    }
    return NULL;
}

/*
 * RFC 5280 section 6 by OpenSSL, to the roots that the auditor gave. Devices have no clock, and
 * their attestations do not expire. A vendor's extensions that OpenSSL does not know, critical or
 * not, are read by the format.
 */
static bool
chains_to_root(struct hsm_audit *audit, X509 *certificate, const char **why)
{
    DEFER(X509_STORE_CTX_free) X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    X509_VERIFY_PARAM *param;
    bool good;

    if (ctx == NULL ||
        X509_STORE_CTX_init(ctx, audit->roots, certificate, audit->attestations) != 1) {
        *why = "out of memory";
        return false;
    }
    param = X509_STORE_CTX_get0_param(ctx);
    (void)X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_IGNORE_CRITICAL);
    X509_VERIFY_PARAM_set_time(param, audit->config.now);
    good = X509_verify_cert(ctx) == 1;
    *why = X509_verify_cert_error_string(X509_STORE_CTX_get_error(ctx));
    ERR_clear_error();
    return good;
}

/* The attestation of the key itself: the first certificate of a known format with its point. */
static X509 *
attestation_of(struct hsm_audit *audit, const struct hsm_audit_key *key)
{
    uint8_t point[HSM_P256_POINT_LEN];

    for (int i = 0; key->info.has_point && i < sk_X509_num(audit->attestations); i++) {
        X509 *certificate = sk_X509_value(audit->attestations, i);
        EVP_PKEY *public_key = X509_get0_pubkey(certificate);

        if (format_of(certificate) != NULL && public_key != NULL &&
            hsm_p256_point(public_key, point) == HSM_OK &&
            memcmp(point, key->info.point, sizeof(point)) == 0)
            return certificate;
    }
    return NULL;
}

static void
state_attested(struct hsm_audit *audit, const struct hsm_audit_key *key, const char *found,
               json_t *details, enum hsm_audit_verdict verdict)
{
    hsm_audit_state(audit, &(struct hsm_audit_statement){
                               .check = HSM_CHECK_ATTESTATION,
                               .subject = key->object->uri,
                               .found = found,
                               .evidence = details != NULL ? details : json_object(),
                               .verdict = verdict,
                           });
}

static void
judge(struct hsm_audit *audit, const struct hsm_audit_key *key, X509 *certificate)
{
    const struct hsm_attestation_format *format = format_of(certificate);
    struct hsm_attested attested = {.details = NULL};
    struct hsm_reason why = {""};
    const char *chain = NULL;
    char found[HSM_REASON_MAX + 128];

    if (!chains_to_root(audit, certificate, &chain)) {
        snprintf(found, sizeof(found), "%s: does not chain to the root: %s", format->name, chain);
        state_attested(audit, key, found, NULL, HSM_AUDIT_FINDING);
        return;
    }
    if (!format->read(certificate, &attested, &why)) {
        snprintf(found, sizeof(found), "%s: %s", format->name, why.text);
        state_attested(audit, key, found, NULL, HSM_AUDIT_FINDING);
        return;
    }
    snprintf(found, sizeof(found), "%s, %s: %s, %s", format->name, attested.device,
             attested.generated ? "generated in the device" : "not generated in the device",
             attested.exportable ? "exportable" : "not exportable");
    state_attested(audit, key, found, attested.details,
                   attested.generated && !attested.exportable ? HSM_AUDIT_PASS : HSM_AUDIT_FINDING);
}

/* NULL: the maker offers no attestation in a format known here. */
static const struct hsm_attestation_format *
offered_by(const struct hsm_audit_scene *scene)
{
    const CK_INFO *info = hsm_module_info(scene->slot->module);

    for (size_t i = 0; i < FORMATS; i++) {
        if (memcmp(info->manufacturerID, formats[i]->manufacturer,
                   strlen(formats[i]->manufacturer)) == 0)
            return formats[i];
    }
    return NULL;
}

void
hsm_audit_attest(struct hsm_audit_scene *scene)
{
    const struct hsm_attestation_format *offered = offered_by(scene);
    struct hsm_audit *audit = scene->audit;
    char found[128];

    for (size_t i = 0; i < scene->key_count; i++) {
        const struct hsm_audit_key *key = &scene->keys[i];
        X509 *certificate = attestation_of(audit, key);

        if (certificate != NULL) {
            judge(audit, key, certificate);
        } else if (sk_X509_num(audit->attestations) > 0) {
            state_attested(audit, key, "none of the attestations given is for this key", NULL,
                           HSM_AUDIT_UNTESTED);
        } else if (offered != NULL) {
            snprintf(found, sizeof(found), "none given; this module's maker offers %s",
                     offered->name);
            state_attested(audit, key, found, NULL, HSM_AUDIT_UNTESTED);
        }
    }
}
