/*
 * backoff.h - how long to wait before a retry: exponential backoff with jitter.
 */
#ifndef ACME_BACKOFF_H
#define ACME_BACKOFF_H

/** A plain value; next_ms 0: not yet waited. */
struct acme_backoff {
    unsigned first_ms, longest_ms;
    unsigned next_ms;
};

/**
 * Milliseconds to wait now: between half and all of a time that doubles from
 * first_ms up to longest_ms; or, when the peer named a time, that and up to a
 * tenth more.
 *
 * @param asked_ms  from a Retry-After; negative: there was none
 */
unsigned acme_backoff_next(struct acme_backoff *backoff, long asked_ms);

/** A number in 0 .. below - 1, each as likely; 0 when below is 0. Not for secrets. */
unsigned acme_backoff_random(unsigned below);

/** The attempt succeeded: start from first_ms again. */
void acme_backoff_reset(struct acme_backoff *backoff);

#endif
