/* enroll.c - the SP-KMS: from a key in the token to an active credential. */
#define _GNU_SOURCE /* asprintf */
#include <sks/enroll.h>

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/x509.h>

#include <acme/http_client.h>
#include <certs/cert.h>
#include <certs/chain.h>
#include <certs/csr.h>
#include <certs/tnauthlist.h>
#include <hsm/defer.h>
#include <hsm/key.h>
#include <hsm/time.h>
#include <hsm/uri.h>
#include <sks/passport.h>

#include "key_label_internal.h"

#define FETCH_BACK_MS 10000
#define SLICE_MS      200 /* between calls of stopped() */
#define LINE_MAX_LEN  1024 /* octets of a progress line with its NUL; longer lines are cut */

/* One enrollment, new or continued from any state. */
struct run {
    const struct sks_enrollment *with;
    struct sks_credential credential;
    struct certs_tnauthlist *tnauthlist;
    struct hsm_key *key;
    bool is_continued; /* an earlier run may have made an order without recording it */
    struct certs_chain *replaced_chain; /* of the credential it replaces; NULL: none */
    char *order_x5u; /* where the CA hosts the chain; NULL: not given */
    enum acme_client_refused refused; /* what the CA refused, with HSM_ERR_DENIED */
    struct hsm_reason *why;
};

static inline void
run_clear(struct run *run)
{
    sks_credential_clear(&run->credential);
    certs_tnauthlist_free(run->tnauthlist);
    hsm_key_free(run->key);
    certs_chain_free(run->replaced_chain);
    free(run->order_x5u);
}

static void HSM_PRINTF(2, 3) tell(const struct run *run, const char *format, ...)
{
    char line[LINE_MAX_LEN];
    va_list arguments;

    if (run->with->progress == NULL)
        return;
    va_start(arguments, format);
    vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    run->with->progress(run->with->context, line);
}

/* Durable before it takes effect: the state changes here only once the catalogue has it. */
static enum hsm_status
advance(struct run *run, enum sks_state state)
{
    enum sks_state before = run->credential.state;
    enum hsm_status st;

    run->credential.state = state;
    st = sks_catalogue_put(run->with->catalogue, &run->credential);
    if (st == HSM_OK)
        return HSM_OK;
    run->credential.state = before;
    return hsm_refuse(run->why, st, "the catalogue did not take the state %s: %s",
                      sks_state_text(state), hsm_status_text(st));
}

/* ---- begin, or continue an earlier run ---- */

static bool
is_on_the_way(const struct run *run, const struct sks_credential *credential)
{
    return strcmp(credential->token_uri, run->with->token_uri) == 0 &&
           credential->ca_directory != NULL &&
           strcmp(credential->ca_directory, run->with->ca_directory) == 0;
}

/* What is wrong with its key for good; NULL: nothing, or the token is away. */
static const char *
fault_of_key(const struct run *run, const struct sks_credential *credential)
{
    struct hsm_key *key = NULL;
    enum hsm_status st = hsm_key_find(run->with->token, credential->key_uri, &key);

    hsm_key_free(key);
    if (st == HSM_ERR_UNTRUSTED) /* as SoftHSM leaves it when it is killed while it generates */
        return "its key does not have the attributes that it must have";
    if (st == HSM_ERR_NOT_FOUND && credential->state != SKS_GENERATED) /* may not exist yet */
        return "its key is not in the token any more";
    return NULL;
}

/* Why the credential can never become active; NULL: it still can. */
static const char *
hopeless(const struct run *run, const struct sks_credential *credential)
{
    if (credential->not_after != 0 && credential->not_after <= time(NULL))
        return "ended before it was active";
    return fault_of_key(run, credential);
}

/* Retiring the credential is safe, because its key has not signed any call. */
static enum hsm_status
give_up_if_hopeless(struct run *run, struct sks_credential *credential)
{
    const char *because = hopeless(run, credential);

    if (because == NULL)
        return HSM_OK;
    tell(run, "credential %lld: %s; given up", (long long)credential->id, because);
    credential->state = SKS_RETIRED;
    return sks_catalogue_put(run->with->catalogue, credential);
}

/* Continue the newest unfinished credential; if there is none, that of the run stays empty. */
static enum hsm_status
take_up(struct run *run)
{
    struct sks_credential *list = NULL;
    size_t count = 0;
    enum hsm_status st = sks_catalogue_list_in(run->with->catalogue, run->with->spc, SKS_GENERATED,
                                               SKS_PUBLISHED, &list, &count);

    for (size_t i = count; st == HSM_OK && run->credential.id == 0 && i-- > 0;) {
        if (!is_on_the_way(run, &list[i]))
            continue;
        st = give_up_if_hopeless(run, &list[i]);
        if (st != HSM_OK || list[i].state == SKS_RETIRED)
            continue;
        run->credential = list[i];
        run->is_continued = true;
        memset(&list[i], 0, sizeof(list[i])); /* its texts have moved to the run */
        tell(run, "continued: credential %lld was %s", (long long)run->credential.id,
             sks_state_text(run->credential.state));
    }
    sks_credentials_free(list, count);
    return st == HSM_OK
               ? st
               : hsm_refuse(run->why, st, "the catalogue cannot be used: %s", hsm_status_text(st));
}

/* "pkcs11:object=sp-1234-20260115T120000Z-9f3a10c4": the URI of a key that is not in the token
 * yet. */
static enum hsm_status
new_key_uri(const struct run *run, char **out)
{
    char prefix[sizeof("sp-") + CERTS_SPC_MAX];
    char label[KEY_LABEL_MAX + 1];
    enum hsm_status st;

    snprintf(prefix, sizeof(prefix), "sp-%s", run->with->spc);
    st = sks_key_label_new(run->with->token, prefix, label, run->why);
    if (st == HSM_OK && asprintf(out, "pkcs11:object=%s", label) < 0) {
        *out = NULL;
        st = HSM_ERR_NOMEM;
    }
    return st;
}

/* The key's name is in the catalogue before the key is generated, so that no crash leaves a key in
 * the token that the catalogue lacks. */
static enum hsm_status
begin(struct run *run)
{
    struct sks_credential *credential = &run->credential;
    enum hsm_status st = new_key_uri(run, &credential->key_uri);

    if (st != HSM_OK)
        return st;
    credential->replaces = run->with->replaces;
    credential->spc = strdup(run->with->spc);
    credential->token_uri = strdup(run->with->token_uri);
    credential->ca_directory = strdup(run->with->ca_directory);
    if (credential->spc == NULL || credential->token_uri == NULL ||
        credential->ca_directory == NULL)
        return HSM_ERR_NOMEM;
    return advance(run, SKS_GENERATED);
}

/* ---- generated ---- */

static enum hsm_status
generate_key(struct run *run)
{
    DEFER(hsm_uri_free) struct hsm_uri *uri = NULL;
    const char *label;
    enum hsm_status st = hsm_uri_parse(run->credential.key_uri, &uri, run->why);

    if (st != HSM_OK)
        return st;
    label = hsm_uri_get(uri, "object");
    if (label == NULL)
        return hsm_refuse(run->why, HSM_ERR_MALFORMED, "credential %lld: its key URI has no object",
                          (long long)run->credential.id);
    st = hsm_key_find_or_generate(run->with->token, label, &run->key);
    if (st != HSM_OK)
        return hsm_refuse(run->why, st, "key %s: %s", label, hsm_status_text(st));
    free(run->credential.key_uri);
    run->credential.key_uri = strdup(hsm_key_uri(run->key));
    if (run->credential.key_uri == NULL)
        return HSM_ERR_NOMEM;
    st = advance(run, SKS_GENERATED);
    if (st == HSM_OK)
        tell(run, "generated: key %s in the token", label);
    return st;
}

static enum hsm_status
have_key(struct run *run)
{
    enum hsm_status st;

    if (run->key != NULL)
        return HSM_OK;
    if (run->credential.state == SKS_GENERATED)
        return generate_key(run);
    st = hsm_key_find(run->with->token, run->credential.key_uri, &run->key);
    if (st != HSM_OK)
        return hsm_refuse(run->why, st, "credential %lld: its key cannot be used: %s",
                          (long long)run->credential.id, hsm_status_text(st));
    return HSM_OK;
}

/* ---- requested ---- */

static enum hsm_status
fetch_spc_token(void *context, EVP_PKEY *account_key, char **token, struct hsm_reason *why)
{
    struct run *run = context;
    char fingerprint[ACME_FINGERPRINT_LEN + 1];
    enum hsm_status st = acme_fingerprint_format(account_key, run->with->fingerprint, fingerprint);

    if (st == HSM_OK)
        st = acme_authority_fetch_token(run->with->authority, run->tnauthlist, false, fingerprint,
                                        token, why);
    if (st == HSM_OK)
        tell(run, "authorised: SPC token of %s for SPC %s", run->with->authority->base_url,
             run->with->spc);
    return st;
}

static enum hsm_status
remember_order(void *context, const char *order_url)
{
    struct run *run = context;
    char *copy = strdup(order_url);
    enum hsm_status st;

    if (copy == NULL)
        return HSM_ERR_NOMEM;
    free(run->credential.order_url);
    run->credential.order_url = copy;
    st = advance(run, SKS_REQUESTED);
    if (st == HSM_OK)
        tell(run, "requested: order %s", order_url);
    return st;
}

static enum hsm_status
new_csr(struct run *run, uint8_t **der, size_t *len)
{
    DEFER(free) char *common_name = NULL;
    struct certs_csr_request request = {.tnauthlist = run->tnauthlist};
    enum hsm_status st;

    if (asprintf(&common_name, "SHAKEN %s", run->with->spc) < 0) {
        common_name = NULL;
        return HSM_ERR_NOMEM;
    }
    request.subject.common_name = common_name;
    st = certs_csr_new(&request, run->key, der, len);
    if (st != HSM_OK)
        return hsm_refuse(run->why, st, "CSR: %s", hsm_status_text(st));
    return HSM_OK;
}

static bool
is_known(void *context, const char *order_url)
{
    const struct run *run = context;

    return sks_catalogue_has_order(run->with->catalogue, order_url);
}

/* RFC 9773 section 5: a new order can name the certificate that it replaces to the CA that issued
 * it. If that is not possible, the order is made without it. */
static const X509 *
replaced_certificate(struct run *run)
{
    struct sks_credential before = {.id = 0};

    if (run->credential.replaces == 0 ||
        sks_catalogue_find(run->with->catalogue, run->credential.replaces, &before) != HSM_OK)
        return NULL;
    if (before.chain_pem != NULL && before.ca_directory != NULL &&
        strcmp(before.ca_directory, run->with->ca_directory) == 0 &&
        certs_chain_parse_pem(before.chain_pem, strlen(before.chain_pem), CERTS_CHAIN_LEN_MAX,
                              &run->replaced_chain, NULL) != HSM_OK)
        run->replaced_chain = NULL;
    sks_credential_clear(&before);
    return run->replaced_chain == NULL ? NULL : certs_chain_get(run->replaced_chain, 0);
}

/* The CA may offer chains to several roots, of which the trusted list may have only one. */
static bool
is_trusted(void *context, const struct certs_chain *chain)
{
    const struct run *run = context;

    return sks_trust_check(run->with->trust, chain, time(NULL), NULL) == HSM_OK;
}

/* If the CA has given up an order, make a new one for the same key. */
static enum hsm_status
order(struct run *run, const uint8_t *csr, size_t csr_len, struct certs_chain **chain)
{
    struct acme_client_order wanted = {
        .tnauthlist = run->tnauthlist,
        .spc_token = fetch_spc_token,
        .context = run,
        .csr = csr,
        .csr_len = csr_len,
        .ordered = remember_order,
        .resume_url = run->credential.order_url,
        .is_known = run->is_continued ? is_known : NULL,
        .accepts = is_trusted,
        .replaces = replaced_certificate(run),
        .x5u = run->with->hosted_by_ca != NULL ? &run->order_x5u : NULL,
        .refused = &run->refused,
    };
    DEFER(free) char *resumed = NULL;
    enum hsm_status st;

    if (wanted.resume_url != NULL) {
        resumed = strdup(wanted.resume_url); /* remember_order() frees the credential's text */
        if (resumed == NULL)
            return HSM_ERR_NOMEM;
        wanted.resume_url = resumed;
    }
    st = acme_client_obtain(run->with->client, &wanted, chain, run->why);
    if (resumed == NULL || st != HSM_ERR_DENIED || run->refused != ACME_REFUSED_ORDER)
        return st;
    tell(run, "order %s cannot be continued: %s", resumed,
         run->why != NULL ? run->why->text : hsm_status_text(st));
    wanted.resume_url = NULL;
    return acme_client_obtain(run->with->client, &wanted, chain, run->why);
}

/* ---- issued ---- */

static enum hsm_status
check_is_ours(struct run *run, const X509 *leaf)
{
    DEFER(certs_tnauthlist_free) struct certs_tnauthlist *list = NULL;
    enum hsm_status st;

    if (!hsm_key_matches(run->key, certs_cert_public(leaf)))
        return hsm_refuse(run->why, HSM_ERR_UNTRUSTED, "the certificate is for another key");
    st = certs_cert_tnauthlist(leaf, &list, run->why);
    if (st == HSM_ERR_NOMEM)
        return st;
    if (st != HSM_OK)
        return hsm_refuse(run->why, HSM_ERR_UNTRUSTED, "the certificate has no good TNAuthList");
    if (!certs_tnauthlist_equals(list, run->tnauthlist))
        return hsm_refuse(run->why, HSM_ERR_UNTRUSTED, "the certificate is not for SPC %s alone",
                          run->with->spc);
    return HSM_OK;
}

/* A fault that another request would not cure retires this credential; the next run starts a new
 * one. */
static void
end(struct run *run)
{
    struct run quiet = *run;

    quiet.why = NULL; /* the first reason is reported */
    if (advance(&quiet, SKS_RETIRED) == HSM_OK)
        run->credential.state = SKS_RETIRED;
}

/* True if the chain has expired or the certificate is revoked. Other refusals, such as a root that
 * is not on the list, may be temporary. */
static bool
is_over(const struct run *run, const struct certs_chain *chain)
{
    time_t now = time(NULL);

    return certs_chain_not_after(chain) < now ||
           sks_trust_is_revoked(run->with->trust, certs_chain_get(chain, 0), now);
}

static enum hsm_status
check_issued(struct run *run, const struct certs_chain *chain)
{
    enum hsm_status st = check_is_ours(run, certs_chain_get(chain, 0));
    bool is_wrong = st == HSM_ERR_UNTRUSTED;

    if (st == HSM_OK)
        st = sks_trust_check(run->with->trust, chain, time(NULL), run->why);
    if (is_wrong || (st == HSM_ERR_UNTRUSTED && is_over(run, chain)))
        end(run);
    return st;
}

static enum hsm_status
take_issued(struct run *run, const struct certs_chain *chain)
{
    DEFER(free) char *serial = certs_cert_serial_hex(certs_chain_get(chain, 0));
    char until[HSM_TIME_LEN + 1];
    char *pem = NULL;
    enum hsm_status st = certs_chain_pem(chain, &pem);

    if (st != HSM_OK)
        return st;
    free(run->credential.chain_pem);
    run->credential.chain_pem = pem;
    if (run->order_x5u != NULL) {
        free(run->credential.x5u);
        run->credential.x5u = run->order_x5u;
        run->order_x5u = NULL; /* handed over */
    }
    run->credential.not_before = certs_chain_latest_start(chain);
    run->credential.not_after = certs_chain_not_after(chain);
    st = advance(run, SKS_ISSUED);
    if (st != HSM_OK)
        return st;
    hsm_time_format(run->credential.not_after, until);
    tell(run, "issued: serial %s, until %s, chain verified", serial != NULL ? serial : "?", until);
    return HSM_OK;
}

static enum hsm_status
obtain(struct run *run)
{
    DEFER(certs_chain_free) struct certs_chain *chain = NULL;
    uint8_t *csr = NULL;
    size_t csr_len = 0;
    enum hsm_status st = have_key(run);

    if (st == HSM_OK)
        st = new_csr(run, &csr, &csr_len);
    if (st == HSM_OK)
        st = order(run, csr, csr_len, &chain);
    /* a lost order may have had this key certified, and CAs do not certify a key twice */
    if (st == HSM_ERR_DENIED && run->is_continued && run->refused == ACME_REFUSED_CSR)
        end(run);
    free(csr);
    if (st == HSM_OK)
        st = check_issued(run, chain);
    if (st == HSM_OK)
        st = take_issued(run, chain);
    return st;
}

/* ---- published ---- */

/* Fetch a chain as verifiers do; HSM_ERR_BUSY: it may not be there yet. acme_http_reply_clear() the
 * reply. */
static enum hsm_status
get_chain(struct run *run, const char *url, bool public_addresses_only,
          struct acme_http_reply *reply)
{
    const struct acme_http_fetch fetch = {
        .method = "GET",
        .url = url,
        .accept = "application/pem-certificate-chain",
        .reply_max = CERTS_CHAIN_OCTETS_MAX,
        .timeout_ms = FETCH_BACK_MS,
        .public_addresses_only = public_addresses_only,
    };
    enum hsm_status st = acme_http_fetch(run->with->http, &fetch, reply, run->why);

    if (st == HSM_OK && reply->status != 200)
        st = hsm_refuse(run->why, HSM_ERR_BUSY, "%s: HTTP status %d", url, reply->status);
    return st;
}

/* Check that verifiers will get the published octets. The operator chose the URL, so its address
 * may be private. */
static enum hsm_status
fetch_back(struct run *run, const char *url)
{
    const char *pem = run->credential.chain_pem;
    struct acme_http_reply reply = {0};
    enum hsm_status st = get_chain(run, url, false, &reply);

    if (st == HSM_OK &&
        (reply.body_len != strlen(pem) || memcmp(reply.body, pem, reply.body_len) != 0))
        st = hsm_refuse(run->why, HSM_ERR_UNTRUSTED, "%s: serves other octets than were published",
                        url);
    acme_http_reply_clear(&reply);
    return st;
}

static enum hsm_status
parse_own_chain(struct run *run, struct certs_chain **out)
{
    return certs_chain_parse_pem(run->credential.chain_pem, strlen(run->credential.chain_pem),
                                 CERTS_CHAIN_LEN_MAX, out, run->why);
}

/* The STI-CA chose the URL: unless the configuration allows private addresses, it must not point
 * into the internal network, out of reach of verifiers. */
static enum hsm_status
fetch_hosted(struct run *run, const char *url, struct certs_chain **out)
{
    struct acme_http_reply reply = {0};
    enum hsm_status st = get_chain(run, url, !run->with->private_addresses, &reply);

    if (st == HSM_OK)
        st = certs_chain_parse_pem(reply.body, reply.body_len, CERTS_CHAIN_LEN_MAX, out, run->why);
    acme_http_reply_clear(&reply);
    return st;
}

/* When the STI-CA hosts the chain, verifiers may get other octets than the order returned, but it
 * must be the same certificate in a chain that is trusted as well. */
static enum hsm_status
find_hosted(struct run *run)
{
    DEFER(certs_chain_free) struct certs_chain *own = NULL;
    DEFER(certs_chain_free) struct certs_chain *hosted = NULL;
    const char *x5u = run->credential.x5u;
    enum hsm_status st;

    if (x5u == NULL)
        return hsm_refuse(run->why, HSM_ERR_UNSUPPORTED,
                          "the STI-CA's order names no x5u: it does not host the chain");
    st = sks_x5u_check(run->with->hosted_by_ca, x5u, run->why);
    if (st == HSM_OK)
        st = parse_own_chain(run, &own);
    if (st == HSM_OK)
        st = fetch_hosted(run, x5u, &hosted);
    if (st != HSM_OK)
        return st;
    if (X509_cmp(certs_chain_get(own, 0), certs_chain_get(hosted, 0)) != 0)
        return hsm_refuse(run->why, HSM_ERR_UNTRUSTED, "%s: serves another certificate", x5u);
    st = sks_trust_check(run->with->trust, hosted, time(NULL), run->why);
    if (st == HSM_OK)
        st = advance(run, SKS_PUBLISHED);
    if (st == HSM_OK)
        tell(run, "published: %s, by the STI-CA", x5u);
    return st;
}

static enum hsm_status
publish(struct run *run)
{
    DEFER(certs_chain_free) struct certs_chain *chain = NULL;
    DEFER(free) char *url = NULL;
    enum hsm_status st = parse_own_chain(run, &chain);

    if (st != HSM_OK)
        return st;
    st = sks_repository_publish(run->with->repository, chain, &url);
    if (st != HSM_OK)
        return hsm_refuse(run->why, st, "the chain cannot be published: %s", hsm_status_text(st));
    if (run->with->publisher != NULL)
        st = sks_publish(run->with->publisher, run->credential.chain_pem, url, run->why);
    if (st == HSM_OK)
        st = fetch_back(run, url);
    if (st != HSM_OK)
        return st;
    free(run->credential.x5u);
    run->credential.x5u = url;
    url = NULL;
    st = advance(run, SKS_PUBLISHED);
    if (st == HSM_OK)
        tell(run, "published: %s, fetched back octet for octet", run->credential.x5u);
    return st;
}

/* ---- active ---- */

/* Whether another credential signs now and will be replaced by this one. */
static enum hsm_status
takes_a_place(const struct run *run, bool *out)
{
    struct sks_credential *list = NULL;
    size_t count = 0;
    enum hsm_status st = sks_catalogue_list_in(run->with->catalogue, run->with->spc, SKS_ACTIVE,
                                               SKS_ACTIVE, &list, &count);

    *out = false;
    for (size_t i = 0; i < count; i++)
        *out = *out || (strcmp(list[i].token_uri, run->with->token_uri) == 0 &&
                        list[i].not_after > time(NULL) && fault_of_key(run, &list[i]) == NULL);
    sks_credentials_free(list, count);
    return st;
}

/* A call may be up to SKS_FRESHNESS_S old, and is signed with a certificate that covers its iat
 * (RFC 8224 section 4.1). The previous credential therefore stays active until this one covers
 * every such call, which it does at once if the CA has dated it back by that much. */
static enum hsm_status
wait_for_its_calls(struct run *run)
{
    const struct timespec slice = {.tv_nsec = SLICE_MS * 1000000L};
    time_t from = run->credential.not_before + SKS_FRESHNESS_S;
    bool takes_place = false;
    enum hsm_status st = HSM_OK;

    if (time(NULL) < from)
        st = takes_a_place(run, &takes_place);
    if (st != HSM_OK)
        return hsm_refuse(run->why, st, "the catalogue cannot be used: %s", hsm_status_text(st));
    if (takes_place)
        tell(run, "waiting: credential %lld covers all calls in %lld s",
             (long long)run->credential.id, (long long)(from - time(NULL)));
    while (takes_place && time(NULL) < from) {
        if (run->with->stopped != NULL && run->with->stopped(run->with->stopped_context))
            return hsm_refuse(run->why, HSM_ERR_BUSY,
                              "stopped while credential %lld did not cover all calls yet",
                              (long long)run->credential.id);
        (void)nanosleep(&slice, NULL);
    }
    return HSM_OK;
}

/* Check the chain again: time may have passed since it was issued, and its key may be gone. */
static enum hsm_status
activate(struct run *run)
{
    DEFER(certs_chain_free) struct certs_chain *chain = NULL;
    enum hsm_status st = have_key(run);

    if (st == HSM_OK)
        st = parse_own_chain(run, &chain);
    if (st == HSM_OK)
        st = check_issued(run, chain);
    if (st == HSM_OK)
        st = wait_for_its_calls(run);
    if (st != HSM_OK)
        return st;
    st = sks_catalogue_activate(run->with->catalogue, run->credential.id);
    if (st != HSM_OK)
        return hsm_refuse(run->why, st, "the catalogue did not take the state active: %s",
                          hsm_status_text(st));
    run->credential.state = SKS_ACTIVE;
    tell(run, "active: credential %lld signs for SPC %s", (long long)run->credential.id,
         run->with->spc);
    return HSM_OK;
}

static enum hsm_status
next_step(struct run *run)
{
    switch (run->credential.state) {
    case SKS_GENERATED:
    case SKS_REQUESTED:
        return obtain(run);
    case SKS_ISSUED:
        return run->with->hosted_by_ca != NULL ? find_hosted(run) : publish(run);
    case SKS_PUBLISHED:
        return activate(run);
    default:
        return hsm_refuse(run->why, HSM_ERR_USAGE, "credential %lld is %s",
                          (long long)run->credential.id, sks_state_text(run->credential.state));
    }
}

enum hsm_status
sks_enroll(const struct sks_enrollment *enrollment, int64_t *credential_id, struct hsm_reason *why)
{
    struct run run = {.with = enrollment, .why = why};
    enum hsm_status st = certs_tnauthlist_from_spc(enrollment->spc, &run.tnauthlist);

    if (st != HSM_OK)
        return hsm_refuse(why, st, "%s: not an SPC", enrollment->spc);
    st = take_up(&run);
    if (st == HSM_OK && run.credential.id == 0)
        st = begin(&run);
    while (st == HSM_OK && run.credential.state != SKS_ACTIVE)
        st = next_step(&run);
    if (st == HSM_OK)
        *credential_id = run.credential.id;
    run_clear(&run);
    return st;
}
