/* authority_revoke_group.h - the STI-PA of authority_group.h with accounts of two STI-CAs and of a
 * service provider, whose certificates the tests of revocation revoke. */
#ifndef TEST_AUTHORITY_REVOKE_GROUP_H
#define TEST_AUTHORITY_REVOKE_GROUP_H

#include <stdatomic.h>
#include <stdint.h>

#include <time.h>

#include <jansson.h>
#include <openssl/x509.h>

#include <acme/authority.h>
#include <certs/issue.h>

#define PASSWORD "correct horse"
#define DAY      86400 /* seconds */

extern atomic_long clock_offset_s; /* the STI-PA's clock is ahead by this */

/* An STI-CA: its root, the issuing CA below it, and the key of the service provider's
 * certificates. */
struct sti_ca {
    struct hsm_key *root_key, *issuing_key, *sp_key;
    struct certs_chain *root, *chain; /* chain: the issuing CA, its root */
};

extern struct sti_ca one, two;

/** Abort, naming `what`, unless this succeeded. */
void must(enum hsm_status status, const char *what);

/** A certificate for 30 days; X509_free() it. @param issuer  NULL: self-signed */
X509 *issue(struct certs_issue_request request, const char *organization, struct hsm_key *key,
            const struct certs_chain *issuer, struct hsm_key *issuer_key);

/** The certificate, which is taken over, and the rest. */
struct certs_chain *chain_of(X509 *cert, const struct certs_chain *rest);

/** An STI-CA with certificates of that name: sti_ca_stop() it. */
void sti_ca_start(struct sti_ca *ca, const char *name);
void sti_ca_stop(struct sti_ca *ca);

/* A fresh certificate for an SPC, then the issuing CA. */
struct certs_chain *enrol(struct sti_ca *ca, const char *spc);

/* Returns the status; *message (may be NULL) receives the answer's "message": free() it. */
int post(const char *authorization, const char *content_type, const char *body, char **message);

/* {"issuer","serial","reason","requester"} of a certificate in the form that others write; decref
 * it. */
json_t *plea_of(const struct certs_chain *chain, int reason);

/* "Bearer KEY" for a user's account. The key is made on first use, because a password would be
 * hashed for each request. */
char *api_key(const char *user);

/* Takes `plea` over. */
int ask(const char *user, json_t *plea);

/** The plea, with the chain. */
json_t *with_chain(json_t *plea, const struct certs_chain *chain);

/* The CRL published now; certs_crl_free() it. */
struct certs_crl *fetch_crl(void);

/** Whether the first certificate is on the CRL published now. */
bool is_on_crl(const struct certs_chain *chain);
uint64_t crl_number(void);

/** The number that a query of the store gives. */
int64_t count(const char *sql);

/* Stop the STI-PA if it runs, and start it on the same store with the `special` settings. */
void begin_with(const struct acme_authority_config *special);

/** begin_with() settings that keep an entry for so many days. */
void begin_again(unsigned entry_days);

/** Of the last request. */
int64_t last_id(void);
enum hsm_status add_ca_account(const char *id, const char *user, const struct certs_chain *chain);

/** The text of the last event, in static storage. */
const char *last_event(void);

/** cmocka group fixtures. */
int authority_revoke_start(void **state);
int authority_revoke_stop(void **state);

#endif
