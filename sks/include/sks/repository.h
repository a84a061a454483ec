/*
 * repository.h - the STI-CR: certificate chains at immutable URLs (ATIS-1000080).
 *
 * A chain's name is derived from its octets, so a URL can never come to name
 * another chain (RFC 8224 section 7.4), and what is served is checked against its
 * name.
 */
#ifndef SKS_REPOSITORY_H
#define SKS_REPOSITORY_H

#include <acme/http_server.h>
#include <certs/chain.h>
#include <hsm/defer.h>
#include <hsm/status.h>

#define SKS_REPOSITORY_NAME_LEN 32 /* hex digits: the first half of the SHA-256 of the PEM text */

struct sks_repository;

/**
 * Use a directory, made when it is missing.
 *
 * @param base_url  "https://cr.sp.example:8443", perhaps with a path: start of the URLs; no
 *                  userinfo, query or fragment
 * @retval HSM_ERR_MALFORMED  the base URL is not as above
 */
HSM_MUST_CHECK enum hsm_status sks_repository_open(const char *dir, const char *base_url,
                                                   struct sks_repository **out);
void sks_repository_close(struct sks_repository *repository);
DEFINE_DEFER(struct sks_repository, sks_repository_close)

/**
 * Put a chain where it can be fetched: written completely, synced, never
 * overwritten. The same chain gives the same URL again.
 *
 * @param url  BASE/<name>.pem; free() it
 * @retval HSM_ERR_IO  the directory cannot be written, or holds other octets under this name
 */
HSM_MUST_CHECK enum hsm_status sks_repository_publish(struct sks_repository *repository,
                                                      const struct certs_chain *chain, char **url);

/**
 * Stop serving a chain. A chain that is absent, or at another STI-CR, is ignored.
 *
 * @param url  its x5u
 * @retval HSM_ERR_IO  the directory cannot be written; logged
 */
HSM_MUST_CHECK enum hsm_status sks_repository_withdraw(struct sks_repository *repository,
                                                       const char *url);

/** GET and HEAD of BASE/<name>.pem: ETag, Cache-Control, application/pem-certificate-chain. */
struct acme_http_handler sks_repository_handler(struct sks_repository *repository);

#endif
