/* store_internal.h - the interface between store.c and a backend. */
#ifndef ACME_STORE_INTERNAL_H
#define ACME_STORE_INTERNAL_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <acme/store.h>
#include <hsm/status.h>

#define STORE_BUSY_MS    10000 /* bound on waiting for a writer of another process */
#define STORE_VALUES_MAX 64 /* '?' per statement */

struct store_value {
    char type; /* 's', 'i', 'b' as in acme/store.h */
    int64_t integer;
    const void *octets; /* with a NUL behind for 's'; NULL: SQL NULL */
    size_t len;
};

struct store_call {
    const char *sql;
    size_t count;
    struct store_value values[STORE_VALUES_MAX];
};

/* "{name}" in a migration; "{name:table}" puts the table where the text has '@'. */
struct store_token {
    const char *name, *text;
};

/*
 * Calls are serialized. store.c ensures that begin() is called outside of a
 * transaction only, commit() and rollback() only within one, and only rollback()
 * after a call that failed within it.
 */
struct store_backend {
    const struct store_token *tokens; /* ends with a NULL name */

    enum hsm_status (*open)(const char *place, void **out);
    /* For an existing place: queries outside of a transaction only. */
    enum hsm_status (*open_reader)(const char *place, void **out);
    void (*close)(void *db);

    /* One writing transaction at a time among all processes. HSM_ERR_BUSY: try again later. */
    enum hsm_status (*begin)(void *db);
    /* Durable on success; on failure the transaction has ended, too. */
    enum hsm_status (*commit)(void *db);
    void (*rollback)(void *db);

    /* Also outside of a transaction: then it is a transaction of its own. */
    enum hsm_status (*run)(void *db, const struct store_call *call, int64_t *changes);
    /* Outside of a transaction it may only read. */
    enum hsm_status (*query)(void *db, const struct store_call *call, struct acme_rows **out);
    /* Several statements without values, within a transaction. */
    enum hsm_status (*script)(void *db, const char *text);

    enum hsm_status (*version)(void *db, int64_t *out); /* 0: a new store */
    enum hsm_status (*set_version)(void *db, int64_t version); /* within a transaction */
};

extern const struct store_backend acme_store_sqlite, acme_store_postgres;

/* ---- store_together.c ---- */

struct store_queue {
    pthread_mutex_t mutex;
    struct acme_store_works waiting; /* for the next transaction */
    bool is_led; /* a thread is running a transaction, or was chosen to begin the next */
};

void acme_store_queue_init(struct store_queue *queue);
void acme_store_queue_destroy(struct store_queue *queue);
struct store_queue *acme_store_queue_of(struct acme_store *store);

/** Set and release a savepoint within a transaction; one at a time. */
HSM_MUST_CHECK enum hsm_status acme_store_mark(struct acme_store *store);
HSM_MUST_CHECK enum hsm_status acme_store_unmark(struct acme_store *store);
/** Roll back to the savepoint; statements may follow, even after a failure. */
HSM_MUST_CHECK enum hsm_status acme_store_undo(struct acme_store *store);

/** A hash for the table of prepared statements. */
uint32_t acme_store_text_hash(const char *text);

/* ---- rows, filled by a backend: a row is begun, then each of its cells is added ---- */

/** NULL: out of memory. */
struct acme_rows *acme_store_rows_new(size_t columns);
/** @retval HSM_ERR_UNSUPPORTED  there are ACME_ROWS_MAX already; logged once, with the statement */
enum hsm_status acme_store_rows_begin(struct acme_rows *rows, const char *sql);
void acme_store_rows_null(struct acme_rows *rows);
void acme_store_rows_integer(struct acme_rows *rows, int64_t value);
enum hsm_status acme_store_rows_octets(struct acme_rows *rows, const void *octets, size_t len);

#endif
