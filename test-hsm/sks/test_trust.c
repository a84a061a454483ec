/* test_trust.c - mirrors sks/src/trust.c, with an STI-PA on loopback. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/stat.h>

#include <cmocka.h>

#include <acme/ca_list.h>
#include <certs/tnauthlist.h>
#include <sks/trust.h>

#include "data.h"
#include "ecosystem.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static struct ecosystem eco;

/* The STI-PA: its publications, and counts of the requests for them. */
static struct {
    struct eco_server server;
    pthread_mutex_t lock; /* guards list and crl */
    char *list;
    uint8_t *crl;
    size_t crl_len;
    char *signer_pem, *crl_signer_pem;
    char list_url[128], crl_url[128], signer_url[128], crl_signer_url[128];
    atomic_uint lists, crls, signers, unchanged;
    bool has_etags; /* it sends ETags and answers If-None-Match */
    atomic_bool is_down;
} pa = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* The ETag of a text is its length here. Returns true if the client has that version. */
static bool
is_known(const struct acme_http_request *request, struct acme_http_response *response, size_t len)
{
    const char *known = acme_http_request_header(request, "If-None-Match");
    char etag[32];

    if (!pa.has_etags) {
        assert_null(known);
        return false;
    }
    snprintf(etag, sizeof(etag), "\"%zu\"", len);
    if (known != NULL && strcmp(known, etag) == 0) {
        pa.unchanged++;
        acme_http_respond(response, 304, NULL, NULL, 0);
        return true;
    }
    acme_http_response_header(response, "ETag", etag);
    return false;
}

static void
respond_text(struct acme_http_response *response, const char *type, const char *text)
{
    acme_http_respond(response, 200, type, text, strlen(text));
}

static void
handle(void *context, const struct acme_http_request *request, struct acme_http_response *response)
{
    const char *path = acme_http_request_path(request);

    (void)context;
    pthread_mutex_lock(&pa.lock);
    if (pa.is_down) {
        acme_http_respond(response, 503, "text/plain", "later", 5);
    } else if (strcmp(path, "/list") == 0) {
        pa.lists++;
        if (!is_known(request, response, strlen(pa.list)))
            acme_http_respond_json(response, 200, "application/json",
                                   json_pack("{s:s, s:s}", "status", "success", "caList", pa.list));
    } else if (strcmp(path, "/crl") == 0) {
        pa.crls++;
        if (!is_known(request, response, pa.crl_len))
            acme_http_respond(response, 200, "application/pkix-crl", pa.crl, pa.crl_len);
    } else if (strcmp(path, "/signer.pem") == 0) {
        pa.signers++;
        respond_text(response, "application/pem-certificate-chain", pa.signer_pem);
    } else if (strcmp(path, "/crl-signer.pem") == 0) {
        pa.signers++;
        respond_text(response, "application/pem-certificate-chain", pa.crl_signer_pem);
    } else {
        acme_http_respond(response, 404, "text/plain", "", 0);
    }
    pthread_mutex_unlock(&pa.lock);
}

static void
publish_list(uint64_t sequence, time_t exp, struct hsm_key *key)
{
    const struct acme_ca_list_request request = {
        .sequence = sequence, .exp = exp, .x5u = pa.signer_url, .roots = eco.roots};
    char *text = NULL;

    eco_must(acme_ca_list_new(&request, key, &text), "list");
    pthread_mutex_lock(&pa.lock);
    free(pa.list);
    pa.list = text;
    pthread_mutex_unlock(&pa.lock);
}

static void
publish_crl(uint64_t number, time_t this_update, int days, const X509 *revoked)
{
    size_t len;
    uint8_t *der =
        eco_crl(&eco, number, this_update, days, pa.crl_url, pa.crl_signer_url, revoked, &len);

    pthread_mutex_lock(&pa.lock);
    free(pa.crl);
    pa.crl = der;
    pa.crl_len = len;
    pthread_mutex_unlock(&pa.lock);
}

static void
url(char out[128], const char *path)
{
    snprintf(out, 128, "%s%s", pa.server.base, path);
}

static int
set_up(void **state)
{
    (void)state;
    eco_start(&eco);
    eco_must(certs_chain_pem(eco.pa_signer, &pa.signer_pem), "signer");
    eco_must(certs_chain_pem(eco.crl_signer, &pa.crl_signer_pem), "signer");
    eco_server_start(&pa.server, &eco, (struct acme_http_handler){.handle = handle});
    url(pa.list_url, "/list");
    url(pa.crl_url, "/crl");
    url(pa.signer_url, "/signer.pem");
    url(pa.crl_signer_url, "/crl-signer.pem");
    return 0;
}

static int
tear_down(void **state)
{
    (void)state;
    eco_server_stop(&pa.server);
    free(pa.list);
    free(pa.crl);
    free(pa.signer_pem);
    free(pa.crl_signer_pem);
    eco_stop(&eco);
    return 0;
}

/* Before each test: a good list 5 for ten days, a good CRL 7 for two days, and an empty
 * directory. */
static int
reset(void **state)
{
    static unsigned count;
    static char dir[4128];

    snprintf(dir, sizeof(dir), "%s/trust-%u", softhsm_dir(), count++);
    *state = dir;
    pa.is_down = false;
    pa.has_etags = false;
    publish_list(5, eco.now + 10 * ECO_DAY, eco.pa_signer_key);
    publish_crl(7, eco.now - 60, 2, NULL);
    pa.lists = 0;
    pa.crls = 0;
    pa.signers = 0;
    pa.unchanged = 0;
    return 0;
}

/* The service provider's certificate names a CRL at ECO_CRL_URL, not at the server of this test. */
static const struct certs_path_policy any_crl = {.any_distribution_point = true};

static struct sks_trust *
trust_new(const char *dir)
{
    const struct sks_trust_config config = {
        .http = eco.http,
        .pa_anchors = eco.pa_anchors,
        .ca_list_url = pa.list_url,
        .crl_url = pa.crl_url,
        .dir = dir,
        .policy = &any_crl,
    };
    struct sks_trust *trust = NULL;

    assert_int_equal(sks_trust_new(&config, &trust), HSM_OK);
    return trust;
}

/* The reason why the service provider's chain is not trusted; "" if it is. */
static const char *
distrust(struct sks_trust *trust, const struct certs_chain *chain, time_t now)
{
    static struct hsm_reason why;
    enum hsm_status st;

    why.text[0] = '\0';
    st = sks_trust_check(trust, chain, now, &why);
    assert_int_equal(st, why.text[0] == '\0' ? HSM_OK : HSM_ERR_UNTRUSTED);
    return why.text;
}

static void
nothing_is_trusted_before_the_pa_was_asked(void **state)
{
    struct sks_trust *trust = trust_new(*state);

    assert_false(sks_trust_is_ready(trust, eco.now));
    assert_non_null(strstr(distrust(trust, eco.sp, eco.now), "no list"));
    assert_int_equal(sks_trust_refresh(trust, eco.now), HSM_OK);
    assert_true(sks_trust_is_ready(trust, eco.now));
    assert_string_equal(distrust(trust, eco.sp, eco.now), "");
    sks_trust_free(trust);
}

static void
a_chain_to_no_root_of_the_list_is_not_trusted(void **state)
{
    struct sks_trust *trust = trust_new(*state);
    struct certs_chain *rogue = NULL;

    assert_int_equal(certs_chain_read(data_path("self/rogue.chain.pem"), &rogue), HSM_OK);
    assert_int_equal(sks_trust_refresh(trust, eco.now), HSM_OK);
    assert_string_not_equal(distrust(trust, rogue, eco.now), "");
    assert_string_not_equal(distrust(trust, eco.pa_signer, eco.now), "");
    certs_chain_free(rogue);
    sks_trust_free(trust);
}

static void
revoked_certificates_are_not_trusted(void **state)
{
    const X509 *const revoked[] = {certs_chain_get(eco.sp, 0), certs_chain_get(eco.roots, 0)};
    struct sks_trust *trust = trust_new(*state);

    publish_crl(8, eco.now - 60, 2, revoked[0]);
    assert_int_equal(sks_trust_refresh(trust, eco.now), HSM_OK);
    assert_non_null(strstr(distrust(trust, eco.sp, eco.now), "revoked"));
    sks_trust_free(trust);
    trust = trust_new(NULL);
    publish_crl(8, eco.now - 60, 2, revoked[1]); /* a serial of another issuer */
    assert_int_equal(sks_trust_refresh(trust, eco.now), HSM_OK);
    assert_string_equal(distrust(trust, eco.sp, eco.now), "");
    sks_trust_free(trust);
}

static void
what_has_ended_is_good_no_more(void **state)
{
    struct sks_trust *trust = trust_new(*state);

    assert_int_equal(sks_trust_refresh(trust, eco.now), HSM_OK);
    pa.is_down = true;
    assert_string_equal(distrust(trust, eco.sp, eco.now + ECO_DAY), "");
    assert_non_null(strstr(distrust(trust, eco.sp, eco.now + 2 * ECO_DAY), "CRL"));
    assert_false(sks_trust_is_ready(trust, eco.now + 2 * ECO_DAY));
    assert_non_null(strstr(distrust(trust, eco.sp, eco.now + 10 * ECO_DAY), "list"));
    assert_string_equal(distrust(trust, eco.sp, eco.now), ""); /* evaluated on each call */
    sks_trust_free(trust);
}

static void
a_restart_needs_no_pa_but_checks_again(void **state)
{
    struct sks_trust *trust = trust_new(*state);

    assert_int_equal(sks_trust_refresh(trust, eco.now), HSM_OK);
    sks_trust_free(trust);
    pa.is_down = true;
    trust = trust_new(*state);
    assert_true(sks_trust_is_ready(trust, eco.now));
    assert_string_equal(distrust(trust, eco.sp, eco.now), "");
    assert_int_equal(sks_trust_refresh(trust, eco.now), HSM_ERR_BUSY);
    assert_string_equal(distrust(trust, eco.sp, eco.now), "");
    assert_string_not_equal(distrust(trust, eco.sp, eco.now + 2 * ECO_DAY), "");
    sks_trust_free(trust);
}

/* Files that were changed are not trusted; they are fetched again. */
static void
a_directory_that_was_tampered_with_is_not_believed(void **state)
{
    static const char *const names[] = {"ca-list.jws", "ca-list-signer.pem", "crl.der",
                                        "crl-signer.pem"};

    for (size_t i = 0; i < COUNT(names); i++) {
        struct sks_trust *trust = trust_new(*state);
        char path[8192];
        FILE *file;

        pa.is_down = false;
        assert_int_equal(sks_trust_refresh(trust, eco.now), HSM_OK);
        sks_trust_free(trust);
        snprintf(path, sizeof(path), "%s/%s", (const char *)*state, names[i]);
        file = fopen(path, "r+b");
        fseek(file, -20, SEEK_END);
        fputs("AAAA", file);
        fclose(file);
        pa.is_down = true;
        trust = trust_new(*state);
        print_message("%s: %s\n", names[i], distrust(trust, eco.sp, eco.now));
        assert_string_not_equal(distrust(trust, eco.sp, eco.now), "");
        assert_false(sks_trust_is_ready(trust, eco.now));
        pa.is_down = false;
        assert_int_equal(sks_trust_refresh(trust, eco.now), HSM_OK);
        assert_string_equal(distrust(trust, eco.sp, eco.now), "");
        sks_trust_free(trust);
    }
}

/* The list of another STI-PA, stored in our directory by another process. */
static void
a_directory_of_another_pa_is_not_believed(void **state)
{
    struct sks_trust *trust = trust_new(*state);
    struct sks_trust *other = NULL;
    struct certs_chain *anchors = NULL;
    struct sks_trust_config config = {
        .http = eco.http, .ca_list_url = pa.list_url, .crl_url = pa.crl_url, .dir = *state};

    assert_int_equal(sks_trust_refresh(trust, eco.now), HSM_OK);
    sks_trust_free(trust);
    assert_int_equal(certs_chain_read(data_path("self/pa-root.cert.pem"), &anchors), HSM_OK);
    config.pa_anchors = anchors;
    assert_int_equal(sks_trust_new(&config, &other), HSM_OK);
    assert_false(sks_trust_is_ready(other, eco.now));
    assert_string_not_equal(distrust(other, eco.sp, eco.now), "");
    sks_trust_free(other);
    certs_chain_free(anchors);
}

static void
a_rollback_is_refused_also_after_a_restart(void **state)
{
    const time_t later = eco.now + ECO_DAY; /* when both are fetched again */
    const time_t last = later + ECO_DAY / 2; /* when the CRL alone is fetched again */

    for (int restart = 0; restart < 2; restart++) {
        struct sks_trust *trust;

        publish_list(5, eco.now + 10 * ECO_DAY, eco.pa_signer_key);
        publish_crl(7, eco.now - 60, 2, certs_chain_get(eco.sp, 0));
        trust = trust_new(*state);
        assert_int_equal(sks_trust_refresh(trust, eco.now), HSM_OK);
        if (restart == 1) {
            sks_trust_free(trust);
            trust = trust_new(*state);
        }
        publish_list(4, eco.now + 10 * ECO_DAY, eco.pa_signer_key);
        assert_int_equal(sks_trust_refresh(trust, later), HSM_ERR_UNTRUSTED);
        publish_list(5, eco.now + 10 * ECO_DAY, eco.pa_signer_key);
        publish_crl(6, eco.now - 60, 5, NULL); /* from before the revocation */
        assert_int_equal(sks_trust_refresh(trust, last), HSM_ERR_UNTRUSTED);
        assert_non_null(strstr(distrust(trust, eco.sp, last), "revoked"));
        publish_crl(8, eco.now - 60, 5, NULL);
        assert_int_equal(sks_trust_refresh(trust, last), HSM_OK);
        assert_string_equal(distrust(trust, eco.sp, last), "");
        sks_trust_free(trust);
        reset(state);
    }
}

/* Two worker processes of a daemon share the directory, and one fetches later. */
static void
of_two_that_share_a_directory_none_keeps_what_is_older(void **state)
{
    const time_t later = eco.now + ECO_DAY;
    struct sks_trust *slow = trust_new(*state);
    struct sks_trust *fast = trust_new(*state);

    publish_list(6, eco.now + 10 * ECO_DAY, eco.pa_signer_key);
    publish_crl(8, eco.now - 60, 5, NULL);
    assert_int_equal(sks_trust_refresh(fast, eco.now), HSM_OK);
    publish_list(5, eco.now + 10 * ECO_DAY, eco.pa_signer_key); /* what the slow one receives */
    assert_int_equal(sks_trust_refresh(slow, eco.now), HSM_ERR_UNTRUSTED);
    publish_list(6, eco.now + 10 * ECO_DAY, eco.pa_signer_key);
    publish_crl(7, eco.now - 60, 5, NULL);
    assert_int_equal(sks_trust_refresh(slow, later), HSM_ERR_UNTRUSTED);
    publish_crl(8, eco.now - 60, 5, NULL);
    assert_int_equal(sks_trust_refresh(slow, later), HSM_OK);
    sks_trust_free(slow);
    sks_trust_free(fast);
    fast = trust_new(*state); /* the newer version was kept */
    publish_list(5, eco.now + 10 * ECO_DAY, eco.pa_signer_key);
    assert_int_equal(sks_trust_refresh(fast, later + ECO_DAY), HSM_ERR_UNTRUSTED);
    sks_trust_free(fast);
}

/* A kept file that has ended still shows which versions are older. */
static void
an_old_directory_still_refuses_what_is_older(void **state)
{
    const time_t later = eco.now + 20 * ECO_DAY;
    struct sks_trust *trust = trust_new(*state);

    assert_int_equal(sks_trust_refresh(trust, eco.now), HSM_OK);
    sks_trust_free(trust);
    trust = trust_new(*state);
    publish_list(4, later + ECO_DAY, eco.pa_signer_key);
    publish_crl(6, later - 60, 2, NULL);
    assert_int_equal(sks_trust_refresh(trust, later), HSM_ERR_UNTRUSTED);
    assert_false(sks_trust_is_ready(trust, later));
    publish_list(6, later + ECO_DAY, eco.pa_signer_key);
    assert_int_equal(sks_trust_refresh(trust, later), HSM_ERR_UNTRUSTED); /* the CRL is older */
    publish_crl(7, later - 60, 2, NULL);
    assert_int_equal(sks_trust_refresh(trust, later), HSM_OK);
    assert_true(sks_trust_is_ready(trust, later));
    sks_trust_free(trust);
}

/* The list and the CRL alone are sufficient to recognize an older version. */
static void
without_its_signers_a_directory_still_refuses_what_is_older(void **state)
{
    static const char *const names[] = {"ca-list-signer.pem", "crl-signer.pem"};
    struct sks_trust *trust = trust_new(*state);

    assert_int_equal(sks_trust_refresh(trust, eco.now), HSM_OK);
    sks_trust_free(trust);
    for (size_t i = 0; i < COUNT(names); i++) {
        char path[8192];

        snprintf(path, sizeof(path), "%s/%s", (const char *)*state, names[i]);
        assert_int_equal(unlink(path), 0);
    }
    trust = trust_new(*state);
    assert_non_null(strstr(distrust(trust, eco.sp, eco.now), "signer"));
    publish_list(4, eco.now + ECO_DAY, eco.pa_signer_key);
    publish_crl(6, eco.now - 60, 2, NULL);
    assert_int_equal(sks_trust_refresh(trust, eco.now), HSM_ERR_UNTRUSTED);
    assert_false(sks_trust_is_ready(trust, eco.now));
    sks_trust_free(trust);
}

static void
what_another_signed_does_not_replace_what_is_good(void **state)
{
    struct sks_trust *trust = trust_new(*state);
    const time_t later = eco.now + ECO_DAY;

    assert_int_equal(sks_trust_refresh(trust, eco.now), HSM_OK);
    publish_list(6, eco.now + 10 * ECO_DAY, eco.crl_key);
    assert_int_equal(sks_trust_refresh(trust, later), HSM_ERR_UNTRUSTED);
    publish_list(6, eco.now, eco.pa_signer_key); /* expired */
    assert_int_equal(sks_trust_refresh(trust, later), HSM_ERR_UNTRUSTED);
    assert_string_equal(distrust(trust, eco.sp, later), "");
    sks_trust_free(trust);
}

/* A list valid for one day and a CRL valid for a week, and the requests made over time. */
static void
the_pa_is_asked_often_and_when_half_the_life_is_over(void **state)
{
    static const struct {
        time_t after_s;
        unsigned lists, crls;
    } steps[] = {
        {0, 1, 1},
        {SKS_TRUST_CRL_EVERY_S - 1, 1, 1},
        {SKS_TRUST_CRL_EVERY_S, 1, 2},
        {SKS_TRUST_LIST_EVERY_S - 1, 1, 3},
        {SKS_TRUST_LIST_EVERY_S, 2, 3},
        {SKS_TRUST_LIST_EVERY_S + 299, 2, 4},
    };
    struct sks_trust *trust = trust_new(*state);

    publish_list(5, eco.now + ECO_DAY, eco.pa_signer_key);
    publish_crl(7, eco.now - 60, 7, NULL);
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        assert_int_equal(sks_trust_refresh(trust, eco.now + steps[i].after_s), HSM_OK);
        assert_int_equal(pa.lists, steps[i].lists);
        assert_int_equal(pa.crls, steps[i].crls);
    }
    sks_trust_free(trust);
    publish_list(5, eco.now + 1000, eco.pa_signer_key); /* half of that is less than an hour */
    trust = trust_new(NULL);
    assert_int_equal(sks_trust_refresh(trust, eco.now), HSM_OK);
    assert_int_equal(sks_trust_refresh(trust, eco.now + 499), HSM_OK);
    assert_int_equal(pa.lists, 3);
    assert_int_equal(sks_trust_refresh(trust, eco.now + 500), HSM_OK);
    assert_int_equal(pa.lists, 4);
    sks_trust_free(trust);
}

static void
it_is_known_when_to_ask_again(void **state)
{
    struct sks_trust *trust = trust_new(*state);

    assert_int_equal(sks_trust_next_s(trust, eco.now), 5); /* nothing loaded yet */
    assert_int_equal(sks_trust_refresh(trust, eco.now), HSM_OK);
    assert_int_equal(sks_trust_next_s(trust, eco.now), 60);
    assert_int_equal(sks_trust_next_s(trust, eco.now + SKS_TRUST_CRL_EVERY_S - 7), 7);
    pa.is_down = true;
    assert_int_equal(sks_trust_refresh(trust, eco.now + SKS_TRUST_CRL_EVERY_S), HSM_ERR_BUSY);
    assert_int_equal(sks_trust_next_s(trust, eco.now + SKS_TRUST_CRL_EVERY_S), 5);
    sks_trust_free(trust);
}

static void
a_revocation_is_heard_of_within_its_interval(void **state)
{
    const struct sks_trust_config config = {
        .http = eco.http,
        .pa_anchors = eco.pa_anchors,
        .ca_list_url = pa.list_url,
        .crl_url = pa.crl_url,
        .dir = *state,
        .crl_every_s = 2,
        .policy = &any_crl,
    };
    struct sks_trust *trust = NULL;

    assert_int_equal(sks_trust_new(&config, &trust), HSM_OK);
    assert_int_equal(sks_trust_refresh(trust, eco.now), HSM_OK);
    assert_string_equal(distrust(trust, eco.sp, eco.now), "");
    publish_crl(8, eco.now, 2, certs_chain_get(eco.sp, 0));
    assert_int_equal(sks_trust_refresh(trust, eco.now + 1), HSM_OK);
    assert_string_equal(distrust(trust, eco.sp, eco.now + 1), "");
    assert_int_equal(sks_trust_refresh(trust, eco.now + 2), HSM_OK);
    assert_non_null(strstr(distrust(trust, eco.sp, eco.now + 2), "revoked"));
    sks_trust_free(trust);
}

/* With ETags an unchanged file is not sent again, without them it is not written again; a signer's
 * chain is fetched once. */
static void
what_has_not_changed_costs_little(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct sks_trust *trust = trust_new(NULL);

        pa.has_etags = i == 1;
        pa.signers = 0;
        assert_int_equal(sks_trust_refresh(trust, eco.now), HSM_OK);
        assert_int_equal(pa.signers, 2);
        for (time_t hour = 1; hour <= 3; hour++)
            assert_int_equal(sks_trust_refresh(trust, eco.now + hour * 3600), HSM_OK);
        assert_int_equal(pa.signers, 2);
        assert_int_equal(pa.unchanged, pa.has_etags ? 6 : 0);
        publish_crl(9, eco.now, 2, certs_chain_get(eco.sp, 0));
        assert_int_equal(sks_trust_refresh(trust, eco.now + 4 * 3600), HSM_OK);
        assert_non_null(strstr(distrust(trust, eco.sp, eco.now + 4 * 3600), "revoked"));
        assert_int_equal(pa.signers, 2); /* same signer */
        sks_trust_free(trust);
        publish_crl(7, eco.now - 60, 2, NULL);
    }
}

static void
what_is_kept_is_public_and_holds_no_surprise(void **state)
{
    static const char *const names[] = {"ca-list.jws", "ca-list-signer.pem", "crl.der",
                                        "crl-signer.pem"};
    struct sks_trust *trust = trust_new(*state);

    assert_int_equal(sks_trust_refresh(trust, eco.now), HSM_OK);
    for (size_t i = 0; i < COUNT(names); i++) {
        char path[8192];
        struct stat about;

        snprintf(path, sizeof(path), "%s/%s", (const char *)*state, names[i]);
        assert_int_equal(stat(path, &about), 0);
        assert_int_equal(about.st_mode & 07777, 0644);
    }
    sks_trust_free(trust);
}

static void
a_directory_that_cannot_be_made_is_an_error(void **state)
{
    const struct sks_trust_config config = {
        .http = eco.http,
        .pa_anchors = eco.pa_anchors,
        .ca_list_url = pa.list_url,
        .crl_url = pa.crl_url,
        .dir = "/nonexistent/trust",
    };
    struct sks_trust *trust = NULL;

    (void)state;
    assert_int_equal(sks_trust_new(&config, &trust), HSM_ERR_IO);
    assert_null(trust);
}

static void
a_chain_in_another_order_has_its_path(void **state)
{
    struct sks_trust *trust = trust_new(*state);
    struct certs_chain *turned = NULL;
    struct certs_path *path = NULL;
    struct hsm_reason why = {0};

    assert_int_equal(sks_trust_refresh(trust, eco.now), HSM_OK);
    assert_int_equal(certs_chain_new(&turned), HSM_OK);
    for (size_t i = certs_chain_len(eco.sp); i-- > 0;)
        assert_int_equal(certs_chain_add(turned, certs_chain_get(eco.sp, i)), HSM_OK);
    assert_int_equal(sks_trust_path(trust, turned, eco.now, &path, NULL), HSM_OK);
    assert_true(certs_path_is_of(path, certs_chain_get(eco.sp, 0)));
    assert_string_equal(certs_tnauthlist_spc(certs_path_tnauthlist(path)), "1234");
    certs_path_free(path);
    assert_int_equal(sks_trust_check(trust, turned, eco.now, &why), HSM_ERR_UNTRUSTED);
    assert_non_null(strstr(why.text, "begins with another certificate"));
    certs_chain_free(turned);
    sks_trust_free(trust);
}

static void
the_crl_that_a_certificate_names_is_the_one_that_is_asked(void **state)
{
    const struct sks_trust_config config = {.http = eco.http,
                                            .pa_anchors = eco.pa_anchors,
                                            .ca_list_url = pa.list_url,
                                            .crl_url = pa.crl_url,
                                            .dir = *state};
    struct sks_trust *trust = NULL;

    assert_int_equal(sks_trust_new(&config, &trust), HSM_OK);
    assert_int_equal(sks_trust_refresh(trust, eco.now), HSM_OK);
    assert_non_null(strstr(distrust(trust, eco.sp, eco.now), "its CRL is another"));
    sks_trust_free(trust);
}

/* -- verifications during a refresh -- */

struct checker {
    pthread_t thread;
    struct sks_trust *trust;
    size_t refused;
};

static atomic_bool is_over;

static void *
check_often(void *context)
{
    struct checker *checker = context;

    while (!is_over) {
        if (sks_trust_check(checker->trust, eco.sp, eco.now, NULL) != HSM_OK)
            checker->refused++;
    }
    return NULL;
}

static void
verifications_go_on_while_it_is_refreshed(void **state)
{
    struct checker checkers[2];
    struct sks_trust *trust = trust_new(*state);
    time_t now = eco.now;

    publish_list(5, now + ECO_DAY, eco.pa_signer_key);
    publish_crl(8, now - 60, 30, NULL);
    assert_int_equal(sks_trust_refresh(trust, now), HSM_OK);
    is_over = false;
    for (size_t i = 0; i < COUNT(checkers); i++) {
        checkers[i] = (struct checker){.trust = trust};
        assert_int_equal(pthread_create(&checkers[i].thread, NULL, check_often, &checkers[i]), 0);
    }
    for (int i = 0; i < 10; i++) {
        now += ECO_DAY / 2; /* fetched each time, and good at eco.now */
        publish_list(6 + (uint64_t)i, now + ECO_DAY, eco.pa_signer_key);
        assert_int_equal(sks_trust_refresh(trust, now), HSM_OK);
    }
    is_over = true;
    for (size_t i = 0; i < COUNT(checkers); i++) {
        pthread_join(checkers[i].thread, NULL);
        assert_int_equal(checkers[i].refused, 0);
    }
    assert_int_equal(pa.lists, 11);
    sks_trust_free(trust);
}

/* -- given once -- */

static void
anchors_given_once_are_trusted_under_the_crl_given_with_them(void **state)
{
    const struct {
        const struct certs_chain *signer, *pa_anchors;
        time_t now;
        bool good;
    } rows[] = {
        {eco.crl_signer, eco.pa_anchors, eco.now, true},
        {eco.crl_signer, eco.pa_anchors, eco.now + 3 * ECO_DAY, false},
        {eco.crl_signer, eco.pa_anchors, eco.now - 120, false},
        {eco.pa_signer, eco.pa_anchors, eco.now, false},
        {eco.crl_signer, eco.roots, eco.now, false},
    };
    size_t len;
    uint8_t *crl = eco_crl(&eco, 1, eco.now - 60, 2, ECO_CRL_URL, NULL, NULL, &len);

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct sks_trust *trust = NULL;

        assert_int_equal(
            sks_trust_fixed(eco.roots, crl, len, rows[i].signer, rows[i].pa_anchors, &trust),
            HSM_OK);
        print_message("%s\n", distrust(trust, eco.sp, rows[i].now));
        assert_int_equal(distrust(trust, eco.sp, rows[i].now)[0] == '\0', rows[i].good);
        assert_int_equal(sks_trust_is_ready(trust, rows[i].now), rows[i].good);
        assert_int_equal(sks_trust_refresh(trust, rows[i].now), HSM_OK); /* nothing to do */
        sks_trust_free(trust);
    }
    free(crl);
}

static void
without_a_crl_revocation_is_not_asked(void **state)
{
    struct sks_trust *trust = NULL;

    (void)state;
    assert_int_equal(sks_trust_fixed(eco.roots, NULL, 0, NULL, NULL, &trust), HSM_OK);
    assert_true(sks_trust_is_ready(trust, eco.now));
    assert_string_equal(distrust(trust, eco.sp, eco.now), "");
    assert_string_not_equal(distrust(trust, eco.sp, eco.now + 366 * ECO_DAY), "");
    sks_trust_free(trust);
}

static void
a_crl_that_cannot_be_read_is_refused(void **state)
{
    struct sks_trust *trust = NULL;

    (void)state;
    assert_int_equal(sks_trust_fixed(eco.roots, (const uint8_t *)"no CRL", 6, eco.crl_signer,
                                     eco.pa_anchors, &trust),
                     HSM_ERR_MALFORMED);
    assert_null(trust);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(nothing_is_trusted_before_the_pa_was_asked, reset),
        cmocka_unit_test_setup(a_chain_to_no_root_of_the_list_is_not_trusted, reset),
        cmocka_unit_test_setup(revoked_certificates_are_not_trusted, reset),
        cmocka_unit_test_setup(what_has_ended_is_good_no_more, reset),
        cmocka_unit_test_setup(a_chain_in_another_order_has_its_path, reset),
        cmocka_unit_test_setup(the_crl_that_a_certificate_names_is_the_one_that_is_asked, reset),
        cmocka_unit_test_setup(a_restart_needs_no_pa_but_checks_again, reset),
        cmocka_unit_test_setup(a_directory_that_was_tampered_with_is_not_believed, reset),
        cmocka_unit_test_setup(a_directory_of_another_pa_is_not_believed, reset),
        cmocka_unit_test_setup(a_rollback_is_refused_also_after_a_restart, reset),
        cmocka_unit_test_setup(of_two_that_share_a_directory_none_keeps_what_is_older, reset),
        cmocka_unit_test_setup(an_old_directory_still_refuses_what_is_older, reset),
        cmocka_unit_test_setup(without_its_signers_a_directory_still_refuses_what_is_older, reset),
        cmocka_unit_test_setup(what_another_signed_does_not_replace_what_is_good, reset),
        cmocka_unit_test_setup(the_pa_is_asked_often_and_when_half_the_life_is_over, reset),
        cmocka_unit_test_setup(it_is_known_when_to_ask_again, reset),
        cmocka_unit_test_setup(a_revocation_is_heard_of_within_its_interval, reset),
        cmocka_unit_test_setup(what_has_not_changed_costs_little, reset),
        cmocka_unit_test_setup(what_is_kept_is_public_and_holds_no_surprise, reset),
        cmocka_unit_test_setup(a_directory_that_cannot_be_made_is_an_error, reset),
        cmocka_unit_test_setup(verifications_go_on_while_it_is_refreshed, reset),
        cmocka_unit_test(anchors_given_once_are_trusted_under_the_crl_given_with_them),
        cmocka_unit_test(without_a_crl_revocation_is_not_asked),
        cmocka_unit_test(a_crl_that_cannot_be_read_is_refused),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
