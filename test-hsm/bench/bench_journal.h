/*
 * bench_journal.h - the rows of bench_hsm about the signing journal.
 */
#ifndef BENCH_JOURNAL_H
#define BENCH_JOURNAL_H

/** On SoftHSM, in a process that has no token open. */
void bench_journal(void);

#endif
