/*
 * sti_fault.h - how a program tells libsti-fault-module.so which faults to make.
 *
 * README.md is the manual of the commands. The module is loaded as any PKCS#11 module; this one
 * symbol is found beside C_GetFunctionList:
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
 * Obey commands, one a line.
 *
 * @return what the last one had to say, "ok" where that is nothing; "error: ..." (with the line's
 * number where there are several) for the first that was refused, after which none is read. Never
 *         NULL; valid until this thread's next call. From any thread, in or out of a PKCS#11 call.
 */
const char *sti_fault_control(const char *commands);

typedef const char *sti_fault_control_fn(const char *commands);

#endif
