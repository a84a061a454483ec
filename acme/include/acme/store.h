/*
 * store.h - durable state behind one small interface: in a file of SQLite
 * (WAL, synchronous=FULL) for the processes of one machine, or in a schema of
 * PostgreSQL for several machines.
 *
 * Threads may share a store: a transaction belongs to the thread that began it,
 * and the others wait. Several processes may share the place. With either engine
 * only one transaction of all processes writes at a time, and what it has read
 * does not change until it ends. So no transaction is refused because of another,
 * and reads outside of a transaction never wait. Rows are read whole, so no
 * cursor outlives a call.
 *
 * SQL is what SQLite and PostgreSQL both understand (a column called "user" is
 * quoted). Migrations use placeholders where the two differ:
 *
 *   {int}                64-bit integer          {octets}   octets
 *   {id}                 primary key that counts up by itself
 *   {strict}             behind CREATE TABLE(): types are enforced
 *   {append-only:table}  a statement: its rows cannot be changed or deleted
 */
#ifndef ACME_STORE_H
#define ACME_STORE_H

#include <semaphore.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include <hsm/defer.h>
#include <hsm/status.h>

struct acme_store;

/**
 * Open or create, and migrate forward.
 *
 * @param place       path of a file, or a libpq URI postgresql://... without a password, which
 *                    comes from a passfile. Unless the URI says otherwise, a server across the
 *                    network must prove its identity (sslmode=verify-full).
 * @param migrations  SQL scripts, NULL-terminated; the n-th brings version n-1 to n; each runs
 *                    once, in one transaction
 * @retval HSM_ERR_UNSUPPORTED  the store has a later version than this program knows
 * @retval HSM_ERR_USAGE        a URI with a password, or that libpq does not understand
 */
HSM_MUST_CHECK enum hsm_status acme_store_open(const char *place, const char *const *migrations,
                                               struct acme_store **out);
void acme_store_close(struct acme_store *store);
DEFINE_DEFER(struct acme_store, acme_store_close)

/** True if a place is a PostgreSQL URI; false: it is a path. */
bool acme_store_is_uri(const char *place);

/** True if the store is behind a network, so that a call may take long. */
bool acme_store_is_remote(const struct acme_store *store);

/*
 * Transactions: durable when commit has returned HSM_OK. A thread that has begun
 * one ends it with exactly one commit or rollback. After one of its statements has
 * failed (even with HSM_ERR_EXISTS) only rollback is possible: further statements
 * and commit return HSM_ERR_IO.
 *
 * Any call may return HSM_ERR_BUSY: another process writes for too long, or the
 * server is unavailable; a lost connection is re-established before the next
 * transaction. If commit fails, with any status, it is unknown whether the
 * transaction is durable.
 */
HSM_MUST_CHECK enum hsm_status acme_store_begin(struct acme_store *store);
HSM_MUST_CHECK enum hsm_status acme_store_commit(struct acme_store *store);
void acme_store_rollback(struct acme_store *store);
/** Commit if `st` is HSM_OK, else roll back. Returns `st`, or as acme_store_commit(). */
HSM_MUST_CHECK enum hsm_status acme_store_end(struct acme_store *store, enum hsm_status st);

/*
 * A unit of work that may share a transaction with those of other threads, in any
 * order and run by any of them, so that all are synced to disk at once (group
 * commit). A unit that fails is undone alone; for this the others may have to be
 * run again: `run` must not depend on how often it is called, and only the results
 * of its last run count. It must not begin, commit or roll back.
 */
struct acme_store_work {
    enum hsm_status (*run)(struct acme_store *store, void *context);
    void *context; /* borrowed */
    STAILQ_ENTRY(acme_store_work) others; /* the store's, like the members below */
    sem_t told;
    enum hsm_status status;
    bool is_queued; /* for the next transaction */
    bool is_awaited; /* its thread waits for it */
    bool leads; /* its thread must begin the next transaction */
};

STAILQ_HEAD(acme_store_works, acme_store_work);

/** Queue a unit of work, so that the next transaction of any thread includes it. `work` must not
 *  move before acme_store_wait() has returned, which is called once for each. */
void acme_store_ask(struct acme_store *store, struct acme_store_work *work);
/** Wait for it: durable on HSM_OK, else undone. Returns as run() or acme_store_commit(). */
HSM_MUST_CHECK enum hsm_status acme_store_wait(struct acme_store *store,
                                               struct acme_store_work *work);
/** acme_store_ask(), then acme_store_wait(). */
HSM_MUST_CHECK enum hsm_status
acme_store_together(struct acme_store *store,
                    enum hsm_status (*run)(struct acme_store *store, void *context), void *context);

/*
 * `types` gives the types of the arguments, one letter for each '?' of the SQL:
 *   s  const char * (NULL: SQL NULL)    i  int64_t    b  const void *, size_t (octets)
 */

/**
 * Run a statement that returns no rows.
 *
 * @param changes  may be NULL; receives the number of rows changed
 * @retval HSM_ERR_EXISTS  a UNIQUE or PRIMARY KEY constraint refused it
 */
HSM_MUST_CHECK enum hsm_status acme_store_run(struct acme_store *store, int64_t *changes,
                                              const char *sql, const char *types, ...);

struct acme_rows;

#define ACME_ROWS_MAX 100000 /* rows of one result; more: HSM_ERR_UNSUPPORTED */

/** Read all rows of a query. Within a transaction the query may also change rows (RETURNING). */
HSM_MUST_CHECK enum hsm_status acme_store_query(struct acme_store *store, struct acme_rows **out,
                                                const char *sql, const char *types, ...);

/** Run an INSERT that ends with "RETURNING id", within a transaction; *id receives the id. */
HSM_MUST_CHECK enum hsm_status acme_store_insert(struct acme_store *store, int64_t *id,
                                                 const char *sql, const char *types, ...);

/** The next row becomes current; false at the end. Starts before the first. */
bool acme_rows_next(struct acme_rows *rows);
size_t acme_rows_count(const struct acme_rows *rows);
/** Columns of the current row from 0; texts and blobs are borrowed until acme_rows_free(). */
const char *acme_rows_text(const struct acme_rows *rows, size_t column); /* NULL: SQL NULL */
int64_t acme_rows_int(const struct acme_rows *rows, size_t column);
const uint8_t *acme_rows_blob(const struct acme_rows *rows, size_t column, size_t *len);
void acme_rows_free(struct acme_rows *rows);
DEFINE_DEFER(struct acme_rows, acme_rows_free)

#endif
