/* ca_program.c - the program sti-ca as a daemon, and clients that retry. */
#define _GNU_SOURCE /* asprintf */
#include "ca_program.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <curl/curl.h>

#include <acme/provision.h>
#include <hsm/defer.h>
#include <hsm/process.h>

#include "data.h"
#include "peer.h"
#include "port.h"
#include "softhsm.h"

#define CONFIG_FILE  "sti-ca.conf"
#define PATH_SIZE    4300
#define READY_TRIES  1200 /* of 25 ms each */
#define ANSWER_TRIES 600 /* of 50 ms each */
#define LOG_MAX      (64 << 20) /* octets */
#define LOG_SHOWN    4000 /* octets printed when a test gives up */

extern char **environ;

static void
must(bool good, const char *what)
{
    if (good)
        return;
    fprintf(stderr, "%s\n", what);
    abort();
}

static void
pause_ms(long ms)
{
    const struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

    nanosleep(&pause, NULL);
}

/* ---- the program ---- */

static void
handle(void *context, const struct acme_http_request *request, struct acme_http_response *response)
{
    struct ca_fixture *ca = context;

    if (ca->intercept == NULL || !ca->intercept(ca, request, response))
        ca_fixture_answer_pa(ca, acme_http_request_path(request), response);
}

static const char *
in_dir(const struct ca_program *program, const char *name)
{
    static _Thread_local char paths[4][PATH_SIZE];
    static _Thread_local size_t next;
    char *path = paths[next++ % 4];

    snprintf(path, PATH_SIZE, "%s/%s", program->dir, name);
    return path;
}

static pid_t
spawn(const struct ca_program *program, const char *const *arguments)
{
    posix_spawn_file_actions_t actions;
    pid_t pid;

    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, in_dir(program, "log"),
                                     O_WRONLY | O_CREAT | O_APPEND, 0600);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    must(posix_spawn(&pid, program_path("sti-ca"), &actions, NULL, (char **)arguments, environ) ==
             0,
         "sti-ca cannot be started");
    posix_spawn_file_actions_destroy(&actions);
    return pid;
}

static char *
text_of(const char *path, size_t max)
{
    uint8_t *octets = NULL;
    size_t len;

    return hsm_file_read(path, max, &octets, &len) == HSM_OK ? (char *)octets : NULL;
}

static void
initialise(struct ca_program *program, const char *address)
{
    struct ca_fixture *ca = &program->ca;
    char anchor[PATH_SIZE], crl_issuer[PATH_SIZE], tls[PATH_SIZE], pin[PATH_SIZE + 5], pa[160];
    const char *const arguments[] = {"sti-ca",
                                     "init",
                                     "--dir",
                                     program->dir,
                                     "--module",
                                     softhsm_module(),
                                     "--token",
                                     "pkcs11:token=sti-ca",
                                     "--pin-source",
                                     pin,
                                     "--organization",
                                     "Example STI-CA",
                                     "--address",
                                     address,
                                     "--base-url",
                                     ca->url,
                                     "--pa-anchor",
                                     anchor,
                                     "--authority",
                                     pa,
                                     "--crl-url",
                                     "https://pa.example/crl",
                                     "--crl-issuer-cert",
                                     crl_issuer,
                                     "--tls-ca",
                                     tls,
                                     NULL};
    pid_t pid;
    int status = -1;

    snprintf(anchor, sizeof(anchor), "%s/pa-root.pem", softhsm_dir());
    snprintf(crl_issuer, sizeof(crl_issuer), "%s/pa-crl.pem", softhsm_dir());
    snprintf(tls, sizeof(tls), "%s/%s", softhsm_dir(), ACME_PROVISION_TLS_ROOT_FILE);
    snprintf(pin, sizeof(pin), "file:%s", in_dir(program, "pin"));
    snprintf(pa, sizeof(pa), "%s/pa/", ca->pa.base_url);
    must(hsm_file_write(in_dir(program, "pin"), SOFTHSM_USER_PIN "\n", strlen(SOFTHSM_USER_PIN) + 1,
                        0600) == HSM_OK,
         "PIN file");
    pid = spawn(program, arguments);
    must(waitpid(pid, &status, 0) == pid && status == 0, "sti-ca init");
}

static void
configure(const struct ca_program *program, const char *more)
{
    FILE *file = fopen(in_dir(program, CONFIG_FILE), "a");

    must(file != NULL, CONFIG_FILE);
    fprintf(file,
            "[server]\nworkers = %u\n[limits]\naccounts-per-address = 0\norders-per-address = 0\n"
            "nonces-per-address = 0\nrequests-per-account = 0\n"
            "renewal-info-per-address = 0\n%s",
            program->workers, more);
    must(fclose(file) == 0, CONFIG_FILE);
}

void
ca_program_configure(const struct ca_program *program, const char *file, const char *address,
                     const char *store)
{
    char *text = text_of(in_dir(program, CONFIG_FILE), LOG_MAX), *rest = NULL;
    FILE *to = fopen(in_dir(program, file), "w");

    must(text != NULL && to != NULL, file);
    for (char *line = strtok_r(text, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        if (strncmp(line, "address =", 9) == 0)
            fprintf(to, "address = %s\n", address);
        else if (strncmp(line, "store =", 7) == 0)
            fprintf(to, "store = %s\n", store);
        else
            fprintf(to, "%s\n", line);
    }
    must(fclose(to) == 0, file);
    free(text);
}

void
ca_program_start(struct ca_program *program, unsigned workers, const char *more)
{
    struct ca_fixture *ca = &program->ca;
    unsigned port = free_port();
    char address[32];

    curl_global_init(CURL_GLOBAL_DEFAULT);
    *program = (struct ca_program){.workers = workers, .config = CONFIG_FILE};
    pa_fixture_start(&ca->pa, (struct acme_http_handler){.handle = handle, .context = ca});
    hsm_token_close(softhsm_token("sti-ca"));
    snprintf(program->dir, sizeof(program->dir), "%s/ca", softhsm_dir());
    must(mkdir(program->dir, 0700) == 0, program->dir);
    snprintf(ca->url, sizeof(ca->url), "https://127.0.0.1:%u", port);
    snprintf(ca->tls_ca, sizeof(ca->tls_ca), "%.4100s/%s", program->dir,
             ACME_PROVISION_TLS_ROOT_FILE);
    snprintf(ca->store_path, sizeof(ca->store_path), "%.4100s/sti-ca.db", program->dir);
    snprintf(address, sizeof(address), "127.0.0.1:%u", port);
    initialise(program, address);
    configure(program, more);
    ca_program_spawn(program);
}

void
ca_program_spawn(struct ca_program *program)
{
    const char *const arguments[] = {"sti-ca", "serve", "--config",
                                     in_dir(program, program->config), NULL};

    program->pid = spawn(program, arguments);
    ca_program_wait_ready(program);
}

/* The workers that have logged that they are ready and are alive. */
static unsigned
ready_workers(const struct ca_program *program, pid_t pids[CA_PROGRAM_WORKERS_MAX])
{
    char path[64], wanted[64], *children, *log, *rest = NULL;
    unsigned count = 0;

    snprintf(path, sizeof(path), "/proc/%d/task/%d/children", program->pid, program->pid);
    children = text_of(path, 4096);
    log = text_of(in_dir(program, "log"), LOG_MAX);
    for (char *word = children != NULL ? strtok_r(children, " \n", &rest) : NULL;
         word != NULL && log != NULL && count < CA_PROGRAM_WORKERS_MAX;
         word = strtok_r(NULL, " \n", &rest)) {
        snprintf(wanted, sizeof(wanted), "(pid %s): ready", word);
        if (strstr(log, wanted) != NULL)
            pids[count++] = (pid_t)strtol(word, NULL, 10);
    }
    free(children);
    free(log);
    return count;
}

/* Print the end of the log and abort. */
static void
give_up(const struct ca_program *program, const char *what)
{
    char *log = text_of(in_dir(program, "log"), LOG_MAX);
    size_t len = log != NULL ? strlen(log) : 0;

    fprintf(stderr, "%s\n", log != NULL ? log + (len > LOG_SHOWN ? len - LOG_SHOWN : 0) : "");
    free(log);
    must(false, what);
}

void
ca_program_wait_ready(struct ca_program *program)
{
    pid_t pids[CA_PROGRAM_WORKERS_MAX];

    for (int i = 0; i < READY_TRIES; i++) {
        if (ready_workers(program, pids) == program->workers)
            return;
        if (waitpid(program->pid, NULL, WNOHANG) != 0)
            give_up(program, "sti-ca has ended");
        pause_ms(25);
    }
    give_up(program, "sti-ca does not serve");
}

double
ca_program_cpu_s(const struct ca_program *program)
{
    pid_t pids[CA_PROGRAM_WORKERS_MAX];
    unsigned count = ready_workers(program, pids);
    double sum = 0;

    must(count == program->workers, "a worker has ended");
    for (unsigned i = 0; i < count; i++) {
        struct timespec used;
        clockid_t clock;

        must(clock_getcpuclockid(pids[i], &clock) == 0 && clock_gettime(clock, &used) == 0,
             "processor time of a worker");
        sum += (double)used.tv_sec + (double)used.tv_nsec / 1e9;
    }
    return sum;
}

void
ca_program_kill_worker(struct ca_program *program, unsigned number)
{
    pid_t pids[CA_PROGRAM_WORKERS_MAX];
    unsigned count = ready_workers(program, pids);

    if (count > 0)
        (void)kill(pids[number % count], SIGKILL);
}

/* When a supervisor dies, the kernel ends its workers thread by thread; the last one closes the
 * socket. */
static bool
is_port_free(unsigned port)
{
    struct sockaddr_in name = {.sin_family = AF_INET,
                               .sin_port = htons((uint16_t)port),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;
    bool good;

    must(fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) == 0, "socket");
    good = bind(fd, (struct sockaddr *)&name, sizeof(name)) == 0 && listen(fd, 1) == 0;
    close(fd);
    return good;
}

void
ca_program_kill(struct ca_program *program)
{
    unsigned port = (unsigned)strtoul(strrchr(program->ca.url, ':') + 1, NULL, 10);

    (void)kill(program->pid, SIGKILL);
    (void)waitpid(program->pid, NULL, 0);
    program->pid = 0;
    for (int i = 0; i < READY_TRIES && !is_port_free(port); i++)
        pause_ms(5);
}

int
ca_program_end(struct ca_program *program)
{
    int status = -1;

    (void)kill(program->pid, SIGTERM);
    (void)waitpid(program->pid, &status, 0);
    program->pid = 0;
    return status;
}

void
ca_program_stop(struct ca_program *program)
{
    if (program->pid != 0)
        (void)ca_program_end(program);
    pa_fixture_stop(&program->ca.pa);
}

/* ---- clients ---- */

static bool
refresh_nonce(struct enroller *enroller)
{
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    if (!ca_try_fetch(enroller->ca, "HEAD", "/acme/new-nonce", NULL, NULL, &got) ||
        got.status != 200)
        return false;
    snprintf(enroller->nonce, sizeof(enroller->nonce), "%s", got_header(&got, "Replay-Nonce"));
    return true;
}

static bool
send_once(struct enroller *enroller, const char *path, const char *payload, struct got *got)
{
    char *body;
    bool answered;

    if (enroller->nonce[0] == '\0' && !refresh_nonce(enroller))
        return false;
    body = peer_body(enroller->ca, &enroller->peer,
                     &(struct post){.path = path, .payload = payload, .nonce = enroller->nonce});
    enroller->nonce[0] = '\0';
    answered = ca_try_fetch(enroller->ca, "POST", path, "application/jose+json", body, got);
    free(body);
    if (answered)
        snprintf(enroller->nonce, sizeof(enroller->nonce), "%s", got_header(got, "Replay-Nonce"));
    return answered;
}

bool
enroller_try(struct enroller *enroller, const char *path, const char *payload, struct got *got)
{
    for (int i = 0; i < 4; i++) {
        if (!send_once(enroller, path, payload, got))
            return false;
        if (strcmp(got_problem(got), "badNonce") != 0)
            return true;
        got_clear(got);
    }
    return false;
}

void
enroller_post(struct enroller *enroller, const char *path, const char *payload, struct got *got)
{
    for (int i = 0; i < ANSWER_TRIES; i++) {
        if (enroller_try(enroller, path, payload, got)) {
            if (got->status != 503)
                return;
            got_clear(got);
        }
        pause_ms(50);
    }
    must(false, "the STI-CA does not answer");
}

void
enroller_join(struct enroller *enroller, struct ca_fixture *ca)
{
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};

    *enroller = (struct enroller){.ca = ca};
    peer_start(&enroller->peer);
    enroller_post(enroller, "/acme/new-account", "{}", &got);
    must(got.status == 201 || got.status == 200, got.body);
    snprintf(enroller->peer.kid, CA_URL_SIZE, "%s", got_header(&got, "Location"));
}

void
enroller_leave(struct enroller *enroller)
{
    peer_stop(&enroller->peer);
}

static void
copy_member(const struct got *got, const char *name, char out[CA_URL_SIZE])
{
    const char *text = json_string_value(json_object_get(got->json, name));

    must(text != NULL, got->body);
    snprintf(out, CA_URL_SIZE, "%s", text);
}

/* If the answer was lost, an order remains that is never completed. */
static void
place_order(struct enroller *enroller, const char *spc, char order[CA_URL_SIZE])
{
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};
    char *payload = peer_order_payload(spc);

    enroller_post(enroller, "/acme/new-order", payload, &got);
    must(got.status == 201, got.body);
    snprintf(order, CA_URL_SIZE, "%s", got_header(&got, "Location"));
    free(payload);
}

static void
authorize(struct enroller *enroller, const char *spc, const struct got *order)
{
    CLEAR_AFTER(got_clear) struct got authz = {.status = 0};
    CLEAR_AFTER(got_clear) struct got answered = {.status = 0};
    const json_t *challenge;
    char *token = peer_token(enroller->ca,
                             &(struct token_plan){.spc = spc, .account_key = enroller->peer.key});
    char *payload = NULL, url[CA_URL_SIZE];

    enroller_post(
        enroller,
        json_string_value(json_array_get(json_object_get(order->json, "authorizations"), 0)), "",
        &authz);
    challenge = json_array_get(json_object_get(authz.json, "challenges"), 0);
    must(json_is_object(challenge), authz.body);
    snprintf(url, sizeof(url), "%s", json_string_value(json_object_get(challenge, "url")));
    if (asprintf(&payload, "{\"tkauth\":\"%s\"}", token) < 0)
        abort();
    enroller_post(enroller, url, payload, &answered);
    must(answered.status == 200, answered.body);
    free(payload);
    free(token);
}

static void
finalize(struct enroller *enroller, const char *spc, EVP_PKEY *key, const struct got *order)
{
    CLEAR_AFTER(got_clear) struct got got = {.status = 0};
    char *csr = peer_csr_payload(key, spc, false), url[CA_URL_SIZE];

    copy_member(order, "finalize", url);
    enroller_post(enroller, url, csr, &got);
    /* an order finalized by a request whose answer was lost is no longer ready */
    must(got.status == 200 || strcmp(got_problem(&got), "orderNotReady") == 0, got.body);
    free(csr);
}

/* Take the next step for the order's state; returns true when nothing is left to do. */
static bool
advance(struct enroller *enroller, const char *spc, EVP_PKEY *key, const struct got *order)
{
    const char *status = json_string_value(json_object_get(order->json, "status"));

    must(status != NULL, order->body);
    if (strcmp(status, "pending") == 0)
        authorize(enroller, spc, order);
    else if (strcmp(status, "ready") == 0)
        finalize(enroller, spc, key, order);
    else if (strcmp(status, "processing") == 0)
        pause_ms(50);
    else
        must(strcmp(status, "valid") == 0, order->body);
    return strcmp(status, "valid") == 0;
}

void
enroller_enrol(struct enroller *enroller, const char *spc, EVP_PKEY *key, char order[CA_URL_SIZE],
               char **pem)
{
    CLEAR_AFTER(got_clear) struct got chain = {.status = 0};
    char url[CA_URL_SIZE] = "";

    place_order(enroller, spc, order);
    for (int i = 0; i < ANSWER_TRIES && url[0] == '\0'; i++) {
        CLEAR_AFTER(got_clear) struct got read = {.status = 0};

        enroller_post(enroller, order, "", &read);
        if (advance(enroller, spc, key, &read))
            copy_member(&read, "certificate", url);
    }
    must(url[0] != '\0', "the order does not end");
    enroller_post(enroller, url, "", &chain);
    must(chain.status == 200, chain.body);
    *pem = strdup(chain.body);
}
