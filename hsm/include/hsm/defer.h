/*
 * defer.h - release what a function owns on every way out of it.
 *
 *   DEFINE_DEFER(struct hsm_key, hsm_key_free)       once, below hsm_key_free() in hsm/key.h
 *   DEFER(hsm_key_free) struct hsm_key *key = NULL;  in a function
 *   DEFER(free) char *text = NULL;                   in a function; any type of pointer
 *   CLEAR_AFTER(close_fd) int fd = -1;               in a function; not a pointer: close_fd(&fd)
 *
 * Hand over by setting the pointer to NULL: DEFER then releases nothing. The header that declares a
 * release function has its DEFINE_DEFER. For a function of another library it is in the file that
 * uses it, or in an internal header if several files do.
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

/* For a variable that is not a pointer: `clear` takes its address. */
#define CLEAR_AFTER(clear) __attribute__((cleanup(clear)))

/** What DEFER(free) calls. @param held  the address of a pointer of any type */
static inline void
defer_free(void *held)
{
    void *block;

    memcpy(&block, held, sizeof(block));
    free(block);
}

#endif
