/* failing_memory.c - OpenSSL's memory, of which one allocation fails. */
#include "failing_memory.h"

#include <stdlib.h>

#include <openssl/crypto.h>

static struct {
    unsigned long count, fails_at;
} allocations;

static bool
fails(void)
{
    return ++allocations.count == allocations.fails_at;
}

static void *
allocate(size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    return fails() ? NULL : malloc(size);
}

static void *
reallocate(void *octets, size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    return fails() ? NULL : realloc(octets, size);
}

static void
release(void *octets, const char *file, int line)
{
    (void)file;
    (void)line;
    free(octets);
}

void
memory_may_fail(void)
{
    if (CRYPTO_set_mem_functions(allocate, reallocate, release) != 1)
        abort();
}

void
memory_fail_at(unsigned long n)
{
    allocations.count = 0;
    allocations.fails_at = n;
}

bool
memory_has_failed(void)
{
    return allocations.fails_at != MEMORY_NEVER && allocations.count >= allocations.fails_at;
}
