/*
 * forking.h - for tests that fork a process with threads, which some sanitizers do not support.
 *
 * ThreadSanitizer refuses it. AddressSanitizer of clang 14 does not handle the
 * lock of its allocator at fork(): a child may wait for it for ever.
 */
#ifndef TEST_FORKING_H
#define TEST_FORKING_H

#include <stdbool.h>

#if defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define MAY_FORK false
#endif
#endif
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#undef MAY_FORK
#define MAY_FORK false
#endif
#ifndef MAY_FORK
#define MAY_FORK true
#endif

/* At the head of a test that forks. */
#define SKIP_WHERE_NO_FORK()                                                                       \
    do {                                                                                           \
        if (!MAY_FORK)                                                                             \
            skip();                                                                                \
    } while (0)

#endif
