/* test_signers.c - mirrors sks/src/signers.c and tokens.c: two tokens, one of which is taken away.
 */
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <certs/constraints.h>
#include <certs/tnauthlist.h>
#include <sks/signers.h>

#include "ecosystem.h"
#include "fault_client.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define FIRST        "pkcs11:token=first"
#define SECOND       "pkcs11:token=second"
#define CALLERS      4
#define HASTY_MS     300

static struct ecosystem eco;
static struct hsm_secret *pin;
static char dir[256];
static char behind[PATH_MAX]; /* a second copy of the module behind the fault module */
static const char *const dest[] = {"12155551213"};

/* ---- a service provider with a key in each token ---- */

struct sp {
    struct sks_catalogue *catalogue;
    struct sks_tokens *tokens;
    struct sks_signers *signers;
};

static struct sks_token_config
token_config(const char *uri)
{
    return (struct sks_token_config){.uri = uri, .module = softhsm_module(), .pin = pin};
}

static enum hsm_status
open_tokens(struct sks_tokens **out)
{
    const struct sks_token_config configs[] = {token_config(FIRST), token_config(SECOND)};

    return sks_tokens_open(configs, COUNT(configs), out);
}

/* With a chain for its key; takes the chain over. */
static int64_t
put_credential(struct sks_catalogue *catalogue, const char *uri, const char *label,
               const struct hsm_key *key, struct certs_chain *chain)
{
    struct sks_credential credential = {.state = SKS_PUBLISHED,
                                        .spc = strdup(ECO_SPC),
                                        .token_uri = strdup(uri),
                                        .not_after = eco.now + ECO_DAY};
    char x5u[128];
    int64_t id;

    assert_int_equal(certs_chain_pem(chain, &credential.chain_pem), HSM_OK);
    credential.key_uri = strdup(hsm_key_uri(key));
    snprintf(x5u, sizeof(x5u), "https://cr.sp.example/%s.pem", label);
    credential.x5u = strdup(x5u);
    assert_int_equal(sks_catalogue_put(catalogue, &credential), HSM_OK);
    assert_int_equal(sks_catalogue_activate(catalogue, credential.id), HSM_OK);
    id = credential.id;
    sks_credential_clear(&credential);
    certs_chain_free(chain);
    return id;
}

static int64_t
add_credential(struct sks_catalogue *catalogue, struct hsm_token *token, const char *uri,
               const char *label, time_t not_before, time_t not_after)
{
    struct hsm_key *key = NULL;
    int64_t id;

    assert_int_equal(hsm_key_find_or_generate(token, label, &key), HSM_OK);
    id = put_credential(catalogue, uri, label, key,
                        eco_sp_chain(&eco, ECO_SPC, hsm_key_public(key), not_before, not_after));
    hsm_key_free(key);
    return id;
}

/* A certificate of another CA, which permits its holder attest B at most. */
static void
add_constrained(struct sks_catalogue *catalogue, struct hsm_token *token, const char *uri,
                const char *label)
{
    static const char *const levels[] = {"B", NULL};
    static const struct certs_permitted_values permitted[] = {{"attest", levels}, {NULL, NULL}};
    const struct certs_claim_constraints content = {.permitted_values = permitted};
    struct certs_constraints *constraints = NULL;
    struct certs_tnauthlist *list = NULL;
    struct hsm_key *key = NULL;
    struct certs_chain *chain;

    eco_must(certs_constraints_new(CERTS_CONSTRAINTS_ENHANCED, &content, &constraints, NULL),
             "constraints");
    eco_must(certs_tnauthlist_from_spc(ECO_SPC, &list), "SPC");
    assert_int_equal(hsm_key_find_or_generate(token, label, &key), HSM_OK);
    chain = eco_chain(
        eco_issue(&eco,
                  (struct certs_issue_request){.profile = CERTS_PROFILE_TN_END_ENTITY,
                                               .subject = {.common_name = "SHAKEN " ECO_SPC},
                                               .tnauthlist = list,
                                               .constraints = constraints},
                  hsm_key_public(key), eco.ca, eco.ca_key));
    eco_must(certs_chain_append(chain, eco.ca), "chain");
    (void)put_credential(catalogue, uri, label, key, chain);
    certs_tnauthlist_free(list);
    certs_constraints_free(constraints);
    hsm_key_free(key);
}

static int
open_sp(void **state)
{
    static struct sp sp;
    static int number;
    char path[512];

    memset(&sp, 0, sizeof(sp));
    snprintf(path, sizeof(path), "%s/catalogue-%d.db", dir, number++);
    assert_int_equal(sks_catalogue_open(path, &sp.catalogue), HSM_OK);
    assert_int_equal(open_tokens(&sp.tokens), HSM_OK);
    add_credential(sp.catalogue, sks_tokens_get(sp.tokens, FIRST), FIRST, "in-first", 0, 0);
    add_credential(sp.catalogue, sks_tokens_get(sp.tokens, SECOND), SECOND, "in-second", 0, 0);
    *state = &sp;
    return 0;
}

static int
close_sp(void **state)
{
    struct sp *sp = *state;

    fault("reset");
    sks_signers_free(sp->signers);
    sks_tokens_close(sp->tokens);
    sks_catalogue_close(sp->catalogue);
    return 0;
}

static void
load(struct sp *sp, size_t count, const char *wanted)
{
    sks_signers_free(sp->signers);
    sp->signers = NULL;
    assert_int_equal(sks_signers_load(sp->catalogue, sp->tokens, ECO_SPC, &sp->signers), HSM_OK);
    assert_int_equal(sks_signers_count(sp->signers), count);
    assert_int_equal(sks_signers_left_out_count(sp->signers), wanted == NULL ? 0 : 1);
    if (wanted != NULL)
        assert_string_equal(sks_signers_left_out(sp->signers, 0)->why, wanted);
}

/* ---- calls ---- */

struct calls {
    struct sp *sp;
    atomic_bool over;
    atomic_uint by_first, by_second, lost, wrong;
};

static enum hsm_status
sign_of(struct sp *sp, time_t iat, char **identity, const struct sks_signer **signer,
        struct hsm_reason *why)
{
    const struct sks_claims claims = {
        .ppt = SKS_PPT_SHAKEN,
        .attest = 'A',
        .orig_tn = "12155551212",
        .dest_tn = dest,
        .dest_tn_count = 1,
        .iat = iat,
        .origid = "de305d54-75b4-431b-adb2-eb6b9e546014",
    };

    return sks_signers_sign(sp->signers, &claims, time(NULL), identity, signer, why);
}

static enum hsm_status
sign(struct sp *sp, char **identity, const struct sks_signer **signer, struct hsm_reason *why)
{
    return sign_of(sp, time(NULL), identity, signer, why);
}

static void
call_once(struct calls *calls)
{
    const struct sks_signer *signer = NULL;
    struct hsm_reason why = {""};
    char *identity = NULL;

    if (sign(calls->sp, &identity, &signer, &why) != HSM_OK) {
        calls->lost++;
        return;
    }
    if (strstr(sks_signer_x5u(signer), "in-first") != NULL)
        calls->by_first++;
    else
        calls->by_second++;
    if (strstr(identity, sks_signer_x5u(signer)) == NULL) /* must name the certificate of its key */
        calls->wrong++;
    free(identity);
}

static void *
call_until_over(void *argument)
{
    struct calls *calls = argument;

    while (!calls->over)
        call_once(calls);
    return NULL;
}

static void
sleep_ms(unsigned ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

    nanosleep(&t, NULL);
}

/* Waits up to twenty seconds, as threads may be scheduled late. */
static bool
signs_more(const atomic_uint *count)
{
    unsigned before = *count;

    for (int i = 0; i < 2000 && *count == before; i++)
        sleep_ms(10);
    return *count > before;
}

static bool
first_becomes(struct sp *sp, bool is_ready)
{
    const struct hsm_token *first = sks_tokens_get(sp->tokens, FIRST);

    for (int i = 0; i < 2000 && hsm_token_is_ready(first) != is_ready; i++)
        sleep_ms(10);
    return hsm_token_is_ready(first) == is_ready;
}

/* Results under load are asserted after the callers have ended. */
static void
the_loss_of_a_token_costs_no_call(void **state)
{
    struct calls calls = {.sp = *state};
    pthread_t callers[CALLERS];
    bool both, one, serves, both_again, serves_again;

    load(calls.sp, 2, NULL);
    for (size_t i = 0; i < CALLERS; i++)
        assert_int_equal(pthread_create(&callers[i], NULL, call_until_over, &calls), 0);
    both = signs_more(&calls.by_first) && signs_more(&calls.by_second); /* by load */
    fault("remove token first");
    one = first_becomes(calls.sp, false) && signs_more(&calls.by_second);
    serves = sks_tokens_ready(calls.sp->tokens);
    fault("return token first");
    both_again = first_becomes(calls.sp, true);
    serves_again = signs_more(&calls.by_first);
    calls.over = true;
    for (size_t i = 0; i < CALLERS; i++)
        assert_int_equal(pthread_join(callers[i], NULL), 0);
    assert_int_equal(calls.lost, 0);
    assert_int_equal(calls.wrong, 0);
    assert_true(both);
    assert_true(one);
    assert_true(serves);
    assert_true(both_again);
    assert_true(serves_again);
}

/* Within twenty seconds; a token that is closed earlier leaves its session behind. */
static bool
becomes_unstuck(struct sp *sp, const char *uri)
{
    struct hsm_token_stats stats = {.stuck_now = 1};

    for (int i = 0; i < 2000 && stats.stuck_now > 0; i++) {
        hsm_token_stats(sks_tokens_get(sp->tokens, uri), &stats);
        sleep_ms(10);
    }
    return stats.stuck_now == 0;
}

/* As [token] op-timeout-ms configures it. */
static void
the_configured_time_bounds_a_call_with_several_credentials(void **state)
{
    static const struct acme_token_settings settings = {.workers = 2, .op_timeout_ms = HASTY_MS};
    struct sp *sp = *state;
    struct sks_token_config configs[] = {token_config(FIRST), token_config(SECOND)};
    const struct sks_signer *signer = NULL;
    struct hsm_reason why = {""};
    struct timespec begun, ended;
    char *identity = NULL;

    configs[0].settings = configs[1].settings = &settings;
    sks_tokens_close(sp->tokens);
    sp->tokens = NULL;
    assert_int_equal(sks_tokens_open(configs, COUNT(configs), &sp->tokens), HSM_OK);
    load(sp, 2, NULL);
    fault("on C_Sign token first block");
    assert_int_equal(sign(sp, &identity, &signer, &why), HSM_OK); /* by the second token */
    free(identity);
    fault("on C_Sign token second block");
    clock_gettime(CLOCK_MONOTONIC, &begun);
    assert_int_equal(sign(sp, &identity, &signer, &why), HSM_ERR_BUSY);
    clock_gettime(CLOCK_MONOTONIC, &ended);
    fault("reset");
    assert_true(becomes_unstuck(sp, FIRST));
    assert_true(becomes_unstuck(sp, SECOND));
    assert_true(ended.tv_sec - begun.tv_sec < 3); /* the time without a configuration */
}

static void
a_token_that_is_away_at_the_start_joins_later(void **state)
{
    struct sp *sp = *state;
    struct calls calls = {.sp = sp};

    sks_tokens_close(sp->tokens);
    sp->tokens = NULL;
    fault("remove token second");
    assert_int_equal(open_tokens(&sp->tokens), HSM_OK);
    assert_null(sks_tokens_get(sp->tokens, SECOND));
    load(sp, 1, "its token, or what opens it, is not there");
    call_once(&calls);
    assert_int_equal(calls.by_first, 1);
    assert_false(sks_tokens_retry(sp->tokens));
    fault("return token second");
    assert_true(sks_tokens_retry(sp->tokens));
    load(sp, 2, NULL);
    assert_int_equal(sks_signers_probe(sp->signers, time(NULL)), HSM_OK);
}

static void
a_token_that_hangs_at_the_start_keeps_no_other_out(void **state)
{
    /* Without quirks it does not hold the host lock, for which the other would wait. */
    static char none[] = "";
    const struct acme_token_settings alone = {.quirks = none};
    struct sp *sp = *state;
    struct sks_token_config configs[] = {token_config(FIRST), token_config(SECOND)};
    struct calls calls = {.sp = sp};
    time_t begun;

    sks_tokens_close(sp->tokens);
    sp->tokens = NULL;
    configs[0].settings = &alone;
    configs[1].module = behind; /* of one module, only one token is opened at a time */
    fault("on C_Login token first block");
    assert_int_equal(sks_tokens_open(configs, COUNT(configs), &sp->tokens), HSM_OK);
    assert_int_equal(fault_number("held"), 1);
    assert_null(sks_tokens_get(sp->tokens, FIRST));
    load(sp, 1, "its token is away");
    call_once(&calls);
    assert_int_equal(calls.by_second, 1);
    begun = time(NULL);
    for (int i = 0; i < 3; i++) /* waited for only once */
        assert_false(sks_tokens_retry(sp->tokens));
    assert_true(time(NULL) - begun < 10);
    assert_true(sks_tokens_are_opening(sp->tokens));
    fault("release");
    for (int i = 0; i < 1000 && !sks_tokens_retry(sp->tokens); i++)
        usleep(10000);
    assert_false(sks_tokens_are_opening(sp->tokens));
    load(sp, 2, NULL);
    assert_int_equal(sks_signers_probe(sp->signers, time(NULL)), HSM_OK);
}

/* A command that is done can end, and so can a candidate that was refused. */
static void
a_token_that_hangs_at_the_start_keeps_nobody_from_closing(void **state)
{
    char none[] = "";
    struct acme_token_settings alone = {.quirks = none};
    struct hsm_secret *given = NULL;
    struct sp *sp = *state;
    struct sks_token_config configs[] = {token_config(FIRST), token_config(SECOND)};

    sks_tokens_close(sp->tokens);
    sp->tokens = NULL;
    assert_int_equal(hsm_secret_new(SOFTHSM_USER_PIN, strlen(SOFTHSM_USER_PIN), &given), HSM_OK);
    configs[0].settings = &alone;
    configs[0].pin = given;
    configs[1].module = behind;
    fault("reset");
    fault("on C_GetTokenInfo token first times 1 block"); /* before the PIN is read */
    assert_int_equal(sks_tokens_open(configs, COUNT(configs), &sp->tokens), HSM_OK);
    assert_int_equal(fault_number("held"), 1);
    load(sp, 1, "its token is away");
    sks_signers_free(sp->signers);
    sp->signers = NULL;
    alarm(30);
    sks_tokens_close(sp->tokens);
    alarm(0);
    sp->tokens = NULL;
    assert_int_equal(fault_number("held"), 1);
    memset(none, 'x', sizeof(none)); /* the caller's configuration is gone */
    hsm_secret_free(given);
    fault("release");
    for (int i = 0; i < 1000 && fault_number("count C_Logout") == 0; i++)
        usleep(10000);
    assert_int_equal(fault_number("count C_Login"), 1); /* opened, and closed by its own thread */
    assert_int_equal(fault_number("count C_Logout"), 1);
    for (int i = 0; i < 1000 && fault_number("open token first") > 0; i++)
        usleep(10000);
    assert_int_equal(fault_number("open token first"), 0);
}

/* The fault of the second token, and the text reported for it. */
static void
each_fault_of_a_token_is_its_own(void **state)
{
    struct hsm_secret *wrong = NULL;
    const struct sks_token_config second[] = {
        {.uri = SECOND, .module = softhsm_module(), .pin = NULL},
        {.uri = SECOND, .module = "/nonexistent/pkcs11.so", .pin = pin},
        {.uri = SECOND, .module = "/dev/null", .pin = pin},
        {.uri = "pkcs11:token=absent", .module = softhsm_module(), .pin = pin},
    };
    static const struct {
        enum hsm_status st;
        const char *fault;
    } expected[] = {
        {HSM_ERR_DENIED, "the PIN of its token was refused"},
        {HSM_ERR_NOT_FOUND, "its token, or what opens it, is not there"},
        {HSM_ERR_UNSUPPORTED, "the module of its token cannot be used"},
        {HSM_ERR_NOT_FOUND, "its token, or what opens it, is not there"},
    };
    struct sp *sp = *state;
    struct calls calls = {.sp = sp};

    assert_int_equal(hsm_secret_new("9999", 4, &wrong), HSM_OK);
    for (size_t i = 0; i < COUNT(second); i++) {
        struct sks_token_config configs[] = {token_config(FIRST), second[i]};

        if (configs[1].pin == NULL)
            configs[1].pin = wrong;
        sks_signers_free(sp->signers);
        sp->signers = NULL;
        sks_tokens_close(sp->tokens);
        sp->tokens = NULL;
        assert_int_equal(sks_tokens_open(configs, COUNT(configs), &sp->tokens), HSM_OK);
        assert_null(sks_tokens_get(sp->tokens, second[i].uri));
        assert_non_null(sks_tokens_get(sp->tokens, FIRST));
        assert_null(sks_tokens_fault(sp->tokens, FIRST));
        assert_string_equal(sks_tokens_fault(sp->tokens, second[i].uri), expected[i].fault);
        assert_int_equal(sks_tokens_check(sp->tokens), expected[i].st);
        assert_false(sks_tokens_retry(sp->tokens));
        assert_string_equal(sks_tokens_fault(sp->tokens, second[i].uri), expected[i].fault);
        load(sp, 1, sks_tokens_fault(sp->tokens, SECOND));
        call_once(&calls);
    }
    assert_int_equal(calls.by_first, COUNT(second));
    hsm_secret_free(wrong);
    hsm_token_forget_refusals();
}

/* The previous tokens are still open, as they are during a reload. */
static void
a_pin_that_was_refused_is_replaced_by_the_next_one_that_is_given(void **state)
{
    struct sp *sp = *state;
    struct sks_token_config configs[] = {token_config(FIRST), token_config(SECOND)};
    struct sks_tokens *next = NULL;
    struct hsm_secret *wrong = NULL;
    struct hsm_key *key = NULL;

    fault("on C_Login token second rv CKR_PIN_INCORRECT\nreboot token second");
    assert_int_equal(
        hsm_key_find(sks_tokens_get(sp->tokens, SECOND), "pkcs11:object=in-second", &key),
        HSM_ERR_DENIED);
    fault("reset");
    hsm_token_forget_refusals();
    assert_int_equal(hsm_secret_new("9999", 4, &wrong), HSM_OK);
    configs[1].pin = wrong;
    assert_int_equal(sks_tokens_open(configs, COUNT(configs), &next), HSM_OK);
    hsm_secret_free(wrong);
    assert_null(sks_tokens_get(next, SECOND));
    assert_string_equal(sks_tokens_fault(next, SECOND), "the PIN of its token was refused");
    sks_tokens_close(next);
    next = NULL;
    hsm_token_forget_refusals();
    assert_int_equal(open_tokens(&next), HSM_OK);
    assert_null(sks_tokens_fault(next, SECOND));
    assert_null(sks_tokens_fault(sp->tokens, SECOND));
    sks_tokens_close(next);
    load(sp, 2, NULL);
    assert_int_equal(sks_signers_probe(sp->signers, time(NULL)), HSM_OK);
}

/* Without a token the caller waits, if one may still come. */
static void
what_is_to_be_done_is_told_when_no_token_can_be_opened(void **state)
{
    struct hsm_secret *wrong = NULL;
    struct sks_token_config configs[] = {token_config("pkcs11:token=absent"), token_config(FIRST)};
    struct sks_tokens *tokens = NULL;
    struct sp *sp = *state;

    assert_int_equal(hsm_secret_new("9999", 4, &wrong), HSM_OK);
    sks_tokens_close(sp->tokens); /* an existing login would be shared */
    sp->tokens = NULL;
    configs[1].pin = wrong;
    assert_int_equal(sks_tokens_open(configs, 2, &tokens), HSM_ERR_DENIED);
    assert_int_equal(sks_tokens_open(configs, 1, &tokens), HSM_ERR_NOT_FOUND);
    assert_null(tokens);
    hsm_secret_free(wrong);
    hsm_token_forget_refusals();
}

static void
without_any_token_nothing_is_signed(void **state)
{
    struct sp *sp = *state;
    struct sks_tokens *none = NULL;
    struct hsm_reason why = {""};
    const struct sks_signer *signer = NULL;
    char *identity = NULL;

    load(sp, 2, NULL);
    fault("remove");
    assert_int_equal(sign(sp, &identity, &signer, &why), HSM_ERR_BUSY);
    assert_null(identity);
    assert_string_not_equal(why.text, "");
    assert_int_not_equal(open_tokens(&none), HSM_OK);
    assert_null(none);
    fault("return");
}

/* The newest certificate has expired, another has not. */
static void
a_certificate_that_has_ended_signs_no_more(void **state)
{
    struct sp *sp = *state;
    struct calls calls = {.sp = sp};

    add_credential(sp->catalogue, sks_tokens_get(sp->tokens, SECOND), SECOND, "ended",
                   eco.now - 3000, eco.now - 100);
    load(sp, 2, NULL);
    for (int i = 0; i < 4; i++)
        call_once(&calls);
    assert_int_equal(calls.by_first, 4);
}

/* The newest certificate is not valid yet: the clock of its CA is ahead of ours. */
static void
a_certificate_that_has_not_begun_refuses_no_call(void **state)
{
    struct sp *sp = *state;
    struct calls calls = {.sp = sp};
    int64_t id;

    add_credential(sp->catalogue, sks_tokens_get(sp->tokens, SECOND), SECOND, "ahead",
                   eco.now + 3000, eco.now + ECO_DAY);
    load(sp, 2, NULL);
    assert_ptr_equal(sks_signers_at(sp->signers, time(NULL)), sks_signers_get(sp->signers, 1, &id));
    for (int i = 0; i < 4; i++)
        call_once(&calls);
    assert_int_equal(calls.by_first, 4);
    assert_int_equal(sks_signers_probe(sp->signers, time(NULL)), HSM_OK);
}

/* The CA did not backdate it: a call of 50 s ago lies before its notBefore. */
static void
a_call_is_signed_with_a_certificate_that_covers_its_iat(void **state)
{
    struct sp *sp = *state;
    struct hsm_reason why = {""};
    time_t now = time(NULL);

    add_credential(sp->catalogue, sks_tokens_get(sp->tokens, SECOND), SECOND, "fresh", now - 5,
                   now + ECO_DAY);
    load(sp, 2, NULL);
    for (int i = 0; i < 8; i++) {
        const struct sks_signer *signer = NULL;
        char *identity = NULL;

        assert_int_equal(sign_of(sp, now - 50, &identity, &signer, &why), HSM_OK);
        assert_non_null(strstr(identity, "in-first"));
        assert_non_null(strstr(sks_signer_x5u(signer), "in-first"));
        free(identity);
    }
    add_credential(sp->catalogue, sks_tokens_get(sp->tokens, FIRST), FIRST, "fresh-too", now - 5,
                   now + ECO_DAY);
    load(sp, 2, NULL);
    for (int covered = 0; covered < 2; covered++) {
        const struct sks_signer *signer = NULL;
        char *identity = NULL;

        assert_int_equal(sign_of(sp, covered ? now : now - 50, &identity, &signer, &why),
                         covered ? HSM_OK : HSM_ERR_UNTRUSTED);
        assert_non_null(signer);
        free(identity);
    }
}

/* Two CAs issue to one provider, and the token that is tried first is chosen at random. */
static void
a_call_is_signed_with_a_certificate_that_lets_its_holder_say_it(void **state)
{
    struct sp *sp = *state;
    struct calls calls = {.sp = sp};
    const struct sks_signer *signer = NULL;
    struct hsm_reason why = {""};
    char *identity = NULL;

    add_constrained(sp->catalogue, sks_tokens_get(sp->tokens, SECOND), SECOND, "constrained");
    load(sp, 2, NULL);
    for (int i = 0; i < 20; i++)
        call_once(&calls);
    assert_int_equal(calls.lost, 0);
    assert_int_equal(calls.by_first, 20);
    add_constrained(sp->catalogue, sks_tokens_get(sp->tokens, FIRST), FIRST, "constrained-too");
    load(sp, 2, NULL);
    assert_int_equal(sign(sp, &identity, &signer, &why), HSM_ERR_UNSUPPORTED);
    assert_non_null(strstr(why.text, "attest"));
    assert_non_null(signer);
    assert_null(identity);
}

static void
destroy(struct sks_tokens *tokens, const char *token_uri, const char *key_uri)
{
    struct hsm_key *key = NULL;

    assert_int_equal(hsm_key_find(sks_tokens_get(tokens, token_uri), key_uri, &key), HSM_OK);
    assert_int_equal(hsm_key_destroy(key), HSM_OK);
    hsm_key_free(key);
}

static void
a_credential_whose_key_is_gone_is_left_out_and_named(void **state)
{
    struct sp *sp = *state;
    struct calls calls = {.sp = sp};
    int64_t id = add_credential(sp->catalogue, sks_tokens_get(sp->tokens, SECOND), SECOND,
                                "to-be-lost", 0, 0);

    destroy(sp->tokens, SECOND, "pkcs11:object=to-be-lost");
    load(sp, 1, "its key is not in the token");
    assert_int_equal(sks_signers_left_out(sp->signers, 0)->id, id);
    assert_true(sks_signers_left_out(sp->signers, 0)->may_come);
    assert_int_equal(sks_signers_check(sp->signers), HSM_OK);
    for (int i = 0; i < 4; i++)
        call_once(&calls);
    assert_int_equal(calls.by_first, 4);
    add_credential(sp->catalogue, sks_tokens_get(sp->tokens, FIRST), FIRST, "to-be-lost-too", 0, 0);
    destroy(sp->tokens, FIRST, "pkcs11:object=to-be-lost-too");
    sks_signers_free(sp->signers);
    sp->signers = NULL;
    assert_int_equal(sks_signers_load(sp->catalogue, sp->tokens, ECO_SPC, &sp->signers), HSM_OK);
    assert_int_equal(sks_signers_left_out_count(sp->signers), 2);
    assert_int_equal(sks_signers_check(sp->signers), HSM_ERR_NOT_FOUND); /* none is left */
}

static void
a_credential_of_a_token_that_is_not_configured_any_more_is_left_out(void **state)
{
    const struct sks_token_config first = token_config(FIRST);
    struct sp *sp = *state;
    struct calls calls = {.sp = sp};

    sks_tokens_close(sp->tokens);
    sp->tokens = NULL;
    assert_int_equal(sks_tokens_open(&first, 1, &sp->tokens), HSM_OK);
    load(sp, 1, "its token is not in the configuration");
    assert_false(sks_signers_left_out(sp->signers, 0)->may_come);
    for (int i = 0; i < 4; i++)
        call_once(&calls);
    assert_int_equal(calls.by_first, 4);
}

static void
a_call_that_the_claims_forbid_is_refused_and_not_tried_elsewhere(void **state)
{
    struct sp *sp = *state;
    const struct sks_claims wrong = {.ppt = SKS_PPT_SHAKEN,
                                     .attest = 'X',
                                     .orig_tn = "12155551212",
                                     .dest_tn = dest,
                                     .dest_tn_count = 1,
                                     .iat = time(NULL),
                                     .origid = "de305d54-75b4-431b-adb2-eb6b9e546014"};
    const struct sks_signer *signer = NULL;
    struct hsm_reason why = {""};
    char *identity = NULL;

    load(sp, 2, NULL);
    assert_int_equal(sks_signers_sign(sp->signers, &wrong, time(NULL), &identity, &signer, &why),
                     HSM_ERR_MALFORMED);
    assert_non_null(strstr(why.text, "attest"));
    assert_null(identity);
}

/* What a token answers that cannot sign with its key may be of the kinds with which a certificate
 * refuses a call: CKR_MECHANISM_INVALID is HSM_ERR_UNSUPPORTED. */
static void
a_fault_of_the_token_is_no_refusal_by_a_certificate(void **state)
{
    struct sp *sp = *state;
    const struct sks_signer *signer = NULL;
    struct hsm_reason why = {""};
    char *identity = NULL;

    load(sp, 2, NULL);
    fault("on C_SignInit rv CKR_MECHANISM_INVALID");
    assert_int_equal(sign(sp, &identity, &signer, &why), HSM_ERR_CRYPTO);
    assert_non_null(strstr(why.text, "no token signs: not supported"));
    fault("reset");
    add_constrained(sp->catalogue, sks_tokens_get(sp->tokens, SECOND), SECOND, "constrained");
    load(sp, 2, NULL);
    fault("on C_SignInit rv CKR_MECHANISM_INVALID"); /* of the one that may sign the call */
    assert_int_equal(sign(sp, &identity, &signer, &why), HSM_ERR_CRYPTO);
    assert_non_null(strstr(sks_signer_x5u(signer), "in-first"));
    assert_null(identity);
}

/* The other token's certificate does not allow the call. */
static void
a_key_that_is_gone_is_no_refusal_by_a_certificate(void **state)
{
    struct sp *sp = *state;
    const struct sks_signer *signer = NULL;
    struct hsm_reason why = {""};
    char *identity = NULL;

    add_credential(sp->catalogue, sks_tokens_get(sp->tokens, FIRST), FIRST, "to-be-gone", 0, 0);
    add_constrained(sp->catalogue, sks_tokens_get(sp->tokens, SECOND), SECOND, "constrained");
    load(sp, 2, NULL);
    destroy(sp->tokens, FIRST, "pkcs11:object=to-be-gone");
    assert_int_equal(sign(sp, &identity, &signer, &why), HSM_ERR_NOT_FOUND);
    assert_non_null(strstr(sks_signer_x5u(signer), "to-be-gone"));
    assert_null(identity);
}

static void
tokens_are_told_apart_by_their_uri(void **state)
{
    const struct sks_token_config twice[] = {token_config(FIRST), token_config(FIRST)};
    struct sks_tokens *tokens = NULL;
    struct sp *sp = *state;

    assert_int_equal(sks_tokens_count(sp->tokens), 2);
    assert_string_equal(sks_tokens_uri(sp->tokens, 1), SECOND);
    assert_ptr_not_equal(sks_tokens_get(sp->tokens, FIRST), sks_tokens_get(sp->tokens, SECOND));
    assert_null(sks_tokens_get(sp->tokens, "pkcs11:token=third"));
    assert_int_equal(sks_tokens_open(twice, 2, &tokens), HSM_ERR_USAGE);
    assert_int_equal(sks_tokens_open(twice, 0, &tokens), HSM_ERR_USAGE);
    assert_int_equal(sks_tokens_open(twice, 1, &tokens), HSM_OK);
    assert_null(sks_tokens_get(tokens, "pkcs11:token=third")); /* does not match every URI */
    assert_string_equal(sks_tokens_fault(tokens, SECOND), "its token is not in the configuration");
    sks_tokens_close(tokens);
}

/* RFC 7512: a URI may give more or fewer attributes of the same token. */
static void
a_token_is_meant_by_any_uri_that_names_it_alone(void **state)
{
    static const struct {
        const char *uri;
        bool is_first;
    } cases[] = {
        {"pkcs11:token=first;manufacturer=Somebody", true},
        {"pkcs11:model=v2;token=first?module-path=/usr/lib/module.so", true},
        {"pkcs11:token=first;object=key", true},
        {"pkcs11:token=fir%73t", true},
        {"pkcs11:token=second;manufacturer=Somebody", false},
        {"pkcs11:manufacturer=Somebody", false}, /* does not identify one token */
        {"pkcs11:serial=0123456789abcdef", false},
        {"pkcs11:", false},
        {"token first", false},
        {"", false},
    };
    const struct sp *sp = *state;

    for (size_t i = 0; i < COUNT(cases); i++) {
        assert_int_equal(sks_tokens_is(sp->tokens, 0, cases[i].uri), cases[i].is_first);
        if (cases[i].is_first)
            assert_ptr_equal(sks_tokens_get(sp->tokens, cases[i].uri),
                             sks_tokens_get(sp->tokens, FIRST));
    }
    assert_false(sks_tokens_has(sp->tokens, "pkcs11:manufacturer=Somebody"));
    assert_true(sks_tokens_has(sp->tokens, "pkcs11:token=second;manufacturer=Somebody"));
}

/* The copy has another path, so it is a separate module with its own state. */
static void
copy_file(const char *from, const char *to)
{
    FILE *in = fopen(from, "rb");
    FILE *out = fopen(to, "wb");
    char octets[4096];
    size_t len;

    assert_non_null(in);
    assert_non_null(out);
    while ((len = fread(octets, 1, sizeof(octets), in)) > 0)
        assert_int_equal(fwrite(octets, 1, len, out), len);
    fclose(in);
    assert_int_equal(fclose(out), 0);
}

static int
start(void **state)
{
    char module[PATH_MAX];

    (void)state;
    snprintf(module, sizeof(module), "%s", softhsm_module());
    fault_open();
    eco_start(&eco);
    snprintf(dir, sizeof(dir), "%s", softhsm_dir());
    snprintf(behind, sizeof(behind), "%s/behind.so", dir);
    copy_file(module, behind);
    hsm_token_close(softhsm_token("first"));
    hsm_token_close(softhsm_token("second"));
    return hsm_secret_new(SOFTHSM_USER_PIN, strlen(SOFTHSM_USER_PIN), &pin) == HSM_OK ? 0 : -1;
}

static int
stop(void **state)
{
    (void)state;
    hsm_secret_free(pin);
    eco_stop(&eco);
    return 0;
}

#define WITH_SP(test) cmocka_unit_test_setup_teardown(test, open_sp, close_sp)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SP(the_loss_of_a_token_costs_no_call),
        WITH_SP(the_configured_time_bounds_a_call_with_several_credentials),
        WITH_SP(a_token_that_is_away_at_the_start_joins_later),
        WITH_SP(a_token_that_hangs_at_the_start_keeps_no_other_out),
        WITH_SP(a_token_that_hangs_at_the_start_keeps_nobody_from_closing),
        WITH_SP(each_fault_of_a_token_is_its_own),
        WITH_SP(a_pin_that_was_refused_is_replaced_by_the_next_one_that_is_given),
        WITH_SP(what_is_to_be_done_is_told_when_no_token_can_be_opened),
        WITH_SP(without_any_token_nothing_is_signed),
        WITH_SP(a_certificate_that_has_ended_signs_no_more),
        WITH_SP(a_certificate_that_has_not_begun_refuses_no_call),
        WITH_SP(a_call_is_signed_with_a_certificate_that_covers_its_iat),
        WITH_SP(a_call_is_signed_with_a_certificate_that_lets_its_holder_say_it),
        WITH_SP(a_credential_whose_key_is_gone_is_left_out_and_named),
        WITH_SP(a_credential_of_a_token_that_is_not_configured_any_more_is_left_out),
        WITH_SP(a_call_that_the_claims_forbid_is_refused_and_not_tried_elsewhere),
        WITH_SP(a_fault_of_the_token_is_no_refusal_by_a_certificate),
        WITH_SP(a_key_that_is_gone_is_no_refusal_by_a_certificate),
        WITH_SP(tokens_are_told_apart_by_their_uri),
        WITH_SP(a_token_is_meant_by_any_uri_that_names_it_alone),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
