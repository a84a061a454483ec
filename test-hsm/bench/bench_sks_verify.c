/*
 * bench_sks_verify.c - a STI-VS beside the P-256 verification in it: with warm caches, with 10,000
 * certificates in them, and cold.
 */
#include "bench_sks_verify.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include <certs/cert.h>
#include <hsm/es256.h>
#include <sks/verify.h>
#include <sks/x5u.h>

#include "bench.h"
#include "ecosystem.h"

#define CERTS      10000
#define COLD_TIMES 20 /* per round */
#define PATH_TIMES 500

/* One of many providers: the chain that its repository serves, and a call that it signed. */
struct provider {
    char *pem;
    char *identity;
    EVP_PKEY_CTX *key; /* of its certificate, ready for verification */
};

static struct {
    struct ecosystem eco;
    struct eco_server repository;
    struct provider providers[CERTS];
    size_t ready; /* number of providers whose chain is served */
    struct sks_trust *trust;
    struct sks_x5u_cache *x5u;
    struct sks_verifier *verifier;
} bench;

static void
handle(void *context, const struct acme_http_request *request, struct acme_http_response *response)
{
    unsigned long i = strtoul(acme_http_request_path(request) + 1, NULL, 10);

    (void)context;
    if (i >= bench.ready)
        acme_http_respond(response, 404, "text/plain", "", 0);
    else
        acme_http_respond(response, 200, "application/pem-certificate-chain",
                          bench.providers[i].pem, strlen(bench.providers[i].pem));
}

static void
make_provider(struct provider *provider, size_t i)
{
    char x5u[128];
    struct certs_chain *chain =
        eco_sp_chain(&bench.eco, ECO_SPC, hsm_key_public(bench.eco.sp_key), 0, 0);

    eco_must(certs_chain_pem(chain, &provider->pem), "PEM");
    provider->key = EVP_PKEY_CTX_new(certs_cert_public(certs_chain_get(chain, 0)), NULL);
    bench_check(provider->key != NULL && EVP_PKEY_verify_init(provider->key) == 1,
                "EVP_PKEY_verify_init");
    certs_chain_free(chain);
    snprintf(x5u, sizeof(x5u), "%s/%zu.pem", bench.repository.base, i);
    provider->identity = eco_identity(&bench.eco, "shaken", x5u, "12155551212", ECO_SHAKEN);
}

static enum hsm_status
get_chain(void *context, const char *x5u, time_t now, struct certs_chain **out,
          struct hsm_reason *why)
{
    (void)context;
    return sks_x5u_get(bench.x5u, x5u, now, out, why);
}

static struct sks_trust *
new_trust(void)
{
    struct sks_trust *trust = NULL;

    eco_must(sks_trust_fixed(bench.eco.roots, NULL, 0, NULL, NULL, &trust), "trust");
    return trust;
}

static struct sks_verifier *
new_verifier(struct sks_trust *trust)
{
    struct sks_verifier *verifier = NULL;

    eco_must(sks_verifier_new(&(struct sks_verifier_config){.trust = trust, .chain = get_chain},
                              &verifier),
             "verifier");
    return verifier;
}

static struct sks_x5u_cache *
new_cache(void)
{
    const unsigned ports[] = {bench.repository.port, 0};
    struct sks_x5u_cache *cache = NULL;

    eco_must(sks_x5u_cache_new(&(struct sks_x5u_config){.http = bench.eco.http,
                                                        .ports = ports,
                                                        .private_addresses = true},
                               &cache),
             "cache");
    return cache;
}

static void
judge(const struct sks_verifier *verifier, const char *identity)
{
    static const char *const to[] = {"12155551213"};
    const struct sks_call call = {.from_tn = "12155551212",
                                  .to_tn = to,
                                  .to_tn_count = 1,
                                  .time = bench.eco.now,
                                  .identity = identity};
    struct sks_judgements *got = NULL;

    bench_check(sks_verify_all((struct sks_verifier *)(uintptr_t)verifier, &call, bench.eco.now,
                               &got) == HSM_OK,
                "sks_verify_all");
    bench_check(got->shaken->verification.verdict == SKS_VALID,
                got->shaken->verification.reason_desc.text);
    sks_judgements_free(got);
}

/* ---- sides ---- */

static void
verify_one(void *context, size_t times)
{
    (void)context;
    while (times-- > 0)
        judge(bench.verifier, bench.providers[0].identity);
}

static void
verify_many(void *context, size_t times)
{
    size_t *next = context;

    while (times-- > 0) {
        judge(bench.verifier, bench.providers[*next].identity);
        *next = (*next + 1) % CERTS;
    }
}

/* Digest, signature in DER and key are ready, so only the curve operations are measured. */
struct raw {
    size_t keys; /* number of keys used in turn */
    size_t next;
    uint8_t digest[32];
    uint8_t der[HSM_P256_DER_SIG_MAX];
    size_t der_len;
};

static void
verify_raw(void *context, size_t times)
{
    struct raw *raw = context;

    for (; times-- > 0; raw->next = (raw->next + 1) % raw->keys)
        bench_check(EVP_PKEY_verify(bench.providers[raw->next].key, raw->der, raw->der_len,
                                    raw->digest, sizeof(raw->digest)) == 1,
                    "EVP_PKEY_verify");
}

static void
raw_open(struct raw *raw, size_t keys)
{
    const char *text = bench.providers[0].identity;
    uint8_t sig[HSM_P256_SIG_LEN];

    eco_must(hsm_key_sign(bench.eco.sp_key, text, strlen(text), sig), "sign");
    EVP_Digest(text, strlen(text), raw->digest, NULL, EVP_sha256(), NULL);
    eco_must(hsm_es256_to_der(sig, raw->der, &raw->der_len), "DER");
    raw->keys = keys;
    raw->next = 0;
}

/* ---- rows ---- */

static double
ms_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

/* The chains are cached but verdicts on them are not, so their paths are built and verified. */
static void
measure_paths(struct raw *raw)
{
    double rounds[BENCH_ROUNDS];

    for (size_t i = 0; i < BENCH_ROUNDS; i++) {
        struct sks_trust *trust = new_trust();
        struct sks_verifier *verifier = new_verifier(trust);
        double begun = ms_now();
        double middle;

        for (size_t n = 0; n < PATH_TIMES; n++)
            judge(verifier, bench.providers[i * PATH_TIMES + n].identity);
        middle = ms_now();
        verify_raw(raw, PATH_TIMES);
        rounds[i] = (middle - begun) / (ms_now() - middle);
        sks_verifier_free(verifier);
        sks_trust_free(trust);
    }
    bench_at_most("sks", "verification, path not judged yet / raw P-256 verify", "ratio", 8, rounds,
                  BENCH_ROUNDS);
}

/* A call whose chain has to be fetched over TLS from the local host. */
static void
measure_fetch(void)
{
    double rounds[BENCH_ROUNDS];

    for (size_t i = 0; i < BENCH_ROUNDS; i++) {
        double begun = ms_now();

        for (size_t n = 0; n < COLD_TIMES; n++)
            judge(bench.verifier, bench.providers[1 + i * COLD_TIMES + n].identity);
        rounds[i] = (ms_now() - begun) / COLD_TIMES;
    }
    bench_at_most("sks", "verification, chain fetched from loopback first", "ms", 50, rounds,
                  BENCH_ROUNDS);
}

static void
fill(void)
{
    struct sks_x5u_count count;
    struct mallinfo2 before;
    double kib;

    fprintf(stderr, "making %d certificates\n", CERTS);
    for (; bench.ready < CERTS; bench.ready++)
        make_provider(&bench.providers[bench.ready], bench.ready);
    sks_x5u_cache_free(bench.x5u);
    before = mallinfo2();
    bench.x5u = new_cache();
    fprintf(stderr, "fetching them\n");
    for (size_t i = 0; i < CERTS; i++)
        judge(bench.verifier, bench.providers[i].identity);
    sks_x5u_count(bench.x5u, &count);
    bench_check(count.kept == CERTS, "all certificates are in the cache");
    kib = (double)(mallinfo2().uordblks - before.uordblks) / 1024 / CERTS;
    bench_at_most("sks", "memory for a chain of two certificates and its verdict", "KiB", 32, &kib,
                  1);
}

static void
open_all(void)
{
    eco_start(&bench.eco);
    eco_server_start(&bench.repository, &bench.eco, (struct acme_http_handler){.handle = handle});
    for (; bench.ready < 1 + BENCH_ROUNDS * COLD_TIMES; bench.ready++)
        make_provider(&bench.providers[bench.ready], bench.ready);
    bench.trust = new_trust();
    bench.x5u = new_cache();
    bench.verifier = new_verifier(bench.trust);
}

static void
close_all(void)
{
    sks_verifier_free(bench.verifier);
    sks_x5u_cache_free(bench.x5u);
    sks_trust_free(bench.trust);
    eco_server_stop(&bench.repository);
    for (size_t i = 0; i < bench.ready; i++) {
        free(bench.providers[i].pem);
        free(bench.providers[i].identity);
        EVP_PKEY_CTX_free(bench.providers[i].key);
    }
    eco_stop(&bench.eco);
}

void
bench_sks_verify(void)
{
    struct raw raw;
    size_t next = 0;

    open_all();
    raw_open(&raw, 1);
    bench_ratio("sks", "verification, warm caches / raw P-256 verify", 0.85,
                (struct bench_side){verify_one, NULL}, (struct bench_side){verify_raw, &raw});
    measure_fetch();
    fill();
    raw_open(&raw, CERTS);
    bench_ratio("sks", "verification, 10,000 certificates / raw P-256 verify, as many keys", 0.85,
                (struct bench_side){verify_many, &next}, (struct bench_side){verify_raw, &raw});
    measure_paths(&raw);
    close_all();
}
