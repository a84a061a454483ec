/*
 * verify_internal.h - the judgement of one PASSporT.
 *
 * verify.c            the cases of ATIS-1000082, in their order
 * verify_party.c      the parties of the call, in canonical form
 * verify_claims.c     checks of the claims by type of PASSporT, and against the signalling
 * verify_authority.c  the claims that the certificate allows
 * verify_all.c        several headers, and the chain of div PASSporTs (chain_internal.h)
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
    const char *opt; /* instead of `text`: the PASSporT inside a div-o, as received */
    bool is_any_type; /* false: it must be shaken */
    bool is_inner; /* a div PASSporT of the call claims to divert this one */

    struct sks_identity identity;
    struct sks_passport passport; /* parts of identity.passport */
    bool has_usual_header; /* sks_passport_has_header(): `header` is not decoded */
    json_t *header, *payload;
    struct certs_chain *chain; /* as served */
    struct certs_path *path; /* the trusted path, end entity first */
    enum sks_ppt ppt;
    int64_t iat;
    const char *attest; /* in payload; NULL: not a shaken PASSporT */
    enum sks_rcd rcd;
    bool is_old, is_elsewhere; /* not fresh, another destination: valid only if it was diverted */
    enum sks_case verdict;
    struct hsm_reason why;
};

/** Set the verdict and its reason. Returns HSM_OK, because a verdict is not a failure. */
enum hsm_status sks_judge(struct judgement *j, enum sks_case verdict, const char *text);

/** Set the verdict; j->why already has the reason. A failure of our own system, HSM_ERR_NOMEM or
 *  HSM_ERR_USAGE, is returned instead. */
enum hsm_status sks_judge_status(struct judgement *j, enum sks_case verdict, enum hsm_status st);

/** Check all cases except E3, which concerns the call. */
enum hsm_status sks_judge_passport(struct judgement *j);
/** Check E3. */
enum hsm_status sks_judge_time(struct judgement *j);
void sks_judgement_clear(struct judgement *j);
void sks_judgement_write(const struct judgement *j, struct sks_verification *out);

/** True if the call has a from, a to and at least one Identity header. */
bool sks_call_is_complete(const struct sks_call *call, size_t identities);

/* verify_party.c */

/** {"tn": ".."} or {"uri": ".."}: exactly one identity, a string (RFC 8225 section 5.2.1). */
bool sks_claims_one_party(const json_t *orig);
/** {"tn": [..], "uri": [..]}: arrays of strings, with at least one string. */
bool sks_claims_parties(const json_t *dest);
/** True if orig is the caller; if dest includes all destinations of the call; if dest includes all
 *  of its Request-URI. */
bool sks_party_is_from(const struct sks_call *call, const json_t *orig);
bool sks_party_is_to(const struct sks_call *call, const json_t *dest);
bool sks_party_is_target(const struct sks_call *call, const json_t *dest);
/** True if the orig claims of two PASSporTs name the same party; if the div of one is in the dest
 * of another. */
bool sks_party_is_same(const json_t *orig, const json_t *other);
bool sks_party_is_in(const json_t *div, const json_t *dest);

/* verify_claims.c */

enum sks_ppt sks_ppt_of(const char *text);
/** True for div and div-o. */
bool sks_ppt_is_div(enum sks_ppt ppt);
/** Check that the required claims of the type are present, and the optional ones valid (E14). */
enum hsm_status sks_check_type_claims(struct judgement *j);
/** Check that the claims agree with the signalling (E16). */
enum hsm_status sks_check_signalling(struct judgement *j);

/* verify_authority.c */

/** Check that the end entity's TNAuthList and claim constraints allow the claims (E17). */
HSM_MUST_CHECK enum hsm_status sks_check_authority(struct judgement *j);

#endif
