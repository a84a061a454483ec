/*
 * object_internal.h - key objects on a token, through the raw function list.
 *
 * Every function here uses the control session: call it inside the admin gate.
 */
#ifndef HSM_OBJECT_INTERNAL_H
#define HSM_OBJECT_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <p11-kit/pkcs11.h>

#include <hsm/key.h>

#include "slot_internal.h"

#define HSM_ANY_CLASS ((CK_OBJECT_CLASS)-1)

#define HSM_OBJECTS_MAX 65536 /* objects of one class on a token; more: HSM_ERR_UNSUPPORTED */

#define HSM_P256_PARAMS_LEN 10 /* octets */

/** prime256v1 as CKA_EC_PARAMS. */
extern const CK_BYTE hsm_p256_params[HSM_P256_PARAMS_LEN];

/* What an object is looked up by: each part may be absent (NULL). */
struct hsm_object_name {
    const char *label;
    const uint8_t *id;
    size_t id_len;
};

/** Handles of all objects of a class with that name; *out is released with free(). */
HSM_MUST_CHECK enum hsm_status hsm_object_find(const struct hsm_slot *slot, CK_OBJECT_CLASS class,
                                               const struct hsm_object_name *name,
                                               CK_OBJECT_HANDLE **out, size_t *count);

/** An object that is being read. A failure of the token is kept apart from an attribute that it
 * does not have. */
struct hsm_reading {
    const struct hsm_slot *slot;
    CK_OBJECT_HANDLE object;
    CK_RV failure; /* CKR_OK: no failure yet */
    CK_RV rv; /* for the last attribute */
};

/** False when the object has no such attribute, does not show it, or it is longer than `size`. */
bool hsm_object_read(struct hsm_reading *reading, CK_ATTRIBUTE_TYPE type, void *out, size_t size,
                     size_t *len);

/** 1, 0, or -1 if the module does not report it. */
int hsm_object_read_bool(struct hsm_reading *reading, CK_ATTRIBUTE_TYPE type);

/** CK_UNAVAILABLE_INFORMATION if the module does not report it. */
CK_ULONG hsm_object_read_ulong(struct hsm_reading *reading, CK_ATTRIBUTE_TYPE type);

/** If the token failed during the reading, nothing is known of the object: HSM_ERR_BUSY. */
HSM_MUST_CHECK enum hsm_status hsm_object_read_end(const struct hsm_reading *reading);

/** Find exactly one, or return HSM_ERR_NOT_FOUND or HSM_ERR_AMBIGUOUS, not logged. */
HSM_MUST_CHECK enum hsm_status
hsm_object_find_one(const struct hsm_slot *slot, CK_OBJECT_CLASS class,
                    const struct hsm_object_name *name, CK_OBJECT_HANDLE *out);

/** The two objects of a key pair. */
struct hsm_object_pair {
    CK_OBJECT_HANDLE private_object;
    CK_OBJECT_HANDLE public_object; /* CK_INVALID_HANDLE: none */
};

/**
 * The one private and the one public key with a CKA_ID, in one search.
 *
 * @param name  has an id; a label must match the private key's
 * @retval HSM_ERR_NOT_FOUND  no such private key; not logged
 * @retval HSM_ERR_AMBIGUOUS  several; not logged
 */
HSM_MUST_CHECK enum hsm_status hsm_object_find_pair(const struct hsm_slot *slot,
                                                    const struct hsm_object_name *name,
                                                    struct hsm_object_pair *out);

/** CKA_ID; HSM_ERR_NOT_FOUND if it is empty. `id` has HSM_ID_MAX octets. */
HSM_MUST_CHECK enum hsm_status hsm_object_id(const struct hsm_slot *slot, CK_OBJECT_HANDLE object,
                                             uint8_t *id, size_t *id_len);

/** Describe a key as the token reports it; the point is the public object's. BUSY: the token did
 * not answer. */
HSM_MUST_CHECK enum hsm_status hsm_object_describe(const struct hsm_slot *slot,
                                                   const struct hsm_object_pair *pair,
                                                   struct hsm_key_info *out);

/** An attribute whose value rules the key out for use (key.h); NULL: there is none. Static
 * storage. */
const char *hsm_object_fault(const struct hsm_key_info *info, const struct hsm_quirks *quirks);

/**
 * Generate a P-256 key pair. Attributes that a module does not know, or does not accept in a
 * template, are left out unless they are what keeps the key in the token. A failure does not mean
 * that no pair of that name exists.
 */
HSM_MUST_CHECK enum hsm_status
hsm_object_generate(const struct hsm_slot *slot, const struct hsm_object_name *name,
                    CK_OBJECT_HANDLE *private_key, CK_OBJECT_HANDLE *public_key);

HSM_MUST_CHECK enum hsm_status hsm_object_destroy(const struct hsm_slot *slot,
                                                  CK_OBJECT_HANDLE object);

#endif
