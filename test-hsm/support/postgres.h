/*
 * postgres.h - a PostgreSQL server of the test's own, in a directory of its own, on a Unix socket.
 *
 * The server refuses to run as root: then it is the user "nobody". It ends with
 * the process that started it. A process has one.
 */
#ifndef TEST_POSTGRES_H
#define TEST_POSTGRES_H

#include <stdbool.h>
#include <stddef.h>

#define POSTGRES_URI_SIZE 512

/** Start it unless it runs. False: Debian's package "postgresql" is not there; aborts otherwise. */
bool postgres_start(void);

/** End it and remove its directory; nothing to do when none runs. */
void postgres_stop(void);

/** End it at once and start it again, as after a crash of its machine. */
void postgres_restart(void);

/** The URI of a schema, which is made if it is not there. `more` goes behind: "&passfile=...". */
void postgres_uri(const char *schema, const char *more, char out[POSTGRES_URI_SIZE]);

/** Run statements as its administrator; aborts if one fails. */
void postgres_sql(const char *sql);

/**
 * Where a fixture's store is: `path`, or with $STI_TEST_STORE = "postgresql" the
 * schema that stands for that path.
 */
const char *postgres_or_file(const char *path);

#endif
