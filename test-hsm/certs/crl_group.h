/* crl_group.h - an STI-PA on a throw-away SoftHSM token, whose CRLs the tests of certs/src/crl*.c
 * make. */
#ifndef TEST_CRL_GROUP_H
#define TEST_CRL_GROUP_H

#include <stddef.h>

#include <certs/crl.h>

#define CRL_URL "https://sti-pa.example/download/v1/crl"
#define A_DAY   86400

extern struct hsm_key *root_key, *signer_key;
extern X509 *root, *signer;
extern struct certs_chain *anchors, *signer_chain;

/** cmocka group fixtures. */
int crl_group_start(void **state);
int crl_group_stop(void **state);

/** Parse a CRL of test-hsm/data. */
struct certs_crl *data_crl(const char *name);

/* A certificate with that issuer and serial number, which is all that a lookup uses. */
X509 *cert_named(const X509_NAME *issuer, const uint8_t *serial, size_t len);
bool is_listed(const struct certs_crl *crl, const X509_NAME *issuer, const char *serial_hex);

/** Sign a CRL for CRL_URL, valid at DATA_NOW, with the key of signer, and parse it. */
struct certs_crl *make(struct certs_crl_request *request);

#endif
