/* lint.c - the rules applied to a certificate. */
#include <certs/lint.h>

#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/x509.h>

#include <certs/issue.h>
#include <hsm/defer.h>

#include "lint_internal.h"
#include "x509_internal.h"

static bool
is_in_force(const struct certs_lint_rule *rule, const struct lint_view *view)
{
    return (rule->roles & view->role) != 0 && view->date >= rule->from &&
           (rule->until == 0 || view->date < rule->until);
}

static enum hsm_status
add_finding(struct certs_lint *lint, const struct certs_lint_rule *rule,
            const struct hsm_reason *detail)
{
    struct certs_lint_finding *grown =
        realloc(lint->findings, (lint->len + 1) * sizeof(lint->findings[0]));

    if (grown == NULL)
        return HSM_ERR_NOMEM;
    lint->findings = grown;
    lint->findings[lint->len++] = (struct certs_lint_finding){.rule = rule, .detail = *detail};
    return HSM_OK;
}

static enum hsm_status
apply(const struct lint_view *view, unsigned sources, struct certs_lint *lint)
{
    enum hsm_status st = HSM_OK;

    for (size_t i = 0; st == HSM_OK && i < certs_lint_row_count; i++) {
        const struct lint_row *row = &certs_lint_rows[i];
        struct hsm_reason detail = {0};

        if ((row->rule.source & sources) == 0 || !is_in_force(&row->rule, view))
            continue;
        st = row->check(view, &detail);
        if (st == LINT_BROKEN)
            st = add_finding(lint, &row->rule, &detail);
    }
    ERR_clear_error();
    return st;
}

static char *
name_text(const X509_NAME *name)
{
    char *text = certs_name_text(name);

    return text != NULL ? text : strdup("(a name with a string that does not decode)");
}

/* The report's description of the certificate itself. */
static enum hsm_status
describe(const X509 *cert, const struct lint_view *view, struct certs_lint *lint)
{
    time_t not_before;

    lint->role = view->role;
    lint->date = view->date;
    lint->subject = name_text(X509_get_subject_name(cert));
    lint->issuer = name_text(X509_get_issuer_name(cert));
    if (certs_time_get(X509_get0_notBefore(cert), &not_before))
        certs_time_text(not_before, lint->not_before);
    lint->has_digest = X509_digest(cert, EVP_sha256(), lint->sha256, NULL) == 1;
    ERR_clear_error(); /* an unsigned certificate has no digest */
    return lint->subject == NULL || lint->issuer == NULL ? HSM_ERR_NOMEM : HSM_OK;
}

enum hsm_status
certs_lint_new(const X509 *cert, const struct certs_lint_options *options, struct certs_lint **out)
{
    static const struct certs_lint_options all = {0};
    DEFER(certs_lint_free) struct certs_lint *lint = calloc(1, sizeof(*lint));
    struct lint_view view;
    enum hsm_status st;

    if (lint == NULL)
        return HSM_ERR_NOMEM;
    if (options == NULL)
        options = &all;
    st = certs_lint_view_init(&view, cert, options);
    if (st == HSM_OK)
        st = describe(cert, &view, lint);
    if (st == HSM_OK)
        st = apply(&view, options->sources == 0 ? ~0U : options->sources, lint);
    certs_lint_view_release(&view);
    if (st != HSM_OK)
        return st;

    *out = lint;
    lint = NULL;
    return HSM_OK;
}

size_t
certs_lint_len(const struct certs_lint *lint)
{
    return lint->len;
}

const struct certs_lint_finding *
certs_lint_get(const struct certs_lint *lint, size_t i)
{
    return &lint->findings[i];
}

size_t
certs_lint_count(const struct certs_lint *lint, enum certs_lint_severity severity)
{
    size_t count = 0;

    for (size_t i = 0; i < lint->len; i++)
        count += lint->findings[i].rule->severity == severity ? 1 : 0;
    return count;
}

enum certs_lint_role
certs_lint_role(const struct certs_lint *lint)
{
    return lint->role;
}

int
certs_lint_date(const struct certs_lint *lint)
{
    return lint->date;
}

void
certs_lint_free(struct certs_lint *lint)
{
    if (lint == NULL)
        return;
    free(lint->subject);
    free(lint->issuer);
    free(lint->findings);
    free(lint);
}

size_t
certs_lint_rule_count(void)
{
    return certs_lint_row_count;
}

const struct certs_lint_rule *
certs_lint_rule(size_t i)
{
    return &certs_lint_rows[i].rule;
}
