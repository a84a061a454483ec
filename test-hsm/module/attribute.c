/* attribute.c - C_GetAttributeValue where attributes are altered or keys swapped. */
#include "attribute.h"

#include <string.h>

#include "behind.h"
#include "world.h"

#define POINT_MAX 160 /* octets: P-521 in any form */

struct source {
    CK_SESSION_HANDLE session;
    CK_OBJECT_HANDLE named; /* has the name by which it was found */
    CK_OBJECT_HANDLE material; /* has everything else */
};

/* The base point of P-256 (SEC 2 section 2.4.2): on the curve, and not the key of any token. */
static const CK_BYTE base_point[] = {
    0x04, 0x41, 0x04, 0x6b, 0x17, 0xd1, 0xf2, 0xe1, 0x2c, 0x42, 0x47, 0xf8, 0xbc, 0xe6,
    0xe5, 0x63, 0xa4, 0x40, 0xf2, 0x77, 0x03, 0x7d, 0x81, 0x2d, 0xeb, 0x33, 0xa0, 0xf4,
    0xa1, 0x39, 0x45, 0xd8, 0x98, 0xc2, 0x96, 0x4f, 0xe3, 0x42, 0xe2, 0xfe, 0x1a, 0x7f,
    0x9b, 0x8e, 0xe7, 0xeb, 0x4a, 0x7c, 0x0f, 0x9e, 0x16, 0x2b, 0xce, 0x33, 0x57, 0x6b,
    0x31, 0x5e, 0xce, 0xcb, 0xb6, 0x40, 0x68, 0x37, 0xbf, 0x51, 0xf5,
};

/* Answer for one attribute as a module does: the length without a buffer, nothing in a short one.
 */
static CK_RV
answer(CK_ATTRIBUTE *attribute, const CK_BYTE *value, size_t len)
{
    if (attribute->pValue == NULL) {
        attribute->ulValueLen = len;
        return CKR_OK;
    }
    if (attribute->ulValueLen < len) {
        attribute->ulValueLen = CK_UNAVAILABLE_INFORMATION;
        return CKR_BUFFER_TOO_SMALL;
    }
    if (len > 0)
        memcpy(attribute->pValue, value, len);
    attribute->ulValueLen = len;
    return CKR_OK;
}

static CK_RV
answer_nothing(CK_ATTRIBUTE *attribute, CK_ULONG len, CK_RV rv)
{
    attribute->ulValueLen = len;
    return rv;
}

/* 04 X Y, whether or not the module wraps it in an OCTET STRING; NULL: some other form. */
static const CK_BYTE *
uncompressed_point(const CK_BYTE *value, size_t len, size_t *point_len)
{
    size_t head = len > 2 && value[1] == 0x81 ? 3 : 2;

    if (len > head && value[0] == 0x04 && value[head - 1] == len - head && value[head] == 0x04) {
        *point_len = len - head;
        return value + head;
    }
    *point_len = len;
    return len % 2 == 1 && value[0] == 0x04 ? value : NULL;
}

/* Tag, length, `unused bits` for a BIT STRING, the point. */
static size_t
wrap_point(CK_BYTE tag, const CK_BYTE *point, size_t len, CK_BYTE out[POINT_MAX + 4])
{
    size_t body = len + (tag == 0x03);
    size_t at = 0;

    out[at++] = tag;
    if (body > 127)
        out[at++] = 0x81;
    out[at++] = (CK_BYTE)body;
    if (tag == 0x03)
        out[at++] = 0x00;
    memcpy(out + at, point, len);
    return at + len;
}

static CK_RV
answer_point(const struct source *source, enum fault_value form, CK_ATTRIBUTE *attribute)
{
    CK_BYTE value[POINT_MAX];
    CK_BYTE wrapped[POINT_MAX + 4];
    CK_ATTRIBUTE real = {CKA_EC_POINT, value, sizeof(value)};
    size_t len = 0;
    const CK_BYTE *point;
    CK_RV rv = fault_behind->C_GetAttributeValue(source->session, source->material, &real, 1);

    if (rv != CKR_OK)
        return answer_nothing(attribute, CK_UNAVAILABLE_INFORMATION, rv);
    point = uncompressed_point(value, real.ulValueLen, &len);
    if (point == NULL)
        return answer(attribute, value, real.ulValueLen);
    switch (form) {
    case FAULT_POINT_RAW:
        return answer(attribute, point, len);
    case FAULT_POINT_XY:
        return answer(attribute, point + 1, len - 1);
    case FAULT_POINT_BITS:
        return answer(attribute, wrapped, wrap_point(0x03, point, len, wrapped));
    default:
        return answer(attribute, wrapped, wrap_point(0x04, point, len, wrapped));
    }
}

static CK_RV
get_real(const struct source *source, CK_ATTRIBUTE *attribute)
{
    bool is_name = attribute->type == CKA_LABEL || attribute->type == CKA_ID;

    return fault_behind->C_GetAttributeValue(
        source->session, is_name ? source->named : source->material, attribute, 1);
}

/* Only attributes that the object has are altered: others would be easy to detect. */
static bool
has_attribute(const struct source *source, CK_ATTRIBUTE_TYPE type)
{
    CK_ATTRIBUTE attribute = {type, NULL, 0};

    return fault_behind->C_GetAttributeValue(source->session, source->material, &attribute, 1) ==
           CKR_OK;
}

static CK_RV
get_altered(const struct source *source, const struct fault_alteration *alteration,
            CK_ATTRIBUTE *attribute)
{
    if (!has_attribute(source, attribute->type))
        return get_real(source, attribute);
    switch (alteration->value) {
    case FAULT_AS_IT_IS:
        return get_real(source, attribute);
    case FAULT_OCTETS:
        return answer(attribute, alteration->octets, alteration->len);
    case FAULT_MISSING:
        return answer_nothing(attribute, CK_UNAVAILABLE_INFORMATION, CKR_ATTRIBUTE_TYPE_INVALID);
    case FAULT_SENSITIVE:
        return answer_nothing(attribute, CK_UNAVAILABLE_INFORMATION, CKR_ATTRIBUTE_SENSITIVE);
    case FAULT_UNAVAILABLE:
        return answer_nothing(attribute, CK_UNAVAILABLE_INFORMATION, CKR_OK);
    case FAULT_NO_OCTETS:
        return answer_nothing(attribute, 0, CKR_OK);
    case FAULT_POINT_OTHER:
        return answer(attribute, base_point, sizeof(base_point));
    default:
        return answer_point(source, alteration->value, attribute);
    }
}

/* These return values concern one attribute: the others must still be answered. */
static bool
is_about_attribute(CK_RV rv)
{
    return rv == CKR_OK || rv == CKR_ATTRIBUTE_SENSITIVE || rv == CKR_ATTRIBUTE_TYPE_INVALID ||
           rv == CKR_BUFFER_TOO_SMALL;
}

CK_RV
fault_attributes_get(const struct fault_call *call, CK_OBJECT_HANDLE object,
                     CK_ATTRIBUTE *attributes, CK_ULONG count)
{
    struct source source = {call->session, fault_call_object(call, object),
                            fault_call_key(call, object)};
    CK_RV answered = CKR_OK;

    if (source.named == source.material && call->strike->rules == 0 &&
        call->strike->alteration.value == FAULT_AS_IT_IS)
        return fault_behind->C_GetAttributeValue(call->session, source.named, attributes, count);
    for (CK_ULONG i = 0; i < count; i++) {
        struct fault_alteration alteration;
        CK_RV rv;

        fault_rules_alteration(call->strike, attributes[i].type, &alteration);
        rv = get_altered(&source, &alteration, &attributes[i]);
        if (!is_about_attribute(rv))
            return rv;
        if (rv != CKR_OK)
            answered = rv;
    }
    return answered;
}
