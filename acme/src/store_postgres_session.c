/* store_postgres_session.c - a connection to PostgreSQL: opening, loss and reconnection; errors. */
#include "store_postgres_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hsm/defer.h>
#include <hsm/log.h>

/* The wait for the lock is bounded as for SQLite, and a client that died or hangs loses it. */
#define SESSION                                                                                    \
    "SET client_min_messages = warning; SET lock_timeout = 10000;"                                 \
    "SET idle_in_transaction_session_timeout = 60000;"                                             \
    "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5;"                               \
    "SET tcp_keepalives_count = 3; SET default_transaction_read_only = on"

DEFINE_DEFER(PQconninfoOption, PQconninfoFree)

/* ---- faults ---- */

static void
forget_statements(struct postgres *postgres)
{
    for (size_t i = 0; i < POSTGRES_STATEMENTS_MAX; i++) {
        free(postgres->statements[i]);
        postgres->statements[i] = NULL;
    }
}

/* The conditions of PostgreSQL's appendix A that callers distinguish. */
static enum hsm_status
status_from_sqlstate(const char *state)
{
    static const struct {
        const char *prefix;
        enum hsm_status status;
    } known[] = {
        {"23505", HSM_ERR_EXISTS}, /* unique_violation */
        {"23", HSM_ERR_USAGE}, /* other constraints */
        {"25006", HSM_ERR_USAGE}, /* a change in a read-only transaction */
        {"42601", HSM_ERR_USAGE}, /* syntax, and several statements where one is allowed */
        {"40", HSM_ERR_BUSY}, /* serialization, deadlock */
        {"55P03", HSM_ERR_BUSY}, /* lock timeout */
        {"57P", HSM_ERR_BUSY}, /* the server is stopping or starting */
        {"53300", HSM_ERR_BUSY}, /* too many connections */
        {"3F000", HSM_ERR_NOT_FOUND}, /* no schema of the search path exists */
        {"08", HSM_ERR_BUSY}, /* connection */
        {"25P03", HSM_ERR_BUSY}, /* idle in a transaction for too long */
    };

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strncmp(state, known[i].prefix, strlen(known[i].prefix)) == 0)
            return known[i].status;
    }
    return HSM_ERR_IO;
}

bool
acme_postgres_is_lost(const struct postgres *postgres)
{
    return postgres->is_broken || PQstatus(postgres->connection) != CONNECTION_OK;
}

/* libpq's texts end with a newline. */
static void
tell_connection(const struct postgres *postgres, const char *what)
{
    const char *text = PQerrorMessage(postgres->connection);

    hsm_log(HSM_LOG_ERROR, "store: %s: %.*s", what, (int)strcspn(text, "\n"), text);
}

/* After a FATAL error of the server, or an error that the server did not send, the connection is
 * lost. */
static bool
ends_connection(const PGresult *result)
{
    const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);

    return severity == NULL || strcmp(severity, "FATAL") == 0 || strcmp(severity, "PANIC") == 0;
}

enum hsm_status
acme_postgres_status_of(struct postgres *postgres, const PGresult *result, const char *sql)
{
    const char *state, *text;
    enum hsm_status st;

    switch (PQresultStatus(result)) {
    case PGRES_COMMAND_OK:
    case PGRES_TUPLES_OK:
        return HSM_OK;
    default:
        break;
    }
    postgres->is_broken = ends_connection(result);
    state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    text = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    if (postgres->is_broken || state == NULL) {
        tell_connection(postgres, sql);
        return HSM_ERR_BUSY;
    }
    st = status_from_sqlstate(state);
    if (st != HSM_ERR_EXISTS) /* a regular result, not logged */
        hsm_log(st == HSM_ERR_BUSY ? HSM_LOG_WARNING : HSM_LOG_ERROR, "store: %s (%s): %s",
                text != NULL ? text : "", state, sql);
    return st;
}

enum hsm_status
acme_postgres_execute(struct postgres *postgres, const char *sql)
{
    DEFER(PQclear) PGresult *result = PQexec(postgres->connection, sql);

    return acme_postgres_status_of(postgres, result, sql);
}

/* ---- the connection ---- */

static enum hsm_status
setting(struct postgres *postgres, const char *name, char out[64])
{
    char sql[96];
    PGresult *result;
    enum hsm_status st;

    snprintf(sql, sizeof(sql), "SHOW %s", name);
    result = PQexec(postgres->connection, sql);
    st = acme_postgres_status_of(postgres, result, sql);
    if (st == HSM_OK)
        snprintf(out, 64, "%s", PQgetvalue(result, 0, 0));
    PQclear(result);
    return st;
}

/* A commit must be on the server's disk; a stricter setting of the server is kept. */
static enum hsm_status
use_synchronous_commit(struct postgres *postgres)
{
    char value[64];
    enum hsm_status st = setting(postgres, "fsync", value);

    if (st == HSM_OK && strcmp(value, "on") != 0) {
        hsm_log(HSM_LOG_ERROR, "store: the server has fsync = %s: nothing would be durable", value);
        return HSM_ERR_UNSUPPORTED;
    }
    if (st == HSM_OK)
        st = setting(postgres, "synchronous_commit", value);
    if (st != HSM_OK || strcmp(value, "on") == 0 || strcmp(value, "remote_apply") == 0)
        return st;
    return acme_postgres_execute(postgres, "SET synchronous_commit = on");
}

static enum hsm_status
check_encoding(struct postgres *postgres)
{
    char value[64];
    enum hsm_status st = setting(postgres, "server_encoding", value);

    if (st != HSM_OK || strcmp(value, "UTF8") == 0)
        return st;
    hsm_log(HSM_LOG_ERROR, "store: the database is in %s, not in UTF8", value);
    return HSM_ERR_UNSUPPORTED;
}

static enum hsm_status
begin_session(struct postgres *postgres)
{
    enum hsm_status st;

    if (acme_postgres_is_lost(postgres)) {
        tell_connection(postgres, "no connection");
        return HSM_ERR_BUSY;
    }
    st = acme_postgres_execute(postgres, SESSION);
    if (st == HSM_OK)
        st = use_synchronous_commit(postgres);
    return st == HSM_OK ? check_encoding(postgres) : st;
}

enum hsm_status
acme_postgres_reconnect(struct postgres *postgres)
{
    enum hsm_status st;

    forget_statements(postgres);
    PQreset(postgres->connection);
    postgres->is_broken = false;
    st = begin_session(postgres);
    if (st == HSM_OK)
        hsm_log(HSM_LOG_INFO, "store: the connection was lost, and is made again");
    return st;
}

static void
notice(void *context, const char *text)
{
    (void)context;
    hsm_log(HSM_LOG_WARNING, "store: %.*s", (int)strcspn(text, "\n"), text);
}

/* A password in the configuration would get into backups, and a URI into error texts. */
static enum hsm_status
check_uri(const char *uri)
{
    DEFER(PQconninfoFree) PQconninfoOption *options = PQconninfoParse(uri, NULL);

    if (options == NULL) {
        hsm_log(HSM_LOG_ERROR, "store: not a URI as libpq has it");
        return HSM_ERR_USAGE;
    }
    for (const PQconninfoOption *option = options; option->keyword != NULL; option++) {
        bool is_secret =
            strcmp(option->keyword, "password") == 0 || strcmp(option->keyword, "sslpassword") == 0;

        if (is_secret && option->val != NULL) {
            hsm_log(HSM_LOG_ERROR, "store: %s is not allowed in the URI: use passfile",
                    option->keyword);
            return HSM_ERR_USAGE;
        }
    }
    return HSM_OK;
}

/* Parameters before the URI are defaults that it can override; those after it are fixed. */
static PGconn *
dial(const char *uri)
{
    static const char *const names[] = {"sslmode",
                                        "connect_timeout",
                                        "keepalives_idle",
                                        "keepalives_interval",
                                        "keepalives_count",
                                        "target_session_attrs",
                                        "tcp_user_timeout",
                                        "fallback_application_name",
                                        "dbname",
                                        "client_encoding",
                                        NULL};
    const char *const values[] = {"verify-full", "5",       "10", "5",    "3", "read-write",
                                  "30000",       "sti-hsm", uri,  "UTF8", NULL};

    return PQconnectdbParams(names, values, 1);
}

/* ---- open and close ---- */

enum hsm_status
acme_postgres_open_reader(const char *uri, void **out)
{
    DEFER(acme_postgres_close) struct postgres *postgres = NULL;
    enum hsm_status st = check_uri(uri);

    if (st != HSM_OK)
        return st;
    postgres = calloc(1, sizeof(*postgres));
    if (postgres == NULL)
        return HSM_ERR_NOMEM;
    postgres->connection = dial(uri);
    if (postgres->connection == NULL)
        return HSM_ERR_NOMEM;
    (void)PQsetNoticeProcessor(postgres->connection, notice, NULL);
    st = begin_session(postgres);
    if (st != HSM_OK)
        return st;
    *out = postgres;
    postgres = NULL;
    return HSM_OK;
}

void
acme_postgres_close(void *db)
{
    struct postgres *postgres = db;

    forget_statements(postgres);
    PQfinish(postgres->connection);
    free(postgres);
}
