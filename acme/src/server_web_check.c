/*
 * server_web_check.c - check a CSR with its SPC token, and determine what would be certified.
 *
 * The checks are those of finalize and tkauth-01, made by the same functions; this file assigns
 * each fault to a field of the form, in the form's words.
 */
#include "server_web_internal.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

/* A parser may leave a note in the reason even when it succeeds: clear it. */
static enum hsm_status
settle(enum hsm_status st, struct hsm_reason *why)
{
    if (st == HSM_OK)
        why->text[0] = '\0';
    return st;
}

/* ---- each field separately ---- */

static enum hsm_status
check_csr(struct acme_server *server, const char *text, struct acme_web_checked *out,
          struct hsm_reason *why)
{
    const struct certs_tnauthlist *list;
    enum hsm_status st;

    if (text[strspn(text, " \t\r\n")] == '\0')
        return hsm_refuse(why, HSM_ERR_MALFORMED, "The certificate signing request is missing");
    st = certs_csr_parse_any(text, strlen(text), &out->csr, why);
    if (st != HSM_OK)
        return st;
    list = certs_csr_tnauthlist(out->csr);
    if (list == NULL)
        return hsm_refuse(why, HSM_ERR_UNTRUSTED,
                          "CSR: no TNAuthList extension (RFC 8226 section 9), which names the SPC");
    st = acme_spc_check(server, list, &out->spc, why);
    if (st == HSM_OK)
        st = acme_jwk_thumbprint(certs_csr_public(out->csr), out->thumbprint);
    if (st == HSM_OK)
        st = acme_fingerprint_format(certs_csr_public(out->csr), ACME_FINGERPRINT_THUMBPRINT,
                                     out->fingerprint);
    return st;
}

/* A token copied from a mail or a terminal may be broken into lines. */
static void
drop_blanks(char *text)
{
    char *to = text;

    for (const char *from = text; *from != '\0'; from++) {
        if (!isspace((unsigned char)*from))
            *to++ = *from;
    }
    *to = '\0';
}

static enum hsm_status
parse_token(char *text, struct acme_web_checked *out, struct hsm_reason *why)
{
    drop_blanks(text);
    if (text[0] == '\0')
        return hsm_refuse(why, HSM_ERR_MALFORMED, "The SPC token is missing");
    return acme_authority_token_parse(text, &out->token, why);
}

/* ---- both together ---- */

/* Report in the form's words what acme_token_check() would refuse in the words of ACME. */
static enum hsm_status
compare(const struct acme_web_checked *checked, struct hsm_reason *why)
{
    const struct certs_tnauthlist *list = acme_authority_token_tnauthlist(checked->token);
    DEFER(free) char *text = certs_tnauthlist_text(list);

    if (text == NULL)
        return HSM_ERR_NOMEM;
    if (!certs_tnauthlist_equals(list, certs_csr_tnauthlist(checked->csr)))
        return hsm_refuse(why, HSM_ERR_UNTRUSTED,
                          "tkvalue: the SPC token is for %s, the CSR for SPC %s", text,
                          checked->spc);
    if (!acme_fingerprint_matches(acme_authority_token_fingerprint(checked->token),
                                  certs_csr_public(checked->csr)))
        return hsm_refuse(why, HSM_ERR_UNTRUSTED,
                          "fingerprint: not that of the CSR's key, which is %s",
                          checked->fingerprint);
    return HSM_OK;
}

static enum hsm_status
check_token(struct acme_server *server, time_t now, struct acme_web_checked *out,
            struct hsm_reason *why)
{
    struct acme_refusal refusal = {.error = ACME_UNAUTHORIZED};
    enum hsm_status st = compare(out, why);

    if (st != HSM_OK)
        return st;
    st = acme_token_check(server, out->token, certs_csr_tnauthlist(out->csr),
                          certs_csr_public(out->csr), now, &out->signer, &refusal);
    *why = refusal.why;
    return st;
}

/* A repeated request is not a fault: its order is found again. */
static enum hsm_status
find_use(struct acme_server *server, struct acme_web_checked *out, struct hsm_reason *why)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st =
        acme_store_query(server->config.store, &rows,
                         "SELECT manual_token.order_id, issuance.thumbprint FROM manual_token JOIN"
                         " issuance ON issuance.order_id = manual_token.order_id WHERE jti = ?",
                         "s", acme_authority_token_jti(out->token));

    if (st != HSM_OK || !acme_rows_next(rows))
        return st;
    if (strcmp(acme_rows_text(rows, 1), out->thumbprint) != 0)
        return hsm_refuse(why, HSM_ERR_UNTRUSTED,
                          "jti: an SPC token is used once, and this one was used before");
    snprintf(out->order, sizeof(out->order), "%s", acme_rows_text(rows, 0));
    return HSM_OK;
}

/* The key is checked before the token: if another process certifies the key for this same request
 * in between, the token's use shows it. */
static enum hsm_status
check_use(struct acme_server *server, struct acme_web_checked *out,
          struct acme_web_refusal *refusal)
{
    struct hsm_reason *for_token = &refusal->why[ACME_WEB_TOKEN];
    struct hsm_reason *for_csr = &refusal->why[ACME_WEB_CSR];
    enum hsm_status key = acme_csr_key_check(server, ACME_WEB_MANUAL, false, out->thumbprint);
    enum hsm_status st = settle(find_use(server, out, for_token), for_token);

    if (st != HSM_OK || out->order[0] != '\0')
        return st;
    if (key == HSM_ERR_EXISTS)
        return hsm_refuse(for_csr, HSM_ERR_UNTRUSTED,
                          "CSR: its key was certified before, or is the key of an ACME account");
    return key;
}

static enum hsm_status
check_csr_under_token(const struct acme_web_checked *checked, struct hsm_reason *why)
{
    size_t len = 0;
    const uint8_t *der = certs_tnauthlist_der(certs_csr_tnauthlist(checked->csr), &len);

    return acme_csr_check(checked->csr, der, len, acme_authority_token_ca(checked->token), why);
}

static enum hsm_status
check_both(struct acme_server *server, time_t now, struct acme_web_checked *out,
           struct acme_web_refusal *refusal)
{
    struct hsm_reason *for_csr = &refusal->why[ACME_WEB_CSR];
    struct hsm_reason *for_token = &refusal->why[ACME_WEB_TOKEN];
    enum hsm_status st = settle(check_token(server, now, out, for_token), for_token);

    if (st == HSM_OK)
        st = settle(check_csr_under_token(out, for_csr), for_csr);
    if (st == HSM_OK)
        st = check_use(server, out, refusal);
    if (st == HSM_OK)
        st = acme_subject_find(server, out->spc, &out->subject);
    if (st == HSM_OK)
        acme_issue_validity(server, now, acme_authority_token_exp(out->token), &out->not_before,
                            &out->not_after);
    return st;
}

enum hsm_status
acme_web_check(struct acme_server *server, const char *csr, char *token, time_t now,
               struct acme_web_checked *out, struct acme_web_refusal *refusal)
{
    struct hsm_reason *why = refusal->why;
    enum hsm_status for_csr =
        settle(check_csr(server, csr, out, &why[ACME_WEB_CSR]), &why[ACME_WEB_CSR]);
    enum hsm_status for_token =
        settle(parse_token(token, out, &why[ACME_WEB_TOKEN]), &why[ACME_WEB_TOKEN]);

    if (acme_status_is_fault(for_csr) || for_csr == HSM_ERR_BUSY)
        return for_csr;
    if (for_csr != HSM_OK || for_token != HSM_OK)
        return for_token != HSM_OK ? for_token : for_csr;
    return check_both(server, now, out, refusal);
}

void
acme_web_checked_clear(struct acme_web_checked *checked)
{
    certs_csr_free(checked->csr);
    acme_authority_token_free(checked->token);
    certs_chain_free(checked->signer);
}
