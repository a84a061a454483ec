/*
 * machine.h - the delay that the machine adds: how late it runs a thread that is ready.
 *
 * Linux counts for each thread how long it was ready and had no processor
 * (/proc/PID/task/TID/schedstat). It does not count pauses of a virtual machine: a thread that
 * repeatedly sleeps briefly measures them by how late it wakes. Together these distinguish calls
 * that our code delayed from calls that the machine delayed.
 */
#ifndef TEST_MACHINE_H
#define TEST_MACHINE_H

/* Milliseconds of the monotonic clock, here as in load.h. */

/** Start and stop the thread that measures how late it wakes. */
void machine_watch(void);
void machine_watch_end(void);

/** The longest delay of the watching thread between two times in the last 30 s. */
double machine_pause_ms(double begin, double end);

/** How long the calling thread was ready without a processor; 0 if the kernel does not count it. */
double machine_thread_waited_ms(void);

/** The sum of machine_thread_waited_ms() of all living threads of the process. */
double machine_process_waited_ms(void);

#endif
