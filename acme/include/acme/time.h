/*
 * time.h - whether something is due, although clocks may be set or differ.
 */
#ifndef ACME_TIME_H
#define ACME_TIME_H

#include <stdbool.h>
#include <time.h>

#define ACME_CLOCK_SKEW_S 60 /* between the clocks of two instances with one store */

/** True if something that was postponed by `pause_s` until `at` is due. It is also due if `at` is
 *  further ahead than that, because then the clock was set back. */
bool acme_time_is_due(time_t at, time_t pause_s, time_t now);

#endif
