/* store_rows.c - the complete rows of a query, independent of the backend. */
#include <acme/store.h>

#include <stdlib.h>
#include <string.h>

#include <hsm/log.h>

#include "store_internal.h"

#define CELLS_FIRST  64 /* cells of the first allocation */
#define OCTETS_FIRST 4096 /* octets of the first allocation */

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
    size_t cells_used, cells_size;
    uint8_t *octets;
    size_t octets_len, octets_size;
};

struct acme_rows *
acme_store_rows_new(size_t columns)
{
    struct acme_rows *rows = calloc(1, sizeof(*rows));

    if (rows != NULL)
        rows->columns = columns;
    return rows;
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

enum hsm_status
acme_store_rows_begin(struct acme_rows *rows, const char *sql)
{
    if (rows->count == ACME_ROWS_MAX) {
        hsm_log(HSM_LOG_ERROR, "store: more than %d rows: %s", ACME_ROWS_MAX, sql);
        return HSM_ERR_UNSUPPORTED;
    }
    if (!reserve((void **)&rows->cells, &rows->cells_size, rows->cells_used, rows->columns,
                 sizeof(*rows->cells), CELLS_FIRST))
        return HSM_ERR_NOMEM;
    rows->count++;
    return HSM_OK;
}

static struct cell *
next_cell(struct acme_rows *rows, enum cell_kind kind)
{
    struct cell *cell = &rows->cells[rows->cells_used++];

    *cell = (struct cell){.kind = kind};
    return cell;
}

void
acme_store_rows_null(struct acme_rows *rows)
{
    (void)next_cell(rows, CELL_NULL);
}

void
acme_store_rows_integer(struct acme_rows *rows, int64_t value)
{
    next_cell(rows, CELL_INTEGER)->integer = value;
}

enum hsm_status
acme_store_rows_octets(struct acme_rows *rows, const void *octets, size_t len)
{
    struct cell *cell;

    if (!reserve((void **)&rows->octets, &rows->octets_size, rows->octets_len, len + 1, 1,
                 OCTETS_FIRST))
        return HSM_ERR_NOMEM;
    cell = next_cell(rows, CELL_OCTETS);
    cell->offset = rows->octets_len;
    cell->len = len;
    if (len > 0)
        memcpy(rows->octets + rows->octets_len, octets, len);
    rows->octets[rows->octets_len + len] = '\0';
    rows->octets_len += len + 1;
    return HSM_OK;
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
