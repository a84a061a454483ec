/*
 * jwk.h - JSON Web Keys (RFC 7517) on P-256, thumbprints (RFC 7638) and the
 * fingerprints of SPC tokens (RFC 9448 section 5.4).
 */
#ifndef ACME_JWK_H
#define ACME_JWK_H

#include <stdbool.h>

#include <jansson.h>
#include <openssl/types.h>

#include <hsm/status.h>

#define ACME_THUMBPRINT_LEN  43 /* base64url characters */
#define ACME_FINGERPRINT_LEN 102 /* "SHA256 " and 32 hex octets joined by ':' */

/** {"crv","kty","x","y"}; the caller decrefs. */
HSM_MUST_CHECK enum hsm_status acme_jwk_new(EVP_PKEY *public_key, json_t **out);

/**
 * The public key of a JWK. A private member ("d"), another curve or kty, or
 * coordinates that are not 32 octets on the curve are refused.
 */
HSM_MUST_CHECK enum hsm_status acme_jwk_parse(const json_t *jwk, EVP_PKEY **out,
                                              struct hsm_reason *why);

HSM_MUST_CHECK enum hsm_status acme_jwk_thumbprint(EVP_PKEY *public_key,
                                                   char out[ACME_THUMBPRINT_LEN + 1]);

/** The octets that a fingerprint is the SHA-256 of. */
enum acme_fingerprint {
    ACME_FINGERPRINT_THUMBPRINT, /* RFC 9448: the canonical JWK (RFC 7638) */
    ACME_FINGERPRINT_SPKI, /* deployed CAs: SubjectPublicKeyInfo DER */
};

HSM_MUST_CHECK enum hsm_status acme_fingerprint_format(EVP_PKEY *public_key,
                                                       enum acme_fingerprint form,
                                                       char out[ACME_FINGERPRINT_LEN + 1]);

/** True if the text is a fingerprint of the key, in either form or as a bare base64url thumbprint.
 */
bool acme_fingerprint_matches(const char *text, EVP_PKEY *public_key);

#endif
