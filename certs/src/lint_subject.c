/* lint_subject.c - rules on the subject's distinguished name. */
#include "lint_internal.h"

#include <ctype.h>
#include <string.h>

#include "x509_internal.h"

/* ISO 3166-1 alpha-2, the assigned codes, three characters each. */
static const char countries[] =
    "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ "
    "BR BS BT BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM "
    "DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS "
    "GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN "
    "KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ "
    "MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM "
    "PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV "
    "SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI "
    "VN VU WF WS YE YT ZA ZM ZW ";

static const char shaken[] = "SHAKEN";
static const char shaken_space[] = "SHAKEN ";

static bool
is_text(const struct lint_text *text, const char *wanted)
{
    return text->len == strlen(wanted) && memcmp(text->octets, wanted, text->len) == 0;
}

static bool
is_word_octet(const struct lint_text *in, size_t at)
{
    return at < in->len && in->octets[at] < 0x80 &&
           (isalnum(in->octets[at]) != 0 || in->octets[at] == '_');
}

/* True if a word of letters, digits and '_' begins or ends between octets at - 1 and at. */
static bool
is_word_border(const struct lint_text *in, size_t at)
{
    return (at > 0 && is_word_octet(in, at - 1)) != is_word_octet(in, at);
}

static bool
are_equal(const uint8_t *a, const uint8_t *b, size_t len, bool any_case)
{
    for (size_t i = 0; i < len; i++) {
        if (a[i] != b[i] && !(any_case && toupper(a[i]) == toupper(b[i])))
            return false;
    }
    return true;
}

/* The text contains these octets as whole words: "SHAKEN" is not in "SHAKENX". */
static bool
has_words(const struct lint_text *in, const void *words, size_t len, bool any_case)
{
    for (size_t at = 0; at + len <= in->len; at++) {
        if (are_equal(in->octets + at, words, len, any_case) && is_word_border(in, at) &&
            is_word_border(in, at + len))
            return true;
    }
    return false;
}

/* "the CN is ..."; empty without a CN. */
static enum hsm_status
refuse_cn(const struct lint_view *view, struct hsm_reason *why)
{
    const struct lint_text *cn = &view->subject[LINT_CN].text;

    return hsm_refuse(why, LINT_BROKEN, "CN \"%.*s\"", (int)cn->len,
                      cn->octets == NULL ? "" : (const char *)cn->octets);
}

enum hsm_status
certs_lint_subject_c_and_cn(const struct lint_view *view, struct hsm_reason *why)
{
    size_t c = view->subject[LINT_C].count;
    size_t cn = view->subject[LINT_CN].count;

    return c == 1 && cn == 1 ? HSM_OK : hsm_refuse(why, LINT_BROKEN, "%zu C and %zu CN", c, cn);
}

enum hsm_status
certs_lint_subject_o(const struct lint_view *view, struct hsm_reason *why)
{
    size_t o = view->subject[LINT_O].count;

    return o == 1 ? HSM_OK : hsm_refuse(why, LINT_BROKEN, "%zu O", o);
}

static bool
is_alpha_2(const struct lint_text *c)
{
    return c->len == 2 && c->octets[0] >= 'A' && c->octets[0] <= 'Z' && c->octets[1] >= 'A' &&
           c->octets[1] <= 'Z';
}

static enum hsm_status
refuse_c(const struct lint_view *view, struct hsm_reason *why)
{
    const struct lint_attribute *c = &view->subject[LINT_C];

    if (c->count != 1)
        return hsm_refuse(why, LINT_BROKEN, "%zu C", c->count);
    return hsm_refuse(why, LINT_BROKEN, "C \"%.*s\"", (int)c->text.len,
                      (const char *)c->text.octets);
}

enum hsm_status
certs_lint_c_iso_3166(const struct lint_view *view, struct hsm_reason *why)
{
    const struct lint_attribute *c = &view->subject[LINT_C];

    return c->count == 1 && is_alpha_2(&c->text) ? HSM_OK : refuse_c(view, why);
}

enum hsm_status
certs_lint_c_assigned(const struct lint_view *view, struct hsm_reason *why)
{
    const struct lint_attribute *c = &view->subject[LINT_C];

    if (c->count != 1 || !is_alpha_2(&c->text))
        return HSM_OK; /* certs_lint_c_iso_3166() reports it */
    for (const char *one = countries; *one != '\0'; one += 3) {
        if (memcmp(one, c->text.octets, 2) == 0)
            return HSM_OK;
    }
    return refuse_c(view, why);
}

enum hsm_status
certs_lint_c_us(const struct lint_view *view, struct hsm_reason *why)
{
    const struct lint_attribute *c = &view->subject[LINT_C];

    if ((view->policies.shaken & 1U << LINT_CP_1_4) == 0)
        return HSM_OK;
    return c->count == 1 && is_text(&c->text, "US") ? HSM_OK : refuse_c(view, why);
}

/* X.520 and RFC 5280 appendix A: both attributes are PrintableStrings. */
enum hsm_status
certs_lint_c_printable(const struct lint_view *view, struct hsm_reason *why)
{
    const X509_NAME *name = X509_get_subject_name(view->cert);

    for (int i = 0; i < X509_NAME_entry_count(name); i++) {
        const X509_NAME_ENTRY *entry = X509_NAME_get_entry(name, i);
        int nid = OBJ_obj2nid(X509_NAME_ENTRY_get_object(entry));

        if ((nid == NID_countryName || nid == NID_serialNumber) &&
            ASN1_STRING_type(X509_NAME_ENTRY_get_data(entry)) != V_ASN1_PRINTABLESTRING)
            return hsm_refuse(why, LINT_BROKEN, "%s is another string", OBJ_nid2sn(nid));
    }
    return HSM_OK;
}

enum hsm_status
certs_lint_cn_shaken(const struct lint_view *view, struct hsm_reason *why)
{
    if (has_words(&view->subject[LINT_CN].text, shaken, strlen(shaken), false))
        return HSM_OK;
    return refuse_cn(view, why);
}

enum hsm_status
certs_lint_cn_root(const struct lint_view *view, struct hsm_reason *why)
{
    if (has_words(&view->subject[LINT_CN].text, "ROOT", 4, true))
        return HSM_OK;
    return refuse_cn(view, why);
}

enum hsm_status
certs_lint_cn_kind(const struct lint_view *view, struct hsm_reason *why)
{
    static const char intermediate[] = "INTERMEDIATE";
    const struct lint_text *cn = &view->subject[LINT_CN].text;

    if (view->role == CERTS_LINT_ROOT)
        return certs_lint_cn_root(view, why);
    return has_words(cn, intermediate, strlen(intermediate), true) ? HSM_OK : refuse_cn(view, why);
}

/* The CN contains "SHAKEN <SPC>" as words, or with `all` is equal to it. */
static bool
is_shaken_spc(const struct lint_view *view, bool all)
{
    const struct lint_text *cn = &view->subject[LINT_CN].text;
    const struct lint_text *spc = &view->tnauthlist.spc;
    size_t len = strlen(shaken_space);

    for (size_t at = 0; at + len + spc->len <= cn->len; at++) {
        size_t end = at + len + spc->len;

        if (memcmp(cn->octets + at, shaken_space, len) == 0 &&
            memcmp(cn->octets + at + len, spc->octets, spc->len) == 0 && is_word_border(cn, at) &&
            is_word_border(cn, end) && (!all || (at == 0 && end == cn->len)))
            return true;
    }
    return false;
}

enum hsm_status
certs_lint_cn_spc(const struct lint_view *view, struct hsm_reason *why)
{
    if (view->is_self_signed)
        return HSM_OK; /* certs_lint_issuer_is_other() reports it */
    if (view->tnauthlist.fault != NULL)
        return hsm_refuse(why, LINT_BROKEN, "%s", view->tnauthlist.fault);
    return is_shaken_spc(view, false) ? HSM_OK : refuse_cn(view, why);
}

enum hsm_status
certs_lint_cn_spc_exact(const struct lint_view *view, struct hsm_reason *why)
{
    if (view->tnauthlist.fault != NULL || !is_shaken_spc(view, false))
        return HSM_OK; /* certs_lint_cn_spc() reports it */
    return is_shaken_spc(view, true) ? HSM_OK : refuse_cn(view, why);
}

enum hsm_status
certs_lint_cn_includes_spc(const struct lint_view *view, struct hsm_reason *why)
{
    const struct lint_text *spc = &view->tnauthlist.spc;

    if (view->tnauthlist.fault != NULL ||
        has_words(&view->subject[LINT_CN].text, spc->octets, spc->len, false))
        return HSM_OK;
    return refuse_cn(view, why);
}

/* CP 1.3 section 3.1, for holders of an SPC. */
static bool
needs_serial_number(const struct lint_view *view)
{
    return (view->policies.shaken & 1U << LINT_CP_1_3) != 0 &&
           view->ext[LINT_EXT_TNAUTHLIST].is_there;
}

enum hsm_status
certs_lint_serial_number(const struct lint_view *view, struct hsm_reason *why)
{
    if (!needs_serial_number(view) || view->subject[LINT_SERIAL_NUMBER].text.len > 0)
        return HSM_OK;
    return hsm_refuse(why, LINT_BROKEN, "there is none");
}

/* The set (RDN) of the last attribute of this type; -1: there is none. */
static int
rdn_of(const X509_NAME *name, int nid)
{
    int rdn = -1;

    for (int at = X509_NAME_get_index_by_NID(name, nid, -1); at >= 0;
         at = X509_NAME_get_index_by_NID(name, nid, at))
        rdn = X509_NAME_ENTRY_set(X509_NAME_get_entry(name, at));
    return rdn;
}

enum hsm_status
certs_lint_serial_number_rdn(const struct lint_view *view, struct hsm_reason *why)
{
    const X509_NAME *name = X509_get_subject_name(view->cert);
    int count = X509_NAME_entry_count(name);
    int rdn = rdn_of(name, NID_serialNumber);

    if (!needs_serial_number(view) || rdn < 0)
        return HSM_OK;
    if (rdn != rdn_of(name, NID_commonName))
        return hsm_refuse(why, LINT_BROKEN, "it is apart from the CN");
    if (rdn != X509_NAME_ENTRY_set(X509_NAME_get_entry(name, count - 1)))
        return hsm_refuse(why, LINT_BROKEN, "another set follows");
    return HSM_OK;
}
