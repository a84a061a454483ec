/* sks_call.c - sti-sks sign and verify: one call on the command line. */
#include "sks_commands.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <jansson.h>
#include <openssl/rand.h>

#include <hsm/defer.h>
#include <hsm/log.h>
#include <sks/catalogue.h>
#include <sks/identity.h>
#include <sks/signers.h>
#include <sks/tn.h>
#include <sks/verify.h>

#define UUID_LEN 36

/* A time on the command line; `fallback` if the option is absent. */
static enum hsm_status
parse_time(const char *option, const char *text, time_t fallback, int64_t *out)
{
    long long seconds = fallback;
    enum hsm_status st = HSM_OK;

    if (text != NULL)
        st = options_number(option, text, 0, LLONG_MAX, &seconds);
    if (st == HSM_OK)
        *out = seconds;
    return st;
}

/* The canonical forms of the given numbers; false: one is not a telephone number, or none is given.
 */
static bool
canonical_numbers(const char *const *given, char texts[][SKS_TN_MAX + 1], const char **out,
                  size_t *count)
{
    for (*count = 0; given[*count] != NULL; (*count)++) {
        if (sks_tn_canonical(given[*count], NULL, texts[*count]) != HSM_OK)
            return false;
        out[*count] = texts[*count];
    }
    return *count > 0;
}

/* ---- sign ---- */

/* A random UUID (RFC 4122 section 4.4). */
static enum hsm_status
new_uuid(char out[UUID_LEN + 1])
{
    unsigned char b[16];

    if (RAND_bytes(b, sizeof(b)) != 1)
        return HSM_ERR_CRYPTO;
    b[6] = (unsigned char)((b[6] & 0x0f) | 0x40);
    b[8] = (unsigned char)((b[8] & 0x3f) | 0x80);
    snprintf(out, UUID_LEN + 1,
             "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1],
             b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14],
             b[15]);
    return HSM_OK;
}

static enum hsm_status
sign_claims(const struct sks_sp_config *config, const char *spc, const struct sks_claims *claims,
            time_t now)
{
    DEFER(sks_tokens_close) struct sks_tokens *tokens = NULL;
    DEFER(sks_catalogue_close) struct sks_catalogue *catalogue = NULL;
    DEFER(sks_signers_free) struct sks_signers *signers = NULL;
    DEFER(free) char *identity = NULL;
    const struct sks_signer *signer;
    struct hsm_reason why = {""};
    enum hsm_status st = sks_sp_tokens_open(config, NULL, &tokens);

    if (st == HSM_OK)
        st = sks_catalogue_open(config->catalogue, &catalogue);
    if (st == HSM_OK)
        st = sks_signers_load(catalogue, tokens, spc, &signers);
    if (st == HSM_OK)
        st = sks_signers_check(signers);
    if (st != HSM_OK)
        return st;
    st = sks_signers_sign(signers, claims, now, &identity, &signer, &why);
    if (signer == NULL)
        hsm_log(HSM_LOG_ERROR, "no active credential%s%s", spc != NULL ? " of SPC " : "",
                spc != NULL ? spc : "");
    else if (st != HSM_OK)
        hsm_log(HSM_LOG_ERROR, "not signed: %s", why.text);
    else
        printf("%s\n", identity);
    return st;
}

enum hsm_status
sks_run_sign(const struct arguments *arguments)
{
    CLEAR_AFTER(sks_sp_config_clear) struct sks_sp_config config = {.spc = NULL};
    char orig[SKS_TN_MAX + 1];
    char dests[SKS_DEST_MAX][SKS_TN_MAX + 1];
    const char *dest[SKS_DEST_MAX];
    char origid[UUID_LEN + 1];
    time_t now = time(NULL);
    struct sks_claims claims = {.orig_tn = orig, .dest_tn = dest, .origid = arguments->origid};
    enum hsm_status st;

    if (sks_tn_canonical(arguments->orig, NULL, orig) != HSM_OK ||
        !canonical_numbers(arguments->dests, dests, dest, &claims.dest_tn_count))
        return options_refuse("--orig and --dest want telephone numbers");
    if (strlen(arguments->attest) != 1)
        return options_refuse("--attest wants A, B or C");
    claims.attest = arguments->attest[0];
    st = parse_time("iat", arguments->iat, now, &claims.iat);
    if (st == HSM_OK)
        st = new_uuid(origid);
    if (claims.origid == NULL)
        claims.origid = origid;
    if (st == HSM_OK)
        st = sks_sp_config_open(PROGRAM, arguments->config, &config);
    return st == HSM_OK ? sign_claims(&config, arguments->spc != NULL ? arguments->spc : config.spc,
                                      &claims, now)
                        : st;
}

/* ---- verify ---- */

/* One header field value, with or without the field name, from a file or standard input. */
static enum hsm_status
read_identity(const char *path, char out[SKS_IDENTITY_MAX + 1])
{
    FILE *from = strcmp(path, "-") == 0 ? stdin : fopen(path, "r");
    size_t len;

    if (from == NULL) {
        hsm_log(HSM_LOG_ERROR, "%s: %s", path, strerror(errno));
        return errno == ENOENT ? HSM_ERR_NOT_FOUND : HSM_ERR_IO;
    }
    len = fread(out, 1, SKS_IDENTITY_MAX + 1, from);
    if (from != stdin)
        fclose(from);
    if (len > SKS_IDENTITY_MAX) {
        hsm_log(HSM_LOG_ERROR, "%s: longer than %d octets", path, SKS_IDENTITY_MAX);
        return HSM_ERR_MALFORMED;
    }
    while (len > 0 && isspace((unsigned char)out[len - 1]))
        len--;
    out[len] = '\0';
    return HSM_OK;
}

static enum hsm_status
print_verdict(const struct sks_verification *verdict)
{
    char attest[2] = {verdict->attest, '\0'};
    bool valid = verdict->verdict == SKS_VALID;
    json_t *json = json_pack("{s:b, s:s}", "valid", valid, "verstat", verdict->verstat);
    int rc = json == NULL ? -1 : 0;

    if (rc == 0 && valid)
        rc = json_object_set_new(json, "attest", json_string(attest));
    if (rc == 0 && !valid)
        rc = json_object_update_new(
            json, json_pack("{s:i, s:i, s:s, s:s}", "case", (int)verdict->verdict, "reasoncode",
                            verdict->reason_code, "reasontext", verdict->reason_text, "reasondesc",
                            verdict->reason_desc.text));
    if (rc == 0)
        rc = json_dumpf(json, stdout, JSON_COMPACT);
    json_decref(json);
    if (rc != 0)
        return HSM_ERR_NOMEM;
    printf("\n");
    fflush(stdout);
    if (valid)
        fprintf(stderr, "valid: attestation %s\n", attest);
    else
        fprintf(stderr, "not valid: E%d, %d %s: %s\n", (int)verdict->verdict, verdict->reason_code,
                verdict->reason_text, verdict->reason_desc.text);
    return valid ? HSM_OK : HSM_ERR_UNTRUSTED;
}

static enum hsm_status
verify_call(const struct arguments *arguments, const struct sks_call *call, time_t now)
{
    CLEAR_AFTER(sks_sp_config_clear) struct sks_sp_config config = {.spc = NULL};
    CLEAR_AFTER(sks_sp_verification_close) struct sks_sp_verification verification = {.http = NULL};
    struct sks_verification verdict;
    enum hsm_status st = sks_sp_config_open(PROGRAM, arguments->config, &config);

    if (st == HSM_OK)
        st = sks_sp_verification_open(&config, &verification);
    if (st != HSM_OK)
        return st;
    st = sks_trust_refresh(verification.trust, now);
    if (st != HSM_OK && !sks_trust_is_ready(verification.trust, now)) {
        hsm_log(HSM_LOG_ERROR, "no trusted-CA list and CRL that are good now: nothing is judged");
        return st;
    }
    st = sks_verify(verification.verifier, call, now, &verdict);
    return st == HSM_OK ? print_verdict(&verdict) : st;
}

enum hsm_status
sks_run_verify(const struct arguments *arguments)
{
    char identity[SKS_IDENTITY_MAX + 1];
    char tos[SKS_DEST_MAX][SKS_TN_MAX + 1];
    const char *to[SKS_DEST_MAX];
    char from[SKS_TN_MAX + 1];
    time_t now = time(NULL);
    struct sks_call call = {.from_tn = from, .to_tn = to, .identity = identity};
    enum hsm_status st;

    if (sks_tn_canonical(arguments->from, NULL, from) != HSM_OK ||
        !canonical_numbers(arguments->tos, tos, to, &call.to_tn_count))
        return options_refuse("--from and --to want telephone numbers");
    st = parse_time("time", arguments->time, now, &call.time);
    if (st == HSM_OK)
        st = read_identity(arguments->identity, identity);
    return st == HSM_OK ? verify_call(arguments, &call, now) : st;
}
