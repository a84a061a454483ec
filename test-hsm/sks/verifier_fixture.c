/* verifier_fixture.c - a STI-VS at the time of the vectors. */
#include "verifier_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <acme/base64url.h>

#include "data.h"
#include "peer.h"

#include "data.h"
#include "peer.h"

struct verifier_fixture vs;

struct certs_chain *
chain_from(const char *name)
{
    struct certs_chain *chain = NULL;

    assert_int_equal(certs_chain_read(data_path(name), &chain), HSM_OK);
    return chain;
}

enum hsm_status
serve(void *context, const char *x5u, time_t now, struct certs_chain **out, struct hsm_reason *why)
{
    char name[128];
    enum hsm_status st = sks_x5u_check(vs.x5u, x5u, why);

    (void)context;
    (void)now;
    vs.fetches++;
    if (st != HSM_OK)
        return st;
    if (vs.serves == NULL)
        return hsm_refuse(why, HSM_ERR_BUSY, "HTTP status 404");
    snprintf(name, sizeof(name), "self/%s", vs.serves);
    *out = chain_from(name);
    if (vs.and_then != NULL) {
        struct certs_chain *more;

        snprintf(name, sizeof(name), "self/%s", vs.and_then);
        more = chain_from(name);
        assert_int_equal(certs_chain_append(*out, more), HSM_OK);
        certs_chain_free(more);
    }
    return HSM_OK;
}

struct sks_trust *
trust_new(const char *crl_name)
{
    struct certs_chain *roots = chain_from("self/sti-ca-root.cert.pem");
    struct certs_chain *signer = chain_from("self/pa-crl.cert.pem");
    struct certs_chain *pa = chain_from("self/pa-root.cert.pem");
    struct sks_trust *trust = NULL;
    size_t len;
    char *crl = data_text(crl_name, &len);

    assert_int_equal(sks_trust_fixed(roots, (const uint8_t *)crl, len, signer, pa, &trust), HSM_OK);
    free(crl);
    certs_chain_free(pa);
    certs_chain_free(signer);
    certs_chain_free(roots);
    return trust;
}

int
verifier_start(void **state)
{
    const struct acme_http_client_config http = {.tls_ca = data_path("self/sti-ca-root.cert.pem")};

    (void)state;
    assert_int_equal(acme_http_client_new(&http, &vs.http), HSM_OK);
    assert_int_equal(sks_x5u_cache_new(&(struct sks_x5u_config){.http = vs.http}, &vs.x5u), HSM_OK);
    vs.trust = trust_new("self/sti-pa.crl.der");
    assert_int_equal(
        sks_verifier_new(&(struct sks_verifier_config){.trust = vs.trust, .chain = serve},
                         &vs.verifier),
        HSM_OK);
    vs.sp_key = peer_key_from_pem("self/sp-1234.key.pem");
    return 0;
}

int
verifier_stop(void **state)
{
    (void)state;
    EVP_PKEY_free(vs.sp_key);
    sks_verifier_free(vs.verifier);
    sks_trust_free(vs.trust);
    sks_x5u_cache_free(vs.x5u);
    acme_http_client_free(vs.http);
    return 0;
}

char *
passport_new(const char *header, const char *payload, EVP_PKEY *key)
{
    char *h = acme_base64url_encode(header, strlen(header));
    char *p = acme_base64url_encode(payload, strlen(payload));
    size_t size = strlen(h) + strlen(p) + 128;
    char *text = malloc(size);
    uint8_t sig[64];
    char *s;

    snprintf(text, size, "%s.%s", h, p);
    peer_sign_es256(key, text, strlen(text), sig);
    s = acme_base64url_encode(sig, sizeof(sig));
    snprintf(text, size, "%s.%s.%s", h, p, s);
    free(s);
    free(p);
    free(h);
    return text;
}
