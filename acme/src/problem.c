/* problem.c - ACME error documents (RFC 8555 section 6.7, RFC 7807). */
#include <acme/problem.h>

#include <stdlib.h>
#include <string.h>

static const char *const types[] = {
    [ACME_ACCOUNT_DOES_NOT_EXIST] = "accountDoesNotExist",
    [ACME_ALREADY_REVOKED] = "alreadyRevoked",
    [ACME_BAD_CSR] = "badCSR",
    [ACME_BAD_NONCE] = "badNonce",
    [ACME_BAD_PUBLIC_KEY] = "badPublicKey",
    [ACME_BAD_REVOCATION_REASON] = "badRevocationReason",
    [ACME_BAD_SIGNATURE_ALGORITHM] = "badSignatureAlgorithm",
    [ACME_COMPOUND] = "compound",
    [ACME_CONNECTION] = "connection",
    [ACME_EXTERNAL_ACCOUNT_REQUIRED] = "externalAccountRequired",
    [ACME_INCORRECT_RESPONSE] = "incorrectResponse",
    [ACME_INVALID_CONTACT] = "invalidContact",
    [ACME_MALFORMED] = "malformed",
    [ACME_ORDER_NOT_READY] = "orderNotReady",
    [ACME_RATE_LIMITED] = "rateLimited",
    [ACME_REJECTED_IDENTIFIER] = "rejectedIdentifier",
    [ACME_SERVER_INTERNAL] = "serverInternal",
    [ACME_TLS] = "tls",
    [ACME_UNAUTHORIZED] = "unauthorized",
    [ACME_UNSUPPORTED_CONTACT] = "unsupportedContact",
    [ACME_UNSUPPORTED_IDENTIFIER] = "unsupportedIdentifier",
    [ACME_USER_ACTION_REQUIRED] = "userActionRequired",
    [ACME_ALREADY_REPLACED] = "alreadyReplaced",
};

const char *
acme_problem_type(enum acme_error error)
{
    if ((size_t)error >= sizeof(types) / sizeof(types[0]))
        return types[ACME_SERVER_INTERNAL];
    return types[error];
}

json_t *
acme_problem_new(enum acme_error error, int http_status, const char *detail)
{
    return json_pack("{s:s+, s:s, s:i}", "type", ACME_ERROR_PREFIX, acme_problem_type(error),
                     "detail", detail, "status", http_status);
}

json_t *
acme_subproblem_new(enum acme_error error, const char *detail, json_t *identifier)
{
    return json_pack("{s:s+, s:s, s:O}", "type", ACME_ERROR_PREFIX, acme_problem_type(error),
                     "detail", detail, "identifier", identifier);
}

json_t *
acme_problem_compound(json_t *subproblems, int http_status, const char *detail)
{
    const json_t *first = json_object_get(json_array_get(subproblems, 0), "type");
    bool is_common = first != NULL;

    for (size_t i = 1; i < json_array_size(subproblems); i++)
        is_common =
            is_common && json_equal(first, json_object_get(json_array_get(subproblems, i), "type"));
    return json_pack("{s:s, s:s, s:i, s:o}", "type",
                     is_common ? json_string_value(first) : ACME_ERROR_PREFIX "compound", "detail",
                     detail, "status", http_status, "subproblems", subproblems);
}

void
acme_problem_respond(struct acme_http_response *response, enum acme_error error, int http_status,
                     const char *detail)
{
    acme_http_respond_json(response, http_status, "application/problem+json",
                           acme_problem_new(error, http_status, detail));
}
