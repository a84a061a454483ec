/* fault_client.c - the fault module as tests use it. */
#include "fault_client.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "softhsm.h"

#define COMMANDS_SIZE 4096 /* octets */

static sti_fault_control_fn *control;

static void
give_up(const char *what, const char *why)
{
    fprintf(stderr, "fault module: %s: %s\n", what, why);
    abort();
}

const char *
fault_module_path(void)
{
    return FAULT_MODULE_PATH;
}

void
fault_open(void)
{
    void *library;

    if (control != NULL)
        return;
    if (strcmp(softhsm_module(), FAULT_MODULE_PATH) != 0 &&
        (setenv("STI_FAULT_MODULE", softhsm_module(), 1) != 0 ||
         setenv("STI_TEST_MODULE", FAULT_MODULE_PATH, 1) != 0))
        give_up("environment", "cannot be set");
    library = dlopen(FAULT_MODULE_PATH, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL)
        give_up(FAULT_MODULE_PATH, dlerror());
    *(void **)&control = dlsym(library, STI_FAULT_CONTROL);
    if (control == NULL)
        give_up(FAULT_MODULE_PATH, "has no " STI_FAULT_CONTROL);
}

const char *
fault_try(const char *commands)
{
    if (control == NULL)
        give_up(commands, "fault_open() comes first");
    return control(commands);
}

__attribute__((format(printf, 1, 0))) static const char *
obey(const char *format, va_list args)
{
    char commands[COMMANDS_SIZE];
    const char *reply;
    int n = vsnprintf(commands, sizeof(commands), format, args);

    if (n < 0 || (size_t)n >= sizeof(commands))
        give_up(format, "too long");
    reply = fault_try(commands);
    if (strncmp(reply, "error: ", strlen("error: ")) == 0)
        give_up(commands, reply);
    return reply;
}

const char *
fault(const char *format, ...)
{
    const char *reply;
    va_list args;

    va_start(args, format);
    reply = obey(format, args);
    va_end(args);
    return reply;
}

unsigned long
fault_number(const char *format, ...)
{
    const char *reply;
    unsigned long number;
    char *end;
    va_list args;

    va_start(args, format);
    reply = obey(format, args);
    va_end(args);
    number = strtoul(reply, &end, 10);
    if (end == reply || *end != '\0')
        give_up(format, reply);
    return number;
}
