/*
 * slow_disk.h - a disk that takes longer to flush, as most disks do that keep what they have
 * flushed: fdatasync() and fsync() of this process, and of the programs that it starts, return
 * later.
 */
#ifndef BENCH_SLOW_DISK_H
#define BENCH_SLOW_DISK_H

/** Before the programs are started; without a delay at first. @param dir  for a file */
void slow_disk_start(const char *dir);

/** From now on, everywhere. @param us  microseconds more for each flush; 0: none */
void slow_disk_set(unsigned us);

void slow_disk_stop(void);

#endif
