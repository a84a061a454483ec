/*
 * audit_scan.c - search octets for private scalars in every form that programs keep them in, and
 * for encodings of any private key.
 *
 * The scalars are those of test keys, which the auditor knows from elsewhere; they and their forms
 * are wiped.
 */
#include "audit_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/bn.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/obj_mac.h>

#include <hsm/base64url.h>
#include <hsm/defer.h>
#include <hsm/log.h>

#define SCALAR_LEN 32 /* octets */
#define FORMS_MAX  32 /* of one scalar */
#define FORM_MAX   64 /* octets */
#define PREFIXES   65536 /* values of two octets */

struct form {
    const char *name;
    size_t scalar;
    size_t len;
    uint8_t octets[FORM_MAX];
};

struct hsm_scan {
    uint8_t first[PREFIXES / 8]; /* bits: a form begins with these two octets */
    struct form *forms;
    size_t count;
    size_t scalars;
    char hashes[HSM_AUDIT_SCALARS][2 * HSM_SHA256_LEN + 1]; /* of the points */
};

DEFINE_DEFER(EC_GROUP, EC_GROUP_free)
DEFINE_DEFER(EC_POINT, EC_POINT_free)
DEFINE_DEFER(BIGNUM, BN_clear_free)

/* The first matching form in the table, which has DER before the octets in it. */
static const struct form *
form_at(const struct hsm_scan *scan, const uint8_t *octets, size_t left)
{
    for (size_t i = 0; i < scan->count; i++) {
        const struct form *form = &scan->forms[i];

        if (form->len <= left && memcmp(form->octets, octets, form->len) == 0)
            return form;
    }
    return NULL;
}

/* If the text has no digit in which the two alphabets differ, both are one form. */
static void
add_form(struct hsm_scan *scan, const char *name, const void *octets, size_t len)
{
    struct form *form = &scan->forms[scan->count];
    unsigned prefix;

    if (form_at(scan, octets, len) != NULL)
        return;
    scan->count++;

    form->name = name;
    form->scalar = scan->scalars;
    form->len = len;
    memcpy(form->octets, octets, len);
    prefix = (unsigned)form->octets[0] << 8 | form->octets[1];
    scan->first[prefix / 8] |= (uint8_t)(1U << prefix % 8);
}

static void
add_hex(struct hsm_scan *scan, const uint8_t *scalar, const char *digits, const char *name)
{
    char text[2 * SCALAR_LEN];

    for (size_t i = 0; i < SCALAR_LEN; i++) {
        text[2 * i] = digits[scalar[i] >> 4];
        text[2 * i + 1] = digits[scalar[i] & 15];
    }
    add_form(scan, name, text, sizeof(text));
    OPENSSL_cleanse(text, sizeof(text));
}

/* `openssl pkey -text` breaks lines after 15 octets and may put 00 before the first: the form is a
 * part that is on one line in either case. */
static void
add_colons(struct hsm_scan *scan, const uint8_t *scalar)
{
    static const char digits[] = "0123456789abcdef";
    char text[3 * 12];

    for (size_t i = 0; i < 12; i++) {
        text[3 * i] = digits[scalar[i + 1] >> 4];
        text[3 * i + 1] = digits[scalar[i + 1] & 15];
        text[3 * i + 2] = ':';
    }
    add_form(scan, "scalar, hex between colons", text, sizeof(text) - 1);
    OPENSSL_cleanse(text, sizeof(text));
}

/*
 * In base64 a scalar begins at any of three places of a group. The characters that depend on it
 * alone are searched for as two halves, because a line break may divide one of them.
 */
static void
add_base64(struct hsm_scan *scan, const uint8_t *scalar, unsigned before, bool url)
{
    uint8_t padded[SCALAR_LEN + 2] = {0};
    char text[HSM_BASE64URL_LEN(SCALAR_LEN + 2)];
    size_t from = (before * 8 + 5) / 6;
    size_t end = (before + SCALAR_LEN) * 8 / 6;
    size_t half = (end - from) / 2;

    memcpy(padded + before, scalar, SCALAR_LEN);
    (void)hsm_base64url_write(padded, before + SCALAR_LEN, text);
    for (size_t i = 0; !url && i < end; i++)
        text[i] = text[i] == '-' ? '+' : text[i] == '_' ? '/' : text[i];
    add_form(scan, url ? "scalar, base64url" : "scalar, base64", text + from, half);
    add_form(scan, url ? "scalar, base64url" : "scalar, base64", text + from + half,
             end - from - half);
    OPENSSL_cleanse(padded, sizeof(padded));
    OPENSSL_cleanse(text, sizeof(text));
}

/* Words of `size` octets, least significant word first, each with its most significant octet first:
 * the limbs of a BIGNUM on a big-endian machine. Size 1 is the form on a little-endian one. */
static void
add_limbs(struct hsm_scan *scan, const uint8_t *scalar, size_t size, const char *name)
{
    uint8_t limbs[SCALAR_LEN];

    for (size_t i = 0; i < SCALAR_LEN; i += size)
        memcpy(limbs + i, scalar + SCALAR_LEN - size - i, size);
    add_form(scan, name, limbs, sizeof(limbs));
    OPENSSL_cleanse(limbs, sizeof(limbs));
}

static void
add_forms(struct hsm_scan *scan, const uint8_t *scalar)
{
    uint8_t der[5 + SCALAR_LEN] = {0x02, 0x01, 0x01, 0x04, SCALAR_LEN}; /* RFC 5915 section 3 */

    memcpy(der + 5, scalar, SCALAR_LEN);
    add_form(scan, "scalar, DER (RFC 5915)", der, sizeof(der));
    OPENSSL_cleanse(der, sizeof(der));
    add_form(scan, "scalar, octets", scalar, SCALAR_LEN);
    add_limbs(scan, scalar, 1, "scalar, limbs of a little-endian machine");
    add_limbs(scan, scalar, 4, "scalar, limbs of 32 bits");
    add_limbs(scan, scalar, 8, "scalar, limbs of 64 bits");
    add_hex(scan, scalar, "0123456789abcdef", "scalar, hex");
    add_hex(scan, scalar, "0123456789ABCDEF", "scalar, hex");
    add_colons(scan, scalar);
    for (unsigned before = 0; before < 3; before++) {
        add_base64(scan, scalar, before, true);
        add_base64(scan, scalar, before, false);
    }
    scan->scalars++;
}

static struct hsm_scan *
scan_new(void)
{
    struct hsm_scan *scan = calloc(1, sizeof(*scan));

    if (scan == NULL)
        return NULL;
    scan->forms = calloc(HSM_AUDIT_SCALARS * FORMS_MAX, sizeof(*scan->forms));
    if (scan->forms == NULL) {
        free(scan);
        return NULL;
    }
    return scan;
}

void
hsm_scan_free(struct hsm_scan *scan)
{
    if (scan == NULL)
        return;
    OPENSSL_cleanse(scan->forms, HSM_AUDIT_SCALARS * FORMS_MAX * sizeof(*scan->forms));
    free(scan->forms);
    free(scan);
}

/* The report names the key by its public point. False: the scalar is 0, or not below the order. */
static bool
hash_point(const uint8_t *scalar, char *out)
{
    DEFER(EC_GROUP_free) EC_GROUP *group = EC_GROUP_new_by_curve_name(NID_X9_62_prime256v1);
    DEFER(EC_POINT_free) EC_POINT *point = group != NULL ? EC_POINT_new(group) : NULL;
    DEFER(BN_clear_free) BIGNUM *d = BN_bin2bn(scalar, SCALAR_LEN, NULL);
    uint8_t octets[HSM_P256_POINT_LEN];

    return point != NULL && d != NULL && !BN_is_zero(d) &&
           BN_cmp(d, EC_GROUP_get0_order(group)) < 0 &&
           EC_POINT_mul(group, point, d, NULL, NULL, NULL) == 1 &&
           EC_POINT_point2oct(group, point, POINT_CONVERSION_UNCOMPRESSED, octets, sizeof(octets),
                              NULL) == sizeof(octets) &&
           hsm_audit_sha256(octets, sizeof(octets), out) == HSM_OK;
}

static bool
read_scalar(const char *text, size_t len, uint8_t *out)
{
    for (size_t i = 0; i < SCALAR_LEN && len == 2 * SCALAR_LEN; i++) {
        int high = OPENSSL_hexchar2int((unsigned char)text[2 * i]);
        int low = OPENSSL_hexchar2int((unsigned char)text[2 * i + 1]);

        if (high < 0 || low < 0)
            return false;
        out[i] = (uint8_t)(high << 4 | low);
    }
    return len == 2 * SCALAR_LEN;
}

static bool
read_scalars(const struct hsm_secret *secret, struct hsm_scan *scan)
{
    const char *at = hsm_secret_octets(secret);
    uint8_t scalar[SCALAR_LEN];
    bool good = true;

    for (at += strspn(at, " "); good && *at != '\0'; at += strspn(at, " ")) {
        size_t len = strcspn(at, " ");

        good = scan->scalars < HSM_AUDIT_SCALARS && read_scalar(at, len, scalar) &&
               hash_point(scalar, scan->hashes[scan->scalars]);
        if (good)
            add_forms(scan, scalar);
        at += len;
    }
    OPENSSL_cleanse(scalar, sizeof(scalar));
    return good && scan->scalars > 0;
}

enum hsm_status
hsm_scan_new(const struct hsm_secret *scalars, struct hsm_scan **out)
{
    DEFER(hsm_scan_free) struct hsm_scan *scan = scan_new();

    if (scan == NULL)
        return HSM_ERR_NOMEM;
    if (scalars != NULL && !read_scalars(scalars, scan)) {
        hsm_log(HSM_LOG_ERROR, "scalars are 1 to %d words of 64 hex digits, private keys of P-256",
                HSM_AUDIT_SCALARS);
        return HSM_ERR_MALFORMED;
    }
    *out = scan;
    scan = NULL;
    return HSM_OK;
}

enum hsm_status
hsm_scan_new_of(const uint8_t (*scalars)[SCALAR_LEN], size_t count, struct hsm_scan **out)
{
    struct hsm_scan *scan = scan_new();

    if (scan == NULL)
        return HSM_ERR_NOMEM;
    for (size_t i = 0; i < count && i < HSM_AUDIT_SCALARS; i++)
        add_forms(scan, scalars[i]);
    *out = scan;
    return HSM_OK;
}

size_t
hsm_scan_scalars(const struct hsm_scan *scan)
{
    return scan->scalars;
}

const char *
hsm_scan_point_hash(const struct hsm_scan *scan, size_t scalar)
{
    return scan->hashes[scalar];
}

size_t
hsm_scan_forms(const struct hsm_scan *scan)
{
    return scan->count;
}

static bool
may_begin(const struct hsm_scan *scan, const uint8_t *octets)
{
    unsigned prefix = (unsigned)octets[0] << 8 | octets[1];

    return (scan->first[prefix / 8] >> prefix % 8 & 1) != 0;
}

void
hsm_scan_window(const struct hsm_scan *scan, const uint8_t *octets, size_t len, size_t fresh,
                uint64_t base, hsm_scan_fn *found, void *context)
{
    for (size_t i = 0; i < fresh && i + 1 < len; i++) {
        const struct form *form =
            may_begin(scan, octets + i) ? form_at(scan, octets + i, len - i) : NULL;
        const char *encoding = hsm_encoding_at(octets, len, i);

        if (form != NULL)
            found(context, &(struct hsm_scan_hit){base + i, form->name, (int)form->scalar,
                                                  (size_t)(form - scan->forms)});
        if (encoding != NULL)
            found(context, &(struct hsm_scan_hit){base + i, encoding, -1, 0});
    }
}
