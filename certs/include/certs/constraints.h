/*
 * constraints.h - what a certificate lets its holder claim in a PASSporT:
 * JWTClaimConstraints (RFC 8226 section 8) and EnhancedJWTClaimConstraints
 * (RFC 9118).
 *
 * An issuer puts them into the certificate of a delegate; a verifier rejects
 * every PASSporT of that certificate that breaks them. Parsed strictly as DER.
 */
#ifndef CERTS_CONSTRAINTS_H
#define CERTS_CONSTRAINTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/types.h>

#include <hsm/defer.h>
#include <hsm/status.h>

#define CERTS_CONSTRAINTS_MAX 8192 /* octets of DER */

/* Which of the two extensions; a certificate has at most one of them (RFC 9118 section 6). */
enum certs_constraints_form {
    CERTS_CONSTRAINTS_JWT, /* 1.3.6.1.5.5.7.1.27 */
    CERTS_CONSTRAINTS_ENHANCED /* 1.3.6.1.5.5.7.1.33: with mustExclude */
};

struct certs_permitted_values {
    const char *claim; /* printable ASCII */
    const char *const *values; /* UTF-8; NULL-terminated, at least one */
};

/* The content of either extension. At least one of the three is present, and none is empty. */
struct certs_claim_constraints {
    const char *const *must_include; /* claim names, NULL-terminated; NULL: absent */
    const struct certs_permitted_values *permitted_values; /* up to a NULL claim; NULL: absent */
    const char *const *must_exclude; /* claim names, NULL-terminated; NULL: absent */
};

struct certs_constraints;

/**
 * Make an extension's value for a new certificate.
 *
 * @param content  copied
 * @retval HSM_ERR_USAGE      no PASSporT could satisfy it, or a verifier would ignore it: it
 *                            excludes iat, orig or dest, or a claim that it also requires; or it
 *                            excludes claims in the form that has no mustExclude
 * @retval HSM_ERR_MALFORMED  it breaks the grammar: empty, or a name that is not printable ASCII
 */
HSM_MUST_CHECK enum hsm_status certs_constraints_new(enum certs_constraints_form form,
                                                     const struct certs_claim_constraints *content,
                                                     struct certs_constraints **out,
                                                     struct hsm_reason *why);

/**
 * Parse an extension's value.
 *
 * @retval HSM_ERR_MALFORMED  not strict DER of that form, empty, or longer than
 *                            CERTS_CONSTRAINTS_MAX
 */
HSM_MUST_CHECK enum hsm_status
certs_constraints_parse(enum certs_constraints_form form, const uint8_t *der, size_t len,
                        struct certs_constraints **out, struct hsm_reason *why);

/**
 * The constraints of a certificate; certs_constraints_free() them.
 *
 * @retval HSM_ERR_NOT_FOUND  it has neither extension
 * @retval HSM_ERR_MALFORMED  malformed, twice, both extensions, or in a CA certificate: such a
 *                            certificate must not be used
 */
HSM_MUST_CHECK enum hsm_status
certs_cert_constraints(const X509 *cert, struct certs_constraints **out, struct hsm_reason *why);

enum certs_constraints_form certs_constraints_form(const struct certs_constraints *constraints);

/** Borrowed, valid as long as the constraints. */
const struct certs_claim_constraints *
certs_constraints_content(const struct certs_constraints *constraints);

/** The DER octets: borrowed, valid as long as the constraints. */
const uint8_t *certs_constraints_der(const struct certs_constraints *constraints, size_t *len);

/** RFC 9118 section 3: mustExclude names iat, orig or dest, so the certificate is treated as if
 * it had no such extension. */
bool certs_constraints_are_void(const struct certs_constraints *constraints);

/** The claims of one PASSporT (its payload, not its header), as the caller has parsed them. */
struct certs_claims {
    const void *payload; /* passed to both functions */
    /** True if the PASSporT has a claim of that name. */
    bool (*has)(const void *payload, const char *name);
    /**
     * The value of a claim that is present, as UTF-8: the characters of a string; canonical JSON
     * (RFC 8225 section 9) of anything else, as RFC 9795 does for rcdi. NULL: no list of values
     * permits it. Borrowed, and used only until the next call.
     */
    const char *(*value)(const void *payload, const char *name);
};

/**
 * Check claims against the constraints. Values are compared octet by octet. Every
 * PASSporT satisfies void constraints.
 *
 * @retval HSM_ERR_UNTRUSTED  a claim breaks them; the reason names the first one
 */
HSM_MUST_CHECK enum hsm_status certs_constraints_check(const struct certs_constraints *constraints,
                                                       const struct certs_claims *claims,
                                                       struct hsm_reason *why);

/** As text, e.g. "must include rcd; attest is A or B; must exclude rph"; free() it. NULL: out of
 * memory. */
char *certs_constraints_text(const struct certs_constraints *constraints);

void certs_constraints_free(struct certs_constraints *constraints);
DEFINE_DEFER(struct certs_constraints, certs_constraints_free)

#endif
