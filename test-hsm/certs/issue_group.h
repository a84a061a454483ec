/* issue_group.h - one certificate of each profile, on a throw-away SoftHSM token, which the tests
 * of certs/src/issue.c share. */
#ifndef TEST_ISSUE_GROUP_H
#define TEST_ISSUE_GROUP_H

#include <certs/issue.h>

#define CRL_URL  "https://sti-pa.example/download/v1/crl"
#define A_DAY    86400
#define PROFILES (CERTS_PROFILE_TLS_CLIENT + 1)

/* One certificate of each profile, issued once and read by the tests. */
extern struct hsm_token *token;
extern struct hsm_key *keys[PROFILES];
extern X509 *issued[PROFILES];
extern struct certs_tnauthlist *spc_1234;
extern struct certs_tnauthlist *delegated; /* to the delegate CA: SPC 1234 and a range */
extern struct certs_constraints *constraints;
extern X509 *next_root; /* self-signed with the key of the cross certificate */
extern const char *const server_dns[];

/* A request that obeys every rule of its profile; each test breaks one. */
struct certs_issue_request good_request(enum certs_profile profile);

/** The profile of the issuer; of a root its own. */
enum certs_profile issuer_of(enum certs_profile profile);

/** Issue with the certificate and key of issuer_of(). */
enum hsm_status issue(const struct certs_issue_request *request, X509 **out,
                      struct hsm_reason *why);

/** cmocka group fixtures. */
int issue_group_start(void **state);
int issue_group_stop(void **state);

#define ROOT CERTS_PROFILE_STI_ROOT
#define INT  CERTS_PROFILE_STI_INTERMEDIATE
#define X    CERTS_PROFILE_STI_CROSS

#endif
