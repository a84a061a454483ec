/*
 * tsan_network.c - for ThreadSanitizer: what a thread did before it sent is done before another
 * thread receives it.
 *
 * In many tests the server is a thread of the test itself, and the test looks at what the server
 * has done, or changes its configuration, between two requests. ThreadSanitizer does not follow the
 * octets from one end of a connection to the other, and would report each such access. The
 * functions here take the place of those that send and receive.
 */
#define _GNU_SOURCE /* RTLD_NEXT */
#include <dlfcn.h>
#include <stdatomic.h>

#include <openssl/ssl.h>

#include <curl/curl.h>

static atomic_uint sent;

static void
before_sending(void)
{
    atomic_fetch_add_explicit(&sent, 1, memory_order_release);
}

static void
after_receiving(void)
{
    (void)atomic_load_explicit(&sent, memory_order_acquire);
}

#undef curl_easy_perform

CURLcode
curl_easy_perform(CURL *curl)
{
    CURLcode (*next)(CURL *) = (CURLcode(*)(CURL *))dlsym(RTLD_NEXT, "curl_easy_perform");
    CURLcode code;

    before_sending();
    code = next(curl);
    after_receiving();
    return code;
}

int
SSL_read(SSL *ssl, void *octets, int size)
{
    int (*next)(SSL *, void *, int) = (int (*)(SSL *, void *, int))dlsym(RTLD_NEXT, "SSL_read");
    int n = next(ssl, octets, size);

    after_receiving();
    return n;
}

int
SSL_write(SSL *ssl, const void *octets, int len)
{
    int (*next)(SSL *, const void *, int) =
        (int (*)(SSL *, const void *, int))dlsym(RTLD_NEXT, "SSL_write");

    before_sending();
    return next(ssl, octets, len);
}
