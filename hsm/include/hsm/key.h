/*
 * key.h - a P-256 private key that stays on its PKCS#11 token.
 *
 * Callers get signatures and the public half; key bytes never cross this
 * header. Threads may share one key.
 *
 * A key is used only after its attributes were read back from the token, each
 * time that it is looked for, and are those of a key that cannot leave, that
 * nobody uses without a login, and that signs and does nothing else (standard
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
 * @retval HSM_ERR_UNTRUSTED    an attribute is not as above: the key could leave, came from
 *                              outside, needs no login, or has other uses than to sign
 *
 * @param token  borrowed, outlives the key
 * On failure *out keeps its old value.
 */
HSM_MUST_CHECK enum hsm_status hsm_key_find(struct hsm_token *token, const char *uri,
                                            struct hsm_key **out);

/**
 * Generate a P-256 key pair in the token, never extractable, with a random
 * 20-octet CKA_ID; read the attributes back, and destroy the pair and refuse
 * if one is not as asked. A test signature is made and verified.
 *
 * @param label  CKA_LABEL, 1 to HSM_LABEL_MAX octets of printable ASCII
 * @retval HSM_ERR_EXISTS  a private key of that label is on the token
 */
HSM_MUST_CHECK enum hsm_status hsm_key_generate(struct hsm_token *token, const char *label,
                                                struct hsm_key **out);

/**
 * hsm_key_find() by label, and hsm_key_generate() when there is none: of processes
 * of one host that do this at once, one generates and all find its key.
 */
HSM_MUST_CHECK enum hsm_status hsm_key_find_or_generate(struct hsm_token *token, const char *label,
                                                        struct hsm_key **out);

/** Destroy private and public object on the token. The handle still needs hsm_key_free(). */
HSM_MUST_CHECK enum hsm_status hsm_key_destroy(struct hsm_key *key);

/** The public half: borrowed, valid until hsm_key_free(), never NULL, no token behind it. */
EVP_PKEY *hsm_key_public(const struct hsm_key *key);

/** The public half as 04 || X || Y. */
const uint8_t *hsm_key_point(const struct hsm_key *key);

/** CKA_LABEL, CKA_ID (as lower-case hex) and a URI that finds this key again: borrowed. */
const char *hsm_key_label(const struct hsm_key *key);
const char *hsm_key_id(const struct hsm_key *key);
const char *hsm_key_uri(const struct hsm_key *key);

/**
 * Sign a SHA-256 digest (CKM_ECDSA).
 *
 * A token that fails is asked again, and recovered, within the time that
 * struct hsm_token_config gives to a signature: an outage shorter than that is
 * not seen here. One signature in `verify_every` is verified before it is given
 * out, and the first ones after a recovery.
 *
 * @param digest  HSM_SHA256_LEN octets
 * @param sig     receives HSM_P256_SIG_LEN octets, R || S; written only on success
 * @retval HSM_ERR_BUSY       the token did not answer in time
 * @retval HSM_ERR_CRYPTO     what it answered is not a signature of this key
 * @retval HSM_ERR_DENIED     it may not sign, or the PIN is refused
 * @retval HSM_ERR_NOT_FOUND  the key is not on the token any more
 * @retval HSM_ERR_UNTRUSTED  it is not the key that it was before the token was lost
 */
HSM_MUST_CHECK enum hsm_status hsm_key_sign_digest(struct hsm_key *key, const uint8_t *digest,
                                                   uint8_t *sig);

enum hsm_wait {
    HSM_WAIT_FOR_RECOVERY,
    HSM_WAIT_FOR_SESSION /* BUSY as soon as the token is being recovered: for who has another one */
};

/** The same with a time of its own; 0: the token's. */
HSM_MUST_CHECK enum hsm_status
hsm_key_sign_digest_within(struct hsm_key *key, const uint8_t *digest, unsigned timeout_ms,
                           enum hsm_wait wait, uint8_t *sig);

/** SHA-256 of a message, then as above. */
HSM_MUST_CHECK enum hsm_status hsm_key_sign(struct hsm_key *key, const void *message, size_t len,
                                            uint8_t *sig);

/** As hsm_key_sign(), and the signature is verified with the public half before it is given out:
 *  for certificates, CRLs, tokens, lists and account requests. */
HSM_MUST_CHECK enum hsm_status hsm_key_sign_verified(struct hsm_key *key, const void *message,
                                                     size_t len, uint8_t *sig);

/**
 * The key as OpenSSL wants it, for X509_sign() and TLS: its private operations
 * run in the token, it holds no key octets. Each signature is verified, waits
 * and recovers as hsm_key_sign_digest() does. Borrowed, valid until
 * hsm_key_free(); who keeps it longer takes a reference (EVP_PKEY_up_ref). It
 * signs for as long as the token is open.
 */
EVP_PKEY *hsm_key_pkey(const struct hsm_key *key);

/** True if the certificate's or CSR's public key is this key's. */
bool hsm_key_matches(const struct hsm_key *key, EVP_PKEY *public_key);

/** Release the handle; the object stays on the token. NULL is fine. */
void hsm_key_free(struct hsm_key *key);

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
    unsigned long gen_mechanism; /* CK_UNAVAILABLE_INFORMATION: not told */
    bool may_be_used; /* passes the check above */
};

/** What the token says of this key now. */
HSM_MUST_CHECK enum hsm_status hsm_key_describe(struct hsm_key *key, struct hsm_key_info *out);

/** Every private key object on the token; *out is released with free(). */
HSM_MUST_CHECK enum hsm_status hsm_key_list(struct hsm_token *token, struct hsm_key_info **out,
                                            size_t *count);

#endif
