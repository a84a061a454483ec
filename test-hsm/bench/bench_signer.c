/* bench_signer.c - processes that only call C_Sign, on command. */
#include "bench_signer.h"

#include <pthread.h>
#include <unistd.h>

#include "bench.h"
#include "bench_load.h"
#include "bench_raw.h"

#define LATENCIES 50000 /* of a turn */

/** A command to a process. */
struct command {
    double seconds; /* of a turn */
    double share; /* of its full rate, at even intervals; 0: full rate */
};

static void *
sleep_for_ever(void *unused)
{
    for (;;)
        pause();
    return unused;
}

static struct bench_signed
sign_for(const struct bench_raw *raw, double seconds)
{
    struct bench_signed out = {0, 0, 0};
    double begun_us, cpu;

    for (int i = 0; i < 20; i++)
        bench_raw_sign(raw, 0);
    cpu = bench_cpu_us(0);
    begun_us = bench_now_us();
    for (; bench_now_us() < begun_us + seconds * 1e6; out.count++)
        bench_raw_sign(raw, 0);
    out.seconds = (bench_now_us() - begun_us) / 1e6;
    out.cpu_us = bench_cpu_us(0) - cpu;
    return out;
}

/* The latency of a signature counts from the time it was due. */
static size_t
sign_evenly(const struct bench_raw *raw, const struct command *command, double latencies[LATENCIES])
{
    struct bench_signed full = sign_for(raw, command->seconds / 2);
    double each_us = 1e6 * full.seconds / full.count / command->share;
    double begun_us = bench_now_us();
    size_t count = 0;

    for (; count < LATENCIES && each_us * (double)count < command->seconds * 1e6; count++) {
        double due_us = begun_us + each_us * (double)count;

        while (bench_now_us() < due_us)
            continue;
        bench_raw_sign(raw, 0);
        latencies[count] = bench_now_us() - due_us;
    }
    return count;
}

static double
tail_of(const struct bench_raw *raw, const struct command *command)
{
    static double latencies[LATENCIES];

    return bench_tail(latencies, sign_evenly(raw, command, latencies));
}

/* As in the server, one thread signs and others sleep: a single-threaded process would avoid the
 * locks of malloc() and of the module. */
static void
obey(void (*open)(void), const char *token, int to)
{
    struct bench_raw raw = {.list = NULL};
    struct command command;
    pthread_t other;

    open();
    bench_raw_open(&raw, token, 1);
    bench_check(pthread_create(&other, NULL, sleep_for_ever, NULL) == 0, "a thread");
    bench_say(to, "", 1);
    while (read(to, &command, sizeof(command)) == sizeof(command)) {
        struct bench_signed result = {0, 0, 0};
        double tail = 0;

        if (command.share == 0) {
            result = sign_for(&raw, command.seconds);
            bench_say(to, &result, sizeof(result));
        } else {
            tail = tail_of(&raw, &command);
            bench_say(to, &tail, sizeof(tail));
        }
    }
    _exit(0);
}

void
bench_signer_begin(void (*open)(void), const char *token, struct bench_process *out)
{
    char octet;
    int to;

    if (bench_begin(out, &to))
        obey(open, token, to);
    close(to);
    bench_hear(out, &octet, 1);
}

void
bench_signer_turn(const struct bench_process *signers, unsigned count, double seconds,
                  struct bench_signed *sum)
{
    const struct command command = {.seconds = seconds};
    struct bench_signed one;

    for (unsigned i = 0; i < count; i++)
        bench_say(signers[i].from, &command, sizeof(command));
    for (unsigned i = 0; i < count; i++) {
        bench_load_wait(signers[i].from);
        bench_hear(&signers[i], &one, sizeof(one));
        sum->count += one.count;
        sum->seconds += one.seconds / count;
        sum->cpu_us += one.cpu_us;
    }
}

double
bench_signer_tail(const struct bench_process *signer, double share, double seconds)
{
    const struct command command = {.seconds = seconds, .share = share};
    double tail;

    bench_say(signer->from, &command, sizeof(command));
    bench_load_wait(signer->from);
    bench_hear(signer, &tail, sizeof(tail));
    return tail;
}
