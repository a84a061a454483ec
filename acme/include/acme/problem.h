/*
 * problem.h - ACME error documents (RFC 8555 section 6.7, RFC 7807).
 */
#ifndef ACME_PROBLEM_H
#define ACME_PROBLEM_H

#include <jansson.h>

#include <acme/http_server.h>
#include <hsm/status.h>

#define ACME_ERROR_PREFIX "urn:ietf:params:acme:error:"

/** In the order of RFC 8555's table; texts by acme_problem_type(). */
enum acme_error {
    ACME_ACCOUNT_DOES_NOT_EXIST,
    ACME_ALREADY_REVOKED,
    ACME_BAD_CSR,
    ACME_BAD_NONCE,
    ACME_BAD_PUBLIC_KEY,
    ACME_BAD_REVOCATION_REASON,
    ACME_BAD_SIGNATURE_ALGORITHM,
    ACME_COMPOUND,
    ACME_CONNECTION,
    ACME_EXTERNAL_ACCOUNT_REQUIRED,
    ACME_INCORRECT_RESPONSE,
    ACME_INVALID_CONTACT,
    ACME_MALFORMED,
    ACME_ORDER_NOT_READY,
    ACME_RATE_LIMITED,
    ACME_REJECTED_IDENTIFIER,
    ACME_SERVER_INTERNAL,
    ACME_TLS,
    ACME_UNAUTHORIZED,
    ACME_UNSUPPORTED_CONTACT,
    ACME_UNSUPPORTED_IDENTIFIER,
    ACME_USER_ACTION_REQUIRED,
    ACME_ALREADY_REPLACED, /* RFC 9773 section 7.4 */
};

/** "malformed", "badNonce", ... without the prefix; static. */
const char *acme_problem_type(enum acme_error error);

/** {"type","detail","status"}; the caller decrefs. NULL: out of memory. */
json_t *acme_problem_new(enum acme_error error, int http_status, const char *detail);

/**
 * acme_problem_new() with a subproblem for each faulty identifier (RFC 8555 section 6.7.1). Its
 * type is that of the subproblems if they all have the same, else "compound".
 *
 * @param subproblems  array of acme_subproblem_new(), at least one; taken over
 */
json_t *acme_problem_compound(json_t *subproblems, int http_status, const char *detail);

/**
 * {"type","detail","identifier"}; the caller decrefs. NULL: out of memory.
 *
 * @param identifier  as sent by the client; takes a reference of its own
 */
json_t *acme_subproblem_new(enum acme_error error, const char *detail, json_t *identifier);

/** Answer with a problem document (application/problem+json). */
void acme_problem_respond(struct acme_http_response *response, enum acme_error error,
                          int http_status, const char *detail);

#endif
