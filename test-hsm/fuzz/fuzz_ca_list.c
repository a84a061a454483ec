/* fuzz_ca_list.c - The trusted-CA list. */
#include <acme/ca_list.h>

#include "fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct acme_ca_list *list = NULL;
    struct hsm_reason why;

    if (acme_ca_list_parse((const char *)data, len, &list, &why) == HSM_OK)
        fuzz_assert(acme_ca_list_roots(list) != NULL);
    acme_ca_list_free(list);
    return 0;
}
