/*
 * audit_internal.h - shared by the files of the audit.
 *
 * A report is built by many small steps, each of which may run out of memory. The first failure is
 * kept in the audit, later steps do nothing, and hsm_audit_finish() returns it.
 */
#ifndef HSM_AUDIT_INTERNAL_H
#define HSM_AUDIT_INTERNAL_H

#include <limits.h>

#include <openssl/x509.h>

#include <p11-kit/pkcs11.h>

#include <hsm/audit.h>
#include <hsm/defer.h>

#include "object_internal.h"
#include "token_internal.h"

/* Kinds of statements, in the order of the table in audit_statement.c. */
enum hsm_audit_check {
    HSM_CHECK_MODULE,
    HSM_CHECK_LOGIN,
    HSM_CHECK_WRAPPING_KEY,
    HSM_CHECK_OBJECT_UNKNOWN,
    HSM_CHECK_KEY_TYPE,
    HSM_CHECK_PRIVATE,
    HSM_CHECK_SENSITIVE,
    HSM_CHECK_ALWAYS_SENSITIVE,
    HSM_CHECK_EXTRACTABLE,
    HSM_CHECK_NEVER_EXTRACTABLE,
    HSM_CHECK_LOCAL,
    HSM_CHECK_KEY_GEN_MECHANISM,
    HSM_CHECK_MODIFIABLE,
    HSM_CHECK_COPYABLE,
    HSM_CHECK_SIGN,
    HSM_CHECK_SIGN_RECOVER,
    HSM_CHECK_DECRYPT,
    HSM_CHECK_UNWRAP,
    HSM_CHECK_DERIVE,
    HSM_CHECK_ALLOWED_MECHANISMS,
    HSM_CHECK_WRAP_WITH_TRUSTED,
    HSM_CHECK_ALWAYS_AUTHENTICATE,
    HSM_CHECK_PUBLIC_HALF,
    HSM_CHECK_CERTIFICATE,
    HSM_CHECK_CERTIFICATE_KEY,
    HSM_CHECK_CERTIFICATE_ORPHAN,
    HSM_CHECK_ATTESTATION,
    HSM_CHECK_ATTEMPT_VALUE,
    HSM_CHECK_ATTEMPT_WRAP,
    HSM_CHECK_ATTEMPT_SET,
    HSM_CHECK_ATTEMPT_COPY,
    HSM_CHECK_ATTEMPT_SESSION_COPY,
    HSM_CHECK_ATTEMPT_DERIVE,
    HSM_CHECK_FILE_KEY,
    HSM_CHECK_FILE_SEARCH,
    HSM_CHECK_TOKEN_STORE,
    HSM_CHECK_PROCESS_CONTROL,
    HSM_CHECK_PROCESS_SECRET,
    HSM_CHECK_COUNT
};

#define HSM_CHECK_NONE HSM_CHECK_COUNT

struct hsm_audit_row {
    const char *id;
    const char *requirement; /* the clause that it supports */
    const char *expected;
};

const struct hsm_audit_row *hsm_audit_row(enum hsm_audit_check check);

/** The inverse; HSM_CHECK_NONE for another id. */
enum hsm_audit_check hsm_audit_check_of(const char *id);

const char *hsm_audit_verdict_name(enum hsm_audit_verdict verdict);

/** The inverse; HSM_AUDIT_VERDICTS for another name. */
unsigned hsm_audit_verdict_of(const char *name);

struct hsm_audit {
    struct hsm_audit_config config;
    json_t *report; /* owned; contains the next two */
    json_t *statements;
    json_t *tokens;
    STACK_OF(X509) * certificates; /* from files */
    STACK_OF(X509) * attestations; /* with the certificates between them and the roots */
    X509_STORE *roots; /* for attestations; NULL: none were given */
    bool finished;
    bool process_control_done;
    enum hsm_status failure; /* the first failure */
};

/** Keep the first failure; false if there is one. */
bool hsm_audit_keep(struct hsm_audit *audit, enum hsm_status status);

/* One statement; texts are borrowed, `evidence` is taken over. */
struct hsm_audit_statement {
    enum hsm_audit_check check;
    const char *subject;
    const char *found;
    json_t *evidence;
    enum hsm_audit_verdict verdict;
    enum hsm_audit_check cause; /* for HSM_AUDIT_CONSEQUENCE */
    const char *expected; /* NULL: the row's */
};

void hsm_audit_state(struct hsm_audit *audit, const struct hsm_audit_statement *statement);

/** jansson's json_pack() for the audit: NULL is kept as a failure. */
json_t *hsm_audit_pack(struct hsm_audit *audit, const char *format, ...);

/** Text from outside as a JSON string: anything but printable ASCII is written \xNN. */
json_t *hsm_audit_text(const void *octets, size_t len);
json_t *hsm_audit_hex(const uint8_t *octets, size_t len);

/** Lower-case hex of SHA-256; `out` has 65 octets. */
HSM_MUST_CHECK enum hsm_status hsm_audit_sha256(const void *octets, size_t len, char *out);

/* ---- names (audit_name.c) ---- */

/** "CKM_ECDSA", "CKA_EXTRACTABLE", ...; NULL: the number has no name here. */
const char *hsm_audit_mechanism_name(CK_MECHANISM_TYPE type);
const char *hsm_audit_attribute_name(CK_ATTRIBUTE_TYPE type);
const char *hsm_audit_class_name(CK_OBJECT_CLASS class);
const char *hsm_audit_state_name(CK_STATE state);

/** A mechanism as JSON: its name, or 0x and hex digits. */
json_t *hsm_audit_mechanism(CK_MECHANISM_TYPE type);

json_t *hsm_audit_token_flags(CK_FLAGS flags);
json_t *hsm_audit_mechanism_flags(CK_FLAGS flags);

/* ---- a token under audit ---- */

struct hsm_audit_object {
    CK_OBJECT_HANDLE handle;
    CK_OBJECT_CLASS class;
    char label[HSM_LABEL_MAX + 1];
    uint8_t id[HSM_ID_MAX];
    size_t id_len;
    char *uri; /* owned; the subject of statements about it */
    EVP_PKEY *public_key; /* owned; set for a public key on P-256, and for a certificate */
    X509 *certificate; /* owned */
};

/* A private key, and what the token reports of it. */
struct hsm_audit_key {
    const struct hsm_audit_object *object;
    const struct hsm_audit_object *public_object; /* NULL: none */
    struct hsm_key_info info;
    bool extractable_found; /* a finding states this */
    bool sensitive_found;
    bool imported;
};

struct hsm_audit_scene {
    struct hsm_audit *audit;
    struct hsm_token *token;
    struct hsm_slot *slot;
    char *uri; /* the token's */
    struct hsm_audit_object *objects;
    size_t object_count;
    struct hsm_audit_key *keys;
    size_t key_count;
    CK_MECHANISM_TYPE *mechanisms;
    CK_ULONG mechanism_count;
};

/** Module, slot, token, mechanisms and objects, for the report; inside the admin gate. */
HSM_MUST_CHECK enum hsm_status hsm_audit_inventory(struct hsm_audit_scene *scene);

void hsm_audit_scene_release(struct hsm_audit_scene *scene);

/** Attributes of every private key, read back and judged; inside the admin gate. */
HSM_MUST_CHECK enum hsm_status hsm_audit_keys(struct hsm_audit_scene *scene);

/** Keys that may wrap others; inside the admin gate. */
void hsm_audit_wrapping_keys(struct hsm_audit_scene *scene);

/** Check with a challenge that the public object belongs to the private key. Outside the admin
 * gate. */
void hsm_audit_public_halves(struct hsm_audit_scene *scene);

/** Which certificate belongs to which key. */
void hsm_audit_match_certificates(struct hsm_audit_scene *scene);

/** The vendor's attestation of each key. */
void hsm_audit_attest(struct hsm_audit_scene *scene);

/** Try to take every private key; inside the admin gate. */
HSM_MUST_CHECK enum hsm_status hsm_audit_attempts(struct hsm_audit_scene *scene);

/** True if the label is in a comma-separated list. */
bool hsm_audit_is_listed(const char *list, const char *label);

/* ---- attestation by a vendor (audit_attest.c) ---- */

/* A vendor's statement about a key. */
struct hsm_attested {
    bool generated; /* in the device */
    bool exportable; /* in any form */
    char device[64]; /* model, serial, firmware */
    json_t *details; /* owned; as evidence */
};

struct hsm_attestation_format {
    const char *name;
    const char *manufacturer; /* prefix of its module's CK_INFO.manufacturerID */
    bool (*is_of)(X509 *certificate); /* recognises it by its extensions */
    /** False: an extension is missing, repeated, or malformed; `why` says which. */
    bool (*read)(X509 *certificate, struct hsm_attested *out, struct hsm_reason *why);
};

/** audit_yubihsm.c */
extern const struct hsm_attestation_format hsm_attestation_yubihsm;

/* ---- wrapping (audit_wrap.c) ---- */

/* Session keys made for attempts, with which some mechanisms wrap. */
struct hsm_wrapping_keys {
    CK_OBJECT_HANDLE aes; /* CK_INVALID_HANDLE: the token makes none */
    CK_OBJECT_HANDLE des;
    CK_OBJECT_HANDLE des3;
    CK_OBJECT_HANDLE rsa; /* public half */
    CK_OBJECT_HANDLE rsa_private;
    CK_OBJECT_HANDLE
    sample; /* an EC private key that may be wrapped: shows that the call itself is right */
    CK_OBJECT_HANDLE sample_public;
};

void hsm_wrapping_keys_make(const struct hsm_audit_scene *scene, struct hsm_wrapping_keys *out);
void hsm_wrapping_keys_destroy(const struct hsm_audit_scene *scene, struct hsm_wrapping_keys *keys);

/** Whether the token wraps under public keys of this type: RSA always may, curves by ECDH. */
bool hsm_wraps_under_public(const struct hsm_audit_scene *scene, CK_KEY_TYPE type);

/** The token's wrapping mechanisms that are supported here; false: `index` is too high. */
bool hsm_wrapping_mechanism(const struct hsm_audit_scene *scene, size_t index,
                            CK_MECHANISM_TYPE *out);

/** C_WrapKey; its output is wiped, `*len` is its length. False: there is no key for this
 * mechanism. */
bool hsm_wrap_with(const struct hsm_audit_scene *scene, const struct hsm_wrapping_keys *keys,
                   CK_MECHANISM_TYPE type, CK_OBJECT_HANDLE key, CK_RV *rv, size_t *len);

/* ---- searching (audit_scan.c) ---- */

struct hsm_scan;

#define HSM_SCAN_OVERLAP 16384 /* octets: longest item that two windows may divide */

/** An item that was found. */
struct hsm_scan_hit {
    uint64_t at;
    const char *form; /* "PEM private key", "scalar, hex", ... */
    int scalar; /* index of the scalar; -1: an encoding */
    size_t index; /* index of the scalar's form */
};

typedef void hsm_scan_fn(void *context, const struct hsm_scan_hit *hit);

/** @param scalars  may be NULL */
HSM_MUST_CHECK enum hsm_status hsm_scan_new(const struct hsm_secret *scalars,
                                            struct hsm_scan **out);

/** Search for scalars of 32 octets each: for a planted value. */
HSM_MUST_CHECK enum hsm_status hsm_scan_new_of(const uint8_t (*scalars)[32], size_t count,
                                               struct hsm_scan **out);

/** Report hits that begin before `fresh` in a window, whose offset in the searched data is
 * `base`. */
void hsm_scan_window(const struct hsm_scan *scan, const uint8_t *octets, size_t len, size_t fresh,
                     uint64_t base, hsm_scan_fn *found, void *context);

/** SHA-256, in hex, of the point that belongs to a private scalar; "" for a planted value. */
const char *hsm_scan_point_hash(const struct hsm_scan *scan, size_t scalar);

size_t hsm_scan_scalars(const struct hsm_scan *scan);

/** Number of forms of all scalars: a positive control must find each. */
size_t hsm_scan_forms(const struct hsm_scan *scan);

void hsm_scan_free(struct hsm_scan *scan);
DEFINE_DEFER(struct hsm_scan, hsm_scan_free)

/* Encodings of any private key (audit_encoding.c): the kind that begins at `at`, or NULL. */
const char *hsm_encoding_at(const uint8_t *octets, size_t len, size_t at);

/* ---- files (audit_files.c) ---- */

/** `path` is for the report; the descriptor is borrowed. */
typedef void hsm_walk_fn(void *context, const char *path, int fd, uint64_t size);

struct hsm_walk {
    hsm_walk_fn *file;
    void *context;
    uint64_t files;
    uint64_t octets;
    uint64_t unread; /* files that could not be opened, or are beyond the bounds */
    char first_unread[PATH_MAX];
};

HSM_MUST_CHECK enum hsm_status hsm_audit_walk(const char *path, struct hsm_walk *walk);

#endif
