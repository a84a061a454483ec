/* service_group.h - a service with a Unix socket and TLS, whose API the tests of sks/src/service.c
 * and ms_api*.c call. */
#ifndef TEST_SERVICE_GROUP_H
#define TEST_SERVICE_GROUP_H

#include <stdatomic.h>

#include <sks/service.h>
#include <sks/verify.h>

#include "caller.h"
#include "ecosystem.h"

#define NOW          1768478400 /* 2026-01-15T12:00:00Z, the clock of the vectors */
#define X5U          "https://cr.sp.example/certs/sp-1234.pem" /* x5u of the vectors */
#define BEARER       "a9993e364706816aba3e25717850c26c"
#define SIGNING      "/stir/v1/signing"
#define VERIFICATION "/stir/v1/verification"
#define JSON_TYPE    "Content-Type: application/json"
#define ORIGID       "de305d54-75b4-431b-adb2-eb6b9e546014"

/* The request that every test starts from. */
#define MEMBER_ATTEST "\"attest\":\"A\""
#define MEMBER_DEST   "\"dest\":{\"tn\":[\"12155551213\"]}"
#define MEMBER_IAT    "\"iat\":1768478400"
#define MEMBER_ORIG   "\"orig\":{\"tn\":\"12155551212\"}"
#define MEMBER_ORIGID "\"origid\":\"" ORIGID "\""
#define SIGN_THIS(attest, dest, iat, orig, origid)                                                 \
    "{\"signingRequest\":{" attest "," dest "," iat "," orig "," origid "}}"
#define GOOD_SIGNING    SIGN_THIS(MEMBER_ATTEST, MEMBER_DEST, MEMBER_IAT, MEMBER_ORIG, MEMBER_ORIGID)
#define MEMBER_FROM     "\"from\":{\"tn\":\"12155551212\"}"
#define MEMBER_IDENTITY "\"identity\":\"a.b.c;info=<https://cr.example/1.pem>\""
#define MEMBER_TIME     "\"time\":1768478400"
#define MEMBER_TO       "\"to\":{\"tn\":[\"12155551213\"]}"
#define VERIFY_THIS(from, identity, time, to)                                                      \
    "{\"verificationRequest\":{" from "," identity "," time "," to "}}"

struct service_world {
    struct ecosystem eco; /* its STI certificates are valid at the time of the vectors */
    struct certs_chain *vector_chain;
    struct sks_trust *trust;
    struct sks_verifier *verifier;
    const struct certs_chain *served; /* served for every x5u */
    struct hsm_secret *bearer;
    struct hsm_key *client_key;
    struct certs_chain *client;
    char path[160]; /* of the catalogue */
    _Atomic time_t now;
    atomic_bool repository_is_silent;
    atomic_uint fetching;
};

extern struct service_world world;

/* One service with its two listeners, created for each test. */
struct service_run {
    struct sks_catalogue *catalogue;
    struct sks_tokens *tokens;
    struct hsm_metrics *metrics;
    struct sks_service *service;
    struct unix_server local;
    struct acme_http_loop *loop;
    pthread_t thread;
    char base[64];
    struct caller tls;
};

extern struct service_run sks;
extern struct called called;

/** cmocka group fixtures. */
int service_group_start(void **state);
int service_group_stop(void **state);

/* Publish a credential with that key and chain; returns its id. */
int64_t publish(const char *key_uri, const struct certs_chain *chain, const char *spc,
                const char *x5u);

/** publish(), and let it sign. */
void activate(const char *key_uri, const struct certs_chain *chain, const char *spc,
              const char *x5u);

/** Create a service like that of `sks`. */
enum hsm_status new_service(const char *spc, struct sks_service **out);

/** service_start() without the credential. */
int service_start_without_credential(void **state);

/** cmocka fixtures of one test: `sks`, whose credential for ECO_SPC signs. */
int service_start(void **state);
int service_stop(void **state);

/** POST to the Unix socket; the answer is in `called`. */
void post(const char *path, const char *body);

/* The Identity header of a successful answer; free() it. */
char *signed_identity(void);

/** Verify this Identity header for the request of GOOD_SIGNING. */
void verify_identity(const char *identity);

/** The answer is this verdict. */
void assert_verstat(const char *verstat, int reason_code);

/* A requestError of that kind with that first variable, and without a signature. */
void assert_error(long status, const char *id, const char *variable);

#endif
