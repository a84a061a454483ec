/*
 * load.h - callers that sign while a token fails, and verify every signature that they are given.
 *
 * For tests with the fault module in front of the token (fault_open()).
 */
#ifndef TEST_LOAD_H
#define TEST_LOAD_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include <hsm/es256.h>
#include <hsm/key.h>

#define LOAD_CALLERS     8
#define LOAD_SESSIONS    4 /* of the token */
#define LOAD_DEADLINE_MS 3000

extern const char load_message[];
extern uint8_t load_digest[HSM_SHA256_LEN]; /* of it, after load_prepare() */

struct load {
    struct hsm_key *key;
    unsigned deadline_ms;
    atomic_bool over;
    atomic_uint good;
    atomic_uint refused;
    atomic_uint wrong; /* given out, and not a signature */
    atomic_uint late; /* past the deadline and 50 ms, without what the machine added (machine.h) */
    atomic_uint excused; /* the machine added more than 50 ms */
    pthread_t callers[LOAD_CALLERS];
};

void load_prepare(void);
void load_sleep_ms(unsigned ms);
double load_now_ms(void);

/** The token of that label, with its PIN; URI, module and PIN of `with` are not looked at. */
struct hsm_token *load_token(const char *label, const struct hsm_token_config *with);

/** "signer", generated where it is not there. */
struct hsm_key *load_key(struct hsm_token *token);

void load_start(struct load *load, struct hsm_key *key, unsigned deadline_ms);
void load_stop(struct load *load);

/** Until a caller has been given a signature. */
void load_await_first(const struct load *load);

/** Signatures in so many milliseconds, from now. */
unsigned load_rate(const struct load *load, unsigned ms);

/** Nothing that was given out is wrong, nobody waited longer than they wanted to. */
void load_assert_sound(const struct load *load, const char *what);

/** And nobody was refused. */
void load_assert_unseen(const struct load *load, const char *what);

/** The token serves again within a second, and ten times $STI_TEST_MACHINE_MS. */
void load_assert_back_soon(struct hsm_token *token, struct hsm_key *key);

/** Every one of LOAD_SESSIONS can be used again: however long the machine takes to run what sees
 * to it. */
void load_assert_all_sessions(const struct hsm_token *token, const char *what);

/** Under load: for 50 ms, at a part of the rate of before. Where $STI_TEST_MACHINE_MS is 0: at nine
 * tenths or more, within a second, the time taken off in which threads had no processor
 * (machine.h). Else at a quarter or more, and ten times those milliseconds later at most: that is
 * what a machine with others on it can show.
 */
void load_assert_full_rate(const struct load *load, unsigned before_in_50ms, const char *what);

#endif
