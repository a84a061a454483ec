/* callers.c - who may have calls signed, on whose behalf, and with which claims. */
#define _GNU_SOURCE /* asprintf */
#include <sks/callers.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <acme/config.h>
#include <certs/tnauthlist.h>
#include <hsm/defer.h>
#include <hsm/hex.h>
#include <hsm/log.h>

#include "numbers_internal.h"

#define SHA256_LEN  32 /* octets */
#define SPC_MAX     CERTS_SPC_MAX
#define HASHES_MAX  8 /* bearer tokens or certificates of one caller, so that they can change */
#define RATE_MAX    1000000 /* calls a second */
#define ATTESTS     "ABC"
#define BIT(number) (1U << (number))

/** The values in the file; texts are owned. */
struct customer_section {
    char *spc, *attest, *numbers, *types, *rph, *origid, *div_headers;
    long rate, burst;
};

struct caller_section {
    char *certificates, *subject, *name, *bearers, *use, *customers;
    struct sks_dial_plan_keys dial_plan;
    long uid, rate, burst, verification_rate, verification_burst;
};

struct bucket {
    size_t at;
    unsigned per_s, burst; /* 0: no limit */
};

/** Whether a div request must include the Identity headers of the call. */
enum div_headers {
    DIV_HEADERS_NO, /* not required */
    DIV_HEADERS_YES,
    DIV_HEADERS_VERIFIED, /* required, and the diverted PASSporT must be valid */
};

struct sks_customer {
    char *name, *rule;
    struct customer_section section;
    struct certs_tnauthlist *numbers; /* owned; NULL: any */
    unsigned types; /* BIT(ppt) */
    enum div_headers div_headers;
    struct bucket bucket;
    struct sks_rates *rates;
};

struct sks_caller {
    char *name;
    struct caller_section section;
    struct sks_dial_plan dial_plan; /* borrows its texts from `section` */
    uint8_t certificates[HASHES_MAX][SHA256_LEN];
    size_t certificate_count;
    uint8_t bearers[HASHES_MAX][SHA256_LEN];
    size_t bearer_count;
    unsigned apis; /* BIT(api) */
    const struct sks_customer **customers; /* owned array */
    size_t customer_count;
    struct bucket bucket, verification_bucket;
    struct sks_rates *rates;
};

struct sks_callers {
    struct sks_rates *rates;
    struct sks_customer *customers[SKS_CALLERS_MAX];
    const char *spcs[SKS_CALLERS_MAX];
    size_t customer_count;
    struct sks_caller *callers[SKS_CALLERS_MAX];
    size_t caller_count;
};

#define KEY(kind, member, type, name, required, min, max, fallback, help)                          \
    {                                                                                              \
#kind, name, type, offsetof(struct kind##_section, member), required, min, max, fallback,  \
            help                                                                                   \
    }
#define TEXT(kind, member, name, required, fallback, help)                                         \
    KEY(kind, member, ACME_CONFIG_TEXT, name, required, 0, 0, fallback, help)
#define NUMBER(kind, member, name, min, max, fallback, help)                                       \
    KEY(kind, member, ACME_CONFIG_NUMBER, name, false, min, max, fallback, help)

static const struct acme_config_key customer_keys[] = {
    TEXT(customer, spc, "spc", true, NULL, "SPC whose certificate signs"),
    TEXT(customer, attest, "attest", true, NULL, "attestation levels, of A B C"),
    TEXT(customer, numbers, "numbers", true, NULL, "NUMBER FIRST-LAST PREFIX*, or any"),
    TEXT(customer, types, "types", false, "shaken div", "kinds of PASSporT: shaken div rph rcd"),
    TEXT(customer, rph, "rph", false, NULL, "namespaces of resource priorities"),
    TEXT(customer, origid, "origid", false, NULL, "the origid of its calls"),
    TEXT(customer, div_headers, "div-headers", false, "yes",
         "a div PASSporT only with the call's Identity headers: yes, verified, or no"),
    NUMBER(customer, rate, "rate", 0, RATE_MAX, "0", "calls a second; 0: no limit"),
    NUMBER(customer, burst, "burst", 0, RATE_MAX, "0", "calls at once; 0: those of a second"),
    {.section = NULL},
};

static const struct acme_config_key caller_keys[] = {
    NUMBER(caller, uid, "uid", -1, 4294967294L, "-1", "user id at the Unix socket"),
    TEXT(caller, certificates, "certificate", false, NULL, "SHA-256 of client certificates"),
    TEXT(caller, subject, "subject", false, NULL, "subject of the client certificate"),
    TEXT(caller, name, "name", false, NULL, "one of its names, DNS:HOST or URI:.."),
    TEXT(caller, bearers, "bearer-sha256", false, NULL, "SHA-256 of bearer tokens"),
    TEXT(caller, use, "use", false, "signing verification", "of signing verification metrics"),
    TEXT(caller, customers, "customers", false, NULL, "whom it speaks for, in this order"),
    SKS_DIAL_PLAN_KEYS(struct caller_section, dial_plan, "caller"),
    NUMBER(caller, rate, "rate", 0, RATE_MAX, "0", "calls signed a second; 0: no limit"),
    NUMBER(caller, burst, "burst", 0, RATE_MAX, "0", "calls at once; 0: those of a second"),
    NUMBER(caller, verification_rate, "verification-rate", 0, RATE_MAX, "0",
           "calls verified a second; 0: no limit"),
    NUMBER(caller, verification_burst, "verification-burst", 0, RATE_MAX, "0",
           "calls at once; 0: those of a second"),
    {.section = NULL},
};

/* ---- words ---- */

/* The next word of a text separated by blanks, and its length; NULL: no more words. */
static const char *
next_word(const char **at, size_t *len)
{
    const char *word;

    if (*at == NULL)
        return NULL;
    word = *at + strspn(*at, " \t");
    *len = strcspn(word, " \t");
    *at = word + *len;
    return *len > 0 ? word : NULL;
}

static bool
is_word(const char *word, size_t len, const char *text)
{
    return strlen(text) == len && memcmp(word, text, len) == 0;
}

static bool
has_word(const char *words, const char *wanted, size_t wanted_len)
{
    const char *word;
    size_t len;

    while ((word = next_word(&words, &len)) != NULL)
        if (len == wanted_len && memcmp(word, wanted, len) == 0)
            return true;
    return false;
}

/* ---- reading: common to both ---- */

static enum hsm_status
set_bucket(struct sks_rates *rates, const char *kind, const char *name, long rate, long burst,
           struct bucket *out, struct hsm_reason *why)
{
    char text[ACME_CONFIG_NAME_MAX + 16];

    out->per_s = (unsigned)rate;
    out->burst = (unsigned)(burst != 0 ? burst : rate);
    if (rate == 0 && burst != 0)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "a burst without its rate limits nothing");
    if (rate == 0)
        return HSM_OK;
    snprintf(text, sizeof(text), "%s %s", kind, name);
    return sks_rates_bucket(rates, text, &out->at);
}

/* ---- reading: customers ---- */

static void
customer_free(struct sks_customer *customer)
{
    if (customer == NULL)
        return;
    acme_config_clear(customer_keys, &customer->section);
    certs_tnauthlist_free(customer->numbers);
    free(customer->name);
    free(customer->rule);
    free(customer);
}

DEFINE_DEFER(struct sks_customer, customer_free)

static struct sks_customer *
find_customer(const struct sks_callers *callers, const char *name, size_t len)
{
    for (size_t i = 0; i < callers->customer_count; i++)
        if (is_word(name, len, callers->customers[i]->name))
            return callers->customers[i];
    return NULL;
}

static enum hsm_status
parse_attest(const char *words, struct hsm_reason *why)
{
    const char *word;
    size_t len;

    while ((word = next_word(&words, &len)) != NULL)
        if (len != 1 || strchr(ATTESTS, *word) == NULL)
            return hsm_refuse(why, HSM_ERR_MALFORMED, "attest: not of A B C");
    return HSM_OK;
}

/* Set BIT(i) for each word that is names[i]; `refusal` is the reason if one is none of them. */
static enum hsm_status
parse_bits(const char *words, const char *const *names, int count, const char *refusal,
           unsigned *out, struct hsm_reason *why)
{
    const char *word;
    size_t len;

    *out = 0;
    while ((word = next_word(&words, &len)) != NULL) {
        int i = 0;

        while (i < count && !is_word(word, len, names[i]))
            i++;
        if (i == count)
            return hsm_refuse(why, HSM_ERR_MALFORMED, "%s", refusal);
        *out |= BIT(i);
    }
    return HSM_OK;
}

static enum hsm_status
parse_types(const char *words, unsigned *out, struct hsm_reason *why)
{
    const char *names[SKS_PPT_NONE];

    for (int ppt = 0; ppt < SKS_PPT_NONE; ppt++)
        names[ppt] = sks_ppt_text((enum sks_ppt)ppt);
    return parse_bits(words, names, SKS_PPT_NONE, "types: not of shaken div rph rcd", out, why);
}

static enum hsm_status
parse_div_headers(const char *text, enum div_headers *out, struct hsm_reason *why)
{
    static const char *const texts[] = {"no", "yes", "verified"};

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        if (strcmp(text, texts[i]) == 0) {
            *out = (enum div_headers)i;
            return HSM_OK;
        }
    }
    return hsm_refuse(why, HSM_ERR_MALFORMED, "div-headers: not yes, verified or no");
}

/* Apply the check of sks_claims_check() when the file is read. */
static enum hsm_status
check_origid(const char *origid, struct hsm_reason *why)
{
    const char *const dest[] = {"1"};
    const struct sks_claims claims = {
        .attest = 'A', .orig_tn = "1", .dest_tn = dest, .dest_tn_count = 1, .origid = origid};

    struct sks_refusal refusal = {.member = NULL};

    return origid == NULL ? HSM_OK
                          : sks_refusal_tell(&refusal, sks_claims_check(&claims, &refusal), why);
}

static enum hsm_status
interpret_customer(struct sks_customer *customer, struct hsm_reason *why)
{
    const struct customer_section *section = &customer->section;
    enum hsm_status st = parse_attest(section->attest, why);

    if (st == HSM_OK && (strlen(section->spc) > SPC_MAX || strchr(section->spc, ' ') != NULL))
        st = hsm_refuse(why, HSM_ERR_MALFORMED, "spc: not one SPC");
    if (st == HSM_OK)
        st = parse_types(section->types, &customer->types, why);
    if (st == HSM_OK)
        st = parse_div_headers(section->div_headers, &customer->div_headers, why);
    if (st == HSM_OK)
        st = check_origid(section->origid, why);
    if (st == HSM_OK && strcmp(section->numbers, "any") != 0)
        st = sks_numbers_parse(section->numbers, &customer->numbers, why);
    if (st != HSM_OK)
        return st;
    return set_bucket(customer->rates, "customer", customer->name, section->rate, section->burst,
                      &customer->bucket, why);
}

static enum hsm_status
take_customer(void *context, const char *name, const char *where, void *section,
              struct hsm_reason *why)
{
    struct sks_callers *callers = context;
    DEFER(customer_free) struct sks_customer *customer = calloc(1, sizeof(*customer));
    enum hsm_status st;

    if (customer == NULL) {
        acme_config_clear(customer_keys, section);
        return HSM_ERR_NOMEM;
    }
    memcpy(&customer->section, section, sizeof(customer->section));
    customer->rates = callers->rates;
    customer->name = strdup(name);
    customer->rule = strdup(where);
    if (customer->name == NULL || customer->rule == NULL)
        return HSM_ERR_NOMEM;
    if (find_customer(callers, name, strlen(name)) != NULL)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "given before");
    if (callers->customer_count == SKS_CALLERS_MAX)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "more than %d customers", SKS_CALLERS_MAX);
    st = interpret_customer(customer, why);
    if (st != HSM_OK)
        return st;
    callers->spcs[callers->customer_count] = customer->section.spc;
    callers->customers[callers->customer_count++] = customer;
    customer = NULL;
    return HSM_OK;
}

/* ---- reading: callers ---- */

static void
caller_free(struct sks_caller *caller)
{
    if (caller == NULL)
        return;
    acme_config_clear(caller_keys, &caller->section);
    free(caller->customers);
    free(caller->name);
    free(caller);
}

DEFINE_DEFER(struct sks_caller, caller_free)

static enum hsm_status
parse_hashes(const char *key, const char *words, uint8_t out[HASHES_MAX][SHA256_LEN], size_t *count,
             struct hsm_reason *why)
{
    const char *word;
    size_t len;

    while ((word = next_word(&words, &len)) != NULL) {
        if (*count == HASHES_MAX || !hsm_hex_get(word, len, out[*count], SHA256_LEN))
            return hsm_refuse(why, HSM_ERR_MALFORMED, "%s: not 1 to %d of 64 lower-case hex digits",
                              key, HASHES_MAX);
        (*count)++;
    }
    return HSM_OK;
}

static enum hsm_status
parse_use(const char *words, unsigned *out, struct hsm_reason *why)
{
    static const char *const names[SKS_APIS] = {
        [SKS_API_SIGNING] = "signing",
        [SKS_API_VERIFICATION] = "verification",
        [SKS_API_METRICS] = "metrics",
    };

    return parse_bits(words, names, SKS_APIS, "use: not of signing verification metrics", out, why);
}

static enum hsm_status
find_customers(const struct sks_callers *callers, struct sks_caller *caller, struct hsm_reason *why)
{
    const char *words = caller->section.customers;
    const char *word;
    size_t len;

    caller->customers = calloc(callers->customer_count + 1, sizeof(caller->customers[0]));
    if (caller->customers == NULL)
        return HSM_ERR_NOMEM;
    while ((word = next_word(&words, &len)) != NULL) {
        const struct sks_customer *customer = find_customer(callers, word, len);

        if (customer == NULL || caller->customer_count == callers->customer_count)
            return hsm_refuse(why, HSM_ERR_MALFORMED,
                              "customers: %.*s: no [customer] above, or named twice", (int)len,
                              word);
        caller->customers[caller->customer_count++] = customer;
    }
    if (caller->customer_count == 0 && (caller->apis & BIT(SKS_API_SIGNING)) != 0)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "customers: none to sign for");
    return HSM_OK;
}

static bool
has_hash(const uint8_t hashes[HASHES_MAX][SHA256_LEN], size_t count, const uint8_t *hash)
{
    unsigned found = 0;

    for (size_t i = 0; i < count; i++)
        found |= CRYPTO_memcmp(hashes[i], hash, SHA256_LEN) == 0;
    return found != 0;
}

static bool
are_same(const char *a, const char *b)
{
    return a != NULL && b != NULL && strcmp(a, b) == 0;
}

/* A key by which both callers would be known, or NULL. */
static const char *
shared_key(const struct sks_caller *a, const struct sks_caller *b)
{
    if (a->section.uid >= 0 && a->section.uid == b->section.uid)
        return "uid";
    if (are_same(a->section.subject, b->section.subject))
        return "subject";
    if (are_same(a->section.name, b->section.name))
        return "name";
    for (size_t i = 0; i < a->certificate_count; i++)
        if (has_hash(b->certificates, b->certificate_count, a->certificates[i]))
            return "certificate";
    for (size_t i = 0; i < a->bearer_count; i++)
        if (has_hash(b->bearers, b->bearer_count, a->bearers[i]))
            return "bearer-sha256";
    return NULL;
}

/* Which customers a request may name must not depend on the order of the file. */
static enum hsm_status
check_unique(const struct sks_callers *callers, const struct sks_caller *caller,
             struct hsm_reason *why)
{
    for (size_t i = 0; i < callers->caller_count; i++) {
        const char *key = shared_key(callers->callers[i], caller);

        if (key != NULL)
            return hsm_refuse(why, HSM_ERR_MALFORMED, "%s: is that of [caller %s] too", key,
                              callers->callers[i]->name);
    }
    return HSM_OK;
}

static enum hsm_status
interpret_caller(const struct sks_callers *callers, struct sks_caller *caller,
                 struct hsm_reason *why)
{
    const struct caller_section *section = &caller->section;
    struct sks_refusal refusal = {.member = NULL};
    enum hsm_status st = parse_hashes("certificate", section->certificates, caller->certificates,
                                      &caller->certificate_count, why);

    if (st == HSM_OK)
        st = parse_hashes("bearer-sha256", section->bearers, caller->bearers, &caller->bearer_count,
                          why);
    if (st == HSM_OK)
        st = parse_use(section->use, &caller->apis, why);
    if (st == HSM_OK)
        st = find_customers(callers, caller, why);
    if (st != HSM_OK)
        return st;
    if (section->uid < 0 && caller->certificate_count == 0 && section->subject == NULL &&
        section->name == NULL && caller->bearer_count == 0)
        return hsm_refuse(why, HSM_ERR_MALFORMED,
                          "nothing to know it by: uid, certificate, subject, name, bearer-sha256");
    st = check_unique(callers, caller, why);
    if (st != HSM_OK)
        return st;
    st = sks_dial_plan_read(&section->dial_plan, &caller->dial_plan, &refusal);
    if (st != HSM_OK)
        return sks_refusal_tell(&refusal, st, why);
    st = set_bucket(caller->rates, "caller", caller->name, section->rate, section->burst,
                    &caller->bucket, why);
    if (st != HSM_OK)
        return st;
    return set_bucket(caller->rates, "verification", caller->name, section->verification_rate,
                      section->verification_burst, &caller->verification_bucket, why);
}

static enum hsm_status
take_caller(void *context, const char *name, const char *where, void *section,
            struct hsm_reason *why)
{
    struct sks_callers *callers = context;
    DEFER(caller_free) struct sks_caller *caller = calloc(1, sizeof(*caller));
    enum hsm_status st;

    (void)where;
    if (caller == NULL) {
        acme_config_clear(caller_keys, section);
        return HSM_ERR_NOMEM;
    }
    memcpy(&caller->section, section, sizeof(caller->section));
    caller->rates = callers->rates;
    caller->name = strdup(name);
    if (caller->name == NULL)
        return HSM_ERR_NOMEM;
    for (size_t i = 0; i < callers->caller_count; i++)
        if (strcmp(callers->callers[i]->name, name) == 0)
            return hsm_refuse(why, HSM_ERR_MALFORMED, "given before");
    if (callers->caller_count == SKS_CALLERS_MAX)
        return hsm_refuse(why, HSM_ERR_MALFORMED, "more than %d callers", SKS_CALLERS_MAX);
    st = interpret_caller(callers, caller, why);
    if (st != HSM_OK)
        return st;
    callers->callers[callers->caller_count++] = caller;
    caller = NULL;
    return HSM_OK;
}

/* ---- the file ---- */

enum hsm_status
sks_callers_read(const char *path, struct sks_rates *rates, struct sks_callers **out)
{
    static const struct acme_config_kind kinds[] = {
        {"customer", customer_keys, sizeof(struct customer_section), take_customer},
        {"caller", caller_keys, sizeof(struct caller_section), take_caller},
        {.name = NULL},
    };
    DEFER(sks_callers_free) struct sks_callers *callers = calloc(1, sizeof(*callers));
    enum hsm_status st;

    if (callers == NULL)
        return HSM_ERR_NOMEM;
    callers->rates = rates;
    st = acme_config_read_sections(path, kinds, callers);
    if (st != HSM_OK)
        return st;
    if (callers->caller_count == 0) {
        hsm_log(HSM_LOG_ERROR, "%s: no [caller NAME]: nobody could ask", path);
        return HSM_ERR_MALFORMED;
    }
    *out = callers;
    callers = NULL;
    return HSM_OK;
}

void
sks_callers_free(struct sks_callers *callers)
{
    if (callers == NULL)
        return;
    for (size_t i = 0; i < callers->caller_count; i++)
        caller_free(callers->callers[i]);
    for (size_t i = 0; i < callers->customer_count; i++)
        customer_free(callers->customers[i]);
    free(callers);
}

const char *const *
sks_callers_spcs(const struct sks_callers *callers, size_t *count)
{
    *count = callers->customer_count;
    return callers->spcs;
}

/* ---- identifying the caller ---- */

/* All hashes are compared, even after a match, so that timing reveals nothing about them. */
static const struct sks_caller *
find_bearer(const struct sks_callers *callers, const char *bearer)
{
    const struct sks_caller *found = NULL;
    uint8_t hash[EVP_MAX_MD_SIZE];

    if (EVP_Digest(bearer, strlen(bearer), hash, NULL, EVP_sha256(), NULL) != 1)
        return NULL;
    for (size_t i = 0; i < callers->caller_count; i++) {
        const struct sks_caller *caller = callers->callers[i];

        if (has_hash(caller->bearers, caller->bearer_count, hash))
            found = caller;
    }
    return found;
}

static bool
shows_certificate(const struct sks_caller *caller, const struct sks_evidence *evidence)
{
    const struct caller_section *section = &caller->section;
    uint8_t hash[SHA256_LEN];

    if (evidence->sha256 != NULL && caller->certificate_count > 0 &&
        hsm_hex_get(evidence->sha256, strlen(evidence->sha256), hash, sizeof(hash)) &&
        has_hash(caller->certificates, caller->certificate_count, hash))
        return true;
    if (section->subject != NULL && evidence->subject != NULL &&
        strcmp(section->subject, evidence->subject) == 0)
        return true;
    return section->name != NULL && has_word(evidence->names, section->name, strlen(section->name));
}

const struct sks_caller *
sks_callers_find(const struct sks_callers *callers, const struct sks_evidence *evidence)
{
    for (size_t i = 0; i < callers->caller_count; i++) {
        const struct sks_caller *caller = callers->callers[i];

        if ((evidence->uid >= 0 && caller->section.uid == evidence->uid) ||
            shows_certificate(caller, evidence))
            return caller;
    }
    return evidence->bearer == NULL ? NULL : find_bearer(callers, evidence->bearer);
}

const char *
sks_caller_name(const struct sks_caller *caller)
{
    return caller->name;
}

bool
sks_caller_may_use(const struct sks_caller *caller, enum sks_api api)
{
    return (caller->apis & BIT(api)) != 0;
}

const struct sks_dial_plan *
sks_caller_dial_plan(const struct sks_caller *caller)
{
    return caller->dial_plan.country_code != NULL ? &caller->dial_plan : NULL;
}

/* ---- finding the customer ---- */

static enum hsm_status
deny(struct sks_refusal *refusal, const char *member, const char *what)
{
    return hsm_refuse(sks_refusal_of(refusal, member), HSM_ERR_DENIED, "%s", what);
}

static bool
has_number(const struct sks_customer *customer, const char *number)
{
    return customer->numbers == NULL ||
           (number != NULL && certs_tnauthlist_has_number(customer->numbers, number));
}

enum hsm_status
sks_caller_customer(const struct sks_caller *caller, const char *name,
                    const struct sks_claims *claims, const struct sks_customer **out,
                    struct sks_refusal *refusal)
{
    bool is_div = claims->ppt == SKS_PPT_DIV;
    const char *number = is_div ? claims->div_tn : claims->orig_tn;
    bool is_named = false;

    for (size_t i = 0; i < caller->customer_count; i++) {
        const struct sks_customer *customer = caller->customers[i];

        if (name != NULL && strcmp(customer->name, name) != 0)
            continue;
        is_named = true;
        if (has_number(customer, number)) {
            *out = customer;
            return HSM_OK;
        }
    }
    if (!is_named)
        return deny(refusal, "profileId", "not a customer of this caller");
    return deny(refusal, is_div ? "div" : "orig", "not a number of the customer");
}

const char *
sks_customer_name(const struct sks_customer *customer)
{
    return customer->name;
}

const char *
sks_customer_spc(const struct sks_customer *customer)
{
    return customer->section.spc;
}

const char *
sks_customer_origid(const struct sks_customer *customer)
{
    return customer->section.origid;
}

const char *
sks_customer_rule(const struct sks_customer *customer)
{
    return customer->rule;
}

/* Only a div PASSporT is added to the PASSporTs that a call already has (RFC 8946 section 4.1). */
static enum div_headers
div_headers_for(const struct sks_customer *customer, const struct sks_claims *claims)
{
    return claims->ppt == SKS_PPT_DIV ? customer->div_headers : DIV_HEADERS_NO;
}

bool
sks_customer_verifies_div(const struct sks_customer *customer, const struct sks_claims *claims)
{
    return div_headers_for(customer, claims) == DIV_HEADERS_VERIFIED;
}

/* ---- permitted claims ---- */

static enum hsm_status
check_kind(const struct sks_customer *customer, const struct sks_claims *claims,
           size_t header_count, struct sks_refusal *refusal)
{
    if ((customer->types & BIT(claims->ppt)) == 0)
        return deny(refusal, "ppt", "not a kind that is signed for the customer");
    if ((claims->rcd != NULL || claims->crn != NULL) && (customer->types & BIT(SKS_PPT_RCD)) == 0)
        return deny(refusal, "rcd", "no rich call data is signed for the customer");
    if (div_headers_for(customer, claims) != DIV_HEADERS_NO && header_count == 0)
        return deny(refusal, "identityHeaders", "wanted of a call that is diverted");
    return HSM_OK;
}

/* The number that is shown to the called party instead of the originator's. */
static enum hsm_status
check_apn(const struct sks_customer *customer, const struct sks_claims *claims,
          struct sks_refusal *refusal)
{
    const json_t *apn = json_object_get(claims->rcd, "apn");

    if (apn == NULL || has_number(customer, json_string_value(apn)))
        return HSM_OK;
    return deny(refusal, "rcd", "apn is not a number of the customer");
}

static enum hsm_status
check_namespaces(const struct sks_customer *customer, const struct sks_claims *claims,
                 struct sks_refusal *refusal)
{
    for (size_t i = 0; i < claims->rph_count; i++) {
        const char *value = claims->rph_auth[i];

        if (!has_word(customer->section.rph, value, strcspn(value, ".")))
            return deny(refusal, "rph", "not a namespace of the customer");
    }
    return HSM_OK;
}

enum hsm_status
sks_customer_check(const struct sks_customer *customer, const struct sks_claims *claims,
                   size_t header_count, struct sks_refusal *refusal)
{
    enum hsm_status st = check_kind(customer, claims, header_count, refusal);

    if (st == HSM_OK)
        st = check_apn(customer, claims, refusal);
    if (st == HSM_OK)
        st = check_namespaces(customer, claims, refusal);
    if (st != HSM_OK || claims->ppt != SKS_PPT_SHAKEN)
        return st;
    if (!has_word(customer->section.attest, &claims->attest, 1))
        return deny(refusal, "attest", "not a level of the customer");
    if (customer->section.origid != NULL && strcmp(customer->section.origid, claims->origid) != 0)
        return deny(refusal, "origid", "not that of the customer");
    return HSM_OK;
}

static enum hsm_status
take(struct sks_rates *rates, const struct bucket *bucket, int64_t now_ns, unsigned *wait_s)
{
    if (bucket->per_s == 0)
        return HSM_OK;
    return sks_rates_take(rates, bucket->at, bucket->per_s, bucket->burst, now_ns, wait_s);
}

enum hsm_status
sks_caller_take(const struct sks_caller *caller, const struct sks_customer *customer,
                int64_t now_ns, unsigned *wait_s, struct hsm_reason *why)
{
    enum hsm_status st = HSM_OK;

    if (customer != NULL)
        st = take(customer->rates, &customer->bucket, now_ns, wait_s);
    if (st != HSM_OK)
        return hsm_refuse(why, st, "of the customer");
    st = take(caller->rates, &caller->bucket, now_ns, wait_s);
    if (st == HSM_OK)
        return HSM_OK;
    if (customer != NULL && customer->bucket.per_s != 0)
        sks_rates_give_back(customer->rates, customer->bucket.at, customer->bucket.per_s);
    return hsm_refuse(why, st, "of this caller");
}

enum hsm_status
sks_caller_take_verification(const struct sks_caller *caller, int64_t now_ns, unsigned *wait_s)
{
    return take(caller->rates, &caller->verification_bucket, now_ns, wait_s);
}
