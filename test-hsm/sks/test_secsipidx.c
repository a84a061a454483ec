/*
 * test_secsipidx.c - Debian's secsipidx, an independent program, as the other
 * side: it verifies what our STI-AS signs, and our STI-VS verifies what it
 * signs with its own key, certified by our CA.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/wait.h>

#include <cmocka.h>

#include <openssl/pem.h>

#include <certs/crl.h>
#include <sks/sign.h>
#include <sks/verify.h>

#include "ecosystem.h"
#include "peer.h"

#define X5U       "https://cr.sp.example/certs/sp.pem"
#define SKIP      77 /* exit status that ctest reports as skipped */
#define PATH_SIZE 4200

static struct ecosystem eco;
static char roots_path[PATH_SIZE], ca_path[PATH_SIZE];
static const char *const called[] = {"12155551213"};

static void
path_in_dir(char out[PATH_SIZE], const char *name)
{
    snprintf(out, PATH_SIZE, "%s/%s", softhsm_dir(), name);
}

static void
write_text(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

/* Run secsipidx; returns its exit status, and its output without the final newline. */
static int
run(const char *const *arguments, char *out, size_t size)
{
    int pipe_fds[2];
    size_t used = 0;
    ssize_t n;
    int status;
    pid_t child;

    assert_int_equal(pipe(pipe_fds), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(pipe_fds[1], STDOUT_FILENO);
        dup2(pipe_fds[1], STDERR_FILENO);
        close(pipe_fds[0]);
        execvp("secsipidx", (char *const *)arguments);
        _exit(127);
    }
    close(pipe_fds[1]);
    while (used < size - 1 && (n = read(pipe_fds[0], out + used, size - 1 - used)) > 0)
        used += (size_t)n;
    out[used] = '\0';
    out[strcspn(out, "\r\n")] = '\0';
    close(pipe_fds[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int
set_up(void **state)
{
    (void)state;
    eco_start(&eco);
    path_in_dir(roots_path, "roots.pem");
    path_in_dir(ca_path, "ca.pem");
    eco_must(certs_chain_write(eco.roots, roots_path), "roots");
    eco_must(certs_chain_write(eco.ca, ca_path), "ca");
    return 0;
}

static int
tear_down(void **state)
{
    (void)state;
    eco_stop(&eco);
    return 0;
}

/* -- secsipidx verifies what we sign ----------------------------------------------------------- */

static void
write_crl(const char *path, const X509 *revoked)
{
    size_t len;
    uint8_t *der = eco_crl(&eco, 1, eco.now - 60, 1, ECO_CRL_URL, NULL, revoked, &len);
    char *pem = NULL;

    eco_must(certs_crl_pem(der, len, &pem), "CRL");
    write_text(path, pem);
    free(pem);
    free(der);
}

/* Verdict of secsipidx: time, chain to our root through our intermediate, CRL, signature. */
static int
check(const char *identity, const X509 *revoked)
{
    char identity_path[PATH_SIZE], leaf_path[PATH_SIZE], crl_path[PATH_SIZE];
    char *leaf = NULL;
    char out[2048];
    const char *const arguments[] = {
        "secsipidx", "-check",   "-fidentity",   identity_path, "-fpubkey",  leaf_path,
        "-ca-file",  roots_path, "-ca-inter",    ca_path,       "-crl-file", crl_path,
        "-expire",   "60",       "-cert-verify", "29",          NULL};
    int status;

    path_in_dir(identity_path, "identity");
    path_in_dir(leaf_path, "leaf.pem");
    path_in_dir(crl_path, "crl.pem");
    write_text(identity_path, identity);
    eco_must(certs_cert_pem(certs_chain_get(eco.sp, 0), &leaf), "leaf");
    write_text(leaf_path, leaf);
    free(leaf);
    write_crl(crl_path, revoked);
    status = run(arguments, out, sizeof(out));
    print_message("secsipidx: exit status %d: %s\n", status, out);
    return status;
}

static char *
sign(time_t iat)
{
    const struct sks_claims claims = {
        .attest = 'A',
        .orig_tn = "12155551212",
        .dest_tn = called,
        .dest_tn_count = 1,
        .iat = iat,
        .origid = "de305d54-75b4-431b-adb2-eb6b9e546014",
    };
    struct sks_signer *signer = NULL;
    char *identity = NULL;

    eco_must(
        sks_signer_new(&(struct sks_signer_config){.key = eco.sp_key, .chain = eco.sp, .x5u = X5U},
                       &signer, NULL),
        "signer");
    eco_must(sks_signer_sign(signer, &claims, iat, &identity, NULL), "sign");
    sks_signer_free(signer);
    return identity;
}

static void
it_accepts_our_identity_header(void **state)
{
    char *identity = sign(time(NULL));

    (void)state;
    assert_int_equal(check(identity, NULL), 0);
    free(identity);
}

static void
it_refuses_ours_when_something_is_wrong(void **state)
{
    char *identity = sign(time(NULL));
    char *stale = sign(time(NULL) - 3000);
    char *signature = strchr(strchr(identity, '.') + 1, '.') + 1;

    (void)state;
    assert_int_not_equal(check(identity, certs_chain_get(eco.sp, 0)), 0);
    assert_int_not_equal(check(stale, NULL), 0);
    signature[0] = signature[0] == 'A' ? 'B' : 'A';
    assert_int_not_equal(check(identity, NULL), 0);
    free(stale);
    free(identity);
}

/* -- we verify what secsipidx signs ------------------------------------------------------------ */

/* The other service provider keeps its key where its software expects it, in a file. */
static char *
peer_identity(EVP_PKEY *key, const char *attest)
{
    char key_path[PATH_SIZE];
    char *identity = calloc(1, 4096);
    const char *const arguments[] = {
        "secsipidx", "-sign-full", "-orig-tn", "12155551212", "-dest-tn", "12155551213", "-attest",
        attest,      "-x5u",       X5U,        "-k",          key_path,   NULL};
    FILE *file;

    path_in_dir(key_path, "peer.key.pem");
    file = fopen(key_path, "w");
    assert_non_null(file);
    assert_int_equal(PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL), 1);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(run(arguments, identity, 4096), 0);
    print_message("%s\n", identity);
    return identity;
}

static enum hsm_status
serve(void *context, const char *x5u, time_t now, struct certs_chain **out, struct hsm_reason *why)
{
    (void)now;
    (void)why;
    assert_string_equal(x5u, X5U);
    eco_must(certs_chain_new(out), x5u);
    return certs_chain_append(*out, context);
}

static struct sks_verification
judge(const char *identity, struct certs_chain *chain, const X509 *revoked)
{
    const struct sks_call call = {
        .from_tn = "12155551212",
        .to_tn = called,
        .to_tn_count = 1,
        .time = time(NULL),
        .identity = identity,
    };
    struct sks_trust *trust = NULL;
    struct sks_verifier *verifier = NULL;
    struct sks_verification got;
    size_t len;
    uint8_t *crl = eco_crl(&eco, 1, eco.now - 60, 1, ECO_CRL_URL, NULL, revoked, &len);

    eco_must(sks_trust_fixed(eco.roots, crl, len, eco.crl_signer, eco.pa_anchors, &trust), "trust");
    eco_must(sks_verifier_new(
                 &(struct sks_verifier_config){.trust = trust, .chain = serve, .context = chain},
                 &verifier),
             "verifier");
    eco_must(sks_verify(verifier, &call, time(NULL), &got), "verify");
    sks_verifier_free(verifier);
    sks_trust_free(trust);
    free(crl);
    print_message("%d %s: %s\n", got.verdict, got.verstat, got.reason_desc.text);
    return got;
}

static void
its_identity_header_verifies_under_a_certificate_of_our_ca(void **state)
{
    static const char *const attests[] = {"A", "B", "C"};
    EVP_PKEY *key = peer_key_new("P-256");
    struct certs_chain *chain = eco_sp_chain(&eco, "5678", key, 0, 0);

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        char *identity = peer_identity(key, attests[i]);
        struct sks_verification got = judge(identity, chain, NULL);

        assert_int_equal(got.verdict, SKS_VALID);
        assert_string_equal(got.verstat, "TN-Validation-Passed");
        assert_int_equal(got.attest, attests[i][0]);
        free(identity);
    }
    certs_chain_free(chain);
    EVP_PKEY_free(key);
}

static void
its_identity_header_is_refused_under_another_certificate_or_a_revoked_one(void **state)
{
    EVP_PKEY *key = peer_key_new("P-256");
    struct certs_chain *chain = eco_sp_chain(&eco, "5678", key, 0, 0);
    char *identity = peer_identity(key, "A");

    (void)state;
    assert_int_equal(judge(identity, eco.sp, NULL).verdict, SKS_E18_SIGNATURE);
    assert_int_equal(judge(identity, chain, certs_chain_get(chain, 0)).verdict, SKS_E17_UNTRUSTED);
    free(identity);
    certs_chain_free(chain);
    EVP_PKEY_free(key);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_accepts_our_identity_header),
        cmocka_unit_test(it_refuses_ours_when_something_is_wrong),
        cmocka_unit_test(its_identity_header_verifies_under_a_certificate_of_our_ca),
        cmocka_unit_test(its_identity_header_is_refused_under_another_certificate_or_a_revoked_one),
    };

    if (access("/usr/bin/secsipidx", X_OK) != 0) {
        puts("skipped: no secsipidx (Debian package secsipidx)");
        return SKIP;
    }
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
