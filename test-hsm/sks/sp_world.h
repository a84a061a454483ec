/*
 * sp_world.h - the environment of a service provider: a real STI-PA, STI-CA and STI-CR on the
 * loopback, and its token "sp".
 */
#ifndef TEST_SP_WORLD_H
#define TEST_SP_WORLD_H

#include <stdatomic.h>

#include <acme/authority.h>
#include <acme/server.h>
#include <acme/store.h>

#include "ecosystem.h"

#define TOKEN_URI "pkcs11:token=sp"
#define PASSWORD  "correct horse battery staple"

/* A server whose handler is known only once its port is. */
struct late {
    struct eco_server server;
    struct acme_http_handler handler;
    const char *_Atomic broken; /* requests whose path begins so are answered with the next two */
    int status;
    const char *body;
    const char *content_type;
    const char *retry_after; /* with that answer; NULL: none */
    atomic_int orders, finalized;
};

struct sp_world {
    struct ecosystem eco;
    struct certs_chain *issuing; /* the intermediate, its root */
    struct late pa, ca, cr;
    struct acme_store *pa_store, *ca_store;
    struct acme_authority *authority;
    struct acme_server *server;
    char *directory, *crl_url;
    char authority_prefix[128], revocation_url[128];
    struct hsm_secret *ca_password; /* of the STI-CA's account at the STI-PA */
    const char *authorities[2];
    char pa_anchor[512]; /* PEM file */
    char dir[256]; /* the service provider's; one per test */
};

extern struct sp_world world;

/** DIR/NAME. */
void path_in(const char *dir, const char *name, char out[512]);

/* From now on, until `broken` is NULL again. */
void break_at(struct late *late, const char *path, int status, const char *body,
              const char *content_type);
void start_authority(void);

/** cmocka group fixtures. */
int sp_world_start(void **state);
int sp_world_stop(void **state);

/* Each test starts with a new service provider. */
int sp_world_begin(void **state);

/* The STI-CA, and with it the STI-PA, revokes the certificate issued last. */
void revoke_the_last(void);

#endif
