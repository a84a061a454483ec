/*
 * authority_decide.c - record and decide a revocation request.
 *
 * A decision is durable before the CRL is signed with it. No request takes an
 * entry off the CRL: a later request may state that the certificate ends later
 * than recorded; that it ends earlier counts only when the certificate itself is
 * shown for the first time.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <acme/events.h>
#include <hsm/defer.h>

#include "authority_revoke_internal.h"

/** A row of the table; id 0: there is no row yet. */
struct request {
    int64_t id;
    enum authority_state state;
    time_t not_after; /* 0: not known */
    bool is_end_shown;
    bool is_dropped; /* no longer on any CRL */
};

static const char *const state_texts[] = {
    [AUTHORITY_IS_QUEUED] = AUTHORITY_STATE_QUEUED,
    [AUTHORITY_IS_REVOKED] = AUTHORITY_STATE_REVOKED,
    [AUTHORITY_IS_REFUSED] = AUTHORITY_STATE_REFUSED,
};

const char *
acme_authority_state_text(enum authority_state state)
{
    return state_texts[state];
}

static enum authority_state
state_of(const char *text)
{
    if (strcmp(text, AUTHORITY_STATE_REVOKED) == 0)
        return AUTHORITY_IS_REVOKED;
    return strcmp(text, AUTHORITY_STATE_REFUSED) == 0 ? AUTHORITY_IS_REFUSED : AUTHORITY_IS_QUEUED;
}

static enum hsm_status
find_request(struct acme_store *store, const struct authority_plea *plea, struct request *out)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st = acme_store_query(
        store, &rows,
        "SELECT id, state, coalesce(not_after, 0), end_shown, CASE WHEN dropped IS NULL THEN 0"
        " ELSE 1 END FROM revocation WHERE issuer = ? AND serial = ?",
        "bb", plea->issuer, plea->issuer_len, plea->serial, plea->serial_len);

    if (st != HSM_OK)
        return st;
    *out = (struct request){.id = 0, .state = AUTHORITY_IS_QUEUED};
    if (acme_rows_next(rows))
        *out = (struct request){.id = acme_rows_int(rows, 0),
                                .state = state_of(acme_rows_text(rows, 1)),
                                .not_after = (time_t)acme_rows_int(rows, 2),
                                .is_end_shown = acme_rows_int(rows, 3) != 0,
                                .is_dropped = acme_rows_int(rows, 4) != 0};
    return HSM_OK;
}

/* ---- whether to decide or list again ---- */

/* An operator's refusal does not bind the STI-CA that issued the certificate. */
static bool
may_decide_at_once(const struct authority_plea *plea, const struct request *request)
{
    if (!plea->is_automatic || request->state == AUTHORITY_IS_REVOKED)
        return false;
    return request->state == AUTHORITY_IS_QUEUED || plea->asker != AUTHORITY_SP;
}

/* The entry was left out of the CRL because a request stated that the certificate had ended, and
 * this request states otherwise. */
static bool
is_listed_again(const struct authority_plea *plea, const struct request *request, int64_t now)
{
    return request->state == AUTHORITY_IS_REVOKED && request->is_dropped &&
           (plea->is_end_shown || !request->is_end_shown) &&
           (plea->not_after == 0 || plea->not_after >= now);
}

/* ---- when the certificate ends ---- */

static bool
says_later(const struct authority_plea *plea, const struct request *request)
{
    return request->not_after != 0 &&
           (plea->not_after == 0 || plea->not_after > request->not_after);
}

/* Nobody may take an entry off the CRL early by stating an early notAfter. So once a request is
 * recorded, an asserted notAfter can only move its end later (0, unknown, is latest of all). A
 * notAfter read from the certificate replaces an asserted one; after that only a later one that was
 * read from a certificate counts. */
static bool
is_end_learned(const struct authority_plea *plea, const struct request *request)
{
    if (plea->is_end_shown)
        return !request->is_end_shown || plea->not_after > request->not_after;
    return !request->is_end_shown && says_later(plea, request);
}

static enum hsm_status
learn_end(struct acme_store *store, const struct authority_plea *plea,
          const struct request *request)
{
    if (!is_end_learned(plea, request))
        return HSM_OK;
    return acme_store_run(store, NULL,
                          "UPDATE revocation SET not_after = nullif(?, 0), end_shown = ?,"
                          " outlived = NULL WHERE id = ?",
                          "iii", (int64_t)plea->not_after, (int64_t)plea->is_end_shown,
                          request->id);
}

/* ---- the row ---- */

static enum hsm_status
insert_request(struct acme_store *store, const struct authority_plea *plea, int64_t now,
               int64_t *id)
{
    return acme_store_insert(
        store, id,
        "INSERT INTO revocation (issuer, serial, reason, requester, account, state, asked,"
        " not_after, end_shown, by_operator) VALUES (?, ?, ?, ?, ?, '" AUTHORITY_STATE_QUEUED
        "', ?, nullif(?, 0), ?, ?)"
        " RETURNING id",
        "bbissiiii", plea->issuer, plea->issuer_len, plea->serial, plea->serial_len,
        (int64_t)plea->reason, plea->requester, plea->account, now, (int64_t)plea->not_after,
        (int64_t)plea->is_end_shown, (int64_t)(plea->asker == AUTHORITY_OPERATOR));
}

/* An immediate decision replaces the requester of the queued request. */
static enum hsm_status
take_over(struct acme_store *store, const struct authority_plea *plea, int64_t id)
{
    return acme_store_run(store, NULL,
                          "UPDATE revocation SET reason = ?, requester = ?, account = ?,"
                          " by_operator = ? WHERE id = ?",
                          "issii", (int64_t)plea->reason, plea->requester, plea->account,
                          (int64_t)(plea->asker == AUTHORITY_OPERATOR), id);
}

static enum hsm_status
tell_revoked(struct acme_store *store, const struct authority_plea *plea, int64_t now)
{
    DEFER(free)
    char *certificate = acme_authority_certificate_text(plea->issuer, plea->issuer_len,
                                                        plea->serial, plea->serial_len);
    char who[ACME_AUTHORITY_ID_MAX + 16];

    if (certificate == NULL)
        return HSM_ERR_NOMEM;
    snprintf(who, sizeof(who), "account %s", plea->account);
    return acme_event_add(store, &(struct acme_event){
                                     .at = (time_t)now,
                                     .who = plea->asker == AUTHORITY_OPERATOR ? NULL : who,
                                     .what = "certificate revoked",
                                     .subject = certificate,
                                     .detail = plea->requester,
                                 });
}

/* ---- room ---- */

/* Rows are counted only when the last id shows that the quota can have been reached. */
static enum hsm_status
check_quota(struct acme_store *store, const struct authority_plea *plea, int64_t id, unsigned quota,
            enum authority_obstacle *obstacle)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    int64_t last = 0;
    enum hsm_status st = HSM_OK;

    if (quota == 0 || plea->asker == AUTHORITY_OPERATOR)
        return HSM_OK;
    st = acme_authority_requests_last(store, &last);
    if (st != HSM_OK || last < (int64_t)quota)
        return st;
    st = acme_store_query(
        store, &rows,
        "SELECT count(*) FROM revocation WHERE account = ? AND by_operator = 0 AND dropped IS NULL"
        " AND state <> '" AUTHORITY_STATE_REFUSED "' AND id <> ?",
        "si", plea->account, id);
    if (st == HSM_OK && acme_rows_next(rows) && acme_rows_int(rows, 0) >= (int64_t)quota)
        *obstacle = AUTHORITY_QUOTA;
    return st;
}

/* @param id  of the request; 0: it is a new one */
static enum hsm_status
check_room(struct acme_store *store, const struct authority_plea *plea, int64_t id, unsigned quota,
           enum authority_obstacle *obstacle)
{
    bool is_full = false;
    enum hsm_status st = acme_authority_entries_full(store, &is_full);

    if (st == HSM_OK && is_full)
        *obstacle = AUTHORITY_CRL_FULL;
    return st == HSM_OK && !is_full ? check_quota(store, plea, id, quota, obstacle) : st;
}

/* ---- the decision ---- */

/* What is to be done with a request for which there is room. */
struct step {
    bool at_once; /* decided now */
    bool again; /* decided before: add its entry again */
};

static enum hsm_status
take_step(struct acme_store *store, const struct authority_plea *plea, struct step step,
          struct request *request, int64_t now)
{
    enum hsm_status st = request->id != 0 ? learn_end(store, plea, request)
                                          : insert_request(store, plea, now, &request->id);

    if (st == HSM_OK && step.at_once)
        st = take_over(store, plea, request->id);
    if (st != HSM_OK || (!step.at_once && !step.again))
        return st;
    st = acme_authority_entry_add(store, request->id, now);
    return st == HSM_OK ? tell_revoked(store, plea, now) : st;
}

enum hsm_status
acme_authority_decide(struct acme_store *store, const struct authority_plea *plea, unsigned quota,
                      int64_t now, struct authority_decision *out)
{
    struct authority_decision decision = {.obstacle = AUTHORITY_NO_OBSTACLE};
    struct request request;
    struct step step;
    enum hsm_status st = find_request(store, plea, &request);

    if (st != HSM_OK)
        return st;
    step = (struct step){may_decide_at_once(plea, &request), is_listed_again(plea, &request, now)};
    decision.state = step.at_once ? AUTHORITY_IS_REVOKED : request.state;
    decision.is_changed = step.at_once || step.again || request.id == 0;
    if (decision.is_changed)
        st = check_room(store, plea, request.id, quota, &decision.obstacle);
    if (st == HSM_OK && decision.obstacle == AUTHORITY_NO_OBSTACLE)
        st = take_step(store, plea, step, &request, now);
    if (st == HSM_OK)
        *out = decision;
    return st;
}
