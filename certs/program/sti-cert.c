/* sti-cert.c - requests, certificates, chains and the CRL, from the command line. */

#define _GNU_SOURCE /* strptime, timegm */

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/x509.h>

#include <certs/cert.h>
#include <certs/chain.h>
#include <certs/crl.h>
#include <certs/csr.h>
#include <certs/issue.h>
#include <hsm/defer.h>
#include <hsm/key.h>
#include <hsm/log.h>
#include <hsm/process.h>
#include <hsm/secret.h>
#include <hsm/token.h>
#include <hsm/uri.h>

#include "options.h"

#define BACKDATE_S 300 /* seconds before now that a validity begins: some clocks are late */
#define DAYS_MAX   36525
#define A_DAY      86400

DEFINE_DEFER(X509, X509_free)
DEFINE_DEFER(struct certs_chain, certs_chain_free)
DEFINE_DEFER(struct certs_crl, certs_crl_free)
DEFINE_DEFER(struct certs_tnauthlist, certs_tnauthlist_free)
DEFINE_DEFER(struct hsm_key, hsm_key_free)
DEFINE_DEFER(struct hsm_secret, hsm_secret_free)
DEFINE_DEFER(struct hsm_token, hsm_token_close)
DEFINE_DEFER(struct hsm_uri, hsm_uri_free)

/* ---- what commands share ---- */

/* An input was refused: tell why, once. */
static enum hsm_status
tell(enum hsm_status st, const char *what, const struct hsm_reason *why)
{
    if (st != HSM_OK && why->text[0] != '\0')
        hsm_log(HSM_LOG_ERROR, "%s: %s", what, why->text);
    return st;
}

static bool
is_uri(const char *text)
{
    return strncmp(text, "pkcs11:", 7) == 0;
}

static enum hsm_status
open_token_of(const struct arguments *arguments, const char *text, struct hsm_token **out)
{
    DEFER(hsm_secret_free) struct hsm_secret *pin = NULL;
    DEFER(hsm_uri_free) struct hsm_uri *uri = NULL;
    struct hsm_reason why = {0};
    const char *module = arguments->module;
    enum hsm_status st = hsm_uri_parse(text, &uri, &why);

    if (st != HSM_OK)
        return tell(st, "token", &why);
    if (module == NULL && hsm_uri_get(uri, "module-path") == NULL)
        module = getenv("STI_MODULE");
    if (arguments->pin_source != NULL)
        st = hsm_secret_from(arguments->pin_source, "PIN: ", &pin);
    else if (hsm_uri_get(uri, "pin-source") == NULL)
        st = hsm_secret_prompt("PIN: ", &pin);
    if (st != HSM_OK)
        return st;
    return hsm_token_open(&(struct hsm_token_config){.uri = text, .module = module, .pin = pin},
                          out);
}

/* --key is a URI, or a label on --token. */
static enum hsm_status
open_key(const struct arguments *arguments, struct hsm_token **token, struct hsm_key **key)
{
    const char *text = arguments->token != NULL ? arguments->token : arguments->key;
    char uri[HSM_URI_MAX];
    size_t len = strlen("pkcs11:object=");
    enum hsm_status st;

    if (!is_uri(text))
        return options_refuse("the token is needed: --token, or a PKCS#11 URI as --key");
    st = open_token_of(arguments, text, token);
    if (st != HSM_OK || is_uri(arguments->key))
        return st == HSM_OK ? hsm_key_find(*token, arguments->key, key) : st;
    if (strlen(arguments->key) > HSM_LABEL_MAX)
        return options_refuse("--key: more than %d octets", HSM_LABEL_MAX);
    memcpy(uri, "pkcs11:object=", len);
    for (const char *c = arguments->key; *c != '\0'; c++, len += 3)
        (void)snprintf(uri + len, sizeof(uri) - len, "%%%02X", (unsigned char)*c);
    return hsm_key_find(*token, uri, key);
}

/* The text to --out, or to standard output. */
static enum hsm_status
put_out(const struct arguments *arguments, const char *text)
{
    if (arguments->out != NULL)
        return hsm_file_write(arguments->out, text, strlen(text), 0644);
    return fputs(text, stdout) == EOF ? HSM_ERR_IO : HSM_OK;
}

static enum hsm_status
spc_of(const struct arguments *arguments, struct certs_tnauthlist **out)
{
    if (arguments->spc == NULL)
        return HSM_OK;
    if (certs_tnauthlist_from_spc(arguments->spc, out) != HSM_OK)
        return options_refuse("--spc: not a service provider code");
    return HSM_OK;
}

#define SHAKEN_CN_MAX (sizeof("SHAKEN ") + CERTS_SPC_MAX)

static struct certs_subject
subject_of(const struct arguments *arguments, char cn[SHAKEN_CN_MAX])
{
    struct certs_subject subject = {.country = arguments->country,
                                    .state = arguments->state,
                                    .locality = arguments->locality,
                                    .organization = arguments->organization,
                                    .common_name = arguments->common_name};

    if (subject.common_name == NULL && arguments->spc != NULL) {
        (void)snprintf(cn, SHAKEN_CN_MAX, "SHAKEN %s", arguments->spc);
        subject.common_name = cn;
    }
    return subject;
}

static enum hsm_status
time_of(const struct arguments *arguments, time_t *out)
{
    struct tm tm = {0};
    const char *end;

    if (arguments->at == NULL) {
        *out = time(NULL);
        return HSM_OK;
    }
    end = strptime(arguments->at, "%Y-%m-%dT%H:%M:%SZ", &tm);
    if (end == NULL || *end != '\0')
        return options_refuse("--at: not a time such as 2026-01-15T12:00:00Z");
    *out = timegm(&tm);
    return HSM_OK;
}

static enum hsm_status
read_crl(const char *path, struct certs_crl **out)
{
    struct hsm_reason why = {0};
    uint8_t *octets = NULL;
    size_t len;
    enum hsm_status st = hsm_file_read(path, CERTS_CRL_MAX, &octets, &len);

    if (st == HSM_OK)
        st = tell(certs_crl_parse(octets, len, out, &why), path, &why);
    free(octets);
    return st;
}

/* ---- show ---- */

static enum hsm_status
show(const struct arguments *arguments)
{
    DEFER(certs_chain_free) struct certs_chain *chain = NULL;
    time_t now = 0;
    enum hsm_status st = time_of(arguments, &now);

    if (st == HSM_OK)
        st = certs_chain_read(arguments->operand, &chain);
    return st == HSM_OK ? certs_chain_show(chain, now, stdout) : st;
}

static enum hsm_status
crl_show(const struct arguments *arguments)
{
    DEFER(certs_crl_free) struct certs_crl *crl = NULL;
    enum hsm_status st = read_crl(arguments->operand, &crl);

    return st == HSM_OK ? certs_crl_show(crl, stdout) : st;
}

/* ---- csr ---- */

static enum hsm_status
csr(const struct arguments *arguments)
{
    DEFER(hsm_token_close) struct hsm_token *token = NULL;
    DEFER(hsm_key_free) struct hsm_key *key = NULL;
    DEFER(certs_tnauthlist_free) struct certs_tnauthlist *list = NULL;
    char cn[SHAKEN_CN_MAX];
    uint8_t *der = NULL;
    char *pem = NULL;
    size_t len;
    enum hsm_status st = spc_of(arguments, &list);

    if (st == HSM_OK)
        st = open_key(arguments, &token, &key);
    if (st == HSM_OK)
        st = certs_csr_new(&(struct certs_csr_request){.subject = subject_of(arguments, cn),
                                                       .tnauthlist = list,
                                                       .ca = arguments->ca != NULL,
                                                       .dns_names = arguments->dns,
                                                       .ip_addresses = arguments->ip},
                           key, &der, &len);
    if (st == HSM_OK)
        st = certs_csr_pem(der, len, &pem);
    if (st == HSM_OK)
        st = put_out(arguments, pem);
    free(pem);
    free(der);
    return st;
}

/* ---- issue ---- */

/* What issue() has read; all owned. */
struct issue_input {
    struct hsm_token *token;
    struct hsm_key *key;
    struct certs_csr *csr; /* NULL: self-signed */
    struct certs_chain *issuer; /* NULL: self-signed; else the first is the issuer */
    struct certs_chain *crl_issuer; /* NULL: not told */
    struct certs_tnauthlist *tnauthlist;
    char cn[SHAKEN_CN_MAX];
};

static void
issue_input_release(struct issue_input *input)
{
    certs_tnauthlist_free(input->tnauthlist);
    certs_chain_free(input->crl_issuer);
    certs_chain_free(input->issuer);
    certs_csr_free(input->csr);
    hsm_key_free(input->key);
    hsm_token_close(input->token);
}

static bool
is_root(enum certs_profile profile)
{
    return profile == CERTS_PROFILE_STI_ROOT || profile == CERTS_PROFILE_PA_ROOT ||
           profile == CERTS_PROFILE_TLS_ROOT;
}

static enum hsm_status
check_issue_arguments(const struct arguments *arguments, enum certs_profile profile)
{
    if (is_root(profile) && (arguments->csr != NULL || arguments->issuer != NULL))
        return options_refuse("%s: signs itself, has neither --csr nor --issuer",
                              arguments->profile);
    if (!is_root(profile) && (arguments->csr == NULL || arguments->issuer == NULL))
        return options_refuse("%s: --csr and --issuer are needed", arguments->profile);
    return HSM_OK;
}

static enum hsm_status
read_issue_input(const struct arguments *arguments, struct issue_input *input)
{
    enum hsm_status st = spc_of(arguments, &input->tnauthlist);

    if (st == HSM_OK && arguments->csr != NULL)
        st = certs_csr_read(arguments->csr, &input->csr);
    if (st == HSM_OK && arguments->issuer != NULL)
        st = certs_chain_read(arguments->issuer, &input->issuer);
    if (st == HSM_OK && arguments->crl_issuer != NULL)
        st = certs_chain_read(arguments->crl_issuer, &input->crl_issuer);
    return st == HSM_OK ? open_key(arguments, &input->token, &input->key) : st;
}

/* The operator's word decides what is issued; a request that asks for something else is refused. */
static enum hsm_status
check_csr(const struct arguments *arguments, const struct issue_input *input,
          enum certs_profile profile)
{
    const struct certs_tnauthlist *asked = certs_csr_tnauthlist(input->csr);
    const char *wrong = NULL;

    if (certs_csr_is_ca(input->csr) != (profile == CERTS_PROFILE_STI_INTERMEDIATE))
        wrong = certs_csr_is_ca(input->csr) ? "it asks for a CA certificate"
                                            : "it does not ask for a CA certificate";
    else if (asked != NULL &&
             (input->tnauthlist == NULL || !certs_tnauthlist_equals(asked, input->tnauthlist)))
        wrong = "it asks for another TNAuthList than that of --spc";
    if (wrong == NULL)
        return HSM_OK;
    hsm_log(HSM_LOG_ERROR, "%s: %s", arguments->csr, wrong);
    return HSM_ERR_UNTRUSTED;
}

static enum hsm_status
days_of(const struct arguments *arguments, enum certs_profile profile, long *out)
{
    char *end;
    long days = 0;

    if (arguments->days == NULL) {
        *out = is_root(profile) ? 7305 : profile == CERTS_PROFILE_STI_INTERMEDIATE ? 1826 : 90;
        return HSM_OK;
    }
    errno = 0;
    days = strtol(arguments->days, &end, 10);
    if (errno != 0 || end == arguments->days || *end != '\0' || days < 1 || days > DAYS_MAX)
        return options_refuse("--days: not a number from 1 to %d", DAYS_MAX);
    *out = days;
    return HSM_OK;
}

static void
set_validity(struct certs_issue_request *request, const X509 *issuer, long days)
{
    time_t now = time(NULL);

    request->not_before = now - BACKDATE_S;
    if (issuer != NULL && request->not_before < certs_cert_not_before(issuer))
        request->not_before = certs_cert_not_before(issuer);
    request->not_after = now + days * A_DAY - 1; /* the last second is valid too */
}

static void
fill_request(const struct arguments *arguments, struct issue_input *input,
             struct certs_issue_request *request)
{
    bool has_policy = request->profile == CERTS_PROFILE_STI_INTERMEDIATE ||
                      request->profile == CERTS_PROFILE_STI_END_ENTITY;

    request->subject = subject_of(arguments, input->cn);
    request->public_key =
        input->csr != NULL ? certs_csr_public(input->csr) : hsm_key_public(input->key);
    request->tnauthlist = input->tnauthlist;
    request->policy_oid =
        arguments->policy == NULL && has_policy ? CERTS_POLICY_CP_1_4 : arguments->policy;
    request->crl_url = arguments->crl_url;
    if (input->crl_issuer != NULL)
        request->crl_issuer = certs_cert_subject_name(certs_chain_get(input->crl_issuer, 0));
    request->dns_names = arguments->dns;
    request->ip_addresses = arguments->ip;
}

static enum hsm_status
sign_and_write(const struct arguments *arguments, struct issue_input *input,
               struct certs_issue_request *request, const X509 *issuer)
{
    DEFER(X509_free) X509 *cert = NULL;
    struct hsm_reason why = {0};
    char *pem = NULL;
    char *serial;
    enum hsm_status st = certs_serial_new(input->token, request->serial, &request->serial_len);

    if (st == HSM_OK)
        st = tell(certs_issue(request, issuer, input->key, &cert, &why), "refused", &why);
    if (st == HSM_OK)
        st = certs_cert_pem(cert, &pem);
    if (st == HSM_OK)
        st = put_out(arguments, pem);
    free(pem);
    if (st != HSM_OK)
        return st;
    serial = certs_cert_serial_hex(cert);
    hsm_log(HSM_LOG_INFO, "issued %s, serial %s", certs_profile_text(request->profile),
            serial == NULL ? "?" : serial);
    free(serial);
    return HSM_OK;
}

static enum hsm_status
issue_from(const struct arguments *arguments, enum certs_profile profile, struct issue_input *input)
{
    struct certs_issue_request request = {.profile = profile};
    const X509 *issuer = NULL;
    long days = 0;
    enum hsm_status st = days_of(arguments, profile, &days);

    if (st == HSM_OK)
        st = read_issue_input(arguments, input);
    if (st == HSM_OK && input->csr != NULL)
        st = check_csr(arguments, input, profile);
    if (st != HSM_OK)
        return st;
    if (input->issuer != NULL)
        issuer = certs_chain_get(input->issuer, 0);
    fill_request(arguments, input, &request);
    set_validity(&request, issuer, days);
    return sign_and_write(arguments, input, &request, issuer);
}

static enum hsm_status
issue(const struct arguments *arguments)
{
    struct issue_input input = {0};
    enum certs_profile profile;
    enum hsm_status st;

    if (certs_profile_parse(arguments->profile, &profile) != HSM_OK)
        return options_refuse("--profile: \"%s\" is not one; see --help", arguments->profile);
    st = check_issue_arguments(arguments, profile);
    if (st == HSM_OK)
        st = issue_from(arguments, profile, &input);
    issue_input_release(&input);
    return st;
}

/* ---- verify ---- */

static enum hsm_status
purpose_of(const struct arguments *arguments, enum certs_purpose *out)
{
    const char *word = arguments->purpose == NULL ? "sti" : arguments->purpose;

    if (strcmp(word, "sti") == 0)
        *out = CERTS_FOR_STI;
    else if (strcmp(word, "pa-signing") == 0)
        *out = CERTS_FOR_PA_SIGNING;
    else if (strcmp(word, "crl") == 0)
        *out = CERTS_FOR_CRL;
    else
        return options_refuse("--purpose is sti, pa-signing or crl");
    return HSM_OK;
}

static enum hsm_status
check_listed(const struct certs_crl *crl, const struct certs_chain *chain)
{
    for (size_t i = 0; i < certs_chain_len(chain); i++) {
        X509 *cert = certs_chain_get(chain, i);

        if (certs_crl_has(crl, cert)) {
            char *subject = certs_cert_subject(cert);

            hsm_log(HSM_LOG_ERROR, "\"%s\" is revoked", subject == NULL ? "?" : subject);
            free(subject);
            return HSM_ERR_UNTRUSTED;
        }
    }
    return HSM_OK;
}

/* Our own look at the CRL: it ends at another anchor than the chain does. */
static enum hsm_status
check_crl(const struct arguments *arguments, const struct certs_chain *chain, time_t now)
{
    DEFER(certs_crl_free) struct certs_crl *crl = NULL;
    DEFER(certs_chain_free) struct certs_chain *signer = NULL;
    DEFER(certs_chain_free) struct certs_chain *anchors = NULL;
    struct hsm_reason why = {0};
    char *url = NULL;
    enum hsm_status st = read_crl(arguments->crl, &crl);

    if (st == HSM_OK)
        st = certs_chain_read(arguments->crl_signer, &signer);
    if (st == HSM_OK)
        st = certs_chain_read(arguments->pa_anchors, &anchors);
    if (st != HSM_OK)
        return st;
    url = certs_cert_crl_url(certs_chain_get(chain, 0));
    st = tell(certs_crl_verify(crl, signer, anchors, url, now, &why), arguments->crl, &why);
    free(url);
    return st == HSM_OK ? check_listed(crl, chain) : st;
}

static enum hsm_status
verify_chain(const struct arguments *arguments, enum certs_purpose purpose, time_t now)
{
    DEFER(certs_chain_free) struct certs_chain *chain = NULL;
    DEFER(certs_chain_free) struct certs_chain *anchors = NULL;
    struct hsm_reason why = {0};
    char *subject;
    enum hsm_status st = certs_chain_read(arguments->operand, &chain);

    if (st == HSM_OK)
        st = certs_chain_read(arguments->anchors, &anchors);
    if (st == HSM_OK)
        st = tell(certs_chain_verify(chain, anchors, purpose, now, &why), arguments->operand, &why);
    if (st == HSM_OK && arguments->crl != NULL)
        st = check_crl(arguments, chain, now);
    if (st != HSM_OK)
        return st;
    subject = certs_cert_subject(certs_chain_get(chain, 0));
    printf("%s: good%s\n", subject == NULL ? "?" : subject,
           arguments->crl != NULL ? ", and not revoked" : "");
    free(subject);
    return HSM_OK;
}

static enum hsm_status
verify(const struct arguments *arguments)
{
    bool all =
        arguments->crl != NULL && arguments->crl_signer != NULL && arguments->pa_anchors != NULL;
    bool none =
        arguments->crl == NULL && arguments->crl_signer == NULL && arguments->pa_anchors == NULL;
    enum certs_purpose purpose = CERTS_FOR_STI;
    time_t now = 0;
    enum hsm_status st = purpose_of(arguments, &purpose);

    if (st == HSM_OK)
        st = time_of(arguments, &now);
    if (st == HSM_OK && !all && !none)
        st = options_refuse("--crl, --crl-signer and --pa-anchors go together");
    return st == HSM_OK ? verify_chain(arguments, purpose, now) : st;
}

static const struct command commands[] = {
    {"show", "at", "FILE", "print certificates as a SHAKEN person reads them",
     "FILE holds PEM certificates, or one in DER. Nothing is verified but who signed whom.\n",
     show},
    {"csr",
     "token key! module pin-source country state locality organization common-name spc ca dns ip "
     "out",
     NULL, "make a certificate request (PKCS#10) with a token key",
     "Without any part of a subject the subject is empty, which CAs of service providers accept.\n",
     csr},
    {"issue",
     "profile! token key! module pin-source csr issuer country state locality organization "
     "common-name spc dns ip policy days crl-url crl-issuer out",
     NULL, "issue a certificate of a profile with a token key",
     "Profiles, by ATIS-1000080 v005:\n"
     "  sti-root          CN contains SHAKEN and ROOT; signs itself\n"
     "  sti-intermediate  CN contains SHAKEN; --crl-url, --crl-issuer\n"
     "  sti-end-entity    --spc; --crl-url, --crl-issuer\n"
     "of the STI-PA:\n"
     "  pa-root           signs itself\n"
     "  pa-signer         SPC tokens and the trusted-CA list\n"
     "  pa-crl-signer     the CRL\n"
     "for TLS:\n"
     "  tls-root          signs itself\n"
     "  tls-server        --dns, --ip\n"
     "  tls-client\n"
     "All but the last three need --country and --organization. --key is the issuer's key. Who\n"
     "issues keeps what was written: it is the only record of the serial number.\n",
     issue},
    {"verify", "anchors! purpose crl crl-signer pa-anchors at", "CHAIN",
     "verify a chain (leaf first) up to a trusted root",
     "Purposes: sti, an end entity that signs calls; pa-signing, SPC tokens and the trusted-CA\n"
     "list; crl, the signer of the CRL. Exit status 0: good; 1: not good, or not readable.\n",
     verify},
    {"crl show", "", "FILE", "print a CRL (PEM or DER) with its entries", NULL, crl_show},
};

int
main(int argc, char **argv)
{
    enum hsm_status st = hsm_process_harden();

    if (st != HSM_OK)
        return hsm_status_exit(st);
    return options_main(commands, sizeof(commands) / sizeof(commands[0]), argc, argv);
}
