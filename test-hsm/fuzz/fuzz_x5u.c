/*
 * fuzz_x5u.c - an untrusted repository: the URL in the first line, Cache-Control in the second,
 * then the body.
 */
#include <x5u_internal.h>

#include "fuzz.h"

static void
fuzz_url(const char *url)
{
    struct hsm_reason why;
    unsigned port;
    size_t len;

    if (sks_x5u_parse(url, &port, &why) != HSM_OK)
        return;
    fuzz_assert(port > 0 && port < 65536 && strlen(url) <= SKS_X5U_MAX);
    fuzz_assert(sks_x5u_host(url, &len) > url && len > 0 &&
                len < sizeof(((struct x5u_slow_host *)0)->host));
}

static void
fuzz_body(const char *body, size_t len)
{
    struct certs_chain *chain = NULL;
    struct hsm_reason why;

    if (certs_chain_parse_pem(body, len, CERTS_CHAIN_LEN_MAX, &chain, &why) == HSM_OK)
        fuzz_assert(certs_chain_len(chain) > 0 && certs_chain_len(chain) <= CERTS_CHAIN_LEN_MAX);
    certs_chain_free(chain);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    char *text = fuzz_text(data, len);
    char *rest = text;
    const char *url = strsep(&rest, "\n");
    const char *cache_control = strsep(&rest, "\n");
    time_t age = sks_x5u_fresh_for(cache_control);

    fuzz_url(url);
    fuzz_assert(age >= SKS_X5U_CACHE_S && age <= X5U_CACHE_S_MAX);
    if (rest != NULL)
        fuzz_body(rest, len - (size_t)(rest - text));
    free(text);
    return 0;
}
