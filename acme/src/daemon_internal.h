/*
 * daemon_internal.h - shared by daemon.c (a worker) and daemon_supervise.c (its supervisor).
 */
#ifndef ACME_DAEMON_INTERNAL_H
#define ACME_DAEMON_INTERNAL_H

#define ACME_DAEMON_PIN_QUESTION "PIN of the token"

#endif
