/*
 * path_fixture.h - certificates by name, and chains of them: test_path.c judges them, and
 * test_path_agreement.c has other implementations judge them.
 */
#ifndef TEST_PATH_FIXTURE_H
#define TEST_PATH_FIXTURE_H

#include <certs/path.h>

#include "peer_cert.h"

#define PATH_CRL_URL "https://sti-pa.example/download/v1/crl"

/* Whether another implementation reaches the verdict that ours must reach. */
enum path_judge {
    PATH_SAME,
    PATH_DIFFERS, /* it does not; docs/PATHS.md explains why */
    PATH_NOT_ASKED /* it has no equivalent of the case */
};

/* Names are separated by commas. */
struct path_case {
    const char *what;
    const char *served;
    const char *anchors; /* NULL: "root" */
    const char *store; /* the local store of intermediates; NULL: none */
    const char *crl; /* the certificates that it lists; "": an empty CRL; NULL: no CRL */
    struct certs_path_policy policy;
    time_t now; /* 0: DATA_NOW */
    const char *reason; /* part of the refusal's text; NULL: the path is valid */
    const char *path; /* the expected valid path; NULL: not compared */
    enum path_judge openssl, gnutls;
};

/* In path_cases.c. */
extern const struct path_case path_cases[];
extern const size_t path_case_count;

/** A certificate of the table in path_fixture.c; borrowed. Aborts if it is not there. */
X509 *path_cert(const char *name);

/** The key of a certificate of the table; borrowed. */
EVP_PKEY *path_key(const char *name);

/** certs_chain_free() it. */
struct certs_chain *path_chain(const char *names);

/** A CRL at PATH_CRL_URL, issued by "crl signer", not verified; certs_crl_free() it. */
struct certs_crl *path_crl(const char *names);

void path_fixture_free(void);

#endif
