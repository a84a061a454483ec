/*
 * operations.h - what whoever operates a daemon asks it: GET /healthz, /readyz, /metrics.
 *
 *   /healthz  200 while the event loop turns
 *   /readyz   200 {"ready":true,"reasons":[]}; else 503 and why; /readyz?role=NAME: of one role of
 *             a daemon that has several
 *   /metrics  text of Prometheus, of all worker processes together
 *
 * Nothing in them is secret; who may read /metrics is for the caller to say.
 */
#ifndef ACME_OPERATIONS_H
#define ACME_OPERATIONS_H

#include <stdbool.h>

#include <jansson.h>

#include <acme/http_server.h>
#include <hsm/metrics.h>

#define ACME_OPERATIONS_HEALTHZ "/healthz"
#define ACME_OPERATIONS_READYZ  "/readyz"
#define ACME_OPERATIONS_METRICS "/metrics"

/** One of several things that a daemon is for, each of which may fail alone. */
struct acme_operations_role {
    const char *name; /* static */
    void (*not_ready)(void *context, json_t *reasons); /* as below */
};

struct acme_operations {
    struct hsm_metrics *metrics; /* borrowed; NULL: /metrics is empty */
    /** Why what the daemon is for could not be done now, as texts in a JSON array; it may wait. */
    void (*not_ready)(void *context, json_t *reasons);
    const struct acme_operations_role *roles; /* static; ends with a NULL name; or NULL */
    /** Add members to the answers of /healthz and /readyz, without waiting; or NULL. */
    void (*detail)(void *context, json_t *answer);
    void *context;
};

/** True if the path is one of the three, which is then answered. */
bool acme_operations_answer(const struct acme_operations *operations,
                            const struct acme_http_request *request,
                            struct acme_http_response *response);

/** A listener of their own: 404 for any other path. `operations` is borrowed. */
struct acme_http_handler acme_operations_handler(const struct acme_operations *operations);

#endif
