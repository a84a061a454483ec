/*
 * peer.h - keys of other parties, which are not in our tokens.
 *
 * With them tests play another party's CA, PA or service provider.
 */
#ifndef TEST_PEER_H
#define TEST_PEER_H

#include <stddef.h>
#include <stdint.h>

#include <openssl/types.h>

/** A private key of test-hsm/data, e.g. "self/sp-1234.key.pem"; EVP_PKEY_free() it. Aborts. */
EVP_PKEY *peer_key_from_pem(const char *data_name);

/** A fresh key in memory on a curve that OpenSSL knows, e.g. "P-256"; EVP_PKEY_free() it. Aborts.
 */
EVP_PKEY *peer_key_new(const char *curve);

/** ES256: SHA-256 of the message signed with a P-256 key, as 64 octets R || S. Aborts. */
void peer_sign_es256(EVP_PKEY *key, const void *message, size_t len, uint8_t *sig);

#endif
