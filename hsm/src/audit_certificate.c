/* audit_certificate.c - which certificate belongs to which key. */
#include "audit_internal.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>

#include <hsm/defer.h>
#include <hsm/es256.h>
#include <hsm/log.h>
#include <hsm/process.h>

#include "defer_internal.h"

#define FILE_MAX         1048576 /* octets of a file of certificates; a larger file is skipped */
#define CERTIFICATES_MAX 10000 /* in all files together; more: HSM_ERR_UNSUPPORTED */

static enum hsm_status
keep_certificate(STACK_OF(X509) * all, X509 *certificate)
{
    if (sk_X509_num(all) >= CERTIFICATES_MAX) {
        X509_free(certificate);
        hsm_log(HSM_LOG_ERROR, "more than %d certificates", CERTIFICATES_MAX);
        return HSM_ERR_UNSUPPORTED;
    }
    if (sk_X509_push(all, certificate) > 0)
        return HSM_OK;
    X509_free(certificate);
    return HSM_ERR_NOMEM;
}

/* Skips what is not a certificate: a directory holds other files, too. */
static enum hsm_status
take_from(const uint8_t *octets, size_t len, STACK_OF(X509) * all)
{
    DEFER(BIO_free_all) BIO *bio = BIO_new_mem_buf(octets, (int)len);
    const uint8_t *at = octets;
    X509 *certificate = d2i_X509(NULL, &at, (long)len);
    enum hsm_status st = bio != NULL ? HSM_OK : HSM_ERR_NOMEM;

    if (certificate != NULL)
        return keep_certificate(all, certificate);
    while (st == HSM_OK && (certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL)
        st = keep_certificate(all, certificate);
    ERR_clear_error();
    return st;
}

static void
certificate_file(void *context, const char *path, int fd, uint64_t size)
{
    struct hsm_audit *audit = context;
    uint8_t *octets = NULL;
    size_t len = 0;

    (void)path;
    if (size > FILE_MAX || hsm_file_read_fd(fd, FILE_MAX, &octets, &len) != HSM_OK)
        return;
    (void)hsm_audit_keep(audit, take_from(octets, len, audit->certificates));
    free(octets);
}

enum hsm_status
hsm_audit_certificates(struct hsm_audit *audit, const char *path)
{
    struct hsm_walk walk = {.file = certificate_file, .context = audit};
    enum hsm_status st = hsm_audit_walk(path, &walk);

    return st == HSM_OK ? audit->failure : st;
}

/* ---- keys and certificates ---- */

static json_t *
name_json(const X509_NAME *name)
{
    char *text = X509_NAME_oneline(name, NULL, 0);
    json_t *json = text != NULL ? hsm_audit_text(text, strlen(text)) : NULL;

    OPENSSL_free(text);
    return json;
}

static json_t *
certificate_json(struct hsm_audit *audit, X509 *certificate, const char *where)
{
    const ASN1_INTEGER *serial = X509_get0_serialNumber(certificate);
    uint8_t *der = NULL;
    int len = i2d_X509(certificate, &der);
    char hash[2 * HSM_SHA256_LEN + 1] = "";
    json_t *json;

    if (len < 0 || hsm_audit_sha256(der, (size_t)len, hash) != HSM_OK)
        (void)hsm_audit_keep(audit, HSM_ERR_NOMEM);
    OPENSSL_free(der);
    json = hsm_audit_pack(
        audit, "{s:o, s:o, s:o, s:s, s:s}", "subject",
        name_json(X509_get_subject_name(certificate)), "issuer",
        name_json(X509_get_issuer_name(certificate)), "serial",
        hsm_audit_hex(ASN1_STRING_get0_data(serial), (size_t)ASN1_STRING_length(serial)), "sha256",
        hash, "where", where);
    return json;
}

static bool
is_of_key(const struct hsm_audit_key *key, X509 *certificate)
{
    EVP_PKEY *public_key = X509_get0_pubkey(certificate);
    uint8_t point[HSM_P256_POINT_LEN];

    return key->info.has_point && public_key != NULL &&
           hsm_p256_point(public_key, point) == HSM_OK &&
           memcmp(point, key->info.point, sizeof(point)) == 0;
}

static json_t *
certificates_of(struct hsm_audit_scene *scene, const struct hsm_audit_key *key)
{
    STACK_OF(X509) *files = scene->audit->certificates;
    json_t *all = json_array();
    bool good = all != NULL;

    for (size_t i = 0; good && i < scene->object_count; i++) {
        const struct hsm_audit_object *object = &scene->objects[i];

        if (object->certificate != NULL && is_of_key(key, object->certificate))
            good = json_array_append_new(
                       all, certificate_json(scene->audit, object->certificate, object->uri)) == 0;
    }
    for (int i = 0; good && i < sk_X509_num(files); i++) {
        if (is_of_key(key, sk_X509_value(files, i)))
            good = json_array_append_new(
                       all, certificate_json(scene->audit, sk_X509_value(files, i), "file")) == 0;
    }
    if (!good)
        (void)hsm_audit_keep(scene->audit, HSM_ERR_NOMEM);
    return all;
}

static bool
has_id(const struct hsm_audit_object *object, const struct hsm_audit_key *key)
{
    return object->id_len > 0 && object->id_len == key->object->id_len &&
           memcmp(object->id, key->object->id, object->id_len) == 0;
}

/* A certificate on the token that has the key's CKA_ID, but belongs to another key. */
static const struct hsm_audit_object *
wrong_certificate_of(const struct hsm_audit_scene *scene, const struct hsm_audit_key *key)
{
    for (size_t i = 0; i < scene->object_count; i++) {
        const struct hsm_audit_object *object = &scene->objects[i];

        if (object->certificate != NULL && has_id(object, key) &&
            !is_of_key(key, object->certificate))
            return object;
    }
    return NULL;
}

/* The audit key needs no certificate: its reports are verified with its public half. */
static bool
needs_none(const struct hsm_audit_scene *scene, const struct hsm_audit_key *key)
{
    const struct hsm_key *signer = scene->audit->config.signer;

    return hsm_audit_is_listed(scene->audit->config.uncertified, key->object->label) ||
           (signer != NULL && key->info.has_point &&
            memcmp(hsm_key_point(signer), key->info.point, HSM_P256_POINT_LEN) == 0);
}

static void
state_certificate(struct hsm_audit_scene *scene, const struct hsm_audit_key *key)
{
    json_t *all = certificates_of(scene, key);
    struct hsm_audit_statement statement = {
        .check = HSM_CHECK_CERTIFICATE,
        .subject = key->object->uri,
        .verdict = HSM_AUDIT_FINDING,
        .found = "none, neither on the token nor among the files that were named",
        .evidence = hsm_audit_pack(scene->audit, "{s:O}", "certificates", all),
    };

    if (json_array_size(all) > 0) {
        statement.verdict = HSM_AUDIT_PASS;
        statement.found = "there is one";
    } else if (needs_none(scene, key)) {
        statement.verdict = HSM_AUDIT_INFO;
        statement.found = "none; this key needs none";
    } else if (wrong_certificate_of(scene, key) != NULL) {
        statement.verdict = HSM_AUDIT_CONSEQUENCE;
        statement.cause = HSM_CHECK_CERTIFICATE_KEY;
        statement.found = "none; the one with its CKA_ID is another key's";
    } else if (key->public_object == NULL) {
        statement.verdict = HSM_AUDIT_CONSEQUENCE;
        statement.cause = HSM_CHECK_PUBLIC_HALF;
        statement.found = "not known: there is no public half";
    } else if (!key->info.has_point) {
        statement.verdict = HSM_AUDIT_CONSEQUENCE;
        statement.cause = HSM_CHECK_KEY_TYPE;
        statement.found = "not known: the public half is not on P-256";
    }
    json_decref(all);
    hsm_audit_state(scene->audit, &statement);
}

/* A certificate on the token: which key does it belong to, and does its CKA_ID agree? */
static void
state_object(struct hsm_audit_scene *scene, const struct hsm_audit_object *object)
{
    struct hsm_audit_statement statement = {
        .check = HSM_CHECK_CERTIFICATE_ORPHAN,
        .subject = object->uri,
        .verdict = HSM_AUDIT_INFO,
        .found = "no key here is its: of an issuer, or left over",
    };

    for (size_t i = 0; i < scene->key_count; i++) {
        const struct hsm_audit_key *key = &scene->keys[i];

        if (is_of_key(key, object->certificate)) {
            statement.check = HSM_CHECK_CERTIFICATE_KEY;
            statement.verdict = HSM_AUDIT_PASS;
            statement.found = "the key that is certified is here";
        }
    }
    for (size_t i = 0; i < scene->key_count; i++) {
        if (has_id(object, &scene->keys[i]) && !is_of_key(&scene->keys[i], object->certificate)) {
            statement.check = HSM_CHECK_CERTIFICATE_KEY;
            statement.verdict = HSM_AUDIT_FINDING;
            statement.found = "it certifies another key than the one with its CKA_ID";
        }
    }
    statement.evidence = certificate_json(scene->audit, object->certificate, object->uri);
    hsm_audit_state(scene->audit, &statement);
}

void
hsm_audit_match_certificates(struct hsm_audit_scene *scene)
{
    for (size_t i = 0; i < scene->key_count; i++)
        state_certificate(scene, &scene->keys[i]);
    for (size_t i = 0; i < scene->object_count; i++) {
        if (scene->objects[i].certificate != NULL)
            state_object(scene, &scene->objects[i]);
    }
}
