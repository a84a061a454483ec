/* count.h - how often each function was called, and how often it did not return CKR_OK. */
#ifndef FAULT_COUNT_H
#define FAULT_COUNT_H

#include "functions.h"

void fault_count_call(enum fault_fn fn);
void fault_count_failure(enum fault_fn fn);

unsigned long fault_count_calls(enum fault_fn fn);
unsigned long fault_count_failures(enum fault_fn fn);

void fault_count_reset(void);

#endif
