/*
 * pa_fixture.h - keys and certificates of an STI-PA in a SoftHSM token, and an
 * HTTPS server on 127.0.0.1 with a handler of the test.
 */
#ifndef TEST_PA_FIXTURE_H
#define TEST_PA_FIXTURE_H

#include <pthread.h>

#include <acme/http_client.h>
#include <acme/http_server.h>
#include <certs/chain.h>
#include <hsm/key.h>
#include <hsm/token.h>

struct pa_fixture {
    struct hsm_token *token;
    struct hsm_key *root_key, *signer_key, *crl_key, *tls_key;
    struct certs_chain *root, *signer_chain, *crl_chain, *tls_chain;
    struct certs_chain *tls_root; /* also of client certificates */
    struct acme_http_loop *loop;
    pthread_t thread;
    struct acme_http_client *http; /* trusts the server */
    char base_url[64];
};

/** Make keys and certificates, and serve. Aborts the test program if it cannot. */
void pa_fixture_start(struct pa_fixture *fixture, struct acme_http_handler handler);
void pa_fixture_stop(struct pa_fixture *fixture);

/** A self-signed STI-CA root of this organization, with a key of this label in the token. */
X509 *pa_fixture_ca_root(struct pa_fixture *fixture, const char *label, const char *organization);

#endif
