/* fuzz_lint.c - certificates: whatever OpenSSL reads is judged, in every role, and printed. */
#include <stdio.h>

#include <openssl/err.h>
#include <openssl/x509.h>

#include <certs/lint.h>

#include "fuzz.h"

static void
judge(const X509 *cert, const struct certs_lint_options *options)
{
    struct certs_lint *lint = NULL;
    char *text = NULL;
    size_t len = 0;
    FILE *to = open_memstream(&text, &len);

    fuzz_assert(to != NULL);
    fuzz_assert(certs_lint_new(cert, options, &lint) == HSM_OK);
    fuzz_assert(certs_lint_show(lint, "file", 1, to) == HSM_OK);
    fuzz_assert(certs_lint_json(lint, "file", 1, to) == HSM_OK);
    for (size_t i = 0; i < certs_lint_len(lint); i++)
        fuzz_assert(certs_lint_get(lint, i)->detail.text[0] != '\0');
    fclose(to);
    free(text);
    certs_lint_free(lint);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const enum certs_lint_role roles[] = {0, CERTS_LINT_ROOT, CERTS_LINT_INTERMEDIATE,
                                                 CERTS_LINT_END_ENTITY};
    static const int dates[] = {20210701, CERTS_LINT_LATEST}; /* with every rule between them */
    const uint8_t *at = data;
    X509 *cert = d2i_X509(NULL, &at, (long)len);

    ERR_clear_error();
    for (size_t i = 0; cert != NULL && i < 2 * sizeof(roles) / sizeof(roles[0]); i++)
        judge(cert, &(struct certs_lint_options){
                        .role = roles[i / 2], .date = dates[i % 2], .issuer = cert});
    X509_free(cert);
    return 0;
}
