/*
 * tnauthlist.h - the TNAuthorizationList of RFC 8226 section 9.
 *
 * TNAuthorizationList ::= SEQUENCE SIZE (1..MAX) OF TNEntry, explicit tags:
 * spc [0], range [1], one [2]. Parsed strictly as DER.
 */
#ifndef CERTS_TNAUTHLIST_H
#define CERTS_TNAUTHLIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <hsm/defer.h>
#include <hsm/status.h>

#define CERTS_TNAUTHLIST_MAX 65536 /* octets of DER */
#define CERTS_TN_MAX         15 /* digits of a TelephoneNumber */
#define CERTS_SPC_MAX        64 /* octets of a service provider code */

enum certs_tn_kind {
    CERTS_TN_SPC = 0,
    CERTS_TN_RANGE = 1,
    CERTS_TN_ONE = 2
};

struct certs_tn_entry {
    enum certs_tn_kind kind;
    char text[CERTS_SPC_MAX + 1]; /* the SPC; the first number of a range; the number */
    uint64_t count; /* numbers in the range (2 or more); 1 for one; 0 for an SPC */
};

struct certs_tnauthlist;

/**
 * Make a list of exactly one SPC.
 *
 * @retval HSM_ERR_MALFORMED  not 1 to CERTS_SPC_MAX of [A-Za-z0-9]
 */
HSM_MUST_CHECK enum hsm_status certs_tnauthlist_from_spc(const char *spc,
                                                         struct certs_tnauthlist **out);

/** Make a list of these entries, in this order, each checked against RFC 8226. */
HSM_MUST_CHECK enum hsm_status certs_tnauthlist_new(const struct certs_tn_entry *entries,
                                                    size_t count, struct certs_tnauthlist **out,
                                                    struct hsm_reason *why);

/**
 * Parse a list.
 *
 * @retval HSM_ERR_MALFORMED  not strict DER of RFC 8226, no entry, or longer than
 *                            CERTS_TNAUTHLIST_MAX
 */
HSM_MUST_CHECK enum hsm_status certs_tnauthlist_parse(const uint8_t *der, size_t len,
                                                      struct certs_tnauthlist **out,
                                                      struct hsm_reason *why);

/** The DER octets: borrowed, valid as long as the list. */
const uint8_t *certs_tnauthlist_der(const struct certs_tnauthlist *list, size_t *len);

size_t certs_tnauthlist_len(const struct certs_tnauthlist *list);
const struct certs_tn_entry *certs_tnauthlist_entry(const struct certs_tnauthlist *list, size_t i);

/** The SPC of a list that is exactly one SPC (what a SHAKEN certificate holds), else NULL. */
const char *certs_tnauthlist_spc(const struct certs_tnauthlist *list);

/** True if the list has at least one SPC. */
bool certs_tnauthlist_has_spc(const struct certs_tnauthlist *list);

/** True if the lists' DER is equal. */
bool certs_tnauthlist_equals(const struct certs_tnauthlist *a, const struct certs_tnauthlist *b);

/** True if the list has this number, as `one` or within a range; an SPC alone covers no number. */
bool certs_tnauthlist_has_number(const struct certs_tnauthlist *list, const char *number);

/* How the scope of a delegate's list relates to that of its issuer's (RFC 9060 section 4). */
enum certs_scope {
    CERTS_SCOPE_INSIDE, /* every entry of the child is encompassed by the parent's */
    CERTS_SCOPE_OUTSIDE,
    /* the parent's entries do not cover every number of the child, but it has an SPC: whether the
     * numbers are that provider's is not in any certificate, only in numbering data */
    CERTS_SCOPE_BY_NUMBERING
};

/**
 * An SPC is encompassed by the equal SPC, a number by the equal number or a
 * range, a range by the numbers and ranges of the parent together. Numbers of
 * different length are different numbers.
 */
enum certs_scope certs_tnauthlist_scope(const struct certs_tnauthlist *parent,
                                        const struct certs_tnauthlist *child);

/** certs_tnauthlist_scope() is CERTS_SCOPE_INSIDE. */
bool certs_tnauthlist_encompasses(const struct certs_tnauthlist *parent,
                                  const struct certs_tnauthlist *child);

/** As text, e.g. "SPC 1234, range 12155550100 x 100"; free() it. NULL: out of memory. */
char *certs_tnauthlist_text(const struct certs_tnauthlist *list);

HSM_MUST_CHECK enum hsm_status certs_tnauthlist_copy(const struct certs_tnauthlist *list,
                                                     struct certs_tnauthlist **out);
void certs_tnauthlist_free(struct certs_tnauthlist *list);
DEFINE_DEFER(struct certs_tnauthlist, certs_tnauthlist_free)

#endif
