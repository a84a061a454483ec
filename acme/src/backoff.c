/* backoff.c - how long to wait before a retry. */
#include <acme/backoff.h>

#include <limits.h>
#include <stdint.h>

#include <openssl/rand.h>

unsigned
acme_backoff_random(unsigned below)
{
    uint64_t octets = 0;

    /* without randomness all clients wait equally long, which is no reason to stop */
    if (below == 0 || RAND_bytes((unsigned char *)&octets, sizeof(octets)) != 1)
        return 0;
    return (unsigned)(octets % below); /* of 2^64: the bias is negligible */
}

unsigned
acme_backoff_next(struct acme_backoff *backoff, long asked_ms)
{
    unsigned wait = backoff->next_ms > backoff->first_ms ? backoff->next_ms : backoff->first_ms;

    backoff->next_ms = wait < backoff->longest_ms / 2 ? wait * 2 : backoff->longest_ms;
    if (asked_ms >= 0) {
        unsigned asked = asked_ms > INT_MAX / 2 ? INT_MAX / 2 : (unsigned)asked_ms;

        return asked + acme_backoff_random(asked / 10 + 1);
    }
    return wait / 2 + acme_backoff_random(wait - wait / 2 + 1);
}

void
acme_backoff_reset(struct acme_backoff *backoff)
{
    backoff->next_ms = 0;
}
