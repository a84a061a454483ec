/*
 * ca_program.h - the program sti-ca as a separate daemon, with the STI-PA of pa_fixture.h, for the
 * clients of ca_fixture.h.
 */
#ifndef TEST_CA_PROGRAM_H
#define TEST_CA_PROGRAM_H

#include <stdbool.h>
#include <sys/types.h>

#include "ca_fixture.h"

#define CA_PROGRAM_WORKERS_MAX 16

struct ca_program {
    struct ca_fixture ca; /* its server is NULL; its store may be opened by a test */
    char dir[4200];
    const char *config; /* file in dir */
    unsigned workers;
    pid_t pid; /* of the supervisor; 0: it does not run */
};

/**
 * Initialise it in a new directory, and start it. Aborts if it cannot.
 *
 * @param more  further lines of the configuration; they follow those of its "[limits]"
 */
void ca_program_start(struct ca_program *program, unsigned workers, const char *more);

/** Start the daemon again, and wait until all of its workers serve. */
void ca_program_spawn(struct ca_program *program);

/** Write its configuration, with the values of these keys replaced, to `file` in its directory. */
void ca_program_configure(const struct ca_program *program, const char *file, const char *address,
                          const char *store);

/** Wait until all workers serve: killing a process during a login destroys SoftHSM's token. */
void ca_program_wait_ready(struct ca_program *program);

/** Seconds of processor time that its workers have used; fails the program if one has ended. */
double ca_program_cpu_s(const struct ca_program *program);

/** Kill one of its workers; or the supervisor and all workers, and wait for the supervisor. */
void ca_program_kill_worker(struct ca_program *program, unsigned number);
void ca_program_kill(struct ca_program *program);

/** End it by SIGTERM; returns its exit status. */
int ca_program_end(struct ca_program *program);
/** End it if it runs, and remove everything. */
void ca_program_stop(struct ca_program *program);

/* ---- clients that retry ---- */

/** An account, and the nonce of the last answer; used by one thread. */
struct enroller {
    struct ca_fixture *ca;
    struct peer peer;
    char nonce[64]; /* "": ask newNonce */
};

/** Send a signed request; badNonce is retried a few times. False: there was no answer. */
bool enroller_try(struct enroller *enroller, const char *path, const char *payload,
                  struct got *got);
/** enroller_try() until there is an answer other than 503, for at most half a minute; aborts
 * without one. */
void enroller_post(struct enroller *enroller, const char *path, const char *payload,
                   struct got *got);
/** Make a fresh key and its account. */
void enroller_join(struct enroller *enroller, struct ca_fixture *ca);
void enroller_leave(struct enroller *enroller);

/**
 * Complete one order up to its certificate, whatever is lost on the way.
 *
 * @param key    to be certified
 * @param order  receives the URL of the order
 * @param pem    receives the chain; free() it
 */
void enroller_enrol(struct enroller *enroller, const char *spc, EVP_PKEY *key,
                    char order[CA_URL_SIZE], char **pem);

#endif
