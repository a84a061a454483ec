/* issue.c - sti-cert csr and issue: requests and certificates with a token key. */
#include "issue.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/x509.h>

#include <certs/cert.h>
#include <certs/chain.h>
#include <certs/csr.h>
#include <certs/issue.h>
#include <hsm/defer.h>
#include <hsm/log.h>

#include "common.h"
#include "scope.h"

#define BACKDATE_S     300 /* seconds by which validity begins early, for late clocks */
#define BACKDATE_MAX_S 86400
#define DAYS_MAX       36525
#define PATH_LEN_MAX   16
#define A_DAY          86400

#define SHAKEN_CN_MAX (sizeof("SHAKEN ") + CERTS_SPC_MAX)

DEFINE_DEFER(X509, X509_free)

const char issue_more[] =
    "Profiles, by ATIS-1000080 v005:\n"
    "  sti-root             CN contains SHAKEN and ROOT; signs itself\n"
    "  sti-intermediate     CN contains SHAKEN; --crl-url, --crl-issuer\n"
    "  sti-end-entity       one --spc; --crl-url, --crl-issuer\n"
    "  sti-cross            --subject-cert: another root, under this one; no --csr; --crl-url,\n"
    "                       --crl-issuer; docs/ROLLOVER.md\n"
    "of telephone numbers, by RFC 8226:\n"
    "  tn-end-entity        --number, --range; may have claim constraints\n"
    "of delegates, by RFC 9060:\n"
    "  delegate-ca          --spc, --number, --range: what it may hand on\n"
    "  delegate-end-entity  the same, within what its issuer has; may have claim constraints\n"
    "of the STI-PA:\n"
    "  pa-root              signs itself\n"
    "  pa-signer            SPC tokens and the trusted-CA list\n"
    "  pa-crl-signer        the CRL\n"
    "for TLS:\n"
    "  tls-root             signs itself\n"
    "  tls-server           --dns, --ip\n"
    "  tls-client\n"
    "All but sti-cross and those for TLS need --country and --organization; --common-name is\n"
    "needed but for sti-end-entity, where it is \"SHAKEN <SPC>\". Those of numbers and delegates\n"
    "have a --policy and a --crl-url only if they are said. Claim constraints are --must-include,\n"
    "--permit (RFC 8226) and --must-exclude (RFC 9118).\n"
    "\n"
    "--key is the issuer's key. Who issues keeps what was written: it is the only record of the\n"
    "serial number, 126 random bits of the token's generator.\n";

static struct certs_subject
subject_of(const struct arguments *arguments, const struct certs_tnauthlist *list, bool is_shaken,
           char cn[SHAKEN_CN_MAX])
{
    struct certs_subject subject = {.country = arguments->country,
                                    .state = arguments->state,
                                    .locality = arguments->locality,
                                    .organization = arguments->organization,
                                    .common_name = arguments->common_name};
    const char *spc = list == NULL ? NULL : certs_tnauthlist_spc(list);

    if (subject.common_name == NULL && is_shaken && spc != NULL) {
        (void)snprintf(cn, SHAKEN_CN_MAX, "SHAKEN %s", spc);
        subject.common_name = cn;
    }
    return subject;
}

/* ---- csr ---- */

enum hsm_status
csr(const struct arguments *arguments)
{
    DEFER(hsm_token_close) struct hsm_token *token = NULL;
    DEFER(hsm_key_free) struct hsm_key *key = NULL;
    DEFER(certs_tnauthlist_free) struct certs_tnauthlist *list = NULL;
    DEFER(certs_constraints_free) struct certs_constraints *constraints = NULL;
    char cn[SHAKEN_CN_MAX];
    uint8_t *der = NULL;
    char *pem = NULL;
    size_t len;
    enum hsm_status st = list_of(arguments, &list);

    if (st == HSM_OK)
        st = constraints_of(arguments, &constraints);
    if (st == HSM_OK)
        st = open_key(arguments, &token, &key);
    if (st == HSM_OK)
        st = certs_csr_new(
            &(struct certs_csr_request){.subject = subject_of(arguments, list, !arguments->ca, cn),
                                        .tnauthlist = list,
                                        .constraints = constraints,
                                        .ca = arguments->ca,
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

/* The inputs of issue(); all owned. */
struct issue_input {
    struct hsm_token *token;
    struct hsm_key *key;
    struct certs_csr *csr; /* NULL: self-signed, or a cross certificate */
    struct certs_chain *issuer; /* NULL: self-signed; else its first certificate is the issuer */
    struct certs_chain *subject_cert; /* NULL: no cross certificate; else its first is the root */
    struct certs_chain *crl_issuer; /* NULL: not given */
    struct certs_tnauthlist *tnauthlist;
    struct certs_constraints *constraints;
    char cn[SHAKEN_CN_MAX];
};

static void
issue_input_release(struct issue_input *input)
{
    certs_constraints_free(input->constraints);
    certs_tnauthlist_free(input->tnauthlist);
    certs_chain_free(input->crl_issuer);
    certs_chain_free(input->subject_cert);
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

/* Of the profiles issued from a request. */
static bool
is_ca(enum certs_profile profile)
{
    return profile == CERTS_PROFILE_STI_INTERMEDIATE || profile == CERTS_PROFILE_DELEGATE_CA;
}

static enum hsm_status
check_issue_arguments(const struct arguments *arguments, enum certs_profile profile)
{
    bool is_cross = profile == CERTS_PROFILE_STI_CROSS;

    if (is_root(profile) && (arguments->csr != NULL || arguments->issuer != NULL))
        return options_refuse("%s: signs itself, has neither --csr nor --issuer",
                              arguments->profile);
    if (is_cross &&
        (arguments->csr != NULL || arguments->issuer == NULL || arguments->subject_cert == NULL))
        return options_refuse("%s: --subject-cert and --issuer are needed, and no --csr",
                              arguments->profile);
    if (!is_cross && arguments->subject_cert != NULL)
        return options_refuse("--subject-cert is for sti-cross");
    if (!is_cross && !is_root(profile) && (arguments->csr == NULL || arguments->issuer == NULL))
        return options_refuse("%s: --csr and --issuer are needed", arguments->profile);
    if (arguments->days != NULL && arguments->not_after != NULL)
        return options_refuse("either --days or --not-after");
    if (arguments->backdate != NULL && arguments->not_before != NULL)
        return options_refuse("either --backdate or --not-before");
    return HSM_OK;
}

static enum hsm_status
read_chain(const char *path, struct certs_chain **out)
{
    return path == NULL ? HSM_OK : certs_chain_read(path, out);
}

static enum hsm_status
read_issue_input(const struct arguments *arguments, struct issue_input *input)
{
    enum hsm_status st = list_of(arguments, &input->tnauthlist);

    if (st == HSM_OK)
        st = constraints_of(arguments, &input->constraints);
    if (st == HSM_OK && arguments->csr != NULL)
        st = certs_csr_read(arguments->csr, &input->csr);
    if (st == HSM_OK)
        st = read_chain(arguments->issuer, &input->issuer);
    if (st == HSM_OK)
        st = read_chain(arguments->subject_cert, &input->subject_cert);
    if (st == HSM_OK)
        st = read_chain(arguments->crl_issuer, &input->crl_issuer);
    return st;
}

static bool
same_constraints(const struct certs_constraints *a, const struct certs_constraints *b)
{
    size_t a_len;
    size_t b_len;
    const uint8_t *a_der = certs_constraints_der(a, &a_len);
    const uint8_t *b_der = certs_constraints_der(b, &b_len);

    return certs_constraints_form(a) == certs_constraints_form(b) && a_len == b_len &&
           memcmp(a_der, b_der, a_len) == 0;
}

/* The operator's options decide what is issued; a request for anything else is refused. */
static enum hsm_status
check_csr(const struct arguments *arguments, const struct issue_input *input,
          enum certs_profile profile)
{
    const struct certs_tnauthlist *list = certs_csr_tnauthlist(input->csr);
    const struct certs_constraints *constraints = certs_csr_constraints(input->csr);
    const char *wrong = NULL;

    if (certs_csr_is_ca(input->csr) != is_ca(profile))
        wrong = certs_csr_is_ca(input->csr) ? "it asks for a CA certificate"
                                            : "it does not ask for a CA certificate";
    else if (list != NULL &&
             (input->tnauthlist == NULL || !certs_tnauthlist_equals(list, input->tnauthlist)))
        wrong = "it asks for another TNAuthList than is to be issued";
    else if (constraints != NULL &&
             (input->constraints == NULL || !same_constraints(constraints, input->constraints)))
        wrong = "it asks for other claim constraints than are to be issued";
    if (wrong == NULL)
        return HSM_OK;
    hsm_log(HSM_LOG_ERROR, "%s: %s", arguments->csr, wrong);
    return HSM_ERR_UNTRUSTED;
}

static enum hsm_status
set_not_before(const struct arguments *arguments, const X509 *issuer, time_t now,
               struct certs_issue_request *request)
{
    long long backdate = BACKDATE_S;
    enum hsm_status st = HSM_OK;

    if (arguments->not_before != NULL)
        return parse_time("not-before", arguments->not_before, &request->not_before);
    if (arguments->backdate != NULL)
        st = options_number("backdate", arguments->backdate, 0, BACKDATE_MAX_S, &backdate);
    request->not_before = now - backdate;
    if (issuer != NULL && request->not_before < certs_cert_not_before(issuer))
        request->not_before = certs_cert_not_before(issuer);
    return st;
}

static long
default_days(enum certs_profile profile)
{
    if (is_root(profile))
        return 7305; /* 20 years */
    if (profile == CERTS_PROFILE_STI_INTERMEDIATE)
        return 1826;
    return profile == CERTS_PROFILE_DELEGATE_CA ? 365 : 90;
}

static enum hsm_status
set_not_after(const struct arguments *arguments, const X509 *issuer, time_t now,
              struct certs_issue_request *request)
{
    time_t from = arguments->not_before != NULL ? request->not_before : now;
    long long days = default_days(request->profile);
    enum hsm_status st = HSM_OK;

    if (arguments->not_after != NULL)
        return parse_time("not-after", arguments->not_after, &request->not_after);
    if (arguments->days != NULL)
        st = options_number("days", arguments->days, 1, DAYS_MAX, &days);
    request->not_after = from + days * A_DAY - 1; /* the last second is valid, too */
    if (arguments->days == NULL && request->subject_cert != NULL) {
        time_t one = certs_cert_not_after(issuer);
        time_t other = certs_cert_not_after(request->subject_cert);

        request->not_after = one < other ? one : other;
    }
    return st;
}

/* A cross certificate begins when both roots are valid. */
static enum hsm_status
set_validity(const struct arguments *arguments, const X509 *issuer,
             struct certs_issue_request *request)
{
    time_t now = time(NULL);
    enum hsm_status st = set_not_before(arguments, issuer, now, request);

    if (request->subject_cert != NULL && arguments->not_before == NULL &&
        request->not_before < certs_cert_not_before(request->subject_cert))
        request->not_before = certs_cert_not_before(request->subject_cert);
    return st == HSM_OK ? set_not_after(arguments, issuer, now, request) : st;
}

static enum hsm_status
set_path_length(const struct arguments *arguments, struct certs_issue_request *request)
{
    long long path_len = 0;
    enum hsm_status st = HSM_OK;

    if (arguments->path_length == NULL)
        return HSM_OK;
    st = options_number("path-length", arguments->path_length, 0, PATH_LEN_MAX, &path_len);
    request->has_path_len = true;
    request->path_len = (unsigned)path_len;
    return st;
}

static void
set_subject(const struct arguments *arguments, struct issue_input *input,
            struct certs_issue_request *request)
{
    bool is_shaken = request->profile == CERTS_PROFILE_STI_END_ENTITY;

    request->subject = subject_of(arguments, input->tnauthlist, is_shaken, input->cn);
    if (input->csr != NULL)
        request->public_key = certs_csr_public(input->csr);
    else if (input->subject_cert == NULL)
        request->public_key = hsm_key_public(input->key);
}

static void
fill_request(const struct arguments *arguments, struct issue_input *input,
             struct certs_issue_request *request)
{
    bool has_policy = request->profile == CERTS_PROFILE_STI_INTERMEDIATE ||
                      request->profile == CERTS_PROFILE_STI_END_ENTITY ||
                      request->profile == CERTS_PROFILE_STI_CROSS;

    set_subject(arguments, input, request);
    request->tnauthlist = input->tnauthlist;
    request->tnauthlist_url = arguments->tnauthlist_url;
    request->numbers_under_spc = arguments->numbers_under_spc;
    request->constraints = input->constraints;
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
    enum hsm_status st = read_issue_input(arguments, input);

    if (st == HSM_OK && input->csr != NULL)
        st = check_csr(arguments, input, profile);
    if (st != HSM_OK)
        return st;
    if (input->issuer != NULL)
        issuer = certs_chain_get(input->issuer, 0);
    if (input->subject_cert != NULL)
        request.subject_cert = certs_chain_get(input->subject_cert, 0);
    st = set_path_length(arguments, &request);
    if (st == HSM_OK)
        st = set_validity(arguments, issuer, &request);
    if (st == HSM_OK)
        st = open_key(arguments, &input->token, &input->key);
    if (st != HSM_OK)
        return st;
    fill_request(arguments, input, &request);
    return sign_and_write(arguments, input, &request, issuer);
}

enum hsm_status
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
