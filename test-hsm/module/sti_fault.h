/*
 * sti_fault.h - how a program controls the faults of libsti-fault-module.so.
 *
 * README.md is the manual of the commands. The module is loaded like any PKCS#11 module; besides
 * C_GetFunctionList it exports this symbol:
 *
 *     void *library = dlopen("/.../libsti-fault-module.so", RTLD_NOW);
 *     sti_fault_control_fn *control = dlsym(library, STI_FAULT_CONTROL);
 *
 *     puts(control("on C_Sign times 3 rv CKR_DEVICE_ERROR"));
 *
 * Every dlopen() of one path in a process reaches the same module and the same state, and that
 * state outlives dlclose().
 */
#ifndef STI_FAULT_H
#define STI_FAULT_H

#define STI_FAULT_CONTROL "sti_fault_control"

/**
 * Run commands, one per line. May be called from any thread, in or out of a PKCS#11 call.
 *
 * @return the reply to the last command, "ok" if it has none; "error: ..." (with the line's number
 *         if there are several lines) for the first one refused, after which no more are read.
 * Never NULL; valid until this thread's next call.
 */
const char *sti_fault_control(const char *commands);

typedef const char *sti_fault_control_fn(const char *commands);

#endif
