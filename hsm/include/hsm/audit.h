/*
 * audit.h - evidence that no private key can leave its token, or ever left it.
 *
 * An audit gathers statements about tokens, files and processes; each has its
 * evidence and a verdict. The report is one JSON object (docs/schema/
 * audit-report.json); text and HTML are made from it. Signed by a key in a
 * token it is a compact JWS (RFC 7515) that anybody can check without a token.
 *
 * What it shows and what it takes for granted: docs/AUDIT.md.
 */
#ifndef HSM_AUDIT_H
#define HSM_AUDIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <time.h>

#include <sys/types.h>

#include <jansson.h>
#include <openssl/types.h>

#include <hsm/key.h>
#include <hsm/secret.h>
#include <hsm/status.h>
#include <hsm/token.h>

#define HSM_AUDIT_FORMAT     "sti-hsm-audit/1"
#define HSM_AUDIT_JWS_TYPE   "sti-hsm-audit+jws"
#define HSM_AUDIT_REPORT_MAX (64 * 1024 * 1024) /* octets of a signed report; larger: refused */
#define HSM_AUDIT_NONCE_MAX  128 /* octets */
#define HSM_AUDIT_SCALARS    15 /* most that one line of a secret has room for */

enum hsm_audit_verdict {
    HSM_AUDIT_PASS,
    HSM_AUDIT_FINDING,
    HSM_AUDIT_CONSEQUENCE, /* not as required, and another finding is why */
    HSM_AUDIT_UNPROVEN, /* required, and the module does not say */
    HSM_AUDIT_NOT_REPORTED, /* good to have, and the module does not say */
    HSM_AUDIT_UNTESTED, /* could not be tried; the statement says why */
    HSM_AUDIT_INFO
};

#define HSM_AUDIT_VERDICTS 7

struct hsm_audit_config {
    const char *program; /* name and version of who audits */
    const char *nonce; /* the auditor's: a report with it is not older than it; NULL: none */
    const char
        *uncertified; /* labels between commas of keys that need no certificate; NULL: none */
    struct hsm_key *signer; /* borrowed; NULL: the report is not signed */
    bool attempts; /* hsm_audit_token() tries to take each key */
    time_t now;
};

struct hsm_audit;

HSM_MUST_CHECK enum hsm_status hsm_audit_new(const struct hsm_audit_config *config,
                                             struct hsm_audit **out);

/** Certificates that are not on a token: a file, PEM or DER, or a directory of them. Before tokens.
 */
HSM_MUST_CHECK enum hsm_status hsm_audit_certificates(struct hsm_audit *audit, const char *path);

/**
 * Attestation certificates of a vendor and what chains them to its root, PEM.
 * Before tokens.
 *
 * @param roots  PEM; the vendor's, as the auditor got it
 */
HSM_MUST_CHECK enum hsm_status hsm_audit_attestations(struct hsm_audit *audit, const char *path,
                                                      const char *roots);

/**
 * Inventory, attributes, certificates of a token and, where the configuration
 * says so, attempts. A private key of P-256 that may be used signs a challenge.
 */
HSM_MUST_CHECK enum hsm_status hsm_audit_token(struct hsm_audit *audit, struct hsm_token *token);

/** What attempts do to a token, for the person who is to agree. */
void hsm_audit_print_plan(const struct hsm_token *token, FILE *out);

/**
 * Private-key encodings in a file or below a directory; symbolic links are not followed.
 *
 * @param scalars  of test keys, as for hsm_audit_process(); NULL: none
 */
HSM_MUST_CHECK enum hsm_status hsm_audit_files(struct hsm_audit *audit, const char *path,
                                               const struct hsm_secret *scalars);

/**
 * The memory of a process and of its children. First a child of this process
 * that holds a planted value is searched in the same way, and must be found.
 *
 * @param scalars  of P-256 test keys: hex, 64 digits each, between blanks; at most
 *                 HSM_AUDIT_SCALARS. They are in this process's memory, in locked pages where the
 *                 system allows it, and wiped; never in the report. NULL: encodings alone
 *
 * @retval HSM_ERR_NOT_FOUND  no such process
 * @retval HSM_ERR_DENIED     its memory may not be read
 */
HSM_MUST_CHECK enum hsm_status hsm_audit_process(struct hsm_audit *audit, pid_t pid,
                                                 const struct hsm_secret *scalars);

/** Count, and close the report: borrowed, until hsm_audit_free(). */
HSM_MUST_CHECK enum hsm_status hsm_audit_finish(struct hsm_audit *audit, const json_t **report);

/** Compact JWS, ES256, by the configuration's signer; after hsm_audit_finish(). free() it. */
HSM_MUST_CHECK enum hsm_status hsm_audit_sign(struct hsm_audit *audit, char **jws, size_t *len);

void hsm_audit_free(struct hsm_audit *audit);

/** Statements of a finished report that keep it from being clean: findings and unproven ones. */
size_t hsm_audit_faults(const json_t *report);

/**
 * Check a signed report without a token: signature, schema, and that it
 * agrees with itself. That the signer is whom it should be is for `trusted`.
 *
 * @param trusted  the audit key's public half; NULL: the one in the report, which shows only that
 *                 nobody without that key has changed it since
 * @param report   receives it; json_decref()
 *
 * @retval HSM_ERR_UNTRUSTED  signature, or another key
 * @retval HSM_ERR_MALFORMED  not a report, or one that contradicts itself
 */
HSM_MUST_CHECK enum hsm_status hsm_audit_verify(const char *jws, size_t len, EVP_PKEY *trusted,
                                                json_t **report, struct hsm_reason *why);

/** For people. The report is a finished or a verified one. */
void hsm_audit_print_text(const json_t *report, FILE *out);
void hsm_audit_print_html(const json_t *report, FILE *out);

#endif
