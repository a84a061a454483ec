/*
 * audit.h - evidence that no private key can leave its token, or ever left it.
 *
 * An audit gathers statements about tokens, files and processes; each has its evidence and a
 * verdict. The report is one JSON object (docs/schema/ audit-report.json), from which text and HTML
 * are made. Signed by a key in a token, it is a compact JWS (RFC 7515) that anyone can check
 * without a token.
 *
 * docs/AUDIT.md explains what a report shows and what it assumes.
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

#include <hsm/defer.h>
#include <hsm/key.h>
#include <hsm/secret.h>
#include <hsm/status.h>
#include <hsm/token.h>

#define HSM_AUDIT_FORMAT     "sti-hsm-audit/1"
#define HSM_AUDIT_JWS_TYPE   "sti-hsm-audit+jws"
#define HSM_AUDIT_REPORT_MAX (64 * 1024 * 1024) /* octets of a signed report; larger: refused */
#define HSM_AUDIT_NONCE_MAX  128 /* octets */
#define HSM_AUDIT_SCALARS    15 /* as many as fit into one line of a secret */

enum hsm_audit_verdict {
    HSM_AUDIT_PASS,
    HSM_AUDIT_FINDING,
    HSM_AUDIT_CONSEQUENCE, /* not as required, because of another finding */
    HSM_AUDIT_UNPROVEN, /* required, but the module does not report it */
    HSM_AUDIT_NOT_REPORTED, /* desirable, but the module does not report it */
    HSM_AUDIT_UNTESTED, /* could not be tested; the statement explains why */
    HSM_AUDIT_INFO
};

#define HSM_AUDIT_VERDICTS 7

struct hsm_audit_config {
    const char *program; /* name and version of the auditing program */
    const char *nonce; /* chosen by the auditor: the report is not older than it; NULL: none */
    const char
        *uncertified; /* comma-separated labels of keys that need no certificate; NULL: none */
    struct hsm_key *signer; /* borrowed; NULL: the report is not signed */
    bool attempts; /* hsm_audit_token() tries to take each key */
    time_t now;
};

struct hsm_audit;

HSM_MUST_CHECK enum hsm_status hsm_audit_new(const struct hsm_audit_config *config,
                                             struct hsm_audit **out);

/** Add certificates that are not on a token: a file, PEM or DER, or a directory of such files.
 *  Call before hsm_audit_token(). */
HSM_MUST_CHECK enum hsm_status hsm_audit_certificates(struct hsm_audit *audit, const char *path);

/**
 * Add a vendor's attestation certificates and intermediates, PEM. Call before
 * hsm_audit_token().
 *
 * @param roots  PEM file of the vendor's root, as the auditor obtained it
 */
HSM_MUST_CHECK enum hsm_status hsm_audit_attestations(struct hsm_audit *audit, const char *path,
                                                      const char *roots);

/**
 * Audit a token: inventory, attributes, certificates and, if the configuration enables them,
 * attempts to take each key. Each usable P-256 private key signs a challenge.
 */
HSM_MUST_CHECK enum hsm_status hsm_audit_token(struct hsm_audit *audit, struct hsm_token *token);

/** Print what the attempts do to a token, for the person who has to agree to them. */
void hsm_audit_print_plan(const struct hsm_token *token, FILE *out);

/**
 * Search a file, or all files below a directory, for private-key encodings;
 * symbolic links are not followed.
 *
 * @param scalars  of test keys, as for hsm_audit_process(); NULL: none
 */
HSM_MUST_CHECK enum hsm_status hsm_audit_files(struct hsm_audit *audit, const char *path,
                                               const struct hsm_secret *scalars);

/**
 * Search the memory of a process and of its children. First a child of this
 * process with a planted value is searched in the same way, and the value must
 * be found.
 *
 * @param scalars  of P-256 test keys: 64 hex digits each, separated by blanks; at most
 *                 HSM_AUDIT_SCALARS. They are held in this process's memory, in locked pages where
 *                 the system allows it, and wiped; they never appear in the report. NULL: search
 *                 for encodings only
 *
 * @retval HSM_ERR_NOT_FOUND  no such process
 * @retval HSM_ERR_DENIED     its memory may not be read
 */
HSM_MUST_CHECK enum hsm_status hsm_audit_process(struct hsm_audit *audit, pid_t pid,
                                                 const struct hsm_secret *scalars);

/** Count the verdicts and close the report, which is borrowed until hsm_audit_free(). */
HSM_MUST_CHECK enum hsm_status hsm_audit_finish(struct hsm_audit *audit, const json_t **report);

/** Sign the finished report with the configuration's signer: compact JWS, ES256; free() it. Call
 *  after hsm_audit_finish(). */
HSM_MUST_CHECK enum hsm_status hsm_audit_sign(struct hsm_audit *audit, char **jws, size_t *len);

void hsm_audit_free(struct hsm_audit *audit);
DEFINE_DEFER(struct hsm_audit, hsm_audit_free)

/** The number of statements that keep a finished report from being clean: findings and unproven
 *  ones. */
size_t hsm_audit_faults(const json_t *report);

/**
 * Check a signed report without a token: signature, schema, and that the report
 * does not contradict itself. Who signed it is established by `trusted` alone.
 *
 * @param trusted  the audit key's public half; NULL: the one in the report, which shows only that
 *                 nobody without that key has changed it since
 * @param report   receives it; json_decref()
 *
 * @retval HSM_ERR_UNTRUSTED  the signature does not verify, or is of another key
 * @retval HSM_ERR_MALFORMED  not a report, or one that contradicts itself
 */
HSM_MUST_CHECK enum hsm_status hsm_audit_verify(const char *jws, size_t len, EVP_PKEY *trusted,
                                                json_t **report, struct hsm_reason *why);

/** Print a finished or verified report for people to read. */
void hsm_audit_print_text(const json_t *report, FILE *out);
void hsm_audit_print_html(const json_t *report, FILE *out);

#endif
