/*
 * port.h - a port for a server that a test starts.
 */
#ifndef TEST_PORT_H
#define TEST_PORT_H

/** A port of 127.0.0.1 that is free now, for a program that binds it a moment later: outside the
 * kernel's range for outgoing connections, and different in each process. Aborts if none is free.
 */
unsigned free_port(void);

#endif
