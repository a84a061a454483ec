/* time.c - whether periodic work is due. */
#include <acme/time.h>

bool
acme_time_is_due(time_t at, time_t pause_s, time_t now)
{
    return at <= now || at > now + pause_s;
}
