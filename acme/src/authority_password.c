/*
 * authority_password.c - check passwords, and limit attempts to guess them.
 *
 * An attempt is counted before the password is checked and uncounted when the password was right,
 * so that concurrent requests get no additional attempts. It is counted for the user at that
 * address, so that an attacker elsewhere cannot lock a user out; for the address; and for the user
 * alone, unless the user has logged in from that address before or it is on the account's list of
 * addresses.
 *
 * A hash is slow by design (RFC 7914): few are computed at once, and requests that wait for one are
 * parked and hold no thread. A request over a limit does not wait.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hsm/defer.h>

#include "address_internal.h"
#include "authority_internal.h"
#include "limit_internal.h"
#include "password_internal.h"

#define DAY_S 86400

static const struct acme_limit limit_there = {"login-at", ACME_AUTHORITY_FAILURES_MAX,
                                              ACME_AUTHORITY_FAILURES_S};
static const struct acme_limit limit_address = {"login-from", ACME_AUTHORITY_GUESSES_MAX,
                                                ACME_AUTHORITY_FAILURES_S};
static const struct acme_limit limit_strangers = {"login-of", ACME_AUTHORITY_STRANGERS_MAX,
                                                  ACME_HOUR_S};

#define LIMITS 3

/* One attempt to log in. */
struct attempt {
    const char *user;
    struct authority_user found;
    char address[ACME_ADDRESS_MAX + 1];
    char there[ACME_LIMIT_WHOM_MAX + 1]; /* address and user */
    bool at_home;
};

/* ---- the bound on hashing ---- */

void
acme_authority_hashing_init(struct authority_hashing *hashing)
{
    pthread_mutex_init(&hashing->mutex, NULL); /* Linux: cannot fail with default attributes */
}

void
acme_authority_hashing_clear(struct authority_hashing *hashing)
{
    for (size_t i = 0; i < hashing->waiting_count; i++)
        acme_http_resume(hashing->waiting[i]); /* their loop has ended */
    pthread_mutex_destroy(&hashing->mutex);
}

static bool
begin_hash(struct authority_hashing *hashing)
{
    bool begun;

    pthread_mutex_lock(&hashing->mutex);
    begun = hashing->running < ACME_AUTHORITY_HASHES_MAX;
    hashing->running += begun;
    pthread_mutex_unlock(&hashing->mutex);
    return begun;
}

/* NULL: no request is waiting. */
static struct acme_http_parked *
take_waiting(struct authority_hashing *hashing)
{
    struct acme_http_parked *next = NULL;

    pthread_mutex_lock(&hashing->mutex);
    if (hashing->waiting_count > 0) {
        next = hashing->waiting[0];
        hashing->waiting_count--;
        memmove(hashing->waiting, hashing->waiting + 1,
                hashing->waiting_count * sizeof(hashing->waiting[0]));
    }
    pthread_mutex_unlock(&hashing->mutex);
    return next;
}

/* Release the place, and resume the next request whose peer is still connected. */
static void
end_hash(struct authority_hashing *hashing)
{
    struct acme_http_parked *next;

    pthread_mutex_lock(&hashing->mutex);
    hashing->running--;
    pthread_mutex_unlock(&hashing->mutex);
    do
        next = take_waiting(hashing);
    while (next != NULL && !acme_http_resume(next));
}

bool
acme_authority_password_wait(struct acme_authority *authority, struct acme_http_response *response)
{
    struct authority_hashing *hashing = &authority->hashing;
    struct acme_http_parked *parked = acme_http_park(response);
    bool is_free, has_room;

    if (parked == NULL)
        return false;
    pthread_mutex_lock(&hashing->mutex);
    is_free = hashing->running < ACME_AUTHORITY_HASHES_MAX; /* no end_hash() would resume it */
    has_room = hashing->waiting_count < ACME_AUTHORITY_WAITING_MAX;
    if (!is_free && has_room)
        hashing->waiting[hashing->waiting_count++] = parked;
    pthread_mutex_unlock(&hashing->mutex);
    if (is_free)
        acme_http_resume(parked);
    else if (!has_room)
        acme_http_unpark(parked);
    return is_free || has_room;
}

/* ---- the user ---- */

/*
 * The hash of a user's password. For an unknown user it is a hash with the same
 * cost parameters that no password matches, so that the response takes as long as
 * for a known user.
 */
static enum hsm_status
find_user(struct acme_store *store, struct attempt *attempt)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st = acme_store_query(
        store, &rows,
        "SELECT id, salt, hash, scrypt_n, scrypt_r, scrypt_p FROM account WHERE \"user\" = ?", "s",
        attempt->user);

    if (st != HSM_OK)
        return st;
    if (!acme_rows_next(rows)) {
        attempt->found.stored = acme_password_hash_of_nobody();
        return HSM_OK;
    }
    snprintf(attempt->found.account, sizeof(attempt->found.account), "%s", acme_rows_text(rows, 0));
    return acme_password_hash_read(rows, 1, &attempt->found.stored);
}

static enum hsm_status
find_home(struct acme_authority *authority, const struct acme_http_request *request,
          struct attempt *attempt)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum authority_source source;
    enum hsm_status st =
        acme_authority_source_of(authority, request, attempt->found.account, &source);

    attempt->at_home = source == AUTHORITY_WITHIN;
    if (st != HSM_OK || source != AUTHORITY_ANYWHERE)
        return st;
    st = acme_store_query(authority->config.store, &rows,
                          "SELECT at FROM login_address WHERE account = ? AND address = ?", "ss",
                          attempt->found.account, attempt->address);
    attempt->at_home = st == HSM_OK && acme_rows_next(rows);
    return st;
}

/* ---- the limits ---- */

static const char *
whom_of(const struct attempt *attempt, size_t i, const struct acme_limit **limit)
{
    static const struct acme_limit *const limits[LIMITS] = {&limit_there, &limit_address,
                                                            &limit_strangers};
    const char *const whom[LIMITS] = {attempt->there, attempt->address,
                                      attempt->at_home ? NULL : attempt->user};

    *limit = limits[i];
    return whom[i];
}

/* Count all of them or none. Unknown users are counted like known ones, so that the limit does not
 * reveal which users exist. */
static enum hsm_status
count(struct acme_store *store, const struct attempt *attempt, time_t now, bool *limited)
{
    enum hsm_status st = acme_store_begin(store);

    if (st != HSM_OK)
        return st;
    *limited = false;
    for (size_t i = 0; i < LIMITS && st == HSM_OK && !*limited; i++) {
        const struct acme_limit *limit;
        const char *whom = whom_of(attempt, i, &limit);
        time_t wait_s = 0;

        if (whom != NULL)
            st = acme_limit_take_one(store, limit, whom, now, &wait_s);
        *limited = wait_s != 0;
    }
    if (st == HSM_OK && !*limited)
        return acme_store_commit(store);
    acme_store_rollback(store);
    return st;
}

/* A request that is over a limit is refused at once and takes no place in the queue. Nothing is
 * counted here: a resumed request is checked from the start. */
static enum hsm_status
choose_wait(struct acme_store *store, const struct attempt *attempt, time_t now,
            enum authority_verdict *verdict)
{
    bool used_up = false;
    enum hsm_status st = HSM_OK;

    for (size_t i = 0; i < LIMITS && st == HSM_OK && !used_up; i++) {
        const struct acme_limit *limit;
        const char *whom = whom_of(attempt, i, &limit);

        if (whom != NULL)
            st = acme_limit_is_used_up(store, limit, whom, now, &used_up);
    }
    if (st == HSM_OK)
        *verdict = used_up ? AUTHORITY_LIMITED : AUTHORITY_BUSY;
    return st;
}

static enum hsm_status
give_back(struct acme_store *store, const struct attempt *attempt)
{
    enum hsm_status st = HSM_OK;

    for (size_t i = 0; i < LIMITS && st == HSM_OK; i++) {
        const struct acme_limit *limit;
        const char *whom = whom_of(attempt, i, &limit);

        if (whom != NULL)
            st = acme_limit_give_back(store, limit, whom);
    }
    return st;
}

enum hsm_status
acme_authority_password_confirm(struct acme_store *store, const struct authority_user *user,
                                enum authority_verdict *verdict)
{
    DEFER(acme_rows_free) struct acme_rows *rows = NULL;
    enum hsm_status st = acme_store_query(
        store, &rows, "SELECT 1 FROM account WHERE id = ? AND hash = ? AND salt = ?", "sbb",
        user->account, user->stored.hash, sizeof(user->stored.hash), user->stored.salt,
        sizeof(user->stored.salt));

    if (st == HSM_OK && !acme_rows_next(rows))
        *verdict = AUTHORITY_REFUSED;
    return st;
}

/* The password was right and is still the current one: the attempt does not count, and the address
 * is recorded for the user. */
static enum hsm_status
settle(struct acme_store *store, const struct attempt *attempt, time_t now,
       enum authority_verdict *verdict)
{
    enum hsm_status st = acme_store_begin(store);

    if (st != HSM_OK)
        return st;
    *verdict = AUTHORITY_ADMITTED;
    st = acme_authority_password_confirm(store, &attempt->found, verdict);
    if (st == HSM_OK && *verdict != AUTHORITY_ADMITTED) {
        acme_store_rollback(store);
        return HSM_OK;
    }
    if (st == HSM_OK)
        st = give_back(store, attempt);
    if (st == HSM_OK)
        st = acme_store_run(store, NULL,
                            "INSERT INTO login_address (account, address, at) VALUES (?, ?, ?)"
                            " ON CONFLICT (account, address) DO UPDATE SET at = excluded.at",
                            "ssi", attempt->found.account, attempt->address, (int64_t)now);
    return acme_store_end(store, st);
}

enum hsm_status
acme_authority_password_expire(struct acme_authority *authority)
{
    return acme_store_run(
        authority->config.store, NULL, "DELETE FROM login_address WHERE at <= ?", "i",
        (int64_t)acme_authority_now(authority) - (int64_t)ACME_AUTHORITY_HOME_DAYS * DAY_S);
}

/* ---- the check ---- */

static enum hsm_status
look(struct acme_authority *authority, const struct attempt *attempt, const char *password,
     enum authority_verdict *verdict)
{
    struct acme_store *store = authority->config.store;
    bool limited = false, matches = false;
    enum hsm_status st = count(store, attempt, acme_authority_now(authority), &limited);

    if (st != HSM_OK)
        return st;
    if (limited) {
        *verdict = AUTHORITY_LIMITED;
        return HSM_OK;
    }
    st = acme_password_matches(password, strlen(password), &attempt->found.stored, &matches);
    if (st != HSM_OK)
        return st;
    if (!matches || attempt->found.account[0] == '\0') {
        *verdict = AUTHORITY_REFUSED;
        return HSM_OK;
    }
    return settle(store, attempt, acme_authority_now(authority), verdict);
}

enum hsm_status
acme_authority_password_check(struct acme_authority *authority,
                              const struct acme_http_request *request, const char *user,
                              const char *password, enum authority_verdict *verdict,
                              struct authority_user *out)
{
    struct acme_store *store = authority->config.store;
    struct attempt attempt = {.user = user};
    enum hsm_status st;

    *verdict = AUTHORITY_REFUSED;
    if (!acme_authority_is_user(user))
        return HSM_OK;
    acme_limit_address(acme_http_request_peer(request), attempt.address);
    snprintf(attempt.there, sizeof(attempt.there), "%s %s", attempt.address, user);
    st = find_user(store, &attempt);
    if (st == HSM_OK) /* also for an unknown user: the response takes as long */
        st = find_home(authority, request, &attempt);
    if (st != HSM_OK)
        return st;
    if (!begin_hash(&authority->hashing))
        return choose_wait(store, &attempt, acme_authority_now(authority), verdict);
    st = look(authority, &attempt, password, verdict);
    end_hash(&authority->hashing);
    if (st == HSM_OK && *verdict == AUTHORITY_ADMITTED)
        *out = attempt.found;
    return st;
}
