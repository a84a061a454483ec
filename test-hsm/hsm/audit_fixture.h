/*
 * audit_fixture.h - checks of audit reports, and certificates for keys of a token.
 */
#ifndef TEST_AUDIT_FIXTURE_H
#define TEST_AUDIT_FIXTURE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include <openssl/x509.h>

#include <hsm/audit.h>

#include "peer.h"

#define AUDIT_NOW ((time_t)1768478400) /* 2026-01-15T12:00:00Z */

/** A certificate for a public key, by an issuer in memory; returns its length, OPENSSL_free(). */
size_t audit_certificate_der(EVP_PKEY *public_key, uint8_t **der);

/** Append such a certificate to a PEM file. */
void audit_certificate_file(const char *path, EVP_PKEY *public_key);

/** The attributes of the only private key with this label. */
struct hsm_key_info audit_info_of(struct hsm_token *token, const char *label);

EVP_PKEY *audit_public_of(struct hsm_token *token, const char *label);

/** The number of statements with this id (NULL: any) and verdict. */
size_t audit_count(const json_t *report, const char *id, const char *verdict);

/** Assert that there are findings and that all have this id; NULL: that there are no findings. */
void audit_assert_findings(const json_t *report, const char *id);

/** Assert that for the object with this label the statement with this id has this verdict. */
void audit_assert_verdict(const json_t *report, const char *label, const char *id,
                          const char *verdict);

/** free() it. */
char *audit_printed(const json_t *report, void (*print)(const json_t *report, FILE *out));

#endif
