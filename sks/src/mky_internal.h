/*
 * mky_internal.h - fingerprints of media keys as in SDP (RFC 8122 section 5), in the canonical form
 * of a PASSporT (RFC 8225 section 5.2.2): upper-case digits without colons, sorted, without
 * duplicates.
 */
#ifndef SKS_MKY_INTERNAL_H
#define SKS_MKY_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

#include <sks/claims.h>

#define SKS_MKY_ALG_MAX 32 /* characters of the name of a hash function */

/** Must not be copied or moved: its members point into it. */
struct sks_mky_set {
    size_t count;
    struct sks_mky all[SKS_MKY_MAX]; /* by alg, then dig */
    char algs[SKS_MKY_MAX][SKS_MKY_ALG_MAX + 1]; /* lower case */
    char digs[SKS_MKY_MAX][SKS_MKY_DIG_MAX + 1];
};

/** Read an array of objects with alg and dig. Returns NULL, or what is wrong with it as a static
 *  text. */
const char *sks_mky_take(const json_t *array, struct sks_mky_set *out);

/** Check that a claim is in canonical form; duplicates are not checked for. Returns NULL, or what
 *  is wrong as a static text. */
const char *sks_mky_fault(const json_t *claim);

/** True if a claim has the same fingerprints as the call's SDP. */
bool sks_mky_equal(const json_t *claim, const json_t *sdp);

/** The canonical order, as strcmp(). */
int sks_mky_compare(const struct sks_mky *a, const struct sks_mky *b);

#endif
