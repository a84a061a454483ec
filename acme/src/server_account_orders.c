/*
 * server_account_orders.c - the list of an account's orders (RFC 8555 section 7.1.2.1).
 *
 * Open orders come first, then fulfilled ones, the newest first in each part: a client that has
 * lost an order finds it on the first page, however many orders the account has.
 */
#include "server_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define WANTED (ACME_ORDERS_PAGE + 1) /* one more row shows that more follow */

enum part {
    OPEN,
    FULFILLED,
    PARTS
};

/* An order of the list. */
struct place {
    enum part part;
    int64_t created;
    char id[ACME_ID_LEN + 1];
};

struct page {
    struct place places[WANTED];
    size_t count;
};

/* ---- the cursor ---- */

static const char marks[PARTS + 1] = "of";

/* "cursor=PART.CREATED.ID": the page begins after this order, whether or not it still exists.
 * Without a cursor the page is the first. */
static bool
take_cursor(struct acme_call *call, struct place *after)
{
    const char *query = acme_http_request_query(call->request);
    char mark = '\0';
    int end = 0;

    *after = (struct place){.part = OPEN, .created = INT64_MAX};
    if (query == NULL)
        return true;
    if (sscanf(query, "cursor=%c.%15" SCNd64 ".%22[A-Za-z0-9_-]%n", &mark, &after->created,
               after->id, &end) == 3 &&
        query[end] == '\0' && mark != '\0' && strchr(marks, mark) != NULL) {
        after->part = (enum part)(strchr(marks, mark) - marks);
        return true;
    }
    acme_call_refuse(call, ACME_MALFORMED, 400, "cursor: not one that this server gave");
    return false;
}

/* ---- reading ---- */

static enum hsm_status
read_part(struct acme_call *call, enum part part, const struct place *after, struct page *page)
{
#define READ(states)                                                                               \
    "SELECT id, created FROM acme_order WHERE account = ? AND status IN (" states ") AND"          \
    " (created < ? OR (created = ? AND id > ?)) ORDER BY created DESC, id LIMIT ?"
    static const char *const sql[PARTS] = {
        [OPEN] = READ("'" ACME_PENDING "', '" ACME_READY "', '" ACME_PROCESSING "'"),
        [FULFILLED] = READ("'" ACME_VALID "'"),
    };
#undef READ
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    const struct place first = {.created = INT64_MAX};
    const struct place *from = part == after->part ? after : &first;
    enum hsm_status st =
        acme_store_query(call->server->config.store, &rows, sql[part], "siisi", call->account,
                         from->created, from->created, from->id, (int64_t)(WANTED - page->count));

    while (st == HSM_OK && acme_rows_next(rows)) {
        struct place *place = &page->places[page->count++];

        place->part = part;
        place->created = acme_rows_int(rows, 1);
        snprintf(place->id, sizeof(place->id), "%s", acme_rows_text(rows, 0));
    }
    return st;
}

static enum hsm_status
read_page(struct acme_call *call, const struct place *after, struct page *page)
{
    enum hsm_status st = HSM_OK;

    for (int part = (int)after->part; st == HSM_OK && part < PARTS && page->count < WANTED; part++)
        st = read_part(call, (enum part)part, after, page);
    return st;
}

/* ---- the response ---- */

static void
add_next(struct acme_call *call, const struct place *last)
{
    char url[ACME_URL_MAX + 1], rest[ACME_ID_LEN + 64];

    snprintf(rest, sizeof(rest), "/orders?cursor=%c.%" PRId64 ".%s", marks[last->part],
             last->created, last->id);
    acme_server_url(call->server, "acct", call->account, rest, url);
    acme_call_link(call, url, "next");
}

static json_t *
order_urls(struct acme_call *call, const struct page *page)
{
    json_t *urls = json_array();
    char url[ACME_URL_MAX + 1];

    for (size_t i = 0; urls != NULL && i < ACME_ORDERS_PAGE && i < page->count; i++) {
        acme_server_url(call->server, "order", page->places[i].id, NULL, url);
        if (json_array_append_new(urls, json_string(url)) != 0) {
            json_decref(urls);
            return NULL;
        }
    }
    return urls;
}

void
acme_account_orders(struct acme_call *call)
{
    struct page page = {.count = 0};
    struct place after;
    json_t *urls;
    enum hsm_status st;

    if (!acme_account_is_own(call) || !acme_call_wants_read(call) || !take_cursor(call, &after))
        return;
    st = read_page(call, &after, &page);
    if (st != HSM_OK) {
        acme_call_fault(call, st);
        return;
    }
    if (page.count == WANTED)
        add_next(call, &page.places[ACME_ORDERS_PAGE - 1]);
    urls = order_urls(call, &page);
    acme_call_json(call, 200, urls != NULL ? json_pack("{s:o}", "orders", urls) : NULL);
}
