/*
 * notify_internal.h - report a daemon's state to the service manager: sd_notify(3),
 * the datagrams of systemd's Type=notify.
 */
#ifndef HSM_NOTIFY_INTERNAL_H
#define HSM_NOTIFY_INTERNAL_H

#include <stdint.h>

/** Send "NAME=VALUE" to $NOTIFY_SOCKET; nothing happens without one. A failure is logged. */
void hsm_notify(const char *state);

/** Milliseconds between two WATCHDOG=1, half of $WATCHDOG_USEC; 0: no watchdog is configured. */
int64_t hsm_notify_watchdog_ms(void);

#endif
