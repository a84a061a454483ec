/*
 * path_fixture.h - certificates by name, and the chains that are made of them: what test_path.c
 * judges, and test_path_agreement.c has judged by others.
 */
#ifndef TEST_PATH_FIXTURE_H
#define TEST_PATH_FIXTURE_H

#include <certs/path.h>

#include "peer_cert.h"

#define PATH_CRL_URL "https://sti-pa.example/download/v1/crl"

/* Does another implementation come to the verdict that is wanted of ours? */
enum path_judge {
    PATH_SAME,
    PATH_DIFFERS, /* it does not, and docs/PATHS.md says why */
    PATH_NOT_ASKED /* it cannot be asked the same question */
};

/* Names are separated by commas. */
struct path_case {
    const char *what;
    const char *served;
    const char *anchors; /* NULL: "root" */
    const char *store; /* the local one; NULL: none */
    const char *crl; /* those that it lists; "": nobody; NULL: no CRL */
    struct certs_path_policy policy;
    time_t now; /* 0: DATA_NOW */
    const char *reason; /* part of it; NULL: the path is good */
    const char *path; /* of a good one; NULL: not compared */
    enum path_judge openssl, gnutls;
};

extern const struct path_case path_cases[];
extern const size_t path_case_count;

/** A certificate of the table in path_fixture.c; borrowed. Aborts if there is none. */
X509 *path_cert(const char *name);

/** Its key; borrowed. */
EVP_PKEY *path_key(const char *name);

/** certs_chain_free() it. */
struct certs_chain *path_chain(const char *names);

/** A CRL at PATH_CRL_URL, issued by "crl signer", that nobody has verified; certs_crl_free() it. */
struct certs_crl *path_crl(const char *names);

void path_fixture_free(void);

#endif
