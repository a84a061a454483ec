/*
 * verify.h - the STI-VS: judge the Identity headers of a call (RFC 8224
 * section 6.2) with the error cases of ATIS-1000082.
 *
 * A bad PASSporT is a verdict, not an error: only memory and usage fail here.
 */
#ifndef SKS_VERIFY_H
#define SKS_VERIFY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <jansson.h>

#include <certs/chain.h>
#include <hsm/defer.h>
#include <hsm/status.h>
#include <sks/claims.h>
#include <sks/dial_plan.h>
#include <sks/trust.h>

struct sks_x5u_wait;

/** 0: valid; else the number of the case, E3 to E19 (E1, E2 are faults of the API request). */
enum sks_case {
    SKS_VALID = 0,
    SKS_E3_TIME_STALE = 3,
    SKS_E4_COMPACT_FORM,
    SKS_E5_PPT_PARAMETER,
    SKS_E6_NO_INFO,
    SKS_E7_INFO_INVALID,
    SKS_E8_INFO_UNREACHABLE,
    SKS_E9_HEADER_MEMBER_MISSING,
    SKS_E10_X5U_NOT_INFO,
    SKS_E11_TYP,
    SKS_E12_ALG,
    SKS_E13_PPT,
    SKS_E14_CLAIM_MISSING,
    SKS_E15_IAT_STALE,
    SKS_E16_NUMBERS_DIFFER,
    SKS_E17_UNTRUSTED,
    SKS_E18_SIGNATURE,
    SKS_E19_ATTEST,
};

/* Identity headers of one call, including PASSporTs inside of div-o. */
#define SKS_IDENTITIES_MAX 8
#define SKS_PRIORITIES_MAX 32 /* Resource-Priority values of one call */
#define SKS_DIV_AGE_S      10800 /* the greatest age of a PASSporT that a fresh div one diverts */

/**
 * The call as the SIP signalling describes it, never as the PASSporT does; texts
 * are borrowed. Numbers and URIs are made canonical here (tn.h); a number that is
 * not in a URI must include its country code.
 */
struct sks_call {
    const char *from_tn; /* or from_uri; the number wins when both are there */
    const char *from_uri;
    const char *const *to_tn;
    size_t to_tn_count;
    const char *const *to_uri;
    size_t to_uri_count;
    int64_t time; /* the Date of the request */
    const struct sks_dial_plan *plan; /* of numbers without "+" in these URIs; NULL: none */
    const char *identity; /* the header field value that must be a shaken PASSporT; optional for
                           * sks_verify_all() */

    /* further inputs of sks_verify_all() */
    const char *const *identities; /* further header field values, of any type */
    size_t identity_count;
    const char *const *target_tn; /* numbers in the Request-URI, which differs from `to` in a */
    size_t target_tn_count; /* diverted call; no target at all: `to` is used */
    const char *const *target_uri;
    size_t target_uri_count;
    const char *const *resource_priority; /* values of Resource-Priority (RFC 4412) */
    size_t resource_priority_count; /* 0: not known, nothing is compared */
    const char *priority; /* Priority (RFC 3261 section 20.26); NULL: not known */
    /* Fingerprints of the SDP, objects of alg and dig in any order, dig in either case and with or
     * without colons; NULL: not known. */
    const json_t *mky;

    /** How to wait for a chain that is not cached (x5u.h). NULL: on the calling thread. */
    const struct sks_x5u_wait *wait;
};

struct sks_verification {
    enum sks_case verdict;
    int reason_code; /* 0 when valid, else 403, 436, 437, 438 */
    const char *reason_text; /* "" when valid; static */
    struct hsm_reason reason_desc;
    const char *verstat; /* "TN-Validation-Passed", "TN-Validation-Failed", "No-TN-Validation" */
    char attest; /* 'A', 'B', 'C'; 0 when not valid, or no shaken PASSporT */
};

struct sks_verifier_config {
    struct sks_trust *trust; /* borrowed */
    /** The chain that an x5u serves; sks_x5u_get() in a service. MALFORMED gives E7, others E8. */
    enum hsm_status (*chain)(void *context, const char *x5u, time_t now, struct certs_chain **out,
                             struct hsm_reason *why);
    /** `chain` for calls with `wait`, sks_x5u_ask() in a service: where `chain` would block, this
     *  returns HSM_ERR_NOT_FOUND and notifies later. NULL: all calls block. */
    enum hsm_status (*ask)(void *context, const char *x5u, time_t now, const struct sks_call *call,
                           struct certs_chain **out, struct hsm_reason *why);
    /** A PASSporT that names this x5u was signed with the key of its trusted chain; sks_x5u_vouch()
     *  in a service. May be NULL. */
    void (*vouch)(void *context, const char *x5u);
    void *context;
    unsigned freshness_s; /* 0: SKS_FRESHNESS_S */
    unsigned div_age_s; /* 0: SKS_DIV_AGE_S */
};

struct sks_verifier;
HSM_MUST_CHECK enum hsm_status sks_verifier_new(const struct sks_verifier_config *config,
                                                struct sks_verifier **out);
void sks_verifier_free(struct sks_verifier *verifier);
DEFINE_DEFER(struct sks_verifier, sks_verifier_free)

/** True if even a call with `wait` may wait for a chain on its thread. */
bool sks_verifier_waits(const struct sks_verifier *verifier);

/**
 * Judge the shaken PASSporT of a call, in the order of the cases. Threads may
 * share the verifier.
 *
 * An Identity value that cannot be read is E4. Every `to` must be among the
 * PASSporT's dest, which may name more.
 *
 * @retval HSM_ERR_USAGE  the call lacks from, to or identity (E1)
 * @retval HSM_ERR_BUSY   a chain is being fetched: call again when call->wait is notified
 */
HSM_MUST_CHECK enum hsm_status sks_verify(struct sks_verifier *verifier,
                                          const struct sks_call *call, time_t now,
                                          struct sks_verification *out);

/** The state of the rich call data in a PASSporT (RFC 9795). */
enum sks_rcd {
    SKS_RCD_NONE, /* there is none */
    SKS_RCD_GOOD, /* and it matches rcdi */
    SKS_RCD_CONTENT_OPEN, /* good, except for content behind a URI: compare its digest once fetched
                           */
    SKS_RCD_BAD, /* must not be shown; a PASSporT of another type may still be valid */
};

/** The verdict on one PASSporT. */
struct sks_judged {
    enum sks_ppt ppt;
    size_t index; /* of its header: 0 is call->identity, if present, and so on */
    bool is_inside; /* it is inside the div-o of that header */
    enum sks_rcd rcd;
    struct sks_verification verification; /* for a div it includes its link in the chain */
    json_t *claims; /* its payload; NULL when it cannot be read */
    char *signature; /* "..SIGNATURE": the compact form (RFC 8225 section 7); NULL: not ES256 */
};

/** The verdicts on all Identity headers of a call, in their order. */
struct sks_judgements {
    struct sks_judged judged[SKS_IDENTITIES_MAX];
    size_t count;
    /* Verdict on the first valid shaken PASSporT; else on the first shaken one; NULL: the call has
     * no shaken PASSporT. The call is invalid only if all are (RFC 8224 section 6.2). */
    const struct sks_judged *shaken;
};

/**
 * Judge every Identity header of a call, each on its own, and the chain that
 * div PASSporTs make (RFC 8946 section 4.2). docs/VERIFICATION.md has the checks.
 *
 * @param out  sks_judgements_free() it
 * @retval HSM_ERR_USAGE  as sks_verify(), or more than SKS_IDENTITIES_MAX headers
 * @retval HSM_ERR_BUSY   as sks_verify()
 */
HSM_MUST_CHECK enum hsm_status sks_verify_all(struct sks_verifier *verifier,
                                              const struct sks_call *call, time_t now,
                                              struct sks_judgements **out);
void sks_judgements_free(struct sks_judgements *judgements);
DEFINE_DEFER(struct sks_judgements, sks_judgements_free)

/**
 * Check whether a div PASSporT may be signed: the Identity headers of the diverted call are judged
 * as by sks_verify_all(), with this PASSporT assumed valid beside them. It must divert a valid one.
 *
 * @param call  as it arrived at the diverting party, which is its `to`
 * @param div   passed sks_claims_check()
 * @param out   valid; or the verdict on the PASSporT that it diverts
 * @retval HSM_ERR_USAGE  as sks_verify_all()
 * @retval HSM_ERR_BUSY   as sks_verify()
 */
HSM_MUST_CHECK enum hsm_status
sks_verify_diversion(struct sks_verifier *verifier, const struct sks_call *call,
                     const struct sks_claims *div, time_t now, struct sks_verification *out);

/**
 * The Reason header field value of a call that goes on although its PASSporT is
 * not valid (RFC 9410): STIR ;cause=438 ;text="Invalid Identity Header"; free() it.
 *
 * @param ppi  the PASSporT, where the call has several; NULL: none
 * @return NULL: valid, or no memory
 */
char *sks_verification_reason(const struct sks_verification *verification, const char *ppi);

#endif
