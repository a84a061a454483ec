/* constraints.c - JWTClaimConstraints (RFC 8226 section 8, RFC 9118), read and written by hand as
 * strict DER. */

#include <certs/constraints.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>

#include "der_internal.h"
#include "x509_internal.h"

struct certs_constraints {
    enum certs_constraints_form form;
    struct certs_claim_constraints content; /* points to the arrays below */
    const char **must_include; /* NULL: absent */
    const char **must_exclude;
    struct certs_permitted_values *permitted;
    char *texts; /* all names and values; each is shorter than its DER */
    size_t texts_len;
    uint8_t *der;
    size_t der_len;
};

static const char *const forms[] = {
    [CERTS_CONSTRAINTS_JWT] = "JWTClaimConstraints",
    [CERTS_CONSTRAINTS_ENHANCED] = "EnhancedJWTClaimConstraints",
};

/* RFC 8225 section 5: every PASSporT has these. */
static const char *const baseline[] = {"iat", "orig", "dest", NULL};

static bool
is_among(const char *const *names, const char *name)
{
    for (; names != NULL && *names != NULL; names++) {
        if (strcmp(*names, name) == 0)
            return true;
    }
    return false;
}

/* A name that is in both lists; NULL: there is none. */
static const char *
common_name(const char *const *some, const char *const *others)
{
    for (; some != NULL && *some != NULL; some++) {
        if (is_among(others, *some))
            return *some;
    }
    return NULL;
}

/* ---- read ---- */

static enum hsm_status
malformed(const struct certs_constraints *constraints, const char *what, struct hsm_reason *why)
{
    return hsm_refuse(why, HSM_ERR_MALFORMED, "%s: %s", forms[constraints->form], what);
}

/* True if the text has only characters that its type allows; an IA5String must not be empty. */
static bool
is_text(const struct der_reader *text, uint8_t tag)
{
    size_t at = 0;

    if (tag == DER_IA5STRING && text->left == 0)
        return false;
    while (at < text->left) {
        unsigned long c = text->at[at];
        int used = 1;

        if (tag == DER_UTF8STRING)
            used = UTF8_getc(text->at + at, (int)(text->left - at), &c);
        if (used < 1 || c == 0 || (tag == DER_IA5STRING && (c < 0x20 || c > 0x7e)))
            return false;
        at += (size_t)used;
    }
    return true;
}

/* An IA5String (a claim name) or UTF8String (a value), copied into `texts`. */
static const char *
read_text(struct certs_constraints *constraints, struct der_reader *from, uint8_t tag)
{
    char *copy = constraints->texts + constraints->texts_len;
    struct der_reader text;

    if (!certs_der_read(from, tag, &text) || !is_text(&text, tag))
        return NULL;
    if (text.left > 0)
        memcpy(copy, text.at, text.left);
    copy[text.left] = '\0';
    constraints->texts_len += text.left + 1;
    return copy;
}

/* An upper bound of the number of values: stops at the first malformed one. */
static size_t
count_values(struct der_reader from)
{
    struct der_reader value;
    size_t count = 0;

    while (from.left > 0 && certs_der_read(&from, *from.at, &value))
        count++;
    return count;
}

/* SEQUENCE SIZE (1..MAX) OF the string type; *out is NULL-terminated, released with free(). */
static enum hsm_status
read_texts(struct certs_constraints *constraints, struct der_reader *from, uint8_t tag,
           const char ***out, struct hsm_reason *why)
{
    struct der_reader texts;
    size_t n = 0;

    if (!certs_der_read(from, DER_SEQUENCE, &texts) || texts.left == 0)
        return malformed(constraints, "an empty or missing list", why);
    *out = calloc(count_values(texts) + 1, sizeof(**out));
    if (*out == NULL)
        return HSM_ERR_NOMEM;
    while (texts.left > 0) {
        (*out)[n] = read_text(constraints, &texts, tag);
        if ((*out)[n++] == NULL)
            return malformed(constraints,
                             tag == DER_IA5STRING ? "a claim name is not printable ASCII"
                                                  : "a value is not UTF-8",
                             why);
    }
    return HSM_OK;
}

static enum hsm_status
read_permitted(struct certs_constraints *constraints, struct der_reader *from,
               struct certs_permitted_values *out, struct hsm_reason *why)
{
    struct der_reader permitted;
    const char **values = NULL;
    enum hsm_status st;

    if (!certs_der_read(from, DER_SEQUENCE, &permitted))
        return malformed(constraints, "permittedValues is not a list of SEQUENCEs", why);
    out->claim = read_text(constraints, &permitted, DER_IA5STRING);
    if (out->claim == NULL)
        return malformed(constraints, "a claim name is not printable ASCII", why);
    st = read_texts(constraints, &permitted, DER_UTF8STRING, &values, why);
    out->values = values; /* released with the entry in any case */
    if (st == HSM_OK && permitted.left != 0)
        st = malformed(constraints, "octets after the values of a claim", why);
    return st;
}

static enum hsm_status
read_permitted_list(struct certs_constraints *constraints, struct der_reader *from,
                    struct hsm_reason *why)
{
    struct der_reader list;
    enum hsm_status st = HSM_OK;

    if (!certs_der_read(from, DER_SEQUENCE, &list) || list.left == 0)
        return malformed(constraints, "an empty or missing list", why);
    constraints->permitted = calloc(count_values(list) + 1, sizeof(*constraints->permitted));
    if (constraints->permitted == NULL)
        return HSM_ERR_NOMEM;
    for (size_t i = 0; st == HSM_OK && list.left > 0; i++)
        st = read_permitted(constraints, &list, &constraints->permitted[i], why);
    return st;
}

/* One of the three parts, under its explicit tag; it may be absent. */
static enum hsm_status
read_part(struct certs_constraints *constraints, struct der_reader *from, unsigned tag,
          struct hsm_reason *why)
{
    struct der_reader part;
    enum hsm_status st;

    if (from->left == 0 || *from->at != DER_CONTEXT(tag))
        return HSM_OK;
    if (!certs_der_read(from, (uint8_t)DER_CONTEXT(tag), &part))
        return malformed(constraints, "not DER", why);
    if (tag == 0)
        st = read_texts(constraints, &part, DER_IA5STRING, &constraints->must_include, why);
    else if (tag == 1)
        st = read_permitted_list(constraints, &part, why);
    else
        st = read_texts(constraints, &part, DER_IA5STRING, &constraints->must_exclude, why);
    if (st == HSM_OK && part.left != 0)
        st = malformed(constraints, "octets after a list", why);
    return st;
}

static enum hsm_status
read_all(struct certs_constraints *constraints, struct hsm_reason *why)
{
    struct der_reader reader = {.at = constraints->der, .left = constraints->der_len};
    struct der_reader parts;
    unsigned tags = constraints->form == CERTS_CONSTRAINTS_ENHANCED ? 3 : 2;
    enum hsm_status st = HSM_OK;

    if (!certs_der_read(&reader, DER_SEQUENCE, &parts) || reader.left != 0)
        return malformed(constraints, "not exactly one DER SEQUENCE", why);
    if (parts.left == 0)
        return malformed(constraints, "empty", why);
    for (unsigned tag = 0; st == HSM_OK && tag < tags; tag++)
        st = read_part(constraints, &parts, tag, why);
    if (st == HSM_OK && parts.left != 0)
        st = malformed(constraints, "a component that it does not have, or out of order", why);
    constraints->content = (struct certs_claim_constraints){
        .must_include = constraints->must_include,
        .permitted_values = constraints->permitted,
        .must_exclude = constraints->must_exclude,
    };
    return st;
}

enum hsm_status
certs_constraints_parse(enum certs_constraints_form form, const uint8_t *der, size_t len,
                        struct certs_constraints **out, struct hsm_reason *why)
{
    DEFER(certs_constraints_free) struct certs_constraints *constraints = NULL;
    enum hsm_status st;

    if (len < 1 || len > CERTS_CONSTRAINTS_MAX)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "%s: not 1 to %d octets", forms[form],
                          CERTS_CONSTRAINTS_MAX);
    constraints = calloc(1, sizeof(*constraints));
    if (constraints == NULL)
        return HSM_ERR_NOMEM;
    constraints->form = form;
    constraints->der = malloc(len);
    constraints->texts = malloc(len);
    if (constraints->der == NULL || constraints->texts == NULL)
        return HSM_ERR_NOMEM;
    memcpy(constraints->der, der, len);
    constraints->der_len = len;
    st = read_all(constraints, why);
    if (st != HSM_OK)
        return st;

    *out = constraints;
    constraints = NULL;
    return HSM_OK;
}

/* ---- make ---- */

static void
put_texts(struct der_writer *to, uint8_t tag, const char *const *texts)
{
    size_t start = to->len;

    for (; *texts != NULL; texts++) {
        size_t at = to->len;

        certs_der_put(to, *texts, strlen(*texts));
        certs_der_wrap(to, at, tag);
    }
    certs_der_wrap(to, start, DER_SEQUENCE);
}

static void
put_permitted(struct der_writer *to, const struct certs_permitted_values *permitted)
{
    size_t start = to->len;

    for (; permitted->claim != NULL; permitted++) {
        size_t at = to->len;

        certs_der_put(to, permitted->claim, strlen(permitted->claim));
        certs_der_wrap(to, at, DER_IA5STRING);
        put_texts(to, DER_UTF8STRING, permitted->values);
        certs_der_wrap(to, at, DER_SEQUENCE);
    }
    certs_der_wrap(to, start, DER_SEQUENCE);
}

static void
put_content(struct der_writer *to, const struct certs_claim_constraints *content)
{
    size_t start = to->len;

    if (content->must_include != NULL) {
        put_texts(to, DER_IA5STRING, content->must_include);
        certs_der_wrap(to, start, DER_CONTEXT(0));
    }
    start = to->len;
    if (content->permitted_values != NULL) {
        put_permitted(to, content->permitted_values);
        certs_der_wrap(to, start, DER_CONTEXT(1));
    }
    start = to->len;
    if (content->must_exclude != NULL) {
        put_texts(to, DER_IA5STRING, content->must_exclude);
        certs_der_wrap(to, start, DER_CONTEXT(2));
    }
    certs_der_wrap(to, 0, DER_SEQUENCE);
}

/* Refuses well-formed constraints that exclude a mandatory claim or contradict themselves. */
static enum hsm_status
check_sense(const struct certs_constraints *constraints, struct hsm_reason *why)
{
    const struct certs_claim_constraints *content = &constraints->content;
    const char *name = common_name(baseline, content->must_exclude);

    if (name != NULL)
        return hsm_refuse(why, HSM_ERR_USAGE,
                          "RFC 9118 section 3: mustExclude must not name \"%s\"", name);
    name = common_name(content->must_include, content->must_exclude);
    if (name != NULL)
        return hsm_refuse(why, HSM_ERR_USAGE, "claim \"%.64s\" is both asked for and excluded",
                          name);
    for (const struct certs_permitted_values *one = content->permitted_values;
         one != NULL && one->claim != NULL; one++) {
        if (is_among(content->must_exclude, one->claim))
            return hsm_refuse(why, HSM_ERR_USAGE, "claim \"%.64s\" has values, but is excluded",
                              one->claim);
        for (const struct certs_permitted_values *next = one + 1; next->claim != NULL; next++) {
            if (strcmp(one->claim, next->claim) == 0)
                return hsm_refuse(why, HSM_ERR_USAGE, "claim \"%.64s\" has two lists of values",
                                  one->claim);
        }
    }
    return HSM_OK;
}

enum hsm_status
certs_constraints_new(enum certs_constraints_form form,
                      const struct certs_claim_constraints *content, struct certs_constraints **out,
                      struct hsm_reason *why)
{
    DEFER(certs_constraints_free) struct certs_constraints *constraints = NULL;
    struct der_writer writer = {0};
    enum hsm_status st;

    if (form == CERTS_CONSTRAINTS_JWT && content->must_exclude != NULL)
        return hsm_refuse(why, HSM_ERR_USAGE, "%s has no mustExclude", forms[form]);
    put_content(&writer, content);
    st = writer.failed
             ? HSM_ERR_NOMEM
             : certs_constraints_parse(form, writer.octets, writer.len, &constraints, why);
    certs_der_writer_free(&writer);
    if (st == HSM_OK)
        st = check_sense(constraints, why);
    if (st != HSM_OK)
        return st;

    *out = constraints;
    constraints = NULL;
    return HSM_OK;
}

/* ---- of a certificate ---- */

enum hsm_status
certs_cert_constraints(const X509 *cert, struct certs_constraints **out, struct hsm_reason *why)
{
    DEFER(certs_constraints_free) struct certs_constraints *found = NULL;
    enum hsm_status st = certs_exts_constraints(X509_get0_extensions(cert), &found, why);

    if (st != HSM_OK)
        return st;
    if (!certs_is_end_entity(cert))
        return hsm_refuse(why, HSM_ERR_MALFORMED, "%s: in a CA certificate", forms[found->form]);
    *out = found;
    found = NULL;
    return HSM_OK;
}

enum certs_constraints_form
certs_constraints_form(const struct certs_constraints *constraints)
{
    return constraints->form;
}

const struct certs_claim_constraints *
certs_constraints_content(const struct certs_constraints *constraints)
{
    return &constraints->content;
}

const uint8_t *
certs_constraints_der(const struct certs_constraints *constraints, size_t *len)
{
    *len = constraints->der_len;
    return constraints->der;
}

/* ---- check ---- */

bool
certs_constraints_are_void(const struct certs_constraints *constraints)
{
    return common_name(baseline, constraints->content.must_exclude) != NULL;
}

static enum hsm_status
check_included(const char *const *names, const struct certs_claims *claims, struct hsm_reason *why)
{
    for (; names != NULL && *names != NULL; names++) {
        if (!claims->has(claims->payload, *names))
            return hsm_refuse(why, HSM_ERR_UNTRUSTED,
                              "claim constraints: claim \"%.64s\" must be there", *names);
    }
    return HSM_OK;
}

static enum hsm_status
check_permitted(const struct certs_permitted_values *permitted, const struct certs_claims *claims,
                struct hsm_reason *why)
{
    for (; permitted != NULL && permitted->claim != NULL; permitted++) {
        const char *value;

        if (!claims->has(claims->payload, permitted->claim))
            continue;
        value = claims->value(claims->payload, permitted->claim);
        if (value == NULL || !is_among(permitted->values, value))
            return hsm_refuse(
                why, HSM_ERR_UNTRUSTED,
                "claim constraints: claim \"%.64s\" has a value that is not permitted",
                permitted->claim);
    }
    return HSM_OK;
}

static enum hsm_status
check_excluded(const char *const *names, const struct certs_claims *claims, struct hsm_reason *why)
{
    for (; names != NULL && *names != NULL; names++) {
        if (claims->has(claims->payload, *names))
            return hsm_refuse(why, HSM_ERR_UNTRUSTED,
                              "claim constraints: claim \"%.64s\" must not be there", *names);
    }
    return HSM_OK;
}

enum hsm_status
certs_constraints_check(const struct certs_constraints *constraints,
                        const struct certs_claims *claims, struct hsm_reason *why)
{
    const struct certs_claim_constraints *content = &constraints->content;
    enum hsm_status st;

    if (certs_constraints_are_void(constraints))
        return HSM_OK;
    st = check_included(baseline, claims, why);
    if (st == HSM_OK)
        st = check_included(content->must_include, claims, why);
    if (st == HSM_OK)
        st = check_permitted(content->permitted_values, claims, why);
    return st == HSM_OK ? check_excluded(content->must_exclude, claims, why) : st;
}

/* ---- show ---- */

static void
print_texts(FILE *to, const char *before, const char *const *texts, const char *between)
{
    fputs(before, to);
    for (size_t i = 0; texts[i] != NULL; i++)
        fprintf(to, "%s%s", i == 0 ? " " : between, texts[i]);
}

static void
print_content(FILE *to, const struct certs_claim_constraints *content)
{
    const char *separator = "";

    if (content->must_include != NULL) {
        print_texts(to, "must include", content->must_include, ", ");
        separator = "; ";
    }
    for (const struct certs_permitted_values *one = content->permitted_values;
         one != NULL && one->claim != NULL; one++) {
        fprintf(to, "%s%s", separator, one->claim);
        print_texts(to, " is", one->values, " or ");
        separator = "; ";
    }
    if (content->must_exclude != NULL) {
        fputs(separator, to);
        print_texts(to, "must exclude", content->must_exclude, ", ");
    }
}

/* Values come from outside: none of their octets may control a terminal. */
static void
make_printable(char *text)
{
    for (; *text != '\0'; text++) {
        if ((uint8_t)*text < 0x20 || (uint8_t)*text > 0x7e)
            *text = '?';
    }
}

char *
certs_constraints_text(const struct certs_constraints *constraints)
{
    char *text = NULL;
    size_t len = 0;
    FILE *to = open_memstream(&text, &len);

    if (to == NULL)
        return NULL;
    print_content(to, &constraints->content);
    if (fclose(to) != 0) {
        free(text);
        return NULL;
    }
    make_printable(text);
    return text;
}

void
certs_constraints_free(struct certs_constraints *constraints)
{
    if (constraints == NULL)
        return;
    for (size_t i = 0; constraints->permitted != NULL && constraints->permitted[i].claim != NULL;
         i++)
        free((void *)constraints->permitted[i].values);
    free(constraints->permitted);
    free(constraints->must_include);
    free(constraints->must_exclude);
    free(constraints->texts);
    free(constraints->der);
    free(constraints);
}
