/*
 * chains.h - the certificate chains of a directory.
 */
#ifndef STI_ACME_CHAINS_H
#define STI_ACME_CHAINS_H

#include <stddef.h>

#include <certs/chain.h>
#include <hsm/status.h>

#define CHAINS_MAX 8 /* of one directory */

/** NULL-terminated; zero it first, chains_clear() it. */
struct chains {
    const struct certs_chain *chain[CHAINS_MAX + 1];
    size_t count;
};

/** Read every *.pem of a directory, in the order of their names. Faults are logged. */
HSM_MUST_CHECK enum hsm_status chains_read(const char *dir, struct chains *out);
void chains_clear(struct chains *chains);

#endif
