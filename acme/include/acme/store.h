/*
 * store.h - durable state in SQLite (WAL, synchronous=FULL), behind one small interface.
 *
 * Threads may share a store: a transaction belongs to the thread that began it
 * and the others wait. Several processes may share the file. Rows are read
 * whole, so no cursor outlives a call.
 */
#ifndef ACME_STORE_H
#define ACME_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <hsm/status.h>

struct acme_store;

/**
 * Open or create, and migrate forward.
 *
 * @param migrations  SQL scripts, NULL-terminated; the n-th brings version n-1 to n; each runs
 * once, in one transaction
 * @retval HSM_ERR_UNSUPPORTED  the file is of a later version than this program knows
 */
HSM_MUST_CHECK enum hsm_status acme_store_open(const char *path, const char *const *migrations,
                                               struct acme_store **out);
void acme_store_close(struct acme_store *store);

/*
 * Transactions: BEGIN IMMEDIATE and COMMIT; durable when commit returned
 * HSM_OK. A thread that has begun one ends it with exactly one of commit and rollback.
 */
HSM_MUST_CHECK enum hsm_status acme_store_begin(struct acme_store *store);
HSM_MUST_CHECK enum hsm_status acme_store_commit(struct acme_store *store);
void acme_store_rollback(struct acme_store *store);

/*
 * `types` says what follows, one letter for each '?' of the SQL:
 *   s  const char * (NULL: SQL NULL)    i  int64_t    b  const void *, size_t (octets)
 */

/** Run a statement that gives no rows. *changes (may be NULL) receives the rows changed.
 *  @retval HSM_ERR_EXISTS  a UNIQUE or PRIMARY KEY constraint refused it */
HSM_MUST_CHECK enum hsm_status acme_store_run(struct acme_store *store, int64_t *changes,
                                              const char *sql, const char *types, ...);

/** The rowid of this thread's last INSERT. */
int64_t acme_store_last_id(struct acme_store *store);

struct acme_rows;

#define ACME_ROWS_MAX 100000 /* rows of one answer; more: HSM_ERR_UNSUPPORTED */

/** Read all rows of a query. */
HSM_MUST_CHECK enum hsm_status acme_store_query(struct acme_store *store, struct acme_rows **out,
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
