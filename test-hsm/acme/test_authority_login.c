/* test_authority_login.c - mirrors acme/src/authority_password.c and acme/src/limit.c: the limits
 * of password attempts, from several loopback addresses and by several clients at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <curl/curl.h>
#include <openssl/sha.h>
#include <pthread.h>
#include <time.h>

#include <acme/authority.h>
#include <acme/provision.h>
#include <acme/store.h>

#include "authority_group.h"
#include "softhsm.h"

#define PASSWORD "correct horse"
#define HERE     "127.0.0.1"
#define THERE    "127.0.0.2"
#define HEAVY_P  "20" /* scrypt's p of a hash that takes seconds to compute */

static time_t now_s; /* the STI-PA's clock stands still */
static char tls_root[4200];

static time_t
pa_clock(void)
{
    return now_s;
}

static int
start(void **state)
{
    struct acme_authority_config config;

    (void)state;
    authority_group_open();
    snprintf(tls_root, sizeof(tls_root), "%s/%s", softhsm_dir(), ACME_PROVISION_TLS_ROOT_FILE);
    now_s = time(NULL);
    config = authority_group_config(pa_clock);
    assert_int_equal(acme_authority_new(&config, &authority), HSM_OK);
    return 0;
}

static int
forget_tries(void **state)
{
    (void)state;
    return acme_store_run(store, NULL, "DELETE FROM rate", "") == HSM_OK ? 0 : -1;
}

static void
add_account(const char *id, const char *user)
{
    assert_int_equal(
        authority_group_account(id, user, PASSWORD, (const char *[]){"1234", NULL}, false), HSM_OK);
}

/* ---- requests from an address ---- */

static size_t
pass_over(void *octets, size_t size, size_t count, void *context)
{
    (void)octets;
    (void)context;
    return size * count;
}

/* @return the status; 0: no answer */
static int
exchange(const char *from, const char *path, const char *body, long *retry_after)
{
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
    CURL *curl = curl_easy_init();
    char url[256];
    long status = 0;
    curl_off_t wait = 0;

    snprintf(url, sizeof(url), "%s%s", pa.base_url, path);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_CAINFO, tls_root);
    curl_easy_setopt(curl, CURLOPT_INTERFACE, from);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, pass_over);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, 120L);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    if (body != NULL) {
        curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
    }
    if (curl_easy_perform(curl) == CURLE_OK) {
        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
        curl_easy_getinfo(curl, CURLINFO_RETRY_AFTER, &wait);
    }
    if (retry_after != NULL)
        *retry_after = (long)wait;
    curl_easy_cleanup(curl);
    curl_slist_free_all(headers);
    return (int)status;
}

static int
login(const char *from, const char *user, const char *password)
{
    char body[512];

    snprintf(body, sizeof(body), "{\"userId\":\"%s\",\"password\":\"%s\"}", user, password);
    return exchange(from, "/api/v1/auth/login", body, NULL);
}

static void
guess(const char *from, const char *user, unsigned times)
{
    for (unsigned i = 0; i < times; i++)
        assert_int_equal(login(from, user, "guess"), 403);
}

/* @param in_s  the period of that limit */
static void
use_up(const char *limit, const char *whom, unsigned in_s)
{
    char subject[256];

    snprintf(subject, sizeof(subject), "%s %s", limit, whom);
    assert_int_equal(
        acme_store_run(store, NULL,
                       "INSERT INTO rate (subject, used_until) VALUES (?, ?) ON CONFLICT"
                       " (subject) DO UPDATE SET used_until = excluded.used_until",
                       "si", subject, ((int64_t)now_s + in_s) * 1000000),
        HSM_OK);
}

/* Exhaust the limit of login attempts for `user` by strangers. */
static void
let_strangers_try(const char *user)
{
    use_up("login-of", user, 3600);
}

/* @param sql  has one text parameter */
static int64_t
number(const char *sql, const char *text)
{
    struct acme_rows *rows = NULL;
    int64_t count;

    assert_int_equal(acme_store_query(store, &rows, sql, "s", text), HSM_OK);
    assert_true(acme_rows_next(rows));
    count = acme_rows_int(rows, 0);
    acme_rows_free(rows);
    return count;
}

/* The number of addresses with a counted attempt. */
static int64_t
counted(const char *pattern)
{
    return number("SELECT count(*) FROM rate WHERE subject LIKE ?", pattern);
}

/* ---- who is locked out, and where ---- */

static void
wrong_passwords_from_one_address_shut_nobody_out_who_is_elsewhere(void **state)
{
    (void)state;
    add_account("far", "sp-far");
    guess(HERE, "sp-far", ACME_AUTHORITY_FAILURES_MAX);
    assert_int_equal(login(HERE, "sp-far", PASSWORD), 429);
    assert_int_equal(login(THERE, "sp-far", PASSWORD), 200);
    assert_int_equal(login(HERE, "sp-far", PASSWORD), 429);
    now_s += ACME_AUTHORITY_FAILURES_S / ACME_AUTHORITY_FAILURES_MAX; /* room for one more */
    assert_int_equal(login(HERE, "sp-far", PASSWORD), 200);
}

static void
right_passwords_are_not_counted(void **state)
{
    (void)state;
    add_account("often", "sp-often");
    for (unsigned i = 0; i < ACME_AUTHORITY_FAILURES_MAX + 2; i++)
        assert_int_equal(login(HERE, "sp-often", PASSWORD), 200);
    assert_int_equal(login(HERE, "sp-often", "guess"), 403);
}

static void
user_that_strangers_try_logs_in_where_it_has_logged_in_before(void **state)
{
    (void)state;
    add_account("home", "sp-home");
    assert_int_equal(login(HERE, "sp-home", PASSWORD), 200);
    let_strangers_try("sp-home");
    assert_int_equal(login(THERE, "sp-home", PASSWORD), 429);
    assert_int_equal(login(HERE, "sp-home", PASSWORD), 200);
    now_s += (time_t)ACME_AUTHORITY_HOME_DAYS * 86400 + 1;
    acme_authority_refresh(authority);
    let_strangers_try("sp-home");
    assert_int_equal(login(HERE, "sp-home", PASSWORD), 429); /* no longer known */
}

static void
limited_account_logs_in_from_its_sources_whatever_others_try(void **state)
{
    (void)state;
    add_account("limited", "sp-limited");
    assert_int_equal(
        acme_authority_account_limit(store, "limited", (const char *[]){THERE "/32", NULL}),
        HSM_OK);
    let_strangers_try("sp-limited");
    assert_int_equal(login(HERE, "sp-limited", PASSWORD), 429);
    assert_int_equal(login(THERE, "sp-limited", PASSWORD), 200);
    guess(THERE, "sp-limited", ACME_AUTHORITY_FAILURES_MAX);
    assert_int_equal(login(THERE, "sp-limited", PASSWORD), 429);
}

static void
unknown_user_is_limited_like_a_known_one(void **state)
{
    (void)state;
    guess(HERE, "sp-nobody", ACME_AUTHORITY_FAILURES_MAX);
    assert_int_equal(login(HERE, "sp-nobody", "guess"), 429);
    assert_int_equal(login(THERE, "sp-nobody", "guess"), 403);
}

/* ---- sessions ---- */

#define SESSIONS "SELECT count(*) FROM session WHERE account = ?"

static void *
log_in_meanwhile(void *context)
{
    *(int *)context = login(HERE, "sp-changed", PASSWORD);
    return NULL;
}

/* The password gets another salt and hash while a login waits for its turn. The password itself
 * stays the same, so a login that starts too late succeeds. */
static int
login_around_a_change(void)
{
    const struct timespec reached = {.tv_nsec = 200000000};
    pthread_t thread;
    int status = 0;

    assert_int_equal(acme_store_begin(store), HSM_OK);
    assert_int_equal(pthread_create(&thread, NULL, log_in_meanwhile, &status), 0);
    nanosleep(&reached, NULL);
    assert_int_equal(acme_store_run(store, NULL,
                                    "UPDATE account SET"
                                    " salt = (SELECT salt FROM account WHERE id = 'changed-to'),"
                                    " hash = (SELECT hash FROM account WHERE id = 'changed-to')"
                                    " WHERE id = ?",
                                    "s", "changed"),
                     HSM_OK);
    assert_int_equal(acme_store_run(store, NULL, "DELETE FROM session", ""), HSM_OK);
    assert_int_equal(acme_store_commit(store), HSM_OK);
    assert_int_equal(pthread_join(thread, NULL), 0);
    return status;
}

static void
login_whose_password_is_changed_meanwhile_opens_nothing(void **state)
{
    int status = 200;

    (void)state;
    add_account("changed", "sp-changed");
    for (int i = 0; i < 20 && status == 200; i++) {
        char to[32];

        snprintf(to, sizeof(to), "sp-changed-to-%d", i);
        assert_int_equal(acme_store_run(store, NULL,
                                        "UPDATE account SET id = \"user\" WHERE id = 'changed-to'",
                                        ""),
                         HSM_OK);
        add_account("changed-to", to);
        status = login_around_a_change();
    }
    assert_int_equal(status, 403);
    assert_int_equal(number(SESSIONS, "changed"), 0);
    assert_int_equal(login(HERE, "sp-changed", PASSWORD), 200);
    assert_int_equal(number(SESSIONS, "changed"), 1);
}

static void
changed_password_ends_sessions_and_homes(void **state)
{
    struct hsm_secret *password = NULL;

    (void)state;
    add_account("stolen", "sp-stolen");
    assert_int_equal(login(THERE, "sp-stolen", PASSWORD), 200);
    assert_int_equal(hsm_secret_new("another horse", strlen("another horse"), &password), HSM_OK);
    assert_int_equal(acme_authority_account_password(store, "stolen", password), HSM_OK);
    hsm_secret_free(password);
    assert_int_equal(number(SESSIONS, "stolen"), 0);
    let_strangers_try("sp-stolen");
    assert_int_equal(login(THERE, "sp-stolen", PASSWORD), 429); /* not a known address any more */
}

static int
refresh(const char *from)
{
    return exchange(from, "/api/v1/auth/refresh", "{\"refreshToken\":\"a refresh token\"}", NULL);
}

static void
refresh_token_is_spent_by_those_only_who_get_a_session(void **state)
{
    uint8_t digest[SHA256_DIGEST_LENGTH];

    (void)state;
    add_account("near", "sp-near");
    SHA256((const unsigned char *)"a refresh token", strlen("a refresh token"), digest);
    assert_int_equal(acme_store_run(store, NULL,
                                    "INSERT INTO session (access, refresh, account, access_until,"
                                    " refresh_until) VALUES (?, ?, 'near', ?, ?)",
                                    "bbii", digest, sizeof(digest), digest, sizeof(digest),
                                    (int64_t)now_s + 600, (int64_t)now_s + 600),
                     HSM_OK);
    assert_int_equal(
        acme_authority_account_limit(store, "near", (const char *[]){THERE "/32", NULL}), HSM_OK);
    assert_int_equal(refresh(HERE), 403);
    assert_int_equal(refresh(THERE), 200);
    assert_int_equal(refresh(THERE), 403);
    assert_int_equal(number(SESSIONS, "near"), 1);
}

/* ---- many at once ---- */

struct guesser {
    pthread_t thread;
    char from[32], user[32];
    bool again; /* retry after 503 */
    int status;
    long retry_after;
};

static atomic_uint answered;

static void *
guess_once(void *context)
{
    struct guesser *guesser = context;
    char body[128];

    snprintf(body, sizeof(body), "{\"userId\":\"%s\",\"password\":\"guess\"}", guesser->user);
    do
        guesser->status =
            exchange(guesser->from, "/api/v1/auth/login", body, &guesser->retry_after);
    while (guesser->status == 503 && guesser->again);
    if (guesser->status != 503)
        atomic_fetch_add(&answered, 1);
    return NULL;
}

static void
begin(struct guesser *guesser)
{
    assert_int_equal(pthread_create(&guesser->thread, NULL, guess_once, guesser), 0);
}

static unsigned
end(struct guesser *guessers, unsigned count, int status)
{
    unsigned found = 0;

    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(pthread_join(guessers[i].thread, NULL), 0);
        found += guessers[i].status == status;
    }
    return found;
}

static void
guesses_at_once_get_no_more_tries_than_one_after_the_other(void **state)
{
    struct guesser guessers[ACME_AUTHORITY_FAILURES_MAX + 8] = {0};
    const unsigned count = sizeof(guessers) / sizeof(guessers[0]);
    unsigned refused = 0;

    (void)state;
    add_account("at-once", "sp-at-once");
    for (unsigned i = 0; i < count; i++) {
        guessers[i] = (struct guesser){.from = HERE, .user = "sp-at-once", .again = true};
        begin(&guessers[i]);
    }
    refused = end(guessers, count, 403);
    assert_int_equal(refused, ACME_AUTHORITY_FAILURES_MAX);
    for (unsigned i = 0; i < count; i++)
        assert_true(guessers[i].status == 403 || guessers[i].status == 429);
}

static void
pause_ms(long ms)
{
    const struct timespec pause = {.tv_nsec = ms * 1000000};

    nanosleep(&pause, NULL);
}

/* Start logins at addresses below `net` whose hashes take seconds, as many as may be computed at
 * once. */
static void
begin_heavy(struct guesser heavy[ACME_AUTHORITY_HASHES_MAX], const char *id, const char *net)
{
    char user[32], pattern[64];

    snprintf(user, sizeof(user), "sp-%s", id);
    snprintf(pattern, sizeof(pattern), "login-at %s.%%", net);
    add_account(id, user);
    assert_int_equal(acme_store_run(store, NULL,
                                    "UPDATE account SET scrypt_p = " HEAVY_P " WHERE id = ?", "s",
                                    id),
                     HSM_OK);
    for (unsigned i = 0; i < ACME_AUTHORITY_HASHES_MAX; i++) {
        heavy[i] = (struct guesser){.from = ""};
        snprintf(heavy[i].user, sizeof(heavy[i].user), "%s", user);
        snprintf(heavy[i].from, sizeof(heavy[i].from), "%s.%u", net, i + 1);
        begin(&heavy[i]);
    }
    for (unsigned i = 0; i < 6000 && counted(pattern) < ACME_AUTHORITY_HASHES_MAX; i++)
        pause_ms(5);
    assert_int_equal(counted(pattern), ACME_AUTHORITY_HASHES_MAX);
}

/* Two hashes take seconds, and many logins wait. The CRL, which needs no hash, is served at
 * once. */
static void
crl_is_served_while_passwords_from_many_addresses_are_looked_at(void **state)
{
    struct guesser heavy[ACME_AUTHORITY_HASHES_MAX] = {0};
    struct guesser guessers[ACME_AUTHORITY_WAITING_MAX + 4] = {0};
    const unsigned count = sizeof(guessers) / sizeof(guessers[0]);
    unsigned refused;

    (void)state;
    atomic_store(&answered, 0);
    begin_heavy(heavy, "heavy", "127.0.1");
    for (unsigned i = 0; i < count; i++) {
        snprintf(guessers[i].from, sizeof(guessers[i].from), "127.0.2.%u", i + 1);
        snprintf(guessers[i].user, sizeof(guessers[i].user), "nobody-%u", i);
        begin(&guessers[i]);
    }
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(exchange(HERE, ACME_AUTHORITY_CRL_PATH, NULL, NULL), 200);
    assert_in_range(atomic_load(&answered), 0, count / 2);
    assert_int_equal(end(heavy, ACME_AUTHORITY_HASHES_MAX, 403), ACME_AUTHORITY_HASHES_MAX);
    refused = end(guessers, count, 403);
    assert_in_range(refused, ACME_AUTHORITY_WAITING_MAX, count);
    for (unsigned i = 0; i < count; i++) {
        assert_true(guessers[i].status == 403 || guessers[i].status == 503);
        assert_true((guessers[i].retry_after > 0) == (guessers[i].status == 503));
    }
    assert_int_equal(counted("login-at 127.0.2.%"), refused); /* the others were not counted */
}

/* More requests than may wait; if these waited, the last one would find no place. */
static void
those_who_are_shut_out_take_nobodys_place_in_the_queue(void **state)
{
    struct guesser heavy[ACME_AUTHORITY_HASHES_MAX];
    struct guesser guessers[ACME_AUTHORITY_WAITING_MAX + 4] = {0};
    const unsigned count = sizeof(guessers) / sizeof(guessers[0]);

    (void)state;
    add_account("queued", "sp-queued");
    use_up("login-from", "127.0.4.1", ACME_AUTHORITY_FAILURES_S);
    begin_heavy(heavy, "slow", "127.0.3");
    for (unsigned i = 0; i < count; i++) {
        guessers[i] = (struct guesser){.from = "127.0.4.1"};
        snprintf(guessers[i].user, sizeof(guessers[i].user), "nobody-%u", i);
        begin(&guessers[i]);
    }
    assert_int_equal(end(guessers, count, 429), count);
    assert_int_equal(login("127.0.5.1", "sp-queued", PASSWORD), 200);
    assert_int_equal(end(heavy, ACME_AUTHORITY_HASHES_MAX, 403), ACME_AUTHORITY_HASHES_MAX);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(wrong_passwords_from_one_address_shut_nobody_out_who_is_elsewhere,
                               forget_tries),
        cmocka_unit_test_setup(right_passwords_are_not_counted, forget_tries),
        cmocka_unit_test_setup(user_that_strangers_try_logs_in_where_it_has_logged_in_before,
                               forget_tries),
        cmocka_unit_test_setup(limited_account_logs_in_from_its_sources_whatever_others_try,
                               forget_tries),
        cmocka_unit_test_setup(unknown_user_is_limited_like_a_known_one, forget_tries),
        cmocka_unit_test_setup(login_whose_password_is_changed_meanwhile_opens_nothing,
                               forget_tries),
        cmocka_unit_test_setup(changed_password_ends_sessions_and_homes, forget_tries),
        cmocka_unit_test_setup(refresh_token_is_spent_by_those_only_who_get_a_session,
                               forget_tries),
        cmocka_unit_test_setup(guesses_at_once_get_no_more_tries_than_one_after_the_other,
                               forget_tries),
        cmocka_unit_test_setup(crl_is_served_while_passwords_from_many_addresses_are_looked_at,
                               forget_tries),
        cmocka_unit_test_setup(those_who_are_shut_out_take_nobodys_place_in_the_queue,
                               forget_tries),
    };

    return cmocka_run_group_tests(tests, start, authority_group_stop);
}
