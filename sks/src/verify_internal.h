/*
 * verify_internal.h - one PASSporT on its way through the cases.
 *
 * verify.c            the cases of ATIS-1000082 in their order
 * verify_party.c      who the call is from and to, in canonical form
 * verify_claims.c     what each type of PASSporT must claim, and the signalling beside it
 * verify_authority.c  what the certificate lets its holder claim
 * verify_all.c        several headers, and the chain of div (chain_internal.h)
 */
#ifndef SKS_VERIFY_INTERNAL_H
#define SKS_VERIFY_INTERNAL_H

#include <stdbool.h>

#include <jansson.h>

#include <certs/chain.h>
#include <certs/path.h>
#include <sks/identity.h>
#include <sks/verify.h>

#include "passport_internal.h"

struct sks_verifier {
    struct sks_verifier_config config;
};

struct judgement {
    const struct sks_verifier *verifier;
    const struct sks_call *call;
    time_t now;
    const char *text; /* the header field value */
    const char *opt; /* instead of it: the PASSporT inside of a div-o, as received */
    bool is_any_type; /* else it must be shaken */
    bool is_inner; /* a div of the call says that it diverts this one */

    struct sks_identity identity;
    struct sks_passport passport; /* parts of identity.passport */
    bool has_usual_header; /* sks_passport_has_header(): it is not decoded */
    json_t *header, *payload;
    struct certs_chain *chain; /* as it was served */
    struct certs_path *path; /* as it is trusted: the end entity is the first of it */
    enum sks_ppt ppt;
    int64_t iat;
    const char *attest; /* in payload; NULL: not of this type */
    enum sks_rcd rcd;
    bool is_old, is_elsewhere; /* not fresh, not to the called: good only if it was diverted */
    enum sks_case verdict;
    struct hsm_reason why;
};

/** A verdict is an answer, not a failure. */
enum hsm_status sks_judge(struct judgement *j, enum sks_case verdict, const char *text);

/** The same with the reason that a lower function gave; its failures of our own system stay ones.
 */
enum hsm_status sks_judge_status(struct judgement *j, enum sks_case verdict, enum hsm_status st);

/** All cases but E3, which is of the call. */
enum hsm_status sks_judge_passport(struct judgement *j);
/** E3. */
enum hsm_status sks_judge_time(struct judgement *j);
void sks_judgement_clear(struct judgement *j);
void sks_judgement_write(const struct judgement *j, struct sks_verification *out);

/** The call has a from, a to and at least one Identity header. */
bool sks_call_is_complete(const struct sks_call *call, size_t identities);

/* verify_party.c */

/** {"tn": ".."} or {"uri": ".."}: exactly one identity, a string (RFC 8225 section 5.2.1). */
bool sks_claims_one_party(const json_t *orig);
/** {"tn": [..], "uri": [..]}: arrays of strings, at least one. */
bool sks_claims_parties(const json_t *dest);
/** Are these the caller, all that the call is to, and all of its Request-URI? */
bool sks_party_is_from(const struct sks_call *call, const json_t *orig);
bool sks_party_is_to(const struct sks_call *call, const json_t *dest);
bool sks_party_is_target(const struct sks_call *call, const json_t *dest);
/** Do the claims orig of two PASSporTs name the same; is the div of one in the dest of another? */
bool sks_party_is_same(const json_t *orig, const json_t *other);
bool sks_party_is_in(const json_t *div, const json_t *dest);

/* verify_claims.c */

enum sks_ppt sks_ppt_of(const char *text);
/** With an opt or without. */
bool sks_ppt_is_div(enum sks_ppt ppt);
/** The claims that the type must have are there, and those that it may have are well made (E14). */
enum hsm_status sks_check_type_claims(struct judgement *j);
/** They are what the signalling says (E16). */
enum hsm_status sks_check_signalling(struct judgement *j);

/* verify_authority.c */

/** The end entity's TNAuthList holds who it speaks for, and its constraints allow the claims (E17).
 */
HSM_MUST_CHECK enum hsm_status sks_check_authority(struct judgement *j);

#endif
