/*
 * load.h - callers that sign while a token fails, and verify every signature that they receive.
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
    atomic_uint wrong; /* results that are not valid signatures */
    atomic_uint late; /* more than 50 ms past the deadline, less the machine's delay (machine.h) */
    atomic_uint excused; /* delayed by the machine for more than 50 ms */
    pthread_t callers[LOAD_CALLERS];
};

void load_prepare(void);
void load_sleep_ms(unsigned ms);
double load_now_ms(void);

/** Open the token with this label and its PIN; URI, module and PIN of `with` are ignored. */
struct hsm_token *load_token(const char *label, const struct hsm_token_config *with);

/** The key "signer", generated if absent. */
struct hsm_key *load_key(struct hsm_token *token);

void load_start(struct load *load, struct hsm_key *key, unsigned deadline_ms);
void load_stop(struct load *load);

/** Wait until a caller has received a signature. */
void load_await_first(const struct load *load);

/** The number of signatures in the next `ms` milliseconds. */
unsigned load_rate(const struct load *load, unsigned ms);

/** Assert that no signature was wrong and that no call ended late. */
void load_assert_sound(const struct load *load, const char *what);

/** load_assert_sound(), and that no call failed. */
void load_assert_unseen(const struct load *load, const char *what);

/** Assert that the token serves again within a second plus ten times $STI_TEST_MACHINE_MS. */
void load_assert_back_soon(struct hsm_token *token, struct hsm_key *key);

/** Assert that all LOAD_SESSIONS become usable again, however long the machine takes to run the
 * threads that restore them. */
void load_assert_all_sessions(const struct hsm_token *token, const char *what);

/** Assert that under load a share of the previous rate is reached again for 50 ms. If
 * $STI_TEST_MACHINE_MS is 0: nine tenths within a second, not counting time in which threads had no
 * processor (machine.h). Otherwise a quarter, with ten times those milliseconds more: a shared
 * machine cannot show more.
 */
void load_assert_full_rate(const struct load *load, unsigned before_in_50ms, const char *what);

#endif
