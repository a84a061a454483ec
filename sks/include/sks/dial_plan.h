/*
 * dial_plan.h - how telephone numbers without "+" are dialled where a call comes from: the local
 * policy by which RFC 8224 section 8.3 makes them E.164 numbers.
 */
#ifndef SKS_DIAL_PLAN_H
#define SKS_DIAL_PLAN_H

#include <stddef.h>

#include <acme/config.h>
#include <hsm/status.h>
#include <sks/refusal.h>

/** Texts are borrowed. */
struct sks_dial_plan {
    const char *country_code; /* NULL: there is no plan, numbers are E.164 already */
    const char *national_prefix; /* in front of a national number; "": none */
    const char *international_prefix; /* in front of a country code; "": none */
    unsigned national_digits; /* of a national number without its prefix; 0: they differ */
};

/** As a configuration has it; texts owned, NULL when not given. */
struct sks_dial_plan_keys {
    char *country_code, *national_prefix, *international_prefix;
    long national_digits; /* 0 when not given */
};

/** The keys of a section; `m` is a struct sks_dial_plan_keys in `type`. */
#define SKS_DIAL_PLAN_KEYS(type, m, section)                                                       \
    {section,                                                                                      \
     "country-code",                                                                               \
     ACME_CONFIG_TEXT,                                                                             \
     offsetof(type, m.country_code),                                                               \
     false,                                                                                        \
     0,                                                                                            \
     0,                                                                                            \
     NULL,                                                                                         \
     "country code of numbers that lack it; without it all numbers must have theirs"},             \
        {section,                                                                                  \
         "national-prefix",                                                                        \
         ACME_CONFIG_TEXT,                                                                         \
         offsetof(type, m.national_prefix),                                                        \
         false,                                                                                    \
         0,                                                                                        \
         0,                                                                                        \
         NULL,                                                                                     \
         "what is dialled before a national number, or none (default: 1 for country code 1, "      \
         "else 0)"},                                                                               \
        {section,                                                                                  \
         "international-prefix",                                                                   \
         ACME_CONFIG_TEXT,                                                                         \
         offsetof(type, m.international_prefix),                                                   \
         false,                                                                                    \
         0,                                                                                        \
         0,                                                                                        \
         NULL,                                                                                     \
         "what is dialled before a country code, or none (default: 011 for country code 1, "       \
         "else 00)"},                                                                              \
    {                                                                                              \
        section, "national-digits", ACME_CONFIG_NUMBER, offsetof(type, m.national_digits), false,  \
            0, 14, "0",                                                                            \
            "digits of a national number without its prefix; 0: 10 for country code 1, else any"   \
    }

/**
 * What the keys mean; texts stay theirs.
 *
 * @retval HSM_ERR_MALFORMED  a key is refused
 */
HSM_MUST_CHECK enum hsm_status sks_dial_plan_read(const struct sks_dial_plan_keys *keys,
                                                  struct sks_dial_plan *out,
                                                  struct sks_refusal *refusal);

#endif
