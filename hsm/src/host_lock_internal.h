/*
 * host_lock_internal.h - one process of this host at a time where modules race.
 *
 * A software token keeps its objects in files that all processes read and
 * write. One that starts while another logs in finds no token, or one without
 * a PIN; one that searches while another generates finds half an object.
 * Measured with SoftHSM 2.6.1: a quarter of eight simultaneous starts, and one
 * search in twelve. So C_Initialize to C_Login, and all work on objects, take
 * turns; signatures do not. With real HSMs this costs some milliseconds.
 */
#ifndef HSM_HOST_LOCK_INTERNAL_H
#define HSM_HOST_LOCK_INTERNAL_H

/**
 * Lock the module's file: flock(), which needs no right to write it. The wait
 * is bounded, and where it fails the work goes on without the lock.
 *
 * @return what hsm_host_unlock() takes
 */
int hsm_host_lock(const char *module_path);

/** The same for who has little time; without a word when it does not get it. */
int hsm_host_lock_within(const char *module_path, unsigned wait_ms);

void hsm_host_unlock(int lock);

#endif
