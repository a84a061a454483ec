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

#include <sks/verify.h>

#define CHAIN_MAX (SKS_IDENTITIES_MAX + 1) /* PASSporTs: those of a call, one more to be signed */

/** A plain value: {.count = 0} has none, and of those that are not counted nothing is set. */
struct chain {
    size_t count;
    json_t *claims[CHAIN_MAX]; /* owned; NULL: it says nothing that can be compared */
    bool is_div[CHAIN_MAX];
    bool diverts[CHAIN_MAX][CHAIN_MAX]; /* the first, a div, says that it diverts the second */
};

/** One more, which says nothing yet; returns where it is. The chain has room. */
size_t chain_add(struct chain *chain);

/**
 * What it says; the claims are taken over.
 *
 * @return false: orig, dest or, of a div, div is not what RFC 8225 section 5.2.1 wants it to be; it
 *         is as if it had said nothing
 */
bool chain_say(struct chain *chain, size_t at, bool is_div, json_t *claims);

/** When all have said what they say: a div diverts each one whose dest its div is in, and whose
 *  orig is the same. */
void chain_link(struct chain *chain);

/**
 * From the first PASSporTs outwards: of those that are `valid` the ones that are no div, and each
 * div that diverts one of these. A ring of div stands on nothing.
 *
 * @param valid   of each
 * @param stands  receives of each whether it stands
 */
void chain_stand(const struct chain *chain, const bool *valid, bool *stands);

void chain_clear(struct chain *chain);

#define CHAIN __attribute__((cleanup(chain_clear))) struct chain

#endif
