/*
 * audit_yubihsm.c - attestation certificates of the YubiHSM 2.
 *
 * The device signs a certificate for the public half of a key in it, with extensions below
 * 1.3.6.1.4.1.41482.4 that describe the key. `yubihsm-shell -a sign-attestation-certificate`
 * exports it; its issuer's certificate is an opaque object of the device, issued under a
 * certificate of the maker.
 */
#include "audit_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/asn1.h>
#include <openssl/bn.h>
#include <openssl/objects.h>
#include <openssl/x509v3.h>

#include <hsm/defer.h>

#define ARC "1.3.6.1.4.1.41482.4."

#define ORIGIN_GENERATED 0x01
#define ORIGIN_IMPORTED  0x02
#define ORIGIN_WRAPPED   0x10 /* imported under a wrapping key */

#define CAPABILITY_EXPORTABLE_UNDER_WRAP (1ULL << 16)

DEFINE_DEFER(ASN1_OBJECT, ASN1_OBJECT_free)
DEFINE_DEFER(ASN1_INTEGER, ASN1_INTEGER_free)
DEFINE_DEFER(ASN1_BIT_STRING, ASN1_BIT_STRING_free)
DEFINE_DEFER(ASN1_OCTET_STRING, ASN1_OCTET_STRING_free)
DEFINE_DEFER(ASN1_UTF8STRING, ASN1_UTF8STRING_free)

/* The content of an extension that occurs exactly once; else NULL. */
static const ASN1_OCTET_STRING *
extension(X509 *certificate, const char *oid)
{
    DEFER(ASN1_OBJECT_free) ASN1_OBJECT *object = OBJ_txt2obj(oid, 1);
    int at = object != NULL ? X509_get_ext_by_OBJ(certificate, object, -1) : -1;

    if (at < 0 || X509_get_ext_by_OBJ(certificate, object, at) >= 0)
        return NULL;
    return X509_EXTENSION_get_data(X509_get_ext(certificate, at));
}

static bool
is_whole(const ASN1_OCTET_STRING *data, const uint8_t *end)
{
    return end == ASN1_STRING_get0_data(data) + ASN1_STRING_length(data);
}

/* A BIT STRING of `octets` whole octets, as a number; the first octet is the most significant. */
static bool
read_bits(X509 *certificate, const char *oid, int octets, uint64_t *out)
{
    const ASN1_OCTET_STRING *data = extension(certificate, oid);
    const uint8_t *at = data != NULL ? ASN1_STRING_get0_data(data) : NULL;
    DEFER(ASN1_BIT_STRING_free) ASN1_BIT_STRING *bits = NULL;
    uint64_t value = 0;

    if (data != NULL)
        bits = d2i_ASN1_BIT_STRING(NULL, &at, ASN1_STRING_length(data));
    if (bits == NULL || !is_whole(data, at) || ASN1_STRING_length(bits) != octets ||
        (bits->flags & 7) != 0) /* unused bits */
        return false;
    for (int i = 0; i < octets; i++)
        value = value << 8 | ASN1_STRING_get0_data(bits)[i];
    *out = value;
    return true;
}

static bool
read_integer(X509 *certificate, const char *oid, uint64_t *out)
{
    const ASN1_OCTET_STRING *data = extension(certificate, oid);
    const uint8_t *at = data != NULL ? ASN1_STRING_get0_data(data) : NULL;
    DEFER(ASN1_INTEGER_free) ASN1_INTEGER *integer = NULL;

    if (data != NULL)
        integer = d2i_ASN1_INTEGER(NULL, &at, ASN1_STRING_length(data));
    return integer != NULL && is_whole(data, at) && ASN1_INTEGER_get_uint64(out, integer) == 1;
}

/* Three octets: major, minor, patch. */
static bool
read_firmware(X509 *certificate, char *out, size_t size)
{
    const ASN1_OCTET_STRING *data = extension(certificate, ARC "1");
    const uint8_t *at = data != NULL ? ASN1_STRING_get0_data(data) : NULL;
    DEFER(ASN1_OCTET_STRING_free) ASN1_OCTET_STRING *version = NULL;
    const uint8_t *octets;

    if (data != NULL)
        version = d2i_ASN1_OCTET_STRING(NULL, &at, ASN1_STRING_length(data));
    if (version == NULL || !is_whole(data, at) || ASN1_STRING_length(version) != 3)
        return false;
    octets = ASN1_STRING_get0_data(version);
    snprintf(out, size, "%u.%u.%u", octets[0], octets[1], octets[2]);
    return true;
}

/* For information only; may be absent. */
static json_t *
read_label(X509 *certificate)
{
    const ASN1_OCTET_STRING *data = extension(certificate, ARC "9");
    const uint8_t *at = data != NULL ? ASN1_STRING_get0_data(data) : NULL;
    DEFER(ASN1_UTF8STRING_free) ASN1_UTF8STRING *label = NULL;

    if (data != NULL)
        label = d2i_ASN1_UTF8STRING(NULL, &at, ASN1_STRING_length(data));
    if (label == NULL || !is_whole(data, at))
        return json_null();
    return hsm_audit_text(ASN1_STRING_get0_data(label), (size_t)ASN1_STRING_length(label));
}

static bool
is_of(X509 *certificate)
{
    return extension(certificate, ARC "3") != NULL;
}

static json_t *
details(X509 *certificate, uint64_t serial, uint64_t origin, uint64_t domains,
        uint64_t capabilities, uint64_t object_id)
{
    char bits[32];

    snprintf(bits, sizeof(bits), "0x%016llx", (unsigned long long)capabilities);
    return json_pack("{s:s, s:I, s:I, s:I, s:s, s:I, s:o}", "format", "YubiHSM 2", "serial",
                     (json_int_t)serial, "origin", (json_int_t)origin, "domains",
                     (json_int_t)domains, "capabilities", bits, "object_id", (json_int_t)object_id,
                     "label", read_label(certificate));
}

static bool
read_attestation(X509 *certificate, struct hsm_attested *out, struct hsm_reason *why)
{
    uint64_t serial = 0;
    uint64_t origin = 0;
    uint64_t domains = 0;
    uint64_t capabilities = 0;
    uint64_t object_id = 0;
    char firmware[16];
    const char *missing = NULL;

    if (!read_firmware(certificate, firmware, sizeof(firmware)))
        missing = "firmware version";
    else if (!read_integer(certificate, ARC "2", &serial))
        missing = "serial number";
    else if (!read_bits(certificate, ARC "3", 1, &origin))
        missing = "origin";
    else if (!read_bits(certificate, ARC "4", 2, &domains))
        missing = "domains";
    else if (!read_bits(certificate, ARC "5", 8, &capabilities))
        missing = "capabilities";
    else if (!read_integer(certificate, ARC "6", &object_id))
        missing = "object ID";
    if (missing != NULL) {
        (void)hsm_refuse(why, HSM_ERR_MALFORMED, "%s: missing, twice or not in its form", missing);
        return false;
    }
    out->generated = origin == ORIGIN_GENERATED;
    out->exportable = (capabilities & CAPABILITY_EXPORTABLE_UNDER_WRAP) != 0 ||
                      (origin & (ORIGIN_IMPORTED | ORIGIN_WRAPPED)) != 0;
    snprintf(out->device, sizeof(out->device), "serial %llu, firmware %s",
             (unsigned long long)serial, firmware);
    out->details = details(certificate, serial, origin, domains, capabilities, object_id);
    return true;
}

const struct hsm_attestation_format hsm_attestation_yubihsm = {"YubiHSM 2 attestation", "Yubico",
                                                               is_of, read_attestation};
