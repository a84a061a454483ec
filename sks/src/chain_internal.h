/*
 * chain_internal.h - the chain that the div PASSporTs of a call make (RFC 8946 section 4.2).
 *
 * Which one diverts which is found out once, of claims that nobody has vouched for yet: work and
 * memory are bounded whatever they say.
 */
#ifndef SKS_CHAIN_INTERNAL_H
#define SKS_CHAIN_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

#include <sks/passport.h>
#include <sks/verify.h>

#define CHAIN_MAX  (SKS_IDENTITIES_MAX + 1) /* PASSporTs: those of a call, one more to be signed */
#define CHAIN_NONE CHAIN_MAX

/** A plain value: {.count = 0} has none, and of those that are not counted nothing is set. */
struct chain {
    size_t count;
    json_t *claims[CHAIN_MAX]; /* owned; NULL: it says nothing that can be compared */
    enum sks_ppt ppt[CHAIN_MAX];
    char *opt[CHAIN_MAX]; /* owned; of a div-o: the PASSporT that is inside of it; or NULL */
    size_t inside[CHAIN_MAX]; /* where that is; CHAIN_NONE: nowhere */
    bool diverts[CHAIN_MAX][CHAIN_MAX]; /* the first, a div, says that it diverts the second */
};

/** One more, which says nothing yet; returns where it is. The chain has room. */
size_t sks_div_chain_add(struct chain *chain);

/**
 * What a PASSporT says, in full form.
 *
 * @param is_any_type  false: it is one of type *ppt, whatever its header says
 * @param ppt          receives the type where it is any
 * @retval HSM_ERR_MALFORMED  it cannot be read, or orig, dest or, of a div, div is not what RFC
 * 8225 section 5.2.1 wants it to be: it is as if it had said nothing, but that what is inside of it
 * is taken up all the same
 */
HSM_MUST_CHECK enum hsm_status sks_div_chain_take(struct chain *chain, size_t at,
                                                  const char *passport, bool is_any_type,
                                                  enum sks_ppt *ppt, struct hsm_reason *why);

/**
 * One more for the PASSporT in the `opt` of a div-o (RFC 8946 section 5), which says nothing yet.
 * Whoever asks this of one after the other, as long as there are more, has those inside of these,
 * too.
 *
 * @param inner  receives where it is; its text is opt[at]
 * @return false: there is none, or no room for it: then the div-o stands on nothing
 */
bool sks_div_chain_unwrap(struct chain *chain, size_t at, size_t *inner);

/** Of a div PASSporT that is to be signed: what it will say. The claims passed sks_claims_check().
 */
HSM_MUST_CHECK enum hsm_status sks_div_chain_say_div(struct chain *chain, size_t at,
                                                     const struct sks_claims *div);

/** When all have said what they say: a div diverts each one whose dest its div is in, and whose
 *  orig is the same. */
void sks_div_chain_link(struct chain *chain);

/**
 * From the first PASSporTs outwards: of those that are `valid` the ones that are no div, and each
 * div that diverts one of these, a div-o that inside of it. A ring of div stands on nothing.
 *
 * @param valid   of each
 * @param stands  receives of each whether it stands
 */
void sks_div_chain_stand(const struct chain *chain, const bool *valid, bool *stands);

void sks_div_chain_clear(struct chain *chain);

#endif
