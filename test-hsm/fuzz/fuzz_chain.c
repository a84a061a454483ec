/* fuzz_chain.c - PEM certificate chains: what is accepted is written and accepted again, and a
 * path is looked for in it. */
#include <certs/cert.h>
#include <certs/chain.h>
#include <certs/path.h>

#include "fuzz.h"

#define NOW ((time_t)1768478400)

/* To the last certificate, under the widest policy: a valid path has the promised properties. */
static void
look_for_path(const struct certs_chain *chain)
{
    const struct certs_path_policy policy = {
        .ca_keys = CERTS_CA_P384 | CERTS_CA_P521 | CERTS_CA_RSA, .numbers_under_spc = true};
    struct certs_chain *anchors = NULL;
    struct certs_path *path = NULL;
    struct hsm_reason why = {0};

    fuzz_assert(certs_chain_new(&anchors) == HSM_OK);
    fuzz_assert(certs_chain_add(anchors, certs_chain_get(chain, certs_chain_len(chain) - 1)) ==
                HSM_OK);
    if (certs_path_verify(chain, &(struct certs_trust){.anchors = anchors}, &policy, NOW, &path,
                          &why) == HSM_OK) {
        fuzz_assert(certs_path_len(path) >= 2 && certs_path_len(path) <= CERTS_PATH_LEN_MAX);
        fuzz_assert(certs_path_tnauthlist(path) != NULL);
        fuzz_assert(certs_path_not_before(path) <= NOW && NOW <= certs_path_not_after(path));
    } else {
        fuzz_assert(why.text[0] != '\0');
    }
    certs_path_free(path);
    certs_chain_free(anchors);
}

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
        look_for_path(chain);
    }
    free(pem);
    certs_chain_free(again);
    certs_chain_free(chain);
    return 0;
}
