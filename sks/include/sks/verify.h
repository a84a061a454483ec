/*
 * verify.h - the STI-VS: judge an Identity header (RFC 8224 section 6.2) with
 * the error cases of ATIS-1000082.
 *
 * A bad PASSporT is a verdict, not an error: only memory and usage fail here.
 */
#ifndef SKS_VERIFY_H
#define SKS_VERIFY_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <certs/chain.h>
#include <hsm/status.h>
#include <sks/trust.h>

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

/**
 * What the SIP signalling says (never what the PASSporT says); texts are
 * borrowed. Numbers and URIs are made canonical here (tn.h).
 */
struct sks_call {
    const char *from_tn; /* or from_uri; the number wins when both are there */
    const char *from_uri;
    const char *const *to_tn;
    size_t to_tn_count;
    const char *const *to_uri;
    size_t to_uri_count;
    int64_t time; /* the Date of the request */
    const char *identity; /* the header field value */
};

struct sks_verification {
    enum sks_case verdict;
    int reason_code; /* 0 when valid, else 403, 436, 437, 438 */
    const char *reason_text; /* "" when valid; static */
    struct hsm_reason reason_desc;
    const char *verstat; /* "TN-Validation-Passed", "TN-Validation-Failed", "No-TN-Validation" */
    char attest; /* 'A', 'B', 'C'; 0 when not valid */
};

struct sks_verifier_config {
    struct sks_trust *trust; /* borrowed */
    /** The chain that an x5u serves; sks_x5u_get() in a service. MALFORMED gives E7, others E8. */
    enum hsm_status (*chain)(void *context, const char *x5u, time_t now, struct certs_chain **out,
                             struct hsm_reason *why);
    void *context;
    unsigned freshness_s; /* 0: SKS_FRESHNESS_S */
};

struct sks_verifier;
HSM_MUST_CHECK enum hsm_status sks_verifier_new(const struct sks_verifier_config *config,
                                                struct sks_verifier **out);
void sks_verifier_free(struct sks_verifier *verifier);

/**
 * Judge one call, in the order of the cases. Threads may share the verifier.
 *
 * An Identity value that cannot be read is E4. Every `to` must be among the
 * PASSporT's dest, which may name more.
 *
 * @retval HSM_ERR_USAGE  the call lacks from, to or identity (E1)
 */
HSM_MUST_CHECK enum hsm_status sks_verify(struct sks_verifier *verifier,
                                          const struct sks_call *call, time_t now,
                                          struct sks_verification *out);

#endif
