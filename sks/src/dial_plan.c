/* dial_plan.c - how telephone numbers without "+" are dialled where a call comes from. */
#include <sks/dial_plan.h>

#include <stdbool.h>
#include <string.h>

#define COUNTRY_CODE_MAX 3 /* digits (ITU-T E.164 section 6.2.1) */
#define PREFIX_MAX       5 /* digits */

static bool
is_digits(const char *text, size_t max)
{
    size_t len = strlen(text);

    return len >= 1 && len <= max && strspn(text, "0123456789") == len;
}

/* A prefix as configured: digits, or the word "none"; NULL: the usual one. */
static enum hsm_status
read_prefix(const char *key, const char *given, const char *usual, const char **out,
            struct sks_refusal *refusal)
{
    if (given == NULL)
        given = usual;
    else if (strcmp(given, "none") == 0)
        given = "";
    else if (!is_digits(given, PREFIX_MAX))
        return hsm_refuse(sks_refusal_of(refusal, key), HSM_ERR_MALFORMED,
                          "not 1 to %d digits, or none", PREFIX_MAX);
    *out = given;
    return HSM_OK;
}

/* The usual values are those of countries that follow ITU-T E.164, or for country code 1 those of
 * the North American Numbering Plan. */
enum hsm_status
sks_dial_plan_read(const struct sks_dial_plan_keys *keys, struct sks_dial_plan *out,
                   struct sks_refusal *refusal)
{
    struct sks_dial_plan plan = {.country_code = keys->country_code};
    enum hsm_status st;
    bool is_nanp;

    if (plan.country_code == NULL && keys->national_prefix == NULL &&
        keys->international_prefix == NULL && keys->national_digits == 0) {
        *out = plan;
        return HSM_OK;
    }
    if (plan.country_code == NULL || !is_digits(plan.country_code, COUNTRY_CODE_MAX))
        return hsm_refuse(sks_refusal_of(refusal, "country-code"), HSM_ERR_MALFORMED,
                          "not 1 to %d digits", COUNTRY_CODE_MAX);
    is_nanp = strcmp(plan.country_code, "1") == 0;
    plan.national_digits = (unsigned)keys->national_digits;
    if (plan.national_digits == 0 && is_nanp)
        plan.national_digits = 10;
    st = read_prefix("national-prefix", keys->national_prefix, is_nanp ? "1" : "0",
                     &plan.national_prefix, refusal);
    if (st == HSM_OK)
        st = read_prefix("international-prefix", keys->international_prefix, is_nanp ? "011" : "00",
                         &plan.international_prefix, refusal);
    if (st == HSM_OK)
        *out = plan;
    return st;
}
