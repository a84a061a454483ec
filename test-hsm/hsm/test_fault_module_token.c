/* test_fault_module_token.c - what the fault module does to tokens: losses, limits, time. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/resource.h>
#include <sys/wait.h>

#include <cmocka.h>

#include <openssl/evp.h>

#include <hsm/es256.h>

#include "fault_token.h"

/* ---- events of a token */

static void
a_session_is_lost_alone(void **state)
{
    struct p11_token *f = *state;
    CK_SESSION_HANDLE other;

    assert_int_equal(p11_open_session(f->slot, &other), CKR_OK);
    fault("on C_SignInit times 1 drop");
    assert_int_equal(p11_sign(other, f->key), CKR_SESSION_HANDLE_INVALID);
    assert_int_equal(p11->C_CloseSession(other), CKR_SESSION_HANDLE_INVALID);
    assert_int_equal(p11_sign(f->session, f->key), CKR_OK);
    assert_int_equal(p11_open_session(f->slot, &other), CKR_OK);
    fault("drop 1");
    assert_int_equal(p11_sign(f->session, f->key), CKR_SESSION_HANDLE_INVALID);
    assert_int_equal(p11_sign(other, f->key), CKR_OK);
    fault("drop all");
    assert_int_equal(fault_number("open"), 0);
    p11_come_up(f, "shelf"); /* with a login, as the last session ended the previous one */
    assert_int_equal(fault_number("failed C_Login"), 0);
    assert_int_equal(p11_sign(f->session, f->key), CKR_OK);
}

static void
a_reboot_takes_sessions_logins_and_handles(void **state)
{
    struct p11_token *f = *state;
    CK_OBJECT_HANDLE old = f->key;
    CK_SESSION_INFO info;
    CK_OBJECT_HANDLE found[P11_FOUND_MAX];

    fault("reboot");
    assert_int_equal(p11_sign(f->session, f->key), CKR_SESSION_HANDLE_INVALID);
    assert_int_equal(p11_open_session(f->slot, &f->session), CKR_OK);
    assert_int_equal(p11->C_GetSessionInfo(f->session, &info), CKR_OK);
    assert_int_equal(info.state, CKS_RW_PUBLIC_SESSION);
    assert_int_equal(p11_find_keys(f->session, CKO_PRIVATE_KEY, "alpha", 4, found), 0);
    assert_int_equal(p11_log_in(f->session, SOFTHSM_USER_PIN), CKR_OK);
    assert_int_equal(p11_sign(f->session, old), CKR_OBJECT_HANDLE_INVALID);
    assert_int_equal(p11_sign(f->session, p11_find_key(f->session, CKO_PRIVATE_KEY, "alpha")),
                     CKR_OK);
}

static void
a_reboot_can_happen_in_a_call(void **state)
{
    struct p11_token *f = *state;

    fault("on C_Sign times 1 reboot");
    assert_int_equal(p11_sign(f->session, f->key), CKR_SESSION_HANDLE_INVALID);
    p11_come_up(f, "shelf");
    assert_int_equal(p11_sign(f->session, f->key), CKR_OK);
    fault("reboot token other");
    assert_int_equal(p11_sign(f->session, f->key), CKR_OK);
    fault("reboot token shelf");
    assert_int_equal(p11_sign(f->session, f->key), CKR_SESSION_HANDLE_INVALID);
}

static void
somebody_else_logs_out(void **state)
{
    struct p11_token *f = *state;
    CK_BBOOL value;
    CK_ATTRIBUTE attribute = {CKA_SENSITIVE, &value, 1};

    fault("logout");
    assert_int_equal(p11_sign(f->session, f->key), CKR_USER_NOT_LOGGED_IN);
    assert_int_equal(p11->C_GetAttributeValue(f->session, f->key, &attribute, 1),
                     CKR_USER_NOT_LOGGED_IN);
    assert_int_equal(p11_log_in(f->session, SOFTHSM_USER_PIN), CKR_OK);
    assert_int_equal(p11_sign(f->session, f->key), CKR_OBJECT_HANDLE_INVALID);
    f->key = p11_find_key(f->session, CKO_PRIVATE_KEY, "alpha");
    assert_int_equal(p11_sign(f->session, f->key), CKR_OK);
    fault("on C_SignInit times 1 logout");
    assert_int_equal(p11_sign(f->session, f->key), CKR_USER_NOT_LOGGED_IN);
}

static void
objects_get_other_handles(void **state)
{
    struct p11_token *f = *state;
    CK_OBJECT_HANDLE old = f->key;

    fault("renumber");
    assert_int_equal(p11_sign(f->session, old), CKR_OBJECT_HANDLE_INVALID);
    f->key = p11_find_key(f->session, CKO_PRIVATE_KEY, "alpha");
    assert_int_not_equal(f->key, old);
    assert_int_equal(p11_sign(f->session, f->key), CKR_OK);
    assert_int_equal(p11_sign(f->session, old), CKR_OBJECT_HANDLE_INVALID);
}

/* The label of the key that signs with this handle. */
static const char *
signer_of(struct p11_token *f, CK_OBJECT_HANDLE key)
{
    static const char *const labels[] = {"alpha", "beta"};
    const char *signer = "nobody";
    CK_BYTE sig[P11_SIG_ROOM];
    CK_ULONG len = P11_SIG_ROOM;

    assert_int_equal(p11_sign_into(f->session, key, sig, &len), CKR_OK);
    fault("swap off");
    for (size_t i = 0; i < COUNT(labels); i++) {
        EVP_PKEY *candidate = p11_public_key(f->session, labels[i]);

        if (p11_verifies(candidate, sig, len))
            signer = labels[i];
        EVP_PKEY_free(candidate);
    }
    return signer;
}

static void
handles_change_owners(void **state)
{
    struct p11_token *f = *state;
    CK_OBJECT_HANDLE beta = p11_find_key(f->session, CKO_PRIVATE_KEY, "beta");

    assert_string_equal(signer_of(f, f->key), "alpha");
    assert_int_equal(fault_number("exchange"), 2);
    assert_string_equal(signer_of(f, f->key), "beta");
    assert_string_equal(signer_of(f, beta), "alpha");
    assert_string_equal(signer_of(f, p11_find_key(f->session, CKO_PRIVATE_KEY, "alpha")), "alpha");
}

static void
keys_trade_places_under_their_names(void **state)
{
    struct p11_token *f = *state;
    CK_BYTE label[8];
    CK_BYTE id[4];
    CK_ATTRIBUTE names[] = {{CKA_LABEL, label, sizeof(label)}, {CKA_ID, id, sizeof(id)}};

    fault("swap alpha beta");
    f->key = p11_find_key(f->session, CKO_PRIVATE_KEY, "alpha");
    assert_int_equal(p11->C_GetAttributeValue(f->session, f->key, names, 2), CKR_OK);
    assert_int_equal(names[0].ulValueLen, strlen("alpha"));
    assert_memory_equal(label, "alpha", strlen("alpha"));
    assert_int_equal(id[0], 1);
    assert_string_equal(signer_of(f, f->key), "beta");
    assert_string_equal(signer_of(f, f->key), "alpha"); /* signer_of() ends the swap */
}

static void
swapped_keys_swap_their_points_too(void **state)
{
    struct p11_token *f = *state;
    EVP_PKEY *alpha = p11_public_key(f->session, "alpha");
    EVP_PKEY *beta = p11_public_key(f->session, "beta");
    EVP_PKEY *seen;

    fault("swap alpha beta");
    seen = p11_public_key(f->session, "alpha");
    assert_int_equal(EVP_PKEY_eq(seen, beta), 1);
    EVP_PKEY_free(seen);
    fault("reset");
    seen = p11_public_key(f->session, "alpha");
    assert_int_equal(EVP_PKEY_eq(seen, alpha), 1);
    EVP_PKEY_free(seen);
    EVP_PKEY_free(alpha);
    EVP_PKEY_free(beta);
}

static CK_ULONG
slots_with_tokens(CK_BBOOL token_present)
{
    CK_ULONG count = 0;

    assert_int_equal(p11->C_GetSlotList(token_present, NULL, &count), CKR_OK);
    return count;
}

static void
a_token_is_away_and_returns(void **state)
{
    struct p11_token *f = *state;
    CK_ULONG with_token = slots_with_tokens(CK_TRUE);
    CK_ULONG all = slots_with_tokens(CK_FALSE);
    CK_SLOT_INFO slot_info;
    CK_TOKEN_INFO token_info;
    CK_SESSION_HANDLE session;

    fault("remove token shelf");
    assert_int_equal(p11_sign(f->session, f->key), CKR_DEVICE_REMOVED);
    assert_int_equal(p11_open_session(f->slot, &session), CKR_TOKEN_NOT_PRESENT);
    assert_int_equal(p11->C_GetTokenInfo(f->slot, &token_info), CKR_TOKEN_NOT_PRESENT);
    assert_int_equal(p11->C_GetSlotInfo(f->slot, &slot_info), CKR_OK);
    assert_int_equal(slot_info.flags & CKF_TOKEN_PRESENT, 0);
    assert_int_equal(slots_with_tokens(CK_TRUE), with_token - 1);
    assert_int_equal(slots_with_tokens(CK_FALSE), all);
    fault("return");
    assert_int_equal(p11_sign(f->session, f->key), CKR_SESSION_HANDLE_INVALID);
    assert_int_equal(slots_with_tokens(CK_TRUE), with_token);
    p11_come_up(f, "shelf");
    assert_int_equal(p11_sign(f->session, f->key), CKR_OK);

    fault("remove token shelf slot rv CKR_TOKEN_NOT_PRESENT");
    assert_int_equal(p11_sign(f->session, f->key), CKR_TOKEN_NOT_PRESENT);
    assert_int_equal(p11->C_GetSlotInfo(f->slot, &slot_info), CKR_SLOT_ID_INVALID);
    assert_int_equal(slots_with_tokens(CK_FALSE), all - 1);
}

static void
a_token_returns_by_itself(void **state)
{
    struct p11_token *f = *state;
    int64_t start = p11_now_ns(CLOCK_MONOTONIC);
    bool away = false;

    fault("remove for 100ms");
    while (!p11_try_come_up(f, "shelf"))
        away = true;
    assert_true(away);
    assert_in_range(p11_now_ns(CLOCK_MONOTONIC) - start, 100 * MS, 20000 * MS);
    assert_int_equal(p11_sign(f->session, f->key), CKR_OK);
    fault("on C_Sign times 1 remove 20ms");
    assert_int_equal(p11_sign(f->session, f->key), CKR_DEVICE_REMOVED);
    while (!p11_try_come_up(f, "shelf"))
        continue;
    assert_int_equal(p11_sign(f->session, f->key), CKR_OK);
}

static void
one_of_two_tokens_is_away(void **state)
{
    struct p11_token *f = *state;
    CK_SLOT_ID slot;
    CK_SESSION_HANDLE other;

    assert_int_equal(p11_find_slot("other", &slot), CKR_OK);
    assert_int_equal(p11_open_session(slot, &other), CKR_OK);
    fault("remove token other");
    assert_int_equal(p11_sign(f->session, f->key), CKR_OK);
    assert_int_equal(p11_sign(other, f->key), CKR_DEVICE_REMOVED);
    fault("remove token shelf");
    assert_int_equal(p11_sign(f->session, f->key), CKR_DEVICE_REMOVED);
    fault("return token other");
    assert_int_equal(p11_find_slot("other", &slot), CKR_OK);
    assert_int_equal(p11_find_slot("shelf", &slot), CKR_TOKEN_NOT_PRESENT);
}

static void
handles_of_one_token_mean_nothing_on_another(void **state)
{
    struct p11_token *f = *state;
    CK_SLOT_ID slot;
    CK_SESSION_HANDLE other;

    assert_int_equal(p11_find_slot("other", &slot), CKR_OK);
    assert_int_equal(p11_open_session(slot, &other), CKR_OK);
    assert_int_equal(p11_log_in(other, SOFTHSM_USER_PIN), CKR_OK);
    assert_int_equal(p11_sign(other, f->key), CKR_OBJECT_HANDLE_INVALID);
    assert_int_equal(p11_sign(f->session, f->key), CKR_OK);
}

static void
slots_get_other_numbers(void **state)
{
    struct p11_token *f = *state;
    CK_SLOT_ID old = f->slot;
    CK_SESSION_HANDLE session;
    CK_SESSION_INFO info;

    fault("renumber slots");
    assert_int_equal(p11_open_session(old, &session), CKR_SLOT_ID_INVALID);
    assert_int_equal(p11_sign(f->session, f->key), CKR_OK);
    assert_int_equal(p11_find_slot("shelf", &f->slot), CKR_OK);
    assert_int_not_equal(f->slot, old);
    assert_int_equal(p11_open_session(f->slot, &session), CKR_OK);
    assert_int_equal(p11->C_GetSessionInfo(session, &info), CKR_OK);
    assert_int_equal(info.slotID, f->slot);
}

static void
somebody_else_finalises_the_module(void **state)
{
    struct p11_token *f = *state;
    CK_INFO info;

    fault("on C_Sign times 1 finalize");
    assert_int_equal(p11_sign(f->session, f->key), CKR_CRYPTOKI_NOT_INITIALIZED);
    assert_int_equal(p11->C_GetInfo(&info), CKR_CRYPTOKI_NOT_INITIALIZED);
    assert_int_equal(p11->C_Finalize(NULL), CKR_CRYPTOKI_NOT_INITIALIZED);
    p11_come_up(f, "shelf");
    assert_int_equal(p11_sign(f->session, f->key), CKR_OK);
    fault("finalize");
    assert_int_equal(p11_sign(f->session, f->key), CKR_CRYPTOKI_NOT_INITIALIZED);
}

static void
initialising_fails_so_often(void **state)
{
    struct p11_token *f = *state;

    fault("on C_Finalize times 1 rv CKR_GENERAL_ERROR\n"
          "on C_CloseSession times 1 rv CKR_DEVICE_ERROR\n"
          "on C_Initialize times 2 rv CKR_CANT_LOCK");
    assert_int_equal(p11->C_CloseSession(f->session), CKR_DEVICE_ERROR);
    assert_int_equal(p11->C_Finalize(NULL), CKR_GENERAL_ERROR);
    assert_int_equal(p11_sign(f->session, f->key), CKR_OK); /* neither took effect */
    assert_int_equal(p11->C_Finalize(NULL), CKR_OK);
    assert_int_equal(p11_initialize(), CKR_CANT_LOCK);
    assert_int_equal(p11_initialize(), CKR_CANT_LOCK);
    assert_int_equal(p11_initialize(), CKR_OK);
    assert_int_equal(p11_initialize(), CKR_CRYPTOKI_ALREADY_INITIALIZED);
}

/* ---- fork */

/* Exit status of a child: the number of the step that failed. */
static int
in_child(struct p11_token *f)
{
    CK_INFO info;

    if (p11->C_GetInfo(&info) != CKR_CRYPTOKI_NOT_INITIALIZED)
        return 1;
    if (p11_sign(f->session, f->key) != CKR_CRYPTOKI_NOT_INITIALIZED)
        return 2;
    if (p11->C_Finalize(NULL) != CKR_CRYPTOKI_NOT_INITIALIZED)
        return 3;
    if (p11_initialize() != CKR_OK)
        return 4;
    if (p11_sign(f->session, f->key) != CKR_SESSION_HANDLE_INVALID)
        return 5;
    p11_come_up(f, "shelf");
    if (fault_number("failed C_Login") != 0) /* the parent's login is not inherited */
        return 6;
    if (p11_sign(f->session, f->key) != CKR_OK)
        return 7;
    return p11->C_Finalize(NULL) == CKR_OK ? 0 : 8;
}

static void
a_child_begins_with_nothing(void **state)
{
    struct p11_token *f = *state;
    int status = 0;
    pid_t child = fork();

    if (child == 0)
        _exit(in_child(f));
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(p11_sign(f->session, f->key), CKR_OK);
}

/* The same in front of a module that works in child processes: SoftHSM with its default. */
static void
a_child_begins_with_nothing_whatever_is_behind(void **state)
{
    struct p11_token *f = *state;
    char config[4200];
    char command[8600];

    assert_int_equal(p11->C_Finalize(NULL), CKR_OK);
    snprintf(config, sizeof(config), "%s/softhsm2.conf", softhsm_dir());
    snprintf(command, sizeof(command), "sed -i s/reset_on_fork.*/reset_on_fork=false/ '%s'",
             config);
    assert_int_equal(system(command), 0);
    p11_come_up(f, "shelf");
    a_child_begins_with_nothing(state);
    snprintf(command, sizeof(command), "sed -i s/reset_on_fork.*/reset_on_fork=true/ '%s'", config);
    assert_int_equal(system(command), 0);
}

/* Only the process that made the call crashes; the parent is unaffected. */
static void
a_call_can_crash(void **state)
{
    struct p11_token *f = *state;
    const struct rlimit no_core = {0, 0};
    int status = 0;
    pid_t child = fork();

    if (child == 0) {
        setrlimit(RLIMIT_CORE, &no_core);
        signal(SIGSEGV, SIG_DFL); /* sanitizers and cmocka catch it otherwise */
        p11_come_up(f, "shelf");
        fault("on C_Sign crash");
        p11_sign(f->session, f->key);
        _exit(0);
    }
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    assert_int_equal(p11_sign(f->session, f->key), CKR_OK);
}

/* ---- limits */

static void
sessions_are_limited(void **state)
{
    struct p11_token *f = *state;
    CK_SESSION_HANDLE second;
    CK_SESSION_HANDLE third;
    CK_TOKEN_INFO info;

    fault("sessions 2");
    assert_int_equal(p11_open_session(f->slot, &second), CKR_OK);
    assert_int_equal(p11_open_session(f->slot, &third), CKR_SESSION_COUNT);
    assert_int_equal(p11->C_GetTokenInfo(f->slot, &info), CKR_OK);
    assert_int_equal(info.ulMaxSessionCount, 2);
    assert_int_equal(info.ulSessionCount, 2);
    assert_int_equal(p11->C_CloseSession(second), CKR_OK);
    assert_int_equal(p11_open_session(f->slot, &second), CKR_OK);
    fault("sessions 2 rv CKR_HOST_MEMORY");
    assert_int_equal(p11_open_session(f->slot, &third), CKR_HOST_MEMORY);
    fault("sessions any");
    assert_int_equal(p11_open_session(f->slot, &third), CKR_OK);
}

static void
the_limit_is_reported_as_told(void **state)
{
    static const struct {
        const char *command;
        CK_ULONG expected;
    } rows[] = {
        {"report infinite", CK_EFFECTIVELY_INFINITE},
        {"report unknown", CK_UNAVAILABLE_INFORMATION},
        {"report 1024", 1024},
        {"report true", 5},
    };
    struct p11_token *f = *state;

    fault("sessions 5");
    for (size_t i = 0; i < COUNT(rows); i++) {
        CK_TOKEN_INFO info;

        fault("%s", rows[i].command);
        assert_int_equal(p11->C_GetTokenInfo(f->slot, &info), CKR_OK);
        assert_int_equal(info.ulMaxSessionCount, rows[i].expected);
        assert_int_equal(info.ulMaxRwSessionCount, rows[i].expected);
    }
}

static void
kinds_of_sessions_are_refused(void **state)
{
    struct p11_token *f = *state;
    CK_SESSION_HANDLE session;

    fault("refuse read-only");
    assert_int_equal(p11->C_OpenSession(f->slot, CKF_SERIAL_SESSION, NULL, NULL, &session),
                     CKR_FUNCTION_NOT_SUPPORTED);
    assert_int_equal(p11_open_session(f->slot, &session), CKR_OK);
    fault("allow read-only\nrefuse read-write rv CKR_SESSION_COUNT");
    assert_int_equal(p11->C_OpenSession(f->slot, CKF_SERIAL_SESSION, NULL, NULL, &session), CKR_OK);
    assert_int_equal(p11_open_session(f->slot, &session), CKR_SESSION_COUNT);
}

static void
calls_above_a_rate_are_refused(void **state)
{
    struct p11_token *f = *state;

    fault("throttle C_SignInit 1 burst 3");
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(p11_sign(f->session, f->key), CKR_OK);
    assert_int_equal(p11_sign(f->session, f->key), CKR_FUNCTION_FAILED);
    fault("throttle C_SignInit 1 rv CKR_DEVICE_MEMORY");
    assert_int_equal(p11_sign(f->session, f->key), CKR_OK);
    assert_int_equal(p11_sign(f->session, f->key), CKR_DEVICE_MEMORY);
    fault("throttle C_SignInit off");
    assert_int_equal(p11_sign(f->session, f->key), CKR_OK);
}

static void
wrong_pins_lock_the_token(void **state)
{
    static const CK_FLAGS about_pins =
        CKF_USER_PIN_COUNT_LOW | CKF_USER_PIN_FINAL_TRY | CKF_USER_PIN_LOCKED;
    static const CK_FLAGS flags[] = {0, CKF_USER_PIN_COUNT_LOW,
                                     CKF_USER_PIN_COUNT_LOW | CKF_USER_PIN_FINAL_TRY};
    struct p11_token *f = *state;
    CK_TOKEN_INFO info;

    assert_int_equal(p11->C_Logout(f->session), CKR_OK);
    fault("lockout 3");
    for (size_t i = 0; i < COUNT(flags); i++) {
        assert_int_equal(p11->C_GetTokenInfo(f->slot, &info), CKR_OK);
        assert_int_equal(info.flags & about_pins & ~CKF_USER_PIN_COUNT_LOW,
                         flags[i] & ~CKF_USER_PIN_COUNT_LOW);
        assert_int_equal(info.flags & flags[i], flags[i]);
        assert_int_equal(p11_log_in(f->session, "1111"), CKR_PIN_INCORRECT);
    }
    assert_int_equal(p11_log_in(f->session, SOFTHSM_USER_PIN), CKR_PIN_LOCKED);
    assert_int_equal(p11->C_GetTokenInfo(f->slot, &info), CKR_OK);
    assert_true((info.flags & CKF_USER_PIN_LOCKED) != 0);
    fault("reset");
    assert_int_equal(p11_log_in(f->session, SOFTHSM_USER_PIN), CKR_OK);
}

static void
logins_are_answered_as_told(void **state)
{
    static const struct {
        const char *name;
        CK_RV rv;
    } rows[] = {
        {"CKR_PIN_INCORRECT", CKR_PIN_INCORRECT},
        {"CKR_PIN_LOCKED", CKR_PIN_LOCKED},
        {"CKR_PIN_EXPIRED", CKR_PIN_EXPIRED},
        {"CKR_USER_ANOTHER_ALREADY_LOGGED_IN", CKR_USER_ANOTHER_ALREADY_LOGGED_IN},
    };
    struct p11_token *f = *state;
    CK_TOKEN_INFO info;
    CK_SESSION_INFO session_info;

    assert_int_equal(p11->C_Logout(f->session), CKR_OK);
    for (size_t i = 0; i < COUNT(rows); i++) {
        fault("on C_Login times 1 rv %s", rows[i].name);
        assert_int_equal(p11_log_in(f->session, SOFTHSM_USER_PIN), rows[i].rv);
    }
    fault("on C_GetTokenInfo flag CKF_USER_PIN_FINAL_TRY flag CKF_USER_PIN_TO_BE_CHANGED");
    assert_int_equal(p11->C_GetTokenInfo(f->slot, &info), CKR_OK);
    assert_true((info.flags & CKF_USER_PIN_FINAL_TRY) != 0);
    assert_true((info.flags & CKF_USER_PIN_TO_BE_CHANGED) != 0);
    fault("on C_Login times 1 rv CKR_USER_ALREADY_LOGGED_IN done");
    assert_int_equal(p11_log_in(f->session, SOFTHSM_USER_PIN), CKR_USER_ALREADY_LOGGED_IN);
    assert_int_equal(p11->C_GetSessionInfo(f->session, &session_info), CKR_OK);
    assert_int_equal(session_info.state, CKS_RW_USER_FUNCTIONS);
}

/* ---- time */

/* A call on another thread, observed by this one. */
struct caller {
    struct p11_token *f;
    CK_SESSION_HANDLE session; /* a separate one */
    CK_RV rv;
    pthread_t thread;
};

static void *
sign_once(void *arg)
{
    struct caller *caller = arg;

    caller->rv = p11_sign(caller->session, caller->f->key);
    return NULL;
}

static void
start_signing(struct caller *caller, struct p11_token *f)
{
    caller->f = f;
    assert_int_equal(p11_open_session(f->slot, &caller->session), CKR_OK);
    assert_int_equal(pthread_create(&caller->thread, NULL, sign_once, caller), 0);
}

static CK_RV
end_signing(struct caller *caller)
{
    assert_int_equal(pthread_join(caller->thread, NULL), 0);
    return caller->rv;
}

static void
wait_until(unsigned long count, const char *question)
{
    const struct timespec a_moment = {.tv_nsec = MS};

    for (int i = 0; i < 5000 && fault_number("%s", question) != count; i++)
        nanosleep(&a_moment, NULL);
    assert_int_equal(fault_number("%s", question), count);
}

static int64_t
time_of(struct p11_token *f, unsigned signatures)
{
    int64_t start = p11_now_ns(CLOCK_MONOTONIC);

    for (unsigned i = 0; i < signatures; i++)
        assert_int_equal(p11_sign(f->session, f->key), CKR_OK);
    return p11_now_ns(CLOCK_MONOTONIC) - start;
}

static void
latency_is_spent_asleep(void **state)
{
    struct p11_token *f = *state;
    int64_t cpu = p11_now_ns(CLOCK_THREAD_CPUTIME_ID);
    int64_t least = INT64_MAX; /* the machine may be late at times */

    fault("fake constant\nlatency C_Sign 20ms");
    assert_in_range(time_of(f, 5), 100 * MS, 2000 * MS);
    cpu = p11_now_ns(CLOCK_THREAD_CPUTIME_ID) - cpu;
    assert_in_range(cpu, 0, 20 * MS);
    fault("latency C_Sign off");
    for (unsigned i = 0; i < 20 && least >= 90 * MS; i++)
        least = time_of(f, 5);
    assert_in_range(least, 0, 90 * MS);
}

/* Only lower bounds, as a thread may wake late. */
static void
latency_is_spread_grows_and_stumbles(void **state)
{
    struct p11_token *f = *state;
    int64_t least = INT64_MAX;

    fault("fake constant\nlatency C_Sign 10ms jitter 9ms");
    for (unsigned i = 0; i < 20; i++) {
        int64_t ns = time_of(f, 1);

        assert_true(ns >= 1 * MS);
        least = ns < least ? ns : least;
    }
    assert_in_range(least, 1 * MS, 9 * MS);
    fault("latency C_Sign 1ms ramp 4ms most 9ms"); /* 1, 5, 9, 9 */
    assert_true(time_of(f, 1) >= 1 * MS);
    assert_true(time_of(f, 1) >= 5 * MS);
    assert_true(time_of(f, 1) >= 9 * MS);
    assert_in_range(time_of(f, 2), 18 * MS, 500 * MS);
    fault("latency C_Sign 0 slow 1 15ms");
    assert_true(time_of(f, 1) >= 15 * MS);
}

static void
engines_are_few(void **state)
{
    struct p11_token *f = *state;
    struct caller callers[4];
    int64_t start;

    fault("fake constant\nlatency C_Sign 20ms\nengines 2");
    start = p11_now_ns(CLOCK_MONOTONIC);
    for (size_t i = 0; i < COUNT(callers); i++)
        start_signing(&callers[i], f);
    for (size_t i = 0; i < COUNT(callers); i++)
        assert_int_equal(end_signing(&callers[i]), CKR_OK);
    assert_in_range(p11_now_ns(CLOCK_MONOTONIC) - start, 40 * MS, 2000 * MS);
    fault("engines any");
    assert_int_equal(p11_sign(f->session, f->key), CKR_OK);
}

struct queued {
    struct p11_token *f;
    CK_SESSION_HANDLE session;
    char message;
    CK_BYTE sig[HSM_P256_SIG_LEN];
    CK_RV rv;
    pthread_t thread;
};

static void *
sign_in_queue(void *arg)
{
    struct queued *queued = arg;
    CK_ULONG len = sizeof(queued->sig);
    CK_BYTE digest[P11_DIGEST_LEN];

    EVP_Digest(&queued->message, 1, digest, NULL, EVP_sha256(), NULL);
    queued->rv = p11_sign_init(queued->session, queued->f->key);
    if (queued->rv == CKR_OK)
        queued->rv = p11->C_Sign(queued->session, digest, P11_DIGEST_LEN, queued->sig, &len);
    return NULL;
}

/* A stale signature is that of the previous call, so each signature shows which call was served
 * before it. */
static void
engines_serve_in_the_order_of_arrival(void **state)
{
    struct p11_token *f = *state;
    struct queued queue[5];
    EVP_PKEY *key = p11_public_key(f->session, "alpha");

    fault("engines 1\nlatency C_Sign 400ms\non C_Sign signature stale");
    for (unsigned i = 0; i < COUNT(queue); i++) {
        queue[i] = (struct queued){.f = f, .message = (char)('a' + i)};
        assert_int_equal(p11_open_session(f->slot, &queue[i].session), CKR_OK);
        assert_int_equal(pthread_create(&queue[i].thread, NULL, sign_in_queue, &queue[i]), 0);
        wait_until(i > 0 ? i : 1, i > 0 ? "waiting" : "count C_Sign"); /* the first is served */
    }
    fault("latency C_Sign off");
    for (size_t i = 0; i < COUNT(queue); i++) {
        assert_int_equal(pthread_join(queue[i].thread, NULL), 0);
        assert_int_equal(queue[i].rv, CKR_OK);
        if (i > 0)
            assert_int_equal(
                hsm_es256_verify(key, &queue[i - 1].message, 1, queue[i].sig, sizeof(queue[i].sig)),
                HSM_OK);
    }
    EVP_PKEY_free(key);
}

static void
calls_against_the_rules_are_counted(void **state)
{
    struct p11_token *f = *state;
    struct caller caller;

    fault("on C_Sign times 1 block");
    start_signing(&caller, f);
    wait_until(1, "held");
    assert_int_equal(p11_sign(f->session, f->key), CKR_OK);
    assert_int_equal(fault_number("misuse"), 0);
    assert_int_equal(p11->C_CloseSession(caller.session), CKR_OK);
    assert_int_equal(fault_number("misuse"), 1);
    assert_int_equal(p11->C_Finalize(NULL), CKR_OK);
    assert_int_equal(fault_number("misuse"), 2);
    fault("release");
    assert_int_equal(end_signing(&caller), CKR_CRYPTOKI_NOT_INITIALIZED);
    p11_come_up(f, "shelf");
    assert_int_equal(p11_sign(f->session, f->key), CKR_OK);
    assert_int_equal(fault_number("misuse"), 2);
}

static void
a_blocked_call_waits_for_its_release(void **state)
{
    struct p11_token *f = *state;
    struct caller callers[2];

    fault("on C_Sign times 2 block");
    start_signing(&callers[0], f);
    start_signing(&callers[1], f);
    wait_until(2, "held");
    assert_int_equal(p11_sign(f->session, f->key), CKR_OK); /* others proceed */
    fault("release");
    assert_int_equal(end_signing(&callers[0]), CKR_OK);
    assert_int_equal(end_signing(&callers[1]), CKR_OK);
    assert_int_equal(fault_number("held"), 0);
}

/* The blocked call sees the event when it returns. */
static void
a_blocked_call_does_not_hold_up_a_reboot(void **state)
{
    struct p11_token *f = *state;
    struct caller caller;

    fault("on C_Sign times 1 block");
    start_signing(&caller, f);
    wait_until(1, "held");
    fault("reboot");
    fault("release");
    assert_int_equal(end_signing(&caller), CKR_SESSION_HANDLE_INVALID);
    p11_come_up(f, "shelf");
    fault("on C_Sign times 1 delay 60s rv CKR_DEVICE_ERROR");
    start_signing(&caller, f);
    wait_until(1, "held");
    fault("reset"); /* also releases */
    assert_int_equal(end_signing(&caller), CKR_DEVICE_ERROR);
}

static void
a_delay_ends_by_itself(void **state)
{
    struct p11_token *f = *state;
    int64_t start = p11_now_ns(CLOCK_MONOTONIC);

    fault("on C_SignInit times 1 delay 20ms rv CKR_DEVICE_ERROR");
    assert_int_equal(p11_sign(f->session, f->key), CKR_DEVICE_ERROR);
    assert_in_range(p11_now_ns(CLOCK_MONOTONIC) - start, 20 * MS, 2000 * MS);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        ON_TOKEN(a_session_is_lost_alone),
        ON_TOKEN(a_reboot_takes_sessions_logins_and_handles),
        ON_TOKEN(a_reboot_can_happen_in_a_call),
        ON_TOKEN(somebody_else_logs_out),
        ON_TOKEN(objects_get_other_handles),
        ON_TOKEN(handles_change_owners),
        ON_TOKEN(keys_trade_places_under_their_names),
        ON_TOKEN(swapped_keys_swap_their_points_too),
        ON_TOKEN(a_token_is_away_and_returns),
        ON_TOKEN(a_token_returns_by_itself),
        ON_TOKEN(one_of_two_tokens_is_away),
        ON_TOKEN(handles_of_one_token_mean_nothing_on_another),
        ON_TOKEN(slots_get_other_numbers),
        ON_TOKEN(somebody_else_finalises_the_module),
        ON_TOKEN(initialising_fails_so_often),
        ON_TOKEN(a_child_begins_with_nothing),
        ON_TOKEN(a_child_begins_with_nothing_whatever_is_behind),
        ON_TOKEN(a_call_can_crash),
        ON_TOKEN(sessions_are_limited),
        ON_TOKEN(the_limit_is_reported_as_told),
        ON_TOKEN(kinds_of_sessions_are_refused),
        ON_TOKEN(calls_above_a_rate_are_refused),
        ON_TOKEN(wrong_pins_lock_the_token),
        ON_TOKEN(logins_are_answered_as_told),
        ON_TOKEN(latency_is_spent_asleep),
        ON_TOKEN(latency_is_spread_grows_and_stumbles),
        ON_TOKEN(engines_are_few),
        ON_TOKEN(engines_serve_in_the_order_of_arrival),
        ON_TOKEN(calls_against_the_rules_are_counted),
        ON_TOKEN(a_blocked_call_waits_for_its_release),
        ON_TOKEN(a_blocked_call_does_not_hold_up_a_reboot),
        ON_TOKEN(a_delay_ends_by_itself),
    };

    return cmocka_run_group_tests(tests, p11_group_start, p11_group_stop);
}
