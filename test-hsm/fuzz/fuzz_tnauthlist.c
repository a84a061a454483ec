/* fuzz_tnauthlist.c - TNAuthLists: the DER of an accepted list is accepted as the same list. */
#include <certs/tnauthlist.h>

#include "fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct certs_tnauthlist *list = NULL, *again = NULL;
    struct hsm_reason why;

    if (certs_tnauthlist_parse(data, len, &list, &why) == HSM_OK) {
        size_t der_len;
        const uint8_t *der = certs_tnauthlist_der(list, &der_len);

        fuzz_assert(certs_tnauthlist_parse(der, der_len, &again, &why) == HSM_OK);
        fuzz_assert(certs_tnauthlist_equals(list, again));
        fuzz_assert(certs_tnauthlist_encompasses(list, again));
        free(certs_tnauthlist_text(list));
    }
    certs_tnauthlist_free(again);
    certs_tnauthlist_free(list);
    return 0;
}
