/* fuzz_chain.c - PEM certificate chains: what is accepted is written and accepted again. */
#include <certs/cert.h>
#include <certs/chain.h>

#include "fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct certs_chain *chain = NULL, *again = NULL;
    struct certs_tnauthlist *list = NULL;
    struct hsm_reason why;
    char *pem = NULL;

    if (certs_chain_parse_pem((const char *)data, len, CERTS_CHAIN_LEN_MAX, &chain, &why) ==
        HSM_OK) {
        fuzz_assert(certs_chain_pem(chain, &pem) == HSM_OK);
        fuzz_assert(certs_chain_parse_pem(pem, strlen(pem), CERTS_CHAIN_LEN_MAX, &again, &why) ==
                    HSM_OK);
        fuzz_assert(certs_chain_len(chain) == certs_chain_len(again));
        if (certs_cert_tnauthlist(certs_chain_get(chain, 0), &list, &why) == HSM_OK)
            certs_tnauthlist_free(list);
    }
    free(pem);
    certs_chain_free(again);
    certs_chain_free(chain);
    return 0;
}
