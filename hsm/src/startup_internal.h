/*
 * startup_internal.h - one process at a time between C_Initialize and C_Login.
 *
 * A software token rewrites its files at C_Login, and a process that reads
 * them just then finds no token, or one without a PIN: measured with SoftHSM
 * 2.6.1, a quarter of eight simultaneous starts. Modules of real HSMs lose a
 * few milliseconds of their start to this.
 */
#ifndef HSM_STARTUP_INTERNAL_H
#define HSM_STARTUP_INTERNAL_H

/**
 * Lock the module's file (flock(), which needs no right to write) against
 * other starts. The wait is bounded, and what cannot be locked is not: the
 * start goes on either way.
 *
 * @return what hsm_startup_unlock() takes
 */
int hsm_startup_lock(const char *module_path);

void hsm_startup_unlock(int lock);

#endif
