/*
 * script.h - the language of commands; README.md is its manual.
 */
#ifndef FAULT_SCRIPT_H
#define FAULT_SCRIPT_H

#include <stdbool.h>
#include <stddef.h>

#define FAULT_REPLY_SIZE 16384 /* octets, with the 0; longer answers are cut */

/** Run commands, one per line; the reply is that of sti_fault_control(). False: one was refused. */
bool fault_script_run(const char *commands, char *reply, size_t size);

/** Run the commands in a file; on failure `error` receives the reason. */
bool fault_script_run_file(const char *path, char *error, size_t size);

#endif
