/*
 * sp_verification.h - what verifies calls and certificates, opened as the
 * configuration of a service provider says. No token is needed for it.
 */
#ifndef SKS_SP_VERIFICATION_H
#define SKS_SP_VERIFICATION_H

#include <time.h>

#include <acme/http_client.h>
#include <certs/chain.h>
#include <hsm/status.h>
#include <sks/sp_config.h>
#include <sks/trust.h>
#include <sks/verify.h>
#include <sks/x5u.h>

/** TLS anchors of the configuration's own peers are none of the repositories that strangers name,
 *  nor these of those: each kind has a client of its own. */
struct sks_sp_verification {
    struct acme_http_client *http; /* to STI-PA, STI-CA and an STI-CR of somebody else: [tls] ca */
    struct acme_http_client *repositories; /* to where chains are: [verification] tls-ca */
    struct certs_chain *pa_anchors;
    struct certs_chain *intermediates; /* the local store; NULL: none */
    struct sks_trust *trust;
    struct sks_x5u_cache *x5u;
    struct sks_verifier *verifier;
};

/** Open all of it; nothing is fetched yet. Faults are logged. `config` is borrowed. */
HSM_MUST_CHECK enum hsm_status sks_sp_verification_open(const struct sks_sp_config *config,
                                                        struct sks_sp_verification *out);

/** Fetch anew what is due; call it again after so many seconds, on a thread that may wait. Failures
 *  are logged. */
unsigned sks_sp_verification_refresh(struct sks_sp_verification *verification, time_t now);

/** Release what it holds and make it empty. */
void sks_sp_verification_close(struct sks_sp_verification *verification);

#endif
