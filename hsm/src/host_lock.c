/* host_lock.c - one process of this host at a time where modules race. */
#include "host_lock_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <sys/file.h>

#include <hsm/log.h>

#define WAIT_STEP_MS 1

/* The environment's place: processes that have another one do not wait for us. NULL: not set. */
static const char *
configured_place(void)
{
    static const char *const variables[] = {"SOFTHSM2_CONF", "TPM2_PKCS11_STORE"};

    for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]); i++) {
        const char *place = getenv(variables[i]);

        if (place != NULL && access(place, R_OK) == 0)
            return place;
    }
    return NULL;
}

bool
hsm_host_place_is_set(void)
{
    return configured_place() != NULL;
}

static const char *
place_of(const char *module_path)
{
    const char *configured = configured_place();

    return configured != NULL ? configured : module_path;
}

int
hsm_host_place(const char *module_path)
{
    return open(place_of(module_path), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
}

/* If the place cannot be locked, the work goes on without a lock. */
bool
hsm_host_try(int place, enum hsm_turn turn)
{
    return flock(place, (turn == HSM_TURN_WRITE ? LOCK_EX : LOCK_SH) | LOCK_NB) == 0 ||
           (errno != EWOULDBLOCK && errno != EINTR);
}

int
hsm_host_lock(const char *module_path, enum hsm_turn turn)
{
    static const struct timespec step = {.tv_nsec = WAIT_STEP_MS * 1000000};
    int place = hsm_host_place(module_path);

    if (place < 0)
        return -1; /* the code that opens the module reports it */
    for (unsigned waited = 0; waited < HSM_HOST_WAIT_MS; waited += WAIT_STEP_MS) {
        if (hsm_host_try(place, turn))
            return place;
        nanosleep(&step, NULL);
    }
    hsm_log(HSM_LOG_WARNING, "%s: other processes keep it locked: continuing without the lock",
            place_of(module_path));
    close(place);
    return -1;
}

/* A child forked meanwhile shares the descriptor, so closing ours would not unlock. */
void
hsm_host_unlock(int lock)
{
    if (lock < 0)
        return;
    (void)flock(lock, LOCK_UN);
    close(lock);
}
