/*
 * jws.h - JSON Web Signatures (RFC 7515) with ES256, and HS256 for the MAC of RFC 8555.
 *
 * Parsing and verifying are separate steps, because the key is often named by
 * the header. The signature is checked over the octets received, never over
 * re-serialised ones.
 */
#ifndef ACME_JWS_H
#define ACME_JWS_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <jansson.h>
#include <openssl/types.h>

#include <certs/chain.h>
#include <hsm/defer.h>
#include <hsm/es256.h>
#include <hsm/key.h>
#include <hsm/status.h>

#define ACME_JWS_HEADER_MAX    4096 /* octets of the decoded protected header */
#define ACME_JWS_PAYLOAD_MAX   1048576 /* octets of the decoded payload */
#define ACME_JWS_SIGNATURE_MAX 512 /* octets; ES256 has 64 */
#define ACME_X5U_MAX           2048 /* characters of an x5u */

struct acme_jws;

/** Compact serialisation: header.payload.signature, each base64url (strict). */
HSM_MUST_CHECK enum hsm_status
acme_jws_parse_compact(const char *text, size_t len, struct acme_jws **out, struct hsm_reason *why);

/** Flattened JSON: exactly the members protected, payload, signature (RFC 8555 section 6.2). The
 *  payload may be "" (POST-as-GET). acme_jws_parse_object() is for a JWS inside other JSON. */
HSM_MUST_CHECK enum hsm_status acme_jws_parse_flattened(const char *text, size_t len,
                                                        struct acme_jws **out,
                                                        struct hsm_reason *why);
HSM_MUST_CHECK enum hsm_status acme_jws_parse_object(const json_t *object, struct acme_jws **out,
                                                     struct hsm_reason *why);

/** The protected header: borrowed, a JSON object without duplicates. Its alg is a string. */
const json_t *acme_jws_header(const struct acme_jws *jws);

/** A string member of the protected header: borrowed, NULL when absent or not a string. */
const char *acme_jws_header_string(const struct acme_jws *jws, const char *name);

/** The decoded header octets as received, NUL-terminated: borrowed. */
const char *acme_jws_header_text(const struct acme_jws *jws, size_t *len);

/** The decoded payload octets, NUL-terminated: borrowed. */
const char *acme_jws_payload(const struct acme_jws *jws, size_t *len);

/**
 * The checks that need no key: HSM_ERR_UNSUPPORTED when alg is not ES256 ("none",
 * HS256 or any other), b64 is not true, or crit is present.
 */
HSM_MUST_CHECK enum hsm_status acme_jws_check_algorithm(const struct acme_jws *jws,
                                                        struct hsm_reason *why);

/**
 * Verify with a public key.
 *
 * @retval HSM_ERR_UNSUPPORTED  as acme_jws_check_algorithm(), or the key is not on P-256
 * @retval HSM_ERR_MALFORMED    the signature is not 64 octets long
 * @retval HSM_ERR_UNTRUSTED    the signature does not verify
 */
HSM_MUST_CHECK enum hsm_status acme_jws_verify(const struct acme_jws *jws, EVP_PKEY *public_key,
                                               struct hsm_reason *why);

/** acme_jws_verify() with a prepared key. */
HSM_MUST_CHECK enum hsm_status acme_jws_verify_by(const struct acme_jws *jws,
                                                  const struct hsm_es256_verifier *verifier,
                                                  struct hsm_reason *why);

/** acme_jws_verify() over "protected" alone, without the '.' of RFC 7515 section 5.1: some clients
 *  sign that when the payload is empty. HSM_ERR_UNTRUSTED if the payload is not empty. */
HSM_MUST_CHECK enum hsm_status acme_jws_verify_without_dot(const struct acme_jws *jws,
                                                           EVP_PKEY *public_key,
                                                           struct hsm_reason *why);

/**
 * Verify a MAC: HS256 (RFC 7518 section 3.2), for external account bindings.
 *
 * @retval HSM_ERR_UNSUPPORTED  alg is another, b64 is not true, or crit is present
 * @retval HSM_ERR_UNTRUSTED    the MAC is not that of this key
 */
HSM_MUST_CHECK enum hsm_status acme_jws_verify_mac(const struct acme_jws *jws, const void *key,
                                                   size_t key_len, struct hsm_reason *why);

/**
 * The x5u of the protected header: borrowed, an https URL of printable ASCII.
 *
 * @retval HSM_ERR_MALFORMED  absent, not https, longer than ACME_X5U_MAX
 */
HSM_MUST_CHECK enum hsm_status acme_jws_x5u(const struct acme_jws *jws, const char **out,
                                            struct hsm_reason *why);

/**
 * Verify a JWS of an STI-PA: `signer` (leaf first) chains to one of its anchors
 * for CERTS_FOR_PA_SIGNING, and the leaf's key made the signature.
 */
HSM_MUST_CHECK enum hsm_status
acme_jws_verify_authority(const struct acme_jws *jws, const struct certs_chain *signer,
                          const struct certs_chain *pa_anchors, time_t now, struct hsm_reason *why);

/** {"alg":"ES256","typ":"JWT","x5u":...}: the header of a JWS of an STI-PA; free() it. NULL: no
 *  memory, or the URL is not UTF-8. */
char *acme_jws_header_new(const char *x5u);

/** Sign header and payload as given (JSON texts); the text is released with free(). */
HSM_MUST_CHECK enum hsm_status acme_jws_sign_compact(const char *header, const void *payload,
                                                     size_t payload_len, struct hsm_key *key,
                                                     char **out);
HSM_MUST_CHECK enum hsm_status acme_jws_sign_flattened(const char *header, const void *payload,
                                                       size_t payload_len, struct hsm_key *key,
                                                       char **out);

void acme_jws_free(struct acme_jws *jws);
DEFINE_DEFER(struct acme_jws, acme_jws_free)

#endif
