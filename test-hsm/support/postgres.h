/*
 * postgres.h - a PostgreSQL server for one test program, in its own directory, on a Unix socket.
 *
 * As the server refuses to run as root, it then runs as "nobody". It ends with
 * the process that started it. A process has at most one.
 */
#ifndef TEST_POSTGRES_H
#define TEST_POSTGRES_H

#include <stdbool.h>
#include <stddef.h>

#define POSTGRES_URI_SIZE 512

/** Start it unless it runs. False: Debian's package "postgresql" is not installed. Aborts on any
 * other failure. */
bool postgres_start(void);

/** End it and remove its directory; does nothing if no server runs. */
void postgres_stop(void);

/** Kill it and start it again, as after a crash of its machine. */
void postgres_restart(void);

/** The URI of a schema, which is created if absent. `more` is appended: "&passfile=...". */
void postgres_uri(const char *schema, const char *more, char out[POSTGRES_URI_SIZE]);

/** Run statements as its administrator; aborts if one fails. */
void postgres_sql(const char *sql);

/**
 * The place of a fixture's store: `path`, or with $STI_TEST_STORE = "postgresql" the
 * URI of a schema named for this path.
 */
const char *postgres_or_file(const char *path);

#endif
