/*
 * daemon_internal.h - what daemon.c (a worker) and daemon_supervise.c (its supervisor) share.
 */
#ifndef ACME_DAEMON_INTERNAL_H
#define ACME_DAEMON_INTERNAL_H

#define ACME_DAEMON_PIN_QUESTION "PIN of the token"

#endif
