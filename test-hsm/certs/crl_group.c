/* crl_group.c - the STI-PA whose CRLs tests make. */
#include "crl_group.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <certs/issue.h>

#include "peer_cert.h"
#include "softhsm.h"

static struct hsm_token *token;
struct hsm_key *root_key, *signer_key;
X509 *root, *signer;
struct certs_chain *anchors, *signer_chain;

static X509 *
issue(enum certs_profile profile, const char *cn, struct hsm_key *key, const X509 *issuer,
      struct hsm_key *issuer_key)
{
    struct certs_issue_request request = {
        .profile = profile,
        .subject = {.country = "US", .organization = "STI-PA Test", .common_name = cn},
        .public_key = hsm_key_public(key),
        .not_before = DATA_NOW - A_DAY,
        .not_after = DATA_NOW + 365 * A_DAY};
    X509 *cert = NULL;

    peer_must(certs_serial_new(token, request.serial, &request.serial_len) == HSM_OK, cn);
    peer_must(certs_issue(&request, issuer, issuer_key, &cert, NULL) == HSM_OK, cn);
    return cert;
}

int
crl_group_start(void **state)
{
    (void)state;
    softhsm_start();
    token = softhsm_token("pa");
    peer_must(hsm_key_generate(token, "pa-root", &root_key) == HSM_OK, "root key");
    peer_must(hsm_key_generate(token, "pa-crl", &signer_key) == HSM_OK, "signer key");
    root = issue(CERTS_PROFILE_PA_ROOT, "STI-PA Test Root", root_key, NULL, root_key);
    signer = issue(CERTS_PROFILE_PA_CRL_SIGNER, "STI-PA Test CRL", signer_key, root, root_key);
    peer_must(certs_chain_new(&anchors) == HSM_OK, "memory");
    peer_must(certs_chain_new(&signer_chain) == HSM_OK, "memory");
    peer_must(certs_chain_add(anchors, root) == HSM_OK, "memory");
    peer_must(certs_chain_add(signer_chain, signer) == HSM_OK, "memory");
    return 0;
}

int
crl_group_stop(void **state)
{
    (void)state;
    certs_chain_free(anchors);
    certs_chain_free(signer_chain);
    X509_free(root);
    X509_free(signer);
    hsm_key_free(root_key);
    hsm_key_free(signer_key);
    hsm_token_close(token);
    softhsm_stop();
    return 0;
}

struct certs_crl *
data_crl(const char *name)
{
    struct certs_crl *crl = NULL;
    struct hsm_reason why = {0};
    size_t len;
    char *octets = data_text(name, &len);

    if (certs_crl_parse((const uint8_t *)octets, len, &crl, &why) != HSM_OK)
        fail_msg("%s: %s", name, why.text);
    free(octets);
    return crl;
}

X509 *
cert_named(const X509_NAME *issuer, const uint8_t *serial, size_t len)
{
    X509 *cert = X509_new();
    BIGNUM *number = BN_bin2bn(serial, (int)len, NULL);

    peer_must(X509_set_issuer_name(cert, issuer) == 1, "issuer");
    peer_must(BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert)) != NULL, "serial");
    BN_free(number);
    return cert;
}

bool
is_listed(const struct certs_crl *crl, const X509_NAME *issuer, const char *serial_hex)
{
    uint8_t serial[CERTS_SERIAL_MAX];
    X509 *cert = cert_named(issuer, serial, data_unhex(serial_hex, serial, sizeof(serial)));
    bool listed = certs_crl_has(crl, cert);

    X509_free(cert);
    return listed;
}

struct certs_crl *
make(struct certs_crl_request *request)
{
    struct certs_crl *crl = NULL;
    struct hsm_reason why = {0};
    uint8_t *der = NULL;
    size_t len;

    request->this_update = DATA_NOW - 60;
    request->next_update = DATA_NOW + A_DAY;
    request->url = CRL_URL;
    assert_int_equal(certs_crl_new(request, signer, signer_key, &der, &len), HSM_OK);
    if (certs_crl_parse(der, len, &crl, &why) != HSM_OK)
        fail_msg("%s", why.text);
    free(der);
    return crl;
}
