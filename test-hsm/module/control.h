/*
 * control.h - commands from other processes: a socket for each process that loaded the module.
 *
 * $STI_FAULT_CONTROL names a directory; process 4711 listens at DIR/4711.sock. One connection, one
 * script: the client shuts down its sending side, reads the reply and the end of file.
 */
#ifndef FAULT_CONTROL_H
#define FAULT_CONTROL_H

#define FAULT_COMMANDS_MAX 65536 /* octets of one script; more are refused */

/** Listen, once for each process; does nothing without $STI_FAULT_CONTROL. */
void fault_control_listen(void);

#endif
