/*
 * http_tickets.c - the keys of TLS session tickets (RFC 5077 section 4), which the processes that
 * share a socket share, and which they replace.
 *
 * Whichever process first uses the keys after HTTP_TICKETS_S replaces them. Tickets of the previous
 * keys are accepted for one more period; older keys exist nowhere any more.
 */
#include "http_internal.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <sys/mman.h>

#include <hsm/clock.h>
#include <hsm/log.h>

#define NAME_LEN 16 /* octets */
#define KEY_LEN  32 /* octets: AES-256, HMAC-SHA-256 */
#define IV_LEN   16 /* octets */

struct keys {
    unsigned char name[NAME_LEN];
    unsigned char cipher[KEY_LEN];
    unsigned char mac[KEY_LEN];
};

/* In memory that stays shared after fork(). */
struct http_tickets {
    pthread_mutex_t mutex; /* robust: a process may be killed while it holds it */
    int64_t made_s; /* hsm_clock_s() */
    struct keys now, before;
};

static bool
init_mutex(pthread_mutex_t *mutex)
{
    pthread_mutexattr_t about;
    bool good = pthread_mutexattr_init(&about) == 0;

    if (!good)
        return false;
    good = pthread_mutexattr_setpshared(&about, PTHREAD_PROCESS_SHARED) == 0 &&
           pthread_mutexattr_setrobust(&about, PTHREAD_MUTEX_ROBUST) == 0 &&
           pthread_mutex_init(mutex, &about) == 0;
    pthread_mutexattr_destroy(&about);
    return good;
}

static bool
make_keys(struct keys *keys)
{
    return RAND_priv_bytes((unsigned char *)keys, sizeof(*keys)) == 1;
}

struct http_tickets *
acme_http_tickets_new(void)
{
    struct http_tickets *tickets =
        mmap(NULL, sizeof(*tickets), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (tickets == MAP_FAILED)
        return NULL;
    (void)mlock(tickets, sizeof(*tickets)); /* best effort: RLIMIT_MEMLOCK may be 0 */
    (void)madvise(tickets, sizeof(*tickets), MADV_DONTDUMP);
    tickets->made_s = hsm_clock_s();
    if (!init_mutex(&tickets->mutex) || !make_keys(&tickets->now) || !make_keys(&tickets->before)) {
        acme_http_tickets_free(tickets);
        return NULL;
    }
    return tickets;
}

void
acme_http_tickets_free(struct http_tickets *tickets)
{
    if (tickets == NULL)
        return;
    OPENSSL_cleanse(&tickets->now, sizeof(tickets->now));
    OPENSSL_cleanse(&tickets->before, sizeof(tickets->before));
    munmap(tickets, sizeof(*tickets));
}

/* Under the lock. Keys that were unused for two periods are both replaced. */
static bool
replace_old(struct http_tickets *tickets)
{
    int64_t now_s = hsm_clock_s(), age_s = now_s - tickets->made_s;

    if (age_s < HTTP_TICKETS_S)
        return true;
    tickets->before = tickets->now;
    if ((age_s >= 2 * HTTP_TICKETS_S && !make_keys(&tickets->before)) || !make_keys(&tickets->now))
        return false;
    tickets->made_s = now_s;
    return true;
}

/* A process that was killed may have left keys that are half replaced: random ones all the same,
 * and tickets of them are refused at worst. */
static bool
lock_keys(struct http_tickets *tickets)
{
    int rc = pthread_mutex_lock(&tickets->mutex);

    if (rc == EOWNERDEAD)
        rc = pthread_mutex_consistent(&tickets->mutex);
    return rc == 0;
}

/* A copy of the keys for a ticket: SSL_CTX_set_tlsext_ticket_key_evp_cb(3)'s return values. */
static int
choose_keys(struct http_tickets *tickets, const unsigned char *name, struct keys *out)
{
    int chosen = -1;

    if (!lock_keys(tickets))
        return -1;
    if (replace_old(tickets)) {
        if (name == NULL || memcmp(name, tickets->now.name, NAME_LEN) == 0)
            chosen = 1;
        else
            chosen = memcmp(name, tickets->before.name, NAME_LEN) == 0 ? 2 : 0;
        *out = chosen == 2 ? tickets->before : tickets->now;
    }
    pthread_mutex_unlock(&tickets->mutex);
    return chosen;
}

static bool
use_keys(const struct keys *keys, const unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac,
         int is_new)
{
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, (void *)keys->mac, KEY_LEN),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char[]){"SHA256"}, 0),
        OSSL_PARAM_construct_end(),
    };

    return EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), NULL, keys->cipher, iv, is_new) == 1 &&
           EVP_MAC_CTX_set_params(mac, params) == 1;
}

static int
use_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
           EVP_MAC_CTX *mac, int is_new)
{
    struct http_tickets *tickets = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
    struct keys keys;
    int chosen = choose_keys(tickets, is_new ? NULL : name, &keys);

    if (chosen > 0 && is_new) {
        memcpy(name, keys.name, NAME_LEN);
        if (RAND_bytes(iv, IV_LEN) != 1)
            chosen = -1;
    }
    if (chosen > 0 && !use_keys(&keys, iv, cipher, mac, is_new))
        chosen = -1;
    OPENSSL_cleanse(&keys, sizeof(keys));
    if (chosen < 0)
        hsm_log(HSM_LOG_ERROR, "TLS: no keys for session tickets");
    return chosen;
}

bool
acme_http_tickets_use(struct http_tickets *tickets, SSL_CTX *ctx)
{
    return SSL_CTX_set_app_data(ctx, tickets) == 1 &&
           SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, use_ticket) == 1;
}
