/*
 * limit_here.c - rate limits, counted in this process only.
 *
 * For requests that change nothing: counting them in the store would add a write to each read.
 * Each subject has a slot in a table of fixed size, chosen by a hash with a secret key; the few
 * subjects that share a slot share its allowance.
 */
#include "limit_internal.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/rand.h>
#include <openssl/sha.h>

#include <acme/time.h>
#include <hsm/log.h>

#define MICROSECONDS INT64_C(1000000)
#define PLACES       4096
#define KEY_LEN      16 /* octets */

struct acme_limit_here {
    struct acme_limit limit;
    uint8_t key[KEY_LEN];
    _Atomic int64_t used_until[PLACES]; /* microseconds since 1970 */
};

enum hsm_status
acme_limit_here_new(const struct acme_limit *limit, struct acme_limit_here **out)
{
    struct acme_limit_here *here = calloc(1, sizeof(*here));

    if (here == NULL)
        return HSM_ERR_NOMEM;
    here->limit = *limit;
    if (RAND_bytes(here->key, sizeof(here->key)) != 1) {
        hsm_log(HSM_LOG_ERROR, "random generator failed");
        free(here);
        return HSM_ERR_CRYPTO;
    }
    *out = here;
    return HSM_OK;
}

void
acme_limit_here_free(struct acme_limit_here *here)
{
    free(here);
}

static size_t
place_of(const struct acme_limit_here *here, const char *whom)
{
    uint8_t text[KEY_LEN + ACME_LIMIT_WHOM_MAX], digest[SHA256_DIGEST_LENGTH];
    size_t len = strnlen(whom, ACME_LIMIT_WHOM_MAX);

    memcpy(text, here->key, KEY_LEN);
    memcpy(text + KEY_LEN, whom, len);
    SHA256(text, KEY_LEN + len, digest);
    return ((size_t)digest[0] << 8 | digest[1]) % PLACES;
}

/* The same algorithm as limit.c. */
time_t
acme_limit_here_take(struct acme_limit_here *here, const char *whom, time_t now)
{
    const struct acme_limit *limit = &here->limit;
    const int64_t now_us = (int64_t)now * MICROSECONDS;
    const int64_t full_us = now_us + limit->in_s * MICROSECONDS;
    const int64_t latest_us = full_us + ACME_CLOCK_SKEW_S * MICROSECONDS;
    _Atomic int64_t *used_until;
    int64_t before, after;

    if (limit->times == 0)
        return 0;
    used_until = &here->used_until[place_of(here, whom)];
    before = atomic_load(used_until);
    do {
        after = before < now_us || before > latest_us ? now_us : before;
        after += limit->in_s * MICROSECONDS / limit->times;
        if (after > full_us)
            return (time_t)((after - full_us + MICROSECONDS - 1) / MICROSECONDS);
    } while (!atomic_compare_exchange_weak(used_until, &before, after));
    return 0;
}
