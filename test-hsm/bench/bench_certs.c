/* bench_certs.c - issuing, path validation, kept verdicts, the CRL and the lint, each beside the
 * raw operation it is built on. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/rand.h>
#include <openssl/x509_vfy.h>

#include <certs/cert.h>
#include <certs/crl.h>
#include <certs/issue.h>
#include <certs/lint.h>
#include <certs/path.h>
#include <certs/verdict.h>

#include "bench.h"
#include "softhsm.h"

#define CRL_URL  "https://pa.example/download/v1/crl"
#define A_DAY    86400
#define CHAINS   10000 /* used in turn by a verifier */
#define ROOM     20000 /* capacity for verdicts, as in sti-sks (SKS_TRUST_VERDICTS) */
#define ASKED    4096 /* certificates looked up in the CRL; every second one is listed */
#define SERIAL   16 /* octets */
#define CRL_SIZE 100000

/* A hierarchy whose keys are all in the token. */
static struct {
    struct hsm_token *token;
    struct hsm_key *root_key, *intermediate_key, *leaf_key, *pa_key, *crl_key;
    X509 *root, *intermediate, *leaf, *pa_root, *crl_signer;
    struct certs_tnauthlist *list;
    struct certs_chain *chain, *anchors;
    time_t now;
} world;

/* -- setup ------------------------------------------------------------------------------------- */

static struct hsm_key *
new_key(const char *label)
{
    struct hsm_key *key = NULL;

    bench_check(hsm_key_generate(world.token, label, &key) == HSM_OK, label);
    return key;
}

static struct certs_issue_request
request_of(enum certs_profile profile, const char *common_name, struct hsm_key *key)
{
    struct certs_issue_request request = {
        .profile = profile,
        .subject = {.country = "US", .organization = "Bench", .common_name = common_name},
        .public_key = hsm_key_public(key),
        .not_before = world.now - 300,
        .not_after = world.now + 90 * A_DAY,
    };

    if (profile == CERTS_PROFILE_STI_END_ENTITY)
        request.tnauthlist = world.list;
    if (profile == CERTS_PROFILE_STI_END_ENTITY || profile == CERTS_PROFILE_STI_INTERMEDIATE) {
        request.policy_oid = CERTS_POLICY_CP_1_4;
        request.crl_url = CRL_URL;
        request.crl_issuer = certs_cert_subject_name(world.crl_signer);
    }
    bench_check(certs_serial_new(world.token, request.serial, &request.serial_len) == HSM_OK,
                "certs_serial_new");
    return request;
}

static X509 *
new_cert(enum certs_profile profile, const char *common_name, struct hsm_key *key, X509 *issuer,
         struct hsm_key *issuer_key)
{
    struct certs_issue_request request = request_of(profile, common_name, key);
    X509 *cert = NULL;

    bench_check(certs_issue(&request, issuer, issuer_key, &cert, NULL) == HSM_OK, common_name);
    return cert;
}

static void
make_world(void)
{
    softhsm_start();
    world.token = softhsm_token("bench");
    world.now = time(NULL);
    world.pa_key = new_key("pa");
    world.crl_key = new_key("crl");
    world.root_key = new_key("root");
    world.intermediate_key = new_key("intermediate");
    world.leaf_key = new_key("leaf");
    bench_check(certs_tnauthlist_from_spc("1234", &world.list) == HSM_OK, "TNAuthList");
    world.pa_root =
        new_cert(CERTS_PROFILE_PA_ROOT, "STI-PA Root", world.pa_key, NULL, world.pa_key);
    world.crl_signer = new_cert(CERTS_PROFILE_PA_CRL_SIGNER, "STI-PA CRL", world.crl_key,
                                world.pa_root, world.pa_key);
    world.root =
        new_cert(CERTS_PROFILE_STI_ROOT, "Bench SHAKEN ROOT", world.root_key, NULL, world.root_key);
    world.intermediate = new_cert(CERTS_PROFILE_STI_INTERMEDIATE, "Bench SHAKEN CA",
                                  world.intermediate_key, world.root, world.root_key);
    world.leaf = new_cert(CERTS_PROFILE_STI_END_ENTITY, "SHAKEN 1234", world.leaf_key,
                          world.intermediate, world.intermediate_key);
    bench_check(certs_chain_new(&world.chain) == HSM_OK &&
                    certs_chain_add(world.chain, world.leaf) == HSM_OK &&
                    certs_chain_add(world.chain, world.intermediate) == HSM_OK &&
                    certs_chain_new(&world.anchors) == HSM_OK &&
                    certs_chain_add(world.anchors, world.root) == HSM_OK,
                "chain");
}

static void
end_world(void)
{
    X509 *const certs[] = {world.root, world.intermediate, world.leaf, world.pa_root,
                           world.crl_signer};
    struct hsm_key *const keys[] = {world.root_key, world.intermediate_key, world.leaf_key,
                                    world.pa_key, world.crl_key};

    certs_chain_free(world.chain);
    certs_chain_free(world.anchors);
    certs_tnauthlist_free(world.list);
    for (size_t i = 0; i < sizeof(certs) / sizeof(certs[0]); i++)
        X509_free(certs[i]);
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        hsm_key_free(keys[i]);
    hsm_token_close(world.token);
    softhsm_stop();
}

/* -- issuing ----------------------------------------------------------------------------------- */

static void
issue(void *context, size_t times)
{
    const struct certs_issue_request *request = context;

    while (times-- > 0) {
        X509 *cert = NULL;

        bench_check(certs_issue(request, world.intermediate, world.intermediate_key, &cert, NULL) ==
                        HSM_OK,
                    "certs_issue");
        X509_free(cert);
    }
}

static void
issue_der(void *context, size_t times)
{
    const struct certs_issue_request *request = context;

    while (times-- > 0) {
        uint8_t *der = NULL;
        size_t len;

        bench_check(certs_issue_der(request, world.intermediate, world.intermediate_key, &der, &len,
                                    NULL) == HSM_OK,
                    "certs_issue_der");
        free(der);
    }
}

static void
sign_verified(void *context, size_t times)
{
    static const uint8_t message[600];
    uint8_t sig[HSM_P256_SIG_LEN];

    (void)context;
    while (times-- > 0)
        bench_check(hsm_key_sign_verified(world.intermediate_key, message, sizeof(message), sig) ==
                        HSM_OK,
                    "hsm_key_sign_verified");
}

/* Besides the signature this includes the lint and, for callers that need an X509, OpenSSL's
 * decoder, which reads a key. */
static void
bench_issue(void)
{
    struct certs_issue_request request =
        request_of(CERTS_PROFILE_STI_END_ENTITY, "SHAKEN 1234", world.leaf_key);

    bench_ratio("certs", "certs_issue_der of an end entity / its verified signature", 0.50,
                (struct bench_side){issue_der, &request}, (struct bench_side){sign_verified, NULL});
    bench_ratio("certs", "certs_issue of an end entity / its verified signature", 0.25,
                (struct bench_side){issue, &request}, (struct bench_side){sign_verified, NULL});
}

/* -- paths and verdicts ------------------------------------------------------------------------ */

/* Signature, digest and parsed key are ready, so that only the verification is measured. */
struct raw_verify {
    EVP_PKEY_CTX *ctx;
    uint8_t digest[32];
    const ASN1_BIT_STRING *sig;
};

static void
verify_raw(void *context, size_t times)
{
    const struct raw_verify *raw = context;

    while (times-- > 0)
        bench_check(EVP_PKEY_verify(raw->ctx, ASN1_STRING_get0_data(raw->sig),
                                    (size_t)ASN1_STRING_length(raw->sig), raw->digest,
                                    sizeof(raw->digest)) == 1,
                    "EVP_PKEY_verify");
}

static void
make_raw_verify(struct raw_verify *raw)
{
    uint8_t *tbs = NULL;
    int len = i2d_re_X509_tbs(world.leaf, &tbs);

    X509_get0_signature(&raw->sig, NULL, world.leaf);
    raw->ctx = EVP_PKEY_CTX_new(certs_cert_public(world.intermediate), NULL);
    bench_check(len > 0 &&
                    EVP_Digest(tbs, (size_t)len, raw->digest, NULL, EVP_sha256(), NULL) == 1 &&
                    raw->ctx != NULL && EVP_PKEY_verify_init(raw->ctx) == 1,
                "raw verify");
    OPENSSL_free(tbs);
}

static void
verify_path(void *context, size_t times)
{
    const struct certs_trust trust = {.anchors = world.anchors};

    (void)context;
    while (times-- > 0) {
        struct certs_path *path = NULL;

        bench_check(certs_path_verify(world.chain, &trust, NULL, world.now, &path, NULL) == HSM_OK,
                    "certs_path_verify");
        certs_path_free(path);
    }
}

/* The store is kept, as in a long-running program. */
static void
verify_by_openssl(void *context, size_t times)
{
    STACK_OF(X509) *untrusted = sk_X509_new_null();

    bench_check(untrusted != NULL && sk_X509_push(untrusted, world.intermediate) > 0, "stack");
    while (times-- > 0) {
        X509_STORE_CTX *ctx = X509_STORE_CTX_new();

        bench_check(ctx != NULL && X509_STORE_CTX_init(ctx, context, world.leaf, untrusted) == 1 &&
                        X509_verify_cert(ctx) == 1,
                    "X509_verify_cert");
        X509_STORE_CTX_free(ctx);
    }
    sk_X509_free(untrusted);
}

/* `count` different chains: the same certificates, one of them repeated a different number of
 * times. */
struct asking {
    struct certs_verdicts *verdicts;
    struct certs_chain **chains;
    size_t count;
};

static void
ask_verdicts(void *context, size_t times)
{
    const struct asking *asking = context;
    const struct certs_trust trust = {.anchors = world.anchors, .until = world.now + A_DAY};

    for (size_t i = 0; i < times; i++) {
        struct certs_path *path = NULL;

        bench_check(certs_verdicts_check(asking->verdicts, asking->chains[i * 7919 % asking->count],
                                         &trust, world.now, &path, NULL) == HSM_OK,
                    "certs_verdicts_check");
        certs_path_free(path);
    }
}

static struct certs_chain *
chain_number(size_t number)
{
    struct certs_chain *chain = NULL;

    bench_check(certs_chain_new(&chain) == HSM_OK &&
                    certs_chain_append(chain, world.chain) == HSM_OK,
                "chain");
    for (int bit = 0; bit < 14; bit++)
        bench_check(certs_chain_add(chain, (number >> bit & 1) != 0 ? world.leaf
                                                                    : world.intermediate) == HSM_OK,
                    "chain");
    return chain;
}

static void
bench_verdicts(struct raw_verify *raw, X509_STORE *store)
{
    struct asking asking = {.count = CHAINS, .chains = calloc(CHAINS, sizeof(*asking.chains))};
    struct asking one;
    struct certs_verdicts_count count;

    bench_check(asking.chains != NULL && certs_verdicts_new(NULL, ROOM, &asking.verdicts) == HSM_OK,
                "verdicts");
    for (size_t i = 0; i < CHAINS; i++)
        asking.chains[i] = chain_number(i);
    ask_verdicts(&asking, CHAINS);
    certs_verdicts_count(asking.verdicts, &count);
    bench_check(count.kept > CHAINS * 99 / 100, "keeping verdicts");
    one = asking;
    one.count = 1;
    bench_ratio("certs", "a kept verdict / X509_verify_cert", 100,
                (struct bench_side){ask_verdicts, &one},
                (struct bench_side){verify_by_openssl, store});
    bench_share("certs", "time of a kept verdict / of a P-256 verification", 0.01,
                (struct bench_side){ask_verdicts, &one}, (struct bench_side){verify_raw, raw});
    bench_share("certs", "the same, 10,000 chains in turn", 0.01,
                (struct bench_side){ask_verdicts, &asking}, (struct bench_side){verify_raw, raw});
    certs_verdicts_free(asking.verdicts);
    for (size_t i = 0; i < CHAINS; i++)
        certs_chain_free(asking.chains[i]);
    free(asking.chains);
}

static void
bench_paths(struct raw_verify *raw)
{
    X509_STORE *store = X509_STORE_new();

    bench_check(store != NULL && X509_STORE_add_cert(store, world.root) == 1, "store");
    bench_ratio("certs", "certs_path_verify / X509_verify_cert", 0.85,
                (struct bench_side){verify_path, NULL},
                (struct bench_side){verify_by_openssl, store});
    bench_share("certs", "time of certs_path_verify / of a P-256 verification", 3,
                (struct bench_side){verify_path, NULL}, (struct bench_side){verify_raw, raw});
    bench_verdicts(raw, store);
    X509_STORE_free(store);
}

/* -- the CRL ----------------------------------------------------------------------------------- */

struct looking {
    struct certs_crl *crl;
    X509 *certs[ASKED]; /* every second one is listed */
};

static struct certs_crl *
new_crl(const struct certs_crl_entry *entries, size_t count)
{
    const struct certs_crl_request request = {.number = 1,
                                              .this_update = world.now,
                                              .next_update = world.now + A_DAY,
                                              .url = CRL_URL,
                                              .entries = entries,
                                              .count = count};
    struct certs_crl *crl = NULL;
    uint8_t *der = NULL;
    size_t len;

    bench_check(certs_crl_new(&request, world.crl_signer, world.crl_key, &der, &len) == HSM_OK &&
                    certs_crl_parse(der, len, &crl, NULL) == HSM_OK,
                "CRL");
    free(der);
    return crl;
}

static X509 *
cert_of_serial(const uint8_t *serial)
{
    X509 *cert = X509_new();
    BIGNUM *number = BN_bin2bn(serial, SERIAL, NULL);

    bench_check(cert != NULL && number != NULL &&
                    X509_set_issuer_name(cert, X509_get_subject_name(world.intermediate)) == 1 &&
                    BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert)) != NULL,
                "certificate");
    BN_free(number);
    return cert;
}

static struct looking *
looking_in(const struct certs_crl_entry *entries, size_t count)
{
    struct looking *looking = calloc(1, sizeof(*looking));

    bench_check(looking != NULL, "memory");
    looking->crl = new_crl(entries, count);
    for (size_t i = 0; i < ASKED; i++) {
        const struct certs_crl_entry *entry = &entries[i * 7919 % count];
        uint8_t serial[SERIAL];

        memcpy(serial, entry->serial, SERIAL);
        serial[SERIAL - 1] ^= (uint8_t)(i % 2);
        looking->certs[i] = cert_of_serial(serial);
    }
    return looking;
}

static void
look_up(void *context, size_t times)
{
    const struct looking *looking = context;

    for (size_t i = 0; i < times; i++)
        bench_check(certs_crl_has(looking->crl, looking->certs[i % ASKED]) == (i % 2 == 0),
                    "certs_crl_has");
}

static void
looking_free(struct looking *looking)
{
    for (size_t i = 0; i < ASKED; i++)
        X509_free(looking->certs[i]);
    certs_crl_free(looking->crl);
    free(looking);
}

static void
bench_crl(struct raw_verify *raw)
{
    struct certs_crl_entry *entries = calloc(CRL_SIZE, sizeof(*entries));
    struct looking *one, *thousand, *many;

    bench_check(entries != NULL, "memory");
    for (size_t i = 0; i < CRL_SIZE; i++) {
        entries[i].issuer = X509_get_subject_name(world.intermediate);
        entries[i].serial_len = SERIAL;
        entries[i].revoked_at = world.now - A_DAY;
        entries[i].reason = 1;
        bench_check(RAND_bytes(entries[i].serial, SERIAL) == 1, "serial");
        entries[i].serial[0] = (uint8_t)(entries[i].serial[0] & 0x3f) | 0x40;
        entries[i].serial[SERIAL - 1] &= 0xfe; /* unlisted serials are odd */
    }
    one = looking_in(entries, 1);
    thousand = looking_in(entries, 1000);
    many = looking_in(entries, CRL_SIZE);
    bench_share("certs", "time of a look-up in a CRL of 1,000 / of 1", 2,
                (struct bench_side){look_up, thousand}, (struct bench_side){look_up, one});
    bench_share("certs", "time of a look-up in a CRL of 100,000 / of 1,000", 2,
                (struct bench_side){look_up, many}, (struct bench_side){look_up, thousand});
    bench_share("certs", "time of a look-up in a CRL of 100,000 / of a P-256 verification", 0.05,
                (struct bench_side){look_up, many}, (struct bench_side){verify_raw, raw});
    looking_free(one);
    looking_free(thousand);
    looking_free(many);
    free(entries);
}

/* -- the lint ---------------------------------------------------------------------------------- */

static void
lint(void *context, size_t times)
{
    const struct certs_lint_options options = {.issuer = world.intermediate};

    (void)context;
    while (times-- > 0) {
        struct certs_lint *found = NULL;

        bench_check(certs_lint_new(world.leaf, &options, &found) == HSM_OK &&
                        certs_lint_len(found) == 0,
                    "certs_lint_new");
        certs_lint_free(found);
    }
}

static void
bench_lint(struct raw_verify *raw)
{
    bench_share("certs", "time of certs_lint_new of an end entity / of a P-256 verification", 1,
                (struct bench_side){lint, NULL}, (struct bench_side){verify_raw, raw});
}

/* bench_certs [PART ...] */
int
main(int argc, char **argv)
{
    struct raw_verify raw;

    make_world();
    make_raw_verify(&raw);
    if (bench_is_wanted("issue", argc, argv))
        bench_issue();
    if (bench_is_wanted("paths", argc, argv))
        bench_paths(&raw);
    if (bench_is_wanted("crl", argc, argv))
        bench_crl(&raw);
    if (bench_is_wanted("lint", argc, argv))
        bench_lint(&raw);
    EVP_PKEY_CTX_free(raw.ctx);
    end_world();
    return bench_status(argc, argv);
}
