/* store.c - durable state in SQLite. */
#include <acme/store.h>

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sqlite3.h>
#include <sys/stat.h>

#include <hsm/defer.h>
#include <hsm/log.h>

#define BUSY_MS        10000 /* how long a writer of another process is waited for */
#define WAL_TRIES      200 /* of 50 ms each, see use_wal() */
#define STATEMENTS_MAX 256 /* prepared statements kept, a power of two */
#define PROBES_MAX     16 /* places looked at for one statement */
#define PARAMETERS_MAX 64 /* '?' of one statement */
#define CELLS_FIRST    64 /* cells by which an answer begins */
#define OCTETS_FIRST   4096 /* octets by which an answer begins */

static_assert(sizeof(intptr_t) >= sizeof(int64_t), "a row id fits a thread's slot");

struct acme_store {
    sqlite3 *db;
    pid_t owner; /* an SQLite connection does not survive fork() */
    pthread_mutex_t mutex; /* recursive: held through a transaction and, inside it, by each call */
    bool in_transaction;
    pthread_key_t last_id;
    sqlite3_stmt *statements[STATEMENTS_MAX]; /* by hash of their text */
};

enum cell_kind {
    CELL_NULL,
    CELL_INTEGER,
    CELL_OCTETS
};

struct cell {
    enum cell_kind kind;
    int64_t integer;
    size_t offset; /* into octets, where a NUL follows the value */
    size_t len;
};

struct acme_rows {
    size_t columns, count;
    size_t next; /* the current row plus one; 0 before the first */
    struct cell *cells;
    size_t cells_size;
    uint8_t *octets;
    size_t octets_len, octets_size;
};

DEFINE_DEFER(struct acme_store, acme_store_close)
DEFINE_DEFER(struct acme_rows, acme_rows_free)

/* What SQLite's result means to a caller; told once, with the statement but never a bound value. */
static enum hsm_status
status_from_sqlite(struct acme_store *store, int rc, const char *sql)
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
        hsm_log(HSM_LOG_WARNING, "store: busy for %d s: %s", BUSY_MS / 1000, sql);
        return HSM_ERR_BUSY;
    default:
        break;
    }
    if (rc == SQLITE_CONSTRAINT_UNIQUE || rc == SQLITE_CONSTRAINT_PRIMARYKEY ||
        rc == SQLITE_CONSTRAINT_ROWID)
        return HSM_ERR_EXISTS; /* an answer, not a fault */
    hsm_log(HSM_LOG_ERROR, "store: %s: %s", sqlite3_errmsg(store->db), sql);
    return (rc & 0xff) == SQLITE_CONSTRAINT ? HSM_ERR_USAGE : HSM_ERR_IO;
}

static enum hsm_status
execute(struct acme_store *store, const char *sql)
{
    return status_from_sqlite(store, sqlite3_exec(store->db, sql, NULL, NULL, NULL), sql);
}

/* FNV-1a */
static uint32_t
text_hash(const char *text)
{
    uint32_t hash = 2166136261u;

    for (; *text != '\0'; text++)
        hash = (hash ^ (unsigned char)*text) * 16777619u;
    return hash;
}

static enum hsm_status
prepare(struct acme_store *store, const char *sql, sqlite3_stmt **out)
{
    const char *tail = NULL;
    sqlite3_stmt *statement = NULL;
    int rc = sqlite3_prepare_v3(store->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &statement, &tail);

    if (rc != SQLITE_OK)
        return status_from_sqlite(store, rc, sql);
    if (statement == NULL || tail[strspn(tail, " \t\n;")] != '\0') {
        hsm_log(HSM_LOG_ERROR, "store: not one statement: %s", sql);
        sqlite3_finalize(statement);
        return HSM_ERR_USAGE;
    }
    *out = statement;
    return HSM_OK;
}

/* A prepared statement for this text, from the cache if it is there; *kept tells who finalizes it.
 */
static enum hsm_status
statement_get(struct acme_store *store, const char *sql, sqlite3_stmt **out, bool *kept)
{
    uint32_t hash = text_hash(sql);
    sqlite3_stmt **place = NULL;
    enum hsm_status st;

    for (uint32_t i = 0; i < PROBES_MAX && place == NULL; i++) {
        sqlite3_stmt **slot = &store->statements[(hash + i) & (STATEMENTS_MAX - 1)];

        if (*slot == NULL) {
            place = slot;
        } else if (strcmp(sqlite3_sql(*slot), sql) == 0) {
            *out = *slot;
            *kept = true;
            return HSM_OK;
        }
    }
    st = prepare(store, sql, out);
    if (st != HSM_OK)
        return st;
    *kept = place != NULL;
    if (place != NULL)
        *place = *out;
    return HSM_OK;
}

/* Values are bound without a copy; they are the caller's for the time of the call. */
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
bind_one(sqlite3_stmt *statement, int i, char type, va_list *values)
{
    const char *text;
    const void *octets;
    size_t len;

    switch (type) {
    case 's':
        text = va_arg(*values, const char *);
        return sqlite3_bind_text(statement, i, text, -1, SQLITE_STATIC); /* NULL binds NULL */
    case 'i':
        return sqlite3_bind_int64(statement, i, va_arg(*values, int64_t));
    case 'b':
        octets = va_arg(*values, const void *);
        len = va_arg(*values, size_t);
        return sqlite3_bind_blob64(statement, i, octets, len, SQLITE_STATIC);
    default:
        return SQLITE_MISUSE;
    }
}

static enum hsm_status
bind_all(struct acme_store *store, sqlite3_stmt *statement, const char *sql, const char *types,
         va_list *values)
{
    int count = (int)strnlen(types, PARAMETERS_MAX + 1);

    if (count != sqlite3_bind_parameter_count(statement) || strspn(types, "sib") != strlen(types)) {
        hsm_log(HSM_LOG_ERROR, "store: types \"%s\" do not fit: %s", types, sql);
        return HSM_ERR_USAGE;
    }
    for (int i = 0; i < count; i++) {
        int rc = bind_one(statement, i + 1, types[i], values);

        if (rc != SQLITE_OK)
            return status_from_sqlite(store, rc, sql);
    }
    return HSM_OK;
}

/* Create with mode 0600, which SQLite gives to -wal and -shm as well. A file that is there is not
 * opened: closing it again would drop this process's POSIX locks on it. */
static enum hsm_status
create_file(const char *path)
{
    struct stat about;
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd >= 0) {
        close(fd);
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

/* The change to WAL is not covered by the busy timeout when two processes make it at once. */
static enum hsm_status
use_wal(struct acme_store *store, const char *path)
{
    const struct timespec pause = {0, 50000000};
    struct acme_rows *rows = NULL;
    enum hsm_status st = HSM_ERR_BUSY;

    for (int i = 0; i < WAL_TRIES; i++) {
        int rc = sqlite3_exec(store->db, "PRAGMA journal_mode=WAL", NULL, NULL, NULL);

        if (rc == SQLITE_OK)
            break;
        if ((rc & 0xff) != SQLITE_BUSY)
            return status_from_sqlite(store, rc, "PRAGMA journal_mode=WAL");
        nanosleep(&pause, NULL);
    }
    st = acme_store_query(store, &rows, "PRAGMA journal_mode", "");
    if (st != HSM_OK)
        return st;
    if (!acme_rows_next(rows) || acme_rows_text(rows, 0) == NULL ||
        strcmp(acme_rows_text(rows, 0), "wal") != 0) {
        hsm_log(HSM_LOG_ERROR, "%s: no write-ahead log on this file system", path);
        st = HSM_ERR_IO;
    }
    acme_rows_free(rows);
    return st;
}

static enum hsm_status
read_version(struct acme_store *store, int64_t *out)
{
    struct acme_rows *rows = NULL;
    enum hsm_status st = acme_store_query(store, &rows, "PRAGMA user_version", "");

    if (st != HSM_OK)
        return st;
    *out = acme_rows_next(rows) ? acme_rows_int(rows, 0) : 0;
    acme_rows_free(rows);
    return HSM_OK;
}

/* Bring the file from version n to n + 1, unless another process did so meanwhile. */
static enum hsm_status
migrate_once(struct acme_store *store, const char *script, int64_t n)
{
    char set_version[64];
    int64_t version = 0;
    enum hsm_status st = acme_store_begin(store);

    if (st != HSM_OK)
        return st;
    st = read_version(store, &version);
    if (st == HSM_OK && version == n) {
        snprintf(set_version, sizeof(set_version), "PRAGMA user_version=%lld", (long long)(n + 1));
        st = execute(store, script);
        if (st == HSM_OK)
            st = execute(store, set_version);
    }
    if (st == HSM_OK)
        return acme_store_commit(store);
    acme_store_rollback(store);
    return st;
}

static enum hsm_status
migrate(struct acme_store *store, const char *path, const char *const *migrations)
{
    int64_t known = 0;
    int64_t version = 0;
    enum hsm_status st = read_version(store, &version);

    while (migrations[known] != NULL)
        known++;
    while (st == HSM_OK && version < known) {
        st = migrate_once(store, migrations[version], version);
        if (st == HSM_OK)
            st = read_version(store, &version);
    }
    if (st == HSM_OK && version > known) {
        hsm_log(HSM_LOG_ERROR, "%s: version %lld, this program knows %lld", path,
                (long long)version, (long long)known);
        return HSM_ERR_UNSUPPORTED;
    }
    return st;
}

static enum hsm_status
open_database(struct acme_store *store, const char *path)
{
    const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX; /* our mutex is enough */
    int rc = sqlite3_open_v2(path, &store->db, flags, NULL);
    enum hsm_status st;

    if (rc != SQLITE_OK) {
        hsm_log(HSM_LOG_ERROR, "%s: %s", path, sqlite3_errstr(rc));
        return rc == SQLITE_NOMEM ? HSM_ERR_NOMEM : HSM_ERR_IO;
    }
    sqlite3_extended_result_codes(store->db, 1);
    sqlite3_busy_timeout(store->db, BUSY_MS);
    st = use_wal(store, path);
    if (st == HSM_OK)
        st = execute(store, "PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;"
                            "PRAGMA trusted_schema=OFF");
    return st;
}

static enum hsm_status
store_new(struct acme_store **out)
{
    struct acme_store *store = calloc(1, sizeof(*store));
    pthread_mutexattr_t recursive;

    if (store == NULL)
        return HSM_ERR_NOMEM;
    if (pthread_key_create(&store->last_id, NULL) != 0) {
        free(store);
        return HSM_ERR_NOMEM;
    }
    store->owner = getpid();
    pthread_mutexattr_init(&recursive);
    pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&store->mutex, &recursive);
    pthread_mutexattr_destroy(&recursive);
    *out = store;
    return HSM_OK;
}

enum hsm_status
acme_store_open(const char *path, const char *const *migrations, struct acme_store **out)
{
    DEFER(acme_store_close) struct acme_store *store = NULL;
    enum hsm_status st = create_file(path);

    if (st == HSM_OK)
        st = store_new(&store);
    if (st == HSM_OK)
        st = open_database(store, path);
    if (st == HSM_OK)
        st = migrate(store, path, migrations);
    if (st != HSM_OK)
        return st;
    *out = store;
    store = NULL;
    return HSM_OK;
}

void
acme_store_close(struct acme_store *store)
{
    if (store == NULL)
        return;
    for (size_t i = 0; i < STATEMENTS_MAX; i++)
        sqlite3_finalize(store->statements[i]);
    sqlite3_close(store->db);
    pthread_mutex_destroy(&store->mutex);
    pthread_key_delete(store->last_id);
    free(store);
}

/* Take the store for this thread. */
static enum hsm_status
take(struct acme_store *store)
{
    if (store->owner != getpid()) {
        hsm_log(HSM_LOG_ERROR, "store: opened by another process, before fork()");
        return HSM_ERR_USAGE;
    }
    pthread_mutex_lock(&store->mutex);
    /* SQLite ends a transaction by itself when the disk is full or fails: what follows must not run
     * outside of it. */
    if (store->in_transaction && sqlite3_get_autocommit(store->db) != 0) {
        hsm_log(HSM_LOG_ERROR, "store: the transaction was rolled back");
        pthread_mutex_unlock(&store->mutex);
        return HSM_ERR_IO;
    }
    return HSM_OK;
}

static void
give(struct acme_store *store)
{
    pthread_mutex_unlock(&store->mutex);
}

enum hsm_status
acme_store_begin(struct acme_store *store)
{
    enum hsm_status st = take(store);

    if (st != HSM_OK)
        return st;
    if (store->in_transaction) {
        hsm_log(HSM_LOG_ERROR, "store: this thread is in a transaction already");
        give(store);
        return HSM_ERR_USAGE;
    }
    st = acme_store_run(store, NULL, "BEGIN IMMEDIATE", "");
    if (st != HSM_OK) {
        give(store);
        return st;
    }
    store->in_transaction = true;
    return HSM_OK; /* the mutex is kept until commit or rollback */
}

static void
end_transaction(struct acme_store *store)
{
    if (sqlite3_get_autocommit(store->db) == 0)
        (void)sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
    store->in_transaction = false;
    give(store); /* what begin took */
}

enum hsm_status
acme_store_commit(struct acme_store *store)
{
    enum hsm_status st;

    pthread_mutex_lock(&store->mutex);
    if (!store->in_transaction) {
        hsm_log(HSM_LOG_ERROR, "store: commit without begin");
        give(store);
        return HSM_ERR_USAGE;
    }
    st = acme_store_run(store, NULL, "COMMIT", "");
    end_transaction(store);
    give(store);
    return st;
}

void
acme_store_rollback(struct acme_store *store)
{
    pthread_mutex_lock(&store->mutex);
    if (store->in_transaction)
        end_transaction(store);
    give(store);
}

static enum hsm_status
run_statement(struct acme_store *store, sqlite3_stmt *statement, const char *sql, int64_t *changes)
{
    sqlite3_int64 before = sqlite3_total_changes64(store->db);
    int rc = sqlite3_step(statement);

    if (rc != SQLITE_DONE)
        return status_from_sqlite(store, rc, sql);
    pthread_setspecific(store->last_id, (void *)(intptr_t)sqlite3_last_insert_rowid(store->db));
    if (changes != NULL)
        *changes = sqlite3_total_changes64(store->db) == before ? 0 : sqlite3_changes64(store->db);
    return HSM_OK;
}

enum hsm_status
acme_store_run(struct acme_store *store, int64_t *changes, const char *sql, const char *types, ...)
{
    sqlite3_stmt *statement = NULL;
    bool kept = false;
    va_list values;
    enum hsm_status st = take(store);

    if (st != HSM_OK)
        return st;
    st = statement_get(store, sql, &statement, &kept);
    if (st == HSM_OK) {
        va_start(values, types);
        st = bind_all(store, statement, sql, types, &values);
        va_end(values);
        if (st == HSM_OK && sqlite3_column_count(statement) != 0) {
            hsm_log(HSM_LOG_ERROR, "store: gives rows: %s", sql);
            st = HSM_ERR_USAGE;
        }
        if (st == HSM_OK)
            st = run_statement(store, statement, sql, changes);
        statement_release(statement, kept);
    }
    give(store);
    return st;
}

int64_t
acme_store_last_id(struct acme_store *store)
{
    return (intptr_t)pthread_getspecific(store->last_id);
}

/* Make room for `more` elements behind `used`; the array doubles. */
static bool
reserve(void **array, size_t *size, size_t used, size_t more, size_t element, size_t first)
{
    size_t wanted = *size == 0 ? first : *size;
    void *larger;

    if (used + more <= *size)
        return true;
    while (wanted < used + more)
        wanted *= 2;
    larger = reallocarray(*array, wanted, element);
    if (larger == NULL)
        return false;
    *array = larger;
    *size = wanted;
    return true;
}

static bool
cell_octets(struct acme_rows *rows, struct cell *cell, const void *octets, size_t len)
{
    if (!reserve((void **)&rows->octets, &rows->octets_size, rows->octets_len, len + 1, 1,
                 OCTETS_FIRST))
        return false;
    cell->kind = CELL_OCTETS;
    cell->offset = rows->octets_len;
    cell->len = len;
    if (len > 0)
        memcpy(rows->octets + rows->octets_len, octets, len);
    rows->octets[rows->octets_len + len] = '\0';
    rows->octets_len += len + 1;
    return true;
}

static bool
cell_read(struct acme_rows *rows, struct cell *cell, sqlite3_stmt *statement, int column)
{
    const void *octets;

    memset(cell, 0, sizeof(*cell));
    switch (sqlite3_column_type(statement, column)) {
    case SQLITE_NULL:
        return true;
    case SQLITE_INTEGER:
        cell->kind = CELL_INTEGER;
        cell->integer = sqlite3_column_int64(statement, column);
        return true;
    case SQLITE_BLOB:
        octets = sqlite3_column_blob(statement, column);
        break;
    default:
        octets = sqlite3_column_text(statement, column);
        if (octets == NULL)
            return false;
        break;
    }
    return cell_octets(rows, cell, octets, (size_t)sqlite3_column_bytes(statement, column));
}

static bool
row_read(struct acme_rows *rows, sqlite3_stmt *statement)
{
    size_t used = rows->count * rows->columns;

    if (!reserve((void **)&rows->cells, &rows->cells_size, used, rows->columns,
                 sizeof(*rows->cells), CELLS_FIRST))
        return false;
    for (size_t i = 0; i < rows->columns; i++) {
        if (!cell_read(rows, &rows->cells[used + i], statement, (int)i))
            return false;
    }
    rows->count++;
    return true;
}

static enum hsm_status
read_rows(struct acme_store *store, sqlite3_stmt *statement, const char *sql,
          struct acme_rows **out)
{
    DEFER(acme_rows_free) struct acme_rows *rows = calloc(1, sizeof(*rows));
    int rc;

    if (rows == NULL)
        return HSM_ERR_NOMEM;
    rows->columns = (size_t)sqlite3_column_count(statement);
    while ((rc = sqlite3_step(statement)) == SQLITE_ROW) {
        if (rows->count == ACME_ROWS_MAX) {
            hsm_log(HSM_LOG_ERROR, "store: more than %d rows: %s", ACME_ROWS_MAX, sql);
            return HSM_ERR_UNSUPPORTED;
        }
        if (!row_read(rows, statement))
            return HSM_ERR_NOMEM;
    }
    if (rc != SQLITE_DONE)
        return status_from_sqlite(store, rc, sql);
    *out = rows;
    rows = NULL;
    return HSM_OK;
}

enum hsm_status
acme_store_query(struct acme_store *store, struct acme_rows **out, const char *sql,
                 const char *types, ...)
{
    sqlite3_stmt *statement = NULL;
    bool kept = false;
    va_list values;
    enum hsm_status st = take(store);

    if (st != HSM_OK)
        return st;
    st = statement_get(store, sql, &statement, &kept);
    if (st == HSM_OK) {
        va_start(values, types);
        st = bind_all(store, statement, sql, types, &values);
        va_end(values);
        if (st == HSM_OK && sqlite3_column_count(statement) == 0) {
            hsm_log(HSM_LOG_ERROR, "store: gives no rows: %s", sql);
            st = HSM_ERR_USAGE;
        }
        if (st == HSM_OK)
            st = read_rows(store, statement, sql, out);
        statement_release(statement, kept);
    }
    give(store);
    return st;
}

bool
acme_rows_next(struct acme_rows *rows)
{
    if (rows->next > rows->count)
        return false;
    rows->next++;
    return rows->next <= rows->count;
}

size_t
acme_rows_count(const struct acme_rows *rows)
{
    return rows->count;
}

/* A cell of the current row; NULL before the first row, after the last, and past the columns. */
static const struct cell *
current(const struct acme_rows *rows, size_t column)
{
    if (rows->next == 0 || rows->next > rows->count || column >= rows->columns)
        return NULL;
    return &rows->cells[(rows->next - 1) * rows->columns + column];
}

const char *
acme_rows_text(const struct acme_rows *rows, size_t column)
{
    return (const char *)acme_rows_blob(rows, column, NULL);
}

int64_t
acme_rows_int(const struct acme_rows *rows, size_t column)
{
    const struct cell *cell = current(rows, column);

    return cell != NULL && cell->kind == CELL_INTEGER ? cell->integer : 0;
}

const uint8_t *
acme_rows_blob(const struct acme_rows *rows, size_t column, size_t *len)
{
    const struct cell *cell = current(rows, column);

    if (len != NULL)
        *len = 0;
    if (cell == NULL || cell->kind != CELL_OCTETS)
        return NULL;
    if (len != NULL)
        *len = cell->len;
    return rows->octets + cell->offset;
}

void
acme_rows_free(struct acme_rows *rows)
{
    if (rows == NULL)
        return;
    free(rows->cells);
    free(rows->octets);
    free(rows);
}
