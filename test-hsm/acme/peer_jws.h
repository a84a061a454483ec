/*
 * peer_jws.h - compact JWS as other parties make them, correct or not.
 */
#ifndef TEST_PEER_JWS_H
#define TEST_PEER_JWS_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/types.h>

#include <acme/base64url.h>

#include "peer.h"

/** "header.payload"; free() it. */
static inline char *
peer_signing_input(const char *header, const char *payload)
{
    size_t size = ACME_BASE64URL_LEN(strlen(header)) + ACME_BASE64URL_LEN(strlen(payload)) + 2;
    char *text = malloc(size);
    size_t at;

    if (text == NULL)
        abort();
    at = acme_base64url_write(header, strlen(header), text);
    text[at++] = '.';
    at += acme_base64url_write(payload, strlen(payload), text + at);
    text[at] = '\0';
    return text;
}

/** "header.payload.signature" with these signature octets; free() it. */
static inline char *
peer_jws_with(const char *header, const char *payload, const void *sig, size_t sig_len)
{
    char *input = peer_signing_input(header, payload);
    char *encoded = acme_base64url_encode(sig, sig_len);
    size_t size = encoded == NULL ? 0 : strlen(input) + strlen(encoded) + 2;
    char *text = malloc(size);

    if (encoded == NULL || text == NULL)
        abort();
    snprintf(text, size, "%s.%s", input, encoded);
    free(encoded);
    free(input);
    return text;
}

/** Signed with ES256, whatever the header says; free() it. */
static inline char *
peer_jws(EVP_PKEY *key, const char *header, const char *payload)
{
    char *input = peer_signing_input(header, payload);
    uint8_t sig[64];

    peer_sign_es256(key, input, strlen(input), sig);
    free(input);
    return peer_jws_with(header, payload, sig, sizeof(sig));
}

#endif
