/*
 * enroll.h - the SP-KMS: from a key in the token to an active credential.
 */
#ifndef SKS_ENROLL_H
#define SKS_ENROLL_H

#include <stdbool.h>
#include <stdint.h>

#include <acme/authority_client.h>
#include <acme/client.h>
#include <acme/jwk.h>
#include <hsm/status.h>
#include <hsm/token.h>
#include <sks/catalogue.h>
#include <sks/publish.h>
#include <sks/repository.h>
#include <sks/trust.h>
#include <sks/x5u.h>

#define SKS_ENROLL_ACCOUNT_LABEL "acme-account" /* CKA_LABEL of the ACME account key */

struct sks_enrollment {
    struct hsm_token *token;
    const char *token_uri; /* as the catalogue will name it */
    struct sks_catalogue *catalogue;
    struct sks_repository *repository;
    struct acme_client *client; /* with its account */
    const char *ca_directory;
    const struct acme_authority_login *authority;
    enum acme_fingerprint fingerprint;
    struct sks_trust *trust; /* judges the chain as an STI-VS would */
    struct acme_http_client *http; /* fetches the published chain back */
    const char *spc;
    const struct sks_publisher *publisher; /* to an STI-CR that is not ours; NULL: none */
    /** NULL: chains go to `repository` and `publisher`. Otherwise the STI-CA hosts them: the x5u is
     *  that of its order (RFC 9448 section 7), if it passes sks_x5u_check() with this cache. */
    const struct sks_x5u_cache *hosted_by_ca;
    bool private_addresses; /* fetch such a chain from special addresses too: labs and tests */
    int64_t replaces; /* id of the credential that a new one replaces; 0: none */
    /** Called with a line for a person at each step ("issued: serial 4f.., until ..."); may be
     * NULL.
     */
    void (*progress)(void *context, const char *line);
    void *context;
    /** Called several times a second during waits; true: give up. May be NULL. */
    bool (*stopped)(void *context);
    void *stopped_context;
};

/**
 * Key in the token -> SPC token -> ACME -> verify -> publish -> fetch back ->
 * activate. Continues an unfinished credential of this SPC, token and CA from an
 * earlier run; each step is in the catalogue before the next begins. A
 * certificate that is not for this key and SPC, that has ended or is revoked, or a
 * key that the CA certifies no more, retires its credential: the next call begins
 * anew. A replacement becomes active SKS_FRESHNESS_S after its notBefore, which is
 * waited for, so that the iat of every fresh call is within its validity.
 *
 * @param credential_id  the credential that is active now
 * @retval HSM_ERR_DENIED     the STI-PA or the STI-CA refused
 * @retval HSM_ERR_UNSUPPORTED  the STI-CA was to host the chain, and its order names no x5u
 * @retval HSM_ERR_UNTRUSTED  what the CA issued is not for this key and SPC, or does not end in a
 *                            trusted root
 * @retval HSM_ERR_BUSY       the STI-PA, the STI-CA, the STI-CR or the token cannot be reached: run
 *                            again later
 */
HSM_MUST_CHECK enum hsm_status sks_enroll(const struct sks_enrollment *enrollment,
                                          int64_t *credential_id, struct hsm_reason *why);

#endif
