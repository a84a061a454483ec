/*
 * operations.h - the operational endpoints of a daemon: GET /healthz, /readyz, /metrics.
 *
 *   /healthz  200 while the event loop runs
 *   /readyz   200 {"ready":true,"reasons":[]}; else 503 with reasons; /readyz?role=NAME: one role
 *             of a daemon that has several
 *   /metrics  Prometheus text for all worker processes together
 *
 * They contain no secrets; the caller decides who may read /metrics.
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

/** One of several roles of a daemon, each of which may fail alone. */
struct acme_operations_role {
    const char *name; /* static */
    void (*not_ready)(void *context, json_t *reasons); /* see struct acme_operations */
};

struct acme_operations {
    struct hsm_metrics *metrics; /* borrowed; NULL: /metrics is empty */
    /** Append to a JSON array, as texts, the reasons why the daemon cannot work now; may wait. */
    void (*not_ready)(void *context, json_t *reasons);
    const struct acme_operations_role *roles; /* static; ends with a NULL name; or NULL */
    /** Add members to the answers of /healthz and /readyz; must not wait; may be NULL. */
    void (*detail)(void *context, json_t *answer);
    void *context;
};

/** Answer a request for one of the three paths; false for any other path. */
bool acme_operations_answer(const struct acme_operations *operations,
                            const struct acme_http_request *request,
                            struct acme_http_response *response);

/** A handler for a separate listener: 404 for any other path. `operations` is borrowed. */
struct acme_http_handler acme_operations_handler(const struct acme_operations *operations);

#endif
