/*
 * events.h - a record of every administrative act of an STI-CA or STI-PA, in an
 * append-only table of its store.
 */
#ifndef ACME_EVENTS_H
#define ACME_EVENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include <acme/store.h>
#include <hsm/status.h>

#define ACME_EVENTS_SHOWN_MAX 100000 /* printed at once */

/* For a table of migrations. The store itself refuses to change or delete a row. */
#define ACME_EVENTS_MIGRATION                                                                      \
    "CREATE TABLE event ("                                                                         \
    " id {id},"                                                                                    \
    " at {int} NOT NULL,"                                                                          \
    " who TEXT NOT NULL,"                                                                          \
    " what TEXT NOT NULL,"                                                                         \
    " subject TEXT NOT NULL,"                                                                      \
    " detail TEXT NOT NULL){strict};"                                                              \
    "{append-only:event}"

/* A later migration: an index for the latest event of a kind and subject. */
#define ACME_EVENTS_INDEX_MIGRATION "CREATE INDEX event_subject ON event (what, subject, id);"

struct acme_event {
    time_t at;
    const char *who; /* "operator root", "account 1234"; NULL: the user of this process */
    const char *what; /* "account suspended" */
    const char *subject; /* the object of the act */
    const char *detail; /* may be NULL */
};

/** Record an event, within the caller's transaction if there is one, so that act and event are
 *  atomic. */
HSM_MUST_CHECK enum hsm_status acme_event_add(struct acme_store *store,
                                              const struct acme_event *event);

/** End the caller's transaction: record the event and commit if `st` is HSM_OK, else roll back. */
HSM_MUST_CHECK enum hsm_status acme_event_commit(struct acme_store *store, enum hsm_status st,
                                                 const struct acme_event *event);

struct acme_event_setting {
    const char *name;
    const char *value; /* NULL: none */
};

/** Record the settings a daemon starts with, to document what was in force: an event "configured"
 *  for each value that differs from the last start. In its own transaction. */
HSM_MUST_CHECK enum hsm_status acme_events_tell_start(struct acme_store *store, time_t at,
                                                      const struct acme_event_setting *settings,
                                                      size_t count);

/**
 * Print the latest events, oldest first, one per line; with `json` as objects:
 * {"id","at" (RFC 3339),"who","what","subject","detail"}.
 *
 * @param limit  the most to print, 1 to ACME_EVENTS_SHOWN_MAX
 */
HSM_MUST_CHECK enum hsm_status acme_events_show(struct acme_store *store, int64_t limit, bool json,
                                                FILE *to);

#endif
