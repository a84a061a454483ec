/*
 * server_signer.c - the certificates of SPC tokens' signers, fetched from their x5u (RFC 9448
 * section 6) and cached for some minutes: many orders have tokens of one signer.
 *
 * The cache holds chains as fetched; whether a chain is trusted is checked for each token.
 */

#include "server_internal.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <acme/jws.h>

#define KEPT_MAX       8 /* x5u per process; the oldest one is replaced */
#define KEPT_S         300
#define FETCH_ATTEMPTS 2 /* per request */

struct acme_signers {
    pthread_mutex_t mutex;
    struct kept {
        char x5u[ACME_X5U_MAX + 1];
        struct certs_chain *chain; /* NULL: unused */
        time_t fetched;
    } kept[KEPT_MAX];
};

enum hsm_status
acme_signers_new(struct acme_signers **out)
{
    struct acme_signers *signers = calloc(1, sizeof(*signers));

    if (signers == NULL)
        return HSM_ERR_NOMEM;
    pthread_mutex_init(&signers->mutex, NULL);
    *out = signers;
    return HSM_OK;
}

void
acme_signers_free(struct acme_signers *signers)
{
    if (signers == NULL)
        return;
    for (size_t i = 0; i < KEPT_MAX; i++)
        certs_chain_free(signers->kept[i].chain);
    pthread_mutex_destroy(&signers->mutex);
    free(signers);
}

static enum hsm_status
look_up(struct acme_signers *signers, const char *x5u, time_t now, struct certs_chain **out)
{
    enum hsm_status st = HSM_ERR_NOT_FOUND;

    pthread_mutex_lock(&signers->mutex);
    for (size_t i = 0; st == HSM_ERR_NOT_FOUND && i < KEPT_MAX; i++) {
        const struct kept *kept = &signers->kept[i];

        if (kept->chain != NULL && strcmp(kept->x5u, x5u) == 0 && kept->fetched <= now &&
            now < kept->fetched + KEPT_S) {
            *out = certs_chain_hold(kept->chain);
            st = HSM_OK;
        }
    }
    pthread_mutex_unlock(&signers->mutex);
    return st;
}

/* The slot of the same x5u, else the oldest. */
static struct kept *
place_for(struct acme_signers *signers, const char *x5u)
{
    struct kept *place = &signers->kept[0];

    for (size_t i = 0; i < KEPT_MAX; i++) {
        if (strcmp(signers->kept[i].x5u, x5u) == 0)
            return &signers->kept[i];
        if (signers->kept[i].fetched < place->fetched)
            place = &signers->kept[i];
    }
    return place;
}

static void
keep(struct acme_signers *signers, const char *x5u, time_t now, struct certs_chain *chain)
{
    struct kept *place;

    pthread_mutex_lock(&signers->mutex);
    place = place_for(signers, x5u);
    certs_chain_free(place->chain);
    place->chain = certs_chain_hold(chain);
    place->fetched = now;
    snprintf(place->x5u, sizeof(place->x5u), "%s", x5u);
    pthread_mutex_unlock(&signers->mutex);
}

enum hsm_status
acme_signers_fetch(struct acme_server *server, const char *x5u, time_t now,
                   struct certs_chain **out, struct hsm_reason *why)
{
    enum hsm_status st = look_up(server->signers, x5u, now, out);

    if (st != HSM_ERR_NOT_FOUND)
        return st;
    st = HSM_ERR_BUSY;
    for (int i = 0; i < FETCH_ATTEMPTS && st == HSM_ERR_BUSY; i++)
        st = acme_http_fetch_chain(server->config.http, x5u, out, why);
    if (st == HSM_OK)
        keep(server->signers, x5u, now, *out);
    return st;
}
