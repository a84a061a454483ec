/*
 * bench_enrol.h - ACME clients that cost little: keys and CSRs are made in advance, the connection
 * is kept, and only what the next request needs is read from an answer.
 */
#ifndef BENCH_ENROL_H
#define BENCH_ENROL_H

#include <stddef.h>

#include "ca_fixture.h"

/** An order before it is placed: the CSR of a fresh key, and an SPC token. */
struct bench_order {
    char *answer, *csr; /* payloads of the challenge and of finalize */
};

/** An account, a connection to its STI-CA, and the nonce of the last answer. */
struct bench_client;

/** Make an account for a fresh key, as other parties' clients do. Aborts if it cannot. */
struct bench_client *bench_client_new(struct ca_fixture *ca);
void bench_client_free(struct bench_client *client);

/** Connect again and request a nonce. */
void bench_client_connect(struct bench_client *client);

/** Prepare an order for the account of this client; bench_order_clear() it. */
void bench_order_prepare(struct bench_client *client, struct bench_order *order);
void bench_order_clear(struct bench_order *order);

#define BENCH_ENROL_REQUESTS 7

/**
 * The requests of acme_client_obtain(), which are those of RFC 8555 section 7.1: newOrder,
 * authorization, challenge, authorization and order again, finalize, certificate. Each is signed
 * and carries the nonce of the answer before. Aborts unless each answer is as it should be.
 */
void bench_enrol(struct bench_client *client, const struct bench_order *order);

#endif
