/* store_fixture.h - a place for a store of each kind: a file in a directory, a schema of
 * PostgreSQL. */
#ifndef STORE_FIXTURE_H
#define STORE_FIXTURE_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <acme/store.h>

#include "postgres.h"

static char directory[] = "/tmp/sti-store.XXXXXX";
static char path[POSTGRES_URI_SIZE]; /* a file, or a URI */

static int
set_up_group(void **state)
{
    (void)state;
    if (mkdtemp(directory) == NULL)
        return -1;
    snprintf(path, sizeof(path), "%s/s.db", directory);
    return 0;
}

static int
tear_down_group(void **state)
{
    (void)state;
    return rmdir(directory);
}

static int
set_up_postgres(void **state)
{
    (void)state;
    postgres_uri("store", "", path);
    return 0;
}

/* Remove what a test has stored. */
static void
remove_files(void)
{
    static const char *const ends[] = {"", "-wal", "-shm"};
    char name[sizeof(path) + 8];

    if (acme_store_is_uri(path)) {
        postgres_sql("DROP SCHEMA store CASCADE; CREATE SCHEMA store");
        return;
    }
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        snprintf(name, sizeof(name), "%s%s", path, ends[i]);
        unlink(name);
    }
}

#endif
