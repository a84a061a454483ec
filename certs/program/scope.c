/* scope.c - the scope of a certificate, from the command line: numbers and claims. */

#include "scope.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hsm/defer.h>
#include <hsm/process.h>

#include "common.h"

#define ENTRIES_MAX (3 * OPTION_TIMES_MAX)

const char tnauthlist_more[] =
    "Writes the DER of a TNAuthorizationList (RFC 8226). A certificate of numbers can name the\n"
    "HTTPS URL that serves it as application/tnauthlist: `issue --tnauthlist-url`. With --out a\n"
    "file is replaced at once; without, the octets go to standard output.\n";

/* ---- numbers ---- */

static enum hsm_status
set_text(struct certs_tn_entry *entry, const char *option, const char *text, size_t len)
{
    if (len >= sizeof(entry->text))
        return options_refuse("--%s: longer than %d characters", option, CERTS_SPC_MAX);
    memcpy(entry->text, text, len);
    entry->text[len] = '\0';
    return HSM_OK;
}

/* START:COUNT, such as 12155550100:100 */
static enum hsm_status
set_range(struct certs_tn_entry *entry, const char *text)
{
    const char *colon = strchr(text, ':');
    char *end;

    if (colon == NULL || colon[1] < '0' || colon[1] > '9')
        return options_refuse("--range: not START:COUNT, such as 12155550100:100");
    errno = 0;
    entry->count = strtoull(colon + 1, &end, 10);
    if (errno != 0 || *end != '\0')
        return options_refuse("--range: the count is not a number");
    return set_text(entry, "range", text, (size_t)(colon - text));
}

static enum hsm_status
set_entries(const struct arguments *arguments, struct certs_tn_entry *entries, size_t *count)
{
    enum hsm_status st = HSM_OK;
    size_t n = 0;

    for (size_t i = 0; st == HSM_OK && arguments->spc[i] != NULL; i++) {
        entries[n] = (struct certs_tn_entry){.kind = CERTS_TN_SPC};
        st = set_text(&entries[n++], "spc", arguments->spc[i], strlen(arguments->spc[i]));
    }
    for (size_t i = 0; st == HSM_OK && arguments->number[i] != NULL; i++) {
        entries[n] = (struct certs_tn_entry){.kind = CERTS_TN_ONE, .count = 1};
        st = set_text(&entries[n++], "number", arguments->number[i], strlen(arguments->number[i]));
    }
    for (size_t i = 0; st == HSM_OK && arguments->range[i] != NULL; i++) {
        entries[n] = (struct certs_tn_entry){.kind = CERTS_TN_RANGE};
        st = set_range(&entries[n++], arguments->range[i]);
    }
    *count = n;
    return st;
}

static enum hsm_status
read_list(const char *path, struct certs_tnauthlist **out)
{
    struct hsm_reason why = {0};
    uint8_t *der = NULL;
    size_t len = 0;
    enum hsm_status st = hsm_file_read(path, CERTS_TNAUTHLIST_MAX, &der, &len);

    if (st == HSM_OK)
        st = tell(certs_tnauthlist_parse(der, len, out, &why), path, &why);
    free(der);
    return st;
}

/* RFC 8226 allows any IA5String as an SPC; the command line accepts what operators use. */
static enum hsm_status
check_spcs(const struct arguments *arguments)
{
    for (size_t i = 0; arguments->spc[i] != NULL; i++) {
        struct certs_tnauthlist *list = NULL;
        enum hsm_status st = certs_tnauthlist_from_spc(arguments->spc[i], &list);

        certs_tnauthlist_free(list);
        if (st == HSM_ERR_MALFORMED)
            return options_refuse("--spc: not a service provider code");
        if (st != HSM_OK)
            return st;
    }
    return HSM_OK;
}

enum hsm_status
list_of(const struct arguments *arguments, struct certs_tnauthlist **out)
{
    struct certs_tn_entry entries[ENTRIES_MAX];
    struct hsm_reason why = {0};
    size_t count = 0;
    enum hsm_status st = check_spcs(arguments);

    if (st == HSM_OK)
        st = set_entries(arguments, entries, &count);
    if (st != HSM_OK)
        return st;
    if (arguments->tnauthlist != NULL)
        return count == 0 ? read_list(arguments->tnauthlist, out)
                          : options_refuse("--tnauthlist is instead of --spc, --number, --range");
    if (count == 0)
        return HSM_OK;
    st = certs_tnauthlist_new(entries, count, out, &why);
    return st == HSM_ERR_MALFORMED ? options_refuse("%s", why.text) : st;
}

enum hsm_status
tnauthlist(const struct arguments *arguments)
{
    DEFER(certs_tnauthlist_free) struct certs_tnauthlist *list = NULL;
    const uint8_t *der;
    size_t len;
    enum hsm_status st = list_of(arguments, &list);

    if (st != HSM_OK)
        return st;
    if (list == NULL)
        return options_refuse("--spc, --number, --range or --tnauthlist is needed");
    der = certs_tnauthlist_der(list, &len);
    if (arguments->out != NULL)
        return hsm_file_write(arguments->out, der, len, 0644);
    return fwrite(der, 1, len, stdout) == len ? HSM_OK : HSM_ERR_IO;
}

/* ---- claims ---- */

/* --permit CLAIM=VALUE, grouped by claim. */
struct permitted {
    struct certs_permitted_values lists[OPTION_TIMES_MAX + 1];
    const char *values[OPTION_TIMES_MAX][OPTION_TIMES_MAX + 1];
    char claims[OPTION_TIMES_MAX][64];
};

static enum hsm_status
permit(struct permitted *permitted, const char *text)
{
    const char *equals = strchr(text, '=');
    size_t len = equals == NULL ? 0 : (size_t)(equals - text);
    size_t i = 0;
    size_t n = 0;

    if (len < 1 || len >= sizeof(permitted->claims[0]))
        return options_refuse("--permit: not CLAIM=VALUE, such as attest=A");
    while (permitted->lists[i].claim != NULL &&
           (strncmp(permitted->claims[i], text, len) != 0 || permitted->claims[i][len] != '\0'))
        i++;
    while (permitted->values[i][n] != NULL)
        n++;
    memcpy(permitted->claims[i], text, len);
    permitted->values[i][n] = equals + 1;
    permitted->lists[i].claim = permitted->claims[i];
    permitted->lists[i].values = permitted->values[i];
    return HSM_OK;
}

enum hsm_status
constraints_of(const struct arguments *arguments, struct certs_constraints **out)
{
    struct permitted permitted;
    struct certs_claim_constraints content = {0};
    enum certs_constraints_form form = CERTS_CONSTRAINTS_JWT;
    struct hsm_reason why = {0};
    enum hsm_status st = HSM_OK;

    memset(&permitted, 0, sizeof(permitted));
    for (size_t i = 0; st == HSM_OK && arguments->permit[i] != NULL; i++)
        st = permit(&permitted, arguments->permit[i]);
    if (st != HSM_OK)
        return st;
    if (arguments->must_include[0] != NULL)
        content.must_include = arguments->must_include;
    if (arguments->permit[0] != NULL)
        content.permitted_values = permitted.lists;
    if (arguments->must_exclude[0] != NULL) {
        content.must_exclude = arguments->must_exclude;
        form = CERTS_CONSTRAINTS_ENHANCED; /* the form of RFC 8226 has no exclusions */
    }
    if (content.must_include == NULL && content.permitted_values == NULL &&
        content.must_exclude == NULL)
        return HSM_OK;
    st = certs_constraints_new(form, &content, out, &why);
    return st == HSM_ERR_MALFORMED || st == HSM_ERR_USAGE ? options_refuse("%s", why.text) : st;
}
