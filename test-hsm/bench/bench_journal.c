/* bench_journal.c - the cost of the signing journal, and the speed of its verification. */
#include "bench_journal.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/evp.h>

#include <hsm/journal.h>
#include <hsm/key.h>
#include <hsm/secret.h>
#include <hsm/use.h>

#include "bench.h"
#include "softhsm.h"

#define ROUNDS      9
#define THREADS_MAX 4
#define TOKEN       "journaled"
#define PLAIN       "plain"
#define TURNS       20 /* of each side in a round, so that other load affects both */
#define RECORDS     200000 /* number of verified records */
#define NEVER       1000000000 /* verify_every: excluded from the measurement */

static const uint8_t message[300] = "a PASSporT's signing input has about this many octets";

/* Two tokens of one module, because a token opened twice has one journal or none. */
struct side {
    struct hsm_token *token;
    struct hsm_key *key;
};

static double
now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static const char *
directory(void)
{
    static char path[4096];

    snprintf(path, sizeof(path), "%s/journal", softhsm_dir());
    return path;
}

static void
side_open(const char *label, const struct hsm_journal_config *journal, struct side *out)
{
    char uri[64];
    struct hsm_secret *pin = NULL;
    struct hsm_token_config config = {.uri = uri,
                                      .module = softhsm_module(),
                                      .route = HSM_ROUTE_DIRECT,
                                      .sessions = THREADS_MAX,
                                      .verify_every = NEVER,
                                      .journal = journal};

    hsm_token_close(softhsm_token(label));
    snprintf(uri, sizeof(uri), "pkcs11:token=%s", label);
    bench_check(hsm_secret_new(SOFTHSM_USER_PIN, strlen(SOFTHSM_USER_PIN), &pin) == HSM_OK, "PIN");
    config.pin = pin;
    bench_check(hsm_token_open(&config, &out->token) == HSM_OK, "hsm_token_open");
    bench_check(hsm_key_find_or_generate(out->token, "signer", &out->key) == HSM_OK, "the key");
    hsm_secret_free(pin);
}

static void
side_close(struct side *side)
{
    hsm_key_free(side->key);
    hsm_token_close(side->token);
}

struct caller {
    struct hsm_key *key;
    size_t times;
};

static void *
sign_times(void *argument)
{
    const struct caller *caller = argument;
    uint8_t sig[HSM_P256_SIG_LEN];
    HSM_USE_FOR(HSM_USE_PASSPORT);
    HSM_USE_ASKED_BY("bench");

    for (size_t i = 0; i < caller->times; i++)
        bench_check(hsm_key_sign(caller->key, message, sizeof(message), sig) == HSM_OK,
                    "hsm_key_sign");
    return NULL;
}

static double
run(struct hsm_key *key, unsigned threads, size_t times_each)
{
    struct caller caller = {key, times_each};
    pthread_t thread[THREADS_MAX];
    double begin = now_us();

    for (unsigned i = 0; i < threads; i++)
        bench_check(pthread_create(&thread[i], NULL, sign_times, &caller) == 0, "a thread");
    for (unsigned i = 0; i < threads; i++)
        bench_check(pthread_join(thread[i], NULL) == 0, "a thread");
    return now_us() - begin;
}

/* Microseconds for signing with and without the journal. */
static void
take_turns(const struct side *plain, const struct side *journaled, unsigned threads,
           size_t times_each, double *with, double *without)
{
    *with = *without = 0;
    for (size_t turn = 0; turn < TURNS; turn++) {
        *without += run(plain->key, threads, times_each / TURNS);
        *with += run(journaled->key, threads, times_each / TURNS);
    }
}

static void
cost(const struct side *plain, const struct side *journaled, unsigned threads, size_t times_each)
{
    double ratios[ROUNDS];
    char name[96];

    snprintf(name, sizeof(name), "hsm_key_sign of 300 octets, %u in flight, journaled / not",
             threads);
    (void)run(journaled->key, threads, times_each / 4);
    (void)run(plain->key, threads, times_each / 4);
    for (size_t i = 0; i < ROUNDS; i++) {
        double with, without;

        take_turns(plain, journaled, threads, times_each, &with, &without);
        ratios[i] = without / with;
        fprintf(stderr, "\r%-8s %-60s %zu/%d%s", "hsm", name, i + 1, ROUNDS,
                i + 1 == ROUNDS ? "\n" : "");
    }
    bench_at_least("hsm", name, "ratio", 0.97, ratios, ROUNDS);
}

static void
verification(void)
{
    const struct hsm_journal_verify_config config = {.dir = directory()};
    struct hsm_journal_summary summary;
    double rates[ROUNDS];

    for (size_t i = 0; i < ROUNDS; i++) {
        double begin = now_us();

        bench_check(hsm_journal_verify(&config, &summary) == HSM_OK, "hsm_journal_verify");
        rates[i] = (double)summary.records / (now_us() - begin) * 1e6;
    }
    bench_check(summary.uses >= RECORDS, "all records");
    bench_at_least("hsm", "a journal verified", "records/s", 100000, rates, ROUNDS);
}

/* The last checkpoint that is not of the index, and its file. */
struct found {
    char file[HSM_JOURNAL_NAME_MAX + 1];
    struct hsm_journal_note note;
};

static bool
take_note(void *context, const struct hsm_journal_note *note)
{
    struct found *found = context;
    const char *file = strrchr(note->origin, '/') + 1;

    if (strcmp(file, HSM_JOURNAL_INDEX) != 0) {
        found->note = *note;
        snprintf(found->file, sizeof(found->file), "%.95s", file);
    }
    return true;
}

static void
proofs(EVP_PKEY *key)
{
    struct hsm_journal_log *log = NULL;
    struct hsm_reason why = {""};
    struct found found = {.file = ""};
    double times[ROUNDS];

    bench_check(hsm_journal_notes(directory(), NULL, take_note, &found, &why) == HSM_OK &&
                    hsm_journal_log_open(directory(), found.file, &log, &why) == HSM_OK,
                "a file of the journal");
    for (size_t i = 0; i < ROUNDS; i++) {
        char record[HSM_JOURNAL_LINE_MAX + 1];
        struct hsm_journal_note note;
        char *text = NULL;
        double begin = now_us();

        bench_check(hsm_journal_prove(log, found.note.size / (i + 2), &found.note, &text, &why) ==
                            HSM_OK &&
                        hsm_journal_proof_check(text, key, record, &note, &why) == HSM_OK,
                    "a proof");
        times[i] = (now_us() - begin) / 1e3;
        free(text);
    }
    bench_at_most("hsm", "a record of a journal that was read, proved and checked", "ms", 10, times,
                  ROUNDS);
    hsm_journal_log_close(log);
}

void
bench_journal(void)
{
    const struct hsm_journal_config journal = {.dir = directory(), .program = "bench"};
    struct side plain, journaled;
    struct hsm_key *key = NULL;
    EVP_PKEY *public_key;

    side_open(PLAIN, NULL, &plain);
    side_open(TOKEN, &journal, &journaled);
    cost(&plain, &journaled, 1, 4000);
    cost(&plain, &journaled, THREADS_MAX, 2000);
    (void)run(journaled.key, THREADS_MAX, RECORDS / THREADS_MAX);
    bench_check(hsm_key_find(journaled.token, "pkcs11:object=" HSM_JOURNAL_KEY, &key) == HSM_OK,
                "the journal's key");
    public_key = hsm_key_public(key);
    bench_check(EVP_PKEY_up_ref(public_key) == 1, "its public half");
    hsm_key_free(key);
    side_close(&journaled);
    side_close(&plain);
    verification();
    proofs(public_key);
    EVP_PKEY_free(public_key);
}
