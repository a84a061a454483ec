/* verify.c - sti-cert verify: a chain up to a trusted root. */
#include "verify.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <certs/cert.h>
#include <certs/lint.h>
#include <certs/path.h>
#include <hsm/defer.h>
#include <hsm/time.h>

#include "common.h"
#include "crl.h"

const char verify_more[] =
    "CHAIN holds the end entity first, or else as the only certificate that is no CA; the others\n"
    "may be in any order. Purposes: sti, an end entity that signs calls; pa-signing, SPC tokens\n"
    "and the trusted-CA list; crl, the signer of the CRL. With --crl, --crl-signer and\n"
    "--pa-anchors revocation is asked, too. Exit status 0: good; 1: not good, or not readable.\n";

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

/* "p384,rsa" */
static enum hsm_status
ca_keys_of(const char *words, unsigned *out)
{
    static const struct {
        const char *word;
        unsigned key;
    } kinds[] = {{"p384", CERTS_CA_P384}, {"p521", CERTS_CA_P521}, {"rsa", CERTS_CA_RSA}};
    unsigned keys = 0;

    while (words != NULL) {
        size_t len = strcspn(words, ",");
        size_t i = 0;

        while (i < sizeof(kinds) / sizeof(kinds[0]) &&
               (strlen(kinds[i].word) != len || strncmp(kinds[i].word, words, len) != 0))
            i++;
        if (i == sizeof(kinds) / sizeof(kinds[0]))
            return options_refuse("--ca-keys is p384, p521 or rsa, or several with commas");
        keys |= kinds[i].key;
        words = words[len] == ',' ? words + len + 1 : NULL;
    }
    *out = keys;
    return HSM_OK;
}

static enum hsm_status
policy_of(const struct arguments *arguments, struct certs_path_policy *out)
{
    enum hsm_status st = purpose_of(arguments, &out->purpose);

    if (st == HSM_OK)
        st = ca_keys_of(arguments->ca_keys, &out->ca_keys);
    out->numbers_under_spc = arguments->numbers_under_spc;
    out->any_tnauthlist = arguments->any_tnauthlist;
    out->any_distribution_point = arguments->any_crl;
    return st;
}

/* -- printing ---------------------------------------------------------------------------------- */

/* A statement about a good path; NULL: not printed. */
struct saying {
    char *tnauthlist;
    char *constraints;
    char until[HSM_TIME_LEN + 1];
};

static enum hsm_status
saying_of(const struct certs_path *path, struct saying *out)
{
    const struct certs_tnauthlist *list = certs_path_tnauthlist(path);
    const struct certs_constraints *constraints = certs_path_constraints(path);

    if (list != NULL && (out->tnauthlist = certs_tnauthlist_text(list)) == NULL)
        return HSM_ERR_NOMEM;
    if (constraints != NULL && (out->constraints = certs_constraints_text(constraints)) == NULL)
        return HSM_ERR_NOMEM;
    hsm_time_format(certs_path_not_after(path), out->until);
    return HSM_OK;
}

static void
saying_release(struct saying *saying)
{
    free(saying->tnauthlist);
    free(saying->constraints);
}

static void
print_text(const struct certs_path *path, const struct saying *saying, bool asked_crl)
{
    for (size_t i = 0; i < certs_path_len(path); i++) {
        char *subject = certs_cert_subject(certs_path_get(path, i));

        if (i == 0)
            printf("%s: good%s\n", subject == NULL ? "?" : subject,
                   asked_crl ? ", and not revoked" : "");
        else
            printf("  issued by    %s\n", subject == NULL ? "?" : subject);
        free(subject);
    }
    if (saying->tnauthlist != NULL)
        printf("  TNAuthList   %s\n", saying->tnauthlist);
    if (saying->constraints != NULL)
        printf("  may claim    %s\n", saying->constraints);
    printf("  valid until  %s\n", saying->until);
}

static void
print_member(const char *name, const char *value)
{
    printf(", \"%s\": ", name);
    if (value == NULL)
        fputs("null", stdout);
    else
        certs_lint_json_text(value, stdout);
}

static void
print_json(const struct certs_path *path, const struct saying *saying, bool asked_crl)
{
    printf("{\"good\": true, \"revocation\": \"%s\", \"path\": [",
           asked_crl ? "not revoked" : "not asked");
    for (size_t i = 0; i < certs_path_len(path); i++) {
        char *subject = certs_cert_subject(certs_path_get(path, i));

        fputs(i == 0 ? "" : ", ", stdout);
        certs_lint_json_text(subject == NULL ? "?" : subject, stdout);
        free(subject);
    }
    putchar(']');
    print_member("tnauthlist", saying->tnauthlist);
    print_member("constraints", saying->constraints);
    print_member("until", saying->until);
    puts("}");
}

static enum hsm_status
print_good(const struct arguments *arguments, const struct certs_path *path)
{
    struct saying saying = {.tnauthlist = NULL};
    enum hsm_status st = saying_of(path, &saying);

    if (st == HSM_OK && arguments->json)
        print_json(path, &saying, arguments->crl != NULL);
    else if (st == HSM_OK)
        print_text(path, &saying, arguments->crl != NULL);
    saying_release(&saying);
    return st;
}

static void
print_refused(const struct hsm_reason *why)
{
    fputs("{\"good\": false", stdout);
    print_member("reason", why->text);
    puts("}");
}

/* -- verifying --------------------------------------------------------------------------------- */

static enum hsm_status
verify_chain(const struct arguments *arguments, const struct certs_chain *chain,
             const struct certs_trust *trust, const struct certs_path_policy *policy, time_t now)
{
    DEFER(certs_path_free) struct certs_path *path = NULL;
    struct hsm_reason why = {0};
    enum hsm_status st = certs_path_verify(chain, trust, policy, now, &path, &why);

    if (st == HSM_OK)
        return print_good(arguments, path);
    if (arguments->json && why.text[0] != '\0')
        print_refused(&why);
    return tell(st, arguments->operands.first, &why);
}

static enum hsm_status
read_and_verify(const struct arguments *arguments, struct certs_path_policy *policy, time_t now)
{
    DEFER(certs_chain_free) struct certs_chain *chain = NULL;
    DEFER(certs_chain_free) struct certs_chain *anchors = NULL;
    DEFER(certs_chain_free) struct certs_chain *intermediates = NULL;
    DEFER(certs_crl_free) struct certs_crl *crl = NULL;
    enum hsm_status st = certs_chain_read(arguments->operands.first, &chain);

    if (st == HSM_OK)
        st = certs_chain_read(arguments->anchors, &anchors);
    if (st == HSM_OK && arguments->intermediates != NULL)
        st = certs_chain_read(arguments->intermediates, &intermediates);
    if (st == HSM_OK && arguments->crl != NULL)
        st = crl_check(arguments, arguments->crl, NULL, now, &crl);
    if (st != HSM_OK)
        return st;
    policy->intermediates = intermediates;
    return verify_chain(arguments, chain, &(struct certs_trust){.anchors = anchors, .crl = crl},
                        policy, now);
}

enum hsm_status
verify(const struct arguments *arguments)
{
    bool all =
        arguments->crl != NULL && arguments->crl_signer != NULL && arguments->pa_anchors != NULL;
    bool none =
        arguments->crl == NULL && arguments->crl_signer == NULL && arguments->pa_anchors == NULL;
    struct certs_path_policy policy = {.ca_keys = 0};
    time_t now = 0;
    enum hsm_status st = policy_of(arguments, &policy);

    if (st == HSM_OK)
        st = time_of(arguments, &now);
    if (st == HSM_OK && !all && !none)
        st = options_refuse("--crl, --crl-signer and --pa-anchors go together");
    return st == HSM_OK ? read_and_verify(arguments, &policy, now) : st;
}
