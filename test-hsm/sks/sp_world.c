/* sp_world.c - an STI-PA, an STI-CA and an STI-CR for a service provider. */
#include "sp_world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <sks/repository.h>

struct sp_world world;

void
path_in(const char *dir, const char *name, char out[512])
{
    snprintf(out, 512, "%s/%s", dir, name);
}

static void
late_handle(void *context, const struct acme_http_request *request,
            struct acme_http_response *response)
{
    struct late *late = context;
    const char *path = acme_http_request_path(request);
    const char *broken = late->broken;

    late->orders += strcmp(path, "/acme/new-order") == 0;
    late->finalized += strstr(path, "/finalize") != NULL;
    if (broken == NULL || strncmp(path, broken, strlen(broken)) != 0) {
        late->handler.handle(late->handler.context, request, response);
        return;
    }
    if (late->retry_after != NULL)
        acme_http_response_header(response, "Retry-After", late->retry_after);
    acme_http_respond(response, late->status, late->content_type, late->body, strlen(late->body));
}

void
break_at(struct late *late, const char *path, int status, const char *body,
         const char *content_type)
{
    late->status = status;
    late->body = body;
    late->content_type = content_type;
    late->broken = path; /* last: the server's threads look at this first */
}

static void
late_start(struct late *late)
{
    eco_server_start(&late->server, &world.eco,
                     (struct acme_http_handler){.handle = late_handle, .context = late});
}

void
start_authority(void)
{
    static const char *const spcs[] = {ECO_SPC, NULL};
    const struct ecosystem *eco = &world.eco;
    struct hsm_secret *password = NULL;
    char path[512];

    late_start(&world.pa);
    eco_must(certs_chain_new(&world.issuing), "chain");
    eco_must(certs_chain_append(world.issuing, eco->ca), "chain");
    eco_must(certs_chain_append(world.issuing, eco->roots), "chain");
    path_in(softhsm_dir(), "pa.db", path);
    eco_must(acme_store_open(path, acme_authority_migrations, &world.pa_store), path);
    eco_must(hsm_secret_new(PASSWORD, strlen(PASSWORD), &password), "password");
    eco_must(acme_authority_account_add(world.pa_store, "1001", "sp", password, spcs, false),
             "account");
    hsm_secret_free(password);
    eco_must(acme_authority_ca_add(world.pa_store, certs_chain_get(eco->roots, 0)), "STI-CA");
    eco_must(hsm_secret_random(16, &world.ca_password), "password");
    eco_must(acme_authority_ca_account_add(world.pa_store, "ca", "sti-ca", world.ca_password,
                                           world.issuing),
             "account of the STI-CA");
    eco_must(acme_authority_new(&(struct acme_authority_config){.base_url = world.pa.server.base,
                                                                .store = world.pa_store,
                                                                .signer_key = eco->pa_signer_key,
                                                                .signer_chain = eco->pa_signer,
                                                                .crl_key = eco->crl_key,
                                                                .crl_chain = eco->crl_signer,
                                                                .token_lifetime_s = 3600,
                                                                .session_lifetime_s = 3600,
                                                                .list_lifetime_s = 86400,
                                                                .crl_lifetime_s = 86400},
                                &world.authority),
             "STI-PA");
    world.pa.handler = acme_authority_handler(world.authority);
}

static void
start_server(void)
{
    const struct ecosystem *eco = &world.eco;
    char path[512];

    late_start(&world.ca);
    world.crl_url = acme_authority_crl_url(world.pa.server.base);
    path_in(softhsm_dir(), "ca.db", path);
    eco_must(acme_store_open(path, acme_server_migrations, &world.ca_store), path);
    snprintf(world.revocation_url, sizeof(world.revocation_url),
             "%s" ACME_AUTHORITY_REVOCATIONS_PATH, world.pa.server.base);
    snprintf(world.authority_prefix, sizeof(world.authority_prefix), "%s/", world.pa.server.base);
    world.authorities[0] = world.authority_prefix;
    eco_must(acme_server_new(&(struct acme_server_config){.base_url = world.ca.server.base,
                                                          .store = world.ca_store,
                                                          .token = eco->token,
                                                          .issuing_key = eco->ca_key,
                                                          .issuing_chain = world.issuing,
                                                          .pa_anchors = eco->pa_anchors,
                                                          .http = eco->http,
                                                          .authorities = world.authorities,
                                                          .policy_oid = CERTS_POLICY_CP_1_4,
                                                          .crl_url = world.crl_url,
                                                          .crl_issuer = certs_cert_subject_name(
                                                              certs_chain_get(eco->crl_signer, 0)),
                                                          .country = "US",
                                                          .valid_days = 90,
                                                          .chains_hosted = true,
                                                          .backdate_s = 300,
                                                          .revocation_url = world.revocation_url,
                                                          .revocation_user = "sti-ca",
                                                          .revocation_password = world.ca_password},
                             &world.server),
             "STI-CA");
    world.ca.handler = acme_server_handler(world.server);
    world.directory = acme_server_directory_url(world.ca.server.base);
}

static void
late_repository_handle(void *context, const struct acme_http_request *request,
                       struct acme_http_response *response)
{
    struct sks_repository *repository = NULL;
    char path[512];
    struct acme_http_handler handler;

    (void)context;
    path_in(world.dir, "cr", path); /* that of the test that runs */
    eco_must(sks_repository_open(path, world.cr.server.base, &repository), path);
    handler = sks_repository_handler(repository);
    handler.handle(handler.context, request, response);
    sks_repository_close(repository);
}

int
sp_world_start(void **state)
{
    (void)state;
    eco_start(&world.eco);
    path_in(softhsm_dir(), "pa-root.pem", world.pa_anchor);
    eco_must(certs_chain_write(world.eco.pa_anchors, world.pa_anchor), world.pa_anchor);
    hsm_token_close(softhsm_token("sp"));
    start_authority();
    start_server();
    late_start(&world.cr);
    world.cr.handler = (struct acme_http_handler){.handle = late_repository_handle};
    return 0;
}

int
sp_world_stop(void **state)
{
    (void)state;
    eco_server_stop(&world.cr.server);
    eco_server_stop(&world.ca.server);
    eco_server_stop(&world.pa.server);
    acme_server_free(world.server);
    acme_authority_free(world.authority);
    acme_store_close(world.ca_store);
    acme_store_close(world.pa_store);
    certs_chain_free(world.issuing);
    hsm_secret_free(world.ca_password);
    free(world.directory);
    free(world.crl_url);
    eco_stop(&world.eco);
    return 0;
}

int
sp_world_begin(void **state)
{
    (void)state;
    snprintf(world.dir, sizeof(world.dir), "%s/sp.XXXXXX", softhsm_dir());
    world.pa.broken = world.ca.broken = world.cr.broken = NULL;
    world.ca.retry_after = NULL;
    world.ca.orders = world.ca.finalized = 0;
    return mkdtemp(world.dir) == NULL ? -1 : 0;
}

void
revoke_the_last(void)
{
    struct acme_rows *rows = NULL;

    eco_must(acme_store_query(world.ca_store, &rows,
                              "SELECT hex(serial) FROM issuance ORDER BY rowid DESC LIMIT 1", ""),
             "issuance");
    if (!acme_rows_next(rows))
        abort();
    eco_must(acme_server_revoke(world.ca_store, acme_rows_text(rows, 0), 4, time(NULL)), "revoke");
    acme_rows_free(rows);
    acme_server_forward(world.server);
}
