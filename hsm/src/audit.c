/* audit.c - gather statements about tokens, close the report, sign it. */
#include "audit_internal.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/pem.h>

#include <hsm/base64url.h>
#include <hsm/defer.h>
#include <hsm/es256.h>
#include <hsm/log.h>
#include <hsm/time.h>
#include <hsm/use.h>

#include "defer_internal.h"
#include "key_internal.h"
#include "signer_internal.h"

#define HOST_MAX 256 /* octets */

/* ---- the signer ---- */

static json_t *
tri(int value)
{
    if (value < 0)
        return json_null();
    return json_boolean(value == 1);
}

static json_t *
public_key_json(EVP_PKEY *key)
{
    DEFER(BIO_free_all) BIO *bio = BIO_new(BIO_s_mem());
    char *pem = NULL;
    long len;

    if (bio == NULL || PEM_write_bio_PUBKEY(bio, key) != 1)
        return NULL;
    len = BIO_get_mem_data(bio, &pem);
    return json_stringn(pem, (size_t)len);
}

static json_t *
spki_hash_json(EVP_PKEY *key)
{
    uint8_t *der = NULL;
    int len = i2d_PUBKEY(key, &der);
    char hash[2 * HSM_SHA256_LEN + 1];
    json_t *json = NULL;

    if (len > 0 && hsm_audit_sha256(der, (size_t)len, hash) == HSM_OK)
        json = json_string(hash);
    OPENSSL_free(der);
    return json;
}

/* The audit key as its token describes it: generated in the token like any other, or refused. */
static json_t *
signer_json(struct hsm_audit *audit, const struct hsm_key *key)
{
    const struct hsm_key_info *info = &hsm_key_signer(key)->info;

    return hsm_audit_pack(
        audit, "{s:s, s:o, s:o, s:{s:o, s:o, s:o, s:o, s:o, s:o}}", "uri", hsm_key_uri(key),
        "public_key", public_key_json(hsm_key_public(key)), "spki_sha256",
        spki_hash_json(hsm_key_public(key)), "attributes", "CKA_SENSITIVE", tri(info->sensitive),
        "CKA_ALWAYS_SENSITIVE", tri(info->always_sensitive), "CKA_EXTRACTABLE",
        tri(info->extractable), "CKA_NEVER_EXTRACTABLE", tri(info->never_extractable), "CKA_LOCAL",
        tri(info->local), "CKA_KEY_GEN_MECHANISM", hsm_audit_mechanism(info->gen_mechanism));
}

/* ---- the report ---- */

static json_t *
report_new(struct hsm_audit *audit)
{
    const struct hsm_audit_config *config = &audit->config;
    char host[HOST_MAX] = "";
    char made[HSM_TIME_LEN + 1];
    json_t *signer = config->signer != NULL ? signer_json(audit, config->signer) : json_null();

    hsm_time_format(config->now, made);
    if (gethostname(host, sizeof(host) - 1) != 0)
        host[0] = '\0';
    return hsm_audit_pack(audit, "{s:s, s:s, s:s, s:o, s:s?, s:b, s:o, s:o, s:o}", "format",
                          HSM_AUDIT_FORMAT, "made", made, "program", config->program, "host",
                          hsm_audit_text(host, strlen(host)), "nonce", config->nonce, "attempts",
                          (int)config->attempts, "tokens", json_array(), "statements", json_array(),
                          "signer", signer);
}

static bool
is_nonce(const char *nonce)
{
    size_t len = strlen(nonce);

    for (size_t i = 0; i < len; i++) {
        if (nonce[i] < 0x20 || nonce[i] > 0x7e)
            return false;
    }
    return len > 0 && len <= HSM_AUDIT_NONCE_MAX;
}

enum hsm_status
hsm_audit_new(const struct hsm_audit_config *config, struct hsm_audit **out)
{
    DEFER(hsm_audit_free) struct hsm_audit *audit = calloc(1, sizeof(*audit));

    if (audit == NULL)
        return HSM_ERR_NOMEM;
    if (config->nonce != NULL && !is_nonce(config->nonce)) {
        hsm_log(HSM_LOG_ERROR, "the nonce has 1 to %d characters of ASCII", HSM_AUDIT_NONCE_MAX);
        return HSM_ERR_USAGE;
    }
    audit->config = *config;
    audit->certificates = sk_X509_new_null();
    audit->attestations = sk_X509_new_null();
    audit->report = report_new(audit);
    audit->statements = json_object_get(audit->report, "statements");
    audit->tokens = json_object_get(audit->report, "tokens");
    if (audit->certificates == NULL || audit->attestations == NULL || audit->report == NULL)
        return HSM_ERR_NOMEM;
    *out = audit;
    audit = NULL;
    return HSM_OK;
}

/* The part that needs exclusive use of the control session. */
static enum hsm_status
audit_inside(struct hsm_audit_scene *scene)
{
    enum hsm_status st = hsm_token_admin_enter(
        scene->token, scene->audit->config.attempts ? HSM_TURN_WRITE : HSM_TURN_READ);

    if (st != HSM_OK)
        return st;
    st = hsm_audit_inventory(scene);
    if (st == HSM_OK)
        st = hsm_audit_keys(scene);
    if (st == HSM_OK)
        hsm_audit_wrapping_keys(scene);
    if (st == HSM_OK && scene->audit->config.attempts)
        st = hsm_audit_attempts(scene);
    (void)hsm_token_admin_leave(scene->token, st); /* half an audit is not repeated */
    return st;
}

enum hsm_status
hsm_audit_token(struct hsm_audit *audit, struct hsm_token *token)
{
    struct hsm_audit_scene scene = {.audit = audit, .token = token, .slot = token->slot};

    if (hsm_audit_keep(audit, audit_inside(&scene))) {
        hsm_audit_public_halves(&scene);
        hsm_audit_match_certificates(&scene);
        hsm_audit_attest(&scene);
    }
    hsm_audit_scene_release(&scene);
    return audit->failure;
}

static json_t *
summary_json(struct hsm_audit *audit)
{
    size_t counts[HSM_AUDIT_VERDICTS] = {0};
    json_t *summary = json_object();
    json_t *statement;
    size_t i;

    json_array_foreach(audit->statements, i, statement)
        counts[hsm_audit_verdict_of(json_string_value(json_object_get(statement, "verdict")))]++;
    for (i = 0; i < HSM_AUDIT_VERDICTS; i++) {
        if (json_object_set_new(summary, hsm_audit_verdict_name((enum hsm_audit_verdict)i),
                                json_integer((json_int_t)counts[i])) != 0)
            (void)hsm_audit_keep(audit, HSM_ERR_NOMEM);
    }
    return summary;
}

enum hsm_status
hsm_audit_finish(struct hsm_audit *audit, const json_t **report)
{
    if (!audit->finished && json_object_set_new(audit->report, "summary", summary_json(audit)) != 0)
        (void)hsm_audit_keep(audit, HSM_ERR_NOMEM);
    audit->finished = true;
    if (audit->failure != HSM_OK)
        return audit->failure;
    *report = audit->report;
    return HSM_OK;
}

size_t
hsm_audit_faults(const json_t *report)
{
    const json_t *summary = json_object_get(report, "summary");

    return (size_t)(json_integer_value(json_object_get(summary, "finding")) +
                    json_integer_value(json_object_get(summary, "unproven")));
}

/* ---- signature ---- */

/* HEADER "." PAYLOAD, with room for "." SIGNATURE and a NUL (RFC 7515 section 7.1). */
static char *
signing_input(const char *header, const char *payload, size_t *len)
{
    size_t header_len = strlen(header);
    size_t payload_len = strlen(payload);
    char *out = malloc(HSM_BASE64URL_LEN(header_len) + HSM_BASE64URL_LEN(payload_len) +
                       HSM_BASE64URL_LEN(HSM_P256_SIG_LEN) + 3);
    size_t n;

    if (out == NULL)
        return NULL;
    n = hsm_base64url_write(header, header_len, out);
    out[n++] = '.';
    n += hsm_base64url_write(payload, payload_len, out + n);
    *len = n;
    return out;
}

enum hsm_status
hsm_audit_sign(struct hsm_audit *audit, char **jws, size_t *len)
{
    static const char header[] = "{\"alg\":\"ES256\",\"typ\":\"" HSM_AUDIT_JWS_TYPE "\"}";
    uint8_t sig[HSM_P256_SIG_LEN];
    char *payload;
    char *text;
    size_t n = 0;
    enum hsm_status st;
    HSM_USE_FOR(HSM_USE_AUDIT);

    if (!audit->finished || audit->failure != HSM_OK || audit->config.signer == NULL)
        return HSM_ERR_USAGE;
    payload = json_dumps(audit->report, JSON_COMPACT);
    text = payload != NULL ? signing_input(header, payload, &n) : NULL;
    free(payload);
    if (text == NULL)
        return HSM_ERR_NOMEM;
    st = hsm_key_sign_verified(audit->config.signer, text, n, sig);
    if (st != HSM_OK) {
        free(text);
        return st;
    }
    text[n++] = '.';
    n += hsm_base64url_write(sig, sizeof(sig), text + n);
    text[n] = '\0';
    *jws = text;
    *len = n;
    return HSM_OK;
}

void
hsm_audit_free(struct hsm_audit *audit)
{
    if (audit == NULL)
        return;
    json_decref(audit->report);
    sk_X509_pop_free(audit->certificates, X509_free);
    sk_X509_pop_free(audit->attestations, X509_free);
    X509_STORE_free(audit->roots);
    free(audit);
}
