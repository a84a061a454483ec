/*
 * identity.h - the Identity header field value (RFC 8224 section 4):
 *     PASSporT;info=<x5u>;alg=ES256;ppt=shaken
 */
#ifndef SKS_IDENTITY_H
#define SKS_IDENTITY_H

#include <hsm/defer.h>
#include <hsm/status.h>

#define SKS_IDENTITY_MAX 16384 /* characters */

struct sks_identity {
    char *passport; /* owned; signed-identity-digest as received */
    char *info; /* owned; the URI without its angle brackets; NULL: absent */
    char *alg; /* owned; NULL: absent, which means ES256 */
    char *ppt; /* owned; unquoted; NULL: absent */
};

/**
 * Parse leniently where deployed callers differ: ppt quoted or not, blanks
 * around ';' and '=', parameters in any order, unknown ones ignored, a leading
 * "Identity:" or "y:". A parameter given twice is malformed. An info without
 * angle brackets is accepted: its URI is judged later.
 */
HSM_MUST_CHECK enum hsm_status sks_identity_parse(const char *text, struct sks_identity *out,
                                                  struct hsm_reason *why);

/** Release what it owns and make it empty. */
void sks_identity_clear(struct sks_identity *identity);
DEFINE_DEFER(struct sks_identity, sks_identity_clear)

/** The ppt of SHAKEN as a token, others quoted as RFC 8946 writes them; "" leaves it out (a base
 *  PASSporT). free() it; NULL: out of memory. */
char *sks_identity_format(const char *passport, const char *x5u, const char *ppt);

#endif
