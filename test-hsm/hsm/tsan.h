/*
 * tsan.h - what ThreadSanitizer cannot follow: fork() in a process with threads, such as one that
 * has a token open.
 */
#ifndef TSAN_H
#define TSAN_H

#if defined(__SANITIZE_THREAD__)
#define UNDER_TSAN true
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UNDER_TSAN true
#endif
#endif
#ifndef UNDER_TSAN
#define UNDER_TSAN false
#endif

/* At the head of a test that forks. */
#define SKIP_UNDER_TSAN()                                                                          \
    do {                                                                                           \
        if (UNDER_TSAN)                                                                            \
            skip();                                                                                \
    } while (0)

#endif
