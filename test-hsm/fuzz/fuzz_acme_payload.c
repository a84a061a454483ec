/* fuzz_acme_payload.c - the payloads of ACME requests, read as the handlers read them. */
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/x509.h>

#include <acme/base64url.h>
#include <acme/json.h>
#include <acme/jwk.h>
#include <acme/jws.h>
#include <certs/cert.h>
#include <certs/csr.h>
#include <certs/tnauthlist.h>
#include <hsm/time.h>

#include "fuzz.h"
#include "server_internal.h"

static const char *
text_of(const json_t *object, const char *name)
{
    const char *text = NULL;
    struct hsm_reason why;

    return acme_json_string_optional(object, name, &text, &why) == HSM_OK ? text : NULL;
}

/* newOrder */
static void
read_order(const json_t *payload)
{
    json_t *identifiers = NULL;
    struct certs_tnauthlist *list = NULL;
    const char *not_before = text_of(payload, "notBefore"), *value = NULL;
    uint8_t *der = NULL;
    size_t len = 0;
    time_t when;

    if (not_before != NULL)
        (void)!hsm_time_parse(not_before, &when);
    if (acme_json_array(payload, "identifiers", &identifiers, NULL) == HSM_OK)
        value = text_of(json_array_get(identifiers, 0), "value");
    if (value != NULL && acme_base64_decode_any(value, strlen(value), &der, &len) == HSM_OK &&
        certs_tnauthlist_parse(der, len, &list, NULL) == HSM_OK)
        (void)certs_tnauthlist_spc(list);
    certs_tnauthlist_free(list);
    free(der);
}

/* keyChange, externalAccountBinding */
static void
read_jws(const json_t *object)
{
    struct acme_jws *jws = NULL;

    if (acme_jws_parse_object(object, &jws, NULL) == HSM_OK)
        (void)!acme_jws_verify_mac(jws, "key", 3, NULL);
    acme_jws_free(jws);
}

static void
read_jwk(const json_t *object)
{
    EVP_PKEY *key = NULL;

    if (acme_jwk_parse(object, &key, NULL) == HSM_OK)
        EVP_PKEY_free(key);
}

/* finalize, revokeCert */
static void
read_der(const json_t *payload, const char *name)
{
    const char *text = text_of(payload, name);
    struct certs_csr *csr = NULL;
    X509 *cert = NULL;
    uint8_t *der = NULL;
    size_t len = 0;

    if (text == NULL || acme_base64url_decode(text, strlen(text), &der, &len) != HSM_OK)
        return;
    if (certs_csr_parse(der, len, &csr, NULL) == HSM_OK)
        certs_csr_free(csr);
    if (certs_cert_parse_der(der, len, &cert, NULL) == HSM_OK)
        X509_free(cert);
    free(der);
}

int
LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len)
{
    json_t *payload = NULL;

    if (acme_json_parse((const char *)octets, len, &payload, NULL) != HSM_OK)
        return 0;
    read_order(payload);
    read_jws(payload);
    read_jws(json_object_get(payload, "externalAccountBinding"));
    read_jwk(json_object_get(payload, "oldKey"));
    read_der(payload, "csr");
    read_der(payload, "certificate");
    json_decref(payload);
    return 0;
}
