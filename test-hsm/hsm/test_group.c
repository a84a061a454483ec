/* test_group.c - mirrors hsm/src/group.c: two tokens, one of which is taken away. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sys/wait.h>

#include <cmocka.h>

#include <openssl/evp.h>

#include <hsm/es256.h>
#include <hsm/group.h>
#include <hsm/log.h>

#include "fault_client.h"
#include "forking.h"
#include "skips.h"
#include "softhsm.h"

#define CALLERS    8
#define TIMEOUT_MS 3000
#define HASTY_MS   200
#define PATIENT_MS 20000

struct side {
    struct hsm_token *token;
    struct hsm_key *key;
    const char *message; /* the message it signs, different for each side */
    atomic_uint signatures;
};

struct pair {
    struct hsm_group *group;
    struct side a, b;
    atomic_bool over;
    atomic_uint lost;
    atomic_uint wrong;
};

static enum hsm_status
digest_of_side(void *call, void *member, uint8_t *digest)
{
    const struct side *side = member;

    (void)call;
    return EVP_Digest(side->message, strlen(side->message), digest, NULL, EVP_sha256(), NULL) == 1
               ? HSM_OK
               : HSM_ERR_CRYPTO;
}

static enum hsm_status
refuse_to_say(void *call, void *member, uint8_t *digest)
{
    (void)call;
    (void)member;
    (void)digest;
    return HSM_ERR_MALFORMED;
}

static void
sign_once(struct pair *pair)
{
    uint8_t sig[HSM_P256_SIG_LEN];
    void *member = NULL;
    struct side *side;

    if (hsm_group_sign(pair->group, digest_of_side, NULL, TIMEOUT_MS, sig, &member) != HSM_OK) {
        pair->lost++;
        return;
    }
    side = member;
    side->signatures++;
    if (hsm_es256_verify(hsm_key_public(side->key), side->message, strlen(side->message), sig,
                         sizeof(sig)) != HSM_OK)
        pair->wrong++;
}

static void *
sign_until_over(void *argument)
{
    struct pair *pair = argument;

    while (!pair->over)
        sign_once(pair);
    return NULL;
}

static void
sleep_ms(unsigned ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

    nanosleep(&t, NULL);
}

static void
side_take(struct side *side, struct hsm_token *token, const char *label)
{
    *side = (struct side){.message = label, .token = token};
    assert_int_equal(hsm_key_find_or_generate(token, "signer", &side->key), HSM_OK);
}

static void
side_open(struct side *side, const char *label)
{
    side_take(side, softhsm_reopen(label), label);
}

/* With workers, a call stuck in the module does not block its caller. */
static void
side_open_with_workers(struct side *side, const char *label, unsigned workers, unsigned queue_max,
                       unsigned op_timeout_ms)
{
    struct hsm_token_config config = {.module = softhsm_module(),
                                      .quirks = getenv("STI_TEST_QUIRKS"),
                                      .workers = workers,
                                      .queue_max = queue_max,
                                      .op_timeout_ms = op_timeout_ms};
    struct hsm_token *token = NULL;
    struct hsm_secret *pin = NULL;
    char uri[64];

    snprintf(uri, sizeof(uri), "pkcs11:token=%s", label);
    assert_int_equal(hsm_secret_new(SOFTHSM_USER_PIN, strlen(SOFTHSM_USER_PIN), &pin), HSM_OK);
    config.uri = uri;
    config.pin = pin;
    assert_int_equal(hsm_token_open(&config, &token), HSM_OK);
    hsm_secret_free(pin);
    side_take(side, token, label);
}

static void
side_close(struct side *side)
{
    hsm_key_free(side->key);
    hsm_token_close(side->token);
}

static int
open_pair(void **state)
{
    static struct pair pair;

    memset(&pair, 0, sizeof(pair));
    side_open(&pair.a, "first");
    side_open(&pair.b, "second");
    assert_int_equal(hsm_group_new(&pair.group), HSM_OK);
    *state = &pair;
    return 0;
}

static int
open_pair_with(void **state, unsigned workers, unsigned queue_max)
{
    static struct pair pair;

    memset(&pair, 0, sizeof(pair));
    side_open_with_workers(&pair.a, "first", workers, queue_max, 0);
    side_open_with_workers(&pair.b, "second", workers, queue_max, 0);
    assert_int_equal(hsm_group_new(&pair.group), HSM_OK);
    *state = &pair;
    return 0;
}

static int
open_pair_with_workers(void **state)
{
    return open_pair_with(state, 2, 0);
}

static int
open_pair_with_short_queues(void **state)
{
    return open_pair_with(state, 1, 1);
}

static int
open_pair_of_different_patience(void **state)
{
    static struct pair pair;

    memset(&pair, 0, sizeof(pair));
    side_open_with_workers(&pair.a, "first", 2, 0, HASTY_MS);
    side_open_with_workers(&pair.b, "second", 2, 0, PATIENT_MS);
    assert_int_equal(hsm_group_new(&pair.group), HSM_OK);
    *state = &pair;
    return 0;
}

static int
close_pair(void **state)
{
    struct pair *pair = *state;

    fault("reset");
    hsm_group_free(pair->group);
    side_close(&pair->a);
    side_close(&pair->b);
    return 0;
}

static void
add_both(struct pair *pair, unsigned preference_a, unsigned preference_b)
{
    assert_int_equal(hsm_group_add(pair->group, pair->a.key, preference_a, &pair->a), HSM_OK);
    assert_int_equal(hsm_group_add(pair->group, pair->b.key, preference_b, &pair->b), HSM_OK);
}

/* Waits long enough for a loaded machine. */
static bool
becomes_ready(const struct pair *pair, size_t count)
{
    for (int i = 0; i < 2000 && hsm_group_ready(pair->group) != count; i++)
        sleep_ms(10);
    return hsm_group_ready(pair->group) == count;
}

static bool
signs_more(const struct side *side)
{
    unsigned before = side->signatures;

    for (int i = 0; i < 2000 && side->signatures == before; i++)
        sleep_ms(10);
    return side->signatures > before;
}

/* Results under load are asserted after the callers have ended. */
static void
nothing_is_lost_when_one_of_two_tokens_is_taken_away(void **state)
{
    struct pair *pair = *state;
    pthread_t callers[CALLERS];
    bool both, one, both_again, serves_again;

    add_both(pair, 0, 0);
    for (size_t i = 0; i < CALLERS; i++)
        assert_int_equal(pthread_create(&callers[i], NULL, sign_until_over, pair), 0);
    both = signs_more(&pair->a) && signs_more(&pair->b);
    fault("remove token first");
    one = becomes_ready(pair, 1) && signs_more(&pair->b);
    fault("return token first");
    both_again = becomes_ready(pair, 2);
    serves_again = signs_more(&pair->a);
    pair->over = true;
    for (size_t i = 0; i < CALLERS; i++)
        assert_int_equal(pthread_join(callers[i], NULL), 0);
    assert_int_equal(pair->lost, 0);
    assert_int_equal(pair->wrong, 0);
    assert_true(both);
    assert_true(one);
    assert_true(both_again);
    assert_true(serves_again);
}

static void
the_preferred_one_signs_while_it_is_well(void **state)
{
    struct pair *pair = *state;

    add_both(pair, 1, 0);
    for (int i = 0; i < 10; i++)
        sign_once(pair);
    assert_int_equal(pair->b.signatures, 10);
    fault("remove token second");
    for (int i = 0; i < 10; i++)
        sign_once(pair);
    assert_int_equal(pair->a.signatures, 10);
    assert_int_equal(pair->lost, 0);
}

static void
a_key_that_was_removed_does_not_sign(void **state)
{
    struct pair *pair = *state;
    uint8_t sig[HSM_P256_SIG_LEN];

    add_both(pair, 0, 1);
    hsm_group_remove(pair->group, pair->a.key);
    sign_once(pair);
    assert_int_equal(pair->b.signatures, 1);
    hsm_group_remove(pair->group, pair->b.key);
    assert_int_equal(hsm_group_sign(pair->group, digest_of_side, NULL, TIMEOUT_MS, sig, NULL),
                     HSM_ERR_NOT_FOUND);
}

static void
all_away_is_busy_at_the_deadline(void **state)
{
    struct pair *pair = *state;
    uint8_t sig[HSM_P256_SIG_LEN] = {0xaa};

    add_both(pair, 0, 0);
    fault("remove");
    assert_int_equal(hsm_group_sign(pair->group, digest_of_side, NULL, 200, sig, NULL),
                     HSM_ERR_BUSY);
    assert_int_equal(sig[0], 0xaa);
    fault("return");
    sign_once(pair);
    assert_int_equal(pair->lost, 0);
}

static void
what_cannot_be_said_is_not_signed(void **state)
{
    struct pair *pair = *state;
    uint8_t sig[HSM_P256_SIG_LEN];

    add_both(pair, 0, 0);
    assert_int_equal(hsm_group_sign(pair->group, refuse_to_say, NULL, TIMEOUT_MS, sig, NULL),
                     HSM_ERR_MALFORMED);
}

/* `call` is the only side that may sign; NULL: neither. */
static enum hsm_status
digest_of_one_side(void *call, void *member, uint8_t *digest)
{
    return call == member ? digest_of_side(NULL, member, digest) : HSM_ERR_NOT_FOUND;
}

static void
a_member_that_has_nothing_to_sign_is_passed_over_and_is_no_worse_for_it(void **state)
{
    struct pair *pair = *state;
    uint8_t sig[HSM_P256_SIG_LEN];
    void *member = NULL;

    add_both(pair, 0, 1);
    assert_int_equal(
        hsm_group_sign(pair->group, digest_of_one_side, &pair->b, TIMEOUT_MS, sig, &member),
        HSM_OK);
    assert_ptr_equal(member, &pair->b);
    assert_int_equal(hsm_group_sign(pair->group, digest_of_one_side, NULL, TIMEOUT_MS, sig, NULL),
                     HSM_ERR_NOT_FOUND);
    sign_once(pair);
    assert_int_equal(pair->a.signatures, 1); /* still preferred */
    fault("remove token second");
    /* The only side that may sign is away. */
    assert_int_equal(hsm_group_sign(pair->group, digest_of_one_side, &pair->b, 200, sig, NULL),
                     HSM_ERR_BUSY);
}

static int64_t
now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Within twenty seconds; a token that is closed earlier leaves its session behind. */
static bool
becomes_unstuck(const struct side *side)
{
    struct hsm_token_stats stats = {.stuck_now = 1};

    for (int i = 0; i < 2000 && stats.stuck_now > 0; i++) {
        hsm_token_stats(side->token, &stats);
        sleep_ms(10);
    }
    return stats.stuck_now == 0;
}

/* Without its own limit, the first token, which hangs, would get half of the call's time. */
static void
a_member_gets_no_more_time_than_its_token_is_configured_for(void **state)
{
    struct pair *pair = *state;
    uint8_t sig[HSM_P256_SIG_LEN];
    void *member = NULL;
    int64_t begun;

    add_both(pair, 0, 1);
    fault("on C_Sign token first block");
    begun = now_ms();
    assert_int_equal(hsm_group_sign(pair->group, digest_of_side, NULL, 0, sig, &member), HSM_OK);
    assert_ptr_equal(member, &pair->b);
    assert_true(now_ms() - begun >= HASTY_MS);
    assert_true(now_ms() - begun < PATIENT_MS / 2);
    fault("reset");
    assert_true(becomes_unstuck(&pair->a));
}

static void
a_call_without_a_timeout_has_the_longest_of_its_tokens(void **state)
{
    struct pair *pair = *state;
    uint8_t sig[HSM_P256_SIG_LEN];
    int64_t begun;

    add_both(pair, 0, 1);
    hsm_group_remove(pair->group, pair->b.key);
    fault("on C_Sign block");
    begun = now_ms();
    assert_int_equal(hsm_group_sign(pair->group, digest_of_side, NULL, 0, sig, NULL), HSM_ERR_BUSY);
    assert_true(now_ms() - begun >= HASTY_MS);
    assert_true(now_ms() - begun < TIMEOUT_MS);
    fault("reset");
    assert_true(becomes_unstuck(&pair->a));
    assert_int_equal(hsm_group_sign(pair->group, digest_of_side, NULL, 0, sig, NULL), HSM_OK);
}

/* The token does not answer for as long as some HSM clients wait before they drop a connection. */
static void
no_call_is_lost_while_the_preferred_token_hangs(void **state)
{
    enum {
        CALLS = 12
    };
    struct pair *pair = *state;

    add_both(pair, 0, 1);
    fault("on C_Sign token first block");
    for (int i = 0; i < CALLS; i++)
        sign_once(pair);
    assert_int_equal(pair->lost, 0);
    assert_int_equal(pair->wrong, 0);
    assert_int_equal(pair->b.signatures, CALLS);
    assert_true(fault_number("struck 1") < CALLS / 2); /* it is skipped meanwhile */
    fault("reset"); /* releases the blocked call */
    assert_true(becomes_ready(pair, 2));
    for (int i = 0; i < 3000 && pair->a.signatures == 0; i++) {
        sign_once(pair);
        sleep_ms(2);
    }
    assert_true(pair->a.signatures > 0);
}

static void
one_that_refuses_does_not_end_the_wait_for_one_that_is_recovered(void **state)
{
    struct pair *pair = *state;

    add_both(pair, 1, 0);
    fault("on C_Sign token first rv CKR_KEY_FUNCTION_NOT_PERMITTED\nremove token second for 300ms");
    sign_once(pair);
    assert_int_equal(pair->lost, 0);
    assert_int_equal(pair->b.signatures, 1);
}

/* The token is slower than the time allowed for a token that is out of service. */
static void
a_slow_token_signs_after_a_round_that_failed(void **state)
{
    struct pair *pair = *state;

    assert_int_equal(hsm_group_add(pair->group, pair->a.key, 0, &pair->a), HSM_OK);
    fault("latency C_Sign 150ms\nremove token first for 100ms");
    sign_once(pair);
    assert_int_equal(pair->lost, 0);
    assert_int_equal(pair->a.signatures, 1);
}

struct filler {
    struct hsm_key *key;
    pthread_t thread;
    enum hsm_status status;
};

static void *
fill(void *argument)
{
    static const uint8_t digest[HSM_SHA256_LEN] = {1};
    struct filler *filler = argument;
    uint8_t sig[HSM_P256_SIG_LEN];

    filler->status =
        hsm_key_sign_digest_within(filler->key, digest, 20000, HSM_WAIT_FOR_RECOVERY, sig);
    return NULL;
}

static enum hsm_status
count_digests(void *call, void *member, uint8_t *digest)
{
    (*(unsigned *)call)++;
    return digest_of_side(NULL, member, digest);
}

/* Each worker has a stuck call, and each queue a waiting one. */
static void
a_group_whose_queues_are_full_does_not_ask_without_pause(void **state)
{
    struct pair *pair = *state;
    struct filler fillers[6];
    uint8_t sig[HSM_P256_SIG_LEN];
    unsigned digests = 0;

    add_both(pair, 0, 0);
    fault("on C_Sign block");
    for (size_t i = 0; i < 6; i++) { /* the third of each side is refused */
        fillers[i].key = i < 3 ? pair->a.key : pair->b.key;
        assert_int_equal(pthread_create(&fillers[i].thread, NULL, fill, &fillers[i]), 0);
        for (int tries = 0; i % 3 == 0 && tries < 2000 && fault_number("held") != i / 3 + 1;
             tries++)
            sleep_ms(5);
        sleep_ms(20);
    }
    assert_int_equal(hsm_group_sign(pair->group, count_digests, &digests, 500, sig, NULL),
                     HSM_ERR_BUSY);
    assert_true(digests >= 2);
    assert_true(digests <= 30);
    fault("reset");
    for (size_t i = 0; i < 6; i++)
        assert_int_equal(pthread_join(fillers[i].thread, NULL), 0);
    assert_int_equal(fillers[0].status, HSM_OK);
    assert_int_equal(fillers[3].status, HSM_OK);
    sign_once(pair);
    assert_int_equal(pair->lost, 0);
}

static int
use_inherited(struct pair *pair)
{
    uint8_t sig[HSM_P256_SIG_LEN];

    if (hsm_group_sign(pair->group, digest_of_side, NULL, TIMEOUT_MS, sig, NULL) != HSM_ERR_USAGE)
        return 1;
    if (hsm_group_add(pair->group, pair->a.key, 0, NULL) != HSM_ERR_USAGE)
        return 2;
    return hsm_group_ready(pair->group) == 0 ? 0 : 3;
}

static void
a_child_does_not_use_the_parents_group(void **state)
{
    struct pair *pair = *state;
    int status = -1;
    pid_t pid;

    SKIP_WHERE_NO_FORK();
    add_both(pair, 0, 0);
    pid = fork();
    if (pid == 0) {
        alarm(10); /* a hang counts as a failure */
        _exit(use_inherited(pair));
    }
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    sign_once(pair);
    assert_int_equal(pair->lost, 0);
}

static void
a_group_is_bounded(void **state)
{
    struct pair *pair = *state;

    for (size_t i = 0; i < HSM_GROUP_MAX; i++)
        assert_int_equal(hsm_group_add(pair->group, pair->a.key, 0, NULL), HSM_OK);
    assert_int_equal(hsm_group_add(pair->group, pair->a.key, 0, NULL), HSM_ERR_USAGE);
}

static int
start(void **state)
{
    (void)state;
    hsm_log_open(&(struct hsm_log_config){"test", HSM_LOG_TEXT, HSM_LOG_ERROR});
    fault_open();
    softhsm_start();
    hsm_token_close(softhsm_token("first"));
    hsm_token_close(softhsm_token("second"));
    return 0;
}

static int
stop(void **state)
{
    (void)state;
    softhsm_stop();
    return 0;
}

#define ON_PAIR(test) cmocka_unit_test_setup_teardown(test, open_pair, close_pair)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        ON_PAIR(nothing_is_lost_when_one_of_two_tokens_is_taken_away),
        ON_PAIR(the_preferred_one_signs_while_it_is_well),
        ON_PAIR(a_key_that_was_removed_does_not_sign),
        ON_PAIR(all_away_is_busy_at_the_deadline),
        ON_PAIR(what_cannot_be_said_is_not_signed),
        ON_PAIR(a_member_that_has_nothing_to_sign_is_passed_over_and_is_no_worse_for_it),
        cmocka_unit_test_setup_teardown(no_call_is_lost_while_the_preferred_token_hangs,
                                        open_pair_with_workers, close_pair),
        cmocka_unit_test_setup_teardown(a_member_gets_no_more_time_than_its_token_is_configured_for,
                                        open_pair_of_different_patience, close_pair),
        cmocka_unit_test_setup_teardown(a_call_without_a_timeout_has_the_longest_of_its_tokens,
                                        open_pair_of_different_patience, close_pair),
        cmocka_unit_test_setup_teardown(a_slow_token_signs_after_a_round_that_failed,
                                        open_pair_with_workers, close_pair),
        ON_PAIR(one_that_refuses_does_not_end_the_wait_for_one_that_is_recovered),
        cmocka_unit_test_setup_teardown(a_group_whose_queues_are_full_does_not_ask_without_pause,
                                        open_pair_with_short_queues, close_pair),
        ON_PAIR(a_child_does_not_use_the_parents_group),
        ON_PAIR(a_group_is_bounded),
    };

    return skips_run_group_tests(tests, start, stop);
}
