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
    bool is_broken; /* known to be lost, although libpq may not have noticed yet */
    bool in_transaction;
    char *statements[POSTGRES_STATEMENTS_MAX]; /* texts of the statements prepared in this session,
                                                * by hash */
};

/** Map a result to a status. Errors are logged once, with the statement but without the DETAIL,
 *  which has bound values. */
enum hsm_status acme_postgres_status_of(struct postgres *postgres, const PGresult *result,
                                        const char *sql);
bool acme_postgres_is_lost(const struct postgres *postgres);
/** Run statements without values. */
enum hsm_status acme_postgres_execute(struct postgres *postgres, const char *sql);
/** Only outside of a transaction. */
enum hsm_status acme_postgres_reconnect(struct postgres *postgres);

/** As in struct store_backend. */
enum hsm_status acme_postgres_open_reader(const char *uri, void **out);
void acme_postgres_close(void *db);
DEFINE_DEFER(struct postgres, acme_postgres_close)

#endif
