/* issue.c - sti-cert csr and issue: requests and certificates with a token key. */
#include "issue.h"

#include <errno.h>
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

#define BACKDATE_S 300 /* seconds before now that a validity begins: some clocks are late */
#define DAYS_MAX   36525
#define A_DAY      86400

DEFINE_DEFER(X509, X509_free)
DEFINE_DEFER(struct certs_tnauthlist, certs_tnauthlist_free)
DEFINE_DEFER(struct hsm_key, hsm_key_free)
DEFINE_DEFER(struct hsm_token, hsm_token_close)

const char issue_more[] =
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
    "issues keeps what was written: it is the only record of the serial number.\n";

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

/* ---- csr ---- */

enum hsm_status
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
