/*
 * test_soak.c - an hour of a STI-AS and STI-VS, compressed: calls are signed and verified at a
 * steady rate while certificates rotate, one of two tokens goes and comes back, worker processes
 * are killed, the repository stalls, and CRL and list change.
 *
 * 12 seconds of it, or $STI_SOAK_S.
 */
#define _GNU_SOURCE /* asprintf */
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <acme/ca_list.h>
#include <hsm/supervise.h>
#include <sks/service.h>
#include <sks/x5u.h>

#include "ecosystem.h"
#include "fault_client.h"
#include "soak_caller.h"

#define WORKERS   2 /* number 1 is killed, number 0 shows what memory does */
#define CALLERS   3
#define CERTS_MAX 8192
#define CRL_S     1 /* the CRL is asked for so often, */
#define GRACE_S   6 /* and after so long a revocation must have been heard of */
#define STALL_MS  1500 /* of the repository: shorter than a fetch may take */
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#define GROWTH_MAX LONG_MAX /* what is freed is kept in quarantine */
#else
#define GROWTH_MAX 24576 /* KiB that a worker may grow once it is warm: verdicts and chains */
#endif

#define URI_ONE "pkcs11:token=all"
#define URI_TWO "pkcs11:token=two"

/* What the processes tell each other. */
static struct shared {
    atomic_bool is_made; /* tokens, PA and repository are there */
    atomic_bool is_away; /* the second token */
    _Atomic pid_t pids[WORKERS]; /* that serve; 0: not yet */
    atomic_ulong failed; /* workers that ended, and nobody had asked them to */
    unsigned port; /* of PA and repository */
    char dir[256], socket[300], tls_ca[4096], pa_anchors[512];
} * shared;

/* What PA and repository say. */
static struct {
    struct ecosystem eco;
    struct hsm_token *token_two;
    struct hsm_key *key_two;
    struct eco_server server;
    pthread_mutex_t lock; /* over what follows */
    char *list;
    uint8_t *crl;
    size_t crl_len;
    char *signer_pem, *crl_signer_pem;
    char *certs[CERTS_MAX];
    atomic_size_t cert_count;
    atomic_bool is_stalled;
    uint64_t number;
    struct sks_catalogue *catalogue;
} world = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- a worker process ---- */

struct worker {
    struct hsm_worker *self;
    struct sks_service *service;
    struct sks_trust *trust;
    struct sks_x5u_cache *x5u;
    atomic_bool is_ending;
};

static enum hsm_status
get_chain(void *context, const char *x5u, time_t now, struct certs_chain **out,
          struct hsm_reason *why)
{
    return sks_x5u_get(context, x5u, now, out, why);
}

static enum hsm_status
ask_for_chain(void *context, const char *x5u, time_t now, const struct sks_call *call,
              struct certs_chain **out, struct hsm_reason *why)
{
    return sks_x5u_ask(context, x5u, now, call->landed, call->landed_context, out, why);
}

/* What sti-sks does every second, and the fate of the second token. */
static void *
tick(void *context)
{
    struct worker *worker = context;
    bool was_away = false;

    while (!worker->is_ending) {
        bool is_away = shared->is_away;

        if (is_away != was_away)
            fault(is_away ? "remove token two" : "return token two");
        was_away = is_away;
        if (sks_trust_refresh(worker->trust, time(NULL)) != HSM_OK)
            hsm_log(HSM_LOG_WARNING, "list or CRL could not be refreshed");
        sks_x5u_refresh(worker->x5u, time(NULL));
        sks_service_refresh(worker->service);
        if (sks_trust_is_ready(worker->trust, time(NULL)))
            shared->pids[hsm_worker_index(worker->self)] = getpid();
        usleep(250000);
    }
    return NULL;
}

static struct sks_trust *
open_trust(struct acme_http_client *http)
{
    static const struct certs_path_policy policy = {.any_distribution_point = true};
    struct certs_chain *anchors = NULL;
    struct sks_trust *trust = NULL;
    char list[64];
    char crl[64];
    char dir[300];

    snprintf(list, sizeof(list), "https://127.0.0.1:%u/list", shared->port);
    snprintf(crl, sizeof(crl), "https://127.0.0.1:%u/crl", shared->port);
    snprintf(dir, sizeof(dir), "%s/trust", shared->dir);
    eco_must(certs_chain_read(shared->pa_anchors, &anchors), "anchors");
    eco_must(sks_trust_new(&(struct sks_trust_config){.http = http,
                                                      .pa_anchors = anchors,
                                                      .ca_list_url = list,
                                                      .crl_url = crl,
                                                      .dir = dir,
                                                      .list_every_s = CRL_S,
                                                      .crl_every_s = CRL_S,
                                                      .policy = &policy},
                           &trust),
             "trust");
    certs_chain_free(anchors);
    return trust;
}

static struct sks_tokens *
open_tokens(void)
{
    struct hsm_secret *pin = NULL;
    struct sks_tokens *tokens = NULL;
    struct sks_token_config configs[2];

    eco_must(hsm_secret_new(SOFTHSM_USER_PIN, strlen(SOFTHSM_USER_PIN), &pin), "PIN");
    for (size_t i = 0; i < 2; i++)
        configs[i] = (struct sks_token_config){
            .uri = i == 0 ? URI_ONE : URI_TWO, .module = softhsm_module(), .pin = pin};
    eco_must(sks_tokens_open(configs, 2, &tokens), "tokens");
    return tokens; /* the PIN outlives them: the process ends with them */
}

static enum hsm_status
serve(struct worker *worker, const struct acme_http_listener *listener)
{
    char address[320];
    struct acme_http_loop *loop = NULL;
    pthread_t ticker;
    enum hsm_status st;

    snprintf(address, sizeof(address), "unix:%s", shared->socket);
    eco_must(acme_http_loop_new(4, &loop), "loop");
    acme_http_loop_supervise(loop, worker->self);
    eco_must(acme_http_loop_listen(loop,
                                   &(struct acme_http_server_config){
                                       .address = address,
                                       .listener = listener,
                                       .handler = sks_service_handler(worker->service)}),
             "listen");
    if (pthread_create(&ticker, NULL, tick, worker) != 0)
        abort();
    st = acme_http_loop_run(loop);
    worker->is_ending = true;
    pthread_join(ticker, NULL);
    acme_http_loop_free(loop);
    return st;
}

static enum hsm_status
work(struct hsm_worker *self, void *listener)
{
    const unsigned ports[] = {shared->port, 0};
    struct worker worker = {.self = self};
    struct acme_http_client *http = NULL;
    struct sks_verifier *verifier = NULL;
    struct sks_catalogue *catalogue = NULL;
    struct sks_tokens *tokens;
    char path[300];
    enum hsm_status st;

    shared->pids[hsm_worker_index(self)] = 0;
    fault_open();
    tokens = open_tokens();
    snprintf(path, sizeof(path), "%s/catalogue.db", shared->dir);
    eco_must(sks_catalogue_open(path, &catalogue), "catalogue");
    eco_must(
        acme_http_client_new(&(struct acme_http_client_config){.tls_ca = shared->tls_ca}, &http),
        "HTTP");
    worker.trust = open_trust(http);
    eco_must(sks_x5u_cache_new(
                 &(struct sks_x5u_config){
                     .http = http, .ports = ports, .private_addresses = true, .chains_max = 200},
                 &worker.x5u),
             "x5u");
    eco_must(sks_verifier_new(&(struct sks_verifier_config){.trust = worker.trust,
                                                            .chain = get_chain,
                                                            .ask = ask_for_chain,
                                                            .context = worker.x5u},
                              &verifier),
             "verifier");
    eco_must(sks_service_new(&(struct sks_service_config){.catalogue = catalogue,
                                                          .tokens = tokens,
                                                          .spc = ECO_SPC,
                                                          .verifier = verifier,
                                                          .trust = worker.trust},
                             &worker.service),
             "service");
    st = serve(&worker, listener);
    sks_service_free(worker.service);
    sks_verifier_free(verifier);
    sks_x5u_cache_free(worker.x5u);
    sks_trust_free(worker.trust);
    acme_http_client_free(http);
    sks_catalogue_close(catalogue);
    sks_tokens_close(tokens);
    return st;
}

static void
note_failures(void *context, const struct hsm_worker_event *event)
{
    (void)context;
    shared->failed = event->counts.failed;
}

/* The supervisor: before anything here loads a module or starts a thread. */
static pid_t
start_workers(struct acme_http_listener *listener)
{
    pid_t pid = fork();

    if (pid != 0)
        return pid;
    while (!shared->is_made)
        usleep(10000);
    _exit(hsm_supervise(&(struct hsm_supervise_config){.workers = WORKERS,
                                                       .run = work,
                                                       .context = listener,
                                                       .on_event = note_failures,
                                                       .restart_min_ms = 100}) == HSM_OK
              ? 0
              : 1);
}

/* ---- PA and repository ---- */

static void
respond_cert(const char *path, struct acme_http_response *response)
{
    size_t i = strtoul(path + strlen("/cert/"), NULL, 10);

    for (int ms = 0; ms < STALL_MS && world.is_stalled; ms += 10)
        usleep(10000);
    if (i < world.cert_count)
        acme_http_respond(response, 200, "application/pem-certificate-chain", world.certs[i],
                          strlen(world.certs[i]));
    else
        acme_http_respond(response, 404, "text/plain", "", 0);
}

static void
handle(void *context, const struct acme_http_request *request, struct acme_http_response *response)
{
    static const char pem[] = "application/pem-certificate-chain";
    const char *path = acme_http_request_path(request);

    (void)context;
    if (strncmp(path, "/cert/", 6) == 0) {
        respond_cert(path, response);
        return;
    }
    pthread_mutex_lock(&world.lock);
    if (strcmp(path, "/list") == 0)
        acme_http_respond_json(response, 200, "application/json",
                               json_pack("{s:s}", "caList", world.list));
    else if (strcmp(path, "/crl") == 0)
        acme_http_respond(response, 200, "application/pkix-crl", world.crl, world.crl_len);
    else if (strcmp(path, "/signer.pem") == 0)
        acme_http_respond(response, 200, pem, world.signer_pem, strlen(world.signer_pem));
    else
        acme_http_respond(response, 200, pem, world.crl_signer_pem, strlen(world.crl_signer_pem));
    pthread_mutex_unlock(&world.lock);
}

/* The next list, and the next CRL with that certificate on it or none. */
static void
publish(const X509 *revoked)
{
    char x5u[128];
    char crl_url[128];
    char crl_signer[128];
    struct acme_ca_list_request request = {.sequence = ++world.number,
                                           .exp = time(NULL) + ECO_DAY,
                                           .x5u = x5u,
                                           .roots = world.eco.roots};
    char *list = NULL;
    uint8_t *crl;
    size_t len;

    snprintf(x5u, sizeof(x5u), "%s/signer.pem", world.server.base);
    snprintf(crl_url, sizeof(crl_url), "%s/crl", world.server.base);
    snprintf(crl_signer, sizeof(crl_signer), "%s/crl-signer.pem", world.server.base);
    eco_must(acme_ca_list_new(&request, world.eco.pa_signer_key, &list), "list");
    crl = eco_crl(&world.eco, world.number, time(NULL) - 1, 1, crl_url, crl_signer, revoked, &len);
    pthread_mutex_lock(&world.lock);
    free(world.list);
    free(world.crl);
    world.list = list;
    world.crl = crl;
    world.crl_len = len;
    pthread_mutex_unlock(&world.lock);
}

/* Serve a chain at a URL that never was before. */
static void
serve_chain(const struct certs_chain *chain, char x5u[128])
{
    size_t i = world.cert_count;

    if (i == CERTS_MAX)
        abort();
    eco_must(certs_chain_pem(chain, &world.certs[i]), "PEM");
    snprintf(x5u, 128, "%s/cert/%zu.pem", world.server.base, i);
    world.cert_count = i + 1;
}

/* A new certificate takes over on one of the tokens. */
static void
rotate(bool on_two)
{
    struct hsm_key *key = on_two ? world.key_two : world.eco.sp_key;
    struct certs_chain *chain =
        eco_sp_chain(&world.eco, ECO_SPC, hsm_key_public(key), time(NULL) - 60, time(NULL) + 7200);
    char x5u[128];
    char *pem = NULL;
    struct sks_credential credential = {
        .state = SKS_PUBLISHED,
        .spc = (char *)(uintptr_t)ECO_SPC,
        .token_uri = (char *)(uintptr_t)(on_two ? URI_TWO : URI_ONE),
        .key_uri = (char *)(uintptr_t)(on_two ? "pkcs11:object=sp-two" : "pkcs11:object=sp"),
        .x5u = x5u,
        .not_before = time(NULL) - 60,
        .not_after = time(NULL) + 7200,
    };

    serve_chain(chain, x5u);
    eco_must(certs_chain_pem(chain, &pem), "PEM");
    credential.chain_pem = pem;
    eco_must(sks_catalogue_put(world.catalogue, &credential), "put");
    eco_must(sks_catalogue_activate(world.catalogue, credential.id), "activate");
    free(pem);
    certs_chain_free(chain);
}

static void
make_world(void)
{
    struct ecosystem *eco = &world.eco;
    char path[300];

    eco->now = time(NULL);
    eco->token = softhsm_token("all");
    world.token_two = softhsm_token("two");
    eco_pa_new(eco);
    eco_ca_new(eco);
    eco->sp_key = eco_key(eco, "sp");
    eco_must(hsm_key_generate(world.token_two, "sp-two", &world.key_two), "sp-two");
    eco->sp = eco_sp_chain(eco, ECO_SPC, hsm_key_public(eco->sp_key), 0, 0);
    eco_tls_new(eco);
    eco_must(certs_chain_pem(eco->pa_signer, &world.signer_pem), "signer");
    eco_must(certs_chain_pem(eco->crl_signer, &world.crl_signer_pem), "signer");
    eco_server_start(&world.server, eco, (struct acme_http_handler){.handle = handle});
    publish(NULL);
    snprintf(path, sizeof(path), "%s/catalogue.db", shared->dir);
    eco_must(sks_catalogue_open(path, &world.catalogue), "catalogue");
    rotate(false);
    rotate(true);
    snprintf(shared->pa_anchors, sizeof(shared->pa_anchors), "%s/pa.pem", shared->dir);
    eco_must(certs_chain_write(eco->pa_anchors, shared->pa_anchors), "anchors");
    snprintf(shared->tls_ca, sizeof(shared->tls_ca), "%s", eco->tls_ca);
    shared->port = world.server.port;
    shared->is_made = true;
}

static void
end_world(void)
{
    eco_server_stop(&world.server);
    sks_catalogue_close(world.catalogue);
    for (size_t i = 0; i < world.cert_count; i++)
        free(world.certs[i]);
    free(world.list);
    free(world.crl);
    free(world.signer_pem);
    free(world.crl_signer_pem);
    hsm_key_free(world.key_two);
    hsm_token_close(world.token_two);
    eco_stop(&world.eco);
}

/* ---- calls ---- */

static struct soak_tally tally;
static atomic_bool is_over;

static void *
call_all_the_time(void *context)
{
    unsigned seed = (unsigned)(uintptr_t)context;
    char identity[SOAK_IDENTITY_MAX];

    while (!is_over) {
        char orig[16];
        time_t now = time(NULL);

        snprintf(orig, sizeof(orig), "1215555%04d", rand_r(&seed) % 10000);
        if (!soak_sign(shared->socket, &tally, orig, now, identity))
            continue;
        soak_verify(shared->socket, &tally, orig, now, identity, "TN-Validation-Passed");
        if (tally.calls++ % 10 == 0) {
            char *signature = strchr(strchr(identity, '.') + 1, '.') + 1;

            signature[10] = signature[10] == 'A' ? 'B' : 'A';
            soak_verify(shared->socket, &tally, orig, now, identity, "TN-Validation-Failed");
        }
        usleep(10000);
    }
    return NULL;
}

/* One whose certificate is revoked now and then: until then its calls pass, and soon after they
 * never do again. */
static void
follow_one_to_its_revocation(void)
{
    struct certs_chain *chain = eco_sp_chain(&world.eco, "9999", hsm_key_public(world.eco.sp_key),
                                             time(NULL) - 60, time(NULL) + 7200);
    char x5u[128];
    char *identity;
    time_t heard_at;

    world.eco.now = time(NULL);
    serve_chain(chain, x5u);
    identity = eco_identity(&world.eco, "shaken", x5u, "12155550000", ECO_SHAKEN);
    for (int i = 0; i < 5; i++)
        soak_verify(shared->socket, &tally, "12155550000", world.eco.now, identity,
                    "TN-Validation-Passed");
    publish(certs_chain_get(chain, 0));
    for (heard_at = time(NULL) + GRACE_S; time(NULL) < heard_at && !is_over;)
        usleep(50000);
    for (int i = 0; i < 5; i++)
        soak_verify(shared->socket, &tally, "12155550000", world.eco.now, identity,
                    "TN-Validation-Failed");
    free(identity);
    certs_chain_free(chain);
}

/* ---- what happens meanwhile ---- */

static unsigned kills;

/* Only one that serves: SoftHSM rewrites the token's file at each login, and whoever is killed in
 * the middle of that destroys the token. */
static void
kill_a_worker(void)
{
    pid_t pid = atomic_exchange(&shared->pids[1], 0);

    if (pid == 0)
        return;
    kill(pid, SIGKILL);
    kills++;
    usleep(500000);
}

static void
stall_the_repository(void)
{
    world.is_stalled = true;
    rotate(false); /* its chain is asked for, and comes late */
    usleep(STALL_MS * 1000);
    world.is_stalled = false;
}

static void
take_a_token_away(void)
{
    shared->is_away = true;
    usleep(1500000);
    shared->is_away = false;
    usleep(1500000);
}

static void
let_things_happen(time_t until)
{
    void (*const events[])(void) = {kill_a_worker, stall_the_repository, take_a_token_away,
                                    follow_one_to_its_revocation};

    static unsigned i; /* goes on where it was */

    for (; time(NULL) < until; i++) {
        rotate(i % 2 == 1);
        usleep(400000);
        events[i % (sizeof(events) / sizeof(events[0]))]();
    }
}

static long
memory_kib(pid_t pid)
{
    char path[64];
    long pages = 0;
    FILE *from;

    snprintf(path, sizeof(path), "/proc/%d/statm", (int)pid);
    from = fopen(path, "r");
    if (from == NULL || fscanf(from, "%*s %ld", &pages) != 1)
        pages = -1;
    if (from != NULL)
        fclose(from);
    return pages < 0 ? -1 : pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static void
wait_for_workers(void)
{
    for (int i = 0; i < 3000; i++) {
        if (shared->pids[0] != 0 && shared->pids[1] != 0)
            return;
        usleep(20000);
    }
    fail_msg("the workers do not serve");
}

static time_t
duration(void)
{
    const char *text = getenv("STI_SOAK_S");

    return text == NULL ? 12 : (time_t)strtol(text, NULL, 10);
}

static void
nothing_is_lost_and_nothing_is_wrong(void **state)
{
    struct acme_http_listener *listener = *state;
    pid_t supervisor = start_workers(listener);
    pthread_t callers[CALLERS];
    time_t seconds = duration();
    long warm;
    long end;
    int status = -1;

    make_world();
    wait_for_workers();
    for (uintptr_t i = 0; i < CALLERS; i++)
        assert_int_equal(pthread_create(&callers[i], NULL, call_all_the_time, (void *)(i + 1)), 0);
    let_things_happen(time(NULL) + seconds / 3);
    warm = memory_kib(shared->pids[0]);
    let_things_happen(time(NULL) + seconds - seconds / 3);
    end = memory_kib(shared->pids[0]);
    is_over = true;
    for (size_t i = 0; i < CALLERS; i++)
        pthread_join(callers[i], NULL);
    kill(supervisor, SIGTERM);
    assert_int_equal(waitpid(supervisor, &status, 0), supervisor);
    end_world();
    print_message("%u calls, %u kills, %u connections broken, %u times 503; %zu certificates, "
                  "%llu CRLs; %ld KiB, then %ld\n",
                  tally.calls, kills, tally.broken, tally.unavailable, (size_t)world.cert_count,
                  (unsigned long long)world.number, warm, end);
    assert_int_equal(tally.wrong, 0);
    assert_int_equal(tally.without_signature, 0);
    assert_int_equal(tally.lost, 0);
    assert_int_equal(tally.unavailable, 0);
    assert_true(tally.broken <= kills * (CALLERS + 1)); /* in flight on the worker */
    assert_true(kills > 0 && tally.calls >= 20);
    assert_int_equal(shared->failed, kills); /* nothing but we have ended a worker */
    assert_true(warm > 0 && end > 0 && end - warm < GROWTH_MAX);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static int
start(void **state)
{
    struct acme_http_listener *listener = NULL;
    char address[320];

    softhsm_start();
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(shared, MAP_FAILED);
    snprintf(shared->dir, sizeof(shared->dir), "%s", softhsm_dir());
    snprintf(shared->socket, sizeof(shared->socket), "%s/socket", softhsm_dir());
    snprintf(address, sizeof(address), "unix:%s", shared->socket);
    assert_int_equal(acme_http_listener_open(address, &listener), HSM_OK);
    *state = listener;
    return 0;
}

static int
stop(void **state)
{
    acme_http_listener_close(*state);
    return munmap(shared, sizeof(*shared));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_lost_and_nothing_is_wrong),
    };

    hsm_log_open(&(struct hsm_log_config){.program = "soak", .level = HSM_LOG_ERROR});
    return cmocka_run_group_tests(tests, start, stop);
}
