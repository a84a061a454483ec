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
#define WAIT_MS      15000 /* for other processes, one of which may be stuck; then without it */

/* Who is told another place does not wait for us. NULL: none is told. */
static const char *
told_place(void)
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
hsm_host_place_is_told(void)
{
    return told_place() != NULL;
}

static bool
try_for_a_while(int fd, enum hsm_turn turn)
{
    static const struct timespec step = {.tv_nsec = WAIT_STEP_MS * 1000000};

    for (unsigned waited = 0; waited < WAIT_MS; waited += WAIT_STEP_MS) {
        if (flock(fd, (turn == HSM_TURN_WRITE ? LOCK_EX : LOCK_SH) | LOCK_NB) == 0)
            return true;
        if (errno != EWOULDBLOCK && errno != EINTR)
            return false;
        nanosleep(&step, NULL);
    }
    return false;
}

int
hsm_host_lock(const char *module_path, enum hsm_turn turn)
{
    const char *told = told_place();
    const char *place = told != NULL ? told : module_path;
    int fd = open(place, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

    if (fd < 0)
        return -1; /* who opens the module says so */
    if (try_for_a_while(fd, turn))
        return fd;
    hsm_log(HSM_LOG_WARNING, "%s: other processes keep it busy: not waited for any longer", place);
    close(fd);
    return -1;
}

/* A child forked meanwhile has the descriptor too: closing ours would not unlock. */
void
hsm_host_unlock(int lock)
{
    if (lock < 0)
        return;
    (void)flock(lock, LOCK_UN);
    close(lock);
}
