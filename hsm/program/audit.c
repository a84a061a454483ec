/* audit.c - sti-hsm audit: evidence about tokens and keys for an independent auditor. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <hsm/audit.h>
#include <hsm/defer.h>
#include <hsm/json.h>
#include <hsm/log.h>
#include <hsm/process.h>

#include "commands.h"
#include "open.h"

#define PEM_MAX     65536 /* octets of --signer */
#define ANSWER_SIZE 16 /* octets of the operator's answer */
#define PID_MAX     4194304 /* PID_MAX_LIMIT of Linux */

DEFINE_DEFER(EVP_PKEY, EVP_PKEY_free)
DEFINE_DEFER(BIO, BIO_free_all)

/* ---- options ---- */

static enum hsm_status
check_arguments(const struct arguments *arguments)
{
    if (arguments->tokens[0] == NULL && arguments->files[0] == NULL &&
        arguments->processes[0] == NULL)
        return options_refuse("nothing to audit: --token, --files or --process");
    if (arguments->report != NULL && arguments->key == NULL)
        return options_refuse("--report is signed: name the audit key with --key");
    if ((arguments->attestation == NULL) != (arguments->attestation_root == NULL))
        return options_refuse("--attestation and --attestation-root go together");
    if (arguments->json && arguments->html)
        return options_refuse("either --json or --html");
    return HSM_OK;
}

static enum hsm_status
read_pid(const char *text, pid_t *out)
{
    long long pid = 0;
    enum hsm_status st = options_number("process", text, 1, PID_MAX, &pid);

    if (st == HSM_OK)
        *out = (pid_t)pid;
    return st;
}

/* ---- the parts of an audit ---- */

static enum hsm_status
open_signer(const struct arguments *arguments, struct hsm_token **token, struct hsm_key **key)
{
    enum hsm_status st;

    if (arguments->key == NULL)
        return HSM_OK;
    st = open_token(arguments, arguments->key, NULL, token);
    return st == HSM_OK ? hsm_key_find(*token, arguments->key, key) : st;
}

/* The operator confirms attempts on a token that may be in use. */
static enum hsm_status
agree(const struct arguments *arguments, const struct hsm_token *token)
{
    char line[ANSWER_SIZE];

    if (!arguments->attempt)
        return HSM_OK;
    hsm_audit_print_plan(token, stderr);
    if (arguments->yes)
        return HSM_OK;
    if (isatty(STDIN_FILENO) != 1)
        return options_refuse("no terminal to agree on: say --yes");
    fprintf(stderr, "Go on? Say yes: ");
    if (fgets(line, sizeof(line), stdin) == NULL || strcmp(line, "yes\n") != 0)
        return options_refuse("not agreed to");
    return HSM_OK;
}

static enum hsm_status
audit_tokens(const struct arguments *arguments, struct hsm_audit *audit)
{
    enum hsm_status st = HSM_OK;

    for (size_t i = 0; st == HSM_OK && arguments->tokens[i] != NULL; i++) {
        DEFER(hsm_token_close) struct hsm_token *token = NULL;

        st = open_token(arguments, arguments->tokens[i], NULL, &token);
        if (st == HSM_OK)
            st = agree(arguments, token);
        if (st == HSM_OK)
            st = hsm_audit_token(audit, token);
    }
    return st;
}

static enum hsm_status
audit_machine(const struct arguments *arguments, struct hsm_audit *audit)
{
    DEFER(hsm_secret_free) struct hsm_secret *scalars = NULL;
    enum hsm_status st = HSM_OK;

    if (arguments->secret_source != NULL)
        st = hsm_secret_from(arguments->secret_source, "scalars: ", &scalars);
    for (size_t i = 0; st == HSM_OK && arguments->processes[i] != NULL; i++) {
        pid_t pid = 0;

        st = read_pid(arguments->processes[i], &pid);
        if (st == HSM_OK)
            st = hsm_audit_process(audit, pid, scalars);
    }
    for (size_t i = 0; st == HSM_OK && arguments->files[i] != NULL; i++)
        st = hsm_audit_files(audit, arguments->files[i], scalars);
    return st;
}

static enum hsm_status
take_known(const struct arguments *arguments, struct hsm_audit *audit)
{
    enum hsm_status st = HSM_OK;

    for (size_t i = 0; st == HSM_OK && arguments->certificates[i] != NULL; i++)
        st = hsm_audit_certificates(audit, arguments->certificates[i]);
    if (st == HSM_OK && arguments->attestation != NULL)
        st = hsm_audit_attestations(audit, arguments->attestation, arguments->attestation_root);
    return st;
}

/* ---- the report ---- */

typedef void print_fn(const json_t *report, FILE *out);

static void
print_json(const json_t *report, FILE *out)
{
    (void)json_dumpf(report, out, JSON_INDENT(2));
    fputc('\n', out);
}

static print_fn *
printer_of(const struct arguments *arguments)
{
    if (arguments->json)
        return print_json;
    return arguments->html ? hsm_audit_print_html : hsm_audit_print_text;
}

static enum hsm_status
write_octets(const char *prefix, const char *suffix, const char *octets, size_t len)
{
    char path[4096];
    int n = snprintf(path, sizeof(path), "%s.%s", prefix, suffix);

    if (n < 0 || (size_t)n >= sizeof(path))
        return options_refuse("--report is too long");
    return hsm_file_write(path, octets, len, 0600);
}

static enum hsm_status
write_form(const char *prefix, const char *suffix, print_fn *print, const json_t *report)
{
    char *octets = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&octets, &len);
    enum hsm_status st = HSM_ERR_NOMEM;

    if (out == NULL)
        return st;
    print(report, out);
    if (fclose(out) == 0)
        st = write_octets(prefix, suffix, octets, len);
    free(octets);
    return st;
}

static enum hsm_status
write_report(const char *prefix, struct hsm_audit *audit, const json_t *report)
{
    char *jws = NULL;
    size_t len = 0;
    enum hsm_status st = hsm_audit_sign(audit, &jws, &len);

    if (st == HSM_OK)
        st = write_octets(prefix, "jws", jws, len);
    free(jws);
    if (st == HSM_OK)
        st = write_form(prefix, "json", print_json, report);
    if (st == HSM_OK)
        st = write_form(prefix, "txt", hsm_audit_print_text, report);
    if (st == HSM_OK)
        st = write_form(prefix, "html", hsm_audit_print_html, report);
    return st;
}

/* Exit status 0: no faults, 1: faults, 2: no result. HSM_ERR_USAGE makes the program exit with
 * 2. */
static enum hsm_status
outcome(enum hsm_status status, const json_t *report)
{
    if (status != HSM_OK)
        return HSM_ERR_USAGE;
    return hsm_audit_faults(report) == 0 ? HSM_OK : HSM_ERR_UNTRUSTED;
}

enum hsm_status
audit_run(const struct arguments *arguments)
{
    DEFER(hsm_token_close) struct hsm_token *signer_token = NULL;
    DEFER(hsm_key_free) struct hsm_key *signer = NULL;
    DEFER(hsm_audit_free) struct hsm_audit *audit = NULL;
    struct hsm_audit_config config = {
        .program = "sti-hsm " STI_VERSION,
        .nonce = arguments->nonce,
        .uncertified = arguments->uncertified,
        .attempts = arguments->attempt,
        .now = time(NULL),
    };
    const json_t *report = NULL;
    enum hsm_status st = check_arguments(arguments);

    if (st == HSM_OK)
        st = open_signer(arguments, &signer_token, &signer);
    config.signer = signer;
    if (st == HSM_OK)
        st = hsm_audit_new(&config, &audit);
    if (st == HSM_OK)
        st = take_known(arguments, audit);
    if (st == HSM_OK)
        st = audit_machine(arguments, audit);
    if (st == HSM_OK)
        st = audit_tokens(arguments, audit);
    if (st == HSM_OK)
        st = hsm_audit_finish(audit, &report);
    if (st == HSM_OK && arguments->report != NULL)
        st = write_report(arguments->report, audit, report);
    else if (st == HSM_OK)
        printer_of(arguments)(report, stdout);
    return outcome(st, report);
}

/* ---- an existing report ---- */

/* A public key, or the certificate of one. */
static enum hsm_status
read_signer(const char *path, EVP_PKEY **out)
{
    DEFER(BIO_free_all) BIO *bio = NULL;
    uint8_t *octets = NULL;
    X509 *certificate = NULL;
    size_t len = 0;
    enum hsm_status st;

    if (path == NULL)
        return HSM_OK;
    st = hsm_file_read(path, PEM_MAX, &octets, &len);
    if (st != HSM_OK)
        return st;
    bio = BIO_new_mem_buf(octets, (int)len);
    *out = bio != NULL ? PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL) : NULL;
    if (*out == NULL && bio != NULL && BIO_reset(bio) == 1)
        certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    if (certificate != NULL)
        *out = X509_get_pubkey(certificate);
    X509_free(certificate);
    ERR_clear_error();
    free(octets);
    return *out != NULL ? HSM_OK
                        : options_refuse("--signer is neither a public key nor a certificate");
}

/* A report that cannot be read has no verdict: exit status 2. */
static enum hsm_status
read_report(const struct arguments *arguments, json_t **out)
{
    DEFER(EVP_PKEY_free) EVP_PKEY *trusted = NULL;
    struct hsm_reason why = {""};
    uint8_t *jws = NULL;
    size_t len = 0;
    enum hsm_status st;

    if (read_signer(arguments->signer, &trusted) != HSM_OK ||
        hsm_file_read(arguments->operands.first, HSM_AUDIT_REPORT_MAX, &jws, &len) != HSM_OK)
        return HSM_ERR_USAGE;
    st = hsm_audit_verify((const char *)jws, len, trusted, out, &why);
    free(jws);
    if (st != HSM_OK)
        hsm_log(HSM_LOG_ERROR, "%s: %s", arguments->operands.first, why.text);
    return st;
}

enum hsm_status
audit_show(const struct arguments *arguments)
{
    DEFER(json_decref) json_t *report = NULL;
    enum hsm_status st = read_report(arguments, &report);

    if (st == HSM_OK)
        printer_of(arguments)(report, stdout);
    return st;
}

enum hsm_status
audit_verify(const struct arguments *arguments)
{
    DEFER(json_decref) json_t *report = NULL;
    enum hsm_status st = read_report(arguments, &report);
    const json_t *signer = json_object_get(report, "signer");
    const char *name;
    json_t *count;

    if (st != HSM_OK)
        return st;
    printf("signature  verifies\n");
    printf("signer     SHA-256 %s\n", json_string_value(json_object_get(signer, "spki_sha256")));
    printf("           %s\n", arguments->signer != NULL
                                  ? "the key that was named"
                                  : "NOT COMPARED with anything: compare it with the one you hold, "
                                    "or name that with --signer");
    printf("report     complete, and agrees with itself\n");
    printf("made       %s\n", json_string_value(json_object_get(report, "made")));
    if (json_is_string(json_object_get(report, "nonce")))
        printf("nonce      %s\n", json_string_value(json_object_get(report, "nonce")));
    printf("%s\n", hsm_audit_faults(report) == 0 ? "CLEAN" : "NOT CLEAN");
    json_object_foreach(json_object_get(report, "summary"), name, count)
        printf("  %-12s  %lld\n", name, (long long)json_integer_value(count));
    return HSM_OK;
}
