/* store_postgres_internal.h - a connection to PostgreSQL, for the statements of store_postgres.c.
 */
#ifndef ACME_STORE_POSTGRES_INTERNAL_H
#define ACME_STORE_POSTGRES_INTERNAL_H

#include <libpq-fe.h>

#include <hsm/defer.h>

#include "store_internal.h"

#define POSTGRES_STATEMENTS_MAX 256 /* prepared statements kept, a power of two */

DEFINE_DEFER(PGresult, PQclear)

struct postgres {
    PGconn *connection;
    bool is_broken; /* whatever libpq, which may not have read so far, believes */
    bool in_transaction;
    char *statements[POSTGRES_STATEMENTS_MAX]; /* texts of those that this session has prepared, by
                                                  hash */
};

/** Told once, with the statement but without the DETAIL, which has bound values. */
enum hsm_status acme_postgres_status_of(struct postgres *postgres, const PGresult *result,
                                        const char *sql);
bool acme_postgres_is_lost(const struct postgres *postgres);
/** Statements without values. */
enum hsm_status acme_postgres_execute(struct postgres *postgres, const char *sql);
/** Outside of a transaction only. */
enum hsm_status acme_postgres_reconnect(struct postgres *postgres);

/** As struct store_backend has them. */
enum hsm_status acme_postgres_open_reader(const char *uri, void **out);
void acme_postgres_close(void *db);
DEFINE_DEFER(struct postgres, acme_postgres_close)

#endif
