/*
 * sp_verification.h - the parts that verify calls and certificates, opened by a
 * service provider's configuration. No token is needed.
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

/** The TLS anchors for our own peers are not trusted for repositories named by strangers, nor the
 *  other way round, so each kind has its own client. */
struct sks_sp_verification {
    struct acme_http_client *http; /* to STI-PA, STI-CA and a remote STI-CR: [tls] ca */
    struct acme_http_client *repositories; /* fetches chains by x5u: [verification] tls-ca */
    struct certs_chain *pa_anchors;
    struct certs_chain *intermediates; /* the local store; NULL: none */
    struct sks_trust *trust;
    struct sks_x5u_cache *x5u;
    struct sks_verifier *verifier;
};

/** Open all of it; nothing is fetched yet. Faults are logged. `config` is borrowed. */
HSM_MUST_CHECK enum hsm_status sks_sp_verification_open(const struct sks_sp_config *config,
                                                        struct sks_sp_verification *out);

/** Refresh what is due. Returns the seconds after which to call it again, on a thread that may
 * wait. Failures are logged. */
unsigned sks_sp_verification_refresh(struct sks_sp_verification *verification, time_t now);

/** Release what it holds and make it empty. */
void sks_sp_verification_close(struct sks_sp_verification *verification);

#endif
