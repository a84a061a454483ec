/* module.h - the function list that callers get. */
#ifndef FAULT_MODULE_H
#define FAULT_MODULE_H

#include <stdbool.h>

#include "functions.h"

/**
 * Loads the module behind, once, and gives callers every function that it has.
 *
 * With $STI_FAULT_SCRIPT its commands are obeyed first, with $STI_FAULT_LOG calls are logged there.
 */
bool fault_module_load(void);

/** Put a function into the list, or a NULL pointer in its place. */
void fault_module_offer(enum fault_fn fn, bool offered);

/** Put every function that the module behind has into the list. */
void fault_module_offer_all(void);

#endif
