/*
 * failing_memory.h - OpenSSL's memory, of which one allocation fails.
 */
#ifndef TEST_FAILING_MEMORY_H
#define TEST_FAILING_MEMORY_H

#include <stdbool.h>

#define MEMORY_NEVER 0

/** Before anything of OpenSSL is used: it refuses this after its first allocation. */
void memory_may_fail(void);

/** The nth allocation from now on fails, from 1; MEMORY_NEVER: none. */
void memory_fail_at(unsigned long n);

/** True if there were so many allocations that one failed. */
bool memory_has_failed(void);

#endif
