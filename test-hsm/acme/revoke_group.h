/* revoke_group.h - the STI-CA of ca_group.h, whose STI-PA the test plays, and certificates to
 * revoke. */
#ifndef TEST_REVOKE_GROUP_H
#define TEST_REVOKE_GROUP_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <pthread.h>

#include <openssl/x509.h>

#include "ca_group.h"

#define PASSWORD "a pass word"

struct certificate {
    EVP_PKEY *key;
    uint8_t *der;
    size_t len;
    X509 *x509;
};

void certificate_clear(struct certificate *certificate);

/** Get a certificate for this SPC: certificate_clear() it. */
void enrol(const struct peer *peer, const char *spc, struct certificate *out);

/* free() the result. @param reason  JSON text; NULL: absent */
char *payload_of(const uint8_t *der, size_t len, const char *reason);

/** Send a revokeCert that the account signs. */
void revoke(const struct peer *peer, const struct certificate *certificate, const char *reason,
            struct got *got);

/** The answer is this problem, with a nonce. */
void assert_refused(const struct got *got, int status, const char *problem);

/* The STI-PA's answer, and the last request to it. */
struct told_pa {
    atomic_int status;
    pthread_mutex_t mutex;
    char *authorization, *content_type;
    json_t *told;
};

extern struct told_pa sti_pa;

/* of the STI-PA */
extern char revocation_url[128];

/** cmocka group fixtures, and the setup of one test. */
int revoke_group_start(void **state);
int revoke_group_begin(void **state);
int revoke_group_stop(void **state);

#endif
