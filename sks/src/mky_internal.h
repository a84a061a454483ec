/*
 * mky_internal.h - fingerprints of media keys, as SDP has them (RFC 8122 section 5), in the one
 * form of a PASSporT (RFC 8225 section 5.2.2): digits in upper case without colons, in order, each
 * once.
 */
#ifndef SKS_MKY_INTERNAL_H
#define SKS_MKY_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

#include <sks/claims.h>

#define SKS_MKY_ALG_MAX 32 /* characters of the name of a hash function */

/** Does not move: its members point into it. */
struct sks_mky_set {
    size_t count;
    struct sks_mky all[SKS_MKY_MAX]; /* by alg, then dig */
    char algs[SKS_MKY_MAX][SKS_MKY_ALG_MAX + 1]; /* lower case */
    char digs[SKS_MKY_MAX][SKS_MKY_DIG_MAX + 1];
};

/** From an array of objects of alg and dig. NULL, or what is wrong with it: a static text. */
const char *sks_mky_take(const json_t *array, struct sks_mky_set *out);

/** Whether a claim is in that form, but for one that is there twice. NULL, or what is wrong. */
const char *sks_mky_fault(const json_t *claim);

/** Whether a claim and what a call's SDP has are the same fingerprints. */
bool sks_mky_equal(const json_t *claim, const json_t *sdp);

/** The order of the string of both. */
int sks_mky_compare(const struct sks_mky *a, const struct sks_mky *b);

#endif
