/*
 * store.h - durable state behind one small interface: in a file of SQLite
 * (WAL, synchronous=FULL) for the processes of one machine, or in a schema of
 * PostgreSQL for several machines.
 *
 * Threads may share a store: a transaction belongs to the thread that began it
 * and the others wait. Several processes may share the place. In both kinds one
 * transaction writes at a time, of all processes, and what it reads stays so
 * until it ends; so none is refused because of what another one did, and reading
 * outside of a transaction waits for nobody. Rows are read whole, so no cursor
 * outlives a call.
 *
 * SQL is what SQLite and PostgreSQL both understand (a column called "user" is
 * quoted). Migrations name what they call differently:
 *
 *   {int}                64-bit integer          {octets}   octets
 *   {id}                 primary key that counts up by itself
 *   {strict}             behind CREATE TABLE(): types are enforced
 *   {append-only:table}  a statement: no row of it is changed or deleted
 */
#ifndef ACME_STORE_H
#define ACME_STORE_H

#include <semaphore.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include <hsm/status.h>

struct acme_store;

/**
 * Open or create, and migrate forward.
 *
 * @param place  path of a file; or a URI postgresql://... of libpq without a password, which
 * comes from its passfile. Unless the URI says otherwise a server across the network proves itself
 * (sslmode=verify-full).
 * @param migrations  SQL scripts, NULL-terminated; the n-th brings version n-1 to n; each runs
 * once, in one transaction
 * @retval HSM_ERR_UNSUPPORTED  it is of a later version than this program knows
 * @retval HSM_ERR_USAGE        a URI with a password, or that libpq does not understand
 */
HSM_MUST_CHECK enum hsm_status acme_store_open(const char *place, const char *const *migrations,
                                               struct acme_store **out);
void acme_store_close(struct acme_store *store);

/** True: a place is PostgreSQL's by its scheme; false: it is a path. */
bool acme_store_is_uri(const char *place);

/** True: it is behind a network, which may be silent for long. */
bool acme_store_is_remote(const struct acme_store *store);

/*
 * Transactions: durable when commit returned HSM_OK. A thread that has begun one
 * ends it with exactly one of commit and rollback. After a statement of it has
 * failed (HSM_ERR_EXISTS too) there is nothing left but rollback: statements
 * and commit give HSM_ERR_IO.
 *
 * HSM_ERR_BUSY of any call: another process writes for too long, or the server is
 * away; a lost connection is made anew before the next transaction. Of a commit
 * that failed, HSM_ERR_BUSY or other, it is not known whether it is durable.
 */
HSM_MUST_CHECK enum hsm_status acme_store_begin(struct acme_store *store);
HSM_MUST_CHECK enum hsm_status acme_store_commit(struct acme_store *store);
void acme_store_rollback(struct acme_store *store);
/** Commit when `st` is HSM_OK, else roll back. @retval st, or as acme_store_commit() */
HSM_MUST_CHECK enum hsm_status acme_store_end(struct acme_store *store, enum hsm_status st);

/*
 * A work is a part of a transaction that may be made together with those of
 * other threads, in any order and by any of them: then the disk takes all of
 * them at once. A work that fails is undone alone, and the others may be run
 * again for that: so what it leaves outside of the store is what its last run
 * said. It begins, commits and rolls back nothing.
 */
struct acme_store_work {
    enum hsm_status (*run)(struct acme_store *store, void *context);
    void *context; /* borrowed */
    STAILQ_ENTRY(acme_store_work) others; /* these are the store's */
    sem_t told;
    enum hsm_status status;
    bool is_queued; /* for the next transaction */
    bool is_awaited; /* its thread does nothing else any more */
    bool leads; /* its thread is to begin the next transaction */
};

STAILQ_HEAD(acme_store_works, acme_store_work);

/** Say that a work is to be done, so that a transaction that others begin meanwhile takes it along;
 *  it stays where it is until acme_store_wait() has returned: once for each. */
void acme_store_ask(struct acme_store *store, struct acme_store_work *work);
/** Durable when it returned HSM_OK, else undone. @retval as run() or acme_store_commit() */
HSM_MUST_CHECK enum hsm_status acme_store_wait(struct acme_store *store,
                                               struct acme_store_work *work);
/** Both, one after the other. */
HSM_MUST_CHECK enum hsm_status
acme_store_together(struct acme_store *store,
                    enum hsm_status (*run)(struct acme_store *store, void *context), void *context);

/*
 * `types` says what follows, one letter for each '?' of the SQL:
 *   s  const char * (NULL: SQL NULL)    i  int64_t    b  const void *, size_t (octets)
 */

/** Run a statement that gives no rows. *changes (may be NULL) receives the rows changed.
 *  @retval HSM_ERR_EXISTS  a UNIQUE or PRIMARY KEY constraint refused it */
HSM_MUST_CHECK enum hsm_status acme_store_run(struct acme_store *store, int64_t *changes,
                                              const char *sql, const char *types, ...);

struct acme_rows;

#define ACME_ROWS_MAX 100000 /* rows of one answer; more: HSM_ERR_UNSUPPORTED */

/** Read all rows of a query; only within a transaction it may change some (RETURNING). */
HSM_MUST_CHECK enum hsm_status acme_store_query(struct acme_store *store, struct acme_rows **out,
                                                const char *sql, const char *types, ...);

/** An INSERT that ends with "RETURNING id", within a transaction; *id receives that. */
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

#endif
