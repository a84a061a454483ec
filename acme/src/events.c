/* events.c - the record of operators' and accounts' acts. */
#include <acme/events.h>

#include <inttypes.h>
#include <pwd.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include <hsm/defer.h>
#include <hsm/json.h>
#include <hsm/text.h>
#include <hsm/time.h>

#define CONFIGURED  "configured" /* the settings of a daemon at its start */
#define USER_MAX    64 /* octets of a user's name that are recorded */
#define RECORD_SIZE 4096 /* octets for getpwuid_r() */

/* The user from the process's uid: environment variables can be set to anything. */
static void
name_operator(char *out, size_t size)
{
    char record[RECORD_SIZE];
    struct passwd user;
    struct passwd *found = NULL;

    if (getpwuid_r(getuid(), &user, record, sizeof(record), &found) == 0 && found != NULL)
        snprintf(out, size, "operator %.*s", USER_MAX, user.pw_name);
    else
        snprintf(out, size, "operator uid %u", (unsigned)getuid());
}

enum hsm_status
acme_event_add(struct acme_store *store, const struct acme_event *event)
{
    char operator[USER_MAX + 16];

    if (event->who == NULL)
        name_operator(operator, sizeof(operator));
    return acme_store_run(
        store, NULL, "INSERT INTO event (at, who, what, subject, detail) VALUES (?, ?, ?, ?, ?)",
        "issss", (int64_t)event->at, event->who != NULL ? event->who : operator, event->what,
        event->subject, event->detail != NULL ? event->detail : "");
}

enum hsm_status
acme_event_commit(struct acme_store *store, enum hsm_status st, const struct acme_event *event)
{
    if (st == HSM_OK)
        st = acme_event_add(store, event);
    if (st == HSM_OK)
        return acme_store_commit(store);
    acme_store_rollback(store);
    return st;
}

/* Compare with the value at the last start; within a transaction. */
static enum hsm_status
is_same(struct acme_store *store, const char *name, const char *value, bool *same)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st = acme_store_query(store, &rows,
                                          "SELECT detail FROM event WHERE what = '" CONFIGURED
                                          "' AND subject = ? ORDER BY id DESC LIMIT 1",
                                          "s", name);

    if (st == HSM_OK)
        *same = acme_rows_next(rows) && strcmp(acme_rows_text(rows, 0), value) == 0;
    return st;
}

static enum hsm_status
tell_setting(struct acme_store *store, time_t at, const struct acme_event_setting *setting)
{
    const char *value = setting->value != NULL ? setting->value : "none";
    bool same = false;
    enum hsm_status st = is_same(store, setting->name, value, &same);

    if (st != HSM_OK || same)
        return st;
    return acme_event_add(
        store, &(struct acme_event){
                   .at = at, .what = CONFIGURED, .subject = setting->name, .detail = value});
}

enum hsm_status
acme_events_tell_start(struct acme_store *store, time_t at,
                       const struct acme_event_setting *settings, size_t count)
{
    enum hsm_status st = acme_store_begin(store);

    if (st != HSM_OK)
        return st;
    for (size_t i = 0; st == HSM_OK && i < count; i++)
        st = tell_setting(store, at, &settings[i]);
    if (st == HSM_OK)
        return acme_store_commit(store);
    acme_store_rollback(store);
    return st;
}

/* Parts of the texts come from clients: hsm_text_put() escapes them. */
static void
show_line(const struct acme_rows *rows, const char *at, FILE *to)
{
    fprintf(to, "%" PRId64 "  %s  ", acme_rows_int(rows, 0), at);
    for (size_t column = 2; column <= 5; column++) { /* who, what, subject, detail */
        const char *text = acme_rows_text(rows, column);

        if (column > 2 && *text != '\0')
            fputs(": ", to);
        hsm_text_put(text, to);
    }
    fputc('\n', to);
}

static enum hsm_status
show_object(const struct acme_rows *rows, const char *at, FILE *to)
{
    DEFER(json_decref)
    json_t *object =
        json_pack("{s:I, s:s, s:s, s:s, s:s, s:s}", "id", (json_int_t)acme_rows_int(rows, 0), "at",
                  at, "who", acme_rows_text(rows, 2), "what", acme_rows_text(rows, 3), "subject",
                  acme_rows_text(rows, 4), "detail", acme_rows_text(rows, 5));

    if (object == NULL || json_dumpf(object, to, JSON_COMPACT | JSON_ENSURE_ASCII) != 0)
        return HSM_ERR_NOMEM;
    fputc('\n', to);
    return HSM_OK;
}

enum hsm_status
acme_events_show(struct acme_store *store, int64_t limit, bool json, FILE *to)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st =
        limit < 1 || limit > ACME_EVENTS_SHOWN_MAX
            ? HSM_ERR_USAGE
            : acme_store_query(store, &rows,
                               "SELECT * FROM (SELECT id, at, who, what, subject, detail FROM event"
                               " ORDER BY id DESC LIMIT ?) AS latest ORDER BY id",
                               "i", limit);

    while (st == HSM_OK && acme_rows_next(rows)) {
        char at[HSM_TIME_LEN + 1];

        hsm_time_format((time_t)acme_rows_int(rows, 1), at);
        if (json)
            st = show_object(rows, at, to);
        else
            show_line(rows, at, to);
    }
    return st;
}
