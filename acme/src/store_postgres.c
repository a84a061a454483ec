/*
 * store_postgres.c - the store in a schema of PostgreSQL, the first of the search path.
 *
 * A transaction locks the table store_version when it begins, so that there is one
 * writer at a time as in SQLite: what a transaction has read stays true, and no
 * transaction fails because of another. Readers are not affected.
 */
#include "store_postgres_internal.h"

#include <endian.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hsm/defer.h>
#include <hsm/log.h>

#define PROBES_MAX 16 /* slots tried for one statement */
#define NAME_SIZE  16 /* octets of the name of a prepared statement */
#define BINARY     1 /* format of values and results */

/* Types from the server's catalog, pg_type.dat */
#define OID_BOOL    16
#define OID_BYTEA   17
#define OID_NAME    19
#define OID_INT8    20
#define OID_INT2    21
#define OID_INT4    23
#define OID_TEXT    25
#define OID_UNKNOWN 705
#define OID_VARCHAR 1043

/* READ COMMITTED: statements after the lock see what was committed before the lock was granted. An
 * advisory lock would not do: a transaction that waited for it may not see tables created in
 * between. */
#define BEGIN                                                                                      \
    "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; LOCK TABLE store_version IN EXCLUSIVE MODE"

#define MAKE_VERSION                                                                               \
    "BEGIN READ WRITE; SELECT pg_advisory_xact_lock(hashtext('sti-hsm store'));"                   \
    "CREATE TABLE IF NOT EXISTS store_version (version BIGINT NOT NULL); COMMIT"

/* ---- statements ---- */

/* Replace each "?" by "$1" and so on; no literal has a "?". *count receives their number. */
static enum hsm_status
number_values(const char *sql, char **out, size_t *count)
{
    size_t size = 0;
    FILE *to = open_memstream(out, &size);

    *count = 0;
    if (to == NULL)
        return HSM_ERR_NOMEM;
    for (; *sql != '\0'; sql++) {
        if (*sql == '?')
            fprintf(to, "$%zu", ++*count);
        else
            fputc(*sql, to);
    }
    return fclose(to) == 0 ? HSM_OK : HSM_ERR_NOMEM;
}

/* Values in libpq's form. */
struct bound {
    Oid types[STORE_VALUES_MAX];
    const char *values[STORE_VALUES_MAX];
    int lengths[STORE_VALUES_MAX], formats[STORE_VALUES_MAX];
    uint64_t integers[STORE_VALUES_MAX]; /* in network order */
};

static void
bind_one(struct bound *bound, size_t i, const struct store_value *value)
{
    bound->formats[i] = BINARY;
    bound->values[i] = value->octets;
    switch (value->type) {
    case 's':
        bound->types[i] = OID_TEXT;
        bound->lengths[i] = value->octets != NULL ? (int)strlen(value->octets) : 0;
        break;
    case 'i':
        bound->types[i] = OID_INT8;
        bound->integers[i] = htobe64((uint64_t)value->integer);
        bound->values[i] = (const char *)&bound->integers[i];
        bound->lengths[i] = sizeof(bound->integers[i]);
        break;
    default:
        bound->types[i] = OID_BYTEA;
        bound->lengths[i] = (int)value->len;
        break;
    }
}

/* The slot of a statement's text, or the one to use for it; -1: no slot is free. */
static int
place_of(const struct postgres *postgres, const char *sql)
{
    uint32_t hash = acme_store_text_hash(sql);

    for (uint32_t i = 0; i < PROBES_MAX; i++) {
        uint32_t place = (hash + i) & (POSTGRES_STATEMENTS_MAX - 1);

        if (postgres->statements[place] == NULL || strcmp(postgres->statements[place], sql) == 0)
            return (int)place;
    }
    return -1;
}

/* Prepare a statement as `name`; "" is the unnamed statement, replaced by the next. */
static enum hsm_status
prepare(struct postgres *postgres, const char *name, const struct store_call *call,
        const struct bound *bound)
{
    DEFER(PQclear) PGresult *result = NULL;
    DEFER(free) char *sql = NULL;
    size_t count = 0;
    enum hsm_status st = number_values(call->sql, &sql, &count);

    if (st != HSM_OK)
        return st;
    if (count != call->count) {
        hsm_log(HSM_LOG_ERROR, "store: %zu values do not fit: %s", call->count, call->sql);
        return HSM_ERR_USAGE;
    }
    result = PQprepare(postgres->connection, name, sql, (int)count, bound->types);
    return acme_postgres_status_of(postgres, result, call->sql);
}

static enum hsm_status
prepare_kept(struct postgres *postgres, const char *name, const struct store_call *call,
             const struct bound *bound, char **place)
{
    char *text = strdup(call->sql);
    enum hsm_status st = text != NULL ? prepare(postgres, name, call, bound) : HSM_ERR_NOMEM;

    if (st != HSM_OK) {
        free(text);
        return st;
    }
    *place = text;
    return HSM_OK;
}

/* The caller clears *out, also on failure. */
static enum hsm_status
send_call(struct postgres *postgres, const struct store_call *call, PGresult **out)
{
    struct bound bound;
    char name[NAME_SIZE] = "";
    int place = place_of(postgres, call->sql);
    enum hsm_status st = HSM_OK;

    for (size_t i = 0; i < call->count; i++)
        bind_one(&bound, i, &call->values[i]);
    if (place >= 0)
        snprintf(name, sizeof(name), "s%d", place);
    if (place < 0)
        st = prepare(postgres, name, call, &bound);
    else if (postgres->statements[place] == NULL)
        st = prepare_kept(postgres, name, call, &bound, &postgres->statements[place]);
    if (st != HSM_OK)
        return st;
    *out = PQexecPrepared(postgres->connection, name, (int)call->count, bound.values, bound.lengths,
                          bound.formats, BINARY);
    return acme_postgres_status_of(postgres, *out, call->sql);
}

/* ---- results ---- */

/* Two's complement in network order, of 1, 2, 4 or 8 octets. */
static int64_t
integer_of(const char *octets, int len)
{
    uint64_t value = len > 1 && ((unsigned char)octets[0] & 0x80) != 0 ? UINT64_MAX : 0;

    for (int i = 0; i < len; i++)
        value = value << 8 | (unsigned char)octets[i];
    return (int64_t)value;
}

static enum hsm_status
cell_read(struct acme_rows *rows, const PGresult *result, int row, int column)
{
    const char *value = PQgetvalue(result, row, column);
    int len = PQgetlength(result, row, column);

    if (PQgetisnull(result, row, column)) {
        acme_store_rows_null(rows);
        return HSM_OK;
    }
    switch (PQftype(result, column)) {
    case OID_BOOL:
    case OID_INT2:
    case OID_INT4:
    case OID_INT8:
        acme_store_rows_integer(rows, integer_of(value, len));
        return HSM_OK;
    case OID_TEXT:
    case OID_VARCHAR:
    case OID_NAME:
    case OID_UNKNOWN:
    case OID_BYTEA:
        return acme_store_rows_octets(rows, value, (size_t)len);
    default:
        hsm_log(HSM_LOG_ERROR, "store: column %s: type %u is not read", PQfname(result, column),
                PQftype(result, column));
        return HSM_ERR_USAGE;
    }
}

static enum hsm_status
read_rows(const PGresult *result, const char *sql, struct acme_rows **out)
{
    DEFER(acme_rows_free) struct acme_rows *rows = acme_store_rows_new((size_t)PQnfields(result));
    enum hsm_status st = rows != NULL ? HSM_OK : HSM_ERR_NOMEM;

    for (int row = 0; st == HSM_OK && row < PQntuples(result); row++) {
        st = acme_store_rows_begin(rows, sql);
        for (int column = 0; st == HSM_OK && column < PQnfields(result); column++)
            st = cell_read(rows, result, row, column);
    }
    if (st != HSM_OK)
        return st;
    *out = rows;
    rows = NULL;
    return HSM_OK;
}

static enum hsm_status
query_once(struct postgres *postgres, const struct store_call *call, struct acme_rows **out)
{
    DEFER(PQclear) PGresult *result = NULL;
    enum hsm_status st = send_call(postgres, call, &result);

    if (st != HSM_OK)
        return st;
    if (PQresultStatus(result) != PGRES_TUPLES_OK) {
        hsm_log(HSM_LOG_ERROR, "store: gives no rows: %s", call->sql);
        return HSM_ERR_USAGE;
    }
    return read_rows(result, call->sql, out);
}

/* Outside of a transaction a query is repeated when the connection was lost. */
static enum hsm_status
postgres_query(void *db, const struct store_call *call, struct acme_rows **out)
{
    struct postgres *postgres = db;
    enum hsm_status st = query_once(postgres, call, out);

    if (st == HSM_OK || postgres->in_transaction || !acme_postgres_is_lost(postgres))
        return st;
    st = acme_postgres_reconnect(postgres);
    return st == HSM_OK ? query_once(postgres, call, out) : st;
}

/* ---- transactions ---- */

static void
postgres_rollback(void *db)
{
    struct postgres *postgres = db;

    if (!acme_postgres_is_lost(postgres))
        (void)acme_postgres_execute(postgres, "ROLLBACK");
    postgres->in_transaction = false;
}

static enum hsm_status
postgres_begin(void *db)
{
    struct postgres *postgres = db;
    enum hsm_status st = acme_postgres_execute(postgres, BEGIN);

    if (st != HSM_OK && acme_postgres_is_lost(postgres)) {
        st = acme_postgres_reconnect(postgres);
        if (st == HSM_OK)
            st = acme_postgres_execute(postgres, BEGIN);
    }
    if (st != HSM_OK)
        postgres_rollback(postgres);
    postgres->in_transaction = st == HSM_OK;
    return st;
}

/* COMMIT of a failed transaction is answered with ROLLBACK. When the connection breaks, the outcome
 * is unknown: that is reported as a transient error. */
static enum hsm_status
postgres_commit(void *db)
{
    struct postgres *postgres = db;
    DEFER(PQclear) PGresult *result = PQexec(postgres->connection, "COMMIT");
    enum hsm_status st = acme_postgres_status_of(postgres, result, "COMMIT");

    postgres->in_transaction = false;
    if (st == HSM_OK && strcmp(PQcmdStatus(result), "COMMIT") != 0)
        st = HSM_ERR_IO;
    return st;
}

static enum hsm_status
run_within(struct postgres *postgres, const struct store_call *call, int64_t *changes)
{
    DEFER(PQclear) PGresult *result = NULL;
    enum hsm_status st = send_call(postgres, call, &result);

    if (st != HSM_OK)
        return st;
    if (PQresultStatus(result) != PGRES_COMMAND_OK) {
        hsm_log(HSM_LOG_ERROR, "store: gives rows: %s", call->sql);
        return HSM_ERR_USAGE;
    }
    *changes = strtoll(PQcmdTuples(result), NULL, 10);
    return HSM_OK;
}

static enum hsm_status
postgres_run(void *db, const struct store_call *call, int64_t *changes)
{
    struct postgres *postgres = db;
    enum hsm_status st;

    if (postgres->in_transaction)
        return run_within(postgres, call, changes);
    st = postgres_begin(postgres);
    if (st != HSM_OK)
        return st;
    st = run_within(postgres, call, changes);
    if (st == HSM_OK)
        return postgres_commit(postgres);
    postgres_rollback(postgres);
    return st;
}

static enum hsm_status
postgres_script(void *db, const char *text)
{
    return acme_postgres_execute(db, text);
}

/* ---- the version ---- */

static enum hsm_status
postgres_version(void *db, int64_t *out)
{
    const struct store_call call = {.sql = "SELECT coalesce(max(version), 0) FROM store_version"};
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st = postgres_query(db, &call, &rows);

    if (st == HSM_OK && acme_rows_next(rows))
        *out = acme_rows_int(rows, 0);
    return st;
}

static enum hsm_status
postgres_set_version(void *db, int64_t version)
{
    char text[128];

    snprintf(text, sizeof(text),
             "DELETE FROM store_version; INSERT INTO store_version VALUES (%lld)",
             (long long)version);
    return acme_postgres_execute(db, text);
}

/* A user without the right to create tables can still use an existing store. */
static enum hsm_status
make_version(struct postgres *postgres)
{
    const struct store_call call = {.sql = "SELECT to_regclass('store_version') IS NULL"};
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st = postgres_query(postgres, &call, &rows);

    if (st != HSM_OK || !acme_rows_next(rows) || acme_rows_int(rows, 0) == 0)
        return st;
    st = acme_postgres_execute(postgres, MAKE_VERSION);
    if (st != HSM_OK)
        (void)acme_postgres_execute(postgres, "ROLLBACK");
    return st;
}

/* ---- open and close ---- */

static enum hsm_status
postgres_open(const char *uri, void **out)
{
    void *postgres = NULL;
    enum hsm_status st = acme_postgres_open_reader(uri, &postgres);

    if (st == HSM_OK)
        st = make_version(postgres);
    if (st == HSM_OK)
        *out = postgres;
    else if (postgres != NULL)
        acme_postgres_close(postgres);
    return st;
}

static const struct store_token tokens[] = {
    {"int", "BIGINT"},
    {"octets", "BYTEA"},
    {"id", "BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY"},
    {"strict", ""},
    {"append-only", "CREATE FUNCTION @_is_append_only() RETURNS trigger LANGUAGE plpgsql AS"
                    " $$BEGIN RAISE EXCEPTION '@s are not changed or deleted'; END$$;"
                    "CREATE TRIGGER @_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON @"
                    " FOR EACH STATEMENT EXECUTE FUNCTION @_is_append_only();"},
    {NULL, NULL},
};

const struct store_backend acme_store_postgres = {
    .tokens = tokens,
    .open = postgres_open,
    .open_reader = acme_postgres_open_reader,
    .close = acme_postgres_close,
    .begin = postgres_begin,
    .commit = postgres_commit,
    .rollback = postgres_rollback,
    .run = postgres_run,
    .query = postgres_query,
    .script = postgres_script,
    .version = postgres_version,
    .set_version = postgres_set_version,
};
