/*
 * soak_calls.c - calls are signed and verified at a steady rate until a file is there.
 *
 *     soak_calls SOCKET CALLERS STOP_FILE
 *
 * Each tenth is verified once more with a signature that is wrong. What became of them is printed
 * as JSON.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "soak_caller.h"

#define CALLERS_MAX 64
#define PAUSE_US    10000 /* between two calls of a caller */

static struct soak_tally tally;
static const char *path, *stop_file;

static void *
call_all_the_time(void *context)
{
    unsigned seed = (unsigned)(uintptr_t)context;
    char identity[SOAK_IDENTITY_MAX];

    while (access(stop_file, F_OK) != 0) {
        char orig[16];
        time_t now = time(NULL);

        snprintf(orig, sizeof(orig), "1215555%04d", rand_r(&seed) % 10000);
        if (!soak_sign(path, &tally, orig, now, identity))
            continue;
        soak_verify(path, &tally, orig, now, identity, "TN-Validation-Passed");
        if (tally.calls++ % 10 == 0) {
            char *signature = strchr(strchr(identity, '.') + 1, '.') + 1;

            signature[10] = signature[10] == 'A' ? 'B' : 'A';
            soak_verify(path, &tally, orig, now, identity, "TN-Validation-Failed");
        }
        usleep(PAUSE_US);
    }
    return NULL;
}

int
main(int argc, char **argv)
{
    pthread_t callers[CALLERS_MAX];
    long count = argc == 4 ? strtol(argv[2], NULL, 10) : 0;

    if (count < 1 || count > CALLERS_MAX) {
        fprintf(stderr, "usage: soak_calls SOCKET CALLERS STOP_FILE\n");
        return 2;
    }
    path = argv[1];
    stop_file = argv[3];
    for (long i = 0; i < count; i++)
        if (pthread_create(&callers[i], NULL, call_all_the_time, (void *)(uintptr_t)(i + 1)) != 0)
            return 1;
    for (long i = 0; i < count; i++)
        pthread_join(callers[i], NULL);
    printf("{\"calls\":%u,\"broken\":%u,\"unavailable\":%u,\"lost\":%u,\"withoutSignature\":%u,"
           "\"wrong\":%u}\n",
           tally.calls, tally.broken, tally.unavailable, tally.lost, tally.without_signature,
           tally.wrong);
    return 0;
}
