/*
 * chain_internal.h - the chain that the div PASSporTs of a call form (RFC 8946 section 4.2).
 *
 * Which PASSporT diverts which is determined once, from claims that are not verified yet: time and
 * memory are bounded whatever they contain.
 */
#ifndef SKS_CHAIN_INTERNAL_H
#define SKS_CHAIN_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

#include <sks/passport.h>
#include <sks/verify.h>

#define CHAIN_MAX  (SKS_IDENTITIES_MAX + 1) /* PASSporTs: those of a call, and one to be signed */
#define CHAIN_NONE CHAIN_MAX

/** Initialize it with {.count = 0}: only the counted elements are set. */
struct chain {
    size_t count;
    json_t *claims[CHAIN_MAX]; /* owned; NULL: not read, or not comparable */
    enum sks_ppt ppt[CHAIN_MAX];
    char *opt[CHAIN_MAX]; /* owned; the PASSporT inside a div-o; or NULL */
    size_t inside[CHAIN_MAX]; /* the index of that PASSporT; CHAIN_NONE: not added */
    bool diverts[CHAIN_MAX][CHAIN_MAX]; /* [i][j]: i is a div, and by its claims it diverts j */
};

/** Add an element without claims and return its index. The chain must have room. */
size_t sks_div_chain_add(struct chain *chain);

/**
 * Read the claims of a PASSporT in full form.
 *
 * @param is_any_type  false: it is treated as type *ppt, whatever its header contains
 * @param ppt          receives the type if is_any_type
 * @retval HSM_ERR_MALFORMED  it cannot be decoded; or orig, dest or, in a div, div is not as RFC
 *                            8225 section 5.2.1 requires. It has no claims then, but in the second
 *                            case a PASSporT inside it is kept
 */
HSM_MUST_CHECK enum hsm_status sks_div_chain_take(struct chain *chain, size_t at,
                                                  const char *passport, bool is_any_type,
                                                  enum sks_ppt *ppt, struct hsm_reason *why);

/**
 * Add an element without claims for the PASSporT in the `opt` of a div-o (RFC 8946 section 5). A
 * loop over all elements, including those added on the way, finds nested ones too.
 *
 * @param inner  receives its index; its text is opt[at]
 * @return false: there is none, or no room for it, in which case the div-o cannot stand
 */
bool sks_div_chain_unwrap(struct chain *chain, size_t at, size_t *inner);

/** Set the claims of a div PASSporT that is to be signed. They passed sks_claims_check(). */
HSM_MUST_CHECK enum hsm_status sks_div_chain_say_div(struct chain *chain, size_t at,
                                                     const struct sks_claims *div);

/** Once all claims are set, fill in `diverts`: a div diverts each PASSporT whose dest contains its
 *  div and whose orig is the same. */
void sks_div_chain_link(struct chain *chain);

/**
 * Determine which `valid` PASSporTs stand: those that are not div, and each div that diverts one
 * that stands, which for a div-o must be the one inside it. A cycle of div PASSporTs does not
 * stand.
 *
 * @param valid   one for each PASSporT
 * @param stands  receives one for each PASSporT
 */
void sks_div_chain_stand(const struct chain *chain, const bool *valid, bool *stands);

void sks_div_chain_clear(struct chain *chain);

#endif
