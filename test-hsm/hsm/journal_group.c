/* journal_group.c - the clocks, locks and disk that the tests of the journal control. */
#define _GNU_SOURCE
#include "journal_group.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <sys/syscall.h>
#include <sys/wait.h>

#include "softhsm.h"

const char *_Atomic full_for;
atomic_int full_times;
atomic_int was_full;

static bool
is_full(const void *octets, size_t len)
{
    if (full_for == NULL || full_times <= 0 ||
        memmem(octets, len, full_for, strlen(full_for)) == NULL)
        return false;
    full_times--;
    was_full++;
    return true;
}

const char *_Atomic slow_for;
atomic_int slow_writes;

ssize_t
write(int fd, const void *octets, size_t len)
{
    if (slow_for != NULL && memmem(octets, len, slow_for, strlen(slow_for)) != NULL) {
        usleep(SLOW_MS * 1000);
        slow_writes++;
    }
    if (is_full(octets, len)) {
        errno = ENOSPC;
        return -1;
    }
    return syscall(SYS_write, fd, octets, len);
}

void
close_all(struct hsm_token *token, struct hsm_key *key)
{
    hsm_key_free(key);
    hsm_token_close(token);
}

pid_t
fork_child(void)
{
    pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0)
        (void)setenv("CMOCKA_TEST_ABORT", "1", 1);
    return child;
}

int
status_of(pid_t child)
{
    int status = -1;

    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

int
journal_group_start(void **state)
{
    struct hsm_key *key = NULL;
    struct hsm_token *token;

    (void)state;
    softhsm_start();
    hsm_token_close(softhsm_token(JOURNAL_TOKEN));
    token = journal_open(journal_dir("keys"), &key); /* makes both keys for the following tests */
    close_all(token, key);
    return 0;
}

int
journal_group_stop(void **state)
{
    (void)state;
    softhsm_stop();
    return 0;
}
