/*
 * catalogue_internal.h - what the files of the catalogue share.
 */
#ifndef SKS_CATALOGUE_INTERNAL_H
#define SKS_CATALOGUE_INTERNAL_H

#include <sks/catalogue.h>

#include <acme/store.h>

struct sks_catalogue {
    struct acme_store *store;
};

/** A copy of a column's text, NULL for SQL NULL; false when out of memory. */
bool sks_catalogue_column(const struct acme_rows *rows, size_t column, char **out);

#endif
