/*
 * publish.h - bring a chain to an STI-CR, and announce a new one: by an HTTP PUT,
 * by an operator's program.
 */
#ifndef SKS_PUBLISH_H
#define SKS_PUBLISH_H

#include <stdint.h>

#include <acme/http_client.h>
#include <hsm/secret.h>
#include <hsm/status.h>

struct sks_publisher { /* all borrowed; NULL: not done */
    struct acme_http_client *http;
    const char *upload_url; /* a chain is put at UPLOAD_URL/<name>.pem */
    const struct hsm_secret *upload_bearer; /* Authorization of the upload */
    const char *upload_command; /* with {file}, {name} and {url} */
    const char *notify_command; /* with {spc}, {id}, {url} and {key}, once a credential signs */
    const char *dir; /* where {file} is */
    unsigned timeout_s; /* of each */
};

/**
 * Bring a chain to an STI-CR that is not ours. May be repeated.
 *
 * @param url  its x5u: .../<name>.pem
 * @retval HSM_ERR_BUSY    not reachable, 5xx, or the command failed
 * @retval HSM_ERR_DENIED  the STI-CR refused it
 */
HSM_MUST_CHECK enum hsm_status sks_publish(const struct sks_publisher *publisher, const char *pem,
                                           const char *url, struct hsm_reason *why);

/** Run the notify command: a credential signs. */
HSM_MUST_CHECK enum hsm_status sks_publish_notify(const struct sks_publisher *publisher,
                                                  const char *spc, int64_t id, const char *url,
                                                  const char *key_uri, struct hsm_reason *why);

/** Check that the commands could be run. */
HSM_MUST_CHECK enum hsm_status sks_publish_check(const struct sks_publisher *publisher,
                                                 struct hsm_reason *why);

#endif
