/* sign.h - what the rest of the module needs of sign.c. */
#ifndef FAULT_SIGN_H
#define FAULT_SIGN_H

void fault_sign_child(void);

#endif
