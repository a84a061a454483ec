/* enroll_group.h - what a service provider opens to enroll, in the world of sp_world.h, and whether
 * its credential signs; for the tests of sks/src/enroll.c and revoke.c. */
#ifndef TEST_ENROLL_GROUP_H
#define TEST_ENROLL_GROUP_H

#include <stddef.h>

#include <sks/enroll.h>
#include <sks/verify.h>

#define DIED 99 /* exit status of an enrollment that died as intended */

/* The parameters of an enrollment; texts are borrowed. */
struct place {
    const char *pa_url, *ca_directory, *cr_url, *dir, *tls_ca, *pa_anchor;
};

/* The open handles of a service provider. */
struct sp {
    struct hsm_token *token;
    struct sks_catalogue *catalogue;
    struct sks_repository *repository;
    struct acme_http_client *http;
    struct certs_chain *pa_anchors;
    struct sks_trust *trust;
    struct hsm_key *account_key;
    struct acme_client *client;
    struct hsm_secret *password;
    struct acme_authority_login login;
    struct sks_enrollment enrollment;
};

/** Open all handles, as a program does. */
void sp_open(struct sp *sp, const struct place *place, const char *spc);
void sp_close(struct sp *sp);

/* argv: PROGRAM "enroll" STEP PA_URL CA_DIRECTORY CR_URL DIR TLS_CA PA_ANCHOR */
int enroll_and_die(char **argv);

/** The parameters in this world, in static storage. */
const struct place *here(void);

/* Exit status of a process that enrolls and dies after `step`. */
int enroll_until(const char *step);

/* The last credential of the catalogue; sks_credential_clear() it. */
struct sks_credential last_credential(size_t *count);

/** The last credential has this state, and there are so many. */
void assert_last_state(enum sks_state wanted, size_t wanted_count);

extern const char *const dest[];

/** Enroll for ECO_SPC and refresh what signs. */
enum hsm_status enroll(struct sp *sp, struct hsm_reason *why);

/* The Identity of a call, signed with the active credential; free() it. NULL: there is none. */
char *sign(struct sp *sp);

#endif
