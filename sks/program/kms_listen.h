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
 * Answer on a thread of its own until kms_listen_end(). All is borrowed.
 *
 * @param address    of the listener
 * @param is_tended  whether list and CRL have been asked for: only then it is ready
 */
HSM_MUST_CHECK enum hsm_status kms_listen(const struct acme_http_listener *listener,
                                          const char *address, struct hsm_metrics *metrics,
                                          atomic_bool *is_tended, struct kms_listening **out);
void kms_listen_end(struct kms_listening *listening); /* NULL is fine */
DEFINE_DEFER(struct kms_listening, kms_listen_end)

#endif
