/* journal_group.h - clocks, locks and a disk that obey the tests of hsm/src/journal*.c, and their
 * token. */
#ifndef TEST_JOURNAL_GROUP_H
#define TEST_JOURNAL_GROUP_H

#include <stdatomic.h>

#include <sys/types.h>

#include "journal_fixture.h"

#define SLOW_MS 1000

/* The library's disk: the next `full_times` writes of lines with the word `full_for` fail with
 * ENOSPC. */
extern const char *_Atomic full_for;
extern atomic_int full_times;
extern atomic_int was_full;

/* Writes of lines with this word are slow. */
extern const char *_Atomic slow_for;
extern atomic_int slow_writes;

void close_all(struct hsm_token *token, struct hsm_key *key);

/* In a child, a failed assertion aborts with its message; the child must not continue with the
 * tests of its parent. */
pid_t fork_child(void);

/** The exit status of a child; waits for its end. */
int status_of(pid_t child);

/** cmocka group fixtures. */
int journal_group_start(void **state);
int journal_group_stop(void **state);

#endif
