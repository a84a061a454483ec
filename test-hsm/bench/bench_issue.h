/*
 * bench_issue.h - certificates and SPC tokens over HTTPS, beside the signatures and the durable
 * writes in them.
 */
#ifndef BENCH_ISSUE_H
#define BENCH_ISSUE_H

void bench_issue(void);

#endif
