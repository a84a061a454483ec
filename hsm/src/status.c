/* status.c - kinds of failure and the reasons that go to peers. */
#include <hsm/status.h>

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

static const char *const texts[] = {
    [HSM_OK] = "ok",
    [HSM_ERR_USAGE] = "wrong usage",
    [HSM_ERR_NOMEM] = "out of memory",
    [HSM_ERR_NOT_FOUND] = "not found",
    [HSM_ERR_AMBIGUOUS] = "ambiguous",
    [HSM_ERR_EXISTS] = "exists already",
    [HSM_ERR_DENIED] = "denied",
    [HSM_ERR_BUSY] = "unavailable",
    [HSM_ERR_MALFORMED] = "malformed",
    [HSM_ERR_UNTRUSTED] = "not trusted",
    [HSM_ERR_UNSUPPORTED] = "not supported",
    [HSM_ERR_CRYPTO] = "cryptographic failure",
    [HSM_ERR_IO] = "input/output error",
};

const char *
hsm_status_text(enum hsm_status status)
{
    size_t i = (size_t)status;

    if (i >= sizeof(texts) / sizeof(texts[0]))
        return "unknown status";
    return texts[i];
}

int
hsm_status_exit(enum hsm_status status)
{
    if (status == HSM_OK)
        return 0;
    return status == HSM_ERR_USAGE ? 2 : 1;
}

enum hsm_status
hsm_refuse(struct hsm_reason *why, enum hsm_status status, const char *format, ...)
{
    va_list args;

    if (why == NULL)
        return status;
    va_start(args, format);
    if (vsnprintf(why->text, sizeof(why->text), format, args) < 0)
        why->text[0] = '\0';
    va_end(args);
    for (char *c = why->text; *c != '\0'; c++) {
        if (*c < 0x20 || *c > 0x7e)
            *c = '?';
    }
    return status;
}
