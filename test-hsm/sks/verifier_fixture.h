/*
 * verifier_fixture.h - a STI-VS at the time of the vectors, which trusts their STI-CA, and a
 * repository without a network; and PASSporTs that their service provider signs.
 */
#ifndef TEST_VERIFIER_FIXTURE_H
#define TEST_VERIFIER_FIXTURE_H

#include <openssl/evp.h>

#include <acme/http_client.h>
#include <certs/chain.h>
#include <sks/trust.h>
#include <sks/verify.h>
#include <sks/x5u.h>

#define NOW    1768478400 /* 2026-01-15T12:00:00Z, the clock of the vectors */
#define X5U    "https://cr.sp.example/certs/sp-1234.pem"
#define HEADER "{\"alg\":\"ES256\",\"ppt\":\"shaken\",\"typ\":\"passport\",\"x5u\":\"" X5U "\"}"
#define PAYLOAD                                                                                    \
    "{\"attest\":\"A\",\"dest\":{\"tn\":[\"12155551213\"]},\"iat\":1768478400,"                    \
    "\"orig\":{\"tn\":\"12155551212\"},\"origid\":\"de305d54-75b4-431b-adb2-eb6b9e546014\"}"

/* The STI-VS under test, and the service provider of the vectors. */
struct verifier_fixture {
    struct acme_http_client *http;
    struct sks_x5u_cache *x5u; /* for its rules only; nothing is fetched */
    struct sks_trust *trust;
    struct sks_verifier *verifier;
    const char *serves; /* what every x5u serves; NULL: nothing */
    const char *and_then; /* further certificates; NULL: none */
    unsigned fetches;
    EVP_PKEY *sp_key;
};

extern struct verifier_fixture vs;

/** Read a chain of test-hsm/data. */
struct certs_chain *chain_from(const char *name);

/* A repository without a network. */
enum hsm_status serve(void *context, const char *x5u, time_t now, struct certs_chain **out,
                      struct hsm_reason *why);

/** The roots of the vectors, with this CRL. */
struct sks_trust *trust_new(const char *crl_name);

/** cmocka group fixtures. */
int verifier_start(void **state);
int verifier_stop(void **state);

/** A PASSporT in its compact form; free() it. */
char *passport_new(const char *header, const char *payload, EVP_PKEY *key);

#endif
