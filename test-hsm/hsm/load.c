/* load.c - callers that sign while a token fails. */
#include "load.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include <openssl/evp.h>

#include "machine.h"
#include "softhsm.h"

#define GRACE_MS    50 /* tolerated delay of a call beyond its deadline */
#define RETURN_MS   1000 /* time within which a token serves again after its return */
#define SESSIONS_MS 20000 /* not a limit of the library; ends a test that would hang */
#define WINDOW_MS   50

/* On a loaded machine a thread waits to be scheduled, and longer with sanitizers. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MACHINE_MS 600
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define MACHINE_MS 600
#else
#define MACHINE_MS 250
#endif
#else
#define MACHINE_MS 250
#endif

const char load_message[] = "a message";
uint8_t load_digest[HSM_SHA256_LEN];

/* Allowance for the machine. $STI_TEST_MACHINE_MS overrides it: more under valgrind, 0 without
 * other load. */
static unsigned
machine_ms(void)
{
    const char *given = getenv("STI_TEST_MACHINE_MS");

    return given != NULL ? (unsigned)strtoul(given, NULL, 10) : MACHINE_MS;
}

void
load_prepare(void)
{
    assert_int_equal(
        EVP_Digest(load_message, strlen(load_message), load_digest, NULL, EVP_sha256(), NULL), 1);
}

double
load_now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

void
load_sleep_ms(unsigned ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

    nanosleep(&t, NULL);
}

struct hsm_token *
load_token(const char *label, const struct hsm_token_config *with)
{
    struct hsm_token_config config = *with;
    struct hsm_token *token = NULL;
    struct hsm_secret *pin = NULL;
    char uri[64];

    snprintf(uri, sizeof(uri), "pkcs11:token=%s", label);
    assert_int_equal(hsm_secret_new(SOFTHSM_USER_PIN, strlen(SOFTHSM_USER_PIN), &pin), HSM_OK);
    config.uri = uri;
    config.module = softhsm_module();
    config.pin = pin;
    if (config.quirks == NULL)
        config.quirks = getenv("STI_TEST_QUIRKS");
    assert_int_equal(hsm_token_open(&config, &token), HSM_OK);
    hsm_secret_free(pin);
    return token;
}

struct hsm_key *
load_key(struct hsm_token *token)
{
    struct hsm_key *key = NULL;

    assert_int_equal(hsm_key_find_or_generate(token, "signer", &key), HSM_OK);
    return key;
}

/* A call is late if it exceeds its deadline after the machine's delays are subtracted. */
static void
judge_time(struct load *load, double begin, double waited_before)
{
    double end = load_now_ms();
    double over = end - begin - load->deadline_ms;
    double machine;

    if (over <= GRACE_MS)
        return;
    machine = machine_thread_waited_ms() - waited_before + machine_pause_ms(begin, end);
    if (over - machine > GRACE_MS + machine_ms())
        load->late++;
    else
        load->excused++;
    print_message("a call took %.0f ms more than its deadline, of which the machine %.0f ms\n",
                  over, machine);
}

static void
one_call(struct load *load)
{
    uint8_t sig[HSM_P256_SIG_LEN];
    double waited_before = machine_thread_waited_ms();
    double begin = load_now_ms();
    enum hsm_status st = hsm_key_sign_digest_within(load->key, load_digest, load->deadline_ms,
                                                    HSM_WAIT_FOR_RECOVERY, sig);

    judge_time(load, begin, waited_before);
    if (st != HSM_OK) {
        load->refused++;
        return;
    }
    load->good++;
    if (hsm_es256_verify(hsm_key_public(load->key), load_message, strlen(load_message), sig,
                         sizeof(sig)) != HSM_OK)
        load->wrong++;
}

static void *
call_until_over(void *argument)
{
    struct load *load = argument;

    while (!load->over)
        one_call(load);
    return NULL;
}

void
load_start(struct load *load, struct hsm_key *key, unsigned deadline_ms)
{
    memset(load, 0, sizeof(*load));
    load->key = key;
    load->deadline_ms = deadline_ms;
    for (size_t i = 0; i < LOAD_CALLERS; i++)
        assert_int_equal(pthread_create(&load->callers[i], NULL, call_until_over, load), 0);
}

void
load_stop(struct load *load)
{
    load->over = true;
    for (size_t i = 0; i < LOAD_CALLERS; i++)
        assert_int_equal(pthread_join(load->callers[i], NULL), 0);
}

void
load_await_first(const struct load *load)
{
    for (int i = 0; i < 2000 && load->good == 0; i++)
        load_sleep_ms(5);
}

unsigned
load_rate(const struct load *load, unsigned ms)
{
    unsigned good_before = load->good;
    double begin = load_now_ms();

    load_sleep_ms(ms);
    return (unsigned)((load->good - good_before) * (double)ms / (load_now_ms() - begin));
}

/* The rate, extrapolated by the share of the sessions' time in which threads had no processor. */
static unsigned
rate_without_waiting(const struct load *load, unsigned ms)
{
    double waited_before = machine_process_waited_ms();
    double begin = load_now_ms();
    unsigned rate = load_rate(load, ms);
    double all = LOAD_SESSIONS * (load_now_ms() - begin);
    double waited = machine_process_waited_ms() - waited_before;

    return (unsigned)(rate * all / (all - (waited < all / 2 ? waited : all / 2)));
}

void
load_assert_sound(const struct load *load, const char *what)
{
    if (load->wrong > 0 || load->late > 0 || load->good == 0)
        fail_msg("%s: %u good, %u wrong, %u late, %u refused", what, load->good, load->wrong,
                 load->late, load->refused);
}

void
load_assert_unseen(const struct load *load, const char *what)
{
    load_assert_sound(load, what);
    if (load->refused > 0)
        fail_msg("%s: %u of %u calls were refused", what, load->refused, load->good);
}

void
load_assert_back_soon(struct hsm_token *token, struct hsm_key *key)
{
    double begin = load_now_ms();
    uint8_t sig[HSM_P256_SIG_LEN];
    enum hsm_status st = hsm_key_sign_digest_within(key, load_digest, RETURN_MS + 10 * machine_ms(),
                                                    HSM_WAIT_FOR_RECOVERY, sig);

    if (st != HSM_OK || !hsm_token_is_ready(token))
        fail_msg("not back after %.0f ms: %s", load_now_ms() - begin, hsm_status_text(st));
}

void
load_assert_all_sessions(const struct hsm_token *token, const char *what)
{
    struct hsm_token_stats stats;

    hsm_token_stats(token, &stats);
    for (unsigned ms = 0; ms < SESSIONS_MS && stats.sessions_usable != LOAD_SESSIONS; ms += 10) {
        load_sleep_ms(10);
        hsm_token_stats(token, &stats);
    }
    if (stats.sessions_usable != LOAD_SESSIONS)
        fail_msg("%s: %u of %u sessions can be used", what, (unsigned)stats.sessions_usable,
                 LOAD_SESSIONS);
}

void
load_assert_full_rate(const struct load *load, unsigned before_in_50ms, const char *what)
{
    /* On a shared machine, other processes may take the processor now that did not before. */
    double begin = load_now_ms();
    double waited_before = machine_thread_waited_ms();
    unsigned enough = machine_ms() == 0 ? before_in_50ms * 9 / 10 : before_in_50ms / 4;
    unsigned best = 0;
    double left;

    do {
        unsigned now = rate_without_waiting(load, WINDOW_MS);

        best = now > best ? now : best;
        left = begin + RETURN_MS + 10 * machine_ms() - load_now_ms() + machine_thread_waited_ms() -
               waited_before + machine_pause_ms(begin, load_now_ms());
    } while (best < enough && left > 0);
    if (best < enough)
        fail_msg("%s: %u signatures in 50 ms before, at most %u after", what, before_in_50ms, best);
}
