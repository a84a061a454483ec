/*
 * time.h - whether it is time, on clocks that are set and differ.
 */
#ifndef ACME_TIME_H
#define ACME_TIME_H

#include <stdbool.h>
#include <time.h>

#define ACME_CLOCK_SKEW_S 60 /* by which the clocks of two instances on one store may differ */

/** Whether it is time for what was put off for `pause_s` until `at`. It also is when `at` lies
 *  further ahead than that: then the clock has been set back since. */
bool acme_time_is_due(time_t at, time_t pause_s, time_t now);

#endif
