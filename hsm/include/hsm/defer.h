/*
 * defer.h - release what a function owns on every way out of it.
 *
 *   DEFINE_DEFER(struct hsm_key, hsm_key_free)     once, below hsm_key_free() in hsm/key.h
 *   DEFER(hsm_key_free) struct hsm_key *key = NULL; in a function
 *   DEFER(free) char *text = NULL;                 free() of any pointer
 *
 * Hand over by setting the variable to NULL: release functions ignore NULL. The header that
 * declares a release function has its DEFINE_DEFER; what another library declares is defined where
 * it is used.
 */
#ifndef HSM_DEFER_H
#define HSM_DEFER_H

#include <stdlib.h>
#include <string.h>

#define DEFINE_DEFER(type, release)                                                                \
    static inline void defer_##release(type **held)                                                \
    {                                                                                              \
        if (*held != NULL)                                                                         \
            release(*held);                                                                        \
    }

#define DEFER(release) __attribute__((cleanup(defer_##release)))

/** What DEFER(free) calls. @param held  the address of a pointer of any type */
static inline void
defer_free(void *held)
{
    void *block;

    memcpy(&block, held, sizeof(block));
    free(block);
}

#endif
