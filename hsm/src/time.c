/* time.c - UTC as text: RFC 3339, and two shorter forms. */
#define _GNU_SOURCE /* timegm */

#include <hsm/time.h>

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

void
hsm_time_format(time_t t, char out[HSM_TIME_LEN + 1])
{
    struct tm utc;

    if (gmtime_r(&t, &utc) == NULL ||
        strftime(out, HSM_TIME_LEN + 1, "%Y-%m-%dT%H:%M:%SZ", &utc) == 0)
        out[0] = '\0';
}

void
hsm_time_day(time_t t, char out[HSM_TIME_DAY_LEN + 1])
{
    char text[HSM_TIME_LEN + 1];

    hsm_time_format(t, text);
    snprintf(out, HSM_TIME_DAY_LEN + 1, "%.*s", HSM_TIME_DAY_LEN, text);
}

/* RFC 3339 without its separators. */
void
hsm_time_stamp(time_t t, char out[HSM_TIME_STAMP_LEN + 1])
{
    char text[HSM_TIME_LEN + 1];

    hsm_time_format(t, text);
    for (const char *c = text; *c != '\0'; c++)
        if (*c != '-' && *c != ':')
            *out++ = *c;
    *out = '\0';
}

/* `digits` decimal digits at *at, which moves past them. */
static bool
number(const char **at, int digits, int min, int max, int *out)
{
    int value = 0;

    for (int i = 0; i < digits; i++, (*at)++) {
        if (!isdigit((unsigned char)**at))
            return false;
        value = value * 10 + (**at - '0');
    }
    *out = value;
    return value >= min && value <= max;
}

static bool
literal(const char **at, const char *choices, char *out)
{
    if (**at == '\0' || strchr(choices, **at) == NULL)
        return false;
    *out = *(*at)++;
    return true;
}

/* full-date "T" partial-time, RFC 3339 section 5.6 */
static bool
date_and_time(const char **at, struct tm *t)
{
    char c;

    return number(at, 4, 1970, 9999, &t->tm_year) && literal(at, "-", &c) &&
           number(at, 2, 1, 12, &t->tm_mon) && literal(at, "-", &c) &&
           number(at, 2, 1, 31, &t->tm_mday) && literal(at, "Tt", &c) &&
           number(at, 2, 0, 23, &t->tm_hour) && literal(at, ":", &c) &&
           number(at, 2, 0, 59, &t->tm_min) && literal(at, ":", &c) &&
           number(at, 2, 0, 60, &t->tm_sec);
}

static bool
fraction(const char **at)
{
    if (**at != '.')
        return true;
    (*at)++;
    if (!isdigit((unsigned char)**at))
        return false;
    while (isdigit((unsigned char)**at))
        (*at)++;
    return true;
}

/* time-offset: seconds east of UTC */
static bool
offset(const char **at, long *east)
{
    char sign;
    int hours, minutes;

    if (!literal(at, "Zz+-", &sign))
        return false;
    *east = 0;
    if (sign == 'Z' || sign == 'z')
        return true;
    if (!number(at, 2, 0, 23, &hours) || !literal(at, ":", &(char){0}) ||
        !number(at, 2, 0, 59, &minutes))
        return false;
    *east = (sign == '+' ? 1 : -1) * (hours * 3600L + minutes * 60L);
    return true;
}

enum hsm_status
hsm_time_parse(const char *text, time_t *out)
{
    struct tm t = {.tm_sec = 0};
    const char *at = text;
    long east = 0;
    int day, second;
    time_t minute;

    if (!date_and_time(&at, &t) || !fraction(&at) || !offset(&at, &east) || *at != '\0')
        return HSM_ERR_MALFORMED;
    t.tm_year -= 1900;
    t.tm_mon -= 1;
    day = t.tm_mday;
    second = t.tm_sec; /* 60 in a leap second: timegm() does not check it */
    t.tm_sec = 0;
    minute = timegm(&t);
    if (t.tm_mday != day) /* 31 April */
        return HSM_ERR_MALFORMED;
    *out = minute + second - east;
    return HSM_OK;
}
