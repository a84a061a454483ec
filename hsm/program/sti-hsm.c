/* sti-hsm.c - tokens and their keys, from the command line. */
#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/asn1.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>

#include <hsm/base64url.h>
#include <hsm/defer.h>
#include <hsm/es256.h>
#include <hsm/key.h>
#include <hsm/log.h>
#include <hsm/process.h>
#include <hsm/secret.h>
#include <hsm/status.h>
#include <hsm/token.h>
#include <hsm/use.h>

#include "arguments.h"
#include "commands.h"
#include "open.h"

#define INPUT_MAX (16 * 1024 * 1024) /* octets that `sign` reads; larger: refused */

#define EC_KEY_PAIR_GEN 0x1040UL /* CKM_EC_KEY_PAIR_GEN, PKCS #11 "Elliptic curve mechanisms" */

/* Names on a token are text from outside: none of it may control a terminal. */
static void
print_text(const char *text, int width)
{
    int printed = 0;

    for (const char *c = text; *c != '\0'; c++, printed++)
        putchar(*c >= 0x20 && *c <= 0x7e ? *c : '?');
    for (; printed < width; printed++)
        putchar(' ');
}

static void
print_hex(const uint8_t *octets, size_t len)
{
    for (size_t i = 0; i < len; i++)
        printf("%02x", octets[i]);
}

/* ---- token ---- */

/* A new PIN is typed blind, so it is typed twice: an error would lock its owner out. */
static enum hsm_status
new_pin(const char *source, const char *question, struct hsm_secret **out)
{
    DEFER(hsm_secret_free) struct hsm_secret *pin = NULL;
    DEFER(hsm_secret_free) struct hsm_secret *again = NULL;
    enum hsm_status st;

    if (source != NULL && strcmp(source, "prompt") != 0)
        return hsm_secret_from(source, question, out);
    st = hsm_secret_prompt(question, &pin);
    if (st == HSM_OK)
        st = hsm_secret_prompt("The same again: ", &again);
    if (st != HSM_OK)
        return st;
    if (!hsm_secret_equals(pin, hsm_secret_octets(again), hsm_secret_len(again)))
        return options_refuse("the two PINs differ");
    *out = pin;
    pin = NULL;
    return HSM_OK;
}

static enum hsm_status
token_init(const struct arguments *arguments)
{
    DEFER(hsm_secret_free) struct hsm_secret *so_pin = NULL;
    DEFER(hsm_secret_free) struct hsm_secret *pin = NULL;
    const char *module = open_module(arguments, NULL);
    enum hsm_status st;

    if (module == NULL)
        return options_refuse("no module: neither --module nor $STI_MODULE");
    st = new_pin(arguments->so_pin_source, "PIN of the security officer: ", &so_pin);
    if (st == HSM_OK)
        st = new_pin(arguments->pin_source, "PIN of the user: ", &pin);
    if (st == HSM_OK)
        st = hsm_token_init(module, arguments->label, so_pin, pin);
    if (st == HSM_OK) {
        print_text(arguments->label, 0);
        printf(": initialised\n");
    }
    return st;
}

static void
print_field(const char *name, const char *value)
{
    printf("%-18s  ", name);
    print_text(value, 0);
    putchar('\n');
}

static void
print_token(const struct hsm_token_info *info)
{
    char sessions[32];

    snprintf(sessions, sizeof(sessions), "%lu", info->max_sessions);
    print_field("token", info->label);
    print_field("manufacturer", info->manufacturer);
    print_field("model", info->model);
    print_field("serial", info->serial);
    print_field("hardware", info->hardware_version);
    print_field("firmware", info->firmware_version);
    print_field("module", info->module);
    print_field("module version", info->module_version);
    print_field("most sessions", info->max_sessions != 0 ? sessions : "no limit told");
    print_field("P-256 key pairs", info->has_ec_key_pair_gen ? "yes" : "no");
    print_field("ECDSA signatures", info->has_ecdsa ? "yes" : "no");
    print_field("random generator", info->has_rng ? "yes" : "no");
    if (info->user_pin_low)
        print_field("warning", "wrong PINs were entered, few tries are left");
}

static enum hsm_status
token_show(const struct arguments *arguments)
{
    const char *uri =
        arguments->operands.first != NULL ? arguments->operands.first : arguments->token;
    struct hsm_token_info *infos = NULL;
    size_t count = 0;
    enum hsm_status st = hsm_token_list(uri, open_module(arguments, uri), &infos, &count);

    if (st != HSM_OK)
        return st;
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            putchar('\n');
        print_token(&infos[i]);
    }
    free(infos);
    if (count > 0)
        return HSM_OK;
    hsm_log(HSM_LOG_ERROR, "no token matches");
    return HSM_ERR_NOT_FOUND;
}

/* ---- key ---- */

static const char *
word_of(int value)
{
    if (value < 0)
        return "not reported";
    return value == 1 ? "yes" : "no";
}

static int
widest_label(const struct hsm_key_info *infos, size_t count)
{
    size_t width = strlen("LABEL");

    for (size_t i = 0; i < count; i++)
        width = strlen(infos[i].label) > width ? strlen(infos[i].label) : width;
    return (int)width;
}

static int
widest_id(const struct hsm_key_info *infos, size_t count)
{
    size_t width = strlen("ID");

    for (size_t i = 0; i < count; i++)
        width = 2 * infos[i].id_len > width ? 2 * infos[i].id_len : width;
    return (int)width;
}

static void
print_row(const struct hsm_key_info *info, int label_width, int id_width)
{
    print_text(info->label, label_width);
    printf("  ");
    print_hex(info->id, info->id_len);
    printf("%*s  %-5s  %-9s  %-16s  %-11s  %-17s  %-8s  %s\n", id_width - 2 * (int)info->id_len, "",
           info->is_p256 ? "P-256" : "other", word_of(info->sensitive),
           word_of(info->always_sensitive), word_of(info->extractable),
           word_of(info->never_extractable), word_of(info->local),
           info->may_be_used ? "yes" : "NO");
}

static enum hsm_status
key_list(const struct arguments *arguments)
{
    DEFER(hsm_token_close) struct hsm_token *token = NULL;
    struct hsm_key_info *infos = NULL;
    size_t count = 0;
    enum hsm_status st = open_token(arguments, arguments->token, NULL, &token);

    if (st == HSM_OK)
        st = hsm_key_list(token, &infos, &count);
    if (st != HSM_OK)
        return st;
    printf("%-*s  %-*s  CURVE  SENSITIVE  ALWAYS SENSITIVE  EXTRACTABLE  NEVER EXTRACTABLE  "
           "LOCAL     MAY BE USED\n",
           widest_label(infos, count), "LABEL", widest_id(infos, count), "ID");
    for (size_t i = 0; i < count; i++)
        print_row(&infos[i], widest_label(infos, count), widest_id(infos, count));
    free(infos);
    return HSM_OK;
}

static void
print_attributes(const struct hsm_key_info *info)
{
    const struct {
        const char *name;
        int value;
    } attributes[] = {
        {"sensitive", info->sensitive},
        {"always sensitive", info->always_sensitive},
        {"extractable", info->extractable},
        {"never extractable", info->never_extractable},
        {"local", info->local},
        {"on the token", info->on_token},
        {"needs a login", info->needs_login},
        {"sign", info->sign},
        {"sign recover", info->sign_recover},
        {"decrypt", info->decrypt},
        {"unwrap", info->unwrap},
        {"derive", info->derive},
        {"modifiable", info->modifiable},
        {"copyable", info->copyable},
        {"always authenticate", info->always_authenticate},
    };

    for (size_t i = 0; i < sizeof(attributes) / sizeof(attributes[0]); i++)
        print_field(attributes[i].name, word_of(attributes[i].value));
    printf("%-18s  0x%lx%s\n", "generated by", info->gen_mechanism,
           info->gen_mechanism == EC_KEY_PAIR_GEN ? " (CKM_EC_KEY_PAIR_GEN)" : "");
}

static enum hsm_status
print_key(struct hsm_key *key)
{
    struct hsm_key_info info;
    enum hsm_status st = hsm_key_describe(key, &info); /* as it is now: for records, ceremonies */

    if (st != HSM_OK)
        return st;

    print_field("label", hsm_key_label(key));
    print_field("id", hsm_key_id(key));
    print_field("uri", hsm_key_uri(key));
    print_field("curve", "P-256");
    print_field("can leave", info.local == 1 ? "no: sensitive, never extractable, generated in the "
                                               "token"
                                             : "no: always sensitive, never extractable; the token "
                                               "does not say that it was generated in it");
    print_attributes(&info);
    printf("%-18s  ", "point");
    print_hex(hsm_key_point(key), HSM_P256_POINT_LEN);
    putchar('\n');
    return PEM_write_PUBKEY(stdout, hsm_key_public(key)) == 1 ? HSM_OK : HSM_ERR_IO;
}

static enum hsm_status
key_show(const struct arguments *arguments)
{
    DEFER(hsm_token_close) struct hsm_token *token = NULL;
    DEFER(hsm_key_free) struct hsm_key *key = NULL;
    enum hsm_status st = open_key(arguments, NULL, &token, &key);

    return st == HSM_OK ? print_key(key) : st;
}

static enum hsm_status
key_generate(const struct arguments *arguments)
{
    DEFER(hsm_token_close) struct hsm_token *token = NULL;
    DEFER(hsm_key_free) struct hsm_key *key = NULL;
    enum hsm_status st = open_token(arguments, arguments->token, NULL, &token);

    if (st == HSM_OK)
        st = hsm_key_generate(token, arguments->label, &key);
    return st == HSM_OK ? print_key(key) : st;
}

/* Destruction is final, so the user types the key's name. */
static enum hsm_status
confirm(const struct hsm_key *key)
{
    char line[HSM_LABEL_MAX + 2];

    if (isatty(STDIN_FILENO) != 1)
        return options_refuse("no terminal to confirm on: say --yes");
    fprintf(stderr, "The key cannot be brought back. Its label, to destroy it: ");
    if (fgets(line, sizeof(line), stdin) == NULL)
        return options_refuse("not confirmed");
    line[strcspn(line, "\n")] = '\0';
    return strcmp(line, hsm_key_label(key)) == 0 ? HSM_OK : options_refuse("not confirmed");
}

static enum hsm_status
key_destroy(const struct arguments *arguments)
{
    DEFER(hsm_token_close) struct hsm_token *token = NULL;
    DEFER(hsm_key_free) struct hsm_key *key = NULL;
    enum hsm_status st = open_key(arguments, NULL, &token, &key);

    if (st == HSM_OK && !arguments->yes)
        st = confirm(key);
    if (st == HSM_OK)
        st = hsm_key_destroy(key);
    if (st == HSM_OK) {
        print_text(hsm_key_label(key), 0);
        printf(": destroyed\n");
    }
    return st;
}

/* ---- sign ---- */

static void
put_raw(const uint8_t *sig)
{
    fwrite(sig, 1, HSM_P256_SIG_LEN, stdout);
}

static void
put_hex(const uint8_t *sig)
{
    print_hex(sig, HSM_P256_SIG_LEN);
    putchar('\n');
}

static void
put_base64url(const uint8_t *sig)
{
    char text[HSM_BASE64URL_LEN(HSM_P256_SIG_LEN)];

    fwrite(text, 1, hsm_base64url_write(sig, HSM_P256_SIG_LEN, text), stdout);
    putchar('\n');
}

static void
put_der(const uint8_t *sig)
{
    uint8_t der[HSM_P256_DER_SIG_MAX];
    size_t len = 0;

    if (hsm_es256_to_der(sig, der, &len) == HSM_OK) /* hsm_key_sign() returns nothing invalid */
        fwrite(der, 1, len, stdout);
}

struct form {
    const char *name;
    void (*put)(const uint8_t *sig);
};

static const struct form forms[] = {
    {"base64url", put_base64url}, {"hex", put_hex}, {"raw", put_raw}, {"der", put_der}};

static const struct form *
form_of(const char *name)
{
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        if (name == NULL || strcmp(forms[i].name, name) == 0)
            return &forms[i];
    }
    return NULL;
}

/* DER or BER: the signed part of a certificate, CRL or CSR is a SEQUENCE (RFC 5280 section 4.1),
 * that of a CMS message a SET (RFC 5652 section 5.4). */
static bool
is_asn1(const uint8_t *octets, size_t len)
{
    const uint8_t *at = octets;
    long inside = 0;
    int tag, class;
    int form = ASN1_get_object(&at, &inside, &tag, &class, (long)len);
    bool is_whole = (form & 1) != 0 || (size_t)(at - octets) + (size_t)inside == len;

    ERR_clear_error();
    return (form & 0x80) == 0 && (form & V_ASN1_CONSTRUCTED) != 0 && class == V_ASN1_UNIVERSAL &&
           (tag == V_ASN1_SEQUENCE || tag == V_ASN1_SET) && is_whole;
}

/* "BASE64URL.BASE64URL", which RFC 7515 section 5.1 signs: PASSporTs, tokens, ACME requests. */
static bool
is_jws_signing_input(const uint8_t *octets, size_t len)
{
    size_t dots = 0;

    for (size_t i = 0; i < len; i++) {
        if (octets[i] == '.')
            dots++;
        else if (!isalnum(octets[i]) && octets[i] != '-' && octets[i] != '_')
            return false;
    }
    return dots == 1;
}

/* Programs that issue check what they sign and record it; this command must not bypass them. */
static enum hsm_status
sign_text(struct hsm_key *key, const uint8_t *message, size_t len, uint8_t *sig)
{
    if (is_asn1(message, len))
        return options_refuse("the input is ASN.1, as certificates and CRLs are: not signed here");
    if (is_jws_signing_input(message, len))
        return options_refuse("the input is that of a JWS, as PASSporTs and tokens are: not "
                              "signed here");
    return hsm_key_sign_verified(key, message, len, sig);
}

static enum hsm_status
sign_file(struct hsm_key *key, const char *path, uint8_t *sig)
{
    uint8_t *message = NULL;
    size_t len = 0;
    enum hsm_status st;

    if (path == NULL || strcmp(path, "-") == 0)
        st = hsm_file_read_fd(STDIN_FILENO, INPUT_MAX, &message, &len);
    else
        st = hsm_file_read(path, INPUT_MAX, &message, &len);
    if (st == HSM_OK)
        st = sign_text(key, message, len, sig);
    free(message);
    return st;
}

static enum hsm_status
sign(const struct arguments *arguments)
{
    DEFER(hsm_token_close) struct hsm_token *token = NULL;
    DEFER(hsm_key_free) struct hsm_key *key = NULL;
    const struct form *form = form_of(arguments->out);
    uint8_t sig[HSM_P256_SIG_LEN];
    enum hsm_status st;
    HSM_USE_FOR(HSM_USE_OPERATOR);

    if (form == NULL)
        return options_refuse("--out is base64url, hex, raw or der");
    st = open_key(arguments, NULL, &token, &key);
    if (st == HSM_OK)
        st = sign_file(key, arguments->in, sig);
    if (st == HSM_OK)
        form->put(sig);
    return st;
}

static const struct command commands[] = {
    {"token init", "module label! so-pin-source pin-source", NULL,
     "initialise a fresh token with a label and two PINs", NULL, token_init},
    {"token show", "module token", "[URI]", "what the tokens say of themselves; needs no PIN", NULL,
     token_show},
    {"key generate", "module token! pin-source quirks label! journal", NULL,
     "a new P-256 key pair in the token, never extractable", NULL, key_generate},
    {"key list", "module token! pin-source quirks", NULL,
     "every private key on the token, and whether it can leave", NULL, key_list},
    {"key show", "module token key! pin-source quirks", NULL, "one key and its public half", NULL,
     key_show},
    {"key destroy", "module token key! pin-source quirks yes journal", NULL,
     "destroy a key pair for good", NULL, key_destroy},
    {"sign", "module token key! pin-source quirks in out journal", NULL,
     "sign a text (ES256); what certificates, CRLs and tokens are made of is refused", NULL, sign},
    {"bench", "module token key! pin-source quirks route sessions seconds json journal", NULL,
     "how fast the token signs with 1, 2, 4 ... sessions, and how many to use", NULL, bench_run},
    {"doctor", "module token! pin-source quirks journal", NULL,
     "check module, token, PIN, keys, clock and limits, and say what to mend", NULL, doctor_run},
    {"journal show", "dir file kind who signed-digest json", NULL,
     "what keys were used for, a line for each use", NULL, journal_show},
    {"journal verify", "dir public-key checkpoint token-count counted-before json", NULL,
     "is all there as it was written? names the first record that is not", NULL, journal_verify},
    {"journal prove", "dir file record signed-digest checkpoint check public-key", NULL,
     "prove that a record is in it, to who has a checkpoint; or check a proof", NULL,
     journal_prove},
    {"journal export", "dir file json", NULL,
     "the last checkpoints, to keep elsewhere; all of a file; or records as JSON", NULL,
     journal_export},
    {"audit verify", "signer", "REPORT",
     "check signature, schema and agreement of a signed report; needs no token", NULL,
     audit_verify},
    {"audit show", "signer html json", "REPORT", "the same, and print it", NULL, audit_show},
    {"audit",
     "module token key pin-source quirks certificates uncertified attempt yes attestation "
     "attestation-root "
     "files process secret-source nonce report json html",
     NULL, "evidence that no private key can leave its token; --key signs it", NULL, audit_run},
};

static const struct option_table table = {
    .program = "sti-hsm",
    .rows = argument_rows,
    .commands = commands,
    .command_count = sizeof(commands) / sizeof(commands[0]),
    .arguments_size = sizeof(struct arguments),
    .operands_offset = offsetof(struct arguments, operands),
    .complete = arguments_complete,
};

int
main(int argc, char **argv)
{
    return options_main(&table, argc, argv);
}
