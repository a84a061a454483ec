/* crl.c - sti-cert crl: print, verify and issue the STI-PA's CRL. */
#include "crl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <certs/cert.h>
#include <hsm/defer.h>
#include <hsm/key.h>
#include <hsm/log.h>
#include <hsm/process.h>
#include <hsm/token.h>

#include "common.h"

#define AN_HOUR   3600
#define HOURS     24 /* daily (ATIS-1000080) */
#define HOURS_MAX 8784

const char crl_verify_more[] =
    "--previous is a CRL that was good before: one that is older than it is a rollback.\n"
    "Exit status 0: good; 1: not good, or not readable.\n";

const char crl_issue_more[] =
    "The CRL is indirect and for all certificates (RFC 5280 section 5, ATIS-1000080): every entry\n"
    "is found by its issuer and serial number. The entries of --previous are taken over and its\n"
    "number is counted on, if its signature by --crl-signer (default: --issuer) is good up to\n"
    "--pa-anchors; without it the CRL begins at number 1. If it has entries that cannot be taken\n"
    "over, because no certificate may have their serial numbers, no CRL is issued. --revoke adds\n"
    "certificates with --reason, as of now. --issuer is the certificate of --key.\n"
    "Reasons: unspecified (default), keyCompromise, cACompromise, affiliationChanged, superseded,\n"
    "cessationOfOperation, certificateHold, privilegeWithdrawn, aACompromise.\n";

enum hsm_status
crl_read(const char *path, struct certs_crl **out)
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

/* At a time; 0: at the CRL's own thisUpdate. */
static enum hsm_status
check_at(const char *path, const char *signer_path, const char *anchors_path, const char *url,
         time_t now, struct certs_crl **out)
{
    DEFER(certs_crl_free) struct certs_crl *crl = NULL;
    DEFER(certs_chain_free) struct certs_chain *signer = NULL;
    DEFER(certs_chain_free) struct certs_chain *anchors = NULL;
    struct hsm_reason why = {0};
    enum hsm_status st = crl_read(path, &crl);

    if (st == HSM_OK)
        st = certs_chain_read(signer_path, &signer);
    if (st == HSM_OK)
        st = certs_chain_read(anchors_path, &anchors);
    if (st == HSM_OK && now == 0)
        now = certs_crl_this_update(crl);
    if (st == HSM_OK)
        st = tell(certs_crl_verify(crl, signer, anchors, url, now, &why), path, &why);
    if (st != HSM_OK)
        return st;
    *out = crl;
    crl = NULL;
    return HSM_OK;
}

enum hsm_status
crl_check(const struct arguments *arguments, const char *path, const char *url, time_t now,
          struct certs_crl **out)
{
    return check_at(path, arguments->crl_signer, arguments->pa_anchors, url, now, out);
}

enum hsm_status
crl_show(const struct arguments *arguments)
{
    DEFER(certs_crl_free) struct certs_crl *crl = NULL;
    enum hsm_status st = crl_read(arguments->operands.first, &crl);

    return st == HSM_OK ? certs_crl_show(crl, stdout) : st;
}

/* -- verify ------------------------------------------------------------------------------------ */

enum hsm_status
crl_verify(const struct arguments *arguments)
{
    DEFER(certs_crl_free) struct certs_crl *crl = NULL;
    DEFER(certs_crl_free) struct certs_crl *previous = NULL;
    struct hsm_reason why = {0};
    time_t now = 0;
    enum hsm_status st = time_of(arguments, &now);

    if (st == HSM_OK)
        st = crl_check(arguments, arguments->operands.first, arguments->crl_url, now, &crl);
    if (st == HSM_OK && arguments->previous != NULL)
        st = crl_read(arguments->previous, &previous);
    if (st == HSM_OK)
        st = tell(certs_crl_check_newer(crl, previous, &why), arguments->operands.first, &why);
    if (st == HSM_OK)
        printf("%s: good, %zu entries\n", arguments->operands.first, certs_crl_len(crl));
    return st;
}

/* -- issue ------------------------------------------------------------------------------------- */

/* The input of a CRL. */
struct draft {
    struct certs_crl *previous; /* NULL: the first one */
    struct certs_chain *signer, *revoked[OPTION_TIMES_MAX]; /* own the entries' issuers */
    struct certs_crl_entry *entries;
    size_t count;
};

static void
draft_release(struct draft *draft)
{
    certs_crl_free(draft->previous);
    certs_chain_free(draft->signer);
    for (size_t i = 0; i < OPTION_TIMES_MAX; i++)
        certs_chain_free(draft->revoked[i]);
    free(draft->entries);
}

static enum hsm_status
reason_of(const struct arguments *arguments, int *out)
{
    static const int reasons[] = {0, 1, 2, 3, 4, 5, 6, 9, 10};

    if (arguments->reason == NULL) {
        *out = 0;
        return HSM_OK;
    }
    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
        if (strcmp(arguments->reason, certs_crl_reason_text(reasons[i])) == 0) {
            *out = reasons[i];
            return HSM_OK;
        }
    }
    return options_refuse("--reason: \"%s\" is not one; see --help", arguments->reason);
}

static enum hsm_status
hours_of(const struct arguments *arguments, long *out)
{
    long long hours = HOURS;
    enum hsm_status st = HSM_OK;

    if (arguments->hours != NULL)
        st = options_number("hours", arguments->hours, 1, HOURS_MAX, &hours);
    if (st == HSM_OK)
        *out = (long)hours;
    return st;
}

/* Add the first certificate of a file, unless it is already listed. */
static enum hsm_status
add_revoked(struct draft *draft, const struct certs_chain *file, int reason, time_t now)
{
    X509 *cert = certs_chain_get(file, 0);
    struct certs_crl_entry *entry = &draft->entries[draft->count];
    struct hsm_reason why = {0};
    enum hsm_status st;

    if (draft->previous != NULL && certs_crl_has(draft->previous, cert)) {
        hsm_log(HSM_LOG_WARNING, "a certificate of --revoke is on the CRL already");
        return HSM_OK;
    }
    st = certs_crl_entry_of(cert, entry, &why);
    if (st != HSM_OK) {
        hsm_log(HSM_LOG_ERROR, "a certificate of --revoke: %s", why.text);
        return st;
    }
    entry->revoked_at = now;
    entry->reason = reason;
    draft->count++;
    return HSM_OK;
}

/* An entry with an unknown reason remains an entry. */
static void
take_over(struct draft *draft)
{
    for (size_t i = 0; draft->previous != NULL && i < certs_crl_len(draft->previous); i++) {
        struct certs_crl_entry *entry = &draft->entries[draft->count++];

        certs_crl_get(draft->previous, i, entry);
        if (entry->reason < 0 || entry->reason == 7 || entry->reason == 8)
            entry->reason = 0;
    }
}

/* The previous CRL may have expired, but must verify otherwise: a list that someone shortened is
 * not signed again. */
static enum hsm_status
read_previous(const struct arguments *arguments, struct draft *draft)
{
    const char *signer = arguments->crl_signer != NULL ? arguments->crl_signer : arguments->issuer;
    enum hsm_status st;

    if (arguments->previous == NULL)
        return HSM_OK;
    if (arguments->pa_anchors == NULL)
        return options_refuse("--previous needs --pa-anchors");
    st = check_at(arguments->previous, signer, arguments->pa_anchors, arguments->crl_url, 0,
                  &draft->previous);
    if (st == HSM_OK && certs_crl_left_out(draft->previous) > 0) {
        hsm_log(HSM_LOG_ERROR,
                "%s: %zu of its entries have serial numbers that no certificate may have (RFC 5280"
                " section 4.1.2.2), and would be missing in the next CRL",
                arguments->previous, certs_crl_left_out(draft->previous));
        return HSM_ERR_UNSUPPORTED;
    }
    return st;
}

static enum hsm_status
fill_draft(const struct arguments *arguments, int reason, time_t now, struct draft *draft)
{
    enum hsm_status st = certs_chain_read(arguments->issuer, &draft->signer);

    if (st == HSM_OK)
        st = read_previous(arguments, draft);
    if (st != HSM_OK)
        return st;
    draft->entries =
        calloc((draft->previous == NULL ? 0 : certs_crl_len(draft->previous)) + OPTION_TIMES_MAX,
               sizeof(*draft->entries));
    if (draft->entries == NULL)
        return HSM_ERR_NOMEM;
    take_over(draft);
    for (size_t i = 0; st == HSM_OK && arguments->revoke[i] != NULL; i++) {
        st = certs_chain_read(arguments->revoke[i], &draft->revoked[i]);
        if (st == HSM_OK)
            st = add_revoked(draft, draft->revoked[i], reason, now);
    }
    return st;
}

static enum hsm_status
number_of(const struct draft *draft, uint64_t *out)
{
    uint64_t previous = draft->previous == NULL ? 0 : certs_crl_number(draft->previous);

    if (previous == UINT64_MAX) {
        hsm_log(HSM_LOG_ERROR, "--previous: no number is left after its cRLNumber");
        return HSM_ERR_UNSUPPORTED;
    }
    *out = previous + 1;
    return HSM_OK;
}

static enum hsm_status
sign_and_write(const struct arguments *arguments, const struct draft *draft,
               struct certs_crl_request *request)
{
    DEFER(hsm_token_close) struct hsm_token *token = NULL;
    DEFER(hsm_key_free) struct hsm_key *key = NULL;
    uint8_t *der = NULL;
    char *pem = NULL;
    size_t len;
    enum hsm_status st = open_key(arguments, &token, &key);

    if (st == HSM_OK)
        st = certs_crl_new(request, certs_chain_get(draft->signer, 0), key, &der, &len);
    if (st == HSM_OK)
        st = certs_crl_pem(der, len, &pem);
    if (st == HSM_OK)
        st = put_out(arguments, pem);
    if (st == HSM_OK)
        hsm_log(HSM_LOG_INFO, "issued CRL number %llu with %zu entries",
                (unsigned long long)request->number, request->count);
    free(pem);
    free(der);
    return st;
}

static enum hsm_status
issue_draft(const struct arguments *arguments, struct draft *draft)
{
    struct certs_crl_request request = {.this_update = time(NULL),
                                        .url = arguments->crl_url,
                                        .signer_cert_url = arguments->signer_url};
    int reason = 0;
    long hours = 0;
    enum hsm_status st = reason_of(arguments, &reason);

    if (st == HSM_OK)
        st = hours_of(arguments, &hours);
    if (st == HSM_OK)
        st = fill_draft(arguments, reason, request.this_update, draft);
    if (st == HSM_OK)
        st = number_of(draft, &request.number);
    if (st != HSM_OK)
        return st;
    request.next_update = request.this_update + hours * AN_HOUR;
    request.entries = draft->entries;
    request.count = draft->count;
    return sign_and_write(arguments, draft, &request);
}

enum hsm_status
crl_issue(const struct arguments *arguments)
{
    struct draft draft = {.previous = NULL};
    enum hsm_status st = issue_draft(arguments, &draft);

    draft_release(&draft);
    return st;
}
