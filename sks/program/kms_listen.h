/*
 * kms_listen.h - /metrics, /readyz and /healthz of sti-kms run.
 */
#ifndef STI_KMS_LISTEN_H
#define STI_KMS_LISTEN_H

#include <stdatomic.h>

#include <acme/http_server.h>
#include <hsm/defer.h>
#include <hsm/metrics.h>
#include <hsm/status.h>

struct kms_listening;

/**
 * Serve on a separate thread until kms_listen_end(). All arguments are borrowed.
 *
 * @param address    of the listener
 * @param is_tended  true once the trusted-CA list and the CRL have been requested; /readyz needs it
 */
HSM_MUST_CHECK enum hsm_status kms_listen(const struct acme_http_listener *listener,
                                          const char *address, struct hsm_metrics *metrics,
                                          atomic_bool *is_tended, struct kms_listening **out);
void kms_listen_end(struct kms_listening *listening); /* NULL is fine */
DEFINE_DEFER(struct kms_listening, kms_listen_end)

#endif
