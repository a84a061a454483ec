/*
 * port.h - a port for a server that a test starts.
 */
#ifndef TEST_PORT_H
#define TEST_PORT_H

/** A port of 127.0.0.1 that is free now, the program gets it a moment later: none of those that the
 * kernel gives to who connects, and another one for each process. Aborts if there is none. */
unsigned free_port(void);

#endif
