/*
 * fault_client.h - for tests: put the fault module in front of the token, and send it commands.
 *
 *     fault_open();          before softhsm_start(): softhsm_module() is the fault module now
 *     fault("on C_Sign times 3 rv CKR_DEVICE_ERROR");
 *     ...
 *     assert_int_equal(fault_number("count C_Sign"), 4);
 *     fault("reset");
 *
 * The commands are those of README.md.
 */
#ifndef FAULT_CLIENT_H
#define FAULT_CLIENT_H

#include <stdbool.h>

#include "sti_fault.h"

/** Path of the module. */
const char *fault_module_path(void);

/**
 * Set $STI_TEST_MODULE to the fault module, in front of what softhsm_module() was before; once for
 * each process. Aborts the test program if it cannot be loaded.
 */
void fault_open(void);

/** The reply to commands; aborts the test program if they are refused. */
const char *fault(const char *format, ...) __attribute__((format(printf, 1, 2)));

/** A reply that is a number. */
unsigned long fault_number(const char *format, ...) __attribute__((format(printf, 1, 2)));

/** The reply to commands that may be refused; the reply to a refused one begins with "error: ". */
const char *fault_try(const char *commands);

#endif
