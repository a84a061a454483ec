/* store_sqlite.c - the store in an SQLite file: WAL, synchronous=FULL. */
#include "store_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sqlite3.h>
#include <sys/stat.h>

#include <hsm/clock.h>
#include <hsm/defer.h>
#include <hsm/log.h>

#define WAL_TRIES      200 /* of 50 ms each, see use_wal() */
#define STATEMENTS_MAX 256 /* prepared statements kept, a power of two */
#define PROBES_MAX     16 /* slots tried for one statement */

/* Pauses while waiting for a writer of another process: most transactions end soon. */
#define BUSY_SHORT_TRIES 100
#define BUSY_SHORT_NS    100000
#define BUSY_LONG_NS     1000000

/* Pages in the log after which a commit checkpoints it into the database. Most pages have been
 * rewritten many times by then; the first 4062 are indexed by one block of the wal-index. */
#define CHECKPOINT "4000"

struct sqlite {
    sqlite3 *db;
    int64_t busy_since_ms; /* hsm_clock_ms() */
    sqlite3_stmt *statements[STATEMENTS_MAX]; /* by hash of their text */
};

static void sqlite_close(void *db);

DEFINE_DEFER(struct sqlite, sqlite_close)

/* With the operating system's reason, if SQLite has one. */
static void
log_error(struct sqlite *sqlite, int rc, const char *sql)
{
    bool from_system = (rc & 0xff) == SQLITE_IOERR || (rc & 0xff) == SQLITE_CANTOPEN;
    int error = from_system ? sqlite3_system_errno(sqlite->db) : 0;

    hsm_log(HSM_LOG_ERROR, "store %s: %s%s%s: %s", sqlite3_db_filename(sqlite->db, "main"),
            sqlite3_errmsg(sqlite->db), error != 0 ? ": " : "", error != 0 ? strerror(error) : "",
            sql);
}

/* Map SQLite's result to a status; errors are logged once, with the statement but never with bound
 * values. */
static enum hsm_status
status_from_sqlite(struct sqlite *sqlite, int rc, const char *sql)
{
    switch (rc & 0xff) {
    case SQLITE_OK:
    case SQLITE_ROW:
    case SQLITE_DONE:
        return HSM_OK;
    case SQLITE_NOMEM:
        return HSM_ERR_NOMEM;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        hsm_log(HSM_LOG_WARNING, "store %s: busy for %d s: %s",
                sqlite3_db_filename(sqlite->db, "main"), STORE_BUSY_MS / 1000, sql);
        return HSM_ERR_BUSY;
    default:
        break;
    }
    if (rc == SQLITE_CONSTRAINT_UNIQUE || rc == SQLITE_CONSTRAINT_PRIMARYKEY ||
        rc == SQLITE_CONSTRAINT_ROWID)
        return HSM_ERR_EXISTS; /* a regular result, not logged */
    log_error(sqlite, rc, sql);
    return (rc & 0xff) == SQLITE_CONSTRAINT ? HSM_ERR_USAGE : HSM_ERR_IO;
}

static enum hsm_status
execute(struct sqlite *sqlite, const char *sql)
{
    return status_from_sqlite(sqlite, sqlite3_exec(sqlite->db, sql, NULL, NULL, NULL), sql);
}

static enum hsm_status
prepare(struct sqlite *sqlite, const char *sql, sqlite3_stmt **out)
{
    const char *tail = NULL;
    sqlite3_stmt *statement = NULL;
    int rc = sqlite3_prepare_v3(sqlite->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &statement, &tail);

    if (rc != SQLITE_OK)
        return status_from_sqlite(sqlite, rc, sql);
    if (statement == NULL || tail[strspn(tail, " \t\n;")] != '\0') {
        hsm_log(HSM_LOG_ERROR, "store: not one statement: %s", sql);
        sqlite3_finalize(statement);
        return HSM_ERR_USAGE;
    }
    *out = statement;
    return HSM_OK;
}

/* A prepared statement for this text, from the cache if it is there; *kept: the cache owns it. */
static enum hsm_status
statement_get(struct sqlite *sqlite, const char *sql, sqlite3_stmt **out, bool *kept)
{
    uint32_t hash = acme_store_text_hash(sql);
    sqlite3_stmt **place = NULL;
    enum hsm_status st;

    for (uint32_t i = 0; i < PROBES_MAX && place == NULL; i++) {
        sqlite3_stmt **slot = &sqlite->statements[(hash + i) & (STATEMENTS_MAX - 1)];

        if (*slot == NULL) {
            place = slot;
        } else if (strcmp(sqlite3_sql(*slot), sql) == 0) {
            *out = *slot;
            *kept = true;
            return HSM_OK;
        }
    }
    st = prepare(sqlite, sql, out);
    if (st != HSM_OK)
        return st;
    *kept = place != NULL;
    if (place != NULL)
        *place = *out;
    return HSM_OK;
}

/* Values were bound without copying: drop the pointers to the caller's memory. */
static void
statement_release(sqlite3_stmt *statement, bool kept)
{
    if (!kept) {
        sqlite3_finalize(statement);
        return;
    }
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
}

static int
bind_one(sqlite3_stmt *statement, int i, const struct store_value *value)
{
    switch (value->type) {
    case 's':
        return sqlite3_bind_text(statement, i, value->octets, -1, SQLITE_STATIC); /* may be NULL */
    case 'i':
        return sqlite3_bind_int64(statement, i, value->integer);
    default:
        return sqlite3_bind_blob64(statement, i, value->octets, value->len, SQLITE_STATIC);
    }
}

static enum hsm_status
bind_all(struct sqlite *sqlite, sqlite3_stmt *statement, const struct store_call *call)
{
    if ((int)call->count != sqlite3_bind_parameter_count(statement)) {
        hsm_log(HSM_LOG_ERROR, "store: %zu values do not fit: %s", call->count, call->sql);
        return HSM_ERR_USAGE;
    }
    for (size_t i = 0; i < call->count; i++) {
        int rc = bind_one(statement, (int)i + 1, &call->values[i]);

        if (rc != SQLITE_OK)
            return status_from_sqlite(sqlite, rc, call->sql);
    }
    return HSM_OK;
}

static enum hsm_status
cell_read(struct acme_rows *rows, sqlite3_stmt *statement, int column)
{
    const void *octets;

    switch (sqlite3_column_type(statement, column)) {
    case SQLITE_NULL:
        acme_store_rows_null(rows);
        return HSM_OK;
    case SQLITE_INTEGER:
        acme_store_rows_integer(rows, sqlite3_column_int64(statement, column));
        return HSM_OK;
    case SQLITE_BLOB:
        octets = sqlite3_column_blob(statement, column);
        break;
    default:
        octets = sqlite3_column_text(statement, column);
        if (octets == NULL)
            return HSM_ERR_NOMEM;
        break;
    }
    return acme_store_rows_octets(rows, octets, (size_t)sqlite3_column_bytes(statement, column));
}

static enum hsm_status
row_read(struct acme_rows *rows, sqlite3_stmt *statement, const char *sql)
{
    enum hsm_status st = acme_store_rows_begin(rows, sql);

    for (int i = 0; st == HSM_OK && i < sqlite3_column_count(statement); i++)
        st = cell_read(rows, statement, i);
    return st;
}

static enum hsm_status
read_rows(struct sqlite *sqlite, sqlite3_stmt *statement, const char *sql, struct acme_rows **out)
{
    DEFER(acme_rows_free)
    struct acme_rows *rows = acme_store_rows_new((size_t)sqlite3_column_count(statement));
    int rc;

    if (rows == NULL)
        return HSM_ERR_NOMEM;
    while ((rc = sqlite3_step(statement)) == SQLITE_ROW) {
        enum hsm_status st = row_read(rows, statement, sql);

        if (st != HSM_OK)
            return st;
    }
    if (rc != SQLITE_DONE)
        return status_from_sqlite(sqlite, rc, sql);
    *out = rows;
    rows = NULL;
    return HSM_OK;
}

static enum hsm_status
run_statement(struct sqlite *sqlite, sqlite3_stmt *statement, const char *sql, int64_t *changes)
{
    sqlite3_int64 before = sqlite3_total_changes64(sqlite->db);
    int rc = sqlite3_step(statement);

    if (rc != SQLITE_DONE)
        return status_from_sqlite(sqlite, rc, sql);
    *changes = sqlite3_total_changes64(sqlite->db) == before ? 0 : sqlite3_changes64(sqlite->db);
    return HSM_OK;
}

static enum hsm_status
sqlite_run(void *db, const struct store_call *call, int64_t *changes)
{
    struct sqlite *sqlite = db;
    sqlite3_stmt *statement = NULL;
    bool kept = false;
    enum hsm_status st = statement_get(sqlite, call->sql, &statement, &kept);

    if (st != HSM_OK)
        return st;
    st = bind_all(sqlite, statement, call);
    if (st == HSM_OK && sqlite3_column_count(statement) != 0) {
        hsm_log(HSM_LOG_ERROR, "store: gives rows: %s", call->sql);
        st = HSM_ERR_USAGE;
    }
    if (st == HSM_OK)
        st = run_statement(sqlite, statement, call->sql, changes);
    statement_release(statement, kept);
    return st;
}

/* Outside of a transaction a query may only read, as in the PostgreSQL backend. */
static bool
may_query(const struct sqlite *sqlite, sqlite3_stmt *statement)
{
    return sqlite3_column_count(statement) != 0 &&
           (sqlite3_stmt_readonly(statement) != 0 || sqlite3_get_autocommit(sqlite->db) == 0);
}

static enum hsm_status
sqlite_query(void *db, const struct store_call *call, struct acme_rows **out)
{
    struct sqlite *sqlite = db;
    sqlite3_stmt *statement = NULL;
    bool kept = false;
    enum hsm_status st = statement_get(sqlite, call->sql, &statement, &kept);

    if (st != HSM_OK)
        return st;
    st = bind_all(sqlite, statement, call);
    if (st == HSM_OK && !may_query(sqlite, statement)) {
        hsm_log(HSM_LOG_ERROR, "store: gives no rows, or changes some: %s", call->sql);
        st = HSM_ERR_USAGE;
    }
    if (st == HSM_OK)
        st = read_rows(sqlite, statement, call->sql, out);
    statement_release(statement, kept);
    return st;
}

/* Run BEGIN or COMMIT, which are frequent, as cached statements. */
static enum hsm_status
execute_kept(struct sqlite *sqlite, const char *sql)
{
    sqlite3_stmt *statement = NULL;
    bool kept = false;
    enum hsm_status st = statement_get(sqlite, sql, &statement, &kept);

    if (st != HSM_OK)
        return st;
    st = status_from_sqlite(sqlite, sqlite3_step(statement), sql);
    statement_release(statement, kept);
    return st;
}

static enum hsm_status
sqlite_begin(void *db)
{
    return execute_kept(db, "BEGIN IMMEDIATE");
}

/* SQLite rolls a transaction back by itself when the disk is full or fails. */
static void
sqlite_rollback(void *db)
{
    struct sqlite *sqlite = db;

    if (sqlite3_get_autocommit(sqlite->db) == 0)
        (void)sqlite3_exec(sqlite->db, "ROLLBACK", NULL, NULL, NULL);
}

static enum hsm_status
sqlite_commit(void *db)
{
    enum hsm_status st = execute_kept(db, "COMMIT");

    if (st != HSM_OK)
        sqlite_rollback(db);
    return st;
}

static enum hsm_status
sqlite_script(void *db, const char *text)
{
    return execute(db, text);
}

static enum hsm_status
sqlite_version(void *db, int64_t *out)
{
    const struct store_call call = {.sql = "PRAGMA user_version"};
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st = sqlite_query(db, &call, &rows);

    if (st == HSM_OK)
        *out = acme_rows_next(rows) ? acme_rows_int(rows, 0) : 0;
    return st;
}

static enum hsm_status
sqlite_set_version(void *db, int64_t version)
{
    char text[64];

    snprintf(text, sizeof(text), "PRAGMA user_version=%lld", (long long)version);
    return execute(db, text);
}

/* Create with mode 0600, which SQLite also gives to -wal and -shm. An existing file is not opened:
 * closing it would drop this process's POSIX locks on it. */
static enum hsm_status
create_file(const char *path)
{
    struct stat about;
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd >= 0) {
        close(fd);
        hsm_log(HSM_LOG_INFO, "%s: is a new store", path);
        return HSM_OK;
    }
    if (errno != EEXIST || stat(path, &about) != 0) {
        hsm_log(HSM_LOG_ERROR, "%s: %s", path, strerror(errno));
        return HSM_ERR_IO;
    }
    if ((about.st_mode & 077) != 0)
        hsm_log(HSM_LOG_WARNING, "%s: others may read it: mode %04o", path,
                (unsigned)(about.st_mode & 07777));
    return HSM_OK;
}

static int
take_mode(void *is_wal, int columns, char **values, char **names)
{
    (void)names;
    *(bool *)is_wal = columns == 1 && values[0] != NULL && strcmp(values[0], "wal") == 0;
    return 0;
}

/* The busy timeout does not apply to the change to WAL when two processes make it at the same
 * time. */
static enum hsm_status
use_wal(struct sqlite *sqlite, const char *path)
{
    static const char sql[] = "PRAGMA journal_mode=WAL";
    const struct timespec pause = {0, 50000000};
    bool is_wal = false;
    int rc = SQLITE_BUSY;

    for (int i = 0; i < WAL_TRIES && (rc & 0xff) == SQLITE_BUSY; i++) {
        if (i > 0)
            nanosleep(&pause, NULL);
        rc = sqlite3_exec(sqlite->db, sql, take_mode, &is_wal, NULL);
    }
    if (rc != SQLITE_OK)
        return status_from_sqlite(sqlite, rc, sql);
    if (is_wal)
        return HSM_OK;
    hsm_log(HSM_LOG_ERROR, "%s: no write-ahead log on this file system", path);
    return HSM_ERR_IO;
}

/*
 * Wait for the writer of another process. SQLite's own handler lengthens its pauses up to a
 * tenth of a second, while a transaction takes a fraction of a millisecond: the store would be
 * idle most of the time.
 */
static int
wait_for_writer(void *context, int tries)
{
    struct sqlite *sqlite = context;
    struct timespec pause = {0, tries < BUSY_SHORT_TRIES ? BUSY_SHORT_NS : BUSY_LONG_NS};
    int64_t now_ms = hsm_clock_ms();

    if (tries == 0)
        sqlite->busy_since_ms = now_ms;
    if (now_ms - sqlite->busy_since_ms >= STORE_BUSY_MS)
        return 0; /* SQLITE_BUSY */
    nanosleep(&pause, NULL);
    return 1;
}

static enum hsm_status
connect_to(struct sqlite *sqlite, const char *path)
{
    const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX; /* store.c locks */
    int rc = sqlite3_open_v2(path, &sqlite->db, flags, NULL);

    if (rc != SQLITE_OK) {
        hsm_log(HSM_LOG_ERROR, "%s: %s", path, sqlite3_errstr(rc));
        return rc == SQLITE_NOMEM ? HSM_ERR_NOMEM : HSM_ERR_IO;
    }
    sqlite3_extended_result_codes(sqlite->db, 1);
    sqlite3_busy_handler(sqlite->db, wait_for_writer, sqlite);
    return HSM_OK;
}

static enum hsm_status
open_database(struct sqlite *sqlite, const char *path)
{
    enum hsm_status st = connect_to(sqlite, path);

    if (st == HSM_OK)
        st = use_wal(sqlite, path);
    if (st == HSM_OK)
        st = execute(sqlite, "PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;"
                             "PRAGMA trusted_schema=OFF; PRAGMA wal_autocheckpoint=" CHECKPOINT);
    return st;
}

static enum hsm_status
sqlite_open(const char *path, void **out)
{
    DEFER(sqlite_close) struct sqlite *sqlite = NULL;
    enum hsm_status st = create_file(path);

    if (st != HSM_OK)
        return st;
    sqlite = calloc(1, sizeof(*sqlite));
    if (sqlite == NULL)
        return HSM_ERR_NOMEM;
    st = open_database(sqlite, path);
    if (st != HSM_OK)
        return st;
    *out = sqlite;
    sqlite = NULL;
    return HSM_OK;
}

static enum hsm_status
sqlite_open_reader(const char *path, void **out)
{
    DEFER(sqlite_close) struct sqlite *sqlite = calloc(1, sizeof(*sqlite));
    enum hsm_status st = sqlite != NULL ? connect_to(sqlite, path) : HSM_ERR_NOMEM;

    if (st == HSM_OK)
        st = execute(sqlite, "PRAGMA query_only=ON; PRAGMA trusted_schema=OFF");
    if (st != HSM_OK)
        return st;
    *out = sqlite;
    sqlite = NULL;
    return HSM_OK;
}

static void
sqlite_close(void *db)
{
    struct sqlite *sqlite = db;

    for (size_t i = 0; i < STATEMENTS_MAX; i++)
        sqlite3_finalize(sqlite->statements[i]);
    sqlite3_close(sqlite->db);
    free(sqlite);
}

static const struct store_token tokens[] = {
    {"int", "INTEGER"},
    {"octets", "BLOB"},
    {"id", "INTEGER PRIMARY KEY AUTOINCREMENT"},
    {"strict", " STRICT"},
    {"append-only", "CREATE TRIGGER @_is_not_changed BEFORE UPDATE ON @"
                    " BEGIN SELECT RAISE(ABORT, '@s are not changed'); END;"
                    "CREATE TRIGGER @_is_not_deleted BEFORE DELETE ON @"
                    " BEGIN SELECT RAISE(ABORT, '@s are not deleted'); END;"},
    {NULL, NULL},
};

const struct store_backend acme_store_sqlite = {
    .tokens = tokens,
    .open = sqlite_open,
    .open_reader = sqlite_open_reader,
    .close = sqlite_close,
    .begin = sqlite_begin,
    .commit = sqlite_commit,
    .rollback = sqlite_rollback,
    .run = sqlite_run,
    .query = sqlite_query,
    .script = sqlite_script,
    .version = sqlite_version,
    .set_version = sqlite_set_version,
};
