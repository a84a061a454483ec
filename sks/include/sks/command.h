/*
 * command.h - run an operator's program, without a shell.
 */
#ifndef SKS_COMMAND_H
#define SKS_COMMAND_H

#include <stddef.h>

#include <hsm/status.h>

#define SKS_COMMAND_WORDS_MAX 32 /* the program and its arguments */
#define SKS_COMMAND_TEXT_MAX  2048 /* characters of all of them together */

/** "{name}" in a word of the command stands for the value. */
struct sks_command_value {
    const char *name, *value;
};

/**
 * Run a command and wait for its end.
 *
 * Its words are separated by blanks: no quoting, no shell, no expansion but of
 * `values`. The first is the program's absolute path. The environment is
 * PATH=/usr/bin:/bin and nothing else, standard input is /dev/null, its output
 * goes where this process's standard error goes, no other descriptor is open.
 * It has its own process group, which is killed at the timeout.
 *
 * @param values  ends with a NULL name; NULL: none
 * @retval HSM_ERR_MALFORMED  the first word is no absolute path, too many words, or a {name} that
 *                            `values` does not have
 * @retval HSM_ERR_IO         it cannot be started
 * @retval HSM_ERR_BUSY       it did not end with exit status 0 in time
 */
HSM_MUST_CHECK enum hsm_status sks_command_run(const char *command,
                                               const struct sks_command_value *values,
                                               unsigned timeout_s, struct hsm_reason *why);

/** Check a command as far as possible without running it. */
HSM_MUST_CHECK enum hsm_status sks_command_check(const char *command,
                                                 const struct sks_command_value *values,
                                                 struct hsm_reason *why);

#endif
