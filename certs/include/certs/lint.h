/*
 * lint.h - check a certificate against the SHAKEN certificate profile, rule by rule.
 *
 * The profile is a table of rules: ATIS-1000080 v003, v004 and v005 section 6.4.1, the United
 * States' SHAKEN certificate policies (CP) 1.1 to 1.4, and the requirements of RFC 5280 and RFC
 * 8226 on these certificates. docs/PROFILE.md explains it. Which rules apply depends on the
 * certificate's role and on its notBefore: a certificate is judged by the rules of its day.
 *
 * Every certificate that OpenSSL can parse can be judged, however odd. Not judged are signatures
 * (except to distinguish a root from an intermediate), whether the certificate is valid now, and
 * whether it is revoked (see chain.h and crl.h).
 */
#ifndef CERTS_LINT_H
#define CERTS_LINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include <openssl/types.h>

#include <hsm/defer.h>
#include <hsm/status.h>

/* Roles of a certificate in ATIS-1000080; rules apply to a set of these. */
enum certs_lint_role {
    CERTS_LINT_ROOT = 1, /* CA certificate, self-signed */
    CERTS_LINT_INTERMEDIATE = 2, /* any other CA certificate */
    CERTS_LINT_END_ENTITY = 4,
};

/* Where a rule comes from; rules can be selected by a set of these. */
enum certs_lint_source {
    CERTS_LINT_ATIS = 1, /* ATIS-1000080 */
    CERTS_LINT_US_CP = 2, /* the United States' SHAKEN certificate policy */
    CERTS_LINT_RFC = 4, /* RFC 5280, RFC 5480, RFC 8226 and X.690 */
};

enum certs_lint_severity {
    CERTS_LINT_WARNING, /* two standards disagree, or one only recommends */
    CERTS_LINT_ERROR
};

#define CERTS_LINT_LATEST 99991231 /* a day later than any rule's */

struct certs_lint_rule {
    const char *id; /* "ee.tnauthlist": role, field, detail */
    unsigned roles; /* CERTS_LINT_ROOT | ... */
    enum certs_lint_source source;
    enum certs_lint_severity severity;
    int from; /* yyyymmdd, UTC: notBefore of that day or later; 0: always */
    int until; /* yyyymmdd, UTC: notBefore before that day; 0: still in force */
    const char *requirement;
    const char *citation;
};

struct certs_lint_finding {
    const struct certs_lint_rule *rule; /* the broken rule; static storage */
    struct hsm_reason detail; /* what breaks it */
};

struct certs_lint_options {
    enum certs_lint_role role; /* 0: from the certificate itself; required if it is not signed */
    int date; /* yyyymmdd: the rules in force on that day; 0: on the day of notBefore */
    unsigned sources; /* CERTS_LINT_ATIS | ...; 0: all */
    const X509 *issuer; /* the issuing certificate, for rules that compare; NULL: not known */
};

struct certs_lint; /* what was found in one certificate; independent of the X509 */

/**
 * Judge a certificate, which may still lack its signature.
 *
 * @param options  NULL: all zero
 * @param out      owned by the caller: certs_lint_free(); without findings it is empty
 */
HSM_MUST_CHECK enum hsm_status
certs_lint_new(const X509 *cert, const struct certs_lint_options *options, struct certs_lint **out);

/** The number of broken rules; findings come in the order of the table. */
size_t certs_lint_len(const struct certs_lint *lint);
/** Borrowed. */
const struct certs_lint_finding *certs_lint_get(const struct certs_lint *lint, size_t i);

/** The number of findings with that severity. */
size_t certs_lint_count(const struct certs_lint *lint, enum certs_lint_severity severity);

enum certs_lint_role certs_lint_role(const struct certs_lint *lint);

/** The day (yyyymmdd) whose rules were applied; CERTS_LINT_LATEST if notBefore is not a time. */
int certs_lint_date(const struct certs_lint *lint);

void certs_lint_free(struct certs_lint *lint);
DEFINE_DEFER(struct certs_lint, certs_lint_free)

/**
 * Print what the certificate is and a line for each finding.
 *
 * @param file   the file that the certificate was read from
 * @param index  its position in that file, from 1
 */
HSM_MUST_CHECK enum hsm_status certs_lint_show(const struct certs_lint *lint, const char *file,
                                               size_t index, FILE *to);

/** certs_lint_show() as one JSON object on one line, without line end; its members are in
 *  docs/PROFILE.md. */
HSM_MUST_CHECK enum hsm_status certs_lint_json(const struct certs_lint *lint, const char *file,
                                               size_t index, FILE *to);

/** Write a JSON string with its quotes; octets that are not UTF-8 become U+FFFD. */
void certs_lint_json_text(const char *text, FILE *to);

/** The table. */
size_t certs_lint_rule_count(void);
const struct certs_lint_rule *certs_lint_rule(size_t i);

/** "root", "intermediate", "end-entity"; "error", "warning"; "ATIS-1000080", "US SHAKEN CP", "RFC".
 */
const char *certs_lint_role_text(enum certs_lint_role role);
const char *certs_lint_severity_text(enum certs_lint_severity severity);
const char *certs_lint_source_text(enum certs_lint_source source);

#endif
