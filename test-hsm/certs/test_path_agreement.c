/*
 * test_path_agreement.c - `openssl verify` and GnuTLS `certtool --verify` on the chains that
 * test_path.c judges, and on production certificates. docs/PATHS.md explains the differences.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "path_fixture.h"

#define ARGS_MAX      32
#define PATH_MAX_TEXT 512
#define ANY_CA        (CERTS_CA_P384 | CERTS_CA_P521 | CERTS_CA_RSA)

extern char **environ;

static char directory[] = "/tmp/sti-agree.XXXXXX";
static bool has_openssl, has_certtool;

/* -- the other implementations ----------------------------------------------------------------- */

/* Returns the exit status; the output is discarded. */
static int
run(const char *const argv[])
{
    posix_spawn_file_actions_t actions;
    pid_t child;
    int status = -1;

    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    if (posix_spawnp(&child, argv[0], &actions, NULL, (char *const *)argv, environ) != 0 ||
        waitpid(child, &status, 0) != child || !WIFEXITED(status))
        status = -1;
    posix_spawn_file_actions_destroy(&actions);
    return status == -1 ? -1 : WEXITSTATUS(status);
}

static bool
is_there(const char *program, const char *option)
{
    return run((const char *const[]){program, option, NULL}) == 0;
}

static const char *
in_directory(const char *name, char out[PATH_MAX_TEXT])
{
    snprintf(out, PATH_MAX_TEXT, "%s/%s", directory, name);
    return out;
}

static void
write_chain(const struct certs_chain *chain, const char *name)
{
    char path[PATH_MAX_TEXT];

    peer_must(certs_chain_write(chain, in_directory(name, path)) == HSM_OK, name);
}

/* The input for each: an end entity, and possible certificates between it and the anchors. */
struct question {
    struct certs_chain *leaf, *others, *anchors;
    time_t now;
};

static bool
openssl_trusts(const struct question *question)
{
    char leaf[PATH_MAX_TEXT], others[PATH_MAX_TEXT], anchors[PATH_MAX_TEXT], at[32];
    const char *argv[ARGS_MAX] = {
        "openssl", "verify",    "-attime",     at, "-no-CApath", "-no-CAstore", "-policy_check",
        "-policy", "anyPolicy", "-auth_level", "2"};
    size_t n = 11;

    snprintf(at, sizeof(at), "%lld", (long long)question->now);
    write_chain(question->leaf, "leaf.pem");
    if (certs_chain_len(question->anchors) > 0) {
        write_chain(question->anchors, "anchors.pem");
        argv[n++] = "-CAfile";
        argv[n++] = in_directory("anchors.pem", anchors);
    } else {
        argv[n++] = "-no-CAfile";
    }
    if (certs_chain_len(question->others) > 0) {
        write_chain(question->others, "others.pem");
        argv[n++] = "-untrusted";
        argv[n++] = in_directory("others.pem", others);
    }
    argv[n] = in_directory("leaf.pem", leaf);
    return run(argv) == 0;
}

/* certtool has no option for the time, so its clock is set. */
static bool
gnutls_trusts(const struct question *question)
{
    char chain[PATH_MAX_TEXT], anchors[PATH_MAX_TEXT], at[32];
    struct certs_chain *served = path_chain("");
    struct tm tm;

    gmtime_r(&question->now, &tm);
    strftime(at, sizeof(at), "%Y-%m-%d %H:%M:%S", &tm);
    peer_must(certs_chain_append(served, question->leaf) == HSM_OK &&
                  certs_chain_append(served, question->others) == HSM_OK,
              "chain");
    write_chain(served, "chain.pem");
    write_chain(question->anchors, "anchors.pem");
    certs_chain_free(served);
    return run((const char *const[]){"faketime", "-f", at, "certtool", "--verify",
                                     "--load-ca-certificate", in_directory("anchors.pem", anchors),
                                     "--infile", in_directory("chain.pem", chain), NULL}) == 0;
}

/* -- the chains of test_path.c ----------------------------------------------------------------- */

/* The certificate that ours judges, and the rest. */
static struct question
question_of(const struct path_case *item)
{
    struct certs_chain *served = path_chain(item->served);
    struct question question = {.leaf = path_chain(""),
                                .others = path_chain(item->store == NULL ? "" : item->store),
                                .anchors =
                                    path_chain(item->anchors == NULL ? "root" : item->anchors),
                                .now = item->now == 0 ? DATA_NOW : item->now};
    size_t at = 0;

    for (size_t i = 0; i < certs_chain_len(served); i++) {
        if (X509_check_ca(certs_chain_get(served, i)) == 0) {
            at = i;
            break;
        }
    }
    peer_must(certs_chain_add(question.leaf, certs_chain_get(served, at)) == HSM_OK, "leaf");
    for (size_t i = 0; i < certs_chain_len(served); i++) {
        if (i != at)
            peer_must(certs_chain_add(question.others, certs_chain_get(served, i)) == HSM_OK,
                      "others");
    }
    certs_chain_free(served);
    return question;
}

static void
question_release(struct question *question)
{
    certs_chain_free(question->leaf);
    certs_chain_free(question->others);
    certs_chain_free(question->anchors);
}

static int
compare(const struct path_case *item, enum path_judge sks_judge, bool trusts, const char *who)
{
    bool wanted = (item->reason == NULL) == (sks_judge == PATH_SAME);

    if (trusts == wanted)
        return 0;
    print_message("%s: %s %s it\n", item->what, who, trusts ? "trusts" : "does not trust");
    return 1;
}

static void
others_come_to_our_verdict_on_every_chain(void **state)
{
    int wrong = 0;

    (void)state;
    for (size_t i = 0; i < path_case_count; i++) {
        const struct path_case *item = &path_cases[i];
        struct question question = question_of(item);

        if (has_openssl && item->openssl != PATH_NOT_ASKED)
            wrong += compare(item, item->openssl, openssl_trusts(&question), "openssl");
        if (has_certtool && item->gnutls != PATH_NOT_ASKED)
            wrong += compare(item, item->gnutls, gnutls_trusts(&question), "certtool");
        question_release(&question);
    }
    assert_int_equal(wrong, 0);
}

/* -- production certificates ------------------------------------------------------------------- */

/* Our refusals that the others do not share, with the reason. */
static const struct {
    const char *reason; /* part of our reason */
    const char *why;
} ours_alone[] = {
    {"no TNAuthList", "not a SHAKEN certificate"},
    {"TNAuthList: ", "a TNAuthList that is not RFC 8226's"},
    {"no key usage", "RFC 5280 lets keyUsage be left out, ATIS-1000080 does not"},
};

struct tally {
    size_t asked, good, explained, wrong;
};

/* The intermediates above the leaf, selected by name; the others receive no more than these. */
static void
add_issuers(struct certs_chain *to, const struct certs_chain *from, X509 *cert, int depth)
{
    for (size_t i = 0; depth < CERTS_PATH_LEN_MAX && i < certs_chain_len(from); i++) {
        X509 *issuer = certs_chain_get(from, i);

        if (X509_NAME_cmp(X509_get_subject_name(issuer), X509_get_issuer_name(cert)) != 0 ||
            X509_cmp(issuer, cert) == 0)
            continue;
        peer_must(certs_chain_add(to, issuer) == HSM_OK, "issuer");
        add_issuers(to, from, issuer, depth + 1);
    }
}

static bool
is_explained(const struct hsm_reason *why)
{
    for (size_t i = 0; i < sizeof(ours_alone) / sizeof(ours_alone[0]); i++) {
        if (strstr(why->text, ours_alone[i].reason) != NULL)
            return true;
    }
    return false;
}

static void
count_real(struct tally *tally, X509 *cert, const char *who, bool ours, bool theirs,
           const struct hsm_reason *why)
{
    char *subject;

    if (ours == theirs)
        return;
    if (theirs && is_explained(why)) {
        tally->explained++;
        return;
    }
    subject = certs_cert_subject(cert);
    print_message("%s: %s %s: %s\n", subject, who, theirs ? "trusts it" : "does not", why->text);
    free(subject);
    tally->wrong++;
}

/* GnuTLS tries only the first certificate with the issuer's name, so it receives the one that ours
 * chose. */
static bool
gnutls_trusts_path(const struct question *question, const struct certs_path *path)
{
    struct question shown = {.leaf = question->leaf,
                             .others = path_chain(""),
                             .anchors = question->anchors,
                             .now = question->now};
    bool trusts;

    for (size_t i = 1; i + 1 < certs_path_len(path); i++)
        peer_must(certs_chain_add(shown.others, certs_path_get(path, i)) == HSM_OK, "chain");
    trusts = gnutls_trusts(&shown);
    certs_chain_free(shown.others);
    return trusts;
}

static void
ask_gnutls(const struct question *question, const struct certs_path *path, struct tally *tally,
           const struct hsm_reason *why)
{
    bool trusts = gnutls_trusts(question);

    if (path != NULL && !trusts && gnutls_trusts_path(question, path))
        tally->explained++;
    else
        count_real(tally, certs_chain_get(question->leaf, 0), "certtool", path != NULL, trusts,
                   why);
}

static void
ask_all(struct question *question, const struct certs_chain *intermediates, struct tally *tally)
{
    const struct certs_path_policy policy = {.ca_keys = ANY_CA, .intermediates = intermediates};
    const struct certs_trust trust = {.anchors = question->anchors};
    struct certs_path *path = NULL;
    struct hsm_reason why = {0};

    (void)!certs_path_verify(question->leaf, &trust, &policy, question->now, &path, &why);
    tally->asked++;
    tally->good += path != NULL;
    if (has_openssl)
        count_real(tally, certs_chain_get(question->leaf, 0), "openssl", path != NULL,
                   openssl_trusts(question), &why);
    if (has_certtool)
        ask_gnutls(question, path, tally, &why);
    certs_path_free(path);
}

/* Judged in the middle of its validity, because most certificates in the sample have expired. */
static void
ask_about(X509 *cert, const struct certs_chain *roots, const struct certs_chain *intermediates,
          struct tally *tally)
{
    struct question question = {
        .leaf = path_chain(""), .others = path_chain(""), .anchors = path_chain("")};

    question.now = certs_cert_not_before(cert) +
                   (certs_cert_not_after(cert) - certs_cert_not_before(cert)) / 2;
    peer_must(certs_chain_add(question.leaf, cert) == HSM_OK &&
                  certs_chain_append(question.anchors, roots) == HSM_OK,
              "chain");
    add_issuers(question.others, intermediates, cert, 0);
    ask_all(&question, intermediates, tally);
    question_release(&question);
}

/* The certificate in the base64 member "der" of a line of the sample. */
static X509 *
cert_of_line(const char *line)
{
    json_t *object = json_loads(line, 0, NULL);
    const char *text = json_string_value(json_object_get(object, "der"));
    uint8_t *der = malloc(strlen(text) + 1);
    int len = EVP_DecodeBlock(der, (const uint8_t *)text, (int)strlen(text));
    const uint8_t *at = der;
    X509 *cert = d2i_X509(NULL, &at, len);

    peer_must(cert != NULL, "certificate of the sample");
    free(der);
    json_decref(object);
    return cert;
}

static void
ask_about_lines(FILE *sample, const struct certs_chain *roots,
                const struct certs_chain *intermediates, struct tally *tally)
{
    char *line = NULL;
    size_t size = 0;

    while (getline(&line, &size, sample) > 0) {
        X509 *cert = cert_of_line(line);

        if (X509_check_ca(cert) == 0)
            ask_about(cert, roots, intermediates, tally);
        X509_free(cert);
    }
    free(line);
}

static struct certs_chain *
shared_chain(const char *name)
{
    struct certs_chain *chain = NULL;
    const char *path = shared_path(name);

    if (path == NULL)
        return NULL;
    peer_must(certs_chain_read(path, &chain) == HSM_OK, name);
    return chain;
}

static void
others_come_to_our_verdict_on_production_certificates(void **state)
{
    struct certs_chain *roots = shared_chain("interop/shaken-certificates/roots.pem");
    struct certs_chain *intermediates;
    char command[PATH_MAX_TEXT];
    struct tally tally = {0};
    FILE *sample;

    (void)state;
    if (roots == NULL)
        skip();
    intermediates = shared_chain("interop/shaken-certificates/intermediates.pem");
    snprintf(command, sizeof(command), "exec zcat '%s'",
             shared_path("interop/shaken-certificates/sample.jsonl.gz"));
    sample = popen(command, "r");
    peer_must(sample != NULL, command);
    ask_about_lines(sample, roots, intermediates, &tally);
    assert_int_equal(pclose(sample), 0);
    print_message("%zu end entities, %zu good, %zu differences explained, %zu not\n", tally.asked,
                  tally.good, tally.explained, tally.wrong);
    assert_true(tally.good > 0);
    assert_int_equal(tally.wrong, 0);
    certs_chain_free(intermediates);
    certs_chain_free(roots);
}

/* -- docs/PATHS.md ----------------------------------------------------------------------------- */

static void
each_difference_is_explained(void **state)
{
    char *text = data_text("../../docs/PATHS.md", NULL);

    (void)state;
    for (size_t i = 0; i < path_case_count; i++) {
        const struct path_case *item = &path_cases[i];
        bool differs = item->openssl == PATH_DIFFERS || item->gnutls == PATH_DIFFERS;
        char quoted[128];

        snprintf(quoted, sizeof(quoted), "`%s`", item->what);
        if ((strstr(text, quoted) != NULL) != differs)
            fail_msg("docs/PATHS.md: \"%s\" is %s", item->what,
                     differs ? "not explained" : "explained without need");
    }
    free(text);
}

static int
fixture_up(void **state)
{
    (void)state;
    has_openssl = is_there("openssl", "version");
    has_certtool = is_there("certtool", "--version") && is_there("faketime", "--version");
    if (!has_certtool)
        print_message("certtool (gnutls-bin) or faketime is absent: not asked\n");
    return mkdtemp(directory) == NULL ? -1 : 0;
}

static int
fixture_down(void **state)
{
    (void)state;
    path_fixture_free();
    return run((const char *const[]){"rm", "-rf", directory, NULL});
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_difference_is_explained),
        cmocka_unit_test(others_come_to_our_verdict_on_every_chain),
        cmocka_unit_test(others_come_to_our_verdict_on_production_certificates),
    };

    return cmocka_run_group_tests(tests, fixture_up, fixture_down);
}
