/* test_problem.c - mirrors acme/src/problem.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <acme/problem.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* RFC 8555 section 6.7, the table of error types */
static const struct {
    enum acme_error error;
    const char *type;
} types[] = {
    {ACME_ACCOUNT_DOES_NOT_EXIST, "urn:ietf:params:acme:error:accountDoesNotExist"},
    {ACME_ALREADY_REVOKED, "urn:ietf:params:acme:error:alreadyRevoked"},
    {ACME_BAD_CSR, "urn:ietf:params:acme:error:badCSR"},
    {ACME_BAD_NONCE, "urn:ietf:params:acme:error:badNonce"},
    {ACME_BAD_PUBLIC_KEY, "urn:ietf:params:acme:error:badPublicKey"},
    {ACME_BAD_REVOCATION_REASON, "urn:ietf:params:acme:error:badRevocationReason"},
    {ACME_BAD_SIGNATURE_ALGORITHM, "urn:ietf:params:acme:error:badSignatureAlgorithm"},
    {ACME_COMPOUND, "urn:ietf:params:acme:error:compound"},
    {ACME_CONNECTION, "urn:ietf:params:acme:error:connection"},
    {ACME_EXTERNAL_ACCOUNT_REQUIRED, "urn:ietf:params:acme:error:externalAccountRequired"},
    {ACME_INCORRECT_RESPONSE, "urn:ietf:params:acme:error:incorrectResponse"},
    {ACME_INVALID_CONTACT, "urn:ietf:params:acme:error:invalidContact"},
    {ACME_MALFORMED, "urn:ietf:params:acme:error:malformed"},
    {ACME_ORDER_NOT_READY, "urn:ietf:params:acme:error:orderNotReady"},
    {ACME_RATE_LIMITED, "urn:ietf:params:acme:error:rateLimited"},
    {ACME_REJECTED_IDENTIFIER, "urn:ietf:params:acme:error:rejectedIdentifier"},
    {ACME_SERVER_INTERNAL, "urn:ietf:params:acme:error:serverInternal"},
    {ACME_TLS, "urn:ietf:params:acme:error:tls"},
    {ACME_UNAUTHORIZED, "urn:ietf:params:acme:error:unauthorized"},
    {ACME_UNSUPPORTED_CONTACT, "urn:ietf:params:acme:error:unsupportedContact"},
    {ACME_UNSUPPORTED_IDENTIFIER, "urn:ietf:params:acme:error:unsupportedIdentifier"},
    {ACME_USER_ACTION_REQUIRED, "urn:ietf:params:acme:error:userActionRequired"},
};

static void
every_error_has_the_type_of_the_rfc(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(types); i++) {
        json_t *problem = acme_problem_new(types[i].error, 400, "why");

        assert_non_null(problem);
        assert_string_equal(json_string_value(json_object_get(problem, "type")), types[i].type);
        assert_string_equal(types[i].type + strlen(ACME_ERROR_PREFIX),
                            acme_problem_type(types[i].error));
        json_decref(problem);
    }
}

static void
a_problem_says_detail_and_status(void **state)
{
    json_t *problem = acme_problem_new(ACME_BAD_NONCE, 400, "nonce \"x\" was used");

    (void)state;
    assert_int_equal(json_object_size(problem), 3);
    assert_string_equal(json_string_value(json_object_get(problem, "detail")),
                        "nonce \"x\" was used");
    assert_int_equal(json_integer_value(json_object_get(problem, "status")), 400);
    json_decref(problem);
}

static void
a_detail_that_is_not_utf8_gives_no_problem(void **state)
{
    (void)state;
    assert_null(acme_problem_new(ACME_MALFORMED, 400, "\xff"));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_error_has_the_type_of_the_rfc),
        cmocka_unit_test(a_problem_says_detail_and_status),
        cmocka_unit_test(a_detail_that_is_not_utf8_gives_no_problem),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
