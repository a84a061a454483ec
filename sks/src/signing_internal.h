/*
 * signing_internal.h - the STI-AS of the service: the credentials of each service provider it signs
 * for, and calls signed with them.
 *
 * Threads may share it.
 */
#ifndef SKS_SIGNING_INTERNAL_H
#define SKS_SIGNING_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#include <hsm/defer.h>
#include <hsm/status.h>
#include <sks/catalogue.h>
#include <sks/passport.h>
#include <sks/serving.h>
#include <sks/signers.h>
#include <sks/tokens.h>

#include "ms_api_internal.h"

struct sks_signing;

struct sks_signing_config {
    struct sks_catalogue *catalogue; /* borrowed */
    struct sks_tokens *tokens; /* borrowed */
    /* SPCs of the providers, copied; NULL stands for the only SPC with active credentials */
    const char *const *spcs;
    size_t spc_count; /* at least 1 */
    struct sks_serving *serving; /* borrowed; SPCs that all workers sign for; NULL: not shared */
    bool is_candidate; /* to replace the workers that report to `serving` */
    /* Called when a key gave a signature or failed to, with the nanoseconds that this took; and
     * when a set is about to be released (NULL: there was none). */
    void (*signature)(void *context, const struct sks_signer *signer, bool good, int64_t took_ns);
    void (*replaced)(void *context, const struct sks_signers *signers);
    void *context;
};

/**
 * Starts even without an active credential, or if its key is not in the token now. A fault in the
 * credentials of one provider does not affect the others; if there is one for every provider, that
 * of the first is returned. A candidate does not start if it could not sign for a provider that
 * the other workers sign for now; this is logged.
 *
 * @retval HSM_ERR_BUSY       such a candidate
 * @retval HSM_ERR_UNTRUSTED  an active credential's key and certificate do not match
 * @retval HSM_ERR_AMBIGUOUS  an SPC is NULL and several have active credentials
 */
HSM_MUST_CHECK enum hsm_status sks_signing_new(const struct sks_signing_config *config, time_t now,
                                               struct sks_signing **out);
void sks_signing_free(struct sks_signing *signing);
DEFINE_DEFER(struct sks_signing, sks_signing_free)

/** HSM_OK, or why not every active credential of every provider is loaded, which was logged. */
HSM_MUST_CHECK enum hsm_status sks_signing_check(const struct sks_signing *signing);

/** Load credentials again if the catalogue changed, and sign a probe if the token has signed
 *  nothing for a while. What is loaded stays when loading fails. */
void sks_signing_refresh(struct sks_signing *signing, time_t now);

/**
 * Sign a call with the credential of one of the providers.
 *
 * @param spc       as in the configuration
 * @param identity  the Identity header field value; free() it
 * @param signers   receives the set to which the signer belongs; sks_signers_free() it
 * @param signer    receives the signer; borrowed from the set
 */
bool sks_signing_sign(struct sks_signing *signing, const char *spc, const struct sks_claims *claims,
                      time_t now, char **identity, struct sks_signers **signers,
                      const struct sks_signer **signer, struct ms_fault *fault);

/** True if recent signatures were so fast, as with a token in this process, that handing a call to
 *  a thread would take longer than to wait for the signature. */
bool sks_signing_is_quick(struct sks_signing *signing);

#define SKS_SIGNING_REASONS_MAX 3

/** Why calls cannot be signed now for any provider, as static texts. Returns their number; 0: calls
 *  can be signed for at least one. */
size_t sks_signing_reasons(struct sks_signing *signing, time_t now,
                           const char *why[SKS_SIGNING_REASONS_MAX]);

size_t sks_signing_provider_count(const struct sks_signing *signing);

/** The SPC of the i-th provider ("": the only one with active credentials). *why receives a static
 *  text, why its calls are not signed now; NULL: they are. */
const char *sks_signing_provider(struct sks_signing *signing, size_t i, time_t now,
                                 const char **why);

/** The set of the i-th provider that signs; sks_signers_free() it. NULL: nothing is loaded. */
struct sks_signers *sks_signing_signers(struct sks_signing *signing, size_t i);

/** The i-th provider's set as last loaded from the catalogue, even if it does not sign, for the
 *  credentials that were left out; sks_signers_free() it. NULL: the catalogue could not be read. */
struct sks_signers *sks_signing_latest(struct sks_signing *signing, size_t i);

#endif
