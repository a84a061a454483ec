/*
 * bench_issue.h - certificates and SPC tokens over HTTPS, compared with the signatures and durable
 * writes that they need.
 */
#ifndef BENCH_ISSUE_H
#define BENCH_ISSUE_H

void bench_issue(void);

/** Certificates on a disk that takes a millisecond longer to flush. */
void bench_disk(void);

#endif
