/* sti-cert.c - requests, certificates, chains and the CRL, from the command line. */

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/x509.h>

#include <certs/cert.h>
#include <certs/chain.h>
#include <certs/crl.h>
#include <hsm/defer.h>
#include <hsm/log.h>
#include <hsm/process.h>

#include "common.h"
#include "issue.h"
#include "lint.h"
#include "options.h"

DEFINE_DEFER(struct certs_chain, certs_chain_free)
DEFINE_DEFER(struct certs_crl, certs_crl_free)

/* ---- show ---- */

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
     NULL, "issue a certificate of a profile with a token key", issue_more, issue},
    {"verify", "anchors! purpose crl crl-signer pa-anchors at", "CHAIN",
     "verify a chain (leaf first) up to a trusted root",
     "Purposes: sti, an end entity that signs calls; pa-signing, SPC tokens and the trusted-CA\n"
     "list; crl, the signer of the CRL. Exit status 0: good; 1: not good, or not readable.\n",
     verify},
    {"lint", "json date", "FILE...", "judge certificates by the SHAKEN certificate profile",
     lint_more, lint},
    {"rules", "json", NULL, "print the rules that lint judges by", NULL, lint_rules},
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
