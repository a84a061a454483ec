/* store.c - the store: locking, migrations, transactions and statements; a backend does the
 * rest. */
#include <acme/store.h>

#include <assert.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <hsm/defer.h>
#include <hsm/log.h>

#include "store_internal.h"

#define TOKEN_MAX 64 /* octets between the braces of a migration */

struct acme_store {
    const struct store_backend *backend;
    void *db; /* owned by the backend */
    void *reader; /* a second connection, for threads that read during a transaction of another */
    pid_t owner; /* a connection does not survive fork() */
    pthread_mutex_t mutex; /* recursive: held through a transaction and, inside it, by each call */
    pthread_mutex_t reading; /* guards the reader */
    struct store_queue queue;
    bool in_transaction;
    bool has_failed; /* a statement of the transaction has failed: no other may run in it */
};

/* FNV-1a */
uint32_t
acme_store_text_hash(const char *text)
{
    uint32_t hash = 2166136261u;

    for (; *text != '\0'; text++)
        hash = (hash ^ (unsigned char)*text) * 16777619u;
    return hash;
}

bool
acme_store_is_uri(const char *place)
{
    return strncmp(place, "postgresql://", 13) == 0 || strncmp(place, "postgres://", 11) == 0;
}

bool
acme_store_is_remote(const struct acme_store *store)
{
    return store->backend == &acme_store_postgres;
}

/* ---- migrations ---- */

/* Write the expansion of "{name}" or "{name:table}", which begins at the brace; returns its length,
 * 0: unknown. */
static size_t
expand_token(const struct store_backend *backend, const char *at, FILE *to)
{
    char word[TOKEN_MAX + 1];
    size_t len = strcspn(at, "}");
    char *table;

    if (at[len] != '}' || len > TOKEN_MAX)
        return 0;
    snprintf(word, sizeof(word), "%.*s", (int)len - 1, at + 1);
    table = strchr(word, ':');
    if (table != NULL)
        *table++ = '\0';
    for (const struct store_token *token = backend->tokens; token->name != NULL; token++) {
        if (strcmp(token->name, word) != 0)
            continue;
        for (const char *text = token->text; *text != '\0'; text++) {
            if (*text == '@' && table != NULL)
                fputs(table, to);
            else
                fputc(*text, to);
        }
        return len + 1;
    }
    return 0;
}

static enum hsm_status
expand(const struct store_backend *backend, const char *script, char **out)
{
    size_t size = 0;
    FILE *to = open_memstream(out, &size);
    bool good = to != NULL;

    while (good && *script != '\0') {
        size_t plain = strcspn(script, "{");
        size_t token = 0;

        fwrite(script, 1, plain, to);
        script += plain;
        if (*script == '{') {
            token = expand_token(backend, script, to);
            good = token > 0;
        }
        script += token;
    }
    if (to == NULL || fclose(to) != 0)
        return HSM_ERR_NOMEM;
    if (good)
        return HSM_OK;
    hsm_log(HSM_LOG_ERROR, "store: no such token of a migration: %.*s", TOKEN_MAX, script);
    return HSM_ERR_USAGE;
}

/* Bring the store from version n to n + 1, unless another process has done so. */
static enum hsm_status
migrate_once(struct acme_store *store, const char *script, int64_t n)
{
    DEFER(free) char *text = NULL;
    int64_t version = 0;
    enum hsm_status st = expand(store->backend, script, &text);

    if (st == HSM_OK)
        st = acme_store_begin(store);
    if (st != HSM_OK)
        return st;
    st = store->backend->version(store->db, &version);
    if (st == HSM_OK && version == n) {
        st = store->backend->script(store->db, text);
        if (st == HSM_OK)
            st = store->backend->set_version(store->db, n + 1);
    }
    return acme_store_end(store, st);
}

static enum hsm_status
migrate(struct acme_store *store, const char *place, const char *const *migrations)
{
    int64_t known = 0;
    int64_t version = 0;
    enum hsm_status st = store->backend->version(store->db, &version);

    while (migrations[known] != NULL)
        known++;
    while (st == HSM_OK && version < known) {
        st = migrate_once(store, migrations[version], version);
        if (st == HSM_OK)
            st = store->backend->version(store->db, &version);
    }
    if (st == HSM_OK && version > known) {
        hsm_log(HSM_LOG_ERROR, "%s: version %lld, this program knows %lld", place,
                (long long)version, (long long)known);
        return HSM_ERR_UNSUPPORTED;
    }
    return st;
}

/* ---- open and close ---- */

static enum hsm_status
store_new(const struct store_backend *backend, struct acme_store **out)
{
    struct acme_store *store = calloc(1, sizeof(*store));
    pthread_mutexattr_t recursive;

    if (store == NULL)
        return HSM_ERR_NOMEM;
    store->backend = backend;
    store->owner = getpid();
    pthread_mutexattr_init(&recursive);
    pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&store->mutex, &recursive);
    pthread_mutexattr_destroy(&recursive);
    pthread_mutex_init(&store->reading, NULL);
    acme_store_queue_init(&store->queue);
    *out = store;
    return HSM_OK;
}

enum hsm_status
acme_store_open(const char *place, const char *const *migrations, struct acme_store **out)
{
    DEFER(acme_store_close) struct acme_store *store = NULL;
    enum hsm_status st =
        store_new(acme_store_is_uri(place) ? &acme_store_postgres : &acme_store_sqlite, &store);

    if (st == HSM_OK)
        st = store->backend->open(place, &store->db);
    if (st == HSM_OK)
        st = migrate(store, place, migrations);
    if (st == HSM_OK)
        st = store->backend->open_reader(place, &store->reader);
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
    if (store->db != NULL)
        store->backend->close(store->db);
    if (store->reader != NULL)
        store->backend->close(store->reader);
    acme_store_queue_destroy(&store->queue);
    pthread_mutex_destroy(&store->reading);
    pthread_mutex_destroy(&store->mutex);
    free(store);
}

struct store_queue *
acme_store_queue_of(struct acme_store *store)
{
    return &store->queue;
}

/* ---- transactions ---- */

static bool
is_of_this_process(const struct acme_store *store)
{
    if (store->owner == getpid())
        return true;
    hsm_log(HSM_LOG_ERROR, "store: opened by another process, before fork()");
    return false;
}

/* With the mutex held: refuse if the transaction has failed. */
static enum hsm_status
check_taken(struct acme_store *store)
{
    if (store->in_transaction && store->has_failed) {
        hsm_log(HSM_LOG_ERROR, "store: a statement of the transaction has failed");
        pthread_mutex_unlock(&store->mutex);
        return HSM_ERR_IO;
    }
    return HSM_OK;
}

/* Lock the store for this thread. */
static enum hsm_status
take(struct acme_store *store)
{
    if (!is_of_this_process(store))
        return HSM_ERR_USAGE;
    pthread_mutex_lock(&store->mutex);
    return check_taken(store);
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
    st = store->backend->begin(store->db);
    if (st != HSM_OK) {
        give(store);
        return st;
    }
    store->in_transaction = true;
    store->has_failed = false;
    return HSM_OK; /* the mutex stays locked until commit or rollback */
}

static void
end_transaction(struct acme_store *store)
{
    store->in_transaction = false;
    give(store); /* the lock of acme_store_begin() */
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
    if (store->has_failed) {
        hsm_log(HSM_LOG_ERROR, "store: not committed: a statement has failed");
        store->backend->rollback(store->db);
        st = HSM_ERR_IO;
    } else {
        st = store->backend->commit(store->db);
    }
    end_transaction(store);
    give(store);
    return st;
}

void
acme_store_rollback(struct acme_store *store)
{
    pthread_mutex_lock(&store->mutex);
    if (store->in_transaction) {
        store->backend->rollback(store->db);
        end_transaction(store);
    }
    give(store);
}

enum hsm_status
acme_store_end(struct acme_store *store, enum hsm_status st)
{
    if (st == HSM_OK)
        return acme_store_commit(store);
    acme_store_rollback(store);
    return st;
}

#define MARK "SAVEPOINT marked"

enum hsm_status
acme_store_mark(struct acme_store *store)
{
    return store->backend->script(store->db, MARK);
}

enum hsm_status
acme_store_unmark(struct acme_store *store)
{
    return store->backend->script(store->db, "RELEASE " MARK);
}

enum hsm_status
acme_store_undo(struct acme_store *store)
{
    enum hsm_status st = store->backend->script(store->db, "ROLLBACK TO " MARK);

    if (st != HSM_OK)
        return st;
    store->has_failed = false;
    return acme_store_unmark(store);
}

/* ---- statements ---- */

static enum hsm_status
take_values(struct store_call *call, const char *types, va_list *values)
{
    call->count = strnlen(types, STORE_VALUES_MAX + 1);
    if (call->count > STORE_VALUES_MAX || strspn(types, "sib") != call->count) {
        hsm_log(HSM_LOG_ERROR, "store: types \"%s\" do not fit: %s", types, call->sql);
        return HSM_ERR_USAGE;
    }
    for (size_t i = 0; i < call->count; i++) {
        struct store_value *value = &call->values[i];

        *value = (struct store_value){.type = types[i]};
        if (types[i] == 'i') {
            value->integer = va_arg(*values, int64_t);
            continue;
        }
        value->octets = va_arg(*values, const void *);
        if (types[i] == 'b')
            value->len = va_arg(*values, size_t);
    }
    return HSM_OK;
}

static enum hsm_status
run(struct acme_store *store, const struct store_call *call, int64_t *changes)
{
    int64_t changed = 0;
    enum hsm_status st = take(store);

    if (st != HSM_OK)
        return st;
    st = store->backend->run(store->db, call, &changed);
    if (st == HSM_OK && changes != NULL)
        *changes = changed;
    if (st != HSM_OK)
        store->has_failed = true;
    give(store);
    return st;
}

enum hsm_status
acme_store_run(struct acme_store *store, int64_t *changes, const char *sql, const char *types, ...)
{
    struct store_call call;
    va_list values;
    enum hsm_status st;

    call.sql = sql;
    va_start(values, types);
    st = take_values(&call, types, &values);
    va_end(values);
    return st == HSM_OK ? run(store, &call, changes) : st;
}

static enum hsm_status
query_taken(struct acme_store *store, const struct store_call *call, struct acme_rows **out)
{
    enum hsm_status st = check_taken(store);

    if (st != HSM_OK)
        return st;
    st = store->backend->query(store->db, call, out);
    if (st != HSM_OK)
        store->has_failed = true;
    give(store);
    return st;
}

/* The statement runs on the main connection if this thread can lock it at once (also within its own
 * transaction). Otherwise another thread has it, perhaps waiting for the disk, and the reader is
 * used. */
static enum hsm_status
query(struct acme_store *store, const struct store_call *call, struct acme_rows **out)
{
    enum hsm_status st;

    if (!is_of_this_process(store))
        return HSM_ERR_USAGE;
    if (pthread_mutex_trylock(&store->mutex) == 0)
        return query_taken(store, call, out);
    pthread_mutex_lock(&store->reading);
    st = store->backend->query(store->reader, call, out);
    pthread_mutex_unlock(&store->reading);
    return st;
}

enum hsm_status
acme_store_query(struct acme_store *store, struct acme_rows **out, const char *sql,
                 const char *types, ...)
{
    struct store_call call;
    va_list values;
    enum hsm_status st;

    call.sql = sql;
    va_start(values, types);
    st = take_values(&call, types, &values);
    va_end(values);
    return st == HSM_OK ? query(store, &call, out) : st;
}

enum hsm_status
acme_store_insert(struct acme_store *store, int64_t *id, const char *sql, const char *types, ...)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    struct store_call call;
    va_list values;
    enum hsm_status st;

    assert(store->in_transaction); /* else the reader might be used, which cannot write */
    call.sql = sql;
    va_start(values, types);
    st = take_values(&call, types, &values);
    va_end(values);
    if (st == HSM_OK)
        st = query(store, &call, &rows);
    if (st == HSM_OK && acme_rows_next(rows))
        *id = acme_rows_int(rows, 0);
    return st;
}
