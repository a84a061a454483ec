/*
 * repository.h - the STI-CR: certificate chains at immutable URLs.
 */
#ifndef SKS_REPOSITORY_H
#define SKS_REPOSITORY_H

#include <acme/http_server.h>
#include <certs/chain.h>
#include <hsm/status.h>

struct sks_repository;

/** @param base_url  "https://cr.sp.example:8443": start of the URLs */
HSM_MUST_CHECK enum hsm_status sks_repository_open(const char *dir, const char *base_url,
                                                   struct sks_repository **out);
void sks_repository_close(struct sks_repository *repository);

/**
 * Put a chain where it can be fetched: written completely, synced, never
 * overwritten. The same chain gives the same URL again.
 *
 * @param url  BASE/<name>.pem; free() it
 */
HSM_MUST_CHECK enum hsm_status sks_repository_publish(struct sks_repository *repository,
                                                      const struct certs_chain *chain,
                                                      char **url);

/** GET and HEAD of /<name>.pem: ETag, Cache-Control, application/pem-certificate-chain. */
struct acme_http_handler sks_repository_handler(struct sks_repository *repository);

#endif
