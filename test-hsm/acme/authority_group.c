/* authority_group.c - an STI-PA that all tests of a program share. */
#include "authority_group.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "postgres.h"
#include "softhsm.h"

struct pa_fixture pa;
struct acme_store *store;
struct acme_authority *authority;

static void
forward(void *context, const struct acme_http_request *request, struct acme_http_response *response)
{
    struct acme_http_handler handler = acme_authority_handler(authority);

    (void)context;
    handler.handle(handler.context, request, response);
}

static bool
forward_is_slow(void *context, enum acme_http_method method, const char *path)
{
    struct acme_http_handler handler = acme_authority_handler(authority);

    (void)context;
    return handler.is_slow(handler.context, method, path);
}

const char *
authority_group_store_path(void)
{
    static char path[4200];

    snprintf(path, sizeof(path), "%s/sti-pa.db", softhsm_dir());
    return postgres_or_file(path);
}

void
authority_group_open(void)
{
    pa_fixture_start(&pa,
                     (struct acme_http_handler){.handle = forward, .is_slow = forward_is_slow});
    assert_int_equal(
        acme_store_open(authority_group_store_path(), acme_authority_migrations, &store), HSM_OK);
}

struct acme_authority_config
authority_group_config(time_t (*now)(void))
{
    return (struct acme_authority_config){
        .base_url = pa.base_url,
        .store = store,
        .signer_key = pa.signer_key,
        .signer_chain = pa.signer_chain,
        .crl_key = pa.crl_key,
        .crl_chain = pa.crl_chain,
        .token_lifetime_s = 7200,
        .session_lifetime_s = 600,
        .list_lifetime_s = 86400,
        .crl_lifetime_s = 43200,
        .now = now,
    };
}

enum hsm_status
authority_group_account(const char *id, const char *user, const char *password,
                        const char *const *spcs, bool ca)
{
    struct hsm_secret *secret = NULL;
    enum hsm_status st;

    assert_int_equal(hsm_secret_new(password, strlen(password), &secret), HSM_OK);
    st = acme_authority_account_add(store, id, user, secret, spcs, ca);
    hsm_secret_free(secret);
    return st;
}

/* The server first: it may still be answering a request. */
int
authority_group_stop(void **state)
{
    (void)state;
    pa_fixture_stop(&pa);
    acme_authority_free(authority);
    acme_store_close(store);
    return 0;
}
