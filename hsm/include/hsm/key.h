/*
 * key.h - a P-256 private key that stays on its PKCS#11 token.
 *
 * Callers get signatures and the public half; key bytes never cross this
 * header. Threads may share one key.
 *
 * Each time a key is looked up, its attributes are read back from the token. It
 * is used only if they are those of a key that cannot leave the token, cannot be
 * used without a login, and does nothing but sign (standard
 * PKCS#11 attributes): CKA_SENSITIVE, CKA_ALWAYS_SENSITIVE,
 * CKA_NEVER_EXTRACTABLE, CKA_LOCAL, CKA_TOKEN, CKA_PRIVATE true,
 * CKA_EXTRACTABLE false, CKA_KEY_GEN_MECHANISM = CKM_EC_KEY_PAIR_GEN; and
 * CKA_DECRYPT, CKA_UNWRAP, CKA_DERIVE, CKA_SIGN_RECOVER not true (a module
 * may not know them).
 */
#ifndef HSM_KEY_H
#define HSM_KEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/types.h>

#include <hsm/defer.h>
#include <hsm/status.h>
#include <hsm/token.h>
#include <hsm/uri.h>

#define HSM_SHA256_LEN     32 /* octets */
#define HSM_P256_SIG_LEN   64 /* octets: R || S, PKCS #11 "EC Signatures", RFC 7518 section 3.4 */
#define HSM_P256_POINT_LEN 65 /* octets: 04 || X || Y */
#define HSM_LABEL_MAX      64 /* octets of CKA_LABEL */

struct hsm_key;

/**
 * Find the P-256 private key that the object part of a PKCS#11 URI names (by
 * "object", "id" or both), e.g. "pkcs11:object=sp-1234", and check that it
 * cannot leave the token.
 *
 * @retval HSM_ERR_NOT_FOUND    nothing on the token matches, or its public half is missing
 * @retval HSM_ERR_AMBIGUOUS    several private keys match, or have this one's CKA_ID
 * @retval HSM_ERR_USAGE        the URI names no object, or has a pin-value
 * @retval HSM_ERR_UNSUPPORTED  the key is not on P-256, may not sign, or wants the PIN for every
 *                              signature (CKA_ALWAYS_AUTHENTICATE)
 * @retval HSM_ERR_UNTRUSTED    an attribute is not as required above: the key could leave, came
 *                              from outside, needs no login, or may do more than sign
 *
 * @param token  borrowed, outlives the key
 * On failure *out keeps its old value.
 */
HSM_MUST_CHECK enum hsm_status hsm_key_find(struct hsm_token *token, const char *uri,
                                            struct hsm_key **out);

/**
 * Generate a P-256 key pair in the token, never extractable, with a random
 * 20-octet CKA_ID. The attributes are read back; if one is not as requested, the
 * pair is destroyed and refused. A test signature is made and verified.
 *
 * @param label  CKA_LABEL, 1 to HSM_LABEL_MAX octets of printable ASCII
 * @retval HSM_ERR_EXISTS  the token has a private key with that label
 */
HSM_MUST_CHECK enum hsm_status hsm_key_generate(struct hsm_token *token, const char *label,
                                                struct hsm_key **out);

/**
 * hsm_key_find() by label, or hsm_key_generate() if there is no such key. When
 * several processes of one host do this at once, one generates the key and all
 * find it.
 */
HSM_MUST_CHECK enum hsm_status hsm_key_find_or_generate(struct hsm_token *token, const char *label,
                                                        struct hsm_key **out);

/** Destroy private and public object on the token. The handle still needs hsm_key_free(). */
HSM_MUST_CHECK enum hsm_status hsm_key_destroy(struct hsm_key *key);

/** The public half: borrowed, valid until hsm_key_free(), never NULL, no token behind it. */
EVP_PKEY *hsm_key_public(const struct hsm_key *key);

/** The public half as 04 || X || Y. */
const uint8_t *hsm_key_point(const struct hsm_key *key);

/** CKA_LABEL, CKA_ID (lower-case hex) and a URI that finds this key again: all borrowed. */
const char *hsm_key_label(const struct hsm_key *key);
const char *hsm_key_id(const struct hsm_key *key);
const char *hsm_key_uri(const struct hsm_key *key);

/**
 * Sign a SHA-256 digest (CKM_ECDSA).
 *
 * A token that fails is retried and recovered within the op_timeout_ms of struct
 * hsm_token_config, so the caller does not see a shorter outage. One signature in
 * `verify_every` is verified before it is given out, as is the first one in each
 * session of the token; sessions are new after a recovery.
 *
 * @param digest  HSM_SHA256_LEN octets
 * @param sig     receives HSM_P256_SIG_LEN octets, R || S; written only on success
 * @retval HSM_ERR_BUSY       the token did not answer in time
 * @retval HSM_ERR_CRYPTO     the token's answer is not a signature of this key
 * @retval HSM_ERR_DENIED     the key may not sign, or the PIN was refused
 * @retval HSM_ERR_NOT_FOUND  the key is no longer on the token
 * @retval HSM_ERR_UNTRUSTED  the key is not the one it was before the token was lost
 */
HSM_MUST_CHECK enum hsm_status hsm_key_sign_digest(struct hsm_key *key, const uint8_t *digest,
                                                   uint8_t *sig);

enum hsm_wait {
    HSM_WAIT_FOR_RECOVERY,
    HSM_WAIT_FOR_SESSION /* HSM_ERR_BUSY as soon as recovery begins: for callers that have another
                            key */
};

/**
 * hsm_key_sign_digest() with a deadline for this call.
 *
 * @param timeout_ms  0: the token's op_timeout_ms
 */
HSM_MUST_CHECK enum hsm_status
hsm_key_sign_digest_within(struct hsm_key *key, const uint8_t *digest, unsigned timeout_ms,
                           enum hsm_wait wait, uint8_t *sig);

/** hsm_key_sign_digest() of the SHA-256 of a message. */
HSM_MUST_CHECK enum hsm_status hsm_key_sign(struct hsm_key *key, const void *message, size_t len,
                                            uint8_t *sig);

/** hsm_key_sign(), with the signature always verified with the public half before it is given out:
 *  for certificates, CRLs, SPC tokens, lists and account requests. */
HSM_MUST_CHECK enum hsm_status hsm_key_sign_verified(struct hsm_key *key, const void *message,
                                                     size_t len, uint8_t *sig);

/**
 * The key as an EVP_PKEY, for X509_sign() and TLS: private operations run in the
 * token, no key octets are held. Each signature is verified, waits and recovers
 * as hsm_key_sign_digest() does. Borrowed, valid until hsm_key_free(); a caller
 * that keeps it longer takes a reference (EVP_PKEY_up_ref). It signs for as long
 * as the token is open.
 */
EVP_PKEY *hsm_key_pkey(const struct hsm_key *key);

/** True if the certificate's or CSR's public key is this key's. */
bool hsm_key_matches(const struct hsm_key *key, EVP_PKEY *public_key);

/** Release the handle; the object stays on the token. NULL is fine. */
void hsm_key_free(struct hsm_key *key);
DEFINE_DEFER(struct hsm_key, hsm_key_free)

/** One private key object as the token describes it; for tools. */
struct hsm_key_info {
    char label[HSM_LABEL_MAX + 1];
    uint8_t id[HSM_ID_MAX];
    size_t id_len;
    bool is_p256;
    bool has_point;
    uint8_t point[HSM_P256_POINT_LEN];
    /* 1 true, 0 false, -1 not reported by the module */
    int sensitive, always_sensitive, extractable, never_extractable, local;
    int on_token, needs_login; /* CKA_TOKEN, CKA_PRIVATE */
    int sign, sign_recover, decrypt, unwrap, derive;
    int modifiable, copyable, always_authenticate;
    unsigned long gen_mechanism; /* CK_UNAVAILABLE_INFORMATION: not reported */
    bool may_be_used; /* has the attributes that hsm_key_find() requires */
};

/** What the token reports of this key now. */
HSM_MUST_CHECK enum hsm_status hsm_key_describe(struct hsm_key *key, struct hsm_key_info *out);

/** Every private key object on the token; *out is released with free(). */
HSM_MUST_CHECK enum hsm_status hsm_key_list(struct hsm_token *token, struct hsm_key_info **out,
                                            size_t *count);

#endif
