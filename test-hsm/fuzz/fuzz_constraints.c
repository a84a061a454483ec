/* fuzz_constraints.c - claim constraints: parsed constraints encode to the same octets. The first
 * octet selects the form. */
#include <certs/constraints.h>

#include "fuzz.h"

static bool
has_every_other(const void *payload, const char *name)
{
    (void)payload;
    return (name[0] & 1) != 0;
}

static const char *
value_is_a(const void *payload, const char *name)
{
    (void)payload;
    return (name[0] & 2) != 0 ? "A" : NULL;
}

static void
made_again_is_the_same(const struct certs_constraints *read)
{
    struct certs_constraints *made = NULL;
    struct hsm_reason why;
    size_t read_len;
    size_t made_len;
    const uint8_t *read_der = certs_constraints_der(read, &read_len);
    const uint8_t *made_der;
    enum hsm_status st = certs_constraints_new(certs_constraints_form(read),
                                               certs_constraints_content(read), &made, &why);

    fuzz_assert(st == HSM_OK || st == HSM_ERR_USAGE); /* well-formed, but without sense */
    if (st != HSM_OK)
        return;
    made_der = certs_constraints_der(made, &made_len);
    fuzz_assert(made_len == read_len && memcmp(made_der, read_der, read_len) == 0);
    certs_constraints_free(made);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    const struct certs_claims claims = {NULL, has_every_other, value_is_a};
    struct certs_constraints *constraints = NULL;
    struct hsm_reason why;

    if (len < 1 || certs_constraints_parse((data[0] & 1) != 0 ? CERTS_CONSTRAINTS_ENHANCED
                                                              : CERTS_CONSTRAINTS_JWT,
                                           data + 1, len - 1, &constraints, &why) != HSM_OK)
        return 0;
    made_again_is_the_same(constraints);
    fuzz_assert(!certs_constraints_are_void(constraints) ||
                certs_constraints_check(constraints, &claims, &why) == HSM_OK);
    (void)!certs_constraints_check(constraints, &claims, &why);
    free(certs_constraints_text(constraints));
    certs_constraints_free(constraints);
    return 0;
}
