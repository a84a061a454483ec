/*
 * machine.h - what the machine adds to a time: how late it runs a thread that could go on.
 *
 * Linux counts for each thread how long it was ready and had no processor
 * (/proc/PID/task/TID/schedstat). What it does not count, a virtual machine that stood still, a
 * thread sees that sleeps for a moment again and again and looks how late it wakes. Together they
 * tell a call that was late by our doing from one that was not let go on.
 */
#ifndef TEST_MACHINE_H
#define TEST_MACHINE_H

/* Milliseconds of the monotonic clock, here as in load.h. */

/** Begin and end to look how late the machine wakes a thread. */
void machine_watch(void);
void machine_watch_end(void);

/** The latest that the watching thread woke between two times of the last 30 s. */
double machine_pause_ms(double begin, double end);

/** How long the calling thread was ready and had no processor; 0 where the kernel does not count.
 */
double machine_thread_waited_ms(void);

/** All threads of the process that live. */
double machine_process_waited_ms(void);

#endif
