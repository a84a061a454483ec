/* signing_group.h - a service with callers and customers, to which the tests of signing give calls.
 */
#ifndef TEST_SIGNING_GROUP_H
#define TEST_SIGNING_GROUP_H

#include <sks/service.h>
#include <sks/x5u.h>

#include "caller.h"
#include "ecosystem.h"

#define SIGNING "/stir/v1/signing"
#define X5U     "https://cr.sp.example/certs/sp-1234.pem"
#define X5U_2   "https://cr.sp.example/certs/sp-709J.pem"
#define SPC_2   "709J"
#define ALL     "pkcs11:token=all"
#define ORIGID  "de305d54-75b4-431b-adb2-eb6b9e546014"

struct signing_world {
    struct ecosystem eco;
    struct hsm_key *key_2; /* of a second provider */
    struct certs_chain *chain_2;
    struct hsm_key *client_key;
    struct certs_chain *client;
    struct sks_trust *trust;
    struct sks_verifier *verifier;
    unsigned asked; /* number of requests for chains */
    struct hsm_metrics *metrics;
    struct sks_catalogue *catalogue;
    char trail[192];
};

extern struct signing_world world;

/* One service, created for each test with its own callers. */
struct signing_run {
    struct sks_rates *rates;
    struct sks_callers *callers;
    struct sks_trail *trail;
    struct sks_service *service;
    struct sks_tokens *tokens; /* NULL: signing_begin() opens the common one */
    struct unix_server local;
};

extern struct signing_run sks;
extern struct called called;

/** Replace the verifier, after free_verifier(). @param trust  NULL: the roots, without a CRL */
void make_verifier(const struct sks_trust_config *trust);
void free_verifier(void);

/** Let a credential with that key and chain sign. */
void activate(const char *token_uri, const char *key_uri, const struct certs_chain *chain,
              const char *spc, const char *x5u);

/** cmocka group fixtures. */
int signing_group_start(void **state);
int signing_group_stop(void **state);

/** Read a file of callers with this text. */
enum hsm_status read_callers(const char *text, struct sks_callers **out);

/* `callers` is the content of the file; NULL: no file. */
void signing_begin(const char *callers);

/** cmocka teardown of one test. */
int signing_finish(void **state);

/* Post a signingRequest with these members. */
void post_at(time_t iat, const char *members);

/** The same, of now. */
void post(const char *members);

#define FROM   "\"orig\":{\"tn\":\"12155551212\"}"
#define TO     "\"dest\":{\"tn\":[\"12155551213\"]}"
#define A      "\"attest\":\"A\""
#define ID     "\"origid\":\"" ORIGID "\""
#define SHAKEN A "," FROM "," TO "," ID
#define DIV                                                                                        \
    "\"ppt\":\"div\"," FROM ",\"dest\":{\"tn\":[\"12155551214\"]},\"div\":{\"tn\":"                \
    "\"12155551213\"}"

/* The Identity header of a successful answer, in the member of the dialect; free() it. */
char *signed_identity(const char *member);

/* The claims of the PASSporT just signed; decref them. */
json_t *signed_payload(const char *member);

/* 3GPP's {"error": ".."}, and no signature. */
void assert_3gpp_error(long status, const char *text);

/** ATIS-1000082's requestError with this id and variable. */
void assert_atis_error(long status, const char *id, const char *variable);

/* The text of a file: this process is the caller at the socket; its customers have separate
 * numbers. */
extern const char two_customers[];

/** signing_begin() with this text, in which %ld is the uid. */
void begin_with(const char *callers, long uid);

/* The same header with another URL of the certificate; free() it. */
char *moved(const char *identity);

#endif
