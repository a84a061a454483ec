/* r_value.c - values of Resource-Priority. */
#include "r_value_internal.h"

#include <string.h>
#include <strings.h>

#include <sks/claims.h>

bool
is_r_value(const char *text)
{
    static const char token[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                "0123456789-!%*_+`'~";
    size_t name = text == NULL ? 0 : strspn(text, token);
    size_t priority = name > 0 && text[name] == '.' ? strspn(text + name + 1, token) : 0;

    return priority > 0 && text[name + 1 + priority] == '\0' &&
           name + 1 + priority <= SKS_R_VALUE_MAX;
}

bool
is_esnet(const char *r_value)
{
    return strncasecmp(r_value, "esnet.", strlen("esnet.")) == 0;
}
