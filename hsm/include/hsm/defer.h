/*
 * defer.h - release what a function owns on every way out of it.
 *
 *   DEFINE_DEFER(BIO, BIO_free_all)             once, at the top of the file
 *   DEFER(BIO_free_all) BIO *bio = BIO_new(..);  in the function
 *
 * Hand over by setting the variable to NULL: release functions ignore NULL.
 */
#ifndef HSM_DEFER_H
#define HSM_DEFER_H

#define DEFINE_DEFER(type, release)                                                                \
    static inline void defer_##release(type **held)                                                \
    {                                                                                              \
        if (*held != NULL)                                                                         \
            release(*held);                                                                        \
    }

#define DEFER(release) __attribute__((cleanup(defer_##release)))

#endif
